//! The end of a node, which does not take for ever: peers are told, threads stop, the database is closed.
//!
//! It happens on a thread of its own. Whoever waits for it stops waiting when its time is up, or at a further
//! signal, and the process ends with an error: what the log holds is replayed by the next opening.

use super::ending::ended;
use super::signals::{EndOfInput, Signals};
use crate::error::{Exit, Failure, Outcome};
use base::Error;
use std::iter;
use std::thread;
use std::time::Duration;
use tokio::runtime::Builder;
use tokio::sync::oneshot;

/// Does `work`, for as long as `patience` lasts and no signal asks to stop.
pub(super) fn close_within(
    patience: Duration,
    work: impl FnOnce() -> Outcome + Send + 'static,
) -> Outcome {
    let runtime = Builder::new_current_thread().enable_all().build();
    let runtime = runtime.map_err(|e| Error::io("start", "threads", e))?;
    runtime.block_on(async {
        let mut signals = Signals::catch(EndOfInput::Ignored)?;
        unless(patience, signals.stop(), work).await
    })
}

/// Does `work`, unless it takes longer than `patience` or `called_off` comes first. What hangs goes on until the
/// process ends.
async fn unless(
    patience: Duration,
    called_off: impl Future<Output = ()>,
    work: impl FnOnce() -> Outcome + Send + 'static,
) -> Outcome {
    let (done, closed) = oneshot::channel();
    let work = move || {
        // Nobody may listen any more.
        let _ = done.send(work());
    };
    let started = thread::Builder::new().name("esker-close".to_owned()).spawn(work);
    started.map_err(|e| Error::io("start a thread to", "close the database", e))?;
    tokio::select! {
        outcome = closed => outcome.unwrap_or_else(|_| Err(ended())),
        () = tokio::time::sleep(patience) => {
            Err(not_closed(format!("it was not closed within {} s", patience.as_secs_f64())))
        }
        () = called_off => Err(not_closed("a further signal came while it was closed".to_owned())),
    }
}

/// Does `work` with each of `all` at the same time, so that databases that hang do not wait for each other. With one
/// it needs no thread.
pub(super) fn at_once<T: Send>(
    all: impl Iterator<Item = T>,
    work: impl Fn(T) -> Outcome + Sync,
) -> Outcome {
    let mut all = all.peekable();
    let Some(first) = all.next() else { return Ok(()) };
    if all.peek().is_none() {
        return work(first);
    }
    thread::scope(|scope| {
        let work = &work;
        let start = |one: T| {
            let builder = thread::Builder::new().name("esker-close".to_owned());
            let started = builder.spawn_scoped(scope, move || work(one));
            started.map_err(|e| Error::io("start a thread to", "close the database", e))
        };
        // All have begun before the first is waited for.
        let started: Vec<_> = iter::once(first).chain(all).map(start).collect();
        let outcome = |started: Result<thread::ScopedJoinHandle<'_, Outcome>, Error>| {
            started?.join().unwrap_or_else(|_| Err(ended()))
        };
        started.into_iter().map(outcome).fold(Ok(()), Failure::both)
    })
}

fn not_closed(message: String) -> Failure {
    let action = "start it again: what was acknowledged is in the log, and is replayed";
    Failure::new(Exit::Other, "NotClosed", message).action(action)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::future::{pending, ready};
    use std::sync::mpsc::{Receiver, channel};

    const LONG: Duration = Duration::from_secs(600);

    fn end(
        patience: Duration,
        called_off: impl Future<Output = ()>,
        work: impl FnOnce() -> Outcome + Send + 'static,
    ) -> Outcome {
        let runtime = Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(unless(patience, called_off, work))
    }

    /// Hangs until the other end is dropped.
    fn hang(until: Receiver<()>) -> impl FnOnce() -> Outcome + Send + 'static {
        move || {
            let _ = until.recv();
            Ok(())
        }
    }

    #[test]
    fn a_close_that_ends_tells_how() {
        assert!(end(LONG, pending(), || Ok(())).is_ok());
        let failed = end(LONG, pending(), || Err(Error::Poisoned.into()));
        assert_eq!(failed.unwrap_err().code(), "Poisoned");
    }

    #[test]
    fn what_is_done_with_all_is_done_at_once_and_all_failures_are_told() {
        let (to_first, of_first) = channel();
        let (to_second, of_second) = channel();
        // Each waits for the other.
        let both = [(to_second, of_first), (to_first, of_second)].into_iter();
        let met = at_once(both, |(tell, told)| {
            let _ = tell.send(());
            told.recv_timeout(LONG).map_err(|_| ended())
        });
        assert!(met.is_ok());
        assert!(at_once(iter::empty::<()>(), |()| Err(ended())).is_ok());
        let failed = at_once(0..3, |n| if n == 1 { Err(Error::Poisoned.into()) } else { Ok(()) });
        assert_eq!(failed.unwrap_err().code(), "Poisoned");
        assert_eq!(at_once(0..1, |_| Err(ended())).unwrap_err().code(), ended().code());
    }

    #[test]
    fn a_close_that_hangs_is_given_up_when_its_time_is_over_or_at_a_signal() {
        let (_open, until) = channel();
        let failure = end(Duration::from_millis(30), pending(), hang(until)).unwrap_err();
        assert_eq!((failure.code(), failure.exit()), ("NotClosed", Exit::Other));
        assert!(failure.to_text().contains("0.03 s"), "{}", failure.to_text());
        let (_open, until) = channel();
        let failure = end(LONG, ready(()), hang(until)).unwrap_err();
        assert!(failure.to_text().contains("a further signal"), "{}", failure.to_text());
    }
}
