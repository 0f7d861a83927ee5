//! Disks that fail: what cannot be known to be durable is never said to be, reads go on, and a
//! reopen finds everything that was acknowledged.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod fixture;

use base::fs::{CrashModel, Fault, FaultPlan, SimOp};
use esker::{Batch, Db, Error, Keyspace, Options, Status, SyncMode, Tick};
use fixture::{Content, Disk, content, keyspace, small, small_busy};

fn open(options: Options) -> (Disk, Db, Keyspace) {
    let disk = Disk::new(1);
    let db = disk.open(options);
    let k = keyspace(&db, "k");
    for number in 0..50u32 {
        k.put(number.to_be_bytes(), [1; 100]).unwrap();
    }
    (disk, db, k)
}

fn assert_poisoned(db: &Db, k: &Keyspace, expected: &Content) {
    assert_eq!(db.health().status, Status::Poisoned);
    assert_eq!(db.health().reasons.len(), 1);
    for result in [
        k.put(b"k", b"v").map(drop),
        k.delete(b"k").map(drop),
        k.delete_range(b"k", b"").map(drop),
        k.ingest([(b"k", b"v")]).map(drop),
    ] {
        let error = result.unwrap_err();
        assert!(matches!(error, Error::Poisoned), "{error}");
    }
    // What is durable already needs nothing more.
    for result in [db.sync(), db.flush()] {
        assert!(matches!(result, Ok(()) | Err(Error::Poisoned)), "{result:?}");
    }
    assert_eq!(content(k), *expected, "reads go on");
    assert_eq!(db.snapshot().get(k, 0u32.to_be_bytes()).unwrap().unwrap(), [1; 100]);
}

#[test]
fn a_failed_sync_poisons_writes_and_never_acknowledges() {
    for fault in [
        FaultPlan::new(SimOp::SyncData, Fault::Io).on("wal"),
        FaultPlan::new(SimOp::Append, Fault::Io).on("wal"),
    ] {
        let (disk, db, k) = open(small());
        let expected = content(&k);
        disk.fs.inject(fault);
        k.put(b"not acknowledged", b"").unwrap_err();
        disk.fs.clear_faults();
        assert_poisoned(&db, &k, &expected);
        assert!(k.get(b"not acknowledged").unwrap().is_none(), "never durable, never visible");
        // After the failure the disk works; a later sync must not pretend.
        for model in [CrashModel::Kill, CrashModel::Synced] {
            let crashed = Disk::of(disk.fs.crash(model)).open(small());
            let mut found = content(&keyspace(&crashed, "k"));
            found.remove(&b"not acknowledged"[..]);
            assert_eq!(found, expected, "{model:?}");
        }
        assert!(matches!(db.close().unwrap_err(), Error::Poisoned));
        let db = disk.open(small());
        let k = keyspace(&db, "k");
        assert!(k.count(..).unwrap() >= 50);
        k.put(b"works", b"again").unwrap();
        assert_eq!(db.health().status, Status::Healthy);
    }
}

#[test]
fn everyone_who_waits_for_a_failed_sync_is_told() {
    let (disk, db, k) = open(small_busy());
    let before = k.count(..).unwrap();
    disk.fs.inject(FaultPlan::new(SimOp::SyncData, Fault::Io).on("wal").after(5).sticky());
    let acknowledged: u64 = std::thread::scope(|scope| {
        let writers: Vec<_> = (0..4u8)
            .map(|writer| {
                let k = &k;
                scope.spawn(move || {
                    let mut count = 0;
                    while k.put([b'w', writer, count as u8], [2; 50]).is_ok() {
                        count += 1;
                    }
                    count
                })
            })
            .collect();
        writers.into_iter().map(|writer| writer.join().unwrap()).sum()
    });
    let mut batch = Batch::new();
    batch.put(&k, b"k", b"v");
    assert!(matches!(db.submit(batch), Err(Error::Poisoned)));
    assert!(matches!(db.transaction().map(drop), Ok(()) | Err(Error::Poisoned)));
    let feed = db.changes(Tick::ZERO).unwrap();
    assert!(!matches!(feed.wait(std::time::Duration::from_millis(1)), Ok(false)));
    disk.fs.clear_faults();
    let lost = Disk::of(disk.fs.crash(CrashModel::Synced)).open(small());
    let found = keyspace(&lost, "k").count(..).unwrap();
    assert!(found >= before + acknowledged, "{found} of {before} and {acknowledged}");
    db.close().unwrap_err();
}

