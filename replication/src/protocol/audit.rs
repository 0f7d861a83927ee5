//! The auditor: compares now and then all that two nodes hold, tells lag from divergence, and repairs
//! what has diverged.
//!
//! ```text
//! exchange  what follows once differences are found
//! filtered  what of a moment is compared
//! fixture   two nodes that are compared, for tests
//! message   what goes over the wire
//! trouble   why an audit does not go on
//! ```
//!
//! The node with the lower id opens. If it thinks that both have the same, it sends the first frame of
//! the comparison at once: a pair at rest is through after one round trip. Otherwise both heads are
//! exchanged first, and each side sums up what both have received.
//!
//! ```text
//! opener     (ask <-)  open ─────────────────> compare ─> ... ─> chunks, end ─> ... ─> gone, end
//! answerer                  head ─> head <─┘   compare <─ ...        chunks, gone, end
//! ```
//!
//! An audit reads everything once, a piece at a time, and pins a moment until it is over: an hour at the most
//! once this side is summed up, whatever the other side says meanwhile. Memory: a
//! sketch (8 MiB, however long names are), a half-round of at most 8 MiB, names of at most 16 MiB that
//! differ on each side, and a frame of at most 256 KiB that waits.

mod exchange;
mod filtered;
#[cfg(test)]
mod fixture;
pub mod message;
#[cfg(test)]
mod tests;
mod trouble;

use super::config::Event;
use super::frame::{Kind, Lane};
use super::pieces::{Cutter, Rest};
use crate::error::ProtocolError;
use crate::group::Group;
use crate::health::AuditReport;
use crate::reconcile::message::FRAME_LEN_MAX;
use crate::reconcile::{Comparison, ElementKey, Sketching, Step};
use crate::roster::Role;
use crate::store::Store;
use base::{Corruption, Error, NodeId};
use exchange::{Exchange, MayDisown, Side};
use filtered::{Filtered, head_digest};
use message::{Head, Reason, Say};
use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;
use trouble::Trouble;

/// Names that are summed up between two looks at anything else.
const PIECE: u64 = 8 << 10;
/// Entries that expire within this time are compared only above the floors: clocks differ.
const HORIZON_MS: u64 = 60_000;
/// How long an audit may make no progress. The other side may have a hundred million names to sum.
const WAIT_MAX: Duration = Duration::from_secs(300);
/// How long an audit may take from when this side is summed up, whatever progress it makes: nobody else is
/// audited meanwhile, and the tables of its moment stay.
const LASTS_MAX: Duration = Duration::from_secs(3600);

/// See the module.
pub(crate) struct Auditor {
    group: Arc<Group>,
    peer: NodeId,
    every: Option<Duration>,
    side: Side,
    /// The audit of now, or the last one.
    round: u32,
    course: Course,
    outbox: VecDeque<(Kind, Vec<u8>)>,
    cutter: Option<Cutter>,
    /// When it last made progress.
    moved_at: Duration,
    /// When it began, or this side last went on with its sums.
    since: Duration,
    /// Whether the other side has told its head.
    is_told: bool,
    pub(crate) events: Vec<Event>,
}

enum Course {
    Idle,
    /// Our head was sent; theirs will come.
    Heading(Filtered),
    /// Our side is summed up.
    Summing(Sketching<Filtered>, Then),
    /// Something was sent, and an answer will come.
    Comparing(Comparison<Filtered>),
    Exchanging(Box<Exchange>),
}

/// What is done with a sketch.
enum Then {
    /// The other side is told our head together with the first frame.
    Open,
    /// The other side is sent the first frame.
    Begin,
    /// The other side begins: its frame, if it has come.
    Answer(Option<Vec<u8>>),
}

impl Auditor {
    pub(crate) fn new(group: Arc<Group>, peer: NodeId, every: Option<Duration>) -> Auditor {
        let side = if group.node() < peer { Side::Opener } else { Side::Answerer };
        Auditor {
            group,
            peer,
            every,
            side,
            round: 0,
            course: Course::Idle,
            outbox: VecDeque::new(),
            cutter: None,
            moved_at: Duration::ZERO,
            since: Duration::ZERO,
            is_told: false,
            events: Vec::new(),
        }
    }

    /// When to ask for a frame although nothing comes.
    pub(crate) fn timeout(&self, now: Duration) -> Option<Duration> {
        match self.course {
            Course::Idle => None,
            Course::Summing(..) => Some(now),
            _ => Some(self.until()),
        }
    }

