//! A whole directory, mutated: files damaged, cut, removed, swapped, put back to what they were,
//! copied under other names, taken from another database.
//!
//! Whatever was done, what opens holds what some first commits had left, or says that it can not
//! be opened or read. Damage to several files at once can undo commits where all witnesses agree (a
//! whole directory put back is such a case), but it never makes a content that never was.

use crate::damage::damage;
use crate::input::Input;
use base::clock::ManualClock;
use base::fs::{CrashModel, SimFs};
use base::rng::SeededRng;
use base::{FileName, RelPath};
use engine::{Background, Batch, Db, KeyspaceOptions, Options, Platform, SyncMode, WriteOptions};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, OnceLock};

/// Mutations of one input at most.
const MUTATIONS_MAX: usize = 4;
const KEYSPACES: [&str; 2] = ["one", "two"];
const START_MS: u64 = 1_700_000_000_000;

type Content = BTreeMap<(usize, Vec<u8>), Vec<u8>>;
type Files = BTreeMap<RelPath, Vec<u8>>;

/// A directory as it was at several moments, and every content that it ever had.
struct Sample {
    /// The last is the present.
    moments: Vec<Files>,
    contents: BTreeSet<Content>,
}

/// Opens a mutated directory. What can be read is the truth of some moment.
pub fn directory(data: &[u8]) {
    let mut input = Input::new(data);
    let samples = samples();
    let chosen = input.below(samples.len());
    let sample = &samples[chosen];
    let foreign = &samples[(chosen + 1) % samples.len()];
    let mut files = sample.moments.last().cloned().unwrap_or_default();
    for _ in 0..input.below(MUTATIONS_MAX + 1) {
        mutate(&mut files, sample, foreign, &mut input);
    }
    let fs = SimFs::new(1);
    for folder in ["manifest", "wal", "tables"] {
        base::fs::Fs::create_dir(&fs, &RelPath::folder(folder)).unwrap();
    }
    for (path, bytes) in files {
        fs.write_file(&path, bytes).unwrap();
    }
    let _ = recovery::check(&fs, recovery::Verify::Paranoid);
    if let Some(content) = read(&fs) {
        assert!(sample.contents.contains(&content), "a content that never was: {content:?}");
    }
}

fn mutate(files: &mut Files, sample: &Sample, foreign: &Sample, input: &mut Input<'_>) {
    let names: Vec<RelPath> = files.keys().cloned().collect();
    if names.is_empty() {
        return;
    }
    let name = &names[input.below(names.len())];
    match input.below(8) {
        0..=2 => drop(files.get_mut(name).map(|bytes| damage(bytes, input))),
        3 => drop(files.remove(name)),
        4 => {
            let other = &names[input.below(names.len())];
            let (a, b) = (files[name].clone(), files[other].clone());
            files.insert(name.clone(), b);
            files.insert(other.clone(), a);
        }
        5 => {
            let moment = &sample.moments[input.below(sample.moments.len())];
            let names: Vec<&RelPath> = moment.keys().collect();
            let name = names[input.below(names.len())];
            files.insert(name.clone(), moment[name].clone());
        }
        6 => drop(renamed(name, input).map(|to| files.insert(to, files[name].clone()))),
        _ => {
            let bytes = foreign.moments.last().and_then(|files| files.get(name));
            drop(bytes.map(|bytes| files.insert(name.clone(), bytes.clone())));
        }
    }
}

/// Another name of the same kind.
fn renamed(name: &RelPath, input: &mut Input<'_>) -> Option<RelPath> {
    let number = |number: u64| number.saturating_add(1 + input.clone().below(4) as u64);
    match FileName::parse(name.as_str())? {
        FileName::Manifest(at) => Some(FileName::Manifest(number(at)).path()),
        FileName::Segment(at) => Some(FileName::Segment(number(at)).path()),
        FileName::Table(at) => Some(FileName::Table(number(at)).path()),
        FileName::Current => Some(FileName::CurrentCopy.path()),
        FileName::CurrentCopy => Some(FileName::Current.path()),
        _ => None,
    }
}

