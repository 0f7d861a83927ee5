//! Decides once whether bytes are a block.

use super::{
    BLOCK_LEN_MAX, Block, FLAG_FIXED, FLAG_PLAIN, GUARD_LEN, HEADER_LEN, PIVOTS, PREFIX_LEN,
    REST_LEN_LEN,
};
use base::codec::{Decoded, Reader};
use base::limits::KEY_LEN_MAX;
use base::{Corruption, EntryKind, SpaceId};
use std::cmp::Ordering;

/// The block in `bytes`, if all that accessors rely on is true.
pub(super) fn decode(bytes: Box<[u8]>) -> Decoded<Block> {
    let mut block = decode_header(bytes)?;
    block.check_entries()?;
    block.place_pivots();
    Ok(block)
}

fn decode_header(bytes: Box<[u8]>) -> Decoded<Block> {
    if bytes.len() > BLOCK_LEN_MAX {
        return Err(Corruption::OutOfRange);
    }
    let mut header = Reader::new(&bytes);
    let count = header.u32()? as usize;
    let flags = header.u16()?;
    let trailer_width = usize::from(header.u8()?);
    let end_width = usize::from(header.u8()?);
    let common_len = usize::from(header.u16()?);
    let fixed_rest_len = usize::from(header.u16()?);
    let reserved = header.u32()?;
    let base_trailer = header.u64()?;
    let space = SpaceId(header.u64()?);

    let known = flags & !(FLAG_FIXED | FLAG_PLAIN) == 0 && reserved == 0;
    if !known || trailer_width > 8 || !matches!(end_width, 2 | 4) {
        return Err(Corruption::UnknownKind);
    }
    let is_fixed = flags & FLAG_FIXED != 0;
    if count == 0 || !is_fixed && fixed_rest_len != 0 {
        return Err(Corruption::OutOfRange);
    }
    // At most 2^32 entries of 22 bytes: no sum below overflows 64 bits.
    let trailers_at = HEADER_LEN + count * PREFIX_LEN;
    let ends_at = trailers_at + count * trailer_width;
    let rest_lens_at = ends_at + count * end_width;
    let common_at = rest_lens_at + if is_fixed { 0 } else { count * REST_LEN_LEN };
    let data_at = common_at + common_len;
    if data_at + GUARD_LEN > bytes.len() {
        return Err(Corruption::Truncated);
    }
    // As the sum is at most BLOCK_LEN_MAX, all of them fit 32 bits.
    Ok(Block {
        bytes,
        base_trailer,
        trailers_at: trailers_at as u32,
        ends_at: ends_at as u32,
        rest_lens_at: rest_lens_at as u32,
        common_at: common_at as u32,
        data_at: data_at as u32,
        count: count as u32,
        fixed_rest_len: fixed_rest_len as u16,
        flags,
        trailer_width: trailer_width as u8,
        end_width: end_width as u8,
        pivots: [0; PIVOTS],
        space,
    })
}

impl Block {
    fn check_entries(&self) -> Decoded<()> {
        let data_end = self.bytes.len() - GUARD_LEN;
        if self.load(data_end) != 0 {
            return Err(Corruption::TrailingBytes);
        }
        let rest_len_max = KEY_LEN_MAX.checked_sub(self.common_len());
        let rest_len_max = rest_len_max.ok_or(Corruption::OutOfRange)?;
        let mut start = self.data_at as usize;
        for index in 0..self.count() {
            let (end, rest_len) = (self.end(index), self.rest_len(index));
            let suffix_end = start + rest_len.saturating_sub(PREFIX_LEN);
            if rest_len > rest_len_max || suffix_end > end || end > data_end {
                return Err(Corruption::OutOfRange);
            }
            if rest_len < PREFIX_LEN && self.prefix(index) & (u64::MAX >> (8 * rest_len)) != 0 {
                return Err(Corruption::OutOfRange);
            }
            self.check_trailer(index)?;
            start = end;
        }
        if start != data_end {
            return Err(Corruption::TrailingBytes);
        }
        (1..self.count()).try_for_each(|index| self.check_order(index))
    }

    fn check_trailer(&self, index: usize) -> Decoded<()> {
        if self.base_trailer.checked_add(self.trailer_delta(index)).is_none() {
            return Err(Corruption::OutOfRange);
        }
        if self.is_plain() && self.trailer(index).0 as u8 != EntryKind::Put as u8 {
            return Err(Corruption::UnknownKind);
        }
        Ok(())
    }

    fn place_pivots(&mut self) {
        for part in 1..=PIVOTS {
            self.pivots[part - 1] = self.prefix(self.part_start(part));
        }
    }

    /// The entry `index` comes after the one before it. The first prefix that differs decides, so
    /// the data is rarely read.
    fn check_order(&self, index: usize) -> Decoded<()> {
        let order = self.compare_keys(index - 1, index);
        let newer_first = !self.is_plain() && self.trailer(index - 1) > self.trailer(index);
        match order {
            Ordering::Less => Ok(()),
            Ordering::Equal if newer_first => Ok(()),
            Ordering::Equal | Ordering::Greater => Err(Corruption::OutOfOrder),
        }
    }

    fn compare_keys(&self, a: usize, b: usize) -> Ordering {
        let by_prefix = self.prefix(a).cmp(&self.prefix(b));
        by_prefix.then_with(|| self.compare_rest(a, self.rest_len(b), self.suffix(b)))
    }
}
