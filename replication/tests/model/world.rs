//! Three nodes, two keys, and everything that they have said so far.
//!
//! A history is a list of [`Action`](crate::action::Action)s from a first world. Ticks are small
//! numbers without gaps: a write takes the tick after its node's clock, or after every clock.

use crate::rule::greater;
use base::{Incarnation, NodeId, Origin, Stamp, Tick, Vector};
use replication::rules::{Rank, Statement, Version};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

/// Nodes of a world.
pub(crate) const NODES: usize = 3;
/// Keys of a world.
pub(crate) const KEYS: usize = 2;
/// Lives in one history; the second half of them is kept for those who must rejoin.
const BIRTHS_MAX: u8 = 32;

/// One of the nodes.
pub(crate) type Name = usize;
/// A key, or [`RANGE`].
pub(crate) type Slot = usize;
/// The place of the range delete around both keys.
pub(crate) const RANGE: Slot = KEYS;

/// What a node may do, as the roster says it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum Role {
    /// Writes, and holds every floor.
    Author,
    /// Reads and relays, holds nothing.
    Observer,
    /// Is spoken to by nobody until it rejoins.
    Deprecated,
}

/// A roster record: the stamp of the newest one wins.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct Member {
    pub(crate) since: Stamp,
    pub(crate) role: Role,
}

/// One change in a record.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Op {
    Put(Slot),
    /// Of a key, or of both ([`RANGE`]).
    Delete(Slot),
    /// Answers a late put; the copy in quarantine is part of it.
    Erase(Slot, Stamp),
    /// The roster says so about a node.
    Member(Name, Role),
    /// A restored node names its new incarnation.
    Born,
}

/// A commit as it travels. Its `prev` is the tick of the record before it in the stream.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Record {
    pub(crate) tick: Tick,
    pub(crate) ops: Vec<Op>,
}

/// What a node holds of the scope, and what a snapshot of it carries.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub(crate) struct Scope {
    /// The greatest version of each key that no range delete covers, and the greatest range delete.
    pub(crate) slots: [Option<Version>; KEYS + 1],
    pub(crate) roster: [Option<Member>; NODES],
    /// Victims of erases: key and stamp, then the carrier of the copy.
    pub(crate) quarantine: BTreeSet<(Slot, Stamp, Stamp)>,
    pub(crate) vector: Vector,
    pub(crate) floor: Vector,
    /// The highest stamp that was ever dropped here.
    pub(crate) dropped: Stamp,
}

/// How a staged snapshot will be installed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Purpose {
    /// T2: only what is news, with a jump of the vector.
    Delta,
    /// T3: what was let go there goes here too.
    Rejoin,
    /// Into an empty node.
    Bootstrap,
}

/// What arrived whole from a donor, and is not installed yet.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Staged {
    pub(crate) purpose: Purpose,
    pub(crate) donor: Arc<Node>,
}

/// One node.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Node {
    pub(crate) origin: Origin,
    /// The vector with which this life began.
    pub(crate) inherited: Vector,
    pub(crate) clock: Tick,
    pub(crate) scope: Scope,
    /// Up to which tick of each origin the log is gone, or jumped over.
    pub(crate) log_from: Vector,
    /// The last statement heard of each node, counted or not.
    pub(crate) heard: [Option<Statement>; NODES],
    /// Not bootstrapped yet.
    pub(crate) is_empty: bool,
    /// Restored, and not announced to a live author yet.
    pub(crate) is_unannounced: bool,
    /// Between the first step of a rejoin and its install.
    pub(crate) is_rejoining: bool,
    /// The roster record that let it come back, until its install.
    pub(crate) readmitted: Stamp,
    /// It met late puts, which it may not erase: it took nothing of what brought them, and rejoins.
    pub(crate) needs_answer: bool,
    pub(crate) staged: Option<Arc<Staged>>,
    pub(crate) backup: Option<Arc<Node>>,
    /// What survives a power loss, while there is something that does not.
    pub(crate) durable: Option<Arc<Node>>,
}

/// The whole state of a history.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct World {
    pub(crate) nodes: [Arc<Node>; NODES],
    /// Every record that was ever acknowledged, by author.
    pub(crate) streams: Arc<BTreeMap<Origin, Vec<Record>>>,
    pub(crate) births: u8,
    /// What operators want each node to be while it is not deprecated.
    pub(crate) roles: [Role; NODES],
    /// Lives whose writes up to a tick may come out late: someone was told not to wait for them.
    pub(crate) excused: BTreeMap<Origin, Tick>,
}

