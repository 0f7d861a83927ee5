//! The read points that users hold. The oldest bounds what compaction may drop.

use crate::bounds::{Bounds, KeyBounds};
use crate::iter::{Cursor, Iter};
use crate::keyspace::Keyspace;
use crate::parts::Parts;
use crate::value::Value;
use base::lock::{Mutex, Rank};
use base::{Result, Tick};
use std::collections::BTreeMap;
use std::sync::Arc;

/// Counts the holders of each read point.
#[derive(Debug)]
pub(crate) struct Snapshots {
    held: Mutex<BTreeMap<Tick, usize>>,
}

impl Default for Snapshots {
    fn default() -> Self {
        Snapshots { held: Mutex::new(Rank::Snapshots, BTreeMap::new()) }
    }
}

impl Snapshots {
    /// Holds the read point that `now` gives. Asked under the lock, so that [`Snapshots::points`]
    /// never misses a point that is being taken.
    pub(crate) fn hold(self: &Arc<Self>, now: impl FnOnce() -> Tick) -> Held {
        let mut held = self.held.lock();
        let at = now();
        *held.entry(at).or_default() += 1;
        Held { snapshots: self.clone(), at }
    }

    /// All points held, oldest first.
    pub(crate) fn points(&self) -> Vec<Tick> {
        self.held.lock().keys().copied().collect()
    }
}

/// Keeps a read point while it lives.
#[derive(Debug)]
pub(crate) struct Held {
    snapshots: Arc<Snapshots>,
    at: Tick,
}

impl Held {
    pub(crate) fn at(&self) -> Tick {
        self.at
    }
}

impl Clone for Held {
    fn clone(&self) -> Held {
        let at = self.at;
        self.snapshots.hold(|| at)
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        let mut held = self.snapshots.held.lock();
        if let Some(count) = held.get_mut(&self.at) {
            *count -= 1;
            if *count == 0 {
                held.remove(&self.at);
            }
        }
    }
}

/// The database as it was at one moment, for as long as this lives. Cheap to make and to clone.
///
/// What it shows does not change, whatever is written, flushed or compacted meanwhile. It keeps the
/// versions it shows from being dropped, so a snapshot held for long costs disk space.
#[derive(Clone)]
pub struct Snapshot {
    parts: Arc<Parts>,
    held: Held,
}

impl Snapshot {
    pub(crate) fn new(parts: Arc<Parts>, held: Held) -> Snapshot {
        Snapshot { parts, held }
    }

    /// The last commit it sees.
    pub fn seqno(&self) -> Tick {
        self.held.at()
    }

    /// The value of `key`.
    pub fn get(&self, keyspace: &Keyspace, key: impl AsRef<[u8]>) -> Result<Option<Value>> {
        self.parts.get_at(keyspace.state(), key.as_ref(), self.seqno(), Value::copy_of)
    }

    /// Whether `key` has a value.
    pub fn contains_key(&self, keyspace: &Keyspace, key: impl AsRef<[u8]>) -> Result<bool> {
        Ok(self.parts.get_at(keyspace.state(), key.as_ref(), self.seqno(), |_| ())?.is_some())
    }

    /// The values of `keys`, in their order.
    pub fn multi_get<K: AsRef<[u8]>>(
        &self,
        keyspace: &Keyspace,
        keys: &[K],
    ) -> Result<Vec<Option<Value>>> {
        self.parts.multi_get(keyspace.state(), keys, Some(self.seqno()))
    }

    /// All entries of the keyspace, in order.
    pub fn iter(&self, keyspace: &Keyspace) -> Iter {
        self.range(keyspace, ..)
    }

    /// The entries whose keys lie in `range`.
    pub fn range(&self, keyspace: &Keyspace, range: impl KeyBounds) -> Iter {
        let reader = self.parts.reader(keyspace.state(), Some(&self.held));
        Iter::new(reader, Bounds::of(&range))
    }

    /// The entries whose keys start with `prefix`.
    pub fn prefix(&self, keyspace: &Keyspace, prefix: impl AsRef<[u8]>) -> Iter {
        let reader = self.parts.reader(keyspace.state(), Some(&self.held));
        Iter::new(reader, Bounds::prefix(prefix.as_ref()))
    }

    /// A cursor over the keyspace.
    pub fn cursor(&self, keyspace: &Keyspace) -> Result<Cursor> {
        Cursor::new(self.parts.reader(keyspace.state(), Some(&self.held)))
    }
}

impl std::fmt::Debug for Snapshot {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Snapshot {{ seqno: {} }}", self.seqno())
    }
}
