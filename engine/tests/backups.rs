//! Backups of a running database, cut short, pruned, scheduled, and what they refuse.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod fixture;

use base::fs::{CrashModel, Fs};
use esker::{
    Attempted, BackupGuard, BackupInfo, BackupKind, BackupOptions, BackupSchedule, Backups, Batch,
    Create, Db, Error, MakeBackup, Options, Platform, Progress, RestorePoint, Status, SyncMode,
};
use fixture::{Content, Dice, Disk, content, keyspace, small, small_busy};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::time::Duration;

const STORE: &str = "/backups";

fn options(kind: BackupKind) -> BackupOptions {
    BackupOptions { kind, bytes_per_second: u64::MAX, ..BackupOptions::default() }
}

fn back_up(db: &Db, kind: BackupKind) -> BackupInfo {
    db.backup(STORE, &options(kind)).unwrap()
}

fn at(disk: &Disk, path: &str) -> Platform {
    Platform { fs: disk.fs.at(Path::new(path)), ..disk.platform() }
}

fn backups(disk: &Disk) -> Backups {
    Backups::open_on(at(disk, STORE)).unwrap()
}

fn advance(disk: &Disk, ms: u64) {
    use base::Clock;
    disk.clock.set(disk.clock.wall_ms() + ms);
}

/// What the keyspace `k` of the database at `path` holds.
fn content_at(disk: &Disk, path: &str) -> Content {
    let db = Db::open_on(at(disk, path), Options { create: Create::Never, ..small() }).unwrap();
    content(&keyspace(&db, "k"))
}

fn restored(disk: &Disk, path: &str, point: RestorePoint) -> Content {
    backups(disk).restore(path, point, &Progress::default()).unwrap();
    content_at(disk, path)
}

/// Two backups, and commits since.
fn prepare() -> (Disk, Db, [Content; 2]) {
    let disk = Disk::new(3);
    let db = disk.open(small());
    let k = keyspace(&db, "k");
    let mut contents = Vec::new();
    for (round, kind) in [BackupKind::Full, BackupKind::Incremental].into_iter().enumerate() {
        for number in 0..20u8 {
            k.put([round as u8, number], [number; 100]).unwrap();
        }
        back_up(&db, kind);
        contents.push(content(&k));
        advance(&disk, 5);
    }
    k.put(b"since", b"then").unwrap();
    (disk, db, contents.try_into().unwrap())
}

/// At every change of the disk, with every kind of crash: what was backed up stays whole, and the next
/// backup works and clears away what was left.
#[test]
fn a_backup_cut_short_anywhere_harms_no_earlier_one() {
    cut_short_anywhere(BackupKind::Full);
}

/// The record of the one that died may be there already, and what it brought comes once more.
#[test]
fn a_backup_of_the_log_cut_short_anywhere_harms_no_earlier_one() {
    cut_short_anywhere(BackupKind::Log);
}

fn cut_short_anywhere(kind: BackupKind) {
    let (disk, db, _) = prepare();
    let start = disk.fs.ops();
    back_up(&db, kind);
    let end = disk.fs.ops();
    assert!(end - start > 12, "{}", end - start);
    for stop in start..end {
        for model in [CrashModel::Kill, CrashModel::Synced, CrashModel::Directory] {
            let (disk, db, [first, second]) = prepare();
            disk.fs.stop_after(stop);
            // Only tidying up may fail without a word.
            let has_failed = db.backup(STORE, &options(kind)).is_err();
            assert!(has_failed || stop + 12 > end, "{stop} of {end}");
            let disk = Disk { fs: disk.fs.crash(model), clock: disk.clock.clone() };
            let listing = backups(&disk).list().unwrap();
            assert!(listing.damaged.is_empty() && listing.backups.len() >= 2, "{stop} {model:?}");
            let verified = backups(&disk).verify(&Progress::default()).unwrap();
            assert_eq!(verified.findings, [], "{stop} {model:?}");
            let covered = |at: usize| RestorePoint::Moment(listing.backups[at].covered.ms);
            assert_eq!(restored(&disk, "/first", covered(0)), first, "{stop} {model:?}");
            assert_eq!(restored(&disk, "/second", covered(1)), second, "{stop} {model:?}");

            let db = disk.open(small());
            let k = keyspace(&db, "k");
            assert_eq!(k.get(b"since").unwrap().unwrap(), b"then");
            advance(&disk, 5);
            back_up(&db, BackupKind::Log);
            let listing = backups(&disk).list().unwrap();
            assert!(listing.damaged.is_empty(), "{stop} {model:?} {:?}", listing.damaged);
            assert_eq!(restored(&disk, "/log", RestorePoint::Newest), content(&k));
            advance(&disk, 5);
            back_up(&db, BackupKind::Incremental);
            assert_eq!(restored(&disk, "/third", RestorePoint::Newest), content(&k));
            let verified = backups(&disk).verify(&Progress::default()).unwrap();
            assert_eq!(verified.findings, [], "{stop} {model:?}");
            let files = disk.fs.files().into_iter().map(|file| file.as_str().to_owned());
            let temps = files.filter(|file| file.ends_with(".tmp")).count();
            assert_eq!(temps, 0, "{stop} {model:?}");
        }
    }
}

