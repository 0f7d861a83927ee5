//! What statistics and health say is true.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod fixture;

use esker::{Db, Options, Status, SyncMode};
use fixture::{Disk, START_MS, keyspace, small, small_busy};

#[test]
fn counts_are_exact() {
    let disk = Disk::new(1);
    let db = disk.open(Options { sync: SyncMode::Async, ..small() });
    let k = keyspace(&db, "k");
    for number in 0..100u32 {
        k.put(number.to_be_bytes(), [1; 46]).unwrap();
    }
    for number in 50..150u32 {
        k.get(number.to_be_bytes()).unwrap();
    }
    k.multi_get(&[b"a", b"b", b"c"]).unwrap();
    let _ = (k.iter(), k.cursor().unwrap());
    let stats = db.stats();
    assert_eq!((stats.commits, stats.bytes_written), (100, 5000));
    assert_eq!((stats.gets, stats.hits, stats.scans), (103, 50, 2));
    assert_eq!((stats.flushes, stats.compactions), (0, 0));
    assert!(stats.memtable_bytes >= 5000 && stats.bytes_logged >= 5000);
    assert!(stats.get_latency.samples >= 1 && stats.commit_latency.samples >= 1);
    db.flush().unwrap();
    db.compact_all().unwrap();
    let stats = db.stats();
    assert_eq!((stats.flushes, stats.compactions, stats.runs.len()), (1, 1, 1));
    assert_eq!((stats.runs[0].level, stats.runs[0].entries), (6, 100));
    assert!(stats.bytes_flushed > 5000 && stats.bytes_compacted > 0);
    assert_eq!(stats.table_bytes, stats.runs[0].bytes);
    assert!(stats.write_amplification() > 2.0);
    assert_eq!(stats.visible_seqno, stats.durable_seqno);
    assert_eq!(stats.visible_seqno, db.snapshot().seqno().raw());
}

#[test]
fn snapshots_and_transactions_are_counted_while_they_live() {
    let disk = Disk::new(1);
    let db = disk.open(small());
    let k = keyspace(&db, "k");
    k.put(b"a", b"").unwrap();
    let first = db.snapshot();
    k.put(b"a", b"").unwrap();
    let clone = first.clone();
    let second = db.snapshot();
    let transaction = db.transaction().unwrap();
    let stats = db.stats();
    assert_eq!(stats.oldest_snapshot, Some(first.seqno().raw()));
    assert_eq!((stats.snapshots, stats.transactions), (2, 1), "moments, not handles");
    drop((first, second, transaction));
    assert_eq!(db.stats().snapshots, 1);
    drop(clone);
    let stats = db.stats();
    assert_eq!((stats.snapshots, stats.oldest_snapshot, stats.transactions), (0, None, 0));
}

#[test]
fn memory_stays_within_its_budget() {
    let disk = Disk::new(1);
    let options = Options { sync: SyncMode::Async, ..small_busy() };
    let budget = options.memory_bytes as u64;
    let db = disk.open(options);
    let k = keyspace(&db, "k");
    for number in 0..8000u32 {
        k.put((number % 3000).to_be_bytes(), number.to_le_bytes().repeat(100)).unwrap();
        if number % 50 == 0 {
            k.get((number / 2).to_be_bytes()).unwrap();
            let stats = db.stats();
            let used = stats.memtable_bytes + stats.cache_bytes + stats.index_bytes;
            assert!(used <= budget, "{used} of {budget}: {stats:?}");
            assert!(stats.cache_bytes <= stats.cache_capacity_bytes);
            assert!((0.0..=1.0).contains(&stats.write_pressure));
        }
    }
    assert_eq!(k.iter().count(), 3000);
    let stats = db.stats();
    assert!(stats.cache_bytes <= stats.cache_capacity_bytes, "{stats:?}");
}

#[test]
fn upper_runs_do_not_pile_up_under_a_steady_load() {
    let dir = tempfile::tempdir().unwrap();
    let options = Options { sync: SyncMode::Async, ..small_busy() };
    let db = Db::open(dir.path().join("data"), options).unwrap();
    let k = keyspace(&db, "k");
    let mut most = 0;
    for number in 0..40_000u32 {
        k.put((number.wrapping_mul(2_654_435_761) % 5000).to_be_bytes(), [1; 100]).unwrap();
        if number % 1000 == 0 {
            most = most.max(db.stats().runs.len());
        }
    }
    assert!(most <= 50, "{most} runs");
    db.compact_all().unwrap();
    let stats = db.stats();
    assert_eq!(stats.runs.len(), 1);
    assert_eq!(stats.runs[0].entries, 5000);
}

#[test]
fn a_sound_database_is_healthy_and_a_closed_one_says_so() {
    let disk = Disk::new(1);
    let db = disk.open(small());
    assert_eq!(db.health().status, Status::Healthy);
    assert!(db.health().reasons.is_empty());
    db.clone().close().unwrap();
    assert_eq!(db.health().status, Status::Closed);
}

#[test]
fn opening_reports_what_it_did() {
    let disk = Disk::new(1);
    let db = disk.open(small());
    let k = keyspace(&db, "k");
    for number in 0..10u8 {
        k.put([number], b"").unwrap();
    }
    let crashed = Disk::of(disk.fs.crash(base::fs::CrashModel::Kill));
    crashed.clock.set(START_MS + 1);
    let db = crashed.open(small());
    let report = db.recovery_report();
    assert!(!report.was_closed);
    assert_eq!(report.commits_replayed, 10);
    assert!(report.quarantined.is_empty() && report.warnings.is_empty(), "{report:?}");
}