#[test]
fn a_ticket_of_a_failed_sync_says_so() {
    let (disk, db, k) = open(small_busy());
    disk.fs.inject(FaultPlan::new(SimOp::SyncData, Fault::Io).on("wal").sticky());
    let mut batch = Batch::new();
    batch.put(&k, b"k", b"v");
    let ticket = db.submit(batch).unwrap();
    assert!(ticket.wait().is_err());
    assert!(k.get(b"k").unwrap().is_none());
    disk.fs.clear_faults();
    assert!(matches!(db.sync(), Err(Error::Poisoned)));
}

#[test]
fn a_table_that_can_not_be_written_is_tried_again() {
    let faults = [
        FaultPlan::new(SimOp::Create, Fault::Io).on(".sst"),
        FaultPlan::new(SimOp::Append, Fault::Io).on(".sst"),
        FaultPlan::new(SimOp::SyncData, Fault::Io).on(".sst"),
        FaultPlan::new(SimOp::SyncDir, Fault::Io).on("tables"),
        FaultPlan::new(SimOp::Create, Fault::TooManyFiles).on(".sst"),
    ];
    for (number, fault) in faults.into_iter().enumerate() {
        for is_compaction in [false, true] {
            let (disk, db, k) = open(small());
            let expected = content(&k);
            if is_compaction {
                db.flush().unwrap();
            }
            disk.fs.inject(fault.clone());
            let failed = if is_compaction { db.compact_all() } else { db.flush() };
            assert!(failed.is_err(), "fault {number}");
            disk.fs.clear_faults();
            assert_eq!(content(&k), expected);
            assert_ne!(db.health().status, Status::Poisoned);
            k.put(b"k", b"v").unwrap();
            db.compact_all().unwrap();
            assert_eq!(content(&k).len(), 51);
            let lost = Disk::of(disk.fs.crash(CrashModel::Synced)).open(small());
            assert_eq!(content(&keyspace(&lost, "k")).len(), 51);
        }
    }
}

/// A disk on which no table can be written is not written to for ever: what is in memory and in the
/// log stays readable, and a reopen finds it.
#[test]
fn flushes_that_fail_time_and_again_poison() {
    let (disk, db, k) = open(small());
    let expected = content(&k);
    disk.fs.inject(FaultPlan::new(SimOp::SyncData, Fault::Io).on(".sst").sticky());
    for failures in 1..=8 {
        assert_ne!(db.health().status, Status::Poisoned, "{failures}");
        let error = db.flush().unwrap_err();
        assert!(matches!(error, Error::Io { .. }), "{error}");
    }
    disk.fs.clear_faults();
    assert_poisoned(&db, &k, &expected);
    let crashed = Disk::of(disk.fs.crash(CrashModel::Synced)).open(small());
    assert_eq!(content(&keyspace(&crashed, "k")), expected);
}

/// Failures that a success parts do not add up.
#[test]
fn a_flush_that_succeeds_forgets_the_failures_before_it() {
    let (disk, db, k) = open(small());
    for round in 0..12u32 {
        k.put(round.to_be_bytes(), b"v").unwrap();
        disk.fs.inject(FaultPlan::new(SimOp::Append, Fault::Io).on(".sst"));
        db.flush().unwrap_err();
        disk.fs.clear_faults();
        db.flush().unwrap();
    }
    assert_eq!(db.health().status, Status::Healthy);
}

#[test]
fn a_background_flush_that_fails_is_tried_again_by_itself() {
    let disk = Disk::new(1);
    let db = disk.open(Options { sync: SyncMode::Async, ..small_busy() });
    let k = keyspace(&db, "k");
    for after in 0..4 {
        disk.fs.inject(FaultPlan::new(SimOp::Append, Fault::Io).on(".sst").after(after));
    }
    for number in 0..1000u32 {
        k.put(number.to_be_bytes(), [1; 500]).unwrap();
    }
    db.flush().unwrap();
    assert_eq!(content(&k).len(), 1000);
}

