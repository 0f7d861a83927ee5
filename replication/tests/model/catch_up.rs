//! Catching up from state: delta (T2), rejoin (T3) and bootstrap.

use crate::admit::Late;
use crate::rule::{Rule, Rules};
use crate::world::{Name, Node, Op, Purpose, Role, Scope, Slot, Staged, World};
use base::{Stamp, Vector};
use replication::rules::{self, Version};
use std::sync::Arc;

impl World {
    /// T2 from a donor whose floor the receiver has reached.
    pub(crate) fn delta(&mut self, from: Name, to: Name, rules: &Rules) -> bool {
        if !self.is_linked(from, to, rules) || !self.may_donate(from, rules) {
            return false;
        }
        let (donor, receiver) = (&self.nodes[from], &self.nodes[to]);
        let is_closed =
            receiver.is_unannounced || receiver.is_rejoining && rules.keep(Rule::RejoinerClosed);
        if is_closed
            || receiver.durable.is_some()
            || receiver.staged.is_some()
            || receiver.scope.vector.covers_all(&donor.scope.vector)
            || !rules.may_take_delta(&receiver.scope.vector, &donor.scope.floor)
        {
            return false;
        }
        // Only what is news now is sent; of the rest the receiver had its say.
        let donor = snapshot(donor).news_for(&receiver.scope.vector, rules);
        if !rules.keep(Rule::DeltaIsStaged) {
            let scope = &mut self.node_mut(to).scope;
            let versions = donor.scope.slots.iter().enumerate();
            versions.for_each(|(slot, held)| held.iter().for_each(|v| scope.insert(slot, *v)));
        }
        self.stage(to, Purpose::Delta, donor);
        true
    }

    /// T3, first half. The donor takes what it lacks, late puts answered; if it is itself below
    /// the rejoiner's floor, it also lets go what the rejoiner dropped.
    pub(crate) fn push(&mut self, from: Name, to: Name, rules: &Rules) -> bool {
        let (rejoiner, donor) = (&self.nodes[from], &self.nodes[to]);
        // The record that let it come back may be lost by now: then it is fenced again.
        let is_fenced = donor.is_fencing(from, rejoiner, rules)
            || !donor.scope.vector.covers_stamp(rejoiner.readmitted);
        // An author that is below an observer's floor is the donor all the same: only it can
        // answer late puts.
        let is_observer = rejoiner.scope.role(from) == Some(Role::Observer);
        let is_below =
            !has_passed_floor(rejoiner, donor) || is_observer && !has_passed_floor(donor, rejoiner);
        let is_due = is_fenced || is_below || rejoiner.is_rejoining || rejoiner.needs_answer;
        let newest = rejoiner.scope.roster[to].max(donor.scope.roster[to]);
        let is_author = newest.is_some_and(|member| member.role == Role::Author);
        let is_ready = from != to
            && !rejoiner.is_empty
            && (!rejoiner.is_unannounced || is_fenced)
            && rejoiner.staged.is_none()
            && rejoiner.durable.is_none()
            && donor.staged.is_none()
            && is_author;
        let is_able = self.may_author(to, rules) && self.may_donate(to, rules);
        if !is_due || !is_ready || !is_able {
            return false;
        }
        if is_fenced {
            let Some(origin) = self.birth(from) else { return false };
            let readmitted =
                Stamp { tick: self.nodes[to].clock.next(), origin: self.nodes[to].origin };
            let node = self.node_mut(from);
            (node.origin, node.readmitted) = (origin, readmitted);
            node.inherited = node.scope.vector.clone();
            let tick = self.nodes[to].clock.next();
            self.commit(to, tick, vec![Op::Member(from, self.roles[from])], rules);
        }
        self.node_mut(from).is_rejoining = true;
        let rejoiner = Arc::clone(&self.nodes[from]);
        let late = self.node_mut(to).absorb(&rejoiner, rules);
        self.answer(to, late, rules);
        true
    }

