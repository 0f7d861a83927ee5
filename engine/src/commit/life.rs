//! Another life of a database that runs: the place in the order of commits where its author changes.
//!
//! What was written before must be in tables by then: log and memtables name their author once for all they
//! hold.

use super::{Commits, Queue};
use crate::memtable::Memtable;
use crate::view::NextView;
use base::lock::MutexGuard;
use base::{Origin, Result};
use std::sync::Arc;

/// Lets no commit in until it is dropped.
pub(crate) struct Hold<'a>(&'a Commits);

impl Drop for Hold<'_> {
    fn drop(&mut self) {
        self.0.queue.lock().is_held = false;
        self.0.flushed.notify_all();
    }
}

impl Commits {
    /// Whoever wants to commit waits until this is dropped. One at a time.
    pub(crate) fn hold(&self) -> Hold<'_> {
        self.queue.lock().is_held = true;
        Hold(self)
    }

    /// Lets commits be those of `author` from now on. They are held, and all so far are in tables. If it
    /// fails, writes are refused: what is on the disk is of that life already.
    pub(crate) fn begin_life(&self, author: Origin, switched: impl FnOnce()) -> Result<()> {
        let mut queue = self.queue.lock();
        let begun = self.switch(&mut queue, author).inspect_err(|_| self.poison());
        begun.map(|()| switched())
    }

    fn switch(&self, queue: &mut MutexGuard<'_, Queue>, author: Origin) -> Result<()> {
        let (bytes, after) = (self.memtable_bytes, queue.last());
        let memtable = Arc::new(Memtable::new_in(&self.arenas, bytes, 0, after, author)?);
        queue.appender()?.begin_life(author)?;
        queue.vectors().begin_life(author);
        queue.index().clear();
        drop(queue.replace_active(memtable.clone()));
        self.views.install(|view| NextView { active: memtable, ..NextView::from(view) });
        self.pending.lock().begin_life(author);
        Ok(())
    }
}
