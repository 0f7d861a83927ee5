//! What the engine has done and holds.

use super::sheet::Sheet;
use base::Tick;
use base::fs::Space;
use engine::{Health, Stats, Status};
use std::fmt;

/// Writes the numbers of an engine.
pub(super) fn write(
    sheet: &mut Sheet<'_>,
    stats: &Stats,
    health: &Health,
    space: Option<Space>,
) -> fmt::Result {
    operations(sheet, stats)?;
    log_and_memory(sheet, stats)?;
    tables(sheet, stats)?;
    let status = f64::from(status_number(health.status));
    let help = "0 healthy, 1 degraded, 2 read-only, 3 corrupt, 4 poisoned, 5 closed";
    sheet.gauge("engine_status", help, status)?;
    if let Some(space) = space {
        let help = "Bytes free on the disk of the database";
        sheet.gauge("disk_free_bytes", help, space.disk_bytes as f64)?;
        let help = "Bytes of the disk of the database";
        sheet.gauge("disk_total_bytes", help, space.disk_total_bytes as f64)?;
        let help = "Files that the process may still open";
        sheet.gauge("handles_free", help, space.handles as f64)?;
    }
    let help = "Kept back so that deletes go on when the disk is full";
    sheet.gauge("disk_reserve_bytes", help, stats.reserve_bytes as f64)
}

fn operations(sheet: &mut Sheet<'_>, stats: &Stats) -> fmt::Result {
    let op = |name: &str| [("op", name.to_owned())];
    let counts = [
        (op("get"), stats.gets),
        (op("scan"), stats.scans),
        (op("commit"), stats.commits),
        (op("put"), stats.puts),
        (op("delete"), stats.deletes),
        (op("delete-range"), stats.range_deletes),
        (op("transaction"), stats.transactions_begun),
    ];
    let help = "Operations of users by kind; a commit may have many puts and deletes";
    sheet.counters("operations", help, &counts)?;
    sheet.counter("get_hits", "Gets that found a value", stats.hits)?;
    let help = "Time of an operation; one in 64 is timed. Of a put or delete that is a commit of its own, of a scan until it has its first entry";
    let latencies = [
        (op("get"), stats.get_latency),
        (op("commit"), stats.commit_latency),
        (op("put"), stats.put_latency),
        (op("delete"), stats.delete_latency),
        (op("scan"), stats.scan_latency),
    ];
    sheet.latencies("operation_duration_seconds", help, &latencies)?;
    let help = "Bytes of keys and values in commits";
    sheet.counter("written_bytes", help, stats.bytes_written)?;
    let help = "Bytes of keys and values in commits of other nodes that were stored here";
    sheet.counter("admitted_bytes", help, stats.bytes_admitted)?;
    let help = "Transactions refused because what they had read was changed";
    sheet.counter("transaction_conflicts", help, stats.conflicts)?;
    let help =
        "Writes of peers that lost to one here which had not seen them, parked for a resolver";
    sheet.counter("conflicts_parked", help, stats.conflicts_parked)?;
    sheet.counter("conflicts_resolved", "Those that were resolved", stats.conflicts_resolved)?;
    let help = "Times that a resolver failed; what it failed with stays parked";
    sheet.counter("resolver_failures", help, stats.resolver_failures)?;
    sheet.gauge("transactions_open", "Open transactions", stats.transactions as f64)?;
    sheet.gauge("snapshots_open", "Open snapshots", stats.snapshots as f64)?;
    let help = "When the last commit was made that the oldest snapshot sees, in Unix time; 0 if there is none";
    let oldest = stats.oldest_snapshot.and_then(Tick::from_raw).map_or(0, Tick::ms);
    sheet.gauge("oldest_snapshot_seconds", help, oldest as f64 / 1000.0)
}

