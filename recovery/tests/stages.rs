//! The twelve stages as users meet them: every error is reachable, an open can be called off, what a
//! failed one has made is taken back, and a slow stage is reported.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

use base::clock::ManualClock;
use base::fs::{
    AppendFile, CrashModel, DirEntry, Fault, FaultPlan, Fs, LockError, LockGuard, ReadFile, SimFs,
    SimOp, Space,
};
use base::rng::SeededRng;
use base::{Clock, FileName, RelPath, Tick};
use engine::{
    Background, Create, Db, Error, KeyspaceOptions, Options, Platform, Progress, Scope, Stage,
    StageLimits, Verify,
};
use recovery::{FlushTarget, ReplaySink};
use sstable::TableMeta;
use sstable::manifest::{Edit, ManifestLog, read_root, replay, write_root};
use std::collections::BTreeSet;
use std::io;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

fn small() -> Options {
    Options {
        create: Create::Never,
        memtable_bytes: 64 << 10,
        memory_bytes: 2 << 20,
        block_bytes: 512,
        table_bytes: 64 << 10,
        segment_bytes: 64 << 10,
        background: Background::Off,
        ..Options::default()
    }
}

fn platform(fs: impl Fs) -> Platform {
    let (clock, rng) = (Arc::new(ManualClock::at(1_700_000_000_000)), Arc::new(SeededRng::new(7)));
    Platform { fs: Arc::new(fs), clock, rng }
}

fn open(fs: &SimFs) -> engine::Result<Db> {
    Db::open_on(platform(fs.clone()), small())
}

/// What a killed process leaves: a table, and commits that are only in the log and are promised.
fn sample() -> SimFs {
    let fs = SimFs::new(5);
    let db = Db::open_on(platform(fs.clone()), Options { create: Create::New, ..small() }).unwrap();
    let users = db.keyspace("users", KeyspaceOptions::default()).unwrap();
    for n in 0..30 {
        users.put(format!("key {n}"), b"flushed").unwrap();
    }
    db.flush().unwrap();
    for n in 30..60 {
        users.put(format!("key {n}"), b"logged").unwrap();
    }
    fs.crash(CrashModel::Kill)
}

fn the_only(fs: &SimFs, folder: &str) -> RelPath {
    let mut files = fs.files();
    files.retain(|file| file.as_str().starts_with(folder));
    assert_eq!(files.len(), 1, "{files:?}");
    files.remove(0)
}

fn rewrite(fs: &SimFs, path: &RelPath, change: impl FnOnce(&mut Vec<u8>)) {
    let mut bytes = fs.read_file(path).unwrap();
    change(&mut bytes);
    fs.write_file(path, bytes).unwrap();
}

fn flip(fs: &SimFs, path: &RelPath, at: usize) {
    rewrite(fs, path, |bytes| bytes[at] ^= 1);
}

fn forge_identity(fs: &SimFs, at: usize, byte: u8) {
    rewrite(fs, &FileName::Identity.path(), |bytes| {
        bytes[at] = byte;
        let key = blake3::derive_key("esker identity v1", b"");
        let digest = blake3::keyed_hash(&key, &bytes[..104]);
        bytes[104..].copy_from_slice(digest.as_bytes());
    });
}

fn all(fs: &SimFs) -> Vec<(RelPath, Vec<u8>)> {
    let files = fs.files().into_iter().filter(|path| *path != FileName::Lock.path());
    files.map(|path| (path.clone(), fs.read_file(&path).unwrap())).collect()
}

/// What a case does to a database before it is opened; it may open it itself.
type Case = fn(&SimFs) -> engine::Result<()>;

fn damaged(fs: &SimFs) -> engine::Result<()> {
    let before = all(fs);
    let result = open(fs).map(drop);
    assert!(result.is_ok() || all(fs) == before, "a refused open changed something");
    result
}

