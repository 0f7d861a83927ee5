//! A delta on its way in: staged in files, and installed as a whole or not at all.
//!
//! Nothing of it counts before it is installed, so a delta that breaks off leaves nothing. Its chunks
//! are checked as they come. Most go on as tables ([`prepared`]), others as they are in a file among the
//! tables. No edit names either: they go when the stage is dropped, or at the next open. No other process
//! ever reads the file.
//!
//! ```text
//! per chunk:
//!    4    length      of the chunk
//!    *    chunk       as it came, see `base::state`
//! ```

mod install;
mod judge;
mod outline;
mod output;
mod prepared;
mod present;
mod staged;

use super::{DeltaHead, Replication};
use crate::parts::{Parts, too_many_authors};
use base::fs::{AppendFile, full_path};
use base::limits::BATCH_LEN_MAX;
use base::state::{StateChunk, StateEntry, StateKind};
use base::{Error, FileName, KeyRanges, Result, ScopeId, Tick, Vector};
use outline::{Gist, Outline};
use prepared::Prepared;
use std::sync::Arc;

/// Bytes of a chunk at the most.
const CHUNK_LEN_MAX: usize = BATCH_LEN_MAX;
/// Bytes of the chunks with range deletes, which are compared in memory, at the most.
const RANGES_LEN_MAX: u64 = 64 << 20;

/// Why a delta is taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Purpose {
    /// What is here stays unless something newer comes.
    CatchUp,
    /// Besides, what the giver has received but does not hold any more goes here too, and the scope is
    /// whole afterwards.
    Rejoin,
    /// In the ranges of keys where something is missing here, as [`Purpose::Rejoin`]; elsewhere as
    /// [`Purpose::CatchUp`]. See [`Replication::stage_besides`].
    Heal,
    /// Entries that were received before and are missing, or older, are stored again. What was never
    /// received is left to the tail. The head says nothing.
    Mend,
    /// Entries as they are here are erased by a commit of this node, with copies in quarantine, as
    /// late puts are. What is not here in exactly that version stays. The head says nothing.
    Disown,
}

/// How an installation ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Installed {
    /// All of it counts.
    All,
    /// Nothing was changed: puts in it are late, and this node may not answer them.
    Unanswered {
        /// How many.
        late: u64,
    },
    /// Nothing was changed: something is missing here outside of the ranges that were asked for.
    TooLittle,
}

/// A delta on its way in.
pub struct Stage {
    parts: Arc<Parts>,
    scope: ScopeId,
    head: DeltaHead,
    purpose: Purpose,
    /// Where the giver has sent everything.
    missing: KeyRanges,
    /// What was received here when it began.
    known: Vector,
    /// What comes before all that is in the file.
    prepared: Option<Prepared>,
    /// The number of its file.
    number: u64,
    writer: Box<dyn AppendFile>,
    outline: Outline,
}

impl Replication {
    /// Begins to take a delta of `scope` in.
    ///
    /// # Errors
    /// `ClockSkew` if the head is ahead of the clock here by more than is allowed; `InvalidInput` if what
    /// the giver has forgotten is not all known here: then it takes a [`Purpose::Rejoin`].
    pub fn stage(&self, scope: ScopeId, head: &DeltaHead, purpose: Purpose) -> Result<Stage> {
        Stage::begin(&self.parts, scope, head, purpose)
    }

    /// Begins to take in what [`Replication::delta_besides`] gives for `missing`.
    ///
    /// # Errors
    /// As [`Replication::stage`]; and `InvalidInput` if the giver has not received all that was received here,
    /// for then it may lack what is missing.
    pub fn stage_besides(
        &self,
        scope: ScopeId,
        head: &DeltaHead,
        missing: &KeyRanges,
    ) -> Result<Stage> {
        let mut stage = Stage::begin(&self.parts, scope, head, Purpose::Heal)?;
        stage.missing = missing.clone();
        Ok(stage)
    }
}

impl Stage {
    fn begin(
        parts: &Arc<Parts>,
        scope: ScopeId,
        head: &DeltaHead,
        purpose: Purpose,
    ) -> Result<Stage> {
        parts.refuse_if_closed()?;
        parts.refuse_if_read_only()?;
        if !scope.is_replicated() {
            return Err(Error::invalid("scope 0 is each node's own; it takes no delta"));
        }
        let latest = head.vector.latest().max(head.floor.latest()).max(head.dropped);
        refuse_ahead(parts, latest)?;
        let known = parts.commits.with_queue(|queue| queue.vectors().of(scope));
        refuse_unless_above_floor(head, purpose, &known)?;
        if !known.has_room_for_all(&head.vector) {
            return Err(too_many_authors());
        }
        let number = parts.installer.next_table();
        let name = FileName::Table(number).path();
        let path = || full_path(&*parts.fs, &name);
        let writer = parts.fs.create(&name, 0).map_err(|e| Error::io("create", path(), e))?;
        let outline = Outline::of(latest);
        let prepared = Prepared::begin(parts, scope, purpose);
        let (parts, head) = (parts.clone(), head.clone());
        let missing = KeyRanges::default();
        Ok(Stage { parts, scope, head, purpose, missing, known, prepared, number, writer, outline })
    }

