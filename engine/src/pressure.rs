//! Smooth backpressure: the more work is owed, the slower writes are admitted, long before they
//! would have to stop.
//!
//! Debt is a number from 0 (nothing owed) to 1 (memory for memtables used up, or far too many runs).
//! From a quarter on each byte written costs time that grows with the square of the debt; the time
//! is paid in sleeps of at most a millisecond or two.

use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::time::Duration;

/// Debt from which on writes are slowed.
const FREE: f64 = 0.25;
/// Nanoseconds a byte costs when the debt is 1: about 10 MB/s.
const NANOS_PER_BYTE_MAX: f64 = 100.0;
/// Time owed is paid once it is worth a sleep.
const NANOS_PAID_MIN: u64 = 200_000;
/// The longest single sleep.
const NANOS_PAID_MAX: u64 = 2_000_000;
/// Upper runs up to which reads are served well, and at which the debt is 1.
const RUNS_FREE: usize = 16;
const RUNS_MAX: usize = 48;

/// See the module.
#[derive(Debug, Default)]
pub(crate) struct Pressure {
    /// Frozen memtables.
    frozen: AtomicU32,
    /// Debt by runs, in thousandths.
    runs: AtomicU32,
    owed_nanos: AtomicU64,
    /// Time writers have slept, for statistics.
    slept_nanos: AtomicU64,
}

impl Pressure {
    /// Notes what is owed now.
    pub(crate) fn update(&self, frozen: usize, upper_runs: usize) {
        self.frozen.store(u32::try_from(frozen).unwrap_or(u32::MAX), Ordering::Relaxed);
        let runs = upper_runs.saturating_sub(RUNS_FREE) * 1000 / (RUNS_MAX - RUNS_FREE);
        self.runs.store(u32::try_from(runs.min(1000)).unwrap_or(1000), Ordering::Relaxed);
    }

    /// Notes how many memtables wait for their flush.
    pub(crate) fn note_frozen(&self, frozen: usize) {
        self.frozen.store(u32::try_from(frozen).unwrap_or(u32::MAX), Ordering::Relaxed);
    }

    /// The debt while the active memtable is `fill` full (0 to 1).
    pub(crate) fn debt(&self, fill: f64) -> f64 {
        let frozen = f64::from(self.frozen.load(Ordering::Relaxed));
        let spare = (crate::Options::MEMTABLES_MAX - 1) as f64;
        let by_memory = if frozen == 0.0 { 0.0 } else { (frozen - 1.0 + fill.min(1.0)) / spare };
        let by_runs = f64::from(self.runs.load(Ordering::Relaxed)) / 1000.0;
        by_memory.max(by_runs).clamp(0.0, 1.0)
    }

    /// Whether nothing is owed, without a look at the memtable.
    #[inline]
    pub(crate) fn is_free(&self) -> bool {
        self.frozen.load(Ordering::Relaxed) == 0 && self.runs.load(Ordering::Relaxed) == 0
    }

    /// Lets a write of `bytes` pass, perhaps after a short sleep. Hold no lock.
    pub(crate) fn admit(&self, bytes: usize, fill: f64) {
        let excess = (self.debt(fill) - FREE) / (1.0 - FREE);
        if excess <= 0.0 {
            return;
        }
        let nanos = (bytes as f64 * excess * excess * NANOS_PER_BYTE_MAX) as u64;
        let owed = self.owed_nanos.fetch_add(nanos, Ordering::Relaxed) + nanos;
        if owed < NANOS_PAID_MIN {
            return;
        }
        let pay = owed.min(NANOS_PAID_MAX);
        if self.owed_nanos.fetch_sub(pay, Ordering::Relaxed) < pay {
            // Two writers paid the same debt.
            self.owed_nanos.store(0, Ordering::Relaxed);
        }
        self.slept_nanos.fetch_add(pay, Ordering::Relaxed);
        std::thread::sleep(Duration::from_nanos(pay));
    }

    /// Time writers have slept so far.
    pub(crate) fn slept(&self) -> Duration {
        Duration::from_nanos(self.slept_nanos.load(Ordering::Relaxed))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn debt_rises_without_a_jump() {
        let pressure = Pressure::default();
        let mut last = 0.0;
        for frozen in 0..=2 {
            pressure.update(frozen, 0);
            for fill in 0..=10 {
                let debt = pressure.debt(f64::from(fill) / 10.0);
                assert!(debt >= last && debt - last <= 0.06, "{frozen} {fill}: {last} to {debt}");
                last = debt;
            }
        }
        assert_eq!(last, 1.0);
    }
}
