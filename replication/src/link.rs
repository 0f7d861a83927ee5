//! The network: encrypted connections between nodes that know each other's keys, and the tasks
//! that drive conversations over them.
//!
//! ```text
//! key, pins, tls      who we are, who may talk to us, and the handshake that proves both
//! settings, socket    the numbers of QUIC that were measured, and the socket below it
//! endpoint            listens and dials; bounds what strangers can cost; closes revoked links
//! channel, frame      four streams a connection, frames of at most 1 MiB on each
//! error               what goes wrong, and the codes that connections are closed with
//! ```
//!
//! Invariants:
//! - A key is trusted because it is pinned: no authority, no expiry. Whoever is not pinned gets no
//!   further than the handshake.
//! - Nothing is allocated for a peer before the length that it names was checked.
//! - What a peer sends slowly, or not at all, is given up after a bounded time.

mod bell;
mod channel;
mod endpoint;
mod error;
mod frame;
mod key;
mod pins;
mod settings;
mod socket;
mod tls;

pub use bell::{Bell, Ear};
pub use channel::{Channel, ChannelReceiver, ChannelSender};
pub use endpoint::{Dialed, Endpoint, Link};
pub use error::{CloseCode, LinkError, Side};
pub use frame::{FRAME_LEN_MAX, FrameDecoder};
pub use key::{Fingerprint, LinkKey};
pub use pins::Pins;
pub use settings::{Congestion, LinkSettings, Mtu};
pub use socket::{Buffers, Wire};
