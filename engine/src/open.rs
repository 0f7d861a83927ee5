//! From a directory to a running database, and back.

use crate::archive::Archive;
use crate::backup::Backing;
use crate::bell::Bell;
use crate::catalog::Catalog;
use crate::changes::ChangePins;
use crate::commit::{Bells, Brakes, Commits, Queue};
use crate::compaction::forgettable::Stubborn;
use crate::damage::Damage;
use crate::install::{Installer, table_ranges};
use crate::jobs;
use crate::memtable::Memtable;
use crate::obsolete::Obsolete;
use crate::options::{Background, Create, Options};
use crate::origins::Origins;
use crate::parts::Parts;
use crate::pressure::Pressure;
use crate::range_map::RangeMap;
use crate::replay::Replay;
use crate::replicate::{Admissions, ClockWatch, LogIndex, Vectors};
use crate::resolver::Resolvers;
use crate::snapshot::Snapshots;
use crate::space::Space;
use crate::stats::Meters;
use crate::tables::{LiveRuns, Tables};
use crate::view::{NextView, Views};
use base::fs::{Fs, LockGuard, OsFs};
use base::lock::{Mutex, Rank};
use base::{Clock, FileName, Identity, OsRng, Result, Rng, SystemClock, Tick};
use recovery::{Plan, Progress, Recovered, Report};
use sstable::Cache;
use sstable::manifest::{Closed, Edit, ManifestLog, State};
use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32};
use wal::Appender;

/// What a database runs on. [`Platform::at`] is the real one; tests bring their own.
#[derive(Clone)]
pub struct Platform {
    /// The directory.
    pub fs: Arc<dyn Fs>,
    /// Wall clock and monotonic clock.
    pub clock: Arc<dyn Clock>,
    /// Randomness for identities and nonces.
    pub rng: Arc<dyn Rng>,
}

impl Platform {
    /// The directory `path` on this machine's disk, its clock and its randomness.
    pub fn at(path: impl AsRef<Path>) -> Platform {
        Platform {
            fs: Arc::new(OsFs::new(path.as_ref())),
            clock: Arc::new(SystemClock::default()),
            rng: Arc::new(OsRng),
        }
    }
}

impl std::fmt::Debug for Platform {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Platform {{ root: {} }}", self.fs.root().display())
    }
}

/// Recovers the directory and assembles the parts. Starts no thread.
pub(crate) fn open(
    platform: Platform,
    options: Options,
    progress: &Progress,
) -> Result<(Parts, Report)> {
    options.check()?;
    let Platform { fs, clock, rng } = platform;
    let mut replay = Replay::new(&options, clock.wall_ms());
    let plan = Plan {
        fs: fs.clone(),
        clock: clock.clone(),
        rng: rng.clone(),
        create: match options.create {
            Create::IfMissing => recovery::Create::IfMissing,
            Create::Never => recovery::Create::Never,
            Create::New => recovery::Create::New,
        },
        verify: options.verify,
        memory_bytes: options.memtable_bytes as u64 * 2,
        log: wal::LogOptions { segment_bytes: options.segment_bytes },
        archive_bytes: options.archive_bytes,
    };
    let recovered = recovery::recover(plan, &mut replay, progress)?;
    let report = recovered.report.clone();
    let ingredients = Ingredients::of(recovered, &options, &fs)?;
    let parts = assemble(ingredients, options, Platform { fs, clock, rng })?;
    parts.space.keep_reserve(parts.demand());
    let is_after_crash = !report.was_closed && !report.created;
    parts.wants_scrub.store(is_after_crash, std::sync::atomic::Ordering::Release);
    parts.number_of(parts.identity().origin())?;
    if let Some(edit) = replay.edit() {
        parts.installer.record(|_| edit)?;
    }
    Ok((parts, report))
}

