//! The thread that makes backups by itself.

use super::{BackupOptions, BackupSchedule, backup};
use crate::parts::Parts;
use crate::workers::Worker;
use base::{Error, Result};
use recovery::backup::{BackupKind, Store};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

/// Between two looks at the clock.
const LOOK_AROUND: Duration = Duration::from_secs(1);
/// Before a failed backup is tried again, unless backups are more frequent.
const RETRY_AFTER: Duration = Duration::from_secs(60);
/// Finished segments are not taken more often.
const SEGMENTS_EVERY: Duration = Duration::from_secs(10);

/// Makes backups as the options say, until told to stop.
pub(crate) fn run(parts: &Parts, should_stop: &AtomicBool) {
    let Some(schedule) = parts.options.backup.clone() else { return };
    let mut due = first_due(parts, &schedule);
    let mut segments_due = Duration::ZERO;
    while !should_stop.load(Ordering::Acquire) {
        parts.backup_bell.wait(LOOK_AROUND);
        let now = parts.clock.monotonic();
        let wants_segments = parts.archive.has_waiting() && now >= segments_due;
        let kind = match (now >= due, wants_segments) {
            (true, _) => schedule.kind,
            (false, true) => BackupKind::Log,
            (false, false) => continue,
        };
        if should_stop.load(Ordering::Acquire) {
            return;
        }
        let made = step(parts, &schedule, kind);
        let now = parts.clock.monotonic();
        segments_due = now + SEGMENTS_EVERY.min(schedule.every);
        match made {
            Ok(()) => {
                parts.trouble.lock().remove(&Worker::Backup);
                due = if kind == BackupKind::Log { due } else { now + schedule.every };
            }
            Err(Error::Cancelled | Error::Closed | Error::Poisoned) => {}
            Err(error) => {
                tracing::warn!(target: "esker::engine", code = error.code(), %error, "a backup failed; it will be tried again");
                let why = format!("the last backup failed: {error}");
                parts.trouble.lock().insert(Worker::Backup, why);
                due = due.max(now + RETRY_AFTER.min(schedule.every));
                segments_due = due;
            }
        }
    }
}

fn step(parts: &Parts, schedule: &BackupSchedule, kind: BackupKind) -> Result<()> {
    let bytes_per_second = schedule.bytes_per_second;
    let options = BackupOptions { kind, bytes_per_second, ..BackupOptions::default() };
    let info = backup(parts, &schedule.to, &options)?;
    tracing::info!(target: "esker::engine", number = info.number, "made a backup");
    if kind != BackupKind::Log {
        Store::new(parts.fs.at(&schedule.to)).prune(schedule.keep)?;
    }
    Ok(())
}

/// When the next backup is due, by the monotonic clock: a schedule does not start anew with every
/// process.
fn first_due(parts: &Parts, schedule: &BackupSchedule) -> Duration {
    let now = parts.clock.monotonic();
    let Ok(shelf) = Store::new(parts.fs.at(&schedule.to)).shelf() else { return now };
    let life = parts.identity().incarnation;
    let bases = shelf.records.iter().filter(|record| record.has_tables());
    let of_life = bases.filter(|record| record.identity.incarnation == life);
    let Some(last_ms) = of_life.map(|record| record.made_ms).max() else { return now };
    let age = Duration::from_millis(parts.clock.wall_ms().saturating_sub(last_ms));
    now + schedule.every.saturating_sub(age)
}
