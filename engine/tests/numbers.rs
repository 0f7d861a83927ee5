//! What statistics and health say is true.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod fixture;

use esker::{BackupOptions, Batch, Db, Options, Status, SyncMode};
use fixture::{Disk, START_MS, eventually, fast, keyspace, ship, small, small_busy};

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
    assert!(stats.write_amplification().unwrap() > 2.0);
    assert_eq!(stats.visible_seqno, stats.durable_seqno);
    assert_eq!(stats.visible_seqno, db.snapshot().seqno().raw());
}

#[test]
fn puts_and_deletes_are_counted_and_timed_apart() {
    let disk = Disk::new(1);
    let db = disk.open(Options { sync: SyncMode::Async, ..small() });
    let k = keyspace(&db, "k");
    for number in 0..200u32 {
        k.put(number.to_be_bytes(), b"v").unwrap();
        k.delete(number.to_be_bytes()).unwrap();
    }
    let stats = db.stats();
    assert_eq!((stats.commits, stats.puts, stats.deletes), (400, 200, 200));
    // Taking turns does not keep one of them from being timed.
    assert_eq!((stats.put_latency.samples, stats.delete_latency.samples), (4, 4));
    assert_eq!(stats.commit_latency.samples, 8);
    assert_eq!(stats.scan_latency.samples, 0);

    let mut batch = Batch::new();
    batch.put(&k, b"a", b"1");
    batch.put_until(&k, b"b", b"1", u64::MAX);
    batch.delete(&k, b"c");
    batch.delete_range(&k, b"x", b"y");
    db.write(batch).unwrap();
    k.delete_prefix(b"z").unwrap();
    let mut transaction = db.transaction().unwrap();
    transaction.put(&k, b"d", b"1").unwrap();
    transaction.delete(&k, b"e").unwrap();
    transaction.commit().unwrap();
    let stats = db.stats();
    assert_eq!((stats.commits, stats.puts, stats.deletes), (403, 203, 202));
    assert_eq!(stats.range_deletes, 2);
    assert_eq!(stats.put_latency.samples, 4, "of commits that are nothing else");

    for _ in 0..65 {
        assert!(k.iter().next().is_some());
        k.cursor().unwrap().seek_last().unwrap();
    }
    let mut cursor = k.cursor().unwrap();
    cursor.seek_first().unwrap();
    cursor.seek(b"a").unwrap();
    let stats = db.stats();
    assert_eq!((stats.scans, stats.scan_latency.samples), (131, 3));
}

/// Bytes of the files below `folder` as the file system has them.
fn bytes_in(folder: &std::path::Path) -> u64 {
    let entries = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap());
    entries.map(|entry| entry.metadata().unwrap().len()).sum()
}

/// A value that no compression makes smaller.
fn noise(seed: u32, len: usize) -> Vec<u8> {
    let next =
        |state: &u64| Some(state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695));
    let states = std::iter::successors(Some(u64::from(seed) + 1), next);
    states.skip(4).map(|state| (state >> 40) as u8).take(len).collect()
}

