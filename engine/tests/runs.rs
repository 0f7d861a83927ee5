//! Several keyspaces in two scopes whose runs are merged, moved and dropped in part, as the
//! background threads would: whatever the picker chooses, every read stays the same.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod fixture;

use base::fs::CrashModel;
use esker::{
    Batch, Compression, Db, Keyspace, KeyspaceOptions, Options, Scope, Snapshot, SyncMode,
};
use fixture::{Content, Disk, START_MS, content, own, scale, small};
use proptest::prelude::*;
use std::collections::BTreeMap;
use std::time::Duration;

/// Compressed and plain ones, so that some tables are moved and others merged; the last is local.
const NAMES: [&str; 4] = ["compressed", "plain", "plain too", "local"];

#[derive(Clone, Debug)]
enum Step {
    /// Keys from a number on, a few apart, in one keyspace.
    Fill {
        keyspace: usize,
        from: u8,
        count: u8,
        len: usize,
    },
    Delete {
        keyspace: usize,
        key: u8,
    },
    DeleteRange {
        keyspace: usize,
        from: u8,
        to: u8,
    },
    Expire {
        keyspace: usize,
        key: u8,
        after_ms: u64,
    },
    Ingest {
        keyspace: usize,
        from: u8,
        count: u8,
    },
    Recreate {
        keyspace: usize,
    },
    Flush,
    /// All that is due in an idle database.
    Settle,
    CompactAll,
    Advance(u64),
    Hold,
    LetGo,
    Reopen,
    Kill,
}

fn step() -> impl Strategy<Value = Step> {
    let keyspace = || 0..NAMES.len();
    prop_oneof![
        10 => (keyspace(), any::<u8>(), 1u8..40, prop_oneof![3 => 0usize..40, 1 => 400usize..3000])
            .prop_map(|(keyspace, from, count, len)| Step::Fill { keyspace, from, count, len }),
        3 => (keyspace(), any::<u8>()).prop_map(|(keyspace, key)| Step::Delete { keyspace, key }),
        1 => (keyspace(), any::<u8>(), any::<u8>()).prop_map(|(keyspace, a, b)| {
            Step::DeleteRange { keyspace, from: a.min(b), to: a.max(b) }
        }),
        1 => (keyspace(), any::<u8>(), 1u64..50)
            .prop_map(|(keyspace, key, after_ms)| Step::Expire { keyspace, key, after_ms }),
        2 => (keyspace(), any::<u8>(), 1u8..60)
            .prop_map(|(keyspace, from, count)| Step::Ingest { keyspace, from, count }),
        1 => keyspace().prop_map(|keyspace| Step::Recreate { keyspace }),
        12 => Just(Step::Flush),
        3 => Just(Step::Settle),
        1 => Just(Step::CompactAll),
        1 => (1u64..40).prop_map(Step::Advance),
        2 => Just(Step::Hold),
        2 => Just(Step::LetGo),
        1 => Just(Step::Reopen),
        1 => Just(Step::Kill),
    ]
}

/// Values with the moment at which they end.
type Stored = BTreeMap<Vec<u8>, (Vec<u8>, u64)>;

struct World {
    disk: Disk,
    now_ms: u64,
    history: Duration,
    db: Option<Db>,
    model: Vec<Stored>,
    held: Vec<(Snapshot, Vec<Stored>)>,
    unique: u32,
}

impl World {
    fn new(history: Duration) -> World {
        let (model, held) = (vec![Stored::new(); NAMES.len()], Vec::new());
        let disk = Disk::new(1);
        let mut world = World { disk, now_ms: START_MS, history, db: None, model, held, unique: 0 };
        world.open();
        world
    }

    fn open(&mut self) {
        let options = Options { sync: SyncMode::Async, history: self.history, ..small() };
        self.disk.clock.set(self.now_ms);
        self.db = Some(self.disk.open(options));
    }

    fn db(&self) -> &Db {
        self.db.as_ref().unwrap()
    }

    fn keyspace(&self, number: usize) -> Keyspace {
        let name = NAMES[number];
        let scope = if name == "local" { Scope::Local } else { Scope::Main };
        let is_plain = name.starts_with("plain");
        let compression = if is_plain { Compression::None } else { Compression::Zstd };
        let options = KeyspaceOptions { scope, compression, ..KeyspaceOptions::default() };
        self.db().keyspace(name, options).unwrap()
    }

    fn value(&mut self, len: usize) -> Vec<u8> {
        self.unique += 1;
        let mut value = self.unique.to_be_bytes().to_vec();
        value.resize(4 + len, self.unique as u8);
        value
    }

    fn entries(&mut self, from: u8, count: u8, len: usize) -> Content {
        let keys = (0..count).map_while(|number| from.checked_add(number.checked_mul(3)?));
        keys.map(|key| (vec![key; 3], self.value(len))).collect()
    }

