//! The conversation with one peer. Touches no socket, clock or task.
//!
//! The driver hands over frames as they come ([`Session::receive`]) and asks for a frame whenever a
//! channel can take one ([`Session::next_frame`]): when the store's bell has rung, after anything
//! was received, and at [`Session::next_timeout`]. After an error the session is over: close the
//! connection with the error's number.

use super::audit::Auditor;
use super::bulk::BULK_LEN_MAX;
use super::config::{Event, SessionConfig};
use super::confirms::Confirms;
use super::frame::{Channel, Extent, FEATURE_PACKED, FEATURE_SELF_VERIFYING, Frame, Lane};
use super::give::{Give, Given, Window};
use super::give_state::{BothWays, GiveState};
use super::handshake::{Handshake, offset_ms};
use super::message::{Goodbye, Message, Offer, vector};
use super::pieces::Assembler;
use super::take::{Take, Waits};
use crate::error::ProtocolError;
use crate::group::Group;
use crate::store::Store;
use base::limits::BATCH_LEN_MAX;
use base::{NodeId, Tick, Vector};
use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

/// Bytes of a shipment at the most: the largest batch, and what surrounds it.
const SHIPMENT_LEN_MAX: usize = BATCH_LEN_MAX + (1 << 20);
/// How long a session may take until both have said hello and answered.
const HELLO_WAIT_MAX: Duration = Duration::from_secs(10);
/// How often a session that is waited for looks whether it may begin.
const ANSWER_EVERY: Duration = Duration::from_millis(100);
/// How often an idle session looks at the store.
const LOOK_EVERY: Duration = Duration::from_millis(250);
/// Offers that wait to be sent; each answers a request, and a peer has few open.
const OFFERS_MAX: usize = 4;

/// See the module.
pub struct Session {
    pub(super) config: SessionConfig,
    pub(super) group: Arc<Group>,
    pub(super) handshake: Handshake,
    is_over: bool,
    goodbye: Option<u16>,
    lanes_out: [Lane; 4],
    lanes_in: [Lane; 4],
    pub(super) assembled_tail: Assembler,
    pub(super) assembled_bulk: Assembler,
    assembled_audit: Assembler,
    pub(super) give: Give,
    pub(super) give_state: GiveState,
    pub(super) take: Take,
    audit: Auditor,
    offers: VecDeque<Offer>,
    confirms: Confirms,
    /// The most bytes that were held for payloads which were not whole yet.
    held_max: usize,
    /// The first confirm of the peer: what it had when the session began.
    pub(super) peer_had: Option<Vector>,
    began_at: Duration,
    heard_at: Duration,
    pub(super) now: Duration,
    pub(super) events: Vec<Event>,
}

impl Session {
    /// A session that begins `now`.
    pub fn new(config: SessionConfig, group: Arc<Group>, now: Duration) -> Session {
        let scope = group.scope();
        let window = Window {
            bytes_max: config.window_bytes,
            shipments_max: config.window_shipments,
            shipment_len: config.shipment_len,
        };
        Session {
            handshake: Handshake::default(),
            is_over: false,
            goodbye: None,
            lanes_out: Channel::ALL.map(Lane::new),
            lanes_in: Channel::ALL.map(Lane::new),
            assembled_tail: Assembler::new(SHIPMENT_LEN_MAX),
            assembled_bulk: Assembler::new(BULK_LEN_MAX),
            assembled_audit: Assembler::new(BULK_LEN_MAX),
            give: Give::new(scope, window),
            give_state: GiveState::new(scope),
            take: Take::new(Arc::clone(&group), config.peer),
            audit: Auditor::new(Arc::clone(&group), config.peer, config.audit_every),
            offers: VecDeque::new(),
            confirms: Confirms::new(now),
            held_max: 0,
            peer_had: None,
            began_at: now,
            heard_at: now,
            now,
            events: Vec::new(),
            config,
            group,
        }
    }

    /// Whether both sides have said hello and answered.
    pub fn is_up(&self) -> bool {
        self.handshake.is_up() && !self.is_over
    }

    /// Who is on the other side.
    pub fn peer(&self) -> NodeId {
        self.config.peer
    }

    /// Shipments and bytes that were sent and not confirmed.
    pub fn pending(&self) -> (u64, u64) {
        self.give.pending()
    }

    /// Bytes that are held for payloads which are not whole yet.
    pub fn held_bytes(&self) -> usize {
        self.assembled_tail.held() + self.assembled_bulk.held() + self.assembled_audit.held()
    }

