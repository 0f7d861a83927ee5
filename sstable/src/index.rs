//! The index of a table: which block may hold a key, where it is, and what it must hash to.
//!
//! ```text
//! count          varint  blocks
//! per block, in the order of the file:
//!   space        varint
//!   last key     bytes
//!   last trailer u64
//!   stored       varint  bytes in the file; blocks are back to back from offset 0
//!   raw          varint  bytes after decompression
//!   compression  u8
//!   digest       16      of the stored bytes
//! ```
//!
//! In memory the blocks of a keyspace are a *section*. Beside each last key is a *fence*: the first
//! 8 bytes behind what all last keys of the section start with, as a number, so that a search
//! touches a flat array and looks at keys only where fences are equal.
//!
//! Invariants:
//! - Blocks ascend by space, last key and last trailer (descending), and fill the file up to the
//!   first section.

use crate::block::BLOCK_LEN_MAX;
use crate::bytes::{common_len, strip_prefix};
use crate::compression::Compression;
use crate::footer::Digest;
use base::codec::{Decoded, Reader, put_bytes, put_varint};
use base::limits::KEY_LEN_MAX;
use base::{Corruption, SpaceId, Tick, Trailer, key_prefix};
use std::cmp::Reverse;
use std::ops::Range;

/// Bytes of an index entry at least.
const ENTRY_LEN_MIN: usize = 1 + 1 + 8 + 1 + 1 + 1 + 16;

/// Where a block is, and what it must be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct BlockRef {
    /// Where its stored bytes start in the file.
    pub(crate) position: u64,
    /// Bytes in the file.
    pub(crate) stored_len: u32,
    /// Bytes after decompression.
    pub(crate) raw_len: u32,
    /// How it is stored.
    pub(crate) compression: Compression,
    /// Of the stored bytes.
    pub(crate) digest: Digest,
}

/// Collects the index while blocks are written.
#[derive(Debug, Default)]
pub(crate) struct IndexBuilder {
    count: u64,
    entries: Vec<u8>,
}

impl IndexBuilder {
    /// Adds the next block, which ends with the entry (`space`, `last_key`, `last_trailer`).
    pub(crate) fn add(
        &mut self,
        space: SpaceId,
        last_key: &[u8],
        last_trailer: Trailer,
        block: &BlockRef,
    ) {
        self.count += 1;
        put_varint(&mut self.entries, space.0);
        put_bytes(&mut self.entries, last_key);
        self.entries.extend_from_slice(&last_trailer.0.to_le_bytes());
        put_varint(&mut self.entries, u64::from(block.stored_len));
        put_varint(&mut self.entries, u64::from(block.raw_len));
        self.entries.push(block.compression as u8);
        self.entries.extend_from_slice(&block.digest);
    }

    /// Bytes of the section so far.
    pub(crate) fn len(&self) -> usize {
        self.entries.len()
    }

    /// Appends the section.
    pub(crate) fn encode(&self, out: &mut Vec<u8>) {
        put_varint(out, self.count);
        out.extend_from_slice(&self.entries);
    }
}

/// The blocks of one keyspace.
#[derive(Debug)]
struct Section {
    space: SpaceId,
    /// The first of its blocks, and the one behind the last.
    blocks: Range<usize>,
    /// What all last keys start with.
    common: Box<[u8]>,
}

/// Finds blocks.
#[derive(Debug, Default)]
pub(crate) struct Index {
    sections: Box<[Section]>,
    fences: Box<[u64]>,
    trailers: Box<[Trailer]>,
    /// Where each last key ends in `keys`.
    key_ends: Box<[u32]>,
    keys: Box<[u8]>,
    blocks: Box<[BlockRef]>,
}

impl Index {
    /// The index whose section is `bytes`, of blocks that fill `data_len` bytes. With a seqno
    /// override all trailers are raised to it, as those of blocks are.
    pub(crate) fn decode(
        bytes: &[u8],
        data_len: u64,
        seqno_override: Option<Tick>,
    ) -> Decoded<Index> {
        let mut reader = Reader::new(bytes);
        let count = reader.len()?;
        let mut parts = Parts::with_capacity(count.min(bytes.len() / ENTRY_LEN_MIN));
        for _ in 0..count {
            parts.decode_entry(&mut reader, seqno_override)?;
        }
        if !reader.is_empty() {
            return Err(Corruption::TrailingBytes);
        }
        if parts.position != data_len {
            return Err(Corruption::Misplaced);
        }
        parts.into_index()
    }

    /// How many blocks the table has.
    #[inline]
    pub(crate) fn len(&self) -> usize {
        self.blocks.len()
    }

    /// Where the block is.
    #[inline]
    pub(crate) fn block(&self, block: usize) -> Option<&BlockRef> {
        self.blocks.get(block)
    }

    /// The blocks of `space`.
    pub(crate) fn blocks_of(&self, space: SpaceId) -> Range<usize> {
        self.section(space).map_or(0..0, |section| section.blocks.clone())
    }

