//! Every moment between backups comes back exactly, whatever the database did meanwhile.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod fixture;

use base::fs::{CrashModel, Fs};
use base::rng::{Rng, SeededRng};
use esker::{
    BackupKind, BackupOptions, Backups, Batch, Create, Db, Keyspace, Options, Platform, Progress,
    RestorePoint, Tick,
};
use fixture::{Content, Disk, START_MS, content, keyspace, scale, small};
use std::collections::BTreeMap;
use std::path::Path;

const STORE: &str = "/backups";

/// A key's value, and the moment until which it has it.
type Cell = (Vec<u8>, u64);
type Model = BTreeMap<String, BTreeMap<Vec<u8>, Cell>>;

/// Numbers that follow from a seed.
struct Dice(SeededRng);

impl Dice {
    fn below(&self, end: u64) -> u64 {
        let mut bytes = [0; 8];
        self.0.fill(&mut bytes).unwrap();
        u64::from_le_bytes(bytes) % end
    }
}

/// A database, what it should hold, and what it held after every commit.
struct History {
    disk: Disk,
    dice: Dice,
    now_ms: u64,
    db: Option<Db>,
    model: Model,
    /// By tick of the commit.
    states: BTreeMap<Tick, Model>,
    /// At the end of the millisecond.
    moments: BTreeMap<u64, Model>,
    /// From here on everything must be restorable.
    since: Option<u64>,
}

impl History {
    fn new(seed: u64) -> History {
        let disk = Disk::new(seed);
        let db = Some(disk.open(small()));
        History {
            disk,
            dice: Dice(SeededRng::new(seed)),
            now_ms: START_MS,
            db,
            model: Model::new(),
            states: BTreeMap::new(),
            moments: BTreeMap::new(),
            since: None,
        }
    }

    fn db(&self) -> &Db {
        self.db.as_ref().unwrap()
    }

    fn advance(&mut self) {
        self.moments.insert(self.now_ms, self.model.clone());
        self.now_ms += 1 + self.dice.below(3);
        self.disk.clock.set(self.now_ms);
    }

    fn step(&mut self) {
        match self.dice.below(24) {
            0..=9 => self.batch(),
            10 | 11 => self.delete_range(),
            12 => self.create_or_drop(),
            13 | 14 => self.db().flush().unwrap(),
            15 => self.db().compact_all().unwrap(),
            16 => self.db().settle().unwrap(),
            17 => self.reopen(),
            18 => self.crash(),
            19 => self.large_batch(),
            20 => self.backup(BackupKind::Full),
            21 => self.backup(BackupKind::Incremental),
            22 if self.since.is_some() => self.backup(BackupKind::Log),
            _ => {}
        }
        if self.dice.below(3) > 0 {
            self.advance();
        }
    }

    fn pick(&self) -> Keyspace {
        let name = ["a", "b", "c"][self.dice.below(3) as usize];
        keyspace(self.db(), name)
    }

    fn batch(&mut self) {
        let mut batch = Batch::new();
        for _ in 0..1 + self.dice.below(4) {
            let keyspace = self.pick();
            let key = vec![b'k', self.dice.below(40) as u8];
            let of = self.model.entry(keyspace.name().to_owned()).or_default();
            match self.dice.below(6) {
                0 => {
                    batch.delete(&keyspace, &key);
                    of.remove(&key);
                }
                1 => {
                    let until = self.now_ms + 1 + self.dice.below(40);
                    batch.put_until(&keyspace, &key, b"mortal", until);
                    of.insert(key, (b"mortal".to_vec(), until));
                }
                _ => {
                    let value = vec![7; self.dice.below(300) as usize];
                    batch.put(&keyspace, &key, &value);
                    of.insert(key, (value, u64::MAX));
                }
            }
        }
        let tick = self.db().write(batch).unwrap();
        self.states.insert(tick, self.model.clone());
    }

    /// A commit that is a frame of its own, and more than a segment at first.
    fn large_batch(&mut self) {
        let keyspace = self.pick();
        let mut batch = Batch::new();
        for number in 0..40u8 {
            let (key, value) = (vec![b'l', number], vec![number; 1000]);
            batch.put(&keyspace, &key, &value);
            let of = self.model.entry(keyspace.name().to_owned()).or_default();
            of.insert(key, (value, u64::MAX));
        }
        let tick = self.db().write(batch).unwrap();
        self.states.insert(tick, self.model.clone());
    }