/// What is true is known from what was written, and compared with what is estimated.
#[test]
fn space_amplification_is_what_files_take_by_what_is_live() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("data");
    let open = || Db::open(&path, Options { sync: SyncMode::Async, ..small() }).unwrap();
    let db = open();
    let k = keyspace(&db, "k");
    assert_eq!((db.stats().live_bytes, db.stats().space_amplification()), (0, None));
    let put = |numbers: std::ops::Range<u32>, len: usize| {
        for number in numbers {
            keyspace(&db, "k").put(number.to_be_bytes(), noise(number, len)).unwrap();
        }
        db.flush().unwrap();
    };
    let is_about = |live: u64, within_percent: u64| {
        let stats = db.stats();
        let off = stats.live_bytes.abs_diff(live);
        assert!(off * 100 <= live * within_percent, "{} instead of {live}", stats.live_bytes);
        let files = bytes_in(&path.join("tables")) as f64;
        let found = stats.space_amplification().unwrap();
        assert_eq!(found, files / stats.live_bytes as f64);
        found
    };
    put(0..300, 96);
    put(300..400, 96);
    assert_eq!(db.stats().runs.len(), 2);
    // Filters take some new keys for known ones.
    is_about(40_000, 3);
    db.compact_all().unwrap();
    let fresh = is_about(40_000, 0);
    assert!((1.0..1.5).contains(&fresh), "{fresh}");
    assert_eq!(db.stats().raw_bytes, 40_000);

    // Everything once more: twice the bytes, and half of them live. One key in eight was looked at.
    put(0..300, 96);
    put(300..400, 96);
    let twice = is_about(40_000, 25);
    assert!((1.5..3.0).contains(&(twice / fresh)), "{twice} {fresh}");
    assert_eq!(db.stats().raw_bytes, 80_000);
    db.compact_all().unwrap();
    let again = is_about(40_000, 0);
    // How many bytes a stamp takes depends on the moment.
    assert!((again / fresh - 1.0).abs() < 0.01, "{again} {fresh}");

    // Deletes of half.
    for n in 0..200u32 {
        k.delete(n.to_be_bytes()).unwrap();
    }
    db.flush().unwrap();
    assert_eq!(db.stats().raw_bytes, 40_800);
    let deleted = is_about(20_000, 0);
    assert!(deleted > 1.8 * fresh, "{deleted}");

    // All of it is known after an open, and nothing is counted that no process has done.
    let before = db.stats();
    db.close().unwrap();
    let db = open();
    let after = db.stats();
    assert_eq!((after.live_bytes, after.raw_bytes), (before.live_bytes, before.raw_bytes));
    assert_eq!(after.space_amplification(), before.space_amplification());
    assert_eq!((after.write_amplification(), after.read_amplification()), (None, None));
    assert_eq!(after.read_amplification_max(), 2);
}

#[test]
fn write_amplification_is_what_the_disk_was_written_by_what_was_put() {
    let disk = Disk::new(1);
    let db = disk.open(Options { sync: SyncMode::Async, ..small() });
    let k = keyspace(&db, "k");
    assert_eq!(db.stats().write_amplification(), None);
    for n in 0..100u32 {
        k.put(n.to_be_bytes(), [1; 46]).unwrap();
    }
    let stats = db.stats();
    let logged = stats.bytes_logged as f64;
    assert_eq!(stats.write_amplification(), Some(logged / 5000.0));
    db.flush().unwrap();
    let flushed = db.stats().table_bytes as f64;
    assert_eq!(db.stats().write_amplification(), Some((logged + flushed) / 5000.0));
    db.compact_all().unwrap();
    let merged = db.stats().table_bytes as f64;
    assert_eq!(db.stats().write_amplification(), Some((logged + flushed + merged) / 5000.0));
}

/// What others have written is written here as well.
#[test]
fn what_comes_from_other_nodes_counts_as_written() {
    let (from, to) = (Disk::new(1).open(fast()), Disk::new(2).open(fast()));
    let k = keyspace(&from, "k");
    for n in 0..10u32 {
        k.put(n.to_be_bytes(), [1; 46]).unwrap();
    }
    k.delete(3u32.to_be_bytes()).unwrap();
    ship(&from, &to);
    let stats = to.stats();
    // Of each key of a shipment only the last op is stored.
    assert_eq!((stats.bytes_written, stats.bytes_admitted), (0, 9 * 50 + 4));
    let found = stats.write_amplification().unwrap();
    assert_eq!(found, stats.bytes_logged as f64 / 454.0);
    assert_eq!(from.stats().bytes_admitted, 0);
}

#[test]
fn read_amplification_is_the_blocks_that_timed_gets_look_into() {
    let disk = Disk::new(1);
    let db = disk.open(Options { sync: SyncMode::Async, ..small() });
    let k = keyspace(&db, "k");
    k.put(b"table", b"1").unwrap();
    db.flush().unwrap();
    k.put(b"memtable", b"1").unwrap();
    let get = |key: &[u8], count: u32| (0..count).for_each(|_| drop(k.get(key).unwrap()));
    assert_eq!(db.stats().read_amplification(), None);
    // The first of 64 gets is timed, wherever they look.
    get(b"table", 1);
    get(b"memtable", 63);
    assert_eq!(db.stats().read_amplification(), Some(1.0));
    get(b"memtable", 1);
    get(b"table", 63);
    assert_eq!((db.stats().get_blocks, db.stats().get_latency.samples), (1, 2));
    assert_eq!(db.stats().read_amplification(), Some(0.5));
    get(b"table", 64);
    get(b"table", 64);
    assert_eq!(db.stats().read_amplification(), Some(0.75));
    assert_eq!(db.stats().read_amplification_max(), 1);
    db.flush().unwrap();
    assert_eq!(db.stats().read_amplification_max(), 2);
}

