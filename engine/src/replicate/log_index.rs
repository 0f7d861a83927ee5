//! Where in the log are which commits of whom: where a peer's tail starts, and how far that is from the end.
//!
//! Kept as commits are appended, a few words for an author and a piece of the log; let go with the segments.

use base::{Origin, Position, ScopeId, Tick, Vector};
use std::collections::BTreeMap;

/// Pieces of a segment of the usual size. More make tails start nearer to what they give, fewer take less
/// memory where many authors write at a time.
const PIECES: u64 = 32;
/// Bytes of the log from which on the next commit begins another piece, at the most.
const PIECE_BYTES_MAX: u64 = 1 << 20;

/// What a piece has of one author in one scope: the commits behind `before`, up to `last`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Stretch {
    scope: ScopeId,
    origin: Origin,
    before: Tick,
    last: Tick,
}

/// See the module. Only what this process has appended is in it.
///
/// A piece is a part of one segment, and an author's commits stand in their order, so their stretches rise.
#[derive(Debug)]
pub(crate) struct LogIndex {
    /// Bytes from which on a piece is full.
    piece_bytes: u64,
    /// Earlier pieces that have anything, by where their first commit starts.
    pieces: BTreeMap<Position, Vec<Stretch>>,
    /// Where the piece that grows starts, and what it has.
    growing: Position,
    stretches: Vec<Stretch>,
}

/// Where the log starts for a peer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Start {
    /// Here, where a commit or a segment starts: the first that is new to it stands at most a piece later.
    At(Position),
    /// Nothing of what is here is new to it.
    Nowhere,
    /// The log does not reach back: it has nothing before this tick of some author.
    Gone(Tick),
}

impl LogIndex {
    /// Of a log that is empty, with segments of `segment_bytes`.
    pub(crate) fn new(segment_bytes: u64) -> LogIndex {
        LogIndex {
            piece_bytes: (segment_bytes / PIECES).min(PIECE_BYTES_MAX),
            pieces: BTreeMap::new(),
            growing: Position::default(),
            stretches: Vec::new(),
        }
    }

    /// Notes that the commits of `origin` behind `before`, up to `last`, went to the log at `start`.
    #[inline]
    pub(crate) fn note(
        &mut self,
        start: Position,
        scope: ScopeId,
        origin: Origin,
        before: Tick,
        last: Tick,
    ) {
        let Position { segment, offset } = self.growing;
        if start.segment != segment || start.offset - offset >= self.piece_bytes {
            self.roll(start);
        }
        let known = self.stretches.iter_mut().find(|it| it.scope == scope && it.origin == origin);
        match known {
            Some(stretch) => stretch.last = last,
            None => self.stretches.push(Stretch { scope, origin, before, last }),
        }
    }

    #[cold]
    fn roll(&mut self, start: Position) {
        let full = std::mem::take(&mut self.stretches);
        if !full.is_empty() {
            self.pieces.insert(self.growing, full);
        }
        self.growing = start;
    }

    /// Forgets the segments before `first`.
    pub(crate) fn release(&mut self, first: u64) {
        self.pieces = self.pieces.split_off(&Position { segment: first, offset: 0 });
        if self.growing.segment < first {
            self.stretches.clear();
        }
    }

    /// Forgets all: what the log has so far is not to be read any more.
    pub(crate) fn clear(&mut self) {
        self.pieces.clear();
        self.stretches.clear();
    }

