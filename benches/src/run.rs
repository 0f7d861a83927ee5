//! Runs workloads on one engine, one after the other, each on the ground it needs.

use crate::args::Args;
use crate::contender::{Contender, Durability, Name};
use crate::drive::duration_ns;
use crate::keys::{Keys, Values};
use crate::outcome::Outcome;
use crate::phase::{BATCH, Phase};
use crate::workload::{Ground, Workload};
use crate::{Result, meter};
use std::fs::{create_dir_all, remove_dir_all};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

/// One engine's turn.
pub struct Turn<'a> {
    pub(crate) engine: Name,
    pub(crate) args: &'a Args,
    dir: PathBuf,
    /// The store with all records, if one is open.
    pub(crate) loaded: Option<Store>,
}

/// An open store.
pub(crate) struct Store {
    pub(crate) contender: Box<dyn Contender>,
    pub(crate) dir: PathBuf,
    pub(crate) records: AtomicU64,
}

impl<'a> Turn<'a> {
    /// A turn of `engine` with stores below `dir`, which is emptied.
    pub fn new(engine: Name, args: &'a Args, dir: PathBuf) -> Result<Turn<'a>> {
        forget(&dir)?;
        create_dir_all(&dir)?;
        Ok(Turn { engine, args, dir, loaded: None })
    }

    /// Runs one workload.
    pub fn run(&mut self, workload: Workload) -> Result<Outcome> {
        match workload {
            Workload::Reopen => self.reopen(),
            Workload::ReopenKilled => self.reopen_killed(),
            _ => self.run_phase(workload),
        }
    }

    fn run_phase(&mut self, workload: Workload) -> Result<Outcome> {
        let store = match workload.ground() {
            Ground::Loaded => self.take_loaded()?,
            Ground::EmptySynced => self.create("synced", Durability::Sync)?,
            _ => self.create(&workload.name(), Durability::Process)?,
        };
        let outcome = self.measure(&store, workload)?;
        if workload == Workload::FillRandom {
            self.complete(&store, outcome.ops)?;
            self.discard_loaded()?;
            self.loaded = Some(store);
        } else if workload.ground() == Ground::Loaded && !workload.spoils() {
            self.loaded = Some(store);
        } else {
            discard(store)?;
        }
        Ok(outcome)
    }

    fn measure(&self, store: &Store, workload: Workload) -> Result<Outcome> {
        let phase = self.phase(store, workload);
        let ops = workload.ops(self.args.keys);
        meter::forget_peak();
        let (written, cpu) = (meter::written_bytes(), meter::process_cpu_ns());
        let driven = phase.run(workload, ops)?;
        let settling = Instant::now();
        if workload.writes() {
            store.contender.settle()?;
        }
        let mut outcome = Outcome::of(self.engine.as_str(), &workload.name(), &driven);
        outcome.settle_ns = duration_ns(settling.elapsed());
        outcome.process_cpu_ns = meter::process_cpu_ns() - cpu;
        outcome.written_bytes = meter::written_bytes() - written;
        outcome.rss_bytes = meter::peak_rss_bytes();
        outcome.disk_bytes = meter::disk_bytes(&store.dir)?;
        let is_cut = driven.ops < ops && !matches!(workload, Workload::Sync(_));
        outcome.cut_short = u64::from(is_cut);
        self.count_bytes(&mut outcome, &phase, workload);
        Ok(outcome)
    }

    /// Fills in what the phase wrote and what is in the store, and counts batches by the record.
    fn count_bytes(&self, outcome: &mut Outcome, phase: &Phase<'_>, workload: Workload) {
        let record = self.args.record_bytes();
        if workload == Workload::Batch100 {
            outcome.ops *= BATCH;
        }
        if workload.ground() != Ground::Loaded {
            phase.records.store(outcome.ops, Ordering::Relaxed);
        }
        let records = phase.records.load(Ordering::Relaxed);
        let deleted = if workload == Workload::Delete { outcome.ops } else { 0 };
        outcome.live_bytes = (records - deleted) * record;
        outcome.user_bytes = match workload {
            Workload::Ycsb(_) => phase.written.load(Ordering::Relaxed) * record,
            Workload::Delete => outcome.ops * (record - self.args.value_size as u64),
            _ if workload.writes() => outcome.ops * record,
            _ => 0,
        };
    }

    pub(crate) fn phase<'s>(&self, store: &'s Store, workload: Workload) -> Phase<'s> {
        let keys_max = self.args.keys.max(workload.ops(self.args.keys));
        Phase {
            store: store.contender.as_ref(),
            keys: Keys::new(self.args.key_shape, keys_max),
            values: Values::new(self.args.value_size),
            records: &store.records,
            written: 0.into(),
            threads: self.args.threads,
            limit: self.args.limit(workload),
        }
    }

    /// Loads what a fill that was cut short has left out.
    fn complete(&self, store: &Store, done: u64) -> Result<()> {
        let phase = self.phase(store, Workload::FillRandom);
        if done < self.args.keys {
            // With several threads, shares were cut in the middle: write all again.
            phase.preload(if self.args.threads == 1 { done } else { 0 }, self.args.keys)?;
            store.contender.settle()?;
        }
        store.records.store(self.args.keys, Ordering::Relaxed);
        Ok(())
    }

    /// The loaded store, made now if there is none.
    pub(crate) fn take_loaded(&mut self) -> Result<Store> {
        if let Some(store) = self.loaded.take() {
            return Ok(store);
        }
        let store = self.create("loaded", Durability::Process)?;
        self.complete(&store, 0)?;
        Ok(store)
    }

    fn discard_loaded(&mut self) -> Result<()> {
        self.loaded.take().map_or(Ok(()), discard)
    }

    fn create(&self, name: &str, durability: Durability) -> Result<Store> {
        let dir = self.fresh_dir(name)?;
        let contender = self.open(&dir, durability)?;
        Ok(Store { contender, dir, records: 0.into() })
    }

    pub(crate) fn open(&self, dir: &Path, durability: Durability) -> Result<Box<dyn Contender>> {
        self.engine.open(dir, &self.args.setup(durability))
    }

    /// A directory for a store that is not there yet.
    pub(crate) fn fresh_dir(&self, name: &str) -> Result<PathBuf> {
        let dir = self.dir.join(name);
        forget(&dir)?;
        Ok(dir)
    }

    /// Closes what is open and removes all stores.
    pub fn end(mut self) -> Result<()> {
        self.discard_loaded()?;
        forget(&self.dir)
    }
}

fn discard(store: Store) -> Result<()> {
    store.contender.close()?;
    forget(&store.dir)
}

/// Removes a directory that may not be there. Engines that end their threads lazily may still add
/// a file meanwhile.
pub(crate) fn forget(dir: &Path) -> Result<()> {
    for _ in 0..20 {
        if !dir.exists() || remove_dir_all(dir).is_ok() {
            return Ok(());
        }
        std::thread::sleep(Duration::from_millis(50));
    }
    remove_dir_all(dir).map_err(|error| format!("cannot remove {}: {error}", dir.display()).into())
}
