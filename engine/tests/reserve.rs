//! A full disk with a reserve: puts are refused, deletes and all that frees space get through, and
//! puts resume by themselves.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod fixture;

use base::fs::{CrashModel, Fault, FaultPlan, SimOp};
use esker::{Batch, Db, Error, Keyspace, Options, Permission, Remedy, Status, SyncMode};
use fixture::{Content, Disk, content, eventually, keyspace, small, small_busy};

const PLENTY: u64 = 1 << 40;
/// More entries than any disk here takes.
const ENTRIES_MAX: u32 = 100_000;

fn is_disk_full(error: &Error) -> bool {
    matches!(error, Error::DiskFull { .. })
}

fn reserve_of(disk: &Disk) -> Option<usize> {
    let path = base::FileName::Reserve.path();
    disk.fs.read_file(&path).ok().map(|bytes| bytes.len())
}

/// Puts until the disk is full. What was acknowledged.
fn fill_up(k: &Keyspace) -> Content {
    let mut acknowledged = Content::new();
    for number in 0u32.. {
        assert!(number < ENTRIES_MAX, "the disk never counts as full");
        let value = vec![number as u8; 700];
        match k.put(number.to_be_bytes(), &value) {
            Ok(_) => drop(acknowledged.insert(number.to_be_bytes().to_vec(), value)),
            Err(error) => {
                assert!(is_disk_full(&error), "{error}");
                break;
            }
        }
    }
    acknowledged
}

fn full(options: Options) -> (Disk, Db, Keyspace, Content) {
    let disk = Disk::new(7);
    let db = disk.open(options);
    let k = keyspace(&db, "k");
    disk.fs.set_free(600 << 10);
    let acknowledged = fill_up(&k);
    assert_eq!(db.health().status, Status::ReadOnly);
    assert!(!db.health().reasons.is_empty());
    (disk, db, k, acknowledged)
}

#[test]
fn deletes_flushes_and_merges_get_through_while_puts_are_refused() {
    let (disk, db, k, mut expected) = full(small());
    assert!(is_disk_full(&k.put(b"p", b"v").unwrap_err()));
    assert!(is_disk_full(&k.ingest([(b"p", b"v")]).unwrap_err()));
    let mut mixed = Batch::new();
    mixed.delete(&k, b"a");
    mixed.put(&k, b"p", b"v");
    assert!(is_disk_full(&db.write(mixed).unwrap_err()));
    let mut transaction = db.transaction().unwrap();
    transaction.put(&k, b"p", b"v").unwrap();
    assert!(is_disk_full(&transaction.commit().unwrap_err()));

    let keys: Vec<Vec<u8>> = expected.keys().cloned().collect();
    let (first, second) = keys.split_at(keys.len() / 2);
    for key in first {
        k.delete(key).unwrap();
        expected.remove(key);
    }
    let mut batch = Batch::new();
    second.iter().take(20).for_each(|key| batch.delete(&k, key));
    db.write(batch).unwrap();
    second.iter().take(20).for_each(|key| drop(expected.remove(key)));
    db.flush().unwrap();
    db.compact_all().unwrap();
    assert_eq!(content(&k), expected);
    for model in [CrashModel::Kill, CrashModel::Synced] {
        let crashed = Disk::of(disk.fs.crash(model));
        crashed.fs.set_free(PLENTY);
        assert_eq!(content(&keyspace(&crashed.open(small()), "k")), expected, "{model:?}");
    }
    db.close().unwrap();
}

#[test]
fn without_a_reserve_deletes_are_refused_like_puts() {
    let (disk, db, k, expected) = full(Options { reserve_bytes: 0, ..small() });
    assert_eq!((reserve_of(&disk), db.stats().reserve_bytes), (None, 0));
    disk.fs.set_free(0);
    let refused = (0..5000u32).find_map(|number| k.delete(number.to_be_bytes()).err());
    assert!(is_disk_full(&refused.unwrap()));
    disk.fs.set_free(PLENTY);
    k.put(b"p", b"v").unwrap();
    assert!(content(&k).len() <= expected.len() + 1);
}

/// Nobody calls anything: the background notices.
#[test]
fn puts_are_taken_again_by_themselves_and_the_reserve_is_back() {
    for sync in [SyncMode::Sync, SyncMode::Async] {
        let (disk, db, k, mut expected) = full(Options { sync, ..small_busy() });
        let keys: Vec<Vec<u8>> = expected.keys().take(100).cloned().collect();
        for key in keys {
            // While the background empties the memory one may be refused for a moment.
            eventually("the delete is taken", || match k.delete(&key) {
                Ok(_) => true,
                Err(error) => {
                    assert!(is_disk_full(&error), "{error}");
                    false
                }
            });
            expected.remove(&key);
        }
        disk.fs.set_free(PLENTY);
        eventually("it is healthy again", || db.health().status == Status::Healthy);
        assert!(reserve_of(&disk).is_some());
        k.put(b"p", b"v").unwrap();
        expected.insert(b"p".to_vec(), b"v".to_vec());
        assert_eq!(content(&k), expected);
        db.close().unwrap();
        assert_eq!(content(&keyspace(&disk.open(small()), "k")), expected);
    }
}

