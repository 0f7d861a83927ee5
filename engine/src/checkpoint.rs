//! A copy of the database as of one moment, made of hard links.

use crate::jobs;
use crate::parts::Parts;
use crate::view::View;
use base::fs::{Fs, full_path};
use base::{Error, FileName, Identity, RelPath, Result, Tick};
use sstable::manifest::State;
use std::collections::BTreeSet;
use std::path::Path;
use std::sync::Arc;

/// Makes `target` a database that holds what was committed when this was called. It is an
/// incarnation of its own, so the two may live side by side.
pub(crate) fn checkpoint(parts: &Parts, target: &Path) -> Result<Tick> {
    let fs = parts.fs.at(target);
    let existing = fs.list(&RelPath::root());
    if existing.as_ref().is_ok_and(|entries| !entries.is_empty()) {
        return Err(Error::AlreadyExists { path: target.to_path_buf() });
    }
    let copied = copy(parts, &*fs);
    if copied.is_err() {
        recovery::undo_creation(&*fs);
        if existing.is_err() {
            let _ = fs.remove_dir(&RelPath::root()); // the first error is the one to report
        }
    }
    copied
}

/// Fills the missing or empty directory of `fs`.
fn copy(parts: &Parts, fs: &dyn Fs) -> Result<Tick> {
    let last = parts.commits.freeze_active()?;
    parts.commits.sync()?;
    parts.commits.wait_visible(last)?;
    jobs::flush_up_to(parts, last)?;
    let (view, mut state) = stable_state(parts);
    // What the original keeps for its backups is not the copy's.
    (state.archiving, state.ingests) = (None, Vec::new());
    for folder in [RelPath::root(), RelPath::folder(base::dir::TABLES_DIR)] {
        fs.create_dir(&folder).map_err(|e| Error::io("create", full_path(fs, &folder), e))?;
    }
    for table in state.version.tables() {
        let path = FileName::Table(table.id).path();
        let linked = parts.fs.link(&path, fs, &path);
        linked.map_err(|e| Error::io("link", full_path(fs, &path), e))?;
    }
    drop(view);
    let tables = RelPath::folder(base::dir::TABLES_DIR);
    fs.sync_dir(&tables).map_err(|e| Error::io("sync", full_path(fs, &tables), e))?;
    let mut incarnation = [0; 8];
    parts.rng.fill(&mut incarnation).map_err(|e| Error::io("draw randomness for", fs.root(), e))?;
    let incarnation = base::Incarnation(u64::from_le_bytes(incarnation));
    let identity = Identity { incarnation, ..parts.identity() };
    recovery::create_database(fs, &*parts.rng, &identity, &state)?;
    Ok(state.flushed)
}

/// A durable state, and a view that keeps all of its tables from being deleted.
pub(crate) fn stable_state(parts: &Parts) -> (Arc<View>, State) {
    loop {
        let view = parts.views.current();
        let state = parts.installer.with_state(State::clone);
        let held: BTreeSet<u64> = view.runs.tables().map(|handle| handle.meta().id).collect();
        if state.version.tables().all(|table| held.contains(&table.id)) {
            return (view, state);
        }
    }
}
