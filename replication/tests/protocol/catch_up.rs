//! Each way to catch up, alone.

use crate::net::{Net, SCOPE, change, id};
use replication::group::{Group, Writes};
use replication::memory::{Backup, Change, MemoryStore};
use replication::protocol::frame::{FEATURE_PACKED, FEATURE_ROOTS};
use replication::protocol::{Event, Tier};
use replication::roster::{Life, Member, Role};
use replication::store::{Store, keyspaces};
use std::sync::Arc;

#[test]
fn what_one_writes_the_other_reads() {
    let mut net = Net::new(1, 2, 0);
    net.put(0, "a", "1");
    net.connect(0, 1);
    net.run(500);
    assert_eq!(net.get(1, "a"), Some("1".into()));
    net.put(1, "b", "2");
    net.delete(0, "a");
    net.run(500);
    assert_eq!((net.get(1, "a"), net.get(0, "b")), (None, Some("2".into())));
    assert!(net.failures.is_empty(), "{:?}", net.failures);
    net.check_fold();
}

#[test]
fn writes_reach_a_node_through_another() {
    let mut net = Net::new(2, 3, 0);
    net.connect(0, 1);
    net.connect(1, 2);
    net.put(0, "a", "1");
    net.put(2, "c", "3");
    net.run(6_000);
    assert_eq!((net.get(2, "a"), net.get(0, "c")), (Some("1".into()), Some("3".into())));
    // Confirms pass through it too: the floor of the first covers what the last has.
    let own = net.nodes[0].store.origin();
    let floor = net.nodes[0].store.floor(SCOPE);
    assert!(floor.get(own) > base::Tick::ZERO, "{floor:?}");
}

#[test]
fn an_empty_node_gets_tables() {
    let mut net = Net::new(3, 2, 0);
    for at in 0..2_000 {
        net.put(0, &format!("key {at}"), "some value that is not very short");
    }
    net.delete(0, "key 7");
    net.connect(0, 1);
    net.run(2_000);
    assert!(net.has_chosen(1, Tier::Tables), "{:?} {:?}", net.events, net.failures);
    assert!(net.is_equal());
    net.check_fold();
    net.put(1, "mine", "too");
    net.run(1_000);
    assert_eq!(net.get(0, "mine"), Some("too".into()));
}

#[test]
fn tables_go_on_where_they_broke_off() {
    let mut net = Net::new(4, 2, 0);
    for at in 0..5_000 {
        net.put(0, &format!("key {at}"), "some value that is not very short");
    }
    for _ in 0..20 {
        net.connect(0, 1);
        for _ in 0..120 {
            net.step();
        }
        net.cut(0, 1);
    }
    net.heal();
    net.check_fold();
    assert!(net.has_chosen(1, Tier::Tables));
}

#[test]
fn payloads_are_packed_only_for_who_can_unpack_them() {
    for is_packed in [true, false] {
        let mut net = Net::new(14, 2, 0);
        if !is_packed {
            net.tweak = |config| config.features = FEATURE_ROOTS;
        }
        net.put(0, "a", "1");
        net.heal();
        net.put(0, "b", &"word ".repeat(1_000));
        net.heal();
        assert_eq!(net.saved(0, 1) > 0, is_packed);
        net.check_fold();
    }
}

/// A node of before announces tables by other digests, so none are asked for and none are given.
#[test]
fn an_empty_node_gets_a_delta_of_a_peer_that_does_not_speak_of_roots() {
    let mut net = Net::new(13, 2, 0);
    net.tweak = |config| config.features = FEATURE_PACKED;
    net.put(0, "a", "1");
    net.nodes[0].store.trim_log(0);
    net.heal();
    assert!(net.has_chosen(1, Tier::Delta) && !net.has_chosen(1, Tier::Tables));
    net.check_fold();
}

