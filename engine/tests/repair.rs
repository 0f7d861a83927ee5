//! Repairing damaged databases: what is kept, what is lost, and that the report says which.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

mod fixture;

use base::fs::{CrashModel, DirEntryKind, Fs, SimFs, read_small};
use base::{FileName, RelPath};
use esker::{
    Db, Error, Keyspace, Loss, Options, Progress, RepairOptions, RepairReport, Verify, repair_on,
    repair_with_progress,
};
use fixture::{Disk, content, keyspace, local_keyspace, scale, small};
use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

/// Keyspace and key.
type Name = (String, Vec<u8>);

/// What was ever written, and what is there now.
#[derive(Clone, Default)]
struct Story {
    ever: BTreeMap<Name, BTreeSet<Vec<u8>>>,
    now: BTreeMap<Name, Vec<u8>>,
}

impl Story {
    fn put(&mut self, db: &Db, keyspace: &str, key: &str, value: &str) {
        let name = (keyspace.to_owned(), key.as_bytes().to_vec());
        self.ever.entry(name.clone()).or_default().insert(value.into());
        self.now.insert(name, value.into());
        handle(db, keyspace).put(key.as_bytes(), value.as_bytes()).unwrap();
    }

    fn delete(&mut self, db: &Db, keyspace: &str, key: &str) {
        self.now.remove(&(keyspace.to_owned(), key.as_bytes().to_vec()));
        handle(db, keyspace).delete(key.as_bytes()).unwrap();
    }

    fn delete_range(&mut self, db: &Db, keyspace: &str, from: &str, to: &str) {
        let inside = |key: &[u8]| (from.as_bytes()..to.as_bytes()).contains(&key);
        self.now.retain(|(space, key), _| space != keyspace || !inside(key));
        handle(db, keyspace).delete_range(from, to).unwrap();
    }
}

fn handle(db: &Db, name: &str) -> Keyspace {
    match name {
        "own" => local_keyspace(db, name),
        name => keyspace(db, name),
    }
}

/// A database that was killed: a last level, a flushed run with overwrites and deletes of all kinds,
/// and commits that are only in the log.
struct Sample {
    image: SimFs,
    story: Story,
    /// Keys of the commits that are only in the log.
    in_log: BTreeSet<Name>,
    /// What was there after each of these commits, and before the first.
    moments: Vec<BTreeMap<Name, Vec<u8>>>,
}

fn sample() -> Sample {
    let disk = Disk::new(11);
    let db = disk.open(small());
    let mut story = Story::default();
    for n in 0..60 {
        story.put(&db, "a", &format!("key {n:03}"), &format!("first {n} {}", "x".repeat(40)));
    }
    for n in 0..15 {
        story.put(&db, "b", &format!("other {n:03}"), &format!("{n}"));
        story.put(&db, "own", &format!("mine {n:03}"), &format!("{n}"));
    }
    db.flush().unwrap();
    db.compact_all().unwrap();
    for n in (0..60).step_by(3) {
        story.put(&db, "a", &format!("key {n:03}"), &format!("second {n} {}", "y".repeat(30)));
    }
    for n in 0..5 {
        story.delete(&db, "b", &format!("other {n:03}"));
    }
    story.delete_range(&db, "a", "key 020", "key 026");
    db.flush().unwrap();
    let mut in_log = BTreeSet::new();
    let mut moments = vec![story.now.clone()];
    for n in 50..70 {
        let key = format!("key {n:03}");
        story.put(&db, "a", &key, &format!("third {n} {}", "z".repeat(60)));
        in_log.insert(("a".to_owned(), key.into_bytes()));
        moments.push(story.now.clone());
    }
    let image = disk.fs.crash(CrashModel::Kill);
    Sample { image, story, in_log, moments }
}

fn all_files(fs: &SimFs) -> Vec<(RelPath, Vec<u8>)> {
    let files = fs.files().into_iter().filter(|path| *path != FileName::Lock.path());
    files
        .map(|path| (fs.read_file(&path).unwrap(), path))
        .map(|(bytes, path)| (path, bytes))
        .collect()
}

fn try_repair(fs: &SimFs) -> esker::Result<RepairReport> {
    repair_on(Disk::of(fs.clone()).platform(), &RepairOptions::default())
}

