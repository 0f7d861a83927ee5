//! What can go wrong between two nodes, and the codes that connections are closed with.
//!
//! A connection is closed with a number and a sentence. The number is stable: the other side turns
//! it back into an error, and programs may rely on it. Numbers from 256 on belong to conversations.

use super::conversation::Then;
use super::key::Fingerprint;
use crate::channel::Channel;
use base::Category;
use quinn::{ConnectionError, TransportErrorCode, VarInt};
use std::fmt;
use std::io;
use std::time::Duration;

/// Why a connection is closed, as a number.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u32)]
pub enum CloseCode {
    /// The node stops, or needs the connection no more.
    Done = 0,
    /// The other connection of this pair of nodes is kept.
    Superseded = 1,
    /// The peer's key was revoked.
    Revoked = 2,
    /// The peer's key is not pinned.
    UnknownKey = 3,
    /// The peer speaks another protocol.
    WrongProtocol = 4,
    /// The peer took too long.
    TimedOut = 5,
    /// A frame of no or too many bytes, or cut off.
    BadFrame = 6,
    /// A stream of no known channel, or a second one of the same.
    BadChannel = 7,
    /// Joining was refused.
    JoinRefused = 8,
    /// It broke a rule a while ago.
    Banned = 9,
    /// The peer was retired: its group goes on without it.
    Retired = 10,
}

/// The first number of conversations.
const CONVERSATION: u64 = 256;

/// One of the two ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Side {
    /// This node.
    Us,
    /// The other node.
    Peer,
}

