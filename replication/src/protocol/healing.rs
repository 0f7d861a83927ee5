//! The wish of a node that lacks what it had in a few ranges of keys: a part of a table is damaged.
//!
//! It gets what its vector does not cover, as a node that catches up, and of those ranges everything, as
//! one that rejoins. For the one its vector must be at or above the giver's floor; for the other the
//! giver must have received all that the node has. Where that is not so, it rejoins as a whole.

use super::message::{Want, Wish, malformed};
use crate::error::ProtocolError;
use base::{KeyRange, KeyRanges};
use rkyv::{Archive, Deserialize, Serialize};

/// A range of keys, as it travels.
#[derive(Archive, Serialize, Deserialize, Clone, Debug, Default, PartialEq, Eq)]
pub struct Part {
    /// The keyspace's name.
    pub keyspace: String,
    /// The first key.
    pub start: Vec<u8>,
    /// The first key behind it; empty if it goes to the last one.
    pub end: Vec<u8>,
}

/// See the module.
#[derive(Archive, Serialize, Deserialize, Clone, Debug, Default, PartialEq, Eq)]
pub struct Heal {
    /// What is wanted besides.
    pub want: Want,
    /// Where something is missing, by keyspace and start.
    pub missing: Vec<Part>,
}

impl Heal {
    /// The wish `want`, for these ranges.
    pub fn of(want: Want, missing: &KeyRanges) -> Heal {
        let part = |range: &KeyRange| {
            let KeyRange { keyspace, start, end } = range.clone();
            Part { keyspace, start, end }
        };
        let want = Want { wish: Wish::Heal as u8, ..want };
        Heal { want, missing: missing.iter().map(part).collect() }
    }

    /// The ranges.
    pub fn missing(&self) -> Result<KeyRanges, ProtocolError> {
        let range = |part: &Part| {
            let Part { keyspace, start, end } = part.clone();
            KeyRange { keyspace, start, end }
        };
        KeyRanges::of(self.missing.iter().map(range).collect()).map_err(malformed)
    }
}
