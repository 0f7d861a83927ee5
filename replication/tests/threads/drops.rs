//! A keyspace is dropped on one of three nodes while another is away.

use crate::{KEYSPACE, Node, until};
use base::{NodeId, ScopeId};
use engine::Error;
use replication::link::{LinkSettings, Wire};
use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::time::Duration;
use tokio::runtime::Runtime;

/// Keyspaces and their keys.
fn all(node: &Node) -> BTreeSet<(String, Option<Vec<u8>>)> {
    let mut all = BTreeSet::new();
    for keyspace in node.db.keyspaces() {
        all.insert((keyspace.name().to_owned(), None));
        // One that ends meanwhile is seen at the next look.
        for (key, _) in keyspace.iter().flatten() {
            all.insert((keyspace.name().to_owned(), Some(key.to_vec())));
        }
    }
    all
}

fn keys(keys: &[&str]) -> BTreeSet<(String, Option<Vec<u8>>)> {
    let key = |key: &&str| (KEYSPACE.to_owned(), Some(key.as_bytes().to_vec()));
    keys.iter().map(key).chain([(KEYSPACE.to_owned(), None)]).collect()
}

fn are_equal(nodes: &[&Node]) -> bool {
    let vector = |node: &Node| node.db.replication().applied(ScopeId::MAIN);
    nodes.windows(2).all(|two| vector(two[0]) == vector(two[1]))
}

/// Binds the address again once the replica of before has let go of it.
fn bind_again(node: &mut Node) {
    for _ in 0..1_000 {
        if let Ok(wire) = Wire::bind(node.address, &LinkSettings::default()) {
            node.wire = Some(wire);
            return;
        }
        std::thread::sleep(Duration::from_millis(10));
    }
    panic!("the address is still taken");
}

#[test]
fn a_keyspace_that_was_dropped_on_one_node_is_gone_on_all_and_who_was_away_does_not_bring_it_back()
{
    let runtime = Runtime::new().unwrap();
    let _inside = runtime.enter();
    let mut nodes: Vec<Node> = (100..103).map(Node::new).collect();
    let everybody: Vec<(NodeId, SocketAddr)> =
        nodes.iter().map(|node| (node.id(), node.address)).collect();
    let others = |own: usize| -> Vec<_> {
        everybody.iter().filter(|(id, _)| *id != everybody[own].0).copied().collect()
    };
    for (number, node) in nodes.iter_mut().enumerate() {
        node.start(others(number));
    }
    let [a, b, c] = &nodes[..] else { panic!("three nodes") };
    until("all know each other", &[a, b, c], || {
        [a, b, c].iter().all(|node| node.replica().writes() == replication::group::Writes::Open)
    });
    a.keyspace().put("of-a", "1").unwrap();
    until("all have it", &[a, b, c], || [a, b, c].iter().all(|node| all(node) == keys(&["of-a"])));

    runtime.block_on(c.replica().shutdown());
    c.keyspace().put("of-c, before the drop", "2").unwrap();
    let at_b = b.keyspace();
    // Another millisecond of their clocks, so that the drop is the newer one.
    std::thread::sleep(Duration::from_millis(5));
    a.db.drop_keyspace(a.keyspace()).unwrap();
    until("the drop is there", &[a, b], || [a, b].iter().all(|node| all(node).is_empty()));
    until("handles end", &[a, b], || at_b.is_dropped());
    assert!(matches!(at_b.put("x", "3"), Err(Error::KeyspaceDropped { .. })));
    assert_eq!(all(c), keys(&["of-a", "of-c, before the drop"]));

    let at_c = c.keyspace();
    nodes[2].replica = None;
    bind_again(&mut nodes[2]);
    nodes[2].start(others(2));
    let [a, b, c] = &nodes[..] else { panic!("three nodes") };
    until("all have the same", &[a, b, c], || are_equal(&[a, b, c]) && at_c.is_dropped());
    for node in [a, b, c] {
        assert_eq!(all(node), BTreeSet::new());
    }
    b.keyspace().put("of-b", "4").unwrap();
    until("it is there again", &[a, b, c], || {
        [a, b, c].iter().all(|node| all(node) == keys(&["of-b"]))
    });
    nodes.iter().for_each(|node| runtime.block_on(node.replica().shutdown()));
}
