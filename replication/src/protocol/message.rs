//! Control messages: flat rkyv types, at most 64 KiB, in a frame whose digest was checked before.
//! rkyv decides the bytes and keeps memory safe; what the numbers mean is checked here.
//!
//! | message   | says                                                                        |
//! | ---       | ---                                                                         |
//! | Hello     | who I am, what I speak; the first frame of each side                        |
//! | HelloAck  | which group and features hold from now on, and when your hello came         |
//! | Subscribe | send everything that this vector does not cover                             |
//! | Offer     | the log can not do that, or there are no tables: choose another way         |
//! | Want      | send a delta, tables, or a file from an offset                              |
//! | Heal      | send a delta, and of ranges of keys everything                             |
//! | Statement | an author has all this durably: the speaker's own is a confirm, others are relayed |
//! | Heartbeat | I am here; my clock, my last commit, my lag                                 |
//! | Goodbye   | the session ends, with the number of an error                               |

pub use super::entries::{AUTHORS_MAX, Entry, entries, vector};
use super::frame::{CONTROL_LEN_MAX, Kind};
pub use super::healing::{Heal, Part};
pub use super::notice::Notice;
use crate::error::ProtocolError;
use base::{Corruption, Incarnation, NodeId, Origin, ScopeId, Tick, Vector};
use rkyv::rancor;
use rkyv::util::AlignedVec;
use rkyv::{Archive, Deserialize, Serialize};

/// Who I am, and what I speak.
#[derive(Archive, Serialize, Deserialize, Clone, Debug, Default, PartialEq, Eq)]
pub struct Hello {
    /// The oldest version of the protocol that is spoken.
    pub protocol_min: u16,
    /// The newest.
    pub protocol_max: u16,
    /// What else is understood, as bits; unknown ones are ignored.
    pub features: u64,
    /// The group, or zeros if there is none yet.
    pub group: [u8; 16],
    /// The group that would be formed if neither side has one.
    pub proposal: [u8; 16],
    /// The node.
    pub node: [u8; 16],
    /// Its incarnation.
    pub incarnation: u64,
    /// Its role: see [`crate::roster::Role`].
    pub role: u8,
    /// The wall clock.
    pub sent_ms: u64,
    /// What it knows of itself.
    pub about_me: Notice,
    /// What it knows of whom it speaks to.
    pub about_you: Notice,
}

/// What holds from now on.
#[derive(Archive, Serialize, Deserialize, Clone, Debug, Default, PartialEq, Eq)]
pub struct HelloAck {
    /// The version of the protocol.
    pub protocol: u16,
    /// What both understand.
    pub features: u64,
    /// The group.
    pub group: [u8; 16],
    /// Whether the receiver must rejoin: 1, else 0.
    pub rejoin: u8,
    /// The wall clock of the hello that this answers.
    pub echo_ms: u64,
    /// When that came, by the clock of the speaker.
    pub received_ms: u64,
    /// The wall clock now.
    pub sent_ms: u64,
}

/// Send everything that the vector does not cover.
#[derive(Archive, Serialize, Deserialize, Clone, Debug, Default, PartialEq, Eq)]
pub struct Subscribe {
    /// The dataset.
    pub scope: u32,
    /// Counts the subscriptions of a session from 1, so that answers to older ones are told apart.
    pub round: u32,
    /// What is there already.
    pub vector: Vec<Entry>,
}

/// Why there will be no tail, or no tables.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Answer {
    /// The log does not reach back that far: ask for a delta.
    HistoryGone = 1,
    /// There are no tables to give: subscribe.
    NoTables = 2,
    /// Not now: ask again later.
    Later = 3,
    /// The receiver is no member, though it has something already: it must rejoin.
    Stranger = 4,
}

impl Answer {
    fn from_raw(raw: u8) -> Option<Answer> {
        [Answer::HistoryGone, Answer::NoTables, Answer::Later, Answer::Stranger]
            .into_iter()
            .find(|answer| *answer as u8 == raw)
    }
}

/// Another way is needed.
#[derive(Archive, Serialize, Deserialize, Clone, Debug, Default, PartialEq, Eq)]
pub struct Offer {
    /// The dataset.
    pub scope: u32,
    /// The subscription or the wish that this answers.
    pub round: u32,
    /// See [`Answer`].
    pub answer: u8,
    /// The speaker's floor.
    pub floor: Vec<Entry>,
}

/// What is wanted besides the tail.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Wish {
    /// What the vector does not cover.
    CatchUp = 1,
    /// Everything, once the speaker's vector is covered.
    Rejoin = 2,
    /// The tables.
    Tables = 3,
    /// A file of the tables, from an offset.
    File = 4,
    /// What was wanted is not needed any more.
    Nothing = 5,
    /// What the vector does not cover, and ranges of keys, once the vector is covered. See [`Heal`].
    Heal = 6,
}

