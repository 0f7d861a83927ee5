//! Listens and dials. What comes out are links: connections to nodes whose keys are pinned.
//!
//! Invariants:
//! - Handshakes in progress are bounded. While there are many, who comes must first show that it
//!   receives at its address; one too many, and the oldest is given up, not the newest: an honest
//!   peer needs one round trip, so it is not the oldest for long.
//! - A link is closed as soon as its key is no longer pinned.
//! - Who starts again at its address is missed at once: what comes for a connection of before is
//!   answered by a reset that only the holder of its key can make.
//! - The key of a node that was retired gets through the handshake, is told so, and nothing is read of it.
//! - A key that nobody knows, while an invitation is open, comes out as a guest, not as a link.

use super::error::{CloseCode, LinkError, Side};
use super::key::{Fingerprint, LinkKey, fingerprint_in, node_in};
use super::mesh::Traffic;
use super::pins::{Pins, Standing};
use super::reset;
use super::settings::LinkSettings;
use super::socket::{Buffers, Wire};
use super::tls::{self, PROTOCOL, SERVER_NAME, Wanted};
use base::NodeId;
use quinn::crypto::rustls::HandshakeData;
use quinn::{Connection, Incoming, ServerConfig, VarInt};
use quinn_proto::{ConnectionId, ConnectionIdGenerator, RandomConnectionIdGenerator};
use rustls::crypto::CryptoProvider;
use rustls::pki_types::CertificateDer;
use std::collections::VecDeque;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::mpsc;
use tokio::task::AbortHandle;
use tokio::time::timeout;

/// Which side made a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Dialed {
    /// This node.
    ByUs,
    /// The peer.
    ByPeer,
}

/// A connection to a node whose key is pinned. Clones are the same; the last one closes it.
#[derive(Clone, Debug)]
pub struct Link {
    shared: Arc<Kept>,
}

#[derive(Debug)]
struct Kept {
    connection: Connection,
    peer: NodeId,
    dialed: Dialed,
    /// The task that watches over the key.
    guard: AbortHandle,
}

impl Drop for Kept {
    fn drop(&mut self) {
        self.guard.abort();
        self.connection.close(VarInt::from_u32(CloseCode::Done as u32), b"");
    }
}

impl Link {
    fn new(
        connection: Connection,
        peer: (NodeId, Fingerprint),
        dialed: Dialed,
        pins: Arc<Pins>,
    ) -> Link {
        let (peer, key) = peer;
        let guard = tokio::spawn(guard(connection.clone(), pins, key)).abort_handle();
        Link { shared: Arc::new(Kept { connection, peer, dialed, guard }) }
    }

    pub(crate) fn connection(&self) -> &Connection {
        &self.shared.connection
    }

    /// The node at the other end.
    pub fn peer(&self) -> NodeId {
        self.shared.peer
    }

    /// Which side made the connection.
    pub fn dialed(&self) -> Dialed {
        self.shared.dialed
    }

    /// Where the peer is.
    pub fn address(&self) -> SocketAddr {
        self.shared.connection.remote_address()
    }

    /// What it has carried so far.
    pub fn traffic(&self) -> Traffic {
        let stats = self.shared.connection.stats();
        Traffic { sent: stats.udp_tx.bytes, received: stats.udp_rx.bytes }
    }

    /// Whether it was not closed yet by either side.
    pub fn is_open(&self) -> bool {
        self.shared.connection.close_reason().is_none()
    }

    /// Closes the connection and tells the peer why.
    pub fn close(&self, error: &LinkError) {
        let (code, reason) = error.closing();
        self.shared.connection.close(code, reason.as_bytes());
    }

    /// Waits until the connection has ended, and says why.
    pub async fn closed(&self) -> LinkError {
        self.shared.connection.closed().await.into()
    }
}

/// Who has connected.
#[derive(Debug)]
pub enum Arrival {
    /// A peer.
    Peer(Link),
    /// The holder of a key that nobody knows, who may only ask to join.
    Guest(Guest),
}

/// The holder of a key that nobody knows, while an invitation is open.
#[derive(Debug)]
pub struct Guest {
    pub(crate) connection: Connection,
    pub(crate) key: Fingerprint,
    pub(crate) node: NodeId,
}

/// One socket, on which this node listens and from which it dials.
#[derive(Debug)]
pub struct Endpoint {
    quinn: quinn::Endpoint,
    shared: Arc<Shared>,
    arrivals: tokio::sync::Mutex<mpsc::Receiver<Arrival>>,
    buffers: Option<Buffers>,
}

#[derive(Debug)]
struct Shared {
    key: LinkKey,
    pins: Arc<Pins>,
    crypto: Arc<CryptoProvider>,
    settings: LinkSettings,
}

