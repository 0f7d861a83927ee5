//! What all sessions of a node know together: the group, its roster, what was stated, who may
//! write, and from whom state is being taken.
//!
//! A group is entered by meeting a member; two nodes without one take the proposal of the lower
//! node. Proposals come from the configured first roster, so nodes with equal configurations agree
//! whoever meets first (`found.rs` is about those with others).
//!
//! Memory: at most [`MEMBERS_MAX`](crate::roster::MEMBERS_MAX) members and peers, with a few
//! vectors each.

mod audits;
mod clock;
mod due;
mod found;
mod introduce;
mod line;
mod look;
mod owed;
mod own;
mod pace;
mod past;
mod reader;
mod retired;
mod said;
mod silent;
mod status;

pub use due::{Due, Settled};
pub(crate) use found::Claim;
pub use own::Own;
pub use past::note_open;
pub use reader::Behind;
pub(crate) use reader::READER_BEAT_EVERY;

use crate::confirm::Statements;
use crate::error::ProtocolError;
use crate::health::{Marks, PeerStatus};
use crate::roster::{MEMBERS_MAX, Notice, Role, Roster};
use crate::store::{Answers, Store};
use audits::Audits;
use base::lock::{Mutex, MutexGuard, Rank};
use base::{NodeId, Origin, Result, ScopeId, Tick, Vector};
use found::Founding;
use owed::Owed;
use pace::Pace;
use past::Past;
use reader::Heard;
use retired::Retired;
use silent::Silent;
use std::collections::BTreeMap;
use std::time::Duration;

/// The name of a group of replicas.
pub type GroupId = [u8; 16];
/// No group yet.
pub const NO_GROUP: GroupId = [0; 16];

/// How a node takes part.
#[derive(Clone, Debug)]
pub struct GroupConfig {
    /// The dataset.
    pub scope: ScopeId,
    /// What this node is, unless the roster says otherwise.
    pub role: Role,
    /// The authors of the first roster, this node included. Empty for a node that joins.
    pub first: Vec<NodeId>,
}

/// Whether users may write now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Writes {
    /// They may.
    Open,
    /// They may not: this node only reads.
    Reader,
    /// They may not yet: this is a new life of a member, and no author has accepted it.
    Announcing,
    /// They may not now: this node is below the floor and takes the state of a peer.
    Rejoining,
    /// They may not: the group of this node has retired it.
    Retired,
    /// They may not yet: its disk is new, and it has met nobody who may hold what belongs here.
    Joining,
    /// They may not: the present life of this node has two histories, and an operator must begin another.
    Forked,
    /// They may not now: the clock of this node is far from those of most peers it talks with.
    ClockSkew,
}

/// See the module.
#[derive(Debug)]
pub struct Group {
    config: GroupConfig,
    node: NodeId,
    /// How far clocks may be apart.
    max_drift_ms: u64,
    state: Mutex<State>,
    turn: Mutex<()>,
}

/// The right to use a long payload, see [`Group::wait_turn`].
pub type Turn<'g> = MutexGuard<'g, ()>;

#[derive(Debug)]
struct State {
    /// Who writes here.
    own: Origin,
    /// The group, or [`NO_GROUP`].
    id: GroupId,
    founding: Founding,
    roster: Roster,
    statements: Statements,
    /// Readers that know it, and where their writes end.
    silent: BTreeMap<NodeId, Silent>,
    peers: BTreeMap<NodeId, Peer>,
    marks: Marks,
    owed: Owed,
    past: Past,
    retired: Retired,
    taking: Option<NodeId>,
    is_closed: bool,
    is_settled: bool,
    /// Whether there are others that may hold what belongs here.
    awaits_peers: bool,
    has_met: bool,
    /// Whether an operator lets this life write though no author has accepted it.
    is_overruled: bool,
    announcing: Announcing,
    renewals: u32,
    answers: Option<Answers>,
    audits: Audits,
    pace: Pace,
    refreshed_at: Option<Duration>,
}

impl State {
    fn is_fenced(&self) -> bool {
        self.roster.must_rejoin(self.own)
    }

    /// Whether this node may write what nobody has asked it to: with others it first hears what they have
    /// of it. Else a directory that was put back would have two histories before anybody wrote to it.
    fn may_speak(&self) -> bool {
        self.has_met || !self.roster.authors().any(|author| author != self.own.node)
    }

