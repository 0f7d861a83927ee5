//! When a node gets a delta, and when the log instead.

use crate::net::{Net, change};
use replication::memory::Change;
use replication::protocol::{Channel, Event, Tier};

#[test]
fn a_node_behind_the_log_gets_a_delta() {
    let mut net = Net::new(5, 2, 0);
    net.put(0, "a", "1");
    net.heal();
    net.cut(0, 1);
    net.put(0, "b", "2");
    net.delete(0, "a");
    net.write(0, vec![change("k", "x", Change::DeleteTo("z".into()))]);
    net.nodes[0].store.trim_log(0);
    net.put(1, "y", "late but lower");
    net.heal();
    assert!(net.has_chosen(1, Tier::Delta), "{:?}", net.events);
    net.check_fold();
}

/// Also behind a relay, whose log has nothing of what came to it as a delta.
#[test]
fn a_node_far_behind_gets_a_delta_though_the_log_reaches() {
    let mut net = Net::new(14, 3, 0);
    net.nodes.iter().for_each(|node| node.store.set_far_behind(30));
    net.put(0, "a", "1");
    net.connect(0, 1);
    net.connect(1, 2);
    net.run(6_000);
    net.cut(0, 1);
    net.cut(1, 2);
    net.events.clear();
    for at in 0..20 {
        net.put(0, &format!("key {at}"), "few");
    }
    net.connect(0, 1);
    net.run(2_000);
    assert!(!net.has_chosen(1, Tier::Delta), "{:?}", net.events);
    net.cut(0, 1);
    for at in 0..40 {
        net.put(0, &format!("key {at}"), "many");
    }
    net.delete(0, "key 7");
    net.put(1, "key 9", "and this one here, meanwhile");
    net.connect(0, 1);
    net.run(2_000);
    assert!(net.has_chosen(1, Tier::Delta), "{:?}", net.events);
    net.connect(1, 2);
    net.run(6_000);
    assert!(net.has_chosen(2, Tier::Delta), "{:?}", net.events);
    assert!(net.failures.is_empty(), "{:?}", net.failures);
    net.heal();
    net.check_fold();
}

/// What had come of a delta is lost when the line breaks; of the log each shipment counts. But a link that is made
/// twice breaks off as well.
#[test]
fn deltas_that_broke_off_twice_are_followed_by_the_log() {
    let mut net = Net::new(14, 2, 0);
    net.put(0, "a", "1");
    net.heal();
    net.nodes.iter().for_each(|node| node.store.set_far_behind(30));
    for (round, is_delta) in [(1, true), (2, true), (3, false), (4, true)] {
        net.cut(0, 1);
        // For longer than who got state gets none, and once at once: as the other of two links.
        net.run(if round == 2 { 0 } else { 2_000 });
        for at in 0..40 {
            net.put(0, &format!("key {at}"), &format!("of round {round}"));
        }
        // The node writes as well: that is not what it was to take.
        net.put(1, "own", "later");
        net.events.clear();
        net.connect(0, 1);
        if is_delta {
            let began = net.now_ms;
            while net.on_their_way(0, 1, Channel::Bulk) == 0 {
                net.step();
                net.pass(1);
                assert!(net.now_ms < began + 60_000, "{:?} {:?}", net.events, net.failures);
            }
            match round {
                1 | 2 => net.cut(0, 1),
                _ => net.run(2_000),
            }
        } else {
            net.run(2_000);
        }
        assert_eq!(net.has_chosen(1, Tier::Delta), round == 4, "round {round}: {:?}", net.events);
        assert_eq!(net.get(1, "key 7").is_some(), round > 2, "round {round}");
    }
    assert!(net.failures.is_empty(), "{:?}", net.failures);
    net.heal();
    net.check_fold();
}

