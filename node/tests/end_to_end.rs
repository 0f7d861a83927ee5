//! A node from a file of settings, driven over HTTP as by curl, whose parts are broken one by one: what health,
//! metrics and the alerts of `deploy/prometheus/rules.yml` say then, and that they stop once it is mended.
//!
//! Alerts are computed from one answer of `/metrics`: whether they would begin to count, not for how long. The
//! clock of a machine can not be turned for one process, so what a wrong one leaves on the disk is written by the
//! library, whose clock is a parameter.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod shell;

use base::{Clock, SystemClock};
use engine::{Db, KeyspaceOptions, Options, Platform};
use serde_json::Value;
use shell::group::{Home, until};
use shell::{Answered, Place, Served, start};
use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

/// Labels of a sample, as they are written.
type Samples = BTreeMap<String, f64>;

/// What a node shows to Prometheus, and the rules by which that wakes somebody.
struct Watch {
    rules: BTreeMap<String, String>,
}

impl Watch {
    fn new() -> Watch {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("deploy/prometheus/rules.yml");
        let text = fs::read_to_string(path).unwrap();
        let rules = text.split("- alert: ").skip(1).map(|rule| {
            let name = rule.lines().next().unwrap().trim();
            let (_, expr) = rule.split_once("expr: ").unwrap();
            let expr = expr.trim_start_matches(['|', '\n', ' ']).lines().next().unwrap();
            (name.to_owned(), expr.to_owned())
        });
        Watch { rules: rules.collect() }
    }

    /// Whom the alert `name` is about at this moment, by their labels.
    fn alarm(&self, node: &Served, name: &str) -> BTreeSet<String> {
        let text = node.ask("GET", "/metrics", &[], "").is(200, "").body;
        let text = String::from_utf8(text).unwrap();
        let parts = self.rules[name].split(" and ").map(|part| compared(&text, part));
        parts.reduce(|all, part| &all & &part).unwrap()
    }

    fn is_alarmed(&self, node: &Served, name: &str) -> bool {
        !self.alarm(node, name).is_empty()
    }

    /// Waits until `node` gives this alarm, or does not give it any more.
    fn until(&self, node: &Served, name: &str, is_so: bool) {
        until(&format!("{name} is {is_so}"), || self.is_alarmed(node, name) == is_so);
    }
}

/// The labels for which `part`, a comparison, holds in `text`.
fn compared(text: &str, part: &str) -> BTreeSet<String> {
    let words: Vec<&str> = part.split_whitespace().collect();
    let (left, op, right) = (words[0], words[1], &words[2..]);
    let right = match right {
        [factor, "*", name] => (factor.parse::<f64>().unwrap(), Some(samples(text, name))),
        [number] => (number.parse::<f64>().unwrap(), None),
        other => unreachable!("{other:?} in {part}"),
    };
    let holds = |(labels, value): &(String, f64)| {
        let other = match &right.1 {
            None => right.0,
            Some(samples) => right.0 * samples[labels],
        };
        match op {
            "==" => *value == other,
            ">" => *value > other,
            ">=" => *value >= other,
            "<" => *value < other,
            _ => unreachable!("{op} in {part}"),
        }
    };
    samples(text, left).into_iter().filter(holds).map(|(labels, _)| labels).collect()
}

/// The samples of a metric.
fn samples(text: &str, name: &str) -> Samples {
    let of = text.lines().filter_map(|line| {
        let (series, value) = line.strip_prefix(name)?.rsplit_once(' ')?;
        let labels = series.is_empty() || series.starts_with('{');
        labels.then(|| (series.to_owned(), value.parse().unwrap()))
    });
    let of: Samples = of.collect();
    assert!(!of.is_empty(), "{name} is no metric of a node");
    of
}

/// Starts a node from a file of settings, and asks nothing else of it.
fn from_file(path: &Path, text: &str) -> Served {
    fs::write(path, text).unwrap();
    Served::of(start(["serve", "--config", path.to_str().unwrap()]))
}

/// What the check `name` found last.
fn check(node: &Served, name: &str) -> Value {
    node.ask("GET", "/health/detailed", &[], "").json()["checks"][name].clone()
}

fn until_check(node: &Served, name: &str, status: &str) {
    until(&format!("{name} is {status}"), || check(node, name)["status"] == status);
}

fn put(node: &Served, key: &str, value: &str) -> Answered {
    node.ask("PUT", &format!("/v1/keyspaces/default/records/{key}"), &[], value)
}

