//! How recent the writes of a key can be, at the most: what lets a remote write win without a lookup.
//!
//! Keys share buckets by their hash; each holds the greatest tick that was ever written to one of its
//! keys. A write with a greater tick is newer than anything that is stored. Range deletes are not in
//! it: they are always asked.

use base::Tick;
use std::sync::atomic::{AtomicU64, Ordering};

/// Buckets: 512 KiB of them.
const BUCKETS: usize = 1 << 16;

/// See the module. Raised under the lock of the queue, so whoever holds that sees every commit.
pub(crate) struct Recent {
    buckets: Box<[AtomicU64]>,
    /// At least this, in every bucket.
    all: AtomicU64,
}

impl Recent {
    /// Nothing is known but that the last tick is `last`.
    pub(crate) fn new(last: Tick) -> Recent {
        let buckets = (0..BUCKETS).map(|_| AtomicU64::new(0)).collect();
        Recent { buckets, all: AtomicU64::new(last.raw()) }
    }

    /// Whether a write at `tick` of a key with `hash` is newer than every other of it.
    #[inline]
    pub(crate) fn is_newer(&self, hash: u64, tick: Tick) -> bool {
        let Some(bucket) = self.buckets.get(bucket(hash)) else { return false };
        tick.raw() > bucket.load(Ordering::Acquire) && tick.raw() > self.all.load(Ordering::Acquire)
    }

    /// Notes a write.
    #[inline]
    pub(crate) fn raise(&self, hash: u64, tick: Tick) {
        if let Some(bucket) = self.buckets.get(bucket(hash)) {
            bucket.fetch_max(tick.raw(), Ordering::AcqRel);
        }
    }

    /// Notes that any key may have been written at `tick`.
    pub(crate) fn raise_all(&self, tick: Tick) {
        self.all.fetch_max(tick.raw(), Ordering::AcqRel);
    }
}

impl std::fmt::Debug for Recent {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Recent")
    }
}

#[inline]
fn bucket(hash: u64) -> usize {
    (hash >> 48) as usize % BUCKETS
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_write_is_newer_only_than_what_its_bucket_and_all_have_seen() {
        let tick = Tick::from_ms;
        let recent = Recent::new(tick(5));
        assert!(!recent.is_newer(1, tick(5)) && recent.is_newer(1, tick(6)));
        recent.raise(1, tick(8));
        assert!(!recent.is_newer(1, tick(8)) && recent.is_newer(1 << 60, tick(6)));
        recent.raise_all(tick(9));
        assert!(!recent.is_newer(1 << 60, tick(9)) && recent.is_newer(1, tick(10)));
    }
}
