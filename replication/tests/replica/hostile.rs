//! A peer with a genuine key that says one wrong thing after the other, to a replica that talks to
//! an honest peer meanwhile.

use super::{Node, are_equal, until};
use base::rng::SeededRng;
use base::{Incarnation, NodeId, ScopeId, Tick, Vector};
use replication::link::sim::{SimNet, simulate};
use replication::link::{
    Bell, Calls, Channel, Conversation, Driving, Endpoint, LinkError, LinkKey, LinkSettings,
    Parting, Pins, Side, drive, establish,
};
use replication::memory::{Change, MemoryStore, Write};
use replication::protocol::SessionConfig;
use replication::protocol::audit::message::Say;
use replication::protocol::bulk::Bulk;
use replication::protocol::frame::{
    Extent, FEATURE_PACKED, FEATURE_SELF_VERIFYING, HEADER_LEN, Kind, Lane,
};
use replication::protocol::message::{Entry, Hello, HelloAck, Message, Statement, Subscribe};
use replication::replica::{Dialing, Replica, ReplicaOptions, ReplicaParts};
use replication::store::Store;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

const LIAR: u8 = 9;
/// How long who has lied is not let in.
const BAN: Duration = Duration::from_secs(5);

/// Something wrong.
#[derive(Clone, Copy)]
struct Lie {
    what: &'static str,
    /// What becomes of a hello.
    hello: fn(&mut Hello),
    /// What is said once both sides are up, if the hello was let pass.
    channel: Channel,
    tell: fn(&mut Lane, &Hello) -> Vec<u8>,
    /// Whether the tail that was asked for begins before.
    begins_tail: bool,
    /// The number of the error that it ends with.
    code: u32,
    /// That of a liar that understands no feature, if it is another.
    code_plain: Option<u32>,
    is_banned: bool,
}

const HONEST: Lie = Lie {
    what: "",
    hello: |_| {},
    channel: Channel::Control,
    tell: |_, _| Vec::new(),
    begins_tail: false,
    code: 0,
    code_plain: None,
    is_banned: true,
};

fn seal(lane: &mut Lane, message: &Message) -> Vec<u8> {
    lane.seal(message.kind(), Extent::Whole, &[&message.encode().unwrap()])
}

fn beat(lane: &mut Lane) -> Vec<u8> {
    seal(lane, &Message::Heartbeat(Default::default()))
}

/// A few bytes that become 64 MiB and say they are 1000, in a frame that verifies.
fn bomb(_: &mut Lane, _: &Hello) -> Vec<u8> {
    let bomb = zstd::bulk::compress(&vec![0; 64 << 20], 1).unwrap();
    let [a, b, c, d] = 1000u32.to_le_bytes();
    let head = [1, Kind::Shipment as u8, 2, 0, a, b, c, d];
    let sealed = [&[Channel::Tail as u8][..], &0u64.to_le_bytes(), &head, &bomb].concat();
    [&head[..], &blake3::hash(&sealed).as_bytes()[..8], &bomb].concat()
}

/// It has of `theirs` what can not exist for another hour.
fn far_confirm(lane: &mut Lane, theirs: &Hello) -> Vec<u8> {
    let tick = Tick::from_ms(theirs.sent_ms + 3_600_000).raw();
    let entry = Entry { node: theirs.node, incarnation: theirs.incarnation, tick };
    let (node, incarnation) = (key().fingerprint().node().0, u64::from(LIAR));
    let durable = vec![entry];
    let says = Statement { scope: 1, node, incarnation, durable, applied: Vec::new() };
    seal(lane, &Message::Statement(says))
}

/// A shipment of the liar with one other bit in its middle.
fn flipped_inside(lane: &mut Lane, theirs: &Hello) -> Vec<u8> {
    let store = MemoryStore::new(id(LIAR), Incarnation(u64::from(LIAR)), theirs.sent_ms);
    let (keyspace, key, change) =
        ("things".to_owned(), b"a lie".to_vec(), Change::Put(vec![7; 100]));
    store.write(&[Write { keyspace, key, change }]).unwrap();
    let mut tail = store.tail(ScopeId::MAIN, &Vector::default()).unwrap();
    let shipment = tail.next(&Vector::default(), 1000).unwrap().unwrap().bytes;
    let mut frame = lane.seal(Kind::Shipment, Extent::Whole, &[&shipment]);
    frame[HEADER_LEN + shipment.len() / 2] ^= 1;
    frame
}

