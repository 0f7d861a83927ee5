//! What those ask who start, stop and watch nodes.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod shell;

use shell::{Answered, Place, Served, esker, exchange};
use std::net::TcpStream;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};

/// A value that is found in a table.
const NEEDLE: &str = "qwvzkxjq";

fn get(node: &Served, path: &str) -> Answered {
    let request = format!("GET {path} HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n");
    exchange(&node.http, request.as_bytes())
}

/// Asks for the details until `is_so`.
fn details(node: &Served, is_so: impl Fn(&serde_json::Value) -> bool) -> (u16, serde_json::Value) {
    for _ in 0..600 {
        let answer = get(node, "/health/detailed");
        let found = answer.json();
        if is_so(&found) {
            return (answer.status, found);
        }
        std::thread::sleep(std::time::Duration::from_millis(100));
    }
    unreachable!("it never came to be");
}

#[test]
fn a_node_is_alive_ready_and_tells_what_it_measured() {
    let place = Place::new();
    let node = Served::start(&place.path("data"));
    assert_eq!(get(&node, "/health/live").json(), serde_json::json!({ "status": "alive" }));
    let ready = get(&node, "/health/ready");
    assert_eq!((ready.status, ready.json()["status"].as_str()), (200, Some("ready")));
    assert_eq!(ready.json()["writes"], "open");
    let all_looked = |found: &serde_json::Value| {
        let checks = found["checks"].as_object().unwrap();
        checks.values().all(|check| check["message"] != "it has not looked yet")
    };
    let (_, found) = details(&node, all_looked);
    assert_eq!(found["node"], node.node);
    assert!(found["timestamp"].as_u64().unwrap() > 1_600_000_000_000);
    assert!(found["uptimeSeconds"].is_u64() && found["version"].is_string());
    let names: Vec<&String> = found["checks"].as_object().unwrap().keys().collect();
    let all =
        ["compaction", "cpu", "disk", "engine", "log_sync", "memory", "replication", "writes"];
    assert_eq!(names, all);
    assert_eq!(found["checks"]["engine"]["status"], "healthy");
    assert_eq!(found["checks"]["replication"]["message"], "there are no tracked peers");
    assert!(found["checks"]["disk"]["details"]["free_bytes"].as_f64().unwrap() > 0.0);
}

#[test]
fn a_damaged_table_is_found_by_the_check_of_the_engine_and_takes_readiness() {
    let place = Place::new();
    place.fill(&[("a", NEEDLE), ("b", "2")]);
    place.run("flush").ok();
    damage(&place.path("data/tables"));
    let node = Served::start(&place.path("data"));
    node.run("get a").fails(8, "TableCorrupt");
    let (status, found) =
        details(&node, |found| found["checks"]["engine"]["status"] == "unhealthy");
    assert_eq!((status, found["status"].as_str()), (503, Some("unhealthy")));
    let ready = get(&node, "/health/ready");
    assert_eq!((ready.status, ready.json()["status"].as_str()), (503, Some("not_ready")));
    assert_eq!(get(&node, "/health/live").status, 200);
}

#[test]
fn a_node_that_can_not_open_its_database_ends_as_commands_do() {
    let place = Place::new();
    place.fill(&[("a", "1")]);
    for name in ["data/CURRENT", "data/CURRENT.copy"] {
        std::fs::write(place.path(name), "nonsense").unwrap();
    }
    let serve = ["serve", "--http", "127.0.0.1:0", "--path"].map(std::ffi::OsString::from);
    let served = esker(serve.into_iter().chain([place.path("data").into()]));
    let other = place.run("keyspaces");
    assert_eq!((served.code, served.err.trim_end()), (other.code, other.err.trim_end()));
    assert_eq!(served.code, Some(8));
}

#[test]
fn a_node_is_alive_while_it_merges_everything() {
    let place = Place::new();
    let node = Served::start(&place.path("data"));
    let value = "v".repeat(1000);
    for round in 0..3 {
        let lines: String = (0..3000).map(|n| format!("k{n:05}\t{round}{value}\n")).collect();
        node.run_with("load --format tsv -", lines.as_bytes()).ok();
        node.run("flush").ok();
    }
    let is_done = AtomicBool::new(false);
    let asked = std::thread::scope(|scope| {
        scope.spawn(|| {
            node.run("compact").ok();
            is_done.store(true, Ordering::SeqCst);
        });
        let mut asked = 0;
        while !is_done.load(Ordering::SeqCst) {
            assert_eq!(get(&node, "/health/live").status, 200);
            asked += 1;
        }
        asked
    });
    assert!(asked > 0);
}

#[test]
fn probes_are_answered_while_others_hold_all_places() {
    let place = Place::new();
    let file = place.path("node.toml");
    std::fs::write(&file, "[timeouts]\nhttp_head_ms = 600000\n").unwrap();
    let node = Served::start_with(&place.path("data"), &["--config", file.to_str().unwrap()]);
    let crowd: Vec<_> = (0..270).map(|_| TcpStream::connect(&node.http).unwrap()).collect();
    assert_eq!(get(&node, "/health/live").status, 200);
    assert_eq!(get(&node, "/health/ready").status, 200);
    for mut held in &crowd {
        held.set_nonblocking(true).unwrap();
        let read = std::io::Read::read(&mut held, &mut [0]);
        assert_eq!(read.unwrap_err().kind(), std::io::ErrorKind::WouldBlock, "it is still there");
    }
    // Whoever wants more waits until there is a place.
    let asking = std::thread::scope(|scope| {
        let asking = scope.spawn(|| get(&node, "/v1/stats").status);
        drop(crowd);
        asking.join().unwrap()
    });
    assert_eq!(asking, 200);
}

/// Changes a byte of [`NEEDLE`] in whichever table below `folder` holds it.
fn damage(folder: &Path) {
    let mut count = 0;
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        let mut bytes = std::fs::read(&path).unwrap();
        let place = bytes.windows(NEEDLE.len()).position(|found| found == NEEDLE.as_bytes());
        if let Some(place) = place {
            bytes[place] ^= 1;
            std::fs::write(&path, bytes).unwrap();
            count += 1;
        }
    }
    assert_eq!(count, 1, "tables with the needle");
}
