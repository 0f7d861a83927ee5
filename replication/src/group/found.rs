//! Which group this node is of, and how nodes that have none found one.
//!
//! Each side of a session says in its hello which group it is of, or which one it proposes. From both claims both work
//! out the same: the group of the one that has one, else what the lower node proposes. Nothing is kept before the other
//! side has answered that it holds with it, and all sessions of a node hold with one: who has meanwhile agreed on
//! another one with somebody else ends the session, and the next hellos say so.
//!
//! A member that is met goes before: so a node without a group founds none with another such before all its peers have
//! said that they have none, or [`FOUND_WAIT`] is over; and a guest, which was let in by a token of a member, founds none.
//!
//! Two groups may still be founded, which refuse each other: where nodes that know different ones meet in disjoint pairs
//! when none has a group yet, and where members can not be reached while several new nodes are configured.

use super::{Group, GroupConfig, GroupId, NO_GROUP, State};
use crate::error::ProtocolError;
use crate::store::{Store, keyspaces};
use base::{NodeId, Origin, Result, ScopeId};
use std::collections::BTreeSet;
use std::time::Duration;

/// Where the group is kept, in the keyspace `esker.node`.
const GROUP_KEY: &[u8] = b"group";
/// How long a node waits for a word of all its peers.
const FOUND_WAIT: Duration = Duration::from_secs(2);
/// How long it holds with what it has agreed on with a peer that is gone, and may have kept it.
const BOUND_FOR: Duration = Duration::from_secs(3);

/// What a node says of its group.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Claim {
    /// The group, or [`NO_GROUP`].
    pub(crate) group: GroupId,
    /// The one it would be of if the other has none either.
    pub(crate) proposal: GroupId,
    /// Whether it founds none.
    pub(crate) is_guest: bool,
}

impl Claim {
    /// The group of a session between the node `own`, which claims this, and `peer`.
    pub(crate) fn agreed(
        &self,
        own: NodeId,
        peer: NodeId,
        theirs: &Claim,
    ) -> Result<GroupId, ProtocolError> {
        match (self.group, theirs.group) {
            (NO_GROUP, NO_GROUP) if peer < own => Ok(theirs.proposal),
            (NO_GROUP, NO_GROUP) => Ok(self.proposal),
            (NO_GROUP, group) | (group, NO_GROUP) => Ok(group),
            (ours, theirs) if ours == theirs => Ok(ours),
            (ours, theirs) => Err(ProtocolError::WrongGroup { ours, theirs }),
        }
    }
}

/// What a node without a group knows of the one that it may found.
#[derive(Debug, Default)]
pub(super) struct Founding {
    /// What was agreed on last, or [`NO_GROUP`].
    agreed: GroupId,
    bound_until: Duration,
    /// The peers, and those of them who have said that they have none.
    peers: BTreeSet<NodeId>,
    groupless: BTreeSet<NodeId>,
    /// When it waits for others no longer.
    from: Option<Duration>,
    /// Whether it is to be of a group that there is.
    is_guest: bool,
}

impl Founding {
    /// Of a node that is configured with `first`.
    pub(super) fn of(first: &[NodeId], own: NodeId) -> Founding {
        let peers = first.iter().copied().filter(|node| *node != own).collect();
        Founding { peers, ..Founding::default() }
    }

    /// Whether this node may found a group now with `peer`, which has none.
    fn may_found(&mut self, peer: NodeId, now: Duration) -> bool {
        if self.peers.contains(&peer) {
            self.groupless.insert(peer);
        }
        let waits_until = *self.from.get_or_insert(now + FOUND_WAIT);
        now >= waits_until || self.peers.is_subset(&self.groupless)
    }

    /// The last session has ended.
    pub(super) fn hold_on(&mut self, now: Duration) {
        self.bound_until = self.bound_until.max(now + BOUND_FOR);
    }
}

impl GroupConfig {
    /// The group that would be formed of the first roster.
    fn proposal(&self, own: NodeId) -> GroupId {
        let mut nodes = self.first.clone();
        nodes.push(own);
        nodes.sort();
        nodes.dedup();
        let mut hasher = blake3::Hasher::new();
        hasher.update(b"esker group");
        for node in &nodes {
            hasher.update(&node.0);
        }
        let mut id = NO_GROUP;
        hasher.finalize_xof().fill(&mut id);
        id
    }
}

/// The group that `store` keeps, or [`NO_GROUP`].
pub(super) fn kept(store: &dyn Store) -> Result<GroupId> {
    let kept = store.get(keyspaces::NODE, GROUP_KEY)?;
    Ok(kept.and_then(|id| GroupId::try_from(id.as_slice()).ok()).unwrap_or(NO_GROUP))
}

impl Group {
    /// The group, or [`NO_GROUP`].
    pub fn id(&self) -> GroupId {
        self.state.lock().id
    }

