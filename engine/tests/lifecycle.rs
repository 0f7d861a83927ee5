//! Opening, closing and dying, on a real disk.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod fixture;

use esker::{Batch, Create, Db, Error, Options, SyncMode, WriteOptions};
use fixture::{Disk, content, files_below, keyspace, scale, small, small_busy};
use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

fn data() -> (tempfile::TempDir, PathBuf) {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("data");
    (dir, path)
}

fn fill(db: &Db, numbers: std::ops::Range<u32>) {
    let k = keyspace(db, "k");
    for number in numbers {
        let mut batch = Batch::new();
        batch.put(&k, number.to_be_bytes(), [number as u8; 200]);
        db.write_with(batch, WriteOptions { sync: Some(SyncMode::Async) }).unwrap();
    }
}

fn bytes_of(path: &Path) -> usize {
    files_below(path).values().map(Vec::len).sum()
}

#[test]
fn a_clean_close_leaves_everything_in_tables() {
    let (_dir, path) = data();
    let db = Db::open(&path, small_busy()).unwrap();
    assert!(path.join("wal").read_dir().unwrap().next().is_some());
    fill(&db, 0..2000);
    let expected = content(&keyspace(&db, "k"));
    let seqno = db.snapshot().seqno();
    db.close().unwrap();
    // The log is not needed any more: not even its files.
    for entry in path.join("wal").read_dir().unwrap() {
        std::fs::remove_file(entry.unwrap().path()).unwrap();
    }
    let db = Db::open(&path, small_busy()).unwrap();
    assert!(db.recovery_report().was_closed);
    assert_eq!(content(&keyspace(&db, "k")), expected);
    assert!(db.snapshot().seqno() >= seqno);
    assert!(keyspace(&db, "k").put(b"next", b"").unwrap() > seqno);
}

#[test]
fn opening_again_and_again_does_not_grow_the_directory() {
    let (_dir, path) = data();
    let db = Db::open(&path, small_busy()).unwrap();
    fill(&db, 0..500);
    db.close().unwrap();
    let mut sizes = Vec::new();
    for round in 0..50 {
        let db = Db::open(&path, if round % 2 == 0 { small() } else { small_busy() }).unwrap();
        assert!(db.recovery_report().was_closed, "round {round}");
        if round % 5 == 0 {
            keyspace(&db, "k").put(b"the same", b"again").unwrap();
        }
        db.close().unwrap();
        sizes.push((bytes_of(&path), files_below(&path).len()));
    }
    let (early, late) = (sizes[10], sizes[49]);
    assert!(late.0 < early.0 + 20_000 && late.1 <= early.1 + 9, "{sizes:?}");
}

#[test]
fn a_crash_over_and_over_does_not_grow_the_directory() {
    let mut disk = Disk::new(1);
    fill(&disk.open(small()), 0..300);
    let mut sizes = Vec::new();
    for _ in 0..30 {
        let db = disk.open(small());
        assert_eq!(content(&keyspace(&db, "k")).len(), 300);
        let files = disk.fs.files();
        let bytes: usize = files.iter().map(|path| disk.fs.read_file(path).unwrap().len()).sum();
        sizes.push((bytes, files.len()));
        disk = Disk::of(disk.fs.crash(base::fs::CrashModel::Kill));
    }
    assert_eq!(sizes[10], sizes[29], "{sizes:?}");
}

#[test]
fn a_second_open_is_refused_and_names_the_holder() {
    let (_dir, path) = data();
    let db = Db::open(&path, small_busy()).unwrap();
    let error = Db::open(&path, small_busy()).map(drop).unwrap_err();
    let own = std::process::id();
    assert!(matches!(error, Error::Locked { holder: Some(pid), .. } if pid == own), "{error}");
    assert!(error.to_string().contains(&own.to_string()), "{error}");
    let clone = db.clone();
    drop(db);
    assert!(Db::open(&path, small_busy()).is_err(), "a clone still holds it");
    let k = keyspace(&clone, "k");
    let snapshot = clone.snapshot();
    drop(clone);
    // Keyspaces and snapshots do not keep it open.
    let db = Db::open(&path, small_busy()).unwrap();
    assert!(matches!(k.get(b"k"), Err(Error::Closed)));
    assert!(matches!(snapshot.get(&k, b"k"), Err(Error::Closed)));
    assert!(matches!(k.put(b"k", b""), Err(Error::Closed)));
    keyspace(&db, "k").put(b"k", b"").unwrap();
}

