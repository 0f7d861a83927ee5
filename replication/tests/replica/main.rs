//! Whole replicas over real QUIC on a made-up network: sessions, links and groups together.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod clocks;
mod flush;
mod hostile;

use base::rng::SeededRng;
use base::{Identity, Incarnation, NodeId};
use replication::link::sim::{SimNet, simulate};
use replication::link::{Bell, Calls, LinkKey};
use replication::memory::{Change, MemoryStore, Write};
use replication::replica::{PeerChange, Replica, ReplicaOptions, ReplicaParts};
use replication::roster::Role;
use replication::store::Store;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;
use tokio::time::{Instant, sleep};

const KEYSPACE: &str = "things";

struct Node {
    store: MemoryStore,
    bell: Bell,
    identity: Identity,
    address: SocketAddr,
    replica: Option<Replica>,
}

impl Node {
    fn new(number: u8) -> Node {
        let key = LinkKey::from_seed([number; 32]).unwrap();
        let node = key.fingerprint().node();
        let incarnation = Incarnation(u64::from(number));
        let identity = Identity { database: [number; 16], node, incarnation, secret: [number; 32] };
        let store = MemoryStore::new(node, incarnation, 1_000_000);
        let address = format!("10.0.0.{number}:7000").parse().unwrap();
        Node { store, bell: Bell::default(), identity, address, replica: None }
    }

    fn start(&mut self, net: &SimNet, peers: Vec<(NodeId, SocketAddr)>) {
        let parts = ReplicaParts {
            store: Arc::new(self.store.clone()),
            identity: self.identity,
            bell: self.bell.clone(),
            wire: net.wire(self.address),
            rng: Arc::new(SeededRng::new(self.identity.incarnation.0)),
        };
        let options = ReplicaOptions { peers, calls: Calls::Inline, ..ReplicaOptions::default() };
        self.replica = Some(Replica::start(parts, options).unwrap());
    }

    fn replica(&self) -> &Replica {
        self.replica.as_ref().unwrap()
    }

    fn put(&self, key: &str, value: &str) {
        let change = Change::Put(value.as_bytes().to_vec());
        let write = Write { keyspace: KEYSPACE.to_owned(), key: key.as_bytes().to_vec(), change };
        self.store.write(&[write]).unwrap();
        self.bell.ring();
    }

    fn content(&self) -> Vec<(Vec<u8>, Vec<u8>)> {
        let all = self.store.dump().into_iter();
        all.filter(|(name, ..)| name == KEYSPACE).map(|(_, key, value)| (key, value)).collect()
    }
}

fn trio(net: &SimNet) -> Vec<Node> {
    let mut nodes: Vec<Node> = (1..=3).map(Node::new).collect();
    let all: Vec<_> = nodes.iter().map(|node| (node.identity.node, node.address)).collect();
    for node in &mut nodes {
        let others = all.iter().filter(|(of, _)| *of != node.identity.node).copied().collect();
        node.start(net, others);
    }
    nodes
}

/// Waits until `is_so`, for ten simulated minutes at the most.
async fn until(what: &str, is_so: impl Fn() -> bool) {
    let end = Instant::now() + Duration::from_secs(600);
    while !is_so() {
        assert!(Instant::now() < end, "still waiting until {what}");
        sleep(Duration::from_millis(100)).await;
    }
}

fn are_equal(nodes: &[Node], len: usize) -> bool {
    nodes.iter().all(|node| node.content().len() == len && node.content() == nodes[0].content())
}

#[test]
fn three_replicas_become_equal_whoever_wrote_what() {
    simulate(1, |net| async move {
        let nodes = trio(&net);
        for (number, node) in nodes.iter().enumerate() {
            node.put("shared", &format!("by {number}"));
            node.put(&format!("own {number}"), "here");
        }
        until("all are equal", || are_equal(&nodes, 4)).await;
        let floors = |node: &Node| node.replica().health().peers_with_no_confirmation.is_empty();
        until("all have confirmed", || nodes.iter().all(floors)).await;
        for node in nodes {
            node.replica.unwrap().shutdown().await;
        }
    })
    .unwrap();
}