    fn until(&self) -> Duration {
        (self.moved_at + WAIT_MAX).min(self.since + LASTS_MAX)
    }

    /// Gives up an audit that has lasted too long, and what was still to be said in it.
    pub(crate) fn let_go(&mut self, now: Duration) {
        if !matches!(self.course, Course::Idle) && now > self.until() {
            self.outbox.clear();
            self.say(&Say::Stop(Reason::Later));
            self.abandon(now);
        }
    }

    /// The next frame. Does a piece of the work.
    pub(crate) fn next_frame(
        &mut self,
        now: Duration,
        store: &dyn Store,
        lane: &mut Lane,
        is_live: bool,
    ) -> Result<Option<Vec<u8>>, ProtocolError> {
        if self.cutter.is_none() && self.outbox.is_empty() {
            let done = self.work(now, store, is_live);
            self.settle(now, store, done)?;
        }
        if self.cutter.is_none() {
            let next = self.outbox.pop_front();
            let cutter = next.map(|(kind, payload)| Cutter::new(kind, payload, store));
            self.cutter = cutter.transpose()?;
        }
        let Some(cutter) = &mut self.cutter else { return Ok(None) };
        let (frame, rest) = cutter.next(lane)?;
        if rest == Rest::None {
            self.cutter = None;
        }
        Ok(Some(frame))
    }

    /// A payload of the channel came.
    pub(crate) fn receive(
        &mut self,
        now: Duration,
        store: &dyn Store,
        kind: Kind,
        payload: &[u8],
    ) -> Result<(), ProtocolError> {
        let (round, say) = Say::decode(kind, payload)?;
        match (&say, self.side) {
            (Say::Ask, Side::Opener) => {
                self.group.note_wanted_audit(self.peer);
                return Ok(());
            }
            (Say::Open { .. } | Say::Head(_), Side::Answerer) if round > self.round => {
                self.abandon(now);
                // What was to be said in others is of no use any more.
                self.outbox.retain(|(kind, _)| *kind == Kind::AuditAsk);
                (self.round, self.since, self.is_told) = (round, now, false);
            }
            _ if round == 0 || round > self.round => return Err(unexpected()),
            _ if round < self.round || matches!(self.course, Course::Idle) => return Ok(()),
            _ => {}
        }
        self.moved_at = now;
        let heard = self.hear(store, say);
        self.settle(now, store, heard)
    }

    /// An audit that has failed here ends; the session does only if the peer is to blame.
    fn settle(
        &mut self,
        now: Duration,
        store: &dyn Store,
        done: Result<(), Trouble>,
    ) -> Result<(), ProtocolError> {
        match done {
            Ok(()) => self.finish_if_done(now, store),
            Err(Trouble::Peer(error)) => return Err(error),
            Err(Trouble::Here(error)) => {
                self.say(&Say::Stop(Reason::Failed));
                self.events.push(match error {
                    // A clock is wrong, the peer's or ours: nothing of it is merged until it is right.
                    Error::ClockSkew { by_ms, .. } => Event::Parked { by_ms },
                    error => Event::Incident(format!("an audit failed: {error}")),
                });
                self.abandon(now);
            }
        }
        Ok(())
    }

    fn say(&mut self, say: &Say<'_>) {
        let round = if *say == Say::Ask { 0 } else { self.round };
        self.outbox.push_back((say.kind(), say.encode(round)));
    }

    fn abandon(&mut self, now: Duration) {
        if !matches!(self.course, Course::Idle) {
            self.course = Course::Idle;
            self.group.end_audit(self.peer, now, None);
        }
    }

    /// Does a piece of what is to be done.
    fn work(&mut self, now: Duration, store: &dyn Store, is_live: bool) -> Result<(), Trouble> {
        if matches!(self.course, Course::Idle) {
            return if is_live { self.begin_if_due(now, store) } else { Ok(()) };
        }
        match &mut self.course {
            Course::Summing(sketching, _) => {
                (self.moved_at, self.since) = (now, now);
                if sketching.go_on(PIECE)? { Ok(()) } else { self.compare() }
            }
            Course::Exchanging(exchange) => {
                let (round, outbox) = (self.round, &mut self.outbox);
                let say = &mut |say: &Say<'_>| outbox.push_back((say.kind(), say.encode(round)));
                Ok(exchange.next(say)?)
            }
            _ => Ok(()),
        }
    }

