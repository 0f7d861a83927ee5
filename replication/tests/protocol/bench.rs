//! A session alone on a bench, and a peer that says whatever a test wants: it seals genuine frames
//! with any content, so its lies get past the digest.

use crate::net::{SCOPE, id};
use base::{Incarnation, Origin, Vector};
use replication::group::{Group, GroupConfig};
use replication::memory::{Change, MemoryStore, Write};
use replication::protocol::frame::{
    Channel, Extent, FEATURE_PACKED, FEATURE_SELF_VERIFYING, Kind, Lane,
};
use replication::protocol::message::{Heartbeat, Hello, HelloAck, Message};
use replication::protocol::{Session, SessionConfig};
use replication::roster::Role;
use replication::store::Store;
use replication::{ProtocolError, Remedy};
use std::sync::Arc;
use std::time::Duration;

pub(crate) const WALL_MS: u64 = 1_700_000_000_000;
pub(crate) const PEER: usize = 1;

/// The peer on a bench, by what it understands.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Toy {
    features: u64,
}

/// A session of node 0, and the lanes of a peer that says whatever a test wants.
pub(crate) struct Bench {
    toy: Toy,
    pub(crate) store: MemoryStore,
    pub(crate) group: Arc<Group>,
    pub(crate) session: Session,
    out: [Lane; 4],
    read: Lane,
    pub(crate) now: Duration,
}

pub(crate) fn origin(node: usize) -> Origin {
    Origin { node: id(node), incarnation: Incarnation(node as u64 + 5) }
}

impl Toy {
    /// As a peer of this build.
    pub(crate) fn usual() -> Toy {
        Toy { features: SessionConfig::new(id(PEER)).features }
    }

    /// One that understands nothing which came since the first build, and one of this build.
    pub(crate) fn both() -> [Toy; 2] {
        Toy::both_with(0)
    }

    /// As [`Toy::both`], where the first must understand something.
    pub(crate) fn both_with(features: u64) -> [Toy; 2] {
        [Toy { features }, Toy::usual()]
    }

    /// Whether payloads with a digest of their own are not digested once more.
    pub(crate) fn verifies_itself(self) -> bool {
        self.features & FEATURE_SELF_VERIFYING != 0
    }

    pub(crate) fn bench(self) -> Bench {
        self.with(filled())
    }

    pub(crate) fn with(self, store: MemoryStore) -> Bench {
        let first = vec![store.origin().node, id(PEER)];
        Bench::of(self, store, GroupConfig { scope: SCOPE, role: Role::Author, first })
    }

    /// Both sides have said hello, and the session has asked for something.
    pub(crate) fn up(self, store: MemoryStore) -> (Bench, Vec<Message>) {
        self.with(store).meet()
    }

    /// A live tail from the peer, with nothing in it yet.
    pub(crate) fn live(self) -> Bench {
        let (bench, said) = self.up(filled());
        bench.begin(&said)
    }

    pub(crate) fn hello(self) -> Hello {
        Hello { features: self.features, ..Bench::hello() }
    }

    /// The start of a direction of `channel` after the hellos.
    pub(crate) fn lane(self, channel: Channel) -> Lane {
        let mut lane = Lane::new(channel);
        agree(&mut lane, self.features);
        lane
    }
}

/// The peer of `lane` and the session understand `features` of what is usual.
fn agree(lane: &mut Lane, features: u64) {
    let agreed = features & Toy::usual().features;
    if agreed & FEATURE_PACKED != 0 {
        lane.allow_packing();
    }
    if agreed & FEATURE_SELF_VERIFYING != 0 {
        lane.allow_self_verifying();
    }
}

impl Bench {
    pub(crate) fn with(store: MemoryStore) -> Bench {
        Toy::usual().with(store)
    }

    fn of(toy: Toy, store: MemoryStore, config: GroupConfig) -> Bench {
        let group = Arc::new(Group::open(config, &store).unwrap());
        let now = Duration::from_secs(1);
        let session = Session::new(SessionConfig::new(id(PEER)), Arc::clone(&group), now);
        let out = Channel::ALL.map(Lane::new);
        Bench { toy, store, group, session, out, read: Lane::new(Channel::Control), now }
    }

    /// The next message of the session.
    pub(crate) fn hear(&mut self) -> Option<Message> {
        let frame = self.session.next_frame(self.now, Channel::Control, &self.store).unwrap()?;
        let frame = self.read.open(&frame).unwrap();
        Some(Message::decode(frame.kind, &frame.payload).unwrap())
    }

    pub(crate) fn hear_all(&mut self) -> Vec<Message> {
        std::iter::from_fn(|| self.hear()).collect()
    }

    pub(crate) fn hello() -> Hello {
        Hello {
            protocol_min: 1,
            protocol_max: 1,
            features: Toy::usual().features,
            proposal: [7; 16],
            node: id(PEER).0,
            incarnation: origin(PEER).incarnation.0,
            role: 1,
            sent_ms: WALL_MS,
            ..Hello::default()
        }
    }

    pub(crate) fn say(&mut self, message: Message) -> Result<(), ProtocolError> {
        let bytes = message.encode().unwrap();
        let said = self.send(message.kind(), Extent::Whole, &bytes);
        if let (Ok(()), Message::Hello(hello)) = (&said, &message) {
            self.out.iter_mut().for_each(|lane| agree(lane, hello.features));
        }
        said
    }

    pub(crate) fn send(
        &mut self,
        kind: Kind,
        extent: Extent,
        payload: &[u8],
    ) -> Result<(), ProtocolError> {
        let channel = kind.channel();
        let frame = self.out[channel as usize].seal(kind, extent, &[payload]);
        self.session.receive(self.now, channel, &frame, &self.store)
    }

