//! How long work hears that it is not wanted any more: the node ends, or nobody waits for it.

use crate::error::{Exit, Failure, Outcome};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

/// Whether long work goes on.
#[derive(Clone)]
pub(super) struct Ending(Arc<AtomicBool>);

impl Ending {
    /// The work ends once `flag` is set.
    pub(super) fn of(flag: &Arc<AtomicBool>) -> Ending {
        Ending(flag.clone())
    }

    /// Fails once the node ends.
    pub(super) fn check(&self) -> Outcome {
        if self.0.load(Ordering::Acquire) { Err(ended()) } else { Ok(()) }
    }
}

/// Somebody waits for the result of long work. Once this is dropped, nobody does.
pub(super) struct Interest(Arc<AtomicBool>);

impl Interest {
    /// Interest, and the flag by which the work sees that it is lost.
    pub(super) fn new() -> (Interest, Ending) {
        let flag = Arc::new(AtomicBool::new(false));
        (Interest(flag.clone()), Ending(flag))
    }
}

impl Drop for Interest {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Release);
    }
}

/// What cannot be done any more.
pub(super) fn ended() -> Failure {
    Failure::new(Exit::Other, "ShuttingDown", "the node is shutting down")
        .action("ask again once it runs")
}
