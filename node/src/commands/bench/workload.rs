//! The workloads: what each thread does, how long each operation took, and what it found.

use super::keys::{Shuffle, is_value_of, mix, write_key, write_value};
use crate::error::{Exit, Failure, Outcome};
use base::Clock;
use clap::ValueEnum;
use engine::{Db, Keyspace};
use hdrhistogram::Histogram;
use std::time::Duration;

/// Entries read behind each seek.
const ENTRIES_PER_SEEK: u64 = 10;
/// Latencies up to a minute, in nanoseconds, to three digits.
const LATENCY_MAX_NS: u64 = 60_000_000_000;

/// One kind of load.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
#[value(rename_all = "lower")]
pub(super) enum Workload {
    /// Every key once, in order.
    FillSeq,
    /// Every key once, in random order.
    FillRandom,
    /// Random keys again.
    Overwrite,
    /// Gets of random keys.
    ReadRandom,
    /// Gets of keys that are not there.
    ReadMissing,
    /// Everything, in order.
    ReadSeq,
    /// Seeks to random keys, ten entries each.
    SeekRandom,
    /// Every key once, in random order.
    DeleteRandom,
}

impl Workload {
    /// Its name on the command line.
    pub(super) fn name(self) -> &'static str {
        match self {
            Workload::FillSeq => "fillseq",
            Workload::FillRandom => "fillrandom",
            Workload::Overwrite => "overwrite",
            Workload::ReadRandom => "readrandom",
            Workload::ReadMissing => "readmissing",
            Workload::ReadSeq => "readseq",
            Workload::SeekRandom => "seekrandom",
            Workload::DeleteRandom => "deleterandom",
        }
    }

    /// Whether every key has a value after it, given whether that was so before.
    pub(super) fn leaves_filled(self, before: bool) -> bool {
        match self {
            Workload::FillSeq | Workload::FillRandom => true,
            Workload::DeleteRandom => false,
            _ => before,
        }
    }
}

/// What workloads run on.
#[derive(Clone, Copy)]
pub(super) struct Setup<'a> {
    pub(super) db: &'a Db,
    pub(super) keyspace: &'a Keyspace,
    pub(super) clock: &'a dyn Clock,
    pub(super) keys: u64,
    pub(super) value_len: usize,
    pub(super) threads: u64,
    /// Whether every key is known to have a value.
    pub(super) is_filled: bool,
}

/// What came out.
pub(super) struct Measured {
    pub(super) ops: u64,
    pub(super) took: Duration,
    /// In nanoseconds.
    pub(super) latency: Histogram<u64>,
    pub(super) found: u64,
    pub(super) failed_checks: u64,
}

/// Runs `workload` on all threads and adds up what they measured.
pub(super) fn run(workload: Workload, setup: &Setup<'_>) -> Outcome<Measured> {
    let started = setup.clock.monotonic();
    let parts: Vec<Outcome<Worker<'_>>> = std::thread::scope(|scope| {
        let spawn = |thread| scope.spawn(move || work(workload, setup, thread));
        let threads: Vec<_> = (0..setup.threads).map(spawn).collect();
        // A panic of a worker has ended the process already.
        threads.into_iter().filter_map(|thread| thread.join().ok()).collect()
    });
    let took = setup.clock.monotonic().saturating_sub(started);
    let mut total =
        Measured { ops: 0, took, latency: new_histogram()?, found: 0, failed_checks: 0 };
    for part in parts {
        let part = part?;
        total.ops += part.latency.len();
        total.found += part.found;
        total.failed_checks += part.failed_checks;
        total.latency.add(&part.latency).map_err(|_| out_of_memory())?;
    }
    Ok(total)
}

/// One thread's part.
fn work<'a>(workload: Workload, setup: &'a Setup<'a>, thread: u64) -> Outcome<Worker<'a>> {
    let mut worker = Worker::new(setup, thread)?;
    match workload {
        Workload::FillSeq => worker.each_key(|worker, index| worker.put(index, 0)),
        Workload::FillRandom => {
            let order = Shuffle::new(setup.keys, 1);
            worker.each_key(|worker, index| worker.put(order.at(index), 0))
        }
        Workload::Overwrite => worker.each_key(|worker, index| {
            let number = worker.random(index);
            worker.put(number, index + 1)
        }),
        Workload::ReadRandom => worker.each_key(|worker, index| {
            let number = worker.random(index);
            worker.get(number)
        }),
        Workload::ReadMissing => worker.each_key(Worker::get_missing),
        Workload::ReadSeq => worker.walk(),
        Workload::SeekRandom => worker.seek(),
        Workload::DeleteRandom => {
            let order = Shuffle::new(setup.keys, 2);
            worker.each_key(|worker, index| worker.delete(order.at(index)))
        }
    }?;
    Ok(worker)
}

