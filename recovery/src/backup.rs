//! Backups: whole copies of a database beside it, and the log between them.
//!
//! ```text
//!            tables of one version ──────────────┐
//! database                                       ├─> store ──> restore: tables, then commits
//!            finished segments ──> archive/ ─────┘             up to a moment ──> database
//! ```
//!
//! A [`Store`] is a directory. A backup is one record in it, which names tables and segments; a file may
//! belong to several. Nothing that a record names ever changes.
//!
//! Invariants:
//! - Files are durable before the record that names them, and outlive it.
//! - A moment is offered only if every commit up to it is there: see `timeline.rs`.

mod clear;
mod courier;
mod record;
mod restore;
mod segments;
mod store;
mod timeline;
mod verify;
mod writer;

pub use clear::Pruned;
pub use courier::Courier;
pub use record::{BackupKind, BackupRecord, LogPlace, Refusal, StoredSegment, StoredTable};
pub use restore::{Restored, Restoring, refuse_existing};
pub(crate) use segments::archive_damage;
pub use store::{Shelf, Store};
pub use timeline::{RestorePoint, Span};
pub use verify::Verified;
pub use writer::{BackupWriter, Sharing};
