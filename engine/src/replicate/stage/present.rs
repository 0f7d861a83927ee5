//! What the entries of a chunk are compared with as they come: what is visible at that moment.
//!
//! They come in the order of their keys. So a memtable is not asked for each of them: a cursor in it stands
//! on the first key that it has behind the one before, and most entries come before that.

use super::judge::{mine, rank_of};
use crate::memtable::MemtableCursor;
use crate::parts::Parts;
use crate::read::{self, Found};
use crate::replicate::moment::present;
use crate::view::View;
use base::state::StateEntry;
use base::{Cursor, Origin, Result, ScopeId, SpaceId, Tick, Trailer, Vector};
use std::sync::Arc;

/// See the module.
pub(super) struct Present {
    view: Arc<View>,
    /// The last commit that is visible.
    pub(super) at: Tick,
    vector: Vector,
    /// What memtables have of the keyspace asked about last.
    memory: Option<(SpaceId, Vec<MemtableCursor>)>,
}

impl Present {
    /// As it is now.
    pub(super) fn of(parts: &Parts, scope: ScopeId) -> Present {
        let (view, at, vector) = present(parts, scope);
        Present { view, at, vector, memory: None }
    }

    /// What was received.
    pub(super) fn vector(&self) -> &Vector {
        &self.vector
    }

    /// Up to where all was received that the author has written.
    pub(super) fn received(&self, author: Origin) -> Tick {
        self.vector.get(author)
    }

    /// Whether `entry`, which is news, is greater than what is here. Entries of a keyspace are asked about in
    /// the order of their keys.
    pub(super) fn is_won_by(&mut self, space: SpaceId, entry: &StateEntry<'_>) -> Result<bool> {
        let is_in_memory = self.is_in_memory(space, entry.key)?;
        let (view, at) = (&self.view, self.at);
        let theirs = rank_of(entry);
        let covering = match view.has_range_deletes() {
            true => read::covering(view, space, entry.key, at),
            false => None,
        };
        if covering.is_some_and(|range| range > theirs.stamp) {
            return Ok(false);
        }
        let rank = |Found { trailer, stored, local }: Found<'_>| {
            mine(view, trailer, stored, || local.unwrap_or(view.active.local()))
        };
        let found = match is_in_memory {
            true => read::newest(view, space, entry.key, at, rank)?,
            false => read::newest_flushed(view, space, entry.key, at, rank)?,
        };
        let found = found.transpose()?;
        let is_open = |range: base::Stamp| found.is_some_and(|mine| range > mine.rank.stamp);
        Ok(covering.is_some_and(is_open) || found.is_none_or(|mine| mine.rank < theirs))
    }

    /// Whether a memtable has the key. What is inserted meanwhile is not visible at this moment.
    fn is_in_memory(&mut self, space: SpaceId, key: &[u8]) -> Result<bool> {
        if !matches!(self.memory, Some((of, _)) if of == space) {
            self.memory = Some((space, cursors(&self.view, space)?));
        }
        let cursors = self.memory.iter_mut().flat_map(|(_, cursors)| cursors);
        for cursor in cursors {
            if cursor.is_valid() && cursor.key() < key {
                cursor.seek(key, Trailer::MAX)?;
            }
            if cursor.is_valid() && cursor.key() == key {
                return Ok(true);
            }
        }
        Ok(false)
    }
}

/// A cursor on the first entry of `space` in each memtable that has any.
fn cursors(view: &View, space: SpaceId) -> Result<Vec<MemtableCursor>> {
    let memtables = std::iter::once(&view.active).chain(&view.frozen);
    let mut cursors: Vec<MemtableCursor> = memtables
        .map(|memtable| memtable.cursor(space))
        .filter(MemtableCursor::has_entries)
        .collect();
    cursors.iter_mut().try_for_each(Cursor::seek_first)?;
    Ok(cursors)
}
