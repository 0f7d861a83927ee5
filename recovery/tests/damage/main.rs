//! Campaigns of damage: whatever happens to the files, a database says so or holds what it promised.
//!
//! Each campaign has a fast profile that runs with all tests, and a long twin:
//! `cargo test -p esker-recovery --release -- --ignored campaign --nocapture`. Each prints what it
//! counted in a line that starts with `campaign`.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::expect_used,
    reason = "a test fails by panicking"
)]

mod bits;
mod disk;
mod full;
mod history;
mod jury;
mod kill;
mod promises;
mod samples;
mod surgery;
