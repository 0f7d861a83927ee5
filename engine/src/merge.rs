//! Several sorted runs as one.
//!
//! The sources stand in a line ordered by what each shows; the first is the current entry. After
//! the first moved it is compared with the second: if it still comes first, which is the rule when
//! one run holds most keys, nothing else is touched.

use crate::memtable::MemtableCursor;
use crate::tables::{LiveRun, TableHandle};
use base::{Cursor, Origin, Result, SpaceId, Trailer, key_prefix};
use sstable::{ReadMode, TableCursor};
use std::cmp::Ordering;
use std::sync::Arc;

/// One sorted source.
pub(crate) enum Source {
    /// A memtable.
    Memtable(MemtableCursor),
    /// A run of tables.
    Run(RunCursor),
}

macro_rules! each_source {
    ($source:expr, $cursor:ident => $call:expr) => {
        match $source {
            Source::Memtable($cursor) => $call,
            Source::Run($cursor) => $call,
        }
    };
}

/// A position in the merged entries of its sources. Versions of a key that stand in several
/// sources under one seqno are all shown, the newer source's first.
pub(crate) struct Merge {
    sources: Vec<Source>,
    /// Indexes of the valid sources, in the order of what they show, with the prefixes of their keys.
    line: Vec<(u64, usize)>,
    direction: Direction,
}

/// Which way a merge moves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Direction {
    /// Keys ascending, newest version first.
    Forward,
    /// Keys descending, oldest version first.
    Backward,
}

impl Source {
    /// Notes an error that moving it has met.
    #[cold]
    fn note(&self, error: &base::Error) {
        if let Source::Run(run) = self
            && let Some(handle) = run.tables.first()
        {
            handle.note(error);
        }
    }
}

impl Merge {
    /// The merge of `sources`, newest first.
    pub(crate) fn new(sources: Vec<Source>) -> Merge {
        let line = Vec::with_capacity(sources.len());
        Merge { sources, line, direction: Direction::Forward }
    }

    /// From now on blocks of tables are read so.
    pub(crate) fn set_read_mode(&mut self, mode: ReadMode) {
        for source in &mut self.sources {
            if let Source::Run(run) = source {
                run.set_read_mode(mode);
            }
        }
    }

    /// Which way it moves.
    pub(crate) fn direction(&self) -> Direction {
        self.direction
    }

    /// Moves to the first entry, forward.
    pub(crate) fn seek_first(&mut self) -> Result<()> {
        self.place(Direction::Forward, |source| each_source!(source, cursor => cursor.seek_first()))
    }

    /// Moves to the last entry, backward.
    pub(crate) fn seek_last(&mut self) -> Result<()> {
        self.place(Direction::Backward, |source| each_source!(source, cursor => cursor.seek_last()))
    }

    /// Moves to the first entry at or after (`key`, `trailer`), forward.
    #[inline]
    pub(crate) fn seek(&mut self, key: &[u8], trailer: Trailer) -> Result<()> {
        self.place(
            Direction::Forward,
            |source| each_source!(source, cursor => cursor.seek(key, trailer)),
        )
    }

    /// Moves to the last entry whose key is below `key`, backward.
    pub(crate) fn seek_before(&mut self, key: &[u8]) -> Result<()> {
        self.place(
            Direction::Backward,
            |source| each_source!(source, cursor => cursor.seek_before(key)),
        )
    }

    #[inline]
    fn place(
        &mut self,
        direction: Direction,
        mut seek: impl FnMut(&mut Source) -> Result<()>,
    ) -> Result<()> {
        self.direction = direction;
        self.line.clear();
        for index in 0..self.sources.len() {
            let Some(source) = self.sources.get_mut(index) else { break };
            seek(source).inspect_err(|error| source.note(error))?;
            self.join(index, 0);
        }
        Ok(())
    }

    /// Moves one entry on in its direction.
    #[inline]
    pub(crate) fn step(&mut self) -> Result<()> {
        let Some(&(_, index)) = self.line.first() else { return Ok(()) };
        let Some(source) = self.sources.get_mut(index) else { return Ok(()) };
        let moved = match self.direction {
            Direction::Forward => each_source!(&mut *source, cursor => cursor.advance()),
            Direction::Backward => each_source!(&mut *source, cursor => cursor.retreat()),
        };
        moved.inspect_err(|error| source.note(error))?;
        if self.line.len() == 1 {
            if !each_source!(source, cursor => cursor.is_valid()) {
                self.line.clear();
            }
            return Ok(());
        }
        self.rejoin_first();
        Ok(())
    }

