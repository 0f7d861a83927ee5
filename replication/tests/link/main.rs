//! Nodes that talk over real sockets of this machine.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

mod bed;
mod handshakes;
