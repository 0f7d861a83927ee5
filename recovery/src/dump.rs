//! Renders single files as lines, damaged ones up to where they stop making sense.
//!
//! The file may stand anywhere under any name: whose it is and which, it says itself. The last line
//! says whether all of it was read, or at which byte and why not.

use crate::lone::LoneFile;
use base::batch::{Op, OpKind};
use base::fs::ReadFile;
use base::record::Records;
use base::remote::{self, RemoteBatch, RemoteOp};
use base::{Corruption, Error, Result, ScopeId, SpaceId, Stamp, Trailer};
use sstable::manifest::{Edit, ManifestReader};
use sstable::{Cache, ReadMode, Table, TableMeta};
use std::fmt;
use std::io::{self, Write};
use std::path::Path;
use std::sync::Arc;

/// Bytes of a manifest that are read at most.
const MANIFEST_LEN_MAX: u64 = 1 << 30;
/// Bytes of blocks kept while a table is read: each block is read once.
const CACHE_BYTES: usize = 1 << 20;

/// Whether a file made sense to its end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// All of it was read.
    Whole,
    /// Reading stopped at this byte; the last line says why.
    Stopped(u64),
}

/// Renders a segment of the log: one line per commit, one per op.
pub fn wal(file: Arc<dyn ReadFile>, out: &mut dyn Write) -> Result<Outcome> {
    let mut lines = Lines(out);
    let mut front = [0; 48];
    if file.read_exact_at(&mut front, 0).is_err() {
        return lines.stop(0, &Corruption::Truncated);
    }
    let (database, number) = whose(&front);
    let mut reader = match wal::read_segment(&LoneFile(file), number, database, None) {
        Ok(reader) => reader,
        Err(error) => return lines.stop_at(&error),
    };
    let header = *reader.header();
    lines.line(format_args!(
        "segment {number} of database {}, node {}, incarnation {}, generation {}, after {}",
        Hex(&database),
        header.owner.origin.node,
        header.owner.origin.incarnation,
        header.owner.generation,
        header.previous.map_or("nothing".to_owned(), |p| format!("{}:{}", p.number, p.end)),
    ))?;
    loop {
        match reader.next() {
            Ok(Some(commit)) => {
                let (end, len) = (commit.end.offset, commit.payload.len());
                lines.line(format_args!("commit {} ends at {end}, {len} bytes", commit.seqno))?;
                lines.records(commit.payload)?;
            }
            Ok(None) => break,
            Err(error) => return lines.stop_at(&error),
        }
    }
    let ending = reader.ending();
    match ending.found {
        Some(found) => lines.stop(ending.end.end, &found),
        None => lines.end(ending.end.end),
    }
}

/// Renders a manifest: one line per edit, one per field of it.
pub fn manifest(file: Arc<dyn ReadFile>, out: &mut dyn Write) -> Result<Outcome> {
    let mut lines = Lines(out);
    let read = |e| Error::io("read", "the manifest", e);
    let len = file.len().map_err(read)?.min(MANIFEST_LEN_MAX);
    let mut bytes = vec![0; usize::try_from(len).unwrap_or(0)];
    file.read_exact_at(&mut bytes, 0).map_err(read)?;
    let mut reader = match ManifestReader::new(Path::new(""), &bytes) {
        Ok(reader) => reader,
        Err(error) => return lines.stop_at(&error),
    };
    let header = *reader.header();
    let (number, database, generation) = (header.number, Hex(&header.database), header.generation);
    lines
        .line(format_args!("manifest {number} of database {database}, generation {generation}"))?;
    loop {
        let offset = reader.offset();
        let entry = match reader.next_entry() {
            Ok(Some(entry)) => entry,
            Ok(None) => return lines.end(offset),
            Err(found) => return lines.stop(offset, &found),
        };
        match entry.edit() {
            Ok(Some(edit)) => {
                lines.line(format_args!("edit at {offset}, promises {}", entry.promise))?;
                lines.edit(&edit)?;
            }
            Ok(None) => lines.line(format_args!("seal at {offset}, promises {}", entry.promise))?,
            Err(found) => return lines.stop(offset, &found),
        }
    }
}

