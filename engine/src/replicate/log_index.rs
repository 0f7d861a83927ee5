//! Which segment of the log has which commits of whom: where a peer's tail starts.
//!
//! Kept as commits are appended, a few words a segment and author; let go with the segments.

use base::{Origin, ScopeId, Tick, Vector};
use std::collections::BTreeMap;

/// What a segment has of one author in one scope: the commits behind `before`, up to `last`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Stretch {
    scope: ScopeId,
    origin: Origin,
    before: Tick,
    last: Tick,
}

/// See the module. Only what this process has appended is in it.
#[derive(Debug, Default)]
pub(crate) struct LogIndex {
    /// Earlier segments that have anything.
    segments: BTreeMap<u64, Vec<Stretch>>,
    /// The segment that grows, and what it has.
    growing: u64,
    stretches: Vec<Stretch>,
}

/// Where the log starts for a peer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Start {
    /// At this segment.
    Segment(u64),
    /// Nothing of what is here is new to it.
    Nowhere,
    /// The log does not reach back: it has nothing before this tick of some author.
    Gone(Tick),
}

impl LogIndex {
    /// Notes that the commits of `origin` behind `before`, up to `last`, went to `segment`.
    #[inline]
    pub(crate) fn note(
        &mut self,
        segment: u64,
        scope: ScopeId,
        origin: Origin,
        before: Tick,
        last: Tick,
    ) {
        if segment != self.growing {
            self.roll(segment);
        }
        let known = self.stretches.iter_mut().find(|it| it.scope == scope && it.origin == origin);
        match known {
            Some(stretch) => stretch.last = last,
            None => self.stretches.push(Stretch { scope, origin, before, last }),
        }
    }

    #[cold]
    fn roll(&mut self, segment: u64) {
        let full = std::mem::take(&mut self.stretches);
        if !full.is_empty() {
            self.segments.insert(self.growing, full);
        }
        self.growing = segment;
    }

    /// Forgets the segments before `first`.
    pub(crate) fn release(&mut self, first: u64) {
        self.segments = self.segments.split_off(&first);
    }

    /// Forgets all: what the log has so far is not to be read any more.
    pub(crate) fn clear(&mut self) {
        self.segments.clear();
        self.stretches.clear();
    }

    /// Forgets what the log has of `origin`: what follows is not in it, so nobody behind can use it.
    pub(crate) fn forget(&mut self, scope: ScopeId, origin: Origin) {
        let others = |it: &Stretch| it.scope != scope || it.origin != origin;
        self.segments.values_mut().for_each(|stretches| stretches.retain(others));
        self.stretches.retain(others);
    }

    /// Where a peer starts that has `after` of what is here up to `now`.
    pub(crate) fn start(&self, scope: ScopeId, after: &Vector, now: &Vector) -> Start {
        let mut first = None;
        for (origin, tick) in now.iter() {
            let known = after.get(origin);
            if tick <= known {
                continue;
            }
            match self.first_behind(scope, origin, known) {
                Some((segment, before)) if before <= known => {
                    first = Some(first.map_or(segment, |first: u64| first.min(segment)));
                }
                Some((_, before)) => return Start::Gone(before),
                None => return Start::Gone(tick),
            }
        }
        first.map_or(Start::Nowhere, Start::Segment)
    }

    /// The first segment with a commit of `origin` behind `known`, and what that commit follows.
    fn first_behind(&self, scope: ScopeId, origin: Origin, known: Tick) -> Option<(u64, Tick)> {
        let full = self.segments.iter().map(|(number, stretches)| (*number, stretches));
        let mut all = full.chain([(self.growing, &self.stretches)]);
        all.find_map(|(segment, stretches)| {
            let is_it = |it: &&Stretch| it.scope == scope && it.origin == origin && it.last > known;
            stretches.iter().find(is_it).map(|stretch| (segment, stretch.before))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use base::NodeId;

    fn origin(node: u8) -> Origin {
        Origin { node: NodeId([node; 16]), ..Origin::default() }
    }

    fn tick(raw: u64) -> Tick {
        Tick::from_raw(raw).unwrap()
    }

    fn vector(entries: &[(u8, u64)]) -> Vector {
        entries.iter().map(|(node, raw)| (origin(*node), tick(*raw))).collect()
    }

    /// Segment 1: commits 1, 2 of node 1. Segment 2: 3 of node 1, 2 of node 2. Segment 4: 5 of node 1.
    fn index() -> LogIndex {
        let mut index = LogIndex::default();
        for (segment, node, before, last) in
            [(1, 1, 0, 1), (1, 1, 1, 2), (2, 1, 2, 3), (2, 2, 0, 2), (4, 1, 3, 5)]
        {
            index.note(segment, ScopeId::MAIN, origin(node), tick(before), tick(last));
        }
        index
    }

    #[test]
    fn a_tail_starts_at_the_first_segment_with_anything_new() {
        let (index, now) = (index(), vector(&[(1, 5), (2, 2)]));
        let start = |after: &[(u8, u64)]| index.start(ScopeId::MAIN, &vector(after), &now);
        assert_eq!(start(&[]), Start::Segment(1));
        assert_eq!(start(&[(1, 1)]), Start::Segment(1));
        assert_eq!(start(&[(1, 2)]), Start::Segment(2));
        assert_eq!(start(&[(1, 3)]), Start::Segment(2));
        assert_eq!(start(&[(1, 3), (2, 2)]), Start::Segment(4));
        assert_eq!(start(&[(1, 4), (2, 9)]), Start::Segment(4));
        assert_eq!(start(&[(1, 5), (2, 2)]), Start::Nowhere);
    }

    #[test]
    fn a_log_that_does_not_reach_back_says_so() {
        let (mut index, now) = (index(), vector(&[(1, 5), (2, 2)]));
        index.release(2);
        let start = |after: &[(u8, u64)], now| index.start(ScopeId::MAIN, &vector(after), now);
        assert_eq!(start(&[(1, 1)], &now), Start::Gone(tick(2)));
        assert_eq!(start(&[(1, 2)], &now), Start::Segment(2));
        let more = vector(&[(1, 5), (2, 2), (3, 1)]);
        assert_eq!(start(&[(1, 5), (2, 2)], &more), Start::Gone(tick(1)));
        assert_eq!(index.start(ScopeId(9), &vector(&[]), &now), Start::Gone(tick(5)));
    }
}
