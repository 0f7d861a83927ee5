//! How a database is: its numbers and its health.
//!
//! Neither waits for the manifest: whoever looks why a database stands still must not stand still as well.

use crate::content::Content;
use crate::health::{Health, Status};
use crate::parts::Parts;
use crate::stats::{Counter, KeyspaceStats, RunStats, Stats};
use base::{Result, SpaceId};
use std::collections::HashMap;
use std::sync::atomic::Ordering;

/// The numbers of this moment.
pub(crate) fn stats(parts: &Parts) -> Stats {
    let view = parts.views.current();
    let cache = parts.tables.cache().stats();
    let manifest = parts.installer.shown();
    let version = &manifest.version;
    let (meters, points) = (&parts.meters, parts.snapshots.points());
    let memtables = || std::iter::once(&view.active).chain(&view.frozen);
    let transactions = parts.commits.with_queue(|queue| queue.conflicts().counts());
    let runs = version.runs().iter().map(|run| RunStats {
        level: run.level,
        tables: run.tables.len() as u64,
        bytes: run.bytes(),
        entries: run.tables.iter().map(|table| table.entries).sum(),
    });
    let content = Content::of(version);
    let [conflicts_parked, conflicts_resolved, resolver_failures] = parts.resolvers.counts();
    Stats {
        gets: meters.total(Counter::Gets),
        hits: meters.total(Counter::Hits),
        scans: meters.total(Counter::Scans),
        commits: meters.total(Counter::Commits),
        puts: meters.total(Counter::Puts),
        deletes: meters.total(Counter::Deletes),
        range_deletes: meters.total(Counter::RangeDeletes),
        bytes_written: meters.total(Counter::BytesWritten),
        bytes_admitted: meters.total(Counter::BytesAdmitted),
        get_latency: meters.get_latency.latency(),
        get_blocks: meters.get_blocks.load(Ordering::Relaxed),
        commit_latency: meters.commit_latency.latency(),
        put_latency: meters.put_latency.latency(),
        delete_latency: meters.delete_latency.latency(),
        scan_latency: meters.scan_latency.latency(),
        sync_latency: parts.commits.sync_latency.latency(),
        sync_times: parts.commits.sync_latency.times(),
        sync_running: parts.commits.sync_running(),
        transactions_begun: transactions.begun,
        conflicts: transactions.refused,
        flushes: meters.flushes.load(Ordering::Relaxed),
        compactions: meters.compactions.load(Ordering::Relaxed),
        moves: meters.moves.load(Ordering::Relaxed),
        bytes_logged: parts.commits.bytes_logged(),
        bytes_flushed: meters.bytes_flushed.load(Ordering::Relaxed),
        bytes_compacted: meters.bytes_compacted.load(Ordering::Relaxed),
        memtable_bytes: memtables().map(|memtable| memtable.used_bytes() as u64).sum(),
        frozen_memtables: view.frozen.len() as u64,
        cache_bytes: cache.bytes as u64,
        index_bytes: cache.charged_bytes as u64,
        cache_capacity_bytes: cache.capacity_bytes as u64,
        cache_hits: cache.hits,
        cache_misses: cache.misses,
        table_bytes: version.bytes(),
        raw_bytes: content.raw_bytes,
        live_bytes: content.live_bytes,
        log_bytes: log_bytes(parts),
        archive_bytes: parts.archive.bytes(),
        runs: runs.collect(),
        snapshots: points.len() as u64,
        oldest_snapshot: points.first().map(|point| point.raw()),
        transactions: transactions.open,
        write_pressure: parts.pressure.debt(view.active.fill()),
        throttled: parts.pressure.slept(),
        scrubs: meters.scrubs.load(Ordering::Relaxed),
        backups: meters.backups.load(Ordering::Relaxed),
        backup_failures: meters.backup_failures.load(Ordering::Relaxed),
        backup_failures_in_a_row: meters.backup_failures_in_a_row.load(Ordering::Relaxed),
        last_backup_ms: meters.last_backup_ms.load(Ordering::Relaxed),
        conflicts_parked,
        conflicts_resolved,
        resolver_failures,
        resumes: parts.space.resuming().used(),
        restarts: parts.meters.restarts.used(),
        tables_healed: meters.tables_healed.load(Ordering::Relaxed),
        scrub_bytes_done: meters.scrub_bytes_done.load(Ordering::Relaxed),
        scrub_bytes_total: meters.scrub_bytes_total.load(Ordering::Relaxed),
        scrub_findings: meters.scrub_findings.load(Ordering::Relaxed),
        reserve_bytes: parts.space.held(),
        visible_seqno: parts.commits.visible().raw(),
        durable_seqno: parts.commits.durable().raw(),
    }
}

