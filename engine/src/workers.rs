//! The background threads: one flushes, one compacts, one tends the log.
//!
//! A thread that fails notes the trouble and tries again later; a thread that panics poisons the
//! database, because what it left half-done is unknown. Those that only read it or copy it begin anew.

mod log;

use crate::backup::schedule;
use crate::bell::Bell;
use crate::compaction::picker::Load;
use crate::jobs;
use crate::parts::Parts;
use crate::quarantine;
use crate::replicate;
use crate::scrub::{self, Speed};
use base::{Error, Result, panics};
use log::log_loop;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

/// Without a write for this long, compaction tidies up.
const IDLE_AFTER: Duration = Duration::from_millis(500);
/// Before a failed step is tried again.
const RETRY_AFTER: Duration = Duration::from_millis(200);
/// A merge that found no space has written for nothing; it is tried again after so many naps of
/// [`NAP`], or once there is more space.
const NAPS_WITHOUT_SPACE: u32 = 60;
/// A sleep of one who must notice soon that it is to stop.
const NAP: Duration = Duration::from_millis(50);
/// Between a scrub that could not read a file and the next, unless scrubs are more frequent.
const SCRUB_AGAIN_AFTER: Duration = Duration::from_secs(60 * 60);
/// Before a thread that panicked begins anew.
const RESTART_AFTER: Duration = Duration::from_secs(1);
/// A sleeping thread looks around this often even if nobody rings.
const LOOK_AROUND: Duration = Duration::from_secs(5);

/// A background thread.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Worker {
    /// Flushes.
    Flush,
    /// Compacts.
    Compaction,
    /// Tends the log.
    Log,
    /// Makes backups.
    Backup,
    /// Verifies.
    Scrub,
    /// Resolves conflicts.
    Resolve,
}

/// The threads of one database. They stop when told, and are waited for.
#[derive(Debug, Default)]
pub(crate) struct Workers {
    should_stop: Arc<AtomicBool>,
    bells: Vec<Arc<Bell>>,
    threads: Vec<JoinHandle<()>>,
}

impl Workers {
    /// Starts the threads.
    pub(crate) fn start(parts: &Arc<Parts>) -> Result<Workers> {
        let mut workers = Workers::default();
        workers.spawn(Worker::Flush, parts, &parts.flush_bell, flush_loop)?;
        workers.spawn(Worker::Compaction, parts, &parts.compaction_bell, compaction_loop)?;
        workers.spawn(Worker::Log, parts, &parts.log_bell, log_loop)?;
        if parts.options.backup.is_some() {
            workers.start_backups(parts)?;
        }
        if parts.options.scrub.is_some() {
            workers.spawn(Worker::Scrub, parts, &parts.scrub_bell, scrub_loop)?;
        }
        Ok(workers)
    }

    /// Starts the thread that resolves conflicts, unless it runs.
    pub(crate) fn start_resolving(&mut self, parts: &Arc<Parts>) -> Result<()> {
        let bell = &parts.resolvers.bell;
        if self.has(bell) {
            return Ok(());
        }
        let parts_of_thread = parts.clone();
        self.spawn(Worker::Resolve, parts, bell, move |_, should_stop| {
            resolve_loop(&parts_of_thread, should_stop);
        })
    }

    /// Starts the thread that makes backups, unless it runs.
    pub(crate) fn start_backups(&mut self, parts: &Arc<Parts>) -> Result<()> {
        let bell = &parts.backup_bell;
        if self.has(bell) {
            return Ok(());
        }
        let parts_of_thread = parts.clone();
        self.spawn(Worker::Backup, parts, bell, move |_, should_stop| {
            schedule::run(&parts_of_thread, should_stop);
        })
    }

    /// Whether there is a thread that listens to `bell`.
    fn has(&self, bell: &Arc<Bell>) -> bool {
        self.bells.iter().any(|known| Arc::ptr_eq(known, bell))
    }

    fn spawn(
        &mut self,
        worker: Worker,
        parts: &Arc<Parts>,
        bell: &Arc<Bell>,
        work: impl Fn(&Parts, &AtomicBool) + Send + 'static,
    ) -> Result<()> {
        let (parts, should_stop) = (parts.clone(), self.should_stop.clone());
        // Within the span of whoever has opened the database.
        let span =
            tracing::error_span!(target: "esker::engine", "worker", operation = worker.step());
        let thread = std::thread::Builder::new().name(worker.name().to_owned()).spawn(move || {
            let _inside = span.enter();
            while let Err(caught) = panics::catch(|| work(&parts, &should_stop)) {
                let panicked = format!("the thread {} {caught}", worker.name());
                tracing::error!(target: "esker::engine", code = "Bug", "{panicked}");
                parts.trouble.lock().insert(worker, panicked);
                if worker.changes_the_database() {
                    parts.commits.poison();
                    return;
                }
                if !wait_to_restart(&parts, &should_stop) {
                    return;
                }
                parts.meters.restarts.count();
                parts.trouble.lock().remove(&worker);
                tracing::warn!(target: "esker::engine", worker = worker.name(), "the thread begins anew");
            }
        });
        let thread = thread.map_err(|e| Error::io("start a thread for", parts_path(), e))?;
        self.threads.push(thread);
        self.bells.push(bell.clone());
        Ok(())
    }

