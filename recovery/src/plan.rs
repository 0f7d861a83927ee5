//! What to open and how, and what comes out.

use crate::report::Report;
use base::fs::{Fs, LockGuard};
use base::{Clock, Identity, KeyspaceId, Origin, Result, Rng, Tick};
use sstable::manifest::{KeyspaceRecord, ManifestLog, State};
use sstable::{Authors, TableMeta, TableOwner};
use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// What to open and how.
pub struct Plan {
    /// The directory.
    pub fs: Arc<dyn Fs>,
    /// Times the stages.
    pub clock: Arc<dyn Clock>,
    /// Ids and nonces come from here.
    pub rng: Arc<dyn Rng>,
    /// What to do if there is no database.
    pub create: Create,
    /// How much to verify before it counts as whole.
    pub verify: Verify,
    /// Bytes that the sink may hold in memory.
    pub memory_bytes: u64,
    /// How the log is written from now on.
    pub log: wal::LogOptions,
    /// Bytes of the log that may be kept for the next backup.
    pub archive_bytes: u64,
}

/// What to do if there is no database, or one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Create {
    /// Refuse if there is none.
    Never,
    /// Create one in a directory that is missing or empty.
    IfMissing,
    /// Create one, and refuse if there is one already.
    New,
}

/// How much is verified.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum Verify {
    /// Tables are there and have the right length; a cleanly closed log is not read.
    #[default]
    Quick,
    /// Also: the log is read, each table is opened and compared with the manifest.
    Full,
    /// Also: every block of every table.
    Paranoid,
}

/// Takes the commits that are only in the log, and makes tables of them.
pub trait ReplaySink {
    /// Says whose commits will come. Called before the first.
    fn begin(&mut self, _author: Origin) {}
    /// Takes one commit: `payload` holds its records ([`base::record::Records`]), already checked.
    /// Commits come in order of their seqno.
    fn insert(&mut self, seqno: Tick, payload: &[u8]) -> Result<()>;
    /// Bytes of memory it holds. Recovery calls `flush` when they exceed the plan's bound, and at
    /// the end.
    fn memory(&self) -> u64;
    /// Writes what it holds as tables that do not overlap, one run of level 0, and forgets it. The
    /// files are synced, their folder is not. Nothing if it holds nothing.
    fn flush(&mut self, target: &FlushTarget) -> Result<Vec<TableMeta>>;
}

/// Where a [`ReplaySink`] writes its tables.
pub struct FlushTarget {
    /// The directory.
    pub fs: Arc<dyn Fs>,
    /// Whose tables they are.
    pub owner: TableOwner,
    /// The authors that entries name by number.
    pub authors: Authors,
    /// How each keyspace is stored.
    pub keyspaces: BTreeMap<KeyspaceId, Arc<KeyspaceRecord>>,
    next_table: AtomicU64,
}

impl FlushTarget {
    /// For the keyspaces of `state`. Tables will be numbered from its next on.
    pub fn new(fs: Arc<dyn Fs>, owner: TableOwner, state: &State) -> FlushTarget {
        let local = state.number_of(owner.origin).unwrap_or_default();
        let authors = Authors { local, list: state.origins.clone() };
        let next_table = AtomicU64::new(state.next_table);
        let keyspaces = state.keyspaces.clone();
        FlushTarget { fs, owner, authors, keyspaces, next_table }
    }

    /// The number for a new table. If recovery fails, it removes the files of all numbers given.
    pub fn next_table(&self) -> u64 {
        self.next_table.fetch_add(1, Ordering::Relaxed)
    }

    /// The number that the next call of [`FlushTarget::next_table`] will give.
    pub fn upcoming(&self) -> u64 {
        self.next_table.load(Ordering::Relaxed)
    }
}

impl fmt::Debug for FlushTarget {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "FlushTarget {{ next_table: {} }}", self.upcoming())
    }
}

/// A database, ready to be run.
#[derive(Debug)]
pub struct Recovered {
    /// Keeps the directory. Drop it last.
    pub lock: LockGuard,
    /// Who the database is.
    pub identity: Identity,
    /// Counts the opens.
    pub generation: u64,
    /// Takes the edits from now on.
    pub manifest: ManifestLog,
    /// The tables, keyspaces and numbers.
    pub state: State,
    /// Takes the commits from now on.
    pub log: wal::Appender,
    /// No tick up to this one may be used again.
    pub last_tick: Tick,
    /// What was found and done.
    pub report: Report,
}
