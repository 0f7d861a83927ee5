//! Which versions of a key a compaction keeps: the only place that decides.
//!
//! A read at point `p` sees the newest version at or below `p`. So of all versions that share their
//! next read point only the newest can ever be seen; it is kept and the others go. A tombstone goes
//! too once nothing older lies below the compaction's output and no read point needs it.

use crate::range_map::RangeMap;
use base::{Defect, EntryKind, SpaceId, Tick, Trailer, planted};

/// What bounds the decisions of one compaction.
#[derive(Debug)]
pub(crate) struct Policy {
    /// Read points that snapshots hold, and the horizon; ascending.
    points: Vec<Tick>,
    /// Versions above it are all kept: reads as of any later moment are still possible.
    horizon: Tick,
    /// What has expired by this wall clock becomes a tombstone.
    now_ms: u64,
    /// Whether nothing older than the inputs lies in the range of keys compacted.
    bottom: Bottom,
    /// Range deletes in the inputs.
    ranges: RangeMap,
}

/// Whether anything older lies below.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Bottom {
    /// Nothing: tombstones have nothing left to hide.
    Reached,
    /// Something may.
    Below,
}

/// What becomes of a version.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// It stays.
    Keep,
    /// It stays as a tombstone of the same seqno.
    KeepAsDelete,
    /// It goes.
    Drop,
    /// It goes, and it was a tombstone: its stamp is to be remembered.
    DropTombstone,
}

impl Policy {
    /// A policy for `held` read points (ascending) and a `horizon` not above what is visible.
    pub(crate) fn new(
        held: &[Tick],
        horizon: Tick,
        now_ms: u64,
        bottom: Bottom,
        ranges: RangeMap,
    ) -> Policy {
        let is_held = |point: &Tick| *point < horizon && !planted(Defect::ForgetSnapshots);
        let mut points: Vec<Tick> = held.iter().copied().filter(is_held).collect();
        points.push(horizon);
        Policy { points, horizon, now_ms, bottom, ranges }
    }

    /// The read point that decides about a version of commit `seqno`; none above the horizon.
    fn point_of(&self, seqno: Tick) -> Option<Tick> {
        self.points.get(self.points.partition_point(|point| *point < seqno)).copied()
    }

    /// The oldest read point.
    fn oldest(&self) -> Tick {
        self.points.first().copied().unwrap_or(self.horizon)
    }

    /// The range deletes that must stay in the output.
    pub(crate) fn surviving_ranges(&self) -> impl Iterator<Item = &sstable::RangeDelete> {
        let may_go = |seqno: Tick| self.bottom == Bottom::Reached && seqno <= self.oldest();
        let is_kept = move |seqno: Tick| !may_go(seqno) && !planted(Defect::LoseRangeDelete);
        self.ranges.ranges().filter(move |range| is_kept(range.seqno))
    }

    /// The highest stamp of the range deletes that go.
    pub(crate) fn dropped_range_stamp(&self) -> Option<Tick> {
        let may_go = |seqno: Tick| self.bottom == Bottom::Reached && seqno <= self.oldest();
        self.ranges.ranges().filter(|range| may_go(range.seqno)).map(|range| range.stamp).max()
    }
}

/// Applies a policy to the versions of one key after the other.
#[derive(Debug)]
pub(crate) struct Resolve<'p> {
    policy: &'p Policy,
    /// The read point of the last version that was kept or decided; the next older one that shares
    /// it can not be seen.
    decided: Option<Tick>,
    last_seqno: Option<Tick>,
}

impl<'p> Resolve<'p> {
    /// Ready for the first key.
    pub(crate) fn new(policy: &'p Policy) -> Resolve<'p> {
        Resolve { policy, decided: None, last_seqno: None }
    }

    /// The next entries are of another key.
    #[inline]
    pub(crate) fn next_key(&mut self) {
        self.decided = None;
        self.last_seqno = None;
    }

    /// Decides about the next older version of the key.
    #[inline]
    pub(crate) fn version(
        &mut self,
        space: SpaceId,
        key: &[u8],
        trailer: Trailer,
        stored: &[u8],
    ) -> Verdict {
        let seqno = trailer.seqno();
        if self.last_seqno == Some(seqno) {
            // The same version from an older source, or an earlier write of the same batch.
            return Verdict::Drop;
        }
        self.last_seqno = Some(seqno);
        let Some(point) = self.policy.point_of(seqno) else { return Verdict::Keep };
        if self.decided == Some(point) {
            return Verdict::Drop;
        }
        self.decided = Some(point);
        if !self.policy.ranges.is_empty() {
            let covering = self.policy.ranges.covering(space, key, point);
            if covering.is_some_and(|stamp| stamp > seqno) {
                return Verdict::Drop;
            }
        }
        match trailer.kind() {
            Some(EntryKind::Delete) if self.may_vanish(seqno) => Verdict::DropTombstone,
            Some(EntryKind::PutExpiring) if self.is_expired(stored) => {
                if self.may_vanish(seqno) {
                    Verdict::DropTombstone
                } else {
                    Verdict::KeepAsDelete
                }
            }
            _ => Verdict::Keep,
        }
    }

    /// Whether a tombstone of `seqno` hides nothing from anyone.
    fn may_vanish(&self, seqno: Tick) -> bool {
        let is_bottom =
            self.policy.bottom == Bottom::Reached || planted(Defect::DropTombstoneEarly);
        is_bottom && seqno <= self.policy.oldest()
    }

    fn is_expired(&self, stored: &[u8]) -> bool {
        stored
            .first_chunk::<8>()
            .is_some_and(|at_ms| u64::from_le_bytes(*at_ms) <= self.policy.now_ms)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn tick(raw: u64) -> Tick {
        Tick::from_raw(raw).unwrap()
    }

    /// What a read at `at` sees of versions given newest first.
    fn read(versions: &[(u64, bool)], at: u64) -> Option<u64> {
        versions
            .iter()
            .find(|(seqno, _)| *seqno <= at)
            .filter(|(_, is_put)| *is_put)
            .map(|(s, _)| *s)
    }

    proptest! {
        /// A compaction changes no read at a held point, at the horizon, or above it.
        #[test]
        fn no_possible_read_changes(
            seqnos in proptest::collection::btree_map(1u64..40, any::<bool>(), 1..12),
            held in proptest::collection::btree_set(0u64..40, 0..4),
            horizon in 0u64..45, reached: bool
        ) {
            let versions: Vec<(u64, bool)> = seqnos.into_iter().rev().collect();
            let held: Vec<Tick> = held.into_iter().map(tick).collect();
            let bottom = if reached { Bottom::Reached } else { Bottom::Below };
            let policy = Policy::new(&held, tick(horizon), 0, bottom, RangeMap::default());
            let mut resolve = Resolve::new(&policy);
            let kept: Vec<(u64, bool)> = versions.iter().copied().filter(|(seqno, is_put)| {
                let kind = if *is_put { EntryKind::Put } else { EntryKind::Delete };
                let verdict = resolve.version(SpaceId(0), b"k", Trailer::new(tick(*seqno), kind), b"");
                verdict == Verdict::Keep
            }).collect();
            let points = held.iter().map(|p| p.raw()).filter(|p| *p <= horizon);
            for at in points.chain(horizon..50) {
                prop_assert_eq!(read(&kept, at), read(&versions, at), "at {} of {:?}", at, versions);
            }
            // Without held points only one version at or below the horizon is left.
            if held.is_empty() {
                prop_assert!(kept.iter().filter(|(seqno, _)| *seqno <= horizon).count() <= 1);
            }
        }
    }
}