/// Everything in the database, by the names that its keyspaces had when it was made.
fn all_content(db: &Db) -> BTreeMap<Name, Vec<u8>> {
    let mut all = BTreeMap::new();
    for keyspace in db.keyspaces() {
        let name = match keyspace.name() {
            "recovered-1-1" => "a",
            "recovered-1-2" => "b",
            "recovered-0-2147483651" => "own",
            name => name,
        };
        for (key, value) in content(&keyspace) {
            all.insert((name.to_owned(), key), value);
        }
    }
    all
}

/// Whether the report says that `name` may be affected.
fn is_reported(sample: &Sample, losses: &[Loss], name: &Name) -> bool {
    losses.iter().any(|loss| match loss {
        Loss::Keys { keyspace, first, last, .. } => {
            let keyspace = match keyspace.as_str() {
                "recovered-1-1" | "1/1" => "a",
                "recovered-1-2" | "1/2" => "b",
                "recovered-0-2147483651" | "0/2147483651" => "own",
                keyspace => keyspace,
            };
            let is_below = last.as_ref().is_none_or(|last| *name.1 <= **last);
            keyspace == name.0 && **first <= *name.1 && is_below
        }
        Loss::RangeDeletes { .. } | Loss::History { .. } => !sample.story.now.contains_key(name),
        Loss::Commits { .. } => sample.in_log.contains(name),
        Loss::Table { .. } => true,
        _ => false,
    })
}

/// Whether `name` was cut off where a crash may have done it: nothing for a repair.
fn is_torn_off(sample: &Sample, report: &RepairReport, name: &Name) -> bool {
    let is_torn = report.findings.iter().any(|finding| finding.code == "TornTail");
    is_torn && sample.in_log.contains(name)
}

/// Repairs `fs` and holds the report against what is there then.
#[track_caller]
fn assert_repaired(sample: &Sample, fs: &SimFs, what: &str) -> RepairReport {
    assert_repaired_again(sample, fs, &[], what)
}

/// As [`assert_repaired`], after a repair that may have died just before it could report `told`.
#[track_caller]
fn assert_repaired_again(sample: &Sample, fs: &SimFs, told: &[Loss], what: &str) -> RepairReport {
    let report = try_repair(fs).unwrap_or_else(|error| panic!("{what}: {error}"));
    assert_eq!(report.remaining, [], "{what}");
    let db = Disk::of(fs.clone()).try_open(Options { verify: Verify::Paranoid, ..small() });
    let db = db.unwrap_or_else(|error| panic!("{what}: it does not open: {error}"));
    let shown = all_content(&db);
    for (name, value) in &shown {
        let ever = sample.story.ever.get(name);
        assert!(ever.is_some_and(|ever| ever.contains(value)), "{what}: {name:?} was made up");
    }
    for name in sample.story.ever.keys() {
        if shown.get(name) != sample.story.now.get(name) {
            let is_reported = is_reported(sample, &report.losses, name)
                || is_reported(sample, told, name)
                || is_torn_off(sample, &report, name);
            assert!(is_reported, "{what}: {name:?} has changed, and {report:#?} does not say so");
        }
    }
    report
}

#[test]
fn a_healthy_database_is_left_alone() {
    let sample = sample();
    let before = sample.image.files();
    let report = try_repair(&sample.image).unwrap();
    assert!(report.is_healthy() && report.losses.is_empty(), "{report:?}");
    assert_eq!(sample.image.files(), before);
    assert!(sample.image.at(Path::new("/sim.before-repair-1")).list(&RelPath::root()).is_err());
}

/// A flipped bit at many places of every file: the database opens again, and only what the report
/// names is not as it was.
#[test]
fn a_flipped_bit_anywhere_is_repaired_and_the_loss_is_named() {
    let sample = sample();
    let files = all_files(&sample.image);
    let (mut repaired, mut lossless) = (0, 0);
    for (path, bytes) in &files {
        let content_len = bytes.iter().rposition(|byte| *byte != 0).unwrap_or(0) + 1;
        let step = (content_len / (60 * scale() as usize)).max(1);
        for at in (0..content_len).step_by(step) {
            let fs = sample.image.crash(CrashModel::Kill);
            let mut damaged = bytes.clone();
            damaged[at] ^= 1 << (at % 8);
            fs.write_file(path, damaged).unwrap();
            let report = assert_repaired(&sample, &fs, &format!("{path} byte {at}"));
            repaired += usize::from(!report.is_healthy());
            lossless += usize::from(!report.is_healthy() && report.losses.is_empty());
            if !report.is_healthy() {
                assert!(all_files_of_copy(&fs).iter().any(|(file, _)| file == path));
            }
        }
    }
    println!("{repaired} repaired, {lossless} of them without a loss");
    assert!(repaired > 200 && lossless > 50 && lossless < repaired, "{repaired} {lossless}");
}

