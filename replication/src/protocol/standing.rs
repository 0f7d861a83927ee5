//! What a peer is to this node, and what follows from that before it is served.
//!
//! Only members are served. Whoever the roster does not know, though it has something already, is
//! fenced as one is that was deprecated: the record that named it may be lost with a restored
//! author, and then nobody waited for what it has. An author makes it a member, and it rejoins.

use super::config::Event;
use super::frame::FEATURE_ROOTS;
use super::message::{Answer, Notice as Told, Offer, Statement, Subscribe, Want, Wish, vector};
use super::session::Session;
use crate::error::ProtocolError;
use crate::group::Own;
use crate::roster::{Member, Notice, Role};
use crate::rules;
use crate::store::Store;
use base::{KeyRanges, NodeId, Vector};

/// How often in a row state that a peer is given may break off, before it gets the log instead.
const BROKEN_OFF_MAX: u32 = 2;

/// What both sides know of one of them: the newest record decides.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Standing {
    /// In the roster here.
    pub(crate) here: Option<Notice>,
    /// What the other side said.
    pub(crate) told: Option<Notice>,
}

impl Standing {
    /// `told` is not believed more than it has to be: it may fence, but not lift a fence.
    pub(crate) fn of(here: Option<Notice>, told: &Told) -> Result<Standing, ProtocolError> {
        Ok(Standing { here, told: told.read()? })
    }

    /// The newest.
    pub(crate) fn newest(&self) -> Option<Notice> {
        self.here.max(self.told)
    }

    /// Whether either side has it that the node was shut out.
    pub(crate) fn is_deprecated(&self) -> bool {
        let is_out = |notice: Option<Notice>| notice.is_some_and(|it| it.role == Role::Deprecated);
        is_out(self.here) || is_out(self.newest())
    }
}

impl Session {
    /// Answers a subscription: with the tail, or with why there is none.
    pub(super) fn serve(
        &mut self,
        store: &dyn Store,
        wish: &Subscribe,
    ) -> Result<Option<Offer>, ProtocolError> {
        let has = vector(&wish.vector)?;
        let scope = self.group.scope();
        // It wants no state any more.
        self.give_state.stop();
        if let Some(answer) = self.refusal_of_stranger(store, &has)? {
            self.give.stop();
            return Ok(Some(Offer::plain(scope, wish.round, answer)));
        }
        let peer = self.handshake.peer.as_ref().map(|peer| peer.origin);
        let may_prefer_state = self.may_prefer_state(&has);
        let offer = self.give.subscribe(store, wish, peer, may_prefer_state)?;
        let is_gone = offer.as_ref().is_some_and(|offer| offer.answer() == Answer::HistoryGone);
        let is_below = || !rules::may_take_delta(&has, &store.floor(scope));
        if is_gone && self.group.role() != Role::Author && self.take.may_rejoin_from() && is_below()
        {
            // An author does not rejoin with a reader: only an author can answer late puts.
            self.take.must_reconcile();
        }
        Ok(offer)
    }

    /// Whether a peer that has `has` is better off with state, if it is far behind.
    fn may_prefer_state(&self, has: &Vector) -> bool {
        match self.group.broken_off(self.peer(), has) {
            // Who got some just now would be put off.
            0 => self.group.has_rested(self.peer(), Wish::CatchUp, self.now),
            // Of two links that were made at once only one lasts.
            times if times < BROKEN_OFF_MAX => true,
            // State that a broken line has cut off is lost, while of the log each shipment counts. The line may
            // hold the next time.
            _ => {
                self.group.forgive_broken_off(self.peer());
                false
            }
        }
    }

    /// Why a peer that is no member gets no tail. An empty one becomes a member now.
    fn refusal_of_stranger(
        &self,
        store: &dyn Store,
        has: &Vector,
    ) -> Result<Option<Answer>, ProtocolError> {
        if self.is_member(store)? || store.is_empty(self.group.scope())? {
            return Ok(None);
        }
        if self.is_record_on_its_way(store) || !self.may_enrol() {
            return Ok(Some(Answer::Later));
        }
        if !has.is_empty() {
            return Ok(Some(Answer::Stranger));
        }
        self.enrol(store).map(|()| None)
    }

    fn is_member(&self, store: &dyn Store) -> Result<bool, ProtocolError> {
        if self.group.role_of(self.peer()).is_none() {
            // What was read before may be old.
            self.group.read_roster(store)?;
        }
        Ok(self.group.role_of(self.peer()).is_some())
    }

    /// Whether the peer has told of a record about itself that is not here yet.
    fn is_record_on_its_way(&self, store: &dyn Store) -> bool {
        let told = self.handshake.peer.as_ref().and_then(|peer| peer.standing.told);
        told.is_some_and(|told| !store.applied(self.group.scope()).covers_stamp(told.since))
    }

    /// Says which life of the peer is kept out, if nobody knew.
    fn name_fenced_life(&self, store: &dyn Store) -> Result<(), ProtocolError> {
        match &self.handshake.peer {
            Some(peer) if self.may_enrol() => {
                Ok(self.group.name_fenced_life(store, peer.origin)?)
            }
            _ => Ok(()),
        }
    }

    fn may_enrol(&self) -> bool {
        self.group.role() == Role::Author && !self.group.is_silent()
    }

