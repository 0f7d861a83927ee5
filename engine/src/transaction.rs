//! Serializable optimistic transactions.
//!
//! A transaction reads a snapshot and its own writes, and remembers what it read. Its commit is
//! refused if anything it read was written by a commit after the snapshot; so transactions that
//! commit are equivalent to running one after the other, in the order of their commits. Source:
//! Kung & Robinson, "On Optimistic Methods for Concurrency Control" (1981), backward validation.

use crate::batch::Batch;
use crate::bounds::{Bounds, KeyBounds};
use crate::commit::Write;
use crate::conflicts::ReadSet;
use crate::iter::Iter;
use crate::keyspace::{Keyspace, KeyspaceState};
use crate::options::WriteOptions;
use crate::parts::Parts;
use crate::read::{self, Whole};
use crate::snapshot::Held;
use crate::value::Value;
use base::limits::{check_key, check_value};
use base::{Error, OpKind, Result, SpaceId, Stamp, Tick};
use std::collections::BTreeMap;
use std::ops::Bound;
use std::sync::Arc;

/// Reads and writes that are committed as one, if nobody interfered. Dropping it undoes nothing,
/// because nothing was done.
pub struct Transaction {
    parts: Arc<Parts>,
    held: Held,
    reads: ReadSet,
    writes: BTreeMap<(SpaceId, Box<[u8]>), Written>,
}

/// What a transaction did to a key: a new value, or none for a delete.
struct Written {
    keyspace: Arc<KeyspaceState>,
    value: Option<Value>,
}

impl Transaction {
    /// Begins a transaction that sees every commit so far.
    pub(crate) fn begin(parts: &Arc<Parts>) -> Result<Transaction> {
        let limit = parts.options.transactions_max;
        let held = parts.commits.with_queue(|queue| {
            queue.check_open()?;
            let at = queue.last();
            if queue.conflicts().counts().open >= limit {
                return Err(Error::TooManyTransactions { limit });
            }
            queue.conflicts().begin(at);
            Ok(parts.snapshots.hold(|| at))
        })?;
        let reads = ReadSet { at: held.at(), ..ReadSet::default() };
        let transaction =
            Transaction { parts: parts.clone(), held, reads, writes: BTreeMap::new() };
        parts.wait_visible(transaction.reads.at)?;
        Ok(transaction)
    }

    /// The last commit it sees.
    pub fn seqno(&self) -> Tick {
        self.reads.at
    }

    /// The value of `key`, as this transaction has left it.
    pub fn get(&mut self, keyspace: &Keyspace, key: impl AsRef<[u8]>) -> Result<Option<Value>> {
        let key = key.as_ref();
        let slot = (keyspace.state().space, key.into());
        if let Some(written) = self.writes.get(&slot) {
            return Ok(written.value.clone());
        }
        self.reads.keys.push(slot);
        self.parts.get_at(keyspace.state(), key, self.reads.at, Value::copy_of)
    }

    /// The value that `key` had when the transaction began, whatever it has written since, and who had
    /// written that when. It counts as read.
    pub fn get_stamped(
        &mut self,
        keyspace: &Keyspace,
        key: impl AsRef<[u8]>,
    ) -> Result<Option<(Value, Stamp)>> {
        let key = key.as_ref();
        self.reads.keys.push((keyspace.state().space, key.into()));
        self.parts.get_stamped_at(keyspace.state(), key, self.reads.at)
    }

    /// As [`Transaction::get_stamped`], with its expiry.
    pub(crate) fn whole(
        &mut self,
        keyspace: &Arc<KeyspaceState>,
        key: &[u8],
    ) -> Result<Option<Whole>> {
        self.reads.keys.push((keyspace.space, key.into()));
        self.parts.get_whole_at(keyspace, key, self.reads.at)
    }

    /// The greatest stamp of the range deletes that cover `key`.
    pub(crate) fn covering(&self, keyspace: &KeyspaceState, key: &[u8]) -> Option<Stamp> {
        let view = self.parts.views.current();
        read::covering(&view, keyspace.space, key, self.reads.at)
    }

    /// Whether `key` has a value.
    pub fn contains_key(&mut self, keyspace: &Keyspace, key: impl AsRef<[u8]>) -> Result<bool> {
        Ok(self.get(keyspace, key)?.is_some())
    }

    /// Sets the value of `key`.
    pub fn put(
        &mut self,
        keyspace: &Keyspace,
        key: impl AsRef<[u8]>,
        value: impl AsRef<[u8]>,
    ) -> Result<()> {
        check_value(value.as_ref())?;
        self.set(keyspace, key.as_ref(), Some(Value::copy_of(value.as_ref())))
    }

    /// Deletes `key`.
    pub fn delete(&mut self, keyspace: &Keyspace, key: impl AsRef<[u8]>) -> Result<()> {
        self.set(keyspace, key.as_ref(), None)
    }

