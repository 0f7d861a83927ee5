//! How a database behaves. Checked in one place, [`Options::check`].

use crate::backup::BackupSchedule;
use base::{Error, Result};
use recovery::Verify;
use std::time::Duration;

/// How a database behaves. Name what you change and end with `..Options::default()`.
///
/// Values only: the file system and the clock are passed separately.
#[derive(Clone, Debug, PartialEq)]
pub struct Options {
    /// Whether `open` may create the database. Default [`Create::IfMissing`].
    pub create: Create,
    /// How much `open` verifies before the database counts as whole. Default [`Verify::Quick`]:
    /// what it needs to open; tables are verified as they are read.
    ///
    /// The deeper levels read every table before `open` returns.
    pub verify: Verify,
    /// When a commit is acknowledged, unless a write says otherwise. Default [`SyncMode::Sync`].
    pub sync: SyncMode,
    /// Bytes of memory for memtables, cached blocks, indexes and filters together. Default 256 MiB.
    ///
    /// The cache gets what up to three memtables leave. More means fewer disk reads.
    pub memory_bytes: usize,
    /// Bytes a memtable may hold before it is frozen and flushed to level 0. Default 64 MiB.
    ///
    /// Larger means fewer, bigger flushes and fewer compactions; it costs memory, and a longer
    /// replay after a crash.
    pub memtable_bytes: usize,
    /// Bytes of a block before compression. Default 8 KiB.
    ///
    /// Larger compresses better and needs less index; every uncached read loads and verifies a
    /// whole block.
    pub block_bytes: usize,
    /// Bytes of a table that a compaction writes. Default 64 MiB.
    pub table_bytes: u64,
    /// Bytes of one log segment at the most. Default 32 MiB.
    ///
    /// Space is reserved by the segment, and freed by it once flushed. Segments start at 1 MiB and
    /// double, so that a database that is little written takes little.
    pub segment_bytes: u64,
    /// Bytes of flushed log segments kept for [`crate::Db::changes`]. Default 0: only what is not
    /// yet flushed. While the database replicates, at least 64 MiB are kept.
    pub log_retention_bytes: u64,
    /// Bytes of disk kept back for a full disk, at the most. Default 64 MiB; 0 keeps none.
    ///
    /// While the disk is full puts are refused; deletes, flushes and compactions use the reserve. It
    /// starts at 4 MiB, grows with the database, and takes at most a quarter of what is free. Puts are
    /// refused as soon as reserve and free space together would no more hold the tables of what is in
    /// memory. With 0 they are refused only when nothing is left, and then a flush may not fit.
    pub reserve_bytes: u64,
    /// Bytes of finished log segments kept, once there is a backup, until the next one has taken them.
    /// Default 1 GiB; zero keeps none.
    ///
    /// They lead to the moments between two backups. What does not fit is not kept, and the moments
    /// behind it can not be restored.
    pub archive_bytes: u64,
    /// Backups that are made by themselves. Default none.
    pub backup: Option<BackupSchedule>,
    /// How long overwritten and deleted versions are kept for reads as of an earlier time. Default
    /// zero: only snapshots keep them. Costs disk space and scan time.
    pub history: Duration,
    /// Transactions that may be open at once. Default 1000.
    pub transactions_max: u64,
    /// What follows when a file turns out to be damaged. Default [`CorruptionAction::Halt`].
    pub on_corruption: CorruptionAction,
    /// How often everything is read and verified in the background, so that damage is found before it
    /// is needed. Default every 7 days at 16 MiB a second; none means never.
    ///
    /// Counted from the open; after an open that had to recover from a crash, one pass starts at once.
    pub scrub: Option<Scrub>,
    /// How far another node's clock may be ahead of ours before its writes wait, and how far our own may
    /// jump before writes are refused. Default 10 s. Only for databases that replicate.
    pub max_drift: Duration,
    /// Whether background threads flush, compact and sync. Default [`Background::On`].
    pub background: Background,
}

/// Whether `open` may create the database.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Create {
    /// Opens what is there; creates it in a missing or empty directory.
    IfMissing,
    /// Refuses a directory that is not a database.
    Never,
    /// Refuses a directory that is one already.
    New,
}

/// What follows when a file turns out to be damaged. The call that met it gets the error in any case.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CorruptionAction {
    /// Writes are refused with [`Error::Halted`] until the database is repaired, or a scrub finds
    /// everything whole. Other reads go on.
    Halt,
    /// What verifies of a damaged table is written anew, the damaged file is set aside in
    /// `quarantine/`, and the database goes on. Of the lost keys an earlier value may show, or a deleted
    /// one: see [`crate::Db::lost_ranges`]. Damage elsewhere halts.
    Quarantine,
    /// As [`CorruptionAction::Halt`], until replication has brought what a damaged table had from
    /// another node: then what verifies of the table and what came take its place in one edit, and the
    /// damaged file is set aside in `quarantine/`. Without a peer it stays a halt.
    HealFromPeer,
}

/// How often everything is verified in the background.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Scrub {
    /// From one pass to the next.
    pub every: Duration,
    /// How fast it reads.
    pub bytes_per_second: u64,
}

impl Scrub {
    fn check(self) -> Result<()> {
        if self.bytes_per_second < 4096 || self.every < Duration::from_secs(1) {
            return Err(Error::invalid(
                "a scrub reads at least 4096 bytes a second and comes at most once a second",
            ));
        }
        Ok(())
    }
}

