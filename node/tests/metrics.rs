//! The numbers of a node, as Prometheus reads them.
#![allow(clippy::panic, clippy::unwrap_used, reason = "a test fails by panicking")]

mod shell;

use shell::{Place, Served, exchange};
use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

/// One family of metrics.
#[derive(Debug, Default)]
struct Family {
    help: String,
    kind: String,
    /// The samples: name with labels, and value.
    samples: BTreeMap<String, f64>,
}

/// What a node shows, by family, checked line by line against the rules of the text format.
fn scrape(node: &Served) -> BTreeMap<String, Family> {
    let request = b"GET /metrics HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n";
    let answer = exchange(&node.http, request);
    assert_eq!(answer.status, 200);
    let text = String::from_utf8(answer.body).unwrap();
    let mut families: BTreeMap<String, Family> = BTreeMap::new();
    let mut current = String::new();
    for line in text.lines() {
        if let Some(described) = line.strip_prefix("# HELP ") {
            let (name, help) = described.split_once(' ').unwrap();
            assert!(!families.contains_key(name), "{name} is described twice");
            families.entry(name.to_owned()).or_default().help = help.to_owned();
            current = name.to_owned();
        } else if let Some(typed) = line.strip_prefix("# TYPE ") {
            let (name, kind) = typed.split_once(' ').unwrap();
            assert_eq!(name, current, "a type follows its help");
            families.get_mut(name).unwrap().kind = kind.to_owned();
        } else {
            assert!(!line.starts_with('#') && !line.is_empty(), "{line}");
            let (sample, value) = line.rsplit_once(' ').unwrap();
            let name = sample.split('{').next().unwrap();
            let family = families.get_mut(&current).unwrap();
            let is_of_family = match family.kind.as_str() {
                "histogram" => ["_bucket", "_sum", "_count"]
                    .iter()
                    .any(|suffix| name.strip_suffix(suffix) == Some(&current)),
                "counter" => name == current && name.ends_with("_total"),
                "gauge" => name == current && !name.ends_with("_total"),
                kind => unreachable!("{kind} of {name}"),
            };
            assert!(is_of_family, "{sample} is among those of {current}");
            let value: f64 = value.parse().unwrap();
            assert!(value >= 0.0, "{line}");
            assert!(family.samples.insert(sample.to_owned(), value).is_none(), "twice: {sample}");
        }
    }
    families
}

fn value(families: &BTreeMap<String, Family>, sample: &str) -> f64 {
    let name = sample.split('{').next().unwrap();
    let bare = ["_bucket", "_sum", "_count"].iter().find_map(|suffix| name.strip_suffix(suffix));
    let family = families.get(name).or_else(|| families.get(bare?));
    let family = family.unwrap_or_else(|| panic!("no family of {sample}"));
    *family.samples.get(sample).unwrap_or_else(|| panic!("no {sample} in {family:?}"))
}

#[test]
fn what_is_done_is_counted() {
    let place = Place::new();
    let node = Served::start(&place.path("data"));
    let before = scrape(&node);
    for n in 0..10 {
        node.run(&format!("put key-{n} value")).ok();
    }
    node.run("get key-1").ok();
    node.run("get nobody").fails(3, "NotFound");
    node.run("delete key-2").ok();
    node.run("scan").ok();
    let after = scrape(&node);
    let rise = |sample: &str| value(&after, sample) - value(&before, sample);
    assert_eq!(rise("esker_operations_total{op=\"commit\"}"), 11.0);
    assert_eq!(rise("esker_operations_total{op=\"get\"}"), 2.0);
    assert_eq!(rise("esker_operations_total{op=\"put\"}"), 10.0);
    assert_eq!(rise("esker_operations_total{op=\"delete\"}"), 1.0);
    assert_eq!(rise("esker_operations_total{op=\"delete-range\"}"), 0.0);
    assert_eq!(rise("esker_operations_total{op=\"scan\"}"), 1.0);
    let timed =
        |op: &str| value(&after, &format!("esker_operation_duration_seconds_count{{op=\"{op}\"}}"));
    assert_eq!((timed("put"), timed("delete"), timed("scan")), (1.0, 1.0, 1.0));
    assert_eq!(rise("esker_get_hits_total"), 1.0);
    assert!(rise("esker_log_sync_duration_seconds_count") >= 10.0);
    assert!(rise("esker_log_sync_duration_seconds_sum") > 0.0);
    assert!(rise("esker_written_bytes_total") >= 10.0 * "key-0value".len() as f64);
    let route = "/v1/keyspaces/{keyspace}/records/{key}";
    let asked = |method: &str, status: u16| {
        format!(
            "esker_http_requests_total{{method=\"{method}\",route=\"{route}\",status=\"{status}\"}}"
        )
    };
    assert_eq!(value(&after, &asked("PUT", 200)), 10.0);
    assert_eq!(value(&after, &asked("GET", 200)), 1.0);
    assert_eq!(value(&after, &asked("GET", 404)), 1.0);
    assert_eq!(value(&after, "esker_http_requests_open"), 1.0, "this one");
    let durations = format!("esker_http_request_duration_seconds_count{{route=\"{route}\"}}");
    assert_eq!(value(&after, &durations), 13.0);
    assert_eq!(value(&after, "esker_engine_status"), 0.0);
    if cfg!(target_os = "linux") {
        assert!(value(&after, "process_resident_memory_bytes") > 1e6);
        assert!(rise("process_cpu_seconds_total") >= 0.0);
    }
}

