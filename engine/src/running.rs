//! An open database and its threads, until it is closed.

use crate::backup::BackupSchedule;
use crate::open;
use crate::options::Background;
use crate::parts::Parts;
use crate::workers::Workers;
use base::lock::{Mutex, Rank};
use base::{Error, Result};
use recovery::Report;
use std::sync::Arc;
use std::sync::atomic::Ordering;

/// What ends when the database ends.
pub(crate) struct Running {
    parts: Arc<Parts>,
    report: Report,
    workers: Mutex<Workers>,
}

impl Running {
    /// Starts the threads of `parts`.
    pub(crate) fn start(parts: Parts, report: Report) -> Result<Running> {
        let parts = Arc::new(parts);
        let workers = match parts.options.background {
            Background::On => Workers::start(&parts)?,
            Background::Off => Workers::default(),
        };
        Ok(Running { parts, report, workers: Mutex::new(Rank::Lifecycle, workers) })
    }

    /// The database itself.
    pub(crate) fn parts(&self) -> &Arc<Parts> {
        &self.parts
    }

    /// What opening found and did.
    pub(crate) fn report(&self) -> &Report {
        &self.report
    }

    /// Resolves conflicts from now on.
    pub(crate) fn resolve(&self) -> Result<()> {
        self.with_workers(Workers::start_resolving)
    }

    /// Makes backups as `schedule` says from now on, or none.
    pub(crate) fn schedule_backups(&self, schedule: Option<BackupSchedule>) -> Result<()> {
        let is_wanted = schedule.is_some();
        self.parts.backing.plan.lock().schedule = schedule;
        if is_wanted {
            self.with_workers(Workers::start_backups)?;
        }
        self.parts.backup_bell.ring();
        Ok(())
    }

    /// Starts a thread, where there are any, unless the database is closed.
    fn with_workers(
        &self,
        start: impl FnOnce(&mut Workers, &Arc<Parts>) -> Result<()>,
    ) -> Result<()> {
        let mut workers = self.workers.lock();
        if self.parts.is_closed.load(Ordering::Acquire) {
            return Err(Error::Closed);
        }
        match self.parts.options.background {
            Background::On => start(&mut workers, &self.parts),
            Background::Off => Ok(()),
        }
    }

    /// Ends the threads, then closes the database, once.
    pub(crate) fn close(&self) -> Result<()> {
        let mut workers = self.workers.lock();
        if self.parts.is_closed.swap(true, Ordering::AcqRel) {
            return Ok(());
        }
        workers.stop();
        drop(workers);
        open::close(&self.parts)
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        if let Err(error) = self.close() {
            tracing::warn!(target: "esker::engine", code = error.code(), %error, "the database was not closed cleanly");
        }
    }
}
