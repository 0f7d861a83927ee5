//! The newest lines that somebody should see, kept in memory for those who look at a node.

use base::{Clock, SystemClock};
use esker_node::lines::{About, component_of};
use serde::Serialize;
use std::collections::VecDeque;
use std::fmt::{self, Write};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use tracing::field::{Field, Visit};
use tracing::{Event, Subscriber};
use tracing_subscriber::Layer;
use tracing_subscriber::layer::Context;
use tracing_subscriber::registry::LookupSpan;

/// Lines that are kept.
const LINES_MAX: usize = 50;
/// Bytes of a line that are kept.
const TEXT_LEN_MAX: usize = 1000;

/// One line.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(crate) struct Line {
    /// When, in milliseconds since the Unix epoch.
    pub(crate) at: u64,
    /// `WARN` or `ERROR`.
    pub(crate) level: &'static str,
    /// What it is of.
    pub(crate) component: &'static str,
    /// What happened, and its fields.
    pub(crate) message: String,
}

/// Keeps lines. Clones keep the same ones.
#[derive(Clone, Debug, Default)]
pub(super) struct Recent {
    clock: SystemClock,
    lines: Arc<Mutex<VecDeque<Line>>>,
}

impl Recent {
    /// All of them, oldest first.
    pub(super) fn lines(&self) -> Vec<Line> {
        self.locked().iter().cloned().collect()
    }

    fn locked(&self) -> MutexGuard<'_, VecDeque<Line>> {
        // Lines are whole at any time.
        self.lines.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<S: Subscriber + for<'a> LookupSpan<'a>> Layer<S> for Recent {
    fn on_event(&self, event: &Event<'_>, context: Context<'_, S>) {
        let mut text = Text::default();
        if let Some(dataset) = About::of(context.event_scope(event)).dataset {
            text.message = format!("dataset {dataset}: ");
        }
        event.record(&mut text);
        let metadata = event.metadata();
        let line = Line {
            at: self.clock.wall_ms(),
            level: metadata.level().as_str(),
            component: component_of(metadata.target()),
            message: text.finish(),
        };
        let mut lines = self.locked();
        if lines.len() >= LINES_MAX {
            lines.pop_front();
        }
        lines.push_back(line);
    }
}

/// The message of an event, then its fields.
#[derive(Default)]
struct Text {
    message: String,
    fields: String,
}

impl Text {
    fn finish(self) -> String {
        let mut text = self.message + &self.fields;
        if text.len() > TEXT_LEN_MAX {
            let end = (0..=TEXT_LEN_MAX).rev().find(|end| text.is_char_boundary(*end));
            text.truncate(end.unwrap_or(0));
            text.push_str(" ..");
        }
        text
    }
}

impl Visit for Text {
    fn record_str(&mut self, field: &Field, value: &str) {
        self.record_debug(field, &format_args!("{value}"));
    }

    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        // Writing to a string does not fail.
        let _ = match field.name() {
            "message" => write!(self.message, "{value:?}"),
            name => write!(self.fields, ", {name}: {value:?}"),
        };
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tracing_subscriber::filter::LevelFilter;
    use tracing_subscriber::layer::SubscriberExt;

    #[test]
    fn the_newest_lines_are_kept_with_their_fields_and_no_more_of_a_line_than_fits() {
        let recent = Recent::default();
        let layer = recent.clone().with_filter(LevelFilter::WARN);
        let all = tracing_subscriber::registry().with(layer);
        tracing::subscriber::with_default(all, || {
            tracing::info!("all is well");
            for number in 0..LINES_MAX + 7 {
                tracing::warn!(number, peer = "ada", "slow");
            }
            tracing::error!(long = "ä".repeat(TEXT_LEN_MAX), "bad");
        });
        let lines = recent.lines();
        assert_eq!(lines.len(), LINES_MAX);
        assert_eq!((lines[0].level, &*lines[0].message), ("WARN", "slow, number: 8, peer: ada"));
        let last = &lines[LINES_MAX - 1];
        assert_eq!((last.level, last.component), ("ERROR", "logs"));
        assert!(last.message.starts_with("bad, long: ää") && last.message.ends_with("ä .."));
        assert!(last.message.len() <= TEXT_LEN_MAX + 3 && last.at > 0);
    }
}
