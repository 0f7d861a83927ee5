//! Nodes that talk: over real sockets of this machine, and over a made-up network.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

mod bed;
mod found;
mod handshakes;
mod hostile;
mod joining;
mod meshes;
mod simulated;
mod toy;
