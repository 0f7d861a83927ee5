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
