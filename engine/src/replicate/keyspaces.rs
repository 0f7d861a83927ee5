//! The keyspaces of replication: those that this node needs itself, and those that peers name.

use super::provisional;
use crate::creation;
use crate::keyspace::KeyspaceState;
use crate::parts::Parts;
use base::{Error, Result, ScopeId};
use std::sync::Arc;

/// The keyspace `name` of `scope`; created if it is missing.
pub(crate) fn open_keyspace(
    parts: &Parts,
    scope: ScopeId,
    name: &str,
) -> Result<Arc<KeyspaceState>> {
    let state = match parts.catalog.find(name) {
        Some(state) => state,
        None => creation::create(parts, name, scope, provisional())?,
    };
    of_scope(state, scope)
}

/// The keyspaces of `scope` that a peer names, in the order of `names`; those that are missing are created,
/// all by one edit.
///
/// # Errors
/// `TooLarge` if there are as many as peers may bring.
pub(super) fn open_all<'n>(
    parts: &Parts,
    scope: ScopeId,
    names: impl Iterator<Item = &'n str> + Clone,
) -> Result<Vec<Arc<KeyspaceState>>> {
    create_missing(parts, scope, names.clone())?;
    let opened = names.map(|name| match parts.catalog.find(name) {
        Some(state) => of_scope(state, scope),
        None => Err(creation::absent(parts, name)),
    });
    opened.collect()
}

/// Creates those of `names` that are missing, as far as peers may bring more.
pub(super) fn create_missing<'n>(
    parts: &Parts,
    scope: ScopeId,
    names: impl Iterator<Item = &'n str>,
) -> Result<()> {
    creation::create_for_peer(parts, names, scope, provisional())
}

fn of_scope(state: Arc<KeyspaceState>, scope: ScopeId) -> Result<Arc<KeyspaceState>> {
    if state.space.scope() != scope {
        return Err(Error::ConfigMismatch {
            what: "the keyspace's scope",
            stored: format!("{}", state.space.scope().0),
            given: format!("{}", scope.0),
        });
    }
    Ok(state)
}