    /// Adds a chunk. Range deletes come before all else, then entries by the name of their keyspace and
    /// by key.
    ///
    /// # Errors
    /// `InvalidInput` or `TooLarge` if it is no chunk, or not the next one, `ClockSkew` if it is ahead of
    /// the clock here, `DiskFull` if users' writes need the space; the stage is then as it was.
    pub fn add(&mut self, chunk: &[u8]) -> Result<()> {
        if chunk.len() > CHUNK_LEN_MAX {
            let (limit, len) = (CHUNK_LEN_MAX as u64, chunk.len() as u64);
            return Err(Error::too_large("chunk of a delta", limit, len));
        }
        self.parts.admit_received(chunk.len() as u64)?;
        let decoded = StateChunk::decode(chunk)
            .map_err(|found| Error::invalid(format!("this is no chunk of a delta: {found}")))?;
        if decoded.scope != self.scope {
            return Err(Error::invalid(format!("the chunk is of scope {}", decoded.scope.0)));
        }
        let gist = self.outline.gist(&decoded.entries, &self.known)?;
        refuse_ahead(&self.parts, gist.latest)?;
        let is_prepared = match &mut self.prepared {
            Some(prepared) => prepared.take(&decoded.entries, &gist)?,
            None => false,
        };
        let place = match is_prepared {
            true => None,
            false => Some(self.append(chunk, &gist)?),
        };
        self.outline.note(gist, place);
        Ok(())
    }

    /// Looks whether it may stay: users may need what it holds although nothing more comes.
    ///
    /// # Errors
    /// `DiskFull` if it may not: drop it.
    pub fn check_space(&self) -> Result<()> {
        self.parts.admit_received(0)
    }

    /// Puts a chunk into the file. Returns where it is.
    fn append(&mut self, chunk: &[u8], gist: &Gist<'_>) -> Result<(u64, u64)> {
        let start = self.writer.len();
        let len = start.saturating_add(chunk.len() as u64);
        if gist.has_ranges() && len > RANGES_LEN_MAX {
            let what = "part of a delta with range deletes";
            return Err(Error::too_large(what, RANGES_LEN_MAX, len));
        }
        let path = || full_path(&*self.parts.fs, &FileName::Table(self.number).path());
        let header = (chunk.len() as u32).to_le_bytes();
        let appended = self.writer.append(&header).and_then(|()| self.writer.append(chunk));
        appended.map_err(|e| Error::io("append to", path(), e))?;
        Ok((start, self.writer.len()))
    }

    /// Makes all of it count at once, together with the giver's vector, floor and highest dropped
    /// stamp, durably. Whatever is newer here stays, and so do commits made meanwhile.
    ///
    /// # Errors
    /// As [`Replication::stage`]; `Poisoned`, `DiskFull`, ...: nothing was changed then.
    pub fn install(mut self) -> Result<Installed> {
        self.parts.refuse_if_closed()?;
        let mut prepared = self.prepared.take();
        // Its tables are on the disk before anybody waits for it.
        prepared.as_mut().map_or(Ok(()), Prepared::end)?;
        let prepared = prepared.filter(|prepared| !prepared.is_empty());
        self.parts.admissions.pause(|| install::install(&self, prepared))
    }
}

fn is_range(entry: &StateEntry<'_>) -> bool {
    matches!(entry.kind, StateKind::RangeDelete { .. })
}

/// Refuses what would carry the clock away.
pub(super) fn refuse_ahead(parts: &Parts, latest: Tick) -> Result<()> {
    let (now_ms, limit_ms) = (parts.clock.wall_ms(), parts.options.max_drift_ms());
    if latest.ms() <= now_ms.saturating_add(limit_ms) {
        return Ok(());
    }
    Err(Error::ClockSkew { by_ms: latest.ms().saturating_sub(now_ms), limit_ms })
}

/// A delta holds nothing in the place of what its giver has forgotten: who does not know that needs
/// more than a delta.
fn refuse_unless_above_floor(head: &DeltaHead, purpose: Purpose, known: &Vector) -> Result<()> {
    let is_delta = matches!(purpose, Purpose::CatchUp | Purpose::Heal);
    if is_delta && !known.covers_all(&head.floor) {
        return Err(Error::invalid("what the giver has forgotten is not all known here; rejoin"));
    }
    if purpose == Purpose::Heal && !head.vector.covers_all(known) {
        return Err(Error::invalid("what was received here is not all known to the giver"));
    }
    Ok(())
}

impl Drop for Stage {
    fn drop(&mut self) {
        self.parts.obsolete.discard(&self.parts, self.number);
    }
}

impl std::fmt::Debug for Stage {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Stage {{ scope: {}, bytes: {} }}", self.scope.0, self.writer.len())
    }
}
