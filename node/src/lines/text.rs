//! Events as lines for people, as tracing writes them. Behind the fields of an event is the operation that is being
//! served, if one is.
//!
//! ```text
//! 2026-11-21T20:03:56.123Z ERROR esker::engine: a file of the database is damaged code="TableCorrupt" operation="get"
//! ```

use super::json::Time;
use super::serving::served;
use tracing::{Event, Subscriber};
use tracing_subscriber::fmt::format::{Format, Full, Writer};
use tracing_subscriber::fmt::{self, FmtContext, FormatEvent, FormatFields};
use tracing_subscriber::registry::LookupSpan;

/// See the module.
#[derive(Debug)]
pub struct Text(Format<Full, Time>);

impl Default for Text {
    fn default() -> Text {
        Text(fmt::format().with_ansi(false).with_timer(Time::default()))
    }
}

impl<S, N> FormatEvent<S, N> for Text
where
    S: Subscriber + for<'a> LookupSpan<'a>,
    N: for<'a> FormatFields<'a> + 'static,
{
    fn format_event(
        &self,
        context: &FmtContext<'_, S, N>,
        mut to: Writer<'_>,
        event: &Event<'_>,
    ) -> std::fmt::Result {
        let Some(operation) = served() else { return self.0.format_event(context, to, event) };
        let mut line = String::new();
        self.0.format_event(context, Writer::new(&mut line), event)?;
        writeln!(to, "{} operation={operation:?}", line.trim_end_matches('\n'))
    }
}
