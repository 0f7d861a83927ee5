//! Which group nodes found that have none yet, whoever meets whom first.

use crate::net::{Net, id};
use base::NodeId;
use replication::group::NO_GROUP;
use replication::roster::Role;

/// Authors that are each configured with other ones: `pairs` are linked and know each other.
fn configured(seed: u64, nodes: usize, pairs: &[(usize, usize)]) -> Net {
    let mut net = Net::new(seed, 0, 0);
    for node in 0..nodes {
        let knows = |&(a, b): &(usize, usize)| a == node || b == node;
        let first = pairs.iter().filter(|pair| knows(pair)).flat_map(|(a, b)| [id(*a), id(*b)]);
        net.add(Role::Author, first.collect::<Vec<NodeId>>());
    }
    net
}

/// Lets all talk in some order; who was refused connects again.
fn talk(net: &mut Net, pairs: &[(usize, usize)], steps: usize) {
    for _ in 0..steps {
        pairs.iter().for_each(|(a, b)| net.connect(*a, *b));
        for _ in 0..net.dice.below(40) {
            net.step();
        }
    }
    for _ in 0..10 {
        pairs.iter().for_each(|(a, b)| net.connect(*a, *b));
        net.run(500);
    }
}

fn check_one_group(net: &Net, seed: u64) {
    let found = |code: &str| net.failures.iter().find(|(_, error)| error.code() == code);
    assert!(found("WrongGroup").is_none(), "seed {seed}: {:?}", net.failures);
    let groups: Vec<_> = net.nodes.iter().map(|node| node.group.id()).collect();
    assert!(groups[0] != NO_GROUP && groups.iter().all(|it| *it == groups[0]), "seed {seed}");
}

#[test]
fn spokes_that_meet_their_hub_at_once_are_of_one_group() {
    for seed in 0..400 {
        for hub in 0..4 {
            let pairs: Vec<_> = (0..4).filter(|it| *it != hub).map(|it| (hub, it)).collect();
            let mut net = configured(seed, 4, &pairs);
            talk(&mut net, &pairs, 3);
            check_one_group(&net, seed);
        }
    }
}

#[test]
fn nodes_that_join_one_that_was_alone_are_of_one_group() {
    for seed in 0..400 {
        for host in 0..4 {
            let pairs: Vec<_> = (0..4).filter(|it| *it != host).map(|it| (host, it)).collect();
            let mut net = configured(seed, 4, &[]);
            assert!(net.put(host, "moon", "1"));
            talk(&mut net, &pairs, 3);
            check_one_group(&net, seed);
            assert_eq!(net.get((host + 1) % 4, "moon").as_deref(), Some("1"));
        }
    }
}
