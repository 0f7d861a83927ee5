//! Meshes over real sockets, with calls on threads as in life.

use crate::bed::{Node, settings, within};
use crate::toy::{Talkers, Toys};
use base::OsRng;
use base::rng::SeededRng;
use replication::link::{
    Bell, BreakerSettings, Calls, Channel, Desk, Driving, LinkError, Mesh, MeshParts, Parting,
    Side, Then, join,
};
use std::sync::Arc;
use std::time::Duration;

struct Meshed {
    node: Node,
    mesh: Mesh,
    desk: Arc<Desk>,
    toys: Arc<Toys>,
    store: Bell,
}

fn meshed(seed: u8, blobs: u32, blob_len: usize) -> Meshed {
    let (node, toys, store) = (Node::new(seed), Toys::sending(blobs, blob_len), Bell::default());
    let register = Arc::new(|_, _, _| Ok(b"roster".to_vec()));
    let desk = Desk::new(node.key, node.pins.clone(), register, Calls::Threads);
    let desk = Arc::new(desk);
    let mesh = Mesh::start(MeshParts {
        endpoint: node.endpoint.clone(),
        node: node.id(),
        desk: desk.clone(),
        conversations: Arc::new(Talkers(toys.clone())),
        driving: Driving::new(Calls::Threads, store.clone()),
        breaker: BreakerSettings::default(),
        rng: Arc::new(OsRng),
    });
    Meshed { node, mesh, desk, toys, store }
}

impl Meshed {
    fn knows(&self, other: &Meshed) {
        self.node.trust(&other.node);
        self.mesh.keep(other.node.id(), other.node.address);
    }

    async fn has_all_of(&self, other: &Meshed, blobs: u32) {
        within(self.toys.until(|toys| toys.has_all(other.node.id(), blobs))).await;
    }
}

/// All pairs of three nodes talk; what one writes later wakes the writers.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn three_nodes_exchange_all_their_blobs() {
    let nodes = [meshed(1, 20, 100_000), meshed(2, 20, 100_000), meshed(3, 20, 100_000)];
    for (one, other) in [(0, 1), (1, 0), (0, 2), (2, 0), (1, 2), (2, 1)] {
        nodes[one].knows(&nodes[other]);
    }
    for (one, other) in [(0, 1), (1, 0), (0, 2), (2, 0), (1, 2), (2, 1)] {
        nodes[one].has_all_of(&nodes[other], 20).await;
    }
    nodes[0].toys.more(5);
    nodes[0].store.ring();
    for other in [1, 2] {
        nodes[other].has_all_of(&nodes[0], 25).await;
    }
    for node in nodes {
        within(node.mesh.shutdown()).await;
        assert!(node.toys.is_quiet(), "no conversation outlives its mesh");
    }
}

/// A peer whose key is revoked is out, and its conversation ends, on both sides.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn revoking_a_peer_ends_its_conversation() {
    let (one, other) = (meshed(1, 1, 10), meshed(2, 1, 10));
    one.knows(&other);
    other.knows(&one);
    one.has_all_of(&other, 1).await;

    one.node.pins.revoke(other.node.key);

    let (here, there) = (&one.toys, &other.toys);
    within(here.until(|toys| toys.is_quiet())).await;
    within(there.until(|toys| toys.ends().iter().any(|(_, code)| code == "Revoked"))).await;
}

/// A call that waits for the disk while its link breaks ends before its conversation does.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_conversation_ends_when_its_last_call_has() {
    let (one, other) = (meshed(1, 8, 10), meshed(2, 8, 10));
    other.toys.take(Duration::from_millis(200));
    one.knows(&other);
    other.knows(&one);
    within(other.toys.until(|toys| toys.is_inside())).await;

    one.node.pins.revoke(other.node.key);

    within(other.toys.until(|toys| !toys.ends().is_empty())).await;
    assert!(!other.toys.has_ended_inside(), "a call outlived its conversation");
}

/// A broken rule of the conversation closes the link with the conversation's code.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_conversation_that_breaks_off_tells_the_peer_why() {
    let (one, other) = (meshed(1, 1, 10), meshed(2, 1, 10));
    let reason = "it is of another group".to_owned();
    other.toys.refuse(Parting { code: 3, reason, then: Then::Retry });
    other.node.trust(&one.node);
    one.knows(&other);
    // The link may or may not have looked as if it was up.
    let told = |toys: &Toys| [toys.ends(), toys.failures()].concat();
    within(one.toys.until(|toys| !told(toys).is_empty())).await;
    assert_eq!(told(&one.toys)[0].1, "Conversation");
    assert_eq!(other.toys.ends()[0].1, "Conversation");
}

/// A peer that broke a rule and dials again is turned away, however often, until it is pardoned; all
/// others are let in.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_banned_peer_that_dials_is_turned_away_and_others_are_not() {
    let (one, other, third) = (meshed(1, 1, 10), meshed(2, 1, 10), meshed(3, 1, 10));
    let reason = "a frame does not verify".to_owned();
    other.toys.refuse(Parting { code: 3, reason, then: Then::Ban });
    other.node.trust(&one.node);
    other.node.trust(&third.node);
    one.knows(&other);
    within(other.toys.until(|toys| !toys.ends().is_empty())).await;
    other.toys.forgive();

    let told = |toys: &Toys| [toys.ends(), toys.failures()].concat();
    let is_banned = |toys: &Toys| told(toys).iter().filter(|it| it.1 == "Banned").count() >= 2;
    within(one.toys.until(is_banned)).await;

    assert_eq!(other.toys.began(one.node.id()), 0);
    third.knows(&other);
    third.has_all_of(&other, 1).await;
    other.mesh.pardon(one.node.id());
    one.has_all_of(&other, 1).await;
}

/// A node that is let in by a mesh talks to it at once.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_joins_a_mesh_with_a_token() {
    let (issuer, joiner) = (meshed(1, 2, 1000), meshed(2, 2, 1000));
    let token = issuer.desk.invite(Duration::ZERO, &SeededRng::new(4)).unwrap();
    let joined = within(join(&joiner.node.endpoint, issuer.node.address, &token)).await.unwrap();
    assert_eq!(joined, (issuer.node.id(), b"roster".to_vec()));
    joiner.mesh.keep(issuer.node.id(), issuer.node.address);
    issuer.has_all_of(&joiner, 2).await;
    joiner.has_all_of(&issuer, 2).await;
    assert_eq!(joiner.node.endpoint.settings().hello.get(), settings().hello.get());
}

/// A service may start again with the invitation by which it once came.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_is_known_and_asks_to_join_is_refused_and_not_banned() {
    let (issuer, joiner) = (meshed(1, 2, 1000), Node::new(2));
    issuer.node.trust(&joiner);
    joiner.trust(&issuer.node);
    let token = issuer.desk.invite(Duration::ZERO, &SeededRng::new(5)).unwrap();
    let again = within(join(&joiner.endpoint, issuer.node.address, &token)).await;
    assert!(matches!(again, Err(LinkError::Join { by: Side::Peer, .. })), "{again:?}");
    let link = joiner.dial(&issuer.node).await.unwrap();
    within(link.open(Channel::Control, &settings())).await.expect("it is not banned");
}
