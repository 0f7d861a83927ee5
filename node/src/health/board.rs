//! What each check found last.

use super::finding::{Finding, Wellness};
use serde::Serialize;
use std::collections::BTreeMap;
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// How everything is.
#[derive(Clone, Debug, Serialize)]
pub struct HealthReport {
    /// As the worst check.
    pub status: Wellness,
    /// Each check by its name.
    pub checks: BTreeMap<String, CheckReport>,
}

/// What one check found last.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct CheckReport {
    /// How well it is.
    pub status: Wellness,
    /// One sentence.
    pub message: String,
    /// What was measured.
    #[serde(rename = "details")]
    pub numbers: BTreeMap<&'static str, f64>,
    /// How long the look took.
    pub duration_ms: u64,
    /// How long ago it was.
    pub age_ms: u64,
    /// Whether a look has gone on for longer than it may.
    pub is_timed_out: bool,
}

/// See the module.
#[derive(Debug, Default)]
pub(super) struct Board {
    places: Mutex<BTreeMap<String, Place>>,
    changed: Condvar,
}

/// One check.
#[derive(Debug)]
struct Place {
    timeout: Duration,
    /// When the look that goes on has begun.
    began: Option<Duration>,
    last: Option<Look>,
    /// Looks that were completed.
    looks: u64,
    entered: Duration,
}

/// A completed look.
#[derive(Debug)]
struct Look {
    finding: Finding,
    ended: Duration,
    took: Duration,
}

impl Board {
    fn places(&self) -> MutexGuard<'_, BTreeMap<String, Place>> {
        // What is noted is whole at any time.
        self.places.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Makes a place for a check. Returns false if there is one of its name.
    pub(super) fn enter(&self, name: &str, timeout: Duration, now: Duration) -> bool {
        let mut places = self.places();
        if places.contains_key(name) {
            return false;
        }
        let place = Place { timeout, began: None, last: None, looks: 0, entered: now };
        places.insert(name.to_owned(), place);
        true
    }

    /// How long a look of any check may take from now on.
    pub(super) fn set_timeout(&self, timeout: Duration) {
        self.places().values_mut().for_each(|place| place.timeout = timeout);
    }

    /// Takes a check away.
    pub(super) fn leave(&self, name: &str) {
        self.places().remove(name);
    }

    /// A look begins.
    pub(super) fn begin(&self, name: &str, now: Duration) {
        if let Some(place) = self.places().get_mut(name) {
            place.began = Some(now);
        }
    }

    /// It has ended.
    pub(super) fn end(&self, name: &str, finding: Finding, now: Duration) {
        if let Some(place) = self.places().get_mut(name) {
            let took = now.saturating_sub(place.began.take().unwrap_or(now));
            place.last = Some(Look { finding, ended: now, took });
            place.looks += 1;
        }
        self.changed.notify_all();
    }

    /// How often each check has looked, looks that go on included.
    pub(super) fn looks(&self) -> BTreeMap<String, u64> {
        let count = |place: &Place| place.looks + u64::from(place.began.is_some());
        self.places().iter().map(|(name, place)| (name.clone(), count(place))).collect()
    }

    /// Waits until each has looked more often than `before`.
    pub(super) fn wait_for_looks(&self, before: &BTreeMap<String, u64>, patience: Duration) {
        let until = Instant::now().checked_add(patience);
        let mut places = self.places();
        loop {
            let is_done = |(name, place): (&String, &Place)| {
                place.looks > before.get(name).copied().unwrap_or(0)
            };
            if places.iter().all(is_done) {
                return;
            }
            let left = until.map(|until| until.saturating_duration_since(Instant::now()));
            let left = left.unwrap_or(patience);
            if left.is_zero() {
                return;
            }
            let waited = self.changed.wait_timeout(places, left);
            places = waited.unwrap_or_else(PoisonError::into_inner).0;
        }
    }

    /// What was found last, as of `now`.
    pub(super) fn report(&self, now: Duration) -> HealthReport {
        let places = self.places();
        let checks: BTreeMap<String, CheckReport> =
            places.iter().map(|(name, place)| (name.clone(), place.report(now))).collect();
        let status = checks.values().map(|check| check.status).max();
        HealthReport { status: status.unwrap_or(Wellness::Healthy), checks }
    }
}

impl Place {
    fn report(&self, now: Duration) -> CheckReport {
        let running = self.began.map(|began| now.saturating_sub(began));
        let millis = |time: Duration| u64::try_from(time.as_millis()).unwrap_or(u64::MAX);
        let since = self.last.as_ref().map_or(self.entered, |look| look.ended);
        let mut report = CheckReport {
            status: Wellness::Degraded,
            message: "it has not looked yet".to_owned(),
            numbers: BTreeMap::new(),
            duration_ms: millis(running.unwrap_or_default()),
            age_ms: millis(now.saturating_sub(since)),
            is_timed_out: false,
        };
        if let Some(look) = &self.last {
            report.status = look.finding.status;
            report.message.clone_from(&look.finding.message);
            report.numbers.clone_from(&look.finding.numbers);
            report.duration_ms = millis(look.took);
        }
        if let Some(running) = running.filter(|running| *running >= self.timeout) {
            report.status = Wellness::Unhealthy;
            report.message = format!("it has not answered for {} ms", millis(running));
            report.is_timed_out = true;
        }
        report
    }
}
