//! The unit in which tables are read: some entries of one keyspace, stored as columns.
//!
//! ```text
//! offset  size  field
//!      0     4  count          entries; at least 1
//!      4     2  flags          bit 0 FIXED, bit 1 PLAIN; others 0
//!      6     1  trailer width  bytes of a trailer in its column, 0 to 8
//!      7     1  end width      bytes of an end in its column, 2 or 4
//!      8     2  common length  bytes that all keys start with
//!     10     2  rest length    with FIXED: bytes of every key behind the common ones; else 0
//!     12     4  reserved       0
//!     16     8  base trailer   added to every trailer
//!     24     8  space
//!     32     *  prefixes       8 each: base::key_prefix of the rest of the key
//!      *     *  trailers       trailer width each: trailer less the base
//!      *     *  ends           end width each: where the entry ends in the data
//!      *     *  rest lengths   2 each; absent with FIXED
//!      *     *  common         the bytes that all keys start with
//!      *     *  data           per entry: bytes of the rest of the key behind its first 8; the value
//!      *     8  guard          0: an entry of any column can be loaded as 8 bytes
//! ```
//!
//! The *rest* of a key is what follows the common bytes. Its first 8 bytes are in the prefix column
//! only, so most comparisons touch nothing else, and one line of cache decides eight entries.
//!
//! Invariants, checked once by [`Block::decode`]; the accessors rely on them and check nothing but
//! memory:
//! - Entries ascend by key, then descend by trailer; no two are equal.
//! - Columns, common bytes and data lie within the bytes and fill them.
//! - PLAIN: every entry is a put and no two have one key.

mod builder;
mod search;
mod validate;

pub use builder::{BlockBuilder, Repeat};

use base::codec::Decoded;
use base::limits::{KEY_LEN_MAX, VALUE_LEN_MAX};
use base::{Corruption, SpaceId, Tick, Trailer};
use std::fmt;
use std::ops::Range;

/// Bytes of a block at most: the largest entry, with room for its columns.
pub const BLOCK_LEN_MAX: usize = VALUE_LEN_MAX + KEY_LEN_MAX + (64 << 10);

const HEADER_LEN: usize = 4 + 2 + 1 + 1 + 2 + 2 + 4 + 8 + 8;
const _: () = assert!(HEADER_LEN == 32, "the diagram above says that prefixes start at 32");
const PREFIX_LEN: usize = 8;
const REST_LEN_LEN: usize = 2;
const GUARD_LEN: usize = 8;

const FLAG_FIXED: u16 = 1;
const FLAG_PLAIN: u16 = 2;

/// Parts that [`Block::pivots`] cut the prefix column into.
const PARTS_LOG2: u32 = 3;
const PIVOTS: usize = (1 << PARTS_LOG2) - 1;

/// A validated block in memory.
pub struct Block {
    bytes: Box<[u8]>,
    base_trailer: u64,
    trailers_at: u32,
    ends_at: u32,
    /// Where the column of rest lengths is; with FIXED, nothing is there.
    rest_lens_at: u32,
    common_at: u32,
    data_at: u32,
    count: u32,
    fixed_rest_len: u16,
    flags: u16,
    trailer_width: u8,
    end_width: u8,
    /// The prefixes that start all parts of the column but the first. They are beside the fields
    /// above, so a search has narrowed the column down before it touches the bytes.
    pivots: [u64; PIVOTS],
    space: SpaceId,
}

impl Block {
    /// Checks `bytes`, the stored block after decompression. In a table with a seqno override,
    /// which stores seqno 0, the trailers are raised to it.
    pub fn decode(bytes: Vec<u8>, seqno_override: Option<Tick>) -> Decoded<Block> {
        let mut block = validate::decode(bytes.into_boxed_slice())?;
        if let Some(seqno) = seqno_override {
            block.raise(seqno)?;
        }
        Ok(block)
    }

    fn raise(&mut self, seqno: Tick) -> Decoded<()> {
        if (0..self.count()).any(|index| self.trailer(index).seqno() != Tick::ZERO) {
            return Err(Corruption::OutOfRange);
        }
        self.base_trailer += seqno.raw() << 8;
        Ok(())
    }

    /// How many entries it has; at least 1.
    #[inline]
    pub fn count(&self) -> usize {
        self.count as usize
    }

    /// The keyspace of all of its entries.
    #[inline]
    pub fn space(&self) -> SpaceId {
        self.space
    }

    /// Whether every entry is a put of a value without expiry, and every key is there once and is
    /// not the last key of the block before.
    #[inline]
    pub fn is_plain(&self) -> bool {
        self.flags & FLAG_PLAIN != 0
    }

