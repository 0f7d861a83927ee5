//! Backups of a running database.
//!
//! The log is cut: everything before is flushed, as for a checkpoint, and what comes later is in later
//! segments. The tables of that moment are copied at a limited rate while a view keeps them from
//! being deleted; then the segments that were finished since the backup before.

pub(crate) mod schedule;

use crate::archive;
use crate::checkpoint::stable_state;
use crate::commit::Cut;
use crate::jobs;
use crate::parts::Parts;
use base::{Error, Moment, Result};
use recovery::Progress;
use recovery::backup::{
    BackupKind, BackupRecord, BackupWriter, Courier, Sharing, Span, Store, StoredTable,
};
use sstable::manifest::{Archiving, Edit, State, Version};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

/// How a backup is made. Name what you change and end with `..BackupOptions::default()`.
#[derive(Clone, Debug)]
pub struct BackupOptions {
    /// What it brings. Default [`BackupKind::Full`].
    pub kind: BackupKind,
    /// Bytes copied in a second at the most. Default 64 MiB.
    ///
    /// Faster is done sooner, and takes more of the disk and of a core from readers and writers.
    pub bytes_per_second: u64,
    /// Told how far it has come; also cancels it. Default one that nobody looks at.
    pub progress: Arc<Progress>,
}

/// Backups that an open database makes by itself. Name what you change and end with
/// `..BackupSchedule::default()`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BackupSchedule {
    /// The directory of backups. Default `backups`, in the current directory.
    pub to: PathBuf,
    /// Time between two backups. Default one day. Finished segments of the log are taken between
    /// them as they come.
    pub every: Duration,
    /// Backups that are kept; older ones are removed. Default 10.
    pub keep: usize,
    /// What a backup brings, except the first, which is full. Default [`BackupKind::Incremental`].
    pub kind: BackupKind,
    /// Bytes copied in a second at the most. Default 64 MiB.
    pub bytes_per_second: u64,
}

/// One backup.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct BackupInfo {
    /// Its number in its directory.
    pub number: u64,
    /// What it brought.
    pub kind: BackupKind,
    /// The backup before it; 0 if there is none.
    pub parent: u64,
    /// When it was made.
    pub made: Moment,
    /// The last moment of which it is known that no commit is missing.
    pub covered: Moment,
    /// The moments that can be restored from it, with the log behind it; none of one that brings only
    /// log.
    pub span: Option<Span>,
    /// Which life of the database it is of.
    pub incarnation: String,
    /// Tables that it needs.
    pub tables: u64,
    /// Bytes of these.
    pub table_bytes: u64,
    /// Those of them that were copied for it.
    pub copied_bytes: u64,
    /// Log segments that came with it.
    pub segments: u64,
    /// Bytes of these.
    pub segment_bytes: u64,
}

const BYTES_PER_SECOND: u64 = 64 << 20;

impl Default for BackupOptions {
    fn default() -> Self {
        BackupOptions {
            kind: BackupKind::Full,
            bytes_per_second: BYTES_PER_SECOND,
            progress: Arc::new(Progress::default()),
        }
    }
}

impl Default for BackupSchedule {
    fn default() -> Self {
        BackupSchedule {
            to: PathBuf::from("backups"),
            every: Duration::from_secs(24 * 60 * 60),
            keep: 10,
            kind: BackupKind::Incremental,
            bytes_per_second: BYTES_PER_SECOND,
        }
    }
}

impl BackupSchedule {
    /// Refuses values that make no sense.
    pub(crate) fn check(&self) -> Result<()> {
        if self.keep == 0 {
            return Err(Error::invalid("backup.keep is 0; allowed is at least 1"));
        }
        if self.every < Duration::from_secs(1) {
            return Err(Error::invalid("backup.every is less than a second"));
        }
        if self.kind == BackupKind::Log {
            return Err(Error::invalid(
                "backup.kind is the log alone; it needs tables to go on from",
            ));
        }
        Ok(())
    }
}

