//! Creating keyspaces.

use crate::keyspace::KeyspaceState;
use crate::parts::Parts;
use base::limits::KEYSPACES_MAX;
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

/// As [`create`], of a keyspace that a peer names. What nodes keep for themselves finds room all the same.
pub(crate) fn create_for_peer(
    parts: &Parts,
    name: &str,
    scope: ScopeId,
    settings: KeyspaceSettings,
) -> Result<Arc<KeyspaceState>> {
    let count = parts.installer.with_state(|state| state.keyspaces.len());
    if count >= KEYSPACES_MAX && !is_reserved(name) {
        let (limit, value) = (KEYSPACES_MAX as u64, count as u64 + 1);
        return Err(Error::too_large("number of keyspaces", limit, value));
    }
    create(parts, name, scope, settings)
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

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test fails by panicking")]
mod tests {
    use super::*;
    use crate::replicate::{Admission, Incarnation, NodeId, Origin};
    use crate::{Background, Db, KeyspaceOptions, Options, Platform};
    use base::batch::Ops;
    use base::clock::ManualClock;
    use base::fs::SimFs;
    use base::rng::SeededRng;
    use base::shipment::ShipmentWriter;
    use base::{Op, OpKind};

    const WALL_MS: u64 = 1_700_000_000_000;

    /// A shipment of an author of its own.
    fn shipment(author: u8, name: &str) -> Vec<u8> {
        let origin = Origin { node: NodeId([author; 16]), incarnation: Incarnation(1) };
        let mut writer = ShipmentWriter::new(ScopeId::MAIN, origin, None);
        let mut ops = Vec::new();
        Op { keyspace: KeyspaceId(1), key: b"k", kind: OpKind::Put(b"v") }.encode(&mut ops);
        let name_of = |_| Some(name.to_owned());
        writer.push(Tick::from_ms(WALL_MS), 1, &Ops::encoded(&ops), name_of).unwrap();
        writer.finish()
    }

    #[test]
    fn peers_bring_no_more_keyspaces_than_there_may_be() {
        let clock = Arc::new(ManualClock::at(WALL_MS));
        let (fs, rng) = (Arc::new(SimFs::new(1)), Arc::new(SeededRng::new(1)));
        let options = Options { background: Background::Off, ..Options::default() };
        let db = Db::open_on(Platform { fs, clock, rng }, options).unwrap();
        let admit = |bytes: &[u8]| db.replication().admit(bytes);
        assert!(matches!(admit(&shipment(1, "first")), Ok(Admission::Taken { .. })));
        // As if they had come one by one.
        let fill = |state: &State| {
            let next = state.next_keyspace;
            let missing = (KEYSPACES_MAX - state.keyspaces.len()) as u32;
            let record = |count: u32| KeyspaceRecord {
                id: KeyspaceId::nth(ScopeId::MAIN, count),
                scope: ScopeId::MAIN,
                name: format!("{count}"),
                created: Tick::from_ms(WALL_MS),
                dropped: None,
                settings: KeyspaceSettings::default(),
            };
            let keyspaces = (next..next + missing).map(record).collect();
            Edit { keyspaces, next_keyspace: Some(next + missing), ..Edit::default() }
        };
        db.parts().record_then(fill, |_| {}).unwrap();
        let refused = admit(&shipment(2, "one too many"));
        assert!(matches!(refused, Err(Error::TooLarge { .. })), "{refused:?}");
        assert!(matches!(admit(&shipment(3, "first")), Ok(Admission::Taken { .. })));
        assert!(matches!(admit(&shipment(4, "esker.x")), Ok(Admission::Taken { .. })));
        db.keyspace("of a user", KeyspaceOptions::default()).unwrap();
    }
}
