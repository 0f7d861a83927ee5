//! A disk without space: reads go on, writes wait or are refused, and all resumes by itself.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod fixture;

use base::fs::{CrashModel, Fault, FaultPlan, Fs, SimOp};
use esker::replicate::{ScopeId, Vector};
use esker::{Category, Db, Error, Keyspace, Options, Status, SyncMode};
use fixture::{Content, Disk, content, keyspace, small, small_busy};
use std::sync::atomic::{AtomicBool, Ordering};

const PLENTY: u64 = 1 << 40;

fn is_disk_full(error: &Error) -> bool {
    matches!(error, Error::DiskFull { .. })
        || matches!(error, Error::Io { source, .. } if source.kind() == std::io::ErrorKind::StorageFull)
}

/// Puts numbered values until one is refused. What was acknowledged.
fn fill_up(k: &Keyspace, len: usize) -> (Content, Error) {
    let mut acknowledged = Content::new();
    for number in 0u32.. {
        let value = vec![number as u8; len];
        match k.put(number.to_be_bytes(), &value) {
            Ok(_) => drop(acknowledged.insert(number.to_be_bytes().to_vec(), value)),
            Err(error) => return (acknowledged, error),
        }
    }
    unreachable!()
}

fn goes_on(db: &Db, k: &Keyspace, mut expected: Content) -> Content {
    for number in 0..300u32 {
        let (key, value) = ([b'n', number as u8, (number >> 8) as u8], [9; 500]);
        k.put(key, value).unwrap();
        expected.insert(key.to_vec(), value.to_vec());
    }
    db.flush().unwrap();
    assert_eq!(db.health().status, Status::Healthy);
    assert_eq!(content(k), expected);
    expected
}

#[test]
fn writes_are_refused_reads_go_on_and_writes_resume() {
    for sync in [SyncMode::Sync, SyncMode::Async] {
        let disk = Disk::new(1);
        let db = disk.open(Options { sync, ..small() });
        let k = keyspace(&db, "k");
        disk.fs.set_free(700 << 10);
        let (acknowledged, error) = fill_up(&k, 700);
        assert!(is_disk_full(&error), "{error}");
        assert_ne!(error.category(), Category::Critical);
        assert!(acknowledged.len() > 100);
        for _ in 0..50 {
            assert!(is_disk_full(&k.put(b"again", [1; 700]).unwrap_err()));
        }
        assert_eq!(content(&k), acknowledged);
        assert_ne!(db.health().status, Status::Poisoned, "a full disk is not the end");

        disk.fs.set_free(PLENTY);
        let expected = goes_on(&db, &k, acknowledged);
        let crashed = Disk::of(disk.fs.crash(CrashModel::Kill)).open(small());
        assert_eq!(content(&keyspace(&crashed, "k")), expected);
        db.close().unwrap();
        assert_eq!(content(&keyspace(&disk.open(small()), "k")), expected);
    }
}

/// The disk is full, and the process dies before there is space again.
#[test]
fn nothing_acknowledged_is_lost_when_a_full_disk_ends_in_a_crash() {
    for free in (50..900).step_by(60) {
        let disk = Disk::new(free);
        let db = disk.open(Options { sync: SyncMode::Sync, ..small() });
        let k = keyspace(&db, "k");
        disk.fs.set_free(free << 10);
        let (acknowledged, _) = fill_up(&k, 900);
        for model in [CrashModel::Kill, CrashModel::Synced, CrashModel::Prefix] {
            let crashed = Disk::of(disk.fs.crash(model));
            crashed.fs.set_free(PLENTY);
            let mut found = content(&keyspace(&crashed.open(small()), "k"));
            // The refused write may be there or not.
            found.retain(|key, _| acknowledged.contains_key(key));
            assert_eq!(found, acknowledged, "{model:?} with {free} KiB");
        }
        // A close that finds no space loses nothing either.
        let _ = db.close();
        disk.fs.set_free(PLENTY);
        let mut found = content(&keyspace(&disk.open(small()), "k"));
        found.retain(|key, _| acknowledged.contains_key(key));
        assert_eq!(found, acknowledged);
    }
}

#[test]
fn a_flush_without_space_is_tried_again_and_leaves_nothing_behind() {
    let disk = Disk::new(1);
    let db = disk.open(Options { sync: SyncMode::Async, ..small() });
    let k = keyspace(&db, "k");
    for number in 0..100u32 {
        k.put(number.to_be_bytes(), [1; 200]).unwrap();
    }
    let expected = content(&k);
    disk.fs.inject(FaultPlan::new(SimOp::Append, Fault::DiskFull).on(".sst").sticky());
    for _ in 0..3 {
        assert!(is_disk_full(&db.flush().unwrap_err()));
        assert_eq!(content(&k), expected);
    }
    disk.fs.clear_faults();
    db.flush().unwrap();
    assert_eq!(content(&k), expected);
    db.flush().unwrap();
    assert_eq!(disk.files_in("tables/").len(), 1, "{:?}", disk.files_in("tables/"));
}

