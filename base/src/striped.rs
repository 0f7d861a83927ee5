//! Values that many threads change at once, each thread a part of its own.

use crossbeam_utils::CachePadded;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

/// How many parts there are. Threads beyond this number share parts.
const STRIPES: usize = 16;

thread_local! {
    /// The part of this thread.
    static STRIPE: usize = {
        static NEXT: AtomicUsize = AtomicUsize::new(0);
        NEXT.fetch_add(1, Ordering::Relaxed) % STRIPES
    };
}

/// 16 parts, each on cache lines of its own, so that threads rarely wait for each other's.
#[derive(Debug, Default)]
pub struct Striped<T>([CachePadded<T>; STRIPES]);

impl<T> Striped<T> {
    /// The part of the thread that calls.
    #[inline]
    pub fn own(&self) -> &T {
        // A thread that is ending has no part any more.
        let stripe = STRIPE.try_with(|stripe| *stripe).unwrap_or(0);
        &self.0[stripe % STRIPES]
    }

    /// All parts.
    pub fn iter(&self) -> impl Iterator<Item = &T> {
        self.0.iter().map(|part| &**part)
    }
}

impl Striped<AtomicU64> {
    /// Counts one.
    #[inline]
    pub fn add_one(&self) {
        self.own().fetch_add(1, Ordering::Relaxed);
    }

    /// What all threads have counted.
    pub fn sum(&self) -> u64 {
        self.iter().map(|part| part.load(Ordering::Relaxed)).sum()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn more_threads_than_parts_lose_nothing() {
        let count = Striped::<AtomicU64>::default();
        std::thread::scope(|scope| {
            for _ in 0..3 * STRIPES {
                scope.spawn(|| (0..1_000).for_each(|_| count.add_one()));
            }
        });
        assert_eq!(count.sum(), 3 * STRIPES as u64 * 1_000);
        assert!(count.iter().all(|part| part.load(Ordering::Relaxed) > 0), "{count:?}");
    }
}
