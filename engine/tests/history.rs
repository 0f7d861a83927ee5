//! Reads as of an earlier time.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod fixture;

use base::fs::CrashModel;
use esker::{Db, Error, Keyspace, Options, SyncMode};
use fixture::{Content, Disk, START_MS, keyspace, own, small};
use std::time::Duration;

fn options(history_ms: u64) -> Options {
    let history = Duration::from_millis(history_ms);
    Options { sync: SyncMode::Async, history, ..small() }
}

fn seen_at(db: &Db, k: &Keyspace, ms: u64) -> Content {
    let snapshot = db.snapshot_at(ms).unwrap();
    let all: Content = snapshot.iter(k).map(own).collect();
    for (key, value) in &all {
        assert_eq!(snapshot.get(k, key).unwrap().as_deref(), Some(&**value));
    }
    all
}

/// Writes of every kind, one each 10 ms, and what was there after each.
fn fill(disk: &Disk, db: &Db, k: &Keyspace) -> Vec<(u64, Content)> {
    let mut states = vec![(START_MS, Content::new())];
    let mut now = Content::new();
    for step in 1..60u64 {
        let ms = START_MS + step * 10;
        disk.clock.set(ms);
        let key = vec![b'a' + (step % 5) as u8];
        match step % 11 {
            3 => {
                k.delete(&key).unwrap();
                now.remove(&key);
            }
            7 => {
                k.delete_range(b"b", b"d").unwrap();
                now.retain(|key, _| !(&b"b"[..]..&b"d"[..]).contains(&&**key));
            }
            _ => {
                k.put(&key, ms.to_be_bytes()).unwrap();
                now.insert(key, ms.to_be_bytes().to_vec());
            }
        }
        match step % 16 {
            5 => db.flush().unwrap(),
            15 => db.compact_all().unwrap(),
            _ => {}
        }
        states.push((ms, now.clone()));
    }
    states
}

fn check(db: &Db, states: &[(u64, Content)]) {
    let k = keyspace(db, "k");
    for (ms, state) in states {
        assert_eq!(seen_at(db, &k, *ms), *state, "at {ms}");
        // Until the next write nothing changes.
        assert_eq!(seen_at(db, &k, *ms + 9), *state);
    }
    assert_eq!(seen_at(db, &k, u64::MAX), states.last().unwrap().1, "the future is now");
}

#[test]
fn every_moment_of_the_history_can_be_read_through_flush_and_compaction() {
    let disk = Disk::new(1);
    let db = disk.open(options(10_000));
    let states = fill(&disk, &db, &keyspace(&db, "k"));
    check(&db, &states);
    db.compact_all().unwrap();
    check(&db, &states);
}

#[test]
fn history_survives_reopen_and_crash() {
    let disk = Disk::new(1);
    let db = disk.open(options(10_000));
    let states = fill(&disk, &db, &keyspace(&db, "k"));
    let crashed = Disk::of(disk.fs.crash(CrashModel::Kill));
    crashed.clock.set(START_MS + 600);
    let recovered = crashed.open(options(10_000));
    check(&recovered, &states);
    recovered.compact_all().unwrap();
    check(&recovered, &states);
    db.close().unwrap();
    check(&disk.open(options(10_000)), &states);
}

#[test]
fn what_is_older_than_the_history_is_refused() {
    let disk = Disk::new(1);
    let db = disk.open(options(200));
    let k = keyspace(&db, "k");
    let states = fill(&disk, &db, &k);
    let now = START_MS + 590;
    for (ms, state) in &states {
        match db.snapshot_at(*ms) {
            Ok(_) => {
                assert_eq!(seen_at(&db, &k, *ms), *state);
                assert!(*ms >= now - 210, "{ms}");
            }
            Err(Error::HistoryGone { asked, oldest }) => {
                assert!(asked < oldest);
                assert!(*ms <= now - 200, "{ms}");
            }
            Err(error) => panic!("{error}"),
        }
    }
    // A snapshot keeps its moment for as long as it lives.
    let held = db.snapshot_at(now - 100).unwrap();
    let seen: Content = held.iter(&k).map(own).collect();
    disk.clock.set(now + 10_000);
    k.delete_range(b"", b"").unwrap();
    db.compact_all().unwrap();
    assert_eq!(held.iter(&k).map(own).collect::<Content>(), seen);
    assert!(matches!(db.snapshot_at(now - 100), Err(Error::HistoryGone { .. })));
    drop(held);
    disk.clock.set(now + 20_000);
    db.compact_all().unwrap();
    assert_eq!(db.stats().table_bytes, 0, "history costs space only while it lasts");
}

#[test]
fn without_history_only_now_can_be_read() {
    let disk = Disk::new(1);
    let db = disk.open(options(0));
    let k = keyspace(&db, "k");
    k.put(b"a", b"1").unwrap();
    disk.clock.set(START_MS + 10);
    k.put(b"a", b"2").unwrap();
    assert!(matches!(db.snapshot_at(START_MS), Err(Error::HistoryGone { .. })));
    assert_eq!(seen_at(&db, &k, START_MS + 10).len(), 1);
}

/// What was dropped while no history was kept does not come back, and is not passed over in silence.
#[test]
fn history_begins_when_it_is_switched_on() {
    for kill in [false, true] {
        let disk = Disk::new(1);
        let db = disk.open(options(0));
        let states = fill(&disk, &db, &keyspace(&db, "k"));
        let disk = match kill {
            true => Disk::of(disk.fs.crash(CrashModel::Kill)),
            false => {
                db.close().unwrap();
                disk
            }
        };
        disk.clock.set(START_MS + 600);
        let db = disk.open(options(10_000));
        let k = keyspace(&db, "k");
        for (ms, state) in &states {
            match db.snapshot_at(*ms) {
                Ok(_) => assert_eq!(seen_at(&db, &k, *ms), *state, "at {ms}"),
                Err(error) => assert!(matches!(error, Error::HistoryGone { .. }), "{error}"),
            }
        }
        k.put(b"a", b"after").unwrap();
        assert_eq!(seen_at(&db, &k, START_MS + 599), states.last().unwrap().1);
    }
}
