//! All that the page at `/` shows, as one answer: the numbers of one moment, and no keys or values.
//!
//! Whoever watches asks again and again, so nothing here counts records, and nothing waits for a check or a
//! peer. Counts are since the start; who wants rates compares two answers.

use super::health::HealthReport;
use super::mode::Mode;
use super::node::Node;
use super::peers::StatusReport;
use super::refusal::Refusal;
use super::routes::json;
use crate::database::keyspaces_of_users;
use crate::logs;
use crate::process::Usage;
use axum::body::Body;
use axum::extract::State;
use axum::http::Response;
use engine::{Db, KeyspaceStats, Latency, Scope, Stats, Status};
use esker_node::health::{CheckReport, Wellness};
use esker_node::resilience::BreakerReport;
use serde::Serialize;
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

/// Keyspaces in an answer at most: those that take the most disk.
const KEYSPACES_MAX: usize = 100;

/// What `/v1/overview` answers.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Overview {
    version: &'static str,
    /// Milliseconds since the Unix epoch, by the clock of this node.
    timestamp: u64,
    uptime_seconds: u64,
    mode: Mode,
    health: Found,
    engine: Value,
    replication: StatusReport,
    requests: Value,
    operations: Value,
    latencies: Vec<Timed>,
    /// What the counts in `below` of latencies are below of.
    latency_bounds_micros: Vec<f64>,
    cache: Value,
    memory: Value,
    disk: Value,
    upkeep: Value,
    levels: Vec<Level>,
    keyspaces: Vec<Named>,
    keyspace_count: usize,
    breakers: Vec<Guarding>,
    /// The newest warnings and errors of the log, oldest first.
    lines: Vec<logs::Line>,
}

/// What the checks found last.
#[derive(Serialize)]
struct Found {
    status: Wellness,
    checks: Vec<Checked>,
}

#[derive(Serialize)]
struct Checked {
    name: String,
    #[serde(flatten)]
    report: CheckReport,
}

#[derive(Serialize)]
struct Guarding {
    name: String,
    #[serde(flatten)]
    report: BreakerReport,
}

/// How long something takes.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Timed {
    op: &'static str,
    samples: u64,
    p50_micros: f64,
    p99_micros: f64,
    p999_micros: f64,
    below: Vec<u64>,
}

