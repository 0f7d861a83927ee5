//! What those ask who start, stop and watch nodes.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod shell;

use shell::{Answered, Place, Served, esker, exchange, start_in};
use std::io::{Read, Write};
use std::net::TcpStream;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

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
        std::thread::sleep(Duration::from_millis(100));
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
    let all = [
        "backups",
        "clock",
        "compaction",
        "cpu",
        "disk",
        "engine",
        "log_sync",
        "memory",
        "replication",
        "writes",
    ];
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

/// The damage is behind the first piece of a scan, which is made apart from the others.
#[test]
fn a_line_that_is_written_while_a_user_is_served_says_what_with() {
    let line = |format: &str, path: &str| {
        let place = Place::new();
        let long = "x".repeat(4000);
        let before: Vec<String> = (0..60).map(|n| format!("k{n:02}")).collect();
        let mut records: Vec<(&str, &str)> = before.iter().map(|key| (&**key, &*long)).collect();
        records.push(("z", NEEDLE));
        place.fill(&records);
        place.run("flush").ok();
        damage(&place.path("data/tables"));
        let data = place.path("data");
        let serve = ["serve", "--http", "127.0.0.1:0", "--path", data.to_str().unwrap()];
        let node = Served::of(start_in(serve, &[("ESKER_LOG_FORMAT", format)]));
        let said = String::from_utf8(get(&node, path).body).unwrap();
        assert!(said.contains("TableCorrupt"), "{said}");
        let (_, log) = node.stop();
        let found = log.lines().find(|line| line.contains("a file of the database is damaged"));
        found.unwrap_or_else(|| unreachable!("{log}")).to_owned()
    };
    let got = line("json", "/v1/keyspaces/default/records/z");
    let got: serde_json::Value = serde_json::from_str(&got).unwrap();
    assert_eq!((&got["operation"], &got["component"]), (&"get".into(), &"engine".into()));
    let scanned = line("text", "/v1/keyspaces/default/records");
    assert!(scanned.ends_with(" operation=\"scan\""), "{scanned}");
}

#[test]
fn a_backup_that_fails_is_found() {
    let place = Place::new();
    let (file, to) = (place.path("node.toml"), place.path("no-directory"));
    std::fs::write(&to, "this is a file").unwrap();
    let text = format!("[backup]\nto = {to:?}\n[health]\nevery_ms = 200\n");
    std::fs::write(&file, text).unwrap();
    let node = Served::start_with(&place.path("data"), &["--config", file.to_str().unwrap()]);
    let post = b"POST /v1/backup HTTP/1.1\r\nhost: localhost\r\ncontent-length: 0\r\n\
                 connection: close\r\n\r\n";
    assert!(exchange(&node.http, post).status >= 500);
    let (status, found) =
        details(&node, |found| found["checks"]["backups"]["status"] == "degraded");
    assert_eq!(status, 200, "{found}");
    let failures = &found["checks"]["backups"]["details"]["failures_in_a_row"];
    assert!(failures.as_f64().unwrap() >= 1.0, "{found}");
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

/// A node that waits long for the heads and bodies of requests.
fn patient(place: &Place) -> Served {
    let file = place.path("node.toml");
    std::fs::write(&file, "[timeouts]\nhttp_head_ms = 600000\nhttp_body_ms = 600000\n").unwrap();
    Served::start_with(&place.path("data"), &["--config", file.to_str().unwrap()])
}

/// Sends a request and leaves the answer to be read.
fn ask(node: &Served, path: &str) -> TcpStream {
    let mut stream = TcpStream::connect(&node.http).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(60))).unwrap();
    write!(stream, "GET {path} HTTP/1.1\r\nhost: localhost\r\n\r\n").unwrap();
    stream
}

/// A connection whose request is being answered: the node waits for eight bytes of it.
fn busy(node: &Served, key: usize) -> TcpStream {
    let mut stream = TcpStream::connect(&node.http).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(60))).unwrap();
    let path = format!("/v1/keyspaces/default/records/{key}");
    write!(
        stream,
        "PUT {path} HTTP/1.1\r\nhost: localhost\r\nexpect: 100-continue\r\ncontent-length: 8\r\n\r\n"
    )
    .unwrap();
    assert!(head_of(&mut stream).starts_with("http/1.1 100 "));
    stream
}

/// The head of an answer; nothing behind it is read.
fn head_of(stream: &mut TcpStream) -> String {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        let mut byte = [0];
        stream.read_exact(&mut byte).unwrap();
        head.push(byte[0]);
    }
    String::from_utf8(head).unwrap().to_lowercase()
}

/// Asks once on a connection that stays, and reads all of the answer. Returns its head.
fn ask_again(stream: &mut TcpStream) -> String {
    write!(stream, "GET /v1/stats HTTP/1.1\r\nhost: localhost\r\n\r\n").unwrap();
    let head = head_of(stream);
    let len = head.lines().find_map(|line| line.strip_prefix("content-length: ")).unwrap();
    stream.read_exact(&mut vec![0; len.parse().unwrap()]).unwrap();
    head
}

