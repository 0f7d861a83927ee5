//! Events as lines of JSON, as tracing's own formatter writes them, in a fifth of the time.
//!
//! ```text
//! {"timestamp":"2026-11-21T20:03:56.123Z","level":"INFO","fields":{"message":"..",..},"target":"esker::serve","component":"serve"}
//! ```
//!
//! Then `"operation":".."` and `"dataset":".."` where they are known, and the names of other spans in `"spans":[..]`, outermost
//! first, where there are any.

use super::dataset::{About, OPERATION};
use super::serving::served;
use super::target::{component_of, operation_at};
use base::{Clock, SystemClock};
use std::fmt::{self, Write};
use tracing::field::{Field, Visit};
use tracing::{Event, Subscriber};
use tracing_subscriber::fmt::format::Writer;
use tracing_subscriber::fmt::time::FormatTime;
use tracing_subscriber::fmt::{FmtContext, FormatEvent, FormatFields};
use tracing_subscriber::registry::LookupSpan;

/// Milliseconds of a day.
const DAY_MS: u64 = 86_400_000;

/// See the module.
#[derive(Clone, Copy, Debug, Default)]
pub struct Json {
    time: Time,
}

/// The time of a line in UTC, to the millisecond.
#[derive(Clone, Copy, Debug, Default)]
pub struct Time(SystemClock);

impl FormatTime for Time {
    fn format_time(&self, to: &mut Writer<'_>) -> fmt::Result {
        to.write_str(stamp(self.0.wall_ms(), &mut [0; STAMP_LEN]))
    }
}

/// Bytes of a moment.
const STAMP_LEN: usize = "2026-11-21T20:03:56.123Z".len();

/// A moment as RFC 3339 has it.
fn stamp(wall_ms: u64, bytes: &mut [u8; STAMP_LEN]) -> &str {
    let (days, ms) = (wall_ms / DAY_MS, wall_ms % DAY_MS);
    let (year, month, day) = date(days);
    *bytes = *b"0000-00-00T00:00:00.000Z";
    let parts = [
        (0, 4, year),
        (5, 2, month),
        (8, 2, day),
        (11, 2, ms / 3_600_000),
        (14, 2, ms / 60_000 % 60),
        (17, 2, ms / 1000 % 60),
        (20, 3, ms % 1000),
    ];
    for (at, len, mut number) in parts {
        for digit in bytes.iter_mut().skip(at).take(len).rev() {
            *digit = b'0' + (number % 10) as u8;
            number /= 10;
        }
    }
    std::str::from_utf8(bytes).unwrap_or_default()
}

/// Year, month and day of a day since 1970, by the algorithm of Howard Hinnant.
fn date(days: u64) -> (u64, u64, u64) {
    let days = days + 719_468;
    let (era, day) = (days / 146_097, days % 146_097);
    let year = (day - day / 1460 + day / 36_524 - day / 146_096) / 365;
    let day = day - (365 * year + year / 4 - year / 100);
    let month = (5 * day + 2) / 153;
    let of_month = day - (153 * month + 2) / 5 + 1;
    let month = if month < 10 { month + 3 } else { month - 9 };
    (era * 400 + year + u64::from(month <= 2), month, of_month)
}

