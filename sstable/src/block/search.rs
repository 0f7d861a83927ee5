//! Finds entries in a block.

use super::{Block, HEADER_LEN, PARTS_LOG2, PREFIX_LEN};
use crate::bytes::{is_equal, strip_prefix};
use base::{Trailer, key_prefix};
use std::cmp::Ordering;
use std::hint::black_box;

/// Prefixes in one line of cache.
const LINE: usize = 8;
/// Up to so many prefixes, looking at one of every line beats halving: the lines are fetched at the
/// same time.
const WINDOW: usize = 16 * LINE;

impl Block {
    /// The first entry at or after (`key`, `trailer`); [`Block::count`] if all are before it.
    #[inline]
    pub fn search(&self, key: &[u8], trailer: Trailer) -> usize {
        let Some(rest) = strip_prefix(key, self.common_prefix()) else {
            return if key < self.common_prefix() { 0 } else { self.count() };
        };
        let prefix = key_prefix(rest);
        let low = self.first_not_below(prefix);
        if !self.is_before(low, prefix, rest, trailer) {
            return low;
        }
        self.search_ties(low + 1, prefix, rest, trailer)
    }

    /// The newest entry of `key` at or below `at`.
    #[inline]
    pub fn find(&self, key: &[u8], at: Trailer) -> Option<usize> {
        // Whether the key starts as all others do is asked last, with everything else at hand.
        let (front, rest) = key.split_at_checked(self.common_len())?;
        let prefix = key_prefix(rest);
        let mut index = self.first_not_below(prefix);
        if self.is_before(index, prefix, rest, at) {
            index = self.search_ties(index + 1, prefix, rest, at);
        }
        let is_found = index < self.count()
            && self.rest_is(index, prefix, rest)
            && is_equal(front, self.common_prefix());
        is_found.then_some(index)
    }

    /// Whether the entry `index` has the key `key`.
    #[inline]
    pub fn key_is(&self, index: usize, key: &[u8]) -> bool {
        let rest = strip_prefix(key, self.common_prefix());
        rest.is_some_and(|rest| self.rest_is(index, key_prefix(rest), rest))
    }

    #[inline]
    fn rest_is(&self, index: usize, prefix: u64, rest: &[u8]) -> bool {
        self.prefix(index) == prefix
            && self.rest_len(index) == rest.len()
            && is_equal(self.suffix(index), rest.get(PREFIX_LEN..).unwrap_or_default())
    }

    /// How the rest of the key of the entry `index` compares with one of `rest_len` bytes that ends
    /// in `suffix`, when their prefixes are equal.
    #[inline]
    pub(super) fn compare_rest(&self, index: usize, rest_len: usize, suffix: &[u8]) -> Ordering {
        // Padding hides lengths below 8. If one is shorter than that, it is a prefix of the other.
        let by_len = self.rest_len(index).min(PREFIX_LEN).cmp(&rest_len.min(PREFIX_LEN));
        by_len.then_with(|| self.suffix(index).cmp(suffix))
    }

    /// Whether the entry `index` exists and is before a target.
    #[inline]
    fn is_before(&self, index: usize, prefix: u64, rest: &[u8], trailer: Trailer) -> bool {
        if index >= self.count() {
            return false;
        }
        match self.prefix(index).cmp(&prefix) {
            Ordering::Less => true,
            Ordering::Greater => false,
            Ordering::Equal => {
                if self.rest_is(index, prefix, rest) {
                    return self.trailer(index) > trailer;
                }
                let suffix = rest.get(PREFIX_LEN..).unwrap_or_default();
                self.compare_rest(index, rest.len(), suffix) == Ordering::Less
            }
        }
    }

    /// Continues a search at `low`: some entries have the target's prefix and are before it.
    fn search_ties(&self, mut low: usize, prefix: u64, rest: &[u8], trailer: Trailer) -> usize {
        let mut high = self.count();
        while low < high {
            let middle = low.midpoint(high);
            if self.is_before(middle, prefix, rest, trailer) {
                low = middle + 1;
            } else {
                high = middle;
            }
        }
        low
    }

    /// The first entry whose prefix is not below `prefix`.
    #[inline]
    fn first_not_below(&self, prefix: u64) -> usize {
        let part = self.pivots.iter().filter(|pivot| **pivot < prefix).count();
        let (start, end) = (self.part_start(part), self.part_start(part + 1));
        // Whatever is found will be looked at in the other columns too. Asking for them before it
        // is known saves the time of one miss.
        black_box(self.trailer_delta(start) ^ self.end(start) as u64);

        let column = self.bytes.get(HEADER_LEN + start * PREFIX_LEN..HEADER_LEN + end * PREFIX_LEN);
        let (mut window, _) = column.unwrap_or_default().as_chunks::<PREFIX_LEN>();
        let below = |entry: &[u8; PREFIX_LEN]| u64::from_le_bytes(*entry) < prefix;
        let mut skipped = start;
        while window.len() > WINDOW {
            let (front, back) = window.split_at(window.len() / 2);
            if front.last().is_some_and(below) {
                skipped += front.len();
                window = back;
            } else {
                window = front;
            }
        }
        let (lines, _) = window.as_chunks::<LINE>();
        let whole = LINE * lines.iter().filter(|line| below(&line[LINE - 1])).count();
        let rest = window.get(whole..).unwrap_or_default();
        skipped + whole + rest.iter().take(LINE).filter(|entry| below(entry)).count()
    }

    /// The entry that starts a part of the prefix column; behind the last part, the count.
    #[inline]
    pub(super) fn part_start(&self, part: usize) -> usize {
        (part * self.count()) >> PARTS_LOG2
    }
}
