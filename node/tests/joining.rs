//! Nodes that join by an invitation, and those that can not.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

mod shell;

use shell::group::until;
use shell::{Ended, Place, Served, esker};
use std::net::UdpSocket;
use std::path::Path;

/// As `esker serve` on any ports, with `more`.
fn serve(path: &Path, more: &[&str]) -> Ended {
    let words = ["serve", "--http", "127.0.0.1:0", "--listen", "127.0.0.1:0", "--path"];
    let path = path.display().to_string();
    esker(words.into_iter().chain([&*path]).chain(more.iter().copied()))
}

/// An invitation of `node`.
fn invitation(node: &Served) -> String {
    let token = node.ask("POST", "/v1/invitations", &[], "").is(200, "").json();
    format!("{}@{}", token["token"].as_str().unwrap(), node.listen)
}

#[test]
fn why_a_node_does_not_join_is_told() {
    let place = Place::new();
    let seed = Served::start(&place.path("seed"));
    let spent = invitation(&seed);
    let joined = Served::start_with(&place.path("joined"), &["--join", &spent]);
    serve(&place.path("other"), &["--join", &spent]).fails(6, "error[UnknownKey]: ");

    let token = invitation(&seed);
    serve(&place.path("other"), &["--join", &spent]).fails(6, "error[JoinRefused]: ");
    let token = token.split('@').next().unwrap();
    let nobody = UdpSocket::bind("127.0.0.1:0").unwrap();
    let nobody = format!("{token}@{}", nobody.local_addr().unwrap());
    serve(&place.path("other"), &["--join", &nobody]).fails(1, "error[TimedOut]: ");
    let elsewhere = format!("{token}@{}", joined.listen);
    serve(&place.path("other"), &["--join", &elsewhere]).fails(6, "error[UnknownKey]: ");

    let slip = format!("{}@{}", token.replacen(&token[3..4], "1", 1), seed.listen);
    serve(&place.path("none"), &["--join", &slip]).fails(5, "error[ConfigInvalid]: ");
    assert!(!place.path("none").exists(), "nothing is made for a token that is none");
}

#[test]
fn a_service_that_has_joined_starts_again_with_the_same_settings() {
    let place = Place::new();
    let seed = Served::start(&place.path("seed"));
    let join = invitation(&seed);
    let joined = Served::start_with(&place.path("joined"), &["--join", &join]);
    assert_eq!(joined.stop().0, Some(0));
    let joined = Served::start_with(&place.path("joined"), &["--join", &join]);
    joined.run("put ada 1").ok();
    until("it arrives", || seed.run("get ada").code == Some(0));
    seed.kill();
    assert_eq!(joined.stop().0, Some(0));
    // Not even the seed needs to be there.
    let joined = Served::start_with(&place.path("joined"), &["--join", &join]);
    joined.run("get ada").ok();
}

#[test]
fn a_member_that_is_given_another_invitation_goes_on() {
    let place = Place::new();
    let seed = Served::start(&place.path("seed"));
    let joined = Served::start_with(&place.path("joined"), &["--join", &invitation(&seed)]);
    seed.run("put ada 1").ok();
    until("it has the data", || joined.run("get ada").code == Some(0));
    assert_eq!(joined.stop().0, Some(0));
    let joined = Served::start_with(&place.path("joined"), &["--join", &invitation(&seed)]);
    joined.run("get ada").ok();

    change(&seed, "remove", &joined);
    until("it is out", || peers(&joined).iter().all(|(_, is_online)| !is_online));
    assert_eq!(joined.stop().0, Some(0));
    let joined = Served::start_with(&place.path("joined"), &["--join", &invitation(&seed)]);
    until("it may write again", || joined.run("put bob 1").code == Some(0));
    until("it arrives", || seed.run("get bob").code == Some(0));
}