    /// The first of the line has moved: brings it to its new place.
    #[inline]
    fn rejoin_first(&mut self) {
        let Some(&(_, index)) = self.line.first() else { return };
        let Some(source) = self.sources.get(index) else { return };
        if each_source!(source, cursor => cursor.is_valid()) {
            let prefix = key_prefix(each_source!(source, cursor => cursor.key()));
            if let Some(second) = self.line.get(1)
                && self.compare((prefix, index), *second) == Ordering::Less
            {
                if let Some(first) = self.line.first_mut() {
                    first.0 = prefix;
                }
                return;
            }
        }
        self.line.remove(0);
        self.join(index, 1);
    }

    /// Lets a valid source join the line behind the first `skip` places.
    fn join(&mut self, index: usize, skip: usize) {
        let Some(source) = self.sources.get(index) else { return };
        if !each_source!(source, cursor => cursor.is_valid()) {
            return;
        }
        let entry = (key_prefix(each_source!(source, cursor => cursor.key())), index);
        let rest = self.line.iter().skip(skip);
        let behind =
            rest.take_while(|other| self.compare(**other, entry) == Ordering::Less).count();
        self.line.insert((skip + behind).min(self.line.len()), entry);
    }

    /// The order of what two valid sources show. Never equal: a newer source comes first.
    #[inline]
    fn compare(&self, a: (u64, usize), b: (u64, usize)) -> Ordering {
        let forward = a.0.cmp(&b.0).then_with(|| self.compare_whole(a.1, b.1));
        match self.direction {
            Direction::Forward => forward,
            Direction::Backward => forward.reverse(),
        }
    }

    fn compare_whole(&self, a: usize, b: usize) -> Ordering {
        let (Some(x), Some(y)) = (self.sources.get(a), self.sources.get(b)) else {
            return a.cmp(&b);
        };
        let keys =
            each_source!(x, cursor => cursor.key()).cmp(each_source!(y, cursor => cursor.key()));
        keys.then_with(|| {
            let (x, y) = (
                each_source!(x, cursor => cursor.trailer()).seqno(),
                each_source!(y, cursor => cursor.trailer()).seqno(),
            );
            y.cmp(&x).then(a.cmp(&b))
        })
    }

    fn first(&self) -> Option<&Source> {
        self.line.first().and_then(|(_, index)| self.sources.get(*index))
    }

    /// Whether it stands on an entry.
    #[inline]
    pub(crate) fn is_valid(&self) -> bool {
        !self.line.is_empty()
    }

    /// The user key here; empty if invalid.
    #[inline]
    pub(crate) fn key(&self) -> &[u8] {
        self.first().map_or(&[], |source| each_source!(source, cursor => cursor.key()))
    }

    /// The trailer here.
    #[inline]
    pub(crate) fn trailer(&self) -> Trailer {
        self.first().map_or(Trailer::MIN, |source| each_source!(source, cursor => cursor.trailer()))
    }

    /// What "local" means in the table of the entry here; none in a memtable.
    #[inline]
    pub(crate) fn local(&self) -> Option<Origin> {
        match self.first()? {
            Source::Memtable(_) => None,
            Source::Run(run) => run.local(),
        }
    }

    /// The stored value here; empty if invalid.
    #[inline]
    pub(crate) fn value(&self) -> &[u8] {
        self.first().map_or(&[], |source| each_source!(source, cursor => cursor.value()))
    }
}

/// A position in the entries of one keyspace in a run: its tables, one after the other.
pub(crate) struct RunCursor {
    tables: Arc<[Arc<TableHandle>]>,
    space: SpaceId,
    mode: ReadMode,
    index: usize,
    current: Option<TableCursor>,
}

impl RunCursor {
    /// A cursor that stands nowhere.
    pub(crate) fn new(run: &LiveRun, space: SpaceId, mode: ReadMode) -> RunCursor {
        RunCursor::over(run.tables().clone(), space, mode)
    }

    /// A cursor over `tables`, which do not overlap and are in order.
    pub(crate) fn over(
        tables: Arc<[Arc<TableHandle>]>,
        space: SpaceId,
        mode: ReadMode,
    ) -> RunCursor {
        RunCursor { tables, space, mode, index: usize::MAX, current: None }
    }

