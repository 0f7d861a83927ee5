//! Which audits are due. One at a time, because each pins a moment and holds a sketch of it.

use super::Group;
use crate::health::AuditReport;
use base::{NodeId, Vector};
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

/// How long the next audit with a peer waits, unless it is wanted here.
const RETRY_AFTER: Duration = Duration::from_secs(10);

/// How much sooner than it would begin one itself a node answers: the other side may have seen the last one
/// end earlier.
const ANSWERS_SOONER: Duration = Duration::from_secs(5);

/// See the module.
#[derive(Debug, Default)]
pub(super) struct Audits {
    /// With whom somebody wants one now.
    wanted: BTreeSet<NodeId>,
    running: Option<NodeId>,
    /// When the last one ended.
    ended: BTreeMap<NodeId, Duration>,
    not_before: BTreeMap<NodeId, Duration>,
}

impl Audits {
    /// An audit with `peer` is to be made as soon as can be.
    pub(super) fn want(&mut self, peer: NodeId) {
        self.wanted.insert(peer);
        self.not_before.remove(&peer);
    }

    /// The session with `peer` has ended.
    pub(super) fn leave(&mut self, peer: NodeId) {
        if self.running == Some(peer) {
            self.running = None;
        }
    }
}

impl Group {
    /// Wants an audit with `peer` as soon as can be.
    pub fn want_audit(&self, peer: NodeId) {
        self.state.lock().audits.want(peer);
    }

    /// The peer wants an audit, which must not be right after the last one.
    pub(crate) fn note_wanted_audit(&self, peer: NodeId) {
        self.state.lock().audits.wanted.insert(peer);
    }

    /// Whether somebody wants an audit with `peer`.
    pub(crate) fn wants_audit(&self, peer: NodeId) -> bool {
        self.state.lock().audits.wanted.contains(&peer)
    }

    /// The peer was asked for the audit.
    pub(crate) fn has_asked_for_audit(&self, peer: NodeId) {
        self.state.lock().audits.wanted.remove(&peer);
    }

    /// Whether an audit with `peer` should begin, where they are made every so often.
    pub(crate) fn is_audit_due(
        &self,
        peer: NodeId,
        now: Duration,
        every: Option<Duration>,
    ) -> bool {
        let audits = &self.state.lock().audits;
        let may = |at: &Duration| *at <= now;
        let ended = audits.ended.get(&peer).copied().unwrap_or_default();
        let is_time = every.is_some_and(|every| now >= ended.saturating_add(every));
        audits.running.is_none()
            && audits.not_before.get(&peer).is_none_or(may)
            && (is_time || audits.wanted.contains(&peer))
    }

    /// Takes the right to audit; only one session of a node has it.
    pub(crate) fn begin_audit(&self, peer: NodeId) -> bool {
        let mut state = self.state.lock();
        let is_free = state.audits.running.is_none() && !state.is_closed;
        if is_free {
            state.audits.running = Some(peer);
        }
        is_free
    }

    /// As [`Group::begin_audit`], for one that the peer has opened: which may not be right after the last one,
    /// so that others get their turn, and users are not kept from the disk.
    pub(crate) fn answer_audit(&self, peer: NodeId, now: Duration) -> bool {
        let not_before = self.state.lock().audits.not_before.get(&peer).copied();
        not_before.is_none_or(|at| at <= now + ANSWERS_SOONER) && self.begin_audit(peer)
    }

    /// Gives the right back; with the report if the audit came to its end.
    pub(crate) fn end_audit(&self, peer: NodeId, now: Duration, report: Option<AuditReport>) {
        let mut state = self.state.lock();
        state.audits.leave(peer);
        state.audits.not_before.insert(peer, now + RETRY_AFTER);
        let Some(report) = report else { return };
        state.audits.wanted.remove(&peer);
        state.audits.ended.insert(peer, now);
        if let Some(peer) = state.peers.get_mut(&peer) {
            let diverged = &mut peer.status.diverged;
            *diverged = diverged.saturating_add(report.diverged());
            peer.status.audit = Some(report);
        }
    }

    /// Whether exactly `vector` is what `peer` said last that it has.
    pub(crate) fn has_confirmed(&self, peer: NodeId, vector: &Vector) -> bool {
        self.state.lock().peers.get(&peer).is_some_and(|peer| peer.status.confirmed == *vector)
    }
}

#[cfg(test)]
mod tests {
    use super::super::GroupConfig;
    use super::*;
    use crate::memory::MemoryStore;
    use crate::roster::Role;
    use base::{Incarnation, Origin, ScopeId};

    #[test]
    fn whatever_a_peer_counts_its_audits_are_added_up() {
        let peer = Origin { node: NodeId([2; 16]), incarnation: Incarnation(7) };
        let store = MemoryStore::new(NodeId([1; 16]), Incarnation(7), 1_700_000_000_000);
        let first = vec![peer.node];
        let config = GroupConfig { scope: ScopeId::MAIN, role: Role::Author, first };
        let group = Group::open(config, &store).unwrap();
        group.enter(peer).unwrap();
        for given in [1, u64::MAX] {
            let report = AuditReport { given, disowned_there: given, ..AuditReport::default() };
            group.end_audit(peer.node, Duration::ZERO, Some(report));
        }
        let status = group.health(&store, 0).peers.remove(&peer.node).unwrap();
        assert_eq!(status.diverged, u64::MAX);
    }
}
