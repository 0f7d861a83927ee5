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

/// The numbers as lines of name, colon, number; a run is a line of its own.
fn text_of(object: &Map<String, Value>) -> String {
    let mut lines = Vec::new();
    for (name, value) in object {
        match value {
            Value::Array(runs) => lines.extend(runs.iter().map(|run| {
                format!(
                    "run: level {}, {} tables, {} bytes, {} entries",
                    run["level"], run["tables"], run["bytes"], run["entries"]
                )
            })),
            Value::Null => {}
            Value::String(words) => lines.push(format!("{name}: {words}")),
            value => lines.push(format!("{name}: {value}")),
        }
    }
    lines.join("\n")
}
