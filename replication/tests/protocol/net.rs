//! Nodes in one process, joined by sessions over queues: seeded, and cut wherever a test likes.

use base::{Incarnation, NodeId, Origin, ScopeId, Tick, Vector};
use replication::ProtocolError;
use replication::group::{Group, GroupConfig, Writes};
use replication::memory::{Backup, Change, MemoryStore, Write};
use replication::protocol::{Channel, Event, Session, SessionConfig, Tier};
use replication::roster::Role;
use replication::store::{Store, keyspaces};
use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

pub(crate) const SCOPE: ScopeId = ScopeId::MAIN;
const START_MS: u64 = 1_700_000_000_000;
/// Frames on their way per channel and direction: what flow control would allow.
const CREDIT: usize = 3;

/// The newest write of a key.
type Newest = (Tick, Origin, Option<Vec<u8>>);

/// splitmix64.
pub(crate) struct Dice(pub(crate) u64);

impl Dice {
    pub(crate) fn roll(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    pub(crate) fn below(&mut self, limit: usize) -> usize {
        (self.roll() % limit as u64) as usize
    }

    pub(crate) fn one_in(&mut self, of: u64) -> bool {
        self.roll().is_multiple_of(of)
    }
}

pub(crate) fn id(node: usize) -> NodeId {
    NodeId([node as u8 + 1; 16])
}

pub(crate) struct Node {
    pub(crate) store: MemoryStore,
    pub(crate) group: Arc<Group>,
    pub(crate) config: GroupConfig,
    pub(crate) skew_ms: i64,
    floor: Vector,
    vector: Vector,
}

/// One end of a connection.
struct End {
    session: Session,
    /// On their way to this end, by channel.
    inbox: [VecDeque<Vec<u8>>; 4],
}

struct Link {
    nodes: [usize; 2],
    ends: [End; 2],
}

/// Everything.
pub(crate) struct Net {
    pub(crate) nodes: Vec<Node>,
    links: Vec<Link>,
    pub(crate) now_ms: u64,
    pub(crate) dice: Dice,
    lives: u64,
    /// All that users wrote, by stamp.
    pub(crate) written: BTreeMap<(Origin, Tick), Vec<Write>>,
    pub(crate) events: Vec<(usize, Event)>,
    pub(crate) failures: Vec<(usize, ProtocolError)>,
    pub(crate) tweak: fn(&mut SessionConfig),
}

impl Net {
    /// `authors` writers that know each other, then `observers` readers.
    pub(crate) fn new(seed: u64, authors: usize, observers: usize) -> Net {
        let first: Vec<NodeId> = (0..authors).map(id).collect();
        let mut net = Net {
            nodes: Vec::new(),
            links: Vec::new(),
            now_ms: 0,
            dice: Dice(seed),
            lives: 0,
            written: BTreeMap::new(),
            events: Vec::new(),
            failures: Vec::new(),
            tweak: |_| {},
        };
        for _ in 0..authors {
            net.add(Role::Author, first.clone());
        }
        for _ in 0..observers {
            net.add(Role::Observer, first.clone());
        }
        net
    }

    pub(crate) fn add(&mut self, role: Role, first: Vec<NodeId>) -> usize {
        let node = self.nodes.len();
        let incarnation = self.incarnation();
        let store = MemoryStore::new(id(node), incarnation, START_MS + self.now_ms);
        let config = GroupConfig { scope: SCOPE, role, first };
        let group = Arc::new(Group::open(config.clone(), &store).unwrap());
        let (floor, vector) = (Vector::default(), Vector::default());
        self.nodes.push(Node { store, group, config, skew_ms: 0, floor, vector });
        node
    }

    fn incarnation(&mut self) -> Incarnation {
        self.lives += 1;
        Incarnation(self.lives * 1_000_003 % 999_983 + 1)
    }

    pub(crate) fn now(&self) -> Duration {
        Duration::from_millis(self.now_ms)
    }

