//! Whether the disk takes the log in time: a check.
//!
//! Of the syncs that have ended, one in a hundred may be slow, and one alone always may. They are judged ten or more
//! at a time, so that few of them do not look like many. The sync that runs is judged by itself: of a disk that does
//! not answer at all no sync ends.

use super::checks::Bounds;
use engine::Times;
use esker_node::health::{Finding, Wellness};
use std::time::Duration;

/// Fewer syncs are not judged, but wait for the next look.
const ENOUGH: u64 = 10;

/// What was seen of syncs so far.
#[derive(Debug, Default)]
pub(super) struct SyncCheck {
    /// Those that were judged.
    judged: Times,
    /// All that had ended at the last look.
    ended: u64,
    /// Milliseconds that 99 of 100 of those took that were judged last, unless there were none since.
    p99_ms: Option<f64>,
}

impl SyncCheck {
    /// A look at `times`, all that have ended so far, while one has been running for `running`, if any is.
    pub(super) fn look(&mut self, times: Times, running: Duration, bounds: Bounds) -> Finding {
        let ended = times.count();
        let since_look = ended.saturating_sub(self.ended);
        self.ended = ended;
        let since = times.since(&self.judged);
        if since_look == 0 {
            self.p99_ms = None;
        }
        if since.count() >= ENOUGH {
            self.p99_ms = Some(p99_ms(&since));
            self.judged = times;
        }
        let running_ms = running.as_secs_f64() * 1e3;
        let finding = match self.p99_ms {
            _ if running_ms > bounds.degraded => {
                let message = format!("a sync of the log has gone on for {running_ms:.0} ms");
                let worse = running_ms.max(self.p99_ms.unwrap_or(0.0));
                Finding::new(bounds.judge(worse), message)
            }
            Some(p99_ms) => {
                let message = format!("99 of 100 syncs take at most {p99_ms:.1} ms");
                Finding::new(bounds.judge(p99_ms), message).with("p99_ms", p99_ms)
            }
            None if since_look == 0 => {
                Finding::healthy("the log was not synced since the last look")
            }
            None => Finding::healthy("too few syncs of the log to judge"),
        };
        finding
            .with("syncs", since_look as f64)
            .with("running_ms", running_ms)
            .with("limit_ms", bounds.degraded)
    }
}

/// What 99 of 100 take at most, and all but one.
fn p99_ms(times: &Times) -> f64 {
    let count = times.count() as f64;
    let share = (1.0 - 1.0 / count).min(0.99);
    times.quantile(share).unwrap_or_default().as_secs_f64() * 1e3
}

impl Bounds {
    fn judge(self, number: f64) -> Wellness {
        match number {
            high if high > self.unhealthy => Wellness::Unhealthy,
            high if high > self.degraded => Wellness::Degraded,
            _ => Wellness::Healthy,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const BOUNDS: Bounds = Bounds { degraded: 100.0, unhealthy: 1000.0 };

    /// Syncs that took so many milliseconds, so often.
    fn times(list: &[(u64, u64)]) -> Times {
        let each = |(millis, count): &(u64, u64)| {
            let took = Duration::from_millis(*millis);
            std::iter::repeat_n(took, usize::try_from(*count).unwrap())
        };
        list.iter().flat_map(each).collect()
    }

    /// What is found of `list` after many slow ones before.
    fn since(list: &[(u64, u64)], bounds: Bounds) -> Finding {
        let before = &[(9000, 1000)];
        let mut check = SyncCheck::default();
        check.look(times(before), Duration::ZERO, bounds);
        check.look(times(&[before, list].concat()), Duration::ZERO, bounds)
    }

    #[test]
    fn one_slow_sync_in_a_hundred_is_no_trouble_and_two_are() {
        let status = |list: &[(u64, u64)]| since(list, BOUNDS).status;
        assert_eq!(status(&[]), Wellness::Healthy);
        assert_eq!(status(&[(1, 99), (9000, 1)]), Wellness::Healthy);
        assert_eq!(status(&[(1, 98), (200, 2)]), Wellness::Degraded);
        assert_eq!(status(&[(1, 98), (9000, 2)]), Wellness::Unhealthy);
        assert_eq!(since(&[(1, 98), (9000, 2)], BOUNDS).numbers["syncs"], 100.0);
        assert_eq!(status(&[(1, 9), (9000, 1)]), Wellness::Healthy, "one alone");
        assert_eq!(status(&[(1, 8), (9000, 2)]), Wellness::Unhealthy);
    }

    /// Times are exact to an eighth.
    #[test]
    fn what_is_below_a_threshold_is_not_taken_for_what_is_above() {
        let status = |millis: u64| since(&[(millis, 100)], BOUNDS).status;
        for healthy in [1, 67, 68, 80, 87] {
            assert_eq!(status(healthy), Wellness::Healthy, "{healthy} ms");
        }
        for degraded in [114, 150, 260, 270, 300, 500, 800, 880] {
            assert_eq!(status(degraded), Wellness::Degraded, "{degraded} ms");
        }
        for unhealthy in [1140, 2000, 5000, 100_000] {
            assert_eq!(status(unhealthy), Wellness::Unhealthy, "{unhealthy} ms");
        }
        let other = |degraded, unhealthy| Bounds { degraded, unhealthy };
        assert_eq!(since(&[(200, 10)], other(500.0, 1000.0)).status, Wellness::Healthy);
        assert_eq!(since(&[(1, 10)], other(0.0, 100.0)).status, Wellness::Degraded);
        assert_eq!(since(&[(1, 10)], other(0.0, 0.0)).status, Wellness::Unhealthy);
        assert_eq!(since(&[(5000, 10)], other(100.0, 9000.0)).status, Wellness::Degraded);
    }

    #[test]
    fn few_syncs_wait_until_there_are_more() {
        let mut check = SyncCheck::default();
        let mut status = |count| check.look(times(&[(300, count)]), Duration::ZERO, BOUNDS).status;
        assert_eq!([status(5), status(9)], [Wellness::Healthy; 2]);
        assert_eq!([status(10), status(15), status(19)], [Wellness::Degraded; 3], "as before");
        assert_eq!(status(19), Wellness::Healthy, "there was none any more");
        assert_eq!(status(20), Wellness::Degraded);
    }

    #[test]
    fn a_sync_that_does_not_end_is_trouble() {
        let mut check = SyncCheck::default();
        let mut running = |millis, ended: &[(u64, u64)]| {
            check.look(times(ended), Duration::from_millis(millis), BOUNDS)
        };
        assert_eq!(running(100, &[]).status, Wellness::Healthy);
        assert_eq!(running(101, &[]).status, Wellness::Degraded);
        let stuck = running(60_000, &[]);
        assert_eq!((stuck.status, stuck.numbers["running_ms"]), (Wellness::Unhealthy, 60_000.0));
        assert_eq!(running(101, &[(2000, 20)]).status, Wellness::Unhealthy, "so were others");
        assert_eq!(running(0, &[(2000, 20)]).status, Wellness::Healthy, "it has ended");
    }
}
