//! A change to the durable state: the payload of one manifest frame.
//!
//! ```text
//! fields back to back, tags ascending; a field that can repeat does so under the same tag
//!
//! size    field
//!    v    tag
//!    v+*  body             byte string
//!
//! tag  repeats  body
//!   2  yes      added           v order, 1 level, table meta (crate::meta)
//!   4  no       removed         varints: table ids
//!   6  no       flushed         8 tick: every commit up to it is in tables
//!   8  no       next table      v
//!  10  no       next keyspace   v
//!  12  no       last tick       8 tick: no tick up to it may be used again
//!  14  yes      keyspace        as in keyspace.rs: created or changed
//!  16  no       log end         v segment, v offset: synced, so the log never ends before it
//!  18  no       log start       v: the first segment still needed
//!  20  no       closed          v segment, v offset: the log ended there, all of it in tables
//!  22  yes      dropped stamp   v scope, 8 tick: the highest stamp of a tombstone ever dropped
//!  24  yes      first position  v scope, 16 node, 8 incarnation, v segment, v offset
//!  26  no       clock bound     8 tick: the clock was never ahead of it
//!  28  yes      incomplete      v scope, 8 tick: content was lost; the clock had come that far
//!  30  no       horizon         8 tick: overwritten versions up to it may be gone
//!  31  no       archiving       v segment, 8 tick: commits behind the tick are in segments from this
//!                               one on, which are kept for the next backup
//!  33  no       ingests         8 tick each: not in the log, so no archive holds them
//!  34  no       adopted         v scope: its keyspaces and all origins so far are forgotten; those of
//!                               this edit come in their place
//!  36  yes      origin          v number, 16 node, 8 incarnation: the next in the list of authors
//!  38  yes      vector          v scope, base::vector: received without a gap, all of it in tables
//!  40  yes      floor           v scope, base::vector: tombstones up to it may be gone
//!  42  yes      whole           v scope: it is incomplete no more
//!  44  no       group           16: the nodes that replicate with each other
//! ```
//!
//! An unknown even tag refuses to decode: the edit means more than this version understands. An
//! unknown odd tag is skipped: whoever wrote it can live without it.

use super::keyspace::{KeyspaceRecord, narrow, tick};
use crate::meta::TableMeta;
use base::codec::{Decoded, Reader, put_bytes, put_varint};
use base::{Corruption, Origin, OriginNumber, Position, ScopeId, Tick, Vector};
use std::sync::Arc;

const ADDED: u64 = 2;
const REMOVED: u64 = 4;
const FLUSHED: u64 = 6;
const NEXT_TABLE: u64 = 8;
const NEXT_KEYSPACE: u64 = 10;
const LAST_TICK: u64 = 12;
const KEYSPACE: u64 = 14;
const LOG_END: u64 = 16;
const LOG_START: u64 = 18;
const CLOSED: u64 = 20;
const DROPPED_STAMP: u64 = 22;
const FIRST_POSITION: u64 = 24;
const CLOCK_BOUND: u64 = 26;
const INCOMPLETE: u64 = 28;
const HORIZON: u64 = 30;
const ARCHIVING: u64 = 31;
const INGESTS: u64 = 33;
const ADOPTED: u64 = 34;
const ORIGIN: u64 = 36;
const VECTOR: u64 = 38;
const FLOOR: u64 = 40;
const WHOLE: u64 = 42;
const GROUP: u64 = 44;

/// A table that joins a run.
#[derive(Clone, Debug, PartialEq)]
pub struct Added {
    /// The run: runs with a greater order are newer.
    pub order: u64,
    /// The run's level; must equal that of the tables already in it.
    pub level: u8,
    /// The table.
    pub meta: Arc<TableMeta>,
}

/// A clean close: the log ended at `log_end`, and every commit in it is in tables.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Closed {
    /// The end of the log.
    pub log_end: Position,
}

/// From where on finished segments of the log are kept until a backup has taken them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Archiving {
    /// The first segment to keep.
    pub from: u64,
    /// Every commit behind this tick is in the segments from there on; backups have the others.
    pub since: Tick,
}

