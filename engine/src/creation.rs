//! Creating keyspaces.

use crate::keyspace::KeyspaceState;
use crate::parts::Parts;
use base::{Error, KeyspaceId, Result, ScopeId, Tick};
use sstable::manifest::{Edit, KeyspaceRecord, KeyspaceSettings, State};
use std::sync::Arc;

/// What the names of keyspaces start with that are not for users.
const RESERVED: &str = "esker.";

/// Whether the name is not for users.
pub(crate) fn is_reserved(name: &str) -> bool {
    name.starts_with(RESERVED)
}

/// Refuses a name that is not for users.
pub(crate) fn refuse_reserved(name: &str) -> Result<()> {
    match is_reserved(name) {
        true => Err(Error::invalid("keyspace names that start with \"esker.\" are reserved")),
        false => Ok(()),
    }
}

/// The keyspace `name`, which is created in `scope` unless there is one. Durable when this returns.
pub(crate) fn create(
    parts: &Parts,
    name: &str,
    scope: ScopeId,
    settings: KeyspaceSettings,
) -> Result<Arc<KeyspaceState>> {
    parts.refuse_if_read_only()?;
    let created = parts.commits.mark(|| {});
    parts.record_then(
        |state| new_keyspace(state, name, scope, settings, created),
        |state| {
            if let Some(record) = state.keyspace(scope, name) {
                parts.catalog.note_if_new(record);
            }
        },
    )?;
    parts.catalog.find(name).ok_or(Error::KeyspaceNotFound { name: name.to_owned() })
}

/// The edit that creates a keyspace; nothing if another thread was faster.
fn new_keyspace(
    state: &State,
    name: &str,
    scope: ScopeId,
    settings: KeyspaceSettings,
    created: Tick,
) -> Edit {
    let exists = state.keyspaces.values().any(|known| known.name == name && !known.is_dropped());
    if exists {
        return Edit::default();
    }
    let id = KeyspaceId::nth(scope, state.next_keyspace);
    let record =
        KeyspaceRecord { id, scope, name: name.to_owned(), created, dropped: None, settings };
    Edit {
        keyspaces: vec![record],
        next_keyspace: Some(state.next_keyspace.saturating_add(1)),
        last_tick: Some(created),
        ..Edit::default()
    }
}