impl<S, N> FormatEvent<S, N> for Json
where
    S: Subscriber + for<'a> LookupSpan<'a>,
    N: for<'a> FormatFields<'a> + 'static,
{
    fn format_event(
        &self,
        context: &FmtContext<'_, S, N>,
        mut to: Writer<'_>,
        event: &Event<'_>,
    ) -> fmt::Result {
        let metadata = event.metadata();
        to.write_str("{\"timestamp\":\"")?;
        self.time.format_time(&mut to)?;
        to.write_str("\",\"level\":\"")?;
        to.write_str(metadata.level().as_str())?;
        to.write_str("\",\"fields\":{")?;
        let mut fields =
            Fields { to: to.by_ref(), are_there: false, operation: None, done: Ok(()) };
        event.record(&mut fields);
        let Fields { operation, done, .. } = fields;
        done?;
        to.write_str("},\"target\":")?;
        quoted(&mut to, metadata.target())?;
        let about = About::of(context.event_scope());
        let operation = operation.or(about.operation);
        let operation = operation.as_deref().or_else(|| served());
        let operation = operation.or_else(|| operation_at(metadata.target()));
        to.write_str(",\"component\":")?;
        quoted(&mut to, component_of(metadata.target()))?;
        for (name, value) in [("operation", operation), ("dataset", about.dataset.as_deref())] {
            if let Some(value) = value {
                write!(to, ",\"{name}\":")?;
                quoted(&mut to, value)?;
            }
        }
        let spans = context.event_scope().into_iter().flat_map(|scope| scope.from_root());
        let spans = spans.filter(|span| span.extensions().get::<About>().is_none());
        let mut before = ",\"spans\":[";
        for span in spans {
            to.write_str(before)?;
            quoted(&mut to, span.name())?;
            before = ",";
        }
        to.write_str(if before == "," { "]}\n" } else { "}\n" })
    }
}

/// Fields of an event on their way into a line.
struct Fields<'a> {
    to: Writer<'a>,
    are_there: bool,
    /// What the event itself says that is being done.
    operation: Option<String>,
    done: fmt::Result,
}

impl Fields<'_> {
    fn add(&mut self, field: &Field, write: impl FnOnce(&mut Writer<'_>) -> fmt::Result) {
        let before = if self.are_there { "," } else { "" };
        self.are_there = true;
        let to = &mut self.to;
        let added = to
            .write_str(before)
            .and_then(|()| quoted(to, field.name()))
            .and_then(|()| to.write_char(':'))
            .and_then(|()| write(to));
        self.done = self.done.and(added);
    }
}

impl Visit for Fields<'_> {
    fn record_f64(&mut self, field: &Field, value: f64) {
        // JSON has no infinity and no NaN.
        self.add(field, |to| {
            if value.is_finite() { write!(to, "{value}") } else { to.write_str("null") }
        });
    }

    fn record_i64(&mut self, field: &Field, value: i64) {
        self.add(field, |to| write!(to, "{value}"));
    }

    fn record_u64(&mut self, field: &Field, value: u64) {
        self.add(field, |to| write!(to, "{value}"));
    }

    fn record_bool(&mut self, field: &Field, value: bool) {
        self.add(field, |to| to.write_str(if value { "true" } else { "false" }));
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        if field.name() == OPERATION {
            self.operation = Some(value.to_owned());
        }
        self.add(field, |to| quoted(to, value));
    }

    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        self.add(field, |to| {
            to.write_char('"')?;
            write!(Escaped(to), "{value:?}")?;
            to.write_char('"')
        });
    }
}

/// Writes `text` as a string of JSON.
fn quoted(to: &mut Writer<'_>, text: &str) -> fmt::Result {
    to.write_char('"')?;
    Escaped(to).write_str(text)?;
    to.write_char('"')
}

/// Escapes what a string of JSON may not have in it.
struct Escaped<'a, 'w>(&'a mut Writer<'w>);

impl Write for Escaped<'_, '_> {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        let mut rest = text;
        while let Some(at) =
            rest.bytes().position(|byte| byte < 0x20 || byte == b'"' || byte == b'\\')
        {
            let (plain, from) = rest.split_at(at);
            let (special, after) = from.split_at(1);
            self.0.write_str(plain)?;
            match special {
                "\"" => self.0.write_str("\\\"")?,
                "\\" => self.0.write_str("\\\\")?,
                "\n" => self.0.write_str("\\n")?,
                other => write!(self.0, "\\u{:04x}", other.bytes().next().unwrap_or(0))?,
            }
            rest = after;
        }
        self.0.write_str(rest)
    }
}

#[cfg(test)]
mod tests {
    use super::super::{Abouts, Text, serving, serving_here};
    use super::*;
    use serde_json::Value;
    use std::io;
    use std::sync::{Arc, Mutex};
    use tracing_subscriber::fmt::{self, MakeWriter};
    use tracing_subscriber::layer::SubscriberExt;

