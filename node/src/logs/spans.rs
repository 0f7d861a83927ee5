//! The spans in which things happen: those of one dataset, on whatever thread, and those of one operation.
//!
//! What operators ask is done in a span. What users ask is not: that would take longer than some of it, so its name goes beside
//! (`lines/serving.rs`).

use super::AUDIT;
use esker_node::lines::{served, serving_here};
use std::cell::RefCell;
use tracing::Span;
use tracing::span::EnteredSpan;

thread_local! {
    /// What a thread is in as long as it runs.
    static STAY: RefCell<Option<EnteredSpan>> = const { RefCell::new(None) };
}

/// The span of `dataset`; none for the main database. It is for the audit as well as for the log, whatever
/// the level is.
pub(crate) fn span_of(dataset: Option<&str>) -> Span {
    match dataset {
        Some(dataset) => tracing::error_span!(target: AUDIT, "dataset", dataset),
        None => Span::none(),
    }
}

/// All that this thread does is in `span`, until it leaves.
pub(crate) fn stay_in(span: &Span) {
    STAY.with_borrow_mut(|stay| *stay = Some(span.clone().entered()));
}

/// A span in which somebody does `operation`, for what is told meanwhile.
pub(crate) fn span_of_operation(operation: &str) -> Span {
    tracing::error_span!(target: AUDIT, "operation", operation)
}

/// The end of what a thread stays in: spans are left before the thread forgets them.
pub(crate) fn leave() {
    drop(STAY.take());
}

/// What a task is doing, to be gone on with on another thread.
#[derive(Clone)]
pub(crate) struct Inside {
    span: Span,
    served: Option<&'static str>,
}

impl Inside {
    /// What this task is doing now.
    pub(crate) fn now() -> Inside {
        Inside { span: Span::current(), served: served() }
    }

    /// Does `work` as a part of it.
    pub(crate) fn run<T>(&self, work: impl FnOnce() -> T) -> T {
        serving_here(self.served, || self.span.in_scope(work))
    }
}
