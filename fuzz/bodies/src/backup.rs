//! Backups: hostile records, records that verify and say anything, and a whole store, mutated.
//!
//! Whatever was done to a store, what is restored from it is what the database held at a moment.

use crate::damage::damage;
use crate::input::Input;
use base::clock::ManualClock;
use base::fs::{Fs, SimFs, read_small};
use base::rng::SeededRng;
use base::{RelPath, Tick};
use engine::{
    Background, BackupKind, BackupOptions, Backups, Batch, Db, Keyspace, KeyspaceOptions, Options,
    Platform, Progress, RestorePoint,
};
use recovery::backup::BackupRecord;
use std::collections::BTreeMap;
use std::path::Path;
use std::sync::{Arc, OnceLock};

/// Mutations of one input at most.
const MUTATIONS_MAX: usize = 3;
const STORE: &str = "/backups";
const START_MS: u64 = 1_700_000_000_000;
const FILE_LEN_MAX: u64 = 1 << 22;
const DIGEST_LEN: usize = 32;

type Content = BTreeMap<Vec<u8>, Vec<u8>>;
type Files = BTreeMap<RelPath, Vec<u8>>;

/// A store, and what the database held after each commit.
struct Sample {
    store: Files,
    moments: BTreeMap<Tick, Content>,
}

/// Reads a record, or lists, verifies and restores a store.
pub fn backup(data: &[u8]) {
    let mut input = Input::new(data);
    match input.byte() % 3 {
        0 => hostile_record(input.rest()),
        1 => sealed_record(&mut input),
        _ => mutated_store(&mut input),
    }
}

fn hostile_record(bytes: &[u8]) {
    if let Ok(record) = BackupRecord::decode(bytes) {
        assert_eq!(BackupRecord::decode(&record.encode()), Ok(record), "a record comes back");
    }
}

/// A genuine record, damaged, under a digest that is right.
fn sealed_record(input: &mut Input<'_>) {
    let is_record = |(path, _): &(&RelPath, &Vec<u8>)| path.as_str().ends_with(".backup");
    let records: Vec<&Vec<u8>> =
        sample().store.iter().filter(is_record).map(|(_, bytes)| bytes).collect();
    let mut bytes = records[input.below(records.len())].clone();
    bytes.truncate(bytes.len() - DIGEST_LEN);
    damage(&mut bytes, input);
    let key = blake3::derive_key("esker backup v1", b"");
    let digest = blake3::keyed_hash(&key, &bytes);
    bytes.extend_from_slice(digest.as_bytes());
    hostile_record(&bytes);
}

fn mutated_store(input: &mut Input<'_>) {
    let sample = sample();
    let mut files = sample.store.clone();
    for _ in 0..input.below(MUTATIONS_MAX + 1) {
        mutate(&mut files, input);
    }
    let fs = SimFs::new(1);
    write_all(&*fs.at(Path::new(STORE)), &files);
    let Ok(backups) = Backups::open_on(platform(&fs, STORE)) else { return };
    let _ = backups.verify(&Progress::default());
    if backups.list().is_err() {
        return;
    }
    let ticks: Vec<Tick> = sample.moments.keys().copied().collect();
    let point = match input.below(3) {
        0 => RestorePoint::Newest,
        1 => RestorePoint::Moment(START_MS + input.below(64) as u64),
        _ => RestorePoint::Tick(ticks[input.below(ticks.len())]),
    };
    let Ok(restored) = backups.restore("/restored", point, &Progress::default()) else { return };
    let db = Db::open_on(platform(&fs, "/restored"), options()).unwrap();
    let there = sample.moments.range(..=restored.tick).next_back();
    let there = there.map(|(_, content)| content.clone()).unwrap_or_default();
    let here = db.existing_keyspace("k").map(|keyspace| content(&keyspace)).unwrap_or_default();
    assert_eq!(here, there, "what was restored is not what was at {}", restored.tick);
}

