//! Files nobody can reach any more: the only place in the engine that deletes.
//!
//! A table may be deleted once no view holds it and a later frame of the manifest has promised the
//! edit that removed it; a log segment once the edit that flushed it is promised. Then losing the
//! last frame of the manifest loses nothing. A table that no edit ever named goes at once. Where the
//! directory is only read, or let go, nothing is deleted.

use crate::parts::Parts;
use base::FileName;
use base::fs::Fs;
use base::lock::{Mutex, Rank};
use sstable::manifest::Edit;

/// See the module.
#[derive(Debug)]
pub(crate) struct Obsolete {
    /// Files that could not be deleted; tried again next time.
    stubborn: Mutex<Vec<FileName>>,
}

impl Default for Obsolete {
    fn default() -> Self {
        Obsolete { stubborn: Mutex::new(Rank::Obsolete, Vec::new()) }
    }
}

/// Removes the reserve, so that its space can be used. Returns whether it is gone.
pub(crate) fn remove_reserve(fs: &dyn Fs) -> bool {
    match fs.remove(&FileName::Reserve.path()) {
        Ok(()) => true,
        Err(error) => error.kind() == std::io::ErrorKind::NotFound,
    }
}

impl Obsolete {
    /// Deletes what may be deleted. Failures are kept for the next time: a file too many harms
    /// nobody.
    pub(crate) fn delete(&self, parts: &Parts) {
        for table in parts.tables.take_obsolete() {
            parts.installer.free(FileName::Table(table));
        }
        let Some(deletable) = parts.installer.take_deletable() else { return };
        let mut files = std::mem::take(&mut *self.stubborn.lock());
        files.extend(deletable);
        let failed: Vec<FileName> = files
            .into_iter()
            .filter(|file| match parts.fs.remove(&file.path()) {
                Ok(()) => false,
                Err(error) => error.kind() != std::io::ErrorKind::NotFound,
            })
            .collect();
        self.stubborn.lock().extend(failed);
    }

    /// Deletes a table that was never installed: no edit names it, so none has to be promised.
    pub(crate) fn discard(&self, parts: &Parts, table: u64) {
        if !parts.installer.may_delete() {
            return;
        }
        let file = FileName::Table(table);
        if let Err(error) = parts.fs.remove(&file.path())
            && error.kind() != std::io::ErrorKind::NotFound
        {
            self.stubborn.lock().push(file);
        }
    }

    /// Writes one more edit if files wait for it, and deletes them.
    pub(crate) fn settle(&self, parts: &Parts) {
        self.delete(parts);
        if parts.installer.has_freed() && parts.installer.record(|_| Edit::default()).is_ok() {
            self.delete(parts);
        }
    }
}
