//! The key of a node is exchanged, as operators do it, and its peers go on with it.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod shell;

use shell::group::{Home, is_online, peers, status, until, until_equal, until_met};
use shell::{Place, Served, copy, esker};

/// What `esker id` says of a directory, after changing its key if `words` say so.
fn id(home: &Home, words: &[&str]) -> serde_json::Value {
    let path = home.path.display().to_string();
    let all = [&["id", "--path", &path, "--output", "json"], words].concat();
    esker(all).ok().json().remove(0)
}

fn has_errors(node: &Served) -> bool {
    !status(node)["errors"].as_array().unwrap().is_empty()
}

#[test]
fn peers_take_the_new_key_of_a_node_and_never_again_the_old_one() {
    let place = Place::new();
    let homes = ["a", "b", "c", "d"].map(|name| Home::new(&place, name));
    let [a, b, c, d] = &homes;
    let one = a.start(&[b, c, d]);
    let [two, three] = [b.start(&[a, c, d]), c.start(&[a, b, d])];
    let away = d.start(&[a, b, c]);
    until_met(&away, &[a, b, c]);
    until_met(&one, &[b, c, d]);
    one.run("put k 1").ok();
    until_equal("all have it", &[&one, &two, &three, &away]);
    assert_eq!(away.stop().0, Some(0));
    let path = a.path.display().to_string();
    esker(["id", "--path", &path, "--rotate"]).fails(6, "error[Locked]: ");
    assert_eq!(one.stop().0, Some(0));
    let old = place.path("old");
    copy(&a.path, &old);

    let before = id(a, &[]);
    let between = id(a, &["--rotate"]);
    let after = id(a, &["--rotate"]);
    assert_eq!((&before["node"], &before["incarnation"]), (&after["node"], &after["incarnation"]));
    assert_ne!(before["fingerprint"], between["fingerprint"]);
    assert_ne!(between["fingerprint"], after["fingerprint"]);
    esker(["check", "--path", &path, "--level", "paranoid"]).ok();

    let one = a.start(&[b, c, d]);
    until_met(&one, &[b, c]);
    one.run("put k 2").ok();
    until_equal("those who were there go on", &[&one, &two, &three]);
    let away = d.start(&[a, b, c]);
    until_met(&away, &[a]);
    until_equal("and who was away", &[&one, &away]);
    // Whoever knows them keeps the changes, also those that meet the node no more.
    assert_eq!(one.stop().0, Some(0));
    assert_eq!(two.stop().0, Some(0));
    let two = b.start(&[a, c, d]);

    let thief = Home { path: old, id: a.id.clone(), listen: a.listen.clone() };
    let thief = thief.start(&[b, c, d]);
    until("the old key is refused", || has_errors(&thief));
    thief.run("put k 3").ok();
    for node in [&two, &three, &away] {
        assert!(!is_online(node, a));
        assert_eq!(node.run("get k").ok().text(), "2\n");
    }
    assert_eq!(peers(&thief, &["list"]).ok().text().matches(" online ").count(), 0);
    assert_eq!(thief.stop().0, Some(0));
    let one = a.start(&[b, c, d]);
    until_equal("the new one is not", &[&one, &two, &three, &away]);
}

/// A crash between the steps leaves the key that was there.
#[test]
fn a_change_that_was_cut_short_leaves_one_key() {
    let place = Place::new();
    let [a, b] = ["a", "b"].map(|name| Home::new(&place, name));
    let identity = a.path.join("IDENTITY");
    let old = std::fs::read(&identity).unwrap();
    let before = id(&a, &[]);
    id(&a, &["--rotate"]);
    // As if the rename had not happened.
    std::fs::write(&identity, old).unwrap();
    assert_eq!(id(&a, &[])["fingerprint"], before["fingerprint"]);
    let (one, two) = (a.start(&[&b]), b.start(&[&a]));
    until_met(&two, &[&a]);
    assert_eq!(one.stop().0, Some(0));
    let after = id(&a, &["--rotate"]);
    assert_ne!(after["fingerprint"], before["fingerprint"]);
    let one = a.start(&[&b]);
    until_met(&two, &[&a]);
    one.run("put k 1").ok();
    until_equal("they go on", &[&one, &two]);
}

/// Who joins knows the name of its host, whatever key that has by now.
#[test]
fn a_node_whose_key_was_changed_lets_others_in_and_is_let_in() {
    let place = Place::new();
    let [a, b] = ["a", "b"].map(|name| Home::new(&place, name));
    [&a, &b].iter().for_each(|home| drop(id(home, &["--rotate"])));
    let one = a.start(&[]);
    one.run("put k 1").ok();
    let token = peers(&one, &["invite"]).ok().text().trim().to_owned();
    let two = b.start_with(&[], &["--join", &format!("{token}@{}", a.listen)]);
    until("it has what was there", || two.run("get k").text() == "1\n");
    assert!(is_online(&one, &b) && is_online(&two, &a));
    assert_eq!(two.stop().0, Some(0));
    let two = b.start(&[]);
    until_met(&two, &[&a]);
}
