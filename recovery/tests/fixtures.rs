//! Small damaged databases, kept as files in `fixtures/damaged`, each a copy of `healthy` with one
//! thing wrong. The command is held against them too (`node/tests/damaged.rs`).
//!
//! With `ESKER_WRITE_FIXTURES=1` they are written anew.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

use base::clock::ManualClock;
use base::fs::{CrashModel, SimFs};
use base::rng::SeededRng;
use base::{FileName, RelPath};
use engine::{
    Background, Batch, Create, Db, KeyspaceOptions, Loss, Options, Platform, RepairOptions, Scope,
    Verify, repair_on,
};
use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::Arc;

type Content = BTreeMap<(String, Vec<u8>), Vec<u8>>;

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/damaged")
}

fn options(create: Create) -> Options {
    Options {
        create,
        memtable_bytes: 64 << 10,
        memory_bytes: 2 << 20,
        block_bytes: 512,
        table_bytes: 64 << 10,
        segment_bytes: 64 << 10,
        background: Background::Off,
        ..Options::default()
    }
}

fn platform(fs: &SimFs, seed: u64) -> Platform {
    let (clock, rng) = (ManualClock::at(1_700_000_000_000), SeededRng::new(seed));
    Platform { fs: Arc::new(fs.clone()), clock: Arc::new(clock), rng: Arc::new(rng) }
}

fn open(fs: &SimFs) -> engine::Result<Db> {
    Db::open_on(platform(fs, fs.ops()), options(Create::Never))
}

/// What key `number` was set to in each round.
fn value(round: &str, number: u32) -> String {
    format!("{round} value of {number}")
}

/// A killed database with tables and commits that are only in the log.
fn killed(seed: u64) -> SimFs {
    let fs = SimFs::new(seed);
    let db = Db::open_on(platform(&fs, seed), options(Create::New)).unwrap();
    let users = db.keyspace("users", KeyspaceOptions::default()).unwrap();
    let local = KeyspaceOptions { scope: Scope::Local, ..KeyspaceOptions::default() };
    let notes = db.keyspace("notes", local).unwrap();
    let write_all = |numbers: Vec<u32>, round: &str| {
        let mut batch = Batch::new();
        numbers.iter().for_each(|n| batch.put(&users, format!("user {n:03}"), value(round, *n)));
        db.write(batch).unwrap();
    };
    write_all((0..50).collect(), "first");
    db.flush().unwrap();
    db.compact_all().unwrap();
    write_all((0..50).step_by(4).collect(), "second");
    users.delete(b"user 007").unwrap();
    users.delete_range(b"user 010", b"user 013").unwrap();
    notes.put(b"user 001", value("first", 1)).unwrap();
    db.flush().unwrap();
    for n in 40..55 {
        users.put(format!("user {n:03}"), value("third", n)).unwrap();
    }
    fs.crash(CrashModel::Kill)
}

/// The files without the space that was only reserved.
fn files(fs: &SimFs) -> Vec<(RelPath, Vec<u8>)> {
    let mut files = Vec::new();
    for path in fs.files().into_iter().filter(|path| *path != FileName::Lock.path()) {
        let mut bytes = fs.read_file(&path).unwrap();
        if !path.as_str().starts_with("tables/") {
            let end = bytes.iter().rposition(|byte| *byte != 0).map_or(0, |last| last + 1);
            bytes.truncate(end);
        }
        files.push((path, bytes));
    }
    files
}

fn of(fs: &SimFs, folder: &str) -> Vec<RelPath> {
    fs.files().into_iter().filter(|path| path.as_str().starts_with(folder)).collect()
}

fn change(fs: &SimFs, path: &RelPath, how: impl FnOnce(&mut Vec<u8>)) {
    let mut bytes = fs.read_file(path).unwrap();
    how(&mut bytes);
    fs.write_file(path, bytes).unwrap();
}

type Damage = fn(&SimFs);

const FIXTURES: &[(&str, Damage)] = &[
    ("healthy", |_| {}),
    ("table-bit-flip", |fs| change(fs, &of(fs, "tables/")[0], |bytes| bytes[300] ^= 4)),
    ("table-truncated", |fs| {
        change(fs, &of(fs, "tables/")[0], |bytes| bytes.truncate(bytes.len() / 2));
    }),
    ("table-extended", |fs| change(fs, &of(fs, "tables/")[0], |bytes| bytes.extend([9; 99]))),
    ("table-zeroed", |fs| change(fs, &of(fs, "tables/")[1], |bytes| bytes[64..192].fill(0))),
    ("table-missing", |fs| fs.remove_file(&of(fs, "tables/")[0]).unwrap()),
    ("tables-swapped", |fs| {
        let tables = of(fs, "tables/");
        let (left, right) = (&tables[0], &tables[1]);
        let bytes = fs.read_file(left).unwrap();
        fs.write_file(left, fs.read_file(right).unwrap()).unwrap();
        fs.write_file(right, bytes).unwrap();
    }),
    ("log-bit-flip", |fs| change(fs, &of(fs, "wal/")[0], |bytes| bytes[5300] ^= 1)),
    ("log-truncated", |fs| change(fs, &of(fs, "wal/")[0], |bytes| bytes.truncate(5000))),
    ("log-missing", |fs| fs.remove_file(&of(fs, "wal/")[0]).unwrap()),
    ("log-foreign", |fs| {
        let other = killed(4);
        let bytes = other.read_file(&of(&other, "wal/")[0]).unwrap();
        fs.write_file(&of(fs, "wal/")[0], bytes).unwrap();
    }),
    ("root-stale", |fs| {
        let manifest = of(fs, "manifest/")[0].clone();
        let old = [FileName::Current.path(), FileName::CurrentCopy.path(), manifest];
        let old = old.map(|path| (fs.read_file(&path).unwrap(), path));
        let db = open(fs).unwrap();
        db.existing_keyspace("users").unwrap().put(b"user 060", value("third", 60)).unwrap();
        drop(db);
        old.into_iter().for_each(|(bytes, path)| fs.write_file(&path, bytes).unwrap());
    }),
    ("root-copy-corrupt", |fs| change(fs, &FileName::CurrentCopy.path(), |bytes| bytes[50] ^= 1)),
    ("roots-corrupt", |fs| {
        change(fs, &FileName::Current.path(), |bytes| bytes[50] ^= 1);
        change(fs, &FileName::CurrentCopy.path(), |bytes| bytes[70] ^= 1);
    }),
    ("manifest-corrupt", |fs| change(fs, &of(fs, "manifest/")[0], |bytes| bytes[700] ^= 1)),
    ("manifest-missing", |fs| fs.remove_file(&of(fs, "manifest/")[0]).unwrap()),
    ("identity-corrupt", |fs| change(fs, &FileName::Identity.path(), |bytes| bytes[80] ^= 1)),
    ("identity-missing", |fs| fs.remove_file(&FileName::Identity.path()).unwrap()),
];

