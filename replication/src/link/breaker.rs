//! When to leave a peer alone.
//!
//! ```text
//! closed ──5 failures in a row──> open ──after 30 s──> half-open ──3 successes──> closed
//!                                   ^                      │
//!                                   └──────a failure───────┘
//! ```
//!
//! The numbers are settings, and may change at any time.
//!
//! A pure state machine over a given time: it sleeps nowhere and asks no clock.

use std::fmt;
use std::time::Duration;

/// How a breaker behaves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BreakerSettings {
    /// Failures in a row that open it. Default 5.
    pub failures: u32,
    /// How long it stays open. Default 30 s.
    pub pause: Duration,
    /// Successes in a row that close it again. Default 3.
    pub successes: u32,
    /// Attempts at once while it is half-open. Default 3.
    pub trials: u32,
}

impl Default for BreakerSettings {
    fn default() -> BreakerSettings {
        let pause = Duration::from_secs(30);
        BreakerSettings { failures: 5, pause, successes: 3, trials: 3 }
    }
}

/// What a breaker lets through. The numbers are stable, for metrics.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum BreakerState {
    /// Every attempt.
    Closed = 0,
    /// None.
    Open = 1,
    /// A few, to see.
    HalfOpen = 2,
}

impl fmt::Display for BreakerState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            BreakerState::Closed => "closed",
            BreakerState::Open => "open",
            BreakerState::HalfOpen => "half-open",
        })
    }
}

/// Called at every change of state: the state before, and the one after. Returns at once.
pub type OnChange = Box<dyn Fn(BreakerState, BreakerState) + Send + Sync>;

/// Counts the failures of one peer.
pub struct Breaker {
    settings: BreakerSettings,
    on_change: Option<OnChange>,
    state: BreakerState,
    /// Failures in a row while closed.
    failures: u32,
    /// Since it was last half-opened.
    successes: u32,
    /// Attempts of this half-opening that have no result yet.
    trials: u32,
    opened_at: Duration,
    /// How often the state has changed, or was set: a result counts for the state it was begun in only.
    epoch: u64,
}

/// An attempt that was let through.
#[must_use = "say how it went, or a half-open breaker waits for it"]
#[derive(Debug)]
pub struct Attempt {
    epoch: u64,
}

impl Attempt {
    /// One as [`Breaker::attempt`] lets through at this [`Breaker::quiet_epoch`].
    pub fn of_quiet(epoch: u64) -> Attempt {
        Attempt { epoch }
    }

    /// How often the breaker had changed when it was begun.
    pub fn epoch(&self) -> u64 {
        self.epoch
    }
}

/// An attempt that was not let through.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rejected {
    /// When to ask again at the earliest, if that is known.
    pub retry_at: Option<Duration>,
}

impl Breaker {
    /// A closed breaker.
    pub fn new(settings: BreakerSettings) -> Breaker {
        Breaker {
            settings,
            on_change: None,
            state: BreakerState::Closed,
            failures: 0,
            successes: 0,
            trials: 0,
            opened_at: Duration::ZERO,
            epoch: 0,
        }
    }

    /// Calls `on_change` at every change of state.
    pub fn on_change(&mut self, on_change: OnChange) {
        self.on_change = Some(on_change);
    }

    /// Behaves like `settings` from now on. What has failed or succeeded counts still, and one that is open has
    /// been so since it was opened.
    pub fn configure(&mut self, settings: BreakerSettings) {
        self.settings = settings;
    }

    /// What it lets through at `now`.
    pub fn state(&self, now: Duration) -> BreakerState {
        match self.state {
            BreakerState::Open if self.is_over(now) => BreakerState::HalfOpen,
            state => state,
        }
    }

    /// The state that it entered last: open it is until an attempt finds its pause over.
    pub fn entered(&self) -> BreakerState {
        self.state
    }

    /// How often it has changed, while it is closed and no failure counts: then attempts need not be asked for
    /// ([`Attempt::of_quiet`]), and to say that one of them has succeeded changes nothing.
    pub fn quiet_epoch(&self) -> Option<u64> {
        (self.state == BreakerState::Closed && self.failures == 0).then_some(self.epoch)
    }

    /// Asks to make an attempt.
    pub fn attempt(&mut self, now: Duration) -> Result<Attempt, Rejected> {
        if self.state == BreakerState::Open && self.is_over(now) {
            self.enter(BreakerState::HalfOpen);
        }
        match self.state {
            BreakerState::Closed => {}
            BreakerState::Open => {
                let retry_at = Some(self.opened_at.saturating_add(self.settings.pause));
                return Err(Rejected { retry_at });
            }
            BreakerState::HalfOpen if self.trials >= self.settings.trials => {
                return Err(Rejected { retry_at: None });
            }
            BreakerState::HalfOpen => self.trials += 1,
        }
        Ok(Attempt { epoch: self.epoch })
    }

