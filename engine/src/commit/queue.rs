//! What the queue lock guards: clock, log, active memtable, conflicts.

use crate::batch::Batch;
use crate::conflicts::{Conflicts, ReadSet};
use crate::keyspace::KeyspaceState;
use crate::memtable::Memtable;
use crate::replicate::{LogIndex, Moved, Recent, Vectors};
use crate::space::Weight;
use base::record::{encode_author_header, encode_manifest_record};
use base::{Error, Op, Position, Result, ScopeId, SpaceId, Tick, key_hash};
use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use wal::{Appender, NextSegment, SyncTarget};

/// Ops of this node in a row after which nobody else's are expected soon.
const RAISED_MAX: u32 = 1 << 17;

/// The order of commits. Whoever holds it assigns ticks and appends to the log.
pub(crate) struct Queue {
    /// None once closed, and while the database is only read.
    appender: Option<Appender>,
    is_read_only: bool,
    /// Whether no commit may follow.
    is_closing: bool,
    /// Whether commits wait for a moment.
    pub(super) is_held: bool,
    last: Tick,
    /// Later commits get greater ticks.
    floor: Tick,
    /// What was appended of each author.
    vectors: Vectors,
    /// The vectors at each place where a memtable was frozen that is not known to be flushed.
    frozen_at: BTreeMap<Tick, Vectors>,
    /// Where in the log that is.
    index: LogIndex,
    /// How recent writes are, once another node's are admitted.
    recent: Option<Arc<Recent>>,
    /// Ops of this node that were noted there since somebody last asked for it.
    raised: u32,
    active: Arc<Memtable>,
    /// Bytes of the active memtable that commits may still take, at the most.
    reserved: usize,
    /// Where records are encoded.
    scratch: Vec<u8>,
    bytes_logged: u64,
    conflicts: Conflicts,
    /// Scopes that take no writes now.
    closed: Vec<ScopeId>,
}

/// What is to be committed.
pub(crate) enum Write<'a> {
    /// One op, not worth a batch.
    One(&'a Arc<KeyspaceState>, Op<'a>),
    /// A checked batch.
    Batch(&'a Batch),
    /// A checked batch that depends on what a transaction read.
    Transaction(&'a Batch, &'a ReadSet),
}

impl Queue {
    /// The queue of a database whose last commit was `last`, and which has received `vectors`.
    /// Without a log it is only read.
    pub(crate) fn new(
        appender: Option<Appender>,
        last: Tick,
        vectors: Vectors,
        index: LogIndex,
        active: Arc<Memtable>,
    ) -> Queue {
        Queue {
            is_read_only: appender.is_none(),
            appender,
            is_closing: false,
            is_held: false,
            last,
            floor: Tick::ZERO,
            vectors,
            frozen_at: BTreeMap::new(),
            index,
            recent: None,
            raised: 0,
            active,
            reserved: 0,
            scratch: Vec::new(),
            bytes_logged: 0,
            conflicts: Conflicts::default(),
            closed: Vec::new(),
        }
    }

    pub(crate) fn check_open(&self) -> Result<()> {
        if self.appender.is_some() && !self.is_closing { Ok(()) } else { Err(self.refusal()) }
    }

    /// Refuses commits to `scope` from now on.
    pub(crate) fn close_scope(&mut self, scope: ScopeId) {
        if !self.closed.contains(&scope) {
            self.closed.push(scope);
        }
    }

    /// Takes commits to `scope` again.
    pub(crate) fn reopen_scope(&mut self, scope: ScopeId) {
        self.closed.retain(|closed| *closed != scope);
    }

    /// Refuses writes to a keyspace that was dropped, or whose scope takes none.
    #[inline]
    fn check_keyspace(&self, keyspace: &KeyspaceState) -> Result<()> {
        self.check_scope(keyspace.space.scope())?;
        keyspace.check_live()
    }

    /// Whether `scope` takes commits.
    #[inline]
    pub(crate) fn check_scope(&self, scope: ScopeId) -> Result<()> {
        if self.closed.contains(&scope) { Err(Error::ScopeClosed) } else { Ok(()) }
    }

    /// Why nothing can be appended.
    #[cold]
    fn refusal(&self) -> Error {
        if self.is_read_only { Error::ReadOnly } else { Error::Closed }
    }

    /// The last tick assigned.
    pub(crate) fn last(&self) -> Tick {
        self.last
    }

