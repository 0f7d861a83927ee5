//! What a crash leaves of a drop that all nodes hear of, and what only readers do not tell.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod fixture;

use base::fs::{CrashModel, SimFs};
use esker::replicate::{Answers, ScopeId, Vector};
use esker::{Error, Options};
use fixture::{Disk, content, keyspace, ship, small};

const MAIN: ScopeId = ScopeId::MAIN;

/// Every commit is synced.
fn options() -> Options {
    small()
}

/// A disk with a database that replicates, and two entries in `k`.
fn prepared() -> SimFs {
    let disk = Disk::new(11);
    let db = disk.open(options());
    db.replication().raise_floor(MAIN, &Vector::default()).unwrap();
    let k = keyspace(&db, "k");
    k.put("1", "a").unwrap();
    k.put("2", "b").unwrap();
    db.flush().unwrap();
    k.put("2", "c").unwrap();
    db.close().unwrap();
    disk.fs
}

#[test]
fn a_crash_leaves_all_of_a_keyspace_or_nothing_of_it() {
    let prepared = prepared();
    let run = |fs: &SimFs| {
        let db = Disk::of(fs.clone()).try_open(options())?;
        db.drop_keyspace(db.existing_keyspace("k")?)
    };
    let whole = prepared.fork();
    let start = whole.ops();
    run(&whole).unwrap();
    let (mut there, mut gone) = (0, 0);
    for stop in start..=whole.ops() {
        let fs = prepared.fork();
        fs.stop_after(stop);
        let is_done = run(&fs).is_ok();
        for model in [CrashModel::Kill, CrashModel::Synced, CrashModel::Prefix] {
            let db = Disk::of(fs.crash(model)).open(options());
            match db.existing_keyspace("k") {
                Ok(k) => {
                    there += 1;
                    assert!(!is_done, "{stop} {model:?}");
                    assert_eq!(content(&k).len(), 2, "{stop} {model:?}");
                }
                Err(Error::KeyspaceNotFound { .. }) => {
                    gone += 1;
                    assert!(content(&keyspace(&db, "k")).is_empty(), "{stop} {model:?}");
                }
                Err(error) => unreachable!("{stop} {model:?}: {error}"),
            }
        }
    }
    assert!(there > 10 && gone > 1, "{there} {gone}");
}

/// What a reader wrote would shut it out.
#[test]
fn a_reader_that_opens_a_keyspace_that_was_dropped_tells_nobody() {
    let (disk, other) = (Disk::new(1), Disk::new(2));
    let (a, b) = (disk.open(options()), other.open(options()));
    for db in [&a, &b] {
        db.replication().raise_floor(MAIN, &Vector::default()).unwrap();
    }
    keyspace(&a, "k").put("1", "a").unwrap();
    a.drop_keyspace(a.existing_keyspace("k").unwrap()).unwrap();
    ship(&a, &b);
    b.replication().set_answers(MAIN, Answers::Reader);
    let before = b.replication().applied(MAIN);
    let k = keyspace(&b, "k");
    assert!(content(&k).is_empty());
    assert_eq!(b.replication().applied(MAIN), before);
    assert!(matches!(b.existing_keyspace("k"), Err(Error::KeyspaceNotFound { .. })));

    keyspace(&a, "k").put("2", "b").unwrap();
    ship(&a, &b);
    assert_eq!(content(&keyspace(&b, "k")).len(), 1);
}