/// Of two peers with all of it one gives a delta. The other must not send its log meanwhile.
#[test]
fn who_takes_a_delta_of_one_gets_no_log_of_the_other() {
    let mut net = Net::new(14, 3, 0);
    net.put(0, "a", "1");
    net.heal();
    net.nodes.iter().for_each(|node| node.store.set_far_behind(30));
    net.cut_all(1);
    (0..40).for_each(|at| assert!(net.put(0, &format!("key {at}"), "missed")));
    net.run(2_000);
    // What came to it in one shipment is one entry of its log.
    net.nodes[2].store.set_far_behind(1);
    net.nodes.iter().for_each(|node| node.store.set_idle_calls(100));
    net.events.clear();
    net.connect(0, 1);
    net.connect(1, 2);
    let began = net.now_ms;
    while !net.has_chosen(1, Tier::Delta) {
        (0..20).for_each(|_| _ = net.step());
        assert_eq!((net.pending(0, 1), net.pending(2, 1)), ((0, 0), (0, 0)));
        net.pass(50);
        assert!(net.now_ms < began + 600_000, "{:?}", net.events);
    }
    assert!(net.now_ms > began + 3_000, "the other one was not asked again meanwhile");
    net.nodes.iter().for_each(|node| node.store.set_idle_calls(0));
    let chosen = net.events.iter().filter(|it| **it == (1, Event::Chose(Tier::Delta))).count();
    assert_eq!(chosen, 1, "{:?}", net.events);
    assert!(net.failures.is_empty(), "{:?}", net.failures);
    net.heal();
    net.check_fold();
}

#[test]
fn who_took_all_of_a_delta_and_is_far_behind_again_gets_another() {
    let mut net = Net::new(14, 2, 0);
    net.put(0, "a", "1");
    net.heal();
    net.nodes.iter().for_each(|node| node.store.set_far_behind(30));
    net.cut(0, 1);
    (0..40).for_each(|at| assert!(net.put(0, &format!("key {at}"), "missed")));
    // So it lasts for longer than who got state gets none.
    net.nodes.iter().for_each(|node| node.store.set_idle_calls(100));
    net.events.clear();
    net.connect(0, 1);
    while net.on_their_way(0, 1, Channel::Bulk) == 0 {
        net.step();
    }
    (0..40).for_each(|at| assert!(net.put(0, &format!("key {at}"), "missed as well")));
    let began = net.now_ms;
    while net.get(1, "key 7").as_deref() != Some("missed as well") {
        (0..20).for_each(|_| _ = net.step());
        net.nodes.iter().for_each(|node| node.store.sync());
        net.pass(50);
        assert!(net.now_ms < began + 600_000, "{:?}", net.events);
    }
    let taken = net.events.iter().filter(|it| **it == (1, Event::Installed(Tier::Delta))).count();
    assert_eq!(taken, 2, "{:?}", net.events);
    assert!(net.failures.is_empty(), "{:?}", net.failures);
    net.nodes.iter().for_each(|node| node.store.set_idle_calls(0));
    net.heal();
    net.check_fold();
}

/// State comes once a second at the most: who is behind again before that does not wait for it.
#[test]
fn who_is_far_behind_again_at_once_gets_the_log() {
    let mut net = Net::new(14, 2, 0);
    net.put(0, "a", "1");
    net.heal();
    net.nodes.iter().for_each(|node| node.store.set_far_behind(1));
    net.cut(0, 1);
    net.put(0, "key", "missed");
    net.events.clear();
    net.connect(0, 1);
    for at in 0..200 {
        net.put(0, &format!("key {at}"), "meanwhile");
        (0..20).for_each(|_| _ = net.step());
        net.nodes.iter().for_each(|node| node.store.sync());
        net.pass(1);
    }
    let chosen = net.events.iter().filter(|it| **it == (1, Event::Chose(Tier::Delta))).count();
    assert_eq!(chosen, 1, "{:?}", net.events);
    assert!(net.get(1, "key 150").is_some());
    assert!(net.failures.is_empty(), "{:?}", net.failures);
    net.heal();
    net.check_fold();
}
