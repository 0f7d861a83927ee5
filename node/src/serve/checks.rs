//! What a node checks about itself in the background.
//!
//! ```text
//! engine       poisoned, read-only, damaged, slowed
//! disk         how full the disk of the database is, and whether it is left alone because it fails
//! memory       how much memory of the machine is left
//! cpu          how busy the machine is
//! log_sync     how long the slowest hundredth of syncs takes
//! compaction   how much work is owed
//! replication  how far tracked peers lag
//! writes       whether those of users are taken
//! clock        whether the wall clock has jumped, so that commits are refused
//! backups      whether the last ones failed, and how old the last is
//! ```
//!
//! Memory and cpu are of the machine, so the main database of a process looks at them for all.
//! A machine that is busy is no reason to be restarted: those checks warn and do no more.

use super::disk::DISK;
use super::health::HealthReport;
use super::node::Node;
use super::syncs::SyncCheck;
use crate::config::Config;
use crate::process::{Machine, Memory};
use engine::{Db, Status};
use esker_node::health::{CheckError, Checks, Finding, Timing, Wellness};
use esker_node::resilience::{BreakerState, Breakers, Timeout};
use std::sync::{Arc, Weak};
use std::time::Duration;

/// From which number on something is degraded, and unhealthy.
#[derive(Clone, Copy, Debug)]
pub(super) struct Bounds {
    pub(super) degraded: f64,
    pub(super) unhealthy: f64,
}

impl Bounds {
    /// Those that the settings of these names have, as `number` tells them, each divided by `unit`.
    fn of(number: impl Fn(&str) -> u64, degraded: &str, unhealthy: &str, unit: f64) -> Bounds {
        let bound = |key| number(key) as f64 / unit;
        let (degraded, unhealthy) = (bound(degraded), bound(unhealthy));
        Bounds { degraded, unhealthy: unhealthy.max(degraded) }
    }
}

/// Adds all checks of `node` to `checks`.
pub(super) fn add(
    checks: &mut Checks,
    node: &Arc<Node>,
    config: &Config,
) -> Result<(), CheckError> {
    let timing = Timing {
        every: config.millis("health.every_ms"),
        timeout: node.timeout(Timeout::HealthCheck),
    };
    // What is enough changes while the node runs, so each look asks.
    let limit = |key: &'static str| {
        let node = Arc::downgrade(node);
        move || node.upgrade().map_or(1.0, |node| node.number(key) as f64 / 100.0)
    };
    let cpu_limit = limit("health.cpu_percent");
    let memory_limit = limit("health.memory_percent");
    let disk_limit = limit("health.disk_percent");
    let db = || node.directory().db().clone();
    let (engine, disk, syncs, debts) = (db(), db(), db(), db());
    let (of_sync, of_owed) = (Arc::downgrade(node), Arc::downgrade(node));
    checks.add("engine", timing, move || of_engine(&engine))?;
    let breakers = node.breakers().clone();
    breakers.show(DISK);
    checks.add("disk", timing, move || of_disk(&disk, &breakers, disk_limit()))?;
    if node.dataset().is_none() {
        checks.add("memory", timing, move || of_memory(memory_limit()))?;
        let mut before = Machine::read();
        checks.add("cpu", timing, move || of_cpu(&mut before, cpu_limit()))?;
    }
    let mut seen = SyncCheck::default();
    checks.add("log_sync", timing, move || {
        let Some(node) = of_sync.upgrade() else { return node_ends() };
        let (slow, stuck) = ("health.log_sync_ms", "health.critical_log_sync_ms");
        let bounds = Bounds::of(|key| node.number(key), slow, stuck, 1.0);
        let stats = syncs.stats();
        seen.look(stats.sync_times, stats.sync_running, bounds)
    })?;
    checks.add("compaction", timing, move || {
        let Some(node) = of_owed.upgrade() else { return node_ends() };
        let (high, stalled) = ("health.debt_percent", "health.critical_debt_percent");
        let bounds = Bounds::of(|key| node.number(key), high, stalled, 100.0);
        of_debt(debts.stats().write_pressure, bounds)
    })?;
    let (of_peer, of_write) = (Arc::downgrade(node), Arc::downgrade(node));
    checks.add("replication", timing, move || of_peers(&of_peer))?;
    checks.add("writes", timing, move || of_writes(&of_write))?;
    let (clock, backups) = (db(), db());
    checks.add("clock", timing, move || of_clock(clock.health().clock_jump_ms))?;
    #[cfg(feature = "hanging-check")]
    checks.add("hangs", timing, || {
        loop {
            std::thread::park();
        }
    })?;
    let node = Arc::downgrade(node);
    checks.add("backups", timing, move || {
        let Some(node) = node.upgrade() else { return node_ends() };
        let every = node.config().backup_schedule().map(|schedule| schedule.every);
        let stats = backups.stats();
        of_backups(stats.backup_failures_in_a_row, since_backup(&node, stats.last_backup_ms), every)
    })
}

