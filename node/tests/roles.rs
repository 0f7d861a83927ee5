//! Writers, replicas and nodes that only respond, as processes.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod shell;

use shell::group::{Home, class, is_online, peer, peers, status, until, until_equal};
use shell::{Answered, Place, Served, exchange};
use std::net::UdpSocket;
use std::time::Duration;

fn get(node: &Served, path: &str, header: &str) -> Answered {
    let request =
        format!("GET {path} HTTP/1.1\r\nhost: localhost\r\n{header}connection: close\r\n\r\n");
    exchange(&node.http, request.as_bytes())
}

#[test]
fn a_replica_takes_no_writes_until_it_is_promoted_for_good() {
    let place = Place::new();
    let [a, r] = ["a", "r"].map(|name| Home::new(&place, name));
    let writer = a.start(&[&r]);
    let replica = r.start_with(&[&a], &["--role", "replica"]);
    writer.run("put k 1").ok();
    until("the replica has it", || replica.run("get k").text() == "1\n");
    until("nobody waits for the replica", || class(&writer, &r) == "untracked");
    let refused = replica.run("put k 2").fails(6, "error[ReadOnly]: ");
    assert!(refused.err.contains(&a.address()), "{}", refused.err);
    replica.run("delete k").fails(6, "error[ReadOnly]: ");
    replica.run_with("load --format tsv -", b"k\t3\n").fails(6, "error[ReadOnly]: ");
    for words in [&["invite"][..], &["track", &a.id], &["deprecate", &a.id]] {
        peers(&replica, words).fails(6, "error[ReadOnly]: ");
    }
    assert_eq!(replica.stop().0, Some(0));
    let replica = r.start_with(&[&a], &["--role", "replica"]);
    assert_eq!(status(&replica)["role"], "replica");

    writer.kill();
    peers(&replica, &["promote"]).ok();
    assert_eq!(status(&replica)["role"], "writer");
    replica.run("put k 4").ok();
    assert_eq!(replica.stop().0, Some(0));
    let promoted = r.start_with(&[&a], &["--role", "replica"]);
    assert_eq!(status(&promoted)["role"], "writer");
    promoted.run("put after-restart 1").ok();
    let writer = a.start(&[&r]);
    until("the old writer has what the new one wrote", || {
        writer.run("get after-restart").text() == "1\n" && class(&writer, &r) == "tracked"
    });
    writer.run("put both 1").ok();
    until("the new one has what the old one writes", || promoted.run("get both").code == Some(0));
    until_equal("both agree", &[&writer, &promoted]);
    assert_eq!(promoted.run("get k").ok().text(), "4\n");
}

#[test]
fn a_replica_that_is_too_far_behind_says_so() {
    let place = Place::new();
    let [a, r] = ["a", "r"].map(|name| Home::new(&place, name));
    let writer = a.start(&[&r]);
    let replica = r.start_with(&[&a], &["--role", "replica"]);
    writer.run("put k 1").ok();
    let is_ready = |node: &Served| get(node, "/health/ready", "").status == 200;
    until("the replica is ready", || is_ready(&replica));
    let health = get(&replica, "/health", "").json();
    assert_eq!(health["replica"]["isReady"], true, "{health}");
    assert_eq!(health["replica"]["lagThresholdMs"], 1000);
    let record = "/v1/keyspaces/default/records/k";
    until("it shows what is a second old", || {
        get(&replica, record, "esker-max-lag-ms: 1000\r\n").status == 200
    });
    assert!(get(&writer, "/health", "").json()["replica"].is_null());
    assert_eq!(get(&writer, record, "esker-max-lag-ms: 0\r\n").status, 200);

    writer.kill();
    until("the replica is not ready", || !is_ready(&replica));
    let health = get(&replica, "/health", "");
    assert_eq!((health.status, health.json()["status"].as_str()), (200, Some("degraded")));
    assert_eq!(health.json()["replica"]["isReady"], false);
    let refused = get(&replica, record, "esker-max-lag-ms: 1000\r\n");
    assert_eq!((refused.status, refused.json()["code"].as_str()), (503, Some("ReplicaLag")));
    assert_eq!(get(&replica, record, "esker-max-lag-ms: 3600000\r\n").status, 200);
    assert_eq!(get(&replica, record, "").status, 200);
    assert_eq!(get(&replica, record, "esker-max-lag-ms: soon\r\n").status, 400);
    let _writer = a.start(&[&r]);
    until("the replica is ready again", || is_ready(&replica));
}

