//! Requests that ask too much, are cut off, or are no requests: a typed answer, and the node goes on.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod shell;

use shell::{Answered, Place, Served, answer_of, exchange, start_in};
use std::io::{Read, Write};
use std::net::{Shutdown, TcpStream};
use std::time::{Duration, Instant};

const RECORDS: &str = "/v1/keyspaces/default/records";

/// A request with a body of a length that it says.
fn request(method: &str, path: &str, headers: &str, body: &[u8]) -> Vec<u8> {
    let len = body.len();
    let head = format!(
        "{method} {path} HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\ncontent-length: {len}\r\n{headers}\r\n"
    );
    [head.as_bytes(), body].concat()
}

/// A node with one record, which every test looks at in the end.
struct Target {
    node: Served,
    _place: Place,
}

impl Target {
    fn new() -> Target {
        let place = Place::new();
        let node = Served::start(&place.path("data"));
        node.run("put ada 1815").ok();
        Target { node, _place: place }
    }

    fn ask(&self, method: &str, path: &str, headers: &str, body: &[u8]) -> Answered {
        exchange(&self.node.http, &request(method, path, headers, body))
    }

    /// Asserts that a request without a body is refused.
    #[track_caller]
    fn refuses(&self, method: &str, path: &str, status: u16, code: &str) -> serde_json::Value {
        self.refuses_with(method, path, "", b"", status, code)
    }

    #[track_caller]
    fn refuses_with(
        &self,
        method: &str,
        path: &str,
        headers: &str,
        body: &[u8],
        status: u16,
        code: &str,
    ) -> serde_json::Value {
        let answer = self.ask(method, path, headers, body);
        assert_eq!(answer.status, status, "{}", String::from_utf8_lossy(&answer.body));
        let failure = answer.json();
        assert_eq!(failure["code"], code, "{failure}");
        for field in ["category", "message", "action"] {
            assert!(failure[field].as_str().is_some_and(|text| !text.is_empty()), "{failure}");
        }
        failure
    }

    /// The node is there, well, and holds what it held.
    #[track_caller]
    fn assert_unharmed(self) {
        assert_eq!(self.node.run("scan").ok().text(), "ada\t1815\n");
        assert_eq!(self.ask("GET", "/health", "", b"").status, 200);
        assert_eq!(self.node.stop(), (Some(0), String::new()));
    }
}

#[test]
fn urls_that_mean_nothing_are_refused_by_name() {
    let target = Target::new();
    target.refuses("GET", "/nobody", 404, "UnknownPath");
    target.refuses("GET", "/v2/keyspaces", 404, "UnknownPath");
    target.refuses("GET", &format!("{RECORDS}/"), 404, "UnknownPath");
    target.refuses("GET", &format!("{RECORDS}/a/b"), 404, "UnknownPath");
    target.refuses("POST", &format!("{RECORDS}/a"), 405, "UnknownMethod");
    target.refuses("DELETE", "/health", 405, "UnknownMethod");
    target.refuses("GET", &format!("{RECORDS}/%4"), 400, "InvalidInput");
    target.refuses("GET", &format!("{RECORDS}/%zz"), 400, "InvalidInput");
    target.refuses("GET", &format!("{RECORDS}/nobody"), 404, "NotFound");
    target.refuses("GET", &format!("{RECORDS}?limit=many"), 400, "InvalidInput");
    target.refuses("GET", &format!("{RECORDS}?limit=1&limit=2"), 400, "InvalidInput");
    target.refuses("GET", &format!("{RECORDS}?stop=a"), 400, "InvalidInput");
    target.refuses("GET", &format!("{RECORDS}?start=b&end=a"), 400, "InvalidInput");
    target.refuses("GET", "/v1/digest?keyspace=a", 400, "InvalidInput");
    target.refuses("POST", "/v1/peers/ada/enable", 404, "PeerNotFound");
    target.refuses("POST", "/v1/peers/ada/marry", 404, "UnknownPath");
    target.refuses_with("POST", "/v1/peers", "", b"{\"peer\":1}", 400, "InvalidInput");
    target.refuses_with("POST", "/v1/peers", "", &[b' '; 5000], 413, "InvalidInput");
    target.assert_unharmed();
}

#[test]
fn what_a_web_page_asks_is_refused() {
    let target = Target::new();
    let path = format!("{RECORDS}/ada");
    let origin = "origin: http://evil.example\r\n";
    target.refuses_with("PUT", &path, origin, b"1816", 403, "ForeignOrigin");
    target.refuses_with("POST", "/v1/load", origin, b"", 403, "ForeignOrigin");
    target.refuses_with("GET", "/nowhere", origin, b"", 403, "ForeignOrigin");
    let rebound = format!("GET {path} HTTP/1.1\r\nhost: evil.example\r\nconnection: close\r\n\r\n");
    assert_eq!(exchange(&target.node.http, rebound.as_bytes()).status, 403);
    target.assert_unharmed();
}

