//! The log as a peer gets it: shipments of durable commits, each author's in order.
//!
//! Own commits are put together to shipments as they are read; those of others go on as they came.

use super::log_index::Start;
use crate::parts::Parts;
use base::error::FileKind;
use base::record::{Record, Records};
use base::shipment::ShipmentWriter;
use base::{
    Corruption, Error, KeyspaceId, Origin, Position, Result, ScopeId, SpaceId, Tick, Vector,
};
use std::collections::VecDeque;
use std::sync::Arc;
use wal::TailReader;

/// Reads shipments from the log. While it lives, the segments it has not passed are kept.
pub struct Tail {
    parts: Arc<Parts>,
    scope: ScopeId,
    /// The author of what this node wrote when this began: with another life it ends.
    own: Origin,
    reader: TailReader,
    pinned: u64,
    /// Own commits that are not handed out yet.
    writer: Option<(Tick, ShipmentWriter)>,
    /// Shipments that are ready.
    ready: VecDeque<Outbound>,
}

/// What a step through the log gave.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Step {
    /// A commit.
    Read,
    /// Nothing more is durable.
    CaughtUp,
}

impl Tail {
    /// What is behind `after`.
    pub(super) fn after(parts: &Arc<Parts>, scope: ScopeId, after: &Vector) -> Result<Tail> {
        parts.refuse_if_closed()?;
        super::raise_bound(parts)?;
        if !scope.is_replicated() {
            return Err(Error::invalid("scope 0 is each node's own; it has no tail"));
        }
        let (own, from) = parts.commits.with_queue(|queue| {
            let now = queue.vectors().of(scope);
            let from = match queue.index().start(scope, after, &now) {
                Start::At(position) => position,
                Start::Nowhere => queue.appender()?.end(),
                Start::Gone(oldest) => return Err(gone(after, oldest)),
            };
            parts.pins.pin(from.segment);
            Ok((queue.vectors().own(), from))
        })?;
        parts.commits.begin_tail();
        let reader = TailReader::new(parts.fs.clone(), parts.identity().database, from);
        let (writer, ready) = (None, VecDeque::new());
        let (parts, pinned) = (parts.clone(), from.segment);
        Ok(Tail { parts, scope, own, reader, pinned, writer, ready })
    }

    /// The next shipment of durable commits that `known` does not cover, of about `len_max` bytes (one
    /// commit may be longer), or `None` if there is none now. Asks for a sync if commits wait only for
    /// that; ask again when the bell has rung.
    ///
    /// # Errors
    /// `HistoryGone` if what follows `known` is here and never was in the log, because a delta or tables
    /// brought it.
    pub fn next(&mut self, known: &Vector, len_max: usize) -> Result<Option<Outbound>> {
        self.parts.refuse_if_closed()?;
        if let Some(found) = self.read(known, len_max)? {
            return Ok(Some(found));
        }
        if !self.parts.commits.has_unsynced() {
            return self.refuse_if_gone(known).map(|()| None);
        }
        self.parts.request_sync()?;
        match self.read(known, len_max)? {
            Some(found) => Ok(Some(found)),
            None => self.refuse_if_gone(known).map(|()| None),
        }
    }

    /// Refuses if something behind `known` came past the log.
    fn refuse_if_gone(&self, known: &Vector) -> Result<()> {
        self.parts.commits.with_queue(|queue| {
            let now = queue.vectors().of(self.scope);
            match queue.index().start(self.scope, known, &now) {
                Start::At(_) | Start::Nowhere => Ok(()),
                Start::Gone(oldest) => Err(gone(known, oldest)),
            }
        })
    }

    fn read(&mut self, known: &Vector, len_max: usize) -> Result<Option<Outbound>> {
        if !self.ready.is_empty() {
            return Ok(self.ready.pop_front());
        }
        let Some(durable) = self.look(known)? else { return Ok(None) };
        while self.ready.is_empty() {
            if self.writer.as_ref().is_some_and(|(_, writer)| writer.len() >= len_max) {
                self.finish_writer();
                break;
            }
            if self.step(known, durable)? == Step::CaughtUp {
                self.finish_writer();
                break;
            }
        }
        Ok(self.ready.pop_front())
    }

    /// Up to where the log is durable; none if all of it is known, and then it is passed unread.
    fn look(&mut self, known: &Vector) -> Result<Option<Position>> {
        let (durable, is_known) = self.parts.commits.with_queue(|queue| {
            let durable = queue.appender()?.durable();
            Ok::<_, Error>((durable, known.covers_all(&queue.vectors().of(self.scope))))
        })?;
        if !is_known || self.writer.is_some() {
            return Ok(Some(durable));
        }
        self.reader.skip_to(durable);
        self.follow();
        Ok(None)
    }