/// With background threads: writers wait or are refused while no table can be written, and go on
/// when it can, without anyone's help.
#[test]
fn writers_get_through_once_the_background_flush_finds_space() {
    let disk = Disk::new(1);
    let db = disk.open(Options { sync: SyncMode::Async, ..small_busy() });
    let k = keyspace(&db, "k");
    disk.fs.inject(FaultPlan::new(SimOp::Create, Fault::DiskFull).on(".sst").sticky());
    let has_space = AtomicBool::new(false);
    let written = std::thread::scope(|scope| {
        let writer = scope.spawn(|| {
            let mut written = Content::new();
            for number in 0..600u32 {
                let value = vec![number as u8; 700];
                while let Err(error) = k.put(number.to_be_bytes(), &value) {
                    assert!(is_disk_full(&error), "{error}");
                    assert!(!has_space.load(Ordering::SeqCst), "{error}");
                    std::thread::yield_now();
                }
                written.insert(number.to_be_bytes().to_vec(), value);
            }
            written
        });
        // Until the trouble shows, and reads still work.
        while db.health().status == Status::Healthy {
            std::thread::yield_now();
        }
        assert!(matches!(db.health().status, Status::Degraded | Status::ReadOnly));
        assert!(!db.health().reasons.is_empty());
        assert!(k.get(0u32.to_be_bytes()).unwrap().is_some());
        disk.fs.clear_faults();
        let written = writer.join().unwrap();
        has_space.store(true, Ordering::SeqCst);
        written
    });
    db.flush().unwrap();
    assert_eq!(content(&k), written);
    while db.health().status != Status::Healthy {
        std::thread::yield_now();
    }
}

#[test]
fn compaction_without_space_harms_nothing() {
    let disk = Disk::new(1);
    let db = disk.open(Options { sync: SyncMode::Async, ..small() });
    let k = keyspace(&db, "k");
    for round in 0..3u8 {
        for number in 0..200u32 {
            k.put(number.to_be_bytes(), [round; 100]).unwrap();
        }
        db.flush().unwrap();
    }
    let expected = content(&k);
    for pass in 0..6 {
        disk.fs.inject(FaultPlan::new(SimOp::Append, Fault::DiskFull).on(".sst").after(pass));
        let result = db.compact_all();
        disk.fs.clear_faults();
        assert_eq!(content(&k), expected);
        if result.is_ok() {
            assert!(pass > 0);
            break;
        }
    }
    db.compact_all().unwrap();
    let tables: u64 = db.stats().runs.iter().map(|run| run.tables).sum();
    assert_eq!(disk.files_in("tables/").len() as u64, tables);
    assert_eq!(content(&k), expected);
}

/// Nothing is written, so no later edit would let a leftover go.
#[test]
fn a_merge_that_does_not_fit_gives_all_space_back_at_once() {
    let disk = Disk::new(1);
    let options = Options { sync: SyncMode::Async, reserve_bytes: 0, ..small() };
    let db = disk.open(Options { segment_bytes: 64 << 10, ..options });
    let k = keyspace(&db, "k");
    for round in 0..2u8 {
        for number in 0..1000u32 {
            let value: Vec<u8> = (0..300u32)
                .map(|at| ((number * 300 + at).wrapping_mul(2_654_435_761) >> 13) as u8 ^ round)
                .collect();
            k.put(number.to_be_bytes(), value).unwrap();
        }
    }
    db.flush().unwrap();
    db.flush().unwrap();
    let free = || disk.fs.space().unwrap().disk_bytes;
    disk.fs.set_free(150 << 10);
    let (files, before) = (disk.files_in(""), free());
    for _ in 0..3 {
        assert!(is_disk_full(&db.compact_all().unwrap_err()));
        assert_eq!(disk.files_in(""), files);
        assert_eq!(free(), before);
    }
    disk.fs.set_free(PLENTY);
    db.compact_all().unwrap();
    assert_eq!(content(&k).len(), 1000);
}

/// As puts of users: what is in memory still fits on the disk when the first is refused.
#[test]
fn shipments_are_refused_while_what_is_in_memory_can_be_flushed() {
    let (a, disk_b) = (Disk::new(1).open(small()), Disk::new(2));
    let b = disk_b.open(Options { sync: SyncMode::Async, ..small() });
    let k = keyspace(&a, "k");
    let (main, mut taken) = (ScopeId::MAIN, Content::new());
    disk_b.fs.set_free(700 << 10);
    let mut tail = a.replication().tail(main, &Vector::default()).unwrap();
    let error = (0u32..20_000).find_map(|number| {
        k.put(number.to_be_bytes(), [number as u8; 700]).unwrap();
        let shipment = tail.next(&b.replication().applied(main), 1 << 10).unwrap().unwrap();
        let admitted = b.replication().admit(&shipment.bytes);
        if admitted.is_ok() {
            taken.insert(number.to_be_bytes().to_vec(), [number as u8; 700].to_vec());
        }
        admitted.err()
    });
    assert!(is_disk_full(&error.unwrap()));
    assert!(taken.len() > 100, "{}", taken.len());
    b.flush().unwrap();
    assert_eq!(content(&keyspace(&b, "k")), taken);
    disk_b.fs.set_free(PLENTY);
    goes_on(&b, &keyspace(&b, "k"), taken);
}
