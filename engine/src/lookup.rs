//! Single keys, as they are now or were at a point: counted, and some of them timed.

use crate::keyspace::KeyspaceState;
use crate::parts::Parts;
use crate::read::{self, Blocks, Whole};
use crate::stats::{Counter, SAMPLE_EVERY};
use crate::value::Value;
use crate::view::View;
use base::{Result, Stamp, Tick};
use std::cell::Cell;
use std::sync::atomic::Ordering;

impl Parts {
    /// Calls `found` with the current value of `key`, if it has one.
    #[inline]
    pub(crate) fn get<R>(
        &self,
        keyspace: &KeyspaceState,
        key: &[u8],
        found: impl FnOnce(&[u8]) -> R,
    ) -> Result<Option<R>> {
        self.check_readable(keyspace)?;
        self.counted(|blocks| {
            self.with_newest(|view, at| {
                read::get(view, keyspace.space, key, at, || self.clock.wall_ms(), blocks, found)
            })
        })
    }

    /// The current value of `key`, and who wrote it when.
    pub(crate) fn get_stamped(
        &self,
        keyspace: &KeyspaceState,
        key: &[u8],
    ) -> Result<Option<(Value, Stamp)>> {
        self.check_readable(keyspace)?;
        self.counted(|blocks| {
            self.with_newest(|view, at| {
                let now_ms = || self.clock.wall_ms();
                read::get_stamped(view, keyspace.space, key, at, now_ms, blocks)
            })
        })
    }

    /// Counts a read and whether it found something.
    #[inline]
    fn counted<R>(&self, read: impl FnOnce(Blocks<'_>) -> Result<Option<R>>) -> Result<Option<R>> {
        let sample = self.meters.add(Counter::Gets, 1).is_multiple_of(SAMPLE_EVERY);
        let (started, blocks) = match sample {
            true => (Some(self.clock.monotonic()), Some(Cell::new(0))),
            false => (None, None),
        };
        let result = read(blocks.as_ref());
        if let (Some(started), Some(blocks)) = (started, blocks) {
            self.meters.get_latency.record(self.clock.monotonic().saturating_sub(started));
            self.meters.get_blocks.fetch_add(blocks.get(), Ordering::Relaxed);
        }
        if matches!(result, Ok(Some(_))) {
            self.meters.add(Counter::Hits, 1);
        }
        result
    }

    /// Calls `read` with a view and the last commit that is visible in it.
    #[inline]
    fn with_newest<R>(&self, read: impl FnOnce(&View, Tick) -> Result<R>) -> Result<R> {
        let mut read = Some(read);
        loop {
            let result = self.views.with(|view| {
                let at = self.commits.visible();
                // A commit after `at` may stand in a memtable that this view does not know, but
                // none up to `at` can, unless the view was replaced in between.
                if !self.views.is_current(view) {
                    return None;
                }
                Some(read.take()?(view, at))
            });
            if let Some(result) = result {
                return result;
            }
        }
    }

    /// Calls `found` with the value that `key` had at `at`, a point that a snapshot holds.
    pub(crate) fn get_at<R>(
        &self,
        keyspace: &KeyspaceState,
        key: &[u8],
        at: Tick,
        found: impl FnOnce(&[u8]) -> R,
    ) -> Result<Option<R>> {
        self.check_readable(keyspace)?;
        self.meters.add(Counter::Gets, 1);
        let now_ms = || self.clock.wall_ms();
        self.views.with(|view| read::get(view, keyspace.space, key, at, now_ms, None, found))
    }

    /// As [`Parts::get_at`], with who had written it when.
    pub(crate) fn get_stamped_at(
        &self,
        keyspace: &KeyspaceState,
        key: &[u8],
        at: Tick,
    ) -> Result<Option<(Value, Stamp)>> {
        self.check_readable(keyspace)?;
        self.meters.add(Counter::Gets, 1);
        let now_ms = || self.clock.wall_ms();
        self.views.with(|view| read::get_stamped(view, keyspace.space, key, at, now_ms, None))
    }

    /// As [`Parts::get_stamped_at`], with its expiry.
    pub(crate) fn get_whole_at(
        &self,
        keyspace: &KeyspaceState,
        key: &[u8],
        at: Tick,
    ) -> Result<Option<Whole>> {
        self.check_readable(keyspace)?;
        let now_ms = || self.clock.wall_ms();
        self.views.with(|view| read::get_whole(view, keyspace.space, key, at, now_ms))
    }
}