#[test]
fn a_node_may_join_as_a_replica() {
    let place = Place::new();
    let a = Home::new(&place, "a").start(&[]);
    a.run("put old 1").ok();
    let token = peers(&a, &["invite"]).ok().text().trim().to_owned();
    let join = format!("{token}@{}", a.listen);
    let r = Home::new(&place, "r");
    let replica = r.start_with(&[], &["--join", &join, "--role", "replica"]);
    until("the replica has what was there", || replica.run("get old").text() == "1\n");
    until("nobody waits for the replica", || class(&a, &r) == "untracked");
    replica.run("put new 1").fails(6, "error[ReadOnly]: ");
    a.run("put new 2").ok();
    until("the replica has what is new", || replica.run("get new").text() == "2\n");
    assert_eq!(status(&replica)["role"], "replica");
}

#[test]
fn a_node_that_only_responds_never_dials() {
    let place = Place::new();
    let [a, b] = ["a", "b"].map(|name| Home::new(&place, name));
    let ear = UdpSocket::bind(&b.listen).unwrap();
    ear.set_read_timeout(Some(Duration::from_millis(200))).unwrap();
    let mut packet = [0; 2000];
    let mut is_dialed = || (0..5).any(|_| ear.recv(&mut packet).is_ok());
    let dialing = a.start(&[&b]);
    until("a writer dials", &mut is_dialed);
    assert_eq!(dialing.stop().0, Some(0));
    while is_dialed() {}
    let responding = a.start_with(&[&b], &["--role", "respond-only"]);
    assert!(!is_dialed(), "it dials");
    drop(ear);
    let other = b.start(&[&a]);
    until("the other has dialed", || is_online(&responding, &b));
    responding.run("put k 1").ok();
    until("what it writes arrives", || other.run("get k").text() == "1\n");
    assert_eq!(status(&responding)["role"], "respond-only");
    assert_eq!(class(&other, &a), "tracked");
}

#[test]
fn a_local_keyspace_never_leaves_its_node() {
    let place = Place::new();
    let [a, b] = ["a", "b"].map(|name| Home::new(&place, name));
    let one = a.start_with(&[&b], &["--local", "cache"]);
    let other = b.start(&[&a]);
    one.run("put --keyspace cache secret 1").ok();
    one.run("put k 1").ok();
    until("what is shared arrives", || other.run("get k").text() == "1\n");
    other.run("get --keyspace cache secret").fails(3, "error[KeyspaceNotFound]: ");
    assert_eq!(one.stop().0, Some(0));
    let one = a.start(&[&b]);
    one.run("put --keyspace cache more 2").ok();
    one.run("put l 1").ok();
    until("what is shared arrives", || other.run("get l").text() == "1\n");
    other.run("get --keyspace cache more").fails(3, "error[KeyspaceNotFound]: ");
    other.run("put --keyspace shared k 1").ok();
    assert_eq!(other.stop().0, Some(0));
    let path = b.path.display().to_string();
    let words = ["serve", "--path", &path, "--local", "shared", "--http", "127.0.0.1:0"];
    shell::esker(words).fails(5, "error[ConfigMismatch]: ");
}

/// What it took is confirmed before it goes, so nobody waits for it longer than needed.
#[test]
fn a_node_that_stops_confirms_what_it_took() {
    let place = Place::new();
    let [a, b] = ["a", "b"].map(|name| Home::new(&place, name));
    let one = a.start(&[&b]);
    let other = b.start(&[&a]);
    until("they have met", || is_online(&one, &b) && is_online(&other, &a));
    // What nodes write about each other when they meet is over.
    let members =
        |node: &Served| node.run("scan --keyspace esker.roster --keys-only").text().lines().count();
    until("both are entered", || members(&one) >= 4 && members(&other) >= 4);
    let lines: String = (0..500).map(|n| format!("k{n:03}\tvalue\n")).collect();
    one.run_with("load --format tsv -", lines.as_bytes()).ok();
    until("it has the last one", || other.run("get k499").code == Some(0));
    assert_eq!(other.stop().0, Some(0));
    until("its end is noticed", || !is_online(&one, &b));
    // What is not confirmed ages.
    std::thread::sleep(Duration::from_millis(100));
    assert_eq!(peer(&one, &b).unwrap()["lagMs"], 0);
}
