//! Opening databases and keyspaces the way commands want them.

use crate::args::{DEFAULT_KEYSPACE, DatabaseArgs, Sync};
use crate::error::{Failure, Outcome};
use engine::{Create, Cursor, Db, Error, Keyspace, KeyspaceOptions, Options, Snapshot};
use std::path::Path;

/// Opens the database of a command that never creates one.
pub(crate) fn open(args: &DatabaseArgs) -> Outcome<Db> {
    open_with(&args.path, Create::Never, Sync::Sync)
}

/// Opens the database at `path`.
pub(crate) fn open_with(path: &Path, create: Create, sync: Sync) -> Outcome<Db> {
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
    let is_known = db.keyspaces().iter().any(|known| known == name);
    match is_known {
        true => keyspace_to_write(db, name).map(Some),
        false if name == DEFAULT_KEYSPACE => Ok(None),
        false => Err(Error::KeyspaceNotFound { name: name.to_owned() }.into()),
    }
}

/// All keyspaces, in the order of their names' bytes.
pub(crate) fn all_keyspaces(db: &Db) -> Outcome<Vec<Keyspace>> {
    let mut names = db.keyspaces();
    names.sort_unstable();
    names.iter().map(|name| keyspace_to_write(db, name)).collect()
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