    /// What all keys start with.
    #[inline]
    pub fn common_prefix(&self) -> &[u8] {
        self.slice(self.common_at as usize, self.data_at as usize)
    }

    #[inline]
    fn common_len(&self) -> usize {
        (self.data_at - self.common_at) as usize
    }

    /// The trailer of the entry `index`.
    #[inline]
    pub fn trailer(&self, index: usize) -> Trailer {
        Trailer(self.base_trailer.wrapping_add(self.trailer_delta(index)))
    }

    /// The value of the entry `index`.
    #[inline]
    pub fn value(&self, index: usize) -> &[u8] {
        let range = self.value_range(index);
        self.slice(range.start, range.end)
    }

    /// Where the value of the entry `index` is in [`Block::bytes`].
    #[inline]
    pub fn value_range(&self, index: usize) -> Range<usize> {
        let suffix_len = self.rest_len(index).saturating_sub(PREFIX_LEN);
        self.start(index) + suffix_len..self.end(index)
    }

    /// The whole block.
    #[inline]
    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// Reads the entry `index`: appends to `key`, which holds the common prefix, the rest of its
    /// key. Returns its trailer, and where its value is in [`Block::bytes`].
    #[inline]
    pub fn read(&self, index: usize, key: &mut Vec<u8>) -> (Trailer, Range<usize>) {
        let (start, end) = (self.start(index), self.end(index));
        let rest_len = self.rest_len(index);
        let prefix = self.prefix(index).to_be_bytes();
        let mut value_at = start;
        if rest_len >= PREFIX_LEN {
            value_at += rest_len - PREFIX_LEN;
            key.extend_from_slice(&prefix);
            key.extend_from_slice(self.slice(start, value_at));
        } else {
            key.extend_from_slice(prefix.get(..rest_len).unwrap_or_default());
        }
        (self.trailer(index), value_at..end)
    }

    /// The key of the entry `index`, put together.
    pub fn key(&self, index: usize) -> Vec<u8> {
        let mut key = self.common_prefix().to_vec();
        self.read(index, &mut key);
        key
    }

    /// Bytes of memory that it takes.
    pub fn memory(&self) -> usize {
        self.bytes.len() + size_of::<Block>()
    }

    /// The first bytes of the rest of a key, as a number.
    #[inline]
    fn prefix(&self, index: usize) -> u64 {
        self.load(HEADER_LEN + index * PREFIX_LEN)
    }

    /// The trailer of the entry `index` less the base.
    #[inline]
    fn trailer_delta(&self, index: usize) -> u64 {
        let width = usize::from(self.trailer_width);
        self.load(self.trailers_at as usize + index * width) & mask_of(width)
    }

    /// How many bytes the key of the entry `index` has behind the common ones.
    #[inline]
    fn rest_len(&self, index: usize) -> usize {
        if self.flags & FLAG_FIXED != 0 {
            usize::from(self.fixed_rest_len)
        } else {
            (self.load(self.rest_lens_at as usize + index * REST_LEN_LEN) & 0xffff) as usize
        }
    }

    /// The bytes of the rest of a key behind its first 8.
    #[inline]
    fn suffix(&self, index: usize) -> &[u8] {
        let start = self.start(index);
        self.slice(start, start + self.rest_len(index).saturating_sub(PREFIX_LEN))
    }

    /// Where the entry `index` starts in the bytes.
    #[inline]
    fn start(&self, index: usize) -> usize {
        match index.checked_sub(1) {
            Some(before) => self.end(before),
            None => self.data_at as usize,
        }
    }

    /// Where the entry `index` ends in the bytes.
    #[inline]
    fn end(&self, index: usize) -> usize {
        let width = usize::from(self.end_width);
        let end = self.load(self.ends_at as usize + index * width) & mask_of(width);
        self.data_at as usize + end as usize
    }

    /// Eight bytes at `at`; decode has made sure that they are there.
    #[inline]
    fn load(&self, at: usize) -> u64 {
        match self.bytes.get(at..).and_then(|rest| rest.first_chunk()) {
            Some(bytes) => u64::from_le_bytes(*bytes),
            None => 0,
        }
    }

    #[inline]
    fn slice(&self, start: usize, end: usize) -> &[u8] {
        self.bytes.get(start..end).unwrap_or_default()
    }
}

impl fmt::Debug for Block {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Block")
            .field("space", &self.space)
            .field("count", &self.count)
            .field("bytes", &self.bytes.len())
            .finish()
    }
}

/// The bits of the low `width` bytes.
#[inline]
const fn mask_of(width: usize) -> u64 {
    match width {
        8.. => u64::MAX,
        _ => (1 << (8 * width)) - 1,
    }
}

#[cfg(test)]
mod tests;
