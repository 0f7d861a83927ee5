//! Sessions over stores in memory: what they agree on, whatever happens on the way.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

mod audits;
mod authors;
mod bad_input;
mod bench;
mod cases;
mod catch_up;
mod damaged;
mod deltas;
mod golden;
mod groups;
mod healing;
mod histories;
mod net;
mod own;
mod packed;
mod readers;
mod requests;
mod standing;
mod swollen;