fn mutate(files: &mut Files, input: &mut Input<'_>) {
    let names: Vec<RelPath> = files.keys().cloned().collect();
    if names.is_empty() {
        return;
    }
    let (name, other) = (&names[input.below(names.len())], &names[input.below(names.len())]);
    match input.below(6) {
        0..=2 => drop(files.get_mut(name).map(|bytes| damage(bytes, input))),
        3 => drop(files.remove(name)),
        4 => drop(files.insert(other.clone(), files[name].clone())),
        _ => {
            let (a, b) = (files[name].clone(), files[other].clone());
            files.insert(name.clone(), b);
            files.insert(other.clone(), a);
        }
    }
}

fn platform(fs: &SimFs, root: &str) -> Platform {
    Platform {
        fs: fs.at(Path::new(root)),
        clock: Arc::new(ManualClock::at(START_MS)),
        rng: Arc::new(SeededRng::new(fs.ops())),
    }
}

fn options() -> Options {
    Options {
        memory_bytes: 1 << 20,
        memtable_bytes: 64 << 10,
        block_bytes: 512,
        table_bytes: 64 << 10,
        segment_bytes: 64 << 10,
        background: Background::Off,
        ..Options::default()
    }
}

fn content(keyspace: &Keyspace) -> Content {
    let entries = keyspace.iter().map(|entry| entry.unwrap());
    entries.map(|(key, value)| (key.to_vec(), value.to_vec())).collect()
}

fn sample() -> &'static Sample {
    static SAMPLE: OnceLock<Sample> = OnceLock::new();
    SAMPLE.get_or_init(make_sample)
}

/// Two backups, with commits before, between and a reopening.
fn make_sample() -> Sample {
    let fs = SimFs::new(4);
    let clock = Arc::new(ManualClock::at(START_MS));
    let mut moments = BTreeMap::new();
    for life in 0..2usize {
        let platform = Platform { clock: clock.clone(), ..platform(&fs, "/database") };
        let db = Db::open_on(platform, options()).unwrap();
        let keyspace = db.keyspace("k", KeyspaceOptions::default()).unwrap();
        for step in 0..12 {
            clock.set(START_MS + (life * 12 + step) as u64 * 2);
            let mut batch = Batch::new();
            for number in 0..4 {
                batch.put(&keyspace, [(step * 5 + number) as u8 % 16], vec![step as u8; 40]);
            }
            batch.delete(&keyspace, [(step * 3) as u8 % 16]);
            let tick = db.write(batch).unwrap();
            moments.insert(tick, content(&keyspace));
            if step == 5 {
                db.flush().unwrap();
            }
            if step == 8 {
                let kind = [BackupKind::Full, BackupKind::Incremental][life];
                let options =
                    BackupOptions { kind, bytes_per_second: u64::MAX, ..BackupOptions::default() };
                db.backup(STORE, &options).unwrap();
            }
        }
        db.close().unwrap();
    }
    Sample { store: read_all(&*fs.at(Path::new(STORE))), moments }
}

/// All files below the root of `fs`, one folder deep.
fn read_all(fs: &dyn Fs) -> Files {
    let mut files = Files::new();
    let mut folders = vec![RelPath::root()];
    while let Some(folder) = folders.pop() {
        for entry in fs.list(&folder).unwrap() {
            let path = folder.join(&entry.name).unwrap();
            match entry.kind {
                base::fs::DirEntryKind::Folder => folders.push(path),
                _ => drop(files.insert(path.clone(), read_small(fs, &path, FILE_LEN_MAX).unwrap())),
            }
        }
    }
    files
}

fn write_all(fs: &dyn Fs, files: &Files) {
    fs.create_dir(&RelPath::root()).unwrap();
    for (path, bytes) in files {
        fs.create_dir(&path.parent()).unwrap();
        let mut file = fs.create(path, 0).unwrap();
        file.append(bytes).unwrap();
        file.finish().unwrap();
    }
}