    fn enrol(&self, store: &dyn Store) -> Result<(), ProtocolError> {
        if self.is_member(store)? {
            return Ok(());
        }
        let Some(peer) = &self.handshake.peer else { return Ok(()) };
        self.group.enrol(store, self.peer(), &Member::new(peer.newest_role()))?;
        self.group.read_roster(store)?;
        Ok(())
    }

    /// The peer wants something; `missing` is what it has lost, if that is why.
    pub(super) fn receive_wish(
        &mut self,
        store: &dyn Store,
        want: &Want,
        missing: Option<KeyRanges>,
    ) -> Result<(), ProtocolError> {
        self.check_scope(want.scope)?;
        let offer = match self.refusal_of(store, want)? {
            Some(answer) => Some(self.give_state.refuse(want.round, answer)),
            None if self.is_too_soon(want.wish()) => {
                Some(self.give_state.refuse(want.round, Answer::Later))
            }
            None => self.give_state.want(self.now, store, want, missing)?,
        };
        if let Some(given) = self.give_state.gives() {
            self.group.note_given(self.peer(), given.clone());
        }
        self.push_offer(offer)
    }

    /// Whether the peer got the same just now, in this session or in the one before.
    fn is_too_soon(&self, wish: Wish) -> bool {
        let costs = !matches!(wish, Wish::File | Wish::Nothing);
        costs && !self.group.may_give(self.peer(), wish, self.now)
    }

    /// Why a wish is not fulfilled now, if so. Before a node gets state it is a member, in the stream
    /// that the state belongs to: so whoever counts a later statement of this node knows that the
    /// floor waits for the new one.
    pub(super) fn refusal_of(
        &self,
        store: &dyn Store,
        want: &Want,
    ) -> Result<Option<Answer>, ProtocolError> {
        let (wish, peer) = (want.wish(), self.peer());
        if matches!(wish, Wish::File | Wish::Nothing) {
            return Ok(None);
        }
        if self.group.is_closed_for_another(peer) {
            // Who rejoins gives nothing. Of nodes that wait for each other in a circle, at least one
            // asks a greater one, and at least one a smaller one: the smaller does not wait.
            let waits = wish == Wish::Rejoin && peer > self.group.node();
            return Ok((!waits).then_some(Answer::Later));
        }
        self.name_fenced_life(store)?;
        let is_author = self.group.role() == Role::Author;
        let features = self.handshake.peer.as_ref().map_or(0, |peer| peer.features);
        match wish {
            Wish::Tables if features & FEATURE_ROOTS == 0 => Ok(Some(Answer::NoTables)),
            Wish::Heal if !is_author => Ok(Some(Answer::Later)),
            Wish::Rejoin if !is_author && !self.take.is_rejoining() => Ok(Some(Answer::Later)),
            Wish::CatchUp => self.refusal_of_stranger(store, &vector(&want.vector)?),
            _ if self.may_enrol() && !store.is_empty(self.group.scope())? => {
                self.enrol(store).map(|()| None)
            }
            _ => Ok(None),
        }
    }

    /// Whether what the peer says of another node counts: members are believed, readers too, which may
    /// be the only way between two authors; nobody says what we have. What it says of what that node
    /// has of us is none of its own promises.
    pub(super) fn may_pass_on(&self, of: NodeId) -> bool {
        let role = self.group.role_of(self.peer());
        role.is_some_and(|role| role != Role::Deprecated) && of != self.group.node()
    }

    /// Somebody has something durably: the peer, or one that it passes on.
    pub(super) fn receive_statement(
        &mut self,
        store: &dyn Store,
        statement: &Statement,
    ) -> Result<(), ProtocolError> {
        self.check_scope(statement.scope)?;
        let durable = vector(&statement.durable)?;
        let origin = statement.origin();
        if origin.node == self.config.peer {
            self.check_own(store, &durable)?;
        } else if !self.may_pass_on(origin.node) {
            return Ok(());
        }
        self.group.note_statement(store, origin, self.config.peer, &durable);
        if origin.node == self.config.peer {
            self.give.confirm(&durable);
            self.note_pending();
            self.group.refuse_if_reader_writes(store, origin.node)?;
            self.peer_had.get_or_insert(durable);
        }
        Ok(())
    }

    /// A peer that has more of us than we have: our tail was lost.
    pub(super) fn check_own(
        &mut self,
        store: &dyn Store,
        has: &Vector,
    ) -> Result<(), ProtocolError> {
        self.take.is_renewed |= self.group.check_own(store, has)? == Own::Renewed;
        self.leave_if_renewed();
        Ok(())
    }

    pub(super) fn leave_if_renewed(&mut self) {
        if std::mem::take(&mut self.take.is_renewed) {
            self.events.extend([Event::Healing, Event::Renewed]);
            self.leave();
        }
    }

    /// The peer believes that this node has all that it wrote in the life it said hello in, and that
    /// life may be fenced: in the next one all begins with another hello.
    pub(super) fn leave_if_of_former_life(&mut self, store: &dyn Store) -> bool {
        let is_former = self.handshake.said.is_some_and(|said| said != store.origin());
        if is_former {
            self.leave();
        }
        is_former
    }
}
