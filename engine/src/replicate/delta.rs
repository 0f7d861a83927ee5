//! A delta: the entries of a scope that somebody has not received, as they are at one moment.
//!
//! It sends what is newest of each key, tombstones and erases included; what it knows to be superseded
//! or covered stays here. Tables whose authors' last commits the other has are not read. Then an entry
//! found below one of them may be older than what that holds, so it is looked up before it is sent.

use super::Replication;
use super::log_index::Start;
use super::moment::Moment;
use crate::merge::{Merge, RunCursor, Source};
use crate::parts::Parts;
use crate::tables::TableHandle;
use base::foreign::NumberedStamp;
use base::state::{CHUNK_ENTRIES_MAX, StateEntry, StateKind, StateWriter};
use base::{KeyRange, KeyRanges, Origin, Result, ScopeId, SpaceId, Stamp, Tick, Trailer, Vector};
use sstable::{RangeDelete, ReadMode, TableMeta};
use std::collections::VecDeque;
use std::sync::Arc;

/// Bytes that a call looks at, so that it ends soon even where nothing is news: with what an entry and a
/// look into other tables cost besides.
const WORK_MAX: usize = 16 << 20;
const ENTRY_WORK: usize = 64;
const _: () =
    assert!(WORK_MAX / ENTRY_WORK <= CHUNK_ENTRIES_MAX, "a call fills no chunk beyond that");
const LOOK_UP_WORK: usize = 8 << 10;
/// Bytes of a chunk that memory is set aside for at once, at the most; and those of an entry with which it ends.
const ROOM_MAX: usize = 1 << 20;
const ROOM_OF_LAST: usize = 16 << 10;

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
    moment: Moment,
    /// What the other has.
    after: Vector,
    /// Where it lacks what it had.
    missing: KeyRanges,
    /// Range deletes to be sent, with the names of their keyspaces.
    ranges: VecDeque<(String, RangeDelete)>,
    /// Keyspaces to be sent, by name.
    spaces: VecDeque<(String, SpaceId)>,
    reading: Option<Reading>,
    /// Bytes that the present call has looked at.
    work: usize,
}

/// A keyspace being read.
struct Reading {
    name: String,
    space: SpaceId,
    /// Where the other lacks what it had.
    missing: Vec<KeyRange>,
    merge: Merge,
    /// Tables that were left out and are above some that were not: only they may hold something newer.
    above: Vec<Arc<TableHandle>>,
    /// The key whose versions were dealt with.
    done: Option<Vec<u8>>,
}

impl Reading {
    /// Whether a table that was left out may hold something newer of `key`. Runs are in the order of their
    /// age, so what is below holds nothing newer.
    fn may_be_above(&self, key: &[u8]) -> bool {
        let place = (self.space, key);
        self.above.iter().any(|table| {
            let (first, last) = (&table.meta().smallest, &table.meta().largest);
            (first.space, &*first.key) <= place && place <= (last.space, &*last.key)
        })
    }
}

impl Replication {
    /// The entries of `scope` that `after` does not cover, as of now. With an empty vector all there are.
    pub fn delta(&self, scope: ScopeId, after: &Vector) -> Result<Delta> {
        Delta::after(&self.parts, scope, after)
    }

    /// As [`Replication::delta`], and all entries of keys in `missing` besides.
    pub fn delta_besides(
        &self,
        scope: ScopeId,
        after: &Vector,
        missing: &KeyRanges,
    ) -> Result<Delta> {
        let mut delta = Delta::after(&self.parts, scope, after)?;
        delta.missing = missing.clone();
        delta.ranges = delta.unknown_ranges();
        Ok(delta)
    }

    /// Whether what `after` lacks is given faster as a delta than from the log: of that there are at least
    /// `bytes_min`, and memtables and the tables to be read are not much more.
    pub fn prefers_delta(&self, scope: ScopeId, after: &Vector, bytes_min: u64) -> Result<bool> {
        let logged = self.parts.commits.with_queue(|queue| {
            let now = queue.vectors().of(scope);
            let Start::At(first) = queue.index().start(scope, after, &now) else {
                return Ok(0);
            };
            let segments = queue.appender()?.segments().into_iter();
            let behind = segments.filter(|span| span.number >= first.segment);
            let all: u64 = behind.map(|span| span.end).sum();
            Ok::<u64, base::Error>(all.saturating_sub(first.offset))
        })?;
        if logged < bytes_min {
            return Ok(false);
        }
        Ok(Delta::bare(&self.parts, scope, after)?.bytes_to_read()? <= logged.saturating_mul(2))
    }

