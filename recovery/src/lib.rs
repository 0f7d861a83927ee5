//! From a directory to facts: everything between naming a database and using it.
//!
//! [`recover`] goes through twelve stages ([`Stage`]). The first nine only read; the next two only
//! create files; one rename, of the root, makes their work count; the last tidies up. A crash
//! anywhere means starting again at the first.
//!
//! ```text
//! claim ─ identity ─ keys ─ resources ─ inventory ─ root ─ manifest ─ tables ─ log    read
//!                                                                                │
//!                                        ReplaySink <─ replay ─ switch           create
//!                                                                  │
//!                                                          root renamed: it counts
//!                                                                  │
//!                                                               retire           tidy up
//! ```
//!
//! This crate knows no memtables, threads or networks. It is the only code that quarantines a file.
//! [`check`] looks at a closed database without changing it; [`repair`] rebuilds a damaged one;
//! [`dump`] renders single files; [`backup`] keeps copies of a database elsewhere, and [`archive`] the
//! log between them.

#![forbid(unsafe_code)]

pub mod archive;
pub mod backup;
pub mod dump;

mod attempt;
mod birth;
mod check;
mod claim;
mod identity;
mod inventory;
mod keys;
mod log;
mod lone;
mod look;
mod pipeline;
mod plan;
mod progress;
mod quarantine;
mod repair;
mod replay;
mod report;
mod resources;
mod root;
mod stage;
mod sweep;
mod switch;
mod tables;

pub use birth::{create_database, remove_database, undo_creation};
pub use check::{Finding, Severity, check, check_with_progress};
pub use identity::{
    generate_identity, new_life, public_key, public_key_fingerprint, read_identity,
    replace_identity, write_identity,
};
pub use look::{Onlooker, Seen, look};
pub use pipeline::recover;
pub use plan::{Create, FlushTarget, Plan, Recovered, ReplaySink, Verify};
pub use progress::Progress;
pub use quarantine::set_table_aside;
pub use repair::{Loss, RepairReport, repair};
pub use report::Report;
pub use stage::{Stage, StageLimits};
