//! What is being served, as lines name it that are written meanwhile.
//!
//! A span for each request that is served would take longer than what some requests ask for. This is a name beside the
//! task, from which nothing is made unless there is a line to write.

use tokio::task::futures::TaskLocalFuture;

tokio::task_local! {
    /// The operation that this task serves.
    static SERVED: &'static str;
}

/// Does `work`, which serves `operation`.
pub fn serving<F: Future>(operation: &'static str, work: F) -> TaskLocalFuture<&'static str, F> {
    SERVED.scope(operation, work)
}

/// Does `work` on this thread for a task that serves `operation`, if it serves any.
pub fn serving_here<T>(operation: Option<&'static str>, work: impl FnOnce() -> T) -> T {
    match operation {
        Some(operation) => SERVED.sync_scope(operation, work),
        None => work(),
    }
}

/// The operation that is being served here.
pub fn served() -> Option<&'static str> {
    SERVED.try_with(|operation| *operation).ok()
}
