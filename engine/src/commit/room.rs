//! Room for a commit: in the log, in the active memtable, and on the disk.

use super::{Commits, Queue, Write};
use crate::memtable::Memtable;
use crate::space::{Grant, Weight};
use crate::view::NextView;
use base::lock::MutexGuard;
use base::{Error, Position, Result, Tick};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;
use wal::NextSegment;

impl Commits {
    /// Appends `write` to the log. What only deletes may use the reserve of a full disk.
    #[inline]
    pub(super) fn append(
        &self,
        queue: &mut Queue,
        seqno: Tick,
        write: &Write<'_>,
    ) -> Result<Position> {
        if let Some(next) = queue.next_segment(write.reservation()) {
            self.grant(queue, next, write.weight())?;
        }
        match write.weight() {
            Weight::Puts => self.space.without_reserve(|| queue.append(seqno, write)),
            Weight::Deletes => self.space.with_reserve(|| queue.append(seqno, write)),
        }
    }

    /// Lets the log go on in another segment only if what is in memory can be flushed afterwards.
    #[cold]
    pub(super) fn grant(&self, queue: &mut Queue, next: NextSegment, weight: Weight) -> Result<()> {
        match self.space.grant(next, weight, self.views.current().unflushed_bytes()) {
            Grant::Usual => Ok(()),
            Grant::Small => {
                queue.appender()?.save_space();
                Ok(())
            }
            Grant::Nothing => Err(self.space.error()),
        }
    }

    /// The queue, with an active memtable that has room for `need` more bytes.
    pub(super) fn queue_with_room(
        &self,
        need: usize,
        weight: Weight,
    ) -> Result<MutexGuard<'_, Queue>> {
        self.queue_with_room_if(need, weight, || self.damage.check())
    }

    /// As [`Commits::queue_with_room`], as long as `may` allows it.
    pub(super) fn queue_with_room_if(
        &self,
        need: usize,
        weight: Weight,
        may: impl Fn() -> Result<()>,
    ) -> Result<MutexGuard<'_, Queue>> {
        let times_full = self.space.times_full();
        let mut queue = self.queue.lock();
        loop {
            if self.is_poisoned.load(Ordering::Relaxed) {
                return Err(Error::Poisoned);
            }
            queue.check_open()?;
            if queue.is_held {
                self.flushed.wait_for(&mut queue, Duration::from_millis(100));
                continue;
            }
            may()?;
            self.space.admit(weight)?;
            if queue.has_room(need) {
                queue.reserve(need);
                return Ok(queue);
            }
            if self.views.current().frozen.len() + 1 < crate::Options::MEMTABLES_MAX {
                self.freeze(&mut queue, need)?;
                continue;
            }
            let was_full = weight == Weight::Puts && self.space.times_full() != times_full;
            if was_full || self.space.is_used_up() {
                return Err(self.space.error());
            }
            self.bells.frozen.ring();
            self.flushed.wait_for(&mut queue, Duration::from_millis(100));
        }
    }

    /// Freezes the active memtable; a new one takes the writes from now on.
    pub(super) fn freeze(&self, queue: &mut Queue, need: usize) -> Result<()> {
        let after = queue.last();
        let (bytes, local) = (self.memtable_bytes, queue.active().local());
        let memtable = Memtable::new_in(&self.arenas, bytes, need, after, local)?;
        let memtable = Arc::new(memtable);
        let frozen = queue.replace_active(memtable.clone());
        self.views.install(|view| {
            let mut next = NextView::from(view);
            next.active = memtable;
            next.frozen.insert(0, frozen);
            self.pressure.note_frozen(next.frozen.len());
            next
        });
        self.bells.frozen.ring();
        Ok(())
    }

    /// Freezes the active memtable unless it is empty. Returns the last commit it may hold.
    pub(crate) fn freeze_active(&self) -> Result<Tick> {
        let mut queue = self.queue.lock();
        let last = queue.last();
        // A memtable that looks empty may still await the insert of a commit that has its tick.
        if !queue.active().is_empty() || queue.active().after() < last {
            self.freeze(&mut queue, 0)?;
        }
        Ok(last)
    }
}
