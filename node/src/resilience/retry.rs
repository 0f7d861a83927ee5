//! Trying again what may succeed later.

use super::Guarded;
use backon::{BackoffBuilder, BlockingRetryable};
use base::Category;
use std::fmt;
use std::time::Duration;

/// How the pauses between tries grow.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pauses {
    /// Each is as long as the first.
    Fixed,
    /// Each is longer by the first.
    Linear,
    /// Each is twice as long as the one before.
    Exponential,
}

/// Whether pauses are varied, so that many callers do not come back at once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Jitter {
    /// They are as they are.
    None,
    /// Each is made longer by up to itself, within the cap, by chance that follows from this seed.
    Seeded(u64),
}

/// How something is tried again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Retry {
    /// Tries, the first included. Default 3.
    pub tries: u32,
    /// How the pauses grow. Default [`Pauses::Exponential`].
    pub pauses: Pauses,
    /// The first pause. Default 1 s.
    pub first: Duration,
    /// The longest pause. Default 60 s.
    pub cap: Duration,
    /// Default [`Jitter::None`].
    pub jitter: Jitter,
    /// How long one try may take, if that is limited: the try is told, and has to obey.
    pub per_try: Option<Duration>,
}

impl Default for Retry {
    fn default() -> Retry {
        Retry {
            tries: 3,
            pauses: Pauses::Exponential,
            first: Duration::from_secs(1),
            cap: Duration::from_secs(60),
            jitter: Jitter::None,
            per_try: None,
        }
    }
}

/// A try.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Attempt {
    /// Which one it is, from 1.
    pub number: u32,
    /// How long it may take.
    pub timeout: Option<Duration>,
}

/// An error that says whether another try may help.
pub trait RetryError {
    /// Whether the same call may succeed later.
    fn is_retryable(&self) -> bool;
}

impl RetryError for base::Error {
    /// What was called off is not wanted any more, whoever might carry it out later; what stood still was waited
    /// for long enough.
    fn is_retryable(&self) -> bool {
        let is_over = matches!(
            self,
            base::Error::Cancelled | base::Error::Closed | base::Error::Stalled { .. }
        );
        self.category() == Category::Retryable && !is_over
    }
}

impl<E: RetryError> RetryError for Guarded<E> {
    /// What a breaker leaves alone is not tried again at once.
    fn is_retryable(&self) -> bool {
        match self {
            Guarded::Rejected { .. } => false,
            Guarded::Failed(error) => error.is_retryable(),
        }
    }
}

impl Retry {
    /// Calls `call` until it succeeds, fails for good, or was tried often enough; `sleep` waits in
    /// between. Returns how the last try ended.
    pub fn run<T, E: RetryError + fmt::Display>(
        &self,
        sleep: impl Fn(Duration) + 'static,
        mut call: impl FnMut(Attempt) -> Result<T, E>,
    ) -> Result<T, E> {
        let mut number = 0;
        let attempt = || {
            number += 1;
            call(Attempt { number, timeout: self.per_try })
        };
        attempt.retry(*self).sleep(sleep).when(RetryError::is_retryable).call()
    }

    /// The pause before the try `number`, without jitter; the first try has none.
    fn pause(&self, number: u32) -> Duration {
        let grown = match self.pauses {
            Pauses::Fixed => Some(self.first),
            Pauses::Linear => self.first.checked_mul(number.saturating_sub(1)),
            Pauses::Exponential => {
                let factor =
                    1u32.checked_shl(number.saturating_sub(2)).filter(|factor| *factor > 0);
                factor.and_then(|factor| self.first.checked_mul(factor))
            }
        };
        grown.map_or(self.cap, |pause| pause.min(self.cap))
    }
}

/// The pauses of one call, for the library that makes the tries.
#[derive(Clone, Copy, Debug)]
pub struct Schedule {
    retry: Retry,
    number: u32,
    state: u64,
}

impl BackoffBuilder for Retry {
    type Backoff = Schedule;

    fn build(self) -> Schedule {
        let Jitter::Seeded(state) = self.jitter else {
            return Schedule { retry: self, number: 1, state: 0 };
        };
        Schedule { retry: self, number: 1, state }
    }
}

