//! The log tail for the peer: shipments that its subscription asked for, as far as its confirms
//! allow.

use super::frame::{Extent, Kind, Lane};
use super::message::{Answer, Offer, Subscribe, entries, vector};
use super::pieces::{Cutter, Rest};
use crate::error::ProtocolError;
use crate::rules;
use crate::store::{Outbound, Store, Tail};
use base::{Error, Origin, ScopeId, Tick, Vector};
use std::collections::VecDeque;

/// How much may be on its way.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Window {
    pub(crate) bytes_max: u64,
    pub(crate) shipments_max: usize,
    pub(crate) shipment_len: usize,
}

struct Sent {
    origin: Origin,
    last: Tick,
    len: u64,
}

struct Serving {
    round: u32,
    tail: Box<dyn Tail>,
    /// What the peer has or will have: its vector, its confirms, and what was sent.
    known: Vector,
    is_started: bool,
}

/// One direction of the tail.
pub(crate) struct Give {
    scope: ScopeId,
    window: Window,
    serving: Option<Serving>,
    /// A payload whose pieces must all go before anything else on the channel.
    cutter: Option<Cutter>,
    in_flight: VecDeque<Sent>,
    in_flight_bytes: u64,
    /// Shipments sent since the session began.
    pub(crate) shipments: u64,
}

impl Give {
    pub(crate) fn new(scope: ScopeId, window: Window) -> Give {
        let in_flight = VecDeque::new();
        Give {
            scope,
            window,
            serving: None,
            cutter: None,
            in_flight,
            in_flight_bytes: 0,
            shipments: 0,
        }
    }

    /// The peer, in its present life `peer`, asks for what its vector does not cover; returns an offer if
    /// the log can not do it, or state would do it faster and `may_prefer_state`.
    pub(crate) fn subscribe(
        &mut self,
        store: &dyn Store,
        wish: &Subscribe,
        peer: Option<Origin>,
        may_prefer_state: bool,
    ) -> Result<Option<Offer>, ProtocolError> {
        let mut known = vector(&wish.vector)?;
        let may_take_delta = rules::may_take_delta(&known, &store.floor(self.scope));
        // What it writes it has, long before it says so.
        peer.iter().for_each(|peer| known.raise(*peer, Tick::MAX));
        self.stop();
        // A node that lost something has a log all the same.
        if may_prefer_state
            && may_take_delta
            && store.is_whole(self.scope)
            && store.prefers_delta(self.scope, &known)?
        {
            return self.history_gone(store, wish.round).map(Some);
        }
        match store.tail(self.scope, &known) {
            Ok(tail) => {
                let round = wish.round;
                self.serving = Some(Serving { round, tail, known, is_started: false });
                Ok(None)
            }
            Err(Error::HistoryGone { .. }) => self.history_gone(store, wish.round).map(Some),
            Err(error) => Err(error.into()),
        }
    }

    fn history_gone(&self, store: &dyn Store, round: u32) -> Result<Offer, ProtocolError> {
        let (scope, answer) = (self.scope.0, Answer::HistoryGone as u8);
        // A node that lost something has nothing to offer.
        let answer = if store.is_whole(self.scope) { answer } else { Answer::Later as u8 };
        let floor = entries(&store.floor(self.scope))?;
        Ok(Offer { scope, round, answer, floor })
    }

    /// The peer gets no more.
    pub(crate) fn stop(&mut self) {
        self.in_flight.clear();
        self.in_flight_bytes = 0;
        self.serving = None;
    }

    /// The peer has all this durably.
    pub(crate) fn confirm(&mut self, durable: &Vector) {
        if let Some(serving) = &mut self.serving {
            let room = Vector::LEN_MAX.saturating_sub(serving.known.len());
            let is_new = |(origin, _): &(Origin, Tick)| serving.known.get(*origin) == Tick::ZERO;
            let (new, known): (Vec<_>, Vec<_>) = durable.iter().partition(is_new);
            // Of authors without end nothing is remembered: what is theirs may be sent again.
            let raised = known.into_iter().chain(new.into_iter().take(room));
            raised.for_each(|(origin, tick)| serving.known.raise(origin, tick));
        }
        self.in_flight.retain(|sent| !durable.covers(sent.origin, sent.last));
        self.in_flight_bytes = self.in_flight.iter().map(|sent| sent.len).sum();
    }

    /// Shipments and bytes that are on their way.
    pub(crate) fn pending(&self) -> (u64, u64) {
        (self.in_flight.len() as u64, self.in_flight_bytes)
    }

    fn has_room(&self) -> bool {
        self.in_flight.len() < self.window.shipments_max
            && self.in_flight_bytes < self.window.bytes_max
    }

    /// The next frame of the tail, or an offer if the log fell behind the peer.
    pub(crate) fn next_frame(
        &mut self,
        store: &dyn Store,
        lane: &mut Lane,
    ) -> Result<Given, ProtocolError> {
        if let Some(frame) = self.next_piece(lane)? {
            return Ok(Given::Frame(frame));
        }
        let has_room = self.has_room();
        let Some(serving) = &mut self.serving else { return Ok(Given::Nothing) };
        if !serving.is_started {
            serving.is_started = true;
            let round = serving.round.to_le_bytes();
            return Ok(Given::Frame(lane.seal(Kind::TailStart, Extent::Whole, &[&round])));
        }
        if !has_room {
            return Ok(Given::Nothing);
        }
        match serving.tail.next(&serving.known, self.window.shipment_len) {
            Ok(Some(outbound)) => {
                serving.known.raise(outbound.origin, outbound.last);
                self.send(store, outbound, lane).map(Given::Frame)
            }
            Ok(None) => Ok(Given::Nothing),
            Err(Error::HistoryGone { .. }) => {
                let round = serving.round;
                self.serving = None;
                self.history_gone(store, round).map(Given::Offer)
            }
            Err(error) => Err(error.into()),
        }
    }

    fn send(
        &mut self,
        store: &dyn Store,
        outbound: Outbound,
        lane: &mut Lane,
    ) -> Result<Vec<u8>, ProtocolError> {
        let len = outbound.bytes.len() as u64;
        let sent = Sent { origin: outbound.origin, last: outbound.last, len };
        self.in_flight.push_back(sent);
        self.in_flight_bytes += len;
        self.shipments += 1;
        let mut cutter = Cutter::new(Kind::Shipment, outbound.bytes, store)?;
        let (frame, rest) = cutter.next(lane)?;
        self.cutter = (rest == Rest::Some).then_some(cutter);
        Ok(frame)
    }

    fn next_piece(&mut self, lane: &mut Lane) -> Result<Option<Vec<u8>>, ProtocolError> {
        let Some(cutter) = &mut self.cutter else { return Ok(None) };
        let (frame, rest) = cutter.next(lane)?;
        if rest == Rest::None {
            self.cutter = None;
        }
        Ok(Some(frame))
    }
}

/// What comes of asking for the next frame.
pub(crate) enum Given {
    Frame(Vec<u8>),
    Offer(Offer),
    Nothing,
}
