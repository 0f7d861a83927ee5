//! A position in a table, among the entries of one keyspace.
//!
//! The cursor holds the block it stands in and puts the key together in a buffer of its own, in
//! which what all keys of the block start with is written once. A seek that stays in the block
//! touches neither index nor cache.

use crate::cache::CachedBlock;
use crate::table::{Direction, Spans, Table};
use base::{Cursor, Result, SpaceId, Trailer};
use std::cmp::Reverse;
use std::ops::Range;
use std::sync::Arc;

/// Whether what is read is worth keeping.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ReadMode {
    /// Blocks go into the cache.
    Cached,
    /// For compactions and long scans: blocks that are in the cache are used, others are read in
    /// stretches of up to 256 KiB and do not go into it.
    Bypass,
}

/// A position in a table, among the entries of one keyspace.
#[derive(Debug)]
pub struct TableCursor {
    table: Arc<Table>,
    space: SpaceId,
    /// The blocks of the keyspace.
    blocks: Range<usize>,
    read: ReadMode,
    spans: Spans,

    /// The block last entered and its number; none before the first seek and after an error.
    block: Option<Arc<CachedBlock>>,
    number: usize,
    /// Entries of the block.
    count: usize,
    common_len: usize,

    /// The entry of the block it stands on; without meaning while it is not valid.
    entry: usize,
    is_valid: bool,
    /// What is read from the entry: nothing while it is not valid.
    key: Vec<u8>,
    trailer: Trailer,
    value: Range<usize>,
}

impl TableCursor {
    pub(crate) fn new(table: Arc<Table>, space: SpaceId, read: ReadMode) -> TableCursor {
        TableCursor {
            blocks: table.blocks_of(space),
            table,
            space,
            read,
            spans: Spans::new(),
            block: None,
            number: 0,
            count: 0,
            common_len: 0,
            entry: 0,
            is_valid: false,
            key: Vec::new(),
            trailer: Trailer::MIN,
            value: 0..0,
        }
    }

    /// Changes how blocks are read from the next one on.
    pub fn set_read_mode(&mut self, read: ReadMode) {
        self.read = read;
    }

    /// The table.
    pub fn table(&self) -> &Arc<Table> {
        &self.table
    }

    /// The block that holds the entry here; `None` if the cursor is invalid.
    #[inline]
    pub fn block(&self) -> Option<&Arc<CachedBlock>> {
        self.block.as_ref().filter(|_| self.is_valid)
    }

    /// Where the value here is in the bytes of [`TableCursor::block`].
    #[inline]
    pub fn value_range(&self) -> Range<usize> {
        self.value.clone()
    }

    /// Whether the cursor stands on an entry.
    #[inline]
    pub fn is_valid(&self) -> bool {
        self.is_valid
    }

    /// The user key here; empty if the cursor is invalid.
    #[inline]
    pub fn key(&self) -> &[u8] {
        &self.key
    }

    /// The trailer here; [`Trailer::MIN`] if the cursor is invalid.
    #[inline]
    pub fn trailer(&self) -> Trailer {
        self.trailer
    }

    /// The stored value here; empty if the cursor is invalid.
    #[inline]
    pub fn value(&self) -> &[u8] {
        let block = self.block.as_ref();
        block.and_then(|block| block.bytes().get(self.value.clone())).unwrap_or_default()
    }

    /// Moves to the first entry.
    pub fn seek_first(&mut self) -> Result<()> {
        if self.blocks.is_empty() {
            return Ok(());
        }
        self.enter(self.blocks.start, Direction::Forward)?;
        self.stand(0);
        Ok(())
    }

    /// Moves to the last entry.
    pub fn seek_last(&mut self) -> Result<()> {
        if self.blocks.is_empty() {
            return Ok(());
        }
        self.enter(self.blocks.end - 1, Direction::Backward)?;
        self.stand(self.count - 1);
        Ok(())
    }

    /// Moves to the first entry at or after (`key`, `trailer`).
    pub fn seek(&mut self, key: &[u8], trailer: Trailer) -> Result<()> {
        if self.is_valid && (&*self.key, Reverse(self.trailer)) <= (key, Reverse(trailer)) {
            let entry = self.search(key, trailer);
            if entry < self.count {
                self.stand(entry);
                return Ok(());
            }
        }
        let Some(number) = self.table.find_block(self.space, key, trailer) else {
            self.invalidate();
            return Ok(());
        };
        self.enter(number, Direction::Forward)?;
        let entry = self.search(key, trailer);
        self.stand(entry);
        Ok(())
    }

