//! Records: what one commit says about one scope.
//!
//! The log stores a commit as its records back to back, all with the same seqno; a commit that
//! spans scopes has one record per scope. The log itself does not look inside.
//!
//! ```text
//! size    field
//!    1    kind            see RecordKind
//!    1    flags           0; bits 0..=3 reserved for optional fields, others refuse to decode
//!    8    seqno           the local tick of the commit
//!    v    scope
//!    v    gap             seqno minus the previous tick of this (scope, origin); 0 = there is none
//!    v    op count
//!    *    ops             base::batch, back to back
//! ```
//!
//! A record of kind Manifest has no scope and no ops:
//!
//! ```text
//! size    field
//!    1    kind            10
//!    1    flags           0
//!    8    seqno           the local tick of the record
//!    v    manifest        number ..
//!    v    end             .. and how many bytes of it were durable before this record was written
//! ```
//!
//! It bears witness to an edit that the log alone could not restore (a bulk load, a dropped
//! keyspace): a manifest that was put back, or cut, then contradicts the log.
//!
//! An author batch is of this node: origin is the segment's, stamp tick is the seqno. A remote batch
//! carries its own origin and stamp ticks and the author's bytes unchanged: [`crate::remote`].

use crate::batch::{Op, Ops};
use crate::codec::{Decoded, Reader, put_varint};
use crate::error::Corruption;
use crate::key::ScopeId;
use crate::position::Position;
use crate::remote::{Author, Outcome, RemoteBatch};
use crate::tick::Tick;

/// What a record is. Part of the format, do not change; 0 is reserved.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum RecordKind {
    /// Writes of this node.
    AuthorBatch = 1,
    /// Writes of another node, admitted here.
    RemoteBatch = 2,
    /// Reserved: entries received as state rather than as history.
    State = 3,
    /// Reserved: replicated erases.
    Erase = 4,
    /// Reserved: creation or drop of a keyspace as a replicated record.
    Keyspace = 5,
    /// Reserved: a change of the roster.
    Roster = 6,
    /// Reserved: what a peer has confirmed.
    Confirm = 7,
    /// Reserved: a persisted upper bound of the clock.
    ClockBound = 8,
    /// Reserved: operands to be merged.
    Merge = 9,
    /// How much of the manifest was durable.
    Manifest = 10,
}

impl RecordKind {
    const fn from_raw(raw: u8) -> Option<RecordKind> {
        Some(match raw {
            1 => RecordKind::AuthorBatch,
            2 => RecordKind::RemoteBatch,
            3 => RecordKind::State,
            4 => RecordKind::Erase,
            5 => RecordKind::Keyspace,
            6 => RecordKind::Roster,
            7 => RecordKind::Confirm,
            8 => RecordKind::ClockBound,
            9 => RecordKind::Merge,
            10 => RecordKind::Manifest,
            _ => return None,
        })
    }
}

/// A decoded record; the ops are decoded as they are iterated.
#[derive(Clone, Debug)]
pub struct Record<'a> {
    /// What it is.
    pub kind: RecordKind,
    /// The local tick of its commit.
    pub seqno: Tick,
    /// The dataset it is about.
    pub scope: ScopeId,
    /// The previous tick of this (scope, origin), if there was one.
    pub previous: Option<Tick>,
    /// How many ops it has.
    pub op_count: u64,
    /// Its ops.
    pub ops: Ops<'a>,
    /// What was durable of the manifest, its number as the segment: only in a record of that kind.
    pub manifest: Option<Position>,
    /// The shipment: only in a remote batch, which has no ops of its own.
    pub remote: Option<RemoteBatch<'a>>,
}

/// An op that took effect, and whose it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Effect<'a> {
    /// The op, with the number that its keyspace has here.
    pub op: Op<'a>,
    /// The author and its tick; none if it is of this node, at the tick of the commit.
    pub author: Option<(Author, Tick)>,
}

