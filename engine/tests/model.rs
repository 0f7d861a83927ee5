//! Random operations against a sorted map: whatever is put, deleted, flushed, compacted, reopened,
//! read by snapshot or by transaction, the database shows what the map holds.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use base::clock::ManualClock;
use base::fs::SimFs;
use base::rng::SeededRng;
use esker::{
    Background, Batch, Db, Keyspace, KeyspaceOptions, Options, Platform, Snapshot, SyncMode,
};
use proptest::prelude::*;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

type Model = BTreeMap<Vec<u8>, Vec<u8>>;

#[derive(Clone, Debug)]
enum Step {
    Put(Vec<u8>, Vec<u8>),
    Delete(Vec<u8>),
    Batch(Vec<(Vec<u8>, Option<Vec<u8>>)>),
    DeleteRange(Vec<u8>, Vec<u8>),
    DeletePrefix(Vec<u8>),
    PutExpiring(Vec<u8>, Vec<u8>, u64),
    Advance(u64),
    Flush,
    Compact,
    Reopen,
    Kill,
    TakeSnapshot,
    DropSnapshot,
    Transaction(Vec<u8>, Vec<u8>),
    Ingest(BTreeMap<Vec<u8>, Vec<u8>>),
    Probe(Vec<u8>, Vec<u8>),
}

fn key() -> impl Strategy<Value = Vec<u8>> {
    proptest::collection::vec(prop_oneof![Just(b'a'), Just(b'b'), Just(0u8), Just(255u8)], 1..5)
}

fn value() -> impl Strategy<Value = Vec<u8>> {
    prop_oneof![
        9 => proptest::collection::vec(any::<u8>(), 0..30),
        1 => proptest::collection::vec(any::<u8>(), 5000..9000),
    ]
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        12 => (key(), value()).prop_map(|(k, v)| Step::Put(k, v)),
        5 => key().prop_map(Step::Delete),
        3 => proptest::collection::vec((key(), proptest::option::of(value())), 1..12).prop_map(Step::Batch),
        2 => (key(), key()).prop_map(|(a, b)| Step::DeleteRange(a.clone().min(b.clone()), a.max(b))),
        1 => key().prop_map(Step::DeletePrefix),
        2 => (key(), value(), 1u64..50).prop_map(|(k, v, t)| Step::PutExpiring(k, v, t)),
        2 => (1u64..40).prop_map(Step::Advance),
        2 => Just(Step::Flush),
        1 => Just(Step::Compact),
        1 => Just(Step::Reopen),
        1 => Just(Step::Kill),
        2 => Just(Step::TakeSnapshot),
        1 => Just(Step::DropSnapshot),
        2 => (key(), value()).prop_map(|(k, v)| Step::Transaction(k, v)),
        1 => proptest::collection::btree_map(key(), value(), 1..10).prop_map(Step::Ingest),
        5 => (key(), key()).prop_map(|(a, b)| Step::Probe(a, b)),
    ]
}

/// Each key's value, and the moment it expires.
type Stored = BTreeMap<Vec<u8>, (Vec<u8>, u64)>;

/// A database and what it should hold.
struct World {
    fs: SimFs,
    clock: Arc<ManualClock>,
    now_ms: u64,
    db: Option<Db>,
    keyspace: Option<Keyspace>,
    model: Stored,
    snapshots: Vec<(Snapshot, Stored)>,
    sync: SyncMode,
}

impl World {
    fn new(seed: u64, sync: SyncMode) -> World {
        let clock = Arc::new(ManualClock::at(1_000_000));
        let fs = SimFs::new(seed);
        let mut world = World {
            fs,
            clock,
            now_ms: 1_000_000,
            db: None,
            keyspace: None,
            model: BTreeMap::new(),
            snapshots: Vec::new(),
            sync,
        };
        world.open();
        world
    }

