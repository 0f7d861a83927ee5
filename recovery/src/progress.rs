//! How far an open, or another long job on a whole database, has come, for whoever waits.

use crate::stage::{Stage, StageLimits};
use base::{Error, Position, Result};
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU64, Ordering};

/// Shared with the thread that opens, checks, repairs, compacts, backs up or restores a database: it
/// writes, others poll or cancel.
///
/// A stage that takes longer than its limit is reported, in the log and in the report; nothing is
/// ever called off for being slow.
#[derive(Debug, Default)]
pub struct Progress {
    stage: AtomicU8,
    bytes_done: AtomicU64,
    bytes_total: AtomicU64,
    beats: AtomicU64,
    is_cancelled: AtomicBool,
    limits: StageLimits,
}

impl Progress {
    /// Of an open whose stages are reported when they take longer than `limits`.
    pub fn with_limits(limits: StageLimits) -> Progress {
        Progress { limits, ..Progress::default() }
    }

    /// The stage of opening it is in; `None` before the first, and in other jobs.
    pub fn stage(&self) -> Option<Stage> {
        Stage::from_number(self.stage.load(Ordering::Relaxed))
    }

    /// Bytes that the stage, or the part of another job, has worked through.
    pub fn bytes_done(&self) -> u64 {
        self.bytes_done.load(Ordering::Relaxed)
    }

    /// Bytes that it will work through; zero if it does not count.
    pub fn bytes_total(&self) -> u64 {
        self.bytes_total.load(Ordering::Relaxed)
    }

    /// How often the working thread has shown that it goes on, in all. While this stands still nothing is read or
    /// copied; a sync, or the end of a file, may take its time.
    pub fn beats(&self) -> u64 {
        self.beats.load(Ordering::Relaxed)
    }

    /// The working thread goes on.
    pub fn beat(&self) {
        self.beats.fetch_add(1, Ordering::Relaxed);
    }

    /// Asks the working thread to give up: it ends with `Cancelled`. Too late once an open has reached
    /// [`Stage::Switch`], and in a repair once all tables are made.
    pub fn cancel(&self) {
        self.is_cancelled.store(true, Ordering::Relaxed);
    }

    /// How long each stage may take before that is reported.
    pub fn limits(&self) -> &StageLimits {
        &self.limits
    }

    pub(crate) fn enter(&self, stage: Stage) -> Result<()> {
        if stage <= Stage::Switch {
            self.refuse_if_cancelled()?;
        }
        self.expect(0);
        self.stage.store(stage as u8, Ordering::Relaxed);
        Ok(())
    }

    /// Sets what the stage, or the next part of the job, has before it.
    pub fn expect(&self, bytes_total: u64) {
        self.beat();
        self.bytes_done.store(0, Ordering::Relaxed);
        self.bytes_total.store(bytes_total, Ordering::Relaxed);
    }

    /// `bytes` more are done.
    pub fn advance(&self, bytes: u64) {
        self.beat();
        self.bytes_done.fetch_add(bytes, Ordering::Relaxed);
    }

    /// A commit of the log was worked through that ends at `end`; the one before ended at `before`.
    pub(crate) fn advance_log(&self, before: &mut Position, end: Position) {
        let start = if before.segment == end.segment { before.offset } else { 0 };
        self.advance(end.offset.saturating_sub(start));
        *before = end;
    }

    /// Whether somebody has cancelled it.
    pub fn is_cancelled(&self) -> bool {
        self.is_cancelled.load(Ordering::Relaxed)
    }

    pub(crate) fn refuse_if_cancelled(&self) -> Result<()> {
        if self.is_cancelled() { Err(Error::Cancelled) } else { Ok(()) }
    }
}