    fn finish_writer(&mut self) {
        let Tail { parts, scope, own, writer, ready, .. } = self;
        Going { parts, scope: *scope, own: *own, writer, ready }.finish();
    }

    /// Takes the next commit of the log in.
    fn step(&mut self, known: &Vector, durable: Position) -> Result<Step> {
        let Tail { parts, scope, own, reader, writer, ready, .. } = self;
        let Some(commit) = reader.next(durable)? else { return Ok(Step::CaughtUp) };
        // The author changes before any commit of the new one is appended.
        if parts.identity().origin() != *own {
            return Err(gone(known, Tick::ZERO));
        }
        let mut going = Going { parts, scope: *scope, own: *own, writer, ready };
        // The answer to late puts goes before them: who has it finds nothing late.
        let mut answered = None;
        for record in Records::new(commit.payload) {
            let record = record.map_err(broken)?;
            if record.scope != *scope || record.manifest.is_some() {
                continue;
            }
            let next = match record.remote {
                Some(_) => answered.replace(record),
                None => Some(record),
            };
            next.map_or(Ok(()), |next| going.take(&next, known))?;
        }
        answered.map_or(Ok(()), |answered| going.take(&answered, known))?;
        self.follow();
        Ok(Step::Read)
    }

    /// Lets go of the segments that were passed.
    fn follow(&mut self) {
        let segment = self.reader.position().segment;
        if segment > self.pinned {
            self.parts.pins.pin(segment);
            self.parts.pins.unpin(self.pinned);
            self.pinned = segment;
        }
    }
}

/// A shipment on its way out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Outbound {
    /// The author.
    pub origin: Origin,
    /// The tick of its first commit.
    pub first: Tick,
    /// The tick of its last commit: what a vector must cover for all of it to be known.
    pub last: Tick,
    /// Its bytes, see [`base::shipment`].
    pub bytes: Vec<u8>,
}

/// What is on its way out of a tail.
struct Going<'t> {
    parts: &'t Parts,
    scope: ScopeId,
    own: Origin,
    writer: &'t mut Option<(Tick, ShipmentWriter)>,
    ready: &'t mut VecDeque<Outbound>,
}

impl Going<'_> {
    /// Adds a record, unless it is known.
    fn take(&mut self, record: &Record<'_>, known: &Vector) -> Result<()> {
        let Some(remote) = &record.remote else {
            return if known.covers(self.own, record.seqno) { Ok(()) } else { self.add(record) };
        };
        let shipment = &remote.shipment;
        if !known.covers(shipment.origin, shipment.last()) {
            self.finish();
            let first = shipment.commits.first().map_or(Tick::ZERO, |commit| commit.tick);
            let (origin, last) = (shipment.origin, shipment.last());
            self.ready.push_back(Outbound { origin, first, last, bytes: remote.bytes.to_vec() });
        }
        Ok(())
    }

    /// Adds a commit of this node.
    fn add(&mut self, record: &Record<'_>) -> Result<()> {
        let goes_on = |writer: &ShipmentWriter| {
            // Else what is between was not new to the peer; or there are many ops.
            Some(writer.last()) == record.previous && writer.has_room(record.op_count)
        };
        if self.writer.as_ref().is_some_and(|(_, writer)| !goes_on(writer)) {
            self.finish();
        }
        let (parts, scope, own) = (self.parts, self.scope, self.own);
        let begin = || (record.seqno, ShipmentWriter::new(scope, own, record.previous));
        let (_, writer) = self.writer.get_or_insert_with(begin);
        let name_of = |number: KeyspaceId| parts.catalog.name_of(SpaceId::new(scope, number));
        writer.push(record.seqno, record.op_count, &record.ops, name_of).map_err(broken)
    }

    /// What was put together so far is a shipment.
    fn finish(&mut self) {
        let writer = self.writer.take().filter(|(_, writer)| !writer.is_empty());
        self.ready.extend(writer.map(|(first, writer)| {
            let (origin, last) = (writer.origin(), writer.last());
            Outbound { origin, first, last, bytes: writer.finish() }
        }));
    }
}

fn gone(asked: &Vector, oldest: Tick) -> Error {
    Error::HistoryGone { asked: asked.latest().raw(), oldest: oldest.raw() }
}

fn broken(found: Corruption) -> Error {
    Error::corrupt(FileKind::Log, base::dir::WAL_DIR, 0, found)
}

impl Drop for Tail {
    fn drop(&mut self) {
        self.parts.commits.end_tail();
        self.parts.pins.unpin(self.pinned);
    }
}

impl std::fmt::Debug for Tail {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Tail {{ scope: {}, position: {} }}", self.scope.0, self.reader.position())
    }
}