impl Default for Scrub {
    fn default() -> Self {
        Scrub { every: Duration::from_secs(7 * 24 * 3600), bytes_per_second: 16 << 20 }
    }
}

/// Whether background threads work.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Background {
    /// Flushes, compacts and syncs in threads of its own.
    On,
    /// Flushes when a write finds the memtables or the disk full, compacts only when asked. For tests and tools
    /// that want every step in their own hands.
    Off,
}

/// What an acknowledged write survives besides a killed process: a power loss always, a power loss
/// older than the period, or only what the operating system had written. Async still syncs about
/// once a second.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SyncMode {
    /// Acknowledged means synced.
    Sync,
    /// Synced once a period. The usual period is 100 ms.
    Periodic(Duration),
    /// Synced about once a second.
    Async,
}

impl SyncMode {
    /// The interval of background syncs that this mode needs.
    pub(crate) fn period(self) -> Duration {
        match self {
            SyncMode::Periodic(period) => period,
            SyncMode::Sync | SyncMode::Async => Duration::from_secs(1),
        }
    }
}

impl Default for Options {
    fn default() -> Self {
        Options {
            create: Create::IfMissing,
            verify: Verify::Quick,
            sync: SyncMode::Sync,
            memory_bytes: 256 << 20,
            memtable_bytes: 64 << 20,
            block_bytes: 8 << 10,
            table_bytes: 64 << 20,
            segment_bytes: 32 << 20,
            log_retention_bytes: 0,
            reserve_bytes: 64 << 20,
            archive_bytes: 1 << 30,
            backup: None,
            history: Duration::ZERO,
            transactions_max: 1000,
            on_corruption: CorruptionAction::Halt,
            scrub: Some(Scrub::default()),
            max_drift: Duration::from_secs(10),
            background: Background::On,
        }
    }
}

impl Options {
    /// Memtables that may exist at once: the active one and those waiting for their flush.
    pub(crate) const MEMTABLES_MAX: usize = 3;

    /// Refuses values that make no sense, naming each with its limits.
    pub(crate) fn check(&self) -> Result<()> {
        let ranges = [
            ("memtable_bytes", self.memtable_bytes as u64, 64 << 10, 8 << 30),
            ("memory_bytes", self.memory_bytes as u64, 1 << 20, 1 << 44),
            ("block_bytes", self.block_bytes as u64, 512, 1 << 20),
            ("table_bytes", self.table_bytes, 64 << 10, 1 << 36),
            ("segment_bytes", self.segment_bytes, 64 << 10, 4 << 30),
            ("reserve_bytes", self.reserve_bytes, 0, 1 << 40),
            ("transactions_max", self.transactions_max, 1, 1 << 20),
        ];
        for (name, value, min, max) in ranges {
            if value < min || value > max {
                return Err(Error::invalid(format!(
                    "{name} is {value}; allowed is {min} to {max}"
                )));
            }
        }
        if self.memory_bytes < Self::MEMTABLES_MAX * self.memtable_bytes {
            return Err(Error::invalid(format!(
                "memory_bytes is {}; it must be at least {} times memtable_bytes, {}",
                self.memory_bytes,
                Self::MEMTABLES_MAX,
                Self::MEMTABLES_MAX * self.memtable_bytes
            )));
        }
        if let Some(schedule) = &self.backup {
            schedule.check()?;
        }
        if let Some(scrub) = self.scrub {
            scrub.check()?;
        }
        match self.sync {
            SyncMode::Periodic(period)
                if period.is_zero() || period > Duration::from_secs(3600) =>
            {
                Err(Error::invalid("a sync period is more than zero and at most an hour"))
            }
            _ => Ok(()),
        }
    }

    /// [`Options::max_drift`] in milliseconds.
    pub(crate) fn max_drift_ms(&self) -> u64 {
        u64::try_from(self.max_drift.as_millis()).unwrap_or(u64::MAX)
    }

    /// Bytes of the budget for blocks, indexes and filters.
    pub(crate) fn cache_bytes(&self) -> usize {
        self.memory_bytes.saturating_sub(Self::MEMTABLES_MAX * self.memtable_bytes).max(256 << 10)
    }
}

/// How one keyspace is stored. Fixed when the keyspace is created; opening an existing keyspace
/// with other options keeps the stored ones, except that another scope is refused.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeyspaceOptions {
    /// Whether it replicates. Default [`Scope::Main`].
    pub scope: Scope,
    /// How blocks of the last level are compressed. Default [`Compression::Zstd`] where built in.
    pub compression: Compression,
    /// Bits of filter a key. Default 10: about one false positive in a hundred.
    pub filter_bits_per_key: u8,
}

/// Which dataset a keyspace belongs to, for ever.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scope {
    /// The default dataset, which replicas share.
    Main,
    /// This node's own; never replicated.
    Local,
}

/// How blocks are compressed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Compression {
    /// Not at all.
    None,
    /// zstd at level 1, on the last level only: blocks above it die young.
    Zstd,
}

impl Default for KeyspaceOptions {
    fn default() -> Self {
        KeyspaceOptions {
            scope: Scope::Main,
            compression: if cfg!(feature = "zstd") { Compression::Zstd } else { Compression::None },
            filter_bits_per_key: 10,
        }
    }
}

/// How one write deviates from the database's options.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct WriteOptions {
    /// When it is acknowledged; none means as [`Options::sync`] says.
    pub sync: Option<SyncMode>,
}