#[test]
fn pruning_cut_short_anywhere_loses_nothing_that_is_kept() {
    let (disk, db, _) = prepare();
    back_up(&db, BackupKind::Incremental);
    let start = disk.fs.ops();
    let pruned = backups(&disk).prune(1).unwrap();
    assert_eq!(pruned.backups, [1, 2]);
    let end = disk.fs.ops();
    for stop in start..end {
        for model in [CrashModel::Kill, CrashModel::Synced, CrashModel::Directory] {
            let (disk, db, _) = prepare();
            let k = keyspace(&db, "k");
            back_up(&db, BackupKind::Incremental);
            disk.fs.stop_after(stop);
            let _ = backups(&disk).prune(1);
            let disk = Disk { fs: disk.fs.crash(model), clock: disk.clock.clone() };
            let verified = backups(&disk).verify(&Progress::default()).unwrap();
            assert_eq!(verified.findings, [], "{stop} {model:?}");
            backups(&disk).prune(1).unwrap();
            assert_eq!(backups(&disk).list().unwrap().backups.len(), 1);
            let at_end = restored(&disk, "/last", RestorePoint::Newest);
            assert_eq!(at_end.get(b"since".as_slice()).unwrap(), b"then", "{stop} {model:?}");
            drop(k);
        }
    }
}

/// A restore that dies leaves no database; one that fails leaves nothing.
#[test]
fn a_restore_cut_short_is_no_database() {
    let (disk, _db, [_, second]) = prepare();
    let start = disk.fs.ops();
    backups(&disk).restore("/new", RestorePoint::Newest, &Progress::default()).unwrap();
    let end = disk.fs.ops();
    for stop in start..end {
        let (disk, _db, _) = prepare();
        disk.fs.stop_after(stop);
        backups(&disk).restore("/new", RestorePoint::Newest, &Progress::default()).unwrap_err();
        let crashed = Disk { fs: disk.fs.crash(CrashModel::Kill), clock: disk.clock.clone() };
        let options = Options { create: Create::Never, ..small() };
        if let Ok(db) = Db::open_on(at(&crashed, "/new"), options) {
            assert_eq!(content(&keyspace(&db, "k")), second, "{stop}");
        }
        assert_eq!(restored(&crashed, "/other", RestorePoint::Newest), second, "{stop}");
    }
}

#[test]
fn a_failed_checkpoint_or_restore_leaves_nothing_behind() {
    use base::fs::{Fault, FaultPlan, SimOp};
    let (disk, db, _) = prepare();
    let mut failed = 0;
    for part in ["tables", "manifest", "IDENTITY", "CURRENT"] {
        for op in [SimOp::Create, SimOp::Link, SimOp::Append, SimOp::SyncDir, SimOp::Rename] {
            let copy = format!("/copy {part} {op:?}");
            let restored = format!("/restored {part} {op:?}");
            for target in [&copy, &restored] {
                let fault = FaultPlan::new(op, Fault::DiskFull).on(&format!("{target}/{part}"));
                disk.fs.inject(fault);
                let made = match *target == copy {
                    true => db.checkpoint(target).map(|_| ()),
                    false => {
                        let backups = backups(&disk);
                        let progress = Progress::default();
                        backups.restore(target, RestorePoint::Newest, &progress).map(|_| ())
                    }
                };
                disk.fs.clear_faults();
                if made.is_err() {
                    failed += 1;
                    let left = disk.fs.at(Path::new(target)).list(&base::RelPath::root());
                    assert!(left.is_err(), "{target} has {left:?}");
                }
            }
        }
    }
    assert!(failed > 10, "{failed}");
}

