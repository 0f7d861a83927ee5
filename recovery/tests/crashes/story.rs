//! A workload as it runs: the database, what its caller was told, and the moments of its disk.

use crate::image;
use crate::step::{Put, Step, Workload};
use crate::told::{Content, Copied, Entry, State, Told, is_same, outline};
use base::clock::ManualClock;
use base::fs::{CrashModel, Fault, FaultPlan, Moment, SimFs, SimOp};
use engine::{
    Batch, Db, Error, Keyspace, KeyspaceOptions, Scope, Snapshot, SyncMode, WriteOptions,
};
use std::sync::Arc;

/// What the clock shows at first.
const START_MS: u64 = 1_700_000_000_000;

/// A moment of the disk, and the number of what was told by then.
#[derive(Debug)]
pub(crate) struct Scene {
    pub(crate) moment: Moment,
    pub(crate) told: usize,
    /// What was told before the last sync began.
    pub(crate) told_before_sync: usize,
}

/// A fault that strikes one call, or from there on.
#[derive(Clone, Debug)]
pub(crate) struct Failing {
    pub(crate) fault: Fault,
    /// The call, counted from the first of the story.
    pub(crate) at: usize,
    /// What each call of the story is when none fails.
    pub(crate) kinds: Vec<SimOp>,
    /// Whether it strikes all later calls of its kind too; an error of the device, those of every
    /// kind.
    pub(crate) is_sticky: bool,
}

/// See the module.
pub(crate) struct Story<'a> {
    pub(crate) workload: &'a Workload,
    pub(crate) fs: SimFs,
    pub(crate) db: Option<Db>,
    pub(crate) told: Told,
    /// All that was told, one after the other; marks of moments are numbers here.
    pub(crate) log: Vec<Told>,
    pub(crate) scenes: Vec<Scene>,
    clock: Arc<ManualClock>,
    held: Option<(Snapshot, Arc<State>)>,
    is_recording: bool,
    failing: Option<Failing>,
    /// The calls on disks that the story has left.
    earlier: Vec<SimOp>,
    was_struck_earlier: bool,
}

