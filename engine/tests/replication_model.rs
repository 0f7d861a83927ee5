//! Nodes that write, ship, give deltas, flush, merge, close and die at any moment, against a fold of all
//! their writes.
//!
//! The last writer wins: of each key the op with the greatest stamp counts, unless a range delete with a
//! greater one covers it.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

mod fixture;

use esker::replicate::{Admission, Origin, Purpose, ScopeId, Stamp, Vector};
use esker::{Batch, Db, Error, Options, SyncMode, Tick};
use fixture::{Dice, Disk, START_MS, keyspace, small};
use std::collections::BTreeMap;
use std::time::Duration;

const MAIN: ScopeId = ScopeId::MAIN;
const NODES: usize = 3;
const KEYSPACES: [&str; 2] = ["one", "two"];
const KEYS: u64 = 12;

/// What was written, by whom and when.
#[derive(Default)]
struct Fold {
    points: BTreeMap<(usize, String), (Stamp, Option<String>)>,
    ranges: Vec<(usize, String, String, Stamp)>,
}

impl Fold {
    fn point(&mut self, keyspace: usize, key: &str, stamp: Stamp, value: Option<String>) {
        let entry = self.points.entry((keyspace, key.to_owned())).or_insert((stamp, None));
        if stamp >= entry.0 {
            *entry = (stamp, value);
        }
    }

    fn content(&self) -> BTreeMap<(usize, String), String> {
        let is_covered = |(keyspace, key): &(usize, String), stamp: Stamp| {
            self.ranges.iter().any(|(of, start, end, range)| {
                of == keyspace && key >= start && key < end && *range > stamp
            })
        };
        let points = self.points.iter().filter(|(key, (stamp, _))| !is_covered(key, *stamp));
        let live = points.filter_map(|(key, (_, value))| Some((key.clone(), value.clone()?)));
        live.collect()
    }
}

struct Node {
    disk: Disk,
    db: Option<Db>,
    /// Shipments that it took, to be given again.
    seen: Vec<Vec<u8>>,
}

/// Who dies starts a second ahead, while the clocks here stand still.
fn options() -> Options {
    Options { sync: SyncMode::Async, max_drift: Duration::from_secs(600), ..small() }
}

impl Node {
    fn new(seed: u64) -> Node {
        let disk = Disk::new(seed);
        let db = disk.open(options());
        // From the first write on, tombstones stay until all have them.
        db.replication().raise_floor(MAIN, &Vector::default()).unwrap();
        Node { disk, db: Some(db), seen: Vec::new() }
    }

    fn db(&self) -> &Db {
        self.db.as_ref().unwrap()
    }

    fn origin(&self) -> Origin {
        self.db().replication().origin()
    }

    fn content(&self) -> BTreeMap<(usize, String), String> {
        let mut content = BTreeMap::new();
        for (number, name) in KEYSPACES.iter().enumerate() {
            for entry in keyspace(self.db(), name).iter() {
                let (key, value) = entry.unwrap();
                let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).unwrap();
                content.insert((number, text(&key)), text(&value));
            }
            for key in (0..KEYS).map(|key| format!("key {key}")) {
                let found = keyspace(self.db(), name).get(&key).unwrap();
                let scanned = content.get(&(number, key));
                assert_eq!(found.as_deref(), scanned.map(|value| value.as_bytes()));
            }
        }
        content
    }
}

struct World {
    dice: Dice,
    nodes: Vec<Node>,
    fold: Fold,
    writes: u64,
}

impl World {
    fn new(seed: u64) -> World {
        let nodes = (0..NODES as u64).map(|node| Node::new(seed * 10 + node + 1)).collect();
        let dice = Dice::of(seed);
        World { dice, nodes, fold: Fold::default(), writes: 0 }
    }

    fn stamp(&self, node: usize, tick: Tick) -> Stamp {
        Stamp { tick, origin: self.nodes[node].origin() }
    }

    fn write(&mut self, node: usize) {
        let mut batch = Batch::new();
        let mut points: BTreeMap<(usize, String), Option<String>> = BTreeMap::new();
        let mut ranges = Vec::new();
        for _ in 0..=self.dice.below(4) {
            let (number, key) = (self.dice.below(2) as usize, self.dice.key(KEYS));
            let k = keyspace(self.nodes[node].db(), KEYSPACES[number]);
            match self.dice.below(8) {
                0 => {
                    let end = self.dice.key(KEYS);
                    if key < end {
                        batch.delete_range(&k, &key, &end);
                        points.retain(|(of, at), _| *of != number || *at < key || *at >= end);
                        ranges.push((number, key, end));
                    }
                }
                1 | 2 => {
                    batch.delete(&k, &key);
                    points.insert((number, key), None);
                }
                _ => {
                    self.writes += 1;
                    let value = format!("{node}: {}", self.writes);
                    batch.put(&k, &key, &value);
                    points.insert((number, key), Some(value));
                }
            }
        }
        if batch.is_empty() {
            return;
        }
        let tick = self.nodes[node].db().write(batch).unwrap();
        let stamp = self.stamp(node, tick);
        for ((keyspace, key), value) in points {
            self.fold.point(keyspace, &key, stamp, value);
        }
        self.fold.ranges.extend(ranges.into_iter().map(|(of, start, end)| (of, start, end, stamp)));
    }

