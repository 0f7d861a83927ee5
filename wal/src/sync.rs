//! Who syncs the log, and who waits for it: group commit without a timer.
//!
//! Whoever needs a sync while none is running becomes the leader and syncs for all who have
//! appended by then. Who comes meanwhile parks. A finished leader first hands the lead to one of
//! those its sync did not reach, so that the disk is never idle, then wakes those it did.
//!
//! Invariants:
//! - At most one thread leads. The lead is handed over under the gate's lock.
//! - The gate's lock is never held while a callback runs, the disk works, or a thread is woken.
//! - After a failure nobody waits any more.

use crate::retired::SyncTarget;
use base::lock::{self, Mutex, Rank};
use base::{Error, Position, Result};
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};
use std::thread::{self, Thread};

/// The gate before the disk.
#[derive(Debug)]
pub struct SyncGate {
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    durable: Position,
    lead: Lead,
    /// In order of arrival.
    waiters: Vec<Waiter>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Lead {
    /// Nobody syncs.
    Free,
    /// Somebody syncs, or was told to.
    Taken,
    /// A sync has failed.
    Failed,
}

#[derive(Debug)]
struct Waiter {
    position: Position,
    call: Arc<Call>,
}

/// How a parked thread is told what came of its wait.
#[derive(Debug)]
struct Call {
    thread: Thread,
    answer: AtomicU8,
}

const WAITING: u8 = 0;
const DURABLE: u8 = 1;
const LEAD: u8 = 2;
const FAILED: u8 = 3;

impl Call {
    fn new() -> Arc<Call> {
        Arc::new(Call { thread: thread::current(), answer: AtomicU8::new(WAITING) })
    }

    fn answer(&self, answer: u8) {
        self.answer.store(answer, Ordering::Release);
        self.thread.unpark();
    }

    fn wait(&self) -> u8 {
        loop {
            match self.answer.load(Ordering::Acquire) {
                WAITING => thread::park(),
                answer => return answer,
            }
        }
    }
}

impl SyncGate {
    /// A gate of a log that is durable up to `durable`.
    pub fn new(durable: Position) -> SyncGate {
        let state = State { durable, lead: Lead::Free, waiters: Vec::new() };
        SyncGate { state: Mutex::new(Rank::SyncGate, state) }
    }

    /// What was made durable through this gate.
    pub fn durable(&self) -> Position {
        self.state.lock().durable
    }

    /// Returns once everything below `position` is durable. Hold no lock.
    ///
    /// If this thread has to sync, it calls `prepare` ([`crate::Appender::prepare_sync`] under the
    /// queue's lock), syncs, and calls `done` ([`crate::Appender::synced`], and what depends on it)
    /// before any waiter is woken. `position` must have been appended before the call.
    ///
    /// The thread whose sync fails gets the cause; all others get [`Error::Poisoned`].
    pub fn wait_durable(
        &self,
        position: Position,
        prepare: impl FnMut() -> Result<SyncTarget>,
        done: impl FnMut(&SyncTarget),
    ) -> Result<()> {
        lock::assert_may_block();
        match self.enter(position) {
            Entry::Durable => Ok(()),
            Entry::Failed => Err(Error::Poisoned),
            Entry::Lead => self.lead(position, prepare, done),
            Entry::Wait(call) => match call.wait() {
                DURABLE => Ok(()),
                LEAD => self.lead(position, prepare, done),
                _ => Err(Error::Poisoned),
            },
        }
    }

    fn enter(&self, position: Position) -> Entry {
        let mut state = self.state.lock();
        if state.durable >= position {
            return Entry::Durable;
        }
        match state.lead {
            Lead::Failed => Entry::Failed,
            Lead::Free => {
                state.lead = Lead::Taken;
                Entry::Lead
            }
            Lead::Taken => {
                let call = Call::new();
                state.waiters.push(Waiter { position, call: Arc::clone(&call) });
                Entry::Wait(call)
            }
        }
    }

    fn lead(
        &self,
        position: Position,
        mut prepare: impl FnMut() -> Result<SyncTarget>,
        mut done: impl FnMut(&SyncTarget),
    ) -> Result<()> {
        let failing = FailOnDrop(self);
        let target = prepare()?;
        target.sync()?;
        done(&target);
        std::mem::forget(failing);
        self.hand_over(target.position());
        if target.position() < position {
            return Err(Error::invalid(format!("the log ends before {position}")));
        }
        Ok(())
    }

    /// Ends this thread's lead: `durable` was secured.
    fn hand_over(&self, durable: Position) {
        let mut state = self.state.lock();
        state.durable = state.durable.max(durable);
        let durable = state.durable;
        let (reached, mut waiting): (Vec<Waiter>, Vec<Waiter>) =
            state.waiters.drain(..).partition(|waiter| waiter.position <= durable);
        let next = (!waiting.is_empty()).then(|| waiting.remove(0));
        state.waiters = waiting;
        state.lead = if next.is_some() { Lead::Taken } else { Lead::Free };
        drop(state);
        if let Some(next) = next {
            next.call.answer(LEAD);
        }
        reached.iter().for_each(|waiter| waiter.call.answer(DURABLE));
    }

