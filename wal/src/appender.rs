//! Appending: one writer, strictly in order.
//!
//! The appender rolls to a new segment when one is full, remembers what real syncs have secured,
//! and writes that promise into every frame. It does no sync itself except in [`Appender::create`]
//! and [`Appender::finish`]: a [`SyncTarget`] does, without the lock that guards the appender.
//!
//! Invariants:
//! - `promised <= durable <= end`, and `durable` is always the end of a frame.
//! - Behind every commit there is room reserved for a Close and a Seal, so neither ever rolls.
//! - After the first failed append or sync nothing is appended any more. A segment that could not
//!   be created changes nothing, and is tried again under another number.

use crate::growing::Growing;
use crate::retired::{Retired, SegmentSpan, SyncState, SyncTarget};
use crate::run::FRAME_PAYLOAD_MIN;
use crate::segment::{HEADER_LEN, SegmentEnd, SegmentHeader, SegmentOwner};
use crate::spare::{Claim, Spare, SpareBuilder, create_file};
use base::frame::{FrameKey, PAYLOAD_LEN_MAX};
use base::fs::{AppendFile, Fs, full_path};
use base::{Defect, Error, FileName, Origin, Position, Result, Rng, Tick, planted};
use std::collections::VecDeque;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

/// How a log is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LogOptions {
    /// Bytes reserved for one segment at the most. Default 32 MiB.
    ///
    /// Larger means fewer files; smaller gives space back sooner after a flush. The first segment
    /// has 1 MiB, each next one twice as much, so a log that is little used stays small. A commit
    /// that is larger gets a segment of its own size.
    pub segment_bytes: u64,
}

/// Bytes reserved for the first segment, and for the first after a rest.
const FIRST_SEGMENT_BYTES: u64 = 1 << 20;

impl Default for LogOptions {
    fn default() -> Self {
        LogOptions { segment_bytes: 32 << 20 }
    }
}

/// The segment that must be created before a commit can be appended, in bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NextSegment {
    /// What it holds.
    pub holds: u64,
    /// What creating it takes of the disk: nothing if a spare waits.
    pub takes: u64,
    /// What it must hold at least.
    pub least: u64,
}

/// The writing end of the log. The caller guards it with a lock.
#[derive(Debug)]
pub struct Appender {
    fs: Arc<dyn Fs>,
    owner: SegmentOwner,
    options: LogOptions,
    nonces: Nonces,
    growing: Growing,
    /// Rolled and not wholly synced, oldest first.
    retired: Vec<Arc<Retired>>,
    /// Not released, oldest first, without the growing one.
    retained: VecDeque<SegmentSpan>,
    next_number: u64,
    spare: Option<Spare>,
    /// Bytes reserved for the growing segment, had it not had to fit a large commit.
    usual: u64,
    /// Bytes to reserve for the next segment at the most, as far as its commit allows.
    next_max: u64,
    /// Whether a spare waits or is being built.
    spare_claimed: Arc<AtomicBool>,
    durable: Position,
    /// The greatest promise written.
    promised: Position,
    /// Behind the last frame that is not a seal.
    unsealed: Position,
    /// Files of spares that came to no use, to be removed.
    useless: Vec<u64>,
    state: SyncState,
}

impl Appender {
    /// Creates segment `number`, with header and name durable, to follow `previous`. The number must
    /// exceed that of every segment in the directory.
    pub fn create(
        fs: Arc<dyn Fs>,
        rng: &dyn Rng,
        owner: SegmentOwner,
        number: u64,
        previous: Option<SegmentEnd>,
        options: LogOptions,
    ) -> Result<Appender> {
        let path = full_path(fs.as_ref(), &FileName::Segment(number).path());
        let mut seed = [0; 32];
        rng.fill(&mut seed).map_err(|e| Error::io("draw random bytes for", &path, e))?;
        let nonces = Nonces(FrameKey::derive("esker wal nonces v1", &seed));
        let usual = options.segment_bytes.min(FIRST_SEGMENT_BYTES);
        let capacity = usual.max(HEADER_LEN);
        let state = SyncState::new();
        let file = create_file(fs.as_ref(), &state, number, capacity)?;
        let header = SegmentHeader::new(owner, number, previous, nonces.of(number));
        let growing = Growing::start(file, capacity, &header)
            .map_err(|source| Error::io("append to", &path, source))?;
        growing.sync_handle().sync_data().map_err(|e| Error::io("sync", &path, e))?;
        let position = growing.position();
        Ok(Appender {
            fs,
            owner,
            options,
            nonces,
            growing,
            retired: Vec::new(),
            retained: VecDeque::new(),
            next_number: number + 1,
            spare: None,
            usual,
            next_max: u64::MAX,
            spare_claimed: Arc::default(),
            durable: position,
            promised: position,
            unsealed: position,
            useless: Vec::new(),
            state,
        })
    }

