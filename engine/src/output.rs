//! Tables being written: where one ends and the next begins.

use crate::resolve::Stored;
use base::error::FileKind;
use base::foreign::{as_foreign, plain_value};
use base::fs::{Fs, full_path};
use base::panics::{self, Caught};
use base::{Corruption, EntryKind, Error, RelPath, Result, SpaceId, Trailer};
use sstable::manifest::KeyspaceSettings;
use sstable::{
    Authors, Compression, RangeDelete, TableMeta, TableOwner, TableWriter, WriterOptions,
};
use std::io;
use std::sync::Arc;
use std::thread::JoinHandle;

/// What all tables of a job share.
#[derive(Clone, Debug)]
pub(crate) struct OutputPlan {
    /// Who writes.
    pub(crate) owner: TableOwner,
    /// The authors that entries name by number.
    pub(crate) authors: Authors,
    /// Bytes of a block before compression.
    pub(crate) block_bytes: usize,
    /// Bytes after which a table ends at the next key.
    pub(crate) table_bytes: u64,
    /// Upper tables die young and are asked often: no compression, more filter.
    pub(crate) depth: Depth,
    /// How tables end that others follow.
    pub(crate) ending: Ending,
}

/// Who waits for the disk to have a table that another follows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Ending {
    /// Whoever writes.
    Here,
    /// A thread of its own, while the next table is written.
    Apart,
}

/// Where the tables will stand.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Depth {
    /// Above the last level.
    Upper,
    /// On the last level.
    Last,
}

/// What an output asks of those around it.
pub(crate) trait OutputHost: Send + Sync {
    /// A number for a new table.
    fn next_table(&self) -> u64;
    /// The table of that number will not be handed over.
    fn discard(&self, table: u64);
    /// How the keyspace is stored; none if it is unknown or dropped.
    fn settings(&self, space: SpaceId) -> Option<KeyspaceSettings>;
}

enum Host<'a> {
    Lent(&'a dyn OutputHost),
    Kept(Arc<dyn OutputHost>),
}

impl Host<'_> {
    fn get(&self) -> &dyn OutputHost {
        match self {
            Host::Lent(host) => *host,
            Host::Kept(host) => &**host,
        }
    }
}

/// A sequence of tables in order: one run.
pub(crate) struct Output<'a> {
    plan: OutputPlan,
    fs: Arc<dyn Fs>,
    host: Host<'a>,
    /// Range deletes to be stored, in order of space and start.
    ranges: Vec<RangeDelete>,
    writer: Option<TableWriter>,
    /// The table before, on its way to the disk.
    ending: Option<JoinHandle<std::result::Result<Result<TableMeta>, Caught>>>,
    space: Option<SpaceId>,
    finished: Vec<TableMeta>,
    created: Vec<u64>,
    /// An entry on its way here from where "local" means somebody else.
    moved: Vec<u8>,
}