/// A giver that looks through much for little, and a taker whose disk is slow, are no less alive.
#[test]
fn state_that_takes_minutes_is_taken_all_the_same() {
    for tier in [Tier::Delta, Tier::Tables] {
        let mut net = Net::new(12, 2, 0);
        net.put(0, "a", "1");
        if tier == Tier::Delta {
            net.heal();
            net.cut(0, 1);
            net.put(0, "b", "2");
            net.nodes[0].store.trim_log(0);
        }
        net.nodes.iter().for_each(|node| node.store.set_idle_calls(400));
        net.connect(0, 1);
        let began = net.now_ms;
        while !net.events.contains(&(1, Event::Installed(tier))) {
            net.step();
            net.pass(50);
            assert!(net.now_ms < began + 3_600_000, "{tier:?}: {:?}", net.events);
            assert!(net.failures.is_empty(), "{:?}", net.failures);
        }
        assert!(net.now_ms > began + 90_000, "{tier:?}: {} ms", net.now_ms - began);
        let chose = net.events.iter().filter(|event| **event == (1, Event::Chose(tier)));
        assert_eq!(chose.count(), 1);
        net.nodes.iter().for_each(|node| node.store.set_idle_calls(0));
        net.heal();
        net.check_fold();
    }
}

/// A node that was shut out and let in again must not bring back what was deleted meanwhile.
#[test]
fn a_node_below_the_floor_rejoins_and_brings_nothing_back() {
    let mut net = Net::new(6, 3, 0);
    net.put(0, "gone", "1");
    net.put(0, "stays", "1");
    net.heal();
    net.cut_all(2);
    let deprecated = Member::new(Role::Deprecated);
    let store = net.nodes[0].store.clone();
    net.nodes[0].group.set_member(&store, id(2), deprecated).unwrap();
    net.delete(0, "gone");
    net.pass(1);
    net.put(2, "own", "unseen");
    net.connect(0, 1);
    net.run(10_000);
    for node in [0, 1] {
        net.nodes[node].store.collect();
        net.nodes[node].store.sync();
        net.nodes[node].store.trim_log(0);
    }
    assert!(net.nodes[0].store.dropped(SCOPE) > base::Tick::ZERO, "nothing was collected");
    let author = Member::new(Role::Author);
    net.nodes[0].group.set_member(&store, id(2), author).unwrap();
    net.run(1_000);
    net.heal();
    assert!(net.has_chosen(2, Tier::Rejoin), "{:?} {:?}", net.events, net.failures);
    assert_eq!((net.get(2, "gone"), net.get(2, "stays")), (None, Some("1".into())));
    assert_eq!(net.get(1, "own"), Some("unseen".into()));
    let renewed = net.events.iter().filter(|(node, event)| (*node, event) == (2, &Event::Renewed));
    assert_eq!(renewed.count(), 1, "both peers ask for another life: {:?}", net.events);
    let rejoins = net.events.iter().filter(|it| **it == (2, Event::Installed(Tier::Rejoin)));
    assert_eq!(rejoins.count(), 1, "{:?}", net.events);
    net.check_fold();
    assert_eq!(net.nodes[2].group.writes(), Writes::Open);
}

#[test]
fn a_restored_node_waits_for_an_author_and_gets_its_own_writes_back() {
    let mut net = Net::new(7, 2, 0);
    net.put(0, "a", "1");
    net.heal();
    let backup = net.nodes[0].store.backup();
    net.put(0, "b", "2");
    net.heal();
    net.restore(0, &backup);
    assert_eq!(net.nodes[0].group.writes(), Writes::Announcing);
    assert!(!net.put(0, "c", "3"));
    net.heal();
    assert_eq!(net.nodes[0].group.writes(), Writes::Open);
    assert_eq!(net.get(0, "b"), Some("2".into()));
    assert!(net.put(0, "c", "3"));
    net.heal();
    net.check_fold();
}