#[test]
fn what_takes_the_disk_is_told_by_kind_and_keyspace() {
    let place = Place::new();
    let node = Served::start(&place.path("data"));
    node.run(&format!("put --keyspace orders k {}", "v".repeat(1000))).ok();
    node.run("put k v").ok();
    let families = scrape(&node);
    assert!(value(&families, "esker_space_bytes{kind=\"log\"}") >= 1000.0);
    assert_eq!(value(&families, "esker_keyspace_bytes{keyspace=\"orders\"}"), 0.0);
    node.run("flush").ok();
    let families = scrape(&node);
    let of = |sample: &str| value(&families, sample);
    assert_eq!(of("esker_keyspace_entries{keyspace=\"orders\"}"), 1.0);
    let [orders, default] = ["orders", "default"]
        .map(|name| of(&format!("esker_keyspace_bytes{{keyspace=\"{name}\"}}")));
    assert!(orders > 1000.0 && (1.0..orders).contains(&default), "{orders} {default}");
    assert!(of("esker_space_bytes{kind=\"tables\"}") > orders + default);
    assert_eq!(of("esker_space_bytes{kind=\"archive\"}"), 0.0);
    assert!(of("esker_keyspaces") >= 2.0);
}

#[test]
fn amplification_is_told_as_far_as_it_is_known() {
    let place = Place::new();
    let node = Served::start(&place.path("data"));
    node.run(&format!("put --keyspace orders k {}", "v".repeat(1000))).ok();
    let ratio = |families: &BTreeMap<String, Family>, of: &str| {
        let sample = format!("esker_amplification_ratio{{of=\"{of}\"}}");
        families["esker_amplification_ratio"].samples.get(&sample).copied()
    };
    let before = scrape(&node);
    assert_eq!(ratio(&before, "space"), None);
    assert_eq!(value(&before, "esker_live_bytes"), 0.0);
    node.run("flush").ok();
    // The node itself reads as well; threads count on eight counters, and one of 64 gets is timed.
    let is_timed = (0..=8 * 64).any(|_| {
        node.ask("GET", "/v1/keyspaces/orders/records/k", &[], "").is(200, "");
        ratio(&scrape(&node), "read") > ratio(&before, "read")
    });
    assert!(is_timed, "{:?}", ratio(&before, "read"));
    let families = scrape(&node);
    let of = |sample: &str| value(&families, sample);
    assert_eq!(of("esker_keyspace_raw_bytes{keyspace=\"orders\"}"), 1001.0);
    assert!(of("esker_live_bytes") >= 1001.0 && of("esker_raw_bytes") >= of("esker_live_bytes"));
    let written = of("esker_written_bytes_total") + of("esker_admitted_bytes_total");
    let disk = of("esker_log_written_bytes_total")
        + of("esker_flush_written_bytes_total")
        + of("esker_compaction_written_bytes_total");
    assert_eq!(ratio(&families, "write"), Some(disk / written));
    let tables = of("esker_space_bytes{kind=\"tables\"}");
    assert_eq!(ratio(&families, "space"), Some(tables / of("esker_live_bytes")));
    assert!(ratio(&families, "read") <= Some(1.0), "a get looks into one block");
    assert_eq!(of("esker_read_amplification_max"), 1.0);
    let stats = node.ask("GET", "/v1/stats", &[], "").json();
    for of in ["space", "write"] {
        let off =
            stats[format!("{of}_amplification")].as_f64().unwrap() - ratio(&families, of).unwrap();
        assert!(off.abs() < 1e-9, "{of}: {stats}");
    }
}

