//! A session whose peer says anything, in frames that verify.

use crate::input::Input;
use base::{Incarnation, NodeId, ScopeId};
use replication::Remedy;
use replication::group::{Group, GroupConfig};
use replication::memory::{Change, MemoryStore, Write};
use replication::protocol::frame::{
    Channel, Extent, FEATURE_PACKED, FEATURE_SELF_VERIFYING, Kind, Lane,
};
use replication::protocol::message::{Hello, HelloAck, Message};
use replication::protocol::{Session, SessionConfig};
use replication::roster::Role;
use replication::store::Store;
use std::sync::Arc;
use std::time::Duration;

const OWN: NodeId = NodeId([1; 16]);
const PEER: NodeId = NodeId([2; 16]);
const WALL_MS: u64 = 1_700_000_000_000;
const KINDS: [Kind; 24] = [
    Kind::Hello,
    Kind::HelloAck,
    Kind::Subscribe,
    Kind::Offer,
    Kind::Want,
    Kind::Statement,
    Kind::Heartbeat,
    Kind::Goodbye,
    Kind::TailStart,
    Kind::Shipment,
    Kind::DeltaHead,
    Kind::DeltaChunk,
    Kind::DeltaEnd,
    Kind::TablesHead,
    Kind::FileBytes,
    Kind::Reconcile,
    Kind::AuditAsk,
    Kind::AuditOpen,
    Kind::AuditHead,
    Kind::AuditChunk,
    Kind::AuditGone,
    Kind::AuditEnd,
    Kind::AuditStop,
    Kind::Heal,
];

/// Feeds a session. It ends with an error or goes on; what users wrote stays, what came in pieces
/// is no more than was sent, and an ended session takes nothing.
pub fn session(data: &[u8]) {
    let mut input = Input::new(data);
    let store = MemoryStore::new(OWN, Incarnation(1), WALL_MS);
    let first = input.byte();
    let (is_empty, features) = (first.is_multiple_of(2), u64::from(first >> 1));
    if !is_empty {
        let change = Change::Put(b"value".to_vec());
        let write = Write { keyspace: "k".to_owned(), key: b"own".to_vec(), change };
        store.write(&[write]).unwrap();
    }
    let written = store.applied(ScopeId::MAIN);
    let config = GroupConfig { scope: ScopeId::MAIN, role: Role::Author, first: vec![OWN, PEER] };
    let group = Arc::new(Group::open(config, &store).unwrap());
    let mut talk = Talk {
        session: Session::new(SessionConfig::new(PEER), group, Duration::ZERO),
        store,
        lanes: Channel::ALL.map(Lane::new),
        now: Duration::ZERO,
        sent: 0,
    };
    if !input.byte().is_multiple_of(4) {
        talk.greet(features & SessionConfig::new(PEER).features);
    }
    while !input.is_empty() && talk.say(&mut input) {}
    assert!(talk.store.applied(ScopeId::MAIN).covers_all(&written));
}

/// Both sides of a lane understand `features`.
pub(crate) fn agree(lane: &mut Lane, features: u64) {
    if features & FEATURE_PACKED != 0 {
        lane.allow_packing();
    }
    if features & FEATURE_SELF_VERIFYING != 0 {
        lane.allow_self_verifying();
    }
}

struct Talk {
    session: Session,
    store: MemoryStore,
    lanes: [Lane; 4],
    now: Duration,
    sent: usize,
}

impl Talk {
    fn greet(&mut self, features: u64) {
        let hello = Hello {
            protocol_min: 1,
            protocol_max: 1,
            features,
            node: PEER.0,
            incarnation: 7,
            proposal: [7; 16],
            role: 1,
            ..Hello::default()
        };
        let first = self.session.next_frame(self.now, Channel::Control, &self.store);
        let frame = first.unwrap().unwrap();
        let read = Lane::new(Channel::Control).open(&frame).unwrap().payload.to_vec();
        let Ok(Message::Hello(own)) = Message::decode(Kind::Hello, &read) else { return };
        self.tell(&Message::Hello(hello));
        let _ = self.session.next_frame(self.now, Channel::Control, &self.store);
        let group = own.proposal;
        let ack = HelloAck { protocol: 1, features, group, ..HelloAck::default() };
        self.tell(&Message::HelloAck(ack));
        assert!(self.session.is_up());
        self.lanes.iter_mut().for_each(|lane| agree(lane, features));
    }

    fn tell(&mut self, message: &Message) {
        let bytes = message.encode().unwrap();
        assert!(self.send(message.kind(), Extent::Whole, &bytes));
    }

    /// Whether the session goes on.
    fn send(&mut self, kind: Kind, extent: Extent, payload: &[u8]) -> bool {
        let channel = kind.channel();
        let frame = self.lanes[channel as usize].seal(kind, extent, &[payload]);
        self.sent += payload.len();
        let taken = self.session.receive(self.now, channel, &frame, &self.store);
        assert!(self.session.held_bytes() <= self.sent);
        if taken.is_err() {
            let again = self.session.receive(self.now, channel, &frame, &self.store);
            assert_eq!(again.err().map(|error| error.code()), Some("Over"));
        }
        taken.is_ok()
    }

    fn say(&mut self, input: &mut Input<'_>) -> bool {
        self.now += Duration::from_millis(u64::from(input.byte()) * 8);
        let kind = KINDS[input.below(KINDS.len())];
        let extent = if input.byte().is_multiple_of(8) { Extent::Piece } else { Extent::Whole };
        let payload = input.bytes(600).to_vec();
        self.send(kind, extent, &payload) && Channel::ALL.into_iter().all(|it| self.listen(it))
    }

    /// Whether the session goes on. Whatever it can not say, it is not the peer that is to blame.
    fn listen(&mut self, channel: Channel) -> bool {
        match self.session.next_frame(self.now, channel, &self.store) {
            Ok(_) => true,
            Err(error) => {
                assert_ne!(error.remedy(), Remedy::Ban, "{error}");
                false
            }
        }
    }
}
