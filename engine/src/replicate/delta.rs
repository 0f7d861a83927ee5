//! A delta: the entries of a scope that somebody has not received, as they are at one moment.
//!
//! It sends what is newest of each key, tombstones and erases included; what it knows to be superseded
//! or covered stays here. Tables whose authors' last commits the other has are not read. Then an entry
//! found elsewhere may be older than what they hold, so each is looked up before it is sent.

use super::Replication;
use crate::merge::{Merge, RunCursor, Source};
use crate::origins::Origins;
use crate::parts::Parts;
use crate::range_map::RangeMap;
use crate::read;
use crate::tables::TableHandle;
use crate::view::View;
use base::error::FileKind;
use base::foreign::{EntryStamp, NumberedStamp, plain_value, stamp_of};
use base::state::{StateChunk, StateEntry, StateKind, StateWriter};
use base::{
    Corruption, EntryKind, Error, Origin, Result, ScopeId, SpaceId, Stamp, Tick, Trailer, Vector,
};
use sstable::{RangeDelete, ReadMode};
use std::collections::VecDeque;
use std::sync::Arc;

/// Bytes of entries that are read at a time.
const ENTRIES_LEN: usize = 64 << 10;

/// A key, its value, and who wrote it when.
pub type Stamped = (Vec<u8>, Vec<u8>, Stamp);

/// What a delta brings besides entries.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct DeltaHead {
    /// What was received here at that moment.
    pub vector: Vector,
    /// The floor.
    pub floor: Vector,
    /// The highest tick of the stamp of any tombstone ever dropped.
    pub dropped: Tick,
}

/// Entries of a moment, in chunks (see [`base::state`]). Pins the tables of that moment.
pub struct Delta {
    head: DeltaHead,
    scope: ScopeId,
    /// What the other has.
    after: Vector,
    view: Arc<View>,
    at: Tick,
    now_ms: u64,
    maps: Vec<Arc<RangeMap>>,
    /// Range deletes to be sent, with the names of their keyspaces.
    ranges: VecDeque<(String, RangeDelete)>,
    /// Keyspaces to be sent, by name.
    spaces: VecDeque<(String, SpaceId)>,
    reading: Option<Reading>,
}

/// A keyspace being read.
struct Reading {
    name: String,
    space: SpaceId,
    merge: Merge,
    /// Whether tables were left out that may hold something newer.
    is_partial: bool,
    /// The key whose versions were dealt with.
    done: Option<Vec<u8>>,
}

impl Replication {
    /// The entries of `scope` that `after` does not cover, as of now. With an empty vector all there are.
    pub fn delta(&self, scope: ScopeId, after: &Vector) -> Result<Delta> {
        Delta::after(&self.parts, scope, after)
    }

    /// The live entries of the keyspace `name` with their stamps, by key; none if there is no such
    /// keyspace. They are held in memory at once: for small keyspaces.
    pub fn entries(&self, name: &str) -> Result<Vec<Stamped>> {
        let Some(state) = self.parts.catalog.find(name) else { return Ok(Vec::new()) };
        let mut delta = Delta::after(&self.parts, state.space.scope(), &Vector::default())?;
        delta.ranges.clear();
        delta.spaces.retain(|(_, space)| *space == state.space);
        let mut entries = Vec::new();
        while let Some(chunk) = delta.next(ENTRIES_LEN)? {
            for entry in StateChunk::decode(&chunk).map_err(unreadable)?.entries {
                if let StateKind::Put(value) | StateKind::PutExpiring { value, .. } = entry.kind {
                    entries.push((entry.key.to_vec(), value.to_vec(), entry.stamp));
                }
            }
        }
        Ok(entries)
    }
}

impl Delta {
    fn after(parts: &Parts, scope: ScopeId, after: &Vector) -> Result<Delta> {
        parts.refuse_if_closed()?;
        let (view, at, vector) = moment(parts, scope);
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
        let spaces: VecDeque<_> = of_scope.map(|state| (state.name.clone(), state.space)).collect();
        let mut delta = Delta {
            head: DeltaHead { vector, floor, dropped },
            scope,
            after: after.clone(),
            view,
            at,
            now_ms: parts.clock.wall_ms(),
            maps,
            ranges: VecDeque::new(),
            spaces,
            reading: None,
        };
        delta.ranges = delta.unknown_ranges();
        Ok(delta)
    }

