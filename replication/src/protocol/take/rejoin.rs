//! When this node may not go on as it is, and with whom it gets in line.

use super::{Course, Take};
use crate::error::ProtocolError;
use crate::protocol::config::{Event, Tier};
use crate::protocol::frame::{FEATURE_RANGES, FEATURE_ROOTS};
use crate::protocol::handshake::Peer;
use crate::protocol::message::Wish;
use crate::roster::Role;
use crate::rules;
use crate::store::Store;
use base::{KeyRanges, Origin};
use std::time::Duration;

/// Whether a node waits, closed, for the state of another.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Waits {
    Yes,
    No,
}

impl Take {
    /// The peer says that the present life of this node must rejoin.
    pub(crate) fn must_rejoin(&mut self) {
        self.must_rejoin = true;
    }

    /// This node takes the state of the peer as soon as it can.
    pub(crate) fn must_reconcile(&mut self) {
        self.must_reconcile = true;
    }

    /// The session with `peer` is up; this node has said hello as `own`.
    pub(crate) fn meet(&mut self, peer: &Peer, own: Origin) {
        self.own = Some(own);
        (self.peer_role, self.told) = (peer.newest_role(), peer.standing.newest());
        self.must_rejoin |= peer.fences_us;
        self.must_reconcile |= self.owes_line();
        if !self.must_rejoin {
            self.group.note_member();
        }
        self.speaks_of_roots = peer.features & FEATURE_ROOTS != 0;
        self.speaks_of_ranges = peer.features & FEATURE_RANGES != 0;
    }

    /// Whether an earlier session has left it to this one to get in line. Nobody gets in line with a peer
    /// that writes no more, and who writes answers late puts itself.
    fn owes_line(&self) -> bool {
        let can_be = self.is_author_there() && self.group.role() != Role::Author;
        if !can_be {
            self.group.is_in_line(self.peer);
        }
        self.group.owes_line(self.peer)
    }

    pub(crate) fn note_wait(&mut self, waits: Waits) {
        self.peer_waits = waits;
    }

    /// Whether the peer may be rejoined with: only an author has answered all late writes. If it waits
    /// for our state it rejoins itself, and it goes both ways.
    pub(crate) fn may_rejoin_from(&self) -> bool {
        self.is_author_there() || self.peer_waits == Waits::Yes
    }

    fn is_author_there(&self) -> bool {
        let newest = self.told.max(self.group.notice(self.peer));
        if let Some(decided) = newest.filter(|notice| notice.is_decided) {
            return decided.role == Role::Author;
        }
        // The roster here may be old; that of the peer says the same, or it refuses.
        let roles = [Some(self.peer_role), self.group.role_of(self.peer)];
        roles.contains(&Some(Role::Author))
    }

    /// What the peer has is late here, and this node may not answer it: it gets in line with the peer
    /// if that is an author, which answers what it has not deleted; others have to wait for one.
    pub(super) fn need_answer(
        &mut self,
        now: Duration,
        store: &dyn Store,
        late: u64,
    ) -> Result<(), ProtocolError> {
        self.events.push(Event::Unanswered(late));
        let is_again = self.must_reconcile;
        self.must_reconcile = self.may_rejoin_from();
        if self.must_reconcile && self.is_author_there() {
            // The link may not have lived as long as the attempt took.
            self.group.owe_line(self.peer);
        }
        if is_again || !self.must_reconcile {
            self.rest(now);
            return Ok(());
        }
        self.choose(now, store)
    }

    pub(super) fn is_rejoin_due(&self, store: &dyn Store) -> bool {
        let is_whole = store.is_whole(self.group.scope());
        self.must_rejoin || self.must_reconcile || !is_whole || self.group.is_fenced()
    }

    /// Whether this node must rejoin, and may with the peer. Who has nothing just takes all.
    pub(super) fn may_rejoin_now(&self, store: &dyn Store) -> Result<bool, ProtocolError> {
        let is_due = self.is_rejoin_due(store) && self.may_rejoin_from();
        Ok(is_due && !store.is_empty(self.group.scope())?)
    }

    /// Whether this node waits, closed, for the state of the peer.
    pub(crate) fn is_rejoining(&self) -> bool {
        matches!(self.course, Course::Asked { wish: Wish::Rejoin, .. })
    }

    pub(super) fn ask_to_rejoin(
        &mut self,
        now: Duration,
        store: &dyn Store,
    ) -> Result<(), ProtocolError> {
        self.group.close(store)?;
        store.request_sync();
        if let Some(missing) = self.may_heal(store)? {
            self.missing = missing;
            self.events.push(Event::Chose(Tier::Heal));
            return self.ask(now, store, Wish::Heal);
        }
        self.events.push(Event::Chose(Tier::Rejoin));
        self.ask(now, store, Wish::Rejoin)
    }

    /// What is missing here, if that is all that is wrong and the peer, an author, can bring just that.
    fn may_heal(&self, store: &dyn Store) -> Result<Option<KeyRanges>, ProtocolError> {
        let scope = self.group.scope();
        if store.is_whole(scope) {
            return Ok(None);
        }
        let is_asked_to = self.must_rejoin || self.must_reconcile || self.group.is_fenced();
        let is_sure = self.group.claims(store) == store.applied(scope);
        let may_ask = self.speaks_of_ranges && self.is_author_there() && !self.must_take_all;
        if is_asked_to || !is_sure || !may_ask {
            return Ok(None);
        }
        Ok(store.missing(scope)?)
    }

    /// The peer can not bring just what is missing here: this node rejoins as a whole.
    pub(super) fn take_all(
        &mut self,
        now: Duration,
        store: &dyn Store,
    ) -> Result<(), ProtocolError> {
        self.must_take_all = true;
        self.ask_to_rejoin(now, store)
    }

    pub(super) fn take_state(
        &mut self,
        now: Duration,
        store: &dyn Store,
        floor: &base::Vector,
    ) -> Result<(), ProtocolError> {
        let scope = self.group.scope();
        if !self.group.try_take(self.peer) {
            self.rest(now);
            return Ok(());
        }
        if store.is_whole(scope) && rules::may_take_delta(&store.applied(scope), floor) {
            self.events.push(Event::Chose(Tier::Delta));
            return self.ask(now, store, Wish::CatchUp);
        }
        if !self.may_rejoin_from() {
            // A reader, which rejoins with us.
            return self.give_up(now, store);
        }
        self.ask_to_rejoin(now, store)
    }
}