    fn enter(&mut self, origin: Origin) -> Result<(), ProtocolError> {
        let found = origin.incarnation;
        let retired = self
            .roster
            .life(origin.node)
            .and_then(|life| life.retired.contains(&found).then_some(life.incarnation));
        if let Some(known) = retired {
            return Err(ProtocolError::Clone { node: origin.node, known, found });
        }
        if self.roster.role(origin.node) == Some(Role::Deprecated) {
            return Err(ProtocolError::Fenced { node: origin.node });
        }
        if self.peers.len() >= MEMBERS_MAX && !self.peers.contains_key(&origin.node) {
            let (limit, value) = (MEMBERS_MAX as u64, MEMBERS_MAX as u64 + 1);
            return Err(ProtocolError::TooLong { what: "list of peers", limit, value });
        }
        let peer = self.peers.entry(origin.node).or_default();
        match &mut peer.live {
            Some((known, _)) if known.incarnation != found => {
                let (node, known) = (origin.node, known.incarnation);
                return Err(ProtocolError::Clone { node, known, found });
            }
            Some((_, sessions)) => *sessions += 1,
            none => *none = Some((origin, 1)),
        }
        peer.status.is_connected = true;
        Ok(())
    }

    /// Forgets when commits were made that every other author has.
    fn forget_marks(&mut self, own: Origin) {
        let confirmed = |author: NodeId| {
            self.peers.get(&author).map_or(Tick::ZERO, |peer| peer.status.confirmed.get(own))
        };
        let others = self.roster.authors().filter(|author| *author != own.node);
        let confirmed = others.map(confirmed).min().unwrap_or(Tick::MAX);
        self.marks.forget(confirmed);
    }
}

