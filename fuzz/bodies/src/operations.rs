//! A whole database on a simulated disk, against a map.
//!
//! Every answer must be the map's. After a killed process everything acknowledged must be there;
//! after a power failure everything that was durable, and of the rest the first commits only.

use crate::input::Input;
use base::clock::ManualClock;
use base::fs::{CrashModel, SimFs};
use base::rng::SeededRng;
use engine::{
    Background, Batch, Compression, Db, Keyspace, KeyspaceOptions, Options, Platform, Snapshot,
    SyncMode,
};
use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

/// Operations in one run at most.
const OPERATIONS_MAX: usize = 400;
/// Snapshots held at once.
const SNAPSHOTS_MAX: usize = 4;
const KEYSPACES: [&str; 2] = ["one", "two"];
/// What a power failure may do; all keep what was synced.
const POWER_FAILURES: [CrashModel; 5] = [
    CrashModel::Synced,
    CrashModel::Prefix,
    CrashModel::Sectors,
    CrashModel::Garbage,
    CrashModel::Directory,
];

/// What the database should hold: by number of the keyspace, and key.
type Model = BTreeMap<(usize, Vec<u8>), Vec<u8>>;

/// A database and what is known about it.
struct Run {
    fs: SimFs,
    clock: Arc<ManualClock>,
    sync: SyncMode,
    db: Db,
    keyspaces: [Keyspace; 2],
    model: Model,
    /// The model after each commit that may not be durable yet, behind the last that is.
    history: Vec<Model>,
    snapshots: VecDeque<(Snapshot, Model)>,
}

/// Runs the operations that `data` says.
pub fn operations(data: &[u8]) {
    let mut input = Input::new(data);
    let sync = if input.below(2) == 0 { SyncMode::Sync } else { SyncMode::Async };
    let mut run = Run::start(SimFs::new(u64::from(input.byte())), sync);
    for _ in 0..OPERATIONS_MAX {
        if input.is_empty() {
            break;
        }
        run = run.step(&mut input);
    }
    run.assert_equal();
    run = run.reopen(|db, fs| {
        db.close().unwrap();
        fs
    });
    run.assert_equal();
}

impl Run {
    fn start(fs: SimFs, sync: SyncMode) -> Run {
        let clock = Arc::new(ManualClock::at(1_700_000_000_000));
        let (db, keyspaces) = open(&fs, &clock, sync);
        let (model, history) = (Model::new(), vec![Model::new()]);
        Run { fs, clock, sync, db, keyspaces, model, history, snapshots: VecDeque::new() }
    }

    fn step(mut self, input: &mut Input<'_>) -> Run {
        match input.below(20) {
            0..=5 => self.put(input),
            6 | 7 => self.delete(input),
            8 => self.delete_range(input),
            9 => self.write_batch(input),
            10 => self.transact(input),
            11 => self.db.flush().map(|()| self.note_durable()).unwrap(),
            12 => self.db.compact(&self.keyspaces[input.below(2)]).unwrap(),
            13 => self.db.sync().map(|()| self.note_durable()).unwrap(),
            14 => self.take_snapshot(),
            15 => self.check_snapshots(),
            16 => self.get(input),
            17 => self.scan(input),
            18 => self.clock.set(1_700_000_000_000 + input.number() % (1 << 32)),
            _ => return self.stop(input),
        }
        self
    }

    fn put(&mut self, input: &mut Input<'_>) {
        let (space, key, value) = (input.below(2), key(input), value(input));
        self.keyspaces[space].put(&key, &value).unwrap();
        self.model.insert((space, key), value);
        self.note_commit();
    }

    fn delete(&mut self, input: &mut Input<'_>) {
        let (space, key) = (input.below(2), key(input));
        self.keyspaces[space].delete(&key).unwrap();
        self.model.remove(&(space, key));
        self.note_commit();
    }

    fn delete_range(&mut self, input: &mut Input<'_>) {
        let (space, a, b) = (input.below(2), key(input), key(input));
        let (start, end) = (a.clone().min(b.clone()), a.max(b));
        if start < end {
            self.keyspaces[space].delete_range(&start, &end).unwrap();
            let is_inside = |at: usize, key: &Vec<u8>| at == space && start <= *key && *key < end;
            self.model.retain(|(at, key), _| !is_inside(*at, key));
            self.note_commit();
        }
    }

    fn write_batch(&mut self, input: &mut Input<'_>) {
        let mut batch = Batch::new();
        for _ in 0..1 + input.below(8) {
            let (space, key) = (input.below(2), key(input));
            if input.below(3) == 0 {
                batch.delete(&self.keyspaces[space], &key);
                self.model.remove(&(space, key));
            } else {
                let value = value(input);
                batch.put(&self.keyspaces[space], &key, &value);
                self.model.insert((space, key), value);
            }
        }
        self.db.write(batch).unwrap();
        self.note_commit();
    }

    fn transact(&mut self, input: &mut Input<'_>) {
        let (space, read, written) = (input.below(2), key(input), key(input));
        let value = value(input);
        let mut transaction = self.db.transaction().unwrap();
        let found = transaction.get(&self.keyspaces[space], &read).unwrap();
        assert_eq!(found.as_deref(), self.model.get(&(space, read.clone())).map(Vec::as_slice));
        transaction.put(&self.keyspaces[space], &written, &value).unwrap();
        match input.below(4) {
            0 => transaction.rollback(),
            1 => {
                // Another writer was faster at what the transaction has read.
                self.keyspaces[space].put(&read, b"faster").unwrap();
                self.model.insert((space, read), b"faster".to_vec());
                self.note_commit();
                assert!(transaction.commit().is_err(), "a conflict was not seen");
            }
            _ => {
                transaction.commit().unwrap();
                self.model.insert((space, written), value);
                self.note_commit();
            }
        }
    }

