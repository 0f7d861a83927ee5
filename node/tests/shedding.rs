//! Writes that are refused because more work is owed than is done.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod shell;

use shell::{Answered, Place, Served, answer_of, start};
use std::io::{ErrorKind, Read, Write};
use std::net::TcpStream;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

/// A node whose memtables are small, and that refuses writes as soon as anything is owed for a second.
fn hasty(place: &Place) -> Served {
    let (file, data) = (place.path("node.toml"), place.path("data"));
    let text = format!(
        "path = {data:?}\nhttp = '127.0.0.1:0'\n[engine]\nsync = 'async'\nmemory_bytes = '16 MiB'\n\
         memtable_bytes = '1 MiB'\n[remedies]\nshed_percent = 1\nshed_per_hour = 3600\n",
    );
    std::fs::write(&file, text).unwrap();
    Served::of(start(["serve", "--config", file.to_str().unwrap()]))
}

/// The sample `name` of what `node` shows to Prometheus.
fn sample(node: &Served, name: &str) -> f64 {
    let text = node.ask("GET", "/metrics", &[], "").is(200, "").body;
    let text = String::from_utf8(text).unwrap();
    let found = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
    found.unwrap().parse().unwrap()
}

/// Sends lines to `node`, a commit each with a key that begins with `name`, until it answers or `is_over`. Its answer
/// and how many were sent; none if the connection ended with a line under way, and took the answer along.
fn load(node: &Served, name: &str, is_over: impl Fn() -> bool) -> Option<(Answered, u64)> {
    let mut stream = TcpStream::connect(&node.http).unwrap();
    let head = "POST /v1/load?batch=1 HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\
                transfer-encoding: chunked\r\n\r\n";
    stream.write_all(head.as_bytes()).unwrap();
    stream.set_read_timeout(Some(Duration::from_millis(50))).unwrap();
    let (mut answer, mut part, mut sent) = (Vec::new(), [0; 1024], 0);
    loop {
        match stream.read(&mut part) {
            Ok(len) => {
                answer.extend(&part[..len]);
                break;
            }
            Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => {}
            Err(_) => return None,
        }
        if is_over() {
            stream.write_all(b"0\r\n\r\n").ok()?;
            break;
        }
        let line = format!("{{\"key\":\"{name}-{sent:06}\",\"value\":\"{}\"}}\n", "v".repeat(200));
        write!(stream, "{:x}\r\n{line}\r\n", line.len()).ok()?;
        sent += 1;
    }
    stream.set_read_timeout(None).unwrap();
    stream.read_to_end(&mut answer).ok()?;
    Some((answer_of(&answer), sent))
}

/// What was asked before may not be right any more: a load that has begun is refused as well, and says how far it came.
#[test]
fn writes_and_loads_are_refused_while_too_much_is_owed() {
    let place = Place::new();
    let node = hasty(&place);
    let (value, are_done) = ("x".repeat(900 << 10), AtomicBool::new(false));
    let refused = AtomicBool::new(false);
    let (name, answer, sent) = std::thread::scope(|scope| {
        for writer in 0..3 {
            let (node, value, are_done, refused) = (&node, &value, &are_done, &refused);
            scope.spawn(move || {
                for key in 0u64.. {
                    let path = format!("/v1/keyspaces/default/records/{writer}-{}", key % 20);
                    let answer = node.ask("PUT", &path, &[], value);
                    if answer.status != 200 {
                        answer.is(503, "Overloaded");
                        refused.store(true, Ordering::Relaxed);
                    }
                    if are_done.load(Ordering::Relaxed) {
                        return;
                    }
                }
            });
        }
        // Also if this thread fails.
        let _end = Done(&are_done);
        // A load that is let through goes on until writes were refused many times.
        let is_over = || sample(&node, "esker_requests_shed_total") > 2000.0;
        let mut loads = (0..20).map(|n| format!("load{n:02}"));
        let found = loads.find_map(|name| load(&node, &name, is_over).map(|(a, n)| (name, a, n)));
        found.unwrap()
    });
    let failure = answer.is(503, "Overloaded").json();
    assert!(refused.load(Ordering::Relaxed));
    assert!(sample(&node, "esker_requests_shed_total") > 1.0);
    assert!(sample(&node, "esker_remedies_taken_total{remedy=\"shed\"}") >= 1.0);
    // All that it says is there, and nothing behind that.
    let stored: u64 = failure["metadata"]["stored"].as_str().unwrap().parse().unwrap();
    assert!(stored <= sent, "{stored} of {sent}");
    let path = format!("/v1/keyspaces/default/records?prefix={name}-&keys_only=true");
    let found = node.ask("GET", &path, &[], "").is(200, "").body;
    assert_eq!(found.iter().filter(|byte| **byte == b'\n').count() as u64, stored);
    assert_eq!(node.stop().0, Some(0));
}

struct Done<'a>(&'a AtomicBool);

impl Drop for Done<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}
