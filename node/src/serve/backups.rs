//! Backups, those that operators ask for and those of the schedule: by one breaker, so that its state, its counts and
//! its lines in the log are of all of them.
//!
//! ```text
//! POST /v1/backup ──asked──┐
//!                          ├──> breaker `backup` ──> tries ──> a thread that is left behind if it stands still
//! schedule ──> back_up ────┘
//! ```
//!
//! A backup fails for reasons of its own disk. While the breaker is open, operators are refused and the schedule
//! waits.

use super::ending::Ending;
use super::guarded::{refused, tried};
use super::standstill::Watch;
use crate::error::Outcome;
use base::{Clock, Error, SystemClock};
use engine::{Attempted, BackupGuard, BackupInfo, BackupOptions, Db, MakeBackup, Progress};
use esker_node::resilience::{Breakers, Guarded, Retry, Timeouts};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

/// Before a backup that failed is tried again.
const PAUSE: Duration = Duration::from_millis(200);
/// The breaker of backups.
const BACKUP: &str = "backup";

/// How a node makes backups. It knows neither the node nor its database, so it keeps nobody alive.
pub(super) struct BackupKeeper {
    breakers: Breakers,
    timeouts: Timeouts,
    ending: Ending,
    clock: SystemClock,
}

impl BackupKeeper {
    /// One that leaves stores alone by `breakers`, and gives up as `timeouts` say or once the node ends.
    pub(super) fn new(breakers: Breakers, timeouts: Timeouts, ending: Ending) -> BackupKeeper {
        BackupKeeper { breakers, timeouts, ending, clock: SystemClock::default() }
    }

    /// Makes a backup of `db` in `store` that an operator has asked for. May block.
    pub(super) fn asked(
        &self,
        db: &Db,
        store: &Path,
        options: &BackupOptions,
    ) -> Outcome<BackupInfo> {
        let made = tried(&self.breakers, &self.ending, BACKUP, retry(), || {
            let (db, options, to) = (db.clone(), options.clone(), store.to_path_buf());
            self.watch(store, &options.progress.clone(), move || db.backup(&to, &options))
        });
        made.map_err(|guarded| refused(BACKUP, guarded))
    }

    fn watch<T: Send + 'static>(
        &self,
        path: &Path,
        progress: &Arc<Progress>,
        work: impl FnOnce() -> Result<T, Error> + Send + 'static,
    ) -> Result<T, Error> {
        let (timeouts, ending) = (&self.timeouts, &self.ending);
        let clock: &dyn Clock = &self.clock;
        Watch { path, progress, timeouts, ending, clock }.over(work)
    }
}

impl BackupGuard for BackupKeeper {
    fn back_up(&self, store: &Path, make: &MakeBackup) -> Result<Attempted, Error> {
        // Nobody asked, so nobody is refused.
        if self.breakers.is_open(BACKUP) {
            return Ok(Attempted::PutOff);
        }
        let made = tried(&self.breakers, &self.ending, BACKUP, retry(), || {
            let (make, progress) = (make.clone(), Arc::new(Progress::default()));
            let of_work = progress.clone();
            self.watch(store, &progress, move || make(&of_work))
        });
        match made {
            Ok(()) => Ok(Attempted::Made),
            Err(Guarded::Failed(error)) => Err(error),
            Err(Guarded::Rejected { .. }) => Ok(Attempted::PutOff),
        }
    }
}

fn retry() -> Retry {
    Retry { first: PAUSE, ..Retry::default() }
}

#[cfg(test)]
mod tests {
    use super::super::ending::Interest;
    use super::*;
    use esker_node::resilience::{BreakerSettings, Profile};
    use std::sync::atomic::{AtomicU32, Ordering};

    fn keeper() -> (BackupKeeper, Interest) {
        let breakers = Breakers::new(Arc::new(SystemClock::default()));
        // It stays open until it is reset.
        let pause = Duration::from_secs(3600);
        breakers.configure(BreakerSettings { failures: 2, pause, ..BreakerSettings::default() });
        let (interest, ending) = Interest::new();
        (BackupKeeper::new(breakers, Timeouts::of(Profile::Standard), ending), interest)
    }

    #[test]
    fn a_schedule_waits_while_the_breaker_is_open_and_is_no_rejected_call() {
        let (keeper, _interest) = keeper();
        let calls = Arc::new(AtomicU32::new(0));
        let counted = calls.clone();
        let fails: MakeBackup = Arc::new(move |_| {
            counted.fetch_add(1, Ordering::SeqCst);
            Err(Error::Permission { path: "/store".into() })
        });
        for _ in 0..2 {
            let failed = keeper.back_up(Path::new("/store"), &fails).unwrap_err();
            assert_eq!(failed.code(), "Permission");
        }
        for _ in 0..10 {
            let waits = keeper.back_up(Path::new("/store"), &fails).unwrap();
            assert_eq!(waits, Attempted::PutOff);
        }
        let report = keeper.breakers.reports()[BACKUP];
        assert_eq!((report.failures, report.rejected, calls.load(Ordering::SeqCst)), (2, 0, 2));

        keeper.breakers.reset(BACKUP);
        let works: MakeBackup = Arc::new(|_| Ok(()));
        assert_eq!(keeper.back_up(Path::new("/store"), &works).unwrap(), Attempted::Made);
        assert_eq!(keeper.breakers.reports()[BACKUP].successes, 1);
    }

    #[test]
    fn what_may_succeed_later_is_tried_again_with_a_progress_of_its_own() {
        let (keeper, _interest) = keeper();
        let calls = Arc::new(AtomicU32::new(0));
        let works_then: MakeBackup = Arc::new(move |progress| {
            assert!(!progress.is_cancelled(), "it is not that of the try before");
            progress.cancel();
            match calls.fetch_add(1, Ordering::SeqCst) {
                0 => Err(Error::DiskFull { path: "/store".into() }),
                _ => Ok(()),
            }
        });
        let made = keeper.back_up(Path::new("/store"), &works_then).unwrap();
        assert_eq!(made, Attempted::Made);
        let report = keeper.breakers.reports()[BACKUP];
        assert_eq!((report.failures, report.successes), (1, 1));
    }
}