    /// T3, second half: from an author whose vector covers the rejoiner's.
    pub(crate) fn fetch(&mut self, from: Name, to: Name, rules: &Rules) -> bool {
        let (donor, rejoiner) = (&self.nodes[from], &self.nodes[to]);
        // A rejoiner's own roster may be old: it does not ask it about the donor.
        let is_linked = !donor.is_fencing(to, rejoiner, rules)
            && (rejoiner.is_rejoining || !rejoiner.is_fencing(from, donor, rules));
        let is_able = self.may_author(from, rules) && self.may_donate(from, rules);
        if from == to || !is_linked || !is_able {
            return false;
        }
        let is_due = rejoiner.is_rejoining || rejoiner.needs_answer;
        let is_covered = donor.scope.vector.covers_all(&rejoiner.scope.vector)
            || !rules.keep(Rule::PushOfAllOrigins);
        // What it then states must cover the record that others count it by.
        let knows = donor.scope.vector.covers_stamp(rejoiner.readmitted)
            || !rules.keep(Rule::DonorKnowsMember);
        if !is_due
            || !is_covered
            || !knows
            || rejoiner.staged.is_some()
            || rejoiner.durable.is_some()
        {
            return false;
        }
        let donor = snapshot(donor);
        self.node_mut(to).is_rejoining = true;
        self.stage(to, Purpose::Rejoin, donor);
        true
    }

    /// An empty node gets all; its roster record is in the snapshot.
    pub(crate) fn bootstrap(&mut self, from: Name, to: Name, rules: &Rules) -> bool {
        let is_able = self.may_author(from, rules) && self.may_donate(from, rules);
        if !self.nodes[to].is_empty || self.nodes[to].staged.is_some() || !is_able {
            return false;
        }
        if self.nodes[from].scope.role(to).is_none() && rules.keep(Rule::RosterFirst) {
            let tick = self.nodes[from].clock.next();
            self.commit(from, tick, vec![Op::Member(to, self.roles[to])], rules);
        }
        let donor = snapshot(&self.nodes[from]);
        self.stage(to, Purpose::Bootstrap, donor);
        true
    }

    /// What is staged becomes visible, with all marks, in one durable step.
    pub(crate) fn install(&mut self, at: Name, rules: &Rules) -> bool {
        if self.nodes[at].durable.is_some() || self.nodes[at].staged.is_none() {
            return false;
        }
        let Some(staged) = self.node_mut(at).staged.take() else { return false };
        let before = self.nodes[at].clone();
        let donor = &staged.donor;
        match staged.purpose {
            Purpose::Delta => {
                let late = self.node_mut(at).take_news(donor, rules);
                self.answer_or_undo(at, late, before, rules);
            }
            Purpose::Rejoin => self.node_mut(at).rejoin(donor, rules),
            Purpose::Bootstrap => {
                self.node_mut(at).fill(donor, rules);
                if !rules.keep(Rule::RosterFirst) {
                    let tick = self.nodes[at].clock.next();
                    self.commit(at, tick, vec![Op::Member(at, self.roles[at])], rules);
                }
            }
        }
        true
    }

    fn stage(&mut self, at: Name, purpose: Purpose, donor: Node) {
        let staged = Staged { purpose, donor: Arc::new(donor) };
        self.node_mut(at).staged = Some(Arc::new(staged));
    }
}

/// Whether `donor` could serve `receiver` by a delta.
fn has_passed_floor(receiver: &Node, donor: &Node) -> bool {
    rules::may_take_delta(&receiver.scope.vector, &donor.scope.floor)
}

/// What travels of a node: its scope.
fn snapshot(node: &Node) -> Node {
    Node {
        log_from: Vector::default(),
        inherited: Vector::default(),
        heard: Default::default(),
        staged: None,
        backup: None,
        durable: None,
        ..node.clone()
    }
}

impl Node {
    /// Whether `name` must rejoin to be spoken to: deprecated, or a member that this node does not
    /// know, because the record that named it was lost with a restored author.
    ///
    /// The newest roster record about `peer` that either side has decides: one that readmits may
    /// have no other way here than through whom it readmits.
    pub(crate) fn is_fencing(&self, name: Name, peer: &Node, rules: &Rules) -> bool {
        let Some(known) = self.scope.roster[name] else { return rules.keep(Rule::RosterFirst) };
        let shown = peer.scope.roster[name].filter(|_| rules.keep(Rule::NewestRecordFences));
        known.max(shown.unwrap_or(known)).role == Role::Deprecated
    }

    /// Leaves of a snapshot what a receiver with `vector` has not heard of.
    fn news_for(mut self, vector: &Vector, rules: &Rules) -> Node {
        for slot in &mut self.scope.slots {
            slot.take_if(|version| !rules.is_news(version, vector));
        }
        self
    }

