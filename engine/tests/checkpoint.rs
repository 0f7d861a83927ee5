//! Copies of a database that is in use.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod fixture;

use base::fs::{CrashModel, Fs};
use esker::{Batch, Db, Error, Options, SyncMode};
use fixture::{Disk, content, files_below, keyspace, local_keyspace, small, small_busy};
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};

#[test]
fn a_checkpoint_holds_everything_committed_before_it() {
    let dir = tempfile::tempdir().unwrap();
    let db = Db::open(dir.path().join("data"), small_busy()).unwrap();
    let (k, local) = (keyspace(&db, "k"), local_keyspace(&db, "local"));
    for number in 0..500u32 {
        let mut batch = Batch::new();
        batch.put(&k, number.to_be_bytes(), [1; 200]);
        batch.put(&local, number.to_be_bytes(), b"");
        db.submit(batch).unwrap().wait().unwrap();
        if number % 100 == 99 {
            k.delete_range(number.to_be_bytes(), []).unwrap();
        }
    }
    let gone = keyspace(&db, "gone");
    gone.put(b"a", b"").unwrap();
    db.drop_keyspace(gone).unwrap();
    let before = db.snapshot();
    let copy = dir.path().join("copy");
    assert_eq!(db.checkpoint(&copy).unwrap(), before.seqno());
    k.put(b"after", b"").unwrap();
    k.delete(0u32.to_be_bytes()).unwrap();

    let copied = Db::open(&copy, Options { create: esker::Create::Never, ..small() }).unwrap();
    assert!(copied.recovery_report().was_closed);
    assert_eq!(copied.keyspaces().len(), 2);
    let seen: fixture::Content = before.iter(&k).map(fixture::own).collect();
    assert_eq!(content(&keyspace(&copied, "k")), seen);
    assert_eq!(content(&local_keyspace(&copied, "local")).len(), 500);
    assert!(copied.existing_keyspace("gone").is_err());
    assert!(copied.snapshot().seqno() >= before.seqno());
}

#[test]
fn original_and_copy_go_their_own_ways() {
    let dir = tempfile::tempdir().unwrap();
    let db = Db::open(dir.path().join("data"), small_busy()).unwrap();
    let k = keyspace(&db, "k");
    k.put(b"common", b"1").unwrap();
    db.checkpoint(dir.path().join("copy")).unwrap();
    let copied = Db::open(dir.path().join("copy"), small_busy()).unwrap();
    let (ours, theirs) = (db.identity(), copied.identity());
    assert_eq!((ours.database, ours.node), (theirs.database, theirs.node));
    assert_ne!(ours.incarnation, theirs.incarnation, "no stamp may be used twice");
    for (db, value) in [(&db, b"original"), (&copied, b"the copy")] {
        let k = keyspace(db, "k");
        for number in 0..800u32 {
            k.put(number.to_be_bytes(), value.repeat(20)).unwrap();
        }
        k.put(b"common", value).unwrap();
        db.compact(&k).unwrap();
    }
    assert_eq!(k.get(b"common").unwrap().unwrap(), b"original");
    db.close().unwrap();
    copied.close().unwrap();
    let reopen = |name: &str| Db::open(dir.path().join(name), small()).unwrap();
    for (name, value) in [("data", b"original"), ("copy", b"the copy")] {
        let content = content(&keyspace(&reopen(name), "k"));
        assert_eq!(content.len(), 801);
        assert!(content.values().all(|found| found.starts_with(value)));
    }
    // The copy stands alone.
    std::fs::remove_dir_all(dir.path().join("data")).unwrap();
    assert_eq!(content(&keyspace(&reopen("copy"), "k")).len(), 801);
}

#[test]
fn writers_go_on_and_the_copy_is_one_moment() {
    let dir = tempfile::tempdir().unwrap();
    let options = Options { sync: SyncMode::Async, ..small_busy() };
    let db = Db::open(dir.path().join("data"), options).unwrap();
    let (a, b) = (keyspace(&db, "a"), keyspace(&db, "b"));
    let is_done = AtomicBool::new(false);
    std::thread::scope(|scope| {
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
        scope.spawn(|| {
            while !is_done.load(Ordering::SeqCst) {
                db.compact_all().unwrap();
            }
        });
        for round in 0..6 {
            let copy = dir.path().join(format!("copy {round}"));
            let seqno = db.checkpoint(&copy).unwrap();
            let copied = Db::open(&copy, small()).unwrap();
            assert!(copied.snapshot().seqno() >= seqno);
            let content = content(&keyspace(&copied, "a"));
            assert_eq!(content, fixture::content(&keyspace(&copied, "b")));
            // Numbers were written in order: those that are there are the last ones.
            let numbers: Vec<u32> =
                content.values().map(|v| u32::from_be_bytes(v[..].try_into().unwrap())).collect();
            if let (Some(low), Some(high)) = (numbers.iter().min(), numbers.iter().max()) {
                assert_eq!((high - low + 1) as usize, numbers.len());
            }
        }
        is_done.store(true, Ordering::SeqCst);
    });
}

#[test]
fn a_target_in_use_is_refused_and_left_alone() {
    let dir = tempfile::tempdir().unwrap();
    let db = Db::open(dir.path().join("data"), small()).unwrap();
    keyspace(&db, "k").put(b"a", b"1").unwrap();
    let target = dir.path().join("target");
    std::fs::create_dir(&target).unwrap();
    std::fs::write(target.join("notes.txt"), b"mine").unwrap();
    let before = files_below(&target);
    let error = db.checkpoint(&target).unwrap_err();
    assert!(matches!(&error, Error::AlreadyExists { path } if *path == target), "{error}");
    assert_eq!(files_below(&target), before);
    assert_eq!(db.checkpoint(dir.path().join("data")).unwrap_err().code(), "AlreadyExists");

    let empty = dir.path().join("empty");
    std::fs::create_dir(&empty).unwrap();
    db.checkpoint(&empty).unwrap();
    assert_eq!(db.checkpoint(&empty).unwrap_err().code(), "AlreadyExists");
}

/// At every change of the disk: the copy is no database, or it is whole. The original is.
#[test]
fn a_power_failure_leaves_a_whole_copy_or_none() {
    let prepare = || {
        let disk = Disk::new(1);
        let db = disk.open(small());
        let k = keyspace(&db, "k");
        k.put(b"a", b"1").unwrap();
        db.flush().unwrap();
        k.put(b"b", b"2").unwrap();
        (disk, db)
    };
    let (disk, db) = prepare();
    let before = disk.fs.ops();
    db.checkpoint("/copy").unwrap();
    let end = disk.fs.ops();
    for stop in before..end {
        for model in [CrashModel::Kill, CrashModel::Synced, CrashModel::Prefix] {
            let (disk, db) = prepare();
            disk.fs.stop_after(stop);
            db.checkpoint("/copy").unwrap_err();
            let crashed = Disk::of(disk.fs.crash(model));
            let original = crashed.open(small());
            assert_eq!(content(&keyspace(&original, "k")).len(), 2);
            let platform =
                esker::Platform { fs: crashed.fs.at(Path::new("/copy")), ..crashed.platform() };
            let options = Options { create: esker::Create::Never, ..small() };
            if let Ok(copy) = Db::open_on(platform, options) {
                assert_eq!(content(&keyspace(&copy, "k")).len(), 2, "{model:?} {stop}");
            }
        }
    }
}