    /// The attempt has succeeded.
    pub fn succeeded(&mut self, attempt: Attempt) {
        if attempt.epoch != self.epoch {
            return;
        }
        self.failures = 0;
        if self.state == BreakerState::HalfOpen {
            self.trials = self.trials.saturating_sub(1);
            self.successes += 1;
            if self.successes >= self.settings.successes {
                self.enter(BreakerState::Closed);
            }
        }
    }

    /// The attempt has failed at `now`.
    pub fn failed(&mut self, attempt: Attempt, now: Duration) {
        if attempt.epoch != self.epoch {
            return;
        }
        self.failures += 1;
        if self.state == BreakerState::HalfOpen || self.failures >= self.settings.failures {
            self.opened_at = now;
            self.enter(BreakerState::Open);
        }
    }

    /// The attempt was given up before it could tell anything. Somebody else may try.
    pub fn abandoned(&mut self, attempt: Attempt) {
        if attempt.epoch == self.epoch && self.state == BreakerState::HalfOpen {
            self.trials = self.trials.saturating_sub(1);
        }
    }

    /// Closes it as if nothing had failed. Whatever was begun before says nothing any more, however it ends.
    pub fn reset(&mut self) {
        self.enter(BreakerState::Closed);
    }

    fn is_over(&self, now: Duration) -> bool {
        now.saturating_sub(self.opened_at) >= self.settings.pause
    }

    fn enter(&mut self, state: BreakerState) {
        let before = std::mem::replace(&mut self.state, state);
        (self.failures, self.successes, self.trials) = (0, 0, 0);
        self.epoch += 1;
        if let Some(on_change) = &self.on_change
            && before != state
        {
            on_change(before, state);
        }
    }
}

impl fmt::Debug for Breaker {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Breaker")
            .field("state", &self.state)
            .field("failures", &self.failures)
            .field("successes", &self.successes)
            .field("trials", &self.trials)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::sync::Arc;
    use std::sync::atomic::{AtomicU64, Ordering};

    const SECOND: Duration = Duration::from_secs(1);

    fn breaker() -> Breaker {
        Breaker::new(BreakerSettings::default())
    }

    fn fail(breaker: &mut Breaker, now: Duration) {
        let attempt = breaker.attempt(now).unwrap();
        breaker.failed(attempt, now);
    }

    #[test]
    fn five_failures_in_a_row_open_it_for_thirty_seconds() {
        let mut breaker = breaker();
        (0..4).for_each(|_| fail(&mut breaker, SECOND));
        let attempt = breaker.attempt(SECOND).unwrap();
        breaker.succeeded(attempt);
        (0..4).for_each(|_| fail(&mut breaker, SECOND));
        assert_eq!(breaker.state(SECOND) as u8, 0, "a success begins the count anew");

        fail(&mut breaker, SECOND);

        assert_eq!(breaker.state(SECOND) as u8, 1);
        let rejected = breaker.attempt(30 * SECOND).unwrap_err();
        assert_eq!(rejected.retry_at, Some(31 * SECOND));
        assert_eq!(breaker.state(31 * SECOND) as u8, 2);
    }

    #[test]
    fn other_settings_count_from_the_next_call_on() {
        let mut breaker = breaker();
        (0..4).for_each(|_| fail(&mut breaker, SECOND));
        let less = BreakerSettings { failures: 3, pause: 2 * SECOND, successes: 1, trials: 1 };
        breaker.configure(less);
        assert_eq!(breaker.state(SECOND), BreakerState::Closed, "nothing has failed since");
        fail(&mut breaker, SECOND);
        assert_eq!(breaker.state(2 * SECOND), BreakerState::Open);
        breaker.configure(BreakerSettings { pause: 9 * SECOND, ..less });
        assert_eq!(breaker.state(9 * SECOND), BreakerState::Open);
        assert_eq!(breaker.attempt(9 * SECOND).unwrap_err().retry_at, Some(10 * SECOND));
        let trial = breaker.attempt(10 * SECOND).unwrap();
        assert!(breaker.attempt(10 * SECOND).is_err(), "one at a time");
        breaker.succeeded(trial);
        assert_eq!(breaker.state(10 * SECOND), BreakerState::Closed);
    }

    #[test]
    fn what_was_given_up_counts_for_nothing_and_makes_room() {
        let mut breaker = breaker();
        (0..4).for_each(|_| fail(&mut breaker, SECOND));
        let given_up = breaker.attempt(SECOND).unwrap();
        breaker.abandoned(given_up);
        fail(&mut breaker, SECOND);
        assert_eq!(breaker.state(SECOND), BreakerState::Open, "it is no success");
        let now = 31 * SECOND;
        let trials: Vec<Attempt> = (0..3).map(|_| breaker.attempt(now).unwrap()).collect();
        assert!(breaker.attempt(now).is_err());
        trials.into_iter().for_each(|trial| breaker.abandoned(trial));
        for _ in 0..3 {
            let attempt = breaker.attempt(now).unwrap();
            breaker.succeeded(attempt);
        }
        assert_eq!(breaker.state(now), BreakerState::Closed);
    }

