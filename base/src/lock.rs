//! Locks that know their place.
//!
//! Every lock has a [`Rank`]. A thread may take a lock only if its rank is below (later in the
//! list than) every rank it holds; equal ranks do not nest. Then no cycle of waiting threads can
//! exist. Debug builds check each acquisition; release builds pay nothing.

mod rank;

pub use rank::Rank;

#[cfg(debug_assertions)]
use crate::defect::{Defect, planted};
use std::cell::Cell;
use std::ops::{Deref, DerefMut};
use std::time::Duration;

thread_local! {
    /// The ranks this thread holds, one bit each.
    static HELD: Cell<u64> = const { Cell::new(0) };
}

/// Notes that this thread holds a rank, for as long as it lives. Only in debug builds.
#[derive(Debug)]
struct Held(#[cfg(debug_assertions)] Rank);

impl Held {
    #[track_caller]
    #[inline]
    fn enter(_rank: Rank) -> Held {
        #[cfg(debug_assertions)]
        {
            let rank = match _rank {
                Rank::WriteQueue if planted(Defect::SwapLockRanks) => Rank::Visibility,
                Rank::Visibility if planted(Defect::SwapLockRanks) => Rank::WriteQueue,
                rank => rank,
            };
            let (mask, bit) = (HELD.get(), 1u64 << rank as u8);
            debug_assert!(mask < bit, "taking {rank:?} out of order; held ranks: {mask:#b}");
            HELD.set(mask | bit);
            Held(rank)
        }
        #[cfg(not(debug_assertions))]
        Held()
    }
}

#[cfg(debug_assertions)]
impl Drop for Held {
    fn drop(&mut self) {
        HELD.set(HELD.get() & !(1u64 << self.0 as u8));
    }
}

/// Debug builds panic here if this thread holds [`Rank::View`] or a rank below it: no file
/// operation, callback or wait may happen there.
#[track_caller]
#[inline]
pub fn assert_may_block() {
    debug_assert!(
        HELD.get() < 1 << Rank::View as u8,
        "file operation under {:#b}; the ranks from View on forbid it",
        HELD.get()
    );
}

/// A mutex with a rank.
#[derive(Debug)]
pub struct Mutex<T> {
    rank: Rank,
    inner: parking_lot::Mutex<T>,
}

/// Exclusive access to what a [`Mutex`] guards.
#[derive(Debug)]
pub struct MutexGuard<'a, T> {
    inner: parking_lot::MutexGuard<'a, T>,
    _held: Held,
}

impl<T> Mutex<T> {
    /// A mutex of `rank` around `value`.
    pub const fn new(rank: Rank, value: T) -> Mutex<T> {
        Mutex { rank, inner: parking_lot::Mutex::new(value) }
    }

    /// Waits for the lock. Debug builds panic here if this thread already holds this rank or one
    /// below it.
    #[track_caller]
    #[inline]
    pub fn lock(&self) -> MutexGuard<'_, T> {
        let held = Held::enter(self.rank);
        MutexGuard { inner: self.inner.lock(), _held: held }
    }

    /// Takes the lock if it is free.
    #[track_caller]
    #[inline]
    pub fn try_lock(&self) -> Option<MutexGuard<'_, T>> {
        let held = Held::enter(self.rank);
        Some(MutexGuard { inner: self.inner.try_lock()?, _held: held })
    }

    /// The value, without locking: nobody else can hold it.
    pub fn get_mut(&mut self) -> &mut T {
        self.inner.get_mut()
    }
}

impl<T> Deref for MutexGuard<'_, T> {
    type Target = T;
    fn deref(&self) -> &T {
        &self.inner
    }
}

impl<T> DerefMut for MutexGuard<'_, T> {
    fn deref_mut(&mut self) -> &mut T {
        &mut self.inner
    }
}

/// A condition to wait for under a [`Mutex`].
#[derive(Debug, Default)]
pub struct Condvar(parking_lot::Condvar);

impl Condvar {
    /// A condition nobody waits for yet.
    pub const fn new() -> Condvar {
        Condvar(parking_lot::Condvar::new())
    }

    /// Releases the lock, waits for a notification, takes the lock again.
    pub fn wait<T>(&self, guard: &mut MutexGuard<'_, T>) {
        self.0.wait(&mut guard.inner);
    }

    /// As [`Condvar::wait`], for at most `timeout`. Returns whether a notification came.
    pub fn wait_for<T>(&self, guard: &mut MutexGuard<'_, T>, timeout: Duration) -> bool {
        !self.0.wait_for(&mut guard.inner, timeout).timed_out()
    }