    /// No commit will get a tick up to this one any more.
    pub(crate) fn used(&self) -> Tick {
        self.last.max(self.floor)
    }

    /// The tick that the next commit gets. It counts as assigned once it was appended or skipped.
    #[inline]
    pub(super) fn next_tick(&self, wall_ms: u64) -> Tick {
        self.used().advance(wall_ms)
    }

    /// A tick above those of all commits so far and below those of all later ones. No commit has it.
    pub(crate) fn mark(&mut self, wall_ms: u64) -> Tick {
        self.floor = self.next_tick(wall_ms);
        self.floor
    }

    /// As [`Queue::mark`], the last tick of its millisecond.
    pub(super) fn mark_end_of_ms(&mut self, wall_ms: u64) -> Tick {
        self.floor = Tick::last_of_ms(self.mark(wall_ms).ms());
        self.floor
    }

    /// Assigns `seqno` to something that is not in the log.
    pub(super) fn skip(&mut self, seqno: Tick) {
        self.last = seqno;
    }

    pub(crate) fn active(&self) -> &Arc<Memtable> {
        &self.active
    }

    #[inline]
    pub(super) fn has_room(&self, need: usize) -> bool {
        !self.active.is_full() && self.reserved + need <= self.active.reservable()
    }

    #[inline]
    pub(super) fn reserve(&mut self, need: usize) {
        self.reserved += need;
    }

    /// Takes back a reservation in the memtable that is still active.
    pub(crate) fn give_back(&mut self, need: usize) {
        self.reserved = self.reserved.saturating_sub(need);
    }

    pub(super) fn replace_active(&mut self, memtable: Arc<Memtable>) -> Arc<Memtable> {
        self.reserved = 0;
        self.frozen_at.insert(memtable.after(), self.vectors.clone());
        std::mem::replace(&mut self.active, memtable)
    }

    /// Appends `write` to the log as commit `seqno`. Returns where it ends. If it fails, nothing of
    /// the queue has changed.
    #[inline]
    pub(super) fn append(&mut self, seqno: Tick, write: &Write<'_>) -> Result<Position> {
        let mut record = std::mem::take(&mut self.scratch);
        record.clear();
        match write {
            Write::One(keyspace, op) => {
                let scope = keyspace.space.scope();
                encode_author_header(&mut record, seqno, scope, self.vectors.previous(scope), 1);
                op.encode(&mut record);
            }
            Write::Batch(batch) | Write::Transaction(batch, _) => {
                for (scope, count, ops) in batch.scopes() {
                    let previous = self.vectors.previous(scope);
                    encode_author_header(&mut record, seqno, scope, previous, count);
                    record.extend_from_slice(ops);
                }
            }
        }
        let place = self.append_record(seqno, &record)?;
        if record.capacity() <= 1 << 20 {
            self.scratch = record;
        }
        match write {
            Write::One(keyspace, _) => self.follow(keyspace.space.scope(), seqno, place.start),
            Write::Batch(batch) | Write::Transaction(batch, _) => {
                batch.scopes().for_each(|(scope, _, _)| self.follow(scope, seqno, place.start));
            }
        }
        if self.conflicts.is_watching() {
            write.ops().for_each(|(space, op)| self.conflicts.note(seqno, space, &op));
        }
        if self.recent.is_some() {
            self.note_recent(seqno, write);
        }
        Ok(place.end)
    }

    /// Notes a commit of this node for those of others. While none of theirs comes nobody needs it, and it is
    /// given up: the next ones are looked up.
    fn note_recent(&mut self, seqno: Tick, write: &Write<'_>) {
        let Some(recent) = &self.recent else { return };
        for (space, op) in write.ops() {
            recent.raise(key_hash(space, op.key), seqno);
            self.raised = self.raised.saturating_add(1);
        }
        // Who compares with it holds it.
        if self.raised > RAISED_MAX && Arc::strong_count(recent) == 1 {
            self.recent = None;
        }
    }

    /// Appends the records of commit `seqno`. Returns where they start, if in a new segment at its front, and
    /// where they end.
    #[inline]
    fn append_record(&mut self, seqno: Tick, record: &[u8]) -> Result<Range<Position>> {
        let Some(log) = &mut self.appender else { return Err(self.refusal()) };
        let before = log.end();
        let end = log.append(seqno, record)?;
        let start = match end.segment == before.segment {
            true => before,
            false => Position { segment: end.segment, offset: 0 },
        };
        self.bytes_logged += end.offset - start.offset;
        self.last = seqno;
        Ok(start..end)
    }

