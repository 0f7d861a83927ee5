//! The kinds of content that two nodes exchange. Each is a stream of its own within a connection, so
//! that none waits for another.

use std::fmt;

/// What a stream carries. The numbers are part of the format, do not change.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u8)]
pub enum Channel {
    /// Who is who, what is confirmed, what is wanted.
    Control = 0,
    /// Shipments: commits as they are made.
    Tail = 1,
    /// Deltas and tables.
    Bulk = 2,
    /// Comparison of what both hold.
    Reconcile = 3,
}

impl Channel {
    /// All of them.
    pub const ALL: [Channel; 4] =
        [Channel::Control, Channel::Tail, Channel::Bulk, Channel::Reconcile];

    /// The first byte of its stream.
    pub(crate) fn byte(self) -> u8 {
        self as u8 + 1
    }

    /// The channel whose stream begins with `byte`.
    pub(crate) fn from_byte(byte: u8) -> Option<Channel> {
        Channel::ALL.into_iter().find(|channel| channel.byte() == byte)
    }

    /// The larger is sent first.
    pub(crate) fn priority(self) -> i32 {
        match self {
            Channel::Control => 3,
            Channel::Tail => 2,
            Channel::Reconcile => 1,
            Channel::Bulk => 0,
        }
    }
}

impl fmt::Display for Channel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Channel::Control => "control",
            Channel::Tail => "tail",
            Channel::Bulk => "bulk",
            Channel::Reconcile => "reconcile",
        })
    }
}