    fn note_held(&mut self) {
        let held = self.held_bytes();
        if held > self.held_max {
            self.held_max = held;
            self.group.note_held(self.config.peer, held);
        }
    }

    /// What happened since this was asked last.
    pub fn take_events(&mut self) -> Vec<Event> {
        self.events.append(&mut self.take.events);
        self.events.append(&mut self.audit.events);
        std::mem::take(&mut self.events)
    }

    /// Ends the session: the next control frame says so.
    pub fn leave(&mut self) {
        self.goodbye.get_or_insert(0);
    }

    /// When to ask for a frame of [`Channel::Control`] at the latest; none if it is over.
    pub fn next_timeout(&self) -> Option<Duration> {
        if self.is_over {
            return None;
        }
        if !self.is_up() {
            let look = self.handshake.is_waited_for().then_some(self.now + ANSWER_EVERY);
            return [Some(self.began_at + HELLO_WAIT_MAX), look].into_iter().flatten().min();
        }
        let said = self.confirms.timeout(&self.config, self.take.unconfirmed);
        let look = Some(self.now + LOOK_EVERY);
        [said, look, self.take.timeout(), self.audit.timeout(self.now)].into_iter().flatten().min()
    }

    /// A frame came. Its length was checked by the driver, and is again.
    pub fn receive(
        &mut self,
        now: Duration,
        channel: Channel,
        frame: &[u8],
        store: &dyn Store,
    ) -> Result<(), ProtocolError> {
        self.receive_all(now, channel, &[frame], store)
    }

    /// Frames of one channel came, in this order: what they hold is taken together where that pays.
    pub fn receive_all(
        &mut self,
        now: Duration,
        channel: Channel,
        frames: &[impl AsRef<[u8]>],
        store: &dyn Store,
    ) -> Result<(), ProtocolError> {
        self.refuse_if_over()?;
        self.now = now;
        if self.leave_if_of_former_life(store) {
            return Ok(());
        }
        let mut frames = frames.iter().map(AsRef::as_ref);
        let done = match channel {
            Channel::Tail => self.receive_of_tail(now, frames, store),
            _ => frames.try_for_each(|frame| self.receive_frame(now, channel, frame, store)),
        };
        self.note_held();
        self.end_if_failed(done)
    }

    /// The next frame of `channel`; none if there is nothing to say now.
    pub fn next_frame(
        &mut self,
        now: Duration,
        channel: Channel,
        store: &dyn Store,
    ) -> Result<Option<Vec<u8>>, ProtocolError> {
        self.refuse_if_over()?;
        self.now = now;
        let made = match channel {
            Channel::Control => self.next_control(now, store),
            Channel::Tail => self.next_of_tail(store),
            Channel::Bulk => self.next_of_bulk(now, store),
            Channel::Reconcile => self.next_of_audit(now, store),
        };
        self.end_if_failed(made)
    }

    fn refuse_if_over(&self) -> Result<(), ProtocolError> {
        if self.is_over { Err(ProtocolError::Over) } else { Ok(()) }
    }

    fn end_if_failed<T>(&mut self, done: Result<T, ProtocolError>) -> Result<T, ProtocolError> {
        self.is_over |= done.is_err();
        done
    }

    fn receive_frame(
        &mut self,
        now: Duration,
        channel: Channel,
        frame: &[u8],
        store: &dyn Store,
    ) -> Result<(), ProtocolError> {
        let frame = self.open(now, channel, frame)?;
        let group = Arc::clone(&self.group);
        match channel {
            Channel::Control => {
                let message = Message::decode(frame.kind, &frame.payload)?;
                self.receive_message(now, message, store)
            }
            _ if !self.handshake.is_up() => self.refuse_before_hello(),
            Channel::Tail => Ok(()),
            Channel::Bulk => self.receive_of_bulk(now, frame, store),
            Channel::Reconcile => match self.assembled_audit.take(frame, store)? {
                Some((kind, it)) => self.audit.receive(now, store, kind, &it.open(&group)?),
                None => Ok(()),
            },
        }
    }