/// Of a database that is only read, or whose log has failed, none are known.
fn log_bytes(parts: &Parts) -> u64 {
    let segments = parts.commits.with_queue(|queue| queue.appender().map(|log| log.segments()));
    segments.unwrap_or_default().iter().map(|span| span.end).sum()
}

/// What each keyspace holds in tables, by name.
pub(crate) fn keyspace_stats(parts: &Parts) -> Result<Vec<KeyspaceStats>> {
    let view = parts.views.current();
    let live = parts.catalog.live();
    // Once over the tables: there may be as many keyspaces.
    let mut by_space: HashMap<SpaceId, KeyspaceStats> = HashMap::new();
    for handle in view.runs.tables() {
        for (space, usage) in handle.usage()? {
            let of = by_space.entry(space).or_default();
            of.entries += usage.entries;
            of.raw_bytes += usage.raw_bytes;
            of.table_bytes += usage.stored_bytes;
        }
    }
    let stats = live.into_iter().map(|state| {
        let of = by_space.remove(&state.space).unwrap_or_default();
        KeyspaceStats { name: state.name.clone(), ..of }
    });
    Ok(stats.collect())
}

/// Whether everything works, and if not, why. Takes no lock under which the disk is waited for.
pub(crate) fn health(parts: &Parts) -> Health {
    let (mut status, mut reasons) = state(parts);
    let clock_jump_ms = parts.clock_watch.jump_ms(&*parts.clock);
    if let (Some(by_ms), Status::Healthy | Status::Degraded) = (clock_jump_ms, status) {
        status = Status::Degraded;
        reasons.push(format!("the wall clock has jumped by {by_ms} ms: commits are refused"));
    }
    Health { status, reasons, clock_jump_ms }
}

/// The same, but for the clock.
fn state(parts: &Parts) -> (Status, Vec<String>) {
    if parts.is_closed.load(Ordering::Acquire) {
        return (Status::Closed, Vec::new());
    }
    if parts.commits.is_poisoned() {
        let reason = "a write or sync failed; close and open again to recover".to_owned();
        return (Status::Poisoned, vec![reason]);
    }
    let mut reasons: Vec<String> = parts.trouble.lock().values().cloned().collect();
    reasons.extend(parts.damage.reasons());
    for scope in parts.installer.shown().incomplete.keys() {
        reasons.push(format!("scope {} has lost content with damaged files", scope.0));
    }
    let debt = parts.pressure.debt(parts.views.current().active.fill());
    reasons.extend(parts.archive.trouble());
    if debt > 0.5 {
        reasons.push(format!("writes are slowed: {:.0} % of the allowed debt", debt * 100.0));
    }
    if parts.damage.check().is_err() {
        return (Status::Corrupt, parts.damage.reasons());
    }
    if parts.space.is_full() {
        let reason = "the disk is full; puts are taken again once there is space".to_owned();
        return (Status::ReadOnly, vec![reason]);
    }
    let status = if reasons.is_empty() { Status::Healthy } else { Status::Degraded };
    (status, reasons)
}