#[test]
fn what_breaks_is_told_by_health_metrics_and_alerts_until_it_is_mended() {
    let place = Place::new();
    let [a, b] = ["a", "b"].map(|name| Home::new(&place, name));
    let (file, store, audit) = (place.path("node.toml"), place.path("store"), place.path("audit"));
    let settings = format!(
        "path = {:?}\nhttp = '127.0.0.1:0'\nlisten = '{}'\npeers = ['{}']\nlag_threshold_ms = 300\n\
         [health]\nevery_ms = 100\n[backup]\nto = {store:?}\n[log]\naudit_file = {audit:?}\n",
        a.path,
        a.listen,
        b.address(),
    );
    let node = from_file(&file, &settings);
    let peer = b.start(&[&a]);
    let watch = Watch::new();
    until("it has met its peer", || put(&node, "ada", "1815").status == 200);
    let quiet = ["EskerReadOnly", "EskerHalted", "EskerDegraded", "EskerScrubFindings"];
    let of_peers = ["EskerPeerOffline", "EskerPeerLagsFarBehind", "EskerPeerNeverConfirmed"];
    for name in quiet.into_iter().chain(of_peers) {
        watch.until(&node, name, false);
    }
    until_check(&node, "engine", "healthy");
    until_check(&node, "replication", "healthy");

    a_peer_is_away(&node, &watch, peer, [&a, &b]);
    a_clock_was_ahead(&node, &watch, [&a, &b]);
    backups_have_no_place(&node, &watch, &store);
    let node = a_table_is_damaged(node, &watch, &a, &|| from_file(&file, &settings));
    for name in quiet {
        assert!(!watch.is_alarmed(&node, name), "{name}");
    }
    let audit = fs::read_to_string(audit).unwrap();
    assert!(["/v1/backup", "/v1/scrub"].iter().all(|operation| audit.contains(operation)));
    assert_eq!(node.stop().0, Some(0));
}

fn a_peer_is_away(node: &Served, watch: &Watch, peer: Served, [a, b]: [&Home; 2]) {
    peer.kill();
    put(node, "while-away", "1").is(200, "");
    watch.until(node, "EskerPeerOffline", true);
    let alarmed = watch.alarm(node, "EskerPeerOffline");
    assert!(alarmed.iter().all(|labels| labels.contains(&b.id)) && alarmed.len() == 1);
    until_check(node, "replication", "degraded");
    let told = node.ask("GET", "/health", &[], "").json();
    assert_eq!(told["laggingPeers"], serde_json::json!([b.id]));
    assert!(told["maxLagMs"].as_u64() >= Some(300), "{told}");
    assert!(!watch.is_alarmed(node, "EskerPeerLags"), "that takes half a minute");
    node.ask("GET", "/health/ready", &[], "").is(200, "");

    let peer = b.start(&[a]);
    watch.until(node, "EskerPeerOffline", false);
    until_check(node, "replication", "healthy");
    until("it has all", || peer.run("get while-away").text() == "1\n");
    assert_eq!(peer.stop().0, Some(0));
}

/// The clock of a machine, and how far it is ahead.
struct Ahead(SystemClock, Duration);

impl Clock for Ahead {
    fn wall_ms(&self) -> u64 {
        self.0.wall_ms() + u64::try_from(self.1.as_millis()).unwrap()
    }

    fn monotonic(&self) -> Duration {
        self.0.monotonic()
    }
}

/// By twenty seconds more than is allowed, when the peer has written last. Twenty seconds later it is right.
fn a_clock_was_ahead(node: &Served, watch: &Watch, [a, b]: [&Home; 2]) {
    let clock = Arc::new(Ahead(SystemClock::default(), Duration::from_secs(30)));
    let platform = Platform { clock, ..Platform::at(&b.path) };
    let db = Db::open_on(platform, Options::default()).unwrap();
    db.keyspace("default", KeyspaceOptions::default()).unwrap().put("ahead", "1").unwrap();
    db.close().unwrap();
    let peer = b.start(&[a]);
    watch.until(node, "EskerPeerClockAhead", true);
    let alarmed = watch.alarm(node, "EskerPeerClockAhead");
    assert!(alarmed.iter().all(|labels| labels.contains(&b.id)) && alarmed.len() == 1);
    until_check(node, "replication", "unhealthy");
    let told = node.ask("GET", "/health", &[], "").is(503, "").json();
    assert_eq!(told["parkedPeers"], serde_json::json!([b.id]));
    let ahead = || node.ask("GET", "/v1/keyspaces/default/records/ahead", &[], "");
    ahead().is(404, "NotFound");
    put(node, "goes-on", "1").is(200, "");
    until("the other way is open", || peer.run("get goes-on").text() == "1\n");

    watch.until(node, "EskerPeerClockAhead", false);
    until("what was stamped ahead has come", || ahead().status == 200);
    until_check(node, "replication", "healthy");
    assert_eq!(peer.stop().0, Some(0));
}

