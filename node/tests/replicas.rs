//! Nodes as processes that keep each other equal over real QUIC.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod shell;

use shell::group::{Home, peers, until, until_equal};
use shell::{Place, Served, esker};
use std::time::Duration;

fn trio(place: &Place) -> ([Home; 3], [Served; 3]) {
    let homes = ["a", "b", "c"].map(|name| Home::new(place, name));
    let [a, b, c] = &homes;
    let nodes = [a.start(&[b, c]), b.start(&[a, c]), c.start(&[a, b])];
    (homes, nodes)
}

fn digest(node: &Served) -> String {
    node.run("digest").ok().text().to_owned()
}

#[test]
fn three_processes_agree_after_cuts_and_kills() {
    let place = Place::new();
    let (homes, [a, b, c]) = trio(&place);
    let records: String = (0..2000).map(|n| format!("k{n:04}\tvalue {n}\n")).collect();
    a.run_with("load --format tsv -", records.as_bytes()).ok();
    until("c has what a loaded", || c.run("scan --keys-only").ok().text().lines().count() == 2000);
    until_equal("all hold what a loaded", &[&a, &b, &c]);

    for node in [&a, &b] {
        peers(node, &["disable", &homes[2].id]).ok();
    }
    until("c is alone", || {
        peers(&c, &["list", "--output", "json"]).ok().text().matches("\"online\":true").count() == 0
    });
    c.run("put contested earlier").ok();
    c.run("put alone c").ok();
    std::thread::sleep(Duration::from_millis(5));
    a.run("put contested later").ok();
    b.run("delete k0001").ok();
    until_equal("a and b agree", &[&a, &b]);
    assert_ne!(digest(&a), digest(&c));
    c.run("get k0001").ok();

    b.kill();
    a.run("put while-b-is-dead 1").ok();
    let b = homes[1].start(&[&homes[0], &homes[2]]);
    for node in [&a, &b] {
        peers(node, &["enable", &homes[2].id]).ok();
    }
    until("c has what was written meanwhile", || {
        c.run("get while-b-is-dead").text() == "1\n" && a.run("get alone").text() == "c\n"
    });
    until_equal("all agree", &[&a, &b, &c]);
    assert_eq!(c.run("get contested").ok().text(), "later\n");
    c.run("get k0001").fails(3, "error[NotFound]: ");
    let health = esker(["status", "--url", &a.url(), "--output", "json"]).ok().json();
    assert_eq!(health[0]["peers"].as_array().unwrap().len(), 2);

    let held = digest(&a);
    for (node, home) in [a, b, c].into_iter().zip(&homes) {
        assert_eq!(node.stop(), (Some(0), String::new()));
        let directory = home.path.display().to_string();
        assert_eq!(esker(["digest", "--path", &directory]).ok().text(), held);
        esker(["check", "--path", &directory, "--level", "paranoid"]).ok();
    }
}

#[test]
fn a_process_joins_with_a_token_once() {
    let place = Place::new();
    let (_, [a, b, _c]) = trio(&place);
    b.run("put old 1").ok();
    until("a has it", || a.run("get old").text() == "1\n");
    let invited = peers(&a, &["invite", "--output", "json"]).ok().json();
    let token = invited[0]["token"].as_str().unwrap();
    let join = format!("{token}@{}", a.listen);
    let joiner = Served::start_with(&place.path("d"), &["--join", &join]);
    until("the joiner has what was there", || joiner.run("get old").text() == "1\n");
    until("the joiner may write", || joiner.run("put new 2").code == Some(0));
    until("b has what the joiner wrote", || b.run("get new").text() == "2\n");
    let path = place.path("e").display().to_string();
    let second = esker(["serve", "--path", &path, "--http", "127.0.0.1:0", "--join", &join]);
    assert!(second.code != Some(0), "a token is good for one node");
}

/// An invitation and its end last over restarts, orderly or not.
#[test]
fn invitations_outlive_the_process_that_made_them() {
    let place = Place::new();
    let a = Home::new(&place, "a");
    let node = a.start(&[]);
    node.run("put k 1").ok();
    let [spent, open] = [0, 1].map(|_| {
        let token = peers(&node, &["invite"]).ok().text().trim().to_owned();
        format!("{token}@{}", a.listen)
    });
    assert_eq!(node.stop().0, Some(0));
    let node = a.start(&[]);
    let first = Served::start_with(&place.path("first"), &["--join", &spent]);
    until("the first has what was there", || first.run("get k").text() == "1\n");
    node.kill();
    let _node = a.start(&[]);
    let path = place.path("late").display().to_string();
    let late = esker(["serve", "--path", &path, "--http", "127.0.0.1:0", "--join", &spent]);
    assert!(late.code != Some(0) && late.err.contains("refuses to join"), "{}", late.err);
    let second = Served::start_with(&place.path("second"), &["--join", &open]);
    until("the second has it too", || second.run("get k").text() == "1\n");
}

#[test]
fn an_unknown_node_is_kept_out_and_the_others_go_on() {
    let place = Place::new();
    let (homes, [a, b, _c]) = trio(&place);
    let stranger = Home::new(&place, "stranger");
    let path = stranger.path.display().to_string();
    esker(["put", "--path", &path, "mine", "1"]).ok();
    let stranger = stranger.start(&[&homes[0]]);
    a.run("put ours 1").ok();
    until("b has what a wrote", || b.run("get ours").text() == "1\n");
    until("the stranger was refused", || {
        let status = esker(["status", "--url", &stranger.url(), "--output", "json"]).ok().json();
        !status[0]["errors"].as_array().unwrap().is_empty()
    });
    a.run("get mine").fails(3, "error[NotFound]: ");
    stranger.run("get ours").fails(3, "error[NotFound]: ");
}
