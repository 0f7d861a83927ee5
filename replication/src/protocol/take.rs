//! What this node takes from the peer: the tail if the log has it, else state.
//!
//! ```text
//!            empty scope ──> tables ─┐
//! idle ──┬──────────────> subscribe ─┼─> live tail
//!        │   history gone: vector at or above the giver's floor ──> catch up ──┐
//!        │                 below it, or not whole, or fenced ──────> rejoin ───┤
//!        │                 parts of tables are damaged ────────────> heal ─────┤
//!        └<──────────────────────── installed <────────────────────────────────┘
//! ```
//!
//! Only one session of a node takes state at a time. For a rejoin the scope is closed first, so that
//! what this node has stays as it was said; the giver waits until it has all of that.

mod rejoin;
mod shipments;
mod tables;

pub(crate) use rejoin::Waits;

use super::bulk::Bulk;
use super::config::{Event, Tier};
use super::frame::Kind;
use super::message::{Answer, Heal, Message, Offer, Subscribe, Want, Wish, entries, vector};
use crate::error::ProtocolError;
use crate::group::{Group, Own};
use crate::roster::{Notice, Role};
use crate::rules;
use crate::store::{DeltaHead, Installed, Purpose, Stage, Store};
use base::{Corruption, KeyRanges, NodeId, Origin, Tick};
use std::sync::Arc;
use std::time::Duration;
use tables::Importing;

/// How long nothing is asked of a peer that could not help.
const PAUSE: Duration = Duration::from_secs(1);
/// How often a peer puts off giving what is missing here, before it is asked for all.
const PUT_OFF_MAX: u32 = 3;
/// How long state may make no progress.
const STATE_WAIT_MAX: Duration = Duration::from_secs(30);
/// Gaps in a row, each answered by a new subscription, before the session ends.
const GAPS_MAX: u32 = 8;
/// How long a giver may say that it goes on, without anything new.
const NEWS_WAIT_MAX: Duration = Duration::from_secs(3600);

enum Course {
    Idle {
        until: Duration,
    },
    Subscribed {
        is_live: bool,
    },
    Asked {
        wish: Wish,
        until: Duration,
    },
    Staging {
        stage: Box<dyn Stage>,
        tier: Tier,
        chunks: u64,
        until: Duration,
        news_until: Duration,
    },
    Importing(Importing),
}

/// One direction of everything. See the module.
pub(crate) struct Take {
    group: Arc<Group>,
    peer: NodeId,
    /// The life of this node that the session is about.
    own: Option<Origin>,
    round: u32,
    course: Course,
    /// That life must rejoin, and ends with that.
    must_rejoin: bool,
    /// This node must take the state of the peer, an author, because that may not take ours.
    must_reconcile: bool,
    /// Whether it was no member of the group when it subscribed.
    was_stranger: bool,
    /// What the peer was when the session began.
    peer_role: Role,
    /// What was known of the peer when the session came up.
    told: Option<Notice>,
    /// Whether the peer waits, closed, for the state of this node.
    peer_waits: Waits,
    has_no_tables: bool,
    /// Whether the peer announces tables as this node does, see [`super::frame::FEATURE_ROOTS`].
    speaks_of_roots: bool,
    /// Whether the peer gives ranges of keys, see [`super::frame::FEATURE_RANGES`].
    speaks_of_ranges: bool,
    /// What the peer was asked for because it is missing here.
    missing: KeyRanges,
    /// What is missing here is not all that the peer must give.
    must_take_all: bool,
    /// How often the peer could not give what is missing here.
    put_off: u32,
    /// Whether this node began a new life because of what the peer has.
    pub(crate) is_renewed: bool,
    is_parked: bool,
    gaps: u32,
    to_send: Option<Message>,
    /// Bytes taken since the last confirm.
    pub(crate) unconfirmed: u64,
    pub(crate) events: Vec<Event>,
}

impl Take {
    pub(crate) fn new(group: Arc<Group>, peer: NodeId) -> Take {
        Take {
            group,
            peer,
            own: None,
            round: 0,
            course: Course::Idle { until: Duration::ZERO },
            must_rejoin: false,
            must_reconcile: false,
            was_stranger: false,
            peer_role: Role::Observer,
            told: None,
            peer_waits: Waits::No,
            has_no_tables: false,
            speaks_of_roots: false,
            speaks_of_ranges: false,
            missing: KeyRanges::default(),
            must_take_all: false,
            put_off: 0,
            is_renewed: false,
            is_parked: false,
            gaps: 0,
            to_send: None,
            unconfirmed: 0,
            events: Vec::new(),
        }
    }