    /// Both sides have said hello, and the session has asked for something.
    pub(crate) fn up(store: MemoryStore) -> (Bench, Vec<Message>) {
        Toy::usual().up(store)
    }

    /// As [`Bench::up`], of a node that knows of no other.
    pub(crate) fn up_alone(role: Role) -> (Bench, Vec<Message>) {
        Bench::of(Toy::usual(), filled(), GroupConfig { scope: SCOPE, role, first: Vec::new() })
            .meet()
    }

    /// As [`Bench::up`], of a node in this role.
    pub(crate) fn up_as(store: MemoryStore, role: Role) -> (Bench, Vec<Message>) {
        let first = vec![id(PEER)];
        Bench::of(Toy::usual(), store, GroupConfig { scope: SCOPE, role, first }).meet()
    }

    /// The peer connects again: another session of the same node.
    pub(crate) fn again(self) -> Bench {
        let Bench { toy, store, group, session, now, .. } = self;
        drop(session);
        let session = Session::new(SessionConfig::new(id(PEER)), Arc::clone(&group), now);
        let (out, read) = (Channel::ALL.map(Lane::new), Lane::new(Channel::Control));
        Bench { toy, store, group, session, out, read, now }.meet().0
    }

    fn meet(mut self) -> (Bench, Vec<Message>) {
        assert!(matches!(self.hear(), Some(Message::Hello(_))));
        self.say(Message::Hello(self.toy.hello())).unwrap();
        let Some(Message::HelloAck(ack)) = self.hear() else { panic!("no answer") };
        self.say(Message::HelloAck(ack)).unwrap();
        let said = self.hear_all();
        (self, said)
    }

    /// The peer answers the hello; returns what the session says then.
    pub(crate) fn answer(&mut self) -> Vec<Message> {
        let said = self.hear_all();
        let ack = said.into_iter().find_map(|message| match message {
            Message::HelloAck(ack) => Some(ack),
            _ => None,
        });
        let rejoin = HelloAck { rejoin: 0, ..ack.unwrap() };
        self.say(Message::HelloAck(rejoin)).unwrap();
        self.hear_all()
    }

    /// A live tail from the peer, with nothing in it yet.
    pub(crate) fn live() -> Bench {
        Bench::live_as(0)
    }

    /// As [`Bench::live`], of another node.
    pub(crate) fn live_as(own: usize) -> Bench {
        let (bench, said) = Bench::up(filled_as(own));
        bench.begin(&said)
    }

    /// The tail begins that the session has asked for.
    fn begin(mut self, said: &[Message]) -> Bench {
        let round = said.iter().find_map(|message| match message {
            Message::Subscribe(wish) => Some(wish.round),
            _ => None,
        });
        let round = round.unwrap().to_le_bytes();
        self.send(Kind::TailStart, Extent::Whole, &round).unwrap();
        self
    }

    /// The peer says that it is there.
    pub(crate) fn beat(&mut self) {
        self.say(Message::Heartbeat(Heartbeat::default())).unwrap();
    }

    pub(crate) fn vector(&self) -> Vector {
        self.store.applied(SCOPE)
    }
}

pub(crate) fn filled() -> MemoryStore {
    filled_as(0)
}

fn filled_as(own: usize) -> MemoryStore {
    let store = MemoryStore::new(id(own), origin(own).incarnation, WALL_MS);
    write(&store, "k", "own");
    store
}

pub(crate) fn write(store: &MemoryStore, key: &str, value: &str) {
    let (keyspace, key) = ("k".to_owned(), key.as_bytes().to_vec());
    store.write(&[Write { keyspace, key, change: Change::Put(value.into()) }]).unwrap();
}

/// A shipment of `node`, whose clock shows `wall_ms`.
pub(crate) fn shipment(node: usize, wall_ms: u64) -> Vec<u8> {
    let store = MemoryStore::new(id(node), origin(node).incarnation, wall_ms);
    write(&store, "from", "afar");
    let mut tail = store.tail(SCOPE, &Vector::default()).unwrap();
    tail.next(&Vector::default(), 1000).unwrap().unwrap().bytes
}

/// A packed frame that verifies as the one of this `number`, whatever it claims to become.
pub(crate) fn forged(kind: Kind, number: u64, len: u32, packed: &[u8]) -> Vec<u8> {
    let [a, b, c, d] = len.to_le_bytes();
    let head = [1, kind as u8, 2, 0, a, b, c, d];
    let sealed = [&[kind.channel() as u8][..], &number.to_le_bytes(), &head, packed].concat();
    [&head[..], &blake3::hash(&sealed).as_bytes()[..8], packed].concat()
}

/// The error of a peer that is not let in again for long.
#[track_caller]
pub(crate) fn banned(done: Result<(), ProtocolError>) -> &'static str {
    with_remedy(done, Remedy::Ban)
}

/// The error of a peer that an operator must look at.
#[track_caller]
pub(crate) fn for_operators(done: Result<(), ProtocolError>) -> &'static str {
    with_remedy(done, Remedy::Operator)
}

/// The error of a peer that is met again soon.
#[track_caller]
pub(crate) fn retried(done: Result<(), ProtocolError>) -> &'static str {
    with_remedy(done, Remedy::Retry)
}

#[track_caller]
fn with_remedy(done: Result<(), ProtocolError>, remedy: Remedy) -> &'static str {
    let error = done.unwrap_err();
    assert_eq!(error.remedy(), remedy, "{error}");
    error.code()
}

pub(crate) fn code(done: Result<(), ProtocolError>) -> &'static str {
    done.err().map_or("nothing", |error| error.code())
}
