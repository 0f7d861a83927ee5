//! Replicas that keep themselves equal over QUIC, last writer wins.
//!
//! ```text
//! store      all that the protocol sees of a database; memory is one for tests and simulations
//! protocol   the conversation with one peer: a state machine without sockets, clocks or tasks
//! group      what the sessions of a node know together; roster, confirm, floor and health are its
//!            parts
//! channel    the streams that both link and protocol name
//! discovery  members that have moved are found on the local network
//! reconcile  where two copies differ, for few bytes
//! link       QUIC connections and the tasks that drive sessions
//! replica    one database, its group and its links: what a node runs
//! engine_store  a database of the engine, as the protocol sees it
//! json_merge    a resolver for those who keep JSON
//! ```
//!
//! What it must not know:
//! - The protocol part (protocol, group and their parts) knows no socket, clock, task or engine. It
//!   sees the store through a small trait and is tested without a network.
//! - No part knows the bytes of log or table files. Records travel as their author encoded them.
//! - No crate below this one, the engine included, knows that peers exist: replication sets the
//!   floor on the engine, and the engine never asks.
//!
//! tokio and quinn may be dependencies of this crate and of the node only.

pub mod channel;
pub mod confirm;
pub mod discovery;
pub mod engine_store;
pub mod error;
pub mod floor;
pub mod group;
pub mod health;
mod json_merge;
pub mod link;
pub mod memory;
pub mod protocol;
pub mod reconcile;
pub mod replica;
pub mod roster;
pub mod rules;
pub mod store;

pub use error::{ProtocolError, Remedy};
pub use json_merge::JsonMerge;
