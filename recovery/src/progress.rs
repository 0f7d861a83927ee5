//! How far an open has come, for whoever waits.

use crate::stage::Stage;
use base::{Error, Result};
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU64, Ordering};

/// Shared with the thread that opens a database: it writes, others poll or cancel.
#[derive(Debug, Default)]
pub struct Progress {
    stage: AtomicU8,
    bytes_done: AtomicU64,
    bytes_total: AtomicU64,
    is_cancelled: AtomicBool,
}

impl Progress {
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
