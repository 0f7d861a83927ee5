//! Audits: what differs and is no lag comes back, or goes on both sides; nothing else changes.

use crate::net::{Dice, Net, SCOPE, change, id};
use replication::health::AuditReport;
use replication::memory::Change;
use replication::protocol::{Event, SessionConfig};
use replication::store::{Store, keyspaces};
use std::time::Duration;

fn on_demand(config: &mut SessionConfig) {
    config.audit_every = None;
}

/// Nodes that have the same, at rest.
fn at_rest(seed: u64, authors: usize, keys: u32) -> Net {
    let mut net = Net::new(seed, authors, 0);
    net.tweak = on_demand;
    net.connect_all();
    net.run(3_000);
    for key in 0..keys {
        assert!(net.put(key as usize % authors, &format!("key-{key}"), "value"));
    }
    net.heal();
    net
}

/// Compares `a` and `b`; the reports of both.
fn audit(net: &mut Net, a: usize, b: usize) -> [AuditReport; 2] {
    net.events.clear();
    net.nodes[a].group.want_audit(id(b));
    net.run(12_000);
    [a, b].map(|node| {
        let of = |(at, event): &(usize, Event)| match event {
            Event::Audited(report) if *at == node => Some(report.clone()),
            _ => None,
        };
        let found: Vec<AuditReport> = net.events.iter().filter_map(of).collect();
        assert_eq!(found.len(), 1, "{:?} {:?}", net.events, net.failures);
        found[0].clone()
    })
}

#[test]
fn nodes_with_the_same_are_through_after_one_round_trip() {
    let mut net = at_rest(1, 2, 3_000);
    for (a, b) in [(0, 1), (1, 0)] {
        let reports = audit(&mut net, a, b);
        for report in &reports {
            assert_eq!((report.half_rounds, report.diverged(), report.differences), (2, 0, 0));
            assert!(report.bytes <= 60 && report.elements >= 3_000, "{report:?}");
        }
    }
    assert!(net.failures.is_empty(), "{:?}", net.failures);
}

#[test]
fn what_one_node_has_lost_comes_back_and_is_counted() {
    let mut net = at_rest(2, 2, 500);
    let expected = net.nodes[0].store.dump();
    for key in [3, 77, 78, 79, 499] {
        net.nodes[1].store.lose("k", format!("key-{key}").as_bytes());
    }
    net.nodes[0].store.lose("k", b"key-5");
    let [a, b] = audit(&mut net, 0, 1);
    assert_eq!((a.given, a.taken, b.given, b.taken), (5, 1, 1, 5));
    assert_eq!((a.diverged(), a.lag, b.lag), (6, 0, 0));
    for node in &net.nodes {
        assert_eq!(node.store.dump(), expected);
        assert_eq!(node.store.entries(keyspaces::QUARANTINE).unwrap(), []);
    }
    let status = &net.nodes[0].group.health(&net.nodes[0].store, 0).peers[&id(1)];
    assert_eq!((status.diverged, status.audit.as_ref()), (6, Some(&a)));
    let [a, _] = audit(&mut net, 0, 1);
    assert_eq!((a.half_rounds, a.diverged()), (2, 0));
    assert!(net.failures.is_empty(), "{:?}", net.failures);
}

#[test]
fn what_is_on_its_way_is_no_divergence() {
    let mut net = at_rest(3, 3, 300);
    // What the third node writes reaches one of the others only.
    net.cut(1, 2);
    net.cut(0, 1);
    for key in 0..50 {
        net.put(2, &format!("key-{key}"), "newer");
        net.delete(2, &format!("key-{}", 100 + key));
        net.put(2, &format!("fresh-{key}"), "newer");
    }
    net.run(2_000);
    net.cut_all(2);
    for session in [0, 1] {
        // It comes to no tail between the two: they would catch up before they compare.
        net.nodes[session].store.trim_log(1_000);
    }
    net.connect(0, 1);
    net.nodes[0].group.want_audit(id(1));
    net.run(12_000);
    assert!(net.events.iter().any(|(_, event)| matches!(event, Event::Audited(_))));
    for (_, event) in &net.events {
        if let Event::Audited(report) = event {
            assert_eq!(report.diverged(), 0, "{report:?}");
        }
    }
    net.heal();
}

