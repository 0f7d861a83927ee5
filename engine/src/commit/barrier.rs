//! Places in the order of commits for what is no commit of the log.

use super::{Commits, Moved, Queue};
use crate::space::Weight;
use base::lock::MutexGuard;
use base::{Position, Result, Tick};

/// A place in the order of commits that is no write.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Barrier {
    /// The commit before it.
    pub(crate) before: Tick,
    /// Its own tick.
    pub(crate) seqno: Tick,
}

impl Commits {
    /// Takes the next place in the order of commits for something that is no write; `claim` is told
    /// of it before anyone else. Freezes the active memtable, waits until everything before that
    /// place is visible, and calls `f`; nothing after it becomes visible before `f` has returned.
    pub(crate) fn barrier<R>(
        &self,
        claim: impl FnOnce(&mut Queue, Tick) -> Moved,
        f: impl FnOnce(Barrier) -> Result<R>,
    ) -> Result<R> {
        let queue = self.queue_with_room(0, Weight::Puts)?;
        self.barrier_from(queue, claim, f)
    }

    /// As [`Commits::barrier`], if `may` allows it: asked under the lock of the queue, before there is a
    /// place.
    pub(crate) fn barrier_if<R>(
        &self,
        may: impl Fn() -> Result<()>,
        claim: impl FnOnce(&mut Queue, Tick) -> Moved,
        f: impl FnOnce(Barrier) -> Result<R>,
    ) -> Result<R> {
        let may = || self.damage.check().and_then(|()| may());
        let queue = self.queue_with_room_if(0, Weight::Puts, may)?;
        self.barrier_from(queue, claim, f)
    }

    /// As [`Commits::barrier`], also while damage refuses writes: what follows mends it.
    pub(crate) fn mending_barrier<R>(
        &self,
        claim: impl FnOnce(&mut Queue, Tick) -> Moved,
        f: impl FnOnce(Barrier) -> Result<R>,
    ) -> Result<R> {
        let queue = self.queue_with_room_if(0, Weight::Puts, || Ok(()))?;
        self.barrier_from(queue, claim, f)
    }

    fn barrier_from<R>(
        &self,
        mut queue: MutexGuard<'_, Queue>,
        claim: impl FnOnce(&mut Queue, Tick) -> Moved,
        f: impl FnOnce(Barrier) -> Result<R>,
    ) -> Result<R> {
        let (before, seqno) = {
            let before = queue.last();
            // An empty one too, if it would look as if it held commits from before this place.
            if !queue.active().is_empty() || queue.active().after() < before {
                self.freeze(&mut queue, 0)?;
            }
            let seqno = queue.next_tick(self.clock.wall_ms());
            queue.skip(seqno);
            let moved = claim(&mut queue, seqno);
            self.pending.lock().push(seqno, Position::ZERO, moved);
            drop(queue);
            (before, seqno)
        };
        let result = self.secure(before).and_then(|()| f(Barrier { before, seqno }));
        self.publish(|pending| pending.inserted(seqno));
        result
    }
}
