//! Segments that take no appends any more, and what a sync has to reach.
//!
//! A segment that was rolled keeps its file until a sync has secured it; then its unused space is
//! given back. Its span is kept until the tables hold its commits.

use base::fs::{AppendFile, Fs, SyncHandle, full_path};
use base::lock::{Mutex, Rank};
use base::{Defect, Error, FileName, Position, Result, Tick, planted};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

/// What a retained segment holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SegmentSpan {
    /// The segment.
    pub number: u64,
    /// Seqno of its first commit; zero if it has none.
    pub first_seqno: Tick,
    /// Seqno of its last commit; if it has none, of the last one before it.
    pub last_seqno: Tick,
    /// Its accepted bytes.
    pub end: u64,
}

/// What all syncs of one appender share.
#[derive(Clone, Debug)]
pub(crate) struct SyncState(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    /// Set by the first failed write or sync; nothing is appended or promised afterwards.
    poisoned: AtomicBool,
    /// One sync at a time: the system reports a failed write-back to one of them only.
    order: Mutex<()>,
}

impl SyncState {
    pub(crate) fn new() -> SyncState {
        let order = Mutex::new(Rank::SyncGate, ());
        SyncState(Arc::new(Shared { poisoned: AtomicBool::new(false), order }))
    }

    /// Refuses if something has failed before.
    #[inline]
    pub(crate) fn check(&self) -> Result<()> {
        if self.0.poisoned.load(Ordering::Acquire) { Err(Error::Poisoned) } else { Ok(()) }
    }

    /// Notes the failure `error` and passes it on.
    pub(crate) fn poison(&self, error: Error) -> Error {
        self.0.poisoned.store(!planted(Defect::GoOnAfterFailedSync), Ordering::Release);
        error
    }
}

/// A segment that was rolled and may not be wholly synced yet.
#[derive(Debug)]
pub(crate) struct Retired {
    number: u64,
    path: PathBuf,
    /// Taken by the sync that finishes it.
    file: Mutex<Option<Box<dyn AppendFile>>>,
}

impl Retired {
    pub(crate) fn new(fs: &dyn Fs, number: u64, file: Box<dyn AppendFile>) -> Retired {
        let path = full_path(fs, &FileName::Segment(number).path());
        Retired { number, path, file: Mutex::new(Rank::Obsolete, Some(file)) }
    }

    pub(crate) fn number(&self) -> u64 {
        self.number
    }

    /// Gives back unused space and makes the whole file durable. Only under `SyncState::order`.
    fn finish(&self) -> Result<()> {
        let taken = self.file.lock().take();
        match taken.map(AppendFile::finish) {
            Some(Err(source)) => Err(Error::io("finish", &self.path, source)),
            Some(Ok(_)) | None => Ok(()),
        }
    }
}

/// What one sync will secure: everything appended before [`crate::Appender::prepare_sync`].
#[derive(Debug)]
pub struct SyncTarget {
    pub(crate) position: Position,
    /// Oldest first.
    pub(crate) retired: Vec<Arc<Retired>>,
    /// Of the segment that `position` is in; none if it is durable already.
    pub(crate) growing: Option<Arc<dyn SyncHandle>>,
    pub(crate) fs: Arc<dyn Fs>,
    pub(crate) state: SyncState,
}

impl SyncTarget {
    /// Durable once [`SyncTarget::sync`] has returned.
    pub fn position(&self) -> Position {
        self.position
    }

    /// Makes everything below [`SyncTarget::position`] durable. Hold no lock meanwhile.
    ///
    /// The first failure poisons the appender: what the disk holds is unknown from then on.
    pub fn sync(&self) -> Result<()> {
        let _order = self.state.0.order.lock();
        self.state.check()?;
        self.sync_files().map_err(|error| self.state.poison(error))
    }

    fn sync_files(&self) -> Result<()> {
        if planted(Defect::AcknowledgeBeforeSync) {
            return Ok(());
        }
        let Some(growing) = &self.growing else { return Ok(()) };
        self.retired.iter().try_for_each(|retired| retired.finish())?;
        growing.sync_data().map_err(|source| {
            let path = FileName::Segment(self.position.segment).path();
            Error::io("sync", full_path(self.fs.as_ref(), &path), source)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sync_target_can_be_sent_to_another_thread() {
        fn is_send<T: Send>() {}
        is_send::<SyncTarget>();
    }
}