    /// Calls `each` with key, value and stamp of the live entries of the keyspace `name`, by key, until it
    /// returns false; not at all if there is no such keyspace. Of what is there no more than one entry is in
    /// memory at a time.
    pub fn each_entry(
        &self,
        name: &str,
        mut each: impl FnMut(&[u8], &[u8], Stamp) -> bool,
    ) -> Result<()> {
        let Some(state) = self.parts.catalog.find(name) else { return Ok(()) };
        let delta = Delta::bare(&self.parts, state.space.scope(), &Vector::default())?;
        if delta.spaces.iter().all(|(_, space)| *space != state.space) {
            return Ok(());
        }
        let mut reading = delta.read(name.to_owned(), state.space)?;
        let mut goes_on = true;
        while goes_on && reading.merge.is_valid() {
            delta.look(&mut reading, |entry| {
                if let StateKind::Put(value) | StateKind::PutExpiring { value, .. } = entry.kind {
                    goes_on = each(entry.key, value, entry.stamp);
                }
            })?;
            reading.merge.step()?;
        }
        Ok(())
    }

    /// All that [`Replication::each_entry`] gives, in memory: for keyspaces that are small.
    pub fn entries(&self, name: &str) -> Result<Vec<Stamped>> {
        let mut entries = Vec::new();
        self.each_entry(name, |key, value, stamp| {
            entries.push((key.to_vec(), value.to_vec(), stamp));
            true
        })?;
        Ok(entries)
    }
}

impl Delta {
    fn after(parts: &Parts, scope: ScopeId, after: &Vector) -> Result<Delta> {
        let mut delta = Delta::bare(parts, scope, after)?;
        delta.ranges = delta.unknown_ranges();
        Ok(delta)
    }

    /// As [`Delta::after`], without range deletes.
    fn bare(parts: &Parts, scope: ScopeId, after: &Vector) -> Result<Delta> {
        let moment = Moment::of(parts, scope)?;
        let (after, missing, ranges) = (after.clone(), KeyRanges::default(), VecDeque::new());
        let spaces = moment.spaces.clone().into();
        Ok(Delta { moment, after, missing, ranges, spaces, reading: None, work: 0 })
    }

    /// What comes with the entries.
    pub fn head(&self) -> &DeltaHead {
        &self.moment.head
    }

    /// Bytes of memtables and tables that will be read.
    fn bytes_to_read(&self) -> Result<u64> {
        let mut bytes = self.moment.view.unflushed_bytes();
        for handle in self.moment.view.runs.tables() {
            if self.has_news(handle)? {
                bytes += handle.meta().len;
            }
        }
        Ok(bytes)
    }

    /// The next chunk of about `len_max` bytes (an entry may be longer), or `None` at the end. No bytes
    /// if there was nothing for long: ask again. Range deletes come first, then entries by the name of
    /// their keyspace and by key. Looks at 16 MiB at the most, and one entry.
    pub fn next(&mut self, len_max: usize) -> Result<Option<Vec<u8>>> {
        let room = len_max.min(ROOM_MAX).saturating_add(ROOM_OF_LAST);
        let mut writer = StateWriter::with_room(self.moment.scope, room);
        while writer.len() < len_max
            && !writer.is_full()
            && let Some((name, range)) = self.ranges.pop_front()
        {
            let stamp = range.stamp(Origin::default());
            let kind = StateKind::RangeDelete { end: &range.end };
            writer.push(&StateEntry { keyspace: &name, key: &range.start, stamp, kind });
        }
        let mut is_over = false;
        self.work = 0;
        if writer.is_empty() {
            while writer.len() < len_max && self.work < WORK_MAX && !is_over {
                is_over = !self.advance(&mut writer, len_max)?;
            }
        }
        Ok(match (writer.is_empty(), is_over) {
            (true, true) => None,
            (true, false) => Some(Vec::new()),
            (false, _) => Some(writer.finish()),
        })
    }

