//! Readers: nodes that only read, and how far they are behind those who write.
//!
//! A reader is level with an author at a moment if it has everything that the author had written
//! then. Authors tell readers often what that is, so a reader that keeps up was level a moment ago,
//! and of one that hears nothing nobody can tell how far behind it is: its lag grows.

use super::{Group, NO_GROUP, Writes};
use crate::roster::{Member, Role, Roster};
use crate::store::Store;
use base::{Error, NodeId, Origin, Result, Tick, Vector};
use std::time::Duration;

/// How often authors tell readers what they have written.
pub(crate) const READER_BEAT_EVERY: Duration = Duration::from_millis(250);

/// What an author has told of its writes.
#[derive(Debug, Default)]
pub(super) struct Heard {
    /// Its last write, and when it said so.
    said: Option<(Origin, Tick, Duration)>,
    /// When this node was last level with it.
    level_at: Option<Duration>,
}

impl Heard {
    fn compare(&mut self, applied: &Vector) {
        if let Some((origin, last, at)) = self.said
            && applied.get(origin) >= last
        {
            self.level_at = Some(at);
        }
    }
}

/// How far this node is behind those who write.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Behind {
    /// How long ago it had everything that any author had written; none if that is not known of all.
    pub by: Option<Duration>,
    /// The authors that it was never level with since it started.
    pub unheard: Vec<NodeId>,
}

impl Group {
    /// This node's role: what operators decided, else what was configured.
    pub fn role(&self) -> Role {
        self.role_in(&self.state.lock().roster)
    }

    /// This node's role as `roster` says. As long as nobody has decided, who is configured to read
    /// only reads: others may have taken it for an author because they knew no better.
    pub(super) fn role_in(&self, roster: &Roster) -> Role {
        let is_reader = self.config.role != Role::Author;
        let known = roster.member(self.node).filter(|it| it.is_decided() || !is_reader);
        known.map_or(self.config.role, |member| member.role)
    }

    /// Notes that a peer is configured to read only.
    pub(crate) fn note_configured(&self, peer: NodeId, role: Role) {
        if let Some(peer) = self.state.lock().peers.get_mut(&peer) {
            peer.reads_only = role == Role::Observer;
        }
    }

    /// Notes that a peer has written up to `last`, as it says `now`.
    pub(crate) fn note_last(&self, origin: Origin, last: Tick, applied: &Vector, now: Duration) {
        if let Some(peer) = self.state.lock().peers.get_mut(&origin.node) {
            peer.heard.compare(applied);
            peer.heard.said = Some((origin, last, now));
            peer.heard.compare(applied);
        }
    }

    /// How far this node is behind those who write.
    pub fn behind(&self, store: &dyn Store, now: Duration) -> Behind {
        let applied = store.applied(self.config.scope);
        let mut state = self.state.lock();
        let state = &mut *state;
        let mut behind = Behind::default();
        for author in state.roster.authors().filter(|author| *author != self.node) {
            let heard = state.peers.get_mut(&author).map(|peer| &mut peer.heard);
            let level_at = heard.and_then(|heard| {
                heard.compare(&applied);
                heard.level_at
            });
            match level_at {
                Some(at) => behind.by = behind.by.max(Some(now.saturating_sub(at))),
                None => behind.unheard.push(author),
            }
        }
        if !behind.unheard.is_empty() {
            behind.by = None;
        }
        behind
    }

    /// Enters peers that are configured to read only as observers, unless operators decided about
    /// them.
    pub(super) fn enrol_readers(&self, store: &dyn Store) -> Result<()> {
        if self.writes() != Writes::Open {
            return Ok(());
        }
        let state = self.state.lock();
        if !state.is_settled || state.id == NO_GROUP || !state.may_speak() {
            return Ok(());
        }
        let is_open =
            |node: &NodeId| state.roster.member(*node).is_none_or(|member| !member.is_decided());
        let readers = state.peers.iter().filter(|(_, peer)| peer.reads_only);
        let readers: Vec<NodeId> = readers.map(|(node, _)| *node).filter(is_open).collect();
        drop(state);
        readers
            .into_iter()
            .try_for_each(|node| self.set_member(store, node, Member::new(Role::Observer)))
    }

    /// Makes this node an author: what an operator does if those who wrote are gone, or are to be
    /// more. It needs nobody's consent, and nobody waits for what it writes before they have the record of
    /// it: until then that may come too late, as the writes of one that was untracked. An author whose new life waits for another's word writes without it, see
    /// [`Group::overrule`].
    ///
    /// # Errors
    /// `InvalidInput` if it is fenced, or if something is missing here that others may have.
    pub fn promote(&self, store: &dyn Store) -> Result<()> {
        let refuse =
            |why: &str| Err(Error::invalid(format!("this node can not be promoted: {why}")));
        match self.role() {
            Role::Author => {
                if self.writes() == Writes::Announcing {
                    self.overrule();
                }
                return Ok(());
            }
            Role::Deprecated => return refuse("it was deprecated; a writer may track it again"),
            Role::Observer => {}
        }
        if self.is_silent() || !store.is_whole(self.config.scope) {
            return refuse("not all of the data is here yet; let it meet a writer first");
        }
        let known = self.roster().member(self.node).cloned();
        let member = Member { role: Role::Author, ..known.unwrap_or(Member::new(Role::Author)) };
        self.set_member(store, self.node, member)
    }
}