/// The peers of former sessions, with what they had confirmed.
fn remembered(owed: &Owed, own: Origin) -> BTreeMap<NodeId, Peer> {
    let peer = |(node, has): (NodeId, owed::Confirmed)| {
        let confirmed = Vector::from_iter([(own, has.tick)]);
        let confirmed_at_ms = Some(has.at_ms).filter(|at| *at > 0);
        let status = PeerStatus { confirmed, confirmed_at_ms, ..PeerStatus::default() };
        (node, Peer { status, ..Peer::default() })
    };
    owed.peers().map(peer).collect()
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Announcing {
    Not,
    /// The record is not written yet.
    Due,
    /// The record is written and waits for an author.
    At(Tick),
}

#[derive(Debug, Default)]
struct Peer {
    live: Option<(Origin, u32)>,
    status: PeerStatus,
    /// Whether it is configured to.
    reads_only: bool,
    /// Whether this node still has to get in line with it.
    owes_line: bool,
    /// What the state had that it was given last, until it is seen whether it took that.
    given: Option<Vector>,
    /// How often in a row it did not.
    broken_off: u32,
    heard: Heard,
}

impl Group {
    /// What `store` remembers of its group.
    pub fn open(config: GroupConfig, store: &dyn Store) -> Result<Group> {
        let own = store.origin();
        let id = found::kept(store)?;
        let is_alone = config.first.iter().all(|node| *node == own.node);
        let is_settled = !store.is_empty(config.scope)? || (id != NO_GROUP && is_alone);
        let owed = Owed::read(store, config.scope)?;
        let state = State {
            own,
            id,
            founding: Founding::of(&config.first, own.node),
            roster: Roster::default(),
            statements: Statements::default(),
            silent: BTreeMap::new(),
            peers: remembered(&owed, own),
            marks: Marks::default(),
            owed,
            past: Past::begin(store, config.scope)?,
            retired: Retired::read(store)?,
            taking: None,
            is_closed: false,
            is_settled,
            awaits_peers: !is_alone,
            has_met: false,
            is_overruled: false,
            announcing: Announcing::Not,
            renewals: 0,
            answers: None,
            audits: Audits::default(),
            pace: Pace::default(),
            refreshed_at: None,
        };
        // From now on tombstones wait for confirms.
        store.raise_floor(config.scope, &Vector::default())?;
        let (state, turn) = (Mutex::new(Rank::Group, state), Mutex::new(Rank::Turn, ()));
        let max_drift_ms = store.max_drift_ms();
        let group = Group { config, node: own.node, max_drift_ms, state, turn };
        group.read_roster(store)?;
        let mut state = group.state.lock();
        let life = state.roster.life(own.node).map(|life| life.incarnation);
        if life.is_some_and(|known| known != own.incarnation) {
            state.announcing = Announcing::Due;
            state.audit_after_fork();
        }
        drop(state);
        Ok(group)
    }

    /// The dataset.
    pub fn scope(&self) -> ScopeId {
        self.config.scope
    }

    /// This node.
    pub fn node(&self) -> NodeId {
        self.node
    }

    /// A member's role.
    pub fn role_of(&self, node: NodeId) -> Option<Role> {
        self.state.lock().roster.role(node)
    }

    /// The record about a node, as another is told of it.
    pub fn notice(&self, node: NodeId) -> Option<Notice> {
        self.state.lock().roster.notice(node)
    }

    /// The members.
    pub fn roster(&self) -> Roster {
        self.state.lock().roster.clone()
    }

    /// Whether records that every member is to have can be written here.
    pub(crate) fn may_write_roster(&self) -> bool {
        let state = self.state.lock();
        state.is_settled && state.id != NO_GROUP && state.may_speak()
    }

    /// Whether users may write.
    pub fn writes(&self) -> Writes {
        let state = self.state.lock();
        match (self.role_in(&state.roster), state.announcing) {
            _ if state.past.is_forked(state.own) => Writes::Forked,
            _ if state.is_closed => Writes::Rejoining,
            // It is fenced as well, but nobody gives it state.
            (Role::Deprecated, _) => Writes::Retired,
            _ if state.retired.is_so => Writes::Retired,
            _ if state.is_fenced() => Writes::Rejoining,
            (Role::Author, _) if state.awaits_peers && !state.is_settled => Writes::Joining,
            (Role::Author, _) if state.clock_skew_ms(self.max_drift_ms).is_some() => {
                Writes::ClockSkew
            }
            (Role::Author, Announcing::Not) => Writes::Open,
            (Role::Author, _) => Writes::Announcing,
            (_, _) => Writes::Reader,
        }
    }

    /// Lets users write although no author accepted the new life: its peers are gone for good.
    pub fn overrule(&self) {
        let mut state = self.state.lock();
        (state.has_met, state.is_overruled) = (true, true);
        state.refreshed_at = None;
    }

    /// Notes that a session with `origin` begins.
    pub fn enter(&self, origin: Origin) -> Result<(), ProtocolError> {
        self.state.lock().enter(origin)
    }

    /// Notes that a session with `origin` ended.
    pub fn leave(&self, origin: Origin) {
        let mut state = self.state.lock();
        if state.taking == Some(origin.node) {
            state.taking = None;
        }
        state.audits.leave(origin.node);
        let seen = state.refreshed_at.unwrap_or_default();
        state.founding.hold_on(seen);
        let Some(peer) = state.peers.get_mut(&origin.node) else { return };
        peer.live = match peer.live {
            Some((known, sessions)) if sessions > 1 => Some((known, sessions - 1)),
            _ => None,
        };
        peer.status.is_connected = peer.live.is_some();
        (peer.status.under_way, peer.status.under_way_bytes) = (0, 0);
        state.owed.want_kept();
    }

    /// Whether a peer must rejoin before it may go on.
    pub fn must_rejoin(&self, origin: Origin) -> bool {
        self.state.lock().roster.must_rejoin(origin)
    }

    /// Takes the right to take state from `peer`; only one session of a node has it.
    pub fn try_take(&self, peer: NodeId) -> bool {
        let mut state = self.state.lock();
        let is_free = state.taking.is_none_or(|taking| taking == peer);
        if is_free {
            state.taking = Some(peer);
        }
        is_free
    }

    /// Closes the scope until state of a peer was installed.
    pub fn close(&self, store: &dyn Store) -> Result<()> {
        self.state.lock().is_closed = true;
        store.close(self.config.scope)
    }

    /// Gives the right back, and opens the scope if it was closed.
    pub fn release(&self, store: &dyn Store, peer: NodeId) -> Result<()> {
        let mut state = self.state.lock();
        if state.taking != Some(peer) {
            return Ok(());
        }
        state.taking = None;
        // Under the lock: who takes and closes next closes an open scope.
        let was_closed = std::mem::take(&mut state.is_closed);
        if was_closed { store.reopen(self.config.scope) } else { Ok(()) }
    }

    /// Whether this node takes state now, or is fenced, and so makes no statements.
    pub fn is_silent(&self) -> bool {
        let state = self.state.lock();
        state.is_closed || state.is_fenced()
    }

    /// Whether this node takes the state of another node than `peer` and is closed for that, so that
    /// it gives `peer` nothing.
    pub fn is_closed_for_another(&self, peer: NodeId) -> bool {
        let state = self.state.lock();
        state.is_closed && state.taking != Some(peer)
    }

    /// Whether the present life of this node must rejoin, as its own roster says.
    pub fn is_fenced(&self) -> bool {
        self.state.lock().is_fenced()
    }

    /// Waits until no other session has a payload in memory that is longer than they may keep there.
    pub fn wait_turn(&self) -> Turn<'_> {
        self.turn.lock()
    }

    /// There is nothing to bootstrap from: this node begins by itself.
    pub fn settle(&self) {
        self.state.lock().is_settled = true;
    }

    /// There are peers, though they may be no authors of the first roster.
    pub(crate) fn await_peers(&self) {
        self.state.lock().awaits_peers = true;
    }

    /// What a live member had at the start of its session is all here: a new life may be announced.
    /// Readers count, for one may be the only way to an author; users may write once an author has
    /// confirmed the announcement.
    pub fn meet(&self, member: NodeId) {
        let mut state = self.state.lock();
        if state.roster.role(member).is_none_or(|role| role != Role::Deprecated) {
            state.has_met = true;
        }
    }
}
