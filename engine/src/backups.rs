//! Backups, looked at from outside: no database needs to be open.

use crate::backup::BackupInfo;
use crate::open::Platform;
use crate::options::Options;
use crate::replay::Replay;
use base::{Error, Result};
use recovery::Progress;
use recovery::backup::{
    BackupRecord, Courier, Pruned, RestorePoint, Restored, Restoring, Span, Store, Verified,
};
use std::path::{Path, PathBuf};

/// A directory of backups, made by [`crate::Db::backup`] or by a schedule.
pub struct Backups {
    platform: Platform,
    store: Store,
}

/// What a directory of backups holds.
#[derive(Debug)]
#[non_exhaustive]
pub struct Listing {
    /// The backups, oldest first.
    pub backups: Vec<BackupInfo>,
    /// The moments that can be restored, in order.
    pub spans: Vec<Span>,
    /// Backups that can not be read, and why.
    pub damaged: Vec<(PathBuf, Error)>,
}

impl Backups {
    /// The backups in the directory `path`.
    ///
    /// # Errors
    /// `BackupMissing` if there is no such directory.
    pub fn open(path: impl AsRef<Path>) -> Result<Backups> {
        Backups::open_on(Platform::at(path))
    }

    /// As [`Backups::open`], on a given disk and clock.
    pub fn open_on(platform: Platform) -> Result<Backups> {
        let store = Store::new(platform.fs.clone());
        store.shelf()?;
        Ok(Backups { platform, store })
    }

    /// All backups, and the moments that they cover.
    pub fn list(&self) -> Result<Listing> {
        let shelf = self.store.shelf()?;
        let root = self.platform.fs.root();
        let path = |error: &Error| error.path().unwrap_or(root).to_path_buf();
        let spans = shelf.spans();
        let of = |record: &BackupRecord| BackupInfo::of(record, shelf.span(record));
        let backups = shelf.records.iter().map(of).collect();
        let damaged = shelf.damaged.into_iter().map(|(_, error)| (path(&error), error)).collect();
        Ok(Listing { backups, spans, damaged })
    }

    /// Reads every byte that the backups need, and says what is damaged or missing.
    pub fn verify(&self, progress: &Progress) -> Result<Verified> {
        self.store.verify(&mut self.courier(progress))
    }

    /// Keeps the newest `keep` backups and what they need, and removes the others.
    pub fn prune(&self, keep: usize) -> Result<Pruned> {
        self.store.prune(keep)
    }

    /// Makes a database in the missing directory `target`, as the original was at `point`: every commit
    /// up to there is in it, and none behind. Everything that is needed is verified before anything is
    /// made.
    ///
    /// The new database is the same database and node, in another incarnation.
    ///
    /// # Errors
    /// `AlreadyExists` if `target` exists; `InvalidInput` naming the moments that are covered, if
    /// `point` is none of them; `BackupCorrupt` or `BackupMissing` for damage.
    pub fn restore(
        &self,
        target: impl AsRef<Path>,
        point: RestorePoint,
        progress: &Progress,
    ) -> Result<Restored> {
        let options = Options::default();
        let mut sink = Replay::new(&options, self.platform.clock.wall_ms());
        let restoring = Restoring {
            target: self.platform.fs.at(target.as_ref()),
            rng: &*self.platform.rng,
            sink: &mut sink,
            memory_bytes: options.memtable_bytes as u64 * 2,
        };
        self.store.restore(point, restoring, &mut self.courier(progress))
    }

    /// Disk, clock and randomness, in the directory of the backups.
    pub(crate) fn platform(&self) -> &Platform {
        &self.platform
    }

    fn courier<'a>(&'a self, progress: &'a Progress) -> Courier<'a> {
        Courier::new(&*self.platform.clock, u64::MAX, progress)
    }
}

impl std::fmt::Debug for Backups {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Backups({})", self.platform.fs.root().display())
    }
}