#[test]
fn keyspaces_that_are_not_there_or_can_not_be_are_refused() {
    let target = Target::new();
    let long = "n".repeat(256);
    for (name, status, code) in [
        ("nobody", 404, "KeyspaceNotFound"),
        ("%0A", 400, "InvalidInput"),
        ("%ff", 400, "InvalidInput"),
        (long.as_str(), 400, "InvalidInput"),
    ] {
        for path in ["records", "records/k", "digest"] {
            target.refuses("GET", &format!("/v1/keyspaces/{name}/{path}"), status, code);
        }
        if status == 400 {
            target.refuses("PUT", &format!("/v1/keyspaces/{name}/records/k"), 400, code);
            target.refuses("POST", &format!("/v1/load?keyspace={name}"), 400, code);
        }
    }
    target.assert_unharmed();
}

#[test]
fn keys_that_are_too_long_or_not_base64_are_refused() {
    let target = Target::new();
    let path = "/v1/keyspaces/default/record";
    target.refuses("GET", path, 400, "InvalidInput");
    for header in ["Y", "!", "", "YQ", "YQ==YQ=="] {
        let header = format!("esker-key: {header}\r\n");
        target.refuses_with("PUT", path, &header, b"v", 400, "InvalidInput");
    }
    let header = format!("esker-key: {}\r\n", "A".repeat(87_384));
    let failure = target.refuses_with("PUT", path, &header, b"v", 400, "InvalidInput");
    assert!(failure["message"].as_str().unwrap().contains("65535"), "{failure}");
    let header = format!("esker-key: {}\r\n", "A".repeat(100_000));
    target.refuses_with("GET", path, &header, b"", 400, "InvalidInput");
    // Longer than any URL or head may be: the library under it answers, without words.
    let url = target.ask("GET", &format!("{RECORDS}/{}", "k".repeat(70_000)), "", b"");
    assert_eq!(url.status, 414);
    let head = target.ask("GET", path, &format!("esker-key: {}\r\n", "A".repeat(1 << 20)), b"");
    assert_eq!(head.status, 431);
    let many = target.ask("GET", path, &"a: b\r\n".repeat(5000), b"");
    assert_eq!(many.status, 431);
    target.assert_unharmed();
}

#[test]
fn a_value_that_is_too_large_is_refused_before_it_is_read() {
    let target = Target::new();
    let path = format!("{RECORDS}/ada");
    for len in ["33554433", "99999999999", "9223372036854775807"] {
        let head =
            format!("PUT {path} HTTP/1.1\r\nhost: localhost\r\ncontent-length: {len}\r\n\r\n");
        let answer = exchange(&target.node.http, head.as_bytes());
        assert_eq!(answer.status, 413);
        assert!(answer.json()["message"].as_str().unwrap().contains("33554432"));
    }
    // One that does not say how long it is, is read up to the limit.
    let head =
        format!("PUT {path} HTTP/1.1\r\nhost: localhost\r\ntransfer-encoding: chunked\r\n\r\n");
    let part = [b"100000\r\n".as_slice(), &vec![b'x'; 1 << 20], b"\r\n"].concat();
    let body = [head.as_bytes(), &part.repeat(33), b"0\r\n\r\n"].concat();
    assert_eq!(exchange(&target.node.http, &body).status, 413);
    target.assert_unharmed();
}

#[test]
fn lengths_that_contradict_themselves_are_refused() {
    let target = Target::new();
    let path = format!("{RECORDS}/ada");
    for headers in [
        "content-length: 1\r\ncontent-length: 2\r\n",
        "content-length: -1\r\n",
        "content-length: many\r\n",
        "content-length: 18446744073709551615\r\n",
        "content-length: 18446744073709551616\r\n",
    ] {
        let bytes = format!("PUT {path} HTTP/1.1\r\nhost: localhost\r\n{headers}\r\nvv");
        let status = exchange(&target.node.http, bytes.as_bytes()).status;
        assert!(matches!(status, 400 | 431), "{headers}: {status}");
    }
    // A part of a body whose length is no number.
    let head =
        format!("PUT {path} HTTP/1.1\r\nhost: localhost\r\ntransfer-encoding: chunked\r\n\r\n");
    let answer = exchange(&target.node.http, (head + "zz\r\nvv\r\n0\r\n\r\n").as_bytes());
    assert_eq!(answer.status, 400);
    target.assert_unharmed();
}