#[test]
fn dropping_the_last_handle_closes() {
    let (_dir, path) = data();
    for round in 0..3 {
        let db = Db::open(&path, small_busy()).unwrap();
        assert!(db.recovery_report().was_closed, "round {round}");
        fill(&db, 0..100);
    }
}

#[test]
fn everything_refuses_after_close() {
    let (dir, path) = data();
    let db = Db::open(&path, small_busy()).unwrap();
    fill(&db, 0..100);
    let k = keyspace(&db, "k");
    let mut transaction = db.transaction().unwrap();
    transaction.put(&k, b"k", b"v").unwrap();
    let mut batch = Batch::new();
    batch.put(&k, b"k", b"v");
    db.clone().close().unwrap();
    db.clone().close().unwrap();
    let before = files_below(&path);
    let results = [
        db.write(batch).map(drop),
        db.flush(),
        db.sync(),
        db.compact(&k),
        db.checkpoint(dir.path().join("copy")).map(drop),
        db.keyspace("new", Default::default()).map(drop),
        db.existing_keyspace("k").map(drop),
        db.drop_keyspace(k.clone()),
        db.transaction().map(drop),
        db.changes(esker::Tick::ZERO).map(drop),
        transaction.commit().map(drop),
        k.put(b"k", b"").map(drop),
        k.get(b"k").map(drop),
        k.ingest([(b"k", b"")]).map(drop),
        db.submit(Batch::new()).and_then(|ticket| ticket.wait()).map(drop),
    ];
    for (number, result) in results.into_iter().enumerate().take(14) {
        let error = result.expect_err(&format!("call {number}"));
        assert!(matches!(error, Error::Closed), "call {number}: {error}");
    }
    assert_eq!(db.health().status, esker::Status::Closed);
    assert!(files_below(&path) == before && !dir.path().join("copy").exists());
}

/// Opens that must fail, and must leave no trace.
#[test]
fn a_refused_open_changes_nothing() {
    let (dir, path) = data();
    let refuse = |path: &Path, create: Create, code: &str| {
        let exists = path.exists();
        let before = if path.is_dir() { files_below(path) } else { Default::default() };
        let error = Db::open(path, Options { create, ..small() }).map(drop).unwrap_err();
        assert_eq!(error.code(), code, "{error}");
        assert!(error.to_string().contains(&path.display().to_string()), "{error}");
        assert_eq!(path.exists(), exists);
        if path.is_dir() {
            let mut after = files_below(path);
            // Whose turn it was to look at a database is noted in its lock.
            if before.contains_key("LOCK") {
                after.insert("LOCK".into(), before["LOCK"].clone());
            }
            assert_eq!(after, before, "{code}");
        }
    };
    refuse(&path, Create::Never, "NotADatabase");
    std::fs::create_dir(&path).unwrap();
    refuse(&path, Create::Never, "NotADatabase");

    let file = dir.path().join("file");
    std::fs::write(&file, b"text").unwrap();
    for create in [Create::IfMissing, Create::Never, Create::New] {
        refuse(&file, create, "NotADatabase");
    }
    assert_eq!(std::fs::read(&file).unwrap(), b"text");

    let foreign = dir.path().join("foreign");
    std::fs::create_dir(&foreign).unwrap();
    std::fs::write(foreign.join("notes.txt"), b"mine").unwrap();
    for create in [Create::IfMissing, Create::Never, Create::New] {
        refuse(&foreign, create, "NotADatabase");
    }

    let db = Db::open(&path, small()).unwrap();
    fill(&db, 0..10);
    db.close().unwrap();
    refuse(&path, Create::New, "AlreadyExists");

    // A root of a later format: the version is the last byte of its magic.
    for name in ["CURRENT", "CURRENT.copy"] {
        let mut bytes = std::fs::read(path.join(name)).unwrap();
        bytes[7] = 2;
        std::fs::write(path.join(name), bytes).unwrap();
    }
    let error = Db::open(&path, small()).map(drop).unwrap_err();
    assert!(["FormatUnsupported", "RootCorrupt"].contains(&error.code()), "{error}");
    refuse(&path, Create::IfMissing, error.code());
}

