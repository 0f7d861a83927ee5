//! Breakers by name.
//!
//! While nothing fails a call takes no lock: it reads who is there and that all is well, and counts itself.

use arc_swap::ArcSwap;
use base::{Clock, Striped};
use replication::link::{Attempt, Breaker, BreakerSettings, BreakerState, Rejected};
use serde::Serialize;
use std::collections::BTreeMap;
use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

/// See [`Breakers::with_listener`].
type OnChange = Arc<dyn Fn(&str, BreakerState, BreakerState) + Send + Sync>;

/// All breakers of a node. Clones share them.
#[derive(Clone)]
pub struct Breakers {
    clock: Arc<dyn Clock>,
    all: Arc<All>,
    on_change: Option<OnChange>,
}

#[derive(Default)]
struct All {
    /// Changed under the lock of the settings only.
    by_name: ArcSwap<BTreeMap<String, Arc<Guard>>>,
    /// Those of breakers to come.
    settings: Mutex<BreakerSettings>,
}

/// One breaker and what went through it.
struct Guard {
    name: String,
    breaker: Mutex<(Breaker, Counts)>,
    /// One more than the breaker's quiet epoch; 0 if it has none.
    quiet: AtomicU64,
    successes: Striped<AtomicU64>,
    on_change: Option<OnChange>,
}

/// What went through besides successes.
#[derive(Clone, Copy, Debug, Default)]
struct Counts {
    failures: u64,
    rejected: u64,
}

/// How a breaker is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct BreakerReport {
    /// 0 closed, 1 open, 2 half-open.
    #[serde(serialize_with = "as_number")]
    pub state: BreakerState,
    /// Calls that succeeded.
    pub successes: u64,
    /// Calls that failed.
    pub failures: u64,
    /// Calls that were not made.
    pub rejected: u64,
}

fn as_number<S: serde::Serializer>(state: &BreakerState, to: S) -> Result<S::Ok, S::Error> {
    to.serialize_u8(*state as u8)
}

/// How a guarded call ended, if not well.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Guarded<E> {
    /// It was not made: it has failed too often. Ask again at this time of the clock, if that is known.
    Rejected {
        /// See [`Clock::monotonic`].
        retry_at: Option<Duration>,
    },
    /// It was made and failed.
    Failed(E),
}

impl<E: fmt::Display> fmt::Display for Guarded<E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Guarded::Rejected { .. } => f.write_str("it failed too often and is left alone now"),
            Guarded::Failed(error) => error.fmt(f),
        }
    }
}

impl<E: std::error::Error> std::error::Error for Guarded<E> {}

impl Breakers {
    /// No breakers yet.
    pub fn new(clock: Arc<dyn Clock>) -> Breakers {
        Breakers { clock, all: Arc::default(), on_change: None }
    }

    /// As [`Breakers::new`]; `on_change` is called after every change of state, by the thread whose call brought it
    /// about, with the breaker's name, the state before and the one after. It may ask these breakers what it likes. Of
    /// two changes by two threads at once, the later may be told first.
    pub fn with_listener(
        clock: Arc<dyn Clock>,
        on_change: impl Fn(&str, BreakerState, BreakerState) + Send + Sync + 'static,
    ) -> Breakers {
        Breakers { clock, all: Arc::default(), on_change: Some(Arc::new(on_change)) }
    }

    /// All behave like `settings` from now on, those too that come later; see [`Breaker::configure`].
    pub fn configure(&self, settings: BreakerSettings) {
        let mut of_others = self.all.settings();
        *of_others = settings;
        let all = self.all.by_name.load();
        all.values().for_each(|guard| guard.with(|breaker, _| breaker.configure(settings)));
    }

    /// Makes `call` unless the breaker `name` is open.
    pub fn call<T, E>(
        &self,
        name: &str,
        call: impl FnOnce() -> Result<T, E>,
    ) -> Result<T, Guarded<E>> {
        self.call_unless(name, |_| false, call)
    }

    /// As [`Breakers::call`]; a failure that `is_called_off` says nothing about what was called, and
    /// is not counted.
    pub fn call_unless<T, E>(
        &self,
        name: &str,
        is_called_off: impl FnOnce(&E) -> bool,
        call: impl FnOnce() -> Result<T, E>,
    ) -> Result<T, Guarded<E>> {
        let (all, new);
        all = self.all.by_name.load();
        let guard = match all.get(name) {
            Some(guard) => guard,
            None => {
                new = self.guard(name);
                &new
            }
        };
        let attempt = guard.attempt(&*self.clock)?;
        // A panic is a failure as well.
        let mut pending = Pending { guard, clock: &*self.clock, attempt: Some(attempt) };
        let result = call();
        pending.end(match &result {
            Ok(_) => Ended::Well,
            Err(error) if is_called_off(error) => Ended::CalledOff,
            Err(_) => Ended::Badly,
        });
        result.map_err(Guarded::Failed)
    }