    /// The keyspace of the block.
    pub(crate) fn space_of(&self, block: usize) -> Option<SpaceId> {
        let section = self.sections.iter().find(|section| section.blocks.contains(&block))?;
        Some(section.space)
    }

    /// The first block of `space` that ends at or after (`key`, `trailer`).
    #[inline]
    pub(crate) fn find(&self, space: SpaceId, key: &[u8], trailer: Trailer) -> Option<usize> {
        let section = self.section(space)?;
        let Range { start, end } = section.blocks;
        let Some(rest) = strip_prefix(key, &section.common) else {
            return (*key < *section.common).then_some(start);
        };
        let fences = self.fences.get(start..end)?;
        let prefix = key_prefix(rest);
        let low = fences.partition_point(|fence| *fence < prefix);
        if fences.get(low).is_some_and(|fence| *fence == prefix) {
            return self.find_among_ties(start + low..end, key, trailer);
        }
        (start + low < end).then_some(start + low)
    }

    /// The last entry of the block.
    pub(crate) fn last(&self, block: usize) -> (&[u8], Trailer) {
        let ends = &self.key_ends;
        let start = block.checked_sub(1).and_then(|before| ends.get(before)).map_or(0, |end| *end);
        let end = ends.get(block).map_or(start, |end| *end);
        let key = self.keys.get(start as usize..end as usize).unwrap_or_default();
        (key, self.trailers.get(block).copied().unwrap_or_default())
    }

    /// Bytes of memory that it takes.
    pub(crate) fn memory(&self) -> usize {
        size_of_val(&*self.sections)
            + size_of_val(&*self.fences)
            + size_of_val(&*self.trailers)
            + size_of_val(&*self.key_ends)
            + self.keys.len()
            + size_of_val(&*self.blocks)
    }

    #[inline]
    fn section(&self, space: SpaceId) -> Option<&Section> {
        let at = match &*self.sections {
            [_] => 0,
            sections => sections.partition_point(|section| section.space < space),
        };
        self.sections.get(at).filter(|section| section.space == space)
    }

    /// The first of `blocks` that ends at or after the target; the fence of the first one is equal
    /// to that of the target.
    fn find_among_ties(&self, blocks: Range<usize>, key: &[u8], trailer: Trailer) -> Option<usize> {
        let Range { start: mut low, end } = blocks;
        let is_before = |block: usize| {
            let (last, last_trailer) = self.last(block);
            (last, Reverse(last_trailer)) < (key, Reverse(trailer))
        };
        let mut high = end;
        if low < high && !is_before(low) {
            return Some(low);
        }
        while low < high {
            let middle = low.midpoint(high);
            if is_before(middle) {
                low = middle + 1;
            } else {
                high = middle;
            }
        }
        (low < end).then_some(low)
    }
}

/// An index being decoded.
#[derive(Default)]
struct Parts {
    spaces: Vec<SpaceId>,
    trailers: Vec<Trailer>,
    key_ends: Vec<u32>,
    keys: Vec<u8>,
    blocks: Vec<BlockRef>,
    position: u64,
}

impl Parts {
    fn with_capacity(count: usize) -> Parts {
        Parts {
            spaces: Vec::with_capacity(count),
            trailers: Vec::with_capacity(count),
            key_ends: Vec::with_capacity(count),
            keys: Vec::new(),
            blocks: Vec::with_capacity(count),
            position: 0,
        }
    }

    fn decode_entry(
        &mut self,
        reader: &mut Reader<'_>,
        seqno_override: Option<Tick>,
    ) -> Decoded<()> {
        let space = SpaceId(reader.varint()?);
        let key = reader.bytes()?;
        let stored_trailer = Trailer(reader.u64()?);
        let block = BlockRef {
            position: self.position,
            stored_len: decode_block_len(reader)?,
            raw_len: decode_block_len(reader)?,
            compression: Compression::from_raw(reader.u8()?).ok_or(Corruption::UnknownAlgorithm)?,
            digest: reader.array()?,
        };
        if key.len() > KEY_LEN_MAX {
            return Err(Corruption::OutOfRange);
        }
        let trailer = raise(stored_trailer, seqno_override)?;
        if let (Some(last_space), Some(last_trailer)) = (self.spaces.last(), self.trailers.last()) {
            let last = (*last_space, self.last_key(), Reverse(*last_trailer));
            if last >= (space, key, Reverse(trailer)) {
                return Err(Corruption::OutOfOrder);
            }
        }
        self.position += u64::from(block.stored_len);
        self.spaces.push(space);
        self.trailers.push(trailer);
        self.keys.extend_from_slice(key);
        self.key_ends.push(u32::try_from(self.keys.len()).map_err(|_| Corruption::OutOfRange)?);
        self.blocks.push(block);
        Ok(())
    }

    fn last_key(&self) -> &[u8] {
        self.key(self.key_ends.len().saturating_sub(1))
    }

    fn key(&self, block: usize) -> &[u8] {
        let start = block.checked_sub(1).and_then(|before| self.key_ends.get(before));
        let end = self.key_ends.get(block).map_or(0, |end| *end);
        self.keys.get(start.map_or(0, |end| *end) as usize..end as usize).unwrap_or_default()
    }