    /// Whether the tail brings everything.
    pub(crate) fn is_live(&self) -> bool {
        matches!(self.course, Course::Subscribed { is_live: true })
    }

    /// When there is something to do although nothing comes.
    pub(crate) fn timeout(&self) -> Option<Duration> {
        match &self.course {
            Course::Idle { until }
            | Course::Asked { until, .. }
            | Course::Staging { until, .. } => Some(*until),
            Course::Importing(importing) => Some(importing.timeout()),
            Course::Subscribed { .. } => None,
        }
    }

    /// What is to be asked of the peer now.
    pub(crate) fn next_message(
        &mut self,
        now: Duration,
        store: &dyn Store,
    ) -> Result<Option<Message>, ProtocolError> {
        let is_live = matches!(self.course, Course::Subscribed { .. });
        if is_live && self.may_rejoin_now(store)? {
            self.choose(now, store)?;
        }
        self.go_on_importing(now, store)?;
        if let Course::Staging { stage, .. } = &self.course {
            stage.check_space()?;
        }
        if self.to_send.is_none() && self.timeout().is_some_and(|until| until <= now) {
            if matches!(self.course, Course::Idle { .. }) {
                self.choose(now, store)?;
            } else {
                self.give_up(now, store)?;
            }
        }
        Ok(self.to_send.take())
    }

    fn choose(&mut self, now: Duration, store: &dyn Store) -> Result<(), ProtocolError> {
        let scope = self.group.scope();
        let wants_tables = !self.has_no_tables && store.is_empty(scope)?;
        let must_rejoin = self.is_rejoin_due(store) && !store.is_empty(scope)?;
        if must_rejoin && !self.may_rejoin_from() {
            self.rest(now);
            return Ok(());
        }
        if (must_rejoin || wants_tables) && !self.group.try_take(self.peer) {
            self.rest(now);
            return Ok(());
        }
        if must_rejoin {
            return self.ask_to_rejoin(now, store);
        }
        if wants_tables && self.speaks_of_roots {
            return self.ask(now, store, Wish::Tables);
        }
        if wants_tables {
            return self.go_without_tables(now, store);
        }
        self.round += 1;
        let vector = entries(&store.applied(scope))?;
        let wish = Subscribe { scope: scope.0, round: self.round, vector };
        self.to_send = Some(Message::Subscribe(wish));
        self.course = Course::Subscribed { is_live: false };
        Ok(())
    }

    fn ask(&mut self, now: Duration, store: &dyn Store, wish: Wish) -> Result<(), ProtocolError> {
        let scope = self.group.scope();
        self.round += 1;
        let vector = entries(&self.group.claims(store))?;
        let (round, wish_raw) = (self.round, wish as u8);
        let want = Want { scope: scope.0, round, wish: wish_raw, vector, file: 0, offset: 0 };
        self.to_send = Some(match wish {
            Wish::Heal => Message::Heal(Heal::of(want, &self.missing)),
            _ => Message::Want(want),
        });
        self.course = Course::Asked { wish, until: now + STATE_WAIT_MAX };
        Ok(())
    }

    /// The peer has no tables to give, or none that this node could take.
    fn go_without_tables(&mut self, now: Duration, store: &dyn Store) -> Result<(), ProtocolError> {
        self.has_no_tables = true;
        self.group.settle();
        self.group.release(store, self.peer)?;
        self.choose(now, store)
    }

    fn give_up(&mut self, now: Duration, store: &dyn Store) -> Result<(), ProtocolError> {
        self.group.release(store, self.peer)?;
        self.rest(now);
        Ok(())
    }

    /// Asks for nothing for a while. The peer may still answer what was asked before, and is not to
    /// blame for that: such answers are of a round that is over.
    fn rest(&mut self, now: Duration) {
        self.round += 1;
        self.course = Course::Idle { until: now + PAUSE };
    }

