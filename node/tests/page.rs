//! The page at `/`, as far as that can be told without a browser: `deploy/page-check` opens it in one.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod shell;

use serde_json::Value;
use shell::group::{Home, peers, until};
use shell::{Answered, Place, Served};
use std::collections::{BTreeMap, BTreeSet};
use std::fs;

/// Found in a key and in a value.
const NEEDLE: &str = "qwvzkxjq";
/// The page as it is in the source.
const PAGE: &str = include_str!("../src/serve/page.html");

fn overview(node: &Served) -> Value {
    node.ask("GET", "/v1/overview", &[], "").is(200, "").json()
}

/// What is between each `open` and the next `close` in `text`.
fn between<'a>(text: &'a str, open: &str, close: &str) -> Vec<&'a str> {
    text.split(open).skip(1).filter_map(|rest| Some(rest.split_once(close)?.0)).collect()
}

fn nonces(page: &Answered) -> BTreeSet<String> {
    let text = std::str::from_utf8(&page.body).unwrap();
    let all = between(text, "nonce=\"", "\"");
    assert_eq!(all.len(), 2, "of the script and of the style");
    all.into_iter().map(str::to_owned).collect()
}

#[test]
fn only_what_is_of_the_page_may_run_in_it() {
    let place = Place::new();
    let node = Served::start(&place.path("data"));
    let page = node.ask("GET", "/", &[], "").is(200, "");
    let nonce = nonces(&page).pop_first().unwrap();
    assert!(nonce.len() == 32 && nonce.bytes().all(|byte| byte.is_ascii_hexdigit()), "{nonce}");
    let policy = page.header("content-security-policy").unwrap();
    let rules: BTreeSet<&str> = policy.split(';').map(str::trim).collect();
    let (script, style) =
        (format!("script-src 'nonce-{nonce}'"), format!("style-src 'nonce-{nonce}'"));
    let wanted = [
        "default-src 'none'",
        &*script,
        &*style,
        "connect-src 'self'",
        "img-src data:",
        "base-uri 'none'",
        "form-action 'none'",
        "frame-ancestors 'none'",
        "require-trusted-types-for 'script'",
        "trusted-types 'none'",
    ];
    assert_eq!(rules, BTreeSet::from(wanted));
    for (name, value) in [
        ("content-type", "text/html; charset=utf-8"),
        ("cache-control", "no-store"),
        ("x-content-type-options", "nosniff"),
        ("x-frame-options", "DENY"),
        ("referrer-policy", "no-referrer"),
        ("cross-origin-opener-policy", "same-origin"),
    ] {
        assert_eq!(page.header(name), Some(value), "{name}");
    }
    let again = node.ask("GET", "/", &[], "");
    assert!(nonces(&again).is_disjoint(&nonces(&page)), "a number is used once");
    node.ask("POST", "/", &[], "").is(405, "UnknownMethod");
}

#[test]
fn the_page_asks_its_node_only_and_keeps_nothing() {
    for word in [
        "://",
        " src=",
        "url(",
        "@import",
        "import(",
        "WebSocket",
        "EventSource",
        "XMLHttpRequest",
        "sendBeacon",
        "Storage",
        "indexedDB",
        "cookie",
        "innerHTML",
        "outerHTML",
        "insertAdjacent",
        "document.write",
        "eval(",
        "Function(",
        " style=",
        " onclick=",
        " onload=",
    ] {
        assert!(!PAGE.contains(word), "{word}");
    }
    assert_eq!(between(PAGE, "fetch(", ","), ["\"v1/overview\""]);
    assert_eq!(between(PAGE, "<link rel=\"icon\" href=\"", ":"), ["data"]);
    assert_eq!(PAGE.matches("<link").count(), 1);
    assert_eq!(between(PAGE, "<a ", " href=\"#content\""), ["class=\"skip\""]);
    assert_eq!(PAGE.matches("<a ").count(), 1);
    assert_eq!(PAGE.matches("<script").count(), 1);
    assert_eq!(PAGE.matches("<style").count(), 1);
}

/// Whether `of` has something at `path`, be it null.
fn has(of: &Value, path: &str) -> bool {
    let pointer = format!("/{}", path.replace('.', "/"));
    of.pointer(&pointer).is_some()
}

/// The words in quotes of `text`.
fn quoted(text: &str) -> Vec<&str> {
    text.split('"').skip(1).step_by(2).collect()
}

/// What of that which the page reads with `at` and `rows` is not in `answer`.
fn missing(answer: &Value) -> Vec<String> {
    let plain = between(PAGE, " at(\"", "\")").into_iter();
    let plain = plain.chain(between(PAGE, "(at(\"", "\")"));
    let plain = plain.chain(between(PAGE, "{at(\"", "\")"));
    let plain = plain.chain(between(PAGE, "[at(\"", "\")"));
    let plain: BTreeSet<&str> = plain.collect();
    let calls = PAGE.matches("at(\"").count();
    assert!(calls > 50 && plain.len() > 40, "{calls} {}", plain.len());
    let mut missing: Vec<String> =
        plain.into_iter().filter(|path| !has(answer, path)).map(str::to_owned).collect();
    let lists = between(PAGE, "rows(\"", ")");
    assert!(lists.len() >= 9, "{lists:?}");
    for list in lists {
        let list = format!("\"{list}");
        let (path, fields) = quoted(&list).split_first().map(|(a, b)| (*a, b.to_vec())).unwrap();
        let rows =
            answer.pointer(&format!("/{}", path.replace('.', "/"))).and_then(Value::as_array);
        let rows = rows.map(Vec::as_slice).unwrap_or_default();
        let is_missing = |field: &&str| !rows.iter().any(|row| has(row, field));
        missing
            .extend(fields.into_iter().filter(is_missing).map(|field| format!("{path}: {field}")));
    }
    missing
}

