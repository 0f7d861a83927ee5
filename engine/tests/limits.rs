//! What is too long, too short or out of range is refused with an error that names limit and value,
//! and leaves no trace; what is just within is taken.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

mod fixture;

use base::fs::CrashModel;
use esker::{Batch, Db, Error, Keyspace, Options, SyncMode, Tick};
use fixture::{Disk, content, keyspace, small};
use std::time::Duration;

const KEY_MAX: usize = 65_535;
const VALUE_MAX: usize = 32 << 20;
const BATCH_MAX: usize = 64 << 20;

fn open() -> (Disk, Db, Keyspace) {
    let disk = Disk::new(1);
    let db = disk.open(Options { sync: SyncMode::Async, ..small() });
    let k = keyspace(&db, "k");
    (disk, db, k)
}

fn assert_too_large(error: &Error, of: &str, max: usize, given: usize) {
    let Error::TooLarge { what, limit, value } = error else { panic!("{error}") };
    assert_eq!((*what, *limit, *value), (of, max as u64, given as u64));
    let message = error.to_string();
    assert!(
        message.contains(&max.to_string()) && message.contains(&given.to_string()),
        "{message}"
    );
    assert_eq!(error.category(), esker::Category::InvalidInput);
}

#[test]
fn keys_and_values_past_their_limits_are_refused() {
    let (_disk, db, k) = open();
    let long_key = vec![b'k'; KEY_MAX + 1];
    let long_value = vec![b'v'; VALUE_MAX + 1];
    for result in [
        k.put(&long_key, b""),
        k.put_expiring(&long_key, b"", Duration::from_secs(1)),
        k.delete(&long_key),
        k.delete_range(b"a", &long_key),
        k.delete_range(&long_key, b""),
        k.ingest([(&long_key, b"")]),
    ] {
        assert_too_large(&result.unwrap_err(), "key", KEY_MAX, KEY_MAX + 1);
    }
    for result in [
        k.put(b"k", &long_value),
        k.put_expiring(b"k", &long_value, Duration::from_secs(1)),
        k.ingest([(b"k", &long_value)]),
    ] {
        assert_too_large(&result.unwrap_err(), "value", VALUE_MAX, VALUE_MAX + 1);
    }
    for result in [k.put(b"", b"v"), k.delete(b""), k.ingest([(b"", b"")])] {
        let error = result.unwrap_err();
        assert_eq!(error.code(), "InvalidInput");
        assert!(error.to_string().contains("1 to 65535"), "{error}");
    }
    // Reading a key that can not exist is no error.
    assert!(k.get(&long_key).unwrap().is_none());
    assert!(k.get(b"").unwrap().is_none());
    assert!(content(&k).is_empty());
    assert!(db.changes(Tick::ZERO).unwrap().next().is_none(), "nothing is in the log");
}

#[test]
fn nothing_of_a_refused_batch_is_stored() {
    let (disk, db, k) = open();
    let other = keyspace(&db, "other");
    type Spoil = fn(&mut Batch, &Keyspace);
    let spoilers: [Spoil; 5] = [
        |batch, k| batch.put(k, b"", b""),
        |batch, k| batch.put(k, [0; KEY_MAX + 1], b""),
        |batch, k| batch.put_until(k, b"k", vec![0; VALUE_MAX + 1], 1),
        |batch, k| batch.delete(k, b""),
        |batch, k| batch.delete_range(k, b"", [0; KEY_MAX + 1]),
    ];
    for spoil in spoilers {
        let mut batch = Batch::new();
        batch.put(&other, b"before", b"");
        spoil(&mut batch, &k);
        batch.put(&k, b"after", b"");
        assert_eq!(db.write(batch).unwrap_err().code(), "InvalidInput");
    }
    assert!(content(&k).is_empty() && content(&other).is_empty());
    db.sync().unwrap();
    let db = Disk::of(disk.fs.crash(CrashModel::Kill)).open(small());
    assert!(content(&keyspace(&db, "other")).is_empty());
}

#[test]
fn a_batch_past_its_limit_is_refused_whole() {
    let (_disk, db, k) = open();
    let mut batch = Batch::new();
    for number in 0..3u8 {
        batch.put(&k, [number], vec![number; (BATCH_MAX / 3) + 100]);
    }
    let error = db.write(batch).unwrap_err();
    assert!(matches!(error, Error::TooLarge { what: "batch", .. }), "{error}");
    assert!(content(&k).is_empty());
}

#[test]
fn the_largest_key_value_and_batch_are_taken_and_survive() {
    let (disk, db, k) = open();
    let key = vec![b'k'; KEY_MAX];
    let large = vec![b'v'; VALUE_MAX];
    k.put(&key, b"of the largest key").unwrap();
    k.put(b"large", &large).unwrap();
    let mut batch = Batch::new();
    batch.put(&k, b"a", &large);
    // The encoding of two ops takes a few bytes besides keys and values.
    batch.put(&k, b"b", &large[..VALUE_MAX - 64]);
    batch.delete(&k, b"large");
    db.write(batch).unwrap();
    let check = |db: &Db| {
        let k = keyspace(db, "k");
        assert_eq!(k.get(&key).unwrap().unwrap(), b"of the largest key");
        assert_eq!(k.get(b"a").unwrap().unwrap(), large);
        assert_eq!(k.get(b"b").unwrap().unwrap().len(), VALUE_MAX - 64);
        assert!(k.get(b"large").unwrap().is_none());
        assert_eq!(k.iter().count(), 3);
    };
    check(&db);
    let crashed = Disk::of(disk.fs.crash(CrashModel::Kill));
    check(&crashed.open(small()));
    db.compact_all().unwrap();
    check(&db);
    db.close().unwrap();
    check(&disk.open(small()));
}

