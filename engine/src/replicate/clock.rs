//! Two guards of the clock, for databases that replicate: ticks that others get to see must be right.
//!
//! A wall clock that jumps, against the monotonic one, would poison every node with ticks of the future:
//! local writes are refused until it is back. And the manifest keeps a bound that the clock has not
//! reached, so that after a crash no tick is used twice, even where commits were lost.

use crate::parts::Parts;
use base::{Clock, Error, Result, Tick};
use sstable::manifest::Edit;
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU64, Ordering};

/// How far the bound is ahead of the clock when it is raised, and when it is raised again.
const AHEAD_MS: u64 = 1000;
const RAISE_AT_MS: u64 = 500;

/// See the module. Costs a load until replication is used.
#[derive(Debug)]
pub(crate) struct ClockWatch {
    is_on: AtomicBool,
    max_drift_ms: u64,
    /// The wall clock minus the monotonic one, at the last look that found nothing wrong.
    offset_ms: AtomicI64,
    /// What the manifest says the clock was never ahead of.
    bound: AtomicU64,
}

impl ClockWatch {
    /// Looks at nothing yet. The manifest says `bound`.
    pub(crate) fn new(max_drift_ms: u64, bound: Tick) -> ClockWatch {
        ClockWatch {
            is_on: AtomicBool::new(false),
            max_drift_ms,
            offset_ms: AtomicI64::new(0),
            bound: AtomicU64::new(bound.raw()),
        }
    }

    /// Watches from now on.
    pub(crate) fn start(&self, clock: &dyn Clock) {
        if !self.is_on() {
            self.offset_ms.store(offset_ms(clock), Ordering::Release);
            self.is_on.store(true, Ordering::Release);
        }
    }

    /// Whether replication is used.
    pub(crate) fn is_on(&self) -> bool {
        self.is_on.load(Ordering::Acquire)
    }

    /// Refuses if the wall clock has jumped since the last look.
    #[inline]
    pub(crate) fn check(&self, clock: &dyn Clock) -> Result<()> {
        match self.is_on.load(Ordering::Relaxed) {
            false => Ok(()),
            true => self.look(clock),
        }
    }

    /// By how much the wall clock has jumped since the last look, if commits are refused for it. Changes nothing.
    pub(crate) fn jump_ms(&self, clock: &dyn Clock) -> Option<u64> {
        let by_ms = offset_ms(clock).abs_diff(self.offset_ms.load(Ordering::Acquire));
        (self.is_on() && by_ms > self.max_drift_ms).then_some(by_ms)
    }

    fn look(&self, clock: &dyn Clock) -> Result<()> {
        let now = offset_ms(clock);
        let by_ms = now.abs_diff(self.offset_ms.load(Ordering::Acquire));
        if by_ms > self.max_drift_ms {
            return Err(Error::ClockSkew { by_ms, limit_ms: self.max_drift_ms });
        }
        // Small steps are the clock being set right.
        self.offset_ms.store(now, Ordering::Release);
        Ok(())
    }
}

fn offset_ms(clock: &dyn Clock) -> i64 {
    let monotonic = i64::try_from(clock.monotonic().as_millis()).unwrap_or(i64::MAX);
    i64::try_from(clock.wall_ms()).unwrap_or(i64::MAX).saturating_sub(monotonic)
}

/// Raises the bound in the manifest if the clock comes near it, and replication is used.
pub(crate) fn raise_bound(parts: &Parts) -> Result<()> {
    let watch = &parts.clock_watch;
    if !watch.is_on() {
        return Ok(());
    }
    let used = parts.commits.with_queue(|queue| queue.used());
    let known = Tick::from_raw(watch.bound.load(Ordering::Acquire)).unwrap_or(Tick::MAX);
    if used.ms().saturating_add(RAISE_AT_MS) < known.ms() {
        return Ok(());
    }
    let bound = Tick::from_ms(used.ms().saturating_add(AHEAD_MS));
    parts.record_then(|_| Edit { clock_bound: Some(bound), ..Edit::default() }, |_| {})?;
    watch.bound.fetch_max(bound.raw(), Ordering::AcqRel);
    Ok(())
}
