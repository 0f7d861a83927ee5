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

/// Lets all talk in some order, while links break; who was refused or cut off connects again.
fn talk(net: &mut Net, pairs: &[(usize, usize)]) {
    for _ in 0..6 {
        pairs.iter().for_each(|(a, b)| net.connect(*a, *b));
        for _ in 0..net.dice.below(40) {
            net.step();
        }
        if net.dice.one_in(2) {
            let (a, b) = pairs[net.dice.below(pairs.len())];
            net.cut(a, b);
        }
        let ms = net.dice.below(30) as u64;
        net.pass(ms);
    }
    for _ in 0..16 {
        pairs.iter().for_each(|(a, b)| net.connect(*a, *b));
        net.run(500);
    }
}

/// All pairs of the first `nodes`.
fn pairs_of(nodes: usize) -> Vec<(usize, usize)> {
    (0..nodes).flat_map(|b| (0..b).map(move |a| (a, b))).collect()
}

fn check_one_group(net: &Net, seed: u64) {
    let refused = net.failures.iter().find(|(_, error)| error.code() == "WrongGroup");
    assert!(refused.is_none(), "seed {seed}: {refused:?}");
    let groups: Vec<_> = net.nodes.iter().map(|node| node.group.id()).collect();
    assert!(groups[0] != NO_GROUP && groups.iter().all(|it| *it == groups[0]), "seed {seed}");
}

#[test]
fn spokes_that_meet_their_hub_at_once_are_of_one_group() {
    for seed in 0..100 {
        for hub in 0..4 {
            let pairs: Vec<_> = (0..4).filter(|it| *it != hub).map(|it| (hub, it)).collect();
            let mut net = configured(seed, 4, &pairs);
            talk(&mut net, &pairs);
            check_one_group(&net, seed);
        }
    }
}

#[test]
fn nodes_that_join_one_that_was_alone_are_of_one_group() {
    for seed in 0..100 {
        for host in 0..4 {
            let pairs: Vec<_> = (0..4).filter(|it| *it != host).map(|it| (host, it)).collect();
            let mut net = configured(seed, 4, &[]);
            assert!(net.put(host, "moon", "1"));
            talk(&mut net, &pairs);
            check_one_group(&net, seed);
            assert_eq!(net.get((host + 1) % 4, "moon").as_deref(), Some("1"));
        }
    }
}

#[test]
fn new_nodes_that_are_configured_with_members_are_of_their_group() {
    for seed in 0..60 {
        let mut net = configured(seed, 3, &pairs_of(3));
        talk(&mut net, &pairs_of(3));
        check_one_group(&net, seed);
        for _ in 0..2 {
            net.add(Role::Author, (0..5).map(id).collect());
        }
        talk(&mut net, &pairs_of(5));
        check_one_group(&net, seed);
    }
}

#[test]
fn nodes_that_agree_on_another_group_meanwhile_say_so() {
    let mut refused = 0;
    for seed in 0..50 {
        let pairs = [(1, 0), (1, 2), (1, 3)];
        let mut net = configured(seed, 4, &pairs);
        talk(&mut net, &pairs);
        let elsewhere = net.failures.iter().filter(|(_, error)| error.code() == "AgreedElsewhere");
        refused += elsewhere.count();
    }
    assert!(refused > 0, "no two hellos ever crossed");
}
