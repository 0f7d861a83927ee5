//! Databases of format 1 as they were written once: every later version opens them and finds what
//! was written. One was closed, one is what a killed process left.
//!
//! `golden/v1` is from before tables knew other authors than the local one. With
//! `ESKER_WRITE_GOLDEN=1` the directory `golden/v1-authors` is written anew: only while format 1 is not
//! released.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod fixture;

use base::fs::{CrashModel, SimFs};
use esker::{Batch, Compression, Create, Db, KeyspaceOptions, Options, SyncMode};
use fixture::{Disk, START_MS, content, files_below, keyspace, local_keyspace, small};
use std::fmt::Write;
use std::path::{Path, PathBuf};

fn golden(state: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden").join(state)
}

/// The one that is written.
fn newest() -> PathBuf {
    golden("v1-authors")
}

/// Everything in the database, a line an entry.
fn listed(db: &Db) -> String {
    let mut list = String::new();
    for keyspace in db.keyspaces() {
        writeln!(list, "{}", keyspace.name()).unwrap();
        for (key, value) in content(&keyspace) {
            writeln!(list, "  {} = {}", key.escape_ascii(), value.escape_ascii()).unwrap();
        }
    }
    list
}

/// Something of everything that the formats know.
fn fill(db: &Db) {
    let plain = KeyspaceOptions { compression: Compression::None, ..KeyspaceOptions::default() };
    let plain = db.keyspace("plain", plain).unwrap();
    let (k, local) = (keyspace(db, "compressed"), local_keyspace(db, "local"));
    for number in 0..120u32 {
        let (key, value) = (format!("key {number:03}"), format!("{number} ").repeat(9));
        let mut batch = Batch::new();
        batch.put(&k, &key, &value);
        batch.put(&plain, &key, &value[..4]);
        batch.put(&local, number.to_be_bytes(), b"");
        db.write(batch).unwrap();
    }
    let gone = keyspace(db, "gone");
    gone.put(b"never", b"seen").unwrap();
    db.compact_all().unwrap();
    db.drop_keyspace(gone).unwrap();
    k.delete(b"key 007").unwrap();
    k.delete_range(b"key 010", b"key 110").unwrap();
    plain.delete_prefix(b"key 0").unwrap();
    k.put(b"large", b"0123456789".repeat(150)).unwrap();
    db.flush().unwrap();
    plain.ingest([("ingested", "1"), ("key 119", "2")]).unwrap();
    let mut batch = Batch::new();
    batch.put_until(&local, b"lasts", b"long", u64::MAX);
    batch.put_until(&local, b"ended", b"soon", START_MS + 1);
    batch.delete_range(&local, b"", 100u32.to_be_bytes());
    db.write(batch).unwrap();
    k.put(b"last", b"only in the log").unwrap();
}

/// Writes the files of `fs` to `to`, without the space that was reserved behind their content.
fn write_out(fs: &SimFs, to: &Path) {
    for path in fs.files().into_iter().filter(|path| path.as_str() != "LOCK") {
        let mut bytes = fs.read_file(&path).unwrap();
        if !path.as_str().ends_with(".sst") {
            let len = bytes.iter().rposition(|byte| *byte != 0).map_or(0, |last| last + 1);
            bytes.truncate(len);
        }
        let file = path.below(to);
        std::fs::create_dir_all(file.parent().unwrap()).unwrap();
        std::fs::write(file, bytes).unwrap();
    }
}

#[test]
fn golden_directories_are_written_only_when_asked_for() {
    if std::env::var_os("ESKER_WRITE_GOLDEN").is_none() {
        return;
    }
    let _ = std::fs::remove_dir_all(newest());
    let disk = Disk::new(1);
    let db = disk.open(Options { sync: SyncMode::Async, ..small() });
    fill(&db);
    let killed = disk.fs.crash(CrashModel::Kill);
    disk.clock.set(START_MS + 2);
    let list = listed(&db);
    db.close().unwrap();
    write_out(&killed, &newest().join("killed"));
    write_out(&disk.fs, &newest().join("closed"));
    std::fs::write(newest().join("content.txt"), list).unwrap();
}

#[test]
fn a_database_of_format_1_is_opened_and_holds_what_was_written() {
    opens(&golden("v1"));
    opens(&newest());
}

fn opens(golden: &Path) {
    let expected = std::fs::read_to_string(golden.join("content.txt")).unwrap();
    assert!(expected.lines().count() > 40);
    for (name, was_closed) in [("closed", true), ("killed", false)] {
        let dir = tempfile::tempdir().unwrap();
        let copy = dir.path().join(name);
        for (file, bytes) in files_below(&golden.join(name)) {
            let file = copy.join(file);
            std::fs::create_dir_all(file.parent().unwrap()).unwrap();
            std::fs::write(file, bytes).unwrap();
        }
        let options = Options { create: Create::Never, ..small() };
        let db = Db::open(&copy, options.clone()).unwrap();
        let report = db.recovery_report();
        assert_eq!(report.was_closed, was_closed);
        assert!(report.warnings.is_empty() && report.quarantined.is_empty(), "{report:?}");
        assert_eq!(listed(&db), expected, "{name}");
        let last = db.snapshot().seqno();
        assert!(last.ms() >= START_MS);
        assert!(keyspace(&db, "compressed").put(b"new", b"").unwrap() > last);
        keyspace(&db, "compressed").delete(b"new").unwrap();
        db.compact_all().unwrap();
        assert_eq!(listed(&db), expected, "{name}, compacted");
        db.close().unwrap();
        assert_eq!(listed(&Db::open(&copy, options).unwrap()), expected, "{name}, opened again");
    }
}
