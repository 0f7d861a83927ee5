//! What a node writes about itself: lines for people or programs, and what operators do apart from them.
//!
//! ```text
//! tracing ──level──> lines ──queue──> thread ──> standard error, or a file that is put aside when long
//!        ├──audit──> lines ──queue──> thread ──> the audit file
//!        └──warn───> the newest, in memory, for those who look at the node
//! ```
//!
//! Whoever logs puts a line into a queue and goes on. When the queue of the log is full, lines are
//! dropped and counted, as is what a full disk does not take; that of the audit waits instead. Keys and values are never in a line.
//! Lines say which component and operation they are of, and which dataset, if it is one.
//!
//! Levels: `error` needs somebody now, `warn` will if it goes on, `info` is what an operator wants to
//! read a week later, `debug` and `trace` are for developers.

mod recent;
mod spans;

pub(crate) use self::recent::Line;
pub(crate) use self::spans::{Inside, leave, span_of, span_of_operation, stay_in};

use self::recent::Recent;
use crate::config::Config;
use crate::error::{Exit, Failure, Outcome};
use crate::files::RotatingFile;
use base::Error;
use esker_node::lines::{Abouts, Drain, Json, Overflow, Queue, Text};
use std::io::{self, Write};
use std::path::Path;
use std::sync::{Mutex, MutexGuard, OnceLock, PoisonError};
use tracing::Subscriber;
use tracing::level_filters::LevelFilter;
use tracing_subscriber::filter::Targets;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::registry::LookupSpan;
use tracing_subscriber::util::SubscriberInitExt;
use tracing_subscriber::{Layer, Registry, fmt, reload};

/// What the events of the audit are sent to.
pub(crate) const AUDIT: &str = "esker::audit";

/// What there is one of in a process.
static LOGS: OnceLock<Handles> = OnceLock::new();

/// What changes and tells of the logs while they are written.
struct Handles {
    levels: reload::Handle<Targets, Registry>,
    /// Level and filter as words.
    words: Mutex<(String, String)>,
    lines: Queue,
    audit: Option<Queue>,
    recent: Recent,
}

/// Writes what waits when it is dropped.
pub(crate) struct Logs {
    _drains: Vec<Drain>,
}

/// Begins to log as `config` says. Once a process.
pub(crate) fn start(config: &Config) -> Outcome<Logs> {
    let (lines_queue, drain) = queue(output(config)?, Overflow::Drops)?;
    let mut drains = vec![drain];
    let (levels, handle) = reload::Layer::new(levels_of(config)?);
    let lines = match config.text("log.format") {
        Some("json") => json(lines_queue.clone()).boxed(),
        _ => {
            let lines = fmt::layer().with_ansi(false).event_format(Text::default());
            lines.with_writer(lines_queue.clone()).boxed()
        }
    };
    let audit_queue = match config.text("log.audit_file") {
        None => None,
        Some(path) => {
            let (audit_queue, drain) = queue(file(config, Path::new(path))?, Overflow::Waits)?;
            drains.push(drain);
            Some(audit_queue)
        }
    };
    let only = || Targets::new().with_target(AUDIT, LevelFilter::TRACE);
    let audit = audit_queue.clone().map(|queue| json(queue).with_filter(only()));
    let all = tracing_subscriber::registry().with(lines.with_filter(levels)).with(audit);
    let recent = Recent::default();
    let all = all.with(recent.clone().with_filter(LevelFilter::WARN));
    let all = all.with(Abouts.with_filter(LevelFilter::ERROR));
    let begun = all.try_init();
    begun.map_err(|_| Failure::new(Exit::Bug, "Bug", "the logs were begun twice"))?;
    let (level, filter) = words_of(config);
    let words = Mutex::new((level.to_owned(), filter.to_owned()));
    let handles = Handles { levels: handle, words, lines: lines_queue, audit: audit_queue, recent };
    let _ = LOGS.set(handles);
    Ok(Logs { _drains: drains })
}

/// Changes what is worth a line, from now on, to what `config` says.
pub(crate) fn change(config: &Config) -> Outcome {
    let (level, filter) = words_of(config);
    set(level, filter)
}

/// Changes what is worth a line, from now on.
pub(crate) fn set(level: &str, filter: &str) -> Outcome {
    let levels = parse(level, filter)?;
    let Some(logs) = LOGS.get() else { return Ok(()) };
    let bug = |error: reload::Error| Failure::new(Exit::Bug, "Bug", error.to_string());
    logs.levels.reload(levels).map_err(bug)?;
    *logs.words() = (level.to_owned(), filter.to_owned());
    Ok(())
}

/// Level and filter of this moment, as words.
pub(crate) fn levels() -> (String, String) {
    LOGS.get().map(|logs| logs.words().clone()).unwrap_or_default()
}

impl Handles {
    fn words(&self) -> MutexGuard<'_, (String, String)> {
        self.words.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Lines that were dropped because the queue was full, or that could not be written.
pub(crate) fn dropped() -> u64 {
    LOGS.get().map_or(0, |logs| logs.lines.dropped())
}

/// Lines of the audit that could not be written.
pub(crate) fn audit_dropped() -> u64 {
    LOGS.get().and_then(|logs| logs.audit.as_ref()).map_or(0, Queue::dropped)
}

/// The newest warnings and errors, oldest first, whatever the level of the log is.
pub(crate) fn recent() -> Vec<Line> {
    LOGS.get().map(|logs| logs.recent.lines()).unwrap_or_default()
}

fn queue(output: impl Write + Send + 'static, overflow: Overflow) -> Outcome<(Queue, Drain)> {
    Ok(Queue::new(output, overflow).map_err(|e| Error::io("start", "a thread", e))?)
}

/// What makes lines of JSON of events.
fn json<S>(queue: Queue) -> impl Layer<S>
where
    S: Subscriber + for<'a> LookupSpan<'a>,
{
    fmt::layer().event_format(Json::default()).with_writer(queue)
}

fn output(config: &Config) -> Outcome<Box<dyn Write + Send>> {
    match config.text("log.file") {
        None => Ok(Box::new(io::stderr())),
        Some(path) => Ok(Box::new(file(config, Path::new(path))?)),
    }
}

fn file(config: &Config, path: &Path) -> Outcome<RotatingFile> {
    Ok(RotatingFile::open(path, config.number("log.rotate_bytes"), config.number("log.keep"))?)
}

/// The level, and those of components over it.
fn levels_of(config: &Config) -> Outcome<Targets> {
    let (level, filter) = words_of(config);
    parse(level, filter)
}

fn words_of(config: &Config) -> (&str, &str) {
    let level = config.text("log.level").unwrap_or("info");
    (level, config.text("log.filter").unwrap_or_default())
}

/// What `log.level` may be.
pub(crate) const LEVELS: [&str; 5] = ["error", "warn", "info", "debug", "trace"];

/// Whether `filter` is one by which levels can be set.
pub(crate) fn is_filter(filter: &str) -> bool {
    parse("info", filter).is_ok()
}

fn parse(level: &str, filter: &str) -> Outcome<Targets> {
    if !LEVELS.contains(&level) {
        let message = format!("log.level is {level:?}, but may be {}", LEVELS.join(", "));
        return Err(Failure::new(Exit::Input, "ConfigInvalid", message).action("name one of these"));
    }
    let words = [level, filter].into_iter().filter(|words| !words.is_empty());
    let words = words.collect::<Vec<_>>().join(",");
    words.parse().map_err(|error| {
        Failure::new(Exit::Input, "ConfigInvalid", format!("log.filter is {filter:?}: {error}"))
            .action("list components and levels, such as replication=debug,esker=warn")
    })
}