    fn begin_if_due(&mut self, now: Duration, store: &dyn Store) -> Result<(), Trouble> {
        if self.side == Side::Answerer {
            if self.group.wants_audit(self.peer) {
                self.group.has_asked_for_audit(self.peer);
                self.say(&Say::Ask);
            }
            return Ok(());
        }
        let scope = self.group.scope();
        let is_due = self.group.is_audit_due(self.peer, now, self.every);
        if !is_due || !store.is_whole(scope) || !self.group.begin_audit(self.peer) {
            return Ok(());
        }
        self.round += 1;
        (self.moved_at, self.since, self.is_told) = (now, now, false);
        let filtered = self.filtered(store)?;
        let head = filtered.moment.head();
        if self.group.has_confirmed(self.peer, &head.vector) {
            self.course = Course::Summing(Sketching::of(filtered), Then::Open);
            return Ok(());
        }
        self.say_head(&filtered);
        self.course = Course::Heading(filtered);
        Ok(())
    }

    /// Pins a moment. Until it is let go, this is no idle auditor.
    fn filtered(&mut self, store: &dyn Store) -> Result<Filtered, Trouble> {
        let moment = store.elements(self.group.scope()).inspect_err(|_| {
            // The right was taken, and nothing else would give it back.
            self.group.end_audit(self.peer, self.moved_at, None);
        })?;
        let horizon_ms = store.wall_ms().saturating_add(HORIZON_MS);
        Ok(Filtered::of(moment, ElementKey::of_group(&self.group.id()), horizon_ms))
    }

    fn say_head(&mut self, filtered: &Filtered) {
        let head = filtered.moment.head();
        let (vector, floor) = (head.vector.clone(), head.floor.clone());
        self.say(&Say::Head(Head { horizon_ms: filtered.horizon_ms, vector, floor }));
    }

    /// Our side is summed up.
    fn compare(&mut self) -> Result<(), Trouble> {
        let Course::Summing(sketching, then) = std::mem::replace(&mut self.course, Course::Idle)
        else {
            return Ok(());
        };
        let (digest, horizon_ms) =
            (head_digest(&*sketching.elements().moment), sketching.elements().horizon_ms);
        let mut comparison = Comparison::new(sketching.finish());
        let frame = match then {
            Then::Open => {
                let first = comparison.open().into_iter().next().unwrap_or_default();
                self.say(&Say::Open { digest, horizon_ms, frame: &first });
                None
            }
            Then::Begin => {
                comparison.open().iter().for_each(|frame| self.say(&Say::Compare(frame)));
                None
            }
            Then::Answer(frame) => frame,
        };
        self.course = Course::Comparing(comparison);
        match frame {
            Some(frame) => self.hear_frame(&frame),
            None => Ok(()),
        }
    }

    fn hear(&mut self, store: &dyn Store, say: Say<'_>) -> Result<(), Trouble> {
        match say {
            Say::Open { digest, horizon_ms, frame } => {
                self.hear_open(store, digest, horizon_ms, frame)
            }
            Say::Head(head) => self.hear_head(store, &head),
            Say::Compare(frame) => self.hear_frame(frame),
            Say::Chunk(_) | Say::Gone(_) | Say::End { .. } => {
                let is_author = self.group.role_of(self.peer) == Some(Role::Author);
                let may_disown = if is_author { MayDisown::Yes } else { MayDisown::No };
                match &mut self.course {
                    Course::Exchanging(exchange) => exchange.hear(store, &say, may_disown),
                    _ => Err(unexpected().into()),
                }
            }
            Say::Stop(_) => {
                self.abandon(self.moved_at);
                Ok(())
            }
            Say::Ask => Err(unexpected().into()),
        }
    }

    /// Takes the right to audit, and pins a moment; none if that can not be now, or was just now: the
    /// opener tries again later.
    fn answer(&mut self, store: &dyn Store) -> Result<Option<Filtered>, Trouble> {
        let is_whole = store.is_whole(self.group.scope());
        if !is_whole || !self.group.answer_audit(self.peer, self.moved_at) {
            self.say(&Say::Stop(Reason::Later));
            return Ok(None);
        }
        self.filtered(store).map(Some)
    }

    fn hear_open(
        &mut self,
        store: &dyn Store,
        digest: message::HeadDigest,
        horizon_ms: u64,
        frame: &[u8],
    ) -> Result<(), Trouble> {
        if !matches!(self.course, Course::Idle) || self.side == Side::Opener {
            return Err(unexpected().into());
        }
        let Some(mut filtered) = self.answer(store)? else { return Ok(()) };
        if head_digest(&*filtered.moment) == digest {
            filtered.horizon_ms = horizon_ms;
            let then = Then::Answer(Some(kept(frame)?));
            self.course = Course::Summing(Sketching::of(filtered), then);
            return Ok(());
        }
        self.say_head(&filtered);
        self.course = Course::Heading(filtered);
        Ok(())
    }