    fn apply(&mut self, step: Step) {
        match step {
            Step::Fill { keyspace, from, count, len } => {
                let entries = self.entries(from, count, len);
                let mut batch = Batch::new();
                let k = self.keyspace(keyspace);
                entries.iter().for_each(|(key, value)| batch.put(&k, key, value));
                self.db().write(batch).unwrap();
                self.store(keyspace, entries, u64::MAX);
            }
            Step::Ingest { keyspace, from, count } => {
                let entries = self.entries(from, count, 300);
                self.keyspace(keyspace).ingest(&entries).unwrap();
                self.store(keyspace, entries, u64::MAX);
            }
            Step::Delete { keyspace, key } => {
                self.keyspace(keyspace).delete([key; 3]).unwrap();
                self.model[keyspace].remove(&vec![key; 3]);
            }
            Step::DeleteRange { keyspace, from, to } => {
                self.keyspace(keyspace).delete_range([from], [to]).unwrap();
                let covered = |key: &[u8]| *key >= [from][..] && *key < [to][..];
                self.model[keyspace].retain(|key, _| !covered(key));
            }
            Step::Expire { keyspace, key, after_ms } => {
                let (entries, ttl) = (self.entries(key, 1, 5), Duration::from_millis(after_ms));
                let k = self.keyspace(keyspace);
                for (key, value) in &entries {
                    k.put_expiring(key, value, ttl).unwrap();
                }
                self.store(keyspace, entries, self.now_ms + after_ms);
            }
            Step::Recreate { keyspace } => {
                // What snapshots saw of it is gone with it.
                self.held.clear();
                let old = self.keyspace(keyspace);
                self.db().drop_keyspace(old).unwrap();
                self.model[keyspace].clear();
            }
            Step::Flush => self.db().flush().unwrap(),
            Step::Settle => self.db().settle().unwrap(),
            Step::CompactAll => self.db().compact_all().unwrap(),
            Step::Advance(ms) => {
                self.now_ms += ms;
                self.disk.clock.set(self.now_ms);
            }
            Step::Hold => self.held.push((self.db().snapshot(), self.model.clone())),
            Step::LetGo => {
                if !self.held.is_empty() {
                    self.held.remove(0);
                }
            }
            Step::Reopen => {
                self.held.clear();
                self.db.take().unwrap().close().unwrap();
                self.open();
            }
            Step::Kill => {
                self.held.clear();
                self.disk = Disk::of(self.disk.fs.crash(CrashModel::Kill));
                self.open();
            }
        }
    }

    fn store(&mut self, keyspace: usize, entries: Content, ends_ms: u64) {
        let stored = entries.into_iter().map(|(key, value)| (key, (value, ends_ms)));
        self.model[keyspace].extend(stored);
    }

    fn live(&self, stored: &Stored) -> Content {
        let live = stored.iter().filter(|(_, (_, ends_ms))| *ends_ms > self.now_ms);
        live.map(|(key, (value, _))| (key.clone(), value.clone())).collect()
    }

    fn check(&self) {
        for (number, stored) in self.model.iter().enumerate() {
            let expected = self.live(stored);
            assert_eq!(content(&self.keyspace(number)), expected, "{}", NAMES[number]);
            for key in 0..=255u8 {
                let found = self.keyspace(number).get([key; 3]).unwrap();
                assert_eq!(found.as_deref(), expected.get(&vec![key; 3]).map(|v| &**v));
            }
        }
        for (snapshot, then) in &self.held {
            for (number, stored) in then.iter().enumerate() {
                let k = self.keyspace(number);
                let seen: Content = snapshot.iter(&k).map(own).collect();
                assert_eq!(seen, self.live(stored), "{} by snapshot", NAMES[number]);
            }
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48 * scale() as u32, max_shrink_iters: 4000, ..ProptestConfig::default() })]

    #[test]
    fn what_the_picker_chooses_changes_no_read(
        steps in proptest::collection::vec(step(), 1..90), keeps_history: bool
    ) {
        let history = if keeps_history { Duration::from_millis(30) } else { Duration::ZERO };
        let mut world = World::new(history);
        for step in steps {
            let is_check = matches!(step, Step::Settle | Step::CompactAll | Step::Kill);
            world.apply(step);
            if is_check {
                world.check();
            }
        }
        world.check();
        world.held.clear();
        world.now_ms += 1000;
        world.disk.clock.set(world.now_ms);
        world.db().settle().unwrap();
        world.check();
        // Every file is one that is needed.
        let tables: u64 = world.db().stats().runs.iter().map(|run| run.tables).sum();
        prop_assert_eq!(world.disk.files_in("tables/").len() as u64, tables);
        prop_assert_eq!(world.disk.files_in("wal/").len(), 1);
        prop_assert_eq!(world.disk.files_in("manifest/").len(), 1);
    }
}
