//! How far an open has come, for whoever waits.

use crate::stage::{Stage, StageLimits};
use base::{Error, Result};
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU64, Ordering};

/// Shared with the thread that opens a database: it writes, others poll or cancel.
///
/// A stage that takes longer than its limit is reported, in the log and in the report; nothing is
/// ever called off for being slow.
#[derive(Debug, Default)]
pub struct Progress {
    stage: AtomicU8,
    bytes_done: AtomicU64,
    bytes_total: AtomicU64,
    is_cancelled: AtomicBool,
    limits: StageLimits,
}

impl Progress {
    /// Of an open whose stages are reported when they take longer than `limits`.
    pub fn with_limits(limits: StageLimits) -> Progress {
        Progress { limits, ..Progress::default() }
    }

    /// The stage it is in; `None` before the first.
    pub fn stage(&self) -> Option<Stage> {
        Stage::from_number(self.stage.load(Ordering::Relaxed))
    }

    /// Bytes that the stage has worked through.
    pub fn bytes_done(&self) -> u64 {
        self.bytes_done.load(Ordering::Relaxed)
    }

    /// Bytes that the stage will work through; zero if it does not count.
    pub fn bytes_total(&self) -> u64 {
        self.bytes_total.load(Ordering::Relaxed)
    }

    /// Asks the opening thread to give up. Too late once it has reached [`Stage::Switch`].
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

    /// Sets what the stage has before it.
    pub(crate) fn expect(&self, bytes_total: u64) {
        self.bytes_done.store(0, Ordering::Relaxed);
        self.bytes_total.store(bytes_total, Ordering::Relaxed);
    }

    pub(crate) fn advance(&self, bytes: u64) {
        self.bytes_done.fetch_add(bytes, Ordering::Relaxed);
    }

    pub(crate) fn refuse_if_cancelled(&self) -> Result<()> {
        if self.is_cancelled.load(Ordering::Relaxed) { Err(Error::Cancelled) } else { Ok(()) }
    }
}