const CASES: &[(&str, Case)] = &[
    ("Locked", |fs| {
        let _first = open(fs).unwrap();
        open(fs).map(drop)
    }),
    ("NotADatabase", |_| damaged(&SimFs::new(1))),
    ("AlreadyExists", |fs| {
        Db::open_on(platform(fs.clone()), Options { create: Create::New, ..small() }).map(drop)
    }),
    ("Permission", |fs| {
        Db::open_on(platform(Narrow { fs: fs.clone(), handles: 1 << 20, denies: true }), small())
            .map(drop)
    }),
    ("FormatUnsupported", |fs| {
        forge_identity(fs, 7, 2);
        damaged(fs)
    }),
    ("IdentityCorrupt", |fs| {
        flip(fs, &FileName::Identity.path(), 40);
        damaged(fs)
    }),
    ("IdentityMissing", |fs| {
        fs.remove_file(&FileName::Identity.path()).unwrap();
        damaged(fs)
    }),
    ("KeyUnavailable", |fs| {
        forge_identity(fs, 12, 9);
        damaged(fs)
    }),
    ("ResourceShort", |fs| {
        fs.set_free(1 << 20);
        damaged(fs)
    }),
    ("Inventory", |fs| {
        fs.remove_file(&FileName::CurrentCopy.path()).unwrap();
        fs.create_dir(&FileName::CurrentCopy.path()).unwrap();
        damaged(fs)
    }),
    ("RootCorrupt", |fs| {
        flip(fs, &FileName::Current.path(), 60);
        flip(fs, &FileName::CurrentCopy.path(), 60);
        damaged(fs)
    }),
    ("RootMissing", |fs| {
        fs.remove_file(&FileName::Current.path()).unwrap();
        fs.remove_file(&FileName::CurrentCopy.path()).unwrap();
        damaged(fs)
    }),
    ("StaleManifest", |fs| {
        let manifest = the_only(fs, "manifest/");
        let old = [FileName::Current.path(), FileName::CurrentCopy.path(), manifest];
        let old = old.map(|path| (fs.read_file(&path).unwrap(), path));
        let db = open(fs).unwrap();
        db.existing_keyspace("users").unwrap().put(b"new", b"commit").unwrap();
        drop(db);
        old.into_iter().for_each(|(bytes, path)| fs.write_file(&path, bytes).unwrap());
        damaged(fs)
    }),
    ("ManifestCorrupt", |fs| {
        flip(fs, &the_only(fs, "manifest/"), 100);
        damaged(fs)
    }),
    ("ManifestMissing", |fs| {
        fs.remove_file(&the_only(fs, "manifest/")).unwrap();
        damaged(fs)
    }),
    ("VersionInvalid", |fs| {
        let root = read_root(fs).unwrap().root;
        let state = replay(fs, &root).unwrap().state;
        let (rng, number) = (SeededRng::new(1), root.manifest + 1);
        let generation = root.generation;
        let mut log =
            ManifestLog::create(fs, &rng, root.database, generation, number, &state).unwrap();
        log.append(&Edit { removed: vec![4711], ..Edit::default() }).unwrap();
        write_root(fs, log.root()).unwrap();
        log.finish().unwrap();
        let refused = damaged(fs);
        assert!(refused.as_ref().is_err_and(|it| it.to_string().contains("that leaves was there")));
        refused
    }),
    ("TableMissing", |fs| {
        fs.remove_file(&the_only(fs, "tables/")).unwrap();
        damaged(fs)
    }),
    ("TableCorrupt", |fs| {
        flip(fs, &the_only(fs, "tables/"), 50);
        assert!(Db::open_on(platform(fs.crash(CrashModel::Kill)), small()).is_ok(), "quick");
        Db::open_on(platform(fs.clone()), Options { verify: Verify::Paranoid, ..small() }).map(drop)
    }),
    ("WalCorrupt", |fs| {
        flip(fs, &the_only(fs, "wal/"), 4400);
        damaged(fs)
    }),
    ("WalMissing", |fs| {
        fs.remove_file(&the_only(fs, "wal/")).unwrap();
        damaged(fs)
    }),
    ("WalForeign", |fs| {
        let other = SimFs::new(2);
        let options = Options { create: Create::New, ..small() };
        let seeds = Platform { rng: Arc::new(SeededRng::new(8)), ..platform(other.clone()) };
        drop(Db::open_on(seeds, options).unwrap());
        let segment = the_only(&other, "wal/");
        fs.write_file(&the_only(fs, "wal/"), other.read_file(&segment).unwrap()).unwrap();
        damaged(fs)
    }),
    ("ReplayInvariant", |fs| {
        let Platform { fs: shared, clock, rng } = platform(fs.clone());
        let plan = recovery::Plan {
            fs: shared,
            clock,
            rng,
            create: recovery::Create::Never,
            verify: Verify::Quick,
            memory_bytes: 1 << 20,
            log: wal::LogOptions { segment_bytes: 64 << 10 },
            archive_bytes: 0,
        };
        let mut recovered = recovery::recover(plan, &mut Forgets, &Progress::default()).unwrap();
        recovered.log.append(recovered.last_tick.next(), b"no records").unwrap();
        drop(recovered);
        damaged(fs)
    }),
    ("CommitFailed", |fs| {
        fs.inject(FaultPlan::new(SimOp::Append, Fault::BitFlip(900)).on("manifest/"));
        damaged(fs)
    }),
    ("Cancelled", |fs| {
        let progress = Progress::default();
        progress.cancel();
        Db::open_with_progress(platform(fs.clone()), small(), &progress).map(drop)
    }),
    ("ConfigMismatch", |fs| {
        let db = open(fs).unwrap();
        let local = KeyspaceOptions { scope: Scope::Local, ..KeyspaceOptions::default() };
        db.keyspace("users", local).map(drop)
    }),
];