/// A change to the durable state. What is `None` or empty stays as it was.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Edit {
    /// Tables that join. A table both removed and added moves.
    pub added: Vec<Added>,
    /// Tables that leave, by id.
    pub removed: Vec<u64>,
    /// Every commit up to this tick is in tables.
    pub flushed: Option<Tick>,
    /// The id of the next table.
    pub next_table: Option<u64>,
    /// The number of the next keyspace.
    pub next_keyspace: Option<u32>,
    /// No tick up to this one may be used again.
    pub last_tick: Option<Tick>,
    /// Keyspaces created or changed.
    pub keyspaces: Vec<KeyspaceRecord>,
    /// A synced position of the log: it never ends before it.
    pub log_end: Option<Position>,
    /// The first segment still needed.
    pub log_start: Option<u64>,
    /// The database was closed; the next edit takes this back.
    pub closed: Option<Closed>,
    /// The highest stamp tick of any tombstone ever dropped, per scope.
    pub dropped_stamps: Vec<(ScopeId, Tick)>,
    /// Where the log first speaks of an author, per scope.
    pub first_positions: Vec<(ScopeId, Origin, Position)>,
    /// The clock was never ahead of this.
    pub clock_bound: Option<Tick>,
    /// Scopes that have lost content, and how far the clock had come when that was noticed.
    pub incomplete: Vec<(ScopeId, Tick)>,
    /// Reads as of a tick below it may miss versions that were overwritten since.
    pub horizon: Option<Tick>,
    /// From where on segments are kept; forgets the ingests that are in backups by then.
    pub archiving: Option<Archiving>,
    /// Bulk loads, which no segment holds. Noted only while segments are kept.
    pub ingests: Vec<Tick>,
    /// The scope came from another node as a whole: its keyspaces and all origins so far give way to
    /// those of this edit.
    pub adopted: Option<ScopeId>,
    /// Authors that join the list, each with its number.
    pub origins: Vec<(OriginNumber, Origin)>,
    /// What was received without a gap, per scope. All of it is in tables once this edit counts.
    pub vectors: Vec<(ScopeId, Vector)>,
    /// Up to where tombstones may be dropped, per scope.
    pub floors: Vec<(ScopeId, Vector)>,
    /// Scopes that are incomplete no more.
    pub whole: Vec<ScopeId>,
    /// The nodes that replicate with each other.
    pub group: Option<[u8; 16]>,
}

impl Edit {
    /// Appends the edit.
    pub fn encode(&self, out: &mut Vec<u8>) {
        for added in &self.added {
            field(out, ADDED, |body| {
                put_varint(body, added.order);
                body.push(added.level);
                added.meta.encode(body);
            });
        }
        if !self.removed.is_empty() {
            field(out, REMOVED, |body| self.removed.iter().for_each(|&id| put_varint(body, id)));
        }
        tick_field(out, FLUSHED, self.flushed);
        varint_field(out, NEXT_TABLE, self.next_table);
        varint_field(out, NEXT_KEYSPACE, self.next_keyspace.map(u64::from));
        tick_field(out, LAST_TICK, self.last_tick);
        for keyspace in &self.keyspaces {
            field(out, KEYSPACE, |body| keyspace.encode(body));
        }
        position_field(out, LOG_END, self.log_end);
        varint_field(out, LOG_START, self.log_start);
        position_field(out, CLOSED, self.closed.map(|closed| closed.log_end));
        stamp_fields(out, DROPPED_STAMP, &self.dropped_stamps);
        for (scope, origin, position) in &self.first_positions {
            field(out, FIRST_POSITION, |body| {
                put_varint(body, u64::from(scope.0));
                origin.encode(body);
                put_position(body, *position);
            });
        }
        tick_field(out, CLOCK_BOUND, self.clock_bound);
        stamp_fields(out, INCOMPLETE, &self.incomplete);
        tick_field(out, HORIZON, self.horizon);
        if let Some(archiving) = self.archiving {
            field(out, ARCHIVING, |body| {
                put_varint(body, archiving.from);
                body.extend_from_slice(&archiving.since.raw().to_le_bytes());
            });
        }
        if !self.ingests.is_empty() {
            let bytes = |tick: &Tick| tick.raw().to_le_bytes();
            field(out, INGESTS, |body| body.extend(self.ingests.iter().flat_map(bytes)));
        }
        self.encode_replication(out);
    }

