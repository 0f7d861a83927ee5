//! What operators do about peers, on real processes: it lasts, and it is quick.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod shell;

use shell::group::{Home, class, is_online, peer, peers, status, until, until_equal};
use shell::{Place, Served};
use std::time::Duration;

fn pair(place: &Place) -> ([Home; 2], [Served; 2]) {
    let homes = ["a", "b"].map(|name| Home::new(place, name));
    let [a, b] = &homes;
    let nodes = [a.start(&[b]), b.start(&[a])];
    until("they have met", || is_online(&nodes[0], b) && is_online(&nodes[1], a));
    (homes, nodes)
}

fn restarted(node: Served, home: &Home) -> Served {
    assert_eq!(node.stop().0, Some(0));
    home.start(&[])
}

/// Whether `node` takes writes, as its health says.
fn writes(node: &Served) -> String {
    let ready = node.ask("GET", "/health/ready", &[], "").json();
    ready["writes"].as_str().unwrap().to_owned()
}

#[test]
fn a_peer_that_is_added_is_known_after_a_restart() {
    let place = Place::new();
    let [a, b] = ["a", "b"].map(|name| Home::new(&place, name));
    let (one, other) = (a.start(&[]), b.start(&[]));
    one.run("put before 1").ok();
    peers(&one, &["add", &b.address()]).ok();
    peers(&other, &["add", &a.address()]).ok();
    until("what was there arrives", || other.run("get before").text() == "1\n");
    let (one, other) = (restarted(one, &a), restarted(other, &b));
    one.run("put after 1").ok();
    until("what is new arrives", || other.run("get after").text() == "1\n");
    assert_eq!(peer(&one, &b).unwrap()["address"], b.listen.as_str());
    until("both see each other", || is_online(&one, &b) && is_online(&other, &a));
}

#[test]
fn a_peer_that_is_disabled_stays_so_until_it_is_enabled() {
    let place = Place::new();
    let ([a, b], [one, other]) = pair(&place);
    peers(&one, &["disable", &b.id]).ok();
    let took = until("the other is alone", || !is_online(&other, &a));
    println!("a disabled peer was cut off in {took:?}");
    let one = restarted(one, &a);
    assert_eq!(peer(&one, &b).unwrap()["enabled"], false);
    one.run("put k 1").ok();
    std::thread::sleep(Duration::from_millis(500));
    assert!(!is_online(&one, &b));
    other.run("get k").fails(3, "error[NotFound]: ");
    peers(&one, &["enable", &b.id]).ok();
    until("what was missed arrives", || other.run("get k").text() == "1\n");
    let one = restarted(one, &a);
    assert_eq!(peer(&one, &b).unwrap()["enabled"], true);
}

#[test]
fn classes_of_peers_last_and_are_known_to_all() {
    let place = Place::new();
    let ([a, b], [one, other]) = pair(&place);
    assert_eq!(class(&one, &b), "tracked");
    peers(&one, &["untrack", &b.id]).ok();
    until("the other knows that it only reads", || status(&other)["role"] == "replica");
    other.run("put k 1").fails(6, "error[ReadOnly]: ");
    let (one, other) = (restarted(one, &a), restarted(other, &b));
    assert_eq!(class(&one, &b), "untracked");
    assert_eq!(status(&other)["role"], "replica");
    peers(&one, &["track", &b.id]).ok();
    until("the other may write again", || other.run("put k 2").code == Some(0));
    let (one, other) = (restarted(one, &a), restarted(other, &b));
    assert_eq!(class(&one, &b), "tracked");
    until_equal("both agree", &[&one, &other]);
    let missing = "0".repeat(32);
    peers(&one, &["track", &missing]).fails(3, "error[PeerNotFound]: ");
}

#[test]
fn a_peer_that_is_shut_out_is_cut_off_and_stays_out() {
    for change in ["deprecate", "remove"] {
        let place = Place::new();
        let ([a, b], [one, other]) = pair(&place);
        one.run("put before 1").ok();
        until("it arrives", || other.run("get before").text() == "1\n");
        peers(&one, &[change, &b.id]).ok();
        let took = until("the other is alone", || !is_online(&other, &a));
        println!("{change}: the link was closed after {took:?}");
        let one = restarted(one, &a);
        one.run("put after 1").ok();
        std::thread::sleep(Duration::from_millis(1000));
        assert!(!is_online(&other, &a) && !peer(&one, &b).is_some_and(|b| b["online"] == true));
        other.run("get after").fails(3, "error[NotFound]: ");
        match change {
            "deprecate" => {
                assert_eq!(class(&one, &b), "deprecated");
                until("the other has heard of it", || writes(&other) == "retired");
            }
            _ => assert_eq!(peer(&one, &b), None),
        }
        let said = peers(&one, &["track", &b.id]).ok();
        assert!(said.text().contains(&b.id), "{change}: {}", said.text());
        assert_eq!(class(&one, &b), "tracked");
        until("it is back", || other.run("get after").text() == "1\n");
        until("it may write", || other.run("put late 1").code == Some(0));
    }
}
