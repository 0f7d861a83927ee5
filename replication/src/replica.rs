//! A replica: one database, its group, and its links to peers.
//!
//! ```text
//! breakers  which peers are left alone because they can not be reached
//! book      the peers as operators configured them, kept in the keyspace `esker.node`
//! talk      a session over a link
//! journal   what happened: errors, events, totals
//! join      how a node that joins is let in, and what it is told
//! invitations   those that are open
//! look      who is let in, and who is dialed
//! discover  who is heard on the local network
//! keys      how the keys of nodes have changed
//! flush     waiting until peers have what was written here
//! sync_status  how a node and its peers are, in one answer
//! ```
//!
//! A task looks after the group now and then: it raises floors, lets every member of the roster
//! connect, closes links to those who are fenced, and dials whoever is to be dialed.

mod book;
mod breakers;
mod discover;
mod error;
mod flush;
mod invitations;
mod join;
mod joined;
mod journal;
mod keys;
mod look;
mod sync_status;
mod talk;

pub use book::{Peer, PeerChange};
pub use discover::{DiscoveryReport, FoundAt};
pub use error::ReplicaError;
pub use flush::{Flush, Flushed, PeerFlushed};
pub use join::{NOT_MET, decode as decode_members};
pub use journal::{Totals, Trouble};
pub use keys::new_secret;
pub use sync_status::SyncStatus;

use crate::discovery::DiscoveryOptions;
use crate::group::{Behind, Group, GroupConfig, NO_GROUP, Writes};
use crate::health::{Health, PeerStatus};
use crate::link::{
    Bell, BreakerSettings, BreakerState, Calls, Desk, Driving, Endpoint, Fingerprint, LinkError,
    LinkSettings, Mesh, MeshParts, PeerLink, Pins, Side, Token, Wire,
};
use crate::protocol::SessionConfig;
use crate::roster::{Member, Role};
use crate::store::Store;
use base::lock::{Mutex, Rank};
use base::{Error, Identity, NodeId, Result, Rng, ScopeId};
use book::Book;
use discover::Discovery;
use join::register;
use journal::Journal;
use keys::Keys;
use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;
use talk::Talks;
use tokio::task::AbortHandle;

/// How long it may take at the end until peers were told what was taken, in steps of so long.
const CONFIRM_STEPS_MAX: u32 = 100;
const CONFIRM_STEP: Duration = Duration::from_millis(10);
/// How long the last of that may be on its way: a connection that closes drops what it has not sent.
const CONFIRM_GRACE: Duration = Duration::from_millis(150);
/// Lag from which a peer is named as lagging.
pub const LAG_MS_DEGRADED: u64 = 30_000;

/// Whether this node dials its peers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Dialing {
    /// It does.
    #[default]
    Active,
    /// It waits for them to connect.
    RespondOnly,
}

/// How a replica takes part.
#[derive(Clone, Debug)]
pub struct ReplicaOptions {
    /// What it is in its group, unless the roster says otherwise.
    pub role: Role,
    /// Whether it dials.
    pub dialing: Dialing,
    /// The peers of the first roster, and where they are. Every node is given all others.
    pub peers: Vec<(NodeId, SocketAddr)>,
    /// Whether [`Replica::join`] follows: then it founds no group with others who have none either. Default no.
    pub joins: bool,
    /// The numbers of the network.
    pub link: LinkSettings,
    /// Bytes of shipments that may be sent to a peer and not be confirmed. Default 16 MiB.
    pub window_bytes: u64,
    /// Shipments that may be sent to a peer and not be confirmed. Default 1000.
    pub window_shipments: usize,
    /// About the bytes of a shipment. Default 256 KiB.
    pub shipment_len: usize,
    /// When peers that fail are left alone.
    pub breaker: BreakerSettings,
    /// How sessions call the database.
    pub calls: Calls,
    /// How members that have moved are found on the local network; none: they are not looked for. Default none.
    pub discovery: Option<DiscoveryOptions>,
    /// How often all that two nodes hold is compared; none: only when asked for. Default 1 h.
    pub audit_every: Option<Duration>,
}

impl Default for ReplicaOptions {
    fn default() -> ReplicaOptions {
        ReplicaOptions {
            role: Role::Author,
            dialing: Dialing::Active,
            peers: Vec::new(),
            joins: false,
            link: LinkSettings::default(),
            window_bytes: SessionConfig::WINDOW_BYTES,
            window_shipments: SessionConfig::WINDOW_SHIPMENTS,
            shipment_len: SessionConfig::SHIPMENT_LEN,
            breaker: BreakerSettings::default(),
            calls: Calls::Threads,
            discovery: None,
            audit_every: Some(Duration::from_secs(3600)),
        }
    }
}