#[test]
fn a_moment_across_a_bulk_load_is_refused_and_one_around_it_is_not() {
    let disk = Disk::new(5);
    let db = disk.open(small());
    let k = keyspace(&db, "k");
    k.put(b"a", b"1").unwrap();
    back_up(&db, BackupKind::Full);
    advance(&disk, 10);
    let before = k.put(b"b", b"2").unwrap();
    advance(&disk, 10);
    let loaded = k.ingest([(b"c", b"3")]).unwrap();
    advance(&disk, 10);
    let after = k.put(b"d", b"4").unwrap();
    advance(&disk, 10);
    k.put(b"e", b"5").unwrap();
    advance(&disk, 10);
    let last = back_up(&db, BackupKind::Incremental);
    assert_eq!(restored(&disk, "/before", RestorePoint::Tick(before)).len(), 2);
    for tick in [loaded, after] {
        let point = RestorePoint::Tick(tick);
        let refused = backups(&disk).restore("/no", point, &Progress::default()).unwrap_err();
        assert_eq!(refused.code(), "InvalidInput", "{refused}");
        assert!(refused.to_string().contains("not covered"), "{refused}");
    }
    assert_eq!(restored(&disk, "/last", RestorePoint::Moment(last.covered.ms)).len(), 5);
    assert_eq!(backups(&disk).list().unwrap().spans.len(), 2);
}

/// What is loaded while the first backup copies tables is in none of them and in no segment.
#[test]
fn a_bulk_load_during_the_first_backup_is_a_barrier() {
    let disk = Disk::new(8);
    let db = disk.open(small());
    let k = keyspace(&db, "k");
    let rng = base::rng::SeededRng::new(8);
    for number in 0..60u8 {
        let mut value = [0; 1000];
        base::rng::Rng::fill(&rng, &mut value).unwrap();
        k.put([b'a', number], value).unwrap();
    }
    let progress = Arc::new(Progress::default());
    let slow = BackupOptions {
        bytes_per_second: 64 << 10,
        progress: progress.clone(),
        ..BackupOptions::default()
    };
    std::thread::scope(|scope| {
        let backup = scope.spawn(|| db.backup(STORE, &slow).unwrap());
        while progress.bytes_done() == 0 && !backup.is_finished() {
            std::thread::yield_now();
        }
        // It is copying, and then pauses for that.
        k.ingest([(b"loaded", b"1")]).unwrap();
    });
    advance(&disk, 10);
    let after = k.put(b"z", b"2").unwrap();
    advance(&disk, 10);
    back_up(&db, BackupKind::Log);
    let point = RestorePoint::Tick(after);
    let refused = backups(&disk).restore("/no", point, &Progress::default()).unwrap_err();
    assert!(refused.to_string().contains("not covered"), "{refused}");
    back_up(&db, BackupKind::Incremental);
    assert_eq!(restored(&disk, "/last", RestorePoint::Newest), content(&k));
}

