//! Entries that end by themselves.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod fixture;

use base::fs::CrashModel;
use esker::{Batch, Db, Keyspace, Options, SyncMode};
use fixture::{Disk, START_MS, content, keyspace, small};
use std::time::Duration;

fn open() -> (Disk, Db, Keyspace) {
    let disk = Disk::new(1);
    let db = disk.open(Options { sync: SyncMode::Async, ..small() });
    let k = keyspace(&db, "k");
    (disk, db, k)
}

const TTL: Duration = Duration::from_millis(100);

/// Wherever the entry is.
fn places() -> [fn(&Db); 3] {
    [|_| {}, |db| db.flush().unwrap(), |db| db.compact_all().unwrap()]
}

#[test]
fn an_entry_ends_at_its_moment_wherever_it_is() {
    for place in places() {
        let (disk, db, k) = open();
        k.put_expiring(b"a", b"1", TTL).unwrap();
        k.put(b"b", b"2").unwrap();
        place(&db);
        for (now, is_there) in [(0, true), (99, true), (100, false), (1000, false)] {
            disk.clock.set(START_MS + now);
            assert_eq!(k.get(b"a").unwrap().is_some(), is_there, "after {now} ms");
            assert_eq!(k.contains_key(b"a").unwrap(), is_there);
            assert_eq!(k.multi_get(&[b"a"]).unwrap()[0].is_some(), is_there);
            assert_eq!(content(&k).len(), 1 + usize::from(is_there));
            assert_eq!(k.count(..).unwrap(), 1 + u64::from(is_there));
            let mut cursor = k.cursor().unwrap();
            cursor.seek_first().unwrap();
            assert_eq!(cursor.entry().unwrap().0 == b"a", is_there);
            let mut transaction = db.transaction().unwrap();
            assert_eq!(transaction.get(&k, b"a").unwrap().is_some(), is_there);
        }
        place(&db);
        assert_eq!(content(&k).len(), 1);
    }
}

#[test]
fn what_it_replaced_stays_replaced_when_it_ends() {
    for place in places() {
        for compacts_after in [false, true] {
            let (disk, db, k) = open();
            k.put(b"a", b"old").unwrap();
            db.compact_all().unwrap();
            k.put_expiring(b"a", b"new", TTL).unwrap();
            place(&db);
            disk.clock.set(START_MS + 100);
            if compacts_after {
                db.flush().unwrap();
            }
            assert!(k.get(b"a").unwrap().is_none());
            db.compact_all().unwrap();
            assert!(k.get(b"a").unwrap().is_none());
            // Even for a clock that was set back.
            disk.clock.set(START_MS);
            assert_ne!(k.get(b"a").unwrap().as_deref(), Some(&b"old"[..]));
        }
    }
}

#[test]
fn a_later_write_takes_the_end_away() {
    for place in places() {
        let (disk, db, k) = open();
        for key in [b"a", b"b", b"c"] {
            k.put_expiring(key, b"1", TTL).unwrap();
        }
        place(&db);
        k.put(b"a", b"2").unwrap();
        k.put_expiring(b"b", b"2", TTL * 2).unwrap();
        k.delete(b"c").unwrap();
        place(&db);
        disk.clock.set(START_MS + 100);
        assert_eq!(content(&k).len(), 2);
        disk.clock.set(START_MS + 200);
        assert_eq!(content(&k).len(), 1);
        db.compact_all().unwrap();
        assert_eq!(content(&k).len(), 1);
    }
}

#[test]
fn the_end_survives_crash_and_reopen() {
    let (disk, db, k) = open();
    let mut batch = Batch::new();
    batch.put_until(&k, b"a", b"1", START_MS + 100);
    batch.put_until(&k, b"past", b"1", START_MS - 1);
    batch.put_until(&k, b"never", b"1", u64::MAX);
    db.write(batch).unwrap();
    assert_eq!(content(&k).len(), 2);
    let crashed = Disk::of(disk.fs.crash(CrashModel::Kill));
    let db = crashed.open(small());
    assert_eq!(content(&keyspace(&db, "k")).len(), 2);
    db.close().unwrap();
    crashed.clock.set(START_MS + 100);
    assert_eq!(content(&keyspace(&crashed.open(small()), "k")).len(), 1);
}

#[test]
fn compaction_reclaims_what_has_ended() {
    let (disk, db, k) = open();
    for number in 0..2000u32 {
        k.put_expiring(number.to_be_bytes(), number.to_le_bytes().repeat(50), TTL).unwrap();
    }
    db.compact_all().unwrap();
    assert!(db.stats().table_bytes > 50_000);
    disk.clock.set(START_MS + 100);
    db.compact_all().unwrap();
    assert_eq!(db.stats().table_bytes, 0);
}

#[test]
fn a_time_to_live_without_end_is_no_overflow() {
    let (disk, _db, k) = open();
    k.put_expiring(b"a", b"1", Duration::MAX).unwrap();
    disk.clock.set(1 << 43);
    assert!(k.get(b"a").unwrap().is_some());
    k.put_expiring(b"b", b"1", Duration::ZERO).unwrap();
    assert!(k.get(b"b").unwrap().is_none());
}

/// What has ended but is kept for earlier reads gives compaction nothing to do.
#[test]
fn tidying_up_comes_to_an_end_while_history_keeps_what_has_ended() {
    let disk = Disk::new(1);
    let db = disk.open(Options { history: Duration::from_secs(10), ..small() });
    let k = keyspace(&db, "k");
    k.put_expiring(b"a", b"1", TTL).unwrap();
    db.compact_all().unwrap();
    disk.clock.set(START_MS + 200);
    let before = db.stats().compactions;
    db.settle().unwrap();
    assert!(db.stats().compactions <= before + 1);
    disk.clock.set(START_MS + 20_000);
    k.put(b"b", b"1").unwrap();
    db.compact_all().unwrap();
    assert_eq!(db.stats().runs[0].entries, 1);
}