/// Once an edit of the manifest failed, what is on disk is unknown: no flush can ever succeed, so no
/// write may be left waiting for one.
#[test]
fn a_failed_manifest_poisons_writes_and_leaves_nobody_waiting() {
    for background in [esker::Background::Off, esker::Background::On] {
        for op in [SimOp::Append, SimOp::SyncData] {
            let (disk, db, k) = open(Options { sync: SyncMode::Async, background, ..small() });
            disk.fs.inject(FaultPlan::new(op, Fault::Io).on("manifest"));
            let mut acknowledged = content(&k);
            let error = loop {
                let key = (acknowledged.len() as u32).to_be_bytes();
                match k.put(key, [1; 700]) {
                    Ok(_) => drop(acknowledged.insert(key.to_vec(), vec![1; 700])),
                    Err(error) => break error,
                }
                assert!(acknowledged.len() < 2000);
            };
            assert!(matches!(error, Error::Poisoned | Error::Io { .. }), "{error}");
            disk.fs.clear_faults();
            assert_poisoned(&db, &k, &acknowledged);
            assert!(db.keyspace("new", Default::default()).is_err());
            assert!(db.compact_all().is_err());
            let crashed = Disk::of(disk.fs.crash(CrashModel::Kill)).open(small());
            assert_eq!(content(&keyspace(&crashed, "k")), acknowledged);
            db.close().unwrap_err();
            assert_eq!(content(&keyspace(&disk.open(small()), "k")), acknowledged);
        }
    }
}

/// The name of a new segment that may not be durable: whether it is made by a writer that rolls or ahead
/// of time, nothing that depends on it is acknowledged.
#[test]
fn a_new_segment_whose_name_is_not_durable_poisons() {
    for background in [esker::Background::Off, esker::Background::On] {
        let (disk, db, k) = open(Options { background, ..small() });
        let mut acknowledged = content(&k);
        disk.fs.inject(FaultPlan::new(SimOp::SyncDir, Fault::Io).on("wal"));
        let error = loop {
            let key = (acknowledged.len() as u32).to_be_bytes();
            match k.put(key, [1; 700]) {
                Ok(_) => drop(acknowledged.insert(key.to_vec(), vec![1; 700])),
                Err(error) => break error,
            }
            assert!(acknowledged.len() < 5000);
        };
        assert!(matches!(error, Error::Poisoned | Error::Io { .. }), "{error}");
        disk.fs.clear_faults();
        assert_poisoned(&db, &k, &acknowledged);
        for model in [CrashModel::Kill, CrashModel::Synced] {
            let crashed = Disk::of(disk.fs.crash(model)).open(small());
            let found = content(&keyspace(&crashed, "k"));
            assert!(acknowledged.iter().all(|(key, value)| found.get(key) == Some(value)));
        }
        db.close().unwrap_err();
        let found = content(&keyspace(&disk.open(small()), "k"));
        assert!(acknowledged.iter().all(|(key, value)| found.get(key) == Some(value)));
    }
}

/// Makes edits until the manifest is renewed under `fault`, and some more. How many keyspaces there are,
/// and the first error.
fn renew_manifest(fault: FaultPlan) -> (Disk, Db, usize, Option<Error>) {
    let (disk, db, _) = open(Options { sync: SyncMode::Async, ..small() });
    disk.fs.inject(fault);
    for number in 0..3500 {
        if let Err(error) = db.keyspace(&format!("{number:0>200}"), Default::default()) {
            return (disk, db, number, Some(error));
        }
    }
    (disk, db, 3500, None)
}

#[test]
fn a_manifest_that_can_not_be_created_is_tried_again_and_loses_nothing() {
    for op in [SimOp::Create, SimOp::Append, SimOp::SyncData] {
        // The name ends so only from the second manifest of this open on.
        let (disk, db, made, error) = renew_manifest(FaultPlan::new(op, Fault::Io).on("003.mf"));
        assert!(error.is_none(), "{op:?}: {error:?}");
        assert_eq!(db.health().status, Status::Healthy);
        assert!(disk.files_in("manifest/").iter().any(|path| path.ends_with("004.mf")), "{op:?}");
        for model in [CrashModel::Kill, CrashModel::Synced] {
            let crashed = Disk::of(disk.fs.crash(model)).open(small());
            assert_eq!(crashed.keyspaces().len(), made + 1, "{op:?} {model:?}");
        }
    }
}