    /// Stops the threads after the step they are at.
    pub(crate) fn stop(&mut self) {
        self.should_stop.store(true, Ordering::Release);
        self.bells.iter().for_each(|bell| bell.ring());
        for thread in self.threads.drain(..) {
            // A panic was noted by the thread itself.
            let _ = thread.join();
        }
    }
}

/// Waits a while, and until threads may begin anew. Returns false if they are to stop.
fn wait_to_restart(parts: &Parts, should_stop: &AtomicBool) -> bool {
    let mut waited = Duration::ZERO;
    while waited < RESTART_AFTER || !parts.meters.restarts.is_granted() {
        if should_stop.load(Ordering::Acquire) {
            return false;
        }
        std::thread::sleep(NAP);
        waited += NAP;
    }
    true
}

impl Worker {
    /// Whether it leaves anything half-done in the database when it panics.
    fn changes_the_database(self) -> bool {
        match self {
            Worker::Flush | Worker::Compaction | Worker::Log | Worker::Resolve => true,
            Worker::Backup | Worker::Scrub => false,
        }
    }

    fn name(self) -> &'static str {
        match self {
            Worker::Flush => "esker-flush",
            Worker::Compaction => "esker-compact",
            Worker::Log => "esker-log",
            Worker::Backup => "esker-backup",
            Worker::Scrub => "esker-scrub",
            Worker::Resolve => "esker-resolve",
        }
    }

    /// What it does, for lines of the log.
    fn step(self) -> &'static str {
        self.name().trim_start_matches("esker-")
    }
}

fn parts_path() -> &'static str {
    "the database"
}

/// Calls `step` until it finds nothing to do. Notes trouble of `worker`, and waits before it tries
/// again.
fn drain(
    worker: Worker,
    parts: &Parts,
    should_stop: &AtomicBool,
    mut step: impl FnMut() -> Result<bool>,
) {
    while !should_stop.load(Ordering::Acquire) {
        let result = step();
        match &result {
            Ok(_) => {
                parts.trouble.lock().remove(&worker);
            }
            Err(Error::Cancelled | Error::Closed | Error::Poisoned) => {}
            Err(error) => {
                tracing::warn!(target: "esker::engine", code = error.code(), %error, "a background step failed; it will be tried again");
                parts.trouble.lock().insert(worker, error.to_string());
                match (worker, error) {
                    (Worker::Compaction, Error::DiskFull { .. }) => {
                        wait_for_space(parts, should_stop);
                    }
                    _ => std::thread::sleep(RETRY_AFTER),
                }
                continue;
            }
        }
        if !matches!(result, Ok(true)) {
            return;
        }
    }
}

/// Waits some seconds, or until there is clearly more space than now.
fn wait_for_space(parts: &Parts, should_stop: &AtomicBool) {
    let before = parts.space.free_bytes();
    jobs::give_back_if_full(parts);
    flush_deletes_if_full(parts);
    for _ in 0..NAPS_WITHOUT_SPACE {
        std::thread::sleep(NAP);
        if should_stop.load(Ordering::Acquire) || parts.space.has_grown_since(before) {
            return;
        }
    }
}

/// On a full disk a merge frees nothing of what deletes hide that are only in memory.
fn flush_deletes_if_full(parts: &Parts) {
    if parts.space.is_full() && parts.demand().unflushed_bytes > 0 {
        parts.space.ask_for_room();
    }
}

fn flush_loop(parts: &Parts, should_stop: &AtomicBool) {
    while !should_stop.load(Ordering::Acquire) {
        parts.flush_bell.wait(LOOK_AROUND);
        drain(Worker::Flush, parts, should_stop, || {
            jobs::make_room(parts)?;
            jobs::flush(parts)
        });
    }
}

fn compaction_loop(parts: &Parts, should_stop: &AtomicBool) {
    let is_cancelled = || should_stop.load(Ordering::Acquire);
    let mut last_seen = parts.commits.visible();
    while !is_cancelled() {
        let was_rung = parts.compaction_bell.wait(IDLE_AFTER);
        drain(Worker::Compaction, parts, should_stop, || quarantine::replace_damaged(parts));
        if parts.damage.is_known() {
            continue; // A merge would only meet the damage again.
        }
        drain(Worker::Compaction, parts, should_stop, || {
            jobs::compact_once(parts, Load::Busy, &is_cancelled)
        });
        let seen = parts.commits.visible();
        if !was_rung && seen == last_seen {
            flush_deletes_if_full(parts);
            // A write that arrives does not stop a tidying step, only the next one.
            let is_idle = || parts.commits.visible() == seen;
            drain(Worker::Compaction, parts, should_stop, || match is_idle() {
                true => jobs::compact_once(parts, Load::Idle, &is_cancelled),
                false => Ok(false),
            });
            if let Err(error) = jobs::tidy(parts) {
                tracing::debug!(target: "esker::engine", code = error.code(), %error, "tidying up will be tried again");
            }
            parts.compaction_bell.wait(LOOK_AROUND);
        }
        last_seen = seen;
    }
}