/// An author confirms the new life over the reader between them.
#[test]
fn a_restored_node_behind_a_relay_that_only_reads_may_write_again() {
    let mut net = Net::new(8, 2, 1);
    let through_the_reader = |net: &mut Net| {
        net.connect(0, 2);
        net.connect(2, 1);
        net.run(10_000);
    };
    net.put(0, "a", "1");
    through_the_reader(&mut net);
    let backup = net.nodes[0].store.backup();
    net.put(0, "b", "2");
    net.run(10_000);
    net.restore(0, &backup);
    net.connect(0, 2);
    net.cut(2, 1);
    net.run(10_000);
    assert_eq!(net.nodes[0].group.writes(), Writes::Announcing);
    through_the_reader(&mut net);
    assert_eq!(net.nodes[0].group.writes(), Writes::Open);
    assert_eq!(net.get(0, "b"), Some("2".into()));
    assert!(net.put(0, "c", "3"));
    through_the_reader(&mut net);
    assert_eq!(net.get(1, "c"), Some("3".into()));
    net.check_fold();
}

/// Node 0 has again what it had, and lives on as if nothing had happened.
fn put_back(net: &mut Net, copy: &Backup) {
    let incarnation = net.nodes[0].store.origin().incarnation;
    net.cut_all(0);
    net.nodes[0].store = MemoryStore::restore(copy, incarnation, 1_700_000_000_000 + net.now_ms);
    let group = Group::open(net.nodes[0].config.clone(), &net.nodes[0].store).unwrap();
    net.nodes[0].group = Arc::new(group);
    net.forget_heights(0);
}

/// What it writes about itself, unasked, would be another history.
#[test]
fn a_node_that_was_put_back_writes_nothing_before_it_has_met_somebody() {
    let mut net = Net::new(8, 2, 0);
    net.put(0, "a", "1");
    net.heal();
    // As if it had said nothing about itself yet.
    net.nodes[0].store.lose(keyspaces::ROSTER, &Life::key(id(0)));
    let copy = net.nodes[0].store.backup();
    net.put(0, "b", "2");
    net.heal();
    put_back(&mut net, &copy);
    let has = net.nodes[0].store.applied(SCOPE);
    net.run(3_000);
    assert_eq!(net.nodes[0].store.applied(SCOPE), has);
    net.heal();
    assert!(net.events.contains(&(0, Event::Healing)), "{:?} {:?}", net.events, net.failures);
    assert_eq!(net.nodes[0].group.writes(), Writes::Open);
    assert_eq!(net.get(0, "b"), Some("2".into()));
    net.check_fold();
}

/// Each of its peers has another part of what it lost, and reaches the other one only through it.
#[test]
fn a_node_whose_tail_is_gone_gets_what_any_of_its_peers_has() {
    let mut net = Net::new(8, 3, 0);
    net.put(0, "a", "1");
    net.heal();
    net.cut_all(2);
    let copy = net.nodes[0].store.backup();
    net.put(0, "b", "2");
    net.cut(1, 2);
    net.run(3_000);
    net.cut_all(1);
    net.put(0, "c", "3");
    net.connect(0, 2);
    net.run(3_000);
    assert_eq!((net.get(1, "b"), net.get(1, "c")), (Some("2".into()), None));
    assert_eq!(net.get(2, "c"), Some("3".into()));
    put_back(&mut net, &copy);

    for _ in 0..10 {
        net.connect(0, 1);
        net.connect(0, 2);
        net.run(1_000);
    }

    assert_eq!(net.get(0, "c"), Some("3".into()), "{:?} {:?}", net.events, net.failures);
    assert_eq!(net.get(1, "c"), Some("3".into()));
    let renewed = net.events.iter().filter(|it| **it == (0, Event::Renewed));
    assert_eq!(renewed.count(), 1, "{:?}", net.events);
    assert_eq!(net.nodes[0].group.writes(), Writes::Open, "{:?} {:?}", net.events, net.failures);
    assert!(net.put(0, "d", "4"));
    net.heal();
    net.check_fold();
}