/// Which of two manifests counts is unknown: nothing is written to either.
#[test]
fn a_root_that_can_not_be_replaced_poisons() {
    for op in [SimOp::Rename, SimOp::SyncDir] {
        // The folder of the manifest is synced before that of the root.
        let passes = if op == SimOp::SyncDir { 1 } else { 0 };
        let fault = FaultPlan::new(op, Fault::Io).after(passes).sticky();
        let (disk, db, made, error) = renew_manifest(fault);
        assert!(error.is_some(), "{op:?}");
        disk.fs.clear_faults();
        let k = db.existing_keyspace("k").unwrap();
        let expected = content(&k);
        assert!(db.keyspace("one more", Default::default()).is_err());
        assert_poisoned(&db, &k, &expected);
        for model in [CrashModel::Kill, CrashModel::Synced] {
            let crashed = Disk::of(disk.fs.crash(model)).open(small());
            assert!(crashed.keyspaces().len() > made, "{op:?} {model:?}");
            assert_eq!(content(&keyspace(&crashed, "k")), expected);
        }
    }
}

#[test]
fn a_keyspace_whose_creation_failed_is_not_there_or_empty() {
    let (disk, db, _k) = open(small());
    disk.fs.inject(FaultPlan::new(SimOp::SyncData, Fault::Io).on("manifest"));
    db.keyspace("new", Default::default()).unwrap_err();
    assert!(db.existing_keyspace("new").is_err());
    disk.fs.clear_faults();
    for model in [CrashModel::Kill, CrashModel::Synced] {
        let db = Disk::of(disk.fs.crash(model)).open(small());
        assert!(content(&keyspace(&db, "new")).is_empty());
        assert_eq!(content(&keyspace(&db, "k")).len(), 50);
    }
}

/// A read that fails is an error, never a wrong or a missing value.
#[test]
fn damage_and_failing_reads_are_errors() {
    let (disk, db, k) = open(small());
    db.compact_all().unwrap();
    let expected = content(&k);
    db.close().unwrap();
    for bit in (0..4000).step_by(97) {
        for fault in [Fault::BitFlip(bit), Fault::Io, Fault::ShortRead] {
            let db = disk.open(small());
            let k = keyspace(&db, "k");
            disk.fs.inject(FaultPlan::new(SimOp::Read, fault).on(".sst").after(bit % 4).sticky());
            for number in 0..50u32 {
                match k.get(number.to_be_bytes()) {
                    Ok(found) => assert_eq!(found.unwrap(), [1; 100]),
                    Err(error) => {
                        let is_plain = matches!(&error, Error::Corrupt { .. } | Error::Io { .. });
                        assert!(is_plain && error.path().is_some(), "{error}");
                    }
                }
            }
            let mut seen = Content::new();
            for entry in k.iter() {
                match entry {
                    Ok((key, value)) => drop(seen.insert(key.into(), value.into())),
                    Err(_) => break,
                }
            }
            assert!(seen.iter().all(|(key, value)| expected.get(key) == Some(value)));
            disk.fs.clear_faults();
            assert_eq!(content(&k), expected, "a failed read is not remembered");
        }
    }
}

/// A compaction that reads damage stops, and destroys nothing.
#[test]
fn compaction_of_damaged_tables_fails_and_keeps_them() {
    let (disk, db, k) = open(small());
    db.flush().unwrap();
    k.put(b"newer", b"").unwrap();
    let expected = content(&k);
    for after in 0..3 {
        disk.fs.inject(
            FaultPlan::new(SimOp::Read, Fault::BitFlip(77)).on(".sst").after(after).sticky(),
        );
        let result = db.compact_all();
        disk.fs.clear_faults();
        assert_eq!(content(&k), expected);
        if result.is_err() {
            db.compact_all().unwrap();
            assert_eq!(content(&k), expected);
        }
    }
}
