//! Members of the group that move are found again on the local network.
//!
//! ```text
//! beacon       what a node says of itself: one small datagram, to all at once
//! neighbours   who was heard, and where: bounded, and forgotten after a silence
//! air          the two sockets
//! ```
//!
//! A beacon is a hint and nothing more, because anybody on the network can send one: that a member may be
//! reachable at an address. It is one more address to dial a node at that is a member anyway, and whose
//! key the handshake demands there as everywhere.
//!
//! Invariants:
//! - Nobody becomes a member or a peer by a beacon, and no link that is up ends by one.
//! - Memory is bounded, whatever is sent, and so is the number of dials that beacons cause.
//! - A beacon is never answered.

mod air;
mod beacon;
mod neighbours;

pub use air::Air;
pub use beacon::{BEACON_LEN, Beacon, GroupMark, mark_of};
pub use neighbours::{
    ADDRESSES_MAX, Counts, Heard, Neighbours, SOURCE_MAX, STRANGERS_MAX, Sighting, Unheard,
};

use std::net::Ipv4Addr;
use std::time::Duration;

/// How members are looked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DiscoveryOptions {
    /// Whom beacons are sent to: 255.255.255.255, the broadcast address of a subnet, or a multicast group.
    pub address: Ipv4Addr,
    /// The port of that address.
    pub port: u16,
    /// The time between two beacons of a node, more or less a tenth.
    pub interval: Duration,
    /// After how long a silence a node counts as gone from an address.
    pub expiry: Duration,
}

impl Default for DiscoveryOptions {
    fn default() -> DiscoveryOptions {
        DiscoveryOptions {
            address: Ipv4Addr::BROADCAST,
            port: 7485,
            interval: Duration::from_secs(5),
            expiry: Duration::from_secs(15),
        }
    }
}
