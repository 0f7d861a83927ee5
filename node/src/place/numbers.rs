//! The numbers of an open database, by the names that commands, HTTP and programs know them by.

use crate::database::is_of_users;
use engine::{KeyspaceStats, RunStats, Stats};
use serde_json::{Map, Value, json};

/// Keyspaces with numbers of their own at most, those that take the most: there may be ten thousand.
const KEYSPACES_MAX: usize = 100;

/// The numbers by name. Those of `keyspaces` may be unknown.
pub(super) fn numbers_of(
    stats: &Stats,
    keyspaces: Option<Vec<KeyspaceStats>>,
) -> Map<String, Value> {
    let object = json!({
        "gets": stats.gets,
        "hits": stats.hits,
        "scans": stats.scans,
        "commits": stats.commits,
        "puts": stats.puts,
        "deletes": stats.deletes,
        "range_deletes": stats.range_deletes,
        "bytes_written": stats.bytes_written,
        "bytes_admitted": stats.bytes_admitted,
        "bytes_logged": stats.bytes_logged,
        "bytes_flushed": stats.bytes_flushed,
        "bytes_compacted": stats.bytes_compacted,
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
        "write_pressure": stats.write_pressure,
        "visible_seqno": stats.visible_seqno,
        "durable_seqno": stats.durable_seqno,
        "transactions_begun": stats.transactions_begun,
        "transactions": stats.transactions,
        "conflicts": stats.conflicts,
        "snapshots": stats.snapshots,
        "advice": stats.advice(),
    });
    let mut object = named(object);
    object.append(&mut space_of(stats, keyspaces));
    let latencies = [
        ("get", stats.get_latency),
        ("commit", stats.commit_latency),
        ("put", stats.put_latency),
        ("delete", stats.delete_latency),
        ("scan", stats.scan_latency),
        ("sync", stats.sync_latency),
    ];
    for (name, latency) in latencies {
        let all = [("p50", latency.p50), ("p99", latency.p99), ("p999", latency.p999)];
        for (rank, took) in all {
            object.insert(format!("{name}_{rank}_us"), json!(took.as_nanos() as f64 / 1000.0));
        }
    }
    object
}

/// What takes the disk, and what of it is written and read for what was asked.
fn space_of(stats: &Stats, keyspaces: Option<Vec<KeyspaceStats>>) -> Map<String, Value> {
    let run = |run: &RunStats| {
        json!({ "level": run.level, "tables": run.tables, "bytes": run.bytes,
                "entries": run.entries })
    };
    let runs: Vec<Value> = stats.runs.iter().map(run).collect();
    named(json!({
        "write_amplification": stats.write_amplification(),
        "read_amplification": stats.read_amplification(),
        "read_amplification_max": stats.read_amplification_max(),
        "space_amplification": stats.space_amplification(),
        "table_bytes": stats.table_bytes,
        "raw_bytes": stats.raw_bytes,
        "live_bytes": stats.live_bytes,
        "log_bytes": stats.log_bytes,
        "archive_bytes": stats.archive_bytes,
        "runs": runs,
        "by_keyspace": keyspaces.map(by_keyspace),
    }))
}

fn named(object: Value) -> Map<String, Value> {
    match object {
        Value::Object(object) => object,
        _ => Map::new(),
    }
}

/// What the keyspaces of users hold that take the most.
fn by_keyspace(mut keyspaces: Vec<KeyspaceStats>) -> Vec<Value> {
    keyspaces.retain(|of| is_of_users(&of.name));
    keyspaces.sort_by(|one, other| {
        other.table_bytes.cmp(&one.table_bytes).then_with(|| one.name.cmp(&other.name))
    });
    keyspaces.truncate(KEYSPACES_MAX);
    let line = |of: KeyspaceStats| {
        json!({ "keyspace": of.name, "entries": of.entries, "raw_bytes": of.raw_bytes,
                "table_bytes": of.table_bytes })
    };
    keyspaces.into_iter().map(line).collect()
}