impl Wish {
    fn from_raw(raw: u8) -> Option<Wish> {
        [Wish::CatchUp, Wish::Rejoin, Wish::Tables, Wish::File, Wish::Nothing, Wish::Heal]
            .into_iter()
            .find(|wish| *wish as u8 == raw)
    }
}

/// A wish.
#[derive(Archive, Serialize, Deserialize, Clone, Debug, Default, PartialEq, Eq)]
pub struct Want {
    /// The dataset.
    pub scope: u32,
    /// Counts the wishes together with the subscriptions.
    pub round: u32,
    /// See [`Wish`].
    pub wish: u8,
    /// What is there already.
    pub vector: Vec<Entry>,
    /// The number of the file.
    pub file: u64,
    /// From where.
    pub offset: u64,
}

/// An author has all this, durably.
#[derive(Archive, Serialize, Deserialize, Clone, Debug, Default, PartialEq, Eq)]
pub struct Statement {
    /// The dataset.
    pub scope: u32,
    /// Who has it; if it is not the speaker, the speaker passes it on.
    pub node: [u8; 16],
    /// In which incarnation.
    pub incarnation: u64,
    /// What survives a power loss there.
    pub durable: Vec<Entry>,
    /// What is visible there; empty if it is passed on.
    pub applied: Vec<Entry>,
}

/// I am here.
#[derive(Archive, Serialize, Deserialize, Clone, Debug, Default, PartialEq, Eq)]
pub struct Heartbeat {
    /// The wall clock.
    pub sent_ms: u64,
    /// The wall clock in the last heartbeat of the other side, or 0.
    pub echo_ms: u64,
    /// When that came, by the clock of the speaker.
    pub received_ms: u64,
    /// The speaker's own last commit, or 0.
    pub last: u64,
    /// The age of its oldest commit that the receiver has not confirmed.
    pub lag_ms: u64,
}

/// The session ends.
#[derive(Archive, Serialize, Deserialize, Clone, Debug, Default, PartialEq, Eq)]
pub struct Goodbye {
    /// See [`ProtocolError::number`].
    pub code: u16,
}

/// Any control message.
#[derive(Clone, Debug, PartialEq, Eq)]
#[expect(missing_docs, reason = "the types say what they are")]
pub enum Message {
    Hello(Hello),
    HelloAck(HelloAck),
    Subscribe(Subscribe),
    Offer(Offer),
    Want(Want),
    Heal(Heal),
    Statement(Statement),
    Heartbeat(Heartbeat),
    Goodbye(Goodbye),
}

impl Message {
    /// The kind of its frame.
    pub fn kind(&self) -> Kind {
        match self {
            Message::Hello(_) => Kind::Hello,
            Message::HelloAck(_) => Kind::HelloAck,
            Message::Subscribe(_) => Kind::Subscribe,
            Message::Offer(_) => Kind::Offer,
            Message::Want(_) => Kind::Want,
            Message::Heal(_) => Kind::Heal,
            Message::Statement(_) => Kind::Statement,
            Message::Heartbeat(_) => Kind::Heartbeat,
            Message::Goodbye(_) => Kind::Goodbye,
        }
    }

    /// Its bytes.
    pub fn encode(&self) -> Result<AlignedVec, ProtocolError> {
        let bytes = match self {
            Message::Hello(message) => rkyv::to_bytes::<rancor::Error>(message),
            Message::HelloAck(message) => rkyv::to_bytes::<rancor::Error>(message),
            Message::Subscribe(message) => rkyv::to_bytes::<rancor::Error>(message),
            Message::Offer(message) => rkyv::to_bytes::<rancor::Error>(message),
            Message::Heal(message) => rkyv::to_bytes::<rancor::Error>(message),
            Message::Want(message) => rkyv::to_bytes::<rancor::Error>(message),
            Message::Statement(message) => rkyv::to_bytes::<rancor::Error>(message),
            Message::Heartbeat(message) => rkyv::to_bytes::<rancor::Error>(message),
            Message::Goodbye(message) => rkyv::to_bytes::<rancor::Error>(message),
        };
        let (what, limit) = ("message", CONTROL_LEN_MAX as u64);
        let unsayable = |value| ProtocolError::Unsayable { what, limit, value };
        let bytes = bytes.map_err(|_| unsayable(u64::MAX))?;
        let len = bytes.len() as u64;
        if len <= limit { Ok(bytes) } else { Err(unsayable(len)) }
    }