    /// Whether a call of the breaker `name` would be left alone now because it has failed too often.
    pub fn is_open(&self, name: &str) -> bool {
        let (all, now) = (self.all.by_name.load(), self.clock.monotonic());
        all.get(name).is_some_and(|guard| guard.lock().0.state(now) == BreakerState::Open)
    }

    /// Lets the breaker `name` be seen before its first call.
    pub fn show(&self, name: &str) {
        self.guard(name);
    }

    /// How each is.
    pub fn reports(&self) -> BTreeMap<String, BreakerReport> {
        let now = self.clock.monotonic();
        let report = |guard: &Guard| {
            let (breaker, counts) = &*guard.lock();
            let Counts { failures, rejected } = *counts;
            let successes = guard.successes.sum();
            BreakerReport { state: breaker.state(now), successes, failures, rejected }
        };
        let all = self.all.by_name.load();
        all.iter().map(|(name, guard)| (name.clone(), report(guard))).collect()
    }

    /// Closes the breaker `name`, as if nothing had failed. Returns false if there is none.
    ///
    /// Calls that are under way open it no more, however they end. What its report counts goes on: successes,
    /// failures and rejections are those of its whole life, calls that were under way too.
    pub fn reset(&self, name: &str) -> bool {
        let all = self.all.by_name.load();
        let Some(guard) = all.get(name) else { return false };
        guard.with(|breaker, _| breaker.reset());
        true
    }

    /// The breaker `name`, which is made if there is none.
    fn guard(&self, name: &str) -> Arc<Guard> {
        let settings = self.all.settings();
        let all = self.all.by_name.load();
        if let Some(guard) = all.get(name) {
            return guard.clone();
        }
        let guard = Arc::new(Guard::new(name, *settings, self.on_change.clone()));
        let mut more = BTreeMap::clone(&all);
        more.insert(name.to_owned(), guard.clone());
        self.all.by_name.store(Arc::new(more));
        guard
    }
}

impl All {
    fn settings(&self) -> MutexGuard<'_, BreakerSettings> {
        self.settings.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Guard {
    fn new(name: &str, settings: BreakerSettings, on_change: Option<OnChange>) -> Guard {
        let breaker = Breaker::new(settings);
        let quiet = AtomicU64::new(quiet_of(&breaker));
        let breaker = Mutex::new((breaker, Counts::default()));
        Guard { name: name.to_owned(), breaker, quiet, successes: Striped::default(), on_change }
    }

    /// Asks to make an attempt.
    fn attempt<E>(&self, clock: &dyn Clock) -> Result<Attempt, Guarded<E>> {
        if let Some(epoch) = self.quiet.load(Ordering::Acquire).checked_sub(1) {
            return Ok(Attempt::of_quiet(epoch));
        }
        self.with(|breaker, counts| {
            breaker.attempt(clock.monotonic()).map_err(|Rejected { retry_at }| {
                counts.rejected += 1;
                Guarded::Rejected { retry_at }
            })
        })
    }

    /// Counts a success.
    fn succeeded(&self, attempt: Attempt) {
        self.successes.add_one();
        if self.quiet.load(Ordering::Acquire).checked_sub(1) != Some(attempt.epoch()) {
            self.with(|breaker, _| breaker.succeeded(attempt));
        }
    }

    /// Works on the breaker, then tells of its change, no longer under its lock.
    fn with<R>(&self, work: impl FnOnce(&mut Breaker, &mut Counts) -> R) -> R {
        let (result, before, after) = {
            let (breaker, counts) = &mut *self.lock();
            let before = breaker.entered();
            let result = work(breaker, counts);
            self.quiet.store(quiet_of(breaker), Ordering::Release);
            (result, before, breaker.entered())
        };
        if let Some(on_change) = &self.on_change
            && before != after
        {
            on_change(&self.name, before, after);
        }
        result
    }

    fn lock(&self) -> MutexGuard<'_, (Breaker, Counts)> {
        self.breaker.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// See [`Guard::quiet`].
fn quiet_of(breaker: &Breaker) -> u64 {
    breaker.quiet_epoch().map_or(0, |epoch| epoch.saturating_add(1))
}

impl fmt::Debug for Breakers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Breakers")
            .field("count", &self.all.by_name.load().len())
            .finish_non_exhaustive()
    }
}

/// A call that is being made.
struct Pending<'a> {
    guard: &'a Guard,
    clock: &'a dyn Clock,
    attempt: Option<Attempt>,
}