    /// Keeps what is written.
    #[derive(Clone, Default)]
    struct Kept(Arc<Mutex<Vec<u8>>>);

    impl io::Write for Kept {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().unwrap().extend_from_slice(bytes);
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    impl<'a> MakeWriter<'a> for Kept {
        type Writer = Kept;

        fn make_writer(&'a self) -> Kept {
            self.clone()
        }
    }

    impl Kept {
        fn lines(&self) -> Vec<Value> {
            let bytes = self.0.lock().unwrap();
            let text = std::str::from_utf8(&bytes).unwrap();
            text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
        }
    }

    /// The lines of what `happens`, made here and made by the library.
    fn both(happens: impl FnOnce()) -> (Vec<Value>, Vec<Value>) {
        let (here, there) = (Kept::default(), Kept::default());
        let ours = fmt::layer().event_format(Json::default()).with_writer(here.clone());
        let theirs = fmt::layer().json().with_writer(there.clone());
        let all = tracing_subscriber::registry().with(ours).with(theirs);
        tracing::subscriber::with_default(all, happens);
        (here.lines(), there.lines())
    }

    #[test]
    fn a_line_says_what_that_of_the_library_says() {
        let strange: String =
            (0..0x100).filter_map(char::from_u32).chain("€😀\u{2028}".chars()).collect();
        let (mut ours, mut theirs) = both(|| {
            tracing::info!("plain");
            tracing::warn!(strange, debugged = ?strange, "and {strange}");
            tracing::error!(a = -1, b = u64::MAX, c = 0.25, d = true, e = f64::NAN, error = %io::Error::other("x\"y"));
            tracing::debug!(target: "else\\where", "quoted \"word\"");
            tracing::info!(none = tracing::field::Empty);
            tracing::info!("{}", 1.5);
        });
        assert_eq!(ours.len(), 6);
        for line in ours.iter_mut().chain(&mut theirs) {
            assert!(line["timestamp"].is_string());
            line["timestamp"] = Value::Null;
        }
        for line in &mut ours {
            let component = line.as_object_mut().unwrap().remove("component");
            let is_strange = line["target"] == "else\\where";
            assert_eq!(component.unwrap(), if is_strange { "else\\where" } else { "lines" });
        }
        assert_eq!(ours, theirs);
    }

    #[test]
    fn spans_are_named_from_without() {
        let (lines, _) = both(|| {
            let outer = tracing::info_span!("outer", peer = 7).entered();
            tracing::info_span!("inner").in_scope(|| tracing::info!("both"));
            drop(outer);
            tracing::info!("neither");
        });
        assert_eq!(lines[0]["spans"], serde_json::json!(["outer", "inner"]));
        assert_eq!(lines[1].get("spans"), None);
    }

    #[test]
    fn a_line_names_its_dataset_and_only_its_own() {
        let kept = Kept::default();
        let lines = fmt::layer().event_format(Json::default()).with_writer(kept.clone());
        let all = tracing_subscriber::registry().with(lines).with(Abouts);
        tracing::subscriber::with_default(all, || {
            tracing::error_span!("dataset", dataset = "or\"ders").in_scope(|| {
                tracing::info!("one");
                tracing::info_span!("inner", peer = "dataset").in_scope(|| tracing::info!("two"));
            });
            tracing::info_span!("other", dataset = 7).in_scope(|| tracing::info!("three"));
        });
        let lines = kept.lines();
        assert_eq!(lines[0]["dataset"], "or\"ders");
        assert_eq!((lines[0].get("spans"), &lines[1]["dataset"]), (None, &"or\"ders".into()));
        assert_eq!(lines[1]["spans"], serde_json::json!(["inner"]));
        assert_eq!((lines[2].get("dataset"), &lines[2]["spans"][0]), (None, &"other".into()));
    }

