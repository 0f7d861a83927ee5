//! Which keys range deletes cover, and since when.
//!
//! Overlapping range deletes are cut at each other's ends into fragments that do not overlap, each
//! with the deletes that cover it. A range delete hides an entry if and only if its *stamp* is
//! greater, whatever came first; its *seqno* only decides which reads see it. For local entries
//! the stamp's tick is the seqno.

use base::{SpaceId, Tick};
use sstable::RangeDelete;
use std::collections::BTreeMap;

/// Range deletes of any number of keyspaces, ready to be asked about keys. Immutable.
#[derive(Debug, Default)]
pub(crate) struct RangeMap {
    spaces: BTreeMap<SpaceId, Vec<Fragment>>,
    all: Vec<RangeDelete>,
}

/// Keys from `start` to `end` (exclusive; empty means to the last key).
#[derive(Debug)]
struct Fragment {
    start: Box<[u8]>,
    end: Box<[u8]>,
    /// (seqno, stamp) of each delete that covers it.
    deletes: Vec<(Tick, Tick)>,
}

impl RangeMap {
    /// The map of `ranges`.
    pub(crate) fn of(ranges: Vec<RangeDelete>) -> RangeMap {
        let mut by_space: BTreeMap<SpaceId, Vec<&RangeDelete>> = BTreeMap::new();
        for range in &ranges {
            by_space.entry(range.space).or_default().push(range);
        }
        let spaces =
            by_space.into_iter().map(|(space, ranges)| (space, fragments(&ranges))).collect();
        RangeMap { spaces, all: ranges }
    }

    /// This map and `more`.
    pub(crate) fn with(&self, more: &[RangeDelete]) -> RangeMap {
        RangeMap::of(self.all.iter().chain(more).cloned().collect())
    }

    /// Whether it covers nothing.
    pub(crate) fn is_empty(&self) -> bool {
        self.all.is_empty()
    }

    /// The range deletes it was made of.
    pub(crate) fn ranges(&self) -> &[RangeDelete] {
        &self.all
    }

    /// The greatest stamp of the range deletes that cover `key` and that a read at `at` sees.
    pub(crate) fn covering(&self, space: SpaceId, key: &[u8], at: Tick) -> Option<Tick> {
        let fragments = self.spaces.get(&space)?;
        let index = fragments.partition_point(|fragment| *fragment.start <= *key).checked_sub(1)?;
        let fragment = fragments.get(index)?;
        if !fragment.end.is_empty() && *fragment.end <= *key {
            return None;
        }
        fragment.deletes.iter().filter(|(seqno, _)| *seqno <= at).map(|(_, stamp)| *stamp).max()
    }
}

fn fragments(ranges: &[&RangeDelete]) -> Vec<Fragment> {
    let mut cuts: Vec<&[u8]> = Vec::new();
    for range in ranges {
        cuts.push(&range.start);
        if !range.end.is_empty() {
            cuts.push(&range.end);
        }
    }
    cuts.sort_unstable();
    cuts.dedup();
    let ends = cuts.iter().skip(1).copied().chain(std::iter::once(&[][..]));
    let mut fragments = Vec::new();
    for (start, end) in cuts.iter().copied().zip(ends) {
        let deletes: Vec<_> = ranges
            .iter()
            .filter(|range| *range.start <= *start && (range.end.is_empty() || *range.end > *start))
            .map(|range| (range.seqno, range.stamp))
            .collect();
        if !deletes.is_empty() {
            fragments.push(Fragment { start: start.into(), end: end.into(), deletes });
        }
    }
    fragments
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn range(start: &[u8], end: &[u8], tick: u64) -> RangeDelete {
        let tick = Tick::from_raw(tick).unwrap();
        RangeDelete {
            space: SpaceId(1),
            start: start.into(),
            end: end.into(),
            seqno: tick,
            stamp: tick,
            origin: None,
        }
    }

    proptest! {
        /// Fragments say what asking every range would.
        #[test]
        fn it_agrees_with_asking_every_range(
            ranges in proptest::collection::vec((proptest::collection::vec(0u8..4, 0..3), proptest::collection::vec(0u8..4, 0..3), 1u64..50), 0..12),
            key in proptest::collection::vec(0u8..4, 1..4), at in 0u64..60
        ) {
            let ranges: Vec<_> = ranges.iter()
                .filter(|(start, end, _)| end.is_empty() || start < end)
                .map(|(start, end, tick)| range(start, end, *tick)).collect();
            let at = Tick::from_raw(at).unwrap();
            let expected = ranges.iter()
                .filter(|r| *r.start <= *key && (r.end.is_empty() || *key < *r.end) && r.seqno <= at)
                .map(|r| r.stamp).max();
            prop_assert_eq!(RangeMap::of(ranges).covering(SpaceId(1), &key, at), expected);
        }
    }
}
