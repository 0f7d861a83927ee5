//! A full disk of limited size: what is in memory always fits into the space that is kept for it,
//! however the log's segments and the memtables lie to each other.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

mod fixture;

use base::fs::Fs;
use esker::{Error, Keyspace, Options, Status, SyncMode};
use fixture::{Disk, eventually, keyspace, small, small_busy};
use std::sync::atomic::{AtomicBool, Ordering};

/// More entries than any disk here takes.
const ENTRIES_MAX: u32 = 100_000;

/// Memtables that no early reserve holds, and segments much larger than they.
fn large(options: Options, memtable_bytes: usize) -> Options {
    Options {
        memtable_bytes,
        memory_bytes: 3 * memtable_bytes + (1 << 20),
        segment_bytes: 32 << 20,
        block_bytes: 8 << 10,
        table_bytes: 64 << 20,
        sync: SyncMode::Async,
        ..options
    }
}

/// Does not compress.
fn value(number: u32) -> Vec<u8> {
    let mix = |at: u64| (u64::from(number) << 20 | at).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    (0..1000u64).map(|at| (mix(at).rotate_left(31).wrapping_mul(mix(at)) >> 37) as u8).collect()
}

/// Puts from number `from` on until one is refused; its number.
fn fill_up(k: &Keyspace, from: u32) -> u32 {
    let refused =
        (from..ENTRIES_MAX).find(|number| match k.put(number.to_be_bytes(), value(*number)) {
            Ok(_) => false,
            Err(Error::DiskFull { .. }) => true,
            Err(error) => panic!("{error}"),
        });
    refused.unwrap()
}

fn content_is(k: &Keyspace, from: u32, end: u32) {
    let keys: Vec<_> = k.iter().map(fixture::own).collect();
    assert_eq!(keys.len() as u32, end - from);
    for ((key, found), number) in keys.iter().zip(from..) {
        assert_eq!((&key[..], found), (&number.to_be_bytes()[..], &value(number)));
    }
}

fn free(disk: &Disk) -> u64 {
    disk.fs.space().unwrap().disk_bytes
}

#[test]
fn a_full_disk_has_room_for_a_memtable_that_no_reserve_holds() {
    for mib in [22u64, 27, 31] {
        let disk = Disk::new(mib);
        disk.fs.set_free(mib << 20);
        let options = || large(small(), 8 << 20);
        let db = disk.open(options());
        let k = keyspace(&db, "k");
        let end = fill_up(&k, 0);
        assert!(end > 3000, "{mib} MiB take only {end}");
        assert_eq!(db.health().status, Status::ReadOnly);
        for number in 0..500u32 {
            k.delete(number.to_be_bytes()).unwrap();
        }
        db.flush().unwrap_or_else(|error| panic!("{mib} MiB: {error}, {} free", free(&disk)));
        content_is(&k, 500, end);
        db.close().unwrap();
        let db = disk.open(options());
        content_is(&keyspace(&db, "k"), 500, end);
    }
}

/// With threads that flush and merge, and merges that do not fit.
#[test]
fn a_full_disk_is_left_by_deletes_alone() {
    for mib in [20u64, 24, 28, 32] {
        let disk = Disk::new(mib);
        disk.fs.set_free(mib << 20);
        let options = || large(small_busy(), 2 << 20);
        let db = disk.open(options());
        let k = keyspace(&db, "k");
        let end = fill_up(&k, 0);
        assert!(end > 3000, "{mib} MiB take only {end}");
        for number in 0..2000u32 {
            eventually("a delete gets through", || match k.delete(number.to_be_bytes()) {
                Ok(_) => true,
                Err(Error::DiskFull { .. }) => false,
                Err(error) => panic!("{error}"),
            });
        }
        db.flush().unwrap_or_else(|error| panic!("{mib} MiB: {error}, {} free", free(&disk)));
        content_is(&k, 2000, end);
        k.delete_range(b"", b"").unwrap();
        eventually("a put gets through", || k.put(b"k", b"v").is_ok());
        assert_eq!(k.count(..).unwrap(), 1);
        db.close().unwrap();
    }
}

/// Whoever merges takes all the space there is, fails, and begins again.
#[test]
fn a_flush_on_a_full_disk_gets_the_space_that_a_merge_has_taken() {
    for mib in [24u64, 28, 32] {
        let disk = Disk::new(mib);
        disk.fs.set_free(mib << 20);
        let db = disk.open(large(small(), 2 << 20));
        let k = keyspace(&db, "k");
        let end = fill_up(&k, 0);
        db.flush().unwrap();
        let (is_over, merges) = (AtomicBool::new(false), AtomicBool::new(false));
        std::thread::scope(|scope| {
            scope.spawn(|| {
                while !is_over.load(Ordering::SeqCst) {
                    let merged = db.compact_all();
                    assert!(matches!(merged, Ok(()) | Err(Error::DiskFull { .. })), "{merged:?}");
                    merges.store(true, Ordering::SeqCst);
                }
            });
            let flushed = (0..20u32).try_for_each(|round| {
                for number in 0..100u32 {
                    let mut key = vec![9; 1000];
                    key[..8].copy_from_slice(&[round.to_be_bytes(), number.to_be_bytes()].concat());
                    eventually("a delete gets through", || k.delete(&key).is_ok());
                }
                db.flush()
            });
            eventually("somebody merges", || merges.load(Ordering::SeqCst));
            is_over.store(true, Ordering::SeqCst);
            flushed.unwrap();
        });
        content_is(&k, 0, end);
    }
}