/// What a database is made of once the directory was read.
pub(crate) struct Ingredients {
    pub(crate) identity: Identity,
    pub(crate) generation: u64,
    pub(crate) state: State,
    pub(crate) last_tick: Tick,
    /// The clock may have been as far as this.
    pub(crate) clock_floor: Tick,
    /// Newest first; the first takes the writes.
    pub(crate) memtables: Vec<Arc<Memtable>>,
    pub(crate) tables: Arc<Tables>,
    pub(crate) runs: LiveRuns,
    pub(crate) ranges: RangeMap,
    /// None if the database is only read.
    pub(crate) writing: Option<Writing>,
}

/// What only those have who write.
pub(crate) struct Writing {
    lock: LockGuard,
    manifest: ManifestLog,
    log: Appender,
}

impl Ingredients {
    fn of(recovered: Recovered, options: &Options, fs: &Arc<dyn Fs>) -> Result<Ingredients> {
        let Recovered { lock, identity, generation, manifest, state, log, last_tick, report } =
            recovered;
        // A clean close knows every tick that was used.
        let clock_floor = if report.was_closed { Tick::ZERO } else { state.clock_bound };
        let cache = Cache::new(options.cache_bytes());
        let damage = Arc::new(Damage::new(options.on_corruption, Arc::default()));
        let tables = Arc::new(Tables::new(fs.clone(), identity.database, cache, damage));
        let runs = LiveRuns::of(&state.version, &tables);
        let ranges = table_ranges(&runs)?;
        let active =
            Arc::new(Memtable::new(options.memtable_bytes, 0, last_tick, identity.origin())?);
        Ok(Ingredients {
            identity,
            generation,
            state,
            last_tick,
            clock_floor,
            memtables: vec![active],
            tables,
            runs,
            ranges,
            writing: Some(Writing { lock, manifest, log }),
        })
    }
}

/// What reads see first: the first memtable takes the writes, or a `fresh` one if there is none.
fn first_view(
    memtables: Vec<Arc<Memtable>>,
    fresh: impl FnOnce() -> Result<Memtable>,
    runs: LiveRuns,
    ranges: RangeMap,
) -> Result<NextView> {
    let mut memtables = memtables.into_iter();
    let active = match memtables.next() {
        Some(active) => active,
        None => Arc::new(fresh()?),
    };
    let (frozen, runs, table_ranges) = (memtables.collect(), Arc::new(runs), Arc::new(ranges));
    Ok(NextView { active, frozen, runs, table_ranges })
}

fn apart(writing: Option<Writing>) -> (Option<LockGuard>, Option<ManifestLog>, Option<Appender>) {
    match writing {
        Some(Writing { lock, manifest, log }) => (Some(lock), Some(manifest), Some(log)),
        None => (None, None, None),
    }
}

fn bells_of(background: Background, flush_bell: &Arc<Bell>, log_bell: &Arc<Bell>) -> Bells {
    let are_heard = background == Background::On;
    Bells { frozen: flush_bell.clone(), log: log_bell.clone(), are_heard }
}

fn space_of(fs: &Arc<dyn Fs>, options: &Options, log_bell: &Arc<Bell>) -> Arc<Space> {
    let (reserve, segment) = (options.reserve_bytes, options.segment_bytes);
    Arc::new(Space::new(fs.clone(), reserve, segment, log_bell.clone()))
}

