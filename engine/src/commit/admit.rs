//! The way of commits whose ops come from other nodes: the same door, but what they are compared with
//! must stand still.

use super::pending::Line;
use super::{Commits, Queue};
use crate::memtable::Memtable;
use crate::replicate::{Moved, Progress, Vectors};
use crate::space::Weight;
use base::lock::MutexGuard;
use base::{Error, Position, Result, ScopeId, Tick, Vector};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

/// How often the line of pending commits is looked at before the queue is let go.
const LOOKS_MAX: u32 = 200;
/// What waits longer than these looks is no insert, but something that flushes.
const PAUSE: Duration = Duration::from_micros(200);

/// What an admission writes.
pub(crate) struct Admitted {
    /// Its records.
    pub(crate) record: Vec<u8>,
    /// What they bring.
    pub(crate) moved: Moved,
    /// Whether they store values, or only delete.
    pub(crate) weight: Weight,
}

impl Commits {
    /// The queue, with room for `need` more bytes in the active memtable, at a moment when every commit
    /// so far is in a memtable: what is compared under the lock is all there is.
    pub(crate) fn settled_queue(
        &self,
        need: usize,
        weight: Weight,
    ) -> Result<MutexGuard<'_, Queue>> {
        loop {
            let mut queue = self.queue_with_room(need, weight)?;
            for _ in 0..LOOKS_MAX {
                if self.pending.lock().line() == Line::Inserted {
                    return Ok(queue);
                }
                std::thread::yield_now();
            }
            // A flush, which needs the queue, or a thread that does not get to run.
            queue.give_back(need);
            drop(queue);
            if self.is_poisoned() {
                return Err(Error::Poisoned);
            }
            std::thread::sleep(PAUSE);
        }
    }

    /// Appends commits, one for each of `needs`: what `write` makes of its number and its tick. Then inserts
    /// with `insert` what they are about, given the ticks of those that were appended. Returns how many
    /// were: the rest only if the log took no more.
    pub(crate) fn admit(
        &self,
        mut queue: MutexGuard<'_, Queue>,
        needs: &[usize],
        write: impl Fn(&mut Queue, usize, Tick) -> Option<Admitted>,
        insert: impl FnOnce(&Memtable, &[Tick]) -> Result<()>,
    ) -> Result<usize> {
        let mut seqnos = Vec::with_capacity(needs.len());
        for (number, need) in needs.iter().enumerate() {
            let seqno = queue.next_tick(self.clock.wall_ms());
            let Some(admitted) = write(&mut queue, number, seqno) else { break };
            if let Err(error) = self.append_admitted(&mut queue, seqno, *need, admitted) {
                queue.give_back(needs.iter().skip(number).sum());
                if seqnos.is_empty() {
                    return Err(error);
                }
                break;
            }
            seqnos.push(seqno);
        }
        let (memtable, wants_spare) = (Arc::clone(queue.active()), queue.wants_spare());
        drop(queue);
        if let Err(error) = insert(&memtable, &seqnos) {
            self.poison();
            return Err(error);
        }
        self.publish(|pending| {
            seqnos.iter().fold(None, |visible, seqno| pending.inserted(*seqno).or(visible))
        });
        if self.is_log_asleep.load(Ordering::Relaxed) {
            self.wake_log();
        } else if wants_spare {
            self.bells.log.ring();
        }
        Ok(seqnos.len())
    }

    fn append_admitted(
        &self,
        queue: &mut Queue,
        seqno: Tick,
        need: usize,
        Admitted { record, moved, weight }: Admitted,
    ) -> Result<()> {
        let granted = match queue.next_segment(record.len().max(need)) {
            Some(next) => self.grant(queue, next, weight),
            None => Ok(()),
        };
        let append = || queue.append_admitted(seqno, &record, &moved);
        let appended = granted.and_then(|()| match weight {
            Weight::Puts => self.space.without_reserve(append),
            Weight::Deletes => self.space.with_reserve(append),
        });
        appended.inspect_err(|error| {
            self.note(error);
            if queue.is_log_poisoned() {
                self.poison();
            }
        })?;
        self.pending.lock().push(seqno, Position::ZERO, moved);
        Ok(())
    }

    /// Takes over a vector whose commits came as tables, which are durable. Called at the barrier `place`,
    /// with which it becomes visible.
    pub(crate) fn jump(&self, scope: ScopeId, place: Tick, vector: &Vector) {
        {
            let mut queue = self.queue.lock();
            for (origin, tick) in vector.iter() {
                if queue.vectors().get(scope, origin) < tick {
                    // The log has none of what is between.
                    queue.index().forget(scope, origin);
                }
            }
            queue.vectors().raise_all(scope, vector);
        }
        self.pending.lock().jump(scope, place, vector);
    }

    /// Calls `f` with the last visible commit and what is visible of each author; neither moves
    /// meanwhile.
    pub(crate) fn at_visible<R>(&self, f: impl FnOnce(Tick, &Vectors) -> R) -> R {
        let pending = self.pending.lock();
        f(self.visible(), pending.vectors())
    }

    /// Calls `f` with what a power loss would leave of each author.
    pub(crate) fn with_durable<R>(&self, f: impl FnOnce(&Vectors) -> R) -> R {
        f(self.pending.lock().durable_vectors())
    }

    /// Lets `call` be called whenever commits became visible or durable.
    pub(crate) fn listen(&self, call: Arc<dyn Fn(Progress) + Send + Sync>) {
        self.listener.set(call);
    }
}
