//! A full disk, and what is kept for it: while puts are refused, a reserve lets deletes, flushes and
//! compactions proceed.
//!
//! The reserve is a file of zeros with blocks of its own. It is removed by whoever needs its space
//! while the disk is full, and made again once there is space; only then puts are taken again. It
//! grows with the database, because what a flush or a merge needs does.
//!
//! States: free -> full (an append or a flush found no space: puts are refused) -> used up (the
//! reserve is gone and was not enough: deletes that would have to wait are refused too) -> free.
//!
//! What other nodes send is stored before it is known to be of use, and may be without end. So that is
//! taken only as far as it leaves, besides the reserve, what users' writes need; whoever sends more is
//! refused, and nobody else notices.
//!
//! Whoever finds no space may have looked before there was some again. So each way back to free is
//! counted, and what was found before the last one says nothing: the work is tried again.

use crate::bell::Bell;
use crate::obsolete::remove_reserve;
use crate::remedies::Permit;
use base::fs::{Fs, full_path};
use base::lock::{Mutex, Rank};
use base::{Error, FileName, Result};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU32, AtomicU64, Ordering};
use wal::NextSegment;

/// The part of the free space that a new reserve may take.
const SHARE: u64 = 4;
/// What a log segment has when the log is small, and when the disk is nearly full.
const SEGMENT_BYTES: u64 = 1 << 20;

/// See the module.
#[derive(Debug)]
pub(crate) struct Space {
    fs: Arc<dyn Fs>,
    /// Bytes of the reserve at the most; zero for none.
    reserve_bytes_max: u64,
    /// Bytes of a small log segment: what writing goes on with.
    unit: u64,
    /// Bytes that are left to users' writes, the reserve not counted: a log segment as large as usual, and its tables.
    kept_for_users: u64,
    state: AtomicU8,
    /// How often the disk was found full.
    times_full: AtomicU64,
    /// How often there was space again. Changes with the state, under the lock of the reserve.
    times_freed: AtomicU64,
    /// Whether all that is in memory should be flushed, and the log go on in a small segment.
    wants_room: AtomicBool,
    /// Flushes that wait for a merge to give its space back.
    waiting: AtomicU32,
    reserve: Mutex<Reserve>,
    /// Rung when the disk got full, for the one who probes.
    bell: Arc<Bell>,
    /// Whether puts may be taken again, and how often they were.
    resuming: Permit,
}

/// The reserve, in bytes.
#[derive(Clone, Copy, Debug, Default)]
struct Reserve {
    /// What stands on the disk.
    held: u64,
    /// What was given up and is to be made again before puts are taken.
    owed: u64,
}

const FREE: u8 = 0;
const FULL: u8 = 1;
const USED_UP: u8 = 2;

/// What a write does to the space that is taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Weight {
    /// It stores values.
    Puts,
    /// It only deletes: in the end there is more space.
    Deletes,
}

/// What work may do that found no space.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Claim {
    /// Tell of it: puts.
    Notice,
    /// Tell of it, and take the space of the reserve.
    Reserve,
    /// Take the space of the reserve if others have told of it.
    Try,
}

/// What a database takes.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Demand {
    /// Bytes of tables and log.
    pub(crate) data_bytes: u64,
    /// Bytes in memory that a flush will write.
    pub(crate) unflushed_bytes: u64,
}

/// In which segment the log may go on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Grant {
    /// One as large as usual.
    Usual,
    /// A small one.
    Small,
    /// None: what is in memory could not be flushed any more.
    Nothing,
}

/// A flush that waits for the space of a merge. Until it is dropped no merge takes any.
pub(crate) struct Waiting<'a>(&'a AtomicU32);

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::AcqRel);
    }
}

impl Space {
    /// The space below `fs`, taken as free.
    pub(crate) fn new(
        fs: Arc<dyn Fs>,
        reserve_bytes_max: u64,
        segment_bytes: u64,
        bell: Arc<Bell>,
    ) -> Space {
        let path = FileName::Reserve.path();
        let held = fs.open(&path).and_then(|file| file.len()).unwrap_or(0);
        Space {
            fs,
            reserve_bytes_max,
            unit: segment_bytes.min(SEGMENT_BYTES),
            kept_for_users: 2 * segment_bytes + 2 * segment_bytes.min(SEGMENT_BYTES),
            state: AtomicU8::new(FREE),
            times_full: AtomicU64::new(0),
            times_freed: AtomicU64::new(0),
            wants_room: AtomicBool::new(false),
            waiting: AtomicU32::new(0),
            reserve: Mutex::new(Rank::Reserve, Reserve { held, owed: 0 }),
            bell,
            resuming: Permit::default(),
        }
    }