/// Renders a table: what it is, then one line per entry.
pub fn table(file: Arc<dyn ReadFile>, out: &mut dyn Write) -> Result<Outcome> {
    let mut lines = Lines(out);
    let Some(id) = table_id(file.as_ref()) else { return lines.stop(0, &Corruption::Truncated) };
    let fs = LoneFile(file);
    let (meta, owner) = match sstable::table::inspect(&fs, id) {
        Ok(found) => found,
        Err(error) => return lines.stop_at(&error),
    };
    let (database, generation) = (Hex(&owner.database), owner.generation);
    lines.line(format_args!("table {id} of database {database}, generation {generation}"))?;
    lines.meta(&meta)?;
    let opened = Table::open(&fs, Arc::new(meta), owner.database, Cache::new(CACHE_BYTES));
    let table = match opened {
        Ok(table) => Arc::new(table),
        Err(error) => return lines.stop_at(&error),
    };
    for range in table.range_deletes() {
        let (start, end) = (range.start.escape_ascii(), range.end.escape_ascii());
        let (space, seqno) = (Space(range.space), range.seqno);
        lines.line(format_args!("  {space} {seqno} delete range {start} .. {end}"))?;
    }
    for (space, usage) in table.spaces() {
        let (entries, stored) = (usage.entries, usage.stored_bytes);
        let space_name = Space(space);
        lines.line(format_args!("keyspace {space_name}: {entries} entries in {stored} bytes"))?;
        if let Some(stopped) = lines.entries(&table, space)? {
            return Ok(stopped);
        }
    }
    lines.end(table.meta().len)
}

/// Database and number, as the header of a segment claims.
fn whose(front: &[u8; 48]) -> ([u8; 16], u64) {
    let rest = front.get(16..).unwrap_or_default();
    let (database, rest) = rest.split_first_chunk().map_or(([0; 16], rest), |(d, r)| (*d, r));
    (database, rest.first_chunk().map_or(0, |number| u64::from_le_bytes(*number)))
}

/// The number that the footer of a table claims.
fn table_id(file: &dyn ReadFile) -> Option<u64> {
    const FOOTER_LEN: u64 = 240;
    const ID_AT: u64 = 8;
    let footer_at = file.len().ok()?.checked_sub(FOOTER_LEN)?;
    let mut id = [0; 8];
    file.read_exact_at(&mut id, footer_at + ID_AT).ok()?;
    Some(u64::from_le_bytes(id))
}

/// Where the lines go.
struct Lines<'a>(&'a mut dyn Write);

