//! Reading beside a writer: no lock, no byte changed, and always a prefix of the commits.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod fixture;

use base::fs::{CrashModel, SimFs};
use esker::{BackupOptions, Batch, CorruptionAction, Db, Error, Keyspace, Options, SyncMode, Tick};
use fixture::{Content, Disk, content, files_below, keyspace, small, small_busy};
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

fn read(disk: &Disk, options: Options) -> Db {
    Db::open_read_only_on(disk.platform(), options).unwrap()
}

/// What a reader finds now.
fn seen(disk: &Disk) -> Content {
    let db = read(disk, small());
    content(&db.existing_keyspace("k").unwrap())
}

fn image(fs: &SimFs) -> Vec<(String, Vec<u8>)> {
    let files = fs.files().into_iter();
    files.map(|path| (path.as_str().to_owned(), fs.read_file(&path).unwrap())).collect()
}

/// Commit `number` of [`write_numbered`]: two equal marks, a row, and the row deleted that was written
/// [`KEPT`] commits earlier.
fn numbered(k: &Keyspace, number: u64) -> Batch {
    let mut batch = Batch::new();
    batch.put(k, b"a", number.to_be_bytes());
    batch.put(k, row(number), [number as u8; 300]);
    if let Some(old) = number.checked_sub(KEPT) {
        batch.delete(k, row(old));
    }
    batch.put(k, b"z", number.to_be_bytes());
    batch
}

const KEPT: u64 = 500;

fn row(number: u64) -> Vec<u8> {
    [b"row".as_slice(), &number.to_be_bytes()].concat()
}

/// Checks that `k` is as some commit of [`numbered`] has left it. Returns which.
fn check_prefix(k: &Keyspace) -> Option<u64> {
    let mark = |key: &[u8]| {
        let found = k.get(key).unwrap()?;
        Some(u64::from_be_bytes(found.as_ref().try_into().unwrap()))
    };
    let last = mark(b"a");
    assert_eq!(last, mark(b"z"), "a torn batch");
    let rows: Vec<Vec<u8>> = k.prefix(b"row").map(|entry| entry.unwrap().0.into()).collect();
    let expected = last.map_or(0..0, |last| (last + 1).saturating_sub(KEPT)..last + 1);
    assert_eq!(rows, expected.map(row).collect::<Vec<_>>(), "not a prefix: {last:?}");
    last
}

#[test]
fn every_state_of_a_directory_is_read_and_none_is_changed() {
    let disk = Disk::new(1);
    let db = disk.open(Options { sync: SyncMode::Async, ..small() });
    let k = keyspace(&db, "k");
    let check = |expected: &Content| {
        let (before, ops) = (image(&disk.fs), disk.fs.ops());
        assert!(seen(&disk) == *expected);
        assert_eq!(disk.fs.ops(), ops, "a reader changes nothing");
        assert!(image(&disk.fs) == before);
    };
    check(&Content::new());
    for number in 0..700 {
        db.write(numbered(&k, number)).unwrap();
    }
    check(&content(&k));
    db.flush().unwrap();
    k.ingest([(b"ingested", b"v")]).unwrap();
    check(&content(&k));
    k.delete_range(row(100), row(300)).unwrap();
    check(&content(&k));
    db.compact_all().unwrap();
    k.put(b"in the log", b"v").unwrap();
    check(&content(&k));
    let expected = content(&k);
    for model in [CrashModel::Kill, CrashModel::Prefix, CrashModel::Synced] {
        db.sync().unwrap();
        assert!(seen(&Disk::of(disk.fs.crash(model))) == expected, "{model:?}");
    }
    db.close().unwrap();
    check(&expected);
}

#[test]
fn whatever_writes_is_refused() {
    let disk = Disk::new(1);
    let db = disk.open(small());
    keyspace(&db, "k").put(b"k", b"v").unwrap();
    let reader = read(&disk, small_busy());
    let k = reader.existing_keyspace("k").unwrap();
    let mut batch = Batch::new();
    batch.put(&k, b"k", b"w");
    let refused = [
        k.put(b"k", b"w").map(drop),
        k.delete(b"k").map(drop),
        k.delete_range(b"k", b"").map(drop),
        k.ingest([(b"k", b"w")]).map(drop),
        reader.submit(batch).map(drop),
        reader.transaction().map(drop),
        reader.keyspace("new", Default::default()).map(drop),
        reader.drop_keyspace(reader.existing_keyspace("k").unwrap()),
        reader.flush(),
        reader.sync(),
        reader.settle(),
        reader.compact_all(),
        reader.checkpoint("/elsewhere").map(drop),
        reader.backup("/store", &BackupOptions::default()).map(drop),
        reader.changes(Tick::ZERO).map(drop),
    ];
    for (number, result) in refused.into_iter().enumerate() {
        assert!(matches!(result, Err(Error::ReadOnly)), "{number}: {result:?}");
    }
    assert_eq!(k.get(b"k").unwrap().unwrap(), b"v");
    assert_eq!(reader.snapshot().get(&k, b"k").unwrap().unwrap(), b"v");
    reader.stats();
    reader.close().unwrap();
    assert!(matches!(k.get(b"k"), Err(Error::Closed)));
}