fn scrub_loop(parts: &Parts, should_stop: &AtomicBool) {
    let is_cancelled = || should_stop.load(Ordering::Acquire);
    let Some(plan) = parts.options.scrub else { return };
    let mut due = parts.opened_at.saturating_add(plan.every);
    while !is_cancelled() {
        let now = parts.clock.monotonic();
        if parts.wants_scrub.swap(false, Ordering::AcqRel) || now >= due {
            due = now.saturating_add(plan.every);
            let speed = Speed::BytesPerSecond(plan.bytes_per_second);
            if let Err(error) = scrub::scrub(parts, speed, &is_cancelled) {
                tracing::debug!(target: "esker::engine", code = error.code(), %error, "a scrub did not come to its end");
            }
            if parts.trouble.lock().contains_key(&Worker::Scrub) {
                due = due.min(parts.clock.monotonic().saturating_add(SCRUB_AGAIN_AFTER));
            }
        }
        parts.scrub_bell.wait(LOOK_AROUND.min(plan.every));
    }
}

fn resolve_loop(parts: &Arc<Parts>, should_stop: &AtomicBool) {
    let is_stopped = || should_stop.load(Ordering::Acquire);
    while !is_stopped() {
        parts.resolvers.bell.wait(LOOK_AROUND);
        if !parts.resolvers.take_due() {
            continue;
        }
        match replicate::resolve_all(parts, &is_stopped) {
            Ok(_) => {
                parts.trouble.lock().remove(&Worker::Resolve);
            }
            Err(Error::Closed | Error::Poisoned) => {}
            Err(error) => {
                tracing::warn!(target: "esker::engine", code = error.code(), %error, "conflicts could not be resolved; it will be tried again");
                parts.trouble.lock().insert(Worker::Resolve, error.to_string());
                parts.resolvers.note_later();
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::open::{self, Platform};
    use crate::options::Options;
    use crate::remedies::Permission;
    use base::clock::ManualClock;
    use base::fs::SimFs;
    use base::rng::SeededRng;
    use recovery::Progress;
    use std::sync::atomic::AtomicU32;

    static RUNS: AtomicU32 = AtomicU32::new(0);

    fn fails_twice(_: &Parts, should_stop: &AtomicBool) {
        assert!(RUNS.fetch_add(1, Ordering::AcqRel) >= 2, "a bug");
        while !should_stop.load(Ordering::Acquire) {
            std::thread::sleep(NAP);
        }
    }

    fn fails(_: &Parts, _: &AtomicBool) {
        panic!("a bug");
    }

    fn parts() -> Arc<Parts> {
        let platform = Platform {
            fs: Arc::new(SimFs::new(1)),
            clock: Arc::new(ManualClock::at(1_700_000_000_000)),
            rng: Arc::new(SeededRng::new(1)),
        };
        let opened = open::open(platform, Options::default(), &Progress::default());
        Arc::new(opened.unwrap().0)
    }

    fn until(mut is_so: impl FnMut() -> bool) {
        for _ in 0..600 {
            if is_so() {
                return;
            }
            std::thread::sleep(NAP);
        }
        panic!("it never was so");
    }

    #[test]
    fn a_thread_that_only_reads_begins_anew_after_a_panic_if_it_may() {
        let (parts, mut workers) = (parts(), Workers::default());
        parts.meters.restarts.set(Permission::Withheld);
        workers.spawn(Worker::Scrub, &parts, &parts.scrub_bell, fails_twice).unwrap();
        let is_down = || parts.trouble.lock().contains_key(&Worker::Scrub);
        until(is_down);
        std::thread::sleep(RESTART_AFTER * 2);
        assert!(is_down() && RUNS.load(Ordering::Acquire) == 1, "it waits to be allowed to");
        parts.meters.restarts.set(Permission::Granted);
        until(|| RUNS.load(Ordering::Acquire) == 3 && !is_down());
        assert_eq!(parts.meters.restarts.used(), 2);
        assert!(!parts.commits.is_poisoned());
        workers.stop();
    }

    #[test]
    fn a_thread_that_writes_and_panics_poisons_the_database() {
        let (parts, mut workers) = (parts(), Workers::default());
        workers.spawn(Worker::Flush, &parts, &parts.flush_bell, fails).unwrap();
        until(|| parts.commits.is_poisoned());
        assert!(parts.trouble.lock().contains_key(&Worker::Flush));
        assert_eq!(parts.meters.restarts.used(), 0);
        workers.stop();
    }
}
