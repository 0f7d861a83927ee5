//! The last-writer-wins fold: per key the newest version, and all range deletes.

use crate::rules::{self, Rank, VersionKind};
use base::{Stamp, Tick, Vector};
use std::collections::BTreeMap;

/// Keyspace name and key.
pub(crate) type Place = (String, Vec<u8>);

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
    /// It as the rules see it.
    pub(crate) fn as_ruled(&self) -> rules::Version {
        match self.says {
            Says::Put { .. } => rules::Version::written(self.stamp, VersionKind::Put),
            Says::Delete => rules::Version::written(self.stamp, VersionKind::Tombstone),
            Says::Erase { carrier } => rules::Version::erase(self.stamp, carrier),
        }
    }

    pub(crate) fn rank(&self) -> Rank {
        self.as_ruled().rank()
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
    /// It as the rules see it: a tombstone of each key inside.
    pub(crate) fn as_ruled(&self) -> rules::Version {
        rules::Version::written(self.stamp, VersionKind::Tombstone)
    }

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
    /// The greatest rank of anything about the key: its version or a range over it.
    pub(crate) fn newest(&self, place: &Place) -> Option<Rank> {
        let point = self.points.get(place).map(Version::rank);
        let ranges = self.ranges.iter().filter(|range| range.has(place));
        point.max(ranges.map(|range| range.as_ruled().rank()).max())
    }

    /// The same, as a version of the key meets it: a commit that deletes a range and puts into it has one stamp for
    /// both, and the put stays.
    pub(crate) fn met_by(&self, place: &Place, version: &Version) -> Option<Rank> {
        let point = self.points.get(place).map(Version::rank);
        let ranges = self.ranges.iter().filter(|range| range.has(place));
        let others = ranges.filter(|range| range.stamp != version.stamp);
        point.max(others.map(|range| range.as_ruled().rank()).max())
    }

    /// Takes the version if it is newer than what is here.
    pub(crate) fn insert(&mut self, place: Place, version: Version) -> Outcome {
        // A commit of this node deletes a range and puts into it: both have one stamp.
        let ranges = self.ranges.iter().filter(|range| range.has(&place));
        let is_covered = ranges.map(|range| range.stamp).max() > Some(version.stamp);
        let held = self.points.get(&place).map(Version::rank);
        if is_covered || !rules::is_winner(&version.as_ruled(), held) {
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
        let mut keeps = |version: rules::Version| {
            let goes = rules::may_drop(&version, floor);
            if goes {
                dropped = dropped.max(version.stamp.tick);
            }
            !goes
        };
        self.points.retain(|_, version| keeps(version.as_ruled()));
        self.ranges.retain(|range| keeps(range.as_ruled()));
        dropped
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.points.is_empty() && self.ranges.is_empty()
    }
}
