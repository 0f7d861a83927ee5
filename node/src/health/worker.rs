//! The thread of one check.

use super::Timing;
use super::board::Board;
use super::finding::Finding;
use base::{Clock, panics};
use std::io;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
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
    told: Mutex<Told>,
    changed: Condvar,
}

#[derive(Debug, Default)]
struct Told {
    asked: Asked,
    /// The pause between two looks.
    every: Duration,
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
        turn.told().every = timing.every;
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
                if its.wait() == Asked::End {
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

    /// From now on it looks so often, the next time at once.
    pub(super) fn set_every(&self, every: Duration) {
        self.turn.told().every = every;
        self.ring();
    }
}

impl Drop for Worker {
    fn drop(&mut self) {
        self.turn.ask(Asked::End);
    }
}

impl Turn {
    fn told(&self) -> MutexGuard<'_, Told> {
        // What was told is whole at any time.
        self.told.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn ask(&self, what: Asked) {
        let mut told = self.told();
        if told.asked != Asked::End {
            told.asked = what;
        }
        self.changed.notify_all();
    }

    /// Waits until something is asked, or for the pause.
    fn wait(&self) -> Asked {
        let told = self.told();
        let pause = told.every;
        let is_quiet = |told: &mut Told| told.asked == Asked::Nothing;
        let waited = self.changed.wait_timeout_while(told, pause, is_quiet);
        let (mut told, _) = waited.unwrap_or_else(PoisonError::into_inner);
        match told.asked {
            Asked::End => Asked::End,
            _ => std::mem::take(&mut told.asked),
        }
    }
}