impl Lines<'_> {
    fn line(&mut self, line: fmt::Arguments<'_>) -> Result<()> {
        let written = self.0.write_fmt(line).and_then(|()| self.0.write_all(b"\n"));
        written.map_err(|e: io::Error| Error::Io {
            action: "write to",
            path: "standard output".into(),
            source: e,
        })
    }

    fn end(&mut self, offset: u64) -> Result<Outcome> {
        self.line(format_args!("ends at byte {offset}"))?;
        Ok(Outcome::Whole)
    }

    fn stop(&mut self, offset: u64, found: &dyn fmt::Display) -> Result<Outcome> {
        self.line(format_args!("stops at byte {offset}: {found}"))?;
        Ok(Outcome::Stopped(offset))
    }

    /// Stops for `error`, whose path is not the file's real one.
    fn stop_at(&mut self, error: &Error) -> Result<Outcome> {
        match error {
            Error::Corrupt { offset, found, .. } => self.stop(*offset, found),
            Error::VersionInvalid { offset, rule, .. }
            | Error::ReplayInvariant { offset, rule, .. } => self.stop(*offset, rule),
            Error::Io { source, .. } => self.stop(0, source),
            error => self.stop(0, &error.code()),
        }
    }

    fn records(&mut self, payload: &[u8]) -> Result<()> {
        for record in Records::new(payload) {
            let Ok(record) = record else { return self.line(format_args!("  (not records)")) };
            if let Some(durable) = record.manifest {
                self.line(format_args!("  the manifest was durable up to {durable}"))?;
            }
            for op in record.ops.clone() {
                self.op(record.scope, &op, "")?;
            }
            if let Some(remote) = &record.remote {
                self.remote(record.scope, remote)?;
            }
        }
        Ok(())
    }

    fn remote(&mut self, scope: ScopeId, remote: &RemoteBatch<'_>) -> Result<()> {
        let (author, number) = (remote.shipment.origin, remote.number.0);
        let (node, incarnation) = (author.node, author.incarnation);
        let (before, last) = (remote.before, remote.shipment.last());
        self.line(format_args!(
            "  shipment of {node} {incarnation}, number {number}, from {before} to {last}"
        ))?;
        for RemoteOp { tick, outcome, op } in remote.ops() {
            let outcome = match outcome {
                remote::Outcome::Lost => "lost",
                remote::Outcome::Won => "won",
                remote::Outcome::Late => "late",
            };
            self.op(scope, &op, &format!("at {tick}, {outcome}: "))?;
        }
        Ok(())
    }

    fn op(&mut self, scope: ScopeId, op: &Op<'_>, note: &str) -> Result<()> {
        let (space, key) = (Space(SpaceId::new(scope, op.keyspace)), op.key.escape_ascii());
        match op.kind {
            OpKind::Put(value) => {
                let value = value.escape_ascii();
                self.line(format_args!("  {note}{space} put {key} = {value}"))
            }
            OpKind::Delete => self.line(format_args!("  {note}{space} delete {key}")),
            OpKind::PutExpiring { expires_at_ms, value } => {
                let value = value.escape_ascii();
                let until = expires_at_ms;
                self.line(format_args!("  {note}{space} put {key} until {until} = {value}"))
            }
            OpKind::RangeDelete { end } => {
                let end = end.escape_ascii();
                self.line(format_args!("  {note}{space} delete range {key} .. {end}"))
            }
            OpKind::Erase { victim: Stamp { tick, origin } } => {
                let (node, life) = (origin.node, origin.incarnation);
                self.line(format_args!("  {note}{space} erase {key} of {node}/{life} at {tick}"))
            }
        }
    }

    fn edit(&mut self, edit: &Edit) -> Result<()> {
        for added in &edit.added {
            self.line(format_args!("  add to run {} of level {}", added.order, added.level))?;
            self.meta(&added.meta)?;
        }
        for id in &edit.removed {
            self.line(format_args!("  remove table {id}"))?;
        }
        for keyspace in &edit.keyspaces {
            let (space, name) = (Space(keyspace.space()), keyspace.name.escape_debug());
            let dropped = if keyspace.is_dropped() { ", dropped" } else { "" };
            self.line(format_args!("  keyspace {space} {name}{dropped}"))?;
        }
        let numbers = [
            ("flushed", edit.flushed.map(|tick| tick.to_string())),
            ("next table", edit.next_table.map(|number| number.to_string())),
            ("next keyspace", edit.next_keyspace.map(|number| number.to_string())),
            ("last tick", edit.last_tick.map(|tick| tick.to_string())),
            ("log end", edit.log_end.map(|position| position.to_string())),
            ("log start", edit.log_start.map(|number| number.to_string())),
            ("closed at", edit.closed.map(|closed| closed.log_end.to_string())),
            ("clock bound", edit.clock_bound.map(|tick| tick.to_string())),
            ("horizon", edit.horizon.map(|tick| tick.to_string())),
        ];
        for (name, number) in numbers {
            if let Some(number) = number {
                self.line(format_args!("  {name} {number}"))?;
            }
        }
        if let Some(archiving) = edit.archiving {
            let (from, since) = (archiving.from, archiving.since);
            self.line(format_args!("  segments from {from} on are kept, commits after {since}"))?;
        }
        for ingest in &edit.ingests {
            self.line(format_args!("  ingest {ingest} is not in the log"))?;
        }
        for (scope, tick) in &edit.dropped_stamps {
            self.line(format_args!("  scope {} dropped stamps up to {tick}", scope.0))?;
        }
        self.replication(edit)?;
        for (scope, tick) in &edit.incomplete {
            self.line(format_args!("  scope {} is incomplete since {tick}", scope.0))?;
        }
        for (scope, origin, position) in &edit.first_positions {
            let (scope, node) = (scope.0, origin.node);
            self.line(format_args!("  scope {scope} has {node} from {position} on"))?;
        }
        Ok(())
    }

    fn replication(&mut self, edit: &Edit) -> Result<()> {
        if let Some(scope) = edit.adopted {
            self.line(format_args!("  scope {} was adopted", scope.0))?;
        }
        for (number, origin) in &edit.origins {
            let (node, life) = (origin.node, origin.incarnation);
            self.line(format_args!("  author {} is {node}/{life}", number.0))?;
        }
        for (name, vectors) in [("vector", &edit.vectors), ("floor", &edit.floors)] {
            for (scope, vector) in vectors {
                self.line(format_args!("  scope {} {name} of {} authors", scope.0, vector.len()))?;
                for (origin, tick) in vector.iter() {
                    let (node, life) = (origin.node, origin.incarnation);
                    self.line(format_args!("    {node}/{life} {tick}"))?;
                }
            }
        }
        for scope in &edit.whole {
            self.line(format_args!("  scope {} is whole", scope.0))?;
        }
        match &edit.group {
            Some(group) => self.line(format_args!("  group {}", Hex(group))),
            None => Ok(()),
        }
    }

    fn meta(&mut self, meta: &TableMeta) -> Result<()> {
        self.line(format_args!(
            "  table {}: {} bytes, {} entries, {} tombstones, {} range deletes, {} {} .. {} {}, \
             seqno {} .. {}",
            meta.id,
            meta.len,
            meta.entries,
            meta.tombstones,
            meta.range_deletes,
            Space(meta.smallest.space),
            meta.smallest.key.escape_ascii(),
            Space(meta.largest.space),
            meta.largest.key.escape_ascii(),
            meta.seqno_min,
            meta.seqno_max,
        ))
    }

    /// The entries of `space`; what is returned says that reading stopped.
    fn entries(&mut self, table: &Arc<Table>, space: SpaceId) -> Result<Option<Outcome>> {
        let mut cursor = table.cursor(space, ReadMode::Bypass);
        let mut moved = cursor.seek(&[], Trailer::MAX);
        loop {
            if let Err(error) = moved {
                return self.stop_at(&error).map(Some);
            }
            if !cursor.is_valid() {
                return Ok(None);
            }
            let (key, value) = (cursor.key().escape_ascii(), cursor.value().escape_ascii());
            let (seqno, kind) = (cursor.trailer().seqno(), Kind(cursor.trailer()));
            self.line(format_args!("  {seqno} {kind} {key} = {value}"))?;
            moved = cursor.advance();
        }
    }
}

/// Scope and keyspace as two numbers.
struct Space(SpaceId);

impl fmt::Display for Space {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.0.scope().0, self.0.keyspace().0)
    }
}

/// The kind of an entry.
struct Kind(Trailer);

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0.kind() {
            Some(kind) => write!(f, "{kind:?}"),
            None => f.write_str("unknown"),
        }
    }
}

/// Bytes in hex.
struct Hex<'a>(&'a [u8]);

impl fmt::Display for Hex<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}
