//! The live entries of one keyspace as of one moment, in order.
//!
//! Merges memtables and tables, and shows of each key the newest version that the read point sees,
//! unless it is deleted, expired, or covered by a range delete.

use crate::merge::{Direction, Merge, RunCursor, Source};
use crate::range_map::RangeMap;
use crate::read::{ReadPoint, expires_at_ms, is_covered, live_value};
use crate::stats::Histogram;
use crate::view::View;
use base::{Clock, Origin, Result, SpaceId, Trailer};
use sstable::ReadMode;
use std::sync::Arc;

/// See the module. Stands nowhere until placed. After an error it is spent.
pub(crate) struct Scan {
    merge: Merge,
    space: SpaceId,
    point: ReadPoint,
    /// Range deletes that could cover something; empty almost always.
    ranges: Vec<Arc<RangeMap>>,
    state: State,
    /// The key shown; going backward, also the key whose versions were just walked over.
    key: Vec<u8>,
    /// The value shown while going backward: the merge has moved on by then.
    value: Vec<u8>,
    /// Takes the time until it first stands somewhere.
    stopwatch: Option<Stopwatch>,
    /// Keeps what the cursors read alive.
    view: Arc<View>,
}

/// Takes times.
#[derive(Clone)]
pub(crate) struct Stopwatch {
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) histogram: Arc<Histogram>,
}

/// Where the entry shown is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Nowhere,
    /// Under the merge; its stored value starts this many bytes in.
    Merge(usize),
    /// In the buffers.
    Buffers,
}

impl Scan {
    /// A scan of `space` through `view` as of `point`.
    pub(crate) fn new(view: Arc<View>, space: SpaceId, point: ReadPoint) -> Scan {
        let memtables = || std::iter::once(&view.active).chain(&view.frozen);
        let mut sources: Vec<Source> = memtables()
            .map(|memtable| memtable.cursor(space))
            .filter(|c| c.has_entries())
            .map(Source::Memtable)
            .collect();
        let runs = view.runs.runs().iter();
        sources.extend(
            runs.filter(|run| run.may_hold(space))
                .map(|run| Source::Run(RunCursor::new(run, space, ReadMode::Cached))),
        );
        let mut ranges = Vec::new();
        if view.has_range_deletes() {
            let of_memtables = memtables().map(|memtable| memtable.range_deletes());
            let all = of_memtables.chain(std::iter::once(view.table_ranges.clone()));
            ranges.extend(all.filter(|map| !map.is_empty()));
        }
        let merge = Merge::new(sources);
        let (key, value) = (Vec::new(), Vec::new());
        let (state, stopwatch) = (State::Nowhere, None);
        Scan { merge, space, point, ranges, state, key, value, stopwatch, view }
    }

    /// The same; `stopwatch` takes the time until it first stands somewhere.
    pub(crate) fn timed_by(self, stopwatch: Option<Stopwatch>) -> Scan {
        Scan { stopwatch, ..self }
    }

    /// Whether blocks that are read from now on go into the cache.
    pub(crate) fn fill_cache(&mut self, fill: bool) {
        self.merge.set_read_mode(if fill { ReadMode::Cached } else { ReadMode::Bypass });
    }

    /// Does `place`, the first time by the stopwatch.
    #[inline]
    fn timed(&mut self, place: impl FnOnce(&mut Scan) -> Result<()>) -> Result<()> {
        let Some(Stopwatch { clock, histogram }) = self.stopwatch.take() else {
            return place(self);
        };
        let started = clock.monotonic();
        let placed = place(self);
        histogram.record(clock.monotonic().saturating_sub(started));
        placed
    }

    /// Moves to the first entry.
    pub(crate) fn seek_first(&mut self) -> Result<()> {
        self.timed(|scan| {
            scan.merge.seek_first()?;
            scan.settle_forward()
        })
    }

    /// Moves to the first entry at or after `key`.
    #[inline]
    pub(crate) fn seek(&mut self, key: &[u8]) -> Result<()> {
        self.timed(|scan| {
            scan.merge.seek(key, Trailer::MAX)?;
            scan.settle_forward()
        })
    }

    /// Moves to the last entry.
    pub(crate) fn seek_last(&mut self) -> Result<()> {
        self.timed(|scan| {
            scan.merge.seek_last()?;
            scan.settle_backward()
        })
    }

    /// Moves to the last entry whose key is below `key`.
    pub(crate) fn seek_before(&mut self, key: &[u8]) -> Result<()> {
        self.timed(|scan| {
            scan.merge.seek_before(key)?;
            scan.settle_backward()
        })
    }

    /// Moves to the next entry.
    #[inline]
    pub(crate) fn advance(&mut self) -> Result<()> {
        match self.state {
            State::Nowhere => Ok(()),
            State::Merge(_) => {
                self.skip_key()?;
                self.settle_forward()
            }
            State::Buffers => {
                let key = std::mem::take(&mut self.key);
                self.merge.seek(&key, Trailer::MIN)?;
                self.key = key;
                self.skip_same_key()?;
                self.settle_forward()
            }
        }
    }

