//! Another life, begun while the database runs: nothing is lost, and no stamp is used twice.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod fixture;

use base::fs::CrashModel;
use esker::replicate::{Purpose, ScopeId, Vector};
use esker::{Db, Error, Options, SyncMode, Tick};
use fixture::{Disk, START_MS, content, fast, keyspace, ship_in_time, small, small_busy};
use std::sync::atomic::{AtomicBool, Ordering};

const MAIN: ScopeId = ScopeId::MAIN;

fn give(from: &Db, to: &Db) {
    let (from, to) = (from.replication(), to.replication());
    let mut delta = from.delta(MAIN, &to.applied(MAIN)).unwrap();
    let mut stage = to.stage(MAIN, delta.head(), Purpose::CatchUp).unwrap();
    while let Some(chunk) = delta.next(1 << 20).unwrap() {
        stage.add(&chunk).unwrap();
    }
    stage.install().unwrap();
}

/// Its tables say who wrote them: nobody would ever be told that what they hold has come.
#[test]
fn a_bulk_load_across_a_renewal_is_refused_and_leaves_nothing() {
    let (disk, other) = (Disk::new(1), Disk::new(2));
    other.clock.set(START_MS + 5);
    let (a, b) = (disk.open(fast()), other.open(fast()));
    let k = keyspace(&a, "k");
    k.put("a", "before").unwrap();
    let entries = || (0..100u32).map(|number| (number.to_be_bytes(), [7; 100]));
    let renewing = entries().inspect(|(key, _)| {
        if *key == 50u32.to_be_bytes() {
            a.replication().renew().unwrap();
        }
    });
    let refused = k.ingest(renewing).unwrap_err();
    assert!(matches!(refused, Error::Renewed), "{refused}");
    assert_eq!(content(&k).len(), 1);
    let written = a.replication().written(MAIN).get(a.replication().origin());
    assert_eq!(written, Tick::ZERO, "a commit that nobody has");
    let tick = k.ingest(entries()).unwrap();
    let own = a.replication().origin();
    give(&a, &b);
    assert_eq!(content(&keyspace(&b, "k")), content(&k));
    assert_eq!(b.replication().applied(MAIN).get(own), tick);
    let mut delta = a.replication().delta(MAIN, &b.replication().applied(MAIN)).unwrap();
    assert_eq!(delta.next(1 << 20).unwrap(), None, "all of it counts as received");
    drop(delta);
    a.compact_all().unwrap();
    let live: u64 = a.stats().runs.iter().map(|run| run.tables).sum();
    assert_eq!(disk.files_in("tables/").len() as u64, live, "nothing of the first is left");
}

#[test]
fn what_was_written_before_is_of_the_former_life_and_stays() {
    let (disk, other) = (Disk::new(1), Disk::new(2));
    other.clock.set(START_MS + 5);
    let (a, b) = (disk.open(fast()), other.open(fast()));
    let k = keyspace(&a, "k");
    k.put("1", "first life").unwrap();
    ship_in_time(&a, &b);
    k.put("2", "first life").unwrap();
    let (at_a, at_b) = (a.replication(), b.replication());
    let before = (at_a.origin(), at_a.applied(MAIN));
    let mut tail = at_a.tail(MAIN, &at_b.applied(MAIN)).unwrap();

    let now = at_a.renew().unwrap();

    assert_eq!((now.node, now), (before.0.node, at_a.origin()));
    assert_ne!(now, before.0);
    assert_eq!((at_a.applied(MAIN), at_a.durable(MAIN)), (before.1.clone(), before.1.clone()));
    let tick = k.put("1", "second life").unwrap();
    k.put("3", "second life").unwrap();
    assert_eq!(at_a.applied(MAIN).get(before.0), before.1.get(before.0));
    assert!(at_a.applied(MAIN).get(now) > tick && tick > before.1.get(before.0));
    // Its log begins anew.
    let refused = tail.next(&at_b.applied(MAIN), 1 << 20);
    assert!(matches!(refused, Err(Error::HistoryGone { .. })), "{refused:?}");
    assert!(matches!(at_a.tail(MAIN, &at_b.applied(MAIN)), Err(Error::HistoryGone { .. })));
    give(&a, &b);
    k.put("4", "second life").unwrap();
    ship_in_time(&a, &b);
    assert_eq!(content(&keyspace(&b, "k")), content(&k));
    assert_eq!(at_b.applied(MAIN), at_a.applied(MAIN));
    // And so it is found again, whether tables are merged or not.
    let expected = (content(&k), at_a.applied(MAIN));
    let crashed = Disk::of(disk.fs.crash(CrashModel::Kill));
    a.compact_all().unwrap();
    a.close().unwrap();
    for disk in [disk, crashed] {
        disk.clock.set(START_MS + 10);
        let a = disk.open(fast());
        assert_eq!((content(&keyspace(&a, "k")), a.replication().applied(MAIN)), expected);
        assert_eq!(a.replication().origin(), now);
        let stamps = a.replication().entries("k").unwrap();
        let lives: Vec<_> = stamps.iter().map(|(_, _, stamp)| stamp.origin).collect();
        assert_eq!(lives, [now, before.0, now, now]);
    }
}

