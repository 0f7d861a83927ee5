//! The network: encrypted connections between nodes that know each other's keys, and the tasks
//! that drive conversations over them.
//!
//! ```text
//! key, pins, tls      who we are, who may talk to us, and the handshake that proves both
//! settings, socket    the numbers of QUIC that were measured, and the socket below it
//! limit               how long something may take, which may change while links are up
//! endpoint            listens and dials; bounds what strangers can cost; closes revoked links
//! channel, frame      four streams a connection, frames of at most 1 MiB on each
//! reset               a node that was started again ends the connections of its former life
//! token, invites, join, join_request   how a new node is let in
//! rotation, succession   a node changes its key, again and again
//! conversation, driver   frames between a link and the state machine that talks over it
//! mesh, dialer, breaker  one link to each peer, dialed again when it breaks, but not too often
//! found               where peers may be besides the addresses that were given
//! sim                 a made-up network for tests: real QUIC, seeded faults, time that jumps
//! error               what goes wrong, and the codes that connections are closed with
//! ```
//!
//! Invariants:
//! - A key is trusted because it is pinned: no authority, no expiry. Whoever is not pinned gets no
//!   further than the handshake.
//! - Nothing is allocated for a peer before the length that it names was checked.
//! - What a peer sends slowly, or not at all, is given up after a bounded time.

mod bans;
mod bell;
mod breaker;
mod channel;
mod conversation;
mod dialer;
mod driver;
mod endpoint;
mod error;
mod found;
mod frame;
mod invites;
mod join;
pub mod join_request;
mod key;
mod limit;
mod mesh;
mod pins;
mod reset;
mod rotation;
mod settings;
#[cfg(any(test, feature = "sim"))]
pub mod sim;
mod socket;
mod succession;
mod tls;
mod token;

pub use crate::channel::Channel;
pub use bell::{Bell, Ear};
pub use breaker::{Attempt, Breaker, BreakerSettings, BreakerState, OnChange, Rejected};
pub use channel::{ChannelReceiver, ChannelSender};
pub use conversation::{Calls, Conversation, Conversations, Parting, Then};
pub use dialer::DialCounts;
pub use driver::{Control, Driving, drive, establish};
pub use endpoint::{Arrival, Dialed, Endpoint, Guest, Link};
pub use error::{CloseCode, LinkError, Side};
pub use frame::{FRAME_LEN_MAX, FrameDecoder};
pub use invites::{INVITE_LASTS, Invites, OpenInvite};
pub use join::{Desk, Keep, Register, join};
pub use key::{Fingerprint, LinkKey, shown_in};
pub use limit::Limit;
pub use mesh::{Mesh, MeshParts, PeerLink, Traffic};
pub use pins::Pins;
pub use rotation::Rotation;
pub use settings::{Congestion, LinkSettings, Mtu};
pub use socket::{Buffers, Wire};
pub use succession::Succession;
pub use token::Token;