    fn encode_replication(&self, out: &mut Vec<u8>) {
        varint_field(out, ADOPTED, self.adopted.map(|scope| u64::from(scope.0)));
        for (number, origin) in &self.origins {
            field(out, ORIGIN, |body| {
                put_varint(body, u64::from(number.0));
                origin.encode(body);
            });
        }
        for (tag, vectors) in [(VECTOR, &self.vectors), (FLOOR, &self.floors)] {
            for (scope, vector) in vectors {
                field(out, tag, |body| {
                    put_varint(body, u64::from(scope.0));
                    vector.encode(body);
                });
            }
        }
        for scope in &self.whole {
            varint_field(out, WHOLE, Some(u64::from(scope.0)));
        }
        if let Some(group) = &self.group {
            field(out, GROUP, |body| body.extend_from_slice(group));
        }
    }

    /// The edit in `payload`.
    pub fn decode(payload: &[u8]) -> Decoded<Edit> {
        let mut edit = Edit::default();
        let mut reader = Reader::new(payload);
        let mut before = 0;
        while !reader.is_empty() {
            let tag = reader.varint()?;
            if tag < before || (tag == before && !repeats(tag)) {
                return Err(Corruption::OutOfOrder);
            }
            before = tag;
            let mut body = Reader::new(reader.bytes()?);
            if !edit.decode_field(tag, &mut body)? {
                continue;
            }
            if !body.is_empty() {
                return Err(Corruption::TrailingBytes);
            }
        }
        Ok(edit)
    }

    /// Takes over one field; false if the field is unknown and may be skipped.
    fn decode_field(&mut self, tag: u64, body: &mut Reader<'_>) -> Decoded<bool> {
        match tag {
            ADDED => self.added.push(decode_added(body)?),
            REMOVED => {
                while !body.is_empty() {
                    self.removed.push(body.varint()?);
                }
            }
            FLUSHED => self.flushed = Some(tick(body)?),
            NEXT_TABLE => self.next_table = Some(body.varint()?),
            NEXT_KEYSPACE => self.next_keyspace = Some(narrow(body.varint()?)?),
            LAST_TICK => self.last_tick = Some(tick(body)?),
            KEYSPACE => self.keyspaces.push(KeyspaceRecord::decode(body)?),
            LOG_END => self.log_end = Some(decode_position(body)?),
            LOG_START => self.log_start = Some(body.varint()?),
            CLOSED => self.closed = Some(Closed { log_end: decode_position(body)? }),
            DROPPED_STAMP => self.dropped_stamps.push(decode_stamp(body)?),
            INCOMPLETE => self.incomplete.push(decode_stamp(body)?),
            FIRST_POSITION => {
                let (scope, origin) = (decode_scope(body)?, Origin::decode(body)?);
                self.first_positions.push((scope, origin, decode_position(body)?));
            }
            CLOCK_BOUND => self.clock_bound = Some(tick(body)?),
            HORIZON => self.horizon = Some(tick(body)?),
            ARCHIVING => {
                self.archiving = Some(Archiving { from: body.varint()?, since: tick(body)? });
            }
            INGESTS => {
                while !body.is_empty() {
                    self.ingests.push(tick(body)?);
                }
            }
            tag => return self.decode_replication_field(tag, body),
        }
        Ok(true)
    }

    fn decode_replication_field(&mut self, tag: u64, body: &mut Reader<'_>) -> Decoded<bool> {
        match tag {
            ADOPTED => self.adopted = Some(decode_scope(body)?),
            ORIGIN => self.origins.push((OriginNumber::decode(body)?, Origin::decode(body)?)),
            VECTOR => self.vectors.push((decode_scope(body)?, Vector::decode(body)?)),
            FLOOR => self.floors.push((decode_scope(body)?, Vector::decode(body)?)),
            WHOLE => self.whole.push(decode_scope(body)?),
            GROUP => self.group = Some(body.array()?),
            tag if tag % 2 == 1 => return Ok(false),
            _ => return Err(Corruption::UnknownKind),
        }
        Ok(true)
    }
}

fn repeats(tag: u64) -> bool {
    let plain = [ADDED, KEYSPACE, DROPPED_STAMP, FIRST_POSITION, INCOMPLETE];
    plain.contains(&tag) || [ORIGIN, VECTOR, FLOOR, WHOLE].contains(&tag)
}

fn decode_scope(body: &mut Reader<'_>) -> Decoded<ScopeId> {
    narrow(body.varint()?).map(ScopeId)
}

fn field(out: &mut Vec<u8>, tag: u64, write: impl FnOnce(&mut Vec<u8>)) {
    let mut body = Vec::new();
    write(&mut body);
    put_varint(out, tag);
    put_bytes(out, &body);
}

