//! The durable set of tables, and how it changes.
//!
//! A [`Version`] is the set of tables at one moment; an [`Edit`] changes it; the [`State`] is what
//! all edits add up to, with the keyspaces and the numbers that must survive a restart. Edits are
//! frames of a [`ManifestLog`]; the [`Root`] says which manifest counts.
//!
//! Invariants:
//! - A manifest starts with one edit that says everything, and its root pins the bytes of that edit.
//! - A frame promises all frames before it. So a file freed by an edit may be deleted once a later
//!   frame is durable, and losing the very last frame loses nothing.

mod edit;
mod keyspace;
mod log;
mod reader;
mod root;
mod salvage;
#[cfg(test)]
mod samples;
mod state;
#[cfg(test)]
mod tests;
mod version;

pub use edit::{Added, Archiving, Closed, Edit};
pub use keyspace::{KeyspaceRecord, KeyspaceSettings};
pub use log::{ManifestLog, Replayed, Survey, replay, survey};
pub use reader::{ManifestEntry, ManifestHeader, ManifestReader};
pub use root::{Root, Roots, read_root, write_root};
pub use salvage::{ManifestSalvage, salvage};
pub use state::State;
pub use version::{LAST_LEVEL, Run, Version};
