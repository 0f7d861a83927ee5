//! Stage 12: what nothing needs any more goes.
//!
//! Runs only after the root counts: what the manifest does not name is then either replaced, or was
//! left by someone who died. Failures are warnings; the next open tries again.

use crate::inventory::Inventory;
use crate::report::Report;
use base::FileName;
use base::fs::Fs;
use sstable::manifest::State;
use std::collections::HashSet;

/// Gives the space of the reserve to a database that is opened on a full disk. It is made again once
/// there is space.
pub(crate) fn release_reserve(fs: &dyn Fs) {
    // What can not be removed shows as a full disk.
    let _ = fs.remove(&FileName::Reserve.path());
}

/// Removes the manifests other than `manifest`, segments before the log's start except those `held`,
/// tables that the state does not name. Only what `inventory` saw can go, so nothing made since. What could not be
/// set aside stays this time.
pub(crate) fn sweep(
    fs: &dyn Fs,
    inventory: &Inventory,
    state: &State,
    manifest: u64,
    held: &[u64],
    report: &mut Report,
) {
    let live: HashSet<u64> = state.version.tables().map(|table| table.id).collect();
    let manifests = inventory.manifests.keys().filter(|number| **number != manifest);
    let segments = inventory
        .segments
        .keys()
        .filter(|number| **number < state.log_start && !held.contains(number));
    let tables = inventory.tables.keys().filter(|number| !live.contains(number));
    let archived_from = state.archiving.map_or(u64::MAX, |archiving| archiving.from);
    let archived = inventory.archived.keys().filter(|number| **number < archived_from);
    let is_temp = |name: &FileName| matches!(name, FileName::CurrentTemp | FileName::IdentityTemp);
    let temp = inventory.top.iter().copied().filter(is_temp);
    let is_needed = report.quarantine_failed;
    let obsolete = manifests
        .map(|number| FileName::Manifest(*number))
        .chain(segments.map(|number| FileName::Segment(*number)))
        .filter(|_| !is_needed)
        .chain(tables.map(|number| FileName::Table(*number)))
        .chain(archived.map(|number| FileName::Archived(*number)))
        .chain(temp);
    remove(fs, obsolete, report);
}

/// Removes `files`, and notes how that went.
pub(crate) fn remove(fs: &dyn Fs, files: impl Iterator<Item = FileName>, report: &mut Report) {
    for name in files {
        match fs.remove(&name.path()) {
            Ok(()) => report.removed += 1,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
            Err(error) => {
                let warning = format!("cannot remove {}: {error}", name.path());
                report.warnings.push(warning);
            }
        }
    }
}