    #[test]
    fn a_half_open_breaker_rejects_the_fourth_attempt_and_closes_after_three_successes() {
        let mut breaker = breaker();
        (0..5).for_each(|_| fail(&mut breaker, SECOND));
        let now = 31 * SECOND;
        let trials: Vec<Attempt> = (0..3).map(|_| breaker.attempt(now).unwrap()).collect();

        assert_eq!(breaker.attempt(now).unwrap_err(), Rejected { retry_at: None });

        trials.into_iter().for_each(|trial| breaker.succeeded(trial));
        assert_eq!(breaker.state(now), BreakerState::Closed);
    }

    #[test]
    fn one_failure_opens_a_half_open_breaker_again_and_older_results_do_not_count() {
        let mut breaker = breaker();
        (0..5).for_each(|_| fail(&mut breaker, SECOND));
        let now = 31 * SECOND;
        let (late, bad) = (breaker.attempt(now).unwrap(), breaker.attempt(now).unwrap());
        breaker.failed(bad, now);
        assert_eq!(breaker.state(now), BreakerState::Open);

        breaker.succeeded(late);

        assert_eq!(breaker.state(60 * SECOND), BreakerState::Open, "30 s count from the failure");
        assert_eq!(breaker.state(61 * SECOND), BreakerState::HalfOpen);
    }

    #[test]
    fn what_was_begun_before_a_reset_says_nothing_after_it() {
        let told = Arc::new(AtomicU64::new(0));
        for is_open in [false, true] {
            let (mut breaker, counted) = (breaker(), told.clone());
            breaker.on_change(Box::new(move |_, _| {
                counted.fetch_add(1, Ordering::SeqCst);
            }));
            let running: Vec<Attempt> = (0..5).map(|_| breaker.attempt(SECOND).unwrap()).collect();
            (0..if is_open { 5 } else { 4 }).for_each(|_| fail(&mut breaker, SECOND));
            breaker.reset();
            running.into_iter().for_each(|attempt| breaker.failed(attempt, SECOND));
            (0..4).for_each(|_| fail(&mut breaker, SECOND));
            assert_eq!(breaker.state(SECOND), BreakerState::Closed, "four since the reset");
            assert_eq!(told.swap(0, Ordering::SeqCst), if is_open { 2 } else { 0 });
        }
    }

    #[test]
    fn every_change_is_told_once() {
        let (mut breaker, changes) = (breaker(), Arc::new(AtomicU64::new(0)));
        let told = changes.clone();
        breaker.on_change(Box::new(move |before, after| {
            let digits = 10 * before as u64 + after as u64;
            told.fetch_update(Ordering::SeqCst, Ordering::SeqCst, |all| Some(100 * all + digits))
                .unwrap();
        }));
        (0..5).for_each(|_| fail(&mut breaker, SECOND));
        for _ in 0..3 {
            let trial = breaker.attempt(40 * SECOND).unwrap();
            breaker.succeeded(trial);
        }
        assert_eq!(changes.load(Ordering::SeqCst), 1_12_20, "0 to 1, 1 to 2, 2 to 0");
    }

    proptest! {
        /// Against the rules, told as history: what happened since the last change of state.
        #[test]
        fn it_follows_its_rules(steps in prop::collection::vec((0u8..4, 0u64..20), 1..200)) {
            let mut breaker = breaker();
            let (mut now, mut running) = (Duration::ZERO, Vec::<Attempt>::new());
            let (mut failures, mut successes, mut opened) = (0, 0, None::<Duration>);
            let mut trials = None::<u32>;
            for (step, seconds) in steps {
                now += Duration::from_secs(seconds);
                match step {
                    0 | 1 => {
                        if opened.is_some_and(|at| now >= at + Duration::from_secs(30)) {
                            (opened, trials, successes) = (None, Some(0), 0);
                            running.clear();
                        }
                        let expected = opened.is_none() && trials.is_none_or(|trials| trials < 3);
                        let attempt = breaker.attempt(now);
                        prop_assert_eq!(attempt.is_ok(), expected);
                        trials = trials.map(|trials| trials + u32::from(expected));
                        running.extend(attempt.ok());
                    }
                    2 => if let Some(attempt) = running.pop() {
                        breaker.succeeded(attempt);
                        failures = 0;
                        successes += 1;
                        trials = trials.map(|trials| trials - 1);
                        if trials.is_some() && successes == 3 {
                            trials = None;
                            running.clear();
                        }
                    }
                    _ => if let Some(attempt) = running.pop() {
                        breaker.failed(attempt, now);
                        failures += 1;
                        if trials.is_some() || failures == 5 {
                            (opened, trials, failures) = (Some(now), None, 0);
                            running.clear();
                        }
                    }
                }
                let is_over = opened.is_some_and(|at| now >= at + Duration::from_secs(30));
                let expected = match (opened, trials) {
                    (Some(_), _) if is_over => 2,
                    (Some(_), _) => 1,
                    (None, Some(_)) => 2,
                    (None, None) => 0,
                };
                prop_assert_eq!(breaker.state(now) as u8, expected);
            }
        }
    }
}