/// Why a link could not be made, or ended.
#[derive(Debug)]
#[non_exhaustive]
#[expect(missing_docs, reason = "each variant's sentence is about its fields")]
pub enum LinkError {
    /// The operating system refused. `action` completes the sentence "cannot ...".
    Socket { action: &'static str, source: io::Error },
    /// A setting that cannot be.
    Setting { what: &'static str, min: u64, max: u64, value: u64 },
    /// The node's own key cannot be used.
    Key { reason: String },
    /// Text that is not what it should be.
    Text { what: &'static str, reason: &'static str },
    /// `by` does not know the other side's key.
    UnknownKey { by: Side },
    /// The key was revoked while the connection was up.
    Revoked { by: Side },
    /// No protocol that both speak.
    WrongProtocol,
    /// The handshake failed for another reason.
    Handshake { reason: String },
    /// `what` did not come within `limit`.
    TimedOut { what: &'static str, limit: Duration },
    /// A frame says that it has `len` bytes.
    FrameLength { len: u64, max: u64 },
    /// The stream ended inside a frame.
    FrameTruncated { wanted: u64, received: u64 },
    /// A stream whose first byte names no channel.
    UnknownChannel { byte: u8 },
    /// A second stream of a channel.
    DoubledChannel { channel: Channel },
    /// A stream ended while the connection was up.
    ChannelEnded { channel: Channel },
    /// The other connection of this pair was kept.
    Superseded,
    /// A token of another issuer, spent, too old, or tried too often, or a node that may let nobody in; `reason` says which.
    Join { by: Side, reason: &'static str },
    /// The peer broke a rule a while ago.
    Banned { by: Side },
    /// The other node was retired: its group goes on without it.
    Retired { by: Side },
    /// Keys cannot be exchanged as a record says.
    Rotation { old: Fingerprint, reason: &'static str },
    /// The conversation was broken off by `by`.
    Conversation { by: Side, code: u32, reason: String, then: Then },
    /// The peer is gone: it has restarted, or nothing comes from it any more.
    Lost { reason: String },
    /// The connection was closed in order.
    Closed { by: Side },
}

impl LinkError {
    /// The stable name of the error, for programs.
    pub fn code(&self) -> &'static str {
        match self {
            LinkError::Socket { .. } => "Socket",
            LinkError::Setting { .. } => "Setting",
            LinkError::Key { .. } => "LinkKey",
            LinkError::Text { .. } => "BadText",
            LinkError::UnknownKey { .. } => "UnknownKey",
            LinkError::Revoked { .. } => "Revoked",
            LinkError::WrongProtocol => "WrongProtocol",
            LinkError::Handshake { .. } => "Handshake",
            LinkError::TimedOut { .. } => "TimedOut",
            LinkError::FrameLength { .. } => "FrameLength",
            LinkError::FrameTruncated { .. } => "FrameTruncated",
            LinkError::UnknownChannel { .. } => "UnknownChannel",
            LinkError::DoubledChannel { .. } => "DoubledChannel",
            LinkError::ChannelEnded { .. } => "ChannelEnded",
            LinkError::Superseded => "Superseded",
            LinkError::Join { .. } => "JoinRefused",
            LinkError::Banned { .. } => "Banned",
            LinkError::Retired { .. } => "Retired",
            LinkError::Rotation { .. } => "Rotation",
            LinkError::Conversation { .. } => "Conversation",
            LinkError::Lost { .. } => "LinkLost",
            LinkError::Closed { .. } => "LinkClosed",
        }
    }

    /// What a caller can do about it.
    pub fn category(&self) -> Category {
        match self {
            LinkError::Setting { .. } | LinkError::Text { .. } => Category::InvalidInput,
            LinkError::Socket { .. }
            | LinkError::Key { .. }
            | LinkError::UnknownKey { .. }
            | LinkError::Revoked { .. }
            | LinkError::WrongProtocol
            | LinkError::Banned { .. }
            | LinkError::Retired { .. }
            | LinkError::Join { .. }
            | LinkError::Rotation { .. } => Category::Recoverable,
            LinkError::Handshake { .. }
            | LinkError::TimedOut { .. }
            | LinkError::FrameLength { .. }
            | LinkError::FrameTruncated { .. }
            | LinkError::UnknownChannel { .. }
            | LinkError::DoubledChannel { .. }
            | LinkError::ChannelEnded { .. }
            | LinkError::Superseded
            | LinkError::Conversation { .. }
            | LinkError::Lost { .. }
            | LinkError::Closed { .. } => Category::Retryable,
        }
    }

    /// What to do about it, as a sentence.
    pub fn action(&self) -> &'static str {
        match self {
            LinkError::Socket { .. } => "choose another address, or give this user the right to it",
            LinkError::Setting { .. } => "choose a value between the two",
            LinkError::Key { .. } => "run `esker check`: the identity of the database is unusable",
            LinkError::Text { .. } => "copy it again, whole",
            LinkError::UnknownKey { by: Side::Us } => "add the peer's key here",
            LinkError::UnknownKey { by: Side::Peer } => "add this node's key on the peer",
            LinkError::Revoked { .. } => "add the key again if that was a mistake",
            LinkError::WrongProtocol => "run versions of esker that speak a common protocol",
            LinkError::Join { .. } => "ask for a new token",
            LinkError::Banned { .. } => "find out what it did wrong, update it, or enable it again",
            LinkError::Retired { .. } => {
                "track it again at one of its peers, or let a new node take its place"
            }
            LinkError::Rotation { .. } => "join again with a token",
            LinkError::FrameLength { .. }
            | LinkError::FrameTruncated { .. }
            | LinkError::UnknownChannel { .. }
            | LinkError::DoubledChannel { .. }
            | LinkError::ChannelEnded { .. }
            | LinkError::Conversation { .. } => {
                "compare the versions of both nodes; it is tried again by itself"
            }
            LinkError::Handshake { .. } | LinkError::TimedOut { .. } | LinkError::Lost { .. } => {
                "check the network and the peer; it is tried again by itself"
            }
            LinkError::Superseded | LinkError::Closed { .. } => "nothing needs to be done",
        }
    }

    /// The number and the sentence that the connection is closed with.
    pub(crate) fn closing(&self) -> (VarInt, String) {
        let code = match self {
            LinkError::Superseded => CloseCode::Superseded,
            LinkError::Revoked { .. } => CloseCode::Revoked,
            LinkError::UnknownKey { .. } => CloseCode::UnknownKey,
            LinkError::WrongProtocol => CloseCode::WrongProtocol,
            LinkError::TimedOut { .. } => CloseCode::TimedOut,
            LinkError::FrameLength { .. } | LinkError::FrameTruncated { .. } => CloseCode::BadFrame,
            LinkError::UnknownChannel { .. } | LinkError::DoubledChannel { .. } => {
                CloseCode::BadChannel
            }
            LinkError::Join { .. } => CloseCode::JoinRefused,
            LinkError::Banned { .. } => CloseCode::Banned,
            LinkError::Retired { .. } => CloseCode::Retired,
            LinkError::Conversation { code, reason, .. } => {
                let code = u32::try_from(CONVERSATION).unwrap_or_default().saturating_add(*code);
                return (VarInt::from_u32(code), reason.clone());
            }
            _ => CloseCode::Done,
        };
        (VarInt::from_u32(code as u32), self.to_string())
    }
}

impl From<ConnectionError> for LinkError {
    fn from(error: ConnectionError) -> LinkError {
        match error {
            ConnectionError::TransportError(error) => of_handshake(error.code, Side::Us, &error),
            ConnectionError::ConnectionClosed(close) => {
                of_handshake(close.error_code, Side::Peer, &close)
            }
            ConnectionError::ApplicationClosed(close) => {
                of_closing(close.error_code.into_inner(), &close.reason)
            }
            ConnectionError::LocallyClosed => LinkError::Closed { by: Side::Us },
            ConnectionError::VersionMismatch => LinkError::WrongProtocol,
            ConnectionError::TimedOut | ConnectionError::Reset | ConnectionError::CidsExhausted => {
                LinkError::Lost { reason: error.to_string() }
            }
        }
    }
}

/// What an error of QUIC means that `by` found. Alerts of TLS are numbers above 256.
fn of_handshake(code: TransportErrorCode, by: Side, error: &dyn fmt::Display) -> LinkError {
    const ACCESS_DENIED: u8 = 49;
    const NO_APPLICATION_PROTOCOL: u8 = 120;
    if code == TransportErrorCode::crypto(ACCESS_DENIED) {
        LinkError::UnknownKey { by }
    } else if code == TransportErrorCode::crypto(NO_APPLICATION_PROTOCOL) {
        LinkError::WrongProtocol
    } else {
        LinkError::Handshake { reason: error.to_string() }
    }
}

/// What it means that the peer closed the connection.
fn of_closing(code: u64, reason: &[u8]) -> LinkError {
    // A peer may send what it likes: a short text without control characters is kept.
    let reason = String::from_utf8_lossy(reason.get(..reason.len().min(256)).unwrap_or_default());
    let reason: String = reason.chars().filter(|c| !c.is_control()).collect();
    let is = |known: CloseCode| code == u64::from(known as u32);
    if is(CloseCode::Done) {
        LinkError::Closed { by: Side::Peer }
    } else if is(CloseCode::Superseded) {
        LinkError::Superseded
    } else if is(CloseCode::Revoked) {
        LinkError::Revoked { by: Side::Peer }
    } else if is(CloseCode::UnknownKey) {
        LinkError::UnknownKey { by: Side::Peer }
    } else if is(CloseCode::WrongProtocol) {
        LinkError::WrongProtocol
    } else if is(CloseCode::JoinRefused) {
        LinkError::Join { by: Side::Peer, reason: "the issuer does not say why" }
    } else if is(CloseCode::Banned) {
        LinkError::Banned { by: Side::Peer }
    } else if is(CloseCode::Retired) {
        LinkError::Retired { by: Side::Peer }
    } else if code >= CONVERSATION {
        let code = u32::try_from(code - CONVERSATION).unwrap_or(u32::MAX);
        LinkError::Conversation { by: Side::Peer, code, reason, then: Then::Retry }
    } else {
        LinkError::Lost { reason: format!("the peer closed it: {reason}") }
    }
}

impl fmt::Display for Side {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Side::Us => "this node",
            Side::Peer => "the peer",
        })
    }
}

