//! Readings of the hybrid logical clock.
//!
//! Source: Kulkarni et al., "Logical Physical Clocks" (OPODIS 2014), with the logical part packed
//! below the physical one.
//!
//! Invariants:
//! - On one node ticks strictly increase, whatever the wall clock does.
//! - A tick fits 56 bits, so that it leaves room for an entry kind in one 8-byte trailer.

use std::fmt;

/// Bits of the counter below the milliseconds.
const COUNTER_BITS: u32 = 12;

/// A reading of the hybrid logical clock: 44 bits of milliseconds since the Unix epoch, then a
/// 12-bit counter. As the number of a local commit it is called a *seqno*.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Tick(u64);

impl Tick {
    /// Before every commit.
    pub const ZERO: Tick = Tick(0);
    /// The largest tick that fits the 56 bits an internal key has for it.
    pub const MAX: Tick = Tick((1 << 56) - 1);

    /// The tick whose number is `raw`, or `None` past [`Tick::MAX`].
    pub const fn from_raw(raw: u64) -> Option<Tick> {
        if raw <= Tick::MAX.0 { Some(Tick(raw)) } else { None }
    }

    /// The first tick of the millisecond `ms`; saturates at [`Tick::MAX`] in the year 2527.
    pub const fn from_ms(ms: u64) -> Tick {
        if ms > Tick::MAX.0 >> COUNTER_BITS { Tick::MAX } else { Tick(ms << COUNTER_BITS) }
    }

    /// The last tick of the millisecond `ms`.
    pub const fn last_of_ms(ms: u64) -> Tick {
        Tick(Tick::from_ms(ms).0 | ((1 << COUNTER_BITS) - 1))
    }

    /// The number itself.
    pub const fn raw(self) -> u64 {
        self.0
    }

    /// Milliseconds since the Unix epoch.
    pub const fn ms(self) -> u64 {
        self.0 >> COUNTER_BITS
    }

    /// The next tick; a full counter borrows the following millisecond.
    pub const fn next(self) -> Tick {
        if self.0 >= Tick::MAX.0 { Tick::MAX } else { Tick(self.0 + 1) }
    }

    /// The tick before this one, or zero.
    pub const fn previous(self) -> Tick {
        Tick(self.0.saturating_sub(1))
    }

    /// The next reading after `self` when the wall clock shows `wall_ms`: the wall clock if it is
    /// ahead, else one more than the last reading.
    pub fn advance(self, wall_ms: u64) -> Tick {
        self.next().max(Tick::from_ms(wall_ms))
    }

    /// The receive rule: the clock after it has seen `remote`. Later readings exceed both.
    pub fn observe(self, remote: Tick) -> Tick {
        self.max(remote)
    }
}

impl fmt::Display for Tick {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_full_counter_borrows_the_next_millisecond() {
        let last = Tick::last_of_ms(7);
        assert_eq!(last.ms(), 7);
        assert_eq!(last.next(), Tick::from_ms(8));
    }

    proptest! {
        /// Whatever the wall clock and the peers show, every reading exceeds all before it.
        #[test]
        fn readings_strictly_increase(
            steps in proptest::collection::vec((0u64..1 << 40, proptest::option::of(0u64..1 << 52)), 1..200)
        ) {
            let mut now = Tick::ZERO;
            for (wall_ms, remote) in steps {
                let before = now;
                if let Some(remote) = remote.and_then(Tick::from_raw) {
                    now = now.observe(remote);
                    prop_assert!(now >= remote);
                }
                now = now.advance(wall_ms);
                prop_assert!(now > before);
                prop_assert!(now >= Tick::from_ms(wall_ms));
            }
        }
    }
}