    /// What comes with the entries.
    pub fn head(&self) -> &DeltaHead {
        &self.head
    }

    /// The next chunk of about `len_max` bytes (an entry may be longer), or `None` at the end. Range
    /// deletes come first, then entries by the name of their keyspace and by key.
    pub fn next(&mut self, len_max: usize) -> Result<Option<Vec<u8>>> {
        let mut writer = StateWriter::new(self.scope);
        while writer.len() < len_max
            && let Some((name, range)) = self.ranges.pop_front()
        {
            let stamp = range.stamp(Origin::default());
            let kind = StateKind::RangeDelete { end: &range.end };
            writer.push(&StateEntry { keyspace: &name, key: &range.start, stamp, kind });
        }
        if writer.is_empty() {
            while writer.len() < len_max && self.advance(&mut writer, len_max)? {}
        }
        Ok(if writer.is_empty() { None } else { Some(writer.finish()) })
    }

    /// The range deletes that the other has not received, by keyspace name and start.
    fn unknown_ranges(&self) -> VecDeque<(String, RangeDelete)> {
        let name_of = |space: SpaceId| self.spaces.iter().find(|(_, known)| *known == space);
        let all = self.maps.iter().flat_map(|map| map.ranges());
        let unknown = all.filter(|range| {
            range.seqno <= self.at && !self.after.covers_stamp(range.stamp(Origin::default()))
        });
        let mut ranges: Vec<(String, RangeDelete)> = unknown
            .filter_map(|range| Some((name_of(range.space)?.0.clone(), range.clone())))
            .collect();
        ranges.sort_by(|(a, x), (b, y)| (a, &x.start, x.seqno).cmp(&(b, &y.start, y.seqno)));
        ranges.dedup();
        ranges.into()
    }

    /// Adds entries of the current keyspace, or goes on to the next one. False at the end.
    fn advance(&mut self, writer: &mut StateWriter, len_max: usize) -> Result<bool> {
        let mut reading = match self.reading.take() {
            Some(reading) => reading,
            None => match self.spaces.pop_front() {
                Some((name, space)) => self.read(name, space)?,
                None => return Ok(false),
            },
        };
        while reading.merge.is_valid() {
            if writer.len() >= len_max {
                self.reading = Some(reading);
                return Ok(true);
            }
            self.look(&mut reading, writer)?;
            reading.merge.step()?;
        }
        Ok(true)
    }

    /// Starts to read a keyspace.
    fn read(&self, name: String, space: SpaceId) -> Result<Reading> {
        let view = &self.view;
        let memtables = std::iter::once(&view.active).chain(&view.frozen);
        let mut sources: Vec<Source> =
            memtables.map(|memtable| Source::Memtable(memtable.cursor(space))).collect();
        let mut is_partial = false;
        for run in view.runs.runs().iter().filter(|run| run.may_hold(space)) {
            let mut news: Vec<Arc<TableHandle>> = Vec::new();
            for handle in run.tables().iter() {
                match self.has_news(handle)? {
                    true => news.push(handle.clone()),
                    false => is_partial = true,
                }
            }
            if !news.is_empty() {
                sources.push(Source::Run(RunCursor::over(news.into(), space, ReadMode::Bypass)));
            }
        }
        let mut merge = Merge::new(sources);
        merge.seek_first()?;
        Ok(Reading { name, space, merge, is_partial, done: None })
    }

    /// Whether a table may hold what the other has not received.
    fn has_news(&self, handle: &TableHandle) -> Result<bool> {
        let meta = handle.meta();
        if meta.scope != self.scope {
            return Ok(false);
        }
        if self.after.is_empty() {
            return Ok(true);
        }
        let local = handle.table()?.local();
        let stamp = |(origin, tick)| self.origins().stamp(NumberedStamp { origin, tick }, || local);
        Ok(meta.latest().any(|latest| !self.after.covers_stamp(stamp(latest))))
    }

    fn origins(&self) -> &Origins {
        &self.view.origins
    }