fn all_files_of_copy(fs: &SimFs) -> Vec<(RelPath, Vec<u8>)> {
    let copy = fs.at(Path::new("/sim.before-repair-1"));
    let mut files = Vec::new();
    let mut waiting = vec![RelPath::root()];
    while let Some(folder) = waiting.pop() {
        for entry in copy.list(&folder).unwrap_or_default() {
            let path = folder.join(&entry.name).unwrap();
            match entry.kind {
                DirEntryKind::Folder => waiting.push(path),
                _ => files.push((path.clone(), read_small(copy.as_ref(), &path, 1 << 30).unwrap())),
            }
        }
    }
    files.sort();
    files
}

/// Files truncated, extended, zeroed in part, removed, exchanged, and taken from another database.
#[test]
fn every_kind_of_damage_to_every_file_is_repaired() {
    let sample = sample();
    let files = all_files(&sample.image);
    let foreign = all_files(&{
        let disk = Disk::new(99);
        let db = disk.open(small());
        keyspace(&db, "z").put(b"foreign", b"foreign").unwrap();
        db.flush().unwrap();
        disk.fs.crash(CrashModel::Kill)
    });
    for (path, bytes) in &files {
        let try_with = |what: &str, change: &dyn Fn(&SimFs)| {
            let fs = sample.image.crash(CrashModel::Kill);
            change(&fs);
            assert_repaired(&sample, &fs, &format!("{path} {what}"))
        };
        let write = |fs: &SimFs, bytes: Vec<u8>| fs.write_file(path, bytes).unwrap();
        for len in [0, 1, bytes.len() / 3, bytes.len() / 2, bytes.len() - 1] {
            try_with(&format!("cut to {len}"), &|fs| write(fs, bytes[..len].to_vec()));
        }
        try_with("extended", &|fs| write(fs, [&**bytes, &[7; 5000]].concat()));
        try_with("removed", &|fs| fs.remove_file(path).unwrap());
        for page in (0..bytes.len()).step_by(4096).take(8) {
            let mut zeroed = bytes.clone();
            let end = (page + 4096).min(bytes.len());
            zeroed[page..end].fill(0);
            try_with(&format!("zeroed at {page}"), &|fs| write(fs, zeroed.clone()));
        }
        let folder = path.parent();
        for (other, content) in files.iter().filter(|(it, _)| it.parent() == folder && it > path) {
            try_with(&format!("exchanged with {other}"), &|fs| {
                write(fs, content.clone());
                fs.write_file(other, bytes.clone()).unwrap();
            });
        }
        for (other, content) in foreign.iter().filter(|(it, _)| it.parent() == folder) {
            try_with(&format!("taken from another database ({other})"), &|fs| {
                write(fs, content.clone());
            });
        }
    }
}

#[test]
fn two_files_damaged_at_once_are_repaired() {
    let sample = sample();
    let files = all_files(&sample.image);
    for (at, (left, left_bytes)) in files.iter().enumerate() {
        for (right, right_bytes) in &files[at + 1..] {
            let fs = sample.image.crash(CrashModel::Kill);
            for (path, bytes) in [(left, left_bytes), (right, right_bytes)] {
                let mut bytes = bytes.clone();
                let middle = bytes.len().min(9000) / 2;
                bytes[middle] ^= 4;
                fs.write_file(path, bytes).unwrap();
            }
            assert_repaired(&sample, &fs, &format!("{left} and {right}"));
        }
    }
}