#[derive(Default, Serialize)]
struct Level {
    level: u8,
    tables: u64,
    entries: u64,
    bytes: u64,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Named {
    name: String,
    scope: &'static str,
    /// All versions and tombstones in tables.
    entries: u64,
    table_bytes: u64,
}

/// How everything is at this moment.
pub(super) async fn overview(State(node): State<Arc<Node>>) -> Result<Response<Body>, Refusal> {
    let overview = node.blocking(|node| Ok(Overview::of(node))).await?;
    Ok(json(&overview))
}

impl Overview {
    fn of(node: &Node) -> Overview {
        let db = node.directory().db();
        let stats = db.stats();
        let health = db.health();
        let (keyspaces, keyspace_count) = keyspaces_of(db);
        let requests = node.requests().totals();
        let breakers = node.breakers().reports().into_iter();
        Overview {
            version: env!("CARGO_PKG_VERSION"),
            timestamp: node.wall_ms(),
            uptime_seconds: node.uptime().as_secs(),
            mode: node.mode().get(),
            health: Found::by(node),
            engine: json!({ "status": name_of(health.status), "reasons": health.reasons }),
            replication: StatusReport::of(node),
            requests: json!({ "answered": requests.answered, "failed": requests.failed }),
            operations: operations_of(&stats),
            latencies: vec![
                Timed::of("get", &stats.get_latency),
                Timed::of("put", &stats.put_latency),
                Timed::of("delete", &stats.delete_latency),
                Timed::of("scan", &stats.scan_latency),
                Timed::of("commit", &stats.commit_latency),
                Timed::of("log sync", &stats.sync_latency),
            ],
            latency_bounds_micros: Latency::bounds().into_iter().map(micros).collect(),
            cache: json!({
                "usedBytes": stats.cache_bytes,
                "capacityBytes": stats.cache_capacity_bytes,
                "hits": stats.cache_hits,
                "misses": stats.cache_misses,
            }),
            memory: json!({
                "indexBytes": stats.index_bytes,
                "memtableBytes": stats.memtable_bytes,
                "frozenMemtables": stats.frozen_memtables,
                "residentBytes": Usage::read().map(|usage| usage.resident_bytes),
            }),
            disk: disk_of(db, &stats),
            upkeep: upkeep_of(&stats),
            levels: levels_of(&stats),
            keyspaces,
            keyspace_count,
            breakers: breakers.map(|(name, report)| Guarding { name, report }).collect(),
            lines: logs::recent(),
        }
    }
}

impl Found {
    fn by(node: &Node) -> Found {
        let now = HealthReport::of(node).status;
        let Some(report) = node.findings() else {
            return Found { status: now, checks: Vec::new() };
        };
        let checks = report.checks.into_iter();
        Found {
            status: now.max(report.status),
            checks: checks.map(|(name, report)| Checked { name, report }).collect(),
        }
    }
}

impl Timed {
    fn of(op: &'static str, latency: &Latency) -> Timed {
        Timed {
            op,
            samples: latency.samples,
            p50_micros: micros(latency.p50),
            p99_micros: micros(latency.p99),
            p999_micros: micros(latency.p999),
            below: latency.below.to_vec(),
        }
    }
}

fn micros(duration: Duration) -> f64 {
    duration.as_nanos() as f64 / 1000.0
}

fn operations_of(stats: &Stats) -> Value {
    json!({
        "gets": stats.gets,
        "scans": stats.scans,
        "commits": stats.commits,
        "writtenBytes": stats.bytes_written,
        "loggedBytes": stats.bytes_logged,
        "snapshots": stats.snapshots,
        "transactions": stats.transactions,
        "conflicts": stats.conflicts,
    })
}

/// What is known of the disk; what the system does not tell is null.
fn disk_of(db: &Db, stats: &Stats) -> Value {
    let space = db.space().ok();
    json!({
        "freeBytes": space.as_ref().map(|space| space.disk_bytes),
        "totalBytes": space.as_ref().map(|space| space.disk_total_bytes),
        "reserveBytes": stats.reserve_bytes,
        "tableBytes": stats.table_bytes,
    })
}

fn upkeep_of(stats: &Stats) -> Value {
    json!({
        "writePressure": stats.write_pressure,
        "throttledSeconds": stats.throttled.as_secs_f64(),
        "flushes": stats.flushes,
        "compactions": stats.compactions,
        "backups": stats.backups,
        "backupFailures": stats.backup_failures,
        "lastBackup": stats.last_backup_ms,
        "scrubs": stats.scrubs,
        "scrubFindings": stats.scrub_findings,
        "scrubReadBytes": stats.scrub_bytes_done,
        "scrubTotalBytes": stats.scrub_bytes_total,
        "tablesHealed": stats.tables_healed,
    })
}

/// The levels that hold anything, from above.
fn levels_of(stats: &Stats) -> Vec<Level> {
    let mut levels = BTreeMap::<u8, Level>::new();
    for run in &stats.runs {
        let level = levels.entry(run.level).or_default();
        level.level = run.level;
        level.tables += run.tables;
        level.entries += run.entries;
        level.bytes += run.bytes;
    }
    levels.into_values().collect()
}

/// The keyspaces of users that take the most disk, and how many there are. Where a table can not be read, all
/// are named without numbers: what is wrong is in the health.
fn keyspaces_of(db: &Db) -> (Vec<Named>, usize) {
    let sizes = db.keyspace_stats().unwrap_or_default();
    let sizes: BTreeMap<&str, &KeyspaceStats> =
        sizes.iter().map(|stats| (stats.name.as_str(), stats)).collect();
    let keyspaces = keyspaces_of_users(db);
    let mut all: Vec<Named> = keyspaces
        .iter()
        .map(|keyspace| {
            let size = sizes.get(keyspace.name());
            Named {
                name: keyspace.name().to_owned(),
                scope: match keyspace.scope() {
                    Scope::Local => "local",
                    Scope::Main => "shared",
                },
                entries: size.map_or(0, |size| size.entries),
                table_bytes: size.map_or(0, |size| size.table_bytes),
            }
        })
        .collect();
    all.sort_by(|one, other| {
        other.table_bytes.cmp(&one.table_bytes).then_with(|| one.name.cmp(&other.name))
    });
    let count = all.len();
    all.truncate(KEYSPACES_MAX);
    (all, count)
}

fn name_of(status: Status) -> &'static str {
    match status {
        Status::Healthy => "healthy",
        Status::Degraded => "degraded",
        Status::ReadOnly => "read-only",
        Status::Corrupt => "corrupt",
        Status::Poisoned => "poisoned",
        Status::Closed => "closed",
    }
}