    pub(crate) fn pass(&mut self, ms: u64) {
        self.now_ms += ms;
        for node in &self.nodes {
            let wall = START_MS + self.now_ms;
            node.store.set_wall_ms(wall.saturating_add_signed(node.skew_ms));
        }
    }

    fn link_of(&self, a: usize, b: usize) -> Option<usize> {
        let pair = [a.min(b), a.max(b)];
        self.links.iter().position(|link| link.nodes == pair)
    }

    pub(crate) fn connect(&mut self, a: usize, b: usize) {
        if a == b || self.link_of(a, b).is_some() {
            return;
        }
        let nodes = [a.min(b), a.max(b)];
        let ends = [(nodes[0], nodes[1]), (nodes[1], nodes[0])].map(|(own, peer)| {
            let mut config = SessionConfig::new(id(peer));
            (self.tweak)(&mut config);
            let group = Arc::clone(&self.nodes[own].group);
            let session = Session::new(config, group, self.now());
            End { session, inbox: Default::default() }
        });
        self.links.push(Link { nodes, ends });
    }

    pub(crate) fn connect_all(&mut self) {
        for a in 0..self.nodes.len() {
            (0..a).for_each(|b| self.connect(a, b));
        }
    }

    pub(crate) fn cut(&mut self, a: usize, b: usize) {
        if let Some(link) = self.link_of(a, b) {
            self.links.remove(link);
        }
    }

    pub(crate) fn cut_all(&mut self, node: usize) {
        self.links.retain(|link| !link.nodes.contains(&node));
    }

    /// The process dies and comes back.
    pub(crate) fn crash(&mut self, node: usize) {
        self.cut_all(node);
        let crashed = &mut self.nodes[node];
        crashed.store.crash();
        let (own, kept) = (crashed.store.origin(), crashed.store.applied(SCOPE));
        crashed.vector = kept.clone();
        crashed.group = Arc::new(Group::open(crashed.config.clone(), &crashed.store).unwrap());
        // What was not durable was not shipped, and is gone.
        self.written.retain(|(origin, tick), _| *origin != own || *tick <= kept.get(own));
    }

    /// The directory is lost and made again from a backup.
    pub(crate) fn restore(&mut self, node: usize, backup: &Backup) {
        self.cut_all(node);
        let incarnation = self.incarnation();
        let wall = START_MS + self.now_ms;
        let restored = &mut self.nodes[node];
        let wall = wall.saturating_add_signed(restored.skew_ms);
        restored.store = MemoryStore::restore(backup, incarnation, wall);
        restored.group = Arc::new(Group::open(restored.config.clone(), &restored.store).unwrap());
        restored.floor = restored.store.floor(SCOPE);
        restored.vector = restored.store.applied(SCOPE);
    }

    pub(crate) fn write(&mut self, node: usize, writes: Vec<Write>) -> bool {
        let writer = &self.nodes[node];
        // A node may have been used before it was told of peers.
        if !matches!(writer.group.writes(), Writes::Open | Writes::Joining) {
            return false;
        }
        let Ok(tick) = writer.store.write(&writes) else { return false };
        self.written.insert((writer.store.origin(), tick), writes);
        true
    }

    pub(crate) fn put(&mut self, node: usize, key: &str, value: &str) -> bool {
        self.write(node, vec![change("k", key, Change::Put(value.into()))])
    }

    pub(crate) fn delete(&mut self, node: usize, key: &str) -> bool {
        self.write(node, vec![change("k", key, Change::Delete)])
    }

    pub(crate) fn get(&self, node: usize, key: &str) -> Option<String> {
        let value = self.nodes[node].store.get("k", key.as_bytes()).unwrap();
        value.map(|value| String::from_utf8(value).unwrap())
    }