    fn transact(&mut self, node: usize) {
        let (number, key) = (self.dice.below(2) as usize, self.dice.key(KEYS));
        self.writes += 1;
        let value = format!("{node}: {}", self.writes);
        let db = self.nodes[node].db();
        let k = keyspace(db, KEYSPACES[number]);
        let mut transaction = db.transaction().unwrap();
        transaction.get(&k, &key).unwrap();
        transaction.put(&k, &key, &value).unwrap();
        let tick = transaction.commit().unwrap();
        let stamp = self.stamp(node, tick);
        self.fold.point(number, &key, stamp, Some(value));
    }

    /// Gives `to` at most `count` shipments of what `from` has, small ones or large ones.
    fn ship(&mut self, from: usize, to: usize, count: usize) {
        let len_max = [1, 300, 1 << 20][self.dice.below(3) as usize];
        let giver = self.nodes[from].db().replication();
        let taker = self.nodes[to].db().replication();
        let mut tail = match giver.tail(MAIN, &taker.applied(MAIN)) {
            Ok(tail) => tail,
            // What a delta brought is in no log.
            Err(Error::HistoryGone { .. }) => return self.give_delta(from, to, Purpose::CatchUp),
            Err(error) => panic!("{error}"),
        };
        let convoy = 1 + self.dice.below(3) as usize;
        let (mut known, mut sent) = (taker.applied(MAIN), 0);
        while sent < count {
            let mut shipments = Vec::new();
            while shipments.len() < convoy.min(count - sent) {
                let Some(shipment) = tail.next(&known, len_max).unwrap() else { break };
                known.raise(shipment.origin, shipment.last);
                shipments.push(shipment.bytes);
            }
            if shipments.is_empty() {
                break;
            }
            sent += shipments.len();
            let bytes: Vec<&[u8]> = shipments.iter().map(|it| &**it).collect();
            let admitted = taker.admit_all(&bytes).unwrap();
            let is_in =
                |it: &Admission| matches!(it, Admission::Taken { late: 0, .. } | Admission::Known);
            assert!(admitted.len() == bytes.len() && admitted.iter().all(is_in), "{admitted:?}");
            self.nodes[to].seen.append(&mut shipments);
        }
    }

    /// Gives `to` a delta; both go on meanwhile.
    fn give_delta(&mut self, from: usize, to: usize, purpose: Purpose) {
        let len_max = [1, 300, 1 << 20][self.dice.below(3) as usize];
        let giver = self.nodes[from].db().replication();
        let taker = self.nodes[to].db().replication();
        let after = match purpose {
            Purpose::CatchUp => taker.applied(MAIN),
            _ => Vector::default(),
        };
        let mut delta = giver.delta(MAIN, &after).unwrap();
        let head = delta.head().clone();
        let mut stage = taker.stage(MAIN, &head, purpose).unwrap();
        let mut before = self.nodes[to].content();
        while let Some(chunk) = delta.next(len_max).unwrap() {
            stage.add(&chunk).unwrap();
            if self.dice.below(16) == 0 {
                assert_eq!(
                    self.nodes[to].content(),
                    before,
                    "nothing counts before it is installed"
                );
                self.meanwhile(from, to);
                before = self.nodes[to].content();
            }
        }
        assert_eq!(self.nodes[to].content(), before, "nothing counts before it is installed");
        if self.dice.below(6) == 0 {
            return drop(stage);
        }
        if self.dice.below(4) > 0 {
            self.meanwhile(from, to);
        }
        stage.install().unwrap();
        assert!(taker.applied(MAIN).covers_all(&head.vector));
        assert!(taker.durable(MAIN).covers_all(&head.vector));
    }

    /// What may happen while `to` takes a delta of `from`.
    fn meanwhile(&mut self, from: usize, to: usize) {
        match self.dice.below(5) {
            0 => self.write(from),
            1 => self.write(to),
            2 => self.nodes[to].db().flush().unwrap(),
            3 => self.forget(to),
            _ => {
                let third = (0..NODES).find(|node| *node != from && *node != to).unwrap();
                let applied = self.nodes[to].db().replication().applied(MAIN);
                if self.nodes[third].db().replication().tail(MAIN, &applied).is_ok() {
                    self.ship(third, to, 2);
                }
            }
        }
    }

