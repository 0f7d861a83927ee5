//! What the benchmarks of Esker are made of.
//!
//! Five programs share it: `cargo bench` (criterion, Esker alone), `--bench peers` (the same
//! workloads side by side against other engines, each in a process of its own), `--bench
//! replication` (two and three nodes, each a process), `--bench node -- health` (a node that is asked how it
//! is) and the `profile` binary (one workload, for an instruction counter).
//!
//! All workloads of one engine go through [`Contender`], so that all engines get the same keys, values,
//! threads and clocks. `README.md` says how guarantees and settings are equalised.

pub mod args;
pub mod chart;
pub mod child;
pub mod contender;
pub mod drive;
pub mod health;
pub mod keys;
pub mod meter;
pub mod outcome;
pub mod parent;
pub mod peers;
pub mod phase;
pub mod reopen;
pub mod replication;
pub mod report;
pub mod run;
pub mod workload;
pub mod zipf;

pub use contender::{Contender, Durability, Reader, Setup};
pub use keys::{KeyShape, Keys, Values};

/// Why a measurement could not be made. Nothing here recovers: the message is printed.
pub type Failure = Box<dyn std::error::Error + Send + Sync>;

/// What measuring code returns.
pub type Result<T> = std::result::Result<T, Failure>;