/// The last one has no finished one behind it that says where it ends.
#[test]
fn damage_in_the_last_finished_segment_is_named_and_never_stored_as_whole() {
    let (disk, db, _) = prepare();
    let k = keyspace(&db, "k");
    for number in 0..20u8 {
        k.put([9, number], [number; 100]).unwrap();
    }
    db.close().unwrap();
    let db = disk.open(small());
    keyspace(&db, "k").put(b"more", b"1").unwrap();
    db.flush().unwrap();
    db.close().unwrap();
    let db = disk.open(small());
    let archived = disk.files_in("archive/");
    let files = disk.fs.files();
    let last = files.iter().rfind(|file| file.as_str().starts_with("archive/")).unwrap();
    let bytes = disk.fs.read_file(last).unwrap();
    let end = bytes.iter().rposition(|byte| *byte != 0).unwrap();
    for at in [end - 20, end] {
        disk.fs.patch_file(last, at, &[bytes[at] ^ 1]).unwrap();
        for kind in [BackupKind::Log, BackupKind::Incremental] {
            let refused = db.backup(STORE, &options(kind)).unwrap_err();
            assert_eq!(refused.code(), "WalCorrupt", "{refused}");
            assert!(refused.to_string().contains(last.as_str()), "{refused}");
        }
        assert_eq!(disk.files_in("archive/"), archived, "what was not copied stays");
        disk.fs.patch_file(last, at, &[bytes[at]]).unwrap();
    }
    back_up(&db, BackupKind::Log);
    assert_eq!(restored(&disk, "/all", RestorePoint::Newest), content(&keyspace(&db, "k")));
}

#[test]
fn files_of_others_in_the_folders_of_a_store_are_left_alone() {
    let (disk, db, _) = prepare();
    let store = disk.fs.at(Path::new("/other"));
    for folder in ["", "log"] {
        store.create_dir(&base::RelPath::folder(folder)).unwrap();
    }
    let theirs = base::RelPath::folder("log").join("messages.log").unwrap();
    store.create(&theirs, 0).unwrap().finish().unwrap();
    let refused = db.backup("/other", &options(BackupKind::Full)).unwrap_err();
    assert!(refused.to_string().contains("log/messages.log"), "{refused}");
    store.open(&theirs).unwrap();
    let store = disk.fs.at(Path::new(STORE));
    store.create(&theirs, 0).unwrap().finish().unwrap();
    back_up(&db, BackupKind::Full);
    backups(&disk).prune(1).unwrap();
    store.open(&theirs).unwrap();
}

#[test]
fn a_rate_at_which_nothing_gets_done_is_refused() {
    let (disk, db, _) = prepare();
    let slow = BackupOptions { bytes_per_second: (64 << 10) - 1, ..BackupOptions::default() };
    let refused = db.backup(STORE, &slow).unwrap_err();
    assert_eq!(refused.code(), "InvalidInput");
    assert!(refused.to_string().contains("65535; allowed is at least 65536"), "{refused}");
    let schedule = BackupSchedule { bytes_per_second: 1, ..BackupSchedule::default() };
    let options = Options { backup: Some(schedule), ..small() };
    let refused = Db::open_on(at(&disk, "/other"), options).unwrap_err();
    assert!(refused.to_string().contains("backup.bytes_per_second is 1"), "{refused}");
}

#[test]
fn a_full_archive_ends_what_can_be_restored_and_says_so() {
    let disk = Disk::new(6);
    let db = disk.open(Options { archive_bytes: 200 << 10, ..small() });
    let k = keyspace(&db, "k");
    k.put(b"a", b"1").unwrap();
    let first = back_up(&db, BackupKind::Full);
    let mut ticks = Vec::new();
    for number in 0..40u8 {
        advance(&disk, 10);
        ticks.push(k.put([b'b', number], vec![number; 20_000]).unwrap());
        db.flush().unwrap();
    }
    assert_eq!(db.health().status, Status::Degraded);
    assert!(db.health().reasons[0].contains("archive"), "{:?}", db.health());
    advance(&disk, 10);
    let second = back_up(&db, BackupKind::Incremental);
    assert!(!db.health().reasons.iter().any(|reason| reason.contains("archive")));
    let listing = backups(&disk).list().unwrap();
    assert_eq!(listing.spans.len(), 2, "{:?}", listing.spans);
    assert_eq!(listing.spans[0].from_ms, first.made.ms);
    assert_eq!(listing.spans[1].until_ms, second.covered.ms);
    assert_eq!(restored(&disk, "/early", RestorePoint::Tick(ticks[1])).len(), 3);
    let point = RestorePoint::Tick(ticks[30]);
    backups(&disk).restore("/no", point, &Progress::default()).unwrap_err();
}

