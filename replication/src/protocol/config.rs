//! How a session behaves, and what it tells the node.

use super::frame::{FEATURE_PACKED, FEATURE_RANGES, FEATURE_ROOTS, FEATURE_SELF_VERIFYING};
use crate::health::AuditReport;
use base::NodeId;
use std::time::Duration;

/// How a session behaves.
#[derive(Clone, Debug)]
pub struct SessionConfig {
    /// Who is on the other side, as its key says.
    pub peer: NodeId,
    /// The oldest and the newest version of the protocol that are spoken.
    pub protocol: (u16, u16),
    /// What else is understood, as bits. Default: all, [`FEATURE_PACKED`], [`FEATURE_ROOTS`],
    /// [`FEATURE_RANGES`] and [`FEATURE_SELF_VERIFYING`].
    pub features: u64,
    /// Bytes of shipments that may be sent and not confirmed. Default 16 MiB.
    pub window_bytes: u64,
    /// Shipments that may be sent and not confirmed. Default 1000.
    pub window_shipments: usize,
    /// About the bytes of a shipment. Default 256 KiB.
    pub shipment_len: usize,
    /// How long what was taken may wait for its confirm. Default 50 ms.
    pub confirm_after: Duration,
    /// Bytes taken that are confirmed at once. Default 1 MiB.
    pub confirm_bytes: u64,
    /// How often something is said at least. Default 5 s.
    pub heartbeat_every: Duration,
    /// How long the peer may say nothing. Default 30 s.
    pub silence_max: Duration,
    /// How often all that both hold is compared; none: only when asked for. Default 1 h.
    pub audit_every: Option<Duration>,
}

impl SessionConfig {
    /// Bytes that may usually be sent to a peer and not be confirmed.
    pub const WINDOW_BYTES: u64 = 16 << 20;
    /// Shipments that may usually be sent to a peer and not be confirmed.
    pub const WINDOW_SHIPMENTS: usize = 1000;
    /// About the bytes that a shipment usually has.
    pub const SHIPMENT_LEN: usize = 256 << 10;

    /// The usual, with this peer.
    pub fn new(peer: NodeId) -> SessionConfig {
        SessionConfig {
            peer,
            protocol: (1, 1),
            features: FEATURE_PACKED | FEATURE_ROOTS | FEATURE_RANGES | FEATURE_SELF_VERIFYING,
            window_bytes: SessionConfig::WINDOW_BYTES,
            window_shipments: SessionConfig::WINDOW_SHIPMENTS,
            shipment_len: SessionConfig::SHIPMENT_LEN,
            confirm_after: Duration::from_millis(50),
            confirm_bytes: 1 << 20,
            heartbeat_every: Duration::from_secs(5),
            silence_max: Duration::from_secs(30),
            audit_every: Some(Duration::from_secs(3600)),
        }
    }
}

/// How a node catches up beyond the tail of the log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Tier {
    /// Entries that its vector does not cover.
    Delta,
    /// The whole state, against which its own is compared.
    Rejoin,
    /// The same of ranges of keys that were lost, and what is news besides.
    Heal,
    /// Tables, into an empty scope.
    Tables,
}

/// Something that the node may want to know.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    /// Both sides have said hello.
    Up(NodeId),
    /// State is being taken.
    Chose(Tier),
    /// State was taken.
    Installed(Tier),
    /// The peer's clock is ahead: nothing is taken from it now.
    Parked {
        /// By how much.
        by_ms: u64,
    },
    /// Puts that came after their deletion was forgotten were erased and put into quarantine.
    LateWrites(u64),
    /// There are such puts, and an author has to answer them.
    Unanswered(u64),
    /// A peer has more of this node's own writes than this node: they are fetched back.
    Healing,
    /// This node is in a new incarnation: connect again.
    Renewed,
    /// All that both hold was compared.
    Audited(AuditReport),
    /// An operator must look at it.
    Incident(String),
}
