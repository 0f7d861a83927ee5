//! Which group this node is of, and how nodes that have none found one.
//!
//! Each side of a session says in its hello which group it is of, or which one it proposes. From both claims both work
//! out the same: the group of the one that has one, else what the lower node proposes. Nothing is kept before the other
//! side has answered that it holds with it, and all sessions of a node hold with one: who has meanwhile agreed on
//! another one with somebody else ends the session, and the next hellos say so.
//!
//! If the way breaks between the two answers, one side has kept the group and the other has not. Where that one then
//! agrees with a third node, which was configured otherwise and has no group either, two groups are founded, which refuse
//! each other. Where nodes join by invitation this can not be: who lets in the first one has a group before.

use super::{Group, GroupConfig, GroupId, NO_GROUP, State};
use crate::error::ProtocolError;
use crate::store::{Store, keyspaces};
use base::{NodeId, Origin, Result, ScopeId};

/// Where the group is kept, in the keyspace `esker.node`.
const GROUP_KEY: &[u8] = b"group";

/// What a node says of its group.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Claim {
    /// The group, or [`NO_GROUP`].
    pub(crate) group: GroupId,
    /// The one it would be of if the other has none either.
    pub(crate) proposal: GroupId,
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
        let agreed = Some(state.agreed).filter(|agreed| *agreed != NO_GROUP);
        let proposal = agreed.unwrap_or_else(|| self.config.proposal(self.node));
        Claim { group: state.id, proposal }
    }

    /// Notes that a session with `origin` begins, which has said `theirs` and was told `ours`; returns the group that it
    /// is about, from then on that of all sessions.
    pub(crate) fn let_in(
        &self,
        origin: Origin,
        ours: Claim,
        theirs: Claim,
    ) -> Result<GroupId, ProtocolError> {
        let agreed = match (ours.group, theirs.group) {
            (NO_GROUP, NO_GROUP) if origin.node < self.node => theirs.proposal,
            (NO_GROUP, NO_GROUP) => ours.proposal,
            (NO_GROUP, group) | (group, NO_GROUP) => group,
            (ours, theirs) if ours == theirs => ours,
            (ours, theirs) => return Err(ProtocolError::WrongGroup { ours, theirs }),
        };
        let mut state = self.state.lock();
        let present = state.present();
        if present != NO_GROUP && present != agreed {
            return Err(ProtocolError::AgreedElsewhere { ours: present, theirs: agreed });
        }
        state.enter(origin)?;
        state.agreed = agreed;
        Ok(agreed)
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

    /// A node that knows of no other founds a group before it lets one in.
    pub(crate) fn found(&self, store: &dyn Store) -> Result<()> {
        let mut state = self.state.lock();
        let is_alone = !state.awaits_peers && state.present() == NO_GROUP;
        if is_alone { state.belong_to(store, self.config.proposal(self.node)) } else { Ok(()) }
    }
}

impl State {
    /// The group that sessions which begin now must be about, or [`NO_GROUP`] if any will do.
    fn present(&self) -> GroupId {
        let has_sessions = self.peers.values().any(|peer| peer.live.is_some());
        if has_sessions && self.id == NO_GROUP { self.agreed } else { self.id }
    }

    fn belong_to(&mut self, store: &dyn Store, group: GroupId) -> Result<()> {
        store.put(ScopeId::LOCAL, keyspaces::NODE, GROUP_KEY, &group)?;
        (self.id, self.agreed) = (group, group);
        Ok(())
    }
}
