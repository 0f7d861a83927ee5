//! Tables and edits for the tests of the manifest.

use super::{Added, Archiving, Closed, Edit, KeyspaceRecord, KeyspaceSettings};
use crate::meta::{TableKey, TableMeta, TableSource};
use base::{
    Incarnation, KeyspaceId, NodeId, Origin, OriginNumber, Position, ScopeId, SpaceId, Tick, Vector,
};
use std::sync::Arc;

/// Table `id` from `smallest` to `largest` of one keyspace, 10 entries in 100 bytes.
pub(super) fn added(order: u64, level: u8, id: u64, smallest: &str, largest: &str) -> Added {
    let space = SpaceId::new(ScopeId::MAIN, KeyspaceId(1));
    let meta = TableMeta {
        id,
        len: 100,
        root: [id as u8; 32],
        scope: ScopeId::MAIN,
        smallest: TableKey::new(space, smallest.as_bytes()),
        largest: TableKey::new(space, largest.as_bytes()),
        entries: 10,
        tombstones: 1,
        expiring: 0,
        range_deletes: 0,
        raw_bytes: 200,
        seqno_min: Tick::from_ms(1),
        seqno_max: Tick::from_ms(id),
        tombstone_stamp_max: Tick::from_ms(1),
        expires_at_max_ms: 0,
        generation: 1,
        shadowed: 0,
        seqno_override: None,
        local: OriginNumber(2),
        origins: [(OriginNumber::LOCAL, Tick::from_ms(id)), (OriginNumber(7), Tick::from_ms(3))]
            .into(),
        source: Some(TableSource { database: [6; 16], id: 77 }),
    };
    Added { order, level, meta: Arc::new(meta) }
}

/// Table `id` that holds nothing but a range delete from `start`.
pub(super) fn added_range_deletes(order: u64, level: u8, id: u64, start: &str) -> Added {
    let mut added = added(order, level, id, start, start);
    let meta = Arc::make_mut(&mut added.meta);
    (meta.entries, meta.tombstones, meta.range_deletes) = (0, 0, 1);
    added
}

/// An edit that uses every field.
pub(super) fn full_edit() -> Edit {
    let keyspace = |id, dropped| KeyspaceRecord {
        id: KeyspaceId(id),
        scope: ScopeId::MAIN,
        name: format!("keyspace {id}"),
        created: Tick::from_ms(5),
        dropped,
        settings: KeyspaceSettings {
            compression: 1,
            filter_bits: 10,
            blob_threshold: 4096,
            history_ms: 60_000,
        },
    };
    let origin = Origin { node: NodeId([7; 16]), incarnation: Incarnation(8) };
    Edit {
        added: vec![added(1, 0, 4, "a", "c"), added_range_deletes(1, 0, 5, "b")],
        removed: vec![2, 300],
        flushed: Some(Tick::from_ms(7)),
        next_table: Some(6),
        next_keyspace: Some(3),
        last_tick: Some(Tick::from_ms(8)),
        keyspaces: vec![keyspace(1, None), keyspace(2, Some(Tick::from_ms(6)))],
        log_end: Some(Position { segment: 3, offset: 4000 }),
        log_start: Some(2),
        closed: Some(Closed { log_end: Position { segment: 3, offset: 4096 } }),
        dropped_stamps: vec![(ScopeId::LOCAL, Tick::from_ms(1)), (ScopeId::MAIN, Tick::MAX)],
        first_positions: vec![(ScopeId::MAIN, origin, Position { segment: 1, offset: 128 })],
        clock_bound: Some(Tick::from_ms(9)),
        incomplete: vec![(ScopeId::LOCAL, Tick::from_ms(2)), (ScopeId::MAIN, Tick::from_ms(3))],
        horizon: Some(Tick::from_ms(7)),
        archiving: Some(Archiving { from: 2, since: Tick::from_ms(3) }),
        ingests: vec![Tick::from_ms(4), Tick::from_ms(6)],
        adopted: Some(ScopeId::MAIN),
        origins: vec![(OriginNumber(1), origin)],
        vectors: vec![(ScopeId::MAIN, Vector::from_iter([(origin, Tick::from_ms(7))]))],
        floors: vec![(ScopeId::LOCAL, Vector::default()), (ScopeId::MAIN, Vector::default())],
        whole: vec![ScopeId::LOCAL, ScopeId::MAIN],
        group: Some([9; 16]),
    }
}
