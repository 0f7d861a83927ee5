//! A range delete holds for good, wherever it and what it covers are stored.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod fixture;

use fixture::{Disk, keyspace, small};

/// A snapshot keeps a covered entry in one table of the last level and the range delete in another;
/// a later merge that touches only the latter must not bring the entry back.
#[test]
fn what_a_range_delete_covers_in_another_table_stays_deleted() {
    let disk = Disk::new(1);
    let db = disk.open(small());
    let k = keyspace(&db, "k");
    for i in 0..4000u32 {
        k.put(i.to_be_bytes(), [i as u8; 200]).unwrap();
    }
    let snapshot = db.snapshot();
    k.delete_range(3000u32.to_be_bytes(), 3500u32.to_be_bytes()).unwrap();
    db.compact(&k).unwrap();
    assert!(db.stats().runs[0].tables > 3, "several tables, or the test shows nothing");
    drop(snapshot);
    for i in 0..50u32 {
        k.put(i.to_be_bytes(), b"new").unwrap();
    }
    db.settle().unwrap();
    for i in 3000..3500u32 {
        assert!(!k.contains_key(i.to_be_bytes()).unwrap(), "{i} came back");
    }
    assert_eq!(k.count(..).unwrap(), 3500);
}