/// What the log takes, and what of it waits for a backup.
#[test]
fn bytes_of_the_log_and_of_the_archive_are_told() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("data");
    let archived = || -> u64 {
        let folder = std::fs::read_dir(path.join("archive"));
        folder.into_iter().flatten().map(|entry| entry.unwrap().metadata().unwrap().len()).sum()
    };
    let db = Db::open(&path, small()).unwrap();
    let k = keyspace(&db, "k");
    let fill = |db: &Db| {
        for number in 0..300u32 {
            keyspace(db, "k").put(number.to_be_bytes(), [1; 1000]).unwrap();
        }
        db.flush().unwrap();
    };
    k.put(b"a", [1; 1000]).unwrap();
    assert!(db.stats().log_bytes >= 1000);
    fill(&db);
    assert_eq!(db.stats().archive_bytes, 0, "nothing is kept before the first backup");
    assert!(db.stats().log_bytes < 200_000, "{}", db.stats().log_bytes);
    let backup = |db: &Db| db.backup(dir.path().join("store"), &BackupOptions::default()).unwrap();
    backup(&db);
    fill(&db);
    let bytes = db.stats().archive_bytes;
    assert!(bytes > 100_000 && bytes == archived(), "{bytes} {}", archived());
    db.close().unwrap();
    let db = Db::open(&path, small()).unwrap();
    assert_eq!(db.stats().archive_bytes, archived());
    assert!(archived() >= bytes);
    backup(&db);
    assert_eq!(db.stats().archive_bytes, archived());
    assert!(archived() < bytes);
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
fn who_does_not_fill_the_cache_reads_the_same() {
    let disk = Disk::new(1);
    let db = disk.open(small());
    let k = keyspace(&db, "k");
    for number in 0..3000u32 {
        k.put(number.to_be_bytes(), number.to_le_bytes().repeat(20)).unwrap();
    }
    db.flush().unwrap();
    let cached = || db.stats().cache_bytes;
    let all: Vec<_> = (0..3000u32).map(|number| number.to_be_bytes().to_vec()).collect();
    let before = cached();

    let mut iter = k.iter();
    iter.fill_cache(false);
    let found: Vec<Vec<u8>> = iter.by_ref().take(2000).map(|it| it.unwrap().0.to_vec()).collect();
    assert_eq!(found, all[..2000]);
    assert_eq!(iter.next_back().unwrap().unwrap().0.to_vec(), all[2999]);
    assert_eq!(cached(), before);
    let mut cursor = k.cursor().unwrap();
    cursor.fill_cache(false);
    cursor.seek(&all[100]).unwrap();
    assert_eq!(cursor.entry().unwrap().0, all[100]);
    assert_eq!(cached(), before);

    // It may be said on the way.
    iter.fill_cache(true);
    assert_eq!(iter.count(), 999);
    assert!(cached() > before);
    let before = cached();
    cursor.fill_cache(true);
    cursor.seek_first().unwrap();
    assert_eq!(cursor.entry().unwrap().0, all[0]);
    assert!(cached() > before);
}

#[test]
fn upper_runs_do_not_pile_up_under_a_steady_load() {
    let dir = tempfile::tempdir().unwrap();
    let options = Options { sync: SyncMode::Async, ..small_busy() };
    let db = Db::open(dir.path().join("data"), options).unwrap();
    let k = keyspace(&db, "k");
    for number in 0..40_000u32 {
        k.put((number.wrapping_mul(2_654_435_761) % 5000).to_be_bytes(), [1; 100]).unwrap();
        // Where the machine is busy the writer gets ahead of the merges; they follow without being asked.
        if number % 1000 == 0 {
            eventually("there are few runs", || db.stats().runs.len() <= 50);
        }
    }
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