/// The original goes on after it was copied back in time; their logs never mix.
#[test]
fn two_lives_share_a_store_and_not_their_logs() {
    let (disk, db, [first, _]) = prepare();
    let covered = backups(&disk).list().unwrap().backups[0].covered.ms;
    assert_eq!(restored(&disk, "/life", RestorePoint::Moment(covered)), first);
    let other = Db::open_on(at(&disk, "/life"), small()).unwrap();
    let (k, l) = (keyspace(&db, "k"), keyspace(&other, "k"));
    let mut expected = Vec::new();
    for number in 0..6u8 {
        advance(&disk, 10);
        k.put([b'x', number], b"original").unwrap();
        l.put([b'x', number], b"other").unwrap();
        let (db, keyspace) = if number % 2 == 0 { (&other, &l) } else { (&db, &k) };
        let made = back_up(db, BackupKind::Incremental);
        expected.push((made.covered.ms, content(keyspace)));
    }
    for (number, (ms, content)) in expected.iter().enumerate() {
        let path = format!("/again {number}");
        assert_eq!(restored(&disk, &path, RestorePoint::Moment(*ms)), *content, "{number}");
    }
}

struct Stop<'a>(&'a AtomicBool);

impl Drop for Stop<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::SeqCst);
    }
}

#[test]
fn writers_go_on_during_a_backup_and_it_is_one_moment() {
    let dir = tempfile::tempdir().unwrap();
    let db_options = Options { sync: SyncMode::Async, ..small_busy() };
    let db = Db::open(dir.path().join("data"), db_options).unwrap();
    let (a, b) = (keyspace(&db, "a"), keyspace(&db, "b"));
    let is_done = AtomicBool::new(false);
    let store = dir.path().join("store");
    std::thread::scope(|scope| {
        // Also if this thread fails.
        let _stop = Stop(&is_done);
        scope.spawn(|| {
            for number in 0u32.. {
                let mut batch = Batch::new();
                for keyspace in [&a, &b] {
                    batch.put(keyspace, (number % 997).to_be_bytes(), number.to_be_bytes());
                }
                db.write(batch).unwrap();
                if is_done.load(Ordering::SeqCst) {
                    return;
                }
            }
        });
        for round in 0..8 {
            let kind = if round % 3 == 0 { BackupKind::Full } else { BackupKind::Incremental };
            let made = db.backup(&store, &options(kind)).unwrap();
            let copy = dir.path().join(format!("copy {round}"));
            let moment = RestorePoint::Moment(made.covered.ms);
            let backups = Backups::open(&store).unwrap();
            backups.restore(&copy, moment, &Progress::default()).unwrap();
            let copied = Db::open(&copy, small()).unwrap();
            let content = content(&keyspace(&copied, "a"));
            assert_eq!(content, fixture::content(&keyspace(&copied, "b")));
            let numbers: Vec<u32> =
                content.values().map(|v| u32::from_be_bytes(v[..].try_into().unwrap())).collect();
            if let (Some(low), Some(high)) = (numbers.iter().min(), numbers.iter().max()) {
                assert_eq!((high - low + 1) as usize, numbers.len());
            }
        }
    });
    let verified = Backups::open(&store).unwrap().verify(&Progress::default()).unwrap();
    assert_eq!((verified.backups, verified.findings.len()), (8, 0));
}

fn wait_for(what: &dyn Fn() -> bool) {
    for _ in 0..3000 {
        if what() {
            return;
        }
        std::thread::sleep(Duration::from_millis(10));
    }
    assert!(what(), "it never came");
}

/// The backups in the directory `store`, oldest first.
fn kinds_in(store: &Path) -> Vec<BackupKind> {
    let Ok(backups) = Backups::open(store) else { return Vec::new() };
    backups.list().unwrap().backups.iter().map(|info| info.kind).collect()
}