/// What is taken of a damaged log are the commits before the damage, in order and nothing else.
#[test]
fn commits_behind_the_first_damage_are_counted_and_not_applied() {
    let sample = sample();
    let (path, bytes) = the_log(&sample.image);
    let content_len = bytes.iter().rposition(|byte| *byte != 0).unwrap();
    let mut most = 0;
    for at in (4300..content_len).step_by(97) {
        let fs = sample.image.crash(CrashModel::Kill);
        let mut damaged = bytes.clone();
        damaged[at] ^= 1;
        fs.write_file(&path, damaged).unwrap();
        let report = assert_repaired(&sample, &fs, &format!("byte {at}"));
        let shown = all_content(&Disk::of(fs).open(small()));
        let moment = sample.moments.iter().position(|moment| *moment == shown);
        let moment = moment.unwrap_or_else(|| panic!("byte {at}: no moment of the database"));
        if report.is_healthy() {
            continue; // Cut where a crash may cut.
        }
        if let [Loss::Commits { later, first, last, .. }] = &*report.losses {
            assert!(moment + (*later as usize) < sample.moments.len(), "byte {at}");
            assert!(*later == 0 || first <= last);
            most = most.max(*later);
        } else {
            assert_eq!(moment, sample.moments.len() - 1, "byte {at}: {report:?}");
        }
    }
    assert!(most > 10, "{most}");
}

fn the_log(fs: &SimFs) -> (RelPath, Vec<u8>) {
    let mut files = all_files(fs);
    files.retain(|(path, _)| path.as_str().starts_with("wal/"));
    files.pop().unwrap()
}

/// Roots, manifest and identity gone: tables and log still tell all that matters.
#[test]
fn tables_and_log_alone_make_a_database_again() {
    let sample = sample();
    let fs = sample.image.crash(CrashModel::Kill);
    for (path, _) in all_files(&fs) {
        if !path.as_str().starts_with("tables/") && !path.as_str().starts_with("wal/") {
            fs.remove_file(&path).unwrap();
        }
    }
    let report = assert_repaired(&sample, &fs, "tables and log");
    let names = |loss: &&Loss| matches!(loss, Loss::Name { .. });
    assert_eq!(report.losses.iter().filter(names).count(), 3, "{report:?}");
    assert!(report.losses.iter().any(|loss| matches!(loss, Loss::Identity { .. })));
    let db = Disk::of(fs).open(small());
    assert_eq!(all_content(&db), sample.story.now, "nothing obsolete was around");
    keyspace(&db, "recovered-1-1").put(b"goes", b"on").unwrap();
}

#[test]
fn a_directory_without_anything_that_verifies_is_not_touched() {
    let sample = sample();
    let fs = sample.image.crash(CrashModel::Kill);
    for (path, bytes) in all_files(&fs) {
        fs.write_file(&path, bytes.iter().map(|byte| !byte).collect::<Vec<u8>>()).unwrap();
    }
    let before = all_files(&fs);
    let error = try_repair(&fs).unwrap_err();
    assert_eq!(error.code(), "NotADatabase");
    assert_eq!(all_files(&fs), before);
}

#[test]
fn what_was_lost_is_remembered_and_the_life_is_another() {
    let sample = sample();
    let fs = sample.image.crash(CrashModel::Kill);
    let identity = Disk::of(sample.image.crash(CrashModel::Kill)).open(small()).identity();
    let (path, bytes) = the_log(&fs);
    fs.write_file(&path, bytes[..4400].to_vec()).unwrap();
    assert_repaired(&sample, &fs, "a short log");
    let db = Disk::of(fs.clone()).open(small());
    assert_eq!(db.identity().database, identity.database);
    assert_ne!(db.identity().incarnation, identity.incarnation);
    let marks = |db: &Db| {
        db.recovery_report().warnings.iter().filter(|it| it.contains("lost content")).count()
    };
    assert_eq!(marks(&db), 2, "{:?}", db.recovery_report());
    db.close().unwrap();
    assert_eq!(marks(&Disk::of(fs).open(small())), 2, "every open says so");
}

#[test]
fn a_copy_goes_only_where_nothing_is() {
    let sample = sample();
    let (path, bytes) = the_log(&sample.image);
    sample.image.write_file(&path, bytes[..4400].to_vec()).unwrap();
    let before = all_files(&sample.image);
    let taken = sample.image.at(Path::new("/sim.before-repair-1"));
    taken.create_dir(&RelPath::root()).unwrap();
    drop(taken.create(&RelPath::root().join("mine").unwrap(), 0).unwrap());
    let options = RepairOptions { copy_to: Some("/sim.before-repair-1".into()) };
    let platform = Disk::of(sample.image.clone()).platform();
    assert_eq!(repair_on(platform, &options).unwrap_err().code(), "AlreadyExists");
    assert_eq!(all_files(&sample.image), before);
    let report = try_repair(&sample.image).unwrap();
    assert_eq!(report.copy.unwrap(), Path::new("/sim.before-repair-2"));
}

