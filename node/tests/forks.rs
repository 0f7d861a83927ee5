//! Directories that were put back from plain copies, or copied to go on elsewhere.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod shell;

use shell::group::{Home, peer, peers, status, until, until_equal, until_met};
use shell::{Ended, Place, Served, copy, esker};

/// `esker` with `words` on the closed directory of `home`.
fn on(home: &Home, words: &[&str]) -> Ended {
    let path = home.path.display().to_string();
    let (command, rest) = words.split_first().unwrap();
    esker([&[*command, "--path", &path], rest].concat())
}

fn id(home: &Home) -> serde_json::Value {
    on(home, &["id", "--output", "json"]).ok().json().remove(0)
}

fn stop(node: Served) {
    assert_eq!(node.stop(), (Some(0), String::new()));
}

fn says_fork(node: &Served) -> bool {
    status(node)["errors"].to_string().contains("Fork")
}

/// Three nodes that have met; the last one is put back, as it was before it wrote `forgotten`.
fn put_back(place: &Place) -> ([Home; 3], Served, Served) {
    let homes = ["a", "b", "c"].map(|name| Home::new(place, name));
    let [a, b, c] = &homes;
    let (one, two, three) = (a.start(&[b, c]), b.start(&[a, c]), c.start(&[a, b]));
    until_met(&three, &[a, b]);
    until_met(&one, &[b, c]);
    three.run("put early 1").ok();
    until_equal("all have what was early", &[&one, &two, &three]);
    stop(three);
    let copied = place.path("copied");
    copy(&c.path, &copied);
    let three = c.start(&[a, b]);
    until_met(&three, &[a, b]);
    three.run("put forgotten 1").ok();
    until_equal("all have what will be forgotten", &[&one, &two, &three]);
    stop(three);
    std::fs::rename(&c.path, place.path("lost")).unwrap();
    std::fs::rename(&copied, &c.path).unwrap();
    (homes, one, two)
}

/// Finds the fork at every start, and all is well after another life.
fn noticed_until_it_lives_anew([a, b, c]: &[Home; 3], one: &Served, two: &Served) {
    for _ in 0..2 {
        let three = c.start(&[a, b]);
        until("the fork is noticed", || says_fork(&three));
        until("the others are told", || says_fork(one) && says_fork(two));
        three.run("put refused 1").fails(6, "error[Forked]: ");
        let health = three.ask("GET", "/health", &[], "").is(503, "").json();
        assert_eq!((&health["status"], &health["writes"]), (&"unhealthy".into(), &"forked".into()));
        let metrics = three.ask("GET", "/metrics", &[], "").is(200, "").body;
        let metrics = String::from_utf8(metrics).unwrap();
        assert!(metrics.contains("esker_writes{state=\"forked\"} 1.0\n"), "{metrics}");
        assert!(metrics.contains("esker_writes{state=\"open\"} 0.0\n"), "{metrics}");
        three.run("get forgotten").fails(3, "error[NotFound]: ");
        one.run("get late").fails(3, "error[NotFound]: ");
        stop(three);
    }
    let before = id(c);
    let advice = on(c, &["repair", "--new-life"]).ok();
    assert!(advice.text().starts_with("node "), "{}", advice.text());
    let after = id(c);
    assert_eq!(before["node"], after["node"]);
    assert_ne!(before["incarnation"], after["incarnation"]);
    let three = c.start(&[a, b]);
    until("it has what it had forgotten", || three.run("get forgotten").text() == "1\n");
    until("a has what it wrote", || one.run("get late").text() == "2\n");
    until("it takes writes", || three.run("put again 1").code == Some(0));
    until_equal("all agree", &[one, two, &three]);
    for (key, value) in [("early", "1\n"), ("forgotten", "1\n"), ("late", "2\n"), ("again", "1\n")]
    {
        assert_eq!(two.run(&format!("get {key}")).ok().text(), value);
    }
    stop(three);
    on(c, &["check", "--level", "paranoid"]).ok();
}

