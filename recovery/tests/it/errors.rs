//! Every error of an open is reachable, names the file, and changes nothing.

use crate::small::{
    SPACE, Small, create, expected, key, open, open_with, plan, put_payload, value,
};
use base::fs::{Fault, FaultPlan, Fs, SimFs, SimOp};
use base::{Category, Error, FileName, KeyspaceId, RelPath, SpaceId};
use recovery::{Create, Plan, Verify};

/// A database with a table, a sealed log of some commits, and no close.
fn sample() -> SimFs {
    let fs = SimFs::new(1);
    let mut small = filled(&fs);
    small.sync().unwrap();
    small.seal().unwrap();
    fs
}

fn filled(fs: &SimFs) -> Small {
    let mut small = create(fs).unwrap();
    small.keyspace().unwrap();
    (0..10).for_each(|n| small.put(&key(n), &value(n)).unwrap());
    small.flush().unwrap();
    (10..20).for_each(|n| small.put(&key(n), &value(n)).unwrap());
    small
}

fn the_only(fs: &SimFs, folder: &str) -> RelPath {
    let mut files: Vec<RelPath> =
        fs.files().into_iter().filter(|file| file.as_str().starts_with(folder)).collect();
    assert_eq!(files.len(), 1, "{files:?}");
    files.remove(0)
}

fn rewrite(fs: &SimFs, path: &RelPath, change: impl FnOnce(&mut Vec<u8>)) {
    let mut bytes = fs.read_file(path).unwrap();
    change(&mut bytes);
    fs.write_file(path, bytes).unwrap();
}

/// Opening fails with `code`, says which file, and leaves every byte as it was.
fn refuses(fs: &SimFs, plan: Plan, code: &str) -> Error {
    let all = |fs: &SimFs| -> Vec<_> {
        fs.files().into_iter().map(|path| (fs.read_file(&path).unwrap(), path)).collect()
    };
    let before = all(fs);
    let error = open_with(plan).map(|_| ()).unwrap_err();
    assert_eq!(error.code(), code, "{error}");
    assert!(!error.action().is_empty());
    assert_eq!(all(fs), before, "{code}: it changed something");
    error
}

fn refuses_quick(fs: &SimFs, code: &str) -> Error {
    refuses(fs, plan(fs, Create::Never), code)
}

/// Repeats what an identity's digest is over, so that the change looks intended.
fn forge_identity(fs: &SimFs, at: usize, byte: u8) {
    rewrite(fs, &FileName::Identity.path(), |bytes| {
        bytes[at] = byte;
        let key = blake3::derive_key("esker identity v1", b"");
        let digest = blake3::keyed_hash(&key, &bytes[..104]);
        bytes[104..].copy_from_slice(digest.as_bytes());
    });
}

#[test]
fn identity_errors() {
    let fs = sample();
    let path = FileName::Identity.path();
    let whole = fs.read_file(&path).unwrap();
    for bit in 0..whole.len() * 8 {
        rewrite(&fs, &path, |bytes| bytes[bit / 8] ^= 1 << (bit % 8));
        refuses_quick(&fs, "IdentityCorrupt");
        fs.write_file(&path, whole.clone()).unwrap();
    }
    for len in [0, 1, whole.len() - 1] {
        fs.write_file(&path, whole[..len].to_vec()).unwrap();
        refuses_quick(&fs, "IdentityCorrupt");
    }
    fs.remove_file(&path).unwrap();
    refuses_quick(&fs, "IdentityMissing");
    fs.write_file(&path, whole).unwrap();
    forge_identity(&fs, 12, 9);
    let error = refuses_quick(&fs, "KeyUnavailable");
    assert!(matches!(error, Error::KeyUnavailable { key_id: 9, .. }));
    forge_identity(&fs, 12, 0);
    forge_identity(&fs, 7, 2);
    let error = refuses_quick(&fs, "FormatUnsupported");
    assert_eq!(error.category(), Category::Recoverable);
    forge_identity(&fs, 7, 1);
    forge_identity(&fs, 16, 4);
    refuses_quick(&fs, "FormatUnsupported");
    forge_identity(&fs, 16, 0);
    forge_identity(&fs, 24, 4); // optional features are no obstacle
    assert_eq!(open(&fs).unwrap().content(), expected(20));
}