/// Takes commits and forgets them.
struct Forgets;

impl ReplaySink for Forgets {
    fn insert(&mut self, _: Tick, _: &[u8]) -> engine::Result<()> {
        Ok(())
    }

    fn memory(&self) -> u64 {
        0
    }

    fn flush(&mut self, _: &FlushTarget) -> engine::Result<Vec<TableMeta>> {
        Ok(Vec::new())
    }
}

#[test]
fn every_error_of_every_stage_is_reached_and_says_what_to_do() {
    for (code, case) in CASES {
        let error = case(&sample()).err().unwrap_or_else(|| panic!("{code}: it opens"));
        assert_eq!(error.code(), *code, "{error}");
        assert!(!error.action().is_empty() && !error.to_string().is_empty(), "{code}");
        let is_about_a_file = !matches!(
            error,
            Error::ResourceShort { .. } | Error::ConfigMismatch { .. } | Error::Cancelled
        );
        assert_eq!(error.path().is_some(), is_about_a_file, "{code} names no file");
    }
    let reached: BTreeSet<&str> = CASES.iter().map(|(code, _)| *code).collect();
    let listed = Stage::ALL.into_iter().flat_map(Stage::errors).copied();
    let missing: Vec<&str> = listed.filter(|code| !reached.contains(code)).collect();
    assert!(missing.is_empty(), "no case reaches {missing:?}");
}

/// What can not be set aside does not keep the database from opening.
#[test]
fn a_quarantine_that_fails_is_a_warning_and_the_evidence_stays() {
    let fs = sample();
    let segment = the_only(&fs, "wal/");
    rewrite(&fs, &segment, |bytes| {
        let end = bytes.iter().rposition(|byte| *byte != 0).unwrap();
        bytes[end - 5] ^= 1;
    });
    fs.inject(FaultPlan::new(SimOp::CreateDir, Fault::Io).on("quarantine"));
    let db = open(&fs).unwrap();
    let warnings = &db.recovery_report().warnings;
    assert!(warnings.iter().any(|it| it.contains("QuarantineFailed")), "{warnings:?}");
    assert!(fs.files().contains(&segment), "the torn segment is still there");
}

/// A clock that moves a second a reading, and calls the open off at one of them.
struct Calling {
    readings: AtomicU64,
    at: u64,
    progress: Arc<Progress>,
}

impl Clock for Calling {
    fn wall_ms(&self) -> u64 {
        1_700_000_000_000
    }

    fn monotonic(&self) -> Duration {
        let reading = self.readings.fetch_add(1, Ordering::SeqCst) + 1;
        if reading == self.at {
            self.progress.cancel();
        }
        Duration::from_secs(reading)
    }
}

fn open_calling(fs: &SimFs, at: u64, progress: Arc<Progress>) -> engine::Result<Db> {
    let clock = Calling { readings: AtomicU64::new(0), at, progress: progress.clone() };
    let platform = Platform { clock: Arc::new(clock), ..platform(fs.clone()) };
    Db::open_with_progress(platform, small(), &progress)
}

/// The clock is read when a stage begins and when it ends.
#[test]
fn an_open_called_off_at_any_stage_before_the_switch_leaves_the_directory_as_it_was() {
    let image = sample();
    for reading in 1..=24 {
        let fs = image.crash(CrashModel::Kill);
        let before = all(&fs);
        let progress = Arc::new(Progress::default());
        let result = open_calling(&fs, reading, progress.clone());
        let last = progress.stage();
        if reading <= 2 * Stage::Replay as u64 {
            let error = result.map(drop).unwrap_err();
            assert!(matches!(error, Error::Cancelled), "{last:?}: {error}");
            assert_eq!(last, Stage::from_number(reading.div_ceil(2) as u8));
            assert!(all(&fs) == before, "{last:?}: something was left behind");
            assert!(open(&fs).is_ok());
        } else {
            assert!(result.is_ok(), "{last:?}: too late to call it off");
        }
    }
}