/// Makes the parts work together. Writes nothing.
pub(crate) fn assemble(
    ingredients: Ingredients,
    options: Options,
    platform: Platform,
) -> Result<Parts> {
    let Ingredients {
        identity,
        generation,
        state,
        last_tick,
        clock_floor,
        memtables,
        tables,
        runs,
        ranges,
        writing,
    } = ingredients;
    let Platform { fs, clock, rng } = platform;
    let fresh = || Memtable::new(options.memtable_bytes, 0, last_tick, identity.origin());
    let first = first_view(memtables, fresh, runs, ranges)?;
    let active = first.active.clone();
    let origins = Arc::new(Origins::of(&state, identity.origin()));
    let views = Arc::new(Views::new(first, origins.clone()));
    let (lock, manifest, log) = apart(writing);
    let (catalog, damage) = (Catalog::of(state.keyspaces.values()), tables.damage().clone());
    let (archive, pressure) = (Archive::new(state.archiving, &*fs), Arc::new(Pressure::default()));
    let (flush_bell, log_bell) = (Arc::new(Bell::default()), Arc::new(Bell::default()));
    let bells = bells_of(options.background, &flush_bell, &log_bell);
    let space = space_of(&fs, &options, &log_bell);
    let vectors = Vectors::new(identity.origin(), &state.vectors);
    let mut queue =
        Queue::new(log, last_tick, vectors, LogIndex::new(options.segment_bytes), active);
    queue.observe(clock_floor);
    let clock_watch = Arc::new(ClockWatch::new(options.max_drift_ms(), state.clock_bound));
    let commits = Commits::new(
        queue,
        last_tick,
        views.clone(),
        clock.clone(),
        Brakes {
            pressure: pressure.clone(),
            space: space.clone(),
            damage: damage.clone(),
            clock_watch: clock_watch.clone(),
        },
        options.memtable_bytes,
        bells,
    );
    let installer = Installer::new(
        manifest,
        state,
        fs.clone(),
        rng.clone(),
        tables.clone(),
        views.clone(),
        space.clone(),
    );
    let parts = Parts {
        backing: Backing::of(&options),
        options,
        fs,
        opened_at: clock.monotonic(),
        clock,
        rng,
        opened_as: identity,
        generation,
        commits: Arc::new(commits),
        views,
        snapshots: Arc::new(Snapshots::default()),
        catalog,
        origins,
        tables,
        installer,
        obsolete: Obsolete::default(),
        pressure,
        space,
        compaction_bell: damage.bell().clone(),
        damage,
        scrub_bell: Arc::new(Bell::default()),
        wants_scrub: AtomicBool::new(false),
        meters: Meters::default(),
        pins: ChangePins::new(last_tick),
        archive,
        admissions: Admissions::default(),
        resolvers: Resolvers::default(),
        clock_watch,
        backup_bell: Arc::new(Bell::default()),
        flushing: Mutex::new(Rank::Jobs, ()),
        flush_failures: AtomicU32::new(0),
        compacting: Mutex::new(Rank::Jobs, Stubborn::default()),
        flush_bell,
        log_bell,
        trouble: Mutex::new(Rank::Stats, BTreeMap::new()),
        is_closed: AtomicBool::new(false),
        is_read_only: lock.is_none(),
        lock: Mutex::new(Rank::Lifecycle, lock),
    };
    parts.update_pressure();
    Ok(parts)
}

/// Flushes what is in memory, marks the clean close, and lets the directory go. Threads must have
/// stopped. Whatever fails, the directory is let go.
pub(crate) fn close(parts: &Parts) -> Result<()> {
    if parts.is_read_only {
        return Ok(());
    }
    let result = close_files(parts);
    drop(parts.commits.with_queue(|queue| queue.close()));
    parts.installer.abandon();
    *parts.lock.lock() = None;
    result
}

fn close_files(parts: &Parts) -> Result<()> {
    // Whoever compacts is told to stop.
    drop(parts.compacting.lock());
    parts.commits.check_writable()?;
    parts.commits.with_queue(|queue| queue.begin_close());
    parts.commits.sync()?;
    let last = parts.commits.freeze_active()?;
    parts.commits.wait_visible(last)?;
    jobs::flush_up_to(parts, last)?;
    let (log, used) = parts.commits.with_queue(|queue| (queue.close(), queue.used()));
    let Some(mut log) = log else { return Ok(()) };
    let useless = log.give_up_spare();
    useless.into_iter().for_each(|segment| parts.installer.free(FileName::Segment(segment)));
    let log_end = log.finish()?;
    parts.installer.close(|_| Edit {
        flushed: Some(used),
        last_tick: Some(used),
        log_end: Some(log_end),
        closed: Some(Closed { log_end }),
        ..Edit::default()
    })?;
    // A log that ends elsewhere than where it was closed would be read when it is opened.
    parts.obsolete.delete(parts);
    Ok(())
}
