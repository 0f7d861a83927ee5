//! Which keys range deletes cover, and since when.
//!
//! Overlapping range deletes are cut at each other's ends into fragments that do not overlap, each
//! with the deletes that cover it. A range delete hides an entry if and only if its *stamp* is
//! greater, whatever came first; its *seqno* only decides which reads see it. For local entries
//! the stamp's tick is the seqno. The range deletes in a map name their authors: none is "local".

use base::{Origin, SpaceId, Stamp, Tick};
use sstable::RangeDelete;
use std::cmp::Ordering;
use std::collections::BTreeMap;
use std::sync::Arc;

/// Range deletes of any number of keyspaces, ready to be asked about keys. Immutable; a map with one
/// more shares what it has in common.
#[derive(Debug, Default)]
pub(crate) struct RangeMap {
    spaces: BTreeMap<SpaceId, Arc<Vec<Arc<Fragment>>>>,
    all: Vec<Arc<RangeDelete>>,
}

/// Keys from `start` to `end` (exclusive; empty means to the last key).
#[derive(Clone, Debug)]
struct Fragment {
    start: Box<[u8]>,
    end: Box<[u8]>,
    /// The seqno of each delete that covers it and is greater than all before it, ascending, with its
    /// stamp: one for each commit at the most, however many deletes that has.
    deletes: Vec<(Tick, Stamp)>,
}

impl RangeMap {
    /// The map of `ranges`, in which "local" means `local`.
    pub(crate) fn of(ranges: impl IntoIterator<Item = RangeDelete>, local: Origin) -> RangeMap {
        let mut map = RangeMap::default();
        map.add(ranges, local);
        map
    }

    /// This map and `more`.
    pub(crate) fn with(&self, more: RangeDelete, local: Origin) -> RangeMap {
        let mut map = RangeMap { spaces: self.spaces.clone(), all: self.all.clone() };
        map.add([more], local);
        map
    }

    /// Adds `more`, in which "local" means `local`.
    pub(crate) fn add(&mut self, more: impl IntoIterator<Item = RangeDelete>, local: Origin) {
        for mut range in more {
            let stamp = range.stamp(local);
            range.origin = Some(stamp.origin);
            let fragments = self.spaces.entry(range.space).or_default();
            insert(Arc::make_mut(fragments), &range, stamp);
            self.all.push(Arc::new(range));
        }
    }

    /// Whether it covers nothing.
    pub(crate) fn is_empty(&self) -> bool {
        self.all.is_empty()
    }

    /// The range deletes it was made of.
    pub(crate) fn ranges(&self) -> impl Iterator<Item = &RangeDelete> {
        self.all.iter().map(|range| &**range)
    }

    /// As [`RangeMap::ranges`], to be kept.
    pub(crate) fn to_vec(&self) -> Vec<RangeDelete> {
        self.ranges().cloned().collect()
    }

    /// The greatest stamp of the range deletes that cover `key` and that a read at `at` sees.
    pub(crate) fn covering(&self, space: SpaceId, key: &[u8], at: Tick) -> Option<Stamp> {
        let fragments = self.spaces.get(&space)?;
        let index = fragments.partition_point(|fragment| *fragment.start <= *key).checked_sub(1)?;
        let fragment = fragments.get(index)?;
        if !fragment.end.is_empty() && *fragment.end <= *key {
            return None;
        }
        let seen = fragment.deletes.partition_point(|(seqno, _)| *seqno <= at).checked_sub(1)?;
        fragment.deletes.get(seen).map(|(_, stamp)| *stamp)
    }
}

impl Fragment {
    /// A part of it, from `start` to `end`.
    fn part(&self, start: &[u8], end: &[u8]) -> Fragment {
        Fragment { start: start.into(), end: end.into(), deletes: self.deletes.clone() }
    }

    /// Keys that only `range` covers.
    fn fresh(start: &[u8], end: &[u8], seqno: Tick, stamp: Stamp) -> Fragment {
        let deletes = vec![(seqno, stamp)];
        Fragment { start: start.into(), end: end.into(), deletes }
    }

    fn add(&mut self, seqno: Tick, stamp: Stamp) {
        let place = self.deletes.partition_point(|(before, _)| *before <= seqno);
        let before = place.checked_sub(1).and_then(|before| self.deletes.get(before));
        // Whoever sees it sees one as great already.
        if before.is_some_and(|(_, greatest)| *greatest >= stamp) {
            return;
        }
        match place.checked_sub(1).and_then(|before| self.deletes.get_mut(before)) {
            Some((same, greatest)) if *same == seqno => *greatest = stamp,
            _ => self.deletes.insert(place, (seqno, stamp)),
        }
        for (_, later) in self.deletes.iter_mut().skip(place) {
            *later = stamp.max(*later);
        }
    }
}