fn log_and_memory(sheet: &mut Sheet<'_>, stats: &Stats) -> fmt::Result {
    sheet.counter("log_written_bytes", "Bytes appended to the log", stats.bytes_logged)?;
    let help = "Time of a sync of the log";
    sheet.latency("log_sync_duration_seconds", help, &stats.sync_latency)?;
    let help = "How long the running sync of the log has gone on; 0 if none runs";
    sheet.gauge("log_sync_running_seconds", help, stats.sync_running.as_secs_f64())?;
    sheet.gauge("memtable_bytes", "Bytes in memtables", stats.memtable_bytes as f64)?;
    let help = "Memtables that wait for their flush";
    sheet.gauge("memtables_frozen", help, stats.frozen_memtables as f64)?;
    sheet.counter("cache_hits", "Block lookups served from memory", stats.cache_hits)?;
    sheet.counter("cache_misses", "Block lookups that had to read", stats.cache_misses)?;
    sheet.gauge("cache_bytes", "Bytes of cached blocks", stats.cache_bytes as f64)?;
    let help = "Bytes that the cache may use";
    sheet.gauge("cache_capacity_bytes", help, stats.cache_capacity_bytes as f64)?;
    let help = "Bytes of memory that indexes and filters take";
    sheet.gauge("index_bytes", help, stats.index_bytes as f64)?;
    let help = "Work that is owed, from 0 to 1; writes slow down from a quarter on";
    sheet.gauge("write_pressure_ratio", help, stats.write_pressure)?;
    let help = "Time that writes were held back";
    sheet.seconds("write_throttled_seconds", help, stats.throttled.as_secs_f64())
}

fn tables(sheet: &mut Sheet<'_>, stats: &Stats) -> fmt::Result {
    sheet.counter("flushes", "Memtables flushed", stats.flushes)?;
    let help = "Bytes of tables written by flushes";
    sheet.counter("flush_written_bytes", help, stats.bytes_flushed)?;
    sheet.counter("compactions", "Compactions run", stats.compactions)?;
    let help = "Bytes of tables written by compactions";
    sheet.counter("compaction_written_bytes", help, stats.bytes_compacted)?;
    let help = "Compactions that only moved tables";
    sheet.counter("compaction_moves", help, stats.moves)?;
    let levels = levels_of(stats);
    let by_level = |of: fn(&Level) -> u64| -> Vec<_> {
        let label = |level: &Level| [("level", level.level.to_string())];
        levels.iter().map(|level| (label(level), of(level) as f64)).collect()
    };
    sheet.gauges("level_tables", "Tables by level", &by_level(|level| level.tables))?;
    sheet.gauges("level_bytes", "Bytes of tables by level", &by_level(|level| level.bytes))?;
    let help = "Entries of tables by level, all versions and tombstones";
    sheet.gauges("level_entries", help, &by_level(|level| level.entries))?;
    sheet.counter("backups", "Backups made, those of the log alone as well", stats.backups)?;
    sheet.counter("backup_failures", "Backups that failed", stats.backup_failures)?;
    let help = "Backups that failed since one was made, those that are made by themselves as well";
    sheet.gauge("backup_failures_in_a_row", help, stats.backup_failures_in_a_row as f64)?;
    let help = "When the last backup was made, in Unix time; 0 if none since the start, nor before where they are made by themselves";
    sheet.gauge("last_backup_seconds", help, stats.last_backup_ms as f64 / 1000.0)?;
    sheet.counter("scrubs", "Scrubs that were completed", stats.scrubs)?;
    let help = "Damaged files that the last scrub has found";
    sheet.gauge("scrub_findings", help, stats.scrub_findings as f64)?;
    let help = "Bytes that the running scrub, or else the last one, has read";
    sheet.gauge("scrub_read_bytes", help, stats.scrub_bytes_done as f64)?;
    let help = "Bytes that the running scrub will read; 0 while none runs";
    sheet.gauge("scrub_total_bytes", help, stats.scrub_bytes_total as f64)
}

/// The tables of one level.
struct Level {
    level: u8,
    tables: u64,
    bytes: u64,
    entries: u64,
}

/// The levels that hold anything, and level 0.
fn levels_of(stats: &Stats) -> Vec<Level> {
    let mut levels = vec![Level { level: 0, tables: 0, bytes: 0, entries: 0 }];
    for run in &stats.runs {
        let known = levels.iter().position(|level| level.level == run.level);
        let at = known.unwrap_or_else(|| {
            levels.push(Level { level: run.level, tables: 0, bytes: 0, entries: 0 });
            levels.len() - 1
        });
        if let Some(level) = levels.get_mut(at) {
            level.tables += run.tables;
            level.bytes += run.bytes;
            level.entries += run.entries;
        }
    }
    levels.sort_by_key(|level| level.level);
    levels
}

/// A state as a number that keeps its meaning.
fn status_number(status: Status) -> u8 {
    match status {
        Status::Healthy => 0,
        Status::Degraded => 1,
        Status::ReadOnly => 2,
        Status::Corrupt => 3,
        Status::Poisoned => 4,
        Status::Closed => 5,
    }
}