    #[test]
    fn a_line_says_what_was_being_done() {
        let kept = Kept::default();
        let lines = fmt::layer().event_format(Json::default()).with_writer(kept.clone());
        let all = tracing_subscriber::registry().with(lines).with(Abouts);
        tracing::subscriber::with_default(all, || {
            tracing::info!("nothing is known");
            tracing::error_span!("worker", operation = "flush").in_scope(|| {
                tracing::error_span!("dataset", dataset = "orders").in_scope(|| {
                    tracing::info!("of the span");
                    tracing::info!(operation = "re\"load", "its own");
                });
                tracing::info!(target: "recovery::pipeline", "of the span too");
            });
            tracing::info!(target: "recovery::pipeline", "of the target");
        });
        let lines = kept.lines();
        let said: Vec<_> = lines.iter().map(|line| line["operation"].as_str()).collect();
        let flush = Some("flush");
        assert_eq!(said, [None, flush, Some("re\"load"), flush, Some("open")]);
        assert_eq!((&lines[1]["dataset"], lines[1].get("spans")), (&"orders".into(), None));
        assert_eq!(lines[2]["fields"]["operation"], "re\"load");
        assert_eq!(
            (&lines[0]["component"], &lines[4]["component"]),
            (&"lines".into(), &"recovery".into())
        );
    }

    #[test]
    fn a_line_says_what_is_being_served() {
        let (kept, plain) = (Kept::default(), Kept::default());
        let lines = fmt::layer().event_format(Json::default()).with_writer(kept.clone());
        let text = fmt::layer().event_format(Text::default()).with_writer(plain.clone());
        let all = tracing_subscriber::registry().with(lines).with(text).with(Abouts);
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        tracing::subscriber::with_default(all, || {
            let work = async {
                tracing::info!("here");
                let operation = served();
                let elsewhere = std::thread::spawn(move || serving_here(operation, served));
                tokio::task::yield_now().await;
                tracing::error_span!("worker", operation = "flush")
                    .in_scope(|| tracing::info!("of the span"));
                elsewhere.join().unwrap()
            };
            assert_eq!(runtime.block_on(serving("get", work)), Some("get"));
            serving_here(None, || tracing::info!(code = 7, "of nobody"));
            serving_here(Some("scan"), || tracing::info!(code = 7, "of a thread"));
        });
        let said: Vec<_> =
            kept.lines().iter().map(|line| line["operation"].as_str().map(str::to_owned)).collect();
        let said: Vec<_> = said.iter().map(Option::as_deref).collect();
        assert_eq!(said, [Some("get"), Some("flush"), None, Some("scan")]);
        let plain = String::from_utf8(plain.0.lock().unwrap().clone()).unwrap();
        let ends: Vec<_> = plain.lines().map(|line| line.split(": ").last().unwrap()).collect();
        assert_eq!(ends[0], "here operation=\"get\"");
        assert_eq!(ends[2..], ["of nobody code=7", "of a thread code=7 operation=\"scan\""]);
    }

    #[test]
    fn a_moment_is_written_as_calendars_have_it() {
        for (wall_ms, text) in [
            (0, "1970-01-01T00:00:00.000Z"),
            (951_782_399_999, "2000-02-28T23:59:59.999Z"),
            (951_782_400_000, "2000-02-29T00:00:00.000Z"),
            (1_763_755_436_123, "2025-11-21T20:03:56.123Z"),
            (4_107_542_399_000, "2100-02-28T23:59:59.000Z"),
            (4_107_542_400_000, "2100-03-01T00:00:00.000Z"),
        ] {
            assert_eq!(stamp(wall_ms, &mut [0; STAMP_LEN]), text);
        }
        // Every day of 600 years, counted.
        let (mut year, mut month, mut day) = (1970, 1, 1);
        for days in 0..219_000 {
            assert_eq!(date(days), (year, month, day));
            let is_leap = year % 4 == 0 && (year % 100 != 0 || year % 400 == 0);
            let last = match month {
                2 if is_leap => 29,
                2 => 28,
                4 | 6 | 9 | 11 => 30,
                _ => 31,
            };
            (year, month, day) = match (month, day) {
                (12, 31) => (year + 1, 1, 1),
                (_, day) if day == last => (year, month + 1, 1),
                _ => (year, month, day + 1),
            };
        }
    }
}
