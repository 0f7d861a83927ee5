//! What a node does by itself against trouble: whether it may, how often, and how often it did.
//!
//! A remedy that is needed again and again does not help. So each has a number of times an hour; when they
//! are used up the trouble stays for an operator to see, until an hour after the first of them.

use base::Clock;
use serde::Serialize;
use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

/// What the limit of a remedy counts for.
const WINDOW: Duration = Duration::from_secs(3600);

/// Whether a remedy may be taken, and how often.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RemedySettings {
    /// Whether at all.
    pub switch: RemedySwitch,
    /// How often in an hour at the most; zero is never, as if it were switched off.
    pub per_hour: u32,
}

/// Whether a remedy may be taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RemedySwitch {
    /// It may, within its limit.
    On,
    /// It may not.
    Off,
}

/// Whether a remedy would be taken now.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum RemedyState {
    /// It would.
    Ready = 0,
    /// It is switched off.
    Off = 1,
    /// It was taken as often as it may be in an hour.
    UsedUp = 2,
}

/// How a remedy is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct RemedyReport {
    /// Whether it would be taken now.
    pub state: RemedyState,
    /// How often it was taken since the start.
    pub taken: u64,
    /// How often in the last hour.
    pub taken_last_hour: u32,
    /// How often it may be taken in an hour.
    pub per_hour: u32,
}

/// All remedies of a node by name. Clones share them.
#[derive(Clone)]
pub struct Remedies {
    clock: Arc<dyn Clock>,
    by_name: Arc<Mutex<BTreeMap<&'static str, Entry>>>,
}

#[derive(Debug)]
struct Entry {
    settings: RemedySettings,
    /// When it was taken in the last hour; not more than the limit allows.
    recent: VecDeque<Duration>,
    taken: u64,
}

impl Entry {
    fn forget(&mut self, now: Duration) {
        while self.recent.front().is_some_and(|at| now >= at.saturating_add(WINDOW)) {
            self.recent.pop_front();
        }
    }

    fn state(&self) -> RemedyState {
        match self.settings.switch {
            RemedySwitch::Off => RemedyState::Off,
            // Nothing was used up, and nobody needs to be told.
            RemedySwitch::On if self.settings.per_hour == 0 => RemedyState::Off,
            RemedySwitch::On if self.recent.len() >= self.settings.per_hour as usize => {
                RemedyState::UsedUp
            }
            RemedySwitch::On => RemedyState::Ready,
        }
    }

    fn note(&mut self, now: Duration) {
        self.taken += 1;
        self.recent.push_back(now);
        if self.recent.len() > self.settings.per_hour as usize {
            self.recent.pop_front();
        }
    }
}

impl Remedies {
    /// No remedies yet.
    pub fn new(clock: Arc<dyn Clock>) -> Remedies {
        Remedies { clock, by_name: Arc::default() }
    }

    /// Sets how the remedy `name` may be taken. What was taken still counts.
    pub fn set(&self, name: &'static str, settings: RemedySettings) {
        let fresh = || Entry { settings, recent: VecDeque::new(), taken: 0 };
        self.all().entry(name).or_insert_with(fresh).settings = settings;
    }

    /// Whether the remedy `name` would be taken now; off if there is none.
    pub fn state(&self, name: &str) -> RemedyState {
        let now = self.clock.monotonic();
        self.all().get_mut(name).map_or(RemedyState::Off, |entry| {
            entry.forget(now);
            entry.state()
        })
    }

    /// Takes the remedy `name` if it may be. Who is told `Ready` does it.
    pub fn take(&self, name: &str) -> RemedyState {
        let now = self.clock.monotonic();
        self.all().get_mut(name).map_or(RemedyState::Off, |entry| {
            entry.forget(now);
            let state = entry.state();
            if state == RemedyState::Ready {
                entry.note(now);
            }
            state
        })
    }