/// Which end comes first; an empty one is behind all others.
fn by_end(a: &[u8], b: &[u8]) -> Ordering {
    match (a.is_empty(), b.is_empty()) {
        (false, false) => a.cmp(b),
        (is_last, other_is_last) => is_last.cmp(&other_is_last),
    }
}

/// Cuts `range` and the fragments it touches at each other's ends.
fn insert(fragments: &mut Vec<Arc<Fragment>>, range: &RangeDelete, stamp: Stamp) {
    let (start, end, seqno) = (&*range.start, &*range.end, range.seqno);
    let first = fragments.partition_point(|f| !f.end.is_empty() && *f.end <= *start);
    let touched = |f: &Arc<Fragment>| end.is_empty() || *f.start < *end;
    let last = first + fragments.get(first..).unwrap_or_default().partition_point(touched);
    let mut pieces: Vec<Fragment> = Vec::new();
    // Up to where the range is covered by pieces; none once it is to the last key.
    let mut covered_to = Some(start);
    for old in fragments.get(first..last).unwrap_or_default() {
        let (old_start, old_end) = (&*old.start, &*old.end);
        if old_start < start {
            pieces.push(old.part(old_start, start));
        } else if let Some(from) = covered_to.filter(|from| *from < old_start) {
            pieces.push(Fragment::fresh(from, old_start, seqno, stamp));
        }
        let is_cut = by_end(end, old_end) == Ordering::Less;
        let common_end = if is_cut { end } else { old_end };
        let mut common = old.part(old_start.max(start), common_end);
        common.add(seqno, stamp);
        pieces.push(common);
        covered_to = Some(common_end).filter(|end| !end.is_empty());
        if is_cut {
            pieces.push(old.part(end, old_end));
        }
    }
    if let Some(from) =
        covered_to.filter(|from| by_end(from, end) == Ordering::Less || from.is_empty())
    {
        pieces.push(Fragment::fresh(from, end, seqno, stamp));
    }
    fragments.splice(first..last, pieces.into_iter().map(Arc::new));
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn range(start: &[u8], end: &[u8], seqno: u64, stamp: u64, node: u8) -> RangeDelete {
        RangeDelete {
            space: SpaceId(1),
            start: start.into(),
            end: end.into(),
            seqno: Tick::from_raw(seqno).unwrap(),
            stamp: Tick::from_raw(stamp).unwrap(),
            origin: (node > 0).then(|| origin(node)),
        }
    }

    fn origin(node: u8) -> Origin {
        Origin { node: base::NodeId([node; 16]), ..Origin::default() }
    }

    #[test]
    fn many_deletes_of_one_commit_take_little() {
        let nested = (0..300u16).map(|n| {
            let (start, end) = (n.to_be_bytes(), (1000 - n).to_be_bytes());
            range(&start, &end, 9, u64::from(n % 7) + 1, 1)
        });
        let map = RangeMap::of(nested, origin(1));
        let fragments = &map.spaces[&SpaceId(1)];
        let deletes: usize = fragments.iter().map(|fragment| fragment.deletes.len()).sum();
        assert_eq!((fragments.len(), deletes), (599, 599));
    }

    proptest! {
        /// Fragments say what asking every range would.
        #[test]
        fn it_agrees_with_asking_every_range(
            ranges in proptest::collection::vec((proptest::collection::vec(0u8..4, 0..3), proptest::collection::vec(0u8..4, 0..3), 1u64..50, 1u64..8, 0u8..4), 0..12),
            key in proptest::collection::vec(0u8..4, 1..4), at in 0u64..60
        ) {
            let ranges: Vec<_> = ranges.iter()
                .filter(|(start, end, ..)| end.is_empty() || start < end)
                .map(|(start, end, seqno, stamp, node)| range(start, end, *seqno, *stamp, *node))
                .collect();
            let local = origin(2);
            let at = Tick::from_raw(at).unwrap();
            let expected = ranges.iter()
                .filter(|r| *r.start <= *key && (r.end.is_empty() || *key < *r.end) && r.seqno <= at)
                .map(|r| r.stamp(local)).max();
            prop_assert_eq!(RangeMap::of(ranges, local).covering(SpaceId(1), &key, at), expected);
        }
    }
}
