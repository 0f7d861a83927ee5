//! Clocks that differ, between two whole replicas over real sockets.

use base::clock::ManualClock;
use base::fs::SimFs;
use base::rng::SeededRng;
use base::{NodeId, OsRng};
use engine::{Db, KeyspaceOptions, Options, Platform};
use replication::engine_store::EngineStore;
use replication::link::{Bell, LinkSettings, Wire};
use replication::replica::{Replica, ReplicaOptions, ReplicaParts};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

const START_MS: u64 = 1_700_000_000_000;
const HOUR_MS: u64 = 3_600_000;

struct Node {
    db: Db,
    clock: Arc<ManualClock>,
    replica: Option<Replica>,
}

impl Node {
    fn new(seed: u64, wall_ms: u64) -> Node {
        let clock = Arc::new(ManualClock::at(wall_ms));
        let rng = Arc::new(SeededRng::new(seed));
        let platform = Platform { fs: Arc::new(SimFs::new(seed)), clock: clock.clone(), rng };
        Node { db: Db::open_on(platform, Options::default()).unwrap(), clock, replica: None }
    }

    fn start(&mut self, wire: Wire, peer: (NodeId, SocketAddr)) {
        let bell = Bell::default();
        let store = Arc::new(EngineStore::new(self.db.clone(), &bell));
        let (identity, rng) = (self.db.identity(), Arc::new(OsRng));
        let parts = ReplicaParts { store, identity, bell, wire, rng };
        let options = ReplicaOptions { peers: vec![peer], ..ReplicaOptions::default() };
        self.replica = Some(Replica::start(parts, options).unwrap());
    }

    fn put(&self, key: &str) {
        let keyspace = self.db.keyspace("k", KeyspaceOptions::default()).unwrap();
        keyspace.put(key, "value").unwrap();
    }

    fn has(&self, key: &str) -> bool {
        let keyspace = self.db.keyspace("k", KeyspaceOptions::default()).unwrap();
        keyspace.contains_key(key).unwrap()
    }

    /// Whether nothing is taken from the peer because of its clock, as an operator sees it.
    fn is_parked(&self) -> bool {
        let replica = self.replica.as_ref().unwrap();
        let is_named = replica.troubles().iter().any(|trouble| trouble.code == "ClockAhead");
        is_named && replica.peers().iter().any(|peer| peer.status.is_parked)
    }
}

async fn until(what: &str, is_so: impl Fn() -> bool) {
    let mut steps = 0;
    while !is_so() {
        assert!(steps < 3_000, "still waiting until {what}");
        steps += 1;
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

/// Two nodes; the clock of the second is ahead by `ahead_ms`.
fn pair(ahead_ms: u64) -> [Node; 2] {
    let mut nodes = [Node::new(1, START_MS), Node::new(2, START_MS + ahead_ms)];
    for (at, node) in nodes.iter().enumerate() {
        node.put(&format!("before {at}"));
    }
    let settings = LinkSettings::default();
    let wires = [0, 1].map(|_| Wire::bind("127.0.0.1:0".parse().unwrap(), &settings).unwrap());
    let names = [0, 1].map(|at: usize| nodes[at].db.identity().node);
    let addresses = [0, 1].map(|at: usize| wires[at].address().unwrap());
    for (at, wire) in wires.into_iter().enumerate() {
        nodes[at].start(wire, (names[1 - at], addresses[1 - at]));
    }
    nodes
}

/// Nothing of the node whose clock is ahead is merged, nothing is lost, and its own clock does not
/// spread; once it is right by the others' clocks all of it comes.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_clock_that_is_ahead_has_stamped_waits_until_it_is_right() {
    let [right, ahead] = pair(HOUR_MS);
    until("it is parked", || right.is_parked()).await;
    right.put("while parked");
    ahead.put("ahead");
    until("the other way is open", || ahead.has("before 0") && ahead.has("while parked")).await;
    assert!(!right.has("before 1") && !right.has("ahead"));
    let last = right.db.replication().applied(base::ScopeId::MAIN).latest();
    assert!(last.ms() < START_MS + HOUR_MS / 2, "its clock was not pulled along");
    for node in [&right, &ahead] {
        node.clock.set(START_MS + HOUR_MS + 1_000);
    }
    until("all of it is here", || right.has("before 1") && right.has("ahead")).await;
    let status = right.replica.as_ref().unwrap().peers();
    assert!(!status[0].status.is_parked);
}

/// A difference that is allowed holds nobody up.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_clock_that_is_a_little_ahead_parks_nothing() {
    let [right, ahead] = pair(5_000);
    until("all is everywhere", || {
        right.has("before 1") && ahead.has("before 0") && ahead.has("before 1")
    })
    .await;
    assert!(!right.is_parked() && !ahead.is_parked());
}