    /// The group that would be formed if a peer has none either.
    pub fn proposal(&self) -> GroupId {
        self.claim().proposal
    }

    /// What this node says of its group now.
    pub(crate) fn claim(&self) -> Claim {
        let state = self.state.lock();
        let proposal = match state.founding.agreed {
            NO_GROUP => self.config.proposal(self.node),
            agreed => agreed,
        };
        Claim { group: state.id, proposal, is_guest: state.founding.is_guest }
    }

    /// This node was let in by one that has a group, and founds none.
    pub(crate) fn await_group(&self) {
        self.state.lock().founding.is_guest = true;
    }

    /// Those that this node is to be linked with now.
    pub(crate) fn set_peers(&self, peers: &BTreeSet<NodeId>) {
        let founding = &mut self.state.lock().founding;
        if founding.peers != *peers {
            founding.peers.clone_from(peers);
            founding.groupless.retain(|node| peers.contains(node));
        }
    }

    /// Whether this node has no group, and there are others who may have one.
    pub(crate) fn has_yet_to_meet(&self) -> bool {
        let state = self.state.lock();
        state.id == NO_GROUP && !state.is_alone()
    }

    /// Notes that a session with `origin` begins, which has said `theirs` and was told `ours`, and that all others are of
    /// the same group from then on. Returns false as long as a member may be met first.
    pub(crate) fn let_in(
        &self,
        now: Duration,
        origin: Origin,
        ours: &Claim,
        theirs: &Claim,
    ) -> Result<bool, ProtocolError> {
        let agreed = ours.agreed(self.node, origin.node, theirs)?;
        let mut state = self.state.lock();
        if (ours.group, theirs.group, state.id) == (NO_GROUP, NO_GROUP, NO_GROUP) {
            let has_guest = ours.is_guest || theirs.is_guest;
            if has_guest || !state.founding.may_found(origin.node, now) {
                return Ok(false);
            }
        }
        let present = state.present(now);
        if present != NO_GROUP && present != agreed {
            return Err(ProtocolError::AgreedElsewhere { ours: present, theirs: agreed });
        }
        state.enter(origin)?;
        state.founding.agreed = agreed;
        state.founding.bound_until = now + BOUND_FOR;
        Ok(true)
    }

    /// This node is of `group` for good, unless it is of another.
    pub(crate) fn belong_to(&self, store: &dyn Store, group: GroupId) -> Result<(), ProtocolError> {
        let mut state = self.state.lock();
        if state.id == group {
            return Ok(());
        }
        if state.id != NO_GROUP {
            return Err(ProtocolError::AgreedElsewhere { ours: state.id, theirs: group });
        }
        Ok(state.belong_to(store, group)?)
    }

    /// A node that has no group, and no peers who may have one, founds one before it lets somebody in.
    pub(crate) fn found(&self, store: &dyn Store) -> Result<()> {
        let proposal = self.proposal();
        let mut state = self.state.lock();
        let is_due = state.id == NO_GROUP && state.is_alone();
        if is_due { state.belong_to(store, proposal) } else { Ok(()) }
    }
}

impl State {
    /// Whether it has no peers, and nobody has let it in.
    fn is_alone(&self) -> bool {
        self.founding.peers.is_empty() && !self.founding.is_guest
    }

    /// The group that sessions which begin now must be about, or [`NO_GROUP`] if any will do.
    fn present(&self, now: Duration) -> GroupId {
        let has_sessions = self.peers.values().any(|peer| peer.live.is_some());
        let is_bound = has_sessions || now < self.founding.bound_until;
        if self.id == NO_GROUP && is_bound { self.founding.agreed } else { self.id }
    }

    fn belong_to(&mut self, store: &dyn Store, group: GroupId) -> Result<()> {
        store.put(ScopeId::LOCAL, keyspaces::NODE, GROUP_KEY, &group)?;
        (self.id, self.founding.agreed) = (group, group);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::super::GroupConfig;
    use super::*;
    use crate::memory::MemoryStore;
    use crate::roster::Role;
    use base::Incarnation;

    const NONE: Claim = Claim { group: NO_GROUP, proposal: [9; 16], is_guest: false };
    const MEMBER: Claim = Claim { group: [5; 16], proposal: [5; 16], is_guest: false };

    fn origin(of: u8) -> Origin {
        Origin { node: NodeId([of; 16]), incarnation: Incarnation(7) }
    }

    /// Node 1, which is configured with 2 and 3.
    fn group() -> (Group, MemoryStore) {
        let store = MemoryStore::new(origin(1).node, origin(1).incarnation, 1_700_000_000_000);
        let first = [1, 2, 3].map(|of| origin(of).node).to_vec();
        let config = GroupConfig { scope: ScopeId::MAIN, role: Role::Author, first };
        (Group::open(config, &store).unwrap(), store)
    }

    fn let_in(group: &Group, ms: u64, of: u8, theirs: &Claim) -> &'static str {
        let now = Duration::from_millis(ms);
        match group.let_in(now, origin(of), &group.claim(), theirs) {
            Ok(true) => "in",
            Ok(false) => "waits",
            Err(error) => error.code(),
        }
    }