    /// Takes of `donor` what is news here, and jumps to its vector. Returns the late puts.
    fn take_news(&mut self, donor: &Node, rules: &Rules) -> Vec<Late> {
        let before = self.scope.vector.clone();
        let mut late = Vec::new();
        for (slot, version) in versions(&donor.scope) {
            if rules.is_news(&version, &before) || !rules.keep(Rule::DeltaDeduped) {
                late.extend(self.scope.receive(slot, version, &before, rules));
            }
        }
        self.take_system(&donor.scope);
        self.jump(&donor.scope.vector);
        self.raise_clock(rules);
        late
    }

    /// The roster and the quarantine, in which nothing is ever deleted.
    fn take_system(&mut self, scope: &Scope) {
        for (name, member) in scope.roster.iter().enumerate() {
            member.iter().for_each(|member| self.scope.enlist(name, *member));
        }
        self.scope.quarantine.extend(scope.quarantine.iter().copied());
    }

    /// The donor's half of a rejoin.
    fn absorb(&mut self, rejoiner: &Node, rules: &Rules) -> Vec<Late> {
        let is_mutual = !rules::may_take_delta(&self.scope.vector, &rejoiner.scope.floor)
            && rules.keep(Rule::RejoinBothWays);
        let mut late = Vec::new();
        if is_mutual {
            self.let_go(rejoiner, rules);
            late = self.late_for(rejoiner, rules);
        }
        let is_all = rules.keep(Rule::PushOfAllOrigins);
        let sent = if is_all { snapshot(rejoiner) } else { own_part(rejoiner) };
        late.extend(self.take_news(&sent.news_for(&self.scope.vector, rules), rules));
        if is_mutual {
            self.adopt_floor(&rejoiner.scope);
        }
        late
    }

    /// Removes what `other` knew and let go.
    fn let_go(&mut self, other: &Node, rules: &Rules) {
        let is_gone = |(slot, version): (Slot, Version)| rules.is_let_go(&version, slot, other);
        let gone: Vec<_> = versions(&self.scope).filter(|held| is_gone(*held)).collect();
        gone.into_iter().for_each(|(slot, _)| self.scope.slots[slot] = None);
    }

    /// Puts of this node that are late for `other`, which dropped what should have met them and has
    /// not seen them.
    fn late_for(&self, other: &Node, rules: &Rules) -> Vec<Late> {
        let theirs = &other.scope;
        let is_late = |(slot, put): &(Slot, Version)| {
            rules::is_late(put, &theirs.vector, theirs.dropped, theirs.rank_at(*slot))
        };
        let own = versions(&self.scope).filter(|_| rules.keep(Rule::DonorsLatePuts));
        let own = own.filter(is_late).map(|(slot, put)| (slot, put.stamp));
        own.collect()
    }

    fn adopt_floor(&mut self, scope: &Scope) {
        self.scope.floor.raise_all(&scope.floor);
        self.scope.dropped = self.scope.dropped.max(scope.dropped);
    }

    /// The rejoiner's half: what the donor let go goes here too, what it has comes.
    fn rejoin(&mut self, donor: &Node, rules: &Rules) {
        self.let_go(donor, rules);
        versions(&donor.scope).for_each(|(slot, version)| self.scope.insert(slot, version));
        self.take_system(&donor.scope);
        self.adopt_floor(&donor.scope);
        self.jump(&donor.scope.vector);
        self.raise_clock(rules);
        (self.is_rejoining, self.is_unannounced) = (false, false);
        self.needs_answer = false;
        self.readmitted = Stamp::default();
    }

    /// An empty node becomes a copy, with an identity of its own.
    fn fill(&mut self, donor: &Node, rules: &Rules) {
        self.scope = donor.scope.clone();
        self.log_from = donor.scope.vector.clone();
        self.raise_clock(rules);
        self.is_empty = false;
    }
}

/// Only what the rejoiner wrote itself.
fn own_part(rejoiner: &Node) -> Node {
    let own = rejoiner.origin.node;
    let is_own = |origin: &base::Origin| origin.node == own;
    let mut part = rejoiner.clone();
    for slot in &mut part.scope.slots {
        slot.take_if(|version| !is_own(&version.carrier.origin));
    }
    part.scope.vector = rejoiner.scope.vector.iter().filter(|(o, _)| is_own(o)).collect();
    part
}

fn versions(scope: &Scope) -> impl Iterator<Item = (usize, Version)> + '_ {
    // The range delete first: it is what the keys are compared with.
    let slots = scope.slots.iter().enumerate().rev();
    slots.filter_map(|(slot, version)| version.map(|version| (slot, version)))
}
