//! The change feed: durable commits in order, read back from the log.

use crate::parts::Parts;
use crate::value::Value;
use base::lock::{Mutex, Rank};
use base::record::Records;
use base::{Error, OpKind, Position, Result, SpaceId, Tick};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;
use wal::TailReader;

/// Which log segments feeds still need, and what is gone already.
#[derive(Debug)]
pub(crate) struct ChangePins {
    segments: Mutex<BTreeMap<u64, usize>>,
    /// Commits up to this one may be gone from the log.
    released: AtomicU64,
}

impl ChangePins {
    /// Nothing is pinned; commits up to `released` are gone.
    pub(crate) fn new(released: Tick) -> ChangePins {
        let segments = Mutex::new(Rank::Snapshots, BTreeMap::new());
        ChangePins { segments, released: AtomicU64::new(released.raw()) }
    }

    /// The oldest segment that a feed needs.
    pub(crate) fn oldest(&self) -> Option<u64> {
        self.segments.lock().keys().next().copied()
    }

    /// Commits up to `seqno` are gone.
    pub(crate) fn note_released(&self, seqno: Tick) {
        self.released.fetch_max(seqno.raw(), Ordering::AcqRel);
    }

    fn released(&self) -> Tick {
        Tick::from_raw(self.released.load(Ordering::Acquire)).unwrap_or(Tick::MAX)
    }

    pub(crate) fn pin(&self, segment: u64) {
        *self.segments.lock().entry(segment).or_default() += 1;
    }

    pub(crate) fn unpin(&self, segment: u64) {
        let mut segments = self.segments.lock();
        if let Some(count) = segments.get_mut(&segment) {
            *count -= 1;
            if *count == 0 {
                segments.remove(&segment);
            }
        }
    }
}

/// One commit of the change feed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Commit {
    /// Its place in the order of commits. Resume after it with [`crate::Db::changes`].
    pub seqno: Tick,
    /// What it changed, in the order it was written. Of several changes to one key the last counts.
    pub changes: Vec<Change>,
}

/// One change of a commit.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Change {
    /// The keyspace's name; empty if it is not known any more.
    pub keyspace: String,
    /// The key; for a range its start.
    pub key: Value,
    /// What happened to it.
    pub kind: ChangeKind,
}

/// What a change did.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum ChangeKind {
    /// The key got the value.
    Put(Value),
    /// The key got the value until a moment, in milliseconds since the Unix epoch.
    PutUntil {
        /// The value.
        value: Value,
        /// The moment.
        expires_at_ms: u64,
    },
    /// The key was deleted.
    Delete,
    /// All keys from the change's key up to `end`, exclusive, were deleted; an empty end means to
    /// the last key.
    DeleteRange {
        /// The first key that stayed.
        end: Value,
    },
}

/// Durable commits after a given one, in order. As an iterator it ends where the durable commits
/// end; [`Changes::wait`] waits for more, and iterating goes on. While it lives, the log segments it
/// has not passed are kept.
pub struct Changes {
    parts: Arc<Parts>,
    tail: TailReader,
    pinned: u64,
    /// The last commit returned or skipped.
    last: Tick,
}

impl Changes {
    /// The commits after `after`.
    pub(crate) fn after(parts: &Arc<Parts>, after: Tick) -> Result<Changes> {
        let segment = parts.commits.with_queue(|queue| {
            let log = queue.appender()?;
            let oldest = parts.pins.released();
            if after < oldest {
                return Err(Error::HistoryGone { asked: after.raw(), oldest: oldest.raw() });
            }
            let segments = log.segments();
            let first = segments.iter().find(|span| span.last_seqno > after);
            let segment = first.map_or(log.end().segment, |span| span.number);
            parts.pins.pin(segment);
            Ok(segment)
        })?;
        let from = Position { segment, offset: 0 };
        let tail = TailReader::new(parts.fs.clone(), parts.identity().database, from);
        Ok(Changes { parts: parts.clone(), tail, pinned: segment, last: after })
    }

    /// The last commit returned: where another feed would resume.
    pub fn position(&self) -> Tick {
        self.last
    }

    /// Waits for at most `timeout` until there is a commit to return; asks the log for a sync if one
    /// waits only for that. Returns whether there is one.
    pub fn wait(&self, timeout: Duration) -> Result<bool> {
        let commits = &self.parts.commits;
        if commits.durable() > self.last {
            return Ok(true);
        }
        if commits.wait_for_more(self.last, timeout) && commits.durable() <= self.last {
            commits.sync()?;
        }
        Ok(commits.durable() > self.last)
    }

    fn read_next(&mut self) -> Result<Option<Commit>> {
        loop {
            let durable =
                self.parts.commits.with_queue(|queue| queue.appender().map(|log| log.durable()))?;
            let catalog = &self.parts.catalog;
            let name_of = |space: SpaceId| catalog.name_of(space).unwrap_or_default();
            let Some(found) = self.tail.next(durable)? else { return Ok(None) };
            if found.seqno <= self.last {
                continue;
            }
            let commit = Commit { seqno: found.seqno, changes: decode(found.payload, name_of)? };
            self.last = commit.seqno;
            self.follow();
            if commit.changes.is_empty() {
                continue; // A record about the manifest, not about keys.
            }
            return Ok(Some(commit));
        }
    }

    /// Lets go of the segments that were passed.
    fn follow(&mut self) {
        let segment = self.tail.position().segment;
        if segment > self.pinned {
            self.parts.pins.pin(segment);
            self.parts.pins.unpin(self.pinned);
            self.pinned = segment;
        }
    }
}

fn decode(payload: &[u8], name_of: impl Fn(SpaceId) -> String) -> Result<Vec<Change>> {
    let mut changes = Vec::new();
    for record in Records::new(payload) {
        let record = record.map_err(|found| {
            Error::corrupt(base::error::FileKind::Log, base::dir::WAL_DIR, 0, found)
        })?;
        for op in record.effects().map(|effect| effect.op) {
            let keyspace = name_of(SpaceId::new(record.scope, op.keyspace));
            let kind = match op.kind {
                OpKind::Put(value) => ChangeKind::Put(Value::copy_of(value)),
                OpKind::PutExpiring { expires_at_ms, value } => {
                    ChangeKind::PutUntil { value: Value::copy_of(value), expires_at_ms }
                }
                OpKind::Delete | OpKind::Erase { .. } => ChangeKind::Delete,
                OpKind::RangeDelete { end } => ChangeKind::DeleteRange { end: Value::copy_of(end) },
            };
            changes.push(Change { keyspace, key: Value::copy_of(op.key), kind });
        }
    }
    Ok(changes)
}

impl Iterator for Changes {
    type Item = Result<Commit>;

    fn next(&mut self) -> Option<Self::Item> {
        self.read_next().transpose()
    }
}

impl Drop for Changes {
    fn drop(&mut self) {
        self.parts.pins.unpin(self.pinned);
    }
}

impl std::fmt::Debug for Changes {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Changes {{ position: {} }}", self.last)
    }
}
