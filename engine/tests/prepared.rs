//! Deltas that go into tables while they come: nothing of them counts before they are installed, and what is
//! written meanwhile is compared once more.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

mod fixture;

use base::fs::{CrashModel, SimFs};
use esker::replicate::{Installed, Purpose, ScopeId, Stage, Vector};
use esker::{Background, Db, Options, SyncMode};
use fixture::{
    Content, Disk, Left, START_MS, assert_all_or_nothing, content, fast, keyspace, small_busy,
};
use std::collections::BTreeSet;
use std::time::Duration;

const MAIN: ScopeId = ScopeId::MAIN;

/// A node that keeps tombstones until a floor covers them, with two keyspaces that are numbered against the
/// order of their names.
fn node(seed: u64, options: Options) -> (Disk, Db) {
    let disk = Disk::new(seed);
    disk.clock.set(START_MS + seed);
    let db = disk.open(options);
    db.replication().raise_floor(MAIN, &Vector::default()).unwrap();
    keyspace(&db, "zebra");
    keyspace(&db, "ant");
    (disk, db)
}

/// Puts, deletes, expiring puts and later versions; no range deletes.
fn giver() -> Db {
    let (_, db) = node(1, fast());
    for number in 0..400u32 {
        keyspace(&db, "zebra").put(number.to_be_bytes(), [number as u8; 300]).unwrap();
        keyspace(&db, "ant").put(number.to_be_bytes(), b"of a").unwrap();
    }
    db.flush().unwrap();
    for number in 0..50u32 {
        keyspace(&db, "zebra").delete((number * 3).to_be_bytes()).unwrap();
        let day = Duration::from_secs(86_400);
        keyspace(&db, "ant").put_expiring(number.to_be_bytes(), b"ends", day).unwrap();
    }
    db
}

fn staged(from: &Db, to: &Db, len_max: usize) -> Stage {
    let to = to.replication();
    let mut delta = from.replication().delta(MAIN, &to.applied(MAIN)).unwrap();
    let mut stage = to.stage(MAIN, delta.head(), Purpose::CatchUp).unwrap();
    while let Some(chunk) = delta.next(len_max).unwrap() {
        stage.add(&chunk).unwrap();
    }
    stage
}

fn all(db: &Db) -> [Content; 2] {
    ["ant", "zebra"].map(|name| content(&keyspace(db, name)))
}

fn tables(disk: &Disk) -> BTreeSet<String> {
    disk.files_in("tables/").into_iter().collect()
}

/// A whole table at least that installing made, or none: then what came was taken as it was.
fn was_written_anew(disk: &Disk, staged: &BTreeSet<String>) -> bool {
    !tables(disk).is_subset(staged)
}

#[test]
fn what_came_goes_into_tables_and_counts_once_it_is_installed() {
    let a = giver();
    for options in [fast(), Options { sync: SyncMode::Async, ..small_busy() }] {
        for len_max in [300, 1 << 20] {
            let (disk, b) = node(2, options.clone());
            keyspace(&b, "ant").put([0xff; 9], "of b").unwrap();
            let before = all(&b);
            let stage = staged(&a, &b, len_max);
            assert_eq!(all(&b), before, "nothing counts before it is installed");
            b.flush().unwrap();
            let (snapshot, on_disk) = (b.snapshot(), tables(&disk));
            assert_eq!(stage.install().unwrap(), Installed::All);
            assert!(options.background == Background::On || !was_written_anew(&disk, &on_disk));
            let seen = snapshot.iter(&keyspace(&b, "zebra")).count();
            assert_eq!(seen, 0, "a snapshot of before sees none of it");
            keyspace(&b, "ant").delete([0xff; 9]).unwrap();
            assert_eq!(all(&b), all(&a));
            drop(snapshot);
            b.compact_all().unwrap();
            assert_eq!(all(&b), all(&a));
            b.close().unwrap();
            let b = disk.open(fast());
            assert_eq!(all(&b), all(&a));
            assert!(b.replication().applied(MAIN).covers_all(&a.replication().applied(MAIN)));
            assert!(b.scrub().unwrap().findings.is_empty());
            // Stamps are as they were: whoever gets it from here has the same.
            let (_, c) = node(3, fast());
            staged(&b, &c, 1 << 20).install().unwrap();
            assert_eq!(all(&c), all(&a));
            let entries = |db: &Db| db.replication().entries("zebra").unwrap();
            assert_eq!(entries(&c), entries(&a));
        }
    }
}

