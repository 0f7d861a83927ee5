//! The keyspaces by name and by number.

use crate::keyspace::KeyspaceState;
use base::lock::{Rank, RwLock};
use base::{KeyspaceId, ScopeId, SpaceId};
use sstable::manifest::KeyspaceRecord;
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;
use std::sync::atomic::Ordering;

/// What is known of keyspaces in memory; the manifest holds the same durably.
#[derive(Debug)]
pub(crate) struct Catalog {
    names: RwLock<Names>,
}

#[derive(Debug, Default)]
struct Names {
    live: BTreeMap<String, Arc<KeyspaceState>>,
    /// The same by number.
    spaces: HashMap<SpaceId, Arc<KeyspaceState>>,
    dropped: BTreeMap<KeyspaceId, Arc<KeyspaceState>>,
}

impl Catalog {
    /// The catalog of `records`.
    pub(crate) fn of<'r>(records: impl Iterator<Item = &'r Arc<KeyspaceRecord>>) -> Catalog {
        let catalog = Catalog { names: RwLock::new(Rank::Keyspaces, Names::default()) };
        records.for_each(|record| {
            catalog.note(record);
        });
        catalog
    }

    /// Notes a keyspace that was created or dropped. Returns its state.
    pub(crate) fn note(&self, record: &KeyspaceRecord) -> Arc<KeyspaceState> {
        let state = Arc::new(KeyspaceState::of(record));
        let mut names = self.names.write();
        if record.dropped.is_some() {
            if let Some(live) = names.spaces.remove(&state.space) {
                names.live.remove(&live.name);
            }
            names.dropped.insert(record.id, state.clone());
        } else {
            names.live.insert(record.name.clone(), state.clone());
            names.spaces.insert(state.space, state.clone());
        }
        state
    }

    /// Notes a keyspace unless it is known: whoever created it first made the state that all handles
    /// share.
    pub(crate) fn note_if_new(&self, record: &KeyspaceRecord) {
        if self.find(&record.name).is_none() {
            self.note(record);
        }
    }

    /// Ends all handles of the keyspace of `state`, and puts another state in its place for those that
    /// come. Nothing if its handles have ended before, or its scope is closed.
    pub(crate) fn renew(&self, state: &Arc<KeyspaceState>) -> Option<Arc<KeyspaceState>> {
        let mut names = self.names.write();
        let live = names.live.get(&state.name).filter(|live| Arc::ptr_eq(live, state))?;
        if live.is_dropped.swap(true, Ordering::AcqRel) {
            return None;
        }
        let fresh = Arc::new(KeyspaceState::new(live.space, live.name.clone(), live.settings));
        names.live.insert(fresh.name.clone(), fresh.clone());
        names.spaces.insert(fresh.space, fresh.clone());
        Some(fresh)
    }

    /// Lets no handle of a keyspace of `scope` write any more.
    pub(crate) fn close_scope(&self, scope: ScopeId) {
        self.mark(scope, true);
    }

    /// Lets the handles of [`Catalog::close_scope`] write again.
    pub(crate) fn open_scope(&self, scope: ScopeId) {
        self.mark(scope, false);
    }

    fn mark(&self, scope: ScopeId, is_dropped: bool) {
        let names = self.names.read();
        for state in names.live.values().filter(|state| state.space.scope() == scope) {
            state.is_dropped.store(is_dropped, Ordering::Release);
        }
    }

    /// The keyspaces of `scope` are those of `records` now; handles of others are dropped ones.
    pub(crate) fn adopt<'r>(
        &self,
        scope: ScopeId,
        records: impl Iterator<Item = &'r Arc<KeyspaceRecord>>,
    ) {
        self.close_scope(scope);
        {
            let mut names = self.names.write();
            names.live.retain(|_, state| state.space.scope() != scope);
            names.spaces.retain(|space, _| space.scope() != scope);
            names.dropped.retain(|_, state| state.space.scope() != scope);
        }
        records.filter(|record| record.scope == scope).for_each(|record| {
            self.note(record);
        });
    }

    /// The live keyspace `name`.
    pub(crate) fn find(&self, name: &str) -> Option<Arc<KeyspaceState>> {
        self.names.read().live.get(name).cloned()
    }

    /// Those of `names` that no live keyspace has, in their order, each once.
    pub(crate) fn missing<'n>(&self, names: impl Iterator<Item = &'n str>) -> Vec<&'n str> {
        let live = &self.names.read().live;
        let mut seen = BTreeSet::new();
        names.filter(|name| !live.contains_key(*name) && seen.insert(*name)).collect()
    }

    /// All live keyspaces, by name.
    pub(crate) fn live(&self) -> Vec<Arc<KeyspaceState>> {
        self.names.read().live.values().cloned().collect()
    }

    /// The live keyspace with this number.
    pub(crate) fn of_space(&self, space: SpaceId) -> Option<Arc<KeyspaceState>> {
        self.names.read().spaces.get(&space).cloned()
    }

    /// The name of the keyspace with this number, live or dropped.
    pub(crate) fn name_of(&self, space: SpaceId) -> Option<String> {
        if let Some(state) = self.of_space(space) {
            return Some(state.name.clone());
        }
        self.names.read().dropped.get(&space.keyspace()).map(|state| state.name.clone())
    }

    /// Whether the keyspace was dropped, so that compactions may forget its entries.
    pub(crate) fn is_dropped(&self, space: SpaceId) -> bool {
        self.names.read().dropped.get(&space.keyspace()).is_some_and(|state| state.space == space)
    }
}
