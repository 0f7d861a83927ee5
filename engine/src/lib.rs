//! Esker: an embeddable key-value engine.
//!
//! A log-structured merge tree with a Blake3-checksummed log, snapshots, serializable transactions,
//! a change feed and, in its formats, replication.
//!
//! ```
//! use esker::{Batch, Db, KeyspaceOptions, Options};
//!
//! # fn main() -> esker::Result<()> {
//! # let dir = tempfile::tempdir().unwrap();
//! # let path = dir.path().join("data");
//! let db = Db::open(&path, Options::default())?;
//! let users = db.keyspace("users", KeyspaceOptions::default())?;
//! users.put(b"ada", b"1815")?;
//! users.put(b"grace", b"1906")?;
//!
//! assert_eq!(users.get(b"ada")?.unwrap(), b"1815");
//! for entry in users.prefix(b"a") {
//!     let (name, born) = entry?;
//!     println!("{} bytes of name, {} of year", name.len(), born.len());
//! }
//!
//! let mut transaction = db.transaction()?;
//! if transaction.get(&users, b"ada")?.is_some() {
//!     transaction.put(&users, b"ada", b"10 December 1815")?;
//! }
//! transaction.commit()?;
//! db.close()?;
//! # Ok(()) }
//! ```
//!
//! Acknowledged means: a killed process loses nothing, in every [`SyncMode`]; a power loss loses
//! nothing in `Sync`, and at most the last period otherwise.
//!
//! Limits: keys of 1 to 65 535 bytes, values up to 32 MiB, batches up to 64 MiB, keyspace names of 1
//! to 255 bytes of UTF-8. One process writes, any number read beside it; any number of threads.

mod anew;
mod archive;
mod backup;
mod backups;
mod batch;
mod bell;
mod bounds;
mod catalog;
mod changes;
mod checkpoint;
mod commit;
mod compaction;
mod conflicts;
mod content;
mod creation;
mod damage;
mod db;
mod drops;
mod floors;
mod flush;
mod health;
mod ingest;
mod install;
mod iter;
mod jobs;
mod keyspace;
mod lookup;
mod memtable;
mod merge;
mod obsolete;
mod open;
mod options;
mod origins;
mod output;
mod parts;
mod pressure;
mod quarantine;
mod range_map;
mod read;
mod read_only;
mod remedies;
mod repair;
mod replay;
pub mod replicate;
mod resolve;
mod resolver;
mod running;
mod scan;
mod scrub;
mod snapshot;
mod space;
mod stats;
mod tables;
mod times;
mod transaction;
mod value;
mod view;
mod vitals;
mod workers;

pub use anew::NewWrites;
pub use backup::{Attempted, BackupGuard, BackupInfo, BackupOptions, BackupSchedule, MakeBackup};
pub use backups::{Backups, Listing};
pub use base::{Category, Corruption, Error, Identity, Origin, Result, Stamp, Tick};
pub use batch::Batch;
pub use bounds::KeyBounds;
pub use changes::{Change, ChangeKind, Changes, Commit};
pub use commit::CommitTicket;
pub use damage::LostRange;
pub use db::Db;
pub use health::{Health, Status};
pub use iter::{Cursor, Iter};
pub use keyspace::Keyspace;
pub use open::Platform;
pub use options::{
    Background, Compression, CorruptionAction, Create, KeyspaceOptions, Options, Scope, Scrub,
    SyncMode, WriteOptions,
};
pub use recovery::backup::{BackupKind, Pruned, RestorePoint, Restored, Span, Verified};
pub use recovery::{
    Finding, Loss, Progress, RepairReport, Report, Severity, Stage, StageLimits, Verify,
};
pub use remedies::{Permission, Remedy};
pub use repair::{RepairOptions, repair, repair_on, repair_with_progress};
pub use resolver::{Conflict, Parked, Resolution, ResolveError, Resolved, Resolver};
pub use scrub::{ScrubFinding, ScrubReport};
pub use snapshot::Snapshot;
pub use stats::{KeyspaceStats, Latency, RunStats, Stats};
pub use times::Times;
pub use transaction::{Transaction, TransactionIter};
pub use value::Value;

/// The seams to disk, clock and randomness, for those who bring their own.
pub mod platform {
    pub use base::clock::{Clock, SystemClock};
    pub use base::fs::{Fs, OsFs};
    pub use base::rng::{OsRng, Rng};
}
