//! Running a campaign on all cores, counting what it did, and noticing when it stops.

use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::mpsc::{self, RecvTimeoutError};
use std::time::Duration;

/// A single item takes milliseconds. One that takes as long as this never ends.
const HANG_AFTER: Duration = Duration::from_secs(120);

/// How many cores work.
fn threads() -> usize {
    std::thread::available_parallelism().map_or(2, usize::from)
}

/// Calls `work` with each number below `count`, on all cores. Panics if one of them does, or hangs.
pub(crate) fn for_each(what: &str, count: usize, work: impl Fn(usize) + Sync) {
    let next = AtomicUsize::new(0);
    let (progress, progresses) = mpsc::channel();
    std::thread::scope(|scope| {
        for _ in 0..threads() {
            let (progress, next, work) = (progress.clone(), &next, &work);
            scope.spawn(move || {
                loop {
                    let number = next.fetch_add(1, Ordering::Relaxed);
                    if number >= count {
                        return;
                    }
                    work(number);
                    let _ = progress.send(number);
                }
            });
        }
        drop(progress);
        loop {
            match progresses.recv_timeout(HANG_AFTER) {
                Ok(_) => {}
                Err(RecvTimeoutError::Disconnected) => return,
                Err(RecvTimeoutError::Timeout) => {
                    // A thread that hangs can not be joined, so the process has to go.
                    eprintln!(
                        "{what}: an item near {} of {count} hangs",
                        next.load(Ordering::Relaxed)
                    );
                    std::process::abort();
                }
            }
        }
    });
}

/// A number that all threads count up.
#[derive(Debug, Default)]
pub(crate) struct Count(AtomicU64);

impl Count {
    pub(crate) fn add(&self, count: u64) {
        self.0.fetch_add(count, Ordering::Relaxed);
    }

    pub(crate) fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// A reproducible number below `limit` for `seed`.
pub(crate) fn pick(seed: u64, limit: usize) -> usize {
    let mut mixed = seed.wrapping_add(0x9e37_79b9_7f4a_7c15);
    mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    ((mixed ^ (mixed >> 31)) % limit.max(1) as u64) as usize
}
