//! A keyspace: a named, ordered map within the database.

use crate::batch::Batch;
use crate::bounds::{Bounds, KeyBounds};
use crate::iter::{Cursor, Iter};
use crate::options::{Compression, Scope, WriteOptions};
use crate::parts::Parts;
use crate::value::Value;
use arc_swap::ArcSwapOption;
use base::limits::{check_key, check_value};
use base::{Op, OpKind, Result, SpaceId, Stamp, Tick};
use sstable::manifest::{KeyspaceRecord, KeyspaceSettings};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

/// What all handles of one keyspace share.
#[derive(Debug)]
pub(crate) struct KeyspaceState {
    pub(crate) space: SpaceId,
    pub(crate) name: String,
    pub(crate) settings: KeyspaceSettings,
    pub(crate) is_dropped: AtomicBool,
    /// Whether anybody has had a handle of it.
    pub(crate) is_lent: AtomicBool,
    /// How often something of other nodes came for it.
    pub(crate) arrivals: AtomicU64,
    /// One more than the arrivals after which it was empty, if that is known.
    pub(crate) empty_at: AtomicU64,
    /// A key that had a value when that was looked for last.
    pub(crate) seen: ArcSwapOption<Value>,
}

impl KeyspaceState {
    /// The state that `record` describes.
    pub(crate) fn of(record: &KeyspaceRecord) -> KeyspaceState {
        let space = SpaceId::new(record.scope, record.id);
        let state = KeyspaceState::new(space, record.name.clone(), record.settings);
        KeyspaceState { is_dropped: AtomicBool::new(record.dropped.is_some()), ..state }
    }

    /// The state of a keyspace of which nobody has a handle.
    pub(crate) fn new(space: SpaceId, name: String, settings: KeyspaceSettings) -> KeyspaceState {
        KeyspaceState {
            space,
            name,
            settings,
            is_dropped: AtomicBool::new(false),
            is_lent: AtomicBool::new(false),
            arrivals: AtomicU64::new(0),
            empty_at: AtomicU64::new(0),
            seen: ArcSwapOption::empty(),
        }
    }

    /// Notes that something came for it. Called with the queue locked.
    pub(crate) fn note_arrival(&self) {
        self.arrivals.fetch_add(1, Ordering::AcqRel);
    }
}

/// A named, ordered map of keys to values. Cheap to clone; any number of threads may use it.
///
/// Keys have 1 to 65 535 bytes and are ordered as bytes; values have up to 32 MiB. A write is
/// acknowledged when the call returns: as durable as [`crate::Options::sync`] says.
#[derive(Clone)]
pub struct Keyspace {
    state: Arc<KeyspaceState>,
    parts: Arc<Parts>,
}

impl Keyspace {
    pub(crate) fn new(state: Arc<KeyspaceState>, parts: Arc<Parts>) -> Keyspace {
        state.is_lent.store(true, Ordering::Release);
        Keyspace { state, parts }
    }

    pub(crate) fn state(&self) -> &Arc<KeyspaceState> {
        &self.state
    }

    /// Its name.
    pub fn name(&self) -> &str {
        &self.state.name
    }

    /// Whether it replicates.
    pub fn scope(&self) -> Scope {
        match self.state.space.scope().is_replicated() {
            true => Scope::Main,
            false => Scope::Local,
        }
    }

    /// How its last level is compressed.
    pub fn compression(&self) -> Compression {
        match self.state.settings.compression {
            0 => Compression::None,
            _ => Compression::Zstd,
        }
    }

    /// Sets the value of `key`. Returns the commit's place in the order of commits.
    ///
    /// # Errors
    /// `InvalidInput` for a key or value past its limits; `Poisoned`, `DiskFull`, `Closed`.
    #[inline]
    pub fn put(&self, key: impl AsRef<[u8]>, value: impl AsRef<[u8]>) -> Result<Tick> {
        let (key, value) = (key.as_ref(), value.as_ref());
        check_value(value)?;
        self.write_one(key, OpKind::Put(value))
    }

    /// Sets the value of `key` for `time_to_live` from now; then the key reads as deleted.
    pub fn put_expiring(
        &self,
        key: impl AsRef<[u8]>,
        value: impl AsRef<[u8]>,
        time_to_live: Duration,
    ) -> Result<Tick> {
        let value = value.as_ref();
        check_value(value)?;
        let ttl_ms = u64::try_from(time_to_live.as_millis()).unwrap_or(u64::MAX);
        let expires_at_ms = self.parts.clock.wall_ms().saturating_add(ttl_ms);
        self.write_one(key.as_ref(), OpKind::PutExpiring { expires_at_ms, value })
    }