    /// Moves to the entry before.
    pub(crate) fn retreat(&mut self) -> Result<()> {
        match self.state {
            State::Nowhere => Ok(()),
            State::Merge(_) => {
                let key = self.merge.key().to_vec();
                self.merge.seek_before(&key)?;
                self.settle_backward()
            }
            State::Buffers => {
                if self.merge.direction() == Direction::Forward {
                    let key = std::mem::take(&mut self.key);
                    self.merge.seek_before(&key)?;
                    self.key = key;
                }
                self.settle_backward()
            }
        }
    }

    /// Whether it stands on an entry.
    #[inline]
    pub(crate) fn is_valid(&self) -> bool {
        self.state != State::Nowhere
    }

    /// The key here; empty if invalid.
    #[inline]
    pub(crate) fn key(&self) -> &[u8] {
        match self.state {
            State::Nowhere => &[],
            State::Merge(_) => self.merge.key(),
            State::Buffers => &self.key,
        }
    }

    /// The value here; empty if invalid.
    #[inline]
    pub(crate) fn value(&self) -> &[u8] {
        match self.state {
            State::Nowhere => &[],
            State::Merge(skip) => self.merge.value().get(skip..).unwrap_or_default(),
            State::Buffers => &self.value,
        }
    }

    /// Until when the entry here lasts; 0 = for ever. Going backward this is not known any more.
    pub(crate) fn expires_at_ms(&self) -> u64 {
        match self.state {
            State::Merge(_) => expires_at_ms(self.merge.trailer(), self.merge.value()),
            State::Nowhere | State::Buffers => 0,
        }
    }

    /// From an entry of the merge: steps past all versions of its key.
    #[inline]
    fn skip_key(&mut self) -> Result<()> {
        self.key.clear();
        self.key.extend_from_slice(self.merge.key());
        self.merge.step()?;
        self.skip_same_key()
    }

    #[inline]
    fn skip_same_key(&mut self) -> Result<()> {
        while self.merge.is_valid() && self.merge.key() == self.key {
            self.merge.step()?;
        }
        Ok(())
    }

    /// From the first version of some key: stops at the first live entry.
    #[inline]
    fn settle_forward(&mut self) -> Result<()> {
        self.state = State::Nowhere;
        while self.merge.is_valid() {
            let trailer = self.merge.trailer();
            if trailer.seqno() > self.point.at {
                self.merge.step()?;
                continue;
            }
            if let Some(value) = self.live(trailer, self.merge.key(), self.merge.value()) {
                self.state = State::Merge(self.merge.value().len() - value.len());
                return Ok(());
            }
            self.skip_key()?;
        }
        Ok(())
    }

    /// From the oldest version of some key, going backward: takes each key's newest version that
    /// the read point sees, and stops at the first live one.
    fn settle_backward(&mut self) -> Result<()> {
        self.state = State::Nowhere;
        while self.merge.is_valid() {
            self.key.clear();
            self.key.extend_from_slice(self.merge.key());
            let mut is_live = false;
            while self.merge.is_valid() && self.merge.key() == self.key {
                let trailer = self.merge.trailer();
                if trailer.seqno() <= self.point.at {
                    let mut buffer = std::mem::take(&mut self.value);
                    buffer.clear();
                    let value = self.live(trailer, self.merge.key(), self.merge.value());
                    is_live = value.is_some();
                    buffer.extend_from_slice(value.unwrap_or_default());
                    self.value = buffer;
                }
                self.merge.step()?;
            }
            if is_live {
                self.state = State::Buffers;
                return Ok(());
            }
        }
        Ok(())
    }

    /// What "local" means where the entry under the merge is stored.
    #[cold]
    fn local(&self) -> Origin {
        self.merge.local().unwrap_or(self.view.active.local())
    }

    /// What the stored entry shows: its value unless deleted, expired or covered.
    #[inline]
    fn live<'v>(&self, trailer: Trailer, key: &[u8], stored: &'v [u8]) -> Option<&'v [u8]> {
        if trailer.is_plain_put() && self.ranges.is_empty() {
            return Some(stored);
        }
        let maps = self.ranges.iter();
        let covering = maps.filter_map(|map| map.covering(self.space, key, self.point.at)).max();
        if let Some(range) = covering
            && is_covered(range, trailer, stored, || self.local(), &self.view.origins)
        {
            return None;
        }
        live_value(trailer, stored, self.point.now_ms)
    }
}

/// The end of the range of keys that start with `prefix`: the shortest key above all of them. Empty
/// if there is none.
pub(crate) fn prefix_end(prefix: &[u8]) -> Vec<u8> {
    let mut end = prefix.to_vec();
    while let Some(last) = end.pop() {
        if let Some(next) = last.checked_add(1) {
            end.push(next);
            break;
        }
    }
    end
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_end_of_a_prefix_is_above_all_its_keys_and_no_higher() {
        assert_eq!(prefix_end(b"ab"), b"ac");
        assert_eq!(prefix_end(b"a\xff"), b"b");
        assert_eq!(prefix_end(b"\xff\xff"), b"");
        assert_eq!(prefix_end(b""), b"");
    }
}