/// How long whoever does not answer the end of its link is waited for.
const GOODBYE_MAX: Duration = Duration::from_secs(3);
/// Connections that have shaken hands and were not looked at yet.
const ARRIVALS_MAX: usize = 16;
/// Bytes that QUIC allows for the name of a connection.
const NAME_LEN_MAX: usize = 20;
/// Handshakes in progress from which on addresses are checked first.
const TRUSTING: usize = 8;
/// Attempts that wait inside quinn until they are looked at, and bytes kept for them.
const INCOMING_MAX: usize = 256;
const INCOMING_BYTES: u64 = 16 << 10;
const INCOMING_BYTES_TOTAL: u64 = 1 << 20;

impl Endpoint {
    /// Listens on `wire` as the holder of `key`. Called inside a tokio runtime.
    pub fn new(
        wire: Wire,
        key: LinkKey,
        pins: Arc<Pins>,
        settings: LinkSettings,
    ) -> Result<Endpoint, LinkError> {
        settings.check()?;
        let Wire { socket, runtime, config, crypto, buffers } = wire;
        let server = server_config(crypto.clone(), &key, pins.clone())?;
        let mut config = config.unwrap_or_else(|| reset::config(&key));
        let size = settings.mtu.max(settings.mtu_loopback).bytes();
        let io = |source| LinkError::Socket { action: "start QUIC", source };
        config.max_udp_payload_size(size).map_err(|e| io(std::io::Error::other(e)))?;
        let first = Some(server.clone());
        let quinn = quinn::Endpoint::new_with_abstract_socket(config, first, socket, runtime);
        let quinn = quinn.map_err(io)?;
        let shared = Arc::new(Shared { key, pins, crypto, settings });
        let (sender, arrivals) = mpsc::channel(ARRIVALS_MAX);
        tokio::spawn(listen(quinn.clone(), server, shared.clone(), sender));
        Ok(Endpoint { quinn, shared, arrivals: arrivals.into(), buffers })
    }

    /// Where this node listens.
    pub fn address(&self) -> Result<SocketAddr, LinkError> {
        let io = |source| LinkError::Socket { action: "look up the own address", source };
        self.quinn.local_addr().map_err(io)
    }

    /// What the kernel buffers, if the socket is one of the kernel's.
    pub fn buffers(&self) -> Option<Buffers> {
        self.buffers
    }

    /// Connections that are up, being made or being closed.
    pub fn connections(&self) -> usize {
        self.quinn.open_connections()
    }

    /// The settings of all links.
    pub fn settings(&self) -> &LinkSettings {
        &self.shared.settings
    }

    /// Connects to `peer` at `address`.
    ///
    /// The peer may still refuse our key: that shows in the first answer on a channel.
    pub async fn dial(&self, address: SocketAddr, peer: NodeId) -> Result<Link, LinkError> {
        let connection = self.connect(address, Wanted::Node(peer)).await?;
        let key = shown(&connection)?;
        Ok(Link::new(connection, (peer, key), Dialed::ByUs, self.shared.pins.clone()))
    }

    pub(crate) async fn connect(
        &self,
        address: SocketAddr,
        wanted: Wanted,
    ) -> Result<Connection, LinkError> {
        let Shared { key, pins, crypto, settings } = &*self.shared;
        let random = crypto.secure_random;
        let crypto = Arc::new(tls::client(crypto.clone(), key, pins.clone(), wanted)?);
        let mut config = quinn::ClientConfig::new(crypto);
        config.transport_config(settings.dialing(address));
        config.initial_dst_cid_provider(Arc::new(move || {
            let mut name = [0; NAME_LEN_MAX];
            match random.fill(&mut name) {
                Ok(()) => ConnectionId::new(&name),
                Err(_) => RandomConnectionIdGenerator::new(NAME_LEN_MAX).generate_cid(),
            }
        }));
        let connecting = self.quinn.connect_with(config, address, SERVER_NAME);
        let connecting = connecting.map_err(|e| LinkError::Handshake { reason: e.to_string() })?;
        let limit = settings.handshake.get();
        match timeout(limit, connecting).await {
            Ok(connection) => Ok(connection?),
            Err(_) => Err(LinkError::TimedOut { what: "the handshake", limit }),
        }
    }

    /// The key of this node.
    pub fn key(&self) -> Fingerprint {
        self.shared.key.fingerprint()
    }

    /// Who may connect.
    pub fn pins(&self) -> &Arc<Pins> {
        &self.shared.pins
    }

    /// Who has connected next, or `None` once the endpoint was closed.
    pub async fn arrival(&self) -> Option<Arrival> {
        self.arrivals.lock().await.recv().await
    }

    /// Closes all connections, and waits until the peers know or could have known, but not for long.
    pub async fn close(&self) {
        self.quinn.close(VarInt::from_u32(CloseCode::Done as u32), b"");
        if timeout(GOODBYE_MAX, self.quinn.wait_idle()).await.is_err() {
            tracing::info!("not every peer has answered the end of its link");
        }
    }
}

impl Drop for Endpoint {
    fn drop(&mut self) {
        self.quinn.close(VarInt::from_u32(CloseCode::Done as u32), b"");
    }
}