    /// Appends the records of an admission, which brings `moved`. If it fails, nothing of the queue has
    /// changed.
    pub(super) fn append_admitted(
        &mut self,
        seqno: Tick,
        record: &[u8],
        moved: &Moved,
    ) -> Result<Position> {
        let place = self.append_record(seqno, record)?;
        if let Moved::Many(all) = moved {
            for (scope, origin, tick) in all.iter().filter(|(scope, ..)| scope.is_replicated()) {
                let before = self.vectors.get(*scope, *origin);
                self.index.note(place.start, *scope, *origin, before, *tick);
            }
        }
        self.vectors.apply(moved, seqno);
        Ok(place.end)
    }

    /// Notes in the log what of the manifest is durable: at `place` if nothing came behind it, else at a
    /// new one. Returns its tick.
    pub(super) fn append_witness(
        &mut self,
        durable: Position,
        place: Tick,
        wall_ms: u64,
    ) -> Result<Tick> {
        let next = self.next_tick(wall_ms);
        let log = self.appender.as_mut().ok_or(Error::Closed)?;
        let is_free = self.last == place && place > log.last_seqno();
        let seqno = if is_free { place } else { next };
        let mut record = Vec::new();
        encode_manifest_record(&mut record, seqno, durable);
        log.append(seqno, &record)?;
        self.last = seqno;
        Ok(seqno)
    }

    /// Notes that commit `seqno`, which starts at `start`, is the last of this node in `scope`.
    #[inline]
    fn follow(&mut self, scope: ScopeId, seqno: Tick, start: Position) {
        if scope.is_replicated() {
            let before = self.vectors.previous(scope).unwrap_or(Tick::ZERO);
            self.index.note(start, scope, self.vectors.own(), before, seqno);
        }
        self.vectors.follow(scope, seqno);
    }

    /// The receive rule: later commits get greater ticks than `tick`.
    pub(crate) fn observe(&mut self, tick: Tick) {
        self.floor = self.floor.observe(tick);
    }

    /// What was appended of each author.
    pub(crate) fn vectors(&mut self) -> &mut Vectors {
        &mut self.vectors
    }

    /// Where in the log commits are.
    pub(crate) fn index(&mut self) -> &mut LogIndex {
        &mut self.index
    }

    /// What is in tables once every commit up to `boundary`, where a memtable was frozen, is. Earlier
    /// places are forgotten.
    pub(crate) fn vectors_at(&mut self, boundary: Tick) -> Option<&Vectors> {
        self.frozen_at = self.frozen_at.split_off(&boundary);
        self.frozen_at.get(&boundary)
    }

    /// How recent writes are, from now on.
    pub(crate) fn recent(&mut self) -> &Arc<Recent> {
        let used = self.used();
        self.raised = 0;
        self.recent.get_or_insert_with(|| Arc::new(Recent::new(used)))
    }

    /// Notes that any key may be written at `tick`, by something that is not in the log.
    pub(crate) fn note_bulk(&mut self, tick: Tick) {
        if let Some(recent) = &self.recent {
            recent.raise_all(tick);
        }
    }

    /// Notes that this node writes to `scope` at `seqno` what is not in the log. Returns what that brings.
    pub(crate) fn note_bulk_load(&mut self, scope: ScopeId, seqno: Tick) -> Moved {
        self.note_bulk(seqno);
        if !scope.is_replicated() {
            return Moved::Nothing;
        }
        self.vectors.follow(scope, seqno);
        self.index.forget(scope, self.vectors.own());
        Moved::Own(scope)
    }

    pub(crate) fn conflicts(&mut self) -> &mut Conflicts {
        &mut self.conflicts
    }

    pub(crate) fn appender(&mut self) -> Result<&mut Appender> {
        let is_read_only = self.is_read_only;
        let refusal = || if is_read_only { Error::ReadOnly } else { Error::Closed };
        self.appender.as_mut().ok_or_else(refusal)
    }

    /// Refuses commits from now on; those in the log can still be synced.
    pub(crate) fn begin_close(&mut self) {
        self.is_closing = true;
    }

    /// Takes the log away: no commit can follow.
    pub(crate) fn close(&mut self) -> Option<Appender> {
        self.appender.take()
    }

    /// Bytes appended to the log so far.
    pub(super) fn bytes_logged(&self) -> u64 {
        self.bytes_logged
    }

