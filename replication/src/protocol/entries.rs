//! Vectors as they travel in control messages.

use super::message::malformed;
use crate::error::ProtocolError;
use base::{Corruption, Incarnation, NodeId, Origin, Tick, Vector};
use rkyv::{Archive, Deserialize, Serialize};

/// Authors in a vector on the wire at the most, so that two of them fit a message: no node knows more.
pub const AUTHORS_MAX: usize = Vector::LEN_MAX;

/// An entry of a vector.
#[derive(Archive, Serialize, Deserialize, Clone, Copy, Debug, PartialEq, Eq)]
pub struct Entry {
    /// The author's node.
    pub node: [u8; 16],
    /// Its incarnation.
    pub incarnation: u64,
    /// Its tick, not zero.
    pub tick: u64,
}

/// A vector as it travels.
///
/// # Errors
/// `Unsayable` if it is too long, which is no fault of the peer.
pub fn entries(vector: &Vector) -> Result<Vec<Entry>, ProtocolError> {
    if vector.len() > AUTHORS_MAX {
        let (limit, value) = (AUTHORS_MAX as u64, vector.len() as u64);
        return Err(ProtocolError::Unsayable { what: "vector", limit, value });
    }
    let entry = |(origin, tick): (Origin, Tick)| Entry {
        node: origin.node.0,
        incarnation: origin.incarnation.0,
        tick: tick.raw(),
    };
    Ok(vector.iter().map(entry).collect())
}

/// The vector that travelled as `entries`.
pub fn vector(entries: &[Entry]) -> Result<Vector, ProtocolError> {
    if entries.len() > AUTHORS_MAX {
        let (limit, value) = (AUTHORS_MAX as u64, entries.len() as u64);
        return Err(ProtocolError::TooLong { what: "vector", limit, value });
    }
    let mut found = Vector::default();
    let mut before = None;
    for entry in entries {
        let (node, incarnation) = (NodeId(entry.node), Incarnation(entry.incarnation));
        let origin = Origin { node, incarnation };
        let tick = Tick::from_raw(entry.tick).filter(|tick| *tick > Tick::ZERO);
        let tick = tick.ok_or(malformed(Corruption::OutOfRange))?;
        if before.is_some_and(|before| before >= origin) {
            return Err(malformed(Corruption::OutOfOrder));
        }
        before = Some(origin);
        found.raise(origin, tick);
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_vector_that_is_not_in_order_is_refused() {
        let entry = |node, tick| Entry { node: [node; 16], incarnation: 0, tick };
        assert!(vector(&[entry(1, 5), entry(2, 5)]).is_ok());
        for bad in
            [[entry(2, 5), entry(1, 5)], [entry(1, 5), entry(1, 6)], [entry(1, 0), entry(2, 1)]]
        {
            assert!(vector(&bad).is_err());
        }
        assert!(vector(&[entry(1, 1 << 56)]).is_err());
    }
}
