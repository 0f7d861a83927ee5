//! Reads all of a table and checks it.

use super::Table;
use super::span::{Direction, Spans};
use crate::block::Block;
use crate::footer::digest_of;
use crate::meta::TableKey;
use crate::tally::Tally;
use base::{Corruption, OriginNumber, Result, SpaceId, Trailer, key_hash};
use std::cmp::Reverse;

/// Bytes that are read at once.
const PIECE_LEN: u64 = 256 << 10;

/// How many entries the table has, if all of it is as the manifest says.
///
/// Sections were verified when the table was opened. Loading a block verifies its digest, its
/// inner order, and that it ends where the index says.
///
/// `pace` is told the bytes of each block, and may end it with an error.
pub(super) fn verify(table: &Table, pace: &mut dyn FnMut(u64) -> Result<()>) -> Result<u64> {
    let blocks = 0..table.index.len();
    let mut spans = Spans::new();
    let mut walk = Walk { last: None, first: None, tally: Tally::EMPTY };
    for number in blocks.clone() {
        let block = spans.block(table, &blocks, number, Direction::Forward)?;
        let position = table.place(number)?.position;
        walk.block(table, &block).map_err(|found| table.file.corrupt(position, found))?;
        pace(u64::from(table.place(number)?.stored_len))?;
    }
    let end = table.file.len();
    walk.compare(table).map_err(|found| table.file.corrupt(end, found))?;
    Ok(walk.tally.entries)
}

/// Whether every block is what its digest in the index says.
pub(super) fn verify_stored(table: &Table) -> Result<()> {
    let mut piece = Vec::new();
    let mut next = 0;
    while next < table.index.len() {
        let first = table.place(next)?;
        let mut len = u64::from(first.stored_len);
        let mut end = next + 1;
        while len < PIECE_LEN && end < table.index.len() {
            len += u64::from(table.place(end)?.stored_len);
            end += 1;
        }
        table.file.read_into(&mut piece, first.position, len)?;
        let mut rest = &*piece;
        for number in next..end {
            let place = table.place(number)?;
            let corrupt = |found| table.file.corrupt(place.position, found);
            let split = rest.split_at_checked(place.stored_len as usize);
            let (stored, behind) = split.ok_or_else(|| corrupt(Corruption::Truncated))?;
            if digest_of(stored) != place.digest {
                return Err(corrupt(Corruption::DigestMismatch));
            }
            rest = behind;
        }
        next = end;
    }
    Ok(())
}

/// What was seen so far.
struct Walk {
    first: Option<TableKey>,
    last: Option<(TableKey, Trailer)>,
    tally: Tally,
}

impl Walk {
    fn block(&mut self, table: &Table, block: &Block) -> Result<(), Corruption> {
        let space = block.space();
        self.check_follows(space, &block.key(0), block.trailer(0))?;
        let mut key = block.common_prefix().to_vec();
        for index in 0..block.count() {
            key.truncate(block.common_prefix().len());
            let (trailer, value) = block.read(index, &mut key);
            let value = block.bytes().get(value).unwrap_or_default();
            let counted = self.tally.count(&key, trailer, value);
            counted.map_err(|_| Corruption::UnknownKind)?;
            if !table.filter.may_contain(key_hash(space, &key)) {
                return Err(Corruption::BadVersion);
            }
        }
        let last = block.trailer(block.count() - 1);
        self.last = Some((TableKey::new(space, &key), last));
        Ok(())
    }

    fn check_follows(
        &mut self,
        space: SpaceId,
        key: &[u8],
        trailer: Trailer,
    ) -> Result<(), Corruption> {
        if self.first.is_none() {
            self.first = Some(TableKey::new(space, key));
        }
        let follows = self.last.as_ref().is_none_or(|(last, last_trailer)| {
            (last.space, &*last.key, Reverse(*last_trailer)) < (space, key, Reverse(trailer))
        });
        if follows { Ok(()) } else { Err(Corruption::OutOfOrder) }
    }

    /// Whether the entries add up to what the manifest says.
    fn compare(&mut self, table: &Table) -> Result<(), Corruption> {
        let meta = &table.meta;
        for range in &table.range_deletes {
            let named = |origin| table.authors.iter().find(|(_, known)| *known == origin);
            let author = match range.origin {
                None => OriginNumber::LOCAL,
                Some(origin) => named(origin).ok_or(Corruption::BadVersion)?.0,
            };
            self.tally.count_range(range.seqno, range.stamp, author);
        }
        let mut expected = Tally {
            entries: meta.entries,
            tombstones: meta.tombstones,
            expiring: meta.expiring,
            raw_bytes: meta.raw_bytes,
            seqno_min: meta.seqno_min,
            seqno_max: meta.seqno_max,
            tombstone_stamp_max: meta.tombstone_stamp_max,
            expires_at_max_ms: meta.expires_at_max_ms,
            local_latest: self.tally.local_latest,
            latest: self.tally.latest.clone(),
        };
        if let Some(seqno) = meta.seqno_override {
            (expected.seqno_min, expected.seqno_max) = (seqno, seqno);
            expected.tombstone_stamp_max = self.tally.tombstone_stamp_max;
        }
        let first = self.first.as_ref().unwrap_or(&meta.smallest);
        let last = self.last.as_ref().map_or(&meta.largest, |(last, _)| last);
        let is_same = *first == meta.smallest && *last == meta.largest;
        let ranges = table.range_deletes.len() as u64;
        let agrees = meta.origins.is_empty() || meta.latest().eq(self.tally.authors());
        if is_same && agrees && self.tally == expected && ranges == meta.range_deletes {
            Ok(())
        } else {
            Err(Corruption::BadVersion)
        }
    }
}
