//! Nodes as processes that merge what was written at once.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod shell;

use serde_json::{Value, json};
use shell::group::{Home, peers, until, until_equal, until_met};
use shell::{Place, Served, esker};

fn document(node: &Served) -> Value {
    let text = node.run("get --keyspace docs x").ok();
    serde_json::from_str(text.text().trim_end()).unwrap()
}

#[test]
fn documents_that_two_processes_changed_at_once_are_merged_on_both() {
    let place = Place::new();
    let homes = ["a", "b"].map(|name| Home::new(&place, name));
    let [a, b] =
        [0, 1].map(|own| homes[own].start_with(&[&homes[1 - own]], &["--resolve", "docs=json"]));
    until_met(&a, &[&homes[1]]);
    a.run(r#"put --keyspace docs x {"title":"t","tags":{}}"#).ok();
    until("b has it", || b.run("get --keyspace docs x").code == Some(0));
    peers(&a, &["disable", &homes[1].id]).ok();
    until("they are apart", || {
        peers(&b, &["list", "--output", "json"]).ok().text().matches("\"online\":true").count() == 0
    });
    a.run(r#"put --keyspace docs x {"title":"t","tags":{"a":1}}"#).ok();
    b.run(r#"put --keyspace docs x {"title":"t","tags":{"b":2},"body":"text"}"#).ok();
    peers(&a, &["enable", &homes[1].id]).ok();
    let merged = json!({"title": "t", "tags": {"a": 1, "b": 2}, "body": "text"});
    until("both have the union", || document(&a) == merged && document(&b) == merged);
    until_equal("both are equal", &[&a, &b]);
    let counted = |node: &Served| {
        let metrics = String::from_utf8(node.ask("GET", "/metrics", &[], "").body).unwrap();
        let line = metrics.lines().find(|it| it.starts_with("esker_conflicts_resolved_total "));
        line.unwrap().rsplit(' ').next().unwrap().parse::<f64>().unwrap()
    };
    assert_eq!(counted(&a) + counted(&b), 1.0);
}

#[test]
fn a_resolver_that_there_is_not_is_refused() {
    let place = Place::new();
    let path = place.path("data");
    let refused = esker(["serve", "--path", path.to_str().unwrap(), "--resolve", "docs=xml"]);
    refused.fails(5, "ConfigInvalid");
}
