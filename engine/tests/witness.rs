//! What only the manifest knows, the log bears witness to: a manifest that was put back does not
//! pass for a whole one.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod fixture;

use base::fs::{CrashModel, SimFs};
use base::{Corruption, Error, RelPath};
use esker::{Db, Keyspace, RepairOptions, repair_on};
use fixture::{Content, Disk, content, keyspace, small};

fn manifest(fs: &SimFs) -> (RelPath, Vec<u8>) {
    let mut files = fs.files().into_iter();
    let path = files.find(|path| path.as_str().starts_with("manifest/")).unwrap();
    let bytes = fs.read_file(&path).unwrap();
    (path, bytes)
}

/// Runs `work`, which is not in the log, commits something, and puts the manifest back to what it was
/// before `work`.
///
/// Returns why that is refused, and the disk.
fn put_back(work: impl Fn(&Db, &Keyspace)) -> (Error, Disk) {
    let disk = Disk::new(1);
    let db = disk.open(small());
    let (k, other) = (keyspace(&db, "k"), keyspace(&db, "other"));
    k.put(b"before", b"1").unwrap();
    other.put(b"before", b"1").unwrap();
    let (path, old) = manifest(&disk.fs);
    work(&db, &other);
    k.put(b"after", b"2").unwrap();
    let expected = content(&k);

    // Neither a crash nor the witness itself is in the way of the whole one.
    for model in [CrashModel::Kill, CrashModel::Synced, CrashModel::Prefix, CrashModel::Sectors] {
        let crashed = Disk::of(disk.fs.crash(model)).open(small());
        assert_eq!(content(&keyspace(&crashed, "k")), expected, "{model:?}");
    }
    let image = disk.fs.crash(CrashModel::Kill);
    image.write_file(&path, old).unwrap();
    let findings = recovery::check(&image, recovery::Verify::Full).unwrap();
    assert!(findings.iter().any(|finding| finding.code == "ManifestCorrupt"), "{findings:?}");
    let disk = Disk::of(image);
    (disk.try_open(small()).unwrap_err(), disk)
}

#[test]
fn a_manifest_that_lost_a_bulk_load_is_refused() {
    let (error, disk) = put_back(|_, other| {
        other.ingest([("key 1", "x"), ("key 2", "y")]).unwrap();
    });
    let is_missing = matches!(error, Error::Corrupt { found: Corruption::MissingPromised, .. });
    assert!(is_missing && error.code() == "ManifestCorrupt", "{error}");

    // The tables of the load are still there, and a repair does not trust the short manifest.
    let report = repair_on(disk.platform(), &RepairOptions::default()).unwrap();
    assert!(!report.losses.is_empty() && report.remaining.is_empty(), "{report:?}");
    let repaired = disk.open(small());
    let expected = [("before", "1"), ("key 1", "x"), ("key 2", "y")]
        .map(|(key, value)| (key.as_bytes().to_vec(), value.as_bytes().to_vec()));
    assert_eq!(content(&keyspace(&repaired, "other")), expected.into());
    assert_eq!(content(&keyspace(&repaired, "k")).len(), 2);
}

#[test]
fn a_manifest_that_lost_a_drop_is_refused() {
    let (error, _) = put_back(|db, other| db.drop_keyspace(other.clone()).unwrap());
    assert_eq!(error.code(), "ManifestCorrupt", "{error}");
}

/// A witness is no commit: neither counted nor handed on.
#[test]
fn the_change_feed_passes_over_a_witness() {
    let disk = Disk::new(1);
    let db = disk.open(small());
    let k = keyspace(&db, "k");
    k.put(b"a", b"1").unwrap();
    let loaded = k.ingest([("b", "2")]).unwrap();
    assert_eq!(db.snapshot().seqno(), loaded, "it takes no place of its own");
    db.drop_keyspace(keyspace(&db, "gone")).unwrap();
    k.put(b"c", b"3").unwrap();
    db.sync().unwrap();
    let commits = db.changes(esker::Tick::ZERO).unwrap().map(Result::unwrap);
    let changes = commits.flat_map(|commit| commit.changes);
    let keys: Vec<_> = changes.map(|change| change.key.to_vec()).collect();
    assert_eq!(keys, [b"a".to_vec(), b"c".to_vec()]);
    let expected: Content = [(b"a", b"1"), (b"b", b"2"), (b"c", b"3")]
        .map(|(key, value)| (key.to_vec(), value.to_vec()))
        .into();
    let crashed = Disk::of(disk.fs.crash(CrashModel::Kill)).open(small());
    assert_eq!(content(&keyspace(&crashed, "k")), expected);
    assert_eq!(crashed.recovery_report().commits_replayed, 1);
}