#[test]
fn an_identity_of_another_database_is_noticed() {
    let (fs, other) = (sample(), SimFs::new(2));
    create(&other).unwrap();
    let identity = other.read_file(&FileName::Identity.path()).unwrap();
    fs.write_file(&FileName::Identity.path(), identity).unwrap();
    refuses_quick(&fs, "RootCorrupt");
}

#[test]
fn resource_errors() {
    let fs = sample();
    fs.set_free(1 << 20);
    let error = refuses_quick(&fs, "ResourceShort");
    assert!(matches!(error, Error::ResourceShort { have: 1_048_576, .. }), "{error}");
    let fs = sample();
    refuses(&fs, Plan { memory_bytes: 100, ..plan(&fs, Create::Never) }, "ResourceShort");
}

#[test]
fn a_folder_in_place_of_a_file_is_refused() {
    let fs = sample();
    fs.remove_file(&FileName::CurrentCopy.path()).unwrap();
    fs.create_dir(&FileName::CurrentCopy.path()).unwrap();
    refuses_quick(&fs, "Inventory");
}

#[test]
fn root_errors() {
    let fs = sample();
    let names = [FileName::Current.path(), FileName::CurrentCopy.path()];
    rewrite(&fs, &names[0], |bytes| bytes[60] ^= 1);
    assert_eq!(open(&fs).unwrap().recovered.report.warnings.len(), 1, "one copy suffices");
    names.iter().for_each(|name| rewrite(&fs, name, |bytes| bytes[60] ^= 1));
    refuses_quick(&fs, "RootCorrupt");
    names.iter().for_each(|name| fs.remove_file(name).unwrap());
    refuses_quick(&fs, "RootMissing");
}

/// Old roots and their manifest are put back over a database that has gone on since.
#[test]
fn a_root_that_was_put_back_is_noticed() {
    for closes in [false, true] {
        let fs = sample();
        let (current, copy) = (FileName::Current.path(), FileName::CurrentCopy.path());
        let old = [current, copy, the_only(&fs, "manifest/")]
            .map(|name| (fs.read_file(&name).unwrap(), name));
        let mut small = open(&fs).unwrap();
        small.put("new", "commit").unwrap();
        if closes {
            small.close().unwrap();
            fs.remove_file(&the_only(&fs, "wal/")).unwrap();
        } else {
            drop(small);
        }
        old.into_iter().for_each(|(bytes, name)| fs.write_file(&name, bytes).unwrap());
        refuses_quick(&fs, "StaleManifest");
    }
}

#[test]
fn manifest_errors() {
    let fs = sample();
    let manifest = the_only(&fs, "manifest/");
    let whole = fs.read_file(&manifest).unwrap();
    rewrite(&fs, &manifest, |bytes| bytes[100] ^= 1);
    refuses_quick(&fs, "ManifestCorrupt");
    fs.remove_file(&manifest).unwrap();
    refuses_quick(&fs, "ManifestMissing");
    fs.write_file(&manifest, whole).unwrap();
    open(&fs).unwrap();
}

#[test]
fn table_errors() {
    let fs = sample();
    let table = the_only(&fs, "tables/");
    let whole = fs.read_file(&table).unwrap();
    fs.remove_file(&table).unwrap();
    refuses_quick(&fs, "TableMissing");
    for len in [0, whole.len() - 1] {
        fs.write_file(&table, whole[..len].to_vec()).unwrap();
        refuses_quick(&fs, "TableCorrupt");
    }
    fs.write_file(&table, [whole.clone(), vec![0]].concat()).unwrap();
    refuses_quick(&fs, "TableCorrupt");
    for (verify, at) in [(Verify::Full, whole.len() - 1), (Verify::Paranoid, 40)] {
        fs.write_file(&table, whole.clone()).unwrap();
        rewrite(&fs, &table, |bytes| bytes[at] ^= 1);
        refuses(&fs, Plan { verify, ..plan(&fs, Create::Never) }, "TableCorrupt");
    }
}

