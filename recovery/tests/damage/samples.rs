//! Small databases that hold something of everything.

use crate::disk::{Image, image, open, small};
use crate::history::History;
use crate::history::Step::{Delete, DeleteRange, Put};
use crate::promises::Promises;
use SyncMode::{Async, Sync};
use base::fs::{CrashModel, SimFs};
use engine::{Compression, Db, KeyspaceOptions, Options, Scope, SyncMode};

const KEYSPACES: [&str; 3] = ["local", "plain", "tight"];

/// A database to damage: its files, what was written to it, and what of that was promised.
pub(crate) struct Sample {
    pub(crate) image: Image,
    pub(crate) history: History,
    pub(crate) promises: Promises,
}

fn create_keyspaces(db: &Db) {
    let tight = KeyspaceOptions::default();
    let plain = KeyspaceOptions { compression: Compression::None, ..tight.clone() };
    let local = KeyspaceOptions { scope: Scope::Local, ..tight.clone() };
    db.keyspace("tight", tight).unwrap();
    db.keyspace("plain", plain).unwrap();
    db.keyspace("local", local).unwrap();
}

/// Tables of several blocks, compressed and not, of upper and last levels, with range deletes.
fn fill(fs: &SimFs, history: &mut History) {
    let db = open(fs, Options { sync: Async, ..small() }).unwrap();
    create_keyspaces(&db);
    for from in (0..24).step_by(6) {
        let numbers = from..from + 6;
        let tight = numbers.clone().map(|at| Put("tight", at, 60));
        let plain = numbers.map(|at| Put("plain", at, 40));
        let steps: Vec<_> = tight.chain(plain).chain([Put("local", from, 0)]).collect();
        history.write(&db, &steps, Async);
    }
    db.compact_all().unwrap();
    let steps = [DeleteRange("tight", 3, 9), Delete("plain", 4), Put("plain", 30, 700)];
    history.write(&db, &steps, Async);
    db.flush().unwrap();
    db.close().unwrap();
}

/// A database that was closed; its log still holds commits that are also in tables.
pub(crate) fn closed() -> Sample {
    let fs = SimFs::new(7);
    let mut history = History::of(&KEYSPACES);
    fill(&fs, &mut history);
    let db = open(&fs, small()).unwrap();
    history.write(&db, &[Put("tight", 5, 10), Put("local", 1, 30)], Sync);
    history.write(&db, &[DeleteRange("plain", 8, 11), Put("plain", 9, 20)], Async);
    db.close().unwrap();
    let promises = Promises::all(&history);
    Sample { image: image(&fs), history, promises }
}

/// Leaves two pages of the reserved zeros: the rest, a megabyte, is more of the same.
fn shorten(bytes: &mut Vec<u8>) {
    let end = bytes.iter().rposition(|byte| *byte != 0).map_or(0, |last| last + 1);
    bytes.truncate(end + (8 << 10));
}

/// What a killed process leaves: synced commits, a flush, more commits of which some are synced, one
/// with `large` bytes, and a run that is still open, all before reserved zeros.
pub(crate) fn unsealed(large: usize) -> Sample {
    let fs = SimFs::new(8);
    let mut history = History::of(&KEYSPACES);
    fill(&fs, &mut history);
    let opened = history.batches();
    let db = open(&fs, small()).unwrap();
    let single = |history: &mut History, at: u32, sync| {
        history.write(&db, &[Put("tight", at, 20), Put("local", at, 5)], sync);
    };
    single(&mut history, 1, Sync);
    single(&mut history, 40, Async);
    db.flush().unwrap();
    let flushed = history.batches();
    for at in 2..6 {
        single(&mut history, at, Async);
    }
    single(&mut history, 6, Sync);
    history.write(&db, &[DeleteRange("plain", 8, 20), Delete("tight", 2)], Async);
    db.sync().unwrap(); // as Periodic does
    history.write(&db, &[Put("plain", 50, large)], Async);
    for at in 7..16 {
        single(&mut history, at, Async);
    }
    let mut image = image(&fs.crash(CrashModel::Kill));
    image.values_mut().for_each(shorten);
    let promises = Promises::of(&image, &history, opened, flushed);
    Sample { image, history, promises }
}

/// A database with a past.
pub(crate) struct Worn {
    pub(crate) sample: Sample,
    /// Its files after each step on the way.
    pub(crate) steps: Vec<Image>,
}

/// How a workload ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum End {
    Closed,
    Killed,
}

/// A database that was opened, written, flushed, ingested into, compacted and closed several times,
/// imaged after every step.
pub(crate) fn worn(end: End) -> Worn {
    let fs = SimFs::new(9);
    let mut history = History::of(&KEYSPACES);
    let mut steps = Vec::new();
    let mut note = || {
        let mut files = image(&fs.crash(CrashModel::Kill));
        files.values_mut().for_each(shorten);
        steps.push(files);
    };
    let (mut opened, mut flushed) = (0, 0);
    for round in 0..3 {
        let db = open(&fs, small()).unwrap();
        (opened, flushed) = (history.batches(), history.batches());
        note();
        if round == 0 {
            create_keyspaces(&db);
            note();
        }
        for at in round * 8..round * 8 + 8 {
            let sync = if at % 2 == 0 { Async } else { Sync };
            history.write(&db, &[Put("tight", at % 13, 40), Put("plain", at, 90)], sync);
            note();
        }
        if round > 0 {
            history.ingest(&db, "local", round * 10..round * 10 + 3);
            flushed = history.batches();
            note();
        }
        history.write(&db, &[DeleteRange("plain", round * 3, round * 9), Put("local", 2, 9)], Sync);
        note();
        match round {
            0 => db.compact_all().unwrap(),
            1 => db.flush().unwrap(),
            _ => {}
        }
        if round < 2 {
            flushed = history.batches();
            note();
        }
        let last = [Put("plain", 7, 11), Delete("tight", 4)];
        history.write(&db, &last, Sync);
        note();
        history.write(&db, &[Put("tight", 3, 30)], Async);
        note();
        if round < 2 || end == End::Closed {
            db.close().unwrap();
            flushed = history.batches();
            note();
        }
    }
    let image = steps.pop().unwrap();
    let promises = Promises::of(&image, &history, opened, flushed);
    Worn { sample: Sample { image, history, promises }, steps }
}
