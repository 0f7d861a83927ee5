//! `esker stats`: what a database holds, and what opening it cost.

use crate::args::PlaceArgs;
use crate::error::Outcome;
use crate::files;
use crate::output::Output;
use crate::place;
use engine::Create;
use serde_json::{Map, Value, json};

/// The command line of `esker stats`.
#[derive(clap::Args, Debug)]
#[command(after_help = "\
Latencies are percentiles in microseconds. Counters start when the database is opened, so those of a closed database tell what opening it did,
and those of a node what it has done. Levels, tables and space are what it holds.

write_amplification is bytes written to log and tables for each byte put, since the open. read_amplification is blocks of tables that a get looks
into, in the mean of those that were timed since the open; read_amplification_max is the most it may be now, the number of runs.
space_amplification is table_bytes by live_bytes: keys and values of live records in tables, as estimated from what the manifest knows of them.
Log and archive are not in it. By keyspace, entries and raw_bytes (keys and values) are of all versions in tables; the 100 largest are shown.

Examples:
  esker stats --path data --output json
  esker stats --url http://127.0.0.1:8080")]
pub(crate) struct StatsArgs {
    #[command(flatten)]
    place: PlaceArgs,
}

/// Prints the numbers.
pub(crate) fn run(args: &StatsArgs, output: &mut Output) -> Outcome {
    let place = place::open(&args.place, Create::Never)?;
    let mut numbers = place.stats()?;
    place.close()?;
    if let Some(path) = &args.place.path {
        // What a closed database takes, without what an open one keeps in reserve.
        numbers.insert("disk_bytes".into(), json!(files::disk_usage(path)));
    }
    output.result(text_of(&numbers), &numbers)
}

/// The numbers as lines of name, colon, number; a run and a keyspace are a line of their own.
fn text_of(object: &Map<String, Value>) -> String {
    let mut lines = Vec::new();
    for (name, value) in object {
        match value {
            Value::Array(all) => lines.extend(all.iter().filter_map(|one| line_of(name, one))),
            Value::Null => lines.extend(unknown(name).map(|why| format!("{name}: unknown, {why}"))),
            Value::String(words) => lines.push(format!("{name}: {words}")),
            value => lines.push(format!("{name}: {value}")),
        }
    }
    lines.join("\n")
}

/// One of many of the same name.
fn line_of(name: &str, one: &Value) -> Option<String> {
    let (bytes, entries) = (&one["bytes"], &one["entries"]);
    match name {
        "runs" => {
            let (level, tables) = (&one["level"], &one["tables"]);
            Some(format!("run: level {level}, {tables} tables, {bytes} bytes, {entries} entries"))
        }
        "by_keyspace" => {
            let (raw, stored) = (&one["raw_bytes"], &one["table_bytes"]);
            let keyspace = one["keyspace"].as_str()?.escape_debug();
            Some(format!(
                "keyspace: {keyspace}, {entries} entries, {raw} raw bytes, {stored} in tables"
            ))
        }
        _ => None,
    }
}

/// Why there is no number.
fn unknown(name: &str) -> Option<&'static str> {
    match name {
        "write_amplification" => Some("nothing was written since the open"),
        "read_amplification" => Some("nothing was read since the open"),
        "space_amplification" => Some("tables hold nothing live, by what is estimated"),
        "by_keyspace" => Some("a table can not be read: see `esker check`"),
        _ => None,
    }
}
