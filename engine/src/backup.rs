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
use crate::options::Options;
use crate::parts::Parts;
use base::lock::{Mutex, MutexGuard, Rank};
use base::{Error, Moment, Result, Tick};
use recovery::Progress;
use recovery::backup::{
    BackupKind, BackupRecord, BackupWriter, Courier, Sharing, Span, Store, StoredTable,
};
use sstable::manifest::{Archiving, Edit, State, Version};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

/// How a backup is made. Name what you change and end with `..BackupOptions::default()`.
#[derive(Clone, Debug)]
pub struct BackupOptions {
    /// What it brings. Default [`BackupKind::Full`].
    pub kind: BackupKind,
    /// Bytes copied in a second at the most; at least 64 KiB. Default 64 MiB.
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
    /// Bytes copied in a second at the most; at least 64 KiB. Default 64 MiB.
    pub bytes_per_second: u64,
}

/// Makes one backup of a schedule. The progress is told how far it has come, and calls it off. It may be called
/// from any thread, and more than once.
pub type MakeBackup = Arc<dyn Fn(&Arc<Progress>) -> Result<()> + Send + Sync>;

/// Stands between a schedule and the backups that it makes: for whoever tries again at once, or leaves a store
/// alone that fails again and again, and wants to know of both in one place with the backups it asks for.
pub trait BackupGuard: Send + Sync {
    /// Makes the backup that is due in the directory `store` by `make`, or puts it off. Called on the thread of
    /// the schedule; may block.
    ///
    /// # Errors
    /// Why it was not made: it is due again after a minute, and until then the health of the database tells.
    fn back_up(&self, store: &Path, make: &MakeBackup) -> Result<Attempted>;
}

/// What has become of a backup that was due.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Attempted {
    /// It was made.
    Made,
    /// It was not tried; it stays due, and is asked for again after about a second.
    PutOff,
}

/// Who makes a backup, and which are made without being asked for.
pub(crate) struct Backing {
    /// Held by the one who makes a backup.
    turn: Mutex<()>,
    /// How far that has come.
    under_way: Mutex<Arc<Progress>>,
    pub(crate) plan: Mutex<BackupPlan>,
}

impl Backing {
    /// Nobody, and those that `options` ask for.
    pub(crate) fn of(options: &Options) -> Backing {
        let plan = BackupPlan { schedule: options.backup.clone(), guard: None };
        Backing {
            turn: Mutex::new(Rank::Backups, ()),
            under_way: Mutex::new(Rank::Stats, Arc::default()),
            plan: Mutex::new(Rank::Stats, plan),
        }
    }
}

/// Which backups are made without being asked for.
pub(crate) struct BackupPlan {
    pub(crate) schedule: Option<BackupSchedule>,
    pub(crate) guard: Option<Arc<dyn BackupGuard>>,
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
/// Between two looks whether another backup has ended.
const TURN_NAP: Duration = Duration::from_millis(20);
/// Slower than this a backup of any size never ends.
const BYTES_PER_SECOND_MIN: u64 = 64 << 10;

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
        check_rate("backup.bytes_per_second", self.bytes_per_second)
    }
}

