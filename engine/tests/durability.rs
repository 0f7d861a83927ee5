//! Power failures and kills at every change of the disk: what is recovered is what a prefix of the
//! batches had left, with every acknowledged one in it, as far as its mode promises.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

mod fixture;

use base::fs::CrashModel;
use esker::{Batch, Db, Error, Keyspace, Options, SyncMode, WriteOptions};
use fixture::{Content, Disk, content, keyspace, local_keyspace, scale, small};
use std::collections::BTreeMap;
use std::time::Duration;

use Step::{Compact, Create, DeleteRange, Drop, Flush, Ingest, Reopen, Sync, Write};
use SyncMode::Async;

const PERIODIC: SyncMode = SyncMode::Periodic(Duration::from_millis(100));

/// One step of a workload. Keyspaces are named by a letter; capital ones are local.
#[derive(Clone, Debug)]
enum Step {
    Create(&'static str),
    Drop(&'static str),
    /// Writes to (keyspace, key, value or none for a delete).
    Write(Vec<(&'static str, u32, Option<usize>)>, SyncMode),
    DeleteRange(&'static str, u32, u32, SyncMode),
    Ingest(&'static str, std::ops::Range<u32>),
    Sync,
    Flush,
    Compact,
    Reopen,
}

/// What all live keyspaces hold. A keyspace is known by its name and how often that was created.
type State = BTreeMap<(&'static str, usize), Content>;

/// What was done so far, as the caller knows it.
#[derive(Default)]
struct History {
    /// The state after each write that was issued; the first is before any.
    states: Vec<State>,
    /// How many of them were acknowledged.
    acknowledged: usize,
    /// How many of them must survive a power failure.
    durable: usize,
    /// Names that are live, with their incarnations.
    live: BTreeMap<&'static str, usize>,
    created: BTreeMap<&'static str, usize>,
    /// A creation or a drop that was issued and not acknowledged.
    in_doubt: Option<&'static str>,
}

fn key(number: u32) -> Vec<u8> {
    format!("key {number:04}").into_bytes()
}

/// A value that no other write has.
fn value(unique: usize, len: usize) -> Vec<u8> {
    let mut value = format!("value {unique} ").into_bytes();
    value.resize(value.len() + len, b'.');
    value
}

fn open_keyspace(db: &Db, name: &str) -> esker::Result<Keyspace> {
    let is_local = name.starts_with(char::is_uppercase);
    let scope = if is_local { esker::Scope::Local } else { esker::Scope::Main };
    db.keyspace(name, esker::KeyspaceOptions { scope, ..Default::default() })
}

impl History {
    fn new() -> History {
        History { states: vec![State::new()], ..History::default() }
    }

    fn last(&self) -> State {
        self.states.last().cloned().unwrap_or_default()
    }

    fn slot(&self, name: &'static str) -> (&'static str, usize) {
        (name, self.live[name])
    }

    /// Everything issued so far was acknowledged and is durable.
    fn all_durable(&mut self) {
        self.acknowledged = self.states.len() - 1;
        self.durable = self.acknowledged;
    }

    fn acknowledge(&mut self, sync: SyncMode) {
        self.acknowledged = self.states.len() - 1;
        if sync == SyncMode::Sync {
            self.durable = self.acknowledged;
        }
    }

    fn run(&mut self, disk: &Disk, options: &Options, steps: &[Step]) -> esker::Result<()> {
        let mut db = disk.try_open(options.clone())?;
        for step in steps {
            self.step(&mut db, disk, options, step)?;
        }
        Ok(())
    }

    fn step(
        &mut self,
        db: &mut Db,
        disk: &Disk,
        options: &Options,
        step: &Step,
    ) -> esker::Result<()> {
        match step {
            Create(name) => {
                self.in_doubt = Some(name);
                open_keyspace(db, name)?;
                let incarnation = self.created.entry(name).or_default();
                *incarnation += 1;
                self.live.insert(name, *incarnation);
                let slot = self.slot(name);
                self.states.iter_mut().for_each(|state| {
                    state.insert(slot, Content::new());
                });
                self.in_doubt = None;
            }
            Drop(name) => {
                self.in_doubt = Some(name);
                db.drop_keyspace(db.existing_keyspace(name)?)?;
                self.live.remove(name);
                self.in_doubt = None;
            }
            Write(ops, sync) => self.write(db, ops, *sync)?,
            DeleteRange(name, from, to, sync) => {
                let mut batch = Batch::new();
                batch.delete_range(&db.existing_keyspace(name)?, key(*from), key(*to));
                let mut state = self.last();
                let slot = self.slot(name);
                state.get_mut(&slot).unwrap().retain(|k, _| *k < key(*from) || *k >= key(*to));
                self.states.push(state);
                db.write_with(batch, WriteOptions { sync: Some(*sync) })?;
                self.acknowledge(*sync);
            }
            Ingest(name, range) => {
                let mut state = self.last();
                let unique = self.states.len();
                let entries = range.clone().map(|number| (key(number), value(unique, 30)));
                state.get_mut(&self.slot(name)).unwrap().extend(entries.clone());
                self.states.push(state);
                db.existing_keyspace(name)?.ingest(entries)?;
                self.all_durable();
            }
            Sync => {
                db.sync()?;
                self.all_durable();
            }
            Flush => {
                db.flush()?;
                self.all_durable();
            }
            Compact => {
                db.compact_all()?;
                self.all_durable();
            }
            Reopen => {
                db.clone().close()?;
                self.all_durable();
                *db = disk.try_open(options.clone())?;
            }
        }
        Ok(())
    }

    fn write(
        &mut self,
        db: &Db,
        ops: &[(&'static str, u32, Option<usize>)],
        sync: SyncMode,
    ) -> esker::Result<()> {
        let mut batch = Batch::new();
        let mut state = self.last();
        let unique = self.states.len();
        for (name, number, len) in ops {
            let slot = self.slot(name);
            let content = state.get_mut(&slot).unwrap();
            let keyspace = db.existing_keyspace(name)?;
            match len {
                Some(len) => {
                    batch.put(&keyspace, key(*number), value(unique, *len));
                    content.insert(key(*number), value(unique, *len));
                }
                None => {
                    batch.delete(&keyspace, key(*number));
                    content.remove(&key(*number));
                }
            }
        }
        self.states.push(state);
        db.write_with(batch, WriteOptions { sync: Some(sync) })?;
        self.acknowledge(sync);
        Ok(())
    }

    /// Whether `db` has the keyspaces that are live, and none was ever dropped.
    fn has_plain_keyspaces(&self, db: &Db) -> bool {
        let found = db.keyspaces();
        let names = found.iter().map(|keyspace| keyspace.name());
        names.eq(self.live.keys().copied()) && self.created.keys().eq(self.live.keys())
    }

    /// What `db` holds is what the states from number `first` on allow. Returns the number.
    fn check(&self, db: &Db, first: usize, what: &str) -> usize {
        let found: BTreeMap<String, Content> =
            db.keyspaces().iter().map(|k| (k.name().to_owned(), content(k))).collect();
        for name in self.live.keys().filter(|name| self.in_doubt != Some(**name)) {
            assert!(found.contains_key(*name), "{what}: keyspace {name} is lost");
        }
        let fits = |state: &State| {
            found.iter().all(|(name, content)| match self.live.get_key_value(&**name) {
                Some((name, incarnation)) => state.get(&(*name, *incarnation)) == Some(content),
                // Created, but nobody was told so.
                None => self.in_doubt == Some(&**name) && content.is_empty(),
            })
        };
        let later = self.states.iter().enumerate().skip(first);
        let fitting = later.rev().find(|(_, state)| fits(state)).map(|(number, _)| number);
        fitting.unwrap_or_else(|| {
            let number = self.states.iter().position(fits);
            panic!(
                "{what}: found the state after {number:?} writes of {}, but {first} must be there",
                self.states.len() - 1
            )
        })
    }
}

/// Runs `steps` until the power fails at change `stop`, recovers as `model` says, and checks.
fn fail_at(stop: u64, model: CrashModel, steps: &[Step], options: &Options) {
    let what = format!("{model:?} at change {stop}");
    let disk = Disk::new(stop * 31 + model as u64);
    disk.fs.stop_after(stop);
    let mut history = History::new();
    // If all steps are done before, the power fails while the database is being closed.
    let _ = history.run(&disk, options, steps);
    let crashed = Disk::of(disk.fs.crash(model));
    let first = match model {
        CrashModel::Kill => history.acknowledged,
        // A lie about the last sync may have cost anything, but never the truth.
        CrashModel::SyncLied => 0,
        _ => history.durable,
    };
    let db = match crashed.try_open(options.clone()) {
        Err(Error::NotADatabase { .. }) if history.created.is_empty() => return,
        Err(_) if model == CrashModel::SyncLied => return,
        result => result.unwrap_or_else(|error| panic!("{what}: {error}")),
    };
    if model == CrashModel::SyncLied && !history.has_plain_keyspaces(&db) {
        return;
    }
    let recovered = history.check(&db, first, &what);
    // What was recovered stays, whatever comes next.
    let again = Disk::of(crashed.fs.crash(CrashModel::Synced));
    drop(db);
    for disk in [again, crashed] {
        let db = disk.open(options.clone());
        let what = format!("{what}, opened again");
        let found = history.check(&db, 0, &what);
        let same = |slot: &(&str, usize)| {
            history.states[found].get(slot) == history.states[recovered].get(slot)
        };
        assert!(history.live.iter().all(|(name, count)| same(&(*name, *count))), "{what}");
        go_on(&disk, db, options);
    }
}

/// A recovered database takes writes, and keeps them.
fn go_on(disk: &Disk, db: Db, options: &Options) {
    let after = keyspace(&db, "after");
    after.put(b"k", b"v").unwrap();
    let lost = Disk::of(disk.fs.crash(CrashModel::Synced));
    drop(db);
    let db = lost.open(options.clone());
    assert_eq!(keyspace(&db, "after").get(b"k").unwrap().unwrap(), b"v");
}

/// Each model at one in `every` changes of the workload, the models at different ones. All of them
/// at all changes with a scale of 7.
fn fail_everywhere(steps: &[Step], every: u64) {
    let options = Options { create: esker::Create::IfMissing, ..small() };
    let disk = Disk::new(0);
    let mut history = History::new();
    history.run(&disk, &options, steps).unwrap();
    let end = disk.fs.ops();
    let models = [
        CrashModel::Kill,
        CrashModel::Synced,
        CrashModel::Prefix,
        CrashModel::Sectors,
        CrashModel::Garbage,
        CrashModel::Directory,
        CrashModel::SyncLied,
    ];
    let every = (every / scale()).max(1);
    for (number, model) in models.into_iter().enumerate() {
        for stop in (0..end).filter(|stop| (stop + number as u64).is_multiple_of(every)) {
            fail_at(stop, model, steps, &options);
        }
    }
}

fn put(keyspace: &'static str, number: u32, sync: SyncMode) -> Step {
    Write(vec![(keyspace, number, Some(40))], sync)
}

#[test]
fn single_writes_of_all_modes_survive_as_promised() {
    let modes = [Async, SyncMode::Sync, PERIODIC, Async, Async, SyncMode::Sync];
    let mut steps = vec![Create("a")];
    for (number, sync) in (0..40).zip(modes.into_iter().cycle()) {
        steps.push(put("a", number % 7, sync));
        if number % 5 == 4 {
            steps.push(Write(vec![("a", number % 3, None)], Async));
        }
        if number == 20 {
            steps.push(Sync);
        }
    }
    fail_everywhere(&steps, 5);
}

#[test]
fn batches_that_span_scopes_and_keyspaces_are_whole_or_absent() {
    let mut steps = vec![Create("a"), Create("b"), Create("L")];
    for number in 0..24 {
        let sync = if number % 4 == 3 { SyncMode::Sync } else { Async };
        let large = if number % 6 == 5 { 20_000 } else { 50 };
        let mut ops = vec![("a", number % 5, Some(large)), ("L", number % 5, Some(10))];
        ops.push(("b", number % 4, if number % 3 == 2 { None } else { Some(600) }));
        steps.push(Write(ops, sync));
    }
    fail_everywhere(&steps, 6);
}

#[test]
fn flush_compaction_and_reopen_lose_nothing_and_bring_nothing_back() {
    let mut steps = vec![Create("a"), Create("L")];
    for round in 0..4 {
        for number in 0..6 {
            steps.push(Write(
                vec![("a", (number * 5 + round) % 9, Some(300)), ("L", number, Some(20))],
                if number == 3 { SyncMode::Sync } else { Async },
            ));
        }
        steps.push(Write(vec![("a", round, None)], Async));
        steps.push(if round % 2 == 0 { Flush } else { Compact });
        steps.push(DeleteRange("a", round, round + 3, Async));
        if round == 2 {
            steps.push(Reopen);
        }
    }
    fail_everywhere(&steps, 7);
}

#[test]
fn memtables_that_fill_up_are_flushed_without_loss() {
    let mut steps = vec![Create("a"), Create("b")];
    for number in 0..60 {
        let sync = if number % 10 == 9 { SyncMode::Sync } else { Async };
        let keyspace = if number % 3 == 0 { "b" } else { "a" };
        steps.push(Write(vec![(keyspace, number % 25, Some(9_000))], sync));
    }
    fail_everywhere(&steps, 7);
}

#[test]
fn keyspaces_that_come_and_go_are_there_or_not_there() {
    let mut steps = vec![Create("a")];
    for round in 0..4 {
        steps.extend([put("a", round, Async), Create("b"), put("b", 1, Async)]);
        steps.push(put("b", 2, if round % 2 == 0 { SyncMode::Sync } else { Async }));
        if round == 1 {
            steps.push(Flush);
        }
        steps.extend([Drop("b"), put("a", 10 + round, SyncMode::Sync)]);
        if round == 2 {
            steps.extend([Compact, Reopen]);
        }
    }
    fail_everywhere(&steps, 7);
}

#[test]
fn an_ingest_takes_its_place_in_the_order_whole_or_not_at_all() {
    let mut steps = vec![Create("a"), Create("b")];
    for round in 0..3 {
        steps.extend([put("a", 5, Async), put("b", round, Async)]);
        steps.push(Ingest("a", 0..40));
        steps.extend([put("a", 6, Async), DeleteRange("a", 10, 20, Async)]);
        steps.push(Ingest("a", 15..18));
        steps.push(put("a", 7, SyncMode::Sync));
    }
    steps.push(Compact);
    fail_everywhere(&steps, 7);
}

/// An ingest into a fresh database is the only one that needs no log at all.
#[test]
fn what_was_only_ingested_survives() {
    let disk = Disk::new(1);
    let db = disk.open(small());
    local_keyspace(&db, "L").ingest([(b"k", b"v")]).unwrap();
    let crashed = Disk::of(disk.fs.crash(CrashModel::Synced));
    let db = crashed.open(small());
    assert_eq!(local_keyspace(&db, "L").get(b"k").unwrap().unwrap(), b"v");
}