    /// The range deletes that the other has not received or may have lost, by keyspace name and start.
    fn unknown_ranges(&self) -> VecDeque<(String, RangeDelete)> {
        let name_of = |space: SpaceId| self.spaces.iter().find(|(_, known)| *known == space);
        let all = self.moment.maps.iter().flat_map(|map| map.ranges());
        let unknown = |name: &str, range: &RangeDelete| {
            let mut missing = self.missing.within(name);
            !self.after.covers_stamp(range.stamp(Origin::default()))
                || missing.any(|part| part.touches(&range.start, &range.end))
        };
        let mut ranges: Vec<(String, RangeDelete)> = all
            .filter(|range| range.seqno <= self.moment.at)
            .filter_map(|range| Some((name_of(range.space)?.0.clone(), range.clone())))
            .filter(|(name, range)| unknown(name, range))
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
            if writer.len() >= len_max || self.work >= WORK_MAX {
                self.reading = Some(reading);
                return Ok(true);
            }
            self.work += ENTRY_WORK + reading.merge.key().len() + reading.merge.value().len();
            self.work += self.look(&mut reading, |entry| writer.push(entry))?;
            reading.merge.step()?;
        }
        Ok(true)
    }

    /// Starts to read a keyspace.
    fn read(&self, name: String, space: SpaceId) -> Result<Reading> {
        let view = &self.moment.view;
        let memtables = std::iter::once(&view.active).chain(&view.frozen);
        let mut sources: Vec<Source> =
            memtables.map(|memtable| Source::Memtable(memtable.cursor(space))).collect();
        let missing: Vec<KeyRange> = self.missing.within(&name).cloned().collect();
        let (mut above, mut left_out) = (Vec::new(), Vec::new());
        for run in view.runs.runs().iter().filter(|run| run.may_hold(space)) {
            let mut news: Vec<Arc<TableHandle>> = Vec::new();
            let before = left_out.len();
            for handle in run.tables().iter() {
                let is_asked = || missing.iter().any(|part| touches(handle.meta(), space, part));
                match self.has_news(handle)? || is_asked() {
                    true => news.push(handle.clone()),
                    false => left_out.push(handle.clone()),
                }
            }
            if !news.is_empty() {
                above.extend(left_out.drain(..before));
                sources.push(Source::Run(RunCursor::over(news.into(), space, ReadMode::Bypass)));
            }
        }
        let mut merge = Merge::new(sources);
        merge.seek_first()?;
        Ok(Reading { name, space, missing, merge, above, done: None })
    }

    /// Whether a table may hold what the other has not received.
    fn has_news(&self, handle: &TableHandle) -> Result<bool> {
        let meta = handle.meta();
        if meta.scope != self.moment.scope {
            return Ok(false);
        }
        if self.after.is_empty() {
            return Ok(true);
        }
        let local = handle.table()?.local();
        let stamp =
            |(origin, tick)| self.moment.origins().stamp(NumberedStamp { origin, tick }, || local);
        Ok(meta.latest().any(|latest| !self.after.covers_stamp(stamp(latest))))
    }

    /// Calls `give` with the version under the merge if it is the newest of its key and news. Returns what
    /// that cost besides.
    fn look(&self, reading: &mut Reading, give: impl FnOnce(&StateEntry<'_>)) -> Result<usize> {
        let merge = &reading.merge;
        let (key, trailer, stored) = (merge.key(), merge.trailer(), merge.value());
        let moment = &self.moment;
        if trailer.seqno() > moment.at || reading.done.as_deref() == Some(key) {
            return Ok(0);
        }
        let local = merge.local().unwrap_or(moment.view.active.local());
        let of = moment.provenance(trailer, stored, local)?;
        let is_asked = || reading.missing.iter().any(|part| part.holds(key));
        let may_be_news = !of.is_nothing()
            && (!self.after.covers_stamp(of.carrier) || is_asked())
            && !moment.is_covered(reading.space, key, trailer, stored, local);
        let is_unsure = may_be_news && reading.may_be_above(key);
        if may_be_news && (!is_unsure || self.is_newest(reading, key, trailer)?) {
            let (kind, stamp) = (moment.kind(trailer, stored, &of)?, of.stamp);
            give(&StateEntry { keyspace: &reading.name, key, stamp, kind });
        }
        let mut done = reading.done.take().unwrap_or_default();
        done.clear();
        done.extend_from_slice(reading.merge.key());
        reading.done = Some(done);
        Ok(if is_unsure { LOOK_UP_WORK } else { 0 })
    }

    /// Whether no table that was left out holds a newer version.
    fn is_newest(&self, reading: &Reading, key: &[u8], trailer: Trailer) -> Result<bool> {
        let newest = self.moment.newest(reading.space, key, |found| found.trailer)?;
        Ok(newest.is_none_or(|newest| newest.seqno() == trailer.seqno()))
    }
}

/// Whether a table has a place for keys of `part`, which are of the keyspace `space`.
fn touches(meta: &TableMeta, space: SpaceId, part: &KeyRange) -> bool {
    let (first, last) = (&meta.smallest, &meta.largest);
    let starts_before = first.space < space
        || (first.space == space && (part.end.is_empty() || *first.key < *part.end));
    let ends_behind = last.space > space || (last.space == space && *last.key >= *part.start);
    starts_before && ends_behind
}

impl std::fmt::Debug for Delta {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Delta {{ scope: {}, at: {} }}", self.moment.scope.0, self.moment.at)
    }
}