/// Refuses a rate at which nothing gets done.
fn check_rate(name: &str, bytes_per_second: u64) -> Result<()> {
    if bytes_per_second >= BYTES_PER_SECOND_MIN {
        return Ok(());
    }
    Err(Error::invalid(format!(
        "{name} is {bytes_per_second}; allowed is at least {BYTES_PER_SECOND_MIN}"
    )))
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

/// Makes a backup in the directory `to`, and counts it.
pub(crate) fn backup(parts: &Parts, to: &Path, options: &BackupOptions) -> Result<BackupInfo> {
    let made = backup_uncounted(parts, to, options);
    let meters = &parts.meters;
    match &made {
        Ok(info) => {
            meters.backups.fetch_add(1, Ordering::Relaxed);
            meters.backup_failures_in_a_row.store(0, Ordering::Relaxed);
            meters.last_backup_ms.store(info.made.ms, Ordering::Relaxed);
        }
        // Whoever asked for it does not want it any more.
        Err(Error::Cancelled | Error::Closed) => {}
        Err(_) => {
            meters.backup_failures.fetch_add(1, Ordering::Relaxed);
            meters.backup_failures_in_a_row.fetch_add(1, Ordering::Relaxed);
        }
    }
    made
}

fn backup_uncounted(parts: &Parts, to: &Path, options: &BackupOptions) -> Result<BackupInfo> {
    check_rate("bytes_per_second", options.bytes_per_second)?;
    let _one_at_a_time = take_turn(parts, &options.progress)?;
    let store = Store::new(parts.fs.at(to));
    let writer = store.begin(&parts.identity())?;
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

/// Waits until no other backup is under way. Whoever waits goes on as long as that one does.
fn take_turn<'a>(parts: &'a Parts, progress: &Arc<Progress>) -> Result<MutexGuard<'a, ()>> {
    let mut seen = None;
    loop {
        if let Some(turn) = parts.backing.turn.try_lock() {
            *parts.backing.under_way.lock() = progress.clone();
            return Ok(turn);
        }
        if progress.is_cancelled() || parts.is_closed.load(Ordering::Acquire) {
            return Err(Error::Cancelled);
        }
        let beats = Some(parts.backing.under_way.lock().beats());
        if seen != beats {
            progress.beat();
        }
        seen = beats;
        std::thread::sleep(TURN_NAP);
    }
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
    let start = parts.commits.roll_log(|number| {
        if begins {
            parts.archive.begin(number);
        }
    })?;
    if begins {
        begin_noting(parts, start)?;
    }
    let (state, tables) = match options.kind {
        BackupKind::Log => (parts.installer.with_state(without_tables), Vec::new()),
        kind => copy_tables(parts, &writer, kind, &mut courier)?,
    };
    // What was committed while tables were copied comes too.
    let cut = parts.commits.cut()?;
    parts.commits.sync()?;
    parts.wait_visible(cut.last)?;
    let now = note(parts, &cut)?;
    // What was archived before leads on from a backup, if that is in this store.
    let archived_from = now.archiving.filter(|_| writer.continues()).map(|it| it.from);
    let from = archived_from.unwrap_or(start);
    let segments = writer.segments(&*parts.fs, from, cut.log, &mut courier)?;
    let archiving = Archiving { from: cut.log.number, since: cut.covered };
    let State { keyspaces, next_keyspace, last_tick, ingests, .. } = now;
    let record = BackupRecord {
        identity: parts.identity(),
        number: writer.number(),
        kind: options.kind,
        parent: writer.parent(),
        made_ms: parts.clock.wall_ms(),
        covered: cut.covered,
        start,
        log: cut.log,
        state: State {
            keyspaces,
            next_keyspace,
            last_tick,
            archiving: None,
            ingests: Vec::new(),
            closed: None,
            ..state
        },
        tables,
        segments,
        ingests,
    };
    let record = writer.commit(record)?;
    let go_on = |_: &State| Edit { archiving: Some(archiving), ..Edit::default() };
    parts.record_then(go_on, |_| {})?;
    parts.archive.begin(cut.log.number);
    archive::forget(parts, cut.log.number);
    let span = Span { from_ms: record.base().ms(), until_ms: record.covered.ms() };
    Ok(BackupInfo::of(&record, record.has_tables().then_some(span)))
}

/// From now on the manifest notes bulk loads. Before any table is copied: a load that comes while they
/// are is in none of them, nor in the log.
fn begin_noting(parts: &Parts, start: u64) -> Result<()> {
    let edit = |state: &State| {
        // What is noted already may be missing in a backup that died late.
        let since = state.archiving.map_or(Tick::ZERO, |archiving| archiving.since);
        Edit { archiving: Some(Archiving { from: start, since }), ..Edit::default() }
    };
    parts.record_then(edit, |_| {})
}

/// The durable state without its tables.
fn without_tables(state: &State) -> State {
    State { version: Version::default(), ..state.clone() }
}

/// Makes sure that no commit of a later process gets a tick that the backup will claim to cover.
/// Returns the durable state at the cut, or a little later.
fn note(parts: &Parts, cut: &Cut) -> Result<State> {
    let mut noted = State::default();
    let edit = |_: &State| Edit { last_tick: Some(cut.covered), ..Edit::default() };
    parts.record_then(edit, |state| noted = without_tables(state))?;
    Ok(noted)
}

/// Flushes what was committed so far, and copies the tables of that moment.
fn copy_tables(
    parts: &Parts,
    writer: &BackupWriter<'_>,
    kind: BackupKind,
    courier: &mut Courier<'_>,
) -> Result<(State, Vec<StoredTable>)> {
    let last = parts.commits.freeze_active()?;
    parts.commits.sync()?;
    parts.wait_visible(last)?;
    jobs::flush_up_to(parts, last)?;
    // The view keeps its tables from being deleted.
    let (_view, state) = stable_state(parts);
    let sharing = match kind {
        BackupKind::Full => Sharing::Nothing,
        BackupKind::Incremental | BackupKind::Log => Sharing::Tables,
    };
    courier.expect(state.version.bytes());
    let copied =
        state.version.tables().map(|meta| writer.table(&*parts.fs, meta, sharing, courier));
    let tables = copied.collect::<Result<Vec<StoredTable>>>()?;
    Ok((state, tables))
}