const LIES: [Lie; 17] = [
    Lie {
        what: "another version of the protocol",
        hello: |hello| (hello.protocol_min, hello.protocol_max) = (2, 2),
        code: 8,
        is_banned: false,
        ..HONEST
    },
    Lie {
        what: "our own id",
        hello: |hello| hello.node = id(1).0,
        code: 10,
        is_banned: false,
        ..HONEST
    },
    Lie {
        what: "another id",
        hello: |hello| hello.node = [7; 16],
        code: 11,
        is_banned: false,
        ..HONEST
    },
    Lie {
        what: "another group",
        hello: |hello| hello.group = [7; 16],
        code: 9,
        is_banned: false,
        ..HONEST
    },
    Lie { what: "a frame cut short", tell: |lane, _| beat(lane)[..10].to_vec(), code: 2, ..HONEST },
    Lie { what: "a flipped bit", tell: |lane, _| flipped(beat(lane)), code: 3, ..HONEST },
    Lie {
        what: "a frame of another version",
        tell: |lane, _| [&[9], &beat(lane)[1..]].concat(),
        code: 4,
        ..HONEST
    },
    Lie {
        what: "a kind of another channel",
        channel: Channel::Tail,
        tell: |lane, _| beat(lane),
        code: 5,
        ..HONEST
    },
    Lie {
        what: "no message",
        tell: |lane, _| lane.seal(Kind::Subscribe, Extent::Whole, &[b"noise"]),
        code: 6,
        ..HONEST
    },
    Lie {
        what: "a second hello",
        tell: |lane, _| seal(lane, &Message::Hello(hello())),
        code: 7,
        ..HONEST
    },
    Lie {
        what: "another scope",
        tell: |lane, _| {
            seal(lane, &Message::Subscribe(Subscribe { round: 1, ..Subscribe::default() }))
        },
        code: 14,
        ..HONEST
    },
    Lie { what: "a confirm of what can not exist", tell: far_confirm, code: 17, ..HONEST },
    Lie {
        what: "a tail that nobody asked for",
        channel: Channel::Tail,
        tell: |lane, _| lane.seal(Kind::TailStart, Extent::Whole, &[&99u32.to_le_bytes()]),
        code: 7,
        ..HONEST
    },
    Lie {
        what: "a packed bomb",
        channel: Channel::Tail,
        tell: bomb,
        code: 3,
        code_plain: Some(5),
        ..HONEST
    },
    Lie {
        what: "a bit flipped in a shipment",
        channel: Channel::Tail,
        tell: flipped_inside,
        begins_tail: true,
        code: 6,
        code_plain: Some(3),
        ..HONEST
    },
    Lie {
        what: "state that nobody asked for",
        channel: Channel::Bulk,
        tell: |lane, _| {
            lane.seal(Kind::DeltaEnd, Extent::Whole, &[&Bulk::DeltaEnd { chunks: 0 }.encode(99)])
        },
        code: 7,
        ..HONEST
    },
    Lie {
        what: "the end of no audit",
        channel: Channel::Reconcile,
        tell: |lane, _| {
            lane.seal(
                Kind::AuditEnd,
                Extent::Whole,
                &[&Say::End { taken: 0, disowned: 0 }.encode(99)],
            )
        },
        code: 7,
        ..HONEST
    },
];

fn flipped(mut frame: Vec<u8>) -> Vec<u8> {
    frame.iter_mut().rev().take(1).for_each(|byte| *byte ^= 1);
    frame
}

fn key() -> LinkKey {
    LinkKey::from_seed([LIAR; 32]).unwrap()
}

fn id(number: u8) -> NodeId {
    LinkKey::from_seed([number; 32]).unwrap().fingerprint().node()
}

/// All that this build understands.
fn usual() -> u64 {
    SessionConfig::new(id(1)).features
}

fn hello() -> Hello {
    Hello {
        protocol_min: 1,
        protocol_max: 1,
        features: usual(),
        proposal: [5; 16],
        node: key().fingerprint().node().0,
        incarnation: u64::from(LIAR),
        role: 1,
        sent_ms: 1_000_000,
        ..Hello::default()
    }
}

/// A conversation that begins well and then tells a lie.
struct Liar {
    lie: Lie,
    features: u64,
    lanes: [Lane; 4],
    read: Lane,
    has_greeted: bool,
    theirs: Option<Hello>,
    has_answered: bool,
    /// The round of the tail that it was asked for.
    round: Option<u32>,
    has_begun: bool,
    has_lied: bool,
}

impl Liar {
    fn new(lie: Lie, features: u64) -> Liar {
        Liar {
            lie,
            features,
            lanes: Channel::ALL.map(Lane::new),
            read: Lane::new(Channel::Control),
            has_greeted: false,
            theirs: None,
            has_answered: false,
            round: None,
            has_begun: !lie.begins_tail,
            has_lied: false,
        }
    }

    fn lane(&mut self, channel: Channel) -> &mut Lane {
        &mut self.lanes[channel as usize]
    }
}

impl Conversation for Liar {
    fn receive(&mut self, _now: Duration, channel: Channel, frame: &[u8]) -> Result<(), Parting> {
        if channel != Channel::Control {
            return Ok(());
        }
        let frame = self.read.open(frame).unwrap();
        match Message::decode(frame.kind, &frame.payload).unwrap() {
            Message::Hello(theirs) => self.theirs = Some(theirs),
            Message::Subscribe(wish) => self.round = Some(wish.round),
            _ => {}
        }
        Ok(())
    }