fn backups_have_no_place(node: &Served, watch: &Watch, store: &Path) {
    for name in ["EskerBackupsFail", "EskerBreakerOpen"] {
        assert!(!watch.is_alarmed(node, name), "{name}");
    }
    node.ask("POST", "/v1/backup", &[], "").is(200, "");
    let kept = store.with_extension("kept");
    fs::rename(store, &kept).unwrap();
    fs::write(store, "not a directory").unwrap();
    let failed = node.ask("POST", "/v1/backup", &[], "");
    assert!(failed.status >= 500 && failed.json()["code"].is_string(), "{failed:?}");
    let text = String::from_utf8(node.ask("GET", "/metrics", &[], "").body).unwrap();
    let failures = samples(&text, "esker_breaker_calls_total");
    let failures = failures.iter().filter(|(labels, count)| {
        labels.contains("\"backup\"") && labels.contains("\"failure\"") && **count > 0.0
    });
    assert_eq!(failures.count(), 1, "{text}");
    assert!(samples(&text, "esker_backup_failures_total")[""] > 0.0);
    until("they are left alone", || {
        node.ask("POST", "/v1/backup", &[], "").json()["code"] == "BreakerOpen"
    });
    watch.until(node, "EskerBackupsFail", true);
    let open = watch.alarm(node, "EskerBreakerOpen");
    assert!(open.len() == 1 && open.iter().all(|labels| labels.contains("\"backup\"")), "{open:?}");
    until_check(node, "backups", "degraded");
    node.ask("GET", "/health/ready", &[], "").is(200, "");
    put(node, "meanwhile", "1").is(200, "");

    fs::remove_file(store).unwrap();
    fs::rename(kept, store).unwrap();
    node.ask("POST", "/v1/breakers/backup/reset", &[], "").is(200, "");
    assert!(!watch.is_alarmed(node, "EskerBreakerOpen"));
    node.ask("POST", "/v1/backup", &[], "").is(200, "");
    assert!(!watch.is_alarmed(node, "EskerBackupsFail"));
    until_check(node, "backups", "healthy");
}

fn a_table_is_damaged(
    node: Served,
    watch: &Watch,
    home: &Home,
    again: &dyn Fn() -> Served,
) -> Served {
    node.ask("POST", "/v1/flush", &[], "").is(200, "");
    let table = some_table(&home.path);
    flip(&table);
    let found = node.ask("POST", "/v1/scrub", &[], "").is(200, "").json();
    assert_eq!(found["findings"].as_array().map(Vec::len), Some(1), "{found}");
    for name in ["EskerScrubFindings", "EskerHalted"] {
        assert!(watch.is_alarmed(&node, name), "{name}");
    }
    until_check(&node, "engine", "unhealthy");
    let told = node.ask("GET", "/health", &[], "").is(503, "").json();
    assert_eq!(told["engine"]["status"], "corrupt");
    node.ask("GET", "/health/ready", &[], "").is(503, "");
    node.ask("GET", "/health/live", &[], "").is(200, "");
    put(&node, "more", "1").is(500, "Halted");
    let lines = node.ask("GET", "/v1/overview", &[], "").json()["lines"].to_string();
    assert!(lines.contains(table.file_name().unwrap().to_str().unwrap()), "{lines}");

    node.stop();
    flip(&table);
    let node = again();
    until_check(&node, "engine", "healthy");
    node.ask("POST", "/v1/scrub", &[], "").is(200, "");
    node.ask("GET", "/v1/keyspaces/default/records/ada", &[], "").is(200, "");
    node
}

fn some_table(path: &Path) -> PathBuf {
    let tables = fs::read_dir(path.join("tables")).unwrap().map(|entry| entry.unwrap().path());
    tables.filter(|path| path.extension().is_some_and(|it| it == "sst")).max().unwrap()
}

/// Turns a bit of the middle of a file over.
fn flip(path: &Path) {
    let mut bytes = fs::read(path).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 4;
    fs::write(path, bytes).unwrap();
}

/// A small file system in memory, unmounted when dropped.
struct Disk(tempfile::TempDir);

impl Disk {
    fn mount() -> Option<Disk> {
        let dir = tempfile::tempdir().unwrap();
        let mount = ["-t", "tmpfs", "-o", "size=48m", "tmpfs"];
        let mounted = Command::new("mount").args(mount).arg(dir.path()).output();
        mounted.is_ok_and(|output| output.status.success()).then(|| Disk(dir))
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("-l").arg(self.0.path()).status();
    }
}