impl Iterator for Schedule {
    type Item = Duration;

    fn next(&mut self) -> Option<Duration> {
        if self.number >= self.retry.tries {
            return None;
        }
        self.number += 1;
        let pause = self.retry.pause(self.number);
        let Jitter::Seeded(_) = self.retry.jitter else { return Some(pause) };
        let share = (split_mix(&mut self.state) >> 11) as f64 / (1u64 << 53) as f64;
        Some(pause.saturating_add(pause.mul_f64(share)).min(self.retry.cap))
    }
}

/// SplitMix64 (Steele, Lea, Flood: Fast splittable pseudorandom number generators, 2014).
fn split_mix(state: &mut u64) -> u64 {
    *state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let mixed = (*state ^ (*state >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    mixed ^ (mixed >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;
    use base::Error;
    use proptest::prelude::*;
    use std::cell::RefCell;
    use std::rc::Rc;

    const SECOND: Duration = Duration::from_secs(1);

    /// The pauses that were made until `retry` gave up.
    fn pauses(retry: Retry) -> Vec<Duration> {
        let slept = Rc::new(RefCell::new(Vec::new()));
        let noted = slept.clone();
        let sleep = move |pause| noted.borrow_mut().push(pause);
        let failed = retry.run(sleep, |_| Err::<(), _>(Error::Conflict));
        assert!(failed.is_err());
        Rc::try_unwrap(slept).unwrap().into_inner()
    }

    #[test]
    fn pauses_grow_as_they_should_up_to_the_cap() {
        let of = |pauses, tries| Retry { pauses, tries, ..Retry::default() };
        let seconds = |list: &[u32]| list.iter().map(|s| *s * SECOND).collect::<Vec<_>>();
        assert_eq!(pauses(of(Pauses::Fixed, 4)), seconds(&[1, 1, 1]));
        assert_eq!(pauses(of(Pauses::Linear, 5)), seconds(&[1, 2, 3, 4]));
        let doubled = [1, 2, 4, 8, 16, 32, 60, 60];
        assert_eq!(pauses(of(Pauses::Exponential, 9)), seconds(&doubled));
        assert_eq!(pauses(Retry::default()).len(), 2);
        assert_eq!(pauses(of(Pauses::Exponential, 300)).last(), Some(&(60 * SECOND)));
        assert!(pauses(of(Pauses::Fixed, 1)).is_empty());
    }

    #[test]
    fn only_what_may_succeed_later_is_tried_again() {
        let mut tries = 0;
        let failed = Retry::default().run(drop, |_| {
            tries += 1;
            Err::<(), _>(Error::Poisoned)
        });
        assert!(matches!(failed, Err(Error::Poisoned)));
        assert_eq!(tries, 1);
    }

    #[test]
    fn a_try_knows_its_number_and_its_time() {
        let retry = Retry { per_try: Some(SECOND), ..Retry::default() };
        let mut seen = Vec::new();
        let done = retry.run(drop, |attempt| {
            seen.push((attempt.number, attempt.timeout));
            if attempt.number == 3 { Ok(attempt.number) } else { Err(Error::Conflict) }
        });
        assert!(matches!(done, Ok(3)));
        assert_eq!(seen, [1, 2, 3].map(|number| (number, Some(SECOND))));
    }

    proptest! {
        #[test]
        fn jitter_only_lengthens_within_the_cap_and_follows_from_its_seed(
            seed: u64,
            tries in 1u32..40,
            first in 1u64..5000,
        ) {
            let plain = Retry { tries, first: Duration::from_millis(first), ..Retry::default() };
            let varied = Retry { jitter: Jitter::Seeded(seed), ..plain };
            let (plain, found) = (pauses(plain), pauses(varied));
            prop_assert_eq!(&found, &pauses(varied));
            prop_assert_eq!(plain.len(), found.len());
            for (plain, found) in plain.into_iter().zip(found) {
                prop_assert!(plain <= found && found <= (2 * plain).min(60 * SECOND));
            }
        }
    }
}
