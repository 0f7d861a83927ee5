//! How a node ends: what runs may finish, what would never finish is cut off, the directory is closed.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod shell;

use shell::group::until;
use shell::{Place, Served, answer_of};
use std::io::{Read, Write};
use std::net::TcpStream;

/// Waits until nothing listens at `address` any more.
fn wait_until_deaf(address: &str) {
    until("it accepts no more", || TcpStream::connect(address).is_err());
}

#[test]
fn a_request_under_way_is_finished_while_new_ones_are_refused() {
    let place = Place::new();
    let node = Served::start(&place.path("data"));
    let mut put = TcpStream::connect(&node.http).unwrap();
    let path = "/v1/keyspaces/default/records/ada";
    write!(put, "PUT {path} HTTP/1.1\r\nhost: localhost\r\ncontent-length: 8\r\n\r\nhalf").unwrap();
    let mut load = TcpStream::connect(&node.http).unwrap();
    let line = "{\"key\":\"b\",\"value\":\"2\"}\n";
    let len = line.len() * 2;
    write!(
        load,
        "POST /v1/load HTTP/1.1\r\nhost: localhost\r\ncontent-length: {len}\r\n\r\n{line}"
    )
    .unwrap();
    let mut idle = TcpStream::connect(&node.http).unwrap();
    // Answered after the two before it were accepted.
    assert_eq!(node.run("get nobody").code, Some(3));

    node.terminate();
    wait_until_deaf(&node.http);
    write!(put, "half").unwrap();
    write!(load, "{line}").unwrap();
    for stream in [&mut put, &mut load] {
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer).unwrap();
        assert_eq!(answer_of(&answer).status, 200);
    }
    // Nothing was under way here.
    let _ = idle.read_to_end(&mut Vec::new());
    assert_eq!(node.wait(), (Some(0), String::new()));
    assert_eq!(place.run("scan").ok().text(), "ada\thalfhalf\nb\t2\n");
}

#[test]
fn a_second_signal_cuts_off_what_would_not_finish() {
    let place = Place::new();
    let mut node = Served::start(&place.path("data"));
    node.drain_for_an_hour();
    let value = "v".repeat(100_000);
    let lines: String = (0..300).map(|n| format!("k{n:03}\t{value}\n")).collect();
    node.run_with("load --format tsv -", lines.as_bytes()).ok();
    let mut scan = TcpStream::connect(&node.http).unwrap();
    write!(scan, "GET /v1/keyspaces/default/records HTTP/1.1\r\nhost: localhost\r\n\r\n").unwrap();
    let mut start = [0; 12];
    scan.read_exact(&mut start).unwrap();
    assert_eq!(&start, b"HTTP/1.1 200");

    node.terminate();
    wait_until_deaf(&node.http);
    node.terminate();
    until("it has ended", || node.has_ended());
    assert_eq!(node.wait(), (Some(0), String::new()));
    let mut rest = Vec::new();
    // The end, or a reset: either way not the end that a whole answer has.
    let _ = scan.read_to_end(&mut rest);
    let is_whole = rest.ends_with(b"\r\n0\r\n\r\n");
    let says_why =
        String::from_utf8_lossy(&rest[rest.len().saturating_sub(500)..]).contains("ShuttingDown");
    assert!(!is_whole || says_why, "a cut answer looks whole");
    assert!(rest.len() < lines.len());
    assert_eq!(place.run("keyspaces").ok().text(), "default\t300\t30001200\n");
}

#[test]
fn a_node_without_requests_ends_at_either_signal_and_starts_again() {
    let place = Place::new();
    for signal in [rustix::process::Signal::TERM, rustix::process::Signal::INT] {
        let node = Served::start(&place.path("data"));
        let idle = TcpStream::connect(&node.http).unwrap();
        node.run("put k v").ok();
        node.signal(signal);
        assert_eq!(node.wait(), (Some(0), String::new()));
        drop(idle);
        assert_eq!(place.run("get k").ok().text(), "v\n");
        place.run("check --level paranoid").ok();
    }
}