#[test]
fn an_empty_directory_and_missing_parents_are_fine() {
    let (dir, path) = data();
    std::fs::create_dir(&path).unwrap();
    Db::open(&path, Options { create: Create::New, ..small() }).unwrap().close().unwrap();
    Db::open(&path, Options { create: Create::Never, ..small() }).unwrap().close().unwrap();
    let deep = dir.path().join("a").join("b").join("c");
    match Db::open(&deep, small()) {
        Ok(db) => db.close().unwrap(),
        Err(error) => assert_eq!(error.path(), Some(&*deep), "{error}"),
    }
}

const CHILD_DIR: &str = "ESKER_TEST_CHILD_DIR";
const CHILD_MODE: &str = "ESKER_TEST_CHILD_MODE";

fn mode(name: &str) -> SyncMode {
    match name {
        "sync" => SyncMode::Sync,
        "periodic" => SyncMode::Periodic(Duration::from_millis(20)),
        _ => SyncMode::Async,
    }
}

/// Not a test by itself: what the killed process of the next test does.
#[test]
fn child_that_writes_until_it_is_killed() {
    let Ok(dir) = std::env::var(CHILD_DIR) else { return };
    let sync = mode(&std::env::var(CHILD_MODE).unwrap());
    let db = Db::open(dir, Options { sync, ..small_busy() }).unwrap();
    let k = keyspace(&db, "k");
    let first = k.count(..).unwrap();
    let mut out = std::io::stdout().lock();
    for number in first.. {
        let mut batch = Batch::new();
        batch.put(&k, number.to_be_bytes(), vec![number as u8; 1 + number as usize % 500]);
        batch.put(&keyspace(&db, "twin"), number.to_be_bytes(), b"");
        db.write(batch).unwrap();
        writeln!(out, "{number}").unwrap();
        out.flush().unwrap();
    }
}

#[test]
fn what_a_killed_process_had_acknowledged_is_there() {
    for name in ["sync", "periodic", "async"] {
        let (_dir, path) = data();
        let mut count = 0;
        for round in 0..3 * scale() {
            let mut child = Command::new(std::env::current_exe().unwrap())
                .args(["--exact", "child_that_writes_until_it_is_killed", "--nocapture"])
                .env(CHILD_DIR, &path)
                .env(CHILD_MODE, name)
                .stdout(Stdio::piped())
                .stderr(Stdio::null())
                .spawn()
                .unwrap();
            let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
            let wanted = if name == "sync" { 60 } else { 900 } + 37 * round;
            let numbers = lines.by_ref().filter_map(|line| line.unwrap().parse::<u64>().ok());
            let last = numbers.take(wanted as usize).last().unwrap();
            child.kill().unwrap();
            let rest = lines.filter_map(|line| line.unwrap().parse::<u64>().ok()).last();
            child.wait().unwrap();
            let last = rest.unwrap_or(last);
            let db = Db::open(&path, small_busy()).unwrap();
            assert!(!db.recovery_report().was_closed);
            let k = keyspace(&db, "k");
            // One more may have been written and not yet told.
            count = k.count(..).unwrap();
            assert!(count == last + 1 || count == last + 2, "{count} of {last}, {name} {round}");
            for (number, (key, value)) in content(&k).into_iter().enumerate() {
                assert_eq!(key, (number as u64).to_be_bytes());
                assert_eq!(value, vec![number as u8; 1 + number % 500]);
            }
            assert_eq!(keyspace(&db, "twin").count(..).unwrap(), count);
            db.close().unwrap();
        }
        assert!(count > 0);
    }
}