    fn get(&self, input: &mut Input<'_>) {
        let (space, key) = (input.below(2), key(input));
        let found = self.keyspaces[space].get(&key).unwrap();
        assert_eq!(found.as_deref(), self.model.get(&(space, key)).map(Vec::as_slice));
    }

    /// A range, from both ends at once.
    fn scan(&self, input: &mut Input<'_>) {
        let (space, start, end) = (input.below(2), key(input), key(input));
        let mut entries = self.keyspaces[space].range(start.clone()..end.clone());
        let inside = |(at, key): &(usize, Vec<u8>)| *at == space && start <= *key && *key < end;
        let mut expected: VecDeque<_> = self.model.iter().filter(|(at, _)| inside(at)).collect();
        loop {
            let is_forward = input.below(2) == 0;
            let entry = if is_forward { entries.next() } else { entries.next_back() };
            let there = if is_forward { expected.pop_front() } else { expected.pop_back() };
            let here = entry.map(|entry| entry.unwrap());
            let here = here.as_ref().map(|(key, value)| (&key[..], &value[..]));
            let there = there.map(|((_, key), value)| (key.as_slice(), value.as_slice()));
            assert_eq!(here, there, "a wrong scan");
            if here.is_none() {
                break;
            }
        }
    }

    fn take_snapshot(&mut self) {
        self.snapshots.push_back((self.db.snapshot(), self.model.clone()));
        if self.snapshots.len() > SNAPSHOTS_MAX {
            self.snapshots.pop_front();
        }
    }

    fn check_snapshots(&self) {
        for (snapshot, model) in &self.snapshots {
            let content = content(&self.keyspaces, |keyspace| snapshot.iter(keyspace));
            assert_eq!(content, *model, "a snapshot changed");
        }
    }

    /// Ends the process in one of several ways, and opens the database again.
    fn stop(self, input: &mut Input<'_>) -> Run {
        let manner = input.below(3);
        let model = POWER_FAILURES[input.below(POWER_FAILURES.len())];
        let mut run = self.reopen(|db, fs| match manner {
            0 => db.close().map(|()| fs).unwrap(),
            1 => fs.crash(CrashModel::Kill),
            _ => fs.crash(model),
        });
        if manner == 2 {
            run.accept_one_of_history();
        }
        run.assert_equal();
        // Opening has synced what it found.
        run.note_durable();
        run
    }

    fn reopen(mut self, stop: impl FnOnce(Db, SimFs) -> SimFs) -> Run {
        self.snapshots.clear();
        let Run { fs, clock, sync, db, keyspaces, model, history, snapshots } = self;
        let other = db.clone();
        let fs = stop(other, fs);
        drop((db, keyspaces));
        let (db, keyspaces) = open(&fs, &clock, sync);
        Run { fs, clock, sync, db, keyspaces, model, history, snapshots }
    }

    /// After a power failure: some first part of the commits is there, at least the durable ones.
    fn accept_one_of_history(&mut self) {
        let content = content(&self.keyspaces, Keyspace::iter);
        let is_known = self.history.contains(&content);
        assert!(is_known, "what is there never was: {content:?}");
        self.model = content;
    }

    fn note_commit(&mut self) {
        self.history.push(self.model.clone());
        if self.sync == SyncMode::Sync {
            self.note_durable();
        }
    }

    fn note_durable(&mut self) {
        self.history = vec![self.model.clone()];
    }

    fn assert_equal(&self) {
        assert_eq!(content(&self.keyspaces, Keyspace::iter), self.model);
    }
}

fn open(fs: &SimFs, clock: &Arc<ManualClock>, sync: SyncMode) -> (Db, [Keyspace; 2]) {
    let platform = Platform {
        fs: Arc::new(fs.clone()),
        clock: clock.clone(),
        rng: Arc::new(SeededRng::new(fs.ops())),
    };
    let options = Options {
        sync,
        memory_bytes: 1 << 20,
        memtable_bytes: 64 << 10,
        block_bytes: 512,
        table_bytes: 64 << 10,
        segment_bytes: 64 << 10,
        background: Background::Off,
        ..Options::default()
    };
    let db = Db::open_on(platform, options).unwrap();
    let compressions = [Compression::None, Compression::Zstd];
    let keyspaces = [0, 1].map(|number| {
        let options =
            KeyspaceOptions { compression: compressions[number], ..KeyspaceOptions::default() };
        db.keyspace(KEYSPACES[number], options).unwrap()
    });
    (db, keyspaces)
}

fn content(keyspaces: &[Keyspace; 2], iter: impl Fn(&Keyspace) -> engine::Iter) -> Model {
    let mut content = Model::new();
    for (space, keyspace) in keyspaces.iter().enumerate() {
        for entry in iter(keyspace) {
            let (key, value) = entry.unwrap();
            let before = content.insert((space, key.to_vec()), value.to_vec());
            assert!(before.is_none(), "a key twice");
        }
    }
    content
}

/// A key from a small set, so that writes meet; now and then any bytes.
fn key(input: &mut Input<'_>) -> Vec<u8> {
    match input.below(256) {
        0..=9 => [b"k", input.bytes(40)].concat(),
        short => format!("key {:02}", short % 40).into_bytes(),
    }
}

fn value(input: &mut Input<'_>) -> Vec<u8> {
    match input.below(8) {
        0 => vec![input.byte(); input.below(20_000)],
        1 => Vec::new(),
        _ => input.bytes(30).to_vec(),
    }
}