/// One thread, with its buffers and counts.
struct Worker<'a> {
    setup: &'a Setup<'a>,
    thread: u64,
    key: [u8; 16],
    value: Vec<u8>,
    latency: Histogram<u64>,
    last: Duration,
    found: u64,
    failed_checks: u64,
}

impl<'a> Worker<'a> {
    fn new(setup: &'a Setup<'a>, thread: u64) -> Outcome<Worker<'a>> {
        Ok(Worker {
            setup,
            thread,
            key: [0; 16],
            value: vec![0; setup.value_len],
            latency: new_histogram()?,
            last: setup.clock.monotonic(),
            found: 0,
            failed_checks: 0,
        })
    }

    /// Runs and times `op` for this thread's share of the indexes.
    fn each_key(&mut self, mut op: impl FnMut(&mut Self, u64) -> Outcome) -> Outcome {
        let mut index = self.thread;
        while index < self.setup.keys {
            op(self, index)?;
            self.lap();
            index += self.setup.threads;
        }
        Ok(())
    }

    /// Counts the time since the last call as one operation.
    fn lap(&mut self) {
        let now = self.setup.clock.monotonic();
        let took = now.saturating_sub(self.last);
        self.last = now;
        self.latency.saturating_record(u64::try_from(took.as_nanos()).unwrap_or(LATENCY_MAX_NS));
    }

    /// A number of an existing key, by chance.
    fn random(&self, index: u64) -> u64 {
        mix(index ^ self.thread << 48) % self.setup.keys
    }

    fn check(&mut self, holds: bool) {
        self.failed_checks += u64::from(!holds);
    }

    fn put(&mut self, number: u64, salt: u64) -> Outcome {
        write_key(number, &mut self.key);
        write_value(number, salt, &mut self.value);
        self.setup.keyspace.put(self.key, &self.value)?;
        Ok(())
    }

    fn delete(&mut self, number: u64) -> Outcome {
        write_key(number, &mut self.key);
        self.setup.keyspace.delete(self.key)?;
        Ok(())
    }

    fn get(&mut self, number: u64) -> Outcome {
        write_key(number, &mut self.key);
        let is_found = self.setup.keyspace.get_into(self.key, &mut self.value)?;
        self.found += u64::from(is_found);
        if is_found {
            self.check(is_value_of(number, &self.value, self.setup.value_len));
        } else {
            self.check(!self.setup.is_filled);
        }
        Ok(())
    }

    fn get_missing(&mut self, index: u64) -> Outcome {
        let number = self.random(index);
        write_key(number, &mut self.key);
        let missing: [u8; 17] = std::array::from_fn(|at| self.key.get(at).copied().unwrap_or(b'?'));
        let is_found = self.setup.keyspace.get_into(missing, &mut self.value)?;
        self.found += u64::from(is_found);
        self.check(!is_found);
        Ok(())
    }

    /// Walks everything; an operation is one entry.
    fn walk(&mut self) -> Outcome {
        let mut cursor = self.setup.db.snapshot().cursor(self.setup.keyspace)?;
        let mut previous = Vec::new();
        let mut in_order = true;
        cursor.seek_first()?;
        while let Some((key, _)) = cursor.entry() {
            in_order &= *previous < *key;
            previous.clear();
            previous.extend_from_slice(key);
            cursor.advance()?;
            self.found += 1;
            self.lap();
        }
        self.check(in_order);
        self.check(!self.setup.is_filled || self.found >= self.setup.keys);
        Ok(())
    }

    /// Seeks to random keys and reads some entries behind each.
    fn seek(&mut self) -> Outcome {
        let setup = self.setup;
        let mut cursor = setup.db.snapshot().cursor(setup.keyspace)?;
        self.each_key(|worker, index| {
            let number = worker.random(index);
            write_key(number, &mut worker.key);
            cursor.seek(worker.key)?;
            let is_there = cursor.entry().is_some_and(|(key, _)| key == worker.key);
            worker.check(is_there || !setup.is_filled);
            for _ in 0..ENTRIES_PER_SEEK {
                if cursor.entry().is_none() {
                    break;
                }
                worker.found += 1;
                cursor.advance()?;
            }
            Ok(())
        })
    }
}

fn new_histogram() -> Outcome<Histogram<u64>> {
    Histogram::new_with_bounds(1, LATENCY_MAX_NS, 3).map_err(|_| out_of_memory())
}

fn out_of_memory() -> Failure {
    Failure::new(Exit::Bug, "Bug", "a histogram could not be made")
}