    /// Moves to the last entry whose key is strictly below `key`.
    pub fn seek_before(&mut self, key: &[u8]) -> Result<()> {
        let Some(number) = self.table.find_block(self.space, key, Trailer::MAX) else {
            return self.seek_last();
        };
        self.enter(number, Direction::Backward)?;
        let entry = self.search(key, Trailer::MAX);
        self.stand_before(entry)
    }

    /// Moves one entry forward.
    #[inline]
    pub fn advance(&mut self) -> Result<()> {
        if !self.is_valid {
            return Ok(());
        }
        if self.entry + 1 < self.count {
            self.stand(self.entry + 1);
            return Ok(());
        }
        self.advance_block()
    }

    /// Moves one entry back.
    #[inline]
    pub fn retreat(&mut self) -> Result<()> {
        if !self.is_valid {
            return Ok(());
        }
        self.stand_before(self.entry)
    }

    fn advance_block(&mut self) -> Result<()> {
        if self.number + 1 >= self.blocks.end {
            self.invalidate();
            return Ok(());
        }
        self.enter(self.number + 1, Direction::Forward)?;
        self.stand(0);
        Ok(())
    }

    /// Stands on the entry before `entry` of the block, which may be in the block before.
    fn stand_before(&mut self, entry: usize) -> Result<()> {
        if let Some(before) = entry.checked_sub(1) {
            self.stand(before);
        } else if self.number > self.blocks.start {
            self.enter(self.number - 1, Direction::Backward)?;
            self.stand(self.count - 1);
        } else {
            self.invalidate();
        }
        Ok(())
    }

    /// Makes `number` the block; it stays if it is that already.
    fn enter(&mut self, number: usize, direction: Direction) -> Result<()> {
        if self.block.is_some() && self.number == number {
            return Ok(());
        }
        self.block = None;
        self.invalidate();
        let block = match self.read {
            ReadMode::Cached => self.table.cached_block(number)?,
            ReadMode::Bypass => self.spans.block(&self.table, &self.blocks, number, direction)?,
        };
        self.key.extend_from_slice(block.common_prefix());
        self.common_len = self.key.len();
        self.count = block.count();
        self.number = number;
        self.block = Some(block);
        Ok(())
    }

    /// The first entry of the block at or after a target.
    #[inline]
    fn search(&self, key: &[u8], trailer: Trailer) -> usize {
        self.block.as_ref().map_or(self.count, |block| block.search(key, trailer))
    }

    /// Reads the entry `entry` of the block.
    #[inline]
    fn stand(&mut self, entry: usize) {
        let Some(block) = &self.block else { return };
        if self.key.len() < self.common_len {
            self.key.extend_from_slice(block.common_prefix());
        }
        self.key.truncate(self.common_len);
        (self.trailer, self.value) = block.read(entry, &mut self.key);
        self.entry = entry;
        self.is_valid = true;
    }

    /// Stands nowhere. The block stays at hand.
    fn invalidate(&mut self) {
        self.is_valid = false;
        self.key.clear();
        self.trailer = Trailer::MIN;
        self.value = 0..0;
    }
}

impl Cursor for TableCursor {
    fn seek_first(&mut self) -> Result<()> {
        TableCursor::seek_first(self)
    }

    fn seek_last(&mut self) -> Result<()> {
        TableCursor::seek_last(self)
    }

    fn seek(&mut self, key: &[u8], trailer: Trailer) -> Result<()> {
        TableCursor::seek(self, key, trailer)
    }

    fn seek_before(&mut self, key: &[u8]) -> Result<()> {
        TableCursor::seek_before(self, key)
    }

    fn advance(&mut self) -> Result<()> {
        TableCursor::advance(self)
    }

    fn retreat(&mut self) -> Result<()> {
        TableCursor::retreat(self)
    }

    fn is_valid(&self) -> bool {
        TableCursor::is_valid(self)
    }

    fn key(&self) -> &[u8] {
        TableCursor::key(self)
    }

    fn trailer(&self) -> Trailer {
        TableCursor::trailer(self)
    }

    fn value(&self) -> &[u8] {
        TableCursor::value(self)
    }
}