    #[test]
    fn a_group_is_founded_once_all_have_said_that_they_have_none() {
        let (group, _store) = group();
        assert_eq!(let_in(&group, 0, 2, &NONE), "waits");
        assert_eq!(let_in(&group, 0, 2, &NONE), "waits");
        assert_eq!(let_in(&group, 1, 3, &NONE), "in");
        assert_eq!(let_in(&group, 1, 2, &NONE), "in");
    }

    #[test]
    fn a_group_is_founded_without_those_who_are_not_there() {
        let (group, _store) = group();
        let wait_ms = u64::try_from(FOUND_WAIT.as_millis()).unwrap();
        assert_eq!(let_in(&group, 5, 2, &NONE), "waits");
        assert_eq!(let_in(&group, 4 + wait_ms, 2, &NONE), "waits");
        assert_eq!(let_in(&group, 5 + wait_ms, 2, &NONE), "in");
    }

    #[test]
    fn a_member_that_is_met_goes_before() {
        let (group, store) = group();
        let said = group.claim();
        assert_eq!(let_in(&group, 0, 2, &NONE), "waits");
        assert_eq!(let_in(&group, 0, 3, &MEMBER), "in");
        assert_eq!(let_in(&group, 0, 2, &NONE), "waits");
        group.belong_to(&store, MEMBER.group).unwrap();
        let stale = group.let_in(Duration::ZERO, origin(2), &said, &NONE);
        assert_eq!(stale.map_err(|error| error.code()), Err("AgreedElsewhere"));
        assert_eq!(let_in(&group, 0, 2, &NONE), "in");
        assert_eq!(kept(&store).unwrap(), MEMBER.group);
    }

    #[test]
    fn a_guest_founds_nothing() {
        let (group, _store) = group();
        group.await_group();
        let late_ms = 1_000_000;
        assert_eq!(let_in(&group, late_ms, 2, &NONE), "waits");
        assert_eq!(let_in(&group, late_ms, 3, &NONE), "waits");
        assert_eq!(let_in(&group, 2 * late_ms, 2, &NONE), "waits");
        assert_eq!(let_in(&group, 2 * late_ms, 3, &MEMBER), "in");
    }

    #[test]
    fn nobody_founds_a_group_with_a_guest() {
        let (group, _store) = group();
        let guest = Claim { is_guest: true, ..NONE };
        assert_eq!(let_in(&group, 0, 2, &guest), "waits");
        assert_eq!(let_in(&group, 0, 3, &NONE), "waits", "the guest knows that there is one");
        assert_eq!(let_in(&group, 1_000_000, 2, &guest), "waits");
        assert_eq!(let_in(&group, 1_000_000, 2, &MEMBER), "in");
    }

    #[test]
    fn who_is_a_peer_no_longer_is_not_waited_for() {
        let (group, _store) = group();
        assert_eq!(let_in(&group, 0, 2, &NONE), "waits");
        group.set_peers(&BTreeSet::from([origin(2).node]));
        assert_eq!(let_in(&group, 0, 2, &NONE), "in");
    }

    #[test]
    fn what_was_agreed_on_with_one_that_is_gone_holds_for_a_while() {
        let (group, _store) = group();
        let lower = Claim { proposal: [4; 16], ..NONE };
        let own = group.claim();
        let_in(&group, 0, 3, &NONE);
        assert_eq!(let_in(&group, 0, 2, &NONE), "in");
        let end_ms = 60_000;
        group.state.lock().refreshed_at = Some(Duration::from_millis(end_ms));
        group.leave(origin(2));
        let other = Origin { node: NodeId([0; 16]), ..origin(2) };
        let late = |ms: u64| {
            group.let_in(Duration::from_millis(ms), other, &own, &lower).map_err(|it| it.code())
        };
        let bound_ms = u64::try_from(BOUND_FOR.as_millis()).unwrap();
        assert_eq!(late(end_ms + bound_ms - 1), Err("AgreedElsewhere"));
        assert_eq!(late(end_ms + bound_ms), Ok(true));
    }

    #[test]
    fn one_that_is_alone_founds_a_group_and_one_that_is_not_does_not() {
        let (group, store) = group();
        group.found(&store).unwrap();
        assert_eq!(group.id(), NO_GROUP);
        assert!(group.has_yet_to_meet());
        let config = GroupConfig { first: Vec::new(), ..group.config };
        let alone = Group::open(config, &store).unwrap();
        assert!(!alone.has_yet_to_meet());
        alone.found(&store).unwrap();
        assert_eq!((alone.id(), kept(&store).unwrap()), (alone.proposal(), alone.proposal()));
    }
}