#[test]
fn a_schedule_makes_backups_and_takes_the_log_between_them() {
    let dir = tempfile::tempdir().unwrap();
    let to = dir.path().join("store");
    let schedule = BackupSchedule { to: to.clone(), keep: 2, ..BackupSchedule::default() };
    let hourly = Options {
        backup: Some(BackupSchedule { every: Duration::from_secs(3600), ..schedule.clone() }),
        ..small_busy()
    };
    let kinds = || kinds_in(&to);
    let db = Db::open(dir.path().join("data"), hourly).unwrap();
    let k = keyspace(&db, "k");
    wait_for(&|| kinds() == [BackupKind::Incremental]);
    for number in 0..40u8 {
        k.put([number], vec![number; 10_000]).unwrap();
    }
    db.flush().unwrap();
    wait_for(&|| kinds().contains(&BackupKind::Log));
    assert_eq!(db.health().status, Status::Healthy);
    let expected = content(&k);
    db.close().unwrap();
    let copy = dir.path().join("copy");
    let backups = Backups::open(&to).unwrap();
    backups.restore(&copy, RestorePoint::Newest, &Progress::default()).unwrap();
    let copied = Db::open(&copy, small()).unwrap();
    assert_eq!(content(&keyspace(&copied, "k")), expected);
}

#[test]
fn a_schedule_that_fails_is_known_to_health() {
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("file"), b"in the way").unwrap();
    let schedule = BackupSchedule { to: dir.path().join("file"), ..BackupSchedule::default() };
    let options = Options { backup: Some(schedule), ..small_busy() };
    let db = Db::open(dir.path().join("data"), options).unwrap();
    let k = keyspace(&db, "k");
    for _ in 0..3000 {
        if db.health().status == Status::Degraded {
            break;
        }
        std::thread::sleep(Duration::from_millis(10));
    }
    assert!(db.health().reasons[0].contains("backup failed"), "{:?}", db.health());
    k.put(b"still", b"works").unwrap();
    db.close().unwrap();
}

#[test]
fn a_schedule_begins_changes_and_ends_while_the_database_is_open() {
    let dir = tempfile::tempdir().unwrap();
    let (one, other) = (dir.path().join("one"), dir.path().join("other"));
    let db = Db::open(dir.path().join("data"), small_busy()).unwrap();
    keyspace(&db, "k").put(b"a", b"1").unwrap();
    let hourly = BackupSchedule {
        to: one.clone(),
        every: Duration::from_secs(3600),
        ..BackupSchedule::default()
    };
    let refused = db.schedule_backups(Some(BackupSchedule { keep: 0, ..hourly.clone() }));
    assert!(refused.unwrap_err().to_string().contains("backup.keep is 0"));
    db.schedule_backups(Some(hourly.clone())).unwrap();
    wait_for(&|| kinds_in(&one) == [BackupKind::Incremental]);

    let full = BackupSchedule { to: other.clone(), kind: BackupKind::Full, ..hourly.clone() };
    db.schedule_backups(Some(full.clone())).unwrap();
    wait_for(&|| kinds_in(&other) == [BackupKind::Full]);

    // What is due is counted from the last one, also when a period becomes shorter.
    db.schedule_backups(Some(BackupSchedule { every: Duration::from_secs(1), keep: 1, ..full }))
        .unwrap();
    wait_for(&|| db.stats().backups >= 4);
    db.schedule_backups(None).unwrap();
    std::fs::write(dir.path().join("file"), b"in the way").unwrap();
    let fails = BackupSchedule { to: dir.path().join("file"), ..hourly.clone() };
    db.schedule_backups(Some(fails)).unwrap();
    wait_for(&|| db.health().status == Status::Degraded);
    db.schedule_backups(None).unwrap();
    wait_for(&|| db.health().status == Status::Healthy);
    db.clone().close().unwrap();
    assert!(matches!(db.schedule_backups(Some(hourly)), Err(Error::Closed)));
    assert_eq!(kinds_in(&one), [BackupKind::Incremental], "the other store took its place");
}

/// Lets a backup through only when the test says so, and then twice.
#[derive(Clone, Default)]
struct Gate {
    is_open: Arc<AtomicBool>,
    asked: Arc<AtomicU32>,
}

impl BackupGuard for Gate {
    fn back_up(&self, store: &Path, make: &MakeBackup) -> esker::Result<Attempted> {
        self.asked.fetch_add(1, Ordering::SeqCst);
        if !self.is_open.load(Ordering::SeqCst) {
            return Ok(Attempted::PutOff);
        }
        let cancelled = Arc::new(Progress::default());
        cancelled.cancel();
        assert!(matches!(make(&cancelled), Err(Error::Cancelled)), "{store:?}");
        // On another thread, as one who leaves it behind would.
        let make = make.clone();
        let made = std::thread::spawn(move || make(&Arc::new(Progress::default())));
        made.join().unwrap().map(|()| Attempted::Made)
    }
}

