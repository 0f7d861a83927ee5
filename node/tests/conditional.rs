//! Writes that happen only if nobody else wrote, and several writes as one commit, over HTTP.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

mod shell;

use shell::{Answered, Place, Served};

const ADA: &str = "/v1/keyspaces/default/records/ada";

fn tag(answer: &Answered) -> String {
    answer.header("etag").unwrap_or_else(|| panic!("no tag: {}", answer.head)).to_owned()
}

#[test]
fn a_put_with_an_old_tag_changes_nothing() {
    let place = Place::new();
    let node = Served::start(&place.path("data"));
    let only_new = ["if-none-match: *"];
    let first = tag(&node.ask("PUT", ADA, &only_new, "1").is(200, ""));
    node.ask("PUT", ADA, &only_new, "2").is(412, "StampMismatch");
    let got = node.ask("GET", ADA, &[], "").is(200, "");
    assert_eq!((tag(&got), &*got.body), (first.clone(), &b"1"[..]));

    let if_first = format!("if-match: {first}");
    let second = tag(&node.ask("PUT", ADA, &[&if_first], "2").is(200, ""));
    assert_ne!(first, second);
    node.ask("PUT", ADA, &[&if_first], "3").is(412, "StampMismatch");
    node.ask("DELETE", ADA, &[&if_first], "").is(412, "StampMismatch");
    assert_eq!(node.run("get ada").ok().text(), "2\n");

    let unchanged = node.ask("GET", ADA, &[&format!("if-none-match: {second}")], "");
    assert_eq!((unchanged.status, unchanged.body.len()), (304, 0));
    node.ask("GET", ADA, &[&if_first], "").is(412, "StampMismatch");
    node.ask("DELETE", ADA, &[&format!("if-match: {first}, {second}")], "").is(200, "");
    node.ask("DELETE", ADA, &["if-match: *"], "").is(412, "StampMismatch");
    node.ask("PUT", ADA, &["if-match: 7"], "3").is(400, "InvalidInput");
}

#[test]
fn tags_last_over_a_restart_and_are_those_of_other_nodes() {
    let place = Place::new();
    let node = Served::start(&place.path("data"));
    let written = tag(&node.ask("PUT", ADA, &[], "1").is(200, ""));
    node.run("flush").ok();
    assert_eq!(node.stop().0, Some(0));
    let node = Served::start(&place.path("data"));
    assert_eq!(tag(&node.ask("GET", ADA, &[], "")), written);
    let token = node.ask("POST", "/v1/invitations", &[], "").is(200, "").json();
    let join = format!("{}@{}", token["token"].as_str().unwrap(), node.listen);
    let other = Served::start_with(&place.path("other"), &["--join", &join]);
    shell::group::until("it arrives", || other.ask("GET", ADA, &[], "").status == 200);
    assert_eq!(tag(&other.ask("GET", ADA, &[], "")), written);
    let condition = format!("if-match: {written}");
    other.ask("PUT", ADA, &[&condition], "2").is(200, "");
}

#[test]
fn a_batch_happens_as_a_whole_or_not_at_all() {
    let place = Place::new();
    let node = Served::start(&place.path("data"));
    let lines = "{\"op\":\"put\",\"key\":\"ada\",\"value\":\"1\"}\n\
                 {\"op\":\"put\",\"keyspace\":\"users\",\"key\":\"bob\",\"value_b64\":\"Mg==\"}\n\
                 {\"op\":\"delete\",\"key\":\"eve\"}\n";
    let done = node.ask("POST", "/v1/batch", &[], lines).is(200, "").json();
    assert_eq!(done["operations"], 3);
    assert_eq!(node.run("get ada").ok().text(), "1\n");
    assert_eq!(node.run("get --keyspace users bob").ok().text(), "2\n");
    let stamp = done["stamp"].as_str().unwrap();
    assert_eq!(tag(&node.ask("GET", ADA, &[], "")), format!("\"{stamp}\""));

    let moved = |if_match: &str| {
        format!(
            "{{\"op\":\"delete\",\"key\":\"ada\",\"if_match\":\"{if_match}\"}}\n\
             {{\"op\":\"put\",\"key\":\"adele\",\"value\":\"1\",\"if_match\":null}}"
        )
    };
    node.ask("POST", "/v1/batch?sync=async", &[], &moved(stamp)).is(200, "");
    let refused = node.ask("POST", "/v1/batch", &[], &moved(stamp)).is(412, "StampMismatch");
    assert!(refused.json()["message"].as_str().unwrap().contains("operation 0"));
    assert_eq!(node.run("scan").ok().text(), "adele\t1\n");
    let half = "{\"op\":\"put\",\"key\":\"x\",\"value\":\"1\"}\n{\"op\":\"put\",\"key\":\"y\"}\n";
    let refused = node.ask("POST", "/v1/batch", &[], half).is(400, "InvalidInput").json();
    assert_eq!(refused["line"], 2);
    let reserved = "{\"op\":\"put\",\"keyspace\":\"esker.peers\",\"key\":\"x\",\"value\":\"1\"}";
    node.ask("POST", "/v1/batch", &[], reserved).is(400, "KeyspaceReserved");
    assert_eq!(node.run("scan").ok().text(), "adele\t1\n");
    let nothing = node.ask("POST", "/v1/batch", &[], "").is(200, "").json();
    assert_eq!((nothing["operations"].as_u64(), nothing["seqno"].is_null()), (Some(0), true));
}