    /// Deletes `key`, whether it exists or not.
    pub fn delete(&self, key: impl AsRef<[u8]>) -> Result<Tick> {
        self.write_one(key.as_ref(), OpKind::Delete)
    }

    #[inline]
    fn write_one(&self, key: &[u8], kind: OpKind<'_>) -> Result<Tick> {
        check_key(key)?;
        let op = Op { keyspace: self.state.space.keyspace(), key, kind };
        self.parts.write_one(&self.state, op)
    }

    /// Deletes all keys from `start` up to, not including, `end`; an empty `end` means to the last
    /// key. Costs the same however many there are.
    pub fn delete_range(&self, start: impl AsRef<[u8]>, end: impl AsRef<[u8]>) -> Result<Tick> {
        let mut batch = Batch::new();
        batch.delete_range(self, start, end);
        self.parts.write(batch, WriteOptions::default())
    }

    /// Deletes all keys that start with `prefix`; an empty prefix means all keys.
    pub fn delete_prefix(&self, prefix: impl AsRef<[u8]>) -> Result<Tick> {
        let mut batch = Batch::new();
        batch.delete_prefix(self, prefix);
        self.parts.write(batch, WriteOptions::default())
    }

    /// The value of `key`.
    #[inline]
    pub fn get(&self, key: impl AsRef<[u8]>) -> Result<Option<Value>> {
        self.parts.get(&self.state, key.as_ref(), Value::copy_of)
    }

    /// The value of `key`, and who wrote it when: the same on every node that has it. For writes that are
    /// to happen only if nobody else wrote, see [`crate::Transaction::get_stamped`].
    pub fn get_stamped(&self, key: impl AsRef<[u8]>) -> Result<Option<(Value, Stamp)>> {
        self.parts.get_stamped(&self.state, key.as_ref())
    }

    /// Writes the value of `key` into `value`, replacing what it held. Returns whether there is one.
    /// Saves the allocation of [`Keyspace::get`].
    #[inline]
    pub fn get_into(&self, key: impl AsRef<[u8]>, value: &mut Vec<u8>) -> Result<bool> {
        value.clear();
        let found =
            self.parts.get(&self.state, key.as_ref(), |bytes| value.extend_from_slice(bytes))?;
        Ok(found.is_some())
    }

    /// Whether `key` has a value.
    #[inline]
    pub fn contains_key(&self, key: impl AsRef<[u8]>) -> Result<bool> {
        Ok(self.parts.get(&self.state, key.as_ref(), |_| ())?.is_some())
    }

    /// The values of `keys`, in their order, all as of one moment.
    pub fn multi_get<K: AsRef<[u8]>>(&self, keys: &[K]) -> Result<Vec<Option<Value>>> {
        self.parts.multi_get(&self.state, keys, None)
    }

    /// All entries, in order of their keys, as of now. Use `.rev()` for the other direction.
    pub fn iter(&self) -> Iter {
        self.range(..)
    }

    /// The entries whose keys lie in `range`, as of now.
    pub fn range(&self, range: impl KeyBounds) -> Iter {
        Iter::new(self.parts.reader(&self.state, None), Bounds::of(&range))
    }

    /// The entries whose keys start with `prefix`, as of now.
    pub fn prefix(&self, prefix: impl AsRef<[u8]>) -> Iter {
        Iter::new(self.parts.reader(&self.state, None), Bounds::prefix(prefix.as_ref()))
    }

    /// A cursor as of now: borrows what it shows and can be placed again and again, which is the
    /// cheapest way to many short scans.
    pub fn cursor(&self) -> Result<Cursor> {
        Cursor::new(self.parts.reader(&self.state, None))
    }

    /// How many keys of `range` have a value. Walks them.
    pub fn count(&self, range: impl KeyBounds) -> Result<u64> {
        let mut iter = self.range(range);
        let mut count = 0;
        while iter.advance()? {
            count += 1;
        }
        Ok(count)
    }

    /// Stores entries given in strictly ascending order of their keys, without log and memtable:
    /// tables are written directly and become visible as one commit. The fastest way to load much.
    ///
    /// # Errors
    /// `InvalidInput` if a key does not ascend or breaks a limit; `Renewed` if the node began another life
    /// as an author meanwhile, then load again. Nothing is stored then.
    pub fn ingest<K: AsRef<[u8]>, V: AsRef<[u8]>>(
        &self,
        entries: impl IntoIterator<Item = (K, V)>,
    ) -> Result<Tick> {
        crate::ingest::ingest(&self.parts, &self.state, entries)
    }

    /// Whether it was dropped.
    pub fn is_dropped(&self) -> bool {
        self.state.is_dropped.load(Ordering::Acquire)
    }
}

impl std::fmt::Debug for Keyspace {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Keyspace({:?})", self.state.name)
    }
}
