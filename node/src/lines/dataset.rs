//! Which dataset a line is of, where a process serves several, and which operation: fields of the spans that it happens in.

use std::fmt;
use tracing::Subscriber;
use tracing::field::{Field, Visit};
use tracing::span::{Attributes, Id};
use tracing_subscriber::Layer;
use tracing_subscriber::layer::Context;
use tracing_subscriber::registry::{LookupSpan, Scope};

/// The field of a span that names its dataset.
const DATASET: &str = "dataset";
/// The field of a span, or of an event, that names what is being done.
pub(super) const OPERATION: &str = "operation";

/// Remembers what spans say of datasets and operations. Filter it, so that it makes no event be looked at that
/// nobody wants.
#[derive(Clone, Copy, Debug, Default)]
pub struct Abouts;

/// What spans say that their events are about.
#[derive(Clone, Debug, Default)]
pub struct About {
    /// The dataset, unless it is the main database.
    pub dataset: Option<String>,
    /// What is being done.
    pub operation: Option<String>,
}

impl About {
    /// The innermost of the spans of `scope` that say something.
    pub fn of<'a, R: LookupSpan<'a>>(scope: Option<Scope<'a, R>>) -> About {
        let mut about = About::default();
        for span in scope.into_iter().flatten() {
            if let Some(said) = span.extensions().get::<About>() {
                about.dataset = about.dataset.or_else(|| said.dataset.clone());
                about.operation = about.operation.or_else(|| said.operation.clone());
            }
        }
        about
    }
}

impl<S: Subscriber + for<'a> LookupSpan<'a>> Layer<S> for Abouts {
    fn on_new_span(&self, attributes: &Attributes<'_>, id: &Id, context: Context<'_, S>) {
        let mut about = About::default();
        attributes.record(&mut about);
        let says_something = about.dataset.is_some() || about.operation.is_some();
        if let Some(span) = context.span(id).filter(|_| says_something) {
            span.extensions_mut().insert(about);
        }
    }
}

impl Visit for About {
    fn record_str(&mut self, field: &Field, value: &str) {
        match field.name() {
            DATASET => self.dataset = Some(value.to_owned()),
            OPERATION => self.operation = Some(value.to_owned()),
            _ => {}
        }
    }

    fn record_debug(&mut self, _: &Field, _: &dyn fmt::Debug) {}
}