impl<'a> Story<'a> {
    /// Before the first step: nothing is open yet.
    pub(crate) fn new(workload: &'a Workload, seed: u64) -> Story<'a> {
        Story {
            workload,
            fs: SimFs::new(seed),
            db: None,
            told: Told::new(START_MS),
            log: Vec::new(),
            scenes: Vec::new(),
            clock: Arc::default(),
            held: None,
            is_recording: false,
            failing: None,
            earlier: Vec::new(),
            was_struck_earlier: false,
        }
    }

    /// What each call of the workload is, its close included.
    pub(crate) fn kinds_of(workload: &'a Workload, seed: u64) -> Vec<SimOp> {
        let mut story = Story::new(workload, seed);
        let run = story.run().and_then(|()| story.db.take().map_or(Ok(()), Db::close));
        assert!(run.is_ok(), "{}: {run:?}", workload.name);
        story.earlier.extend(story.fs.kinds());
        story.earlier
    }

    /// Arms a fault.
    pub(crate) fn fail_at(&mut self, failing: Failing) {
        self.failing = Some(failing);
        self.arm();
    }

    fn arm(&self) {
        let Some(failing) = self.failing.as_ref().filter(|_| !self.was_struck()) else { return };
        let Some(calls) = failing.kinds.get(self.earlier.len()..failing.at) else { return };
        let kind = failing.kinds[failing.at];
        self.fs.inject(match (failing.is_sticky, failing.fault) {
            (false, fault) => FaultPlan::any(fault).after(calls.len() as u64),
            (true, Fault::Io) => FaultPlan::any(Fault::Io).after(calls.len() as u64).sticky(),
            (true, fault) => {
                let same = calls.iter().filter(|call| **call == kind).count();
                FaultPlan::new(kind, fault).after(same as u64).sticky()
            }
        });
    }

    /// Whether the fault has struck.
    pub(crate) fn was_struck(&self) -> bool {
        self.was_struck_earlier || !self.fs.struck().is_empty()
    }

    /// What the fault has struck on the present disk.
    pub(crate) fn struck(&self) -> Vec<(SimOp, String)> {
        self.fs.struck()
    }

    /// From now on nothing fails.
    pub(crate) fn mend(&mut self) {
        self.failing = None;
        self.fs.clear_faults();
    }

    /// Does `f` without faults; those that stay come back.
    fn undisturbed<R>(&mut self, f: impl FnOnce(&mut Self) -> R) -> R {
        self.fs.clear_faults();
        let result = f(self);
        if let Some(failing) = self.failing.as_ref().filter(|failing| failing.is_sticky) {
            let kind = failing.kinds[failing.at];
            self.fs.inject(match failing.fault {
                Fault::Io => FaultPlan::any(Fault::Io).sticky(),
                fault => FaultPlan::new(kind, fault).sticky(),
            });
        }
        result
    }

    /// Runs the whole workload and keeps every moment of its disk.
    pub(crate) fn record(workload: &'a Workload, seed: u64) -> Story<'a> {
        let mut story = Story::new(workload, seed);
        story.is_recording = true;
        story.fs.record();
        let run = story.run();
        assert!(run.is_ok(), "{}: {run:?}", workload.name);
        story.db.take().unwrap().close().unwrap();
        story.told.secure();
        story.tell();
        story.keep_moments();
        story
    }

    /// Opens the database and takes all steps, up to the first that fails.
    pub(crate) fn run(&mut self) -> engine::Result<()> {
        self.begin()?;
        self.workload.steps.iter().try_for_each(|step| self.step(step))
    }

    /// Opens the database.
    pub(crate) fn begin(&mut self) -> engine::Result<()> {
        self.tell();
        self.open()
    }

    /// Says how far the caller knows the workload to be.
    pub(crate) fn tell(&mut self) {
        self.fs.mark(self.log.len() as u64);
        self.log.push(self.told.clone());
    }

    fn open(&mut self) -> engine::Result<()> {
        let (platform, clock) = image::platform(&self.fs, self.told.now_ms);
        self.clock = clock;
        self.db = Some(Db::open_on(platform, self.workload.options.clone())?);
        Ok(())
    }

    fn keep_moments(&mut self) {
        let start = self.scenes.len();
        let moments = self.fs.take_moments();
        let first_ops = moments.first().map_or(0, Moment::ops);
        let marks: Vec<usize> = moments.iter().map(|moment| moment.mark() as usize).collect();
        for (at, moment) in moments.into_iter().enumerate() {
            let synced_at = moment.last_sync().and_then(|ops| ops.checked_sub(first_ops));
            let before_sync = synced_at.and_then(|at| marks.get(at as usize)).copied();
            let told = marks[at];
            // The sync before a recording began is that of an earlier one.
            let earlier = self.scenes.get(start.wrapping_sub(1));
            let told_before_sync = before_sync
                .or(earlier.filter(|_| moment.last_sync().is_some()).map(|e| e.told_before_sync))
                .unwrap_or(told);
            self.scenes.push(Scene { moment, told, told_before_sync });
        }
    }

    /// Goes on with another disk; what happened to the old database no longer reaches it.
    fn go_on_with(&mut self, fs: SimFs) -> engine::Result<()> {
        self.held = None;
        if self.is_recording {
            self.keep_moments();
        }
        if let Some(db) = self.db.take() {
            image::abandon(db, &self.fs);
        }
        self.was_struck_earlier = self.was_struck();
        self.earlier.extend(self.fs.kinds());
        self.fs = fs;
        self.arm();
        if self.is_recording {
            self.fs.record();
        }
        self.tell();
        self.open()
    }

    /// Opens the database once more, after it could not be opened.
    pub(crate) fn open_again(&mut self) -> engine::Result<()> {
        self.tell();
        self.open()
    }

    pub(crate) fn db(&self) -> Db {
        self.db.clone().unwrap()
    }

    /// Takes one step.
    pub(crate) fn step(&mut self, step: &Step) -> engine::Result<()> {
        let done = self.take_step(step);
        if done.is_ok() {
            self.tell();
        }
        done
    }

    fn take_step(&mut self, step: &Step) -> engine::Result<()> {
        match step {
            Step::Create(name) => self.create(name)?,
            Step::Drop(name) => self.drop_keyspace(name)?,
            Step::Write(puts, sync) => self.write(puts, *sync)?,
            Step::Transaction(puts, sync) => self.transact(puts, *sync)?,
            Step::DeleteRange(name, keys, sync) => {
                let mut batch = Batch::new();
                let (from, to) = (key(keys.start), key(keys.end));
                batch.delete_range(&self.db().existing_keyspace(name)?, &from, &to);
                let slot = self.told.slot(name);
                self.told.issue(|state| {
                    let content = Arc::make_mut(state.entry(slot).or_default());
                    content.retain(|key, _| *key < from || *key >= to);
                });
                self.commit(batch, *sync)?;
            }
            Step::Ingest(name, keys) => self.ingest(name, keys.clone())?,
            Step::Sync => self.db().sync()?,
            Step::Flush => self.db().flush()?,
            Step::Compact => self.db().compact_all()?,
            Step::Settle => self.db().settle()?,
            Step::Reopen => {
                self.held = None;
                let db = self.db.take().unwrap();
                db.close()?;
                self.told.secure();
                self.tell();
                self.open()?;
            }
            Step::Kill => {
                let fs = self.fs.fork();
                self.go_on_with(fs)?;
            }
            Step::Crash(model) => self.crash(*model)?,
            Step::Hold => {
                let state = self.told.states.last().cloned().unwrap_or_default();
                self.held = Some((self.db().snapshot(), state));
            }
            Step::Release => self.release()?,
            Step::Checkpoint => self.checkpoint()?,
            Step::Wait(ms) => {
                self.told.now_ms += ms;
                self.clock.set(self.told.now_ms);
            }
        }
        // These end with everything before them synced.
        let secures = [Step::Sync, Step::Flush, Step::Compact, Step::Settle, Step::Kill];
        if secures.iter().any(|other| std::mem::discriminant(other) == std::mem::discriminant(step))
        {
            self.told.secure();
        }
        Ok(())
    }

    fn create(&mut self, name: &'static str) -> engine::Result<()> {
        if self.told.live.contains_key(name) {
            return Ok(()); // its drop had failed
        }
        self.told.in_doubt = Some(name);
        self.tell();
        open_keyspace(&self.db(), name)?;
        self.created(name);
        Ok(())
    }

    /// The keyspace `name` is known to be there.
    pub(crate) fn created(&mut self, name: &'static str) {
        let incarnation = self.told.created.entry(name).or_default();
        *incarnation += 1;
        self.told.live.insert(name, *incarnation);
        self.told.in_doubt = None;
    }

    fn drop_keyspace(&mut self, name: &'static str) -> engine::Result<()> {
        self.told.in_doubt = Some(name);
        self.tell();
        let db = self.db();
        db.drop_keyspace(db.existing_keyspace(name)?)?;
        self.dropped(name);
        Ok(())
    }

    /// The keyspace `name` is known to be gone.
    pub(crate) fn dropped(&mut self, name: &'static str) {
        self.told.live.remove(name);
        self.told.in_doubt = None;
    }

    /// The writes in a batch, with the state after them issued.
    fn issue(&mut self, puts: &[Put]) -> engine::Result<Batch> {
        let mut batch = Batch::new();
        let unique = self.log.len();
        let (live, now_ms) = (self.told.live.clone(), self.told.now_ms);
        let mut changes = Vec::new();
        for put in puts {
            let keyspace = self.db().existing_keyspace(put.keyspace)?;
            let slot = (put.keyspace, live[put.keyspace]);
            let Some(len) = put.len else {
                batch.delete(&keyspace, key(put.key));
                changes.push((slot, put.key, None));
                continue;
            };
            let value = value(unique, len);
            let expires_ms = put.lives_ms.map_or(u64::MAX, |lives| now_ms + lives);
            match put.lives_ms {
                None => batch.put(&keyspace, key(put.key), &value),
                Some(_) => batch.put_until(&keyspace, key(put.key), &value, expires_ms),
            }
            changes.push((slot, put.key, Some(Entry { value: value.into(), expires_ms })));
        }
        self.told.issue(|state| {
            for (slot, number, entry) in changes {
                let content: &mut Content = Arc::make_mut(state.entry(slot).or_default());
                match entry {
                    Some(entry) => content.insert(key(number), entry),
                    None => content.remove(&key(number)),
                };
            }
        });
        Ok(batch)
    }

    fn write(&mut self, puts: &[Put], sync: SyncMode) -> engine::Result<()> {
        let batch = self.issue(puts)?;
        self.commit(batch, sync)
    }

    fn commit(&mut self, batch: Batch, sync: SyncMode) -> engine::Result<()> {
        self.tell();
        self.db().write_with(batch, WriteOptions { sync: Some(sync) })?;
        self.acknowledge(sync);
        Ok(())
    }

    fn acknowledge(&mut self, sync: SyncMode) {
        match sync {
            SyncMode::Sync => self.told.secure(),
            SyncMode::Periodic(_) | SyncMode::Async => self.told.acknowledge(),
        }
    }

    fn transact(&mut self, puts: &[Put], sync: SyncMode) -> engine::Result<()> {
        let before = self.told.last();
        let db = self.db();
        let mut transaction = db.transaction()?;
        for put in puts {
            let keyspace = db.existing_keyspace(put.keyspace)?;
            let content = before.get(&self.told.slot(put.keyspace));
            let expected = content.and_then(|content| content.get(&key(put.key)));
            let found = transaction.get(&keyspace, key(put.key))?;
            assert_eq!(found.as_deref(), expected.map(|entry| &*entry.value));
        }
        let _ = self.issue(puts)?;
        let after = self.told.last();
        for put in puts {
            let keyspace = db.existing_keyspace(put.keyspace)?;
            match after[&self.told.slot(put.keyspace)].get(&key(put.key)) {
                Some(entry) => transaction.put(&keyspace, key(put.key), &entry.value)?,
                None => transaction.delete(&keyspace, key(put.key))?,
            }
        }
        self.tell();
        transaction.commit_with(WriteOptions { sync: Some(sync) })?;
        self.acknowledge(sync);
        Ok(())
    }

    fn ingest(&mut self, name: &'static str, keys: std::ops::Range<u32>) -> engine::Result<()> {
        let unique = self.log.len();
        let keyspace = self.db().existing_keyspace(name)?;
        let slot = self.told.slot(name);
        let entries: Vec<_> = keys.map(|number| (key(number), value(unique, 30))).collect();
        self.told.issue(|state| {
            let content = Arc::make_mut(state.entry(slot).or_default());
            let entry = |value: &Vec<u8>| Entry { value: value[..].into(), expires_ms: u64::MAX };
            content.extend(entries.iter().map(|(key, value)| (key.clone(), entry(value))));
        });
        self.tell();
        keyspace.ingest(entries)?;
        self.told.secure();
        Ok(())
    }

    fn release(&mut self) -> engine::Result<()> {
        let Some((snapshot, state)) = self.held.take() else { return Ok(()) };
        for (name, incarnation) in &self.told.live {
            let Ok(keyspace) = self.db().existing_keyspace(name) else { continue };
            let mut found = std::collections::BTreeMap::new();
            for entry in snapshot.iter(&keyspace) {
                let (key, value) = entry?;
                found.insert(Vec::from(key), Vec::from(value));
            }
            let content = state.get(&(*name, *incarnation));
            assert!(is_same(content, &found, self.told.now_ms), "a snapshot changed");
        }
        Ok(())
    }

    fn checkpoint(&mut self) -> engine::Result<()> {
        let path = format!("/copy-{}", self.told.copies.len());
        let state = self.told.states.last().cloned().unwrap_or_default();
        let live = self.told.live.clone();
        self.told.copies.push(Copied { path: path.clone(), state, live, is_acknowledged: false });
        self.tell();
        self.db().checkpoint(&path)?;
        self.told
            .copies
            .iter_mut()
            .for_each(|copied| copied.is_acknowledged |= copied.path == path);
        self.told.secure();
        Ok(())
    }

    /// The machine dies: what was not secured may be gone, and whatever is there is all there is.
    fn crash(&mut self, model: CrashModel) -> engine::Result<()> {
        assert!(self.told.in_doubt.is_none());
        self.told.acknowledged = self.told.durable;
        let fs = self.fs.crash(model);
        self.go_on_with(fs)?;
        let found = image::read(&self.db())?;
        let number = self.told.recognize(&found, self.told.durable);
        let number = number.unwrap_or_else(|wrong| {
            panic!("{}: {model:?} as a step: {wrong}; {}", self.workload.name, outline(&found))
        });
        self.told.states.truncate(number + 1);
        self.told.secure();
        Ok(())
    }

    /// A write failed and the database lives on: it took effect or did not, for ever.
    pub(crate) fn settle_doubt(&mut self) -> engine::Result<()> {
        self.undisturbed(Story::look)
    }

    fn look(&mut self) -> engine::Result<()> {
        let db = self.db();
        if let Some(name) = self.told.in_doubt {
            let is_there = db.existing_keyspace(name).is_ok();
            match (is_there, self.told.live.contains_key(name)) {
                (true, false) => self.created(name),
                (false, true) => self.dropped(name),
                _ => self.told.in_doubt = None,
            }
        }
        let found = image::read(&db)?;
        let number = self.told.recognize(&found, self.told.acknowledged);
        let number = number
            .unwrap_or_else(|wrong| panic!("{}: after a failure: {wrong}", self.workload.name));
        self.told.states.truncate(number + 1);
        Ok(())
    }

    /// Whether writes are refused for good.
    pub(crate) fn is_poisoned(&self) -> bool {
        let status = self.db.as_ref().map(|db| db.health().status);
        status == Some(engine::Status::Poisoned)
    }
}

/// Whether the step was refused because an earlier one failed: a keyspace that is not there.
pub(crate) fn is_consequence(error: &Error) -> bool {
    matches!(error, Error::KeyspaceNotFound { .. } | Error::KeyspaceDropped { .. })
}

fn open_keyspace(db: &Db, name: &str) -> engine::Result<Keyspace> {
    let is_local = name.starts_with(char::is_uppercase);
    let scope = if is_local { Scope::Local } else { Scope::Main };
    db.keyspace(name, KeyspaceOptions { scope, ..KeyspaceOptions::default() })
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