    /// Moves one frame somewhere, or asks for one; returns whether there was any.
    pub(crate) fn step(&mut self) -> bool {
        if self.links.is_empty() {
            return false;
        }
        let link = self.dice.below(self.links.len());
        let (end, channel) = (self.dice.below(2), Channel::ALL[self.dice.below(4)]);
        let moved = self.move_on(link, end, channel);
        self.check_node(self.links.get(link).map_or(0, |link| link.nodes[end]));
        moved
    }

    fn move_on(&mut self, at: usize, end: usize, channel: Channel) -> bool {
        let now = self.now();
        let link = &mut self.links[at];
        let (own, other) = (link.nodes[end], 1 - end);
        let store = &self.nodes[own].store;
        let mut moved = false;
        let mut done = Ok(());
        if let Some(frame) = link.ends[end].inbox[channel as usize].pop_front() {
            moved = true;
            done = link.ends[end].session.receive(now, channel, &frame, store);
        }
        if done.is_ok() && link.ends[other].inbox[channel as usize].len() < CREDIT {
            match link.ends[end].session.next_frame(now, channel, store) {
                Ok(Some(frame)) => {
                    moved = true;
                    link.ends[other].inbox[channel as usize].push_back(frame);
                }
                Ok(None) => {}
                Err(error) => done = Err(error),
            }
        }
        let events = link.ends[end].session.take_events();
        self.events.extend(events.into_iter().map(|event| (own, event)));
        if let Err(error) = done {
            self.failures.push((own, error));
            self.links.remove(at);
        }
        moved
    }

    /// Vectors and floors only rise, and a floor is never above what is here.
    fn check_node(&mut self, node: usize) {
        let node = &mut self.nodes[node];
        let (floor, vector) = (node.store.floor(SCOPE), node.store.applied(SCOPE));
        assert!(floor.covers_all(&node.floor), "a floor sank");
        assert!(vector.covers_all(&node.vector), "a vector sank");
        assert!(vector.covers_all(&floor), "a floor is above the vector");
        (node.floor, node.vector) = (floor, vector);
    }

    /// Runs until all connected sessions are quiet, for `ms` at the most.
    pub(crate) fn run(&mut self, ms: u64) {
        let end = self.now_ms + ms;
        while self.now_ms < end {
            let mut moved = true;
            let mut rounds = 0;
            while std::mem::take(&mut moved) {
                rounds += 1;
                assert!(rounds < 20_000, "the nodes never come to rest");
                let mut link = 0;
                while link < self.links.len() {
                    for at in 0..8 {
                        if link < self.links.len() {
                            moved |= self.move_on(link, at % 2, Channel::ALL[at / 2]);
                        }
                    }
                    link += 1;
                }
            }
            for node in 0..self.nodes.len() {
                self.check_node(node);
                let node = &self.nodes[node];
                node.store.sync();
                node.group.tick(Duration::from_millis(self.now_ms), &node.store).unwrap();
            }
            self.pass(25);
        }
    }

    /// All connect again whenever they fall apart, until all have the same; or panics.
    pub(crate) fn heal(&mut self) {
        for _ in 0..120 {
            self.connect_all();
            self.run(1_000);
            if self.is_equal() {
                // Once more, so that what follows from it comes to rest too.
                self.connect_all();
                self.run(3_000);
                if self.is_equal() {
                    return;
                }
            }
        }
        let vectors: Vec<_> = self.nodes.iter().map(|node| node.store.applied(SCOPE)).collect();
        panic!("no convergence: {vectors:#?}\n{:?}\n{:?}", self.failures, self.events);
    }

    pub(crate) fn is_equal(&self) -> bool {
        let first = &self.nodes[0].store;
        let (vector, dump) = (first.applied(SCOPE), first.dump());
        self.nodes
            .iter()
            .all(|node| node.store.applied(SCOPE) == vector && node.store.dump() == dump)
    }