impl<'a> Record<'a> {
    /// The ops that took effect: those of this node, and those of a shipment that have won.
    pub fn effects(&self) -> impl Iterator<Item = Effect<'a>> {
        let own = self.ops.clone().map(|op| Effect { op, author: None });
        let remote = self.remote.iter().flat_map(|remote| {
            let won = remote.ops().filter(|op| op.outcome == Outcome::Won);
            won.map(|won| Effect { op: won.op, author: Some((remote.author(), won.tick)) })
        });
        own.chain(remote)
    }
}

/// Appends the header of an author batch; the caller appends `op_count` ops behind it.
pub fn encode_author_header(
    out: &mut Vec<u8>,
    seqno: Tick,
    scope: ScopeId,
    previous: Option<Tick>,
    op_count: u64,
) {
    out.push(RecordKind::AuthorBatch as u8);
    out.push(0);
    out.extend_from_slice(&seqno.raw().to_le_bytes());
    put_varint(out, u64::from(scope.0));
    put_varint(out, previous.map_or(0, |previous| seqno.raw().saturating_sub(previous.raw())));
    put_varint(out, op_count);
}

/// Appends a record that says what of the manifest is durable, its number as the segment.
pub fn encode_manifest_record(out: &mut Vec<u8>, seqno: Tick, durable: Position) {
    out.push(RecordKind::Manifest as u8);
    out.push(0);
    out.extend_from_slice(&seqno.raw().to_le_bytes());
    put_varint(out, durable.segment);
    put_varint(out, durable.offset);
}

/// The records of one commit, from the payload the log stored for it.
///
/// Each item is checked whole (all its ops decode) before it is returned. After an error the
/// iterator ends.
#[derive(Clone, Debug)]
pub struct Records<'a> {
    reader: Reader<'a>,
}

impl<'a> Records<'a> {
    /// The records in `payload`.
    pub fn new(payload: &'a [u8]) -> Records<'a> {
        Records { reader: Reader::new(payload) }
    }
}

impl<'a> Iterator for Records<'a> {
    type Item = Decoded<Record<'a>>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.reader.is_empty() {
            return None;
        }
        let record = decode(&mut self.reader);
        if record.is_err() {
            self.reader = Reader::new(&[]);
        }
        Some(record)
    }
}

fn decode<'a>(reader: &mut Reader<'a>) -> Decoded<Record<'a>> {
    let kind = RecordKind::from_raw(reader.u8()?).ok_or(Corruption::UnknownKind)?;
    let known = [RecordKind::AuthorBatch, RecordKind::RemoteBatch, RecordKind::Manifest];
    let is_known = known.contains(&kind);
    if !is_known || reader.u8()? != 0 {
        return Err(Corruption::UnknownKind);
    }
    let seqno = Tick::from_raw(reader.u64()?).ok_or(Corruption::OutOfRange)?;
    if kind == RecordKind::Manifest {
        let manifest = Some(Position { segment: reader.varint()?, offset: reader.varint()? });
        let nothing = nothing(kind, seqno, ScopeId::LOCAL);
        return Ok(Record { manifest, ..nothing });
    }
    let scope = u32::try_from(reader.varint()?).map_err(|_| Corruption::OutOfRange)?;
    if kind == RecordKind::RemoteBatch {
        let remote = RemoteBatch::decode(reader, ScopeId(scope))?;
        let is_past = remote.shipment.last() < seqno && remote.before < remote.shipment.last();
        let nothing = nothing(kind, seqno, ScopeId(scope));
        let record = Record { remote: Some(remote), ..nothing };
        return if is_past { Ok(record) } else { Err(Corruption::OutOfOrder) };
    }
    let gap = reader.varint()?;
    let previous = match gap {
        0 => None,
        gap => seqno
            .raw()
            .checked_sub(gap)
            .and_then(Tick::from_raw)
            .map(Some)
            .ok_or(Corruption::OutOfRange)?,
    };
    let op_count = reader.varint()?;
    let ops = Ops::take(reader, op_count)?;
    Ok(Record { previous, op_count, ops, ..nothing(kind, seqno, ScopeId(scope)) })
}

fn nothing<'a>(kind: RecordKind, seqno: Tick, scope: ScopeId) -> Record<'a> {
    let (ops, manifest, remote) = (Ops::encoded(&[]), None, None);
    Record { kind, seqno, scope, previous: None, op_count: 0, ops, manifest, remote }
}