fn of_engine(db: &Db) -> Finding {
    let health = db.health();
    let status = match health.status {
        Status::Healthy => Wellness::Healthy,
        Status::Degraded => Wellness::Degraded,
        Status::ReadOnly | Status::Corrupt | Status::Poisoned | Status::Closed => {
            Wellness::Unhealthy
        }
    };
    match health.reasons.is_empty() {
        true => Finding::new(status, format!("{:?}", health.status).to_lowercase()),
        false => Finding::new(status, health.reasons.join("; ")),
    }
}

fn of_disk(db: &Db, breakers: &Breakers, limit: f64) -> Finding {
    let space = match db.space() {
        Ok(space) => space,
        Err(error) => return Finding::degraded(error.to_string()),
    };
    let free = space.disk_bytes as f64;
    let used = 1.0 - free / space.disk_total_bytes.max(1) as f64;
    let breaker = breakers.reports().get(DISK).map_or(BreakerState::Closed, |report| report.state);
    let finding = match breaker {
        BreakerState::Open => {
            Finding::degraded("the disk has failed again and again, and is left alone; see the log")
        }
        BreakerState::Closed | BreakerState::HalfOpen => share("the disk", used, limit),
    };
    finding.with("free_bytes", free).with("breaker_state", f64::from(breaker as u8))
}

fn of_memory(limit: f64) -> Finding {
    let Some(Memory { used_bytes, limit_bytes }) = Memory::read() else {
        return Finding::healthy("this system does not tell");
    };
    let used = used_bytes as f64 / limit_bytes.max(1) as f64;
    share("memory", used, limit).with("free_bytes", limit_bytes.saturating_sub(used_bytes) as f64)
}

/// How busy the machine was since the last look.
fn of_cpu(before: &mut Option<Machine>, limit: f64) -> Finding {
    let now = Machine::read();
    let (Some(then), Some(now)) = (std::mem::replace(before, now), now) else {
        return Finding::healthy("this system does not tell");
    };
    let all = now.cpu_ticks.saturating_sub(then.cpu_ticks);
    let idle = now.idle_ticks.saturating_sub(then.idle_ticks);
    share("processor time", 1.0 - idle as f64 / all.max(1) as f64, limit)
}

fn share(what: &str, used: f64, limit: f64) -> Finding {
    let used = used.clamp(0.0, 1.0);
    let message = format!("{:.0} % of {what} is used", used * 100.0);
    let status = if used >= limit { Wellness::Degraded } else { Wellness::Healthy };
    Finding::new(status, message).with("used_ratio", used).with("limit_ratio", limit)
}

fn of_debt(pressure: f64, bounds: Bounds) -> Finding {
    let status = match pressure {
        pressure if pressure >= bounds.unhealthy => Wellness::Unhealthy,
        pressure if pressure >= bounds.degraded => Wellness::Degraded,
        _ => Wellness::Healthy,
    };
    let message = format!("{:.0} % of the work that may be owed is", pressure * 100.0);
    Finding::new(status, message)
        .with("pressure_ratio", pressure)
        .with("limit_ratio", bounds.degraded)
}

fn of_peers(node: &Weak<Node>) -> Finding {
    let Some(node) = node.upgrade() else { return node_ends() };
    let report = HealthReport::of(&node);
    let tracked = report.tracked_peer_count;
    let message = match (tracked, report.peers_in_trouble()) {
        (0, _) => "there are no tracked peers".to_owned(),
        (count, 0) => format!("all {count} tracked peers keep up"),
        (count, late) => format!("{late} of {count} tracked peers lag or never confirmed"),
    };
    Finding::new(report.peers_status, message)
        .with("tracked_peers", tracked as f64)
        .with("max_lag_ms", report.max_lag_ms as f64)
}

fn of_writes(node: &Weak<Node>) -> Finding {
    let Some(node) = node.upgrade() else { return node_ends() };
    let writes = node.writes();
    Finding::new(writes.wellness(), writes.words())
}

fn node_ends() -> Finding {
    Finding::degraded("the node ends")
}

