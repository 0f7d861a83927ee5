//! Databases with all their threads, joined by real QUIC on this machine, written to from several threads
//! at once: what the simulation, which does one thing after the other, can not try. Not the same each time.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

mod drops;
mod ledger;

use base::clock::SystemClock;
use base::fs::SimFs;
use base::{NodeId, OsRng, ScopeId};
use engine::{Batch, Db, Error, Keyspace, KeyspaceOptions, Options, Platform, SyncMode};
use ledger::{Content, Ledger, Op};
use replication::engine_store::EngineStore;
use replication::link::{Bell, LinkSettings, Wire};
use replication::replica::{Replica, ReplicaOptions, ReplicaParts};
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;
use tokio::runtime::Runtime;

const KEYSPACE: &str = "things";
/// Commits of each writer.
const COMMITS: u64 = 600;
/// Commits of all writers after which a third node joins.
const JOIN_AT: u64 = 300;
const KEYS: u64 = 400;

struct Node {
    db: Db,
    wire: Option<Wire>,
    address: SocketAddr,
    replica: Option<Replica>,
}

impl Node {
    fn new(seed: u64) -> Node {
        let platform = Platform {
            fs: Arc::new(SimFs::new(seed)),
            clock: Arc::new(SystemClock::default()),
            rng: Arc::new(OsRng),
        };
        // So small that flushes, merges, new segments and state in the place of the log are frequent.
        let options = Options {
            sync: SyncMode::Async,
            memtable_bytes: 64 << 10,
            memory_bytes: 2 << 20,
            block_bytes: 512,
            table_bytes: 64 << 10,
            segment_bytes: 64 << 10,
            ..Options::default()
        };
        let db = Db::open_on(platform, options).unwrap();
        let any = SocketAddr::from(([127, 0, 0, 1], 0));
        let wire = Wire::bind(any, &LinkSettings::default()).unwrap();
        Node { address: wire.address().unwrap(), db, wire: Some(wire), replica: None }
    }

    fn id(&self) -> NodeId {
        self.db.identity().node
    }

    fn start(&mut self, peers: Vec<(NodeId, SocketAddr)>) {
        let bell = Bell::default();
        let parts = ReplicaParts {
            store: Arc::new(EngineStore::new(self.db.clone(), &bell)),
            identity: self.db.identity(),
            bell,
            wire: self.wire.take().unwrap(),
            rng: Arc::new(OsRng),
        };
        let audit_every = Some(Duration::from_millis(200));
        let options = ReplicaOptions { peers, audit_every, ..ReplicaOptions::default() };
        self.replica = Some(Replica::start(parts, options).unwrap());
    }

    fn replica(&self) -> &Replica {
        self.replica.as_ref().unwrap()
    }

    fn keyspace(&self) -> Keyspace {
        self.db.keyspace(KEYSPACE, KeyspaceOptions::default()).unwrap()
    }

    fn content(&self) -> Content {
        let Ok(keyspace) = self.db.existing_keyspace(KEYSPACE) else { return Content::new() };
        let entries = keyspace.iter().map(|entry| entry.map(|(k, v)| (k.to_vec(), v.to_vec())));
        // A keyspace may be taken over meanwhile.
        entries.collect::<Result<_, _>>().unwrap_or_default()
    }
}

/// splitmix64.
struct Dice(u64);

impl Dice {
    fn below(&mut self, limit: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (z ^ (z >> 31)) % limit
    }

    fn key(&mut self) -> Vec<u8> {
        self.below(KEYS).to_be_bytes().to_vec()
    }

    fn value(&mut self) -> Vec<u8> {
        let len = self.below(300);
        vec![self.below(256) as u8; len as usize]
    }

    /// What one commit does, and whether it goes around the log.
    fn commit(&mut self) -> (Vec<Op>, Way) {
        match self.below(40) {
            0 => {
                let start = self.below(KEYS);
                let end = start + self.below(20) + 1;
                let (start, end) = (start.to_be_bytes().to_vec(), end.to_be_bytes().to_vec());
                (vec![Op::DeleteRange(start, end)], Way::Log)
            }
            1 => {
                let first = self.below(KEYS);
                let keys = (first..first + 30).map(|key| key.to_be_bytes().to_vec());
                (keys.map(|key| Op::Put(key, self.value())).collect(), Way::Tables)
            }
            2..6 => {
                let ops = (0..self.below(20) + 2).map(|_| self.point());
                (ops.collect(), Way::Log)
            }
            _ => (vec![self.point()], Way::Log),
        }
    }

    fn point(&mut self) -> Op {
        match self.below(4) {
            0 => Op::Delete(self.key()),
            _ => Op::Put(self.key(), self.value()),
        }
    }
}

/// How entries are stored.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Way {
    Log,
    Tables,
}