#[test]
fn log_errors() {
    let fs = sample();
    let segment = the_only(&fs, "wal/");
    let whole = fs.read_file(&segment).unwrap();
    rewrite(&fs, &segment, |bytes| bytes[5000] ^= 1); // sealed, so promised
    let error = refuses_quick(&fs, "WalCorrupt");
    assert!(error.offset().is_some_and(|offset| offset <= 5000), "{error}");
    fs.remove_file(&segment).unwrap();
    refuses_quick(&fs, "WalMissing");
    let other = SimFs::new(2);
    create(&other).unwrap();
    fs.write_file(&segment, other.read_file(&the_only(&other, "wal/")).unwrap()).unwrap();
    refuses_quick(&fs, "WalForeign");
    fs.write_file(&segment, whole).unwrap();
    assert_eq!(open(&fs).unwrap().content(), expected(20));
}

/// Although nothing of it is needed, a closed log is as long as it was.
#[test]
fn a_closed_log_of_another_length_is_noticed() {
    let fs = SimFs::new(1);
    filled(&fs).close().unwrap();
    let segment = the_only(&fs, "wal/");
    let whole = fs.read_file(&segment).unwrap();
    fs.write_file(&segment, whole[..whole.len() - 1].to_vec()).unwrap();
    refuses_quick(&fs, "WalCorrupt");
    fs.write_file(&segment, [whole, vec![0; 100]].concat()).unwrap();
    assert_eq!(open(&fs).unwrap().content(), expected(20), "zeros are unused space");
}

/// A log of the same database that does not belong to this moment.
#[test]
fn a_segment_of_an_earlier_time_is_noticed() {
    let fs = sample();
    let old = the_only(&fs, "wal/");
    let bytes = fs.read_file(&old).unwrap();
    drop(open(&fs).unwrap());
    fs.write_file(&the_only(&fs, "wal/"), bytes).unwrap();
    refuses_quick(&fs, "WalCorrupt");
}

#[test]
fn commits_that_nobody_writes_are_refused() {
    let unknown = SpaceId::new(SPACE.scope(), KeyspaceId(9));
    type Broken = fn(base::Tick, SpaceId) -> Vec<u8>;
    let payloads: [Broken; 3] = [
        |_, _| b"no records".to_vec(),
        |tick, _| put_payload(tick.next(), SPACE, "a", "b"),
        |tick, unknown| put_payload(tick, unknown, "a", "b"),
    ];
    for payload in payloads {
        let fs = SimFs::new(1);
        let mut small = filled(&fs);
        let tick = small.tick.next();
        small.recovered.log.append(tick, &payload(tick, unknown)).unwrap();
        drop(small);
        let error = refuses_quick(&fs, "ReplayInvariant");
        assert!(error.offset().is_some(), "{error}");
    }
}

/// What was written does not read back: nothing is committed.
#[test]
fn a_commit_that_does_not_read_back_is_taken_back() {
    let fs = sample();
    fs.inject(FaultPlan::new(SimOp::Append, Fault::BitFlip(900)).on("manifest/"));
    let error = open(&fs).map(|_| ()).unwrap_err();
    assert!(["CommitFailed", "ManifestCorrupt"].contains(&error.code()), "{error}");
    fs.clear_faults();
    assert_eq!(open(&fs).unwrap().content(), expected(20));
    let fs = sample();
    // Both copies of the segment's header.
    fs.inject(FaultPlan::new(SimOp::Append, Fault::BitFlip(100)).on("wal/"));
    fs.inject(FaultPlan::new(SimOp::Append, Fault::BitFlip(4096 * 8 + 100)).on("wal/"));
    let _ = open(&fs);
    fs.clear_faults();
    assert_eq!(open(&fs).unwrap().content(), expected(20));
}

#[test]
fn a_full_disk_is_named_and_leaves_no_trace() {
    let fs = sample();
    for (op, part) in [
        (SimOp::Create, "wal/"),
        (SimOp::Create, "manifest/"),
        (SimOp::Create, "tables/"),
        (SimOp::Append, "CURRENT.tmp"),
    ] {
        fs.inject(FaultPlan::new(op, Fault::DiskFull).on(part));
        refuses_quick(&fs, "DiskFull");
        fs.clear_faults();
    }
    assert_eq!(open(&fs).unwrap().content(), expected(20));
}
