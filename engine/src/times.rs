//! How long something took, each time that it was done.

use std::time::Duration;

/// Sub-buckets of each power of two: times are exact to 12.5 %.
pub(crate) const SUB_BUCKETS: usize = 8;
pub(crate) const BUCKETS: usize = 40 * SUB_BUCKETS;

/// Counts of times in buckets of an eighth of a power of two, of which a [`Latency`](crate::Latency) is the
/// short form.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Times {
    /// By bucket, as `Histogram` fills them.
    counts: Vec<u64>,
}

impl FromIterator<Duration> for Times {
    fn from_iter<I: IntoIterator<Item = Duration>>(times: I) -> Times {
        let mut counts = vec![0; BUCKETS];
        for time in times {
            let nanos = u64::try_from(time.as_nanos()).unwrap_or(u64::MAX);
            if let Some(count) = counts.get_mut(bucket_of(nanos)) {
                *count += 1;
            }
        }
        Times { counts }
    }
}

impl Times {
    /// Those of these buckets.
    pub(crate) fn of(counts: Vec<u64>) -> Times {
        Times { counts }
    }

    /// How many there are.
    pub fn count(&self) -> u64 {
        self.counts.iter().sum()
    }

    /// Those of them that `before`, which was taken earlier, has not.
    #[must_use]
    pub fn since(&self, before: &Times) -> Times {
        let then = before.counts.iter().copied().chain(std::iter::repeat(0));
        let counts = self.counts.iter().zip(then);
        Times { counts: counts.map(|(now, then)| now.saturating_sub(then)).collect() }
    }

    /// What `share` of them, from 0 to 1, take at most: none if there are none. Within a bucket they are taken
    /// to be spread evenly, as `histogram_quantile` of Prometheus does, so it is exact to an eighth.
    pub fn quantile(&self, share: f64) -> Option<Duration> {
        let rank = share.clamp(0.0, 1.0) * self.count() as f64;
        let mut before = 0;
        for (bucket, count) in self.counts.iter().enumerate().filter(|(_, count)| **count > 0) {
            let upto = before + count;
            if upto as f64 >= rank {
                let (first, end) = (begin_of(bucket) as f64, begin_of(bucket + 1) as f64);
                let part = (rank - before as f64).max(0.0) / *count as f64;
                return Some(Duration::from_nanos((first + (end - first) * part) as u64));
            }
            before = upto;
        }
        None
    }
}

/// The bucket that times of `nanos` are in.
pub(crate) fn bucket_of(nanos: u64) -> usize {
    let nanos = nanos.max(SUB_BUCKETS as u64);
    let power = nanos.ilog2() as usize;
    let sub = (nanos >> (power - 3)) as usize & (SUB_BUCKETS - 1);
    ((power - 3) * SUB_BUCKETS + sub).min(BUCKETS - 1)
}

/// The shortest time of a bucket, in nanoseconds.
pub(crate) fn begin_of(bucket: usize) -> u64 {
    ((SUB_BUCKETS + bucket % SUB_BUCKETS) as u64) << (bucket / SUB_BUCKETS)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn times(list: &[(u64, u64)]) -> Times {
        let mut counts = vec![0; BUCKETS];
        for (millis, count) in list {
            counts[bucket_of(millis * 1_000_000)] += count;
        }
        Times::of(counts)
    }

    #[test]
    fn a_quantile_is_exact_to_an_eighth() {
        assert_eq!(Times::default().quantile(0.99), None);
        assert_eq!(times(&[]).quantile(0.5), None);
        for millis in [1, 67, 68, 90, 99, 101, 250, 270, 300, 900, 999, 1001, 4000, 5000, 60_000] {
            for share in [0.0, 0.5, 0.99, 1.0] {
                let found = times(&[(millis, 100)]).quantile(share).unwrap().as_secs_f64() * 1e3;
                let ratio = found / millis as f64;
                assert!((0.88..=1.13).contains(&ratio), "{found} ms for {millis} ms, {share}");
            }
        }
        let two_sorts = times(&[(1, 98), (500, 2)]);
        assert!(two_sorts.quantile(0.97).unwrap() < Duration::from_millis(2));
        assert!(two_sorts.quantile(0.985).unwrap() > Duration::from_millis(400));
        // The middle of 64 equal ones stands in the middle of their bucket.
        let even = Times::of([vec![0; 8], vec![64]].concat());
        assert_eq!(even.quantile(0.5), Some(Duration::from_nanos(17)));
    }

    #[test]
    fn what_was_there_before_does_not_count() {
        let before = times(&[(1, 5), (700, 9)]);
        let since = times(&[(1, 7), (700, 9), (30, 1)]).since(&before);
        assert_eq!(since, times(&[(1, 2), (30, 1)]));
        assert_eq!(since.count(), 3);
        assert_eq!(before.since(&Times::default()), before, "nothing was before");
    }
}