/// A memtable holds 64 KiB here; ops are many and tiny, so what they take in memory is far more than
/// their bytes.
#[test]
fn a_batch_larger_than_a_memtable_is_taken_and_recovered() {
    let (disk, db, k) = open();
    k.put(b"first", b"1").unwrap();
    let mut batch = Batch::new();
    for number in 0..40_000u32 {
        match number % 3 {
            0 => batch.delete(&k, number.to_be_bytes()),
            _ => batch.put(&k, number.to_be_bytes(), b""),
        }
    }
    db.write(batch).unwrap();
    k.put(b"last", b"1").unwrap();
    let count = 2 + 40_000 / 3 * 2;
    assert!(k.count(..).unwrap().abs_diff(count) <= 1);
    let expected = content(&k);
    for model in [CrashModel::Kill, CrashModel::Synced] {
        let db = Disk::of(disk.fs.crash(model)).open(small());
        let found = content(&keyspace(&db, "k"));
        assert!(found == expected || model == CrashModel::Synced && found.len() <= 1);
    }
}

#[test]
fn an_empty_batch_changes_nothing() {
    let (_disk, db, k) = open();
    let before = k.put(b"a", b"1").unwrap();
    let mut batch = Batch::new();
    assert!(batch.is_empty());
    // A range that holds no key is no write either.
    batch.delete_range(&k, b"b", b"a");
    assert_eq!(db.write(batch).unwrap(), before);
    assert_eq!(db.submit(Batch::new()).unwrap().wait().unwrap(), before);
    assert_eq!(k.put(b"b", b"").unwrap(), before.next());
    assert_eq!(k.ingest(Vec::<(Vec<u8>, Vec<u8>)>::new()).unwrap(), before.next());
}

#[test]
fn of_several_writes_to_a_key_the_last_counts() {
    let (_disk, db, k) = open();
    let mut batch = Batch::new();
    batch.put(&k, b"a", b"1");
    batch.delete(&k, b"a");
    batch.put(&k, b"a", b"2");
    batch.put(&k, b"b", b"1");
    batch.delete(&k, b"b");
    batch.put(&k, b"c", b"1");
    batch.delete_range(&k, b"a", b"d");
    batch.put(&k, b"c", b"3");
    assert_eq!(batch.len(), 2, "what a range delete covers is gone from the batch");
    db.write(batch).unwrap();
    for _ in 0..2 {
        assert_eq!(content(&k), [(b"c".to_vec(), b"3".to_vec())].into());
        db.flush().unwrap();
    }
}

#[test]
fn options_out_of_range_are_refused_before_anything_is_made() {
    let too_small = [
        Options { memtable_bytes: 1, ..small() },
        Options { memtable_bytes: 9 << 30, memory_bytes: 64 << 30, ..small() },
        Options { memory_bytes: 100, ..small() },
        Options { memory_bytes: 1 << 20, memtable_bytes: 512 << 10, ..small() },
        Options { block_bytes: 0, ..small() },
        Options { block_bytes: 2 << 20, ..small() },
        Options { table_bytes: 10, ..small() },
        Options { segment_bytes: 100, ..small() },
        Options { transactions_max: 0, ..small() },
        Options { sync: SyncMode::Periodic(Duration::ZERO), ..small() },
        Options { sync: SyncMode::Periodic(Duration::from_secs(7200)), ..small() },
    ];
    for options in too_small {
        let disk = Disk::new(1);
        let error = disk.try_open(options.clone()).unwrap_err();
        assert_eq!(error.code(), "InvalidInput", "{options:?}");
        assert!(disk.fs.files().is_empty());
    }
}

/// Each is one op, and costs one, whether they are apart or repeat.
#[test]
fn thousands_of_range_deletes_are_no_burden() {
    let (disk, db, k) = open();
    for number in 0..6000u32 {
        let key = (number * 3).to_be_bytes();
        k.delete_range(key, (number * 3 + 1).to_be_bytes()).unwrap();
        if number % 2 == 0 {
            k.put((number * 3 + 2).to_be_bytes(), b"x").unwrap();
        }
        if number % 5 == 0 {
            k.put(key, b"covered").unwrap();
            k.delete_prefix(key).unwrap();
            k.delete_prefix(b"the same").unwrap();
        }
    }
    assert!(db.stats().flushes > 0, "they fill a memtable too");
    assert_eq!(k.count(..).unwrap(), 3000);
    let crashed = Disk::of(disk.fs.crash(CrashModel::Kill)).open(small());
    assert_eq!(keyspace(&crashed, "k").count(..).unwrap(), 3000);
    db.compact_all().unwrap();
    assert_eq!(k.count(..).unwrap(), 3000);
    assert_eq!(db.stats().runs[0].entries, 3000);
}