    /// What everybody should read in keyspace "k": the newest write of each key.
    pub(crate) fn fold(&self) -> BTreeMap<Vec<u8>, Option<Vec<u8>>> {
        let vector = self.nodes[0].store.applied(SCOPE);
        let mut newest: BTreeMap<Vec<u8>, Newest> = BTreeMap::new();
        let mut ranges = Vec::new();
        for ((origin, tick), writes) in &self.written {
            if !vector.covers(*origin, *tick) {
                continue;
            }
            for write in writes {
                let value = match &write.change {
                    Change::Put(value) => Some(value.clone()),
                    Change::Delete => None,
                    Change::DeleteTo(end) => {
                        ranges.push((*tick, *origin, write.key.clone(), end.clone()));
                        continue;
                    }
                    Change::Erase(_) => unreachable!("users do not erase"),
                };
                let fresh = (*tick, *origin, value);
                match newest.get(&write.key) {
                    Some((t, o, _)) if (*t, *o) > (*tick, *origin) => {}
                    _ => drop(newest.insert(write.key.clone(), fresh)),
                }
            }
        }
        let value = |(key, (tick, origin, value)): (Vec<u8>, (Tick, Origin, _))| {
            let is_in = |(t, o, start, end): &(Tick, Origin, Vec<u8>, Vec<u8>)| {
                *start <= key && (end.is_empty() || key < *end) && (*t, *o) > (tick, origin)
            };
            let value = if ranges.iter().any(is_in) { None } else { value };
            (key, value)
        };
        newest.into_iter().map(value).collect()
    }

    /// Panics unless all nodes read the fold; a key that is in quarantine may be gone.
    pub(crate) fn check_fold(&self) {
        let expected = self.fold();
        let quarantine = self.nodes[0].store.entries(keyspaces::QUARANTINE).unwrap();
        let is_kept = |of: &[u8], value: &Vec<u8>| {
            quarantine.iter().any(|held| held.key == of && held.value == *value)
        };
        for (node, at) in self.nodes.iter().enumerate() {
            for (key, value) in &expected {
                let found = at.store.get("k", key).unwrap();
                let copy = [b"k/", key.as_slice()].concat();
                let is_in_quarantine = value.as_ref().is_some_and(|value| is_kept(&copy, value));
                if found != *value && !is_in_quarantine {
                    let key = String::from_utf8_lossy(key);
                    panic!("node {node}, key {key}: {found:?} instead of {value:?}");
                }
            }
            for (keyspace, key, _) in at.store.dump() {
                assert!(keyspace != "k" || expected.contains_key(&key), "a phantom: {key:?}");
            }
        }
    }

    pub(crate) fn has_chosen(&self, node: usize, tier: Tier) -> bool {
        self.events.contains(&(node, Event::Installed(tier)))
    }
}

pub(crate) fn change(keyspace: &str, key: &str, change: Change) -> Write {
    Write { keyspace: keyspace.into(), key: key.into(), change }
}

impl Net {
    /// What `from` has sent to `to` and not heard of.
    pub(crate) fn pending(&self, from: usize, to: usize) -> (u64, u64) {
        let Some(link) = self.link_of(from, to) else { return (0, 0) };
        let link = &self.links[link];
        link.ends[usize::from(link.nodes[1] == from)].session.pending()
    }

    /// Frames of a channel on their way.
    pub(crate) fn on_their_way(&self, from: usize, to: usize, channel: Channel) -> usize {
        let Some(link) = self.link_of(from, to).map(|link| &self.links[link]) else { return 0 };
        link.ends[usize::from(link.nodes[1] == to)].inbox[channel as usize].len()
    }

    /// Bytes that packing has saved between two nodes, both ways.
    pub(crate) fn saved(&self, one: usize, other: usize) -> u64 {
        let link = self.link_of(one, other).map(|link| &self.links[link]);
        link.map_or(0, |link| link.ends.iter().map(|end| end.session.saved()).sum())
    }

    /// The node was replaced by an older copy of itself.
    pub(crate) fn forget_heights(&mut self, node: usize) {
        let node = &mut self.nodes[node];
        (node.floor, node.vector) = (node.store.floor(SCOPE), node.store.applied(SCOPE));
    }
}
