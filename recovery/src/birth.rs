//! How a database comes to be: as a closed one without a log, which is then opened like any other.
//!
//! The last step is the root. Before it, the directory is not a database yet and can be made one by
//! trying again; after it, the database is complete.

use crate::identity::write_identity;
use crate::inventory::FOLDERS;
use base::fs::{DirEntryKind, Fs, full_path};
use base::{Error, FileName, Identity, RelPath, Result, Rng, Tick};
use sstable::manifest::{Closed, Edit, ManifestLog, State, read_root, write_root};
use std::io;

/// The number of the manifest that a database is born with, and its generation.
const FIRST: u64 = 1;

/// Makes the directory a database of `identity` that holds what `state` says, durably.
///
/// The tables of `state` must stand in their folder already, synced. The log is not taken over:
/// every commit up to `state.last_tick` must be in them.
pub fn create_database(
    fs: &dyn Fs,
    rng: &dyn Rng,
    identity: &Identity,
    state: &State,
) -> Result<()> {
    for folder in [RelPath::root()].into_iter().chain(FOLDERS.map(RelPath::folder)) {
        let path = full_path(fs, &folder);
        fs.create_dir(&folder).map_err(|e| Error::io("create", path, e))?;
    }
    let entries = fs.list(&RelPath::root()).map_err(|e| Error::io("list", fs.root(), e))?;
    let roots = [FileName::Current, FileName::CurrentCopy];
    if entries.iter().any(|entry| roots.iter().any(|root| root.path().as_str() == entry.name)) {
        return Err(Error::AlreadyExists { path: fs.root().to_path_buf() });
    }
    write_identity(fs, identity)?;
    let mut manifest = ManifestLog::create(fs, rng, identity.database, FIRST, FIRST, state)?;
    let last_tick =
        state.version.tables().map(|table| table.newest()).fold(state.last_tick, Tick::max);
    let closed = Closed { log_end: state.log_end };
    manifest.append(&Edit {
        flushed: Some(last_tick),
        last_tick: Some(last_tick),
        closed: Some(closed),
        ..Edit::default()
    })?;
    let root = *manifest.root();
    manifest.finish()?;
    write_root(fs, &root)
}

/// Removes what someone made in a directory that held nothing before, as far as that works; the
/// directory stays. A database whose root counts is left alone.
pub fn undo_creation(fs: &dyn Fs) {
    if read_root(fs).is_ok() {
        return;
    }
    for folder in FOLDERS.map(RelPath::folder) {
        let entries = fs.list(&folder).unwrap_or_default();
        let names = entries.iter().filter_map(|entry| folder.join(&entry.name));
        let names: Vec<RelPath> = names.collect();
        names.iter().for_each(|name| drop(fs.remove(name)));
        let _ = fs.sync_dir(&folder); // before the identity goes, see `clear`
        let _ = fs.remove_dir(&folder);
    }
    for name in [FileName::Identity, FileName::CurrentTemp, FileName::CurrentCopy] {
        let _ = fs.remove(&name.path());
    }
}

/// Removes the database in a directory that nobody has open, and the directory. Its root goes first: what a
/// crash leaves of it is no database.
pub fn remove_database(fs: &dyn Fs) -> Result<()> {
    remove(fs, FileName::Current)?;
    remove(fs, FileName::CurrentCopy)?;
    let root = RelPath::root();
    let io = |action, path: &RelPath| {
        let path = full_path(fs, path);
        move |e| Error::io(action, path, e)
    };
    fs.sync_dir(&root).map_err(io("sync", &root))?;
    for entry in fs.list(&root).map_err(io("list", &root))? {
        let Some(path) = root.join(&entry.name) else { continue };
        if entry.kind != DirEntryKind::Folder {
            fs.remove(&path).map_err(io("remove", &path))?;
            continue;
        }
        for file in fs.list(&path).map_err(io("list", &path))? {
            let Some(file) = path.join(&file.name) else { continue };
            fs.remove(&file).map_err(io("remove", &file))?;
        }
        fs.remove_dir(&path).map_err(io("remove", &path))?;
    }
    fs.remove_dir(&root).map_err(io("remove", &root))
}

/// Removes what a creation left that was cut short. The identity goes last, and only once the
/// manifest is gone for good: a manifest without one would look like a damaged database.
pub(crate) fn clear(fs: &dyn Fs) -> Result<()> {
    remove(fs, FileName::Manifest(FIRST))?;
    let folder = RelPath::folder(base::dir::MANIFEST_DIR);
    match fs.sync_dir(&folder) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            return Err(Error::io("sync", full_path(fs, &folder), error));
        }
        _ => {}
    }
    remove(fs, FileName::Identity)
}

fn remove(fs: &dyn Fs, name: FileName) -> Result<()> {
    match fs.remove(&name.path()) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            Err(Error::io("remove", full_path(fs, &name.path()), error))
        }
        _ => Ok(()),
    }
}