    fn fail(&self) {
        let mut state = self.state.lock();
        state.lead = Lead::Failed;
        let waiters = std::mem::take(&mut state.waiters);
        drop(state);
        waiters.iter().for_each(|waiter| waiter.call.answer(FAILED));
    }
}

/// What a thread finds at the gate.
enum Entry {
    Durable,
    Failed,
    Lead,
    Wait(Arc<Call>),
}

/// Tells the waiters if the leader fails, by an error or by a panic of its callbacks.
struct FailOnDrop<'a>(&'a SyncGate);

impl Drop for FailOnDrop<'_> {
    fn drop(&mut self) {
        self.0.fail();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::retired::SyncState;
    use base::fs::{OsFs, SyncHandle};
    use std::io;
    use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

    /// A log that counts: how far it was appended, how far it was synced, whether two ever sync.
    #[derive(Debug)]
    struct Disk {
        appended: AtomicU64,
        syncing: AtomicBool,
        syncs: AtomicU64,
        fails_at: u64,
    }

    impl SyncHandle for Disk {
        fn sync_data(&self) -> io::Result<()> {
            assert!(!self.syncing.swap(true, Ordering::SeqCst), "two threads sync at once");
            thread::yield_now();
            let syncs = self.syncs.fetch_add(1, Ordering::SeqCst) + 1;
            self.syncing.store(false, Ordering::SeqCst);
            if syncs >= self.fails_at { Err(io::Error::other("broken")) } else { Ok(()) }
        }
    }

    struct Bench {
        gate: SyncGate,
        disk: Arc<Disk>,
        state: SyncState,
        synced: AtomicU64,
    }

    impl Bench {
        fn new(fails_at: u64) -> Bench {
            let disk = Disk {
                appended: AtomicU64::new(0),
                syncing: AtomicBool::new(false),
                syncs: AtomicU64::new(0),
                fails_at,
            };
            let gate = SyncGate::new(Position::ZERO);
            let (disk, state) = (Arc::new(disk), SyncState::new());
            Bench { gate, disk, state, synced: AtomicU64::new(0) }
        }

        fn prepare(&self) -> Result<SyncTarget> {
            self.state.check()?;
            let offset = self.disk.appended.load(Ordering::SeqCst);
            Ok(SyncTarget {
                position: Position { segment: 1, offset },
                retired: Vec::new(),
                growing: Some(Arc::clone(&self.disk) as Arc<dyn SyncHandle>),
                fs: Arc::new(OsFs::new("nowhere")),
                state: self.state.clone(),
            })
        }

        /// Appends something and waits until it is durable.
        fn commit(&self) -> Result<()> {
            let offset = self.disk.appended.fetch_add(1, Ordering::SeqCst) + 1;
            let position = Position { segment: 1, offset };
            self.gate.wait_durable(
                position,
                || self.prepare(),
                |target| {
                    self.synced.fetch_max(target.position().offset, Ordering::SeqCst);
                },
            )?;
            assert!(self.synced.load(Ordering::SeqCst) >= offset, "woken before it was durable");
            Ok(())
        }
    }

    #[test]
    fn every_writer_is_woken_once_its_commit_is_durable_and_one_thread_syncs_at_a_time() {
        const WRITERS: u64 = 32;
        const COMMITS: u64 = 300;
        let bench = Bench::new(u64::MAX);
        thread::scope(|scope| {
            for _ in 0..WRITERS {
                scope.spawn(|| (0..COMMITS).for_each(|_| bench.commit().unwrap()));
            }
        });
        assert_eq!(bench.synced.load(Ordering::SeqCst), WRITERS * COMMITS);
        assert!(bench.disk.syncs.load(Ordering::SeqCst) <= WRITERS * COMMITS);
        let state = bench.gate.state.lock();
        assert!(state.waiters.is_empty() && state.lead == Lead::Free);
    }

    #[test]
    fn a_failed_sync_reaches_every_writer_and_all_later_ones() {
        let bench = Bench::new(20);
        let causes = AtomicU64::new(0);
        thread::scope(|scope| {
            for _ in 0..16 {
                scope.spawn(|| {
                    loop {
                        match bench.commit() {
                            Ok(()) => {}
                            Err(Error::Poisoned) => break,
                            Err(Error::Io { .. }) => {
                                causes.fetch_add(1, Ordering::SeqCst);
                                break;
                            }
                            Err(error) => panic!("{error}"),
                        }
                    }
                });
            }
        });
        assert_eq!(causes.load(Ordering::SeqCst), 1, "one thread gets the cause");
        assert!(matches!(bench.commit(), Err(Error::Poisoned)));
        assert_eq!(bench.disk.syncs.load(Ordering::SeqCst), 20, "no sync after a failed one");
    }

    #[test]
    fn a_leader_that_panics_leaves_nobody_waiting() {
        let bench = Bench::new(u64::MAX);
        let position = Position { segment: 1, offset: 1 };
        thread::scope(|scope| {
            let leader = scope
                .spawn(|| bench.gate.wait_durable(position, || panic!("in the callback"), |_| {}));
            assert!(leader.join().is_err());
        });
        assert!(matches!(bench.commit(), Err(Error::Poisoned)));
    }

    #[test]
    fn what_is_durable_already_needs_no_sync() {
        let bench = Bench::new(u64::MAX);
        bench.commit().unwrap();
        bench.gate.wait_durable(bench.gate.durable(), || panic!("a sync"), |_| {}).unwrap();
        assert_eq!(bench.disk.syncs.load(Ordering::SeqCst), 1);
    }
}