    /// Appends one commit and returns where it ends. Seqnos strictly increase.
    ///
    /// Afterwards the commit survives the death of the process; after a sync, a power loss. A full
    /// disk ([`Error::DiskFull`]) at a roll changes nothing and can be tried again; every other
    /// failure poisons the appender.
    #[inline]
    pub fn append(&mut self, seqno: Tick, payload: &[u8]) -> Result<Position> {
        self.state.check()?;
        if payload.is_empty() || payload.len() >= FRAME_PAYLOAD_MIN {
            return self.append_frame(seqno, payload);
        }
        let room = self.growing.room_for_record(payload.len());
        if !self.growing.has_room(room) {
            self.roll(payload.len())?;
        }
        let appended = self.growing.append_record(seqno, payload, self.durable);
        self.settle(appended)?;
        let end = self.growing.position();
        self.unsealed = end;
        if self.growing.is_run_full() {
            self.close_run()?;
        }
        Ok(end)
    }

    /// Refuses if an append or a sync has failed for good.
    pub fn check(&self) -> Result<()> {
        self.state.check()
    }

    /// Behind the last byte appended.
    pub fn end(&self) -> Position {
        self.growing.position()
    }

    /// What real syncs have secured.
    pub fn durable(&self) -> Position {
        self.durable
    }

    /// Seqno of the last commit appended, or of the last one before this log began.
    pub fn last_seqno(&self) -> Tick {
        self.growing.last_seqno()
    }

    /// Where the open run starts, if there is one. A timer that finds the same run open twice
    /// closes it.
    pub fn open_run(&self) -> Option<Position> {
        self.growing.open_run()
    }

    /// Puts the Blake3 of the open run behind it. Nothing happens while none is open.
    pub fn close_run(&mut self) -> Result<()> {
        self.state.check()?;
        if self.open_run().is_none() {
            return Ok(());
        }
        let closed = self.growing.close_run(self.durable);
        self.settle(closed)?;
        self.promised = self.durable;
        self.unsealed = self.growing.position();
        Ok(())
    }

    /// What to sync so that everything appended so far is durable. Closes the open run.
    pub fn prepare_sync(&mut self) -> Result<SyncTarget> {
        self.close_run()?;
        let position = self.growing.position();
        let growing = (position > self.durable).then(|| Arc::clone(self.growing.sync_handle()));
        Ok(SyncTarget {
            position,
            retired: self.retired.clone(),
            growing,
            fs: Arc::clone(&self.fs),
            state: self.state.clone(),
        })
    }

    /// Notes that [`SyncTarget::sync`] of `target` has succeeded: later frames promise it.
    pub fn synced(&mut self, target: &SyncTarget) {
        self.durable = self.durable.max(target.position);
        self.retired.retain(|retired| retired.number() >= target.position.segment);
    }

    /// Appends a seal if something is durable that no frame promises yet. Returns whether it did;
    /// the seal then wants a sync like any commit. Call it after a sync, when the log falls idle.
    pub fn seal(&mut self) -> Result<bool> {
        self.close_run()?;
        if self.promised >= self.durable.min(self.unsealed) || planted(Defect::SkipSeal) {
            return Ok(false);
        }
        let sealed = self.growing.append_seal(self.durable);
        self.settle(sealed)?;
        self.promised = self.durable;
        Ok(true)
    }

    /// Whether a [`SpareBuilder`] should be asked for and run in the background.
    pub fn wants_spare(&self) -> bool {
        self.growing.is_half_full() && !self.spare_claimed.load(Ordering::Acquire)
    }

    /// Bytes that a spare takes of the disk.
    pub fn spare_bytes(&self) -> u64 {
        self.next_usual().max(HEADER_LEN)
    }

    /// What builds the next segment's file outside the lock.
    pub fn spare(&mut self) -> SpareBuilder {
        SpareBuilder {
            fs: Arc::clone(&self.fs),
            number: self.take_number(),
            capacity: self.spare_bytes(),
            state: self.state.clone(),
            claim: Claim::new(&self.spare_claimed),
        }
    }