/// Commits `ops`; none if the node takes no writes just now.
fn commit(node: &Node, keyspace: &Keyspace, ops: &[Op], way: Way) -> Option<base::Tick> {
    let committed = match way {
        Way::Tables => keyspace.ingest(ops.iter().filter_map(|op| match op {
            Op::Put(key, value) => Some((key.clone(), value.clone())),
            _ => None,
        })),
        Way::Log => {
            let mut batch = Batch::new();
            for op in ops {
                match op {
                    Op::Put(key, value) => batch.put(keyspace, key, value),
                    Op::Delete(key) => batch.delete(keyspace, key),
                    Op::DeleteRange(start, end) => batch.delete_range(keyspace, start, end),
                }
            }
            node.db.write(batch)
        }
    };
    match committed {
        Ok(tick) => Some(tick),
        Err(Error::ScopeClosed | Error::Renewed) => None,
        Err(error) => panic!("a write failed: {error}"),
    }
}

fn write(node: &Node, seed: u64, ledger: &Ledger, made: &AtomicU64) {
    let (keyspace, mut dice) = (node.keyspace(), Dice(seed));
    for _ in 0..COMMITS {
        let (ops, way) = dice.commit();
        let tick = loop {
            if let Some(tick) = commit(node, &keyspace, &ops, way) {
                break tick;
            }
            std::thread::sleep(Duration::from_millis(1));
        };
        ledger.note(tick, node.db.replication().origin(), ops);
        made.fetch_add(1, Ordering::Relaxed);
        if dice.below(50) == 0 {
            std::thread::sleep(Duration::from_millis(dice.below(20)));
        }
    }
}

/// Waits until `is_so`. The limit is there to fail instead of hanging.
fn until(what: &str, nodes: &[&Node], is_so: impl Fn() -> bool) {
    for _ in 0..12_000 {
        if is_so() {
            return;
        }
        std::thread::sleep(Duration::from_millis(10));
    }
    let vectors = nodes.iter().map(|node| node.db.replication().applied(ScopeId::MAIN));
    let vectors: Vec<_> = vectors.collect();
    let troubles: Vec<_> = nodes.iter().map(|node| node.replica().troubles()).collect();
    assert!(is_so(), "within two minutes not so: {what}\n{vectors:#?}\n{troubles:#?}");
}

fn story(seed: u64) {
    let runtime = Runtime::new().unwrap();
    let inside = runtime.enter();
    let (mut a, mut b, mut c) =
        (Node::new(3 * seed), Node::new(3 * seed + 1), Node::new(3 * seed + 2));
    a.start(vec![(b.id(), b.address)]);
    b.start(vec![(a.id(), a.address)]);
    c.start(Vec::new());
    drop(inside);
    let (a, b, c) = (&a, &b, &c);
    until("both know each other", &[a, b], || {
        [a, b].iter().all(|node| node.replica().writes() == replication::group::Writes::Open)
    });
    let (ledger, made) = (Ledger::default(), AtomicU64::new(0));
    std::thread::scope(|scope| {
        scope.spawn(|| write(a, seed, &ledger, &made));
        scope.spawn(|| write(b, !seed, &ledger, &made));
        until("much is written", &[a, b], || made.load(Ordering::Relaxed) >= JOIN_AT);
        let token = a.replica().invite().unwrap();
        runtime.block_on(c.replica().join(&token, a.address)).unwrap();
    });
    let all = [a, b, c];
    let vector = |node: &Node| node.db.replication().applied(ScopeId::MAIN);
    until("all have everything", &all, || {
        let of_a = vector(a);
        of_a.covers_all(&ledger.vector()) && all.iter().all(|node| vector(node) == of_a)
    });
    let expected = ledger.fold();
    for (number, node) in all.iter().enumerate() {
        let content = node.content();
        let differing = expected.iter().filter(|(key, value)| content.get(*key) != Some(value));
        let (missing, extra) =
            (differing.count(), content.keys().filter(|key| !expected.contains_key(*key)).count());
        assert_eq!(
            (missing, extra),
            (0, 0),
            "seed {seed}, node {number}: {:?}",
            node.replica().troubles()
        );
        for peer in node.replica().peers() {
            assert_eq!(
                peer.status.diverged, 0,
                "seed {seed}, node {number}: {:?}",
                peer.status.audit
            );
        }
    }
    all.iter().for_each(|node| runtime.block_on(node.replica().shutdown()));
}

/// How many stories: the variable `ESKER_TEST_SCALE`, or 1.
fn scale() -> u64 {
    std::env::var("ESKER_TEST_SCALE").ok().and_then(|scale| scale.parse().ok()).unwrap_or(1)
}

#[test]
fn what_threads_write_on_two_nodes_while_a_third_joins_is_the_same_on_all() {
    (0..scale()).for_each(story);
}