/// What a replica runs on.
pub struct ReplicaParts {
    /// The database.
    pub store: Arc<dyn Store>,
    /// Who it is.
    pub identity: Identity,
    /// Rung whenever commits became visible or durable.
    pub bell: Bell,
    /// The socket.
    pub wire: Wire,
    /// Randomness for tokens and pauses.
    pub rng: Arc<dyn Rng>,
}

/// What all parts of a replica share.
struct Shared {
    store: Arc<dyn Store>,
    group: Arc<Group>,
    pins: Arc<Pins>,
    options: ReplicaOptions,
    book: Mutex<Book>,
    /// Who is being dialed, and where; with no address only where it is found.
    dialed: Mutex<BTreeMap<NodeId, Option<SocketAddr>>>,
    discovery: Option<Discovery>,
    journal: Arc<Journal>,
    keys: Keys,
    driving: Driving,
}

/// See the module.
pub struct Replica {
    shared: Arc<Shared>,
    mesh: Arc<Mesh>,
    endpoint: Arc<Endpoint>,
    desk: Arc<Desk>,
    rng: Arc<dyn Rng>,
    looking: AbortHandle,
    discovering: Option<AbortHandle>,
}

/// How a peer is, for those who operate the node.
#[derive(Clone, Debug)]
pub struct PeerReport {
    /// How it is configured.
    pub peer: Peer,
    /// What it is in the group; none if it is no member yet.
    pub role: Option<Role>,
    /// How far it is.
    pub status: PeerStatus,
    /// Whether it is left alone because it could not be reached; closed if it is not dialed.
    pub breaker: BreakerState,
    /// Where it is heard on the local network.
    pub found: Vec<FoundAt>,
    /// What was exchanged with it.
    pub totals: Totals,
    /// What last went wrong.
    pub trouble: Option<Trouble>,
}

impl Replica {
    /// Begins to listen and to dial. Called inside a tokio runtime; reads the database.
    pub fn start(parts: ReplicaParts, options: ReplicaOptions) -> Result<Replica, ReplicaError> {
        let ReplicaParts { store, identity, bell, wire, rng } = parts;
        // Who only reads does not begin as an author, even if its disk is new.
        let own = (options.role == Role::Author).then_some(identity.node);
        let first = options.peers.iter().map(|(node, _)| *node).chain(own);
        let first = if options.peers.is_empty() { Vec::new() } else { first.collect() };
        let config = GroupConfig { scope: ScopeId::MAIN, role: options.role, first };
        let group = Arc::new(Group::open(config, &*store)?);
        let (key, changes) = keys::own(&*store, &identity)?;
        let pins = Arc::new(Pins::default());
        pins.follow(&changes)?;
        let keys = Keys::read(&*store, &pins)?;
        let endpoint = Endpoint::new(wire, key, pins.clone(), options.link.clone());
        let endpoint = Arc::new(endpoint?);
        let mut book = Book::read(&*store)?;
        for (node, address) in &options.peers {
            book.add(&*store, *node, Some(*address))?;
        }
        if !book.all().is_empty() {
            group.await_peers();
        }
        if options.joins || joined::token(&*store)?.is_some() {
            group.await_group();
        }
        let shared = Arc::new(Shared {
            driving: Driving::new(options.calls, bell),
            book: Mutex::new(Rank::Group, book),
            dialed: Mutex::new(Rank::Links, BTreeMap::new()),
            discovery: options.discovery.map(|options| Discovery::new(identity.node, options)),
            journal: Arc::new(Journal::default()),
            keys,
            store,
            group,
            pins,
            options,
        });
        let calls = shared.options.calls;
        let desk = Desk::new(endpoint.key(), shared.pins.clone(), register(&shared), calls);
        let kept = invitations::read(&*shared.store)?;
        let keep = invitations::keep(&shared.store);
        let desk = Arc::new(desk.keeping(shared.driving.now(), &kept, keep));
        let mesh = Mesh::start(MeshParts {
            endpoint: endpoint.clone(),
            node: identity.node,
            desk: desk.clone(),
            conversations: Arc::new(Talks::new(shared.clone())),
            driving: shared.driving.clone(),
            breaker: shared.options.breaker,
            rng: rng.clone(),
        });
        let mesh = Arc::new(mesh);
        let looking = tokio::spawn(look::look_after(shared.clone(), mesh.clone())).abort_handle();
        let listen = endpoint.address()?;
        let discovering = shared.discovery.as_ref().map(|_| {
            let discovering = discover::discover(shared.clone(), listen, rng.clone());
            tokio::spawn(discovering).abort_handle()
        });
        Ok(Replica { shared, mesh, endpoint, desk, rng, looking, discovering })
    }