#[test]
fn every_field_that_the_page_reads_is_told_by_a_node_and_no_key_or_value_is() {
    let place = Place::new();
    let [a, away] = ["a", "away"].map(|name| Home::new(&place, name));
    let file = place.path("node.toml");
    fs::write(&file, "").unwrap();
    let node = a.start_with(&[], &["--config", file.to_str().unwrap()]);
    node.run(&format!("put {NEEDLE} {NEEDLE}")).ok();
    node.run("flush").ok();
    peers(&node, &["add", &away.address()]).ok();
    // What waits for a start is worth a warning.
    fs::write(&file, "[engine]\ntable_bytes = '8 MiB'\n").unwrap();
    node.ask("POST", "/v1/reload", &[], "").is(200, "");
    until("all has happened that the page shows", || missing(&overview(&node)).is_empty());
    let told = overview(&node);
    assert!(!told.to_string().contains(NEEDLE), "{told}");
    assert_eq!(told["keyspaces"][0]["name"], "default");
    assert_eq!((&told["keyspaces"][0]["entries"], &told["keyspaceCount"]), (&1.into(), &1.into()));
    assert!(told["operations"]["commits"].as_u64() >= Some(1));
    assert!(told["lines"].to_string().contains("engine.table_bytes"), "{}", told["lines"]);
    let mut less = told.clone();
    less["cache"].as_object_mut().unwrap().remove("hits");
    less["latencies"] = Value::Array(Vec::new());
    assert!(missing(&less).len() >= 6, "{:?}", missing(&less));
}

/// Threads count on eight counters, and each times one in 64 on its own.
const UNTIL_TIMED: usize = 8 * 64;

/// Each kind has a row of its own, and counts only what it is of.
#[test]
fn puts_deletes_and_scans_are_timed_apart() {
    let place = Place::new();
    let node = Served::start(&place.path("data"));
    let samples = || -> BTreeMap<String, u64> {
        let told = overview(&node);
        let rows = told["latencies"].as_array().unwrap().iter();
        rows.map(|row| (row["op"].as_str().unwrap().to_owned(), row["samples"].as_u64().unwrap()))
            .collect()
    };
    let rows: Vec<String> = samples().into_keys().collect();
    assert_eq!(rows, ["commit", "delete", "get", "log sync", "put", "scan"]);
    let record = "/v1/keyspaces/default/records/k";
    for (kind, method, path, others) in [
        ("put", "PUT", record, ["delete", "scan"]),
        ("delete", "DELETE", record, ["put", "scan"]),
        ("scan", "GET", "/v1/keyspaces/default/records", ["put", "delete"]),
        ("get", "GET", record, ["put", "delete"]),
    ] {
        let before = samples();
        let is_timed = (0..=UNTIL_TIMED).any(|_| {
            node.ask(method, path, &[], "v");
            samples()[kind] > before[kind]
        });
        assert!(is_timed, "{kind}: {before:?}");
        let now = samples();
        for other in others {
            assert_eq!(now[other], before[other], "{other} by a {kind}");
        }
    }
}

#[test]
fn what_only_replicas_have_is_told_by_them() {
    let place = Place::new();
    let node = Served::start_with(&place.path("data"), &["--role", "replica"]);
    let optional = between(PAGE, "maybe(\"", "\")");
    assert!(!optional.is_empty());
    let told = overview(&node);
    for path in optional {
        assert!(has(&told, path), "{path} in {told}");
    }
}

#[test]
fn the_page_is_for_everybody_and_what_it_shows_for_those_with_a_token() {
    let place = Place::new();
    let token = place.path("token");
    fs::write(&token, "page-token-page-token").unwrap();
    let file = place.path("node.toml");
    fs::write(&file, format!("[auth]\ntoken_file = {token:?}\n")).unwrap();
    let node = Served::start_with(&place.path("data"), &["--config", file.to_str().unwrap()]);
    node.ask("GET", "/", &[], "").is(200, "");
    node.ask("GET", "/v1/overview", &[], "").is(401, "Unauthenticated");
    let bearer = ["authorization: Bearer page-token-page-token"];
    node.ask("GET", "/v1/overview", &bearer, "").is(200, "");
    node.ask("POST", "/", &[], "").is(405, "UnknownMethod");
}

#[test]
fn failures_are_counted_apart_and_probes_are_none() {
    let place = Place::new();
    let node = Served::start(&place.path("data"));
    let before = overview(&node)["requests"].clone();
    assert_eq!(before["failed"], 0);
    node.ask("POST", "/v1/mode", &[], "{\"mode\":\"maintenance\"}").is(200, "");
    node.ask("GET", "/health/ready", &[], "").is(503, "");
    node.ask("GET", "/v1/keyspaces/default/records/a", &[], "").is(503, "Maintenance");
    let told = overview(&node);
    assert_eq!((&told["requests"]["failed"], &told["mode"]), (&1.into(), &"maintenance".into()));
    let answered = |requests: &Value| requests["answered"].as_u64().unwrap();
    assert_eq!(answered(&told["requests"]) - answered(&before), 4);
}