#[test]
fn a_body_that_is_cut_off_is_not_stored() {
    let target = Target::new();
    for (path, body) in [
        (format!("{RECORDS}/ada"), "half a va"),
        ("/v1/load".to_owned(), "{\"key\":\"b\",\"value\":\"1\"}\n{\"key\":\"c\",\"value\":\"2\"}"),
    ] {
        let method = if path.ends_with("load") { "POST" } else { "PUT" };
        for framing in ["content-length: 1000", "transfer-encoding: chunked"] {
            let body = match framing.starts_with('t') {
                true => format!("{:x}\r\n{body}\r\n", body.len()),
                false => body.to_owned(),
            };
            let head =
                format!("{method} {path} HTTP/1.1\r\nhost: localhost\r\n{framing}\r\n\r\n{body}");
            let mut stream = TcpStream::connect(&target.node.http).unwrap();
            stream.write_all(head.as_bytes()).unwrap();
            stream.shutdown(Shutdown::Write).unwrap();
            let mut answer = Vec::new();
            // Whether it is told that the body was cut off depends on how fast it left.
            let _ = stream.read_to_end(&mut answer);
            if !answer.is_empty() {
                assert_eq!(answer_of(&answer).status, 400);
            }
        }
    }
    target.assert_unharmed();
}

#[test]
fn a_bad_line_ends_a_load_with_its_number_and_stores_nothing_of_its_batch() {
    let target = Target::new();
    let good = "{\"key\":\"ada\",\"value\":\"1815\"}\n";
    for bad in ["nonsense", "{\"key\":\"b\"}", "{\"key_b64\":\"Y\",\"value\":\"\"}", "[]", "\u{0}"]
    {
        let body = format!("{good}\n{{\"key\":\"zoe\",\"value\":\"1\"}}\n{bad}\n{good}");
        let failure =
            target.refuses_with("POST", "/v1/load?batch=1000", "", body.as_bytes(), 400, "BadLine");
        assert_eq!(failure["line"], 4, "{failure}");
        let failure = target.refuses_with(
            "POST",
            "/v1/load",
            "",
            &body.as_bytes()[good.len()..],
            400,
            "BadLine",
        );
        assert_eq!(failure["line"], 3, "{failure}");
    }
    let body = format!("{good}nonsense\n{good}");
    let answer = target.ask("POST", "/v1/load?skip_bad&batch=1", "", body.as_bytes());
    assert_eq!(answer.status, 200);
    assert_eq!(answer.json(), serde_json::json!({ "loaded": 2, "batches": 2, "skipped": 1 }));
    for bad in ["batch=0", "batch=-1", "sync=never", "skip_bad=2", "key=a"] {
        target.refuses_with("POST", &format!("/v1/load?{bad}"), "", b"", 400, "InvalidInput");
    }
    target.assert_unharmed();
}

#[test]
fn a_line_longer_than_any_record_is_passed_over_without_being_kept() {
    let target = Target::new();
    let mut body = vec![b'x'; 50 << 20];
    body.extend_from_slice(b"\n{\"key\":\"ada\",\"value\":\"1815\"}\n");
    let answer = target.ask("POST", "/v1/load?skip_bad", "", &body);
    assert_eq!(answer.json(), serde_json::json!({ "loaded": 1, "batches": 1, "skipped": 1 }));
    target.assert_unharmed();
}

#[test]
fn what_is_no_http_is_answered_or_dropped() {
    let target = Target::new();
    for bytes in [
        b"\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\r\n\r\n".as_slice(),
        b"GET\r\n\r\n",
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03 hello TLS\r\n\r\n",
        b"get / HTTP/9.9\r\n\r\n",
        &[b'A'; 300_000],
    ] {
        let mut stream = TcpStream::connect(&target.node.http).unwrap();
        // It may be gone before all is written.
        let _ = stream.write_all(bytes);
        let mut answer = Vec::new();
        let _ = stream.read_to_end(&mut answer);
        if !answer.is_empty() {
            assert!((400..500).contains(&answer_of(&answer).status));
        }
    }
    target.assert_unharmed();
}