/// A writer that keeps its log for the next backup, and damage that a reader finds.
#[test]
fn a_backup_or_a_scrub_of_a_reader_changes_no_byte_of_the_writer() {
    let disk = Disk::new(1);
    let db = disk.open(Options { sync: SyncMode::Async, ..small() });
    let k = keyspace(&db, "k");
    db.backup("/store", &BackupOptions::default()).unwrap();
    for number in 0..700 {
        db.write(numbered(&k, number)).unwrap();
    }
    db.flush().unwrap();
    assert!(!disk.files_in("archive/").is_empty());
    let quarantine = || Options { on_corruption: CorruptionAction::Quarantine, ..small_busy() };
    let reader = read(&disk, quarantine());
    let table = disk.fs.files().into_iter().find(|path| path.as_str().ends_with(".sst")).unwrap();
    let mut bytes = disk.fs.read_file(&table).unwrap();
    bytes[0] ^= 1;
    disk.fs.write_file(&table, bytes).unwrap();
    let (before, ops) = (image(&disk.fs), disk.fs.ops());
    for store in ["/store", "/another"] {
        let refused = reader.backup(store, &BackupOptions::default());
        assert!(matches!(refused, Err(Error::ReadOnly)), "{refused:?}");
    }
    assert_eq!(reader.scrub().unwrap().findings.len(), 1);
    reader.close().unwrap();
    assert!(image(&disk.fs) == before);
    assert_eq!(disk.fs.ops(), ops, "a reader changes nothing");
}

/// The writer goes on and removes what the reader has open; the reader's moment stays.
#[test]
fn a_reader_keeps_its_moment_while_files_go() {
    let disk = Disk::new(1);
    let db = disk.open(Options { sync: SyncMode::Async, ..small() });
    let k = keyspace(&db, "k");
    for number in 0..700 {
        db.write(numbered(&k, number)).unwrap();
    }
    let reader = read(&disk, small());
    let then = reader.existing_keyspace("k").unwrap();
    for number in 700..2000 {
        db.write(numbered(&k, number)).unwrap();
    }
    db.compact_all().unwrap();
    db.settle().unwrap();
    assert_eq!(check_prefix(&then), Some(699));
    db.close().unwrap();
    assert_eq!(check_prefix(&then), Some(699));
}

#[test]
fn a_log_that_does_not_fit_into_memory_is_refused_with_both_numbers() {
    let disk = Disk::new(1);
    let large = Options { memtable_bytes: 4 << 20, memory_bytes: 32 << 20, ..small() };
    let db = disk.open(Options { sync: SyncMode::Async, ..large.clone() });
    let k = keyspace(&db, "k");
    for number in 0..6000 {
        db.write(numbered(&k, number)).unwrap();
    }
    let refused = Db::open_read_only_on(disk.platform(), small()).unwrap_err();
    let Error::ResourceShort { need, have, .. } = refused else { unreachable!("{refused}") };
    assert!(have == 1 << 20 && need > have, "{need} {have}");
    assert_eq!(check_prefix(&read(&disk, large).existing_keyspace("k").unwrap()), Some(5999));
}

#[test]
fn what_is_no_database_or_damaged_is_refused() {
    let disk = Disk::new(1);
    let open = |disk: &Disk| Db::open_read_only_on(disk.platform(), small()).map(drop);
    assert!(matches!(open(&disk), Err(Error::NotADatabase { .. })));
    let db = disk.open(small());
    keyspace(&db, "k").put(b"k", b"v").unwrap();
    db.flush().unwrap();
    db.close().unwrap();
    open(&disk).unwrap();
    let table = disk.fs.files().into_iter().find(|path| path.as_str().ends_with(".sst")).unwrap();
    let mut bytes = disk.fs.read_file(&table).unwrap();
    let end = bytes.len() - 10;
    bytes[end] ^= 1;
    disk.fs.write_file(&table, bytes).unwrap();
    assert!(matches!(open(&disk), Err(Error::Corrupt { .. })));
    disk.fs.remove_file(&table).unwrap();
    assert!(matches!(open(&disk), Err(Error::Missing { .. })));
}

