//! `esker stats`: what a database holds, and what opening it cost.

use crate::args::DatabaseArgs;
use crate::database;
use crate::error::Outcome;
use crate::files;
use crate::output::Output;
use engine::Stats;
use serde_json::{Map, Value, json};

/// The command line of `esker stats`.
#[derive(clap::Args, Debug)]
#[command(after_help = "\
Counters start when the database is opened, so those of a closed database tell what opening it did.
Levels, tables and space are what it holds.

Example:
  esker stats --path data --output json")]
pub(crate) struct StatsArgs {
    #[command(flatten)]
    database: DatabaseArgs,
}

/// Prints the numbers.
pub(crate) fn run(args: &StatsArgs, output: &mut Output) -> Outcome {
    let db = database::open(&args.database)?;
    let stats = db.stats();
    let keyspaces = db.keyspaces().len();
    db.close()?;
    let mut object = object_of(&stats);
    object.insert("keyspaces".into(), json!(keyspaces));
    object.insert("disk_bytes".into(), json!(files::disk_usage(&args.database.path)));
    output.result(text_of(&object), &object)
}

/// The numbers by name.
fn object_of(stats: &Stats) -> Map<String, Value> {
    let run = |run: &engine::RunStats| {
        json!({ "level": run.level, "tables": run.tables, "bytes": run.bytes,
                "entries": run.entries })
    };
    let runs: Vec<Value> = stats.runs.iter().map(run).collect();
    let object = json!({
        "gets": stats.gets,
        "hits": stats.hits,
        "scans": stats.scans,
        "commits": stats.commits,
        "bytes_written": stats.bytes_written,
        "bytes_logged": stats.bytes_logged,
        "bytes_flushed": stats.bytes_flushed,
        "bytes_compacted": stats.bytes_compacted,
        "write_amplification": stats.write_amplification(),
        "flushes": stats.flushes,
        "compactions": stats.compactions,
        "moves": stats.moves,
        "memtable_bytes": stats.memtable_bytes,
        "frozen_memtables": stats.frozen_memtables,
        "cache_bytes": stats.cache_bytes,
        "cache_capacity_bytes": stats.cache_capacity_bytes,
        "cache_hits": stats.cache_hits,
        "cache_misses": stats.cache_misses,
        "cache_hit_rate": stats.cache_hit_rate(),
        "index_bytes": stats.index_bytes,
        "table_bytes": stats.table_bytes,
        "runs": runs,
        "write_pressure": stats.write_pressure,
        "visible_seqno": stats.visible_seqno,
        "durable_seqno": stats.durable_seqno,
    });
    match object {
        Value::Object(object) => object,
        _ => Map::new(),
    }
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
            value => lines.push(format!("{name}: {value}")),
        }
    }
    lines.join("\n")
}