    /// Checks that a frame is the next one of its channel.
    pub(super) fn open<'f>(
        &mut self,
        now: Duration,
        channel: Channel,
        frame: &'f [u8],
    ) -> Result<Frame<'f>, ProtocolError> {
        self.note_held();
        let [control, tail, bulk, reconcile] = &mut self.lanes_in;
        let lane = match channel {
            Channel::Control => control,
            Channel::Tail => tail,
            Channel::Bulk => bulk,
            Channel::Reconcile => reconcile,
        };
        let frame = lane.open(frame)?;
        self.heard_at = now;
        Ok(frame)
    }

    pub(super) fn refuse_before_hello(&self) -> Result<(), ProtocolError> {
        Err(ProtocolError::Unexpected { what: "frame before the hellos" })
    }

    fn receive_message(
        &mut self,
        now: Duration,
        message: Message,
        store: &dyn Store,
    ) -> Result<(), ProtocolError> {
        match message {
            Message::Hello(hello) => {
                self.handshake.meet(now, &self.config, &self.group, store, &hello)?;
                self.agree_on_frames();
                Ok(())
            }
            Message::HelloAck(ack) => {
                self.handshake.take_answer(store, &ack)?;
                self.come_up(store)
            }
            Message::Goodbye(goodbye) => Err(ProtocolError::Left { code: goodbye.code }),
            // The peer may have had our answer before we had its.
            _ if !self.handshake.has_answered => self.refuse_before_hello(),
            Message::Subscribe(wish) => {
                self.check_scope(wish.scope)?;
                self.check_own(store, &vector(&wish.vector)?)?;
                let offer = self.serve(store, &wish)?;
                self.push_offer(offer)
            }
            Message::Offer(offer) => {
                self.check_scope(offer.scope)?;
                self.take.offer(now, store, &offer)
            }
            Message::Want(want) => self.receive_wish(store, &want, None),
            Message::Heal(heal) => self.receive_wish(store, &heal.want, Some(heal.missing()?)),
            Message::Statement(statement) => self.receive_statement(store, &statement),
            Message::Heartbeat(beat) => {
                let came = store.wall_ms();
                if beat.echo_ms > 0 {
                    let offset = offset_ms(beat.echo_ms, beat.received_ms, beat.sent_ms, came);
                    self.note_offset(offset);
                }
                self.confirms.heard_beat(beat.sent_ms, came);
                let last = Tick::from_raw(beat.last);
                if let (Some(peer), Some(last)) = (&self.handshake.peer, last) {
                    let applied = store.applied(self.group.scope());
                    self.group.note_last(peer.origin, last, &applied, now);
                }
                Ok(())
            }
        }
    }

    /// Once both have answered.
    fn come_up(&mut self, store: &dyn Store) -> Result<(), ProtocolError> {
        let Some(answer) = self.handshake.come_up(&self.group, store)? else { return Ok(()) };
        if answer.rejoin {
            self.take.must_rejoin();
        }
        if let (Some(peer), Some(said)) = (&self.handshake.peer, self.handshake.said) {
            self.group.note_configured(self.config.peer, peer.role);
            self.take.meet(peer, said);
        }
        self.note_offset(answer.offset_ms);
        self.events.push(Event::Up(self.config.peer));
        Ok(())
    }

    fn agree_on_frames(&mut self) {
        let agreed = self.handshake.peer.as_ref().map_or(0, |peer| peer.features);
        for lane in self.lanes_in.iter_mut().chain(&mut self.lanes_out) {
            if agreed & FEATURE_PACKED != 0 {
                lane.allow_packing();
            }
            if agreed & FEATURE_SELF_VERIFYING != 0 {
                lane.allow_self_verifying();
            }
        }
    }

    /// Bytes that packing has saved on the way to the peer.
    pub fn saved(&self) -> u64 {
        self.lanes_out.iter().map(Lane::saved).sum()
    }

    pub(super) fn check_scope(&self, scope: u32) -> Result<(), ProtocolError> {
        if scope == self.group.scope().0 {
            return Ok(());
        }
        Err(ProtocolError::WrongScope { found: scope })
    }

    pub(super) fn push_offer(&mut self, offer: Option<Offer>) -> Result<(), ProtocolError> {
        if self.offers.len() >= OFFERS_MAX && offer.is_some() {
            return Err(ProtocolError::Unexpected { what: "request before the answer to others" });
        }
        self.offers.extend(offer);
        Ok(())
    }

    fn note_offset(&self, offset_ms: i64) {
        self.group.note_peer(self.config.peer, |peer| peer.clock_offset_ms = offset_ms);
    }

    pub(super) fn note_pending(&self) {
        let (pending, pending_bytes) = self.give.pending();
        self.group.note_peer(self.config.peer, |peer| {
            (peer.under_way, peer.under_way_bytes) = (pending, pending_bytes);
        });
    }

    fn next_of_tail(&mut self, store: &dyn Store) -> Result<Option<Vec<u8>>, ProtocolError> {
        // Who rejoins ships nothing, but to whom it rejoins with.
        if !self.handshake.is_up() || self.group.is_closed_for_another(self.config.peer) {
            return Ok(None);
        }
        self.group.refuse_if_forked()?;
        let [_, lane, _, _] = &mut self.lanes_out;
        match self.give.next_frame(store, lane)? {
            Given::Frame(frame) => {
                self.note_pending();
                Ok(Some(frame))
            }
            Given::Offer(offer) => self.push_offer(Some(offer)).map(|()| None),
            Given::Nothing => Ok(None),
        }
    }

    fn next_of_bulk(
        &mut self,
        now: Duration,
        store: &dyn Store,
    ) -> Result<Option<Vec<u8>>, ProtocolError> {
        if !self.handshake.is_up() {
            return Ok(None);
        }
        let both_ways = if self.take.is_rejoining() { BothWays::Yes } else { BothWays::No };
        let [_, _, lane, _] = &mut self.lanes_out;
        self.give_state.next_frame(now, store, lane, both_ways)
    }

    fn next_of_audit(
        &mut self,
        now: Duration,
        store: &dyn Store,
    ) -> Result<Option<Vec<u8>>, ProtocolError> {
        if !self.handshake.is_up() {
            return Ok(None);
        }
        let [_, _, _, lane] = &mut self.lanes_out;
        self.audit.next_frame(now, store, lane, self.take.is_live())
    }

    fn next_control(
        &mut self,
        now: Duration,
        store: &dyn Store,
    ) -> Result<Option<Vec<u8>>, ProtocolError> {
        let Some(message) = self.next_message(now, store)? else { return Ok(None) };
        self.is_over |= matches!(message, Message::Goodbye(_));
        let bytes = message.encode()?;
        let [lane, _, _, _] = &mut self.lanes_out;
        Ok(Some(lane.seal(message.kind(), Extent::Whole, &[&bytes])))
    }

    fn next_message(
        &mut self,
        now: Duration,
        store: &dyn Store,
    ) -> Result<Option<Message>, ProtocolError> {
        if self.handshake.said.is_none() {
            let hello = self.handshake.hello(&self.config, &self.group, store);
            return Ok(Some(Message::Hello(hello)));
        }
        self.leave_if_of_former_life(store);
        if let Some(ack) = self.handshake.answer(now, &self.group, store)? {
            self.come_up(store)?;
            return Ok(Some(Message::HelloAck(ack)));
        }
        self.check_silence(now)?;
        self.group.refuse_if_forked()?;
        if let Some(code) = self.goodbye {
            return Ok(Some(Message::Goodbye(Goodbye { code })));
        }
        if !self.handshake.is_up() {
            return Ok(None);
        }
        self.group.tick(now, store)?;
        self.note_meeting(store);
        self.give_state.let_go(now);
        self.audit.let_go(now);
        self.confirms.serve(self.group.role_of(self.config.peer), &self.config);
        if let Some(offer) = self.offers.pop_front() {
            return Ok(Some(Message::Offer(offer)));
        }
        let waits = self.give_state.is_waited_for();
        self.take.note_wait(if waits { Waits::Yes } else { Waits::No });
        if let Some(message) = self.take.next_message(now, store)? {
            return Ok(Some(message));
        }
        let (config, group, unconfirmed) = (&self.config, &self.group, &mut self.take.unconfirmed);
        if let Some(said) = self.confirms.next_statement(now, config, group, store, unconfirmed)? {
            return Ok(Some(Message::Statement(said)));
        }
        let beat = self.confirms.next_heartbeat(now, config, group, store);
        Ok(beat.map(Message::Heartbeat))
    }

    fn check_silence(&self, now: Duration) -> Result<(), ProtocolError> {
        let (since, max) = match self.is_up() {
            true => (self.heard_at, self.config.silence_max),
            false => (self.began_at, HELLO_WAIT_MAX),
        };
        let waited = now.saturating_sub(since);
        if waited <= max {
            return Ok(());
        }
        let waited_ms = u64::try_from(waited.as_millis()).unwrap_or(u64::MAX);
        Err(ProtocolError::Silent { waited_ms })
    }

    /// Once all that the peer had at the start is here, a restored node has its clock.
    fn note_meeting(&mut self, store: &dyn Store) {
        let has_all = |had: &Vector| store.applied(self.group.scope()).covers_all(had);
        if self.peer_had.as_ref().is_some_and(has_all) {
            self.group.meet(self.config.peer);
        }
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        if let Some(origin) = self.handshake.entered() {
            self.group.leave(origin);
        }
    }
}