    /// The message that is `payload`, all of it.
    pub fn decode(kind: Kind, payload: &[u8]) -> Result<Message, ProtocolError> {
        if payload.len() > CONTROL_LEN_MAX {
            let (limit, value) = (CONTROL_LEN_MAX as u64, payload.len() as u64);
            return Err(ProtocolError::TooLong { what: "message", limit, value });
        }
        let mut bytes: AlignedVec = AlignedVec::with_capacity(payload.len());
        bytes.extend_from_slice(payload);
        let message = match kind {
            Kind::Hello => archived(rkyv::from_bytes(&bytes)).map(Message::Hello),
            Kind::HelloAck => archived(rkyv::from_bytes(&bytes)).map(Message::HelloAck),
            Kind::Subscribe => archived(rkyv::from_bytes(&bytes)).map(Message::Subscribe),
            Kind::Offer => archived(rkyv::from_bytes(&bytes)).map(Message::Offer),
            Kind::Heal => archived(rkyv::from_bytes(&bytes)).map(Message::Heal),
            Kind::Want => archived(rkyv::from_bytes(&bytes)).map(Message::Want),
            Kind::Statement => archived(rkyv::from_bytes(&bytes)).map(Message::Statement),
            Kind::Heartbeat => archived(rkyv::from_bytes(&bytes)).map(Message::Heartbeat),
            Kind::Goodbye => archived(rkyv::from_bytes(&bytes)).map(Message::Goodbye),
            other => Err(ProtocolError::UnknownFrame { kind: other as u8 }),
        }?;
        message.check()?;
        Ok(message)
    }

    /// The rules of the fields, beyond what types say.
    fn check(&self) -> Result<(), ProtocolError> {
        match self {
            Message::Hello(hello) => {
                let versions = 0 < hello.protocol_min && hello.protocol_min <= hello.protocol_max;
                let proposes = hello.proposal != [0; 16];
                require(versions && proposes && (1..=3).contains(&hello.role))?;
                hello.about_me.read()?;
                hello.about_you.read().map(drop)
            }
            Message::HelloAck(ack) => require(ack.rejoin <= 1 && ack.group != [0; 16]),
            Message::Subscribe(subscribe) => {
                require(subscribe.round > 0)?;
                vector(&subscribe.vector).map(drop)
            }
            Message::Offer(offer) => {
                require(offer.round > 0 && Answer::from_raw(offer.answer).is_some())?;
                vector(&offer.floor).map(drop)
            }
            Message::Want(want) => {
                require(want.wish != Wish::Heal as u8)?;
                want.check()
            }
            Message::Heal(heal) => {
                require(heal.want.wish == Wish::Heal as u8)?;
                heal.missing()?;
                heal.want.check()
            }
            Message::Statement(statement) => {
                vector(&statement.durable)?;
                vector(&statement.applied).map(drop)
            }
            Message::Heartbeat(beat) => require(Tick::from_raw(beat.last).is_some()),
            Message::Goodbye(_) => Ok(()),
        }
    }
}

impl Offer {
    /// An answer that says nothing else.
    pub fn plain(scope: ScopeId, round: u32, answer: Answer) -> Offer {
        Offer { scope: scope.0, round, answer: answer as u8, floor: Vec::new() }
    }

    /// What it says; `check` has refused unknown numbers.
    pub fn answer(&self) -> Answer {
        Answer::from_raw(self.answer).unwrap_or(Answer::Later)
    }
}

impl Want {
    fn check(&self) -> Result<(), ProtocolError> {
        require(self.round > 0 && Wish::from_raw(self.wish).is_some())?;
        vector(&self.vector).map(drop)
    }

    /// What it says; `check` has refused unknown numbers.
    pub fn wish(&self) -> Wish {
        Wish::from_raw(self.wish).unwrap_or(Wish::Nothing)
    }
}

impl Hello {
    /// Who speaks.
    pub fn origin(&self) -> Origin {
        Origin { node: NodeId(self.node), incarnation: Incarnation(self.incarnation) }
    }
}

impl Statement {
    /// What `origin` has.
    pub fn of(
        scope: ScopeId,
        origin: Origin,
        durable: &Vector,
        applied: &Vector,
    ) -> Result<Statement, ProtocolError> {
        Ok(Statement {
            scope: scope.0,
            node: origin.node.0,
            incarnation: origin.incarnation.0,
            durable: entries(durable)?,
            applied: entries(applied)?,
        })
    }

    /// Who has it.
    pub fn origin(&self) -> Origin {
        Origin { node: NodeId(self.node), incarnation: Incarnation(self.incarnation) }
    }
}

fn archived<T>(read: Result<T, rancor::Error>) -> Result<T, ProtocolError> {
    read.map_err(|_| malformed(Corruption::OutOfRange))
}

pub(super) fn malformed(found: Corruption) -> ProtocolError {
    ProtocolError::Malformed { what: "message", found }
}

