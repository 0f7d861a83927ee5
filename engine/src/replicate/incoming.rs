//! The ops of a shipment on their way in, and what they mean to each other.
//!
//! All ops of a shipment become one commit, so of each key only one may be stored: the one with the
//! greatest stamp, unless a range delete of the shipment has a greater one.

use crate::creation::is_reserved;
use crate::keyspace::KeyspaceState;
use crate::range_map::RangeMap;
use base::{KeyspaceId, Op, OpKind, Origin, Shipment, SpaceId, Stamp, Tick, key_hash};
use sstable::RangeDelete;
use std::sync::Arc;

/// What decides which of two entries of a key stays: the greater. An erase stands just above its victim.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Precedence {
    /// The entry's stamp; of an erase, its victim's.
    pub(crate) stamp: Stamp,
    /// Whether it is an erase.
    pub(crate) is_erase: bool,
}

/// One op of a shipment.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Incoming<'a> {
    /// Its place among all ops of the shipment.
    pub(crate) index: usize,
    /// Its keyspace here.
    pub(crate) space: SpaceId,
    /// The hash of its key.
    pub(crate) hash: u64,
    /// When its author wrote it.
    pub(crate) tick: Tick,
    /// The op, with our number of its keyspace.
    pub(crate) op: Op<'a>,
    /// Whether it is a put of a user: nothing is ever deleted in the keyspaces of replication itself,
    /// so nothing can come there after its deletion was forgotten.
    pub(crate) may_be_late: bool,
}

/// What of a shipment is to be decided.
#[derive(Debug)]
pub(crate) struct Arrivals<'a> {
    /// At most one a key, by their place in the shipment. Those that lost to another are not in it.
    pub(crate) points: Vec<Incoming<'a>>,
    /// Those that lost to another of the same author, in keyspaces where it matters what else they lose to.
    pub(crate) overtaken: Vec<Incoming<'a>>,
    /// The range deletes.
    pub(crate) ranges: Vec<Incoming<'a>>,
    /// How many ops the shipment has, those included that were known before.
    pub(crate) count: usize,
    /// How many of them are new.
    pub(crate) new: usize,
    /// Whether each op stands for what its author wrote of one key: no range deletes, no erases.
    pub(crate) is_plain: bool,
}

impl Incoming<'_> {
    /// What decides about it, if `author` wrote it.
    pub(crate) fn precedence(&self, author: Origin) -> Precedence {
        match self.op.kind {
            OpKind::Erase { victim } => Precedence { stamp: victim, is_erase: true },
            _ => {
                let stamp = Stamp { tick: self.tick, origin: author };
                Precedence { stamp, is_erase: false }
            }
        }
    }
}

impl<'a> Arrivals<'a> {
    /// The ops of the commits of `shipment` behind `before`. `spaces` are its keyspaces here, in its order;
    /// those that are `watched` have a resolver.
    pub(crate) fn of(
        shipment: &Shipment<'a>,
        before: Tick,
        spaces: &[Arc<KeyspaceState>],
        watched: &[SpaceId],
    ) -> Arrivals<'a> {
        let space_of = |number: KeyspaceId| {
            let known = shipment.keyspaces.binary_search_by_key(&number, |(number, _)| *number);
            known.ok().and_then(|place| spaces.get(place))
        };
        let ops: u64 = shipment.commits.iter().map(|commit| commit.op_count).sum();
        // They were all decoded, so there are as many.
        let (mut points, mut ranges) = (Vec::with_capacity(ops as usize), Vec::new());
        let (mut count, mut new, mut is_plain) = (0, 0, true);
        for commit in &shipment.commits {
            for op in commit.ops.clone() {
                let index = count;
                count += 1;
                // Every keyspace that a decoded shipment uses is in its list.
                let Some(state) = space_of(op.keyspace).filter(|_| commit.tick > before) else {
                    continue;
                };
                new += 1;
                let (space, tick) = (state.space, commit.tick);
                let op = Op { keyspace: space.keyspace(), ..op };
                let hash = key_hash(space, op.key);
                let may_be_late = op.stores_value() && !is_reserved(&state.name);
                let incoming = Incoming { index, space, hash, tick, op, may_be_late };
                is_plain &= !matches!(op.kind, OpKind::RangeDelete { .. } | OpKind::Erase { .. });
                match op.kind {
                    OpKind::RangeDelete { .. } => ranges.push(incoming),
                    _ => points.push(incoming),
                }
            }
        }
        let overtaken = Vec::new();
        let mut arrivals = Arrivals { points, overtaken, ranges, count, new, is_plain };
        arrivals.settle(shipment.origin, watched);
        arrivals
    }

    /// Removes what loses to another op of the shipment.
    fn settle(&mut self, author: Origin, watched: &[SpaceId]) {
        if self.has_doubles() {
            self.points.sort_unstable_by(|a, b| {
                let keys = (a.hash, a.space, a.op.key).cmp(&(b.hash, b.space, b.op.key));
                let stamps = || b.precedence(author).cmp(&a.precedence(author));
                keys.then_with(stamps).then(b.index.cmp(&a.index))
            });
            let overtaken = &mut self.overtaken;
            self.points.dedup_by(|later, first| {
                let is_same = (later.hash, later.space, later.op.key)
                    == (first.hash, first.space, first.op.key);
                if is_same && watched.contains(&later.space) {
                    overtaken.push(Incoming { may_be_late: false, ..*later });
                }
                is_same
            });
            self.points.sort_unstable_by_key(|point| point.index);
        }
        if !self.ranges.is_empty() {
            let map = self.range_map(author);
            self.points.retain(|point| {
                let covering = map.covering(point.space, point.op.key, Tick::MAX);
                covering.is_none_or(|range| range <= point.precedence(author).stamp)
            });
        }
    }

    /// Whether any two ops may be about one key: most shipments have each key once, and most hashes differ.
    fn has_doubles(&self) -> bool {
        let mut hashes: Vec<u64> = self.points.iter().map(|point| point.hash).collect();
        hashes.sort_unstable();
        hashes.windows(2).any(|pair| matches!(pair, [a, b] if a == b))
    }

    fn range_map(&self, author: Origin) -> RangeMap {
        let range = |incoming: &Incoming<'_>| {
            let OpKind::RangeDelete { end } = incoming.op.kind else { return None };
            let (start, end) = (incoming.op.key.into(), end.into());
            // Nobody reads in between: only the greatest counts.
            let (space, seqno, stamp) = (incoming.space, Tick::MAX, incoming.tick);
            Some(RangeDelete { space, start, end, seqno, stamp, origin: Some(author) })
        };
        RangeMap::of(self.ranges.iter().filter_map(range), author)
    }

    /// All that has a key: what may be stored, then what was overtaken.
    pub(crate) fn keyed(&self) -> impl Iterator<Item = &Incoming<'a>> {
        self.points.iter().chain(&self.overtaken)
    }

    /// Whether any of it stores a value.
    pub(crate) fn stores_values(&self) -> bool {
        self.points.iter().any(|point| point.op.stores_value())
    }
}
