//! The thread of one check.

use super::Timing;
use super::board::Board;
use super::finding::Finding;
use base::{Clock, panics};
use std::io;
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::thread;
use std::time::Duration;

/// Looks until it is dropped. A look that goes on then is not waited for.
#[derive(Debug)]
pub(super) struct Worker {
    turn: Arc<Turn>,
}

/// What a worker is told.
#[derive(Debug, Default)]
struct Turn {
    asked: Mutex<Asked>,
    changed: Condvar,
}

/// What a worker should do next.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Asked {
    /// Wait for its time.
    #[default]
    Nothing,
    /// Look now.
    Look,
    /// End.
    End,
}

impl Worker {
    /// Starts to look, the first time at once.
    pub(super) fn start(
        name: &str,
        timing: Timing,
        clock: Arc<dyn Clock>,
        board: Arc<Board>,
        mut look: impl FnMut() -> Finding + Send + 'static,
    ) -> io::Result<Worker> {
        let turn = Arc::new(Turn::default());
        let (name, its, span) = (name.to_owned(), turn.clone(), tracing::Span::current());
        thread::Builder::new().name(format!("esker-check-{name}")).spawn(move || {
            let _inside = span.enter();
            loop {
                board.begin(&name, clock.monotonic());
                let finding = panics::catch(&mut look).unwrap_or_else(|caught| {
                    tracing::error!(check = name, code = "Bug", "a check {caught}");
                    Finding::unhealthy(format!("the check itself has failed: it {caught}"))
                });
                board.end(&name, finding, clock.monotonic());
                if its.wait(timing.every) == Asked::End {
                    return;
                }
            }
        })?;
        Ok(Worker { turn })
    }

    /// Lets it look without waiting for its time.
    pub(super) fn ring(&self) {
        self.turn.ask(Asked::Look);
    }
}

impl Drop for Worker {
    fn drop(&mut self) {
        self.turn.ask(Asked::End);
    }
}

impl Turn {
    fn ask(&self, what: Asked) {
        let mut asked = self.asked.lock().unwrap_or_else(PoisonError::into_inner);
        if *asked != Asked::End {
            *asked = what;
        }
        self.changed.notify_all();
    }

    /// Waits until something is asked, or for `pause`.
    fn wait(&self, pause: Duration) -> Asked {
        let asked = self.asked.lock().unwrap_or_else(PoisonError::into_inner);
        let waited =
            self.changed.wait_timeout_while(asked, pause, |asked| *asked == Asked::Nothing);
        let (mut asked, _) = waited.unwrap_or_else(PoisonError::into_inner);
        match *asked {
            Asked::End => Asked::End,
            _ => std::mem::take(&mut *asked),
        }
    }
}