#[test]
fn puts_wait_for_permission_where_they_are_not_to_be_taken_again_by_themselves() {
    let (disk, db, k, _) = full(small_busy());
    db.permit(Remedy::Resume, Permission::Withheld);
    disk.fs.set_free(PLENTY);
    std::thread::sleep(std::time::Duration::from_secs(1));
    assert!(is_disk_full(&k.put(b"p", b"v").unwrap_err()));
    k.delete(b"p").unwrap();
    assert_eq!(db.stats().resumes, 0);
    db.permit(Remedy::Resume, Permission::Granted);
    eventually("puts are taken", || k.put(b"p", b"v").is_ok());
    assert!(db.stats().resumes >= 1);
}

/// All memtables are full and no table can be written: whoever waits is told, not left waiting.
#[test]
fn a_writer_that_waits_for_a_flush_is_refused_when_the_disk_is_full() {
    let disk = Disk::new(1);
    let db = disk.open(Options { sync: SyncMode::Async, ..small_busy() });
    let k = keyspace(&db, "k");
    disk.fs.inject(FaultPlan::new(SimOp::Create, Fault::DiskFull).on(".sst").sticky());
    let acknowledged = fill_up(&k);
    disk.fs.clear_faults();
    eventually("puts are taken again", || k.put(b"p", b"v").is_ok());
    db.flush().unwrap();
    assert_eq!(content(&k).len(), acknowledged.len() + 1);
}

#[test]
fn a_database_opens_on_a_full_disk_by_way_of_its_reserve() {
    let options = || Options { segment_bytes: 1 << 20, ..small() };
    let (disk, db, k, mut expected) = full(Options { sync: SyncMode::Async, ..options() });
    assert_eq!(reserve_of(&disk), None, "600 KiB are too few for one");
    disk.fs.set_free(PLENTY);
    k.put(b"p", b"v").unwrap();
    expected.insert(b"p".to_vec(), b"v".to_vec());
    assert!(reserve_of(&disk).is_some_and(|len| len >= 4 << 20));
    db.close().unwrap();
    for round in 0..2 {
        disk.fs.set_free(1 << 20);
        let db = disk.open(options());
        let k = keyspace(&db, "k");
        let key = expected.keys().next().unwrap().clone();
        k.delete(&key).unwrap();
        expected.remove(&key);
        assert_eq!(content(&k), expected, "{round}");
        disk.fs.set_free(PLENTY);
        db.flush().unwrap();
        db.close().unwrap();
        // Made again by an open with space.
        disk.open(options()).close().unwrap();
        assert!(reserve_of(&disk).is_some());
    }
}

#[test]
fn the_reserve_grows_with_the_database_up_to_its_limit() {
    let disk = Disk::new(1);
    let options = || Options { reserve_bytes: 600 << 10, sync: SyncMode::Async, ..small() };
    let db = disk.open(options());
    let k = keyspace(&db, "k");
    let first = reserve_of(&disk).unwrap();
    assert!((256 << 10..300 << 10).contains(&first), "{first}");
    for number in 0..2000u32 {
        k.put(number.to_be_bytes(), [1; 700]).unwrap();
    }
    db.flush().unwrap();
    assert_eq!(reserve_of(&disk), Some(600 << 10));
    assert_eq!(db.stats().reserve_bytes, 600 << 10);
    db.close().unwrap();
    disk.open(Options { reserve_bytes: 0, ..options() }).close().unwrap();
    assert_eq!(reserve_of(&disk), None);
}

/// A segment as large as usual does not fit any more; a small one does.
#[test]
fn the_log_goes_on_in_smaller_segments_before_the_disk_counts_as_full() {
    let disk = Disk::new(1);
    let options = Options { segment_bytes: 8 << 20, reserve_bytes: 0, ..small() };
    let db = disk.open(Options {
        sync: SyncMode::Async,
        memory_bytes: 64 << 20,
        memtable_bytes: 16 << 20,
        ..options
    });
    let k = keyspace(&db, "k");
    for number in 0..6000u32 {
        k.put(number.to_be_bytes(), [1; 1000]).unwrap();
    }
    disk.fs.set_free(2 << 20);
    let more =
        (6000..ENTRIES_MAX).take_while(|number| k.put(number.to_be_bytes(), [1; 1000]).is_ok());
    let count = more.count();
    assert!((2001..ENTRIES_MAX as usize - 6000).contains(&count), "{count}");
}
