//! What a peer does to the keyspaces of the nodes themselves.

use crate::pair::{MAIN, Pair, small};
use crate::parts::noise;
use engine::{Conflict, Resolution};
use replication::engine_store::{EngineStore, recorded_role};
use replication::link::Bell;
use replication::protocol::{Event, Tier};
use replication::roster::Role;
use replication::store::{Store, keyspaces};
use replication::{ProtocolError, Remedy};
use std::time::Duration;

/// Its session ends, and it is left alone; the node still has the name.
#[test]
fn a_peer_that_brings_what_is_each_nodes_own_is_banned() {
    for far_behind in [1 << 20, 1] {
        let mut pair = Pair::new(1, &small());
        let db = pair.nodes[0].db.clone();
        pair.nodes[0].store = EngineStore::new(db, &Bell::default()).far_behind(far_behind);
        pair.keyspace(1, "k").put("of the other", "1").unwrap();
        pair.settle();
        pair.nodes.iter_mut().for_each(|node| node.disconnect());
        let lie = pair.nodes[0].db.replication().keyspace(MAIN, "esker.conflicts").unwrap();
        lie.put("x", noise(1, 20_000)).unwrap();
        pair.nodes[0].db.flush().unwrap();
        pair.events.clear();

        pair.run(3_000);

        let is_delta = pair.events.contains(&(1, Event::Chose(Tier::Delta)));
        assert_eq!(is_delta, far_behind == 1, "{:?}", pair.events);
        assert!(!pair.failures.is_empty());
        for (node, error) in &pair.failures {
            let is_malformed = matches!(error, ProtocolError::Malformed { .. });
            assert!(*node == 1 && is_malformed && error.remedy() == Remedy::Ban, "{error}");
        }
        let keeps = |_: &Conflict<'_>| Ok(Resolution::KeepWinner);
        pair.nodes[1].db.set_resolver("k", keeps).unwrap();
    }
}

/// It is read four times a second.
#[test]
fn junk_in_the_roster_is_neither_read_nor_in_the_way_of_members() {
    let mut pair = Pair::new(2, &small());
    pair.settle();
    let roster = pair.nodes[0].db.replication().keyspace(MAIN, keyspaces::ROSTER).unwrap();
    for number in 0..100u8 {
        let junk = noise(u64::from(number), 50_000);
        roster.put([b'x', number], &junk).unwrap();
        roster.put([[b'm'; 16], [number; 16]].concat(), b"too long").unwrap();
    }
    pair.settle();
    let node = &pair.nodes[1];
    node.db.compact_all().unwrap();
    let before = node.fs.calls();
    assert!(node.store.entries(keyspaces::ROSTER).unwrap().len() > 200);
    let of_all = node.fs.calls() - before;

    pair.group(1).tick(pair.now() + Duration::from_secs(1), &node.store).unwrap();

    let of_roster = node.fs.calls() - before - of_all;
    assert!(of_roster * 5 < of_all, "{of_roster} and {of_all} reads");
    assert_eq!(pair.group(1).role_of(pair.id(0)), Some(Role::Author));
    assert_eq!(recorded_role(&node.db.replication()).unwrap(), Some(Role::Author));
}
