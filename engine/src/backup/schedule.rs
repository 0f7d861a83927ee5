//! The thread that makes backups by itself.

use super::{Attempted, BackupGuard, BackupOptions, BackupSchedule, MakeBackup, backup};
use crate::parts::Parts;
use crate::workers::Worker;
use base::{Error, Result};
use recovery::Progress;
use recovery::backup::{BackupKind, Store};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

/// Between two looks at the clock.
const LOOK_AROUND: Duration = Duration::from_secs(1);
/// Before a failed backup is tried again, unless backups are more frequent.
const RETRY_AFTER: Duration = Duration::from_secs(60);
/// Finished segments are not taken more often.
const SEGMENTS_EVERY: Duration = Duration::from_secs(10);

/// Makes backups as the schedule of the moment says, until told to stop.
pub(crate) fn run(parts: &Arc<Parts>, should_stop: &AtomicBool) {
    let mut agenda: Option<Agenda> = None;
    while !should_stop.load(Ordering::Acquire) {
        let (schedule, guard) = {
            let plan = parts.backing.plan.lock();
            (plan.schedule.clone(), plan.guard.clone())
        };
        let known = agenda.take().filter(|agenda| Some(&agenda.schedule) == schedule.as_ref());
        agenda = known.or_else(|| Some(Agenda::new(parts, schedule?)));
        match &mut agenda {
            Some(agenda) => agenda.look(parts, guard.as_deref()),
            // Nobody waits for what failed before.
            None => drop(parts.trouble.lock().remove(&Worker::Backup)),
        }
        if should_stop.load(Ordering::Acquire) {
            return;
        }
        parts.backup_bell.wait(LOOK_AROUND);
    }
}

/// What is due when by one schedule. Times are of the monotonic clock.
struct Agenda {
    schedule: BackupSchedule,
    due: Duration,
    segments_due: Duration,
}

impl Agenda {
    fn new(parts: &Parts, schedule: BackupSchedule) -> Agenda {
        let due = first_due(parts, &schedule);
        Agenda { schedule, due, segments_due: Duration::ZERO }
    }

    /// Makes what is due.
    fn look(&mut self, parts: &Arc<Parts>, guard: Option<&dyn BackupGuard>) {
        let now = parts.clock.monotonic();
        let wants_segments = parts.archive.has_waiting() && now >= self.segments_due;
        let kind = match (now >= self.due, wants_segments) {
            (true, _) => self.schedule.kind,
            (false, true) => BackupKind::Log,
            (false, false) => return,
        };
        let attempted = self.attempt(parts, guard, kind);
        let (now, every) = (parts.clock.monotonic(), self.schedule.every);
        if !matches!(attempted, Ok(Attempted::PutOff)) {
            self.segments_due = now + SEGMENTS_EVERY.min(every);
        }
        match attempted {
            Ok(Attempted::Made) => {
                parts.trouble.lock().remove(&Worker::Backup);
                self.due = if kind == BackupKind::Log { self.due } else { now + every };
            }
            Ok(Attempted::PutOff) | Err(Error::Cancelled | Error::Closed | Error::Poisoned) => {}
            Err(error) => {
                tracing::warn!(target: "esker::engine", code = error.code(), %error, "a backup failed; it will be tried again");
                let why = format!("the last backup failed: {error}");
                parts.trouble.lock().insert(Worker::Backup, why);
                self.due = self.due.max(now + RETRY_AFTER.min(every));
                self.segments_due = self.due;
            }
        }
    }

    fn attempt(
        &self,
        parts: &Arc<Parts>,
        guard: Option<&dyn BackupGuard>,
        kind: BackupKind,
    ) -> Result<Attempted> {
        let Some(guard) = guard else {
            return make(parts, &self.schedule, kind, &Arc::default()).map(|()| Attempted::Made);
        };
        let (of_backup, schedule) = (parts.clone(), self.schedule.clone());
        let make: MakeBackup =
            Arc::new(move |progress| make(&of_backup, &schedule, kind, progress));
        guard.back_up(&self.schedule.to, &make)
    }
}

fn make(
    parts: &Parts,
    schedule: &BackupSchedule,
    kind: BackupKind,
    progress: &Arc<Progress>,
) -> Result<()> {
    let (bytes_per_second, progress) = (schedule.bytes_per_second, progress.clone());
    let info = backup(parts, &schedule.to, &BackupOptions { kind, bytes_per_second, progress })?;
    tracing::info!(target: "esker::engine", number = info.number, "made a backup");
    if kind != BackupKind::Log {
        Store::new(parts.fs.at(&schedule.to)).prune(schedule.keep)?;
    }
    Ok(())
}

/// When the next backup is due, by the monotonic clock: a schedule does not start anew with every
/// process. Nor does the age of the last backup, which is noted.
fn first_due(parts: &Parts, schedule: &BackupSchedule) -> Duration {
    let now = parts.clock.monotonic();
    let Ok(shelf) = Store::new(parts.fs.at(&schedule.to)).shelf() else { return now };
    let life = parts.identity().incarnation;
    let of_life = || shelf.records.iter().filter(|record| record.identity.incarnation == life);
    if let Some(last_ms) = of_life().map(|record| record.made_ms).max() {
        parts.meters.last_backup_ms.fetch_max(last_ms, Ordering::Relaxed);
    }
    let bases = of_life().filter(|record| record.has_tables());
    let Some(last_ms) = bases.map(|record| record.made_ms).max() else { return now };
    let age = Duration::from_millis(parts.clock.wall_ms().saturating_sub(last_ms));
    now + schedule.every.saturating_sub(age)
}