    fn into_index(self) -> Decoded<Index> {
        let mut sections: Vec<Section> = Vec::new();
        let mut fences = Vec::with_capacity(self.blocks.len());
        let mut start = 0;
        for chunk in self.spaces.chunk_by(|a, b| a == b) {
            let end = start + chunk.len();
            let common_len = common_len(self.key(start), self.key(end - 1));
            let rest = |block: usize| self.key(block).get(common_len..).unwrap_or_default();
            fences.extend((start..end).map(|block| key_prefix(rest(block))));
            let common = self.key(start).get(..common_len).unwrap_or_default().into();
            let space = chunk.first().copied().unwrap_or_default();
            sections.push(Section { space, blocks: start..end, common });
            start = end;
        }
        Ok(Index {
            sections: sections.into(),
            fences: fences.into(),
            trailers: self.trailers.into(),
            key_ends: self.key_ends.into(),
            keys: self.keys.into(),
            blocks: self.blocks.into(),
        })
    }
}

fn decode_block_len(reader: &mut Reader<'_>) -> Decoded<u32> {
    match reader.varint()? {
        0 => Err(Corruption::OutOfRange),
        len if len > BLOCK_LEN_MAX as u64 => Err(Corruption::OutOfRange),
        len => Ok(len as u32),
    }
}

fn raise(stored: Trailer, seqno_override: Option<Tick>) -> Decoded<Trailer> {
    match seqno_override {
        None => Ok(stored),
        Some(seqno) if stored.seqno() == Tick::ZERO => Ok(Trailer(stored.0 | seqno.raw() << 8)),
        Some(_) => Err(Corruption::OutOfRange),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeSet;

    type Last = (u64, Vec<u8>, Reverse<u64>);

    fn section_of(lasts: &BTreeSet<Last>) -> (Vec<u8>, u64) {
        let mut builder = IndexBuilder::default();
        let mut position = 0;
        for (number, (space, key, trailer)) in lasts.iter().enumerate() {
            let block = BlockRef {
                position,
                stored_len: 10 + number as u32,
                raw_len: 20,
                compression: Compression::None,
                digest: [number as u8; 16],
            };
            builder.add(SpaceId(*space), key, Trailer(trailer.0), &block);
            position += u64::from(block.stored_len);
        }
        let mut out = Vec::new();
        builder.encode(&mut out);
        (out, position)
    }

    fn any_last() -> impl Strategy<Value = Last> {
        let key = prop_oneof![
            prop::collection::vec(0u8..3, 0..4),
            prop::collection::vec(0u8..2, 7..12),
            prop::collection::vec(0u8..2, 0..4)
                .prop_map(|tail| [b"shared prefix", &*tail].concat()),
        ];
        (0u64..3, key, (0u64..4).prop_map(Reverse))
    }

    proptest! {
        #[test]
        fn the_first_block_that_ends_at_or_after_a_target_is_found(
            lasts in prop::collection::btree_set(any_last(), 0..60),
            targets in prop::collection::vec(any_last(), 20),
        ) {
            let (bytes, data_len) = section_of(&lasts);
            let index = Index::decode(&bytes, data_len, None).unwrap();
            prop_assert_eq!(index.len(), lasts.len());
            for target in targets {
                let (space, key, trailer) = &target;
                let found = index.find(SpaceId(*space), key, Trailer(trailer.0));
                let expected = lasts.iter().position(|last| last.0 == *space && *last >= target);
                prop_assert_eq!(found, expected, "{:?}", target);
            }
            for (block, last) in lasts.iter().enumerate() {
                prop_assert_eq!(index.last(block), (&*last.1, Trailer(last.2.0)));
                prop_assert!(index.blocks_of(SpaceId(last.0)).contains(&block));
            }
        }

        #[test]
        fn hostile_bytes_never_panic(bytes: Vec<u8>, data_len: u64) {
            let _ = Index::decode(&bytes, data_len, None);
        }

        #[test]
        fn half_an_index_is_none(
            lasts in prop::collection::btree_set(any_last(), 1..9), cut: prop::sample::Index
        ) {
            let (bytes, data_len) = section_of(&lasts);
            prop_assert!(Index::decode(&bytes[..cut.index(bytes.len())], data_len, None).is_err());
            prop_assert!(Index::decode(&bytes, data_len + 1, None).is_err());
        }
    }

    #[test]
    fn blocks_out_of_order_are_refused() {
        let mut builder = IndexBuilder::default();
        let block = BlockRef {
            position: 0,
            stored_len: 1,
            raw_len: 1,
            compression: Compression::None,
            digest: [0; 16],
        };
        for key in [b"b", b"a"] {
            builder.add(SpaceId(1), key, Trailer(1), &block);
        }
        let mut out = Vec::new();
        builder.encode(&mut out);
        assert_eq!(Index::decode(&out, 2, None).unwrap_err(), Corruption::OutOfOrder);
    }
}