    /// Forgets what the log has of `origin`: what follows is not in it, so nobody behind can use it.
    pub(crate) fn forget(&mut self, scope: ScopeId, origin: Origin) {
        let others = |it: &Stretch| it.scope != scope || it.origin != origin;
        self.pieces.values_mut().for_each(|stretches| stretches.retain(others));
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
                Some((start, before)) if before <= known => {
                    first = Some(first.map_or(start, |first: Position| first.min(start)));
                }
                Some((_, before)) => return Start::Gone(before),
                None => return Start::Gone(tick),
            }
        }
        first.map_or(Start::Nowhere, Start::At)
    }

    /// Where the first piece with a commit of `origin` behind `known` starts, and what that commit follows.
    /// Looks from the end, because peers are behind by little almost always.
    fn first_behind(
        &self,
        scope: ScopeId,
        origin: Origin,
        known: Tick,
    ) -> Option<(Position, Tick)> {
        let full = self.pieces.iter().map(|(start, stretches)| (*start, stretches));
        let all = full.chain([(self.growing, &self.stretches)]).rev();
        let stretches = all.filter_map(|(start, stretches)| {
            let it = stretches.iter().find(|it| it.scope == scope && it.origin == origin)?;
            Some((start, it))
        });
        let mut first = None;
        for (start, stretch) in stretches.take_while(|(_, it)| it.last > known) {
            first = Some((start, stretch.before));
            if stretch.before <= known {
                break;
            }
        }
        first
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

    fn at(segment: u64, offset: u64) -> Position {
        Position { segment, offset }
    }

    /// Segment 1: commits 1, 2 of node 1. Segment 2: 3 of node 1, 2 of node 2. Segment 4: 5 of node 1.
    fn index() -> LogIndex {
        let mut index = LogIndex::new(32 << 20);
        for (segment, node, before, last) in
            [(1, 1, 0, 1), (1, 1, 1, 2), (2, 1, 2, 3), (2, 2, 0, 2), (4, 1, 3, 5)]
        {
            index.note(at(segment, 0), ScopeId::MAIN, origin(node), tick(before), tick(last));
        }
        index
    }

    #[test]
    fn a_tail_starts_at_the_first_segment_with_anything_new() {
        let (index, now) = (index(), vector(&[(1, 5), (2, 2)]));
        let start = |after: &[(u8, u64)]| index.start(ScopeId::MAIN, &vector(after), &now);
        assert_eq!(start(&[]), Start::At(at(1, 0)));
        assert_eq!(start(&[(1, 1)]), Start::At(at(1, 0)));
        assert_eq!(start(&[(1, 2)]), Start::At(at(2, 0)));
        assert_eq!(start(&[(1, 3)]), Start::At(at(2, 0)));
        assert_eq!(start(&[(1, 3), (2, 2)]), Start::At(at(4, 0)));
        assert_eq!(start(&[(1, 4), (2, 9)]), Start::At(at(4, 0)));
        assert_eq!(start(&[(1, 5), (2, 2)]), Start::Nowhere);
    }

    #[test]
    fn a_tail_starts_at_most_a_piece_before_what_is_new() {
        let mut index = LogIndex::new(32 << 20);
        let each = PIECE_BYTES_MAX / 2 + 1;
        let now = vector(&[(1, 9), (2, 3)]);
        for commit in 1..=9 {
            let (start, before) = (at(1, commit * each), tick(commit - 1));
            index.note(start, ScopeId::MAIN, origin(1), before, tick(commit));
            if commit == 3 {
                index.note(start, ScopeId::MAIN, origin(2), tick(0), tick(3));
            }
        }
        let start = |after: &[(u8, u64)]| index.start(ScopeId::MAIN, &vector(after), &now);
        for known in 0..9 {
            let Start::At(found) = start(&[(1, known), (2, 3)]) else { panic!("{known}") };
            let first = at(1, (known + 1) * each);
            assert!(
                found <= first && first.offset - found.offset < PIECE_BYTES_MAX,
                "{known}: {found}"
            );
            let Start::At(found) = start(&[(1, known)]) else { panic!("{known}") };
            assert!(found <= first && found <= at(1, 3 * each), "{known}: {found}");
        }
    }

    #[test]
    fn a_log_that_does_not_reach_back_says_so() {
        let (mut index, now) = (index(), vector(&[(1, 5), (2, 2)]));
        let start = |index: &LogIndex, after: &[(u8, u64)], now: &Vector| {
            index.start(ScopeId::MAIN, &vector(after), now)
        };
        index.release(2);
        assert_eq!(start(&index, &[(1, 1)], &now), Start::Gone(tick(2)));
        assert_eq!(start(&index, &[(1, 2)], &now), Start::At(at(2, 0)));
        index.release(5);
        assert_eq!(
            start(&index, &[(1, 4), (2, 2)], &now),
            Start::Gone(tick(5)),
            "the last piece is gone, too"
        );
        index.note(at(5, 0), ScopeId::MAIN, origin(1), tick(5), tick(6));
        let later = vector(&[(1, 6), (2, 2)]);
        assert_eq!(start(&index, &[(1, 4), (2, 2)], &later), Start::Gone(tick(5)));
        assert_eq!(start(&index, &[(1, 5), (2, 2)], &later), Start::At(at(5, 0)));
        let more = vector(&[(1, 5), (2, 2), (3, 1)]);
        assert_eq!(start(&index, &[(1, 5), (2, 2)], &more), Start::Gone(tick(1)));
        assert_eq!(index.start(ScopeId(9), &vector(&[]), &now), Start::Gone(tick(5)));
    }
}