/// What the database holds, if it opens and all of it can be read.
fn read(fs: &SimFs) -> Option<Content> {
    let db = open(fs).ok()?;
    let mut content = Content::new();
    for (number, name) in KEYSPACES.into_iter().enumerate() {
        let Ok(keyspace) = db.existing_keyspace(name) else { continue };
        for entry in keyspace.iter() {
            let (key, value) = entry.ok()?;
            let found = keyspace.get(&key).ok()?;
            assert_eq!(found.as_deref(), Some(&*value), "a scan and a get differ");
            content.insert((number, key.to_vec()), value.to_vec());
        }
    }
    Some(content)
}

fn open(fs: &SimFs) -> engine::Result<Db> {
    let platform = Platform {
        fs: Arc::new(fs.clone()),
        clock: Arc::new(ManualClock::at(START_MS)),
        rng: Arc::new(SeededRng::new(fs.ops())),
    };
    let options = Options {
        memory_bytes: 1 << 20,
        memtable_bytes: 64 << 10,
        block_bytes: 512,
        table_bytes: 64 << 10,
        segment_bytes: 64 << 10,
        background: Background::Off,
        ..Options::default()
    };
    Db::open_on(platform, options)
}

fn samples() -> &'static [Sample] {
    static SAMPLES: OnceLock<Vec<Sample>> = OnceLock::new();
    SAMPLES
        .get_or_init(|| [(1, End::Close), (2, End::Kill), (3, End::PowerLoss)].map(sample).into())
}

/// How the process that wrote a sample ended.
enum End {
    Close,
    Kill,
    PowerLoss,
}

/// Writes with opens, flushes and a merge in between.
fn sample((seed, end): (u64, End)) -> Sample {
    let fs = SimFs::new(seed);
    let mut sample = Sample { moments: Vec::new(), contents: BTreeSet::from([Content::new()]) };
    let mut content = Content::new();
    for life in 0..3 {
        let db = open(&fs).unwrap();
        for step in 0..10 {
            write(&db, life * 10 + step, &mut content);
            sample.contents.insert(content.clone());
            match step {
                3 => db.flush().unwrap(),
                6 if life == 1 => db.compact_all().unwrap(),
                _ => {}
            }
        }
        sample.moments.push(files(&fs));
        if life < 2 {
            db.close().unwrap();
            sample.moments.push(files(&fs));
            continue;
        }
        let image = match end {
            End::Close => db.close().map(|()| fs.clone()).unwrap(),
            End::Kill => fs.crash(CrashModel::Kill),
            End::PowerLoss => fs.crash(CrashModel::Sectors),
        };
        sample.moments.push(files(&image));
    }
    sample
}

/// One commit over both keyspaces; some are not synced.
fn write(db: &Db, number: usize, content: &mut Content) {
    let keyspaces = KEYSPACES.map(|name| db.keyspace(name, KeyspaceOptions::default()).unwrap());
    let mut batch = Batch::new();
    for (at, keyspace) in keyspaces.iter().enumerate() {
        let key = format!("key {:02}", (number * 7 + at) % 12).into_bytes();
        if number % 5 == 4 {
            batch.delete(keyspace, &key);
            content.remove(&(at, key));
        } else {
            let value = format!("value {number} {}", "v".repeat(number % 3 * 20)).into_bytes();
            batch.put(keyspace, &key, &value);
            content.insert((at, key), value);
        }
    }
    let sync = if number.is_multiple_of(3) { SyncMode::Sync } else { SyncMode::Async };
    db.write_with(batch, WriteOptions { sync: Some(sync) }).unwrap();
}

fn files(fs: &SimFs) -> Files {
    fs.files().into_iter().map(|path| (path.clone(), fs.read_file(&path).unwrap())).collect()
}
