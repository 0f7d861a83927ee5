//! Who is there. Both sides say hello at once, then each answers the other's; then the session is
//! up. Nothing else is said before.

use super::config::SessionConfig;
use super::message::{Hello, HelloAck, Notice};
use super::standing::Standing;
use crate::error::ProtocolError;
use crate::group::{Claim, Group, GroupId};
use crate::roster::{Role, is_fenced};
use crate::store::Store;
use base::{NodeId, Origin};
use std::time::Duration;

/// Among the features of a hello: this node was let in by a token, and founds no group.
const GUEST: u64 = 1 << 63;

/// Where the two sides are.
#[derive(Debug, Default)]
pub(crate) struct Handshake {
    /// The life in which this node has said hello: what the session agrees on is about that one.
    pub(crate) said: Option<Origin>,
    /// What it says of its group in that hello, or will: what both work out depends on it.
    claim: Option<Claim>,
    pub(crate) has_answered: bool,
    /// The peer's answer, until this node has answered as well.
    answer: Option<Answer>,
    is_answered: bool,
    is_up: bool,
    /// The peer, once it has said hello and was let in, and what will be answered.
    pub(crate) peer: Option<Peer>,
}

/// What the peer has answered.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Answer {
    /// Whether this node must rejoin.
    pub(crate) rejoin: bool,
    /// By how much the peer's clock is ahead.
    pub(crate) offset_ms: i64,
}

/// What is known from the peer's hello.
#[derive(Debug)]
pub(crate) struct Peer {
    pub(crate) origin: Origin,
    pub(crate) protocol: u16,
    pub(crate) features: u64,
    /// What it was configured as.
    pub(crate) role: Role,
    /// What is known of it.
    pub(crate) standing: Standing,
    /// Whether it has it that the present life of this node must rejoin.
    pub(crate) fences_us: bool,
    claim: Claim,
    /// What both work out from their claims.
    group: GroupId,
    /// Whether its session counts: until then this node waits for a member.
    is_in: bool,
    sent_ms: u64,
    received_ms: u64,
}

impl Handshake {
    /// Whether both have answered.
    pub(crate) fn is_up(&self) -> bool {
        self.is_up
    }

    /// Whether the peer has said hello, and waits for an answer.
    pub(crate) fn is_waited_for(&self) -> bool {
        self.peer.is_some() && !self.has_answered
    }

    /// The life of the peer whose session counts.
    pub(crate) fn entered(&self) -> Option<Origin> {
        self.peer.as_ref().filter(|peer| peer.is_in).map(|peer| peer.origin)
    }

    /// Our first words.
    pub(crate) fn hello(
        &mut self,
        config: &SessionConfig,
        group: &Group,
        store: &dyn Store,
    ) -> Hello {
        let own = store.origin();
        self.said = Some(own);
        let claim = *self.claim.get_or_insert_with(|| group.claim());
        Hello {
            protocol_min: config.protocol.0,
            protocol_max: config.protocol.1,
            features: config.features | if claim.is_guest { GUEST } else { 0 },
            group: claim.group,
            proposal: claim.proposal,
            node: own.node.0,
            incarnation: own.incarnation.0,
            role: group.role() as u8,
            sent_ms: store.wall_ms(),
            about_me: Notice::of(group.notice(own.node)),
            about_you: Notice::of(group.notice(config.peer)),
        }
    }

    /// Lets the peer in, or not; or not yet.
    pub(crate) fn meet(
        &mut self,
        now: Duration,
        config: &SessionConfig,
        group: &Group,
        store: &dyn Store,
        hello: &Hello,
    ) -> Result<(), ProtocolError> {
        if self.peer.is_some() {
            return Err(ProtocolError::Unexpected { what: "second hello" });
        }
        let theirs = (hello.protocol_min, hello.protocol_max);
        let ours = config.protocol;
        let protocol = theirs.1.min(ours.1);
        if protocol < theirs.0.max(ours.0) {
            return Err(ProtocolError::ProtocolVersion { theirs, ours });
        }
        let node = NodeId(hello.node);
        if node == group.node() {
            return Err(ProtocolError::OwnId { node });
        }
        if node != config.peer {
            return Err(ProtocolError::WrongNode { expected: config.peer, found: node });
        }
        group.refuse_if_forked()?;
        let standing = Standing::of(group.notice(node), &hello.about_me)?;
        let own = store.origin();
        let ours = Standing::of(group.notice(own.node), &hello.about_you)?;
        if standing.is_deprecated() {
            return Err(ProtocolError::Fenced { node });
        }
        if ours.newest().is_some_and(|notice| notice.role == Role::Deprecated) {
            return Err(ProtocolError::Deprecated);
        }
        let claim = self.claim.get_or_insert_with(|| group.claim());
        let is_guest = hello.features & GUEST != 0;
        let theirs = Claim { group: hello.group, proposal: hello.proposal, is_guest };
        let agreed = claim.agreed(own.node, node, &theirs)?;
        let is_in = group.let_in(now, hello.origin(), claim, &theirs)?;
        self.peer = Some(Peer {
            origin: hello.origin(),
            protocol,
            features: hello.features & config.features,
            role: Role::from_raw(hello.role).unwrap_or(Role::Observer),
            standing,
            fences_us: is_fenced(ours.told.and_then(|notice| notice.fenced), own.incarnation),
            claim: theirs,
            group: agreed,
            is_in,
            sent_ms: hello.sent_ms,
            received_ms: store.wall_ms(),
        });
        Ok(())
    }

