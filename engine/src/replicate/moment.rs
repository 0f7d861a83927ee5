//! A scope as it is at one moment: what is newest of each key, whatever is written meanwhile.

use super::DeltaHead;
use crate::origins::Origins;
use crate::parts::Parts;
use crate::range_map::RangeMap;
use crate::read::{self, Found};
use crate::view::View;
use base::error::FileKind;
use base::foreign::{EntryStamp, plain_value, stamp_of};
use base::state::StateKind;
use base::{
    Corruption, EntryKind, Error, Origin, Result, ScopeId, SpaceId, Stamp, Tick, Trailer, Vector,
};
use std::sync::Arc;

/// See the module. Pins memtables and tables.
pub(super) struct Moment {
    pub(super) scope: ScopeId,
    pub(super) view: Arc<View>,
    /// The last commit that it sees.
    pub(super) at: Tick,
    now_ms: u64,
    /// All range deletes.
    pub(super) maps: Vec<Arc<RangeMap>>,
    /// The keyspaces of the scope, by name.
    pub(super) spaces: Vec<(String, SpaceId)>,
    /// What was received and forgotten up to then.
    pub(super) head: DeltaHead,
}

/// Who wrote an entry, and what brought it.
#[derive(Clone, Copy, Debug)]
pub(super) struct Provenance {
    /// Its author's stamp; of an erase, its victim's.
    pub(super) stamp: Stamp,
    /// The commit that brought it.
    pub(super) carrier: Stamp,
    pub(super) is_erase: bool,
}

impl Provenance {
    /// Whether it stands for nothing: a rejoin has put it in the place of what was let go.
    pub(super) fn is_nothing(&self) -> bool {
        self.is_erase && self.carrier == self.stamp
    }
}

impl Moment {
    /// `scope` as it is now.
    pub(super) fn of(parts: &Parts, scope: ScopeId) -> Result<Moment> {
        parts.refuse_if_closed()?;
        let (view, at, vector) = present(parts, scope);
        // Not older than the view: what the view has dropped is known.
        let (floor, dropped) = parts.installer.with_state(|state| {
            let floor = state.floors.get(&scope).cloned().unwrap_or_default();
            (floor, state.dropped_stamps.get(&scope).copied().unwrap_or(Tick::ZERO))
        });
        let memtables = std::iter::once(&view.active).chain(&view.frozen);
        let mut maps: Vec<Arc<RangeMap>> =
            memtables.map(|memtable| memtable.range_deletes()).collect();
        maps.push(view.table_ranges.clone());
        maps.retain(|map| !map.is_empty());
        let live = parts.catalog.live().into_iter();
        let of_scope = live.filter(|state| state.space.scope() == scope);
        let spaces = of_scope.map(|state| (state.name.clone(), state.space)).collect();
        // It may have risen since: nothing above the vector was here to be forgotten.
        let floor = floor.common(&vector);
        let (head, now_ms) = (DeltaHead { vector, floor, dropped }, parts.clock.wall_ms());
        Ok(Moment { scope, view, at, now_ms, maps, spaces, head })
    }

    pub(super) fn origins(&self) -> &Origins {
        &self.view.origins
    }

    /// Whose an entry is, where `local` says what "local" means where it is stored.
    pub(super) fn provenance(
        &self,
        trailer: Trailer,
        stored: &[u8],
        local: Origin,
    ) -> Result<Provenance> {
        let of = stamp_of(trailer, stored).map_err(unreadable)?;
        let carrier = self.origins().stamp(of.carrier(), || local);
        let is_erase = matches!(of, EntryStamp::Erase(_));
        let stamp = self.origins().entry_stamp(of, || local);
        Ok(Provenance { stamp, carrier, is_erase })
    }

    /// The greatest stamp of the range deletes over `key`.
    pub(super) fn covering(&self, space: SpaceId, key: &[u8]) -> Option<Stamp> {
        self.maps.iter().filter_map(|map| map.covering(space, key, self.at)).max()
    }

    /// Whether a range delete hides an entry.
    pub(super) fn is_covered(
        &self,
        space: SpaceId,
        key: &[u8],
        trailer: Trailer,
        stored: &[u8],
        local: Origin,
    ) -> bool {
        self.covering(space, key)
            .is_some_and(|range| read::is_covered(range, trailer, stored, || local, self.origins()))
    }

    /// Calls `found` with the newest entry of `key`.
    pub(super) fn newest<R>(
        &self,
        space: SpaceId,
        key: &[u8],
        found: impl FnOnce(Found<'_>) -> R,
    ) -> Result<Option<R>> {
        read::newest(&self.view, space, key, self.at, found)
    }

    /// What others are told of an entry. What has expired is a tombstone of the same stamp.
    pub(super) fn kind<'s>(
        &self,
        trailer: Trailer,
        stored: &'s [u8],
        of: &Provenance,
    ) -> Result<StateKind<'s>> {
        if of.is_erase {
            return Ok(StateKind::Erase { carrier: of.carrier });
        }
        let value = plain_value(trailer, stored).map_err(unreadable)?;
        match trailer.kind() {
            Some(EntryKind::Put) => Ok(StateKind::Put(value)),
            Some(EntryKind::Delete) => Ok(StateKind::Delete),
            Some(EntryKind::PutExpiring) => {
                let (expires_at_ms, value) = split_expiry(value)?;
                Ok(match expires_at_ms > self.now_ms {
                    true => StateKind::PutExpiring { expires_at_ms, value },
                    false => StateKind::Delete,
                })
            }
            _ => Err(unreadable(Corruption::UnknownKind)),
        }
    }
}

/// Until when an entry is a value that nobody forgets, in milliseconds since the Unix epoch: 0 for
/// what is no value.
pub(super) fn lasts_until_ms(trailer: Trailer, stored: &[u8]) -> Result<u64> {
    match trailer.kind() {
        Some(EntryKind::Put) => Ok(u64::MAX),
        Some(EntryKind::PutExpiring) => {
            let value = plain_value(trailer, stored).map_err(unreadable)?;
            split_expiry(value).map(|(expires_at_ms, _)| expires_at_ms)
        }
        _ => Ok(0),
    }
}

fn split_expiry(value: &[u8]) -> Result<(u64, &[u8])> {
    let split = value.split_first_chunk::<8>().ok_or_else(|| unreadable(Corruption::Truncated));
    split.map(|(expires_at_ms, value)| (u64::from_le_bytes(*expires_at_ms), value))
}

/// A view, the last commit that is visible and wholly in it, and what was received up to there.
pub(super) fn present(parts: &Parts, scope: ScopeId) -> (Arc<View>, Tick, Vector) {
    loop {
        let view = parts.views.current();
        let (at, vector) = parts.commits.at_visible(|at, vectors| (at, vectors.of(scope)));
        if parts.views.is_current(&view) {
            return (view, at, vector);
        }
    }
}

#[cold]
pub(super) fn unreadable(found: Corruption) -> Error {
    Error::corrupt(FileKind::Table, base::dir::TABLES_DIR, 0, found)
}
