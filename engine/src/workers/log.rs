//! The thread of the log: syncs that were asked for or are due, a spare segment, the seal of a rest.

use super::{LOOK_AROUND, RETRY_AFTER, Worker};
use crate::jobs;
use crate::parts::Parts;
use crate::replicate;
use base::{Error, Result};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

/// Between two looks at an active log: how long a run may stay open.
const LOG_TICK: Duration = Duration::from_millis(5);
/// From one sync that was asked for to the next, while little is committed: whoever waits for it waits
/// for the disk only.
const SYNC_EVERY: Duration = Duration::from_millis(2);
/// The same while much is: what is committed meanwhile shares the next one.
const BUSY_SYNC_EVERY: Duration = Duration::from_millis(10);
/// Bytes of the log between two syncs that are much.
const BUSY_BYTES: u64 = 32 << 10;
/// Looks without a commit after which the log is sealed.
const QUIET_TICKS: u32 = 4;
/// Between two looks whether a full disk has space again.
const PROBE_EVERY: Duration = Duration::from_millis(100);

/// Tends the log until it is to stop.
pub(super) fn log_loop(parts: &Parts, should_stop: &AtomicBool) {
    let mut state = LogTending { since_sync: Duration::ZERO, ..LogTending::default() };
    while !should_stop.load(Ordering::Acquire) {
        let is_full = parts.space.is_full();
        parts.log_bell.wait(match state.is_asleep {
            true if is_full => PROBE_EVERY,
            true => LOOK_AROUND,
            false => LOG_TICK,
        });
        if is_full && (parts.space.probe(parts.demand()) || parts.space.wants_room()) {
            parts.flush_bell.ring();
        }
        match state.tick(parts) {
            Ok(()) => {
                parts.trouble.lock().remove(&Worker::Log);
            }
            Err(Error::Closed | Error::Poisoned) => {}
            Err(error) => {
                tracing::warn!(target: "esker::engine", code = error.code(), %error, "the log could not be tended");
                parts.trouble.lock().insert(Worker::Log, error.to_string());
                std::thread::sleep(RETRY_AFTER);
            }
        }
    }
}

/// What the log's thread remembers between two looks.
#[derive(Debug, Default)]
struct LogTending {
    open_run: Option<base::Position>,
    last_end: base::Position,
    quiet_ticks: u32,
    since_sync: Duration,
    /// When the last sync that was asked for began.
    synced_at: Duration,
    /// Bytes of the log that it covered.
    synced_bytes: u64,
    is_asleep: bool,
}

impl LogTending {
    fn tick(&mut self, parts: &Parts) -> Result<()> {
        self.is_asleep = false;
        // A disk too full for the next segment must not keep this one from being synced.
        let spare = self.build_spare(parts);
        replicate::raise_bound(parts)?;
        self.sync_if_asked(parts)?;
        let end = parts.commits.with_queue(|queue| {
            let log = queue.appender()?;
            // A run found open twice is older than a tick.
            if self.open_run.is_some() && log.open_run() == self.open_run {
                log.close_run()?;
            }
            self.open_run = log.open_run();
            Ok::<_, Error>(log.end())
        })?;
        self.quiet_ticks = if end == self.last_end { self.quiet_ticks + 1 } else { 0 };
        self.last_end = end;
        self.since_sync += LOG_TICK;
        let is_due = self.since_sync >= parts.options.sync.period();
        if self.quiet_ticks >= QUIET_TICKS {
            self.seal(parts)?;
        } else if is_due && parts.commits.has_unsynced() {
            parts.commits.sync()?;
            self.since_sync = Duration::ZERO;
        }
        spare
    }

    /// Syncs at once after a rest. While commits come all the time, not so often that syncs are all the
    /// disk does.
    fn sync_if_asked(&mut self, parts: &Parts) -> Result<()> {
        if !parts.commits.is_sync_asked() {
            return Ok(());
        }
        let bytes = parts.commits.bytes_logged();
        let is_busy = bytes.saturating_sub(self.synced_bytes) >= BUSY_BYTES;
        let every = if is_busy { BUSY_SYNC_EVERY } else { SYNC_EVERY };
        let since = parts.clock.monotonic().saturating_sub(self.synced_at);
        std::thread::sleep(every.saturating_sub(since));
        (self.synced_at, self.since_sync) = (parts.clock.monotonic(), Duration::ZERO);
        self.synced_bytes = bytes;
        parts.commits.take_sync_request();
        parts.commits.sync()
    }

    /// Nothing was committed for a while: promises the tail, and sleeps until the next commit.
    fn seal(&mut self, parts: &Parts) -> Result<()> {
        parts.commits.let_log_sleep();
        let end = parts.commits.with_queue(|queue| queue.appender().map(|log| log.end()))?;
        if end != self.last_end {
            return Ok(());
        }
        jobs::seal_log(parts)?;
        self.last_end = parts.commits.with_queue(|queue| queue.appender().map(|log| log.end()))?;
        (self.since_sync, self.quiet_ticks, self.is_asleep) = (Duration::ZERO, 0, true);
        Ok(())
    }

    fn build_spare(&self, parts: &Parts) -> Result<()> {
        let builder = parts.commits.with_queue(|queue| {
            let log = queue.appender()?;
            let is_due = log.wants_spare() && parts.affords(log.spare_bytes());
            Ok::<_, Error>(if is_due { Some(log.spare()) } else { None })
        })?;
        let Some(builder) = builder else { return Ok(()) };
        let spare = builder.build()?;
        parts.commits.with_queue(|queue| queue.appender().map(|log| log.give_spare(spare)))
    }
}
