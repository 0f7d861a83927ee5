//! Stage 1: is there a database, may there be one, and is it free?
//!
//! Nothing is created in a directory that holds something else. A creation that was cut short is
//! recognized by what it left: an identity and at most the first manifest, which nothing was ever
//! committed to, because opening makes a second one before it takes commits.

use crate::inventory::Inventory;
use crate::plan::Create;
use base::fs::{Fs, LockError, LockGuard};
use base::{Error, FileName, RelPath, Result};
use std::io;

/// What stands in the directory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Found {
    /// There is no directory.
    Nothing,
    /// Nothing of anyone's.
    EmptyDirectory,
    /// What a creation left that was cut short.
    Unfinished,
    /// A database, whole or not.
    Database,
}

/// A directory that is ours.
#[derive(Debug)]
pub(crate) struct Claim {
    pub(crate) lock: LockGuard,
    pub(crate) found: Found,
}

/// Locks the directory, creating it if it is missing and `create` allows.
pub(crate) fn claim(fs: &dyn Fs, create: Create) -> Result<Claim> {
    let before = look(fs)?;
    permit(fs, create, before)?;
    if before == Found::Nothing {
        fs.create_dir(&RelPath::root()).map_err(|e| Error::io("create", fs.root(), e))?;
    }
    let lock = lock(fs)?;
    // Only now does it stand still.
    let found = look(fs)?;
    permit(fs, create, found)?;
    Ok(Claim { lock, found })
}

/// Takes the lock, which names its holder.
pub(crate) fn lock(fs: &dyn Fs) -> Result<LockGuard> {
    fs.lock(&FileName::Lock.path()).map_err(|error| match error {
        LockError::Held(holder) => Error::Locked { path: fs.root().to_path_buf(), holder },
        LockError::Io(source) => Error::io("lock", fs.root(), source),
    })
}

/// What stands in the directory. A file in its place, or a directory of other things, is an error.
pub(crate) fn look(fs: &dyn Fs) -> Result<Found> {
    let not_a_database = |found| Err(Error::NotADatabase { path: fs.root().to_path_buf(), found });
    let inventory = match Inventory::take(fs) {
        Ok(inventory) => inventory?,
        Err(error) => {
            return match error.kind() {
                io::ErrorKind::NotFound => Ok(Found::Nothing),
                io::ErrorKind::NotADirectory => not_a_database("it is not a directory"),
                _ => Err(Error::io("list", fs.root(), error)),
            };
        }
    };
    let has_root = inventory.has(FileName::Current) || inventory.has(FileName::CurrentCopy);
    let has_data = !inventory.segments.is_empty() || !inventory.tables.is_empty();
    let has_identity = inventory.has(FileName::Identity);
    let last_manifest = inventory.manifests.last_key_value().map(|(number, _)| *number);
    Ok(match (has_identity, last_manifest) {
        _ if has_root || has_data => Found::Database,
        (true, None | Some(1)) => Found::Unfinished,
        (_, Some(_)) => Found::Database,
        (false, None) if inventory.strangers.is_empty() => Found::EmptyDirectory,
        (false, None) => return not_a_database("it holds other files"),
    })
}

/// Refuses what `create` does not allow to open.
pub(crate) fn permit(fs: &dyn Fs, create: Create, found: Found) -> Result<()> {
    let path = || fs.root().to_path_buf();
    match (create, found) {
        (Create::New, Found::Database) => Err(Error::AlreadyExists { path: path() }),
        (_, Found::Database) | (Create::IfMissing | Create::New, _) => Ok(()),
        (Create::Never, Found::Nothing) => {
            Err(Error::NotADatabase { path: path(), found: "there is no such directory" })
        }
        (Create::Never, Found::EmptyDirectory) => {
            Err(Error::NotADatabase { path: path(), found: "the directory is empty" })
        }
        (Create::Never, Found::Unfinished) => {
            Err(Error::NotADatabase { path: path(), found: "its creation was cut short" })
        }
    }
}