impl<'a> Output<'a> {
    /// No table yet. `ranges` go into the first table of their scope.
    pub(crate) fn new(
        plan: OutputPlan,
        fs: Arc<dyn Fs>,
        host: &'a dyn OutputHost,
        ranges: Vec<RangeDelete>,
    ) -> Output<'a> {
        Output::begin(plan, fs, Host::Lent(host), ranges)
    }

    /// As [`Output::new`], for who lives as long as `host`.
    pub(crate) fn kept(
        plan: OutputPlan,
        fs: Arc<dyn Fs>,
        host: Arc<dyn OutputHost>,
    ) -> Output<'static> {
        Output::begin(plan, fs, Host::Kept(host), Vec::new())
    }

    fn begin(
        plan: OutputPlan,
        fs: Arc<dyn Fs>,
        host: Host<'a>,
        ranges: Vec<RangeDelete>,
    ) -> Output<'a> {
        let (finished, created, moved) = (Vec::new(), Vec::new(), Vec::new());
        let (writer, ending, space) = (None, None, None);
        Output { plan, fs, host, ranges, writer, ending, space, finished, created, moved }
    }

    /// Whose tables they are.
    pub(crate) fn owner(&self) -> &TableOwner {
        &self.plan.owner
    }

    /// There are more authors: entries that follow may name them.
    pub(crate) fn set_authors(&mut self, authors: Authors) {
        if let Some(writer) = &mut self.writer {
            writer.set_authors(authors.clone());
        }
        self.plan.authors = authors;
    }

    /// Adds the next entry. A table may end only before a `first` version, so that the versions of
    /// a key stay together.
    #[inline]
    pub(crate) fn add(
        &mut self,
        space: SpaceId,
        key: &[u8],
        trailer: Trailer,
        value: &[u8],
        first: IsFirst,
    ) -> Result<()> {
        if self.space != Some(space) {
            self.enter(space)?;
        } else if first == IsFirst::Yes
            && self.writer.as_ref().is_some_and(|w| w.estimated_len() >= self.plan.table_bytes)
        {
            self.next_table()?;
        }
        self.writer()?.add(space, key, trailer, value)
    }

    /// As [`Output::add`], from where "local" means what the entry says.
    #[inline]
    pub(crate) fn add_stored(&mut self, entry: &Stored<'_>, first: IsFirst) -> Result<()> {
        if entry.local == self.plan.owner.origin {
            return self.add(entry.space, entry.key, entry.trailer, entry.value, first);
        }
        let number = self.plan.authors.number_of(entry.local).ok_or_else(nameless)?;
        let mut moved = std::mem::take(&mut self.moved);
        moved.clear();
        let trailer =
            as_foreign(entry.trailer, entry.value, number, &mut moved).map_err(unreadable)?;
        let added = self.add(entry.space, entry.key, trailer, &moved, first);
        self.moved = moved;
        added
    }

    /// Adds a tombstone in the place of a version that has expired, with the same stamp.
    pub(crate) fn add_expired(&mut self, entry: &Stored<'_>, first: IsFirst) -> Result<()> {
        let plain = plain_value(entry.trailer, entry.value).map_err(unreadable)?;
        let stamp_len = entry.value.len() - plain.len();
        let value = entry.value.get(..stamp_len).unwrap_or_default();
        let trailer = entry.trailer.with_kind(EntryKind::Delete);
        self.add_stored(&Stored { trailer, value, ..*entry }, first)
    }

    /// The entries that follow are of `space`. Tables end at scopes, and at keyspaces once the
    /// table is of a good size.
    fn enter(&mut self, space: SpaceId) -> Result<()> {
        let ends = self.space.is_some_and(|before| before.scope() != space.scope())
            || self.writer.as_ref().is_some_and(|w| w.estimated_len() >= self.plan.table_bytes / 2);
        if ends {
            self.next_table()?;
        }
        self.space = Some(space);
        let options = self.options(space);
        if let Some(writer) = &mut self.writer {
            writer.set_options(options);
        }
        Ok(())
    }

    fn options(&self, space: SpaceId) -> WriterOptions {
        let settings = self.host.get().settings(space);
        let bits = settings.as_ref().map_or(10, |settings| u32::from(settings.filter_bits));
        let compression = match (self.plan.depth, settings.map_or(0, |s| s.compression)) {
            (Depth::Upper, _) | (_, 0) => Compression::None,
            (Depth::Last, _) => Compression::Zstd,
        };
        WriterOptions { block_bytes: self.plan.block_bytes, filter_bits_per_key: bits, compression }
    }

    fn writer(&mut self) -> Result<&mut TableWriter> {
        if self.writer.is_none() {
            let id = self.host.get().next_table();
            let space = self.space.unwrap_or_default();
            let options = self.options(space);
            self.created.push(id);
            let mut writer = TableWriter::create(self.fs.clone(), id, self.plan.owner, options)?;
            writer.set_authors(self.plan.authors.clone());
            let of_scope = |range: &RangeDelete| range.space.scope() == space.scope();
            let (here, later) = std::mem::take(&mut self.ranges).into_iter().partition(of_scope);
            self.ranges = later;
            let here: Vec<RangeDelete> = here;
            let own = self.plan.owner.origin;
            let local = |range: RangeDelete| RangeDelete {
                origin: range.origin.filter(|origin| *origin != own),
                ..range
            };
            here.into_iter().try_for_each(|range| writer.add_range_delete(local(range)))?;
            self.writer = Some(writer);
        }
        self.writer.as_mut().ok_or(Error::Closed)
    }

    /// Ends a table that another may follow.
    pub(crate) fn next_table(&mut self) -> Result<()> {
        if self.plan.ending == Ending::Here {
            return self.end_table();
        }
        let Some(writer) = self.writer.take() else { return Ok(()) };
        self.await_ending()?;
        let name = "esker-table".to_owned();
        let ending =
            std::thread::Builder::new().name(name).spawn(move || panics::catch(|| writer.finish()));
        let path = || full_path(&*self.fs, &RelPath::folder(base::dir::TABLES_DIR));
        self.ending = Some(ending.map_err(|e| Error::io("start a thread for", path(), e))?);
        Ok(())
    }

    /// Waits for the table before.
    fn await_ending(&mut self) -> Result<()> {
        let Some(ending) = self.ending.take() else { return Ok(()) };
        let path = || full_path(&*self.fs, &RelPath::folder(base::dir::TABLES_DIR));
        let panicked = || Error::io("finish a table in", path(), io::Error::other("a panic"));
        let ended = ending.join().ok().and_then(Result::ok).ok_or_else(panicked)?;
        self.finished.push(ended?);
        Ok(())
    }

    fn end_table(&mut self) -> Result<()> {
        self.await_ending()?;
        if let Some(writer) = self.writer.take() {
            self.finished.push(writer.finish()?);
        }
        Ok(())
    }

    /// Ends the last table, and makes the files' names durable. Returns the tables in order.
    pub(crate) fn finish(mut self) -> Result<Vec<TableMeta>> {
        self.end_table()?;
        while let Some(range) = self.ranges.first() {
            self.space = Some(range.space);
            self.writer()?;
            self.end_table()?;
        }
        if !self.finished.is_empty() {
            let folder = RelPath::folder(base::dir::TABLES_DIR);
            let synced = self.fs.sync_dir(&folder);
            synced.map_err(|e| Error::io("sync", full_path(&*self.fs, &folder), e))?;
        }
        self.created.clear();
        let mut finished = std::mem::take(&mut self.finished);
        finished.sort_by(|a, b| a.smallest.cmp(&b.smallest));
        Ok(finished)
    }
}

#[cold]
fn nameless() -> Error {
    Error::invalid("the author of a table has no number in the database's list")
}

/// What a table holds was checked when it was written, and its digest when it was read.
#[cold]
fn unreadable(found: Corruption) -> Error {
    Error::corrupt(FileKind::Table, base::dir::TABLES_DIR, 0, found)
}

impl Drop for Output<'_> {
    /// Tables that were not handed over are leftovers of a failed job.
    fn drop(&mut self) {
        self.writer = None;
        // A file is removed only once nobody writes to it.
        let _ = self.await_ending();
        self.created.iter().for_each(|id| self.host.get().discard(*id));
    }
}

/// Whether an entry is the first, newest version of its key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum IsFirst {
    /// It is.
    Yes,
    /// An older version.
    No,
}