    /// From now on blocks are read so.
    fn set_read_mode(&mut self, mode: ReadMode) {
        self.mode = mode;
        if let Some(current) = &mut self.current {
            current.set_read_mode(mode);
        }
    }

    /// Makes the table at `index` the current one; none if it can hold nothing of the keyspace.
    fn open(&mut self, index: usize) -> Result<Option<&mut TableCursor>> {
        if self.index != index || self.current.is_none() {
            let usable = self.tables.get(index).filter(|table| {
                let meta = table.meta();
                meta.smallest.space <= self.space && self.space <= meta.largest.space
            });
            self.index = index;
            self.current = match usable {
                Some(handle) => Some(handle.table()?.cursor(self.space, self.mode)),
                None => None,
            };
        }
        Ok(self.current.as_mut())
    }

    /// What "local" means in the current table, which is open.
    fn local(&self) -> Option<Origin> {
        self.tables.get(self.index)?.table().ok().map(|table| table.local())
    }

    /// The place of the first table whose last key is at or after `key`.
    #[inline]
    fn find(&self, key: &[u8]) -> usize {
        let target = (self.space, key);
        self.tables.partition_point(|table| {
            let largest = &table.meta().largest;
            (largest.space, &*largest.key) < target
        })
    }

    /// Moves on to the next tables until one has an entry.
    fn skip_forward(&mut self) -> Result<()> {
        while self.current.as_ref().is_some_and(|cursor| !cursor.is_valid()) {
            match self.open(self.index.wrapping_add(1))? {
                Some(cursor) => cursor.seek_first()?,
                None => return Ok(()),
            }
        }
        Ok(())
    }

    /// Moves back to the tables before until one has an entry.
    fn skip_backward(&mut self) -> Result<()> {
        while self.current.as_ref().is_some_and(|cursor| !cursor.is_valid()) {
            match self.open(self.index.wrapping_sub(1))? {
                Some(cursor) => cursor.seek_last()?,
                None => return Ok(()),
            }
        }
        Ok(())
    }
}

impl Cursor for RunCursor {
    fn seek_first(&mut self) -> Result<()> {
        self.seek(&[], Trailer::MAX)
    }

    fn seek_last(&mut self) -> Result<()> {
        let past = self.tables.partition_point(|table| table.meta().smallest.space <= self.space);
        if let Some(cursor) = self.open(past.wrapping_sub(1))? {
            cursor.seek_last()?;
        }
        self.skip_backward()
    }

    fn seek(&mut self, key: &[u8], trailer: Trailer) -> Result<()> {
        let index = self.find(key);
        if let Some(cursor) = self.open(index)? {
            cursor.seek(key, trailer)?;
        }
        self.skip_forward()
    }

    fn seek_before(&mut self, key: &[u8]) -> Result<()> {
        let target = (self.space, key);
        let past = self.tables.partition_point(|table| {
            let smallest = &table.meta().smallest;
            (smallest.space, &*smallest.key) < target
        });
        if let Some(cursor) = self.open(past.wrapping_sub(1))? {
            cursor.seek_before(key)?;
        }
        self.skip_backward()
    }

    #[inline]
    fn advance(&mut self) -> Result<()> {
        let Some(cursor) = &mut self.current else { return Ok(()) };
        cursor.advance()?;
        if cursor.is_valid() { Ok(()) } else { self.skip_forward() }
    }

    #[inline]
    fn retreat(&mut self) -> Result<()> {
        let Some(cursor) = &mut self.current else { return Ok(()) };
        cursor.retreat()?;
        if cursor.is_valid() { Ok(()) } else { self.skip_backward() }
    }

    #[inline]
    fn is_valid(&self) -> bool {
        self.current.as_ref().is_some_and(Cursor::is_valid)
    }

    #[inline]
    fn key(&self) -> &[u8] {
        self.current.as_ref().map_or(&[], Cursor::key)
    }

    #[inline]
    fn trailer(&self) -> Trailer {
        self.current.as_ref().map_or(Trailer::MIN, Cursor::trailer)
    }

    #[inline]
    fn value(&self) -> &[u8] {
        self.current.as_ref().map_or(&[], Cursor::value)
    }
}