    fn delete_range(&mut self) {
        let keyspace = self.pick();
        let (start, end) = (self.dice.below(40) as u8, self.dice.below(40) as u8);
        let (start, end) = (vec![b'k', start.min(end)], vec![b'k', start.max(end)]);
        let of = self.model.entry(keyspace.name().to_owned()).or_default();
        of.retain(|key, _| *key < start || *key >= end);
        if start < end {
            let tick = keyspace.delete_range(&start, &end).unwrap();
            self.states.insert(tick, self.model.clone());
        }
    }

    fn create_or_drop(&mut self) {
        let keyspace = self.pick();
        let name = keyspace.name().to_owned();
        self.model.entry(name.clone()).or_default();
        if self.dice.below(2) == 0 {
            self.db().drop_keyspace(keyspace).unwrap();
            self.model.remove(&name);
        }
    }

    fn reopen(&mut self) {
        self.db.take().unwrap().close().unwrap();
        self.db = Some(self.disk.open(small()));
    }

    fn crash(&mut self) {
        let models = [CrashModel::Kill, CrashModel::Synced, CrashModel::Sectors];
        let image = self.disk.fs.crash(models[self.dice.below(3) as usize]);
        let clock = self.disk.clock.clone();
        self.db = None;
        self.disk = Disk { fs: image, clock };
        self.db = Some(self.disk.open(small()));
    }

    fn backup(&mut self, kind: BackupKind) {
        let options =
            BackupOptions { kind, bytes_per_second: u64::MAX, ..BackupOptions::default() };
        let info = self.db().backup(STORE, &options).unwrap();
        self.since.get_or_insert(info.covered.ms);
        // The backup covers this millisecond to its end.
        self.advance();
    }

    fn backups(&self) -> Backups {
        let platform = Platform { fs: self.disk.fs.at(Path::new(STORE)), ..self.disk.platform() };
        Backups::open_on(platform).unwrap()
    }

    /// What `model` shows now.
    fn shown(&self, model: &Model) -> BTreeMap<String, Content> {
        let now_ms = self.now_ms;
        let entries = |of: &BTreeMap<Vec<u8>, Cell>| {
            let living = of.iter().filter(|(_, (_, until))| *until > now_ms);
            living.map(|(key, (value, _))| (key.clone(), value.clone())).collect()
        };
        model.iter().map(|(name, of)| (name.clone(), entries(of))).collect()
    }

    #[track_caller]
    fn check(&self, point: RestorePoint, expected: &Model) {
        println!("{point:?}");
        let target = format!("/restored {point:?}");
        let restored = self.backups().restore(&target, point, &Progress::default());
        let restored = restored.unwrap();
        let platform = Platform { fs: self.disk.fs.at(Path::new(&target)), ..self.disk.platform() };
        let options = Options { create: Create::Never, ..small() };
        let db = Db::open_on(platform, options).unwrap();
        assert_ne!(db.identity().incarnation, self.db().identity().incarnation);
        let keyspaces = db.keyspaces();
        let found: BTreeMap<String, Content> =
            keyspaces.iter().map(|k| (k.name().to_owned(), content(k))).collect();
        let names = |all: &BTreeMap<String, Content>| all.keys().cloned().collect::<Vec<_>>();
        let expected = self.shown(expected);
        assert_eq!(names(&found), names(&expected), "{point:?} from backup {}", restored.backup);
        assert!(found == expected, "{point:?} from backup {} differs", restored.backup);
        // It goes on behind everything that the original did.
        let tick = keyspace(&db, "a").put(b"k", b"").unwrap();
        assert!(tick > *self.states.last_key_value().unwrap().0);
        db.close().unwrap();
    }
}

fn run(seed: u64) {
    let mut history = History::new(seed);
    for _ in 0..90 {
        history.step();
    }
    history.backup(BackupKind::Incremental);
    let Some(since) = history.since else { return };
    let verified = history.backups().verify(&Progress::default()).unwrap();
    assert_eq!(verified.findings, []);
    let mut restored = 1;
    let ticks = history.states.iter().filter(|(tick, _)| tick.ms() > since);
    for (tick, model) in ticks {
        history.check(RestorePoint::Tick(*tick), model);
        restored += 1;
    }
    let moments: Vec<_> = history.moments.iter().filter(|(ms, _)| **ms >= since).collect();
    for pair in moments.windows(2) {
        let [(from, model), (until, _)] = pair else { continue };
        for ms in **from..**until {
            history.check(RestorePoint::Moment(ms), model);
            restored += 1;
        }
    }
    history.check(RestorePoint::Newest, &history.model);
    println!("seed {seed}: restored {restored} moments");
}

#[test]
fn every_commit_and_every_moment_since_the_first_backup_comes_back() {
    for seed in 0..8 * scale() {
        run(seed);
    }
}
