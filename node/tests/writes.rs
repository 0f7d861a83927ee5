//! Where the writes of users are taken, whichever way they come.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod shell;

use shell::group::{Home, until};
use shell::{Place, Served, answer_of};
use std::io::{Read, Write};
use std::net::TcpStream;

/// A writer that has `k`, and a replica of it with a keyspace of its own.
fn writer_and_replica(place: &Place) -> (Served, Served) {
    let [a, r] = ["a", "r"].map(|name| Home::new(place, name));
    let writer = a.start(&[&r]);
    let replica = r.start_with(&[&a], &["--role", "replica", "--local", "cache"]);
    writer.run("put k 1").ok();
    until("the replica has it", || replica.run("get k").text() == "1\n");
    (writer, replica)
}

#[test]
fn a_replica_loads_into_its_own_keyspaces_and_into_no_other_by_the_name_in_a_line() {
    let place = Place::new();
    let (_writer, replica) = writer_and_replica(&place);
    let load = |lines: &str| replica.ask("POST", "/v1/load?keyspace=cache", &[], lines);
    load("{\"key\":\"a\",\"value\":\"1\"}\n").is(200, "");
    for keyspace in ["default", "new"] {
        let line = format!("{{\"keyspace\":{keyspace:?},\"key\":\"b\",\"value\":\"1\"}}\n");
        load(&line).is(403, "ReadOnly");
        load(&format!("{{\"key\":\"c\",\"value\":\"1\"}}\n{line}")).is(403, "ReadOnly");
        assert_eq!(replica.run(&format!("get --keyspace {keyspace} b")).code, Some(3));
    }
    let names = replica.run("keyspaces").ok().text().to_owned();
    assert!(!names.contains("new"), "{names}");
    assert_eq!(replica.run("scan --keyspace cache").ok().text(), "a\t1\n", "all or nothing");
}

#[test]
fn a_replica_takes_a_batch_for_its_own_keyspaces_and_none_that_touches_another() {
    let place = Place::new();
    let (_writer, replica) = writer_and_replica(&place);
    let of = |keyspace: &str| {
        format!("{{\"op\":\"put\",\"keyspace\":{keyspace:?},\"key\":\"a\",\"value\":\"1\"}}\n")
    };
    let batch = |lines: &str| replica.ask("POST", "/v1/batch", &[], lines);
    batch(&of("cache")).is(200, "");
    batch(&(of("cache") + &of("default"))).is(403, "ReadOnly");
    batch(&of("new")).is(403, "ReadOnly");
    batch("{\"op\":\"delete\",\"key\":\"k\"}").is(403, "ReadOnly");
    assert_eq!(replica.run("get k").ok().text(), "1\n");
    assert_eq!(replica.run("get --keyspace cache a").ok().text(), "1\n");
}

#[test]
fn a_load_ends_at_the_next_commit_when_an_operator_stops_writes() {
    let place = Place::new();
    for mode in ["read-only", "maintenance"] {
        let node = Served::start(&place.path(mode));
        let mut stream = TcpStream::connect(&node.http).unwrap();
        let lines =
            ["a", "b"].map(|key| format!("{{\"key\":{key:?},\"value\":\"1\"}}\n").into_bytes());
        let len = lines.concat().len();
        let head = format!(
            "POST /v1/load?batch=1 HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\
             content-length: {len}\r\n\r\n"
        );
        stream.write_all(&[head.as_bytes(), &lines[0]].concat()).unwrap();
        until("the first is stored", || node.run("get a").code == Some(0));
        node.ask("POST", "/v1/mode", &[], &format!("{{\"mode\":{mode:?}}}")).is(200, "");
        stream.write_all(&lines[1]).unwrap();
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer).unwrap();
        let (status, code) =
            if mode == "read-only" { (403, "ReadOnlyMode") } else { (503, "Maintenance") };
        let failure = answer_of(&answer).is(status, code).json();
        assert!(failure["message"].as_str().unwrap().ends_with(", and 1 records are stored"));
        assert_eq!(failure["metadata"]["stored"], "1");
        node.ask("POST", "/v1/mode", &[], "{\"mode\":\"normal\"}").is(200, "");
        assert_eq!(node.run("scan").ok().text(), "a\t1\n");
    }
}

/// Each could be waiting for memory that the other has.
#[test]
fn two_batches_that_are_as_large_as_can_be_do_not_wait_for_each_other() {
    let place = Place::new();
    let node = Served::start(&place.path("data"));
    let body = |key: &str| {
        let operation = format!("{{\"op\":\"put\",\"key\":{key:?},\"value\":\"1\"}}");
        operation + &"\n".repeat(90 << 20)
    };
    std::thread::scope(|scope| {
        let ask = |key| node.ask("POST", "/v1/batch", &[], &body(key)).status;
        let both = ["a", "b"].map(|key| scope.spawn(move || ask(key)));
        for asked in both {
            assert_eq!(asked.join().unwrap(), 200);
        }
    });
    assert_eq!(node.run("scan --keys-only").ok().text(), "a\nb\n");
}
