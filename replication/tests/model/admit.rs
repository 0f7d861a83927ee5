//! How records and versions come into a node: its own commits, and those of others.

use crate::rule::{Rule, Rules};
use crate::world::{Member, Name, Node, Op, RANGE, Record, Scope, Slot, World};
use base::{Origin, Stamp, Tick, Vector};
use replication::rules::{self, Version, VersionKind};
use std::sync::Arc;

/// A put that came too late.
pub(crate) type Late = (Slot, Stamp);

impl Scope {
    /// Inserts a winner, or drops a loser. A range delete removes what it covers.
    pub(crate) fn insert(&mut self, slot: Slot, version: Version) {
        if rules::is_winner(&version, self.rank_at(slot)) {
            self.overwrite(slot, version);
        }
    }

    /// As a local write: it compares nothing.
    fn overwrite(&mut self, slot: Slot, version: Version) {
        if slot == RANGE {
            let is_covered = |held: &mut Version| held.rank() < version.rank();
            for held in &mut self.slots {
                held.take_if(is_covered);
            }
        }
        self.slots[slot] = Some(version);
    }

    /// Inserts a version of a record or of a snapshot, unless it is late: then it is returned.
    pub(crate) fn receive(
        &mut self,
        slot: Slot,
        version: Version,
        before: &Vector,
        rules: &Rules,
    ) -> Option<Late> {
        if rules::is_late(&version, before, self.dropped, self.rank_at(slot)) {
            return Some((slot, version.stamp));
        }
        if !rules.removes_exactly(&version) {
            self.insert(slot, version);
        } else if self.slots[slot].is_some_and(|held| held.stamp == version.stamp) {
            self.slots[slot] = None;
        }
        None
    }
}

impl World {
    /// `at` commits a record of its own.
    pub(crate) fn commit(&mut self, at: Name, tick: Tick, ops: Vec<Op>, rules: &Rules) {
        let origin = self.nodes[at].origin;
        let stamp = Stamp { tick, origin };
        let node = self.node_mut(at);
        node.clock = tick;
        node.scope.vector.raise(origin, tick);
        for op in &ops {
            match *op {
                Op::Put(slot) => {
                    node.scope.overwrite(slot, Version::written(stamp, VersionKind::Put));
                }
                Op::Delete(slot) => {
                    node.scope.overwrite(slot, Version::written(stamp, VersionKind::Tombstone));
                }
                Op::Erase(slot, victim) => node.scope.erase(slot, victim, stamp, rules),
                Op::Member(name, role) => node.scope.enlist(name, Member { since: stamp, role }),
                Op::Born => {}
            }
        }
        let streams = Arc::make_mut(&mut self.streams);
        streams.entry(origin).or_default().push(Record { tick, ops });
    }

    /// `at` takes the next record of `author`. Returns whether anything changed.
    pub(crate) fn admit(
        &mut self,
        at: Name,
        author: Origin,
        record: &Record,
        rules: &Rules,
    ) -> bool {
        let stamp = Stamp { tick: record.tick, origin: author };
        let before_all = self.nodes[at].clone();
        let node = self.node_mut(at);
        let before = node.scope.vector.clone();
        let mut late = Vec::new();
        for op in &record.ops {
            match *op {
                Op::Put(slot) => {
                    let put = Version::written(stamp, VersionKind::Put);
                    late.extend(node.scope.receive(slot, put, &before, rules));
                }
                Op::Delete(slot) => {
                    node.scope.insert(slot, Version::written(stamp, VersionKind::Tombstone));
                }
                Op::Erase(slot, victim) => node.scope.erase(slot, victim, stamp, rules),
                Op::Member(name, role) => node.scope.enlist(name, Member { since: stamp, role }),
                Op::Born => {}
            }
        }
        node.scope.vector.raise(author, record.tick);
        node.clock = node.clock.observe(record.tick);
        self.answer_or_undo(at, late, before_all, rules)
    }

    /// Answers late puts, or takes nothing of what brought them. Returns whether anything changed.
    pub(crate) fn answer_or_undo(
        &mut self,
        at: Name,
        late: Vec<Late>,
        before: Arc<Node>,
        rules: &Rules,
    ) -> bool {
        let may_answer = late.is_empty() || self.may_author(at, rules);
        if may_answer || !rules.keep(Rule::ObserverRefuses) {
            self.answer(at, late, rules);
            return true;
        }
        let is_known = before.needs_answer;
        self.nodes[at] = before;
        self.node_mut(at).needs_answer = true;
        !is_known
    }

    /// Erases late puts.
    pub(crate) fn answer(&mut self, at: Name, late: Vec<Late>, rules: &Rules) {
        if late.is_empty() {
            return;
        }
        if self.may_author(at, rules) {
            let ops = late.into_iter().map(|(slot, victim)| Op::Erase(slot, victim)).collect();
            let tick = self.nodes[at].clock.next();
            self.commit(at, tick, ops, rules);
        } else {
            let node = self.node_mut(at);
            late.into_iter().for_each(|(slot, stamp)| {
                node.scope.insert(slot, Version::written(stamp, VersionKind::Put));
            });
        }
    }
}

impl Scope {
    /// The marker, and the copy in quarantine.
    fn erase(&mut self, slot: Slot, victim: Stamp, carrier: Stamp, rules: &Rules) {
        self.quarantine.insert((slot, victim, carrier));
        let nowhere = Vector::default();
        self.receive(slot, Version::erase(victim, carrier), &nowhere, rules);
    }
}

impl Node {
    /// The clock after the vector jumped.
    pub(crate) fn raise_clock(&mut self, rules: &Rules) {
        if rules.keep(Rule::JumpRaisesClock) {
            self.clock = self.clock.observe(self.scope.vector.latest());
        }
    }
}