impl fmt::Display for LinkError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            LinkError::Socket { action, source } => write!(f, "cannot {action}: {source}"),
            LinkError::Setting { what, min, max, value } => {
                write!(f, "{what} is {value}, but may be {min} to {max}")
            }
            LinkError::Key { reason } => write!(f, "this node's key cannot be used: {reason}"),
            LinkError::Text { what, reason } => write!(f, "this is no {what}: {reason}"),
            LinkError::UnknownKey { by } => write!(f, "{by} does not know the other's key"),
            LinkError::Revoked { by } => write!(f, "{by} has revoked the other's key"),
            LinkError::WrongProtocol => f.write_str("the peer speaks no protocol that we speak"),
            LinkError::Handshake { reason } => write!(f, "the handshake failed: {reason}"),
            LinkError::TimedOut { what, limit } => {
                write!(f, "{what} did not come within {} ms", limit.as_millis())
            }
            LinkError::FrameLength { len, max } => {
                write!(f, "a frame of {len} bytes, where 1 to {max} are allowed")
            }
            LinkError::FrameTruncated { wanted, received } => {
                write!(f, "a stream ended after {received} of the {wanted} bytes of a frame")
            }
            LinkError::UnknownChannel { byte } => {
                write!(f, "a stream of channel {byte}, which does not exist")
            }
            LinkError::DoubledChannel { channel } => {
                write!(f, "a second stream of the channel {channel}")
            }
            LinkError::ChannelEnded { channel } => {
                write!(f, "the peer ended the channel {channel} and kept the connection")
            }
            LinkError::Superseded => {
                f.write_str("another connection of the same two nodes is kept")
            }
            LinkError::Join { by, reason } => write!(f, "{by} refuses to join: {reason}"),
            LinkError::Retired { by: Side::Us } => f.write_str("the peer was retired"),
            LinkError::Retired { by: Side::Peer } => {
                f.write_str("this node was retired by its group")
            }
            LinkError::Banned { by } => {
                write!(f, "{by} does not let the other in: it broke a rule a while ago")
            }
            LinkError::Rotation { old, reason } => {
                write!(f, "the key {old} is not exchanged: {reason}")
            }
            LinkError::Conversation { by, code, reason, then: _ } => {
                write!(f, "{by} broke off the conversation ({code}): {reason}")
            }
            LinkError::Lost { reason } => write!(f, "the connection was lost: {reason}"),
            LinkError::Closed { by } => write!(f, "{by} closed the connection"),
        }
    }
}

impl std::error::Error for LinkError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            LinkError::Socket { source, .. } => Some(source),
            _ => None,
        }
    }
}
