//! What must hold at every step, whatever the rules do.
//!
//! The state of a whole node is a function of its vector: a key reads as the greatest of all
//! operations on it that the vector covers, where an erase counts as a deletion just above its
//! victim. That is no loss, no resurrection and no divergence in one sentence; no write that was
//! acknowledged, and that any node still covers, is missing without an erase and a copy in
//! quarantine.

use crate::action::Action;
use crate::world::{KEYS, Name, Node, Op, RANGE, Slot, World, name_of};
use base::{Origin, Stamp};
use replication::rules::{Rank, Version, VersionKind};
use std::collections::BTreeSet;
use std::sync::Arc;

/// A promise that a history broke.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Violation {
    /// A read is not what the vector says: the stamps found and expected.
    Read { at: Name, key: Slot, found: Option<Stamp>, expected: Option<Stamp> },
    /// Copies of late puts are missing or made up.
    Quarantine { at: Name },
    /// A put was erased as late, though its author was waited for and never lost it.
    HealthyErased { victim: Stamp },
    /// A vector or a floor went back within one life.
    WentBack { at: Name },
    /// All is connected and nothing moves any more, but a node is not whole or lacks something.
    Stuck { at: Name },
    /// All nodes have everything, and a tombstone still may not go.
    HeldForEver { at: Name, slot: Slot },
    /// Healing never ends.
    Restless,
}

impl World {
    /// Checks the nodes that `action` changed since `before`.
    pub(crate) fn check_step(&self, before: &World, action: Action) -> Result<(), Violation> {
        for (at, (old, new)) in before.nodes.iter().zip(&self.nodes).enumerate() {
            if Arc::ptr_eq(old, new) {
                continue;
            }
            self.check_node(at)?;
            let may_go_back = matches!(action, Action::PowerLoss { .. } | Action::Restore { .. });
            let went_back = !new.scope.vector.covers_all(&old.scope.vector)
                || !new.scope.floor.covers_all(&old.scope.floor);
            if went_back && !may_go_back {
                return Err(Violation::WentBack { at });
            }
        }
        self.check_erases(before)
    }

    /// Checks that what `at` shows is what its vector says.
    pub(crate) fn check_node(&self, at: Name) -> Result<(), Violation> {
        let node = &self.nodes[at];
        if node.is_empty {
            return Ok(());
        }
        let mut greatest: [Option<(Rank, Option<Stamp>)>; KEYS] = [None; KEYS];
        let mut quarantine = BTreeSet::new();
        for (stamp, op) in self.covered(node) {
            let (slot, version) = match op {
                Op::Put(slot) => (slot, Version::written(stamp, VersionKind::Put)),
                Op::Delete(slot) => (slot, Version::written(stamp, VersionKind::Tombstone)),
                Op::Erase(slot, victim) => {
                    quarantine.insert((slot, victim, stamp));
                    (slot, Version::erase(victim, stamp))
                }
                Op::Member(..) | Op::Born => continue,
            };
            let read = (!version.is_deletion()).then_some(version.stamp);
            let is_inside = |key: &Slot| *key == slot || slot == RANGE;
            for key in (0..KEYS).filter(is_inside) {
                greatest[key] = greatest[key].max(Some((version.rank(), read)));
            }
        }
        for (key, greatest) in greatest.iter().enumerate() {
            let (expected, found) = (greatest.and_then(|(_, read)| read), node.scope.read(key));
            if found != expected {
                return Err(Violation::Read { at, key, found, expected });
            }
        }
        if quarantine != node.scope.quarantine {
            return Err(Violation::Quarantine { at });
        }
        Ok(())
    }

    /// The operations that the vector of `node` covers.
    fn covered<'a>(&'a self, node: &'a Node) -> impl Iterator<Item = (Stamp, Op)> + 'a {
        let is_covered = |stamp: &Stamp| node.scope.vector.covers_stamp(*stamp);
        self.operations().filter(move |(stamp, _)| is_covered(stamp))
    }

    /// All operations that were ever acknowledged.
    fn operations(&self) -> impl Iterator<Item = (Stamp, Op)> + '_ {
        let of = |origin: Origin, tick, op| (Stamp { tick, origin }, op);
        self.streams.iter().flat_map(move |(origin, records)| {
            records.iter().flat_map(move |record| {
                record.ops.iter().map(move |op| of(*origin, record.tick, *op))
            })
        })
    }

    /// Whether each put that this step erased had to go.
    fn check_erases(&self, before: &World) -> Result<(), Violation> {
        let is_healthy = |victim: &Stamp| {
            let author = &before.nodes[name_of(victim.origin)];
            let is_own = author.origin == victim.origin || author.inherited.covers_stamp(*victim);
            let excused = self.excused.get(&victim.origin);
            is_own && excused.is_none_or(|upto| victim.tick > *upto)
        };
        let is_new = |origin: &Origin, at: usize| {
            before.streams.get(origin).is_none_or(|records| records.len() <= at)
        };
        for (origin, records) in self.streams.iter() {
            let records = records.iter().enumerate().filter(|(at, _)| is_new(origin, *at));
            for op in records.flat_map(|(_, record)| &record.ops) {
                if let Op::Erase(_, victim) = op
                    && is_healthy(victim)
                {
                    return Err(Violation::HealthyErased { victim: *victim });
                }
            }
        }
        Ok(())
    }
}