#[test]
fn a_directory_put_back_and_written_to_is_refused_until_it_lives_anew() {
    let place = Place::new();
    let (homes, one, two) = put_back(&place);
    // Written to before it runs again, and closed: its log does not have that any more.
    on(&homes[2], &["put", "late", "2"]).ok();
    noticed_until_it_lives_anew(&homes, &one, &two);
}

#[test]
fn a_directory_put_back_and_written_to_while_it_was_alone_is_refused_too() {
    let place = Place::new();
    let (homes, one, two) = put_back(&place);
    let [a, b, c] = &homes;
    stop(one);
    stop(two);
    let three = c.start(&[a, b]);
    three.run("put late 2").ok();
    three.kill();
    let (one, two) = (a.start(&[b, c]), b.start(&[a, c]));
    noticed_until_it_lives_anew(&homes, &one, &two);
}

#[test]
fn a_directory_put_back_that_was_not_written_to_fetches_what_it_forgot_by_itself() {
    let place = Place::new();
    let ([a, b, c], one, two) = put_back(&place);
    let three = c.start(&[&a, &b]);
    until("it has what it had forgotten", || three.run("get forgotten").text() == "1\n");
    until("it takes writes", || three.run("put late 2").code == Some(0));
    until_equal("all agree", &[&one, &two, &three]);
}

#[test]
fn a_copy_that_goes_on_beside_its_node_becomes_another_one() {
    let place = Place::new();
    let [a, b] = ["a", "b"].map(|name| Home::new(&place, name));
    let (one, two) = (a.start(&[&b]), b.start(&[&a]));
    until_met(&two, &[&a]);
    two.run("put k 1").ok();
    until_equal("both have it", &[&one, &two]);
    stop(two);
    let spare = Home::new(&place, "spare");
    let copied = Home { path: place.path("copied"), listen: spare.listen, id: String::new() };
    copy(&b.path, &copied.path);
    let two = b.start(&[&a]);
    on(&copied, &["repair", "--new-node"]).ok();
    on(&copied, &["check", "--level", "paranoid"]).ok();
    let name = id(&copied)["node"].as_str().unwrap().to_owned();
    assert_ne!(name, b.id);
    let copied = Home { id: name, ..copied };
    let third = copied.start(&[&a, &b]);
    for node in [&one, &two] {
        peers(node, &["add", &copied.address()]).ok();
    }
    until_met(&third, &[&a, &b]);
    until("it takes writes", || third.run("put from-the-copy 1").code == Some(0));
    two.run("put from-the-node 1").ok();
    until("the copy has what its node writes", || third.run("get from-the-node").code == Some(0));
    until_equal("all agree", &[&one, &two, &third]);
    assert_eq!(one.run("get from-the-copy").ok().text(), "1\n");
}

/// What waits for a peer that is away is counted, also after a restart.
#[test]
fn commits_that_a_peer_away_has_not_confirmed_are_counted() {
    let place = Place::new();
    let [a, b] = ["a", "b"].map(|name| Home::new(&place, name));
    let (one, two) = (a.start(&[&b]), b.start(&[&a]));
    until_met(&one, &[&b]);
    one.run("put k 1").ok();
    let pending = |node: &Served| peer(node, &b).unwrap()["pending"].as_u64().unwrap();
    until("b has all", || two.run("get k").code == Some(0) && pending(&one) == 0);
    stop(two);
    until("its end is noticed", || peer(&one, &b).unwrap()["online"] == false);
    let before = pending(&one);
    (0..7).for_each(|n| drop(one.run(&format!("put k{n} 1")).ok()));
    assert_eq!(pending(&one), before + 7);
    assert_eq!(status(&one)["pending"].as_u64(), Some(before + 7));
    stop(one);
    let one = a.start(&[&b]);
    assert_eq!(pending(&one), before + 7);
    assert!(peer(&one, &b).unwrap()["lastConfirmation"].is_u64());
    one.run("put more 1").ok();
    assert_eq!(pending(&one), before + 8);
    one.kill();
    let one = a.start(&[&b]);
    assert!(pending(&one) >= before + 8);
    let _two = b.start(&[&a]);
    until("nothing waits any more", || pending(&one) == 0);
}