#[test]
fn a_delta_that_was_prepared_and_breaks_off_leaves_nothing() {
    let a = giver();
    let (disk, b) = node(2, fast());
    let before = tables(&disk);
    drop(staged(&a, &b, 100));
    assert_eq!(tables(&disk), before);
    let stage = staged(&a, &b, 100);
    let crashed = Disk::of(disk.fs.crash(CrashModel::Kill));
    drop(stage);
    let b = crashed.open(fast());
    assert_eq!((all(&b), tables(&crashed).len()), (Default::default(), before.len()));
}

/// Each key that is written meanwhile keeps the greater of the two.
#[test]
fn what_is_written_while_a_delta_comes_is_compared_once_more() {
    let a = giver();
    let key = |number: u32| number.to_be_bytes();
    type Change = (&'static str, fn(&Db));
    let changes: [Change; 4] = [
        ("put", |b| {
            keyspace(b, "zebra").put(7u32.to_be_bytes(), "newer").unwrap();
        }),
        ("delete", |b| {
            keyspace(b, "zebra").delete(7u32.to_be_bytes()).unwrap();
        }),
        ("range", |b| {
            keyspace(b, "zebra").delete_range(5u32.to_be_bytes(), 9u32.to_be_bytes()).unwrap();
        }),
        ("another key", |b| {
            keyspace(b, "zebra").put([0xfe; 5], "of b").unwrap();
        }),
    ];
    for (what, change) in changes {
        for merges in [false, true] {
            let (disk, b) = node(9, fast());
            let stage = staged(&a, &b, 1 << 12);
            change(&b);
            b.flush().unwrap();
            if merges {
                b.compact_all().unwrap();
            }
            let on_disk = tables(&disk);
            assert_eq!(stage.install().unwrap(), Installed::All);
            let found = keyspace(&b, "zebra").get(key(7)).unwrap();
            let expected = match what {
                "put" => Some(b"newer".to_vec()),
                "another key" => Some(vec![7; 300]),
                _ => None,
            };
            assert_eq!(found.as_deref(), expected.as_deref(), "{what}");
            assert_eq!(was_written_anew(&disk, &on_disk), what != "another key", "{what}");
            assert_eq!(content(&keyspace(&b, "ant")), content(&keyspace(&a, "ant")), "{what}");
            assert!(keyspace(&b, "zebra").get(key(3)).unwrap().is_none());
            b.settle().unwrap();
            let live: u64 = b.stats().runs.iter().map(|run| run.tables).sum();
            assert_eq!(tables(&disk).len() as u64, live, "nothing is left behind");
            assert!(b.scrub().unwrap().findings.is_empty());
        }
    }
}

/// What is here already, in memory or in a table: the greater of the two stays, here and there in between
/// what is news.
#[test]
fn what_was_here_before_a_delta_is_compared_key_by_key() {
    let a = giver();
    let keys = [0, 1, 3, 50, 51, 52, 199, 200, 398, 399, 400].map(u32::to_be_bytes);
    for is_newer in [true, false] {
        for len_max in [300, 1 << 20] {
            let (_, b) = node(if is_newer { 2 } else { 0 }, fast());
            for (place, key) in keys.iter().enumerate() {
                for name in ["zebra", "ant"] {
                    match place % 4 {
                        0 => keyspace(&b, name).delete(key).unwrap(),
                        _ => keyspace(&b, name).put(key, "of b").unwrap(),
                    };
                }
                if place == keys.len() / 2 {
                    b.flush().unwrap();
                }
            }
            let mut expected = all(&a);
            for (content, own) in expected.iter_mut().zip(all(&b)) {
                let key = |number: &[u8; 4]| number.to_vec();
                let of_both = keys.iter().filter(|number| is_newer || **number == keys[10]);
                of_both.for_each(|number| _ = content.remove(&key(number)));
                content.extend(own.into_iter().filter(|(at, _)| is_newer || at == &key(&keys[10])));
            }
            staged(&a, &b, len_max).install().unwrap();
            assert_eq!(all(&b), expected, "newer: {is_newer}");
        }
    }
}

/// An older write of a third node comes first by the tail, and loses to what was prepared before.
#[test]
fn an_older_write_that_comes_meanwhile_does_not_win() {
    let (_, c) = node(0, fast());
    keyspace(&c, "zebra").put(7u32.to_be_bytes(), "older").unwrap();
    let a = giver();
    let (_, b) = node(2, fast());
    let stage = staged(&a, &b, 1 << 12);
    let mut tail = c.replication().tail(MAIN, &b.replication().applied(MAIN)).unwrap();
    let shipment = tail.next(&b.replication().applied(MAIN), 1 << 20).unwrap().unwrap();
    b.replication().admit(&shipment.bytes).unwrap();
    assert_eq!(keyspace(&b, "zebra").get(7u32.to_be_bytes()).unwrap().unwrap(), b"older");
    stage.install().unwrap();
    assert_eq!(all(&b), all(&a));
}

/// What comes first can be prepared, what follows can not: both are installed, the first as it is unless it was
/// written meanwhile.
#[test]
fn a_delta_may_go_on_in_the_file() {
    let a = giver();
    keyspace(&a, "bear").put("new", "here").unwrap();
    for len_max in [300, 1 << 12] {
        for is_written_meanwhile in [false, true] {
            let (disk, b) = node(2, fast());
            let before = tables(&disk);
            let stage = staged(&a, &b, len_max);
            let staged: BTreeSet<String> = tables(&disk).difference(&before).cloned().collect();
            if is_written_meanwhile {
                keyspace(&b, "ant").put(7u32.to_be_bytes(), "of b").unwrap();
            }
            stage.install().unwrap();
            // The file goes in any case.
            let gone = staged.difference(&tables(&disk)).count();
            assert!(staged.len() > 1 && (gone > 1) == is_written_meanwhile, "{gone} are gone");
            let mut expected = all(&a);
            if is_written_meanwhile {
                expected[0].insert(7u32.to_be_bytes().to_vec(), b"of b".to_vec());
            }
            assert_eq!(all(&b), expected);
            assert_eq!(keyspace(&b, "bear").get("new").unwrap().unwrap(), b"here");
            assert!(b.scrub().unwrap().findings.is_empty());
            b.compact_all().unwrap();
            assert_eq!(all(&b), expected);
        }
    }
}

#[test]
fn a_crash_leaves_all_of_a_prepared_delta_or_nothing() {
    let a = giver();
    let (expected, has) = (all(&a), a.replication().applied(MAIN));
    let prepared = {
        let (disk, b) = node(2, fast());
        b.close().unwrap();
        disk.fs
    };
    let run = |fs: &SimFs| {
        let b = Disk::of(fs.clone()).try_open(fast())?;
        let replication = b.replication();
        let mut delta = a.replication().delta(MAIN, &replication.applied(MAIN))?;
        let mut stage = replication.stage(MAIN, delta.head(), Purpose::CatchUp)?;
        while let Some(chunk) = delta.next(1 << 14)? {
            stage.add(&chunk)?;
        }
        stage.install()
    };
    assert_all_or_nothing(&prepared, fast, run, |b| {
        if b.replication().applied(MAIN).covers_all(&has) {
            assert_eq!(all(b), expected);
            assert!(b.scrub().unwrap().findings.is_empty());
            return Left::All;
        }
        assert_eq!(all(b), <[Content; 2]>::default());
        Left::Nothing
    });
}