    /// What must be created before a commit of `payload_len` can be appended; none if it has room.
    #[inline]
    pub fn next_segment(&self, payload_len: usize) -> Option<NextSegment> {
        let room = self.room_for(payload_len);
        if self.growing.has_room(room) { None } else { Some(self.following(HEADER_LEN + room)) }
    }

    #[cold]
    fn following(&self, needed: u64) -> NextSegment {
        let usual = self.next_usual().max(needed);
        let least = FIRST_SEGMENT_BYTES.min(usual).max(needed);
        match &self.spare {
            Some(spare) if spare.capacity >= needed => {
                NextSegment { holds: spare.capacity, takes: 0, least }
            }
            _ => NextSegment { holds: usual, takes: usual, least },
        }
    }

    /// Lets the next segment be a small one, unless a commit needs more: where space is short. A
    /// spare that is larger comes to no use.
    pub fn save_space(&mut self) {
        self.next_max = FIRST_SEGMENT_BYTES;
        let is_large = |spare: &mut Spare| spare.capacity > FIRST_SEGMENT_BYTES;
        self.useless.extend(self.spare.take_if(is_large).map(|spare| spare.number));
    }

    /// Goes on in a small segment, so that the space of the large one can be given back: for a log
    /// that falls idle. Does nothing if the growing segment is small.
    pub fn rest(&mut self) -> Result<()> {
        if self.usual <= FIRST_SEGMENT_BYTES {
            return Ok(());
        }
        self.useless.extend(self.spare.take().map(|spare| spare.number));
        let usual = std::mem::replace(&mut self.usual, FIRST_SEGMENT_BYTES / 2);
        self.roll(0).inspect_err(|_| self.usual = usual)
    }

    /// Goes on in a new segment, whose commits are of another author.
    pub fn begin_life(&mut self, author: Origin) -> Result<()> {
        self.state.check()?;
        let before = std::mem::replace(&mut self.owner.origin, author);
        self.roll(0).inspect_err(|_| self.owner.origin = before)
    }

    /// Goes on in a new segment, so that every commit so far is in one that takes no more. Does
    /// nothing if the growing segment has no commit. Returns the growing segment and the one before
    /// it, 0 if there is none.
    pub fn cut(&mut self) -> Result<(u64, u64)> {
        self.state.check()?;
        if self.growing.first_seqno() != Tick::ZERO {
            self.roll(0)?;
        }
        Ok((self.growing.number(), self.growing.previous()))
    }

    /// Takes a spare for the next roll.
    pub fn give_spare(&mut self, spare: Spare) {
        let unused = if spare.number > self.growing.number() {
            self.spare.replace(spare)
        } else {
            Some(spare) // The log has rolled past it.
        };
        self.useless.extend(unused.map(|spare| spare.number));
    }

    /// Gives up the spare that waits, before [`Appender::finish`]. Returns the numbers of all files
    /// that came to no use: they can be removed.
    pub fn give_up_spare(&mut self) -> Vec<u64> {
        self.useless.extend(self.spare.take().map(|spare| spare.number));
        std::mem::take(&mut self.useless)
    }

    /// Syncs, seals, syncs, gives back unused space. Returns where the log ends.
    pub fn finish(mut self) -> Result<Position> {
        let target = self.prepare_sync()?;
        target.sync()?;
        self.synced(&target);
        self.seal()?;
        let end = self.growing.position();
        let path = self.path();
        self.growing.into_file().finish().map_err(|e| Error::io("finish", path, e))?;
        Ok(end)
    }

    /// The segments that were not released, oldest first; the last is the one being appended to.
    pub fn segments(&self) -> Vec<SegmentSpan> {
        self.retained.iter().copied().chain([self.span()]).collect()
    }

    /// Keeps track of segments written before this appender was created, oldest first, so that
    /// [`Appender::release`] returns them too.
    pub fn adopt(&mut self, older: &[SegmentSpan]) {
        older.iter().rev().for_each(|span| self.retained.push_front(*span));
    }

    /// Forgets finished segments, oldest first, whose commits are all at or below `flushed`, up to
    /// but without segment `keep_from`. Returns their numbers, and those of spares that came to no
    /// use: their files can be removed. What is still needed begins at the first of
    /// [`Appender::segments`].
    pub fn release(&mut self, flushed: Tick, keep_from: Option<u64>) -> Vec<u64> {
        let mut released = Vec::new();
        while let Some(span) = self.retained.front() {
            let kept = keep_from.is_some_and(|keep_from| span.number >= keep_from);
            let is_needed = span.last_seqno > flushed && !planted(Defect::ReleaseTooEarly);
            if kept || is_needed {
                break;
            }
            released.push(span.number);
            self.retained.pop_front();
        }
        self.retired.retain(|retired| !released.contains(&retired.number()));
        released.append(&mut self.useless);
        released
    }