    /// The peer can not do what was asked.
    pub(crate) fn offer(
        &mut self,
        now: Duration,
        store: &dyn Store,
        offer: &Offer,
    ) -> Result<(), ProtocolError> {
        if offer.round > self.round {
            return Err(ProtocolError::Unexpected { what: "offer" });
        }
        if offer.round < self.round {
            return Ok(());
        }
        match (offer.answer(), &self.course) {
            (Answer::HistoryGone, Course::Subscribed { .. }) => {
                let floor = vector(&offer.floor)?;
                self.take_state(now, store, &floor)
            }
            (Answer::NoTables, Course::Asked { wish: Wish::Tables, .. }) => {
                self.go_without_tables(now, store)
            }
            (Answer::Later, course) => {
                self.put_off += u32::from(matches!(course, Course::Asked { wish: Wish::Heal, .. }));
                // Of nodes that wait for each other, who rejoins is let through.
                self.must_take_all |= self.put_off >= PUT_OFF_MAX;
                self.give_up(now, store)
            }
            (Answer::Stranger, Course::Subscribed { .. })
                if !self.was_stranger && self.may_rejoin_from() =>
            {
                (self.was_stranger, self.must_rejoin) = (true, true);
                self.choose(now, store)
            }
            // It rejoined, and is none all the same: the roster is full. Or the peer only reads and does not
            // know it yet: once it does, it knows this node, too.
            (Answer::Stranger, Course::Subscribed { .. }) => self.give_up(now, store),
            (_, _) => Err(ProtocolError::Unexpected { what: "offer" }),
        }
    }

    /// From here on the tail answers the subscription of `round`.
    pub(crate) fn tail_start(&mut self, payload: &[u8]) -> Result<(), ProtocolError> {
        let round = <[u8; 4]>::try_from(payload).map(u32::from_le_bytes);
        let round = round
            .map_err(|_| ProtocolError::malformed("start of a tail", Corruption::Truncated))?;
        if round > self.round || round == 0 {
            return Err(ProtocolError::Unexpected { what: "start of a tail" });
        }
        if let Course::Subscribed { is_live } = &mut self.course
            && round == self.round
        {
            *is_live = true;
        }
        Ok(())
    }

    /// The peer's clock is ahead: nothing is merged, nothing is lost, the log keeps it.
    fn park(&mut self, now: Duration, by_ms: u64) {
        self.is_parked = true;
        self.rest(now);
        self.events.push(Event::Parked { by_ms });
        self.group.note_peer(self.peer, |peer| peer.is_parked = true);
    }

    fn unpark(&mut self) {
        if std::mem::take(&mut self.is_parked) {
            self.group.note_peer(self.peer, |peer| peer.is_parked = false);
        }
    }

    /// A payload of the bulk channel came.
    pub(crate) fn bulk(
        &mut self,
        now: Duration,
        store: &dyn Store,
        kind: Kind,
        payload: &[u8],
    ) -> Result<(), ProtocolError> {
        let (round, bulk) = Bulk::decode(kind, payload)?;
        if round > self.round || round == 0 {
            return Err(ProtocolError::Unexpected { what: "bulk payload" });
        }
        if round < self.round {
            return Ok(());
        }
        match bulk {
            Bulk::DeltaHead(head) => self.delta_head(now, store, &head),
            Bulk::DeltaChunk(chunk) => self.delta_chunk(now, chunk),
            Bulk::DeltaEnd { chunks } => self.delta_end(now, store, chunks),
            Bulk::TablesHead(head) => self.tables_head(now, store, &head),
            Bulk::FileBytes { id, offset, bytes } => self.file_bytes(now, store, id, offset, bytes),
        }
    }

    fn delta_head(
        &mut self,
        now: Duration,
        store: &dyn Store,
        head: &DeltaHead,
    ) -> Result<(), ProtocolError> {
        let tier = match &self.course {
            Course::Asked { wish: Wish::CatchUp, .. } => Tier::Delta,
            Course::Asked { wish: Wish::Rejoin, .. } => Tier::Rejoin,
            Course::Asked { wish: Wish::Heal, .. } => Tier::Heal,
            _ => return Err(ProtocolError::Unexpected { what: "delta" }),
        };
        if !self.check_head(now, store, head, Tick::ZERO)? {
            return Ok(());
        }
        let (scope, applied) = (self.group.scope(), store.applied(self.group.scope()));
        let is_above_floor = rules::may_take_delta(&applied, &head.floor);
        if tier == Tier::Delta && !is_above_floor {
            // The floor rose since it was offered.
            return self.take_state(now, store, &head.floor);
        }
        if tier == Tier::Heal && !(is_above_floor && head.vector.covers_all(&applied)) {
            return self.take_all(now, store);
        }
        let stage = match tier {
            Tier::Heal => store.stage_besides(scope, head, &self.missing)?,
            Tier::Rejoin => store.stage(scope, head, Purpose::Rejoin)?,
            _ => store.stage(scope, head, Purpose::CatchUp)?,
        };
        let (until, news_until) = (now + STATE_WAIT_MAX, now + NEWS_WAIT_MAX);
        self.course = Course::Staging { stage, tier, chunks: 0, until, news_until };
        Ok(())
    }