fn of_clock(jump_ms: Option<u64>) -> Finding {
    match jump_ms {
        None => Finding::healthy("the wall clock goes on as it did"),
        Some(by_ms) => {
            let message = format!(
                "the wall clock has jumped by {by_ms} ms: commits are refused until it is back, or \
                 the node is started again"
            );
            Finding::new(Wellness::Unhealthy, message).with("jump_ms", by_ms as f64)
        }
    }
}

/// How old the last backup is, at least: without a schedule none is known of before the start.
fn since_backup(node: &Node, last_ms: u64) -> Duration {
    match last_ms {
        0 => node.uptime(),
        last_ms => Duration::from_millis(node.wall_ms().saturating_sub(last_ms)),
    }
}

/// One that is made every now and then may be late by as much.
fn of_backups(failures: u64, since: Duration, every: Option<Duration>) -> Finding {
    let is_old = every.is_some_and(|every| since > every.saturating_mul(2));
    let message = match (failures, is_old, every) {
        (0, false, Some(_)) => "the last backup succeeded".to_owned(),
        (0, false, None) => "no backups are made by themselves".to_owned(),
        (0, true, _) => format!("there was no backup for {} s", since.as_secs()),
        (1, ..) => "the last backup failed; the log says why".to_owned(),
        (failures, ..) => format!("the last {failures} backups failed; the log says why"),
    };
    let is_well = failures == 0 && !is_old;
    let status = if is_well { Wellness::Healthy } else { Wellness::Degraded };
    Finding::new(status, message)
        .with("failures_in_a_row", failures as f64)
        .with("since_seconds", since.as_secs_f64())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Layers;
    use std::path::Path;

    #[test]
    fn what_is_unhealthy_is_degraded_as_well() {
        let bounds = |text: &str| {
            let mut layers = Layers::default();
            layers.read_file(text, Path::new("node.toml"));
            let config = layers.settle().unwrap();
            let of = |degraded, unhealthy, unit| {
                let bounds = Bounds::of(|key| config.number(key), degraded, unhealthy, unit);
                (bounds.degraded, bounds.unhealthy)
            };
            let syncs = of("health.log_sync_ms", "health.critical_log_sync_ms", 1.0);
            (syncs, of("health.debt_percent", "health.critical_debt_percent", 100.0))
        };
        assert_eq!(bounds(""), ((100.0, 1000.0), (0.5, 0.95)));
        let set = "[health]\nlog_sync_ms = 2000\ndebt_percent = 1\ncritical_debt_percent = 2\n";
        assert_eq!(bounds(set), ((2000.0, 2000.0), (0.01, 0.02)));
    }

    #[test]
    fn debt_and_shares_have_thresholds() {
        for (pressure, status) in
            [(0.49, Wellness::Healthy), (0.5, Wellness::Degraded), (1.0, Wellness::Unhealthy)]
        {
            let bounds = Bounds { degraded: 0.5, unhealthy: 0.95 };
            assert_eq!(of_debt(pressure, bounds).status, status);
            assert_eq!(of_debt(pressure, bounds).numbers["limit_ratio"], 0.5);
        }
        let low = Bounds { degraded: 0.01, unhealthy: 0.95 };
        assert_eq!(of_debt(0.02, low).status, Wellness::Degraded);
        assert_eq!(share("x", 0.89, 0.9).status, Wellness::Healthy);
        assert_eq!(share("x", 0.9, 0.9).status, Wellness::Degraded);
        assert_eq!(share("x", f64::NAN, 0.9).status, Wellness::Healthy);
    }
    #[test]
    fn backups_may_not_fail_and_not_be_older_than_twice_their_time() {
        let every = Some(Duration::from_secs(100));
        let status =
            |failures, since, every| of_backups(failures, Duration::from_secs(since), every).status;
        assert_eq!(status(0, 200, every), Wellness::Healthy);
        assert_eq!(status(0, 201, every), Wellness::Degraded);
        assert_eq!(status(1, 0, every), Wellness::Degraded);
        assert_eq!(status(0, 1 << 30, None), Wellness::Healthy, "nobody asked for any");
        assert_eq!(status(3, 0, None), Wellness::Degraded, "somebody did by hand");
    }

    #[test]
    fn a_clock_that_jumped_is_unhealthy() {
        assert_eq!(of_clock(None).status, Wellness::Healthy);
        let jumped = of_clock(Some(60_000));
        assert_eq!((jumped.status, jumped.numbers["jump_ms"]), (Wellness::Unhealthy, 60_000.0));
    }
}