    /// Wakes one waiter.
    pub fn notify_one(&self) {
        self.0.notify_one();
    }

    /// Wakes all waiters.
    pub fn notify_all(&self) {
        self.0.notify_all();
    }
}

/// A readers-writer lock with a rank.
#[derive(Debug)]
pub struct RwLock<T> {
    rank: Rank,
    inner: parking_lot::RwLock<T>,
}

/// Shared access to what a [`RwLock`] guards.
#[derive(Debug)]
pub struct ReadGuard<'a, T> {
    inner: parking_lot::RwLockReadGuard<'a, T>,
    _held: Held,
}

/// Exclusive access to what a [`RwLock`] guards.
#[derive(Debug)]
pub struct WriteGuard<'a, T> {
    inner: parking_lot::RwLockWriteGuard<'a, T>,
    _held: Held,
}

impl<T> RwLock<T> {
    /// A lock of `rank` around `value`.
    pub const fn new(rank: Rank, value: T) -> RwLock<T> {
        RwLock { rank, inner: parking_lot::RwLock::new(value) }
    }

    /// Waits for shared access.
    #[track_caller]
    #[inline]
    pub fn read(&self) -> ReadGuard<'_, T> {
        let held = Held::enter(self.rank);
        ReadGuard { inner: self.inner.read(), _held: held }
    }

    /// Waits for exclusive access.
    #[track_caller]
    #[inline]
    pub fn write(&self) -> WriteGuard<'_, T> {
        let held = Held::enter(self.rank);
        WriteGuard { inner: self.inner.write(), _held: held }
    }
}

impl<T> Deref for ReadGuard<'_, T> {
    type Target = T;
    fn deref(&self) -> &T {
        &self.inner
    }
}

impl<T> Deref for WriteGuard<'_, T> {
    type Target = T;
    fn deref(&self) -> &T {
        &self.inner
    }
}

impl<T> DerefMut for WriteGuard<'_, T> {
    fn deref_mut(&mut self) -> &mut T {
        &mut self.inner
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn locks_nest_in_rank_order() {
        let outer = Mutex::new(Rank::WriteQueue, 1);
        let inner = RwLock::new(Rank::View, 2);
        let (outer, inner) = (outer.lock(), inner.read());
        assert_eq!(*outer + *inner, 3);
    }

    #[test]
    #[cfg(debug_assertions)]
    fn taking_locks_against_the_order_panics() {
        let attempt = |first: Rank, second: Rank| {
            std::thread::spawn(move || {
                let (first, second) = (Mutex::new(first, ()), Mutex::new(second, ()));
                let _first = first.lock();
                let _second = second.lock();
            })
            .join()
        };
        assert!(attempt(Rank::WriteQueue, Rank::Manifest).is_ok());
        assert!(attempt(Rank::Manifest, Rank::WriteQueue).is_err());
        assert!(attempt(Rank::CacheShard, Rank::CacheShard).is_err());
    }

    /// Each pair of ranks nests as the list says, and not the other way round.
    #[test]
    #[cfg(debug_assertions)]
    fn every_pair_of_ranks_nests_one_way_only() {
        let ranks = [
            Rank::Lifecycle,
            Rank::Jobs,
            Rank::WriteQueue,
            Rank::SyncGate,
            Rank::Visibility,
            Rank::Manifest,
            Rank::View,
            Rank::Slots,
            Rank::Keyspaces,
            Rank::Snapshots,
            Rank::Transactions,
            Rank::TableCache,
            Rank::CacheShard,
            Rank::Obsolete,
            Rank::Stats,
            Rank::Links,
            Rank::Bell,
        ];
        for (at, outer) in ranks.into_iter().enumerate() {
            for inner in ranks.into_iter().skip(at + 1) {
                let nested = |first, second| {
                    let (first, second) = (Mutex::new(first, ()), Mutex::new(second, ()));
                    std::thread::spawn(move || {
                        let _first = first.lock();
                        let _second = second.lock();
                    })
                    .join()
                };
                assert!(nested(outer, inner).is_ok(), "{outer:?}, then {inner:?}");
                assert!(nested(inner, outer).is_err(), "{inner:?}, then {outer:?}");
            }
        }
    }

    #[test]
    #[cfg(debug_assertions)]
    fn blocking_under_the_view_lock_panics() {
        let blocked = std::thread::spawn(|| {
            let view = Mutex::new(Rank::View, ());
            let _view = view.lock();
            assert_may_block();
        });
        assert!(blocked.join().is_err());
        assert_may_block();
    }
}
