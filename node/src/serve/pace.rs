//! How fast a client has to be: what it may lose in all, not at a time.
//!
//! ```text
//! left ──every second it is waited for──> one second less, at 0 it is sent away
//!      <──every 16 KiB that come or go──  one second more, up to the patience
//! ```
//!
//! So whoever stands still for the whole patience is sent away, and whoever keeps coming at less than 16 KiB a
//! second too, a while later. Time that the node itself takes does not count.

use std::time::Duration;

/// Bytes a second that are fast enough for ever.
pub(super) const LEAST_BYTES_PER_SECOND: u64 = 16 << 10;

/// How long one client may still be waited for.
#[derive(Clone, Copy, Debug)]
pub(super) struct Pace {
    patience: Duration,
    left: Duration,
}

impl Pace {
    /// Of a client that may fall behind by `patience`.
    pub(super) fn new(patience: Duration) -> Pace {
        Pace { patience, left: patience }
    }

    /// By how much a client may fall behind in all.
    pub(super) fn patience(&self) -> Duration {
        self.patience
    }

    /// How long it may be waited for now.
    pub(super) fn left(&self) -> Duration {
        self.left
    }

    /// So many bytes came or went after a wait for the client.
    pub(super) fn note(&mut self, waited: Duration, bytes: usize) {
        let micros = (bytes as u64).saturating_mul(1_000_000) / LEAST_BYTES_PER_SECOND;
        let left = self.left.saturating_sub(waited).saturating_add(Duration::from_micros(micros));
        self.left = left.min(self.patience);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    #[test]
    fn whoever_is_fast_enough_may_go_on_for_ever_and_saves_nothing_up() {
        let mut pace = Pace::new(10 * SECOND);
        (0..100_000).for_each(|_| pace.note(SECOND, 16 << 10));
        assert_eq!(pace.left(), 10 * SECOND);
        pace.note(Duration::ZERO, 1 << 30);
        assert_eq!(pace.left(), 10 * SECOND, "a fast start pays for no standstill");
    }

    #[test]
    fn a_trickle_ends_though_it_never_stands_still() {
        let mut pace = Pace::new(10 * SECOND);
        let steps = (0..100).find(|_| {
            let is_over = pace.left() < SECOND;
            pace.note(SECOND, 8 << 10);
            is_over
        });
        assert_eq!(steps, Some(19), "half of the least, so half of the time is lost");
        pace.note(Duration::ZERO, usize::MAX);
        assert_eq!(pace.left(), 10 * SECOND);
    }
}
