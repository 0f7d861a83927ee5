//! A commit that is on its way.

use super::pending::Waiter;
use super::{Commits, Committed};
use base::{Error, Result, Tick};
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

/// A commit that is in the log but perhaps not yet acknowledged: wait for it, or await it.
///
/// Dropping the ticket does not undo the commit. As a future it needs no particular runtime; the
/// database's log thread drives the sync.
#[must_use = "a commit is acknowledged when its ticket says so"]
pub struct CommitTicket {
    commits: Arc<Commits>,
    committed: Committed,
}

impl CommitTicket {
    pub(crate) fn new(commits: Arc<Commits>, committed: Committed) -> CommitTicket {
        if committed.sync {
            commits.request_sync();
        }
        CommitTicket { commits, committed }
    }

    /// The commit's place in the order of commits.
    pub fn seqno(&self) -> Tick {
        self.committed.seqno
    }

    /// Blocks until the commit is acknowledged.
    ///
    /// # Errors
    /// [`Error::Poisoned`] if the log failed before: the commit may or may not survive.
    pub fn wait(self) -> Result<Tick> {
        self.commits.wait(&self.committed)?;
        Ok(self.committed.seqno)
    }
}

impl Future for CommitTicket {
    type Output = Result<Tick>;

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        let seqno = self.committed.seqno;
        let mut pending = self.commits.pending.lock();
        if self.commits.visible() >= seqno {
            return Poll::Ready(Ok(seqno));
        }
        if self.commits.is_poisoned() {
            return Poll::Ready(Err(Error::Poisoned));
        }
        pending.wait(seqno, Waiter::Future(context.waker().clone()));
        Poll::Pending
    }
}

impl std::fmt::Debug for CommitTicket {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "CommitTicket {{ seqno: {} }}", self.committed.seqno)
    }
}
