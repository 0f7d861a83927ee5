//! The line of commits between their tick and their visibility.

use crate::replicate::{Moved, Vectors};
use base::{Defect, Origin, Position, ScopeId, Tick, Vector, planted};
use std::collections::VecDeque;
use std::task::Waker;
use std::thread::Thread;

/// Commits in the order of their ticks, and who waits for which to become visible.
#[derive(Default)]
pub(super) struct Pending {
    line: VecDeque<Entry>,
    durable: Position,
    /// What is visible of each author.
    vectors: Vectors,
    /// What the last sync has covered, and the last commit that it did.
    durable_vectors: (Tick, Vectors),
    /// Vectors that came without commits, until a sync has covered them.
    jumps: Vec<(ScopeId, Vector)>,
    waiters: Vec<(Tick, Waiter)>,
}

struct Entry {
    seqno: Tick,
    is_inserted: bool,
    /// What must be durable before it may be visible.
    waits_for: Position,
    /// What it brings.
    moved: Moved,
}

/// How far the commits in line have come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Line {
    /// All of them are inserted.
    Inserted,
    /// The first that is not has this tick.
    Inserting(Tick),
}

impl Pending {
    /// Nothing is in line; `vectors` are visible.
    pub(super) fn new(vectors: Vectors) -> Pending {
        let durable_vectors = (Tick::ZERO, vectors.clone());
        Pending { vectors, durable_vectors, ..Pending::default() }
    }

    /// Notes that a sync has covered `vectors`, up to commit `last`.
    pub(super) fn note_durable(&mut self, last: Tick, vectors: Vectors) {
        if last >= self.durable_vectors.0 {
            self.durable_vectors = (last, vectors);
        }
        // The sync may have begun before them.
        let durable = &mut self.durable_vectors.1;
        self.jumps.retain(|(scope, vector)| {
            let is_in = durable.of(*scope).covers_all(vector);
            durable.raise_all(*scope, vector);
            !is_in
        });
    }

    /// Nothing is in line any more that the former life has written.
    pub(super) fn begin_life(&mut self, own: Origin) {
        self.vectors.begin_life(own);
        self.durable_vectors.1.begin_life(own);
    }

    /// What the last sync has covered of each author.
    pub(super) fn durable_vectors(&mut self) -> &mut Vectors {
        &mut self.durable_vectors.1
    }

    /// A commit that got its tick, and what it brings; ticks come in order.
    #[inline]
    pub(super) fn push(&mut self, seqno: Tick, waits_for: Position, moved: Moved) {
        self.line.push_back(Entry { seqno, is_inserted: false, waits_for, moved });
    }

    /// Takes over what was received elsewhere, and is durable here: visible with `place`, which is in
    /// line.
    pub(super) fn jump(&mut self, scope: ScopeId, place: Tick, vector: &Vector) {
        let index = self.line.partition_point(|entry| entry.seqno < place);
        if let Some(entry) = self.line.get_mut(index) {
            let all = vector.iter().map(|(origin, tick)| (scope, origin, tick));
            entry.moved = Moved::Many(all.collect());
        }
        self.durable_vectors.1.raise_all(scope, vector);
        self.jumps.push((scope, vector.clone()));
    }

    /// Whether anything that got its tick is not inserted yet.
    pub(super) fn line(&self) -> Line {
        let first = self.line.iter().find(|entry| !entry.is_inserted);
        first.map_or(Line::Inserted, |entry| Line::Inserting(entry.seqno))
    }

    /// What is visible of each author.
    pub(super) fn vectors(&self) -> &Vectors {
        &self.vectors
    }

    /// `seqno` is in the memtable. Returns the last commit that thereby becomes visible, if any.
    #[inline]
    pub(super) fn inserted(&mut self, seqno: Tick) -> Option<Tick> {
        let index = self.line.partition_point(|entry| entry.seqno < seqno);
        if let Some(entry) = self.line.get_mut(index) {
            entry.is_inserted = true;
        }
        if index == 0 { self.advance() } else { None }
    }

    /// The log is durable up to `position`. Returns what thereby becomes visible, if anything.
    pub(super) fn durable_to(&mut self, position: Position) -> Option<Tick> {
        self.durable = self.durable.max(position);
        self.advance()
    }

    fn advance(&mut self) -> Option<Tick> {
        let mut visible = None;
        while let Some(first) = self.line.front() {
            let is_durable = first.waits_for <= self.durable || planted(Defect::ShowBeforeDurable);
            if !first.is_inserted || !is_durable {
                break;
            }
            visible = Some(first.seqno);
            self.vectors.apply(&first.moved, first.seqno);
            self.line.pop_front();
        }
        visible
    }

    /// Lets `waiter` be woken once `seqno` is visible.
    pub(super) fn wait(&mut self, seqno: Tick, waiter: Waiter) {
        self.waiters.push((seqno, waiter));
    }

    /// This thread waits for nothing any more.
    pub(super) fn forget_this_thread(&mut self) {
        let this = std::thread::current().id();
        let is_other = |waiter: &Waiter| !matches!(waiter, Waiter::Thread(t) if t.id() == this);
        self.waiters.retain(|(_, waiter)| is_other(waiter));
    }

    /// Takes the waiters for what is visible up to `visible`.
    #[inline]
    pub(super) fn take_waiters(&mut self, visible: Tick) -> Vec<Waiter> {
        if self.waiters.is_empty() {
            return Vec::new();
        }
        let (due, waiting) =
            std::mem::take(&mut self.waiters).into_iter().partition(|(seqno, _)| *seqno <= visible);
        self.waiters = waiting;
        let due: Vec<(Tick, Waiter)> = due;
        due.into_iter().map(|(_, waiter)| waiter).collect()
    }
}

/// Who waits: a blocked thread or a future.
pub(super) enum Waiter {
    Thread(Thread),
    Future(Waker),
}

impl Waiter {
    pub(super) fn this_thread() -> Waiter {
        Waiter::Thread(std::thread::current())
    }

    pub(super) fn wake(self) {
        match self {
            Waiter::Thread(thread) => thread.unpark(),
            Waiter::Future(waker) => waker.wake(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tick(raw: u64) -> Tick {
        Tick::from_raw(raw).unwrap()
    }

    #[test]
    fn commits_become_visible_in_order() {
        let mut pending = Pending::default();
        for raw in 1..=3 {
            pending.push(tick(raw), Position::ZERO, Moved::Nothing);
        }
        assert_eq!(pending.inserted(tick(2)), None);
        assert_eq!(pending.inserted(tick(1)), Some(tick(2)));
        assert_eq!(pending.inserted(tick(3)), Some(tick(3)));
    }

    #[test]
    fn a_sync_commit_holds_back_what_follows_until_it_is_durable() {
        let at = |offset| Position { segment: 1, offset };
        let mut pending = Pending::default();
        pending.push(tick(1), at(10), Moved::Nothing);
        pending.push(tick(2), Position::ZERO, Moved::Nothing);
        assert_eq!(pending.inserted(tick(2)), None);
        assert_eq!(pending.inserted(tick(1)), None);
        assert_eq!(pending.durable_to(at(9)), None);
        assert_eq!(pending.durable_to(at(10)), Some(tick(2)));
    }
}
