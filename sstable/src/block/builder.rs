//! Collects entries and lays them out as a block.

use super::{FLAG_FIXED, FLAG_PLAIN, GUARD_LEN, HEADER_LEN, PREFIX_LEN, REST_LEN_LEN, mask_of};
use crate::bytes::common_len;
use base::{EntryKind, SpaceId, Trailer, key_prefix};

/// Bytes that columns and guard cost an entry at most, for estimates.
const ENTRY_OVERHEAD: usize = PREFIX_LEN + 5 + 2;

/// Collects entries in order and lays them out as a block.
///
/// The caller keeps the order; it knows the entry before, also across blocks.
#[derive(Debug)]
pub struct BlockBuilder {
    /// Key and value of every entry, back to back.
    arena: Vec<u8>,
    entries: Vec<Pending>,
    trailer_min: u64,
    trailer_max: u64,
    is_plain: bool,
    is_fixed: bool,
}

#[derive(Clone, Copy, Debug)]
struct Pending {
    trailer: u64,
    key_len: u32,
    value_len: u32,
}

impl Default for BlockBuilder {
    fn default() -> BlockBuilder {
        BlockBuilder {
            arena: Vec::new(),
            entries: Vec::new(),
            trailer_min: u64::MAX,
            trailer_max: 0,
            is_plain: true,
            is_fixed: true,
        }
    }
}

/// Whether an entry is the first of its key, seen across blocks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Repeat {
    /// The entry before has another key.
    NewKey,
    /// The entry before is a newer version of the same key.
    OlderVersion,
}

impl BlockBuilder {
    /// Adds an entry behind all others.
    #[inline]
    pub fn push(&mut self, key: &[u8], trailer: Trailer, value: &[u8], repeat: Repeat) {
        let is_put = trailer.0 as u8 == EntryKind::Put as u8;
        self.is_plain &= is_put && repeat == Repeat::NewKey;
        self.is_fixed &=
            self.entries.first().is_none_or(|first| first.key_len as usize == key.len());
        self.trailer_min = self.trailer_min.min(trailer.0);
        self.trailer_max = self.trailer_max.max(trailer.0);
        self.arena.extend_from_slice(key);
        self.arena.extend_from_slice(value);
        let (key_len, value_len) = (key.len() as u32, value.len() as u32);
        self.entries.push(Pending { trailer: trailer.0, key_len, value_len });
    }

    /// How many entries wait.
    #[inline]
    pub fn count(&self) -> usize {
        self.entries.len()
    }

    /// Whether no entry waits.
    #[inline]
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// Bytes of the block if it ended here, less what a common prefix saves.
    #[inline]
    pub fn len(&self) -> usize {
        HEADER_LEN + GUARD_LEN + self.arena.len() + self.entries.len() * ENTRY_OVERHEAD
    }

    /// Appends the block to `out` and starts the next one. Without entries, appends nothing.
    pub fn finish(&mut self, space: SpaceId, out: &mut Vec<u8>) {
        let Some(layout) = self.layout() else { return };
        let columns_at = self.append_header(&layout, space, out);
        self.fill_columns(&layout, out.get_mut(columns_at..).unwrap_or_default());
        out.truncate(out.len() - GUARD_LEN);
        out.extend_from_slice(self.arena.get(..layout.common_len).unwrap_or_default());
        self.append_data(&layout, out);
        out.extend_from_slice(&[0; GUARD_LEN]);
        self.clear();
    }

    fn clear(&mut self) {
        self.arena.clear();
        self.entries.clear();
        let (arena, entries) = (std::mem::take(&mut self.arena), std::mem::take(&mut self.entries));
        *self = BlockBuilder { arena, entries, ..BlockBuilder::default() };
    }

    fn layout(&self) -> Option<Layout> {
        let (first, last) = (self.entries.first()?, self.entries.last()?);
        let first_key = self.arena.get(..first.key_len as usize)?;
        let last_at = self.arena.len() - (last.key_len + last.value_len) as usize;
        let last_key = self.arena.get(last_at..last_at + last.key_len as usize)?;
        let common_len = common_len(first_key, last_key);

        let prefixed = |entry: &Pending| (entry.key_len as usize - common_len).min(PREFIX_LEN);
        let in_columns: usize = self.entries.iter().map(|entry| prefixed(entry) + common_len).sum();
        let data_len = self.arena.len() - in_columns;
        let trailer_bits = 64 - (self.trailer_max - self.trailer_min).leading_zeros() as usize;
        let end_width = if data_len <= usize::from(u16::MAX) { 2 } else { 4 };
        let trailer_width = trailer_bits.div_ceil(8);
        let rest_len_width = if self.is_fixed { 0 } else { REST_LEN_LEN };
        let columns_len =
            self.entries.len() * (PREFIX_LEN + trailer_width + end_width + rest_len_width);
        let fixed_rest_len = if self.is_fixed { first.key_len as usize - common_len } else { 0 };
        Some(Layout {
            common_len,
            fixed_rest_len,
            trailer_width,
            end_width,
            rest_len_width,
            columns_len,
            data_len,
        })
    }