#[test]
fn histograms_rise_to_their_count() {
    let place = Place::new();
    let node = Served::start(&place.path("data"));
    node.run("put k v").ok();
    let families = scrape(&node);
    let mut seen = 0;
    for (name, family) in families.iter().filter(|(_, family)| family.kind == "histogram") {
        let bucket = format!("{name}_bucket");
        let mut series: BTreeMap<String, Vec<(f64, f64)>> = BTreeMap::new();
        for (sample, value) in &family.samples {
            let Some(labels) = sample.strip_prefix(&bucket) else { continue };
            let labels = labels.trim_matches(['{', '}']);
            let is_bound = |label: &&str| label.starts_with("le=");
            let bound = labels.split(',').find(is_bound).unwrap();
            let bound = bound.trim_start_matches("le=").trim_matches('"');
            let others: Vec<_> = labels.split(',').filter(|label| !is_bound(label)).collect();
            let bound = if bound == "+Inf" { f64::INFINITY } else { bound.parse().unwrap() };
            series.entry(others.join(",")).or_default().push((bound, *value));
        }
        for (labels, mut buckets) in series {
            buckets.sort_by(|a, b| a.0.total_cmp(&b.0));
            assert!(buckets.is_sorted_by_key(|bucket| bucket.1), "{name}{labels}: {buckets:?}");
            let labels = if labels.is_empty() { labels } else { format!("{{{labels}}}") };
            let count = value(&families, &format!("{name}_count{labels}"));
            assert_eq!(buckets.last().unwrap(), &(f64::INFINITY, count), "{name}{labels}");
            seen += 1;
        }
    }
    assert!(seen >= 4, "{seen}");
}

#[test]
fn every_metric_is_documented_and_every_documented_one_is_there() {
    let place = Place::new();
    // A replica with a peer shows those of peers, too.
    let other = "000102030405060708090a0b0c0d0eff@127.0.0.1:9";
    // It has data, so it does not wait for the peer before it takes writes.
    place.run("put k v").ok();
    let node = Served::start_with(&place.path("data"), &["--peer", other]);
    node.run("put k v").ok();
    let families = scrape(&node);
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("deploy/METRICS.md");
    let documented = std::fs::read_to_string(path).unwrap();
    let row = |line: &str| {
        let mut cells = line.strip_prefix("| `")?.split(" | ");
        let name = cells.next()?.trim_end_matches('`').to_owned();
        Some((name, cells.next()?.to_owned(), cells.last()?.trim_end_matches(" |").to_owned()))
    };
    let documented: BTreeSet<_> = documented.lines().filter_map(row).collect();
    let shown: BTreeSet<_> = families
        .iter()
        .map(|(name, family)| {
            (name.clone(), family.kind.clone(), family.help.trim_end_matches('.').to_owned())
        })
        .collect();
    let missing: Vec<_> = shown.difference(&documented).collect();
    let invented: Vec<_> = documented.difference(&shown).collect();
    assert!(
        missing.is_empty() && invented.is_empty(),
        "missing: {missing:#?}\ngone: {invented:#?}"
    );
}

#[test]
fn labels_hold_no_keys_and_strangers_can_not_make_new_ones() {
    let place = Place::new();
    let node = Served::start(&place.path("data"));
    node.run("put a-secret-key v").ok();
    for path in ["/nothing/a-secret-key", "/v1/peers/a-secret-key/enable"] {
        let request =
            format!("BREW {path} HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n");
        assert!(exchange(&node.http, request.as_bytes()).status >= 400);
    }
    let families = scrape(&node);
    let samples = families.values().flat_map(|family| family.samples.keys());
    let all: Vec<_> = samples.cloned().collect();
    assert!(all.iter().all(|sample| !sample.contains("secret") && !sample.contains("BREW")));
    assert!(all.iter().any(|sample| sample.contains("method=\"OTHER\",route=\"none\"")), "{all:?}");
}
