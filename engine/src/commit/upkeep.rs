//! What the log's thread is asked for, and by whom.

use super::Commits;
use crate::replicate::Progress;
use std::sync::atomic::Ordering;

impl Commits {
    /// Asks the log worker to sync soon.
    pub(crate) fn request_sync(&self) {
        self.wants_sync.store(true, Ordering::Release);
        self.bells.log.ring();
    }

    /// Says that the log worker will sleep until the next commit wakes it.
    pub(crate) fn let_log_sleep(&self) {
        self.is_log_asleep.store(true, Ordering::SeqCst);
    }

    #[cold]
    pub(super) fn wake_log(&self) {
        if self.is_log_asleep.swap(false, Ordering::SeqCst) {
            self.bells.log.ring();
        }
    }

    /// Whether a sync was asked for and not yet begun.
    pub(crate) fn is_sync_asked(&self) -> bool {
        self.wants_sync.load(Ordering::Acquire)
    }

    /// Notes that a sync begins: who asks from now on asks for the next one.
    pub(crate) fn take_sync_request(&self) {
        self.wants_sync.store(false, Ordering::SeqCst);
    }

    /// Whether the log holds commits that no sync has covered.
    pub(crate) fn has_unsynced(&self) -> bool {
        self.durable() < self.queue.lock().last()
    }

    /// Notes that somebody reads the log as it grows: commits are made durable soon after they were made.
    pub(crate) fn begin_tail(&self) {
        self.tails.fetch_add(1, Ordering::Relaxed);
    }

    /// Notes the end of one who did.
    pub(crate) fn end_tail(&self) {
        self.tails.fetch_sub(1, Ordering::Relaxed);
    }

    /// What is to be told of commits that became visible. Asks for the sync that makes them durable, if
    /// anybody waits for that and there is a thread for it.
    #[inline]
    pub(super) fn shown(&self) -> Progress {
        if !self.bells.are_heard {
            return Progress::Unsynced;
        }
        if self.tails.load(Ordering::Relaxed) > 0 {
            self.request_sync();
        }
        Progress::Visible
    }
}
