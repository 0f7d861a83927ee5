//! Campaigns: whole databases on a simulated disk, which fails wherever it can.
//!
//! Each campaign has a fast profile, which runs with the other tests, and a long one beside it:
//! `cargo test -p esker-recovery --release -- --ignored campaign --nocapture`. Both print what they
//! did in a line that starts with `campaign`, and fail if that is less than they promise.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

#[cfg(test)]
mod calls;
#[cfg(test)]
mod campaign;
#[cfg(test)]
mod crash;
#[cfg(test)]
mod image;
#[cfg(test)]
mod lies;
#[cfg(test)]
mod nested;
#[cfg(test)]
mod step;
#[cfg(test)]
mod story;
#[cfg(test)]
mod told;
#[cfg(test)]
mod trace;
#[cfg(test)]
mod workloads;