#[test]
fn a_slow_stage_is_reported_with_its_limit_and_nothing_is_called_off() {
    let open_with = |limits: StageLimits| {
        let db = open_calling(&sample(), 0, Arc::new(Progress::with_limits(limits))).unwrap();
        let report = db.recovery_report().clone();
        assert!(report.stages.iter().all(|(_, took)| *took == Duration::from_secs(1)));
        assert_eq!(report.stages.len(), 12);
        report.warnings
    };
    assert_eq!(open_with(StageLimits::default()), [""; 0]);
    assert_eq!(open_with(StageLimits::all(Duration::from_millis(900))).len(), 12);
    let limits = StageLimits::default().with(Stage::Log, Duration::ZERO);
    let warnings = open_with(limits);
    assert_eq!(warnings.len(), 1);
    let warning = &warnings[0];
    assert!(warning.contains("validate the log") && warning.contains("stage 9"), "{warning}");
    assert!(warning.contains("1s") && warning.contains("0ns"), "{warning}");
}

/// Wherever an open dies that takes back what it made, what is left of that is what came first.
#[test]
fn what_a_failed_open_has_made_is_taken_back_newest_first() {
    let image = sample();
    let before: BTreeSet<String> = names(&image);
    let fail_at = |stop: u64| {
        let fs = image.crash(CrashModel::Kill);
        fs.inject(FaultPlan::new(SimOp::Create, Fault::Io).on("CURRENT.tmp"));
        fs.stop_after(stop);
        assert!(open(&fs).is_err());
        fs
    };
    let ops = fail_at(u64::MAX).ops();
    assert_eq!(names(&fail_at(u64::MAX)), before, "all of it is taken back");
    let mut made: Vec<String> = Vec::new();
    let mut is_full = false;
    for stop in 0..=ops {
        let here: BTreeSet<String> = names(&fail_at(stop)).difference(&before).cloned().collect();
        if here.len() > made.len() {
            assert!(!is_full, "something is made after a part was taken back");
            made.extend(
                here.iter().filter(|name| !made.contains(name)).cloned().collect::<Vec<_>>(),
            );
        }
        is_full |= here.len() < made.len();
        let oldest: BTreeSet<String> = made.iter().take(here.len()).cloned().collect();
        assert_eq!(here, oldest, "at {stop}: not the newest was taken back first");
    }
    assert!(made.len() >= 3 && is_full, "table, segment and manifest: {made:?}");
}

fn names(fs: &SimFs) -> BTreeSet<String> {
    let files = fs.files().into_iter().map(|path| path.as_str().to_owned());
    files.filter(|path| path != "LOCK").collect()
}

#[test]
fn the_default_options_open_a_fresh_directory_with_few_file_handles_left() {
    for handles in [40, 64, 1 << 20] {
        let fs = SimFs::new(1);
        for _ in 0..2 {
            let narrow = Narrow { fs: fs.clone(), handles, denies: false };
            let db = Db::open_on(platform(narrow), Options::default()).unwrap();
            db.keyspace("k", KeyspaceOptions::default()).unwrap().put(b"a", b"b").unwrap();
            db.close().unwrap();
        }
    }
}

/// A disk with few file handles left, or one that denies its lock.
#[derive(Clone, Debug)]
struct Narrow {
    fs: SimFs,
    handles: u64,
    denies: bool,
}

impl Fs for Narrow {
    fn root(&self) -> &Path {
        self.fs.root()
    }
    fn open(&self, path: &RelPath) -> io::Result<Arc<dyn ReadFile>> {
        self.fs.open(path)
    }
    fn create(&self, path: &RelPath, preallocate: u64) -> io::Result<Box<dyn AppendFile>> {
        self.fs.create(path, preallocate)
    }
    fn create_dir(&self, path: &RelPath) -> io::Result<()> {
        self.fs.create_dir(path)
    }
    fn rename(&self, from: &RelPath, to: &RelPath) -> io::Result<()> {
        self.fs.rename(from, to)
    }
    fn link(&self, from: &RelPath, target: &dyn Fs, to: &RelPath) -> io::Result<()> {
        self.fs.link(from, target, to)
    }
    fn remove(&self, path: &RelPath) -> io::Result<()> {
        self.fs.remove(path)
    }
    fn list(&self, path: &RelPath) -> io::Result<Vec<DirEntry>> {
        self.fs.list(path)
    }
    fn sync_dir(&self, path: &RelPath) -> io::Result<()> {
        self.fs.sync_dir(path)
    }
    fn lock(&self, path: &RelPath) -> Result<LockGuard, LockError> {
        match self.denies {
            true => Err(LockError::Io(io::ErrorKind::PermissionDenied.into())),
            false => self.fs.lock(path),
        }
    }
    fn space(&self) -> io::Result<Space> {
        Ok(Space { handles: self.handles, ..self.fs.space()? })
    }
    fn at(&self, root: &Path) -> Arc<dyn Fs> {
        self.fs.at(root)
    }
}