/// Threads on one simulated disk, where files go as soon as they may.
#[test]
fn readers_see_growing_prefixes_while_a_writer_flushes_and_merges() {
    let disk = Disk::new(1);
    let db = disk.open(Options { sync: SyncMode::Async, ..small_busy() });
    let k = keyspace(&db, "k");
    let (acknowledged, is_done) = (AtomicU64::new(0), AtomicBool::new(false));
    std::thread::scope(|scope| {
        scope.spawn(|| {
            for number in 0..12_000 {
                db.write(numbered(&k, number)).unwrap();
                acknowledged.store(number, Ordering::SeqCst);
            }
            is_done.store(true, Ordering::SeqCst);
        });
        let mut last = 0;
        let mut looks = 0;
        while !is_done.load(Ordering::SeqCst) || looks == 0 {
            let before = acknowledged.load(Ordering::SeqCst);
            let reader = read(&disk, small());
            let found = check_prefix(&reader.existing_keyspace("k").unwrap()).unwrap_or(0);
            assert!(found >= before.max(last), "{found} after {before} and {last}");
            last = found;
            looks += 1;
        }
    });
    db.close().unwrap();
    assert_eq!(check_prefix(&read(&disk, small()).existing_keyspace("k").unwrap()), Some(11_999));
}

const DIRECTORY: &str = "ESKER_TEST_READ_ONLY_DIRECTORY";

/// Not a test of its own: what the child of the next test does.
#[test]
fn child_that_writes_for_the_next_test() {
    let Ok(dir) = std::env::var(DIRECTORY) else { return };
    let db = Db::open(Path::new(&dir).join("data"), small_busy()).unwrap();
    let k = keyspace(&db, "k");
    for number in 0.. {
        db.write(numbered(&k, number)).unwrap();
        std::fs::write(Path::new(&dir).join("synced.new"), number.to_string()).unwrap();
        std::fs::rename(Path::new(&dir).join("synced.new"), Path::new(&dir).join("synced"))
            .unwrap();
        if number % 1000 == 999 {
            db.compact_all().unwrap();
        }
    }
}

#[test]
fn another_process_reads_a_prefix_with_all_that_was_synced() {
    let dir = tempfile::tempdir().unwrap();
    let mut child = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "child_that_writes_for_the_next_test"])
        .env(DIRECTORY, dir.path())
        .stdout(Stdio::null())
        .spawn()
        .unwrap();
    let synced = || {
        let text = std::fs::read_to_string(dir.path().join("synced")).ok()?;
        text.parse::<u64>().ok()
    };
    let data = dir.path().join("data");
    while synced().is_none() {
        assert!(child.try_wait().unwrap().is_none(), "the child has died");
        std::thread::yield_now();
    }
    let (mut last, mut looks) = (0, 0);
    while synced().unwrap() < 3000 * fixture::scale() {
        assert!(child.try_wait().unwrap().is_none(), "the child has died");
        let before = synced().unwrap();
        let reader = Db::open_read_only(&data, small()).unwrap();
        let found = check_prefix(&reader.existing_keyspace("k").unwrap()).unwrap();
        assert!(found >= before.max(last), "{found} after {before} and {last}");
        (last, looks) = (found, looks + 1);
    }
    assert!(looks > 0);
    let locked = Db::open(&data, small()).unwrap_err();
    assert!(matches!(locked, Error::Locked { .. }), "{locked}");
    child.kill().unwrap();
    child.wait().unwrap();
    // Not closed, not recovered: read as it is, twice, to the last byte.
    let (before, synced) = (files_below(&data), synced().unwrap());
    let reader = Db::open_read_only(&data, small()).unwrap();
    let found = check_prefix(&reader.existing_keyspace("k").unwrap()).unwrap();
    assert!(found >= synced);
    drop(reader);
    assert!(files_below(&data) == before);
    let db = Db::open(&data, small()).unwrap();
    assert_eq!(check_prefix(&db.existing_keyspace("k").unwrap()), Some(found));
    println!("{looks} looks at {last} commits");
}