fn require(rule: bool) -> Result<(), ProtocolError> {
    if rule { Ok(()) } else { Err(malformed(Corruption::OutOfRange)) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use base::limits::KEYSPACE_NAME_LEN_MAX;
    use base::{KeyRange, KeyRanges};
    use proptest::prelude::*;

    fn any_vector() -> impl Strategy<Value = Vector> {
        let entry = (any::<[u8; 2]>(), 1u64..1 << 56).prop_map(|(name, tick)| {
            let node = NodeId([name[0]; 16]);
            let origin = Origin { node, incarnation: Incarnation(u64::from(name[1])) };
            (origin, Tick::from_raw(tick).unwrap())
        });
        proptest::collection::vec(entry, 0..20).prop_map(|entries| entries.into_iter().collect())
    }

    fn samples(of: &Vector) -> Vec<Message> {
        let vector = entries(of).unwrap();
        let proposal = [2; 16];
        let hello =
            Hello { protocol_min: 1, protocol_max: 2, role: 1, proposal, ..Hello::default() };
        let ack = HelloAck { group: [3; 16], rejoin: 1, ..HelloAck::default() };
        let origin = Origin { node: NodeId([4; 16]), incarnation: Incarnation(5) };
        let range = |at: u8| KeyRange::between("k", &[at], &[at, 1]);
        let ranges = KeyRanges::around([range(1), range(3)]).unwrap();
        vec![
            Message::Hello(hello),
            Message::HelloAck(ack),
            Message::Subscribe(Subscribe { scope: 1, round: 7, vector: vector.clone() }),
            Message::Offer(Offer { scope: 1, round: 7, answer: 1, floor: vector.clone() }),
            Message::Want(Want { round: 1, wish: 2, vector, ..Want::default() }),
            Message::Heal(Heal::of(Want { round: 1, ..Want::default() }, &ranges)),
            Message::Statement(Statement::of(ScopeId::MAIN, origin, of, of).unwrap()),
            Message::Heartbeat(Heartbeat { last: 9, ..Heartbeat::default() }),
            Message::Goodbye(Goodbye { code: 4 }),
        ]
    }

    proptest! {
        #[test]
        fn messages_come_back_and_never_from_a_part_of_them(of in any_vector(), cut: prop::sample::Index) {
            for message in samples(&of) {
                let bytes = message.encode().unwrap();
                prop_assert_eq!(&Message::decode(message.kind(), &bytes).unwrap(), &message);
                let cut = cut.index(bytes.len());
                if let Ok(other) = Message::decode(message.kind(), &bytes[..cut]) {
                    prop_assert_ne!(other, message);
                }
            }
            prop_assert_eq!(vector(&entries(&of).unwrap()).unwrap(), of);
        }

        /// Behind a digest that is right.
        #[test]
        fn hostile_bytes_never_panic(of in any_vector(), at: prop::sample::Index, with: u8, noise: Vec<u8>) {
            for message in samples(&of) {
                let mut bytes = message.encode().unwrap().to_vec();
                let at = at.index(bytes.len());
                bytes[at] ^= with;
                let _ = Message::decode(message.kind(), &bytes);
                let _ = Message::decode(message.kind(), &noise);
            }
        }
    }

    #[test]
    fn the_largest_statement_and_wish_fit_a_message() {
        let origin = |of: usize| {
            let node = NodeId((of as u128).to_be_bytes());
            Origin { node, incarnation: Incarnation(1) }
        };
        let vector = |len| (0..len).map(|of| (origin(of), Tick::MAX)).collect::<Vector>();
        let largest = vector(AUTHORS_MAX);
        let statement = Statement::of(ScopeId::MAIN, origin(0), &largest, &largest).unwrap();
        Message::Statement(statement).encode().unwrap();
        assert!(entries(&vector(AUTHORS_MAX + 1)).is_err());
        let range = |at: u8| KeyRange {
            keyspace: "k".repeat(KEYSPACE_NAME_LEN_MAX),
            start: [&[at, 0], &[1; KeyRanges::KEY_LEN_MAX - 2][..]].concat(),
            end: [&[at, 1], &[1; KeyRanges::KEY_LEN_MAX - 2][..]].concat(),
        };
        let ranges = KeyRanges::around((0..16).map(range)).unwrap();
        assert_eq!(ranges.iter().count(), KeyRanges::COUNT_MAX);
        let want = Want { round: 1, vector: entries(&largest).unwrap(), ..Want::default() };
        Message::Heal(Heal::of(want, &ranges)).encode().unwrap();
    }

    #[test]
    fn a_message_beyond_the_limit_is_refused_before_it_is_read() {
        let refused = Message::decode(Kind::Hello, &vec![0; CONTROL_LEN_MAX + 1]);
        assert!(matches!(refused, Err(ProtocolError::TooLong { .. })));
    }
}