impl BackupInfo {
    /// What a record says.
    pub(crate) fn of(record: &BackupRecord, span: Option<Span>) -> BackupInfo {
        let copied = record.tables().filter(|(_, table)| table.copy == record.number);
        BackupInfo {
            number: record.number,
            kind: record.kind,
            parent: record.parent,
            made: Moment { ms: record.made_ms },
            covered: Moment { ms: record.covered.ms() },
            span,
            incarnation: record.identity.incarnation.to_string(),
            tables: record.tables.len() as u64,
            table_bytes: record.state.version.bytes(),
            copied_bytes: copied.map(|(meta, _)| meta.len).sum(),
            segments: record.segments.len() as u64,
            segment_bytes: record.segments.iter().map(|segment| segment.len).sum(),
        }
    }
}

/// Makes a backup in the directory `to`.
pub(crate) fn backup(parts: &Parts, to: &Path, options: &BackupOptions) -> Result<BackupInfo> {
    let _one_at_a_time = parts.backing_up.lock();
    let store = Store::new(parts.fs.at(to));
    let writer = store.begin(&parts.identity)?;
    if options.kind == BackupKind::Log && !writer.continues() {
        return Err(Error::invalid("there is no backup of this database to go on from"));
    }
    let begins = parts.archive.from().is_none();
    let made = make(parts, writer, options, begins);
    if made.is_err() && begins {
        parts.archive.end();
        archive::forget(parts, u64::MAX);
    }
    made
}

/// `begins` says whether nothing is archived yet.
fn make(
    parts: &Parts,
    writer: BackupWriter<'_>,
    options: &BackupOptions,
    begins: bool,
) -> Result<BackupInfo> {
    let mut courier = Courier::new(&*parts.clock, options.bytes_per_second, &options.progress)
        .until(&parts.is_closed);
    let cut = cut(parts, begins)?;
    if options.kind != BackupKind::Log {
        jobs::flush_up_to(parts, cut.last)?;
    }
    let (view, mut state) = stable_state(parts);
    if options.kind == BackupKind::Log {
        state.version = Version::default();
    }
    let tables = copy_tables(parts, &writer, &state, options.kind, &mut courier)?;
    drop(view);
    let archived_from = state.archiving.filter(|_| writer.continues());
    let segments = match archived_from {
        Some(archiving) => writer.segments(&*parts.fs, archiving.from, cut.log, &mut courier)?,
        None => Vec::new(),
    };
    let archiving = Archiving { from: cut.log.number, since: cut.covered };
    let ingests = std::mem::take(&mut state.ingests);
    (state.archiving, state.closed) = (None, None);
    let record = BackupRecord {
        identity: parts.identity,
        number: writer.number(),
        kind: options.kind,
        parent: writer.parent(),
        made_ms: parts.clock.wall_ms(),
        covered: cut.covered,
        log: cut.log,
        state,
        tables,
        segments,
        ingests,
    };
    let begin_archive = |_: &State| Edit { archiving: Some(archiving), ..Edit::default() };
    if begins {
        // Before the backup counts: from then on nothing may be missing.
        parts.record_then(begin_archive, |_| {})?;
    }
    let record = writer.commit(record)?;
    if !begins {
        parts.record_then(begin_archive, |_| {})?;
        parts.archive.begin(cut.log.number);
        archive::forget(parts, cut.log.number);
    }
    let span = Span { from_ms: record.base().ms(), until_ms: record.covered.ms() };
    Ok(BackupInfo::of(&record, record.has_tables().then_some(span)))
}

/// Cuts the log, and waits until everything before is visible and durable.
fn cut(parts: &Parts, begins: bool) -> Result<Cut> {
    let cut = parts.commits.cut(|cut| {
        if begins {
            parts.archive.begin(cut.log.number);
        }
    })?;
    parts.commits.sync()?;
    parts.wait_visible(cut.last)?;
    // No commit of a later process may get a tick that the backup claims to cover.
    parts.record_then(|_| Edit { last_tick: Some(cut.covered), ..Edit::default() }, |_| {})?;
    Ok(cut)
}

fn copy_tables(
    parts: &Parts,
    writer: &BackupWriter<'_>,
    state: &State,
    kind: BackupKind,
    courier: &mut Courier<'_>,
) -> Result<Vec<StoredTable>> {
    let sharing = match kind {
        BackupKind::Full => Sharing::Nothing,
        BackupKind::Incremental | BackupKind::Log => Sharing::Tables,
    };
    courier.expect(state.version.bytes());
    let tables = state.version.tables();
    tables.map(|meta| writer.table(&*parts.fs, meta, sharing, courier)).collect()
}
