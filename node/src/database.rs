//! Opening databases and keyspaces the way commands want them.

use crate::args::{DEFAULT_KEYSPACE, DatabaseArgs, Durability};
use crate::error::{Exit, Failure, Outcome};
use engine::{
    Create, Cursor, Db, Error, Keyspace, KeyspaceOptions, Options, Platform, Progress, Snapshot,
};
use replication::engine_store::EngineStore;
use replication::group::note_open;
use replication::link::Bell;
use std::path::Path;

/// Opens the database of a command that never creates one.
pub(crate) fn open(args: &DatabaseArgs) -> Outcome<Db> {
    open_with(&args.path, Create::Never, Durability::Sync)
}

/// Opens the database at `path`.
pub(crate) fn open_with(path: &Path, create: Create, sync: Durability) -> Outcome<Db> {
    open_watched(path, create, sync, &Progress::default())
}

/// As [`open_with`]; tells `progress` how far it is.
pub(crate) fn open_watched(
    path: &Path,
    create: Create,
    sync: Durability,
    progress: &Progress,
) -> Outcome<Db> {
    let options = Options { create, sync: sync.mode(), ..Options::default() };
    let db = Db::open_with_progress(Platform::at(path), options, progress)?;
    // A replica has to know when it was opened, or it may not notice that it was put back from a copy. Where
    // that can not be written nothing can be, so it matters to nobody; reading goes on.
    let _ = note_open(&EngineStore::new(db.clone(), &Bell::default()));
    Ok(db)
}

/// Keyspaces whose names start like this are the node's own: peers, roster, quarantine.
const RESERVED_PREFIX: &str = "esker.";

/// Refuses to change the node's own keyspaces.
pub(crate) fn check_changeable(name: &str) -> Outcome {
    if is_of_users(name) {
        return Ok(());
    }
    let message = format!("keyspaces whose names start with {RESERVED_PREFIX:?} are only read");
    Err(Failure::new(Exit::Input, "KeyspaceReserved", message).action("choose another name"))
}

/// All keyspaces of users, by name. The node's own differ from node to node.
pub(crate) fn keyspaces_of_users(db: &Db) -> Vec<Keyspace> {
    let is_of_users = |keyspace: &Keyspace| is_of_users(keyspace.name());
    db.keyspaces().into_iter().filter(is_of_users).collect()
}

/// Whether a keyspace of that name is one of users.
pub(crate) fn is_of_users(name: &str) -> bool {
    !name.starts_with(RESERVED_PREFIX)
}

/// The keyspace `name`, created if it is not there.
pub(crate) fn keyspace_to_write(db: &Db, name: &str) -> Outcome<Keyspace> {
    check_changeable(name)?;
    match db.existing_keyspace(name) {
        // It may be one that never leaves this node.
        Err(Error::KeyspaceNotFound { .. }) => Ok(db.keyspace(name, KeyspaceOptions::default())?),
        existing => Ok(existing?),
    }
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
    cursor.fill_cache(false);
    cursor.seek_first()?;
    while let Some((key, value)) = cursor.entry() {
        take(key, value)?;
        cursor.advance()?;
    }
    Ok(())
}