    /// Adds the version under the merge if it is the newest of its key and news.
    fn look(&self, reading: &mut Reading, writer: &mut StateWriter) -> Result<()> {
        let merge = &reading.merge;
        let (key, trailer, stored) = (merge.key(), merge.trailer(), merge.value());
        if trailer.seqno() > self.at || reading.done.as_deref() == Some(key) {
            return Ok(());
        }
        let local = merge.local().unwrap_or(self.view.active.local());
        let stamp = stamp_of(trailer, stored).map_err(unreadable)?;
        let carrier = self.origins().stamp(stamp.carrier(), || local);
        let is_news = !is_nothing(&stamp, carrier)
            && !self.after.covers_stamp(carrier)
            && !self.is_covered(reading.space, key, trailer, stored, local)
            && self.is_newest(reading, key, trailer)?;
        if is_news {
            let kind = self.kind(trailer, stored, &stamp, carrier)?;
            let stamp = self.origins().entry_stamp(stamp, || local);
            writer.push(&StateEntry { keyspace: &reading.name, key, stamp, kind });
        }
        let mut done = reading.done.take().unwrap_or_default();
        done.clear();
        done.extend_from_slice(reading.merge.key());
        reading.done = Some(done);
        Ok(())
    }

    fn is_covered(
        &self,
        space: SpaceId,
        key: &[u8],
        trailer: Trailer,
        stored: &[u8],
        local: Origin,
    ) -> bool {
        let covering = self.maps.iter().filter_map(|map| map.covering(space, key, self.at)).max();
        covering
            .is_some_and(|range| read::is_covered(range, trailer, stored, || local, self.origins()))
    }

    /// Whether no table that was left out holds a newer version.
    fn is_newest(&self, reading: &Reading, key: &[u8], trailer: Trailer) -> Result<bool> {
        if !reading.is_partial {
            return Ok(true);
        }
        let newest = read::newest(&self.view, reading.space, key, self.at, |found| found.trailer)?;
        Ok(newest.is_none_or(|newest| newest.seqno() == trailer.seqno()))
    }

    /// What the other is told of an entry. What has expired is a tombstone of the same stamp.
    fn kind<'s>(
        &self,
        trailer: Trailer,
        stored: &'s [u8],
        stamp: &EntryStamp,
        carrier: Stamp,
    ) -> Result<StateKind<'s>> {
        if let EntryStamp::Erase(_) = stamp {
            return Ok(StateKind::Erase { carrier });
        }
        let value = plain_value(trailer, stored).map_err(unreadable)?;
        match trailer.kind() {
            Some(EntryKind::Put) => Ok(StateKind::Put(value)),
            Some(EntryKind::Delete) => Ok(StateKind::Delete),
            Some(EntryKind::PutExpiring) => {
                let (expires_at_ms, value) = value
                    .split_first_chunk::<8>()
                    .ok_or_else(|| unreadable(Corruption::Truncated))?;
                let expires_at_ms = u64::from_le_bytes(*expires_at_ms);
                Ok(match expires_at_ms > self.now_ms {
                    true => StateKind::PutExpiring { expires_at_ms, value },
                    false => StateKind::Delete,
                })
            }
            _ => Err(unreadable(Corruption::UnknownKind)),
        }
    }
}

/// A view, the last commit that is visible and wholly in it, and what was received up to there.
fn moment(parts: &Parts, scope: ScopeId) -> (Arc<View>, Tick, Vector) {
    loop {
        let view = parts.views.current();
        let (at, vector) = parts.commits.at_visible(|at, vectors| (at, vectors.of(scope)));
        if parts.views.is_current(&view) {
            return (view, at, vector);
        }
    }
}

/// Whether an entry stands for nothing: a rejoin has put it in the place of what was let go.
fn is_nothing(stamp: &EntryStamp, carrier: Stamp) -> bool {
    matches!(stamp, EntryStamp::Erase(erased) if erased.victim == carrier)
}

#[cold]
fn unreadable(found: Corruption) -> Error {
    Error::corrupt(FileKind::Table, base::dir::TABLES_DIR, 0, found)
}

impl std::fmt::Debug for Delta {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Delta {{ scope: {}, at: {} }}", self.scope.0, self.at)
    }
}