/// How a call ended.
#[derive(Clone, Copy)]
enum Ended {
    Well,
    Badly,
    CalledOff,
}

impl Pending<'_> {
    fn end(&mut self, ended: Ended) {
        let Some(attempt) = self.attempt.take() else { return };
        match ended {
            Ended::Well => self.guard.succeeded(attempt),
            Ended::Badly => self.guard.with(|breaker, counts| {
                counts.failures += 1;
                breaker.failed(attempt, self.clock.monotonic());
            }),
            Ended::CalledOff => self.guard.with(|breaker, _| breaker.abandoned(attempt)),
        }
    }
}

impl Drop for Pending<'_> {
    fn drop(&mut self) {
        self.end(Ended::Badly);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::sync::atomic::{AtomicU64, Ordering};

    const SECOND: Duration = Duration::from_secs(1);

    /// A clock that stands still until a test moves it.
    #[derive(Default)]
    struct HandMoved(AtomicU64);

    impl HandMoved {
        fn advance(&self, by: Duration) {
            self.0.fetch_add(by.as_millis() as u64, Ordering::SeqCst);
        }
    }

    impl Clock for HandMoved {
        fn wall_ms(&self) -> u64 {
            self.0.load(Ordering::SeqCst)
        }

        fn monotonic(&self) -> Duration {
            Duration::from_millis(self.wall_ms())
        }
    }

    fn breakers() -> (Breakers, Arc<HandMoved>, Arc<Mutex<Vec<String>>>) {
        let clock = Arc::new(HandMoved::default());
        let seen: Arc<Mutex<Vec<String>>> = Arc::default();
        let noted = seen.clone();
        let note = move |name: &str, before: BreakerState, after: BreakerState| {
            noted.lock().unwrap().push(format!("{name}: {before} to {after}"));
        };
        (Breakers::with_listener(clock.clone(), note), clock, seen)
    }

    fn call(breakers: &Breakers, result: Result<u8, u8>) -> Result<u8, Guarded<u8>> {
        breakers.call("disk", || result)
    }

    #[test]
    fn five_failures_open_it_and_three_successes_close_it() {
        let (breakers, clock, seen) = breakers();
        for _ in 0..5 {
            assert_eq!(call(&breakers, Err(7)), Err(Guarded::Failed(7)));
        }
        let retry_at = Some(30 * SECOND);
        assert_eq!(call(&breakers, Ok(1)), Err(Guarded::Rejected { retry_at }));
        assert!(breakers.is_open("disk") && !breakers.is_open("never used"));
        clock.advance(30 * SECOND);
        assert!(!breakers.is_open("disk"), "a few are let through");
        for _ in 0..3 {
            assert_eq!(call(&breakers, Ok(1)), Ok(1));
        }
        let report = breakers.reports()["disk"];
        let expected =
            BreakerReport { state: BreakerState::Closed, successes: 3, failures: 5, rejected: 1 };
        assert_eq!(report, expected);
        let steps = ["closed to open", "open to half-open", "half-open to closed"];
        assert_eq!(*seen.lock().unwrap(), steps.map(|step| format!("disk: {step}")));
    }

    #[test]
    fn other_settings_are_of_all_breakers_and_of_those_to_come() {
        let (breakers, clock, _) = breakers();
        (0..2).for_each(|_| drop(call(&breakers, Err(7))));
        let settings = BreakerSettings { failures: 2, pause: SECOND, successes: 1, trials: 1 };
        breakers.configure(settings);
        assert_eq!(call(&breakers, Err(7)), Err(Guarded::Failed(7)));
        let retry_at = Some(SECOND);
        assert_eq!(call(&breakers, Ok(1)), Err(Guarded::Rejected { retry_at }));
        for _ in 0..2 {
            assert_eq!(breakers.call("new", || Err::<u8, u8>(8)), Err(Guarded::Failed(8)));
        }
        assert_eq!(breakers.call("new", || Ok::<u8, u8>(9)), Err(Guarded::Rejected { retry_at }));
        clock.advance(SECOND);
        assert_eq!(call(&breakers, Ok(1)), Ok(1));
        assert_eq!(breakers.reports()["disk"].state, BreakerState::Closed);
        assert_eq!(breakers.reports()["new"].state, BreakerState::HalfOpen);
    }

    #[test]
    fn the_fourth_at_once_is_rejected_while_it_is_half_open() {
        let (breakers, clock, _) = breakers();
        (0..5).for_each(|_| drop(call(&breakers, Err(7))));
        clock.advance(30 * SECOND);
        let nested = breakers.call("disk", || {
            breakers.call("disk", || breakers.call("disk", || call(&breakers, Ok(4))))
        });
        let fourth = Guarded::Rejected { retry_at: None };
        let expected = Guarded::Failed(Guarded::Failed(Guarded::Failed(fourth)));
        assert_eq!(nested, Err(expected));
    }

    #[test]
    fn a_panic_is_a_failure() {
        let (breakers, _, _) = breakers();
        for _ in 0..5 {
            let called = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
                let panics = || -> Result<u8, u8> { std::panic::resume_unwind(Box::new("")) };
                breakers.call("disk", panics)
            }));
            assert!(called.is_err());
        }
        assert_eq!(breakers.reports()["disk"].state, BreakerState::Open);
    }

    #[test]
    fn reset_closes_it_at_once_and_names_do_not_share() {
        let (breakers, _, seen) = breakers();
        (0..5).for_each(|_| drop(call(&breakers, Err(7))));
        assert_eq!(breakers.call("other", || Ok::<_, u8>(2)), Ok(2));
        assert!(breakers.reset("disk") && !breakers.reset("nothing"));
        assert_eq!(call(&breakers, Ok(3)), Ok(3));
        assert_eq!(seen.lock().unwrap().last().unwrap(), "disk: open to closed");
    }

    #[test]
    fn who_is_told_of_a_change_may_ask_the_breakers() {
        let asked: Arc<Mutex<Option<Breakers>>> = Arc::default();
        let seen: Arc<Mutex<Vec<BreakerState>>> = Arc::default();
        let (at, found) = (asked.clone(), seen.clone());
        let clock = Arc::new(HandMoved::default());
        let breakers = Breakers::with_listener(clock, move |name, _, _| {
            let breakers = at.lock().unwrap().clone().unwrap();
            // Who is told under the lock waits here for ever: in a thread of its own, it is not waited for.
            let (tell, told) = std::sync::mpsc::channel();
            let name = name.to_owned();
            std::thread::spawn(move || {
                let state = breakers.reports()[&name].state;
                assert!(state == BreakerState::Closed || breakers.reset(&name));
                tell.send(state).unwrap();
            });
            let state = told.recv_timeout(60 * SECOND).expect("it is told under the lock");
            found.lock().unwrap().push(state);
        });
        *asked.lock().unwrap() = Some(breakers.clone());
        (0..5).for_each(|_| drop(call(&breakers, Err(7))));
        assert_eq!(breakers.reports()["disk"].state, BreakerState::Closed);
        assert!(seen.lock().unwrap().contains(&BreakerState::Open));
    }

    #[test]
    fn calls_that_are_under_way_at_a_reset_open_nothing_after_it() {
        let (breakers, _, seen) = breakers();
        let (go, ended) = (std::sync::Barrier::new(6), std::sync::Barrier::new(6));
        std::thread::scope(|scope| {
            for _ in 0..5 {
                scope.spawn(|| {
                    let fails = || {
                        go.wait();
                        ended.wait();
                        Err::<u8, u8>(7)
                    };
                    breakers.call("disk", fails).unwrap_err();
                });
            }
            go.wait();
            (0..5).for_each(|_| drop(call(&breakers, Err(7))));
            assert!(breakers.reset("disk"));
            ended.wait();
        });
        let report = breakers.reports()["disk"];
        let expected =
            BreakerReport { state: BreakerState::Closed, successes: 0, failures: 10, rejected: 0 };
        assert_eq!(report, expected);
        assert_eq!(*seen.lock().unwrap(), ["disk: closed to open", "disk: open to closed"]);
    }

    proptest! {
        /// Against the sentences of the promise, by counting calls and nothing else.
        #[test]
        fn it_lets_through_what_it_promises(steps in prop::collection::vec((0u64..20, any::<bool>()), 1..200)) {
            let (breakers, clock, _) = breakers();
            let (mut failures, mut successes) = (0, 0);
            let mut opened: Option<Duration> = None;
            for (seconds, is_ok) in steps {
                clock.advance(Duration::from_secs(seconds));
                let now = clock.monotonic();
                let result = call(&breakers, if is_ok { Ok(1) } else { Err(2) });
                let is_shut = opened.is_some_and(|at| now - at < 30 * SECOND);
                prop_assert_eq!(matches!(result, Err(Guarded::Rejected { .. })), is_shut);
                if is_shut {
                    continue;
                }
                let is_trial = opened.is_some();
                (failures, successes) = if is_ok { (0, successes + 1) } else { (failures + 1, 0) };
                if !is_ok && (is_trial || failures == 5) {
                    (opened, failures, successes) = (Some(now), 0, 0);
                } else if is_trial && successes == 3 {
                    (opened, failures, successes) = (None, 0, 0);
                } else if !is_trial {
                    successes = 0;
                }
            }
        }
    }
}