/// A disk that lied: the peer has writes that their author lost.
#[test]
fn a_node_whose_tail_is_gone_heals_from_its_peer() {
    let mut net = Net::new(8, 2, 0);
    net.put(0, "a", "1");
    net.heal();
    let copy = net.nodes[0].store.backup();
    net.put(0, "b", "2");
    net.heal();
    let life = net.nodes[0].store.origin();
    put_back(&mut net, &copy);
    net.heal();
    assert!(net.events.contains(&(0, Event::Healing)), "{:?} {:?}", net.events, net.failures);
    assert_eq!(net.get(0, "b"), Some("2".into()));
    assert_ne!(net.nodes[0].store.origin(), life);
    assert!(net.put(0, "c", "3"));
    net.heal();
    net.check_fold();
}

#[test]
fn a_clock_that_is_ahead_parks_the_stream_and_loses_nothing() {
    let mut net = Net::new(10, 2, 0);
    net.heal();
    net.nodes[0].skew_ms = 20_000;
    net.pass(1);
    net.put(0, "a", "1");
    net.connect(0, 1);
    net.run(3_000);
    assert_eq!(net.get(1, "a"), None);
    let parked =
        |(node, event): &(usize, Event)| *node == 1 && matches!(event, Event::Parked { .. });
    assert!(net.events.iter().any(parked), "{:?} {:?}", net.events, net.failures);
    // Time passes, and the clock is set right.
    net.nodes[0].skew_ms = 0;
    net.run(20_000);
    assert_eq!(net.get(1, "a"), Some("1".into()));
}

/// What was on its way when the stream was parked is no fault of the peer.
#[test]
fn a_delta_of_a_clock_that_is_ahead_is_parked_and_nobody_is_blamed() {
    let mut net = Net::new(13, 2, 0);
    net.heal();
    net.cut(0, 1);
    net.nodes[0].skew_ms = 20_000;
    net.pass(1);
    net.put(0, "a", "1");
    net.nodes[0].store.trim_log(0);
    net.connect(0, 1);
    net.run(5_000);
    assert!(net.failures.is_empty(), "{:?}", net.failures);
    assert_eq!(net.get(1, "a"), None);
    net.nodes[0].skew_ms = 0;
    net.run(30_000);
    assert!(net.failures.is_empty(), "{:?}", net.failures);
    assert_eq!(net.get(1, "a"), Some("1".into()));
}

#[test]
fn a_log_that_falls_behind_a_parked_stream_is_no_fault_of_the_peer() {
    let mut net = Net::new(14, 2, 0);
    net.heal();
    net.nodes[0].skew_ms = 20_000;
    net.pass(1);
    net.put(0, "a", "1");
    let is_parked = |net: &Net| net.events.iter().any(|(_, e)| matches!(e, Event::Parked { .. }));
    while !is_parked(&net) {
        net.step();
    }
    net.put(0, "b", "2");
    net.put(0, "c", "3");
    net.nodes[0].store.trim_log(1);
    net.run(5_000);
    net.nodes[0].skew_ms = 0;
    net.run(30_000);
    assert!(net.failures.is_empty(), "{:?}", net.failures);
    assert_eq!(net.get(1, "c"), Some("3".into()));
}

/// A user that is faster than the tables finds the node closed, or the node takes no tables.
#[test]
fn a_user_who_writes_while_tables_come_breaks_nothing() {
    for steps in 0..60 {
        let mut net = Net::new(15, 2, 0);
        net.put(0, "a", "1");
        net.connect(0, 1);
        for _ in 0..steps {
            net.step();
        }
        net.put(1, "early", "mine");
        net.heal();
        assert!(net.failures.is_empty(), "{steps}: {:?}", net.failures);
        net.check_fold();
    }
}

