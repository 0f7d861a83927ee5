//! Sessions over databases of the engine, each on a simulated disk of its own.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

mod anew;
mod audits;
mod heal;
mod pair;
mod parts;
mod reserved;
mod resolving;
mod same;
mod space;