/// Nobody can tell whether the node that lacks it has lost it, or has deleted it and forgotten.
#[test]
fn what_may_have_been_deleted_goes_into_quarantine_on_both_sides() {
    let mut net = at_rest(4, 2, 100);
    net.delete(0, "key-7");
    net.heal();
    net.run(10_000);
    net.nodes.iter().for_each(|node| node.store.collect());
    assert!(net.nodes[1].store.dropped(SCOPE) > base::Tick::ZERO);
    net.nodes[1].store.lose("k", b"key-8");
    let [a, b] = audit(&mut net, 0, 1);
    assert_eq!((a.disowned, b.taken, a.diverged()), (1, 0, 1));
    net.heal();
    for node in 0..2 {
        assert_eq!(net.get(node, "key-8"), None);
        assert_eq!(net.get(node, "key-9").as_deref(), Some("value"));
        let kept = net.nodes[node].store.entries(keyspaces::QUARANTINE).unwrap();
        assert_eq!(kept.len(), 1);
        assert_eq!((&*kept[0].key, &*kept[0].value), (&b"k/key-8"[..], &b"value"[..]));
    }
}

/// The tombstone is below the floor, so it is not compared: what it hides on one side is.
#[test]
fn a_lost_tombstone_comes_back_from_who_still_has_it() {
    let mut net = at_rest(5, 2, 100);
    net.delete(1, "key-7");
    net.heal();
    net.run(10_000);
    let writer = net.nodes[1].store.origin();
    let deleted = net.nodes[1].store.applied(SCOPE).get(writer);
    assert!(net.nodes[0].store.floor(SCOPE).covers(writer, deleted));
    // The node shows the value again although it has received its deletion.
    net.nodes[0].store.lose("k", b"key-7");
    net.nodes[0].store.show_again("k", b"key-7", b"value");
    assert_eq!(net.get(0, "key-7").as_deref(), Some("value"));
    let [a, _] = audit(&mut net, 0, 1);
    assert_eq!((a.taken, a.disowned), (1, 0));
    assert!((0..2).all(|node| net.get(node, "key-7").is_none()));
}

/// Whatever is lost wherever: afterwards both read the same, and nothing that was never deleted is
/// gone from both without a copy.
#[test]
fn audits_make_any_two_copies_equal() {
    for seed in 0..60 {
        let mut net = at_rest(seed, 2, 40);
        let mut dice = Dice(seed ^ 0xa0d1);
        for _ in 0..30 {
            let (node, key) = (dice.below(2), format!("key-{}", dice.below(60)));
            match dice.below(4) {
                0 => net.put(node, &key, "other"),
                1 => net.delete(node, &key),
                2 => net.write(node, vec![change("k", &key, Change::DeleteTo("key-3".into()))]),
                _ => net.put(node, &key, "more"),
            };
        }
        net.heal();
        if dice.one_in(2) {
            net.run(5_000);
            net.nodes[dice.below(2)].store.collect();
        }
        for _ in 0..dice.below(20) {
            let key = format!("key-{}", dice.below(60));
            net.nodes[dice.below(2)].store.lose("k", key.as_bytes());
        }
        audit(&mut net, 0, 1);
        net.heal();
        let [a, b] = audit(&mut net, 1, 0);
        assert_eq!((a.diverged(), b.diverged()), (0, 0), "seed {seed}");
        assert_eq!(net.nodes[0].store.dump(), net.nodes[1].store.dump(), "seed {seed}");
        let lie =
            |failure: &&(usize, _)| !matches!(failure.1, replication::ProtocolError::Left { .. });
        assert_eq!(net.failures.iter().filter(lie).count(), 0, "seed {seed}: {:?}", net.failures);
    }
}

#[test]
fn audits_come_by_themselves() {
    let mut net = Net::new(9, 2, 0);
    net.tweak = |config| config.audit_every = Some(Duration::from_secs(20));
    net.connect_all();
    net.put(0, "a", "b");
    net.run(70_000);
    let audits = |event: &&(usize, Event)| event.0 == 0 && matches!(event.1, Event::Audited(_));
    assert_eq!(net.events.iter().filter(audits).count(), 3);
}