    /// Whether puts may be taken again once there is space.
    pub(crate) fn resuming(&self) -> &Permit {
        &self.resuming
    }

    /// Whether puts are refused.
    #[inline]
    pub(crate) fn is_full(&self) -> bool {
        self.state.load(Ordering::Relaxed) != FREE
    }

    /// How often the disk was found full: who waits for space sees by it what is over already.
    pub(crate) fn times_full(&self) -> u64 {
        self.times_full.load(Ordering::Acquire)
    }

    /// How often there was space again: what is found later than this was read counts.
    #[inline]
    pub(crate) fn times_freed(&self) -> u64 {
        self.times_freed.load(Ordering::Acquire)
    }

    /// Whether not even the reserve was enough.
    pub(crate) fn is_used_up(&self) -> bool {
        self.state.load(Ordering::Relaxed) == USED_UP
    }

    /// Bytes of the reserve that stands on the disk.
    pub(crate) fn held(&self) -> u64 {
        self.reserve.lock().held
    }

    /// Refuses puts while the disk is full.
    #[inline]
    pub(crate) fn admit(&self, weight: Weight) -> Result<()> {
        if self.is_full() && weight == Weight::Puts { Err(self.error()) } else { Ok(()) }
    }

    /// Refuses `bytes` that another node sends if what is left then would not do for the tables of
    /// `unflushed` bytes and for what users write next. Takes nothing: whoever is let in writes at once.
    ///
    /// A disk that does not tell how much is free takes everything.
    pub(crate) fn admit_received(&self, bytes: u64, unflushed: u64) -> Result<()> {
        self.admit(Weight::Puts)?;
        let Ok(space) = self.fs.space() else { return Ok(()) };
        let kept = self.kept_for_users.saturating_add(unflushed);
        if bytes <= space.disk_bytes.saturating_sub(kept) { Ok(()) } else { Err(self.error()) }
    }

    /// The error of a write that is refused.
    #[cold]
    pub(crate) fn error(&self) -> Error {
        Error::DiskFull { path: self.fs.root().to_path_buf() }
    }

    /// Notes that something that must be written found no space, unless there was some again since
    /// `times_freed` was read. Returns whether it did.
    #[cold]
    pub(crate) fn note_full_since(&self, times_freed: u64) -> bool {
        !self.makes_way(Claim::Notice, times_freed)
    }

    fn note_full(&self) {
        let noted = self.state.compare_exchange(FREE, FULL, Ordering::AcqRel, Ordering::Relaxed);
        if noted.is_ok() {
            self.times_full.fetch_add(1, Ordering::AcqRel);
            tracing::warn!(target: "esker::engine", code = "DiskFull", "the disk is full; puts are refused until there is space");
            self.ask_for_room();
        }
    }

    /// Asks that memory be emptied and the log go on in a small segment: that frees all other
    /// segments.
    pub(crate) fn ask_for_room(&self) {
        self.wants_room.store(true, Ordering::Release);
        self.bell.ring();
    }

    /// Whether somebody asked for it.
    pub(crate) fn wants_room(&self) -> bool {
        self.wants_room.load(Ordering::Acquire)
    }

    /// Whether somebody asked for it; the caller does it.
    pub(crate) fn take_wish_for_room(&self) -> bool {
        self.wants_room.swap(false, Ordering::AcqRel)
    }

