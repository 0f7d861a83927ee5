//! Two nodes that are compared, for tests.

use crate::memory::{Change, MemoryStore, Write};
use crate::store::Store;
use base::{Incarnation, NodeId, ScopeId};

/// What all clocks show at first.
pub(super) const WALL_MS: u64 = 1_700_000_000_000;
/// The name of the element that differs: of the key "key" in the keyspace "k".
pub(super) const NAME: &[u8] = b"k\0key";

/// An empty node.
pub(super) fn node(number: u8) -> MemoryStore {
    MemoryStore::new(NodeId([number; 16]), Incarnation(number.into()), WALL_MS)
}

/// Commits one change in the keyspace "k".
pub(super) fn write(store: &MemoryStore, key: &[u8], change: Change) {
    let write = Write { keyspace: "k".to_owned(), key: key.to_vec(), change };
    store.write(&[write]).unwrap();
}

/// Brings `to` all that `from` has.
pub(super) fn ship(from: &MemoryStore, to: &MemoryStore) {
    from.sync();
    let mut tail = from.tail(ScopeId::MAIN, &to.applied(ScopeId::MAIN)).unwrap();
    while let Some(shipment) = tail.next(&to.applied(ScopeId::MAIN), 1 << 20).unwrap() {
        to.admit(&shipment.bytes).unwrap();
    }
}

/// Forgets the tombstones that are here now.
pub(super) fn forget(store: &MemoryStore) {
    store.raise_floor(ScopeId::MAIN, &store.applied(ScopeId::MAIN)).unwrap();
    store.collect();
}
