//! The last edit of the manifest can be lost to damage that nobody can tell from a crash. What that
//! edit freed must still be there then.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod fixture;

use base::FileName;
use base::fs::{CrashModel, SimFs};
use esker::{Db, Keyspace};
use fixture::{Content, Disk, content, keyspace, small};

/// The disk as a kill would leave it now, with the last byte of the newest manifest flipped.
fn without_last_edit(fs: &SimFs) -> SimFs {
    let image = fs.crash(CrashModel::Kill);
    let number = |path: &base::RelPath| match FileName::parse(path.as_str()) {
        Some(FileName::Manifest(number)) => Some(number),
        _ => None,
    };
    let newest = image.files().iter().filter_map(number).max().unwrap();
    let path = FileName::Manifest(newest).path();
    let mut bytes = image.read_file(&path).unwrap();
    let last = bytes.iter().rposition(|byte| *byte != 0).unwrap();
    bytes[last] ^= 1;
    image.write_file(&path, bytes).unwrap();
    image
}

#[track_caller]
fn assert_nothing_is_lost(fs: &SimFs, expected: &Content) {
    let db = Disk::of(without_last_edit(fs)).open(small());
    assert_eq!(content(&keyspace(&db, "k")), *expected);
}

fn fill(k: &Keyspace, round: u32) {
    for n in 0..200u32 {
        k.put(n.to_be_bytes(), vec![round as u8; 300]).unwrap();
    }
}

fn expected(round: u32) -> Content {
    (0..200u32).map(|n| (n.to_be_bytes().to_vec(), vec![round as u8; 300])).collect()
}

#[test]
fn losing_the_last_edit_loses_nothing() {
    let disk = Disk::new(1);
    let db: Db = disk.open(small());
    let k = keyspace(&db, "k");
    for round in 0..6 {
        fill(&k, round);
        db.flush().unwrap();
        assert_nothing_is_lost(&disk.fs, &expected(round));
        if round % 2 == 1 {
            db.compact_all().unwrap();
            assert_nothing_is_lost(&disk.fs, &expected(round));
        }
    }
    db.settle().unwrap();
    assert_nothing_is_lost(&disk.fs, &expected(5));
}