    fn next_frame(&mut self, _now: Duration, channel: Channel) -> Result<Option<Vec<u8>>, Parting> {
        let control = channel == Channel::Control;
        if control && !std::mem::replace(&mut self.has_greeted, true) {
            let mut hello = Hello { features: self.features, ..hello() };
            (self.lie.hello)(&mut hello);
            let said = seal(self.lane(channel), &Message::Hello(hello));
            self.lanes.iter_mut().for_each(|lane| agree(lane, self.features));
            return Ok(Some(said));
        }
        let Some(theirs) = self.theirs.clone() else { return Ok(None) };
        if control && !std::mem::replace(&mut self.has_answered, true) {
            let features = theirs.features & self.features;
            let ack =
                HelloAck { protocol: 1, features, group: theirs.group, ..HelloAck::default() };
            return Ok(Some(seal(self.lane(channel), &Message::HelloAck(ack))));
        }
        let Lie { channel: wanted, tell, .. } = self.lie;
        let Some(round) = self.round.filter(|_| channel == wanted) else { return Ok(None) };
        if !std::mem::replace(&mut self.has_begun, true) {
            let round = round.to_le_bytes();
            return Ok(Some(self.lane(channel).seal(Kind::TailStart, Extent::Whole, &[&round])));
        }
        if std::mem::replace(&mut self.has_lied, true) {
            return Ok(None);
        }
        Ok(Some(tell(self.lane(channel), &theirs)))
    }

    fn next_timeout(&self) -> Option<Duration> {
        None
    }
}

/// Both sides understand `features`, which are among those that are usual.
fn agree(lane: &mut Lane, features: u64) {
    if features & FEATURE_PACKED != 0 {
        lane.allow_packing();
    }
    if features & FEATURE_SELF_VERIFYING != 0 {
        lane.allow_self_verifying();
    }
}

/// What comes of a lie that is told to `node` by who understands `features`.
async fn tell(endpoint: &Endpoint, node: &Node, lie: Lie, features: u64) -> LinkError {
    let driving = Driving::new(Calls::Inline, Bell::default());
    let link = match endpoint.dial(node.address, node.identity.node).await {
        Ok(link) => link,
        Err(error) => return error,
    };
    match establish(&link, endpoint.settings()).await {
        Ok(control) => {
            let liar = Box::new(Liar::new(lie, features));
            drive(link, control, liar, endpoint.settings(), &driving).await
        }
        Err(error) => error,
    }
}

/// A node that waits for the liar and dials the other one.
fn start(net: &SimNet, node: &mut Node, dialing: Dialing, peers: Vec<(NodeId, SocketAddr)>) {
    let parts = ReplicaParts {
        store: Arc::new(node.store.clone()),
        identity: node.identity,
        bell: node.bell.clone(),
        wire: net.wire(node.address),
        rng: Arc::new(SeededRng::new(node.identity.incarnation.0)),
    };
    let link = LinkSettings { ban: BAN, ..LinkSettings::default() };
    let options =
        ReplicaOptions { peers, dialing, link, calls: Calls::Inline, ..ReplicaOptions::default() };
    node.replica = Some(Replica::start(parts, options).unwrap());
}

/// Each ends with its error and, if a rule was broken, with a ban; the two others notice nothing.
#[test]
fn whatever_a_peer_says_the_two_others_go_on() {
    for features in [0, usual()] {
        simulate(31, |net| tell_all(net, features)).unwrap();
    }
}

async fn tell_all(net: SimNet, features: u64) {
    let mut nodes: Vec<Node> = [1, 2].map(Node::new).into();
    let [one, other] = [&nodes[0], &nodes[1]].map(|node| (node.identity.node, node.address));
    let liar: SocketAddr = "10.0.0.9:7000".parse().unwrap();
    start(&net, &mut nodes[0], Dialing::RespondOnly, vec![other, (id(LIAR), liar)]);
    start(&net, &mut nodes[1], Dialing::Active, vec![one]);
    let pins = Arc::new(Pins::default());
    let named = LinkKey::from_seed([1; 32]).unwrap().fingerprint();
    pins.pin(named, named.node());
    let settings = LinkSettings::default();
    let endpoint = Endpoint::new(net.wire(liar), key(), pins, settings).unwrap();
    nodes[0].put("before", "1");
    until("both are equal", || are_equal(&nodes, 1)).await;
    let life = nodes[0].store.origin();
    for (number, lie) in LIES.into_iter().enumerate() {
        let what = lie.what;
        let plain = lie.code_plain.filter(|_| features == 0);
        match tell(&endpoint, &nodes[0], lie, features).await {
            LinkError::Conversation { by: Side::Peer, code, .. } => {
                assert_eq!(code, plain.unwrap_or(lie.code), "{what}");
            }
            other => unreachable!("{what}: {other}"),
        }
        let again = tell(&endpoint, &nodes[0], lie, features).await;
        let expected = if lie.is_banned { "Banned" } else { "Conversation" };
        assert_eq!(again.code(), expected, "{what}: {again}");
        nodes[number % 2].put(&format!("after {what}"), "1");
        until(what, || are_equal(&nodes, number + 2)).await;
        tokio::time::sleep(2 * BAN).await;
    }
    assert_eq!(nodes[0].store.origin(), life);
    let sessions = nodes[1].replica().peers()[0].status.is_connected;
    assert!(sessions, "the link between the two was never cut");
}
