//! Audits over the engine.

use crate::pair::{Content, MAIN, Pair, small};
use replication::health::AuditReport;
use replication::protocol::Event;
use replication::store::{DeltaHead, Purpose, Store};
use std::collections::BTreeSet;
use std::time::Duration;

pub(crate) fn audit(pair: &mut Pair) -> [AuditReport; 2] {
    pair.events.clear();
    pair.group(0).want_audit(pair.id(1));
    pair.run(12_000);
    [0, 1].map(|node| {
        let of = |(at, event): &(usize, Event)| match event {
            Event::Audited(report) if *at == node => Some(report.clone()),
            _ => None,
        };
        let found: Vec<AuditReport> = pair.events.iter().filter_map(of).collect();
        assert_eq!(found.len(), 1, "{:?} {:?}", pair.events, pair.failures);
        found[0].clone()
    })
}

/// Entries of all kinds in tables, frozen and active memtables.
fn fill(pair: &Pair) {
    for (node, name) in [(0, "a"), (1, "ab"), (0, "b")] {
        let keyspace = pair.keyspace(node, name);
        for number in 0..400u32 {
            let value = vec![number as u8; 100];
            keyspace.put(number.to_be_bytes(), &value).unwrap();
            if number % 9 == 0 {
                keyspace.delete((number / 2).to_be_bytes()).unwrap();
            }
            if number % 31 == 0 {
                keyspace
                    .put_expiring(number.to_be_bytes(), &value, Duration::from_secs(900))
                    .unwrap();
            }
        }
        keyspace.delete_range(100u32.to_be_bytes(), 120u32.to_be_bytes()).unwrap();
    }
}

/// Names the keys that differ, not their values.
fn check_content(pair: &Pair, node: usize, expected: &Content) {
    let found = pair.content(node);
    let names = found.keys().chain(expected.keys());
    let other: BTreeSet<_> = names.filter(|name| found.get(*name) != expected.get(*name)).collect();
    assert!(other.is_empty(), "node {node}: {} keys, first {:?}", other.len(), other.first());
}

#[test]
fn two_databases_with_the_same_content_compare_equal_however_it_is_stored() {
    let mut pair = Pair::new(1, &small());
    fill(&pair);
    pair.settle();
    check_content(&pair, 0, &pair.content(1));
    for round in 0..3 {
        match round {
            1 => pair.nodes[0].db.compact_all().unwrap(),
            2 => pair.nodes[1].db.flush().unwrap(),
            _ => {}
        }
        for report in audit(&mut pair) {
            assert_eq!((report.half_rounds, report.differences), (2, 0), "{report:?}");
            assert!(report.elements > 900 && report.bytes <= 60, "{report:?}");
        }
    }
    assert!(pair.failures.is_empty(), "{:?}", pair.failures);
}

/// The other node says that it has everything, and holds nothing of it.
#[test]
fn entries_that_a_database_has_lost_come_back() {
    let mut pair = Pair::new(2, &small());
    fill(&pair);
    let vector = pair.nodes[0].store.applied(MAIN);
    let head = DeltaHead { vector, ..DeltaHead::default() };
    let lies = pair.nodes[1].store.stage(MAIN, &head, Purpose::CatchUp).unwrap();
    lies.install().unwrap();
    pair.settle();
    let expected = pair.content(0);
    assert!(pair.content(1).len() + 600 < expected.len());
    let [a, b] = audit(&mut pair);
    assert!(a.given > 600 && a.given == b.taken, "{a:?} {b:?}");
    assert_eq!((a.taken, a.disowned, b.disowned), (0, 0, 0));
    check_content(&pair, 0, &expected);
    check_content(&pair, 1, &expected);
    let [a, _] = audit(&mut pair);
    assert_eq!((a.half_rounds, a.diverged()), (2, 0));
    for node in &pair.nodes {
        node.db.compact_all().unwrap();
    }
    check_content(&pair, 1, &expected);
    assert!(pair.failures.is_empty(), "{:?}", pair.failures);
}

/// The node that lacks them may have deleted them and forgotten that.
#[test]
fn entries_that_may_have_been_deleted_are_erased_with_a_copy() {
    let mut pair = Pair::new(3, &small());
    fill(&pair);
    let head = DeltaHead {
        vector: pair.nodes[0].store.applied(MAIN),
        dropped: pair.nodes[0].store.applied(MAIN).latest(),
        ..DeltaHead::default()
    };
    let lies = pair.nodes[1].store.stage(MAIN, &head, Purpose::CatchUp).unwrap();
    lies.install().unwrap();
    pair.settle();
    let before = pair.content(0);
    let [a, b] = audit(&mut pair);
    assert!(a.disowned > 600 && a.given == 0 && b.taken == 0, "{a:?} {b:?}");
    pair.settle();
    let is_left = |name: &str| pair.content(0).keys().filter(|(of, _)| of == name).count();
    assert_eq!((is_left("a"), is_left("b")), (0, 0));
    assert!(is_left("ab") > 300);
    check_content(&pair, 0, &pair.content(1));
    let copies = pair.nodes[1].store.entries("esker.quarantine").unwrap();
    assert_eq!(copies.len() as u64, 2 * a.disowned);
    let copied = |value: &Vec<u8>| copies.iter().any(|held| held.value == *value);
    let gone = before.iter().filter(|((of, _), _)| of == "a");
    assert!(gone.into_iter().all(|(_, value)| copied(value)));
    let [a, _] = audit(&mut pair);
    assert_eq!(a.diverged(), 0);
}