    /// Where it listens.
    pub fn address(&self) -> Result<SocketAddr, LinkError> {
        self.endpoint.address()
    }

    /// Joins the group of the node that has issued `token` and listens at `address`.
    ///
    /// # Errors
    /// Of the link if the node is not there (`TimedOut`), is another than the one that has issued the token
    /// (`UnknownKey`), refuses (`JoinRefused`), or answers nonsense (`Handshake`); otherwise of the database.
    ///
    /// See [`Replica::has_joined_by`] for a node that starts again.
    pub async fn join(&self, token: &Token, address: SocketAddr) -> Result<(), ReplicaError> {
        self.shared.group.await_peers();
        self.shared.group.await_group();
        let (issuer, answer) = crate::link::join(&self.endpoint, address, token).await?;
        let members = join::decode(&answer).map_err(|found| {
            let reason = format!("the node that was joined answers nonsense: {found}");
            LinkError::Handshake { reason }
        })?;
        let mut book = self.shared.book.lock();
        book.add(&*self.shared.store, issuer, Some(address))?;
        for (node, addresses) in members {
            let address = addresses.iter().find_map(|address| address.parse().ok());
            if node != self.shared.group.node() && node != issuer {
                book.add(&*self.shared.store, node, address)?;
            }
        }
        Ok(self.remember(token)?)
    }

    /// Remembers `token`: who knows this node has refused it, or let it in.
    pub fn remember(&self, token: &Token) -> Result<()> {
        joined::keep(&*self.shared.store, token)
    }

    /// Whether this is the token by which it has joined: it is good once, and nobody needs to be there for what is known.
    pub fn has_joined_by(&self, token: &Token) -> Result<bool> {
        Ok(joined::token(&*self.shared.store)? == Some(joined::digest(token)))
    }

    /// Whether this node has a group, and the node with this key is one of its peers.
    pub fn is_peer(&self, key: Fingerprint) -> bool {
        let node = self.shared.pins.node_of(key).unwrap_or(key.node());
        self.shared.group.id() != NO_GROUP && self.shared.book.lock().get(node).is_some()
    }

    /// A token by which one node may join.
    ///
    /// # Errors
    /// `JoinRefused` as long as this node has peers and was never linked with one: it does not know its group.
    pub fn invite(&self) -> Result<Token, LinkError> {
        if self.shared.group.has_yet_to_meet() {
            return Err(LinkError::Join { by: Side::Us, reason: NOT_MET });
        }
        self.desk.invite(self.shared.driving.now(), &*self.rng)
    }

    /// Adds a peer that adds this node as well.
    pub fn add(&self, node: NodeId, address: SocketAddr) -> Result<()> {
        if node == self.shared.group.node() {
            return Err(Error::invalid("a node is no peer of itself"));
        }
        let shared = &self.shared;
        shared.book.lock().add(&*shared.store, node, Some(address))?;
        let addresses = vec![address.to_string()];
        let member = Member { addresses, ..Member::new(Role::Author) };
        match shared.group.role_of(node) {
            // A reader meets a writer, which makes it a member.
            None if shared.group.role() != Role::Author => {}
            None => shared.group.enrol(&*shared.store, node, &member)?,
            // It was removed, or is to be let in again.
            Some(Role::Deprecated) => {
                shared.group.refuse_unless_author()?;
                shared.group.set_member(&*shared.store, node, member)?;
            }
            Some(Role::Author | Role::Observer) => {}
        }
        shared.look(&self.mesh)
    }

    /// Changes how a peer is treated. Returns false if there is no such peer.
    pub fn change(&self, node: NodeId, change: PeerChange) -> Result<bool> {
        let shared = &self.shared;
        let is_member = shared.group.role_of(node).is_some();
        if shared.book.lock().get(node).is_none() && !is_member {
            return Ok(false);
        }
        match change {
            PeerChange::Enable | PeerChange::Disable | PeerChange::Forget => {
                shared.book.lock().change(&*shared.store, node, change)?;
            }
            PeerChange::Become(role) => {
                shared.group.refuse_unless_author()?;
                let known = shared.group.roster().member(node).cloned();
                let member = Member { role, ..known.unwrap_or(Member::new(role)) };
                shared.group.set_member(&*shared.store, node, member)?;
                let mut book = shared.book.lock();
                if role != Role::Deprecated && book.has_forgotten(node) {
                    book.add(&*shared.store, node, None)?;
                }
            }
        }
        if matches!(change, PeerChange::Enable | PeerChange::Become(_)) {
            // It may have been left alone for what it did.
            self.mesh.pardon(node);
            shared.dialed.lock().remove(&node);
        }
        shared.look(&self.mesh)?;
        Ok(true)
    }