    fn open(&mut self) {
        let platform = Platform {
            fs: Arc::new(self.fs.clone()),
            clock: self.clock.clone(),
            rng: Arc::new(SeededRng::new(self.fs.ops())),
        };
        let options = Options {
            memtable_bytes: 64 << 10,
            memory_bytes: 2 << 20,
            block_bytes: 512,
            table_bytes: 64 << 10,
            segment_bytes: 64 << 10,
            sync: self.sync,
            background: Background::Off,
            ..Options::default()
        };
        let db = Db::open_on(platform, options).unwrap();
        self.keyspace = Some(db.keyspace("k", KeyspaceOptions::default()).unwrap());
        self.db = Some(db);
    }

    fn live(model: &Stored, now_ms: u64) -> Model {
        let live = model.iter().filter(|(_, (_, expires))| *expires > now_ms);
        live.map(|(k, (v, _))| (k.clone(), v.clone())).collect()
    }

    fn apply(&mut self, step: Step) {
        let db = self.db.clone().unwrap();
        let keyspace = self.keyspace.clone().unwrap();
        match step {
            Step::Put(k, v) => {
                keyspace.put(&k, &v).unwrap();
                self.model.insert(k, (v, u64::MAX));
            }
            Step::Delete(k) => {
                keyspace.delete(&k).unwrap();
                self.model.remove(&k);
            }
            Step::Batch(ops) => {
                let mut batch = Batch::new();
                for (k, v) in ops {
                    match v {
                        Some(v) => {
                            batch.put(&keyspace, &k, &v);
                            self.model.insert(k, (v, u64::MAX));
                        }
                        None => {
                            batch.delete(&keyspace, &k);
                            self.model.remove(&k);
                        }
                    }
                }
                db.write(batch).unwrap();
            }
            Step::DeleteRange(start, end) => {
                keyspace.delete_range(&start, &end).unwrap();
                if start < end {
                    self.model.retain(|k, _| *k < start || *k >= end);
                }
            }
            Step::DeletePrefix(prefix) => {
                // An earlier put of the same batch goes, a later one stays.
                let mut batch = Batch::new();
                batch.put(&keyspace, &prefix, b"earlier");
                batch.delete_prefix(&keyspace, &prefix);
                let mut later = prefix.clone();
                later.push(b'z');
                batch.put(&keyspace, &later, b"later");
                db.write(batch).unwrap();
                self.model.retain(|k, _| !k.starts_with(&prefix));
                self.model.insert(later, (b"later".to_vec(), u64::MAX));
            }
            Step::PutExpiring(k, v, ttl_ms) => {
                keyspace.put_expiring(&k, &v, Duration::from_millis(ttl_ms)).unwrap();
                self.model.insert(k, (v, self.now_ms + ttl_ms));
            }
            Step::Advance(ms) => {
                self.now_ms += ms;
                self.clock.set(self.now_ms);
            }
            Step::Flush => db.flush().unwrap(),
            Step::Compact => db.compact(&keyspace).unwrap(),
            Step::Reopen => {
                drop((keyspace, self.keyspace.take(), std::mem::take(&mut self.snapshots)));
                drop(self.db.take());
                db.close().unwrap();
                self.open();
                assert!(self.db.as_ref().unwrap().recovery_report().was_closed);
            }
            Step::Kill => {
                self.snapshots.clear();
                self.fs = self.fs.crash(base::fs::CrashModel::Kill);
                self.open();
                assert!(!self.db.as_ref().unwrap().recovery_report().was_closed);
            }
            Step::TakeSnapshot => self.snapshots.push((db.snapshot(), self.model.clone())),
            Step::DropSnapshot => {
                self.snapshots.pop();
            }
            Step::Transaction(k, v) => {
                let mut transaction = db.transaction().unwrap();
                let found = transaction.get(&keyspace, &k).unwrap().map(Vec::from);
                assert_eq!(found, Self::live(&self.model, self.now_ms).get(&k).cloned());
                transaction.put(&keyspace, &k, &v).unwrap();
                let seen: Model = transaction
                    .range(&keyspace, ..)
                    .map(|entry| entry.map(|(k, v)| (k.into(), v.into())).unwrap())
                    .collect();
                self.model.insert(k, (v, u64::MAX));
                assert_eq!(seen, Self::live(&self.model, self.now_ms));
                transaction.commit().unwrap();
            }
            Step::Ingest(entries) => {
                keyspace.ingest(&entries).unwrap();
                self.model.extend(entries.into_iter().map(|(k, v)| (k, (v, u64::MAX))));
            }
            Step::Probe(a, b) => self.probe(&a, &b),
        }
    }