impl Scope {
    /// The rank of the greatest version of `slot`, range deletes included.
    pub(crate) fn rank_at(&self, slot: Slot) -> Option<Rank> {
        let rank = |slot: Slot| self.slots[slot].as_ref().map(Version::rank);
        greater(rank(slot), rank(RANGE))
    }

    /// The role of `name` as this scope knows it.
    pub(crate) fn role(&self, name: Name) -> Option<Role> {
        self.roster[name].map(|member| member.role)
    }

    /// Takes a roster record if it is newer.
    pub(crate) fn enlist(&mut self, name: Name, member: Member) {
        self.roster[name] = self.roster[name].max(Some(member));
    }

    /// The stamp of the live put that a read of `key` finds.
    pub(crate) fn read(&self, key: Slot) -> Option<Stamp> {
        let version = self.slots[key].as_ref()?;
        (!version.is_deletion() && Some(version.rank()) == self.rank_at(key))
            .then_some(version.stamp)
    }
}

impl Node {
    /// Whether it holds all that its vector covers, and may say so.
    pub(crate) fn is_whole(&self) -> bool {
        !(self.is_empty || self.is_unannounced || self.is_rejoining)
    }

    /// Raises the vector to `to`, and the log begins behind what was jumped over.
    pub(crate) fn jump(&mut self, to: &Vector) {
        for (origin, tick) in to.iter().filter(|(o, t)| !self.scope.vector.covers(*o, *t)) {
            self.log_from.raise(origin, tick);
        }
        self.scope.vector.raise_all(to);
    }
}

impl World {
    /// The nodes have `roles` and know each other; `joiner`, if any, is still empty and unknown.
    pub(crate) fn new(roles: [Role; NODES], joiner: Option<Name>) -> World {
        let known = |name: Name| (Some(name) != joiner).then_some(roles[name]);
        let member = |role| Member { since: Stamp::default(), role };
        let roster = std::array::from_fn(|name| known(name).map(member));
        let node = |name: Name| Node {
            origin: origin(name, name as u8),
            inherited: Vector::default(),
            clock: Tick::ZERO,
            scope: Scope {
                roster: if Some(name) == joiner { [None; NODES] } else { roster },
                ..Scope::default()
            },
            log_from: Vector::default(),
            heard: Default::default(),
            is_empty: Some(name) == joiner,
            is_unannounced: false,
            is_rejoining: false,
            readmitted: Stamp::default(),
            needs_answer: false,
            staged: None,
            backup: None,
            durable: None,
        };
        World {
            nodes: std::array::from_fn(|name| Arc::new(node(name))),
            streams: Arc::default(),
            births: NODES as u8,
            roles,
            excused: BTreeMap::new(),
        }
    }

    pub(crate) fn node_mut(&mut self, name: Name) -> &mut Node {
        Arc::make_mut(&mut self.nodes[name])
    }

    /// A new life of `name`, or `None` if there were too many.
    pub(crate) fn birth(&mut self, name: Name) -> Option<Origin> {
        let number = self.births;
        self.births = (number < BIRTHS_MAX).then_some(number + 1)?;
        Some(origin(name, number))
    }

    /// Whether a node may lose its life by chance.
    pub(crate) fn may_be_born_again(&self) -> bool {
        self.births < BIRTHS_MAX / 2
    }

    /// The record of `origin` that follows the one at `tick`.
    pub(crate) fn record_after(&self, origin: Origin, tick: Tick) -> Option<&Record> {
        self.streams.get(&origin)?.iter().find(|record| record.tick > tick)
    }

    /// The greatest clock.
    pub(crate) fn latest(&self) -> Tick {
        self.nodes.iter().map(|node| node.clock).max().unwrap_or_default()
    }
}

/// A life of `name`. Incarnations are random in truth, so later lives come out on both sides of
/// earlier ones.
pub(crate) fn origin(name: Name, birth: u8) -> Origin {
    let node = NodeId([name as u8 + 1; 16]);
    Origin { node, incarnation: Incarnation(u64::from(birth) * 11 % u64::from(BIRTHS_MAX)) }
}

/// The node that lives as `origin`.
pub(crate) fn name_of(origin: Origin) -> Name {
    usize::from(origin.node.0[0]) - 1
}