/// A node that is made a reader had written before, and its peers have heard of the one first.
#[test]
fn what_a_node_wrote_before_it_became_a_reader_is_taken() {
    let mut net = Net::new(16, 3, 0);
    net.connect(0, 1);
    net.run(1_000);
    let store = net.nodes[2].store.clone();
    store.write(&[change("k", "before", Change::Put("1".into()))]).unwrap();
    net.pass(10);
    let reader = Member::new(Role::Observer);
    let store = net.nodes[0].store.clone();
    net.nodes[0].group.set_member(&store, id(2), reader).unwrap();
    net.heal();
    assert!(net.failures.is_empty(), "{:?}", net.failures);
    assert_eq!(net.get(0, "before"), Some("1".into()));
}

#[test]
fn a_value_longer_than_a_frame_goes_in_pieces() {
    let mut net = Net::new(11, 2, 0);
    let long = "x".repeat(3 << 20);
    net.heal();
    net.put(0, "long", &long);
    net.put(0, "short", "1");
    net.run(1_000);
    assert_eq!(net.get(1, "long").map(|value| value.len()), Some(3 << 20));
    assert_eq!(net.get(1, "short"), Some("1".into()));
    // And within a delta.
    net.cut(0, 1);
    net.put(0, "long", &long.replace('x', "y"));
    net.nodes[0].store.trim_log(0);
    net.heal();
    net.check_fold();
}

#[test]
fn an_unconfirmed_peer_gets_no_more_than_the_window() {
    let mut net = Net::new(12, 2, 0);
    net.heal();
    net.cut(0, 1);
    for at in 0..400 {
        net.put(0, &format!("{at}"), &"v".repeat(100_000));
    }
    net.nodes[1].store.set_sync(replication::memory::SyncWhen::Told);
    net.connect(0, 1);
    for _ in 0..4_000 {
        net.step();
        let (shipments, bytes) = net.pending(0, 1);
        assert!(shipments <= 1000 && bytes <= (16 << 20) + (300 << 10), "{shipments} {bytes}");
    }
    assert!(net.pending(0, 1).1 > 15 << 20, "{:?}", net.pending(0, 1));
    net.nodes[1].store.set_sync(replication::memory::SyncWhen::Asked);
    net.heal();
    net.check_fold();
}

/// Whoever hears what the new node has must know that the floor waits for it.
#[test]
fn a_node_that_joins_is_a_member_in_the_tables_it_gets() {
    let mut net = Net::new(13, 1, 0);
    net.put(0, "a", "1");
    let joiner = net.add(Role::Author, Vec::new());
    net.connect(0, joiner);
    for _ in 0..10_000 {
        net.step();
        if net.has_chosen(joiner, Tier::Tables) {
            break;
        }
    }
    net.cut_all(joiner);
    let members = net.nodes[joiner].store.entries(keyspaces::ROSTER).unwrap();
    let key = Member::first_key(id(joiner));
    let member = members.iter().find(|held| held.key == key).expect("no record of the joiner");
    assert_eq!(member.stamp.origin, net.nodes[0].store.origin());
    net.heal();
    assert!(net.put(joiner, "b", "2"));
    net.heal();
    net.check_fold();
    assert_eq!(net.nodes[0].group.roster().authors().count(), 2);
}

#[test]
fn a_reader_that_others_took_for_an_author_writes_nothing() {
    let mut net = Net::new(30, 2, 1);
    let (key, author) = (Member::first_key(id(2)), Member::new(Role::Author).encode());
    net.nodes[0].store.put(SCOPE, keyspaces::ROSTER, &key, &author).unwrap();
    net.connect(0, 2);
    net.connect(0, 1);
    net.run(20_000);
    let reader = &net.nodes[2];
    // Nobody had decided: an author enters it as what it says it is.
    assert_eq!(reader.group.roster().role(id(2)), Some(Role::Observer));
    assert_eq!(reader.group.role(), Role::Observer);
    assert!(reader.store.applied(SCOPE).iter().all(|(origin, _)| origin.node != id(2)));
}