    /// Whether the state of a giver may be taken: its clock is near ours, and it has no more of us
    /// than we wrote.
    fn check_head(
        &mut self,
        now: Duration,
        store: &dyn Store,
        head: &DeltaHead,
        clock: Tick,
    ) -> Result<bool, ProtocolError> {
        if !head.vector.covers_all(&head.floor) {
            return Err(ProtocolError::malformed("head of a state", Corruption::OutOfRange));
        }
        let latest = head.vector.latest().max(head.dropped).max(clock).ms();
        let by_ms = latest.saturating_sub(store.wall_ms());
        if by_ms > store.max_drift_ms() {
            self.group.release(store, self.peer)?;
            self.park(now, by_ms);
            return Ok(false);
        }
        if self.group.check_own(store, &head.vector)? == Own::Known {
            return Ok(true);
        }
        self.group.release(store, self.peer)?;
        self.rest(now);
        self.is_renewed = true;
        Ok(false)
    }

    fn delta_chunk(&mut self, now: Duration, chunk: &[u8]) -> Result<(), ProtocolError> {
        let Course::Staging { stage, chunks, until, news_until, .. } = &mut self.course else {
            return Err(ProtocolError::Unexpected { what: "chunk of a delta" });
        };
        *chunks += 1;
        if chunk.is_empty() {
            // The giver found nothing for long, and goes on.
            *until = (now + STATE_WAIT_MAX).min(*news_until);
            return Ok(());
        }
        (*until, *news_until) = (now + STATE_WAIT_MAX, now + NEWS_WAIT_MAX);
        stage.add(chunk).map_err(|error| ProtocolError::refused("chunk of a delta", error))
    }

    fn delta_end(
        &mut self,
        now: Duration,
        store: &dyn Store,
        told: u64,
    ) -> Result<(), ProtocolError> {
        let idle = Course::Idle { until: now };
        let Course::Staging { stage, tier, chunks, .. } = std::mem::replace(&mut self.course, idle)
        else {
            return Err(ProtocolError::Unexpected { what: "end of a delta" });
        };
        if chunks != told {
            let (expected, found) = (told, chunks);
            return Err(ProtocolError::OutOfPlace { what: "end of a delta", expected, found });
        }
        let installed = stage.install().map_err(|error| ProtocolError::refused("delta", error))?;
        match installed {
            Installed::All => self.finish(now, store, tier),
            Installed::TooLittle => self.take_all(now, store),
            Installed::Unanswered { late } => {
                self.group.release(store, self.peer)?;
                self.need_answer(now, store, late)
            }
        }
    }

    /// State was installed: the tail goes on from there.
    fn finish(
        &mut self,
        now: Duration,
        store: &dyn Store,
        tier: Tier,
    ) -> Result<(), ProtocolError> {
        self.events.push(Event::Installed(tier));
        self.unpark();
        let is_rejoin = tier == Tier::Rejoin;
        let is_fenced = is_rejoin && (self.must_rejoin || self.group.is_fenced());
        if is_rejoin {
            (self.must_rejoin, self.must_reconcile) = (false, false);
            self.group.is_in_line(self.peer);
        }
        if matches!(tier, Tier::Rejoin | Tier::Heal) {
            (self.must_take_all, self.put_off) = (false, 0);
        }
        // Before the scope is open: nothing more is written in a life that is fenced.
        if let Some(own) = self.own.filter(|_| is_fenced) {
            self.group.renew(store, own)?;
            self.events.push(Event::Renewed);
        }
        if is_rejoin {
            self.group.note_member();
        }
        self.group.release(store, self.peer)?;
        self.choose(now, store)
    }
}