    /// What the log must create before a commit of about `len` bytes; none if it has room.
    #[inline]
    pub(super) fn next_segment(&self, len: usize) -> Option<NextSegment> {
        self.appender.as_ref().and_then(|log| log.next_segment(len))
    }

    /// Whether the log's next segment should be made ready.
    #[inline]
    pub(super) fn wants_spare(&self) -> bool {
        self.appender.as_ref().is_some_and(Appender::wants_spare)
    }

    /// Whether an append or a sync of the log has failed for good.
    pub(super) fn is_log_poisoned(&self) -> bool {
        self.appender.as_ref().is_some_and(|appender| appender.check().is_err())
    }

    pub(super) fn durable(&self) -> Position {
        self.appender.as_ref().map_or(Position::ZERO, Appender::durable)
    }

    pub(super) fn log_end(&self) -> Result<Position> {
        self.appender.as_ref().map(Appender::end).ok_or_else(|| self.refusal())
    }

    pub(super) fn prepare_sync(&mut self) -> Result<SyncTarget> {
        self.appender()?.prepare_sync()
    }

    pub(super) fn synced(&mut self, target: &SyncTarget) {
        if let Some(appender) = &mut self.appender {
            appender.synced(target);
        }
    }
}

impl<'a> Write<'a> {
    #[inline]
    pub(super) fn reservation(&self) -> usize {
        match self {
            Write::One(_, op) => Memtable::reservation(op) + Memtable::KEYSPACE_RESERVATION,
            Write::Batch(batch) | Write::Transaction(batch, _) => batch.reservation(),
        }
    }

    /// Whether it stores values, or only deletes.
    #[inline]
    pub(super) fn weight(&self) -> Weight {
        let stores = match self {
            Write::One(_, op) => op.stores_value(),
            Write::Batch(batch) | Write::Transaction(batch, _) => batch.stores_values(),
        };
        if stores { Weight::Puts } else { Weight::Deletes }
    }

    /// What it adds to the vectors. A database has one scope that replicates.
    #[inline]
    pub(super) fn moved(&self) -> Moved {
        let scope = match self {
            Write::One(keyspace, _) => Some(keyspace.space.scope()),
            Write::Batch(batch) | Write::Transaction(batch, _) => {
                batch.scopes().map(|(scope, _, _)| scope).find(|scope| scope.is_replicated())
            }
        };
        scope.filter(|scope| scope.is_replicated()).map_or(Moved::Nothing, Moved::Own)
    }

    /// Refuses writes to dropped keyspaces and transactions that others overtook.
    #[inline]
    pub(super) fn check(&self, queue: &Queue) -> Result<()> {
        match self {
            Write::One(keyspace, _) => queue.check_keyspace(keyspace),
            Write::Batch(batch) => {
                batch.keyspaces().iter().try_for_each(|known| queue.check_keyspace(known))
            }
            Write::Transaction(batch, reads) => {
                batch.keyspaces().iter().try_for_each(|known| queue.check_keyspace(known))?;
                queue.conflicts.check(reads)
            }
        }
    }

    /// All ops with their keyspaces.
    #[inline]
    pub(super) fn ops(&self) -> WriteOps<'_, impl Iterator<Item = (SpaceId, Op<'_>)>> {
        match self {
            Write::One(keyspace, op) => WriteOps::One(Some((keyspace.space, *op))),
            Write::Batch(batch) | Write::Transaction(batch, _) => WriteOps::Batch(batch.ops()),
        }
    }
}

/// The ops of a [`Write`].
pub(super) enum WriteOps<'a, I> {
    One(Option<(SpaceId, Op<'a>)>),
    Batch(I),
}

impl<'a, I: Iterator<Item = (SpaceId, Op<'a>)>> Iterator for WriteOps<'a, I> {
    type Item = (SpaceId, Op<'a>);

    #[inline]
    fn next(&mut self) -> Option<Self::Item> {
        match self {
            WriteOps::One(op) => op.take(),
            WriteOps::Batch(ops) => ops.next(),
        }
    }
}

impl KeyspaceState {
    /// Refuses a dropped keyspace.
    #[inline]
    pub(crate) fn check_live(&self) -> Result<()> {
        if self.is_dropped.load(Ordering::Acquire) {
            return Err(Error::KeyspaceDropped { name: self.name.clone() });
        }
        Ok(())
    }
}
