//! Drives one operation many times from one or many threads and times it.
//!
//! Each thread makes its own operation, all start together, and each reads the clock once per timed
//! operation: writes are all timed, so that a stall shows in the tail; of reads one in sixteen is,
//! so that the clock does not weigh on them.

use crate::meter::thread_cpu_ns;
use crate::{Failure, Result};
use hdrhistogram::Histogram;
use std::sync::Barrier;
use std::thread;
use std::time::{Duration, Instant};

/// Which operations are timed one by one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Timing {
    /// Every one.
    Each,
    /// One in sixteen.
    Sampled,
}

/// How often, from how many threads, and how long at most.
#[derive(Clone, Copy, Debug)]
pub struct Load {
    /// Threads.
    pub threads: u64,
    /// Operations of all threads together.
    pub ops: u64,
    /// Which are timed.
    pub timing: Timing,
    /// Stop after this time even if operations are left.
    pub limit: Duration,
}

/// What came of it.
#[derive(Clone, Debug)]
pub struct Driven {
    /// Operations done.
    pub ops: u64,
    /// From the common start to the end of the last thread.
    pub wall: Duration,
    /// Processor time of the threads together.
    pub thread_cpu_ns: u64,
    /// Nanoseconds of the timed operations.
    pub latency: Histogram<u64>,
    /// Time in which the first thread did the first tenth of its share, once it has.
    pub first_tenth: Option<Duration>,
}

/// An empty histogram of nanoseconds, up to an hour, to three digits.
pub fn histogram() -> Result<Histogram<u64>> {
    const HOUR_NS: u64 = 3_600_000_000_000;
    Ok(Histogram::new_with_bounds(1, HOUR_NS, 3)?)
}

/// Runs `load`: `make(thread)` gives the operation of one thread, which is then called with the
/// numbers of the operations in that thread's share.
pub fn drive<M, O>(load: &Load, make: M) -> Result<Driven>
where
    M: Fn(u64) -> Result<O> + Sync,
    O: FnMut(u64) -> Result<()>,
{
    let barrier = Barrier::new(load.threads as usize);
    let parts: Vec<Result<Driven>> = thread::scope(|scope| {
        let share = |thread: u64| load.ops * thread / load.threads;
        let spawned: Vec<_> = (0..load.threads)
            .map(|thread| {
                let (make, barrier) = (&make, &barrier);
                let ops = share(thread)..share(thread + 1);
                scope.spawn(move || {
                    let made = make(thread);
                    barrier.wait();
                    drive_share(load, ops, made?)
                })
            })
            .collect();
        spawned.into_iter().map(|thread| thread.join().map_err(|_| died())?).collect()
    });
    merge(parts)
}

fn died() -> Failure {
    "a thread of the workload panicked".into()
}

/// Stays a function of its own, so that an instruction counter can be switched on by its name.
#[inline(never)]
fn drive_share<O>(load: &Load, share: std::ops::Range<u64>, mut op: O) -> Result<Driven>
where
    O: FnMut(u64) -> Result<()>,
{
    let mut latency = histogram()?;
    let every = if load.timing == Timing::Each { 1 } else { 16 };
    let tenth = share.start + (share.end - share.start) / 10;
    let mut first_tenth = None;
    let cpu = thread_cpu_ns();
    let start = Instant::now();
    let mut last = start;
    let mut ops = 0;
    for number in share {
        if ops % every == 0 {
            let before = if every == 1 { last } else { Instant::now() };
            op(number)?;
            last = Instant::now();
            latency.saturating_record(duration_ns(last - before));
            if last - start > load.limit {
                ops += 1;
                break;
            }
        } else {
            op(number)?;
        }
        ops += 1;
        if number == tenth {
            first_tenth = Some(start.elapsed());
        }
    }
    let thread_cpu_ns = thread_cpu_ns() - cpu;
    Ok(Driven { ops, wall: start.elapsed(), thread_cpu_ns, latency, first_tenth })
}

fn merge(parts: Vec<Result<Driven>>) -> Result<Driven> {
    let mut parts = parts.into_iter();
    let mut all = parts.next().ok_or("a load needs a thread")??;
    for part in parts {
        let part = part?;
        all.ops += part.ops;
        all.wall = all.wall.max(part.wall);
        all.thread_cpu_ns += part.thread_cpu_ns;
        all.latency.add(part.latency)?;
    }
    Ok(all)
}

/// A duration in whole nanoseconds.
pub fn duration_ns(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Mutex;

    fn load(threads: u64, ops: u64) -> Load {
        Load { threads, ops, timing: Timing::Each, limit: Duration::from_secs(60) }
    }

    #[test]
    fn every_operation_is_done_once() {
        let seen = Mutex::new(Vec::new());
        let driven = drive(&load(3, 100), |_| {
            Ok(|number| {
                seen.lock().unwrap().push(number);
                Ok(())
            })
        })
        .unwrap();
        let mut seen = seen.into_inner().unwrap();
        seen.sort_unstable();
        assert_eq!(seen, (0..100).collect::<Vec<u64>>());
        assert_eq!((driven.ops, driven.latency.len()), (100, 100));
    }

    #[test]
    fn one_thread_that_cannot_start_does_not_block_the_others() {
        let driven = drive(&load(4, 8), |thread| {
            if thread == 2 {
                return Err("no".into());
            }
            Ok(|_| Ok(()))
        });
        assert!(driven.is_err());
    }
}
