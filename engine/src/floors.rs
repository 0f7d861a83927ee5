//! Up to where tombstones may be forgotten.
//!
//! A tombstone hides what is older. Once every author has it, nothing older can come any more, and it
//! may go. Who replicates says so by raising the floor; the manifest keeps it. Where nobody has ever
//! raised one, nobody replicates, and the floor is the present.

use base::{ScopeId, Stamp, Vector};
use sstable::manifest::State;
use std::collections::BTreeMap;

/// See the module.
#[derive(Clone, Debug, Default)]
pub(crate) struct Floors {
    scopes: BTreeMap<ScopeId, Vector>,
}

impl Floors {
    /// Those that are durable.
    pub(crate) fn of(state: &State) -> Floors {
        Floors { scopes: state.floors.clone() }
    }

    /// Whether the floor of `scope` is the present.
    pub(crate) fn is_present(&self, scope: ScopeId) -> bool {
        !self.scopes.contains_key(&scope)
    }

    /// Whether every author of `scope` has the write with this stamp.
    pub(crate) fn covers(&self, scope: ScopeId, stamp: Stamp) -> bool {
        self.scopes.get(&scope).is_none_or(|floor| floor.covers_stamp(stamp))
    }
}