    fn set(&mut self, keyspace: &Keyspace, key: &[u8], value: Option<Value>) -> Result<()> {
        check_key(key)?;
        let keyspace = keyspace.state().clone();
        self.writes.insert((keyspace.space, key.into()), Written { keyspace, value });
        Ok(())
    }

    /// The entries whose keys lie in `range`, as this transaction has left them, in order. The whole
    /// range counts as read, however far the iterator is walked.
    pub fn range(&mut self, keyspace: &Keyspace, range: impl KeyBounds) -> TransactionIter {
        self.walk(keyspace, Bounds::of(&range))
    }

    /// The entries whose keys start with `prefix`.
    pub fn prefix(&mut self, keyspace: &Keyspace, prefix: impl AsRef<[u8]>) -> TransactionIter {
        self.walk(keyspace, Bounds::prefix(prefix.as_ref()))
    }

    fn walk(&mut self, keyspace: &Keyspace, bounds: Bounds) -> TransactionIter {
        let space = keyspace.state().space;
        let (start, end): (Box<[u8]>, Box<[u8]>) =
            (bounds.start.clone().into(), bounds.end.clone().into());
        if !bounds.is_empty() {
            self.reads.ranges.push((space, start.clone(), end.clone()));
        }
        let upper = match end.is_empty() {
            true => Bound::Excluded((SpaceId(space.0.saturating_add(1)), Box::default())),
            false => Bound::Excluded((space, end)),
        };
        let is_empty = bounds.is_empty();
        let written = match is_empty {
            true => Vec::new(),
            false => {
                let range = self.writes.range((Bound::Included((space, start)), upper));
                let copy = |(slot, written): (&(SpaceId, Box<[u8]>), &Written)| {
                    (Value::copy_of(&slot.1), written.value.clone())
                };
                range.map(copy).collect()
            }
        };
        let stored = Iter::new(self.parts.reader(keyspace.state(), Some(&self.held)), bounds);
        TransactionIter { stored, next_stored: None, written: written.into_iter().peekable() }
    }

    /// Commits what was written, as durable as the database's options say.
    ///
    /// # Errors
    /// `Conflict` if another commit changed what this transaction read: run it again from its start.
    pub fn commit(self) -> Result<Tick> {
        self.commit_with(WriteOptions::default())
    }

    /// Commits what was written.
    pub fn commit_with(mut self, options: WriteOptions) -> Result<Tick> {
        let mut batch = Batch::new();
        for ((_, key), written) in std::mem::take(&mut self.writes) {
            let kind = written.value.as_deref().map_or(OpKind::Delete, OpKind::Put);
            batch.push(&written.keyspace, &key, kind);
        }
        self.commit_as(batch, options)
    }

    /// Commits `batch` in the place of what was written.
    pub(crate) fn commit_batch(self, batch: Batch) -> Result<Tick> {
        self.commit_as(batch, WriteOptions::default())
    }

    fn commit_as(self, mut batch: Batch, options: WriteOptions) -> Result<Tick> {
        batch.check()?;
        if batch.is_empty() {
            // What it read was one moment's state, so it is serializable at that moment.
            return Ok(self.reads.at);
        }
        let sync = options.sync.unwrap_or(self.parts.options.sync);
        self.parts.commit(Write::Transaction(&batch, &self.reads), sync, batch.byte_len())
    }

    /// Forgets what was written.
    pub fn rollback(self) {}
}

impl Drop for Transaction {
    fn drop(&mut self) {
        self.parts.commits.with_queue(|queue| queue.conflicts().end(self.reads.at));
    }
}

impl std::fmt::Debug for Transaction {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Transaction {{ seqno: {}, writes: {} }}", self.reads.at, self.writes.len())
    }
}

/// Entries as a transaction sees them: stored ones and its own writes, in order.
pub struct TransactionIter {
    stored: Iter,
    next_stored: Option<(Value, Value)>,
    written: std::iter::Peekable<std::vec::IntoIter<(Value, Option<Value>)>>,
}

impl Iterator for TransactionIter {
    type Item = Result<(Value, Value)>;

    fn next(&mut self) -> Option<Self::Item> {
        loop {
            if self.next_stored.is_none() {
                match self.stored.next() {
                    Some(Ok(entry)) => self.next_stored = Some(entry),
                    Some(Err(error)) => return Some(Err(error)),
                    None => {}
                }
            }
            let stored_key = self.next_stored.as_ref().map(|(key, _)| key.clone());
            let written_first = match (&stored_key, self.written.peek()) {
                (_, None) => false,
                (None, Some(_)) => true,
                (Some(stored), Some((written, _))) => **written <= **stored,
            };
            if !written_first {
                return self.next_stored.take().map(Ok);
            }
            let (key, value) = self.written.next()?;
            if stored_key.is_some_and(|stored| *stored == *key) {
                self.next_stored = None;
            }
            if let Some(value) = value {
                return Some(Ok((key, value)));
            }
        }
    }
}

impl std::fmt::Debug for TransactionIter {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("TransactionIter")
    }
}