/// Wherever a repair dies, the next one does it; and before the first change to the directory the copy
/// is whole.
#[test]
fn a_repair_that_dies_anywhere_can_be_run_again() {
    let sample = sample();
    let files = all_files(&sample.image);
    let table = &files.iter().find(|(path, _)| path.as_str().starts_with("tables/")).unwrap().0;
    let manifest =
        &files.iter().find(|(path, _)| path.as_str().starts_with("manifest/")).unwrap().0;
    for (path, at) in [(table, 700), (manifest, 900), (&FileName::Identity.path(), 50)] {
        let damaged = sample.image.crash(CrashModel::Kill);
        let mut bytes = damaged.read_file(path).unwrap();
        let at = at.min(bytes.len() - 1);
        bytes[at] ^= 1;
        damaged.write_file(path, bytes).unwrap();
        let original = all_files(&damaged);
        let whole = damaged.crash(CrashModel::Kill);
        let told = try_repair(&whole).unwrap().losses;
        for stop in 0..=whole.ops() {
            for model in [CrashModel::Kill, CrashModel::Synced, CrashModel::Garbage] {
                let dying = damaged.crash(CrashModel::Kill);
                dying.stop_after(stop);
                let _ = try_repair(&dying);
                let image = dying.crash(model);
                let here: Vec<_> = all_files(&image);
                let is_changed = original.iter().any(|file| !here.contains(file));
                if is_changed {
                    let mut copy = all_files_of_copy(&image);
                    let len = copy.len();
                    copy.retain(|(name, _)| name.as_str() != "lost.txt");
                    assert!(copy == original, "{path} {model:?} at {stop}: not the original");
                    assert!(copy.len() < len, "{path} {model:?} at {stop}: no word of the losses");
                }
                let what = format!("{path} {model:?} at {stop}");
                assert_repaired_again(&sample, &image, &told, &what);
            }
        }
    }
}

/// Whoever waits learns how far a check, a repair and a merge are; whoever will not wait calls them off,
/// and nothing has changed.
#[test]
fn long_work_tells_how_far_it_is_and_can_be_called_off() {
    let sample = sample();
    let table = sample.image.files().into_iter().find(|path| path.to_string().contains("tables/"));
    let table = table.unwrap();
    let mut bytes = sample.image.read_file(&table).unwrap();
    bytes[100] ^= 1;
    let called_off = || {
        let progress = Progress::default();
        progress.cancel();
        progress
    };
    let is_whole = |progress: &Progress| {
        assert!(progress.bytes_total() > 1000, "{progress:?}");
        let missing = progress.bytes_total() - progress.bytes_done();
        assert!(missing < progress.bytes_total() / 2, "{progress:?}");
    };

    let progress = Progress::default();
    recovery::check_with_progress(&sample.image, Verify::Full, &progress).unwrap();
    is_whole(&progress);
    let refused = recovery::check_with_progress(&sample.image, Verify::Full, &called_off());
    assert!(matches!(refused, Err(Error::Cancelled)), "{refused:?}");

    let db = Disk::of(sample.image.crash(CrashModel::Kill)).open(small());
    let refused = db.compact_with_progress(&called_off());
    assert!(matches!(refused, Err(Error::Cancelled)), "{refused:?}");
    assert_eq!(all_content(&db), sample.story.now);
    let progress = Progress::default();
    db.compact_with_progress(&progress).unwrap();
    is_whole(&progress);
    assert_eq!(all_content(&db), sample.story.now);

    let damaged = sample.image.crash(CrashModel::Kill);
    damaged.write_file(&table, bytes).unwrap();
    let before = all_files(&damaged);
    let repair = |progress: &Progress| {
        repair_with_progress(
            Disk::of(damaged.clone()).platform(),
            &RepairOptions::default(),
            progress,
        )
    };
    let refused = repair(&called_off());
    assert!(matches!(refused, Err(Error::Cancelled)), "{refused:?}");
    assert!(all_files(&damaged) == before);
    let progress = Progress::default();
    assert!(!repair(&progress).unwrap().is_healthy());
    is_whole(&progress);
}