#[test]
fn a_node_that_was_cut_off_catches_up() {
    simulate(2, |net| async move {
        let nodes = trio(&net);
        nodes[0].put("before", "1");
        until("all are equal", || are_equal(&nodes, 1)).await;
        net.partition(&[nodes[0].address], &[nodes[1].address, nodes[2].address]);
        nodes[0].put("alone", "1");
        nodes[1].put("together", "1");
        sleep(Duration::from_secs(60)).await;
        assert_eq!(nodes[2].content().len(), 2);
        net.heal();
        until("all are equal", || are_equal(&nodes, 3)).await;
    })
    .unwrap();
}

#[test]
fn a_node_joins_with_a_token_and_is_known_to_all() {
    simulate(3, |net| async move {
        let mut nodes = trio(&net);
        nodes[1].put("old", "1");
        until("all are equal", || are_equal(&nodes, 1)).await;
        let mut joiner = Node::new(4);
        joiner.start(&net, Vec::new());
        let token = nodes[0].replica().invite().unwrap();
        joiner.replica().join(&token, nodes[0].address).await.unwrap();
        nodes.push(joiner);
        until("the joiner has what was there", || are_equal(&nodes, 1)).await;
        nodes[3].put("new", "1");
        until("all have what the joiner wrote", || are_equal(&nodes, 2)).await;
        let id = nodes[3].identity.node;
        let knows = |node: &Node| node.replica().peers().iter().any(|p| p.peer.node == id);
        until("all know the joiner", || nodes[..3].iter().all(knows)).await;
    })
    .unwrap();
}

#[test]
fn a_deprecated_node_gets_nothing_any_more() {
    simulate(4, |net| async move {
        let nodes = trio(&net);
        nodes[0].put("before", "1");
        until("all are equal", || are_equal(&nodes, 1)).await;
        let out = nodes[2].identity.node;
        let change = PeerChange::Become(Role::Deprecated);
        assert!(nodes[0].replica().change(out, change).unwrap());
        let is_out = |node: &Node| {
            let peers = node.replica().peers();
            peers.iter().any(|p| p.peer.node == out && p.role == Some(Role::Deprecated))
        };
        until("both others know", || nodes[..2].iter().all(is_out)).await;
        let offline = |node: &Node| {
            node.replica().peers().iter().all(|p| p.peer.node != out || !p.status.is_connected)
        };
        until("its links are closed", || nodes[..2].iter().all(offline)).await;
        nodes[0].put("after", "1");
        until("the other has it", || are_equal(&nodes[..2], 2)).await;
        sleep(Duration::from_secs(60)).await;
        assert_eq!(nodes[2].content().len(), 1);
    })
    .unwrap();
}

/// What is ahead of our clock by more than is allowed waits in the log of its author.
#[test]
fn a_node_whose_clock_is_ahead_is_parked_and_merged_once_clocks_agree() {
    simulate(5, |net| async move {
        let nodes = trio(&net);
        nodes[0].put("before", "1");
        until("all are equal", || are_equal(&nodes, 1)).await;
        let now = nodes[0].store.wall_ms();
        nodes[0].store.set_wall_ms(now + 60_000);
        nodes[0].put("ahead", "1");
        let ahead = nodes[0].identity.node;
        let is_parked = |node: &Node| {
            let peers = node.replica().peers();
            peers.iter().any(|p| p.peer.node == ahead && p.status.is_parked)
        };
        until("the others park it", || nodes[1..].iter().all(is_parked)).await;
        assert!(nodes[1..].iter().all(|node| node.content().len() == 1));
        nodes[1..].iter().for_each(|node| node.store.set_wall_ms(now + 60_000));
        until("all are equal", || are_equal(&nodes, 2)).await;
        until("nobody is parked", || !nodes[1..].iter().any(is_parked)).await;
    })
    .unwrap();
}