fn server_config(
    crypto: Arc<CryptoProvider>,
    key: &LinkKey,
    pins: Arc<Pins>,
) -> Result<ServerConfig, LinkError> {
    let mut config = ServerConfig::with_crypto(Arc::new(tls::server(crypto, key, pins)?));
    config
        .max_incoming(INCOMING_MAX)
        .incoming_buffer_size(INCOMING_BYTES)
        .incoming_buffer_size_total(INCOMING_BYTES_TOTAL);
    Ok(config)
}

/// Takes whoever comes, until the endpoint is closed.
async fn listen(
    quinn: quinn::Endpoint,
    server: ServerConfig,
    shared: Arc<Shared>,
    arrivals: mpsc::Sender<Arrival>,
) {
    let mut half_open: VecDeque<AbortHandle> = VecDeque::new();
    while let Some(incoming) = quinn.accept().await {
        half_open.retain(|handshake| !handshake.is_finished());
        let is_unproven = !incoming.remote_address_validated() && incoming.may_retry();
        if half_open.len() >= TRUSTING && is_unproven {
            // It comes again with a token, if it receives at its address. Nothing is kept.
            let _ = incoming.retry();
            continue;
        }
        if half_open.len() >= shared.settings.half_open_max
            && let Some(oldest) = half_open.pop_front()
        {
            oldest.abort();
        }
        let handshake = handshake(incoming, server.clone(), shared.clone(), arrivals.clone());
        half_open.push_back(tokio::spawn(handshake).abort_handle());
    }
    half_open.iter().for_each(AbortHandle::abort);
}

/// Shakes hands with one that comes, and hands it on.
async fn handshake(
    incoming: Incoming,
    mut server: ServerConfig,
    shared: Arc<Shared>,
    arrivals: mpsc::Sender<Arrival>,
) {
    let address = incoming.remote_address();
    server.transport_config(shared.settings.listening(address));
    let accepted = async {
        let connection = incoming.accept_with(Arc::new(server))?.await?;
        admit(&shared, connection)
    };
    match timeout(shared.settings.handshake.get(), accepted).await {
        Ok(Ok(arrival)) => drop(arrivals.send(arrival).await),
        Ok(Err(error)) => {
            tracing::debug!(%address, code = error.code(), %error, "a connection was refused")
        }
        Err(_) => {
            tracing::debug!(%address, code = "TimedOut", "a handshake was not finished in time")
        }
    }
}

/// Finds out who has connected. The keys may have changed since the handshake looked at them.
fn admit(shared: &Shared, connection: Connection) -> Result<Arrival, LinkError> {
    let key = shown(&connection)?;
    match shared.pins.standing(key) {
        Standing::Pinned(peer) => {
            connection.set_receive_window(VarInt::from_u32(shared.settings.receive_window));
            let pins = shared.pins.clone();
            Ok(Arrival::Peer(Link::new(connection, (peer, key), Dialed::ByPeer, pins)))
        }
        Standing::Guest => {
            let node = named(&connection, key);
            Ok(Arrival::Guest(Guest { connection, key, node }))
        }
        Standing::Retired => Err(refuse(&connection, LinkError::Retired { by: Side::Us })),
        Standing::Refused => Err(refuse(&connection, LinkError::UnknownKey { by: Side::Us })),
    }
}

fn refuse(connection: &Connection, error: LinkError) -> LinkError {
    let (code, reason) = error.closing();
    connection.close(code, reason.as_bytes());
    error
}

/// Whose key the peer has shown.
pub(crate) fn named(connection: &Connection, key: Fingerprint) -> NodeId {
    let certificate = certificate(connection);
    certificate.map_or(key.node(), |certificate| node_in(&certificate, key))
}

fn certificate(connection: &Connection) -> Option<CertificateDer<'static>> {
    let chain = connection.peer_identity()?;
    chain.downcast::<Vec<CertificateDer<'static>>>().ok()?.into_iter().next()
}

/// The key that the peer has shown, in the protocol that we speak.
fn shown(connection: &Connection) -> Result<Fingerprint, LinkError> {
    let handshake = connection.handshake_data();
    let handshake = handshake.and_then(|data| data.downcast::<HandshakeData>().ok());
    if handshake.and_then(|data| data.protocol).as_deref() != Some(PROTOCOL) {
        return Err(LinkError::WrongProtocol);
    }
    let key = certificate(connection).and_then(|certificate| fingerprint_in(&certificate));
    key.ok_or(LinkError::UnknownKey { by: Side::Us })
}

/// Closes the connection when its key is revoked.
async fn guard(connection: Connection, pins: Arc<Pins>, key: Fingerprint) {
    let mut changes = pins.listen();
    while pins.node_of(key).is_some() {
        tokio::select! {
            biased;
            _ = connection.closed() => return,
            () = changes.rung() => {}
        }
    }
    refuse(
        &connection,
        match pins.standing(key) {
            Standing::Retired => LinkError::Retired { by: Side::Us },
            _ => LinkError::Revoked { by: Side::Us },
        },
    );
}
