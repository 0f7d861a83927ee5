//! Replicas that keep themselves equal over QUIC. Not whole yet: connections are made, and what will
//! be said over them has its place.
//!
//! ```text
//! session    the conversation with one peer: a state machine without sockets, clocks or tasks
//! admit      which remote writes are inserted: stamps compared, duplicates and losers dropped
//! floor      what every author has confirmed, so that tombstones may go
//! catch up   live tail, log, delta from tables, rejoin
//! reconcile  where two copies differ, for few bytes
//! link       QUIC connections and the tasks that drive sessions
//! ```
//!
//! What it must not know:
//! - The protocol part (session, admit, floor) knows no socket, clock, task or engine. It sees the
//!   store through a small trait and is tested without a network.
//! - No part knows the bytes of log or table files. Records travel as their author encoded them.
//! - No crate below this one, the engine included, knows that peers exist: replication sets the
//!   floor on the engine, and the engine never asks.
//!
//! tokio and quinn may be dependencies of this crate and of the node only.

pub mod link;
pub mod reconcile;
pub mod rules;
pub mod store;