/// How old the last backup is does not depend on when the process was started.
#[test]
fn when_the_last_backup_was_made_is_known_after_a_start() {
    let dir = tempfile::tempdir().unwrap();
    let to = dir.path().join("store");
    let every = Duration::from_secs(3600);
    let schedule = BackupSchedule { to: to.clone(), every, ..BackupSchedule::default() };
    let open = || Db::open(dir.path().join("data"), small_busy()).unwrap();
    let db = open();
    assert_eq!(db.stats().last_backup_ms, 0, "there was none");
    db.schedule_backups(Some(schedule.clone())).unwrap();
    wait_for(&|| db.stats().backups == 1);
    let last_ms = db.stats().last_backup_ms;
    assert!(last_ms > 0);
    db.close().unwrap();
    let db = open();
    assert_eq!(db.stats().last_backup_ms, 0, "nobody has looked yet");
    db.schedule_backups(Some(schedule)).unwrap();
    wait_for(&|| db.stats().last_backup_ms == last_ms);
    assert_eq!(db.stats().backups, 0, "none was made since");
    db.close().unwrap();
}

#[test]
fn a_guard_puts_backups_off_and_makes_them_when_it_likes() {
    let dir = tempfile::tempdir().unwrap();
    let to = dir.path().join("store");
    let (gate, db) = (Gate::default(), Db::open(dir.path().join("data"), small_busy()).unwrap());
    keyspace(&db, "k").put(b"a", vec![7; 100_000]).unwrap();
    db.guard_backups(gate.clone());
    let every = Duration::from_secs(3600);
    let schedule = BackupSchedule { to: to.clone(), every, ..BackupSchedule::default() };
    db.schedule_backups(Some(schedule)).unwrap();
    wait_for(&|| gate.asked.load(Ordering::SeqCst) >= 2);
    let stats = db.stats();
    assert_eq!((stats.backups, stats.backup_failures, to.exists()), (0, 0, false));
    assert_eq!(db.health().status, Status::Healthy, "nothing has failed");
    gate.is_open.store(true, Ordering::SeqCst);
    wait_for(&|| kinds_in(&to) == [BackupKind::Incremental]);
    db.close().unwrap();
}

#[test]
fn who_waits_for_another_backup_goes_on_with_it_and_can_be_called_off() {
    let (disk, mut dice) = (Disk::new(1), Dice::of(1));
    let db = disk.open(small());
    let k = keyspace(&db, "k");
    for number in 0..1500u32 {
        let noise: Vec<u8> = (0..1000).map(|_| dice.below(256) as u8).collect();
        k.put(number.to_be_bytes(), noise).unwrap();
    }
    let [first, second, third] = [(); 3].map(|()| Arc::new(Progress::default()));
    let slow = |progress: &Arc<Progress>| BackupOptions {
        bytes_per_second: 64 << 10,
        progress: progress.clone(),
        ..BackupOptions::default()
    };
    std::thread::scope(|scope| {
        let (slow, db) = (&slow, &db);
        let of_first = scope.spawn(|| db.backup(STORE, &slow(&first)));
        wait_for(&|| first.bytes_done() > 0);
        let of_second = scope.spawn(|| db.backup(STORE, &slow(&second)));
        let of_third = scope.spawn(|| db.backup(STORE, &slow(&third)));
        third.cancel();
        assert!(matches!(of_third.join().unwrap(), Err(Error::Cancelled)));
        // A pause that was asked for is no standstill, for neither of the two.
        let (before, waited) = (first.beats(), second.beats());
        wait_for(&|| first.beats() >= before + 3 && second.beats() >= waited + 3);
        assert!(!of_second.is_finished());
        first.cancel();
        assert!(matches!(of_first.join().unwrap(), Err(Error::Cancelled)));
        wait_for(&|| second.bytes_done() > 0);
        second.cancel();
        assert!(matches!(of_second.join().unwrap(), Err(Error::Cancelled)));
    });
}