    /// Merges everything, and lets go of tombstones if all that anybody has is here.
    fn forget(&mut self, node: usize) {
        let vectors: Vec<Vector> =
            self.nodes.iter().map(|node| node.db().replication().applied(MAIN)).collect();
        let db = self.nodes[node].db();
        if vectors.iter().all(|vector| vectors[node].covers_all(vector)) {
            let floor = vectors.iter().fold(vectors[node].clone(), |floor, it| floor.common(it));
            db.replication().raise_floor(MAIN, &floor).unwrap();
        }
        db.compact_all().unwrap();
    }

    fn ship_everything(&mut self, from: usize) {
        for to in (0..NODES).filter(|to| *to != from) {
            let has_all = |world: &World| {
                let vector = |node: usize| world.nodes[node].db().replication().applied(MAIN);
                vector(to).covers_all(&vector(from))
            };
            while !has_all(self) {
                self.ship(from, to, usize::MAX);
            }
        }
    }

    /// Gives a node again what it or another has taken before.
    fn repeat(&mut self, node: usize) {
        let of = self.dice.below(NODES as u64) as usize;
        let seen = &self.nodes[of].seen;
        if seen.is_empty() {
            return;
        }
        let shipment = seen[self.dice.below(seen.len() as u64) as usize].clone();
        let before = self.nodes[node].content();
        let taken = self.nodes[node].db().replication().admit(&shipment).unwrap();
        match taken {
            Admission::Taken { late: 0, .. } => {}
            Admission::Known | Admission::Gap { .. } => {
                assert_eq!(self.nodes[node].content(), before, "{taken:?}");
            }
            other => panic!("{other:?}"),
        }
    }

    /// A log ends at a reopening: what was in it goes out as a delta.
    fn reopen(&mut self, node: usize, dies: bool) {
        let vector = self.nodes[node].db().replication().applied(MAIN);
        let it = &mut self.nodes[node];
        let before = it.db.take().unwrap();
        if dies {
            let now_ms = it.disk.clock.as_ref();
            let disk = Disk::of(it.disk.fs.fork());
            disk.clock.set(esker::platform::Clock::wall_ms(now_ms));
            it.disk = disk;
            drop(before);
        } else {
            before.close().unwrap();
        }
        it.db = Some(it.disk.open(options()));
        assert_eq!(it.db().replication().applied(MAIN), vector);
    }

    fn step(&mut self) {
        let node = self.dice.below(NODES as u64) as usize;
        let other = (node + 1 + self.dice.below(NODES as u64 - 1) as usize) % NODES;
        match self.dice.below(24) {
            0..=8 => self.write(node),
            9 => self.transact(node),
            10..=13 => {
                let count = 1 + self.dice.below(4) as usize;
                self.ship(node, other, count);
            }
            14 | 15 => self.give_delta(node, other, Purpose::CatchUp),
            16 => self.give_delta(node, other, Purpose::Rejoin),
            17 => self.forget(node),
            18 => self.repeat(node),
            19 => self.nodes[node].db().flush().unwrap(),
            20 => self.reopen(node, false),
            21 => self.reopen(node, true),
            _ => {
                let now_ms = START_MS + self.dice.below(4000);
                self.nodes[node].disk.clock.set(now_ms);
            }
        }
    }

    fn settle(&mut self) {
        for node in (0..NODES).chain(0..NODES) {
            self.ship_everything(node);
        }
        let vector = self.nodes[0].db().replication().applied(MAIN);
        let expected = self.fold.content();
        for (number, node) in self.nodes.iter().enumerate() {
            assert_eq!(node.db().replication().applied(MAIN), vector, "vector of {number}");
            assert_eq!(node.content(), expected, "content of {number}");
            node.db().flush().unwrap();
            assert_eq!(node.content(), expected, "tables of {number}");
            node.db().compact_all().unwrap();
            assert_eq!(node.content(), expected, "merged tables of {number}");
        }
    }
}

#[test]
fn nodes_that_have_seen_the_same_hold_what_the_last_writers_wrote() {
    let seeds = std::env::var("ESKER_SEEDS").ok().and_then(|seeds| seeds.parse().ok());
    for seed in 0..seeds.unwrap_or(40) {
        let run = std::panic::AssertUnwindSafe(|| {
            let mut world = World::new(seed);
            for _ in 0..120 {
                world.step();
            }
            world.settle();
        });
        if let Err(panic) = std::panic::catch_unwind(run) {
            eprintln!("seed {seed}");
            std::panic::resume_unwind(panic);
        }
    }
}
