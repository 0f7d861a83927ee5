//! The last-writer-wins fold: per key the newest version, and all range deletes.

use base::{Origin, Stamp, Tick, Vector};
use std::collections::BTreeMap;

/// Keyspace name and key.
pub(crate) type Place = (String, Vec<u8>);

/// The order of versions of a key: tick, author, and an erase just above its victim.
pub(crate) type Order = (Tick, Origin, bool);

/// What a version says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Says {
    /// The key has the value, until a moment if one is given.
    Put { value: Vec<u8>, expires_at_ms: Option<u64> },
    /// The key is deleted.
    Delete,
    /// The version with this stamp and all older ones are gone; the commit brought it.
    Erase { carrier: Stamp },
}

/// A version of a key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Version {
    /// Its author's stamp; of an erase, the victim's.
    pub(crate) stamp: Stamp,
    pub(crate) says: Says,
}

impl Version {
    pub(crate) fn order(&self) -> Order {
        (self.stamp.tick, self.stamp.origin, matches!(self.says, Says::Erase { .. }))
    }

    /// The commit that brought it.
    pub(crate) fn carrier(&self) -> Stamp {
        match self.says {
            Says::Erase { carrier } => carrier,
            _ => self.stamp,
        }
    }

    fn is_put(&self) -> bool {
        matches!(self.says, Says::Put { .. })
    }
}

/// A deleted range.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Range {
    pub(crate) keyspace: String,
    pub(crate) start: Vec<u8>,
    /// Exclusive; empty = to the end of the keyspace.
    pub(crate) end: Vec<u8>,
    pub(crate) stamp: Stamp,
}

impl Range {
    pub(crate) fn has(&self, (keyspace, key): &Place) -> bool {
        self.keyspace == *keyspace && self.start <= *key && (self.end.is_empty() || *key < self.end)
    }
}

/// Whether a version was taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Outcome {
    Won,
    Lost,
}

/// What a scope holds.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Content {
    pub(crate) points: BTreeMap<Place, Version>,
    pub(crate) ranges: Vec<Range>,
}

impl Content {
    /// The greatest order of anything about the key: its version or a range over it.
    pub(crate) fn newest(&self, place: &Place) -> Option<Order> {
        let point = self.points.get(place).map(Version::order);
        let ranges = self.ranges.iter().filter(|range| range.has(place));
        let range = ranges.map(|range| (range.stamp.tick, range.stamp.origin, false)).max();
        point.max(range)
    }

    /// Whether a put that no vector covered came after its deletion may have been forgotten.
    pub(crate) fn is_late(&self, place: &Place, stamp: Stamp, dropped: Tick) -> bool {
        let order = (stamp.tick, stamp.origin, false);
        stamp.tick <= dropped && self.newest(place).is_none_or(|newest| newest <= order)
    }

    /// Takes the version if it is newer than what is here.
    pub(crate) fn insert(&mut self, place: Place, version: Version) -> Outcome {
        let is_covered = |range: &Range| range.has(&place) && range.stamp > version.stamp;
        let is_older = |known: &Version| known.order() >= version.order();
        if self.ranges.iter().any(is_covered) || self.points.get(&place).is_some_and(is_older) {
            return Outcome::Lost;
        }
        self.points.insert(place, version);
        Outcome::Won
    }

    /// Takes a range delete.
    pub(crate) fn insert_range(&mut self, range: Range) {
        self.points.retain(|place, version| !(range.has(place) && range.stamp > version.stamp));
        if !self.ranges.contains(&range) {
            self.ranges.push(range);
            self.ranges.sort();
        }
    }

    /// The live value of a key.
    pub(crate) fn get(&self, place: &Place, wall_ms: u64) -> Option<&[u8]> {
        match &self.points.get(place)?.says {
            Says::Put { expires_at_ms: Some(at), .. } if *at <= wall_ms => None,
            Says::Put { value, .. } => Some(value),
            Says::Delete | Says::Erase { .. } => None,
        }
    }

    /// Forgets every tombstone that the floor covers; returns the highest tick of them.
    pub(crate) fn collect(&mut self, floor: &Vector) -> Tick {
        let mut dropped = Tick::ZERO;
        let mut keeps = |is_tombstone: bool, stamp: Stamp, carrier: Stamp| {
            let goes = is_tombstone && floor.covers_stamp(stamp) && floor.covers_stamp(carrier);
            if goes {
                dropped = dropped.max(stamp.tick);
            }
            !goes
        };
        self.points.retain(|_, at| keeps(!at.is_put(), at.stamp, at.carrier()));
        self.ranges.retain(|range| keeps(true, range.stamp, range.stamp));
        dropped
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.points.is_empty() && self.ranges.is_empty()
    }
}
