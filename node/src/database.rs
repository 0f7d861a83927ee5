//! Opening databases and keyspaces the way commands want them.

use crate::args::{DEFAULT_KEYSPACE, DatabaseArgs, Durability};
use crate::error::{Failure, Outcome};
use engine::{Create, Cursor, Db, Error, Keyspace, KeyspaceOptions, Options, Snapshot};
use std::path::Path;

/// Opens the database of a command that never creates one.
pub(crate) fn open(args: &DatabaseArgs) -> Outcome<Db> {
    open_with(&args.path, Create::Never, Durability::Sync)
}

/// Opens the database at `path`.
pub(crate) fn open_with(path: &Path, create: Create, sync: Durability) -> Outcome<Db> {
    let options = Options { create, sync: sync.mode(), ..Options::default() };
    Db::open(path, options).map_err(Failure::from)
}

/// The keyspace `name`, created if it is not there.
pub(crate) fn keyspace_to_write(db: &Db, name: &str) -> Outcome<Keyspace> {
    Ok(db.keyspace(name, KeyspaceOptions::default())?)
}

/// The keyspace `name`, never created. `None` if it is the default one and nothing was ever stored
/// in it, which reads as empty.
pub(crate) fn keyspace_to_read(db: &Db, name: &str) -> Outcome<Option<Keyspace>> {
    match db.existing_keyspace(name) {
        Ok(keyspace) => Ok(Some(keyspace)),
        Err(Error::KeyspaceNotFound { .. }) if name == DEFAULT_KEYSPACE => Ok(None),
        Err(error) => Err(error.into()),
    }
}

/// Hands every record of `keyspace` as `snapshot` sees it to `take`, in order.
pub(crate) fn for_each(
    snapshot: &Snapshot,
    keyspace: &Keyspace,
    mut take: impl FnMut(&[u8], &[u8]) -> Outcome,
) -> Outcome {
    let mut cursor: Cursor = snapshot.cursor(keyspace)?;
    cursor.seek_first()?;
    while let Some((key, value)) = cursor.entry() {
        take(key, value)?;
        cursor.advance()?;
    }
    Ok(())
}