    /// Notes that the remedy `name` was taken `times` by who did not ask.
    pub fn note(&self, name: &str, times: u64) {
        let now = self.clock.monotonic();
        if let Some(entry) = self.all().get_mut(name) {
            entry.forget(now);
            (0..times).for_each(|_| entry.note(now));
        }
    }

    /// How each is.
    pub fn reports(&self) -> BTreeMap<&'static str, RemedyReport> {
        let now = self.clock.monotonic();
        let mut all = self.all();
        let report = |(name, entry): (&&'static str, &mut Entry)| {
            entry.forget(now);
            let report = RemedyReport {
                state: entry.state(),
                taken: entry.taken,
                taken_last_hour: u32::try_from(entry.recent.len()).unwrap_or(u32::MAX),
                per_hour: entry.settings.per_hour,
            };
            (*name, report)
        };
        all.iter_mut().map(report).collect()
    }

    fn all(&self) -> MutexGuard<'_, BTreeMap<&'static str, Entry>> {
        // What is in it is whole at any time.
        self.by_name.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl std::fmt::Debug for Remedies {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Remedies").field("by_name", &self.by_name).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use base::clock::ManualClock;
    use proptest::prelude::*;

    /// Moves `clock` on.
    fn pass(clock: &ManualClock, time: Duration) {
        clock.set(clock.wall_ms() + time.as_millis() as u64);
    }

    const ON: RemedySettings = RemedySettings { switch: RemedySwitch::On, per_hour: 2 };

    fn remedies() -> (Arc<ManualClock>, Remedies) {
        let clock = Arc::new(ManualClock::at(0));
        let remedies = Remedies::new(clock.clone());
        remedies.set("mend", ON);
        (clock, remedies)
    }

    #[test]
    fn a_remedy_is_taken_so_often_in_an_hour_and_not_more() {
        let (clock, remedies) = remedies();
        assert_eq!(remedies.take("mend"), RemedyState::Ready);
        pass(&clock, Duration::from_secs(1800));
        assert_eq!(remedies.take("mend"), RemedyState::Ready);
        assert_eq!(remedies.take("mend"), RemedyState::UsedUp);
        pass(&clock, Duration::from_secs(1799));
        assert_eq!(remedies.state("mend"), RemedyState::UsedUp);
        pass(&clock, Duration::from_secs(1));
        assert_eq!(remedies.take("mend"), RemedyState::Ready, "an hour after the first");
        assert_eq!(remedies.take("mend"), RemedyState::UsedUp);
        let report = remedies.reports()["mend"];
        assert_eq!((report.taken, report.taken_last_hour, report.per_hour), (3, 2, 2));
    }

    #[test]
    fn what_is_off_or_unknown_is_not_taken() {
        let (_, remedies) = remedies();
        remedies.set("mend", RemedySettings { switch: RemedySwitch::Off, ..ON });
        assert_eq!(remedies.take("mend"), RemedyState::Off);
        assert_eq!(remedies.take("nothing"), RemedyState::Off);
        remedies.set("mend", RemedySettings { per_hour: 0, ..ON });
        assert_eq!(remedies.take("mend"), RemedyState::Off, "nothing is used up");
        assert_eq!(remedies.reports()["mend"].taken, 0);
    }

    proptest! {
        /// In no hour is it taken more often than allowed, and it is refused only if it was.
        #[test]
        fn the_limit_holds_in_every_hour(steps in prop::collection::vec(0_u64..4000, 1..60)) {
            let (clock, remedies) = remedies();
            let (mut now, mut taken) = (0, Vec::<u64>::new());
            for step in steps {
                pass(&clock, Duration::from_secs(step));
                now += step;
                let lately = taken.iter().filter(|at| now < **at + 3600).count();
                let is_taken = remedies.take("mend") == RemedyState::Ready;
                prop_assert_eq!(is_taken, lately < 2);
                if is_taken {
                    taken.push(now);
                }
            }
            prop_assert_eq!(remedies.reports()["mend"].taken, taken.len() as u64);
        }
    }
}