    /// Asks merges to give their space back.
    pub(crate) fn wait_for_merges(&self) -> Waiting<'_> {
        self.waiting.fetch_add(1, Ordering::AcqRel);
        Waiting(&self.waiting)
    }

    /// Whether a flush waits for the space of a merge.
    pub(crate) fn is_awaited(&self) -> bool {
        self.waiting.load(Ordering::Acquire) > 0
    }

    /// In which segment the log may go on for a write of `weight`, so that what is in memory,
    /// `unflushed` bytes, and what the segment will hold can still be written to tables. Puts leave
    /// some more for deletes.
    pub(crate) fn grant(&self, next: NextSegment, weight: Weight, unflushed: u64) -> Grant {
        loop {
            let times_freed = self.times_freed();
            let Some(left) = self.left(unflushed) else { return Grant::Usual };
            let fits = |holds: u64, takes: u64, more: u64| left >= holds + takes + more;
            // A large spare comes to no use then.
            let least_takes = if next.holds <= next.least { next.takes } else { next.least };
            if !self.is_full() && fits(next.holds, next.takes, 2 * self.unit) {
                return Grant::Usual;
            }
            if fits(next.least, least_takes, 2 * self.unit) {
                return Grant::Small;
            }
            if self.note_full_since(times_freed) {
                self.ask_for_room();
                let is_for_deletes = weight == Weight::Deletes && fits(next.least, least_takes, 0);
                return if is_for_deletes { Grant::Small } else { Grant::Nothing };
            }
        }
    }

    /// Whether a spare of `bytes` for the log leaves enough for its own tables and for those of
    /// `unflushed` bytes.
    pub(crate) fn affords(&self, bytes: u64, unflushed: u64) -> bool {
        let left = self.left(unflushed);
        !self.is_full() && left.is_none_or(|left| left >= 2 * bytes + 2 * self.unit)
    }

    /// What would be left of the disk, the reserve included, after a flush of `unflushed` bytes.
    /// None if it does not matter or is not known.
    fn left(&self, unflushed: u64) -> Option<u64> {
        if self.reserve_bytes_max == 0 {
            return None;
        }
        let reserve = self.reserve.lock();
        let free = self.fs.space().ok()?.disk_bytes;
        Some(free.saturating_add(reserve.held).saturating_sub(unflushed))
    }

    /// Calls `work`, whose lack of space others must know of. It may not use the reserve.
    #[inline]
    pub(crate) fn without_reserve<T>(&self, work: impl FnMut() -> Result<T>) -> Result<T> {
        self.with_claim(Claim::Notice, work)
    }

    /// Calls `work`, and once more with the space of the reserve if the disk is too full for it.
    pub(crate) fn with_reserve<T>(&self, work: impl FnMut() -> Result<T>) -> Result<T> {
        self.with_claim(Claim::Reserve, work)
    }

    /// As [`Space::with_reserve`], for work that gives all space back if it fails: a merge.
    pub(crate) fn try_with_reserve<T>(&self, work: impl FnMut() -> Result<T>) -> Result<T> {
        self.with_claim(Claim::Try, work)
    }

    #[inline]
    fn with_claim<T>(&self, claim: Claim, mut work: impl FnMut() -> Result<T>) -> Result<T> {
        loop {
            let times_freed = self.times_freed();
            match work() {
                Err(Error::DiskFull { .. }) if self.makes_way(claim, times_freed) => {}
                result => return result,
            }
        }
    }

    /// Does what `claim` says about work that found no space. Returns whether it may find some now: of
    /// the reserve, or because there was some again since `times_freed` was read.
    #[cold]
    fn makes_way(&self, claim: Claim, times_freed: u64) -> bool {
        let mut reserve = self.reserve.lock();
        if self.times_freed() != times_freed {
            return true;
        }
        if claim != Claim::Try {
            self.note_full();
        }
        // As long as it is full, the reserve is nothing that was made for the next time.
        let is_given_up = claim != Claim::Notice && self.is_full() && self.give_up(&mut reserve);
        if claim == Claim::Reserve && !is_given_up {
            self.state.store(USED_UP, Ordering::Release);
        }
        is_given_up
    }

    /// Gives the space of the reserve to whoever writes next. Returns whether there was one.
    fn give_up(&self, reserve: &mut Reserve) -> bool {
        if reserve.held == 0 || !remove_reserve(self.fs.as_ref()) {
            return false;
        }
        *reserve = Reserve { held: 0, owed: reserve.held };
        true
    }

    /// Bytes that are free on the disk.
    pub(crate) fn free_bytes(&self) -> u64 {
        self.fs.space().map_or(0, |space| space.disk_bytes)
    }

    /// Whether so much more is free than `before` that work which found no space may try again.
    pub(crate) fn has_grown_since(&self, before: u64) -> bool {
        self.free_bytes() >= before.saturating_add(self.unit)
    }

    /// Makes the reserve, or a larger one if the database has outgrown it. What can not
    /// be made is tried again later.
    pub(crate) fn keep_reserve(&self, demand: Demand) {
        let mut reserve = self.reserve.lock();
        if !self.is_full() {
            self.fit(&mut reserve, demand);
        }
    }

    fn fit(&self, reserve: &mut Reserve, demand: Demand) {
        let free = self.free_bytes();
        let share = free.saturating_add(reserve.held) / SHARE;
        let wanted = (4 * self.unit)
            .saturating_add(demand.data_bytes)
            .min(self.reserve_bytes_max)
            .min(share.max(reserve.owed));
        let is_outgrown =
            wanted / 2 >= reserve.held && wanted >= self.unit.min(self.reserve_bytes_max);
        if (is_outgrown && wanted > 0) || reserve.held > self.reserve_bytes_max {
            self.renew(reserve, wanted);
        }
    }

    /// Looks whether there is space again, also for a flush of what is only in memory; then puts are
    /// taken again. Returns whether they are.
    pub(crate) fn probe(&self, demand: Demand) -> bool {
        if !self.is_full() {
            return true;
        }
        let mut reserve = self.reserve.lock();
        let free = self.free_bytes();
        let owed = demand.unflushed_bytes.saturating_add(reserve.owed);
        if free < (4 * self.unit).saturating_add(owed) || !self.resuming.is_granted() {
            if free >= self.unit {
                // Not enough for puts, but deletes may try again.
                let _ =
                    self.state.compare_exchange(USED_UP, FULL, Ordering::AcqRel, Ordering::Relaxed);
            }
            return false;
        }
        self.fit(&mut reserve, demand);
        self.state.store(FREE, Ordering::Release);
        self.times_freed.fetch_add(1, Ordering::AcqRel);
        self.wants_room.store(false, Ordering::Release);
        self.resuming.count();
        tracing::info!(target: "esker::engine", "there is space on the disk again; puts are taken");
        true
    }

    /// Puts a reserve of `bytes` in the place of the one that stands there.
    fn renew(&self, reserve: &mut Reserve, bytes: u64) {
        if reserve.held > 0 && !remove_reserve(self.fs.as_ref()) {
            return;
        }
        reserve.held = 0;
        if bytes == 0 {
            return;
        }
        let path = FileName::Reserve.path();
        match self.fs.create(&path, bytes) {
            Ok(_) => *reserve = Reserve { held: bytes, owed: 0 },
            Err(error) => {
                let error = Error::io("create", full_path(self.fs.as_ref(), &path), error);
                tracing::debug!(target: "esker::engine", code = error.code(), %error, "there is no reserve for a full disk");
            }
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test fails by panicking")]
mod tests {
    use super::*;
    use base::fs::SimFs;
    use std::time::Duration;

    const NOTHING: Demand = Demand { data_bytes: 0, unflushed_bytes: 0 };

    fn disk() -> (SimFs, Space, Arc<Bell>) {
        let (fs, bell) = (SimFs::new(1), Arc::new(Bell::default()));
        fs.set_free(1 << 40);
        let space = Space::new(Arc::new(fs.clone()), 1 << 20, 64 << 10, bell.clone());
        space.keep_reserve(NOTHING);
        assert!(space.held() > 0);
        (fs, space, bell)
    }

    /// Another thread finds the disk full, and then there is space again.
    fn fill_and_free(space: &Space) {
        let times_freed = space.times_freed();
        assert!(space.note_full_since(times_freed));
        assert!(space.is_full() && space.probe(NOTHING));
    }

    /// Calls `work` of [`Space`] with what finds no space `failures` times; before the failure `at` the
    /// disk gets full and is free again. Returns how often it was called.
    fn calls(
        space: &Space,
        (failures, at): (u32, u32),
        work: impl Fn(&Space, &mut dyn FnMut() -> Result<()>) -> Result<()>,
    ) -> u32 {
        let mut calls = 0;
        work(space, &mut || {
            calls += 1;
            if calls == at {
                fill_and_free(space);
            }
            if calls <= failures { Err(space.error()) } else { Ok(()) }
        })
        .unwrap();
        calls
    }

    /// Else a put would be refused though the disk had counted as free before it.
    #[test]
    fn work_that_found_no_space_before_there_was_some_again_does_not_fill_the_disk() {
        let (_, space, _) = disk();
        let held = space.held();
        for calls in [
            calls(&space, (1, 1), |space, work| space.without_reserve(work)),
            calls(&space, (1, 1), |space, work| space.with_reserve(work)),
            calls(&space, (1, 1), |space, work| space.try_with_reserve(work)),
        ] {
            assert_eq!((calls, space.is_full(), space.held()), (2, false, held));
        }
    }

    /// The log's thread sleeps while the disk counts as free: nobody would look for seconds.
    #[test]
    fn work_that_fails_with_the_reserve_as_space_comes_back_does_not_use_it_up() {
        let (_, space, bell) = disk();
        assert_eq!(calls(&space, (2, 2), |space, work| space.with_reserve(work)), 3);
        assert!(!space.is_full() && space.held() > 0);
        bell.wait(Duration::ZERO);
        // And what finds no space afterwards is told at once.
        let refused = space.with_reserve(|| Err::<(), _>(space.error()));
        assert!(refused.is_err() && space.is_used_up() && space.held() == 0);
        assert!(bell.wait(Duration::ZERO), "who probes was not woken");
    }

    #[test]
    fn a_merge_leaves_the_reserve_alone_while_the_disk_does_not_count_as_full() {
        let (_, space, _) = disk();
        let refused = space.try_with_reserve(|| Err::<(), _>(space.error()));
        assert!(refused.is_err() && !space.is_full() && space.held() > 0);
        assert!(space.note_full_since(space.times_freed()));
        assert_eq!(calls(&space, (1, 0), |space, work| space.try_with_reserve(work)), 2);
        assert!(space.held() == 0 && !space.is_used_up());
    }
}