    fn hear_head(&mut self, store: &dyn Store, head: &Head) -> Result<(), Trouble> {
        let filtered = match std::mem::replace(&mut self.course, Course::Idle) {
            Course::Heading(filtered) => filtered,
            // They have another head than we thought. Ours is as old as it took to sum it up.
            Course::Comparing(comparison)
                if self.side == Side::Opener && comparison.half_rounds() == 1 && !self.is_told =>
            {
                drop(comparison);
                let filtered = self.filtered(store)?;
                self.say_head(&filtered);
                filtered
            }
            Course::Idle if self.side == Side::Answerer => {
                let Some(filtered) = self.answer(store)? else { return Ok(()) };
                self.say_head(&filtered);
                filtered
            }
            other => {
                self.course = other;
                return Err(unexpected().into());
            }
        };
        self.is_told = true;
        let then = match self.side {
            Side::Opener => Then::Begin,
            Side::Answerer => Then::Answer(None),
        };
        self.course = Course::Summing(Sketching::of(filtered.against(head)), then);
        Ok(())
    }

    fn hear_frame(&mut self, frame: &[u8]) -> Result<(), Trouble> {
        // Who answers what was not sent yet has not heard it, and would make us hold one answer after another.
        let is_heard = self.outbox.iter().all(|(kind, _)| *kind != Kind::Reconcile);
        let comparison = match &mut self.course {
            Course::Comparing(comparison) if is_heard => comparison,
            // They are done with their sums, we are not.
            Course::Summing(_, Then::Answer(none @ None)) => {
                *none = Some(kept(frame)?);
                return Ok(());
            }
            _ => return Err(unexpected().into()),
        };
        let step = comparison.receive(frame).map_err(|error| match error {
            Error::InvalidInput { .. } => {
                Trouble::Peer(ProtocolError::malformed("comparison", Corruption::OutOfRange))
            }
            error => Trouble::Here(error),
        })?;
        let (answer, is_done) = match step {
            Step::Wait => return Ok(()),
            Step::Answer(frames) => (frames, false),
            Step::Done(frames) => (frames, true),
        };
        answer.iter().for_each(|frame| self.say(&Say::Compare(frame)));
        if is_done {
            self.exchange();
        }
        Ok(())
    }

    /// Nothing is left to compare.
    fn exchange(&mut self) {
        let Course::Comparing(comparison) = std::mem::replace(&mut self.course, Course::Idle)
        else {
            return;
        };
        let is_equal = comparison.is_equal();
        let report = AuditReport {
            elements: comparison.sketch().all().count,
            differences: comparison.found().ours.len() as u64,
            half_rounds: comparison.half_rounds(),
            bytes: comparison.bytes(),
            ..AuditReport::default()
        };
        let ours = comparison.found().ours.clone();
        let filtered = comparison.into_sketch().into_elements();
        let mut exchange = Exchange::new(self.side, self.group.scope(), filtered, ours, report);
        if is_equal {
            exchange.end();
        }
        self.course = Course::Exchanging(Box::new(exchange));
    }

    fn finish_if_done(&mut self, now: Duration, store: &dyn Store) {
        let Course::Exchanging(exchange) = &self.course else { return };
        if !exchange.is_done() {
            return;
        }
        let report = AuditReport { at_ms: store.wall_ms(), ..exchange.report.clone() };
        self.course = Course::Idle;
        self.group.end_audit(self.peer, now, Some(report.clone()));
        self.events.push(Event::Audited(report));
    }
}

/// The moment of an audit that is not over is let go with the session; so is the right to audit.
impl Drop for Auditor {
    fn drop(&mut self) {
        if !matches!(self.course, Course::Idle) {
            self.group.end_audit(self.peer, self.moved_at, None);
        }
    }
}

/// A frame of a comparison that waits until our side is summed up: no longer than one may be.
fn kept(frame: &[u8]) -> Result<Vec<u8>, ProtocolError> {
    match frame.len() <= FRAME_LEN_MAX {
        true => Ok(frame.to_vec()),
        false => Err(ProtocolError::malformed("comparison", Corruption::OutOfRange)),
    }
}

fn unexpected() -> ProtocolError {
    ProtocolError::Unexpected { what: "part of an audit" }
}