#[test]
fn a_full_disk_is_told_and_writes_go_on_once_there_is_room() {
    let Some(disk) = Disk::mount() else {
        println!("SKIPPED: this user may not mount a small file system");
        return;
    };
    let place = Place::new();
    let settings = format!(
        "path = {:?}\nhttp = '127.0.0.1:0'\n[health]\nevery_ms = 100\n[engine]\nmemory_bytes = '16 MiB'\n\
         memtable_bytes = '1 MiB'\nsegment_bytes = '1 MiB'\nreserve_bytes = '2 MiB'\n",
        disk.path("data"),
    );
    let node = from_file(&place.path("node.toml"), &settings);
    let watch = Watch::new();
    put(&node, "ada", "1815").is(200, "");
    assert!(!watch.is_alarmed(&node, "EskerReadOnly") && !watch.is_alarmed(&node, "EskerDiskLow"));
    // Others take what there is, but for a little.
    fs::write(disk.path("ballast"), vec![1; 30 << 20]).unwrap();
    let value = "x".repeat(256 << 10);
    let refused = (0..400).map(|n| put(&node, &format!("k{n}"), &value));
    let refused = refused.into_iter().find(|answer| answer.status != 200).unwrap();
    refused.is(503, "DiskFull");
    watch.until(&node, "EskerReadOnly", true);
    until_check(&node, "engine", "unhealthy");
    // And then all but the last of it.
    let _ = fs::write(disk.path("more"), vec![1; 6 << 20]);
    watch.until(&node, "EskerDiskLow", true);
    until_check(&node, "disk", "degraded");
    let told = node.ask("GET", "/health", &[], "").is(503, "").json();
    assert_eq!(told["engine"]["status"], "read-only");
    node.ask("GET", "/v1/keyspaces/default/records/ada", &[], "").is(200, "");
    node.ask("DELETE", "/v1/keyspaces/default/records/k0", &[], "").is(200, "");

    fs::remove_file(disk.path("ballast")).unwrap();
    fs::remove_file(disk.path("more")).unwrap();
    watch.until(&node, "EskerDiskLow", false);
    until_check(&node, "disk", "healthy");
    watch.until(&node, "EskerReadOnly", false);
    until("puts are taken again", || put(&node, "after", "1").status == 200);
    until("the remedy is counted", || {
        let text = node.ask("GET", "/metrics", &[], "").is(200, "").body;
        let taken = samples(&String::from_utf8(text).unwrap(), "esker_remedies_taken_total");
        taken["{remedy=\"resume\"}"] >= 1.0
    });
    assert_eq!(node.stop().0, Some(0));
}

/// A machine that is busy is no reason to send users elsewhere, or to start anything again.
#[test]
fn what_a_machine_is_short_of_is_said_by_the_limits_of_the_file_and_no_more() {
    let place = Place::new();
    let file = place.path("node.toml");
    let with_limit = |percent: u32| {
        let limits = ["cpu", "memory", "disk"].map(|of| format!("{of}_percent = {percent}\n"));
        let limits = limits.concat();
        let data = place.path("data");
        let text = format!("path = {data:?}\nhttp = '127.0.0.1:0'\n[health]\nevery_ms = 100\n");
        from_file(&file, &(text + &limits))
    };
    let node = with_limit(1);
    for name in ["cpu", "memory", "disk"] {
        until(&format!("{name} is short"), || {
            // Something to do.
            put(&node, "k", "1").status == 200 && check(&node, name)["status"] == "degraded"
        });
        assert_eq!(check(&node, name)["details"]["limit_ratio"], 0.01, "{name}");
    }
    node.ask("GET", "/health", &[], "").is(200, "");
    node.ask("GET", "/health/ready", &[], "").is(200, "");
    assert_eq!(node.stop().0, Some(0));

    let node = with_limit(100);
    for name in ["memory", "disk"] {
        until_check(&node, name, "healthy");
        assert_eq!(check(&node, name)["details"]["limit_ratio"], 1.0, "{name}");
    }
    assert_eq!(node.stop().0, Some(0));
}

/// The buckets of a histogram without other labels: their bounds and counts, ascending.
fn buckets(text: &str, name: &str) -> Vec<(f64, f64)> {
    let bound = |labels: &str| labels.split('"').nth(1).unwrap().parse().unwrap_or(f64::INFINITY);
    let all = samples(text, name).into_iter().map(|(labels, count)| (bound(&labels), count));
    let mut all: Vec<(f64, f64)> = all.collect();
    all.sort_by(|one, other| one.0.total_cmp(&other.0));
    all
}

