//! The operations that a workload is made of.
//!
//! Reads check what they get: a wrong answer ends the measurement. Workloads that only read keep
//! one [`Reader`] per thread; those that also write take a new one for each read, as a program
//! would that wants to see its own writes.

use crate::contender::{Contender, Entry, Reader};
use crate::drive::{Driven, Load, Timing, drive};
use crate::keys::{Key, Keys, Values};
use crate::workload::{Mix, Workload};
use crate::zipf::{Draw, YCSB_THETA, Zipf};
use crate::{Failure, Result};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// Records of one batch.
pub const BATCH: u64 = 100;
const SCAN_MAX: u64 = 100;

/// One workload at work on one store.
pub struct Phase<'a> {
    /// The store.
    pub store: &'a dyn Contender,
    /// Its keys.
    pub keys: Keys,
    /// Its values.
    pub values: Values,
    /// Records in it; inserts raise it.
    pub records: &'a AtomicU64,
    /// Records written or deleted, by mixed workloads.
    pub written: AtomicU64,
    /// Threads of workloads that do not name theirs.
    pub threads: u64,
    /// The longest it may take.
    pub limit: Duration,
}

impl Phase<'_> {
    /// Runs `ops` operations of `workload`.
    pub fn run(&self, workload: Workload, ops: u64) -> Result<Driven> {
        match workload {
            Workload::FillSeq => self.fill(ops, |index| self.keys.ordered(index)),
            Workload::FillRandom | Workload::Fill10x | Workload::Overwrite => {
                self.fill(ops, |index| self.keys.scattered(index))
            }
            Workload::Sync(writers) => {
                let writers = Phase { threads: writers, written: 0.into(), ..*self };
                writers.fill(ops, |index| self.keys.scattered(index))
            }
            Workload::Batch100 => self.fill_batches(ops),
            Workload::Delete => self.delete(ops),
            Workload::ReadRandom => {
                self.get(ops, |draw| draw.below(self.records.load(Ordering::Relaxed)))
            }
            Workload::ReadZipf | Workload::Ycsb(Mix::C) => {
                let zipf = self.zipf();
                self.get(ops, |draw| zipf.spread(draw))
            }
            Workload::ReadMissing => self.get_missing(ops),
            Workload::Seek(count) => self.seek(ops, count),
            Workload::FullScan => self.full_scan(),
            Workload::Ycsb(mix) => self.mixed(ops, mix),
            Workload::Reopen | Workload::ReopenKilled => Err("reopening is no phase".into()),
        }
    }

    fn load(&self, ops: u64, timing: Timing) -> Load {
        Load { threads: self.threads, ops, timing, limit: self.limit }
    }

    fn zipf(&self) -> Zipf {
        Zipf::new(self.records.load(Ordering::Relaxed), YCSB_THETA)
    }

    fn fill(&self, ops: u64, key: impl Fn(u64) -> Key + Sync) -> Result<Driven> {
        drive(&self.load(ops, Timing::Each), |_| {
            let (key, mut value) = (&key, Vec::new());
            Ok(move |index| {
                self.values.fill(&mut value, index, 0);
                self.store.put(&key(index), &value)
            })
        })
    }

    fn fill_batches(&self, ops: u64) -> Result<Driven> {
        drive(&self.load(ops, Timing::Each), |_| {
            let mut entries = vec![Entry::default(); BATCH as usize];
            Ok(move |number: u64| {
                self.fill_entries(&mut entries, number * BATCH);
                self.store.put_batch(&entries)
            })
        })
    }

    fn fill_entries(&self, entries: &mut [Entry], first: u64) {
        for (entry, index) in entries.iter_mut().zip(first..) {
            entry.key = self.keys.scattered(index);
            self.values.fill(&mut entry.value, index, 0);
        }
    }

    /// Loads the records `from..to` as fast as it goes, unmeasured.
    pub fn preload(&self, from: u64, to: u64) -> Result<()> {
        let mut entries = vec![Entry::default(); 1000];
        for first in (from..to).step_by(entries.len()) {
            entries.truncate((to - first).min(1000) as usize);
            self.fill_entries(&mut entries, first);
            self.store.put_batch(&entries)?;
        }
        Ok(())
    }

    fn delete(&self, ops: u64) -> Result<Driven> {
        drive(&self.load(ops, Timing::Each), |_| {
            Ok(|index| self.store.delete(&self.keys.scattered(index)))
        })
    }

    fn get(&self, ops: u64, choose: impl Fn(&mut Draw) -> u64 + Sync) -> Result<Driven> {
        drive(&self.load(ops, Timing::Sampled), |thread| {
            let (choose, mut draw, mut reader) = (&choose, Draw::new(thread), self.store.reader()?);
            Ok(move |_| self.get_one(reader.as_mut(), choose(&mut draw)))
        })
    }

    /// Gets the record `index`, which must be there with a value of its own.
    fn get_one(&self, reader: &mut dyn Reader, index: u64) -> Result<()> {
        let mut right = false;
        reader.get(&self.keys.scattered(index), &mut |value| {
            right = self.values.is_of(value, index);
        })?;
        if right { Ok(()) } else { Err(wrong("a get", index)) }
    }

    fn get_missing(&self, ops: u64) -> Result<Driven> {
        let records = self.records.load(Ordering::Relaxed);
        drive(&self.load(ops, Timing::Sampled), |thread| {
            let (mut draw, mut reader) = (Draw::new(thread), self.store.reader()?);
            Ok(move |_| {
                let index = draw.below(records);
                let found = reader.get(&self.keys.missing(index), &mut |_| {})?;
                if found { Err(wrong("a get of a missing key", index)) } else { Ok(()) }
            })
        })
    }

    fn seek(&self, ops: u64, count: u64) -> Result<Driven> {
        let records = self.records.load(Ordering::Relaxed);
        drive(&self.load(ops, Timing::Sampled), |thread| {
            let (mut draw, mut reader) = (Draw::new(thread), self.store.reader()?);
            Ok(move |_| self.scan_one(reader.as_mut(), draw.below(records), count))
        })
    }

    /// Scans from the record `index` on; it must be the first.
    fn scan_one(&self, reader: &mut dyn Reader, index: u64, count: u64) -> Result<()> {
        let from = self.keys.scattered(index);
        let mut right = None;
        reader.scan(&from, count, &mut |key, value| {
            Values::look(key, value);
            right.get_or_insert_with(|| key == from);
        })?;
        if right == Some(true) { Ok(()) } else { Err(wrong("a scan", index)) }
    }

    /// One pass; each record counts as an operation.
    fn full_scan(&self) -> Result<Driven> {
        let expected = self.records.load(Ordering::Relaxed);
        let one = Load { threads: 1, ..self.load(1, Timing::Each) };
        let mut driven = drive(&one, |_| {
            let mut reader = self.store.reader()?;
            Ok(move |_| {
                let seen = reader.scan(&[], u64::MAX, &mut Values::look)?;
                if seen == expected { Ok(()) } else { Err(wrong("a full scan", seen)) }
            })
        })?;
        driven.ops = expected;
        Ok(driven)
    }

    fn mixed(&self, ops: u64, mix: Mix) -> Result<Driven> {
        let zipf = self.zipf();
        let loaded = self.records.load(Ordering::Relaxed);
        drive(&self.load(ops, Timing::Each), |thread| {
            let (zipf, mut draw, mut value) = (&zipf, Draw::new(thread), Vec::new());
            Ok(move |_| {
                let dice = draw.below(100);
                let popular = zipf.spread(&mut draw);
                match mix {
                    Mix::A | Mix::B | Mix::C | Mix::F => {
                        let reads = if mix == Mix::B { 95 } else { 50 };
                        if dice < reads {
                            return self.get_one(self.store.reader()?.as_mut(), popular);
                        }
                        if mix == Mix::F {
                            self.get_one(self.store.reader()?.as_mut(), popular)?;
                        }
                        self.update(popular, &mut value, draw.bits())
                    }
                    Mix::D | Mix::E if dice >= 95 => self.insert(&mut value),
                    Mix::D => self.get_latest(zipf.rank(&mut draw), loaded),
                    Mix::E => {
                        let count = 1 + draw.below(SCAN_MAX);
                        self.scan_one(self.store.reader()?.as_mut(), popular, count)
                    }
                }
            })
        })
    }

    fn update(&self, index: u64, value: &mut Vec<u8>, version: u64) -> Result<()> {
        self.values.fill(value, index, version);
        self.written.fetch_add(1, Ordering::Relaxed);
        self.store.put(&self.keys.scattered(index), value)
    }

    fn insert(&self, value: &mut Vec<u8>) -> Result<()> {
        let index = self.records.fetch_add(1, Ordering::Relaxed);
        self.update(index, value, 0)
    }

    /// Another thread may have claimed one of the very latest records and not yet put it.
    fn get_latest(&self, age: u64, loaded: u64) -> Result<()> {
        let records = self.records.load(Ordering::Relaxed);
        let index = records - 1 - age.min(records - 1);
        let got = self.get_one(self.store.reader()?.as_mut(), index);
        if index >= loaded && self.threads > 1 { Ok(()) } else { got }
    }
}

fn wrong(what: &str, index: u64) -> Failure {
    format!("{what} gave a wrong answer at {index}: nothing measured here counts").into()
}
