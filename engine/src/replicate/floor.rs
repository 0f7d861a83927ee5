//! What may be forgotten, what was, and whether all is here.

use super::Replication;
use crate::damage::Missing;
use crate::quarantine;
use base::{KeyRanges, Origin, Result, ScopeId, Tick, Vector};
use sstable::manifest::Edit;

impl Replication {
    /// What every author has confirmed: tombstones up to it may be gone. Only rises. Empty until it was
    /// raised for the first time.
    pub fn floor(&self, scope: ScopeId) -> Vector {
        let of = |floors: &std::collections::BTreeMap<ScopeId, Vector>| floors.get(&scope).cloned();
        self.parts.installer.with_state(|state| of(&state.floors)).unwrap_or_default()
    }

    /// Raises the floor, durably before any tombstone is dropped for it. From the first call on, even
    /// with an empty vector, tombstones of the scope stay until the floor covers them; before, nobody
    /// replicates it, and they go as soon as they hide nothing here.
    ///
    /// If some have gone by then, the first floor is all that is durable here: a copy from before can not
    /// be told about them by a delta, so it has to rejoin.
    pub fn raise_floor(&self, scope: ScopeId, floor: &Vector) -> Result<()> {
        self.parts.refuse_if_read_only()?;
        let is_first = self.parts.installer.with_state(|state| !state.floors.contains_key(&scope));
        let mut floor = floor.clone();
        if is_first && self.dropped(scope) > Tick::ZERO {
            floor.raise_all(&self.parts.commits.with_durable(|vectors| vectors.of(scope)));
        }
        let is_higher = self.parts.installer.with_state(|state| {
            state.floors.get(&scope).is_none_or(|known| !known.covers_all(&floor))
        });
        if !is_higher {
            return Ok(());
        }
        let floors = vec![(scope, floor)];
        self.parts.record_then(|_| Edit { floors, ..Edit::default() }, |_| {})?;
        self.parts.compaction_bell.ring();
        Ok(())
    }

    /// The highest tick of the stamp of any tombstone ever dropped here.
    pub fn dropped(&self, scope: ScopeId) -> Tick {
        let dropped = |state: &sstable::manifest::State| state.dropped_stamps.get(&scope).copied();
        self.parts.installer.with_state(dropped).unwrap_or(Tick::ZERO)
    }

    /// Whether absences here count: not after content was lost, nor while it is still on its way.
    pub fn is_whole(&self, scope: ScopeId) -> bool {
        self.parts.installer.with_state(|state| !state.incomplete.contains_key(&scope))
    }

    /// Whether a table of the scope is damaged, and another node is to bring what it had: a
    /// [`super::Purpose::Heal`] or [`super::Purpose::Rejoin`] does.
    pub fn is_to_be_healed(&self, scope: ScopeId) -> bool {
        let damaged = self.parts.damage.to_heal();
        if damaged.is_empty() {
            return false;
        }
        let version = self.parts.installer.version();
        let mut tables = version.tables();
        tables.any(|meta| meta.scope == scope && damaged.contains(&meta.id))
    }

    /// The ranges of keys outside of which nothing is missing in `scope`; none if anything may be. A damaged
    /// table is read once for that.
    pub fn missing(&self, scope: ScopeId) -> Result<Option<KeyRanges>> {
        if !self.is_whole(scope) {
            return Ok(None);
        }
        Ok(match quarantine::missing_of(&self.parts, scope)? {
            Missing::Anything => None,
            Missing::Ranges(ranges) => KeyRanges::around(ranges),
        })
    }

    /// Says that nothing is missing any more, durably.
    pub fn set_whole(&self, scope: ScopeId) -> Result<()> {
        self.parts.refuse_if_read_only()?;
        let edit = Edit { whole: vec![scope], ..Edit::default() };
        self.parts.record_then(|_| edit, |_| {})
    }

    /// Says that something is missing, durably: until [`Replication::set_whole`], absences here do not
    /// count.
    pub fn set_incomplete(&self, scope: ScopeId) -> Result<()> {
        self.parts.refuse_if_read_only()?;
        let incomplete = vec![(scope, self.parts.commits.visible())];
        self.parts.record_then(|_| Edit { incomplete, ..Edit::default() }, |_| {})
    }

    /// The authors whose entries are here or were.
    pub fn origins(&self) -> Vec<Origin> {
        self.parts.origins.authors().list.to_vec()
    }

    /// The nodes that replicate with each other, once that is known.
    pub fn group(&self) -> Option<[u8; 16]> {
        self.parts.installer.with_state(|state| state.group)
    }

    /// Says which nodes replicate with each other, durably.
    pub fn set_group(&self, group: [u8; 16]) -> Result<()> {
        self.parts.refuse_if_read_only()?;
        let edit = Edit { group: Some(group), ..Edit::default() };
        self.parts.record_then(|_| edit, |_| {})
    }
}