    fn append_frame(&mut self, seqno: Tick, payload: &[u8]) -> Result<Position> {
        if payload.len() > PAYLOAD_LEN_MAX {
            let (limit, len) = (PAYLOAD_LEN_MAX as u64, payload.len() as u64);
            return Err(Error::too_large("commit", limit, len));
        }
        self.close_run()?;
        if !self.growing.has_room(Growing::room_for_frame(payload.len())) {
            self.roll(payload.len())?;
        }
        let appended = self.growing.append_commit(seqno, payload, self.durable);
        self.settle(appended)?;
        self.promised = self.durable;
        self.unsealed = self.growing.position();
        Ok(self.unsealed)
    }

    /// Goes on in a new segment, which will have room for a commit of `payload_len`.
    #[cold]
    fn roll(&mut self, payload_len: usize) -> Result<()> {
        self.close_run()?;
        let needed = HEADER_LEN + self.room_for(payload_len);
        let usual = self.next_usual();
        let capacity = usual.max(needed);
        let (number, capacity, file) = match self.spare.take() {
            Some(spare) if spare.capacity >= needed => (spare.number, spare.capacity, spare.file),
            too_small => {
                self.useless.extend(too_small.map(|spare| spare.number));
                self.create_next(capacity, FIRST_SEGMENT_BYTES.min(capacity).max(needed))?
            }
        };
        let previous = Some(self.growing.segment_end());
        let header = SegmentHeader::new(self.owner, number, previous, self.nonces.of(number));
        let started = Growing::start(file, capacity, &header);
        let next = self.settle(started)?;
        let span = self.span();
        (self.usual, self.next_max) = (usual, u64::MAX);
        let full = std::mem::replace(&mut self.growing, next);
        let retired = Retired::new(self.fs.as_ref(), span.number, full.into_file());
        self.retired.push(Arc::new(retired));
        self.retained.push_back(span);
        Ok(())
    }

    /// Creates the file of the next segment. Where the disk is too full for `capacity`, as little as
    /// `needed` does.
    fn create_next(
        &mut self,
        capacity: u64,
        needed: u64,
    ) -> Result<(u64, u64, Box<dyn AppendFile>)> {
        let number = self.take_number();
        let created = create_file(self.fs.as_ref(), &self.state, number, capacity);
        match created {
            Err(Error::DiskFull { .. }) if needed < capacity => self.create_next(needed, needed),
            created => Ok((number, capacity, created?)),
        }
    }

    /// Bytes that a commit of `payload_len` needs, whichever way it is appended.
    #[inline]
    fn room_for(&self, payload_len: usize) -> u64 {
        self.growing.room_for_record(payload_len).max(Growing::room_for_frame(payload_len))
    }

    /// Bytes to reserve for the next segment.
    fn next_usual(&self) -> u64 {
        self.usual.saturating_mul(2).min(self.options.segment_bytes).min(self.next_max)
    }

    fn take_number(&mut self) -> u64 {
        let number = self.next_number;
        if planted(Defect::ReuseSegmentNumber) && number > 3 {
            let oldest = self.retained.front().map_or(self.growing.number(), |span| span.number);
            return oldest - 1;
        }
        self.next_number += 1;
        number
    }

    fn span(&self) -> SegmentSpan {
        SegmentSpan {
            number: self.growing.number(),
            first_seqno: self.growing.first_seqno(),
            last_seqno: self.growing.last_seqno(),
            end: self.growing.position().offset,
        }
    }

    fn path(&self) -> std::path::PathBuf {
        full_path(self.fs.as_ref(), &FileName::Segment(self.growing.number()).path())
    }

    /// Passes on what an append returned; a failure poisons.
    #[inline]
    fn settle<T>(&self, result: io::Result<T>) -> Result<T> {
        result.map_err(|e| self.state.poison(Error::io("append to", self.path(), e)))
    }
}

/// Where the nonces of the segments come from: one random seed, so that a roll can not fail for
/// want of randomness.
struct Nonces(FrameKey);

impl Nonces {
    fn of(&self, number: u64) -> [u8; 16] {
        self.0.hash(&number.to_le_bytes())
    }
}

impl std::fmt::Debug for Nonces {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("..")
    }
}
