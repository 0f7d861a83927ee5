//! The conversation of two nodes, as a state machine: no socket, no clock, no task.
//!
//! ```text
//! session     one peer: hands frames to the parts below, and asks them what to send
//! handshake   who is there, which group, which version; clones are refused
//! give        the log tail for the peer, as far as its confirms allow
//! give_state  deltas and tables for the peer
//! take        what this node asks for, and what it does with the answers
//! audit       compares what both hold, and repairs what differs
//! confirms    what this node says it has, and what others have
//! message     control messages, with  entries, notice, healing
//! bulk        heads of deltas and tables
//! frame       the envelope            pieces  payloads longer than a frame
//! ```
//!
//! Bounds, per session: nothing is queued for sending, a frame is made when the driver asks for
//! one. A payload of at most 1 MiB is held as one frame; a longer one (a single commit or value) is
//! held whole while its pieces travel, up to 65 MiB on the tail and 34 MiB on the bulk channel.
//! Shipments that came at once are held, 4 MiB of them, until they are admitted together. Those on their
//! way, sent and not confirmed, are 16 MiB or 1000; of these only numbers are
//! kept, the bytes stay in the log. Deltas are staged by the store, on disk.

pub mod audit;
pub mod bulk;
pub mod config;
mod confirms;
mod entries;
pub mod frame;
mod give;
mod give_state;
mod handshake;
mod healing;
pub mod message;
mod notice;
mod packing;
pub mod pieces;
mod received;
pub mod session;
mod standing;
mod take;

pub use config::{Event, SessionConfig, Tier};
pub use frame::Channel;
pub use session::Session;