    /// Appends the header, and zeros for the columns and a guard behind them. Returns where the
    /// columns start.
    fn append_header(&self, layout: &Layout, space: SpaceId, out: &mut Vec<u8>) -> usize {
        let fixed = if self.is_fixed { FLAG_FIXED } else { 0 };
        let plain = if self.is_plain { FLAG_PLAIN } else { 0 };
        out.reserve(
            HEADER_LEN + layout.columns_len + layout.common_len + layout.data_len + GUARD_LEN,
        );
        out.extend_from_slice(&(self.entries.len() as u32).to_le_bytes());
        out.extend_from_slice(&(fixed | plain).to_le_bytes());
        out.push(layout.trailer_width as u8);
        out.push(layout.end_width as u8);
        out.extend_from_slice(&(layout.common_len as u16).to_le_bytes());
        out.extend_from_slice(&(layout.fixed_rest_len as u16).to_le_bytes());
        out.extend_from_slice(&0u32.to_le_bytes());
        out.extend_from_slice(&self.trailer_min.to_le_bytes());
        out.extend_from_slice(&space.0.to_le_bytes());
        let columns_at = out.len();
        out.resize(columns_at + layout.columns_len + GUARD_LEN, 0);
        columns_at
    }

    /// Fills `columns`, behind which is room for a guard.
    ///
    /// Every number is stored as 8 bytes of which the low ones count; what is too much is zero and
    /// falls on the next entry or column, which are stored later.
    fn fill_columns(&self, layout: &Layout, columns: &mut [u8]) {
        let count = self.entries.len();
        let trailers_at = count * PREFIX_LEN;
        let ends_at = trailers_at + count * layout.trailer_width;
        let rest_lens_at = ends_at + count * layout.end_width;
        let (mut key_at, mut end) = (0, 0);
        for (index, entry) in self.entries.iter().enumerate() {
            let key_end = key_at + entry.key_len as usize;
            let rest = self.arena.get(key_at + layout.common_len..key_end).unwrap_or_default();
            store(columns, index * PREFIX_LEN, key_prefix(rest));
            key_at = key_end + entry.value_len as usize;
        }
        for (index, entry) in self.entries.iter().enumerate() {
            let delta = (entry.trailer - self.trailer_min) & mask_of(layout.trailer_width);
            store(columns, trailers_at + index * layout.trailer_width, delta);
        }
        for (index, entry) in self.entries.iter().enumerate() {
            end += layout.suffix_len(entry) + entry.value_len as usize;
            store(columns, ends_at + index * layout.end_width, end as u64);
        }
        if layout.rest_len_width != 0 {
            for (index, entry) in self.entries.iter().enumerate() {
                let rest_len = entry.key_len as usize - layout.common_len;
                store(columns, rest_lens_at + index * REST_LEN_LEN, rest_len as u64);
            }
        }
    }

    fn append_data(&self, layout: &Layout, out: &mut Vec<u8>) {
        let mut key_at = 0;
        for entry in &self.entries {
            let end = key_at + (entry.key_len + entry.value_len) as usize;
            let in_data = layout.suffix_len(entry) + entry.value_len as usize;
            out.extend_from_slice(self.arena.get(end - in_data..end).unwrap_or_default());
            key_at = end;
        }
    }
}

/// How wide the columns are, and how long the parts.
struct Layout {
    common_len: usize,
    fixed_rest_len: usize,
    trailer_width: usize,
    end_width: usize,
    rest_len_width: usize,
    columns_len: usize,
    data_len: usize,
}

impl Layout {
    /// Bytes of a key that are in the data.
    fn suffix_len(&self, entry: &Pending) -> usize {
        (entry.key_len as usize - self.common_len).saturating_sub(PREFIX_LEN)
    }
}

fn store(columns: &mut [u8], at: usize, value: u64) {
    if let Some(to) = columns.get_mut(at..).and_then(|rest| rest.first_chunk_mut()) {
        *to = value.to_le_bytes();
    }
}