#[test]
fn a_crash_at_any_moment_leaves_one_of_the_two_lives_and_everything_written() {
    for model in CrashModel::ALL {
        let disk = Disk::new(3);
        let a = disk.open(Options { sync: SyncMode::Sync, ..small() });
        let k = keyspace(&a, "k");
        k.put("1", "first life").unwrap();
        let first = (a.replication().origin(), a.replication().applied(MAIN));
        disk.fs.record();
        let second = a.replication().renew().unwrap();
        disk.fs.mark(1);
        k.put("2", "second life").unwrap();
        disk.fs.mark(2);
        for moment in disk.fs.take_moments() {
            if model == CrashModel::SyncLied && moment.mark() < 2 {
                continue; // What a disk has lost that lied is for others to tell.
            }
            let disk = Disk::of(moment.crash(model, 7));
            disk.clock.set(START_MS + 10);
            let a = disk.open(fast());
            let (now, applied) = (a.replication().origin(), a.replication().applied(MAIN));
            assert_eq!(applied.get(first.0), first.1.get(first.0));
            if moment.mark() >= 1 {
                assert_ne!(now, first.0);
            }
            let is_there = keyspace(&a, "k").get("2").unwrap().is_some();
            assert!(is_there || moment.mark() < 2 || model == CrashModel::SyncLied);
            let tick = keyspace(&a, "k").put("3", "later").unwrap();
            assert!(tick > applied.latest());
            assert!(applied.get(second) == Tick::ZERO || is_there);
        }
    }
}

#[test]
fn writers_go_on_in_the_new_life_and_miss_nothing() {
    let disk = Disk::new(4);
    let a = disk.open(Options { sync: SyncMode::Async, ..small_busy() });
    let is_over = AtomicBool::new(false);
    let writes = std::thread::scope(|scope| {
        let writers: Vec<_> = (0..3u32)
            .map(|writer| {
                let (a, is_over) = (&a, &is_over);
                scope.spawn(move || {
                    let k = keyspace(a, "k");
                    let mut writes = 0u32;
                    while !is_over.load(Ordering::Relaxed) || writes < 300 {
                        k.put((writes * 3 + writer).to_be_bytes(), [1; 50]).unwrap();
                        writes += 1;
                    }
                    writes
                })
            })
            .collect();
        for _ in 0..5 {
            a.replication().renew().unwrap();
        }
        is_over.store(true, Ordering::Relaxed);
        writers.into_iter().map(|writer| writer.join().unwrap()).collect::<Vec<_>>()
    });
    let expected: usize = writes.iter().map(|writes| *writes as usize).sum();
    assert_eq!(content(&keyspace(&a, "k")).len(), expected);
    let b = Disk::new(5).open(fast());
    b.replication().raise_floor(MAIN, &Vector::default()).unwrap();
    give(&a, &b);
    assert_eq!(content(&keyspace(&b, "k")), content(&keyspace(&a, "k")));
    assert_eq!(b.replication().applied(MAIN), a.replication().applied(MAIN));
    let crashed = Disk::of(disk.fs.crash(CrashModel::Kill)).open(fast());
    assert_eq!(content(&keyspace(&crashed, "k")).len(), expected);
    assert_eq!(crashed.replication().applied(MAIN), a.replication().applied(MAIN));
}
