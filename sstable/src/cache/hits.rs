//! A counter that many threads add to without meeting.

use crossbeam_utils::CachePadded;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

/// How many parts the counter has. Threads beyond this number share parts.
const STRIPES: usize = 16;

thread_local! {
    /// The part this thread adds to.
    static STRIPE: usize = next_stripe();
}

/// How often blocks were found in memory.
#[derive(Debug, Default)]
pub(super) struct Hits([CachePadded<AtomicU64>; STRIPES]);

impl Hits {
    #[inline]
    pub(super) fn add_one(&self) {
        // A thread that is ending has no stripe any more.
        let stripe = STRIPE.try_with(|stripe| *stripe).unwrap_or(0);
        self.0[stripe % STRIPES].fetch_add(1, Ordering::Relaxed);
    }

    pub(super) fn sum(&self) -> u64 {
        self.0.iter().map(|stripe| stripe.load(Ordering::Relaxed)).sum()
    }
}

fn next_stripe() -> usize {
    static NEXT: AtomicUsize = AtomicUsize::new(0);
    NEXT.fetch_add(1, Ordering::Relaxed) % STRIPES
}
