//! Bulk load: tables written directly, visible as one commit.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod fixture;

use base::fs::{CrashModel, Fault, FaultPlan, SimOp};
use esker::{Batch, Db, Keyspace, Options, SyncMode};
use fixture::{Content, Disk, content, keyspace, own, scale, small, small_busy};
use std::sync::atomic::{AtomicBool, Ordering};

fn open() -> (Disk, Db, Keyspace) {
    let disk = Disk::new(1);
    let db = disk.open(Options { sync: SyncMode::Async, ..small() });
    let k = keyspace(&db, "k");
    (disk, db, k)
}

fn entries(range: std::ops::Range<u32>, value: &str) -> Content {
    range.map(|number| (number.to_be_bytes().to_vec(), value.repeat(20).into_bytes())).collect()
}

#[test]
fn an_ingest_hides_what_came_before_and_is_hidden_by_what_comes_after() {
    let (disk, db, k) = open();
    k.put(1u32.to_be_bytes(), b"before").unwrap();
    k.put(b"kept", b"before").unwrap();
    let seqno = k.ingest(entries(0..4, "x")).unwrap();
    assert_eq!(db.snapshot().seqno(), seqno);
    k.delete(2u32.to_be_bytes()).unwrap();
    k.delete_range(3u32.to_be_bytes(), 4u32.to_be_bytes()).unwrap();
    let mut expected = entries(0..2, "x");
    expected.insert(b"kept".to_vec(), b"before".to_vec());
    assert_eq!(content(&k), expected);
    k.ingest(entries(2..4, "y")).unwrap();
    expected.extend(entries(2..4, "y"));
    assert_eq!(content(&k), expected);
    let crashed = Disk::of(disk.fs.crash(CrashModel::Kill)).open(small());
    assert_eq!(content(&keyspace(&crashed, "k")), expected);
    db.compact_all().unwrap();
    assert_eq!(content(&k), expected);
    db.close().unwrap();
    assert_eq!(content(&keyspace(&disk.open(small()), "k")), expected);
}

#[test]
fn a_snapshot_taken_before_does_not_see_it() {
    let (_disk, db, k) = open();
    k.put(0u32.to_be_bytes(), b"before").unwrap();
    let snapshot = db.snapshot();
    let mut iter = k.iter();
    k.ingest(entries(0..500, "x")).unwrap();
    let check = || {
        assert_eq!(snapshot.get(&k, 0u32.to_be_bytes()).unwrap().unwrap(), b"before");
        assert!(snapshot.get(&k, 1u32.to_be_bytes()).unwrap().is_none());
        assert_eq!(snapshot.iter(&k).map(own).count(), 1);
        assert_eq!(snapshot.iter(&k).rev().map(own).count(), 1);
    };
    check();
    db.compact_all().unwrap();
    check();
    assert_eq!(iter.by_ref().map(own).count(), 1);
    drop(snapshot);
    assert_eq!(content(&k), entries(0..500, "x"));
}

#[test]
fn unsorted_input_is_refused_and_nothing_of_it_is_stored() {
    let (disk, db, k) = open();
    for wrong in [[b"b", b"a"], [b"a", b"a"]] {
        let mut input: Vec<(Vec<u8>, Vec<u8>)> = entries(0..2000, "x").into_iter().collect();
        input.extend(wrong.map(|key| (key.to_vec(), Vec::new())));
        let error = k.ingest(input).unwrap_err();
        assert_eq!(error.code(), "InvalidInput");
        assert!(error.to_string().contains("sort"), "{error}");
    }
    assert!(content(&k).is_empty());
    k.ingest([(b"a", b"1")]).unwrap();
    k.ingest([(b"b", b"1")]).unwrap();
    assert_eq!(content(&k).len(), 2);
    db.settle().unwrap();
    let tables: u64 = db.stats().runs.iter().map(|run| run.tables).sum();
    assert_eq!(disk.files_in("tables/").len() as u64, tables, "leftovers are gone");
}

#[test]
fn a_failed_ingest_leaves_no_trace_and_the_next_works() {
    let (disk, db, k) = open();
    let faults = [
        FaultPlan::new(SimOp::Create, Fault::DiskFull).on(".sst"),
        FaultPlan::new(SimOp::Append, Fault::DiskFull).on(".sst").after(1),
        FaultPlan::new(SimOp::Append, Fault::Io).on(".sst"),
        FaultPlan::new(SimOp::SyncData, Fault::Io).on(".sst"),
        FaultPlan::new(SimOp::SyncDir, Fault::Io).on("tables"),
    ];
    for (number, fault) in faults.into_iter().enumerate() {
        disk.fs.inject(fault);
        k.ingest(entries(0..2000, "x")).unwrap_err();
        disk.fs.clear_faults();
        assert!(content(&k).is_empty(), "fault {number}");
        k.put(b"k", b"v").unwrap();
        k.delete(b"k").unwrap();
    }
    k.ingest(entries(0..2000, "y")).unwrap();
    assert_eq!(content(&k), entries(0..2000, "y"));
    db.flush().unwrap();
    db.flush().unwrap();
    let tables: u64 = db.stats().runs.iter().map(|run| run.tables).sum();
    assert_eq!(disk.files_in("tables/").len() as u64, tables);
}

/// Writers fill memtables while one ingest follows the other.
#[test]
fn ingests_among_writers_take_their_place_and_nobody_waits_for_ever() {
    let dir = tempfile::tempdir().unwrap();
    let options = Options { sync: SyncMode::Async, ..small_busy() };
    let db = Db::open(dir.path().join("data"), options).unwrap();
    let k = keyspace(&db, "k");
    let is_done = AtomicBool::new(false);
    std::thread::scope(|scope| {
        for writer in 0..2u8 {
            let (db, k, is_done) = (&db, &k, &is_done);
            scope.spawn(move || {
                for round in 0u64.. {
                    let mut batch = Batch::new();
                    batch.put(k, [b'w', writer], round.to_be_bytes());
                    batch.put(k, [b'x', writer, (round % 251) as u8], [7; 400]);
                    let seqno = db.write(batch).unwrap();
                    assert!(db.snapshot().seqno() >= seqno);
                    let found = k.get([b'w', writer]).unwrap().unwrap();
                    assert_eq!(found, round.to_be_bytes());
                    if is_done.load(Ordering::SeqCst) {
                        return;
                    }
                }
            });
        }
        for round in 0..40 * scale() {
            let value = format!("round {round} ");
            let seqno = k.ingest(entries(0..50, &value)).unwrap();
            assert!(db.snapshot().seqno() >= seqno);
            let seen: Content = k.range(..b"w").map(own).collect();
            assert_eq!(seen, entries(0..50, &value));
        }
        is_done.store(true, Ordering::SeqCst);
    });
}

#[test]
fn large_input_becomes_many_tables_and_is_read_back() {
    let (disk, db, k) = open();
    let input: Content =
        (0..6000u32).map(|number| (number.to_be_bytes().to_vec(), noise(number))).collect();
    k.ingest(&input).unwrap();
    assert!(db.stats().runs.iter().map(|run| run.tables).sum::<u64>() > 3);
    assert_eq!(content(&k), input);
    let crashed = Disk::of(disk.fs.crash(CrashModel::Synced)).open(small());
    assert_eq!(content(&keyspace(&crashed, "k")), input);
}

/// Bytes that do not compress.
fn noise(number: u32) -> Vec<u8> {
    let mut state = u64::from(number) + 1;
    (0..100)
        .map(|_| {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695);
            (state >> 56) as u8
        })
        .collect()
}
