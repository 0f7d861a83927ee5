//! A node that writes for long, what others get of it who were away since any moment, and what it takes of
//! theirs.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod fixture;

use base::shipment::Shipment;
use esker::replicate::{Admission, NodeId, ScopeId, Vector};
use esker::{Background, Batch, Db, Options, SyncMode, Tick};
use fixture::{Disk, START_MS, keyspace};

const MAIN: ScopeId = ScopeId::MAIN;

fn node(seed: u64) -> (Disk, Db) {
    let disk = Disk::new(seed);
    disk.clock.set(START_MS + seed);
    let options =
        Options { sync: SyncMode::Async, background: Background::Off, ..Options::default() };
    let db = disk.open(options);
    (disk, db)
}

/// What `db` writes next that `to` has not.
fn ship(db: &Db, to: &Db) -> Admission {
    let known = to.replication().applied(MAIN);
    let mut tail = db.replication().tail(MAIN, &known).unwrap();
    let shipment = tail.next(&known, 1 << 20).unwrap().unwrap();
    to.replication().admit(&shipment.bytes).unwrap()
}

#[test]
fn who_wrote_alone_for_long_compares_what_comes_then() {
    let ((_, a), (_, b)) = (node(1), node(2));
    keyspace(&a, "k").put("first", "of a").unwrap();
    assert_eq!(ship(&a, &b), Admission::Taken { won: 1, lost: 0, late: 0 });
    keyspace(&a, "k").put("key", "older").unwrap();
    let k = keyspace(&b, "k");
    k.put("key", "newer").unwrap();
    for round in 0..160u32 {
        let mut batch = Batch::new();
        (0..1000u32).for_each(|number| batch.put(&k, (round * 1000 + number).to_be_bytes(), b"v"));
        b.write(batch).unwrap();
    }
    assert_eq!(ship(&a, &b), Admission::Taken { won: 0, lost: 1, late: 0 });
    assert_eq!(k.get("key").unwrap().unwrap(), b"newer");
    // And what b writes from here on counts again.
    k.put("later", "newer").unwrap();
    keyspace(&a, "k").put("later", "older").unwrap();
    assert_eq!(ship(&a, &b), Admission::Taken { won: 0, lost: 1, late: 0 });
    assert_eq!(k.get("later").unwrap().unwrap(), b"newer");
}

/// Who wrote when, of all that a tail gives to somebody who has `known`.
fn told(db: &Db, known: &Vector) -> Vec<(NodeId, Tick)> {
    let (mut known, mut commits) = (known.clone(), Vec::new());
    let mut tail = db.replication().tail(MAIN, &known).unwrap();
    while let Some(shipment) = tail.next(&known, 4 << 10).unwrap() {
        let decoded = Shipment::decode(&shipment.bytes).unwrap();
        commits.extend(decoded.commits.iter().map(|commit| (shipment.origin.node, commit.tick)));
        known.raise(shipment.origin, shipment.last);
    }
    commits
}

#[test]
fn a_tail_from_any_moment_gives_all_that_is_behind_and_nothing_else() {
    let ((disk, _), (_, b)) = (node(1), node(2));
    let small = Options {
        sync: SyncMode::Async,
        background: Background::Off,
        segment_bytes: 64 << 10,
        ..Options::default()
    };
    let a = disk.open(small);
    let (at_a, at_b) = (keyspace(&a, "k"), keyspace(&b, "k"));
    let write = |db: &Db, keyspace, number: u32| {
        let mut batch = Batch::new();
        batch.put(keyspace, number.to_be_bytes(), [7; 90]);
        (db.replication().origin().node, db.write(batch).unwrap())
    };
    // What has been written, and what was received when so many of it were.
    let (mut written, mut moments) = (Vec::new(), Vec::new());
    for round in 0..1500u32 {
        if round % 40 == 0 {
            written.push(write(&b, &at_b, 1_000_000 + round));
            ship(&b, &a);
        }
        written.push(write(&a, &at_a, round));
        if round % 7 == 0 {
            moments.push((written.len(), a.replication().applied(MAIN)));
        }
    }
    a.sync().unwrap();
    moments.push((written.len(), a.replication().applied(MAIN)));
    for (count, known) in moments {
        assert_eq!(told(&a, &known), written[count..], "after {count}");
    }
    assert_eq!(told(&a, &Vector::default()), written);
}

#[test]
fn a_delta_is_preferred_by_what_the_log_has_behind_and_what_it_would_read() {
    let disk = Disk::new(1);
    let db = disk.open(Options {
        sync: SyncMode::Async,
        background: Background::Off,
        memtable_bytes: 1 << 20,
        segment_bytes: 64 << 10,
        ..Options::default()
    });
    let k = keyspace(&db, "k");
    let moment_after = |keys: std::ops::Range<u32>| {
        for key in keys {
            k.put(key.to_be_bytes(), [7; 1000]).unwrap();
        }
        db.replication().applied(MAIN)
    };
    let prefers = |after: &Vector, bytes_min: u64| {
        db.replication().prefers_delta(MAIN, after, bytes_min).unwrap()
    };
    let (first, second) = (moment_after(0..100), moment_after(100..190));
    moment_after(190..200);
    db.flush().unwrap();
    // 100 kB are behind the first moment, and headers of commits and segments.
    assert!(prefers(&first, 100_000));
    assert!(!prefers(&first, 150_000));
    // Of 10 kB it would read 200.
    assert!(!prefers(&second, 1));
    // What is in memory is read as well.
    let (third, fourth) = (moment_after(200..200), moment_after(200..290));
    moment_after(290..300);
    assert!(prefers(&third, 100_000));
    assert!(!prefers(&fourth, 1));
}