fn tick_field(out: &mut Vec<u8>, tag: u64, tick: Option<Tick>) {
    if let Some(tick) = tick {
        field(out, tag, |body| body.extend_from_slice(&tick.raw().to_le_bytes()));
    }
}

fn stamp_fields(out: &mut Vec<u8>, tag: u64, stamps: &[(ScopeId, Tick)]) {
    for (scope, tick) in stamps {
        field(out, tag, |body| {
            put_varint(body, u64::from(scope.0));
            body.extend_from_slice(&tick.raw().to_le_bytes());
        });
    }
}

fn decode_stamp(body: &mut Reader<'_>) -> Decoded<(ScopeId, Tick)> {
    Ok((decode_scope(body)?, tick(body)?))
}

fn varint_field(out: &mut Vec<u8>, tag: u64, value: Option<u64>) {
    if let Some(value) = value {
        field(out, tag, |body| put_varint(body, value));
    }
}

fn position_field(out: &mut Vec<u8>, tag: u64, position: Option<Position>) {
    if let Some(position) = position {
        field(out, tag, |body| put_position(body, position));
    }
}

fn put_position(out: &mut Vec<u8>, position: Position) {
    put_varint(out, position.segment);
    put_varint(out, position.offset);
}

fn decode_position(body: &mut Reader<'_>) -> Decoded<Position> {
    Ok(Position { segment: body.varint()?, offset: body.varint()? })
}

fn decode_added(body: &mut Reader<'_>) -> Decoded<Added> {
    let order = body.varint()?;
    let level = body.u8()?;
    Ok(Added { order, level, meta: Arc::new(TableMeta::decode(body)?) })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::manifest::samples::{added, full_edit};
    use proptest::prelude::*;

    fn encoded(edit: &Edit) -> Vec<u8> {
        let mut out = Vec::new();
        edit.encode(&mut out);
        out
    }

    #[test]
    fn an_edit_comes_back() {
        for edit in [Edit::default(), full_edit()] {
            assert_eq!(Edit::decode(&encoded(&edit)), Ok(edit));
        }
    }

    #[test]
    fn an_unknown_odd_field_is_skipped_and_an_even_one_refused() {
        let mut bytes = encoded(&full_edit());
        bytes.extend_from_slice(&[97, 2, 9, 9]);
        assert_eq!(Edit::decode(&bytes), Ok(full_edit()));
        bytes.extend_from_slice(&[98, 0]);
        assert_eq!(Edit::decode(&bytes), Err(Corruption::UnknownKind));
    }

    #[test]
    fn fields_out_of_order_or_twice_or_too_long_are_refused() {
        assert_eq!(Edit::decode(&[8, 1, 5, 8, 1, 5]), Err(Corruption::OutOfOrder));
        assert_eq!(Edit::decode(&[10, 1, 5, 8, 1, 5]), Err(Corruption::OutOfOrder));
        assert_eq!(Edit::decode(&[8, 2, 5, 5]), Err(Corruption::TrailingBytes));
        assert_eq!(Edit::decode(&[8, 0]), Err(Corruption::Truncated));
    }

    proptest! {
        #[test]
        fn numbers_come_back(
            numbers: [u64; 6], removed: Vec<u64>, scope: u32, next_keyspace: Option<u32>,
        ) {
            let tick = |raw: u64| Tick::from_raw(raw >> 8).unwrap();
            let position = Position { segment: numbers[0], offset: numbers[1] };
            let edit = Edit {
                added: vec![added(numbers[2], 3, numbers[3], "a", "b")],
                removed,
                flushed: Some(tick(numbers[4])),
                next_table: Some(numbers[5]),
                next_keyspace,
                log_end: Some(position),
                closed: Some(Closed { log_end: position }),
                dropped_stamps: vec![(ScopeId(scope), tick(numbers[5]))],
                ..Edit::default()
            };
            prop_assert_eq!(Edit::decode(&encoded(&edit)), Ok(edit));
        }

        #[test]
        fn hostile_bytes_never_panic(bytes: Vec<u8>) {
            let _ = Edit::decode(&bytes);
        }

        #[test]
        fn a_damaged_edit_never_panics(at: prop::sample::Index, to: u8) {
            let mut bytes = encoded(&full_edit());
            let at = at.index(bytes.len());
            bytes[at] = to;
            let _ = Edit::decode(&bytes).map(|edit| super::super::State::default().apply(&edit));
        }
    }
}
