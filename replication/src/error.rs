//! What can go wrong between two nodes, whose fault it is, and what to do about it.

use base::{Corruption, Error, Incarnation, NodeId, Origin, Tick};
use std::fmt;

/// Why a session ended.
#[derive(Debug)]
#[non_exhaustive]
#[expect(missing_docs, reason = "each variant's sentence is about its fields")]
pub enum ProtocolError {
    /// A frame or what is in it has a length that is not allowed.
    TooLong { what: &'static str, limit: u64, value: u64 },
    /// A frame ends too early.
    TooShort { what: &'static str, limit: u64, value: u64 },
    /// A frame that does not verify: damaged, replayed, reordered or of another channel.
    FrameDamaged { number: u64 },
    /// A frame of another version of the format.
    FrameVersion { found: u8, supported: u8 },
    /// A kind of frame that does not belong on the channel, or is not known.
    UnknownFrame { kind: u8 },
    /// What is in a frame breaks the format.
    Malformed { what: &'static str, found: Corruption },
    /// A frame that verifies, at a moment when it makes no sense.
    Unexpected { what: &'static str },
    /// No version of the protocol is spoken by both.
    ProtocolVersion { theirs: (u16, u16), ours: (u16, u16) },
    /// The peer replicates another database.
    WrongGroup { ours: [u8; 16], theirs: [u8; 16] },
    /// This node has agreed on a group with another peer since it said hello to this one.
    AgreedElsewhere { ours: [u8; 16], theirs: [u8; 16] },
    /// The peer has our own id.
    OwnId { node: NodeId },
    /// The peer says it is another node than its key says.
    WrongNode { expected: NodeId, found: NodeId },
    /// Two directories with the same node id are in use.
    Clone { node: NodeId, known: Incarnation, found: Incarnation },
    /// The peer was deprecated: it must be added again first.
    Fenced { node: NodeId },
    /// The peer has it that this node was deprecated: what it does not know yet itself.
    Deprecated,
    /// The peer talks about a dataset that this session is not for.
    WrongScope { found: u32 },
    /// A node that may only read wrote.
    ReaderWrites { node: NodeId },
    /// Two histories of one author.
    Fork { origin: Origin, at: Tick },
    /// A peer confirmed what can not exist.
    ConfirmBeyond { origin: Origin, confirmed: Tick, last: Tick },
    /// Shipments leave a gap again and again.
    Gap { origin_have: Tick },
    /// Bytes of a file or payload that are not the next ones.
    OutOfPlace { what: &'static str, expected: u64, found: u64 },
    /// A file came whole and is not what was announced.
    FileDamaged,
    /// What this node has to say is longer than it may be: the peer has done nothing.
    Unsayable { what: &'static str, limit: u64, value: u64 },
    /// Nothing was heard for too long.
    Silent { waited_ms: u64 },
    /// The peer ended the session and said why.
    Left { code: u16 },
    /// The session is over.
    Over,
    /// The database refused.
    Store(Error),
}

/// Who can do something about it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Remedy {
    /// Connect again later.
    Retry,
    /// The peer breaks the protocol: leave it alone for a long time.
    Ban,
    /// An operator must look at it.
    Operator,
}

impl ProtocolError {
    pub(crate) fn malformed(what: &'static str, found: Corruption) -> ProtocolError {
        ProtocolError::Malformed { what, found }
    }

    /// What the store says about bytes of a peer: that they are wrong is the peer's fault.
    pub(crate) fn refused(what: &'static str, error: Error) -> ProtocolError {
        match error {
            Error::InvalidInput { .. } => ProtocolError::malformed(what, Corruption::OutOfRange),
            // What this node can not hold is nobody's lie: who says it may only pass it on.
            error => error.into(),
        }
    }

    /// The stable name of the error, for programs.
    pub fn code(&self) -> &'static str {
        self.row().1
    }

    /// The stable number of the error, for the wire.
    pub fn number(&self) -> u16 {
        self.row().0
    }

    /// Who can do something about it.
    pub fn remedy(&self) -> Remedy {
        self.row().2
    }

    /// What to do about it, as a sentence.
    pub fn action(&self) -> &'static str {
        match (self, self.remedy()) {
            (ProtocolError::Store(error), _) => error.action(),
            (ProtocolError::ProtocolVersion { .. }, _) => "update the older of the two nodes",
            (ProtocolError::WrongGroup { .. }, _) => {
                "remove the peer here, or start one of the two from an empty directory"
            }
            (ProtocolError::OwnId { .. } | ProtocolError::Clone { .. }, _) => {
                "stop one of the two, and make it another node: `esker repair --path DIR --new-node`"
            }
            (ProtocolError::WrongNode { .. }, _) => "correct the id or the address of the peer",
            (ProtocolError::Fenced { .. }, _) => "track the peer again, then let it rejoin",
            (ProtocolError::Deprecated, _) => "track this node again at one of its peers",
            (ProtocolError::Fork { .. }, _) => {
                "stop the node whose directory was put back or copied, and let it begin another life: \
                 `esker repair --path DIR --new-life`"
            }
            (ProtocolError::FileDamaged, _) => "scrub the peer: its disk may be damaged",
            (ProtocolError::Unsayable { .. }, _) => {
                "look at this node: it knows more authors than it may"
            }
            (ProtocolError::ReaderWrites { .. }, _) => "make the peer a writer, or start it anew",
            (_, Remedy::Retry) => "nothing: the nodes connect again by themselves",
            (_, _) => "look at the peer: it or the way to it is broken",
        }
    }

    fn row(&self) -> (u16, &'static str, Remedy) {
        match self {
            ProtocolError::TooLong { .. } => (1, "TooLong", Remedy::Ban),
            ProtocolError::TooShort { .. } => (2, "TooShort", Remedy::Ban),
            ProtocolError::FrameDamaged { .. } => (3, "FrameDamaged", Remedy::Ban),
            ProtocolError::FrameVersion { .. } => (4, "FrameVersion", Remedy::Ban),
            ProtocolError::UnknownFrame { .. } => (5, "UnknownFrame", Remedy::Ban),
            ProtocolError::Malformed { .. } => (6, "Malformed", Remedy::Ban),
            ProtocolError::Unexpected { .. } => (7, "Unexpected", Remedy::Ban),
            ProtocolError::ProtocolVersion { .. } => (8, "ProtocolVersion", Remedy::Operator),
            ProtocolError::WrongGroup { .. } => (9, "WrongGroup", Remedy::Operator),
            ProtocolError::OwnId { .. } => (10, "OwnId", Remedy::Operator),
            ProtocolError::WrongNode { .. } => (11, "WrongNode", Remedy::Operator),
            ProtocolError::Clone { .. } => (12, "Clone", Remedy::Operator),
            ProtocolError::Fenced { .. } => (13, "Fenced", Remedy::Operator),
            ProtocolError::WrongScope { .. } => (14, "WrongScope", Remedy::Ban),
            ProtocolError::ReaderWrites { .. } => (15, "ReaderWrites", Remedy::Operator),
            ProtocolError::Fork { .. } => (16, "Fork", Remedy::Operator),
            ProtocolError::ConfirmBeyond { .. } => (17, "ConfirmBeyond", Remedy::Ban),
            ProtocolError::Gap { .. } => (18, "Gap", Remedy::Retry),
            ProtocolError::OutOfPlace { .. } => (19, "OutOfPlace", Remedy::Ban),
            ProtocolError::Silent { .. } => (20, "Silent", Remedy::Retry),
            ProtocolError::Left { .. } => (21, "Left", Remedy::Retry),
            ProtocolError::Over => (22, "Over", Remedy::Retry),
            ProtocolError::Store(_) => (23, "Store", Remedy::Retry),
            ProtocolError::Deprecated => (24, "Deprecated", Remedy::Retry),
            ProtocolError::FileDamaged => (25, "FileDamaged", Remedy::Retry),
            ProtocolError::Unsayable { .. } => (26, "Unsayable", Remedy::Retry),
            ProtocolError::AgreedElsewhere { .. } => (27, "AgreedElsewhere", Remedy::Retry),
        }
    }
}

impl From<Error> for ProtocolError {
    fn from(error: Error) -> ProtocolError {
        ProtocolError::Store(error)
    }
}

impl fmt::Display for ProtocolError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            ProtocolError::TooLong { what, limit, value } => {
                write!(f, "a {what} may have at most {limit} bytes; this one has {value}")
            }
            ProtocolError::TooShort { what, limit, value } => {
                write!(f, "a {what} has at least {limit} bytes; this one has {value}")
            }
            ProtocolError::Unsayable { what, limit, value } => {
                write!(f, "a {what} may be {limit} long at the most; that of this node is {value}")
            }
            ProtocolError::FrameDamaged { number } => {
                write!(f, "frame {number} of the channel does not verify")
            }
            ProtocolError::FrameVersion { found, supported } => {
                write!(f, "a frame has version {found}; this node reads {supported}")
            }
            ProtocolError::UnknownFrame { kind } => {
                write!(f, "a frame of kind {kind} does not belong on its channel")
            }
            ProtocolError::Malformed { what, found } => write!(f, "a {what} is malformed: {found}"),
            ProtocolError::Unexpected { what } => write!(f, "a {what} came when none is due"),
            ProtocolError::ProtocolVersion { theirs, ours } => write!(
                f,
                "the peer speaks versions {} to {}; this node speaks {} to {}",
                theirs.0, theirs.1, ours.0, ours.1
            ),
            ProtocolError::WrongGroup { ours, theirs } => write!(
                f,
                "the peer is of group {}; this node is of group {}",
                NodeId(*theirs),
                NodeId(*ours)
            ),
            ProtocolError::AgreedElsewhere { ours, theirs } => write!(
                f,
                "group {} was agreed on, but this node is forming group {} with another peer",
                NodeId(*theirs),
                NodeId(*ours)
            ),
            ProtocolError::OwnId { node } => write!(f, "the peer has our own id {node}"),
            ProtocolError::WrongNode { expected, found } => {
                write!(f, "the peer says it is {found}; its key says {expected}")
            }
            ProtocolError::Clone { node, known, found } => write!(
                f,
                "two directories are node {node}: incarnations {known} and {found} are both in use"
            ),
            ProtocolError::Fenced { node } => write!(f, "node {node} was deprecated"),
            ProtocolError::Deprecated => f.write_str("this node was deprecated by its group"),
            ProtocolError::WrongScope { found } => {
                write!(f, "the peer talks about scope {found}, which is not shared with it")
            }
            ProtocolError::ReaderWrites { node } => {
                write!(f, "node {node} may only read, but it wrote")
            }
            ProtocolError::Fork { origin, at } => write!(
                f,
                "node {} in incarnation {} wrote two histories that part at tick {at}",
                origin.node, origin.incarnation
            ),
            ProtocolError::ConfirmBeyond { origin, confirmed, last } => write!(
                f,
                "tick {confirmed} of node {} was confirmed, but nothing after {last} can exist",
                origin.node
            ),
            ProtocolError::Gap { origin_have } => {
                write!(f, "shipments leave a gap behind tick {origin_have} again and again")
            }
            ProtocolError::OutOfPlace { what, expected, found } => {
                write!(f, "a {what} stands at byte {found} instead of {expected}")
            }
            ProtocolError::FileDamaged => f.write_str("a table of the peer does not verify"),
            ProtocolError::Silent { waited_ms } => {
                write!(f, "nothing was heard from the peer for {waited_ms} ms")
            }
            ProtocolError::Left { code } => write!(f, "the peer left with code {code}"),
            ProtocolError::Over => f.write_str("the session is over"),
            ProtocolError::Store(error) => write!(f, "{error}"),
        }
    }
}

impl std::error::Error for ProtocolError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            ProtocolError::Store(error) => Some(error),
            _ => None,
        }
    }
}