/// Whether the node has neither said anything nor closed the connection.
fn is_still_there(mut stream: &TcpStream) -> bool {
    stream.set_nonblocking(true).unwrap();
    let read = stream.read(&mut [0]);
    stream.set_nonblocking(false).unwrap();
    read.is_err_and(|error| error.kind() == std::io::ErrorKind::WouldBlock)
}

/// All that comes until the node closes the connection.
fn rest(mut stream: TcpStream) -> String {
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    answer
}

#[test]
fn probes_are_answered_while_four_hundred_others_hold_all_places_and_ask_for_more() {
    let place = Place::new();
    let node = patient(&place);
    let mut crowd: Vec<_> = (0..256).map(|key| busy(&node, key)).collect();
    let asking: Vec<_> = (0..144).map(|_| ask(&node, "/v1/stats")).collect();
    for path in ["/health/live", "/health/ready", "/health"] {
        assert_eq!(get(&node, path).status, 200, "{path}");
    }
    assert!(crowd.iter().all(is_still_there));
    // Some wait until there is a place; to others the node says that it has too much to do.
    let is_answered = |stream: &TcpStream| {
        stream.set_nonblocking(true).unwrap();
        let is_there = stream.peek(&mut [0]).is_ok();
        stream.set_nonblocking(false).unwrap();
        is_there
    };
    for _ in 0..600 {
        if asking.iter().filter(|stream| is_answered(stream)).count() >= 112 {
            break;
        }
        std::thread::sleep(Duration::from_millis(100));
    }
    let (refused, waiting): (Vec<_>, Vec<_>) = asking.into_iter().partition(is_answered);
    assert_eq!((refused.len(), waiting.len()), (112, 32));
    for stream in refused {
        let answer = rest(stream);
        assert!(answer.starts_with("HTTP/1.1 503 "), "{answer}");
        assert!(answer.contains("Overloaded") && answer.contains("connection: close"), "{answer}");
    }
    // Once it is answered it would be silent, so its place is for whoever waits.
    let mut done = crowd.pop().unwrap();
    write!(done, "12345678").unwrap();
    assert!(rest(done).starts_with("HTTP/1.1 200 "));
    assert!(crowd.iter().all(is_still_there));
    drop(crowd);
    for stream in waiting {
        let answer = rest(stream);
        assert!(answer.starts_with("HTTP/1.1 200 ") && answer.contains("connection: close"));
    }
    let answer = ask(&node, "/v1/stats");
    answer.peek(&mut [0]).unwrap();
}

/// As many as there are places, which say nothing for as long as they may: each that comes takes the place of the
/// one that has been silent for longest, and is no guest.
#[test]
fn who_says_nothing_gives_way_to_whoever_comes() {
    let place = Place::new();
    let node = patient(&place);
    let connect = || {
        let stream = TcpStream::connect(&node.http).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(60))).unwrap();
        stream
    };
    let mut idle = connect();
    ask_again(&mut idle);
    let mut slow = connect();
    write!(slow, "GET /v1/stats HT").unwrap();
    let working = busy(&node, 0);
    // A client has its answer a little before its connection counts as silent.
    std::thread::sleep(Duration::from_millis(500));
    let silent: Vec<_> = (0..253).map(|_| connect()).collect();

    let mut first = connect();
    let head = ask_again(&mut first);
    assert!(head.starts_with("http/1.1 200 ") && !head.contains("connection: close"), "{head}");
    let mut second = connect();
    ask_again(&mut second);
    assert_eq!((rest(idle), rest(slow)), (String::new(), String::new()));
    assert!(silent.iter().all(is_still_there));
    // They have said something since, and stay as long as others have been silent for longer.
    let next: Vec<_> = (0..253).map(|_| connect()).collect();
    for stream in silent {
        assert_eq!(rest(stream), "");
    }
    ask_again(&mut first);
    ask_again(&mut second);
    assert!(next.iter().all(is_still_there));
    assert!(is_still_there(&working), "what is being answered stays in any case");
    let mut working = working;
    write!(working, "12345678").unwrap();
    assert!(head_of(&mut working).starts_with("http/1.1 200 "));
}

/// Who has no place and says nothing does not keep others out.
#[test]
fn a_guest_that_is_silent_has_to_go() {
    let place = Place::new();
    let node = patient(&place);
    let crowd: Vec<_> = (0..256).map(|key| busy(&node, key)).collect();
    let guests: Vec<_> = (0..300).map(|_| TcpStream::connect(&node.http).unwrap()).collect();
    // Beyond what is accepted it waits until silent guests have gone.
    assert_eq!(get(&node, "/health/live").status, 200);
    for guest in guests {
        guest.set_read_timeout(Some(Duration::from_secs(60))).unwrap();
        rest(guest);
    }
    drop(crowd);
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
