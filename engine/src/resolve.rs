//! Which versions of a key a compaction keeps: the only place that decides.
//!
//! A read at point `p` sees the newest version at or below `p`. So of all versions that share their
//! next read point only the newest can ever be seen; it is kept and the others go. A tombstone goes
//! too once nothing older lies below the compaction's output, no read point needs it, and the floor
//! covers it: an erase with its victim and with the commit that brought it.

use crate::floors::Floors;
use crate::origins::Origins;
use crate::range_map::RangeMap;
use base::foreign::{plain_value, stamp_of};
use base::{Defect, EntryKind, Origin, ScopeId, SpaceId, Tick, Trailer, planted};
use sstable::RangeDelete;
use std::sync::Arc;

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
    /// The authors that entries name.
    origins: Arc<Origins>,
    /// Up to where tombstones may go.
    floors: Floors,
}

/// A version of a key, as it is stored.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Stored<'e> {
    pub(crate) space: SpaceId,
    pub(crate) key: &'e [u8],
    pub(crate) trailer: Trailer,
    pub(crate) value: &'e [u8],
    /// What "local" means where it is stored.
    pub(crate) local: Origin,
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
    /// It goes, and it was a tombstone: the tick of its stamp is to be remembered.
    DropTombstone(Tick),
}

impl Policy {
    /// A policy for `held` read points (ascending) and a `horizon` not above what is visible.
    pub(crate) fn new(
        held: &[Tick],
        horizon: Tick,
        now_ms: u64,
        bottom: Bottom,
        ranges: RangeMap,
        origins: Arc<Origins>,
    ) -> Policy {
        let is_held = |point: &Tick| *point < horizon && !planted(Defect::ForgetSnapshots);
        let mut points: Vec<Tick> = held.iter().copied().filter(is_held).collect();
        points.push(horizon);
        Policy { points, horizon, now_ms, bottom, ranges, origins, floors: Floors::default() }
    }

    /// The same, but tombstones above `floors` stay.
    pub(crate) fn above(self, floors: Floors) -> Policy {
        Policy { floors, ..self }
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
    pub(crate) fn surviving_ranges(&self) -> impl Iterator<Item = &RangeDelete> {
        let stays = |range: &RangeDelete| !self.may_go(range) && !planted(Defect::LoseRangeDelete);
        self.ranges.ranges().filter(move |range| stays(range))
    }

    /// The ticks of the stamps of the range deletes that go.
    pub(crate) fn dropped_ranges(&self) -> impl Iterator<Item = (ScopeId, Tick)> {
        let dropped = self.ranges.ranges().filter(|range| self.may_go(range));
        dropped.map(|range| (range.space.scope(), range.stamp))
    }

    fn may_go(&self, range: &RangeDelete) -> bool {
        let stamp = range.stamp(self.origins.own());
        self.bottom == Bottom::Reached
            && range.seqno <= self.oldest()
            && self.floors.covers(range.space.scope(), stamp)
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
    pub(crate) fn version(&mut self, version: &Stored<'_>) -> Verdict {
        let trailer = version.trailer;
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
        if !self.policy.ranges.is_empty() && self.is_covered(version, point) {
            return Verdict::Drop;
        }
        if trailer.is_plain_put() {
            return Verdict::Keep;
        }
        match trailer.kind() {
            Some(EntryKind::Delete | EntryKind::Erase) => {
                self.vanishing(version).map_or(Verdict::Keep, Verdict::DropTombstone)
            }
            Some(EntryKind::PutExpiring) if self.is_expired(version) => {
                self.vanishing(version).map_or(Verdict::KeepAsDelete, Verdict::DropTombstone)
            }
            _ => Verdict::Keep,
        }
    }

    /// Whether a range delete that a read at `point` sees covers the version.
    fn is_covered(
        &self,
        Stored { space, key, trailer, value, local }: &Stored<'_>,
        point: Tick,
    ) -> bool {
        let covering = self.policy.ranges.covering(*space, key, point);
        let origins = &self.policy.origins;
        covering.is_some_and(|range| origins.compare(range, *trailer, value, || *local).is_gt())
    }

    /// The tick of a tombstone's stamp if it hides nothing from anyone.
    fn vanishing(&self, version: &Stored<'_>) -> Option<Tick> {
        let is_bottom =
            self.policy.bottom == Bottom::Reached || planted(Defect::DropTombstoneEarly);
        if !is_bottom || version.trailer.seqno() > self.policy.oldest() {
            return None;
        }
        let stamp = stamp_of(version.trailer, version.value).ok()?;
        let (scope, local) = (version.space.scope(), || version.local);
        let (floors, origins) = (&self.policy.floors, &self.policy.origins);
        let is_known = floors.is_present(scope)
            || floors.covers(scope, origins.entry_stamp(stamp, local))
                && floors.covers(scope, origins.stamp(stamp.carrier(), local));
        is_known.then(|| stamp.tick())
    }

    fn is_expired(&self, version: &Stored<'_>) -> bool {
        plain_value(version.trailer, version.value)
            .unwrap_or_default()
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

    fn stored(trailer: Trailer, value: &[u8]) -> Stored<'_> {
        Stored { space: SpaceId(0), key: b"k", trailer, value, local: Origin::default() }
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
            let origins = Arc::new(Origins::default());
            let policy = Policy::new(&held, tick(horizon), 0, bottom, RangeMap::default(), origins);
            let mut resolve = Resolve::new(&policy);
            let kept: Vec<(u64, bool)> = versions.iter().copied().filter(|(seqno, is_put)| {
                let kind = if *is_put { EntryKind::Put } else { EntryKind::Delete };
                resolve.version(&stored(Trailer::new(tick(*seqno), kind), b"")) == Verdict::Keep
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