#[test]
fn a_node_that_has_not_met_its_group_invites_nobody() {
    let place = Place::new();
    let seed = Served::start(&place.path("seed"));
    let peer = format!("{}@{}", seed.node, seed.listen);
    let stranger = Served::start_with(&place.path("other"), &["--peer", &peer]);
    let refused = stranger.ask("POST", "/v1/invitations", &[], "");
    assert_ne!(refused.status, 200);
    assert_eq!(refused.json()["code"], "JoinRefused", "{}", refused.json());
}

#[test]
fn a_node_whose_peer_did_not_know_it_joins_it_by_an_invitation() {
    let place = Place::new();
    let seed = Served::start(&place.path("seed"));
    seed.run("put ada 1").ok();
    let path = place.path("other");
    let peer = format!("{}@{}", seed.node, seed.listen);
    let other = Served::start_with(&path, &["--peer", &peer]);
    until("it is not let in", || {
        let listed = other.ask("GET", "/v1/peers", &[], "").is(200, "").json();
        listed[0]["lastError"]["code"] == "UnknownKey"
    });
    assert_eq!(other.stop().0, Some(0));
    let other = Served::start_with(&path, &["--join", &invitation(&seed)]);
    until("it has the data", || other.run("get ada").code == Some(0));
}

#[test]
fn a_node_that_was_retired_starts_with_the_invitation_it_once_came_by() {
    let place = Place::new();
    let seed = Served::start(&place.path("seed"));
    let join = invitation(&seed);
    let path = place.path("joined");
    let joined = Served::start_with(&path, &["--join", &join]);
    seed.run("put bob 1").ok();
    until("it has the data", || joined.run("get bob").code == Some(0));
    change(&seed, "deprecate", &joined);
    until("it hears of it", || joined.run("put refused 1").code == Some(6));
    assert_eq!(joined.stop().0, Some(0));
    let joined = Served::start_with(&path, &["--join", &join]);
    joined.run("put refused 1").fails(6, "error[ReadOnly]: ");
    joined.run("get bob").ok();
}

/// The classes of all peers that `node` has, and whether they are online.
fn peers(node: &Served) -> Vec<(String, bool)> {
    let listed = node.ask("GET", "/v1/peers", &[], "").is(200, "").json();
    let class = |peer: &serde_json::Value| {
        (peer["class"].as_str().unwrap().to_owned(), peer["online"].as_bool().unwrap())
    };
    listed.as_array().unwrap().iter().map(class).collect()
}

fn change(node: &Served, change: &str, peer: &Served) {
    node.ask("POST", &format!("/v1/peers/{}/{change}", peer.node), &[], "").is(200, "");
}

#[test]
fn whoever_was_alone_counts_as_much_as_who_joined() {
    let place = Place::new();
    let seed = Served::start(&place.path("seed"));
    seed.run("put a 1").ok();
    seed.run("put z 1").ok();
    let joined = Served::start_with(&place.path("joined"), &["--join", &invitation(&seed)]);
    until("it has the data", || joined.run("get z").code == Some(0));
    for node in [&seed, &joined] {
        until("they know each other", || peers(node) == [("tracked".to_owned(), true)]);
    }

    change(&seed, "disable", &joined);
    until("they are apart", || !peers(&joined)[0].1);
    seed.run("put a 2").ok();
    seed.run("put k 1").ok();
    joined.run("delete z").ok();
    joined.run("flush").ok();
    joined.run("compact").ok();
    change(&seed, "enable", &joined);
    for node in [&seed, &joined] {
        until("the delete arrives", || node.run("get z").code == Some(3));
        until("the writes arrive", || node.run("get k").code == Some(0));
        assert_eq!(node.run("get a").ok().text(), "2\n", "what was acknowledged is there");
    }
}

#[test]
fn those_who_joined_one_after_the_other_find_each_other() {
    let place = Place::new();
    let seed = Served::start(&place.path("seed"));
    let one = Served::start_with(&place.path("one"), &["--join", &invitation(&seed)]);
    let other = Served::start_with(&place.path("other"), &["--join", &invitation(&seed)]);
    let online = ("tracked".to_owned(), true);
    for node in [&one, &other, &seed] {
        until("all are linked", || peers(node) == [online.clone(), online.clone()]);
    }
}
