//! A real disk, real threads: writers that wait for group commits, and a tail that follows them.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

mod log;

use base::Position;
use base::fs::{Fs, OsFs};
use base::lock::{Mutex, Rank};
use log::*;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use wal::{Appender, SyncGate, TailReader};

const WRITERS: u64 = 8;
const COMMITS: u64 = 60;

/// A log between its lock and its gate, as an engine has it.
struct Shared {
    log: Mutex<(Appender, u64)>,
    gate: SyncGate,
}

impl Shared {
    /// Appends the next commit and waits until it is durable.
    fn commit(&self) {
        let end = {
            let mut queue = self.log.lock();
            queue.1 += 1;
            let (log, seqno) = &mut *queue;
            append(log, *seqno, 10 + (*seqno as usize * 37) % 900)
        };
        self.build_spare();
        let prepare = || self.log.lock().0.prepare_sync();
        self.gate.wait_durable(end, prepare, |target| self.log.lock().0.synced(target)).unwrap();
        assert!(self.gate.durable() >= end);
    }

    fn build_spare(&self) {
        let builder = {
            let mut queue = self.log.lock();
            queue.0.wants_spare().then(|| queue.0.spare())
        };
        if let Some(builder) = builder {
            let spare = builder.build().unwrap();
            self.log.lock().0.give_spare(spare);
        }
    }
}

#[test]
fn writers_commit_together_and_a_tail_sees_what_is_durable_in_order() {
    let folder = tempfile::tempdir().unwrap();
    let fs: Arc<dyn Fs> = Arc::new(OsFs::new(folder.path()));
    make_folders(fs.as_ref());
    let log = create_sized(&fs, 1, None, 64 << 10).unwrap();
    let gate = SyncGate::new(log.durable());
    let shared = Shared { log: Mutex::new(Rank::WriteQueue, (log, 0)), gate };

    let is_over = AtomicBool::new(false);
    let followed = thread::scope(|scope| {
        let tail = scope.spawn(|| follow(&fs, &shared.gate, &is_over));
        let commits = || (0..COMMITS).for_each(|_| shared.commit());
        let writers: Vec<_> = (0..WRITERS).map(|_| scope.spawn(commits)).collect();
        let written: Vec<_> = writers.into_iter().map(|writer| writer.join()).collect();
        is_over.store(true, Ordering::Release); // also if a writer has panicked
        written.into_iter().for_each(|writer| writer.unwrap());
        tail.join().unwrap()
    });
    assert_eq!(followed, (1..=WRITERS * COMMITS).collect::<Vec<_>>());

    // Killed here: nothing was finished, the preallocated space is still there.
    let durable = shared.gate.durable();
    assert!(durable.segment > 1);
    let scan = scan_promised(fs.as_ref(), durable).unwrap();
    assert_eq!((scan.commits(), scan.torn), (WRITERS * COMMITS, None));
}

fn follow(fs: &Arc<dyn Fs>, gate: &SyncGate, is_over: &AtomicBool) -> Vec<u64> {
    let mut tail = TailReader::new(Arc::clone(fs), DATABASE, Position { segment: 1, offset: 0 });
    let mut seqnos = Vec::new();
    loop {
        let was_over = is_over.load(Ordering::Acquire);
        let durable = gate.durable();
        while let Some(commit) = tail.next(durable).unwrap() {
            assert!(commit.end <= durable);
            let seqno = commit.seqno.raw();
            assert_eq!(commit.payload, payload(seqno, 10 + (seqno as usize * 37) % 900));
            seqnos.push(seqno);
        }
        if was_over {
            return seqnos;
        }
        thread::yield_now();
    }
}

#[test]
fn a_large_log_on_a_real_disk_is_replayed_after_a_kill() {
    let folder = tempfile::tempdir().unwrap();
    let fs: Arc<dyn Fs> = Arc::new(OsFs::new(folder.path()));
    make_folders(fs.as_ref());
    let mut log = create_sized(&fs, 1, None, 6 << 20).unwrap();
    for seqno in 1..=40_000 {
        append(&mut log, seqno, 250);
    }
    assert!(log.end().segment > 1);
    std::mem::forget(log); // No destructor runs when a process is killed.
    let scan = scan(fs.as_ref()).unwrap();
    assert_eq!((scan.commits(), &scan.torn), (40_000, &None));
    let mut next = 1;
    scan.replay(fs.as_ref(), |seqno, _, found| {
        assert_eq!((seqno, found), (tick(next), payload(next, 250).as_slice()));
        next += 1;
        Ok(())
    })
    .unwrap();
}
