//! All tables as one run, when it is not known any more which of them count and in what order.
//!
//! Every version of every key and every range delete is kept: the newest version of a key is the one
//! that a reader sees, whichever table it comes from. A version that stands in several tables, because
//! a merge had copied it, is written once.

use crate::plan::FlushTarget;
use base::{Origin, Result, SpaceId, Trailer};
use sstable::manifest::LAST_LEVEL;
use sstable::{
    Compression, RangeDelete, ReadMode, Table, TableCursor, TableMeta, TableOwner, TableWriter,
    WriterOptions,
};
use std::cmp::Reverse;
use std::collections::{BTreeSet, BinaryHeap};
use std::sync::Arc;

/// Bytes of a table that a merge writes; the versions of a key stay together.
const TABLE_BYTES: u64 = 64 << 20;

/// The keyspaces that `tables` have something of.
pub(super) fn spaces_of(tables: &[Arc<Table>]) -> BTreeSet<SpaceId> {
    let entries = tables.iter().flat_map(|table| table.spaces().map(|(space, _)| space));
    let ranges = tables.iter().flat_map(|table| table.range_deletes().iter().map(|it| it.space));
    entries.chain(ranges).collect()
}

/// Writes all that `tables` hold as one run.
pub(super) fn merge(tables: &[Arc<Table>], target: &FlushTarget) -> Result<Vec<TableMeta>> {
    let mut writer = Writer::new(target, 0, TABLE_BYTES);
    let order =
        |range: &RangeDelete| (range.space, range.start.clone(), range.end.clone(), range.seqno);
    let mut ranges: Vec<RangeDelete> =
        tables.iter().flat_map(|table| table.range_deletes().iter().cloned()).collect();
    ranges.sort_by_cached_key(order);
    ranges.dedup();
    ranges.into_iter().for_each(|range| writer.add_range(range));
    for space in spaces_of(tables) {
        merge_space(tables, space, &mut writer)?;
    }
    writer.finish()
}

/// What a cursor shows, in the order of tables; the number of the cursor comes last.
type Shown = (Vec<u8>, Reverse<Trailer>, usize);

fn merge_space(tables: &[Arc<Table>], space: SpaceId, writer: &mut Writer<'_>) -> Result<()> {
    let mut cursors: Vec<TableCursor> =
        tables.iter().map(|table| table.cursor(space, ReadMode::Bypass)).collect();
    let mut line: BinaryHeap<Reverse<Shown>> = BinaryHeap::new();
    for (number, cursor) in cursors.iter_mut().enumerate() {
        cursor.seek_first()?;
        if cursor.is_valid() {
            line.push(Reverse((cursor.key().to_vec(), Reverse(cursor.trailer()), number)));
        }
    }
    let mut last = (Vec::new(), None);
    while let Some(Reverse((key, Reverse(trailer), number))) = line.pop() {
        let Some(cursor) = cursors.get_mut(number) else { break };
        if last.1 != Some(trailer.seqno()) || last.0 != key {
            writer.add(space, &key, trailer, cursor.value())?;
            last = (key, Some(trailer.seqno()));
        }
        cursor.advance()?;
        if cursor.is_valid() {
            line.push(Reverse((cursor.key().to_vec(), Reverse(cursor.trailer()), number)));
        }
    }
    Ok(())
}

/// Writes entries in order to tables that do not overlap, each of one scope.
pub(super) struct Writer<'a> {
    target: &'a FlushTarget,
    /// Where the tables will stand.
    level: u8,
    table_bytes: u64,
    /// What "local" means in what is added.
    local: Origin,
    ranges: Vec<RangeDelete>,
    open: Option<TableWriter>,
    last: (SpaceId, Vec<u8>),
    finished: Vec<TableMeta>,
}

impl<'a> Writer<'a> {
    /// Writes tables of about `table_bytes` for `level`.
    pub(super) fn new(target: &'a FlushTarget, level: u8, table_bytes: u64) -> Writer<'a> {
        let (ranges, finished) = (Vec::new(), Vec::new());
        let last = (SpaceId::default(), Vec::new());
        let local = target.owner.origin;
        Writer { target, level, table_bytes, local, ranges, open: None, last, finished }
    }

    /// The same, for what another life has written.
    pub(super) fn of_life(self, local: Origin) -> Writer<'a> {
        Writer { local, ..self }
    }

    /// Adds a range delete. All come before the first entry.
    pub(super) fn add_range(&mut self, range: RangeDelete) {
        self.ranges.push(range);
    }

    /// Adds the next entry.
    pub(super) fn add(
        &mut self,
        space: SpaceId,
        key: &[u8],
        trailer: Trailer,
        value: &[u8],
    ) -> Result<()> {
        let (last_space, last_key) = &self.last;
        let is_other_space = *last_space != space;
        let is_other_scope = last_space.scope() != space.scope();
        let is_full = self.open.as_ref().is_some_and(|it| it.estimated_len() >= self.table_bytes);
        if is_other_scope || (is_full && (is_other_space || *last_key != key)) {
            self.end_table()?;
        }
        if self.open.is_none() {
            self.open = Some(self.start(space)?);
        } else if is_other_space {
            let options = self.options(space);
            self.open.iter_mut().for_each(|writer| writer.set_options(options));
        }
        self.last.0 = space;
        self.last.1.clear();
        self.last.1.extend_from_slice(key);
        self.open.as_mut().map_or(Ok(()), |writer| writer.add(space, key, trailer, value))
    }

    /// Ends the last table. Returns all, in order; their files are synced, their folder is not.
    pub(super) fn finish(mut self) -> Result<Vec<TableMeta>> {
        self.end_table()?;
        while let Some(range) = self.ranges.first() {
            self.open = Some(self.start(range.space)?);
            self.end_table()?;
        }
        Ok(self.finished)
    }

    fn start(&mut self, space: SpaceId) -> Result<TableWriter> {
        let FlushTarget { fs, owner, .. } = self.target;
        let id = self.target.next_table();
        let owner = TableOwner { origin: self.local, ..*owner };
        let mut writer = TableWriter::create(fs.clone(), id, owner, self.options(space))?;
        writer.set_authors(self.target.authors.as_seen_by(self.local));
        let of_scope = |range: &RangeDelete| range.space.scope() == space.scope();
        let (here, later) = std::mem::take(&mut self.ranges).into_iter().partition(of_scope);
        self.ranges = later;
        let here: Vec<RangeDelete> = here;
        here.into_iter().try_for_each(|range| writer.add_range_delete(range))?;
        Ok(writer)
    }

    fn options(&self, space: SpaceId) -> WriterOptions {
        let settings = self.target.keyspaces.get(&space.keyspace()).map(|it| it.settings);
        let is_compressed = settings.is_some_and(|it| it.compression != 0);
        let compression = match self.level == LAST_LEVEL && is_compressed {
            true => Compression::Zstd,
            false => Compression::None,
        };
        let filter_bits_per_key = settings.map_or(10, |it| u32::from(it.filter_bits));
        WriterOptions { filter_bits_per_key, compression, ..WriterOptions::default() }
    }

    fn end_table(&mut self) -> Result<()> {
        if let Some(writer) = self.open.take() {
            self.finished.push(writer.finish()?);
        }
        Ok(())
    }
}