fn load(name: &str) -> SimFs {
    let fs = SimFs::new(9);
    for folder in ["manifest", "wal", "tables"] {
        let place = folder_path(folder);
        base::fs::Fs::create_dir(&fs, &place).unwrap();
    }
    let root = folder().join(name);
    let mut waiting = vec![root.clone()];
    while let Some(next) = waiting.pop() {
        for entry in std::fs::read_dir(&next).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                waiting.push(path);
                continue;
            }
            let below = path.strip_prefix(&root).unwrap().to_str().unwrap();
            let steps = below.split('/');
            let relative = steps.fold(RelPath::root(), |path, step| path.join(step).unwrap());
            fs.write_file(&relative, std::fs::read(&path).unwrap()).unwrap();
        }
    }
    fs
}

fn folder_path(name: &str) -> RelPath {
    RelPath::root().join(name).unwrap()
}

fn content(fs: &SimFs) -> Content {
    let db = Db::open_on(
        platform(fs, 1),
        Options { verify: Verify::Paranoid, ..options(Create::Never) },
    );
    let db = db.unwrap();
    let mut content = Content::new();
    for keyspace in db.keyspaces() {
        for entry in keyspace.iter() {
            let (key, value) = entry.unwrap();
            content.insert((keyspace.name().to_owned(), key.to_vec()), value.to_vec());
        }
    }
    content
}

/// With the variable set, writes the fixtures; in any case there is one for each kind of damage.
#[test]
fn there_is_a_small_fixture_for_each_kind_of_damage() {
    if std::env::var_os("ESKER_WRITE_FIXTURES").is_some() {
        let _ = std::fs::remove_dir_all(folder());
        for (name, damage) in FIXTURES {
            let fs = killed(3);
            for (path, bytes) in files(&fs) {
                fs.write_file(&path, bytes).unwrap();
            }
            damage(&fs);
            for (path, bytes) in files(&fs) {
                let path = path.below(&folder().join(name));
                std::fs::create_dir_all(path.parent().unwrap()).unwrap();
                std::fs::write(path, bytes).unwrap();
            }
        }
    }
    let names: BTreeSet<String> = std::fs::read_dir(folder())
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    assert_eq!(names, FIXTURES.iter().map(|(name, _)| (*name).to_owned()).collect());
    for (name, _) in FIXTURES {
        let bytes: usize = files(&load(name)).iter().map(|(_, bytes)| bytes.len()).sum();
        assert!(bytes < 20 << 10, "{name} has {bytes} bytes");
    }
}

/// Each repaired fixture opens; what differs from the healthy one is in the report, and every value was
/// written once.
#[test]
fn every_fixture_is_repaired_and_what_differs_is_reported() {
    let before = content(&load("healthy"));
    assert_eq!(before.len(), 50 + 5 - 4 + 1);
    for (name, _) in FIXTURES {
        let fs = load(name);
        let report = repair_on(platform(&fs, 5), &RepairOptions::default());
        let report = report.unwrap_or_else(|error| panic!("{name}: {error}"));
        assert_eq!(report.is_healthy(), *name == "healthy", "{name}");
        assert_eq!(report.remaining, [], "{name}");
        let after = content(&fs);
        for ((keyspace, key), shown) in &after {
            let number = std::str::from_utf8(&key[5..]).unwrap().parse().unwrap();
            let written =
                ["first", "second", "third"].map(|round| value(round, number).into_bytes());
            assert!(written.contains(shown), "{name}: {keyspace} {key:?} was made up");
        }
        let all: BTreeSet<_> = before.keys().chain(after.keys()).collect();
        for at in all.into_iter().filter(|at| before.get(*at) != after.get(*at)) {
            let (keyspace, key) = at;
            let explains = |loss: &Loss| match loss {
                Loss::Keys { keyspace: lost, first, last, .. } => {
                    lost == keyspace
                        && **first <= **key
                        && last.as_ref().is_none_or(|last| **key <= **last)
                }
                Loss::Commits { .. } => key.as_slice() >= b"user 040".as_slice(),
                Loss::RangeDeletes { .. } => !before.contains_key(at),
                Loss::Name { .. } => keyspace.starts_with("recovered-") || !after.contains_key(at),
                Loss::History { .. } => !before.contains_key(at) && after.contains_key(at),
                _ => false,
            };
            let is_new = *name == "root-stale" && **key == *b"user 060";
            let is_explained = report.losses.iter().any(explains) || is_new;
            assert!(is_explained, "{name}: {keyspace} {} differs: {report:#?}", key.escape_ascii());
        }
    }
}
