//! Stage 6: which manifest counts, and is it really the newest?
//!
//! A root that was put back to an older one would silently hide everything committed since. What
//! was committed under a newer root shows: a manifest with edits behind its first, or a segment of
//! a newer generation with commits. A recovery that died before its root counted leaves neither.

use crate::inventory::Inventory;
use base::error::FileKind;
use base::fs::{Fs, full_path};
use base::{Corruption, Defect, Error, Result, planted};
use sstable::manifest::{self, Roots, read_root};

pub(crate) fn choose(fs: &dyn Fs, database: [u8; 16], inventory: &Inventory) -> Result<Roots> {
    let roots = read_root(fs)?;
    let path = full_path(fs, &roots.source.path());
    let root = &roots.root;
    if root.database != database {
        return Err(Error::corrupt(FileKind::Root, path, 32, Corruption::Foreign));
    }
    if planted(Defect::AcceptStaleRoot) {
        return Ok(roots);
    }
    let stale =
        |seen| Error::StaleManifest { path: path.clone(), generation: root.generation, seen };
    for &number in inventory.manifests.keys().filter(|number| **number > root.manifest) {
        match manifest::survey(fs, database, number)? {
            Some(survey) if survey.edits > 1 => return Err(stale(survey.generation)),
            _ => {}
        }
    }
    let segments = inventory.segment_numbers();
    match wal::newer_commits(fs, database, &segments, root.generation)? {
        Some((_, seen)) => Err(stale(seen)),
        None => Ok(roots),
    }
}