/// What `histogram_quantile` makes of `buckets`.
fn quantile(of: f64, buckets: &[(f64, f64)]) -> f64 {
    let rank = of * buckets.last().unwrap().1;
    let at = buckets.iter().position(|(_, count)| *count >= rank).unwrap();
    let (begin, before) = at.checked_sub(1).map_or((0.0, 0.0), |before| buckets[before]);
    let (end, count) = buckets[at];
    if end.is_infinite() {
        begin
    } else {
        begin + (end - begin) * (rank - before) / (count - before)
    }
}

/// A disk that is really slow is hard to come by; how slow is too slow is for the file to say.
#[test]
fn slow_syncs_are_told_by_the_limit_of_the_file() {
    let place = Place::new();
    let data = place.path("data");
    let text = format!(
        "path = {data:?}\nhttp = '127.0.0.1:0'\n[engine]\nsync = 'async'\n[health]\nevery_ms = 100\n\
         log_sync_ms = 0\ncritical_log_sync_ms = 3600000\n",
    );
    let node = from_file(&place.path("node.toml"), &text);
    let watch = Watch::new();
    let synced = || node.ask("PUT", "/v1/keyspaces/default/records/a?sync=sync", &[], "1");
    until("syncs are called slow", || {
        synced().is(200, "");
        check(&node, "log_sync")["status"] == "degraded"
    });
    node.ask("GET", "/health", &[], "").is(200, "");
    node.ask("GET", "/health/ready", &[], "").is(200, "");

    // The alert, held against the same limit.
    let name = "esker_log_sync_duration_seconds_bucket";
    let rule = &watch.rules["EskerLogSyncSlow"];
    assert_eq!(rule, &format!("histogram_quantile(0.99, rate({name}[5m])) > 0.1"));
    let text = node.ask("GET", "/metrics", &[], "").is(200, "").body;
    let found = quantile(0.99, &buckets(std::str::from_utf8(&text).unwrap(), name));
    assert!(found > 0.0, "{found}");

    until_check(&node, "log_sync", "healthy");
    assert_eq!(node.stop().0, Some(0));
}

/// Writers are faster than flushes until they pause.
#[test]
fn work_that_is_owed_is_told_until_it_is_done() {
    let place = Place::new();
    let data = place.path("data");
    let text = format!(
        "path = {data:?}\nhttp = '127.0.0.1:0'\n[engine]\nsync = 'async'\nmemory_bytes = '16 MiB'\n\
         memtable_bytes = '1 MiB'\n[health]\nevery_ms = 100\ndebt_percent = 1\ncritical_debt_percent = 100\n",
    );
    let node = from_file(&place.path("node.toml"), &text);
    let watch = Watch::new();
    put(&node, "ada", "1815").is(200, "");
    until_check(&node, "compaction", "healthy");
    assert!(!watch.is_alarmed(&node, "EskerWritesSlowed"));
    let (value, are_done) = ("x".repeat(900 << 10), AtomicBool::new(false));
    std::thread::scope(|scope| {
        for writer in 0..3 {
            let (node, value, are_done) = (&node, &value, &are_done);
            scope.spawn(move || {
                let keys = (0..).take_while(|_| !are_done.load(Ordering::Relaxed));
                // Some are refused while too much is owed.
                keys.for_each(|key: u64| drop(put(node, &format!("{writer}-{}", key % 20), value)));
            });
        }
        let _end = OnDrop(|| are_done.store(true, Ordering::Relaxed));
        until_check(&node, "compaction", "degraded");
        watch.until(&node, "EskerWritesSlowed", true);
        node.ask("GET", "/health/ready", &[], "").is(200, "");
        node.ask("GET", "/v1/keyspaces/default/records/ada", &[], "").is(200, "");
    });
    until_check(&node, "compaction", "healthy");
    assert_eq!(check(&node, "compaction")["details"]["limit_ratio"], 0.01);
    watch.until(&node, "EskerWritesSlowed", false);
    let text = String::from_utf8(node.ask("GET", "/metrics", &[], "").body).unwrap();
    assert!(samples(&text, "esker_write_throttled_seconds_total")[""] > 0.0);
    put(&node, "after", "1").is(200, "");
    assert_eq!(node.stop().0, Some(0));
}

/// Does something at the end, also if that is a panic.
struct OnDrop<F: Fn()>(F);

impl<F: Fn()> Drop for OnDrop<F> {
    fn drop(&mut self) {
        (self.0)();
    }
}
