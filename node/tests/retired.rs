//! Nodes that do not belong: retired, or not arrived yet.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod shell;

use shell::group::{Home, class, peers, until, until_equal, until_met};
use shell::{Place, Served, esker};

fn is_refused(node: &Served, code: &str) -> bool {
    let ended = node.run("put refused 1");
    ended.code != Some(0) && ended.err.contains(&format!("error[{code}]: "))
}

/// Whether `node` takes writes, as its health says.
fn writes(node: &Served) -> String {
    let ready = node.ask("GET", "/health/ready", &[], "").json();
    ready["writes"].as_str().unwrap().to_owned()
}

/// It was away when it was retired: those who refuse it say why.
#[test]
fn a_retired_node_that_is_started_again_takes_no_writes_until_it_is_back() {
    let place = Place::new();
    let [a, b, c] = ["a", "b", "c"].map(|name| Home::new(&place, name));
    let one = a.start(&[&b, &c]);
    let (two, three) = (b.start(&[&a, &c]), c.start(&[&a, &b]));
    until_met(&three, &[&a, &b]);
    three.run("put k 1").ok();
    until_equal("all have it", &[&one, &two, &three]);
    assert_eq!(three.stop().0, Some(0));
    peers(&one, &["deprecate", &c.id]).ok();
    until("b knows", || class(&two, &c) == "deprecated");

    let three = c.start(&[&a, &b]);
    until("it has heard of it", || writes(&three) == "retired");
    assert!(is_refused(&three, "ReadOnly"));
    let health = three.ask("GET", "/health", &[], "").is(200, "").json();
    assert_eq!(health["status"], "degraded", "{health}");
    assert_eq!(three.run("get k").ok().text(), "1\n");
    for node in [three, one, two] {
        assert_eq!(node.stop().0, Some(0));
    }
    let three = c.start(&[&a, &b]);
    assert!(is_refused(&three, "ReadOnly"), "it remembers, although nobody is there");

    let (one, two) = (a.start(&[&b, &c]), b.start(&[&a, &c]));
    peers(&one, &["track", &c.id]).ok();
    until("it is back", || three.run("put l 2").code == Some(0));
    until_equal("all agree", &[&one, &two, &three]);
    assert_eq!(two.run("get l").ok().text(), "2\n");
    one.run("get refused").fails(3, "error[NotFound]: ");
    assert_eq!(three.stop().0, Some(0));
    let three = c.start(&[&a, &b]);
    three.run("put m 3").ok();
}

/// What is written before would be taken for all there is.
#[test]
fn a_node_with_a_new_disk_takes_no_writes_before_it_has_met_somebody() {
    let place = Place::new();
    let [a, b] = ["a", "b"].map(|name| Home::new(&place, name));
    let one = a.start_with(&[&b], &["--local", "cache"]);
    assert!(is_refused(&one, "Joining"));
    assert_eq!(writes(&one), "joining");
    let health = one.ask("GET", "/health", &[], "").is(200, "").json();
    assert_eq!((&health["status"], &health["writes"]), (&"degraded".into(), &"joining".into()));
    assert_eq!(one.ask("GET", "/health/ready", &[], "").status, 503, "there is nothing to read");
    one.run("put --keyspace cache k 1").ok();
    let answer = one.run("put k 1 --output json");
    assert_eq!(answer.error()["category"], "retryable");
    one.run_with("load --format tsv -", b"k\t1\n").fails(1, "error[Joining]: ");
    let two = b.start(&[&a]);
    one.run("put k 1").ok();
    assert_eq!(writes(&one), "open");
    until("it is ready", || one.ask("GET", "/health/ready", &[], "").status == 200);
    two.run("put l 1").ok();
    until("both have both", || {
        one.run("get l").text() == "1\n" && two.run("get k").text() == "1\n"
    });
    // From then on it has its own.
    assert_eq!(one.stop().0, Some(0));
    assert_eq!(two.stop().0, Some(0));
    a.start(&[&b]).run("put m 1").ok();
    let alone = Home::new(&place, "alone");
    alone.start(&[]).run("put k 1").ok();
}

/// A node that joins has peers, though it was told of none.
#[test]
fn a_node_that_has_joined_takes_no_writes_before_it_has_what_was_there() {
    let place = Place::new();
    let a = Home::new(&place, "a");
    let one = a.start(&[]);
    one.run("put k 1").ok();
    let token = peers(&one, &["invite"]).ok().text().trim().to_owned();
    let path = place.path("b");
    let joiner = Served::start_with(&path, &["--join", &format!("{token}@{}", a.listen)]);
    joiner.run("put l 2").ok();
    assert_eq!(joiner.run("get k").ok().text(), "1\n");
    until_equal("both agree", &[&one, &joiner]);
    assert_eq!(esker(["status", "--url", &one.url()]).code, Some(0));
}
