//! Work that is given up once nothing goes on in it.
//!
//! A call of the system that hangs, such as one on a disk of another machine, can not be ended by anybody. So the
//! work has a thread of its own. If it stands still it is called off and left behind: it ends as soon as the system
//! lets it, and nobody waits for that. How long it takes in all does not matter.

use super::ending::Ending;
use base::{Clock, Error, panics};
use engine::Progress;
use esker_node::resilience::{Timeout, Timeouts};
use std::panic::resume_unwind;
use std::path::Path;
use std::sync::Arc;
use std::sync::mpsc::{RecvTimeoutError, sync_channel};
use std::thread;
use std::time::Duration;
use tracing::Span;

/// Between two looks.
const LOOK_EVERY: Duration = Duration::from_millis(20);

/// What is known of work that may stand still.
pub(super) struct Watch<'a> {
    /// Where it works.
    pub(super) path: &'a Path,
    /// How it shows that it goes on, and how it is called off.
    pub(super) progress: &'a Arc<Progress>,
    /// How long it may stand still.
    pub(super) timeouts: &'a Timeouts,
    /// The end of the node ends it as well.
    pub(super) ending: &'a Ending,
    pub(super) clock: &'a dyn Clock,
}

impl Watch<'_> {
    /// Does `work` and waits for it, unless it stands still for longer than the timeout of backups. Blocks.
    ///
    /// # Errors
    /// `Stalled` if it stood still, `Closed` if the node ends. A panic of `work` goes on here.
    pub(super) fn over<T: Send + 'static>(
        &self,
        work: impl FnOnce() -> Result<T, Error> + Send + 'static,
    ) -> Result<T, Error> {
        let (done, result) = sync_channel(1);
        let span = Span::current();
        let thread = thread::Builder::new().name("esker-back-up".to_owned());
        let started = thread.spawn(move || {
            let _inside = span.enter();
            // Whoever has given up does not listen any more.
            let _ = done.send(panics::catch(work));
        });
        started.map_err(|e| Error::io("start a thread for", self.path, e))?;
        let mut standstill = Standstill::new(self.progress.beats(), self.clock.monotonic());
        loop {
            match result.recv_timeout(LOOK_EVERY) {
                Ok(Ok(result)) => return result,
                Ok(Err(caught)) => {
                    tracing::error!(code = "Bug", "the thread of a backup {caught}");
                    resume_unwind(Box::new(caught));
                }
                Err(RecvTimeoutError::Timeout) => {}
                // It sends before it ends.
                Err(RecvTimeoutError::Disconnected) => return Err(Error::Closed),
            }
            if self.ending.check().is_err() {
                self.progress.cancel();
                return Err(Error::Closed);
            }
            let limit = self.timeouts.get(Timeout::Backup);
            if standstill.look(self.progress.beats(), self.clock.monotonic()) >= limit {
                self.progress.cancel();
                let limit_ms = u64::try_from(limit.as_millis()).unwrap_or(u64::MAX);
                return Err(Error::Stalled { path: self.path.to_path_buf(), limit_ms });
            }
        }
    }
}

/// How long something has stood still.
struct Standstill {
    beats: u64,
    since: Duration,
}

impl Standstill {
    fn new(beats: u64, now: Duration) -> Standstill {
        Standstill { beats, since: now }
    }

    /// For how long there were as many beats as now.
    fn look(&mut self, beats: u64, now: Duration) -> Duration {
        if beats != self.beats {
            *self = Standstill::new(beats, now);
        }
        now.saturating_sub(self.since)
    }
}

#[cfg(test)]
mod tests {
    use super::super::ending::Interest;
    use super::*;
    use base::SystemClock;
    use esker_node::resilience::Profile;
    use std::sync::mpsc::{Sender, channel};

    const SECOND: Duration = Duration::from_secs(1);

    /// Work that does nothing until it is told to end.
    fn stuck() -> (Sender<()>, impl FnOnce() -> Result<u8, Error>) {
        let (end, told) = channel::<()>();
        (end, move || {
            let _ = told.recv();
            Ok(7)
        })
    }

    /// What becomes of `work`, which may stand still for so long, and whether it was called off.
    fn watched(
        limit: Duration,
        ending: &Ending,
        work: impl FnOnce() -> Result<u8, Error> + Send + 'static,
    ) -> (Result<u8, Error>, bool) {
        let (timeouts, progress) = (Timeouts::of(Profile::Standard), Arc::new(Progress::default()));
        timeouts.set("backup", limit).unwrap();
        let watch = Watch {
            path: Path::new("/store"),
            progress: &progress,
            timeouts: &timeouts,
            ending,
            clock: &SystemClock::default(),
        };
        (watch.over(work), progress.is_cancelled())
    }

    #[test]
    fn what_beats_does_not_stand_still_however_long_it_takes() {
        let mut standstill = Standstill::new(0, SECOND);
        for n in 1..1000 {
            assert_eq!(standstill.look(u64::from(n), n * 9 * SECOND), Duration::ZERO);
        }
        assert_eq!(standstill.look(999, 999 * 9 * SECOND + SECOND), SECOND);
        assert_eq!(standstill.look(999, 999 * 9 * SECOND + 10 * SECOND), 10 * SECOND);
        assert_eq!(standstill.look(1000, 10_000 * SECOND), Duration::ZERO);
    }

    #[test]
    fn what_stands_still_is_called_off_and_left_behind() {
        let (_interest, ending) = Interest::new();
        let (end, work) = stuck();
        let (ended, is_called_off) = watched(Duration::from_millis(1), &ending, work);
        let message = ended.unwrap_err().to_string();
        assert_eq!(message, "nothing went on at /store for 1 ms");
        assert!(is_called_off);
        drop(end);
    }

    #[test]
    fn nobody_waits_for_it_once_the_node_ends() {
        let (interest, ending) = Interest::new();
        let (end, work) = stuck();
        drop(interest);
        let (ended, is_called_off) = watched(3600 * SECOND, &ending, work);
        assert!(matches!(ended, Err(Error::Closed)) && is_called_off);
        drop(end);
    }

    #[test]
    fn what_it_brings_and_how_it_fails_comes_back() {
        let (_interest, ending) = Interest::new();
        let hour = 3600 * SECOND;
        assert_eq!(watched(hour, &ending, || Ok(7)).0.unwrap(), 7);
        let failed = watched(hour, &ending, || Err(Error::DiskFull { path: "/store".into() }));
        assert!(matches!(failed, (Err(Error::DiskFull { .. }), false)), "{failed:?}");
        let panicked =
            panics::catch(|| watched(hour, &ending, || resume_unwind(Box::new("a bug"))));
        assert!(panicked.is_err());
    }
}
