//! Creating keyspaces.

use crate::drops::KEYSPACES;
use crate::keyspace::KeyspaceState;
use crate::parts::Parts;
use crate::replicate::QUARANTINE;
use base::limits::{KEYSPACES_MAX, check_keyspace_name};
use base::{Error, KeyspaceId, Result, ScopeId, Tick};
use sstable::manifest::{Edit, KeyspaceRecord, KeyspaceSettings, State};
use std::collections::BTreeSet;
use std::sync::Arc;

/// What the names of keyspaces start with that are not for users.
const RESERVED: &str = "esker.";
/// Those of them that replicate: members, late puts, drops. All others are each node's own.
const SHARED: [&str; 3] = ["esker.roster", QUARANTINE, KEYSPACES];

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

/// Refuses a name that no keyspace has which peers may bring.
pub(crate) fn check_name_of_peer(name: &str) -> Result<()> {
    check_keyspace_name(name)?;
    match is_reserved(name) && !SHARED.contains(&name) {
        true => Err(Error::invalid(format!("the keyspace {name:?} is each node's own"))),
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
    create_all(parts, &[name], scope, settings)?;
    parts.catalog.find(name).ok_or_else(|| Error::KeyspaceNotFound { name: name.to_owned() })
}

/// Creates those of `names` that are missing, as [`create`] does but all by one edit: who names them is a
/// peer, and may name very many. They stay missing from where on there are as many as peers may bring; what
/// nodes keep for themselves finds room all the same.
pub(crate) fn create_for_peer<'n>(
    parts: &Parts,
    names: impl Iterator<Item = &'n str>,
    scope: ScopeId,
    settings: KeyspaceSettings,
) -> Result<()> {
    let mut missing = parts.catalog.missing(names);
    if missing.is_empty() {
        return Ok(());
    }
    let count = parts.installer.with_state(|state| state.keyspaces.len());
    let mut room = KEYSPACES_MAX.saturating_sub(count);
    missing.retain(|name| {
        let has_room = is_reserved(name) || room > 0;
        room = room.saturating_sub(usize::from(!is_reserved(name)));
        has_room
    });
    if missing.is_empty() { Ok(()) } else { create_all(parts, &missing, scope, settings) }
}

/// Why a keyspace that a peer names is not there after [`create_for_peer`].
pub(crate) fn absent(parts: &Parts, name: &str) -> Error {
    let count = parts.installer.with_state(|state| state.keyspaces.len());
    match count >= KEYSPACES_MAX && !is_reserved(name) {
        true => Error::too_large("number of keyspaces", KEYSPACES_MAX as u64, count as u64 + 1),
        false => Error::KeyspaceNotFound { name: name.to_owned() },
    }
}

/// Creates those of `names`, which are all different, that are not there. Durable when this returns.
fn create_all(
    parts: &Parts,
    names: &[&str],
    scope: ScopeId,
    settings: KeyspaceSettings,
) -> Result<()> {
    parts.refuse_if_read_only()?;
    let created = parts.commits.mark(|| {});
    let asked: BTreeSet<&str> = names.iter().copied().collect();
    let is_asked = |record: &KeyspaceRecord| !record.is_dropped() && asked.contains(&*record.name);
    parts.record_then(
        |state| {
            let here = state.keyspaces.values().filter(|record| is_asked(record));
            let here: BTreeSet<&str> = here.map(|record| &*record.name).collect();
            let new = names.iter().copied().filter(|name| !here.contains(name));
            new_keyspaces(state, new, scope, settings, created)
        },
        |state| {
            let here = state.keyspaces.values().filter(|record| is_asked(record));
            let of_scope = here.filter(|record| record.scope == scope);
            of_scope.for_each(|record| parts.catalog.note_if_new(record));
        },
    )
}

/// The edit that creates keyspaces; nothing if other threads were faster.
fn new_keyspaces<'n>(
    state: &State,
    names: impl Iterator<Item = &'n str>,
    scope: ScopeId,
    settings: KeyspaceSettings,
    created: Tick,
) -> Edit {
    let mut next = state.next_keyspace;
    let keyspaces: Vec<KeyspaceRecord> = names
        .map(|name| {
            let (id, name) = (KeyspaceId::nth(scope, next), name.to_owned());
            next = next.saturating_add(1);
            KeyspaceRecord { id, scope, name, created, dropped: None, settings }
        })
        .collect();
    match keyspaces.is_empty() {
        true => Edit::default(),
        false => Edit {
            keyspaces,
            next_keyspace: Some(next),
            last_tick: Some(created),
            ..Edit::default()
        },
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
        assert!(matches!(admit(&shipment(4, "esker.roster")), Ok(Admission::Taken { .. })));
        assert!(matches!(admit(&shipment(5, "esker.x")), Err(Error::InvalidInput { .. })));
        db.keyspace("of a user", KeyspaceOptions::default()).unwrap();
    }
}