    fn probe(&self, a: &[u8], b: &[u8]) {
        let keyspace = self.keyspace.as_ref().unwrap();
        let model = Self::live(&self.model, self.now_ms);
        assert_eq!(keyspace.get(a).unwrap().map(Vec::from), model.get(a).cloned());
        assert_eq!(keyspace.contains_key(b).unwrap(), model.contains_key(b));
        if a <= b {
            let expected: Vec<_> =
                model.range(a.to_vec()..b.to_vec()).map(|(k, v)| (k.clone(), v.clone())).collect();
            let forward: Vec<(Vec<u8>, Vec<u8>)> = keyspace.range(a..b).map(own).collect();
            assert_eq!(forward, expected);
            let mut backward: Vec<(Vec<u8>, Vec<u8>)> =
                keyspace.range(a..b).rev().map(own).collect();
            backward.reverse();
            assert_eq!(backward, expected);
        }
        let mut cursor = keyspace.cursor().unwrap();
        cursor.seek(a).unwrap();
        assert_eq!(
            cursor.entry().map(|(k, _)| k.to_vec()),
            model.range(a.to_vec()..).next().map(|(k, _)| k.clone())
        );
        cursor.seek_before(b).unwrap();
        assert_eq!(
            cursor.entry().map(|(k, _)| k.to_vec()),
            model.range(..b.to_vec()).next_back().map(|(k, _)| k.clone())
        );
        // There and back again.
        cursor.seek(a).unwrap();
        let here = cursor.entry().map(|(k, _)| k.to_vec());
        cursor.advance().unwrap();
        if cursor.entry().is_some() {
            cursor.retreat().unwrap();
            assert_eq!(cursor.entry().map(|(k, _)| k.to_vec()), here);
            cursor.retreat().unwrap();
            if cursor.entry().is_some() {
                cursor.advance().unwrap();
                assert_eq!(cursor.entry().map(|(k, _)| k.to_vec()), here);
            }
        }
        for (snapshot, model) in &self.snapshots {
            let model = Self::live(model, self.now_ms);
            assert_eq!(snapshot.get(keyspace, a).unwrap().map(Vec::from), model.get(a).cloned());
            let all: Model = snapshot.iter(keyspace).map(own).collect();
            assert_eq!(all, model);
        }
    }

    fn check_all(&self) {
        let keyspace = self.keyspace.as_ref().unwrap();
        let model = Self::live(&self.model, self.now_ms);
        let all: Model = keyspace.iter().map(own).collect();
        assert_eq!(all, model);
        let mut mixed = Vec::new();
        let mut iter = keyspace.iter();
        let mut from_back = Vec::new();
        while let Some(entry) = iter.next().map(own) {
            mixed.push(entry);
            match iter.next_back().map(own) {
                Some(entry) => from_back.push(entry),
                None => break,
            }
        }
        from_back.reverse();
        mixed.extend(from_back);
        assert_eq!(mixed, model.into_iter().collect::<Vec<_>>());
    }
}

fn own(entry: esker::Result<(esker::Value, esker::Value)>) -> (Vec<u8>, Vec<u8>) {
    let (key, value) = entry.unwrap();
    (key.into(), value.into())
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 96, max_shrink_iters: 4000, ..ProptestConfig::default() })]

    #[test]
    fn it_shows_what_a_sorted_map_holds(
        steps in proptest::collection::vec(step(), 1..120), seed: u64, is_sync: bool
    ) {
        let sync = if is_sync { SyncMode::Sync } else { SyncMode::Async };
        let mut world = World::new(seed, sync);
        for step in steps {
            world.apply(step);
        }
        world.probe(b"a", b"b");
        world.check_all();
    }
}