#[test]
fn clients_that_stand_still_hold_nobody_up_and_are_sent_away() {
    let target = Target::new();
    let path = format!("{RECORDS}/ada");
    let started = Instant::now();
    let silent: Vec<TcpStream> =
        (0..50).map(|_| TcpStream::connect(&target.node.http).unwrap()).collect();
    let mut slow = TcpStream::connect(&target.node.http).unwrap();
    write!(slow, "PUT {path} HTTP/1.1\r\nhost: localhost\r\ncontent-length: 10\r\n\r\nhalf")
        .unwrap();
    let mut slow_load = TcpStream::connect(&target.node.http).unwrap();
    write!(
        slow_load,
        "POST /v1/load HTTP/1.1\r\nhost: localhost\r\ncontent-length: 90\r\n\r\n{{\"k"
    )
    .unwrap();
    let mut head = TcpStream::connect(&target.node.http).unwrap();
    write!(head, "GET {path} HT").unwrap();
    // Others do not wait for them.
    target.node.run("get ada").ok();
    assert_eq!(target.ask("GET", "/health", "", b"").status, 200);

    for stream in [&mut slow, &mut slow_load] {
        let mut answer = Vec::new();
        stream.set_read_timeout(Some(Duration::from_secs(60))).unwrap();
        stream.read_to_end(&mut answer).unwrap();
        let answer = answer_of(&answer);
        assert_eq!((answer.status, &answer.json()["code"]), (408, &"TooSlow".into()));
    }
    for mut stream in silent.into_iter().chain([head]) {
        stream.set_read_timeout(Some(Duration::from_secs(60))).unwrap();
        // The end, or an answer and then the end, or a reset: but an end.
        let ended = stream.read_to_end(&mut Vec::new());
        let is_waiting = ended.is_err_and(|e| e.kind() == std::io::ErrorKind::WouldBlock);
        assert!(!is_waiting, "still there after {:?}", started.elapsed());
    }
    target.assert_unharmed();
}

/// It never stands still for as long as it may; but at this rate nobody would see its end.
#[test]
fn a_body_that_trickles_is_sent_away_before_its_end() {
    let place = Place::new();
    let path = place.path("data").display().to_string();
    let words = ["serve", "--path", &path, "--http", "127.0.0.1:0"].map(str::to_owned);
    let node = Served::of(start_in(words, &[("ESKER_TIMEOUTS_HTTP_BODY_MS", "1000")]));
    node.run("put ada 1815").ok();
    for request in [format!("PUT {RECORDS}/ada"), "POST /v1/load".to_owned()] {
        let mut stream = TcpStream::connect(&node.http).unwrap();
        write!(stream, "{request} HTTP/1.1\r\nhost: localhost\r\ncontent-length: 1000\r\n\r\n")
            .unwrap();
        stream.set_read_timeout(Some(Duration::from_millis(100))).unwrap();
        let mut begun = [0];
        // Of a thousand bytes; a tenth of a second each.
        let is_answered = (0..300).any(|_| {
            let _ = stream.write_all(b" ");
            stream.read(&mut begun).is_ok_and(|len| len > 0)
        });
        assert!(is_answered, "{request} may go on for ever");
        let mut answer = begun.to_vec();
        let _ = stream.read_to_end(&mut answer);
        let answer = answer_of(&answer);
        assert_eq!((answer.status, &answer.json()["code"]), (408, &"TooSlow".into()), "{request}");
    }
    assert_eq!(node.run("scan").ok().text(), "ada\t1815\n");
    assert_eq!(node.stop(), (Some(0), String::new()));
}

#[test]
fn more_connections_than_there_is_room_for_wait_their_turn() {
    let target = Target::new();
    let crowd: Vec<TcpStream> =
        (0..300).map(|_| TcpStream::connect(&target.node.http).unwrap()).collect();
    // Answered once the silent ones have been sent away.
    assert_eq!(target.ask("GET", "/health", "", b"").status, 200);
    drop(crowd);
    target.assert_unharmed();
}

#[test]
fn a_reader_that_takes_nothing_costs_no_thread() {
    let target = Target::new();
    let value = "v".repeat(100_000);
    let lines: String = (0..100).map(|n| format!("k{n:03}\t{value}\n")).collect();
    target.node.run_with("load --keyspace big --format tsv -", lines.as_bytes()).ok();
    let stalled: Vec<TcpStream> = (0..64)
        .map(|_| {
            let mut stream = TcpStream::connect(&target.node.http).unwrap();
            let path = "/v1/keyspaces/big/records";
            write!(stream, "GET {path} HTTP/1.1\r\nhost: localhost\r\n\r\n").unwrap();
            stream
        })
        .collect();
    for number in 0..20 {
        target.node.run(&format!("put --keyspace other k{number} v")).ok();
    }
    assert_eq!(target.ask("GET", "/health", "", b"").status, 200);
    drop(stalled);
    target.assert_unharmed();
}
