//! Two nodes in one process, joined by sessions over queues.

use base::clock::ManualClock;
use base::fs::SimFs;
use base::rng::SeededRng;
use base::{NodeId, ScopeId};
use engine::{Background, Db, Keyspace, KeyspaceOptions, Options, Platform};
use replication::ProtocolError;
use replication::engine_store::EngineStore;
use replication::group::{Group, GroupConfig};
use replication::link::Bell;
use replication::protocol::{Channel, Event, Session, SessionConfig};
use replication::roster::Role;
use replication::store::Store;
use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

pub(crate) const MAIN: ScopeId = ScopeId::MAIN;
const START_MS: u64 = 1_700_000_000_000;

/// Values by keyspace and key.
pub(crate) type Content = BTreeMap<(String, Vec<u8>), Vec<u8>>;

/// The smallest sizes, and no background threads.
pub(crate) fn small() -> Options {
    Options {
        memtable_bytes: 64 << 10,
        memory_bytes: 2 << 20,
        block_bytes: 512,
        table_bytes: 64 << 10,
        segment_bytes: 64 << 10,
        background: Background::Off,
        ..Options::default()
    }
}

pub(crate) struct Node {
    pub(crate) fs: SimFs,
    pub(crate) db: Db,
    pub(crate) store: EngineStore,
    pub(crate) group: Option<Arc<Group>>,
    session: Option<Session>,
    inbox: [VecDeque<Vec<u8>>; 4],
}

impl Node {
    /// Ends its session.
    pub(crate) fn disconnect(&mut self) {
        self.session = None;
    }
}

/// See the module.
pub(crate) struct Pair {
    pub(crate) nodes: Vec<Node>,
    pub(crate) clock: Arc<ManualClock>,
    now_ms: u64,
    pub(crate) events: Vec<(usize, Event)>,
    pub(crate) failures: Vec<(usize, ProtocolError)>,
    /// What both sides understand.
    pub(crate) features: u64,
    /// Bytes of state that have gone from one to the other.
    pub(crate) bulk_bytes: u64,
}

pub(crate) fn open(fs: &SimFs, clock: &Arc<ManualClock>, options: Options) -> Db {
    let platform = Platform {
        fs: Arc::new(fs.clone()),
        clock: clock.clone(),
        rng: Arc::new(SeededRng::new(fs.ops() ^ fs.trace())),
    };
    Db::open_on(platform, options).unwrap()
}

impl Pair {
    pub(crate) fn new(seed: u64, options: &Options) -> Pair {
        let clock = Arc::new(ManualClock::at(START_MS));
        let mut nodes = Vec::new();
        for number in 0..2 {
            let fs = SimFs::new(seed * 2 + number);
            let db = open(&fs, &clock, options.clone());
            let store = EngineStore::new(db.clone(), &Bell::default());
            let (group, session, inbox) = (None, None, Default::default());
            nodes.push(Node { fs, db, store, group, session, inbox });
        }
        let (now_ms, events, failures, bulk_bytes) = (0, Vec::new(), Vec::new(), 0);
        let mut pair =
            Pair { nodes, clock, now_ms, events, failures, features: u64::MAX, bulk_bytes };
        let first: Vec<NodeId> = (0..2).map(|node| pair.id(node)).collect();
        for node in &mut pair.nodes {
            let config = GroupConfig { scope: MAIN, role: Role::Author, first: first.clone() };
            node.group = Some(Arc::new(Group::open(config, &node.store).unwrap()));
        }
        pair
    }

    pub(crate) fn id(&self, node: usize) -> NodeId {
        self.nodes[node].store.origin().node
    }

    pub(crate) fn group(&self, node: usize) -> &Arc<Group> {
        self.nodes[node].group.as_ref().unwrap()
    }

    pub(crate) fn keyspace(&self, node: usize, name: &str) -> Keyspace {
        self.nodes[node].db.keyspace(name, KeyspaceOptions::default()).unwrap()
    }

    pub(crate) fn now(&self) -> Duration {
        Duration::from_millis(self.now_ms)
    }

    pub(crate) fn connect(&mut self) {
        for own in 0..2 {
            let usual = SessionConfig::new(self.id(1 - own));
            let features = usual.features & self.features;
            let config = SessionConfig { audit_every: None, features, ..usual };
            let session = Session::new(config, self.group(own).clone(), self.now());
            self.nodes[own].session = Some(session);
            self.nodes[own].inbox = Default::default();
        }
    }

    /// Runs for `ms` of made-up time; falls apart if a session fails, and connects again.
    pub(crate) fn run(&mut self, ms: u64) {
        let end = self.now_ms + ms;
        while self.now_ms < end {
            if self.nodes.iter().any(|node| node.session.is_none()) {
                self.connect();
            }
            while (0..2).any(|own| self.turn(own)) {}
            self.now_ms += 25;
            self.clock.set(START_MS + self.now_ms);
        }
    }

    /// Moves what there is to move; whether anything was.
    fn turn(&mut self, own: usize) -> bool {
        let mut moved = false;
        for channel in Channel::ALL {
            match self.move_on(own, channel) {
                Ok(did) => moved |= did,
                Err(error) => {
                    self.failures.push((own, error));
                    self.nodes.iter_mut().for_each(|node| node.session = None);
                    return false;
                }
            }
        }
        moved
    }

    fn move_on(&mut self, own: usize, channel: Channel) -> Result<bool, ProtocolError> {
        let now = self.now();
        let node = &mut self.nodes[own];
        let Some(session) = &mut node.session else { return Ok(false) };
        let came = node.inbox[channel as usize].pop_front();
        let mut moved = came.is_some();
        if let Some(frame) = came {
            session.receive(now, channel, &frame, &node.store)?;
        }
        let made = session.next_frame(now, channel, &node.store)?;
        moved |= made.is_some() || session.next_timeout().is_some_and(|at| at <= now);
        self.events.extend(session.take_events().into_iter().map(|event| (own, event)));
        if channel == Channel::Bulk {
            self.bulk_bytes += made.as_ref().map_or(0, |frame| frame.len() as u64);
        }
        self.nodes[1 - own].inbox[channel as usize].extend(made);
        Ok(moved)
    }

    /// Everything a user can read of scope main.
    pub(crate) fn content(&self, node: usize) -> Content {
        let db = &self.nodes[node].db;
        let mut all = BTreeMap::new();
        for keyspace in db.keyspaces() {
            let name = keyspace.name().to_owned();
            for entry in keyspace.iter() {
                let (key, value) = entry.unwrap();
                all.insert((name.clone(), key.to_vec()), value.to_vec());
            }
        }
        all
    }

    /// Runs until both have received the same.
    pub(crate) fn settle(&mut self) {
        for _ in 0..60 {
            self.run(1_000);
            if self.nodes[0].store.durable(MAIN) == self.nodes[1].store.durable(MAIN) {
                return self.run(3_000);
            }
        }
        panic!("no convergence: {:?} {:?}", self.failures, self.events);
    }
}