    /// Compares all that is here with what `node` holds, soon; what comes of it is in the report of
    /// the peer. Returns false if there is no such peer.
    pub fn audit(&self, node: NodeId) -> bool {
        let is_known = self.shared.book.lock().get(node).is_some();
        let is_known = is_known || self.shared.group.role_of(node).is_some();
        if is_known {
            self.shared.group.want_audit(node);
        }
        is_known
    }

    /// Makes this node an author, durably. See [`Group::promote`].
    pub fn promote(&self) -> Result<()> {
        self.shared.group.promote(&*self.shared.store)
    }

    /// What this node is in its group.
    pub fn role(&self) -> Role {
        self.shared.group.role()
    }

    /// The authors of the group, with an address of each that is known.
    pub fn authors(&self) -> Vec<(NodeId, Option<SocketAddr>)> {
        let roster = self.shared.group.roster();
        let book = self.shared.book.lock();
        let address = |node: NodeId| book.get(node).and_then(|peer| peer.address);
        roster.authors().map(|node| (node, address(node))).collect()
    }

    /// How far this node is behind the authors.
    pub fn behind(&self) -> Behind {
        self.shared.group.behind(&*self.shared.store, self.shared.driving.now())
    }

    /// Whether users may write now.
    pub fn writes(&self) -> Writes {
        self.shared.group.writes()
    }

    /// By how many milliseconds the clock of this node differs from those of most of its peers, and how
    /// many may be; none if that many may be.
    pub fn clock_skew_ms(&self) -> Option<(u64, u64)> {
        self.shared.group.clock_skew_ms()
    }

    /// How far the peers are.
    pub fn health(&self) -> Health {
        self.shared.group.health(&*self.shared.store, LAG_MS_DEGRADED)
    }

    /// All peers that are configured or members, by node.
    pub fn peers(&self) -> Vec<PeerReport> {
        let shared = &self.shared;
        let mut health = self.health();
        let roster = shared.group.roster();
        let book = shared.book.lock();
        let mut peers = book.all();
        let forgotten = |node: NodeId| book.has_forgotten(node);
        for (node, _) in roster.members() {
            let is_shown = node != shared.group.node() && !forgotten(node);
            if is_shown && !peers.iter().any(|peer| peer.node == node) {
                peers.push(Peer::unknown(node));
            }
        }
        drop(book);
        peers.sort_by_key(|peer| peer.node);
        let links = self.mesh.peers();
        let found = shared.found().map(|found| found.members).unwrap_or_default();
        let breaker = |node| links.iter().find(|link| link.peer == node).map(|link| link.breaker);
        let report = |peer: Peer| PeerReport {
            breaker: breaker(peer.node).unwrap_or(BreakerState::Closed),
            role: roster.role(peer.node),
            status: health.peers.remove(&peer.node).unwrap_or_default(),
            found: found.iter().filter(|at| at.node == peer.node).copied().collect(),
            totals: shared.journal.totals_of(peer.node),
            trouble: shared.journal.trouble_of(peer.node),
            peer,
        };
        peers.into_iter().map(report).collect()
    }

    /// The links to peers as they are now, and what they have carried.
    pub fn links(&self) -> Vec<PeerLink> {
        self.mesh.peers()
    }

    /// Tells the peers what is durable here, then goodbye, and waits until no session is left. If a peer does
    /// not answer the goodbye, the port stays taken until its link has timed out or the runtime is shut down.
    pub async fn shutdown(&self) {
        self.end_tasks();
        if self.mesh.peers().iter().any(|peer| peer.link.is_some()) {
            self.confirm_all().await;
        }
        self.mesh.shutdown().await;
        self.shared.group.keep(&*self.shared.store);
    }
}

impl Replica {
    fn end_tasks(&self) {
        self.looking.abort();
        self.discovering.iter().for_each(AbortHandle::abort);
    }

    /// Lets sessions confirm what was taken. Peers that are stuck are not waited for.
    async fn confirm_all(&self) {
        let (store, scope) = (&self.shared.store, self.shared.group.scope());
        store.request_sync();
        for _ in 0..CONFIRM_STEPS_MAX {
            tokio::time::sleep(CONFIRM_STEP).await;
            let has_told = |peer: &PeerStatus| {
                !peer.is_connected || peer.told.covers_all(&store.applied(scope))
            };
            if self.health().peers.values().all(has_told) {
                break;
            }
            self.shared.driving.ring();
        }
        // What was said last is on its way.
        tokio::time::sleep(CONFIRM_GRACE).await;
    }
}

impl Drop for Replica {
    /// Closes everything, as a process that dies would: nobody is told, nobody is waited for.
    fn drop(&mut self) {
        self.end_tasks();
    }
}

impl std::fmt::Debug for Replica {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Replica").field("mesh", &self.mesh).finish_non_exhaustive()
    }
}
