//! What an open found and did.

use crate::stage::Stage;
use base::{Incarnation, Position};
use std::time::Duration;

/// What [`crate::recover`] found and did.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Report {
    /// How long each stage took, in order.
    pub stages: Vec<(Stage, Duration)>,
    /// Whether the database was created by this open.
    pub created: bool,
    /// Whether it had been closed cleanly, so that the log had nothing to add.
    pub was_closed: bool,
    /// Commits taken from the log into tables.
    pub commits_replayed: u64,
    /// Accepted bytes of the log.
    pub log_bytes: u64,
    /// Tables written for them.
    pub tables_written: usize,
    /// Where a crash had cut the log, if it had.
    pub torn_log: Option<Position>,
    /// The new incarnation, if a cut log of a node that replicates made one necessary.
    pub new_life: Option<Incarnation>,
    /// Where a crash had cut the manifest, if it had.
    pub torn_manifest: Option<u64>,
    /// What was set aside, below the directory.
    pub quarantined: Vec<String>,
    /// Whether a torn tail could not be set aside: it stays in place until the next open.
    pub quarantine_failed: bool,
    /// How many files were removed because nothing needs them any more.
    pub removed: usize,
    /// Entries of the directory that are none of ours; untouched.
    pub strangers: Vec<String>,
    /// What went wrong without harm, as sentences.
    pub warnings: Vec<String>,
}
