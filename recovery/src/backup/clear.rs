//! What leaves the store: backups beyond those to keep, then files that no backup needs.
//!
//! Records go first, and durably; a crash before the files follow leaves leftovers, never a backup
//! without its files.

use super::store::{FOLDERS, Shelf, Store, record_path};
use base::fs::full_path;
use base::{Error, RelPath, Result};

/// What [`Store::prune`] removed.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Pruned {
    /// The numbers of the backups.
    pub backups: Vec<u64>,
    /// How many files went, those of the backups included.
    pub files: u64,
}

impl Store {
    /// Keeps the newest `keep` backups with all they need, and removes the others.
    ///
    /// While a record among those to keep is damaged, files are left where they are: what it needs is
    /// not known.
    pub fn prune(&self, keep: usize) -> Result<Pruned> {
        if keep == 0 {
            return Err(Error::invalid("0 backups would be kept; keep at least 1"));
        }
        let _lock = self.lock()?;
        self.refuse_strangers()?;
        self.prune_locked(keep)
    }

    pub(crate) fn prune_locked(&self, keep: usize) -> Result<Pruned> {
        let mut shelf = self.shelf()?;
        let bases = shelf.records.iter().rev().filter(|record| record.has_tables());
        let oldest = bases.map(|record| record.number).take(keep).last().unwrap_or(0);
        let damaged = shelf.damaged.iter().map(|(number, _)| *number);
        let all = shelf.records.iter().map(|record| record.number).chain(damaged);
        let mut backups: Vec<u64> = all.filter(|number| *number < oldest).collect();
        backups.sort_unstable();
        for number in &backups {
            self.remove(&record_path(*number))?;
        }
        if !backups.is_empty() {
            self.sync_dir(&RelPath::root())?;
        }
        shelf.records.retain(|record| record.number >= oldest);
        shelf.damaged.retain(|(number, _)| *number >= oldest);
        let files = backups.len() as u64 + self.sweep(&shelf)?;
        Ok(Pruned { backups, files })
    }

    /// Removes the files that no record of `shelf`, which is all there is, needs. Returns how many.
    pub(crate) fn sweep(&self, shelf: &Shelf) -> Result<u64> {
        let needed = shelf.needed();
        let is_temp = |file: &RelPath| file.as_str().ends_with(".tmp");
        let is_free = |file: &RelPath| shelf.damaged.is_empty() && !needed.contains(file);
        let mut removed = 0;
        for file in self.files()?.iter().filter(|file| is_temp(file) || is_free(file)) {
            self.remove(file)?;
            removed += 1;
        }
        if removed > 0 {
            FOLDERS.map(RelPath::folder).iter().try_for_each(|folder| self.sync_dir(folder))?;
        }
        Ok(removed)
    }

    pub(super) fn remove(&self, file: &RelPath) -> Result<()> {
        let path = full_path(&*self.fs, file);
        self.fs.remove(file).map_err(|e| Error::io("remove", path, e))
    }
}
