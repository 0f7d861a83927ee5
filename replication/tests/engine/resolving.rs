//! Conflicts that are merged while sessions come and go.

use crate::pair::{MAIN, Pair, small};
use base::Clock;
use engine::Resolved;
use proptest::prelude::*;
use replication::JsonMerge;
use replication::store::Store;
use std::collections::BTreeSet;

const DOCUMENTS: u8 = 3;

#[derive(Clone, Debug)]
enum Step {
    /// A node adds a member of a fresh name to what it sees of a document.
    Edit(usize, u8),
    /// Sessions run for so many milliseconds.
    Meet(u64),
    Resolve(usize),
    Compact(usize),
}

fn any_step() -> impl Strategy<Value = Step> {
    let node = 0..2usize;
    prop_oneof![
        5 => (node.clone(), 0..DOCUMENTS).prop_map(|(node, document)| Step::Edit(node, document)),
        3 => (0..300u64).prop_map(Step::Meet),
        2 => node.clone().prop_map(Step::Resolve),
        1 => node.prop_map(Step::Compact),
    ]
}

fn pair(seed: u64) -> Pair {
    let pair = Pair::new(seed, &small());
    for node in &pair.nodes {
        node.db.set_resolver("documents", JsonMerge).unwrap();
    }
    pair
}

fn document(number: u8) -> String {
    format!("document {number}")
}

fn text(pair: &Pair, node: usize, number: u8) -> Option<String> {
    let value = pair.keyspace(node, "documents").get(document(number)).unwrap();
    value.map(|value| String::from_utf8(value.to_vec()).unwrap())
}

/// Adds a member to the first object in `text`, and one to an object within it.
fn edited(text: Option<&str>, name: usize) -> String {
    let text = text.unwrap_or(r#"{"in":{}}"#);
    let text = text.replacen('{', &format!(r#"{{"{name}":[{name}],"#), 1);
    let text = text.replacen(r#""in":{"#, &format!(r#""in":{{"{name}":{name},"#), 1);
    text.replace(",}", "}")
}

fn edit(pair: &Pair, node: usize, number: u8, name: usize) {
    let edited = edited(text(pair, node, number).as_deref(), name);
    pair.keyspace(node, "documents").put(document(number), edited).unwrap();
}

fn resolve_until_equal(pair: &mut Pair) {
    for _ in 0..10 {
        pair.settle();
        let resolved = [0, 1].map(|node| pair.nodes[node].db.resolve_conflicts().unwrap());
        if resolved == [Resolved::default(); 2] {
            return;
        }
    }
    panic!("merges do not come to an end");
}

#[test]
fn edits_of_two_nodes_that_were_apart_end_as_one_document_by_one_merge() {
    let mut pair = pair(11);
    edit(&pair, 0, 0, 1);
    pair.settle();
    pair.nodes.iter_mut().for_each(|node| node.disconnect());
    edit(&pair, 0, 0, 2);
    edit(&pair, 1, 0, 3);
    let commits = |pair: &Pair| -> u64 {
        pair.nodes.iter().map(|node| node.db.replication().commits(MAIN)).sum()
    };
    pair.settle();
    let before = commits(&pair);
    resolve_until_equal(&mut pair);
    assert_eq!(commits(&pair), before + 1);
    let merged = text(&pair, 0, 0).unwrap();
    assert_eq!(text(&pair, 1, 0).unwrap(), merged);
    for member in [r#""1":[1]"#, r#""2":[2]"#, r#""3":[3]"#, r#""1":1"#, r#""2":2"#, r#""3":3"#] {
        assert!(merged.contains(member), "{merged}");
    }
    let stats = [0, 1].map(|node| pair.nodes[node].db.stats().conflicts_parked);
    assert_eq!(stats.iter().sum::<u64>(), 1, "{stats:?}");
}

/// What node 0 makes of a document, then node 1 without having seen that; what both have in the end.
fn end_of(older: Option<&str>, newer: Option<&str>) -> Option<String> {
    let mut pair = pair(12);
    pair.keyspace(0, "documents").put(document(0), "{}").unwrap();
    pair.settle();
    pair.nodes.iter_mut().for_each(|node| node.disconnect());
    for (node, text) in [older, newer].into_iter().enumerate() {
        // Another millisecond of their clock.
        pair.clock.set(pair.clock.wall_ms() + 1);
        let keyspace = pair.keyspace(node, "documents");
        match text {
            Some(text) => keyspace.put(document(0), text).unwrap(),
            None => keyspace.delete(document(0)).unwrap(),
        };
    }
    resolve_until_equal(&mut pair);
    let stats = pair.nodes[1].db.stats();
    assert_eq!((stats.conflicts_parked, stats.conflicts_resolved), (1, 1));
    let ends = [0, 1].map(|node| text(&pair, node, 0));
    assert_eq!(ends[0], ends[1]);
    ends[1].clone()
}

#[test]
fn a_delete_on_either_side_and_what_is_no_object_are_the_winners() {
    let (a, b) = (Some(r#"{"a":1}"#), Some(r#"{"b":2}"#));
    assert_eq!(end_of(a, b).as_deref(), Some(r#"{"b":2,"a":1}"#));
    for (older, newer) in [(a, None), (None, b), (a, Some("text")), (Some("[1]"), b), (a, a)] {
        assert_eq!(end_of(older, newer).as_deref(), newer);
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, ..ProptestConfig::default() })]

    #[test]
    fn what_one_node_added_is_there_on_both_however_they_met(
        steps in prop::collection::vec(any_step(), 1..30), seed in 0u64..1000
    ) {
        let mut pair = pair(seed);
        let mut added = vec![BTreeSet::new(); usize::from(DOCUMENTS)];
        for (name, step) in steps.iter().enumerate() {
            match *step {
                Step::Edit(node, number) => {
                    edit(&pair, node, number, name);
                    added[usize::from(number)].insert(name);
                }
                Step::Meet(ms) => pair.run(ms),
                Step::Resolve(node) => drop(pair.nodes[node].db.resolve_conflicts().unwrap()),
                Step::Compact(node) => pair.nodes[node].db.compact_all().unwrap(),
            }
        }
        resolve_until_equal(&mut pair);
        prop_assert_eq!(pair.content(0), pair.content(1));
        prop_assert_eq!(pair.nodes[0].store.applied(MAIN), pair.nodes[1].store.applied(MAIN));
        for (number, names) in added.iter().enumerate() {
            let found = text(&pair, 0, number as u8).unwrap_or_default();
            for name in names {
                let members = [format!(r#""{name}":[{name}]"#), format!(r#""{name}":{name}"#)];
                prop_assert!(members.iter().all(|member| found.contains(member)), "{found} {name}");
            }
        }
    }
}