    /// Our answer, if it is due.
    pub(crate) fn answer(
        &mut self,
        now: Duration,
        group: &Group,
        store: &dyn Store,
    ) -> Result<Option<HelloAck>, ProtocolError> {
        let (Some(peer), Some(claim), false) = (&mut self.peer, &self.claim, self.has_answered)
        else {
            return Ok(None);
        };
        if !peer.is_in {
            peer.is_in = group.let_in(now, peer.origin, claim, &peer.claim)?;
        }
        if !peer.is_in {
            return Ok(None);
        }
        self.has_answered = true;
        Ok(Some(HelloAck {
            protocol: peer.protocol,
            features: peer.features,
            group: peer.group,
            rejoin: u8::from(peer.is_fenced() || group.must_rejoin(peer.origin)),
            echo_ms: peer.sent_ms,
            received_ms: peer.received_ms,
            sent_ms: store.wall_ms(),
        }))
    }

    /// Takes the peer's answer.
    pub(crate) fn take_answer(
        &mut self,
        store: &dyn Store,
        ack: &HelloAck,
    ) -> Result<(), ProtocolError> {
        let Some(peer) = self.peer.as_ref().filter(|_| !self.is_answered && self.said.is_some())
        else {
            return Err(ProtocolError::Unexpected { what: "answer to a hello" });
        };
        if ack.group != peer.group {
            return Err(ProtocolError::WrongGroup { ours: peer.group, theirs: ack.group });
        }
        if ack.protocol != peer.protocol || ack.features != peer.features {
            return Err(ProtocolError::Unexpected { what: "version in the answer to a hello" });
        }
        let offset_ms = offset_ms(ack.echo_ms, ack.received_ms, ack.sent_ms, store.wall_ms());
        self.answer = Some(Answer { rejoin: ack.rejoin == 1, offset_ms });
        self.is_answered = true;
        Ok(())
    }

    /// What the peer has answered, as soon as both have: from then on the session is up, and this node of its group.
    pub(crate) fn come_up(
        &mut self,
        group: &Group,
        store: &dyn Store,
    ) -> Result<Option<Answer>, ProtocolError> {
        let (Some(answer), Some(peer), true) = (self.answer, &self.peer, self.has_answered) else {
            return Ok(None);
        };
        group.belong_to(store, peer.group)?;
        self.answer = None;
        self.is_up = true;
        Ok(Some(answer))
    }
}

impl Peer {
    fn is_fenced(&self) -> bool {
        let newest = self.standing.newest();
        is_fenced(newest.and_then(|notice| notice.fenced), self.origin.incarnation)
    }

    /// What it is, as operators decided last; if they did not, as it says itself.
    pub(crate) fn newest_role(&self) -> Role {
        let decided = self.standing.newest().filter(|notice| notice.is_decided);
        decided.map_or(self.role, |notice| notice.role)
    }
}

/// By how much the other clock is ahead, from when a message was sent and came on the way there,
/// and was sent and came on the way back.
pub(crate) fn offset_ms(sent: u64, came: u64, back_sent: u64, back_came: u64) -> i64 {
    let difference = |a: u64, b: u64| i128::from(a) - i128::from(b);
    let offset = (difference(came, sent) + difference(back_sent, back_came)) / 2;
    i64::try_from(offset).unwrap_or(if offset < 0 { i64::MIN } else { i64::MAX })
}
