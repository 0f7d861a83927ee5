//! What a node has received: per author, up to which tick.
//!
//! ```text
//! count       varint
//! per author, ascending:
//!   node         16
//!   incarnation   8
//!   tick          8   not zero
//! ```

use crate::codec::{Decoded, Reader, put_varint};
use crate::error::Corruption;
use crate::stamp::{Incarnation, NodeId, Origin, Stamp};
use crate::tick::Tick;
use std::collections::BTreeMap;

/// Per author the tick up to which everything was received without a gap. An author that is not in
/// it counts as zero.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Vector(BTreeMap<Origin, Tick>);

/// Bytes of one encoded entry.
const ENTRY_LEN: usize = Origin::LEN + 8;

impl Vector {
    /// Authors in a vector at the most, in a node as on the wire: two of them fit a control message.
    pub const LEN_MAX: usize = 900;

    /// Authors that others may bring at the most. The rest of [`Vector::LEN_MAX`] is for the lives of the
    /// node itself: whatever its peers say, it can begin another one.
    pub const OTHERS_MAX: usize = 800;

    /// Authors in an encoded vector at the most: more is refused before anything is allocated. So many were
    /// once let in.
    pub const DECODED_MAX: usize = 4096;

    /// Whether `origin` may be one more of the authors that others brought, or is one.
    pub fn has_room_for(&self, origin: Origin) -> bool {
        self.0.contains_key(&origin) || self.len() < Vector::OTHERS_MAX
    }

    /// As [`Vector::has_room_for`], of all authors of `other` together.
    pub fn has_room_for_all(&self, other: &Vector) -> bool {
        let new = other.0.keys().filter(|origin| !self.0.contains_key(origin)).count();
        new == 0 || self.len() + new <= Vector::OTHERS_MAX
    }

    /// The tick of `origin`; zero if nothing was received.
    pub fn get(&self, origin: Origin) -> Tick {
        self.0.get(&origin).copied().unwrap_or(Tick::ZERO)
    }

    /// Whether the write of `origin` at `tick` was received.
    pub fn covers(&self, origin: Origin, tick: Tick) -> bool {
        tick <= self.get(origin)
    }

    /// Whether the write with this stamp was received.
    pub fn covers_stamp(&self, stamp: Stamp) -> bool {
        self.covers(stamp.origin, stamp.tick)
    }

    /// Whether everything that `other` has was received here too.
    pub fn covers_all(&self, other: &Vector) -> bool {
        other.iter().all(|(origin, tick)| self.covers(origin, tick))
    }

    /// Raises the tick of `origin` to `tick`, never lowers it.
    pub fn raise(&mut self, origin: Origin, tick: Tick) {
        if tick > Tick::ZERO {
            let entry = self.0.entry(origin).or_default();
            *entry = tick.max(*entry);
        }
    }

    /// Raises every author to what `other` has.
    pub fn raise_all(&mut self, other: &Vector) {
        other.iter().for_each(|(origin, tick)| self.raise(origin, tick));
    }

    /// What both have.
    pub fn common(&self, other: &Vector) -> Vector {
        let both = self.iter().map(|(origin, tick)| (origin, tick.min(other.get(origin))));
        both.collect()
    }

    /// The greatest tick of any author.
    pub fn latest(&self) -> Tick {
        self.0.values().copied().max().unwrap_or(Tick::ZERO)
    }

    /// The authors and their ticks, by author.
    pub fn iter(&self) -> impl Iterator<Item = (Origin, Tick)> + '_ {
        self.0.iter().map(|(origin, tick)| (*origin, *tick))
    }

    /// How many authors it knows.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether nothing was received from anyone.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Appends the vector.
    pub fn encode(&self, out: &mut Vec<u8>) {
        put_varint(out, self.0.len() as u64);
        for (origin, tick) in self.iter() {
            origin.encode(out);
            out.extend_from_slice(&tick.raw().to_le_bytes());
        }
    }

    /// Takes a vector from the front of `reader`.
    pub fn decode(reader: &mut Reader<'_>) -> Decoded<Vector> {
        let count = reader.len()?;
        if count > Vector::DECODED_MAX || reader.rest().len() / ENTRY_LEN < count {
            return Err(Corruption::OutOfRange);
        }
        let mut vector = Vector::default();
        let mut before = None;
        for _ in 0..count {
            let origin = Origin::decode(reader)?;
            let tick = Tick::from_raw(reader.u64()?).ok_or(Corruption::OutOfRange)?;
            if before.is_some_and(|before| before >= origin) || tick == Tick::ZERO {
                return Err(Corruption::OutOfOrder);
            }
            before = Some(origin);
            vector.raise(origin, tick);
        }
        Ok(vector)
    }
}

impl FromIterator<(Origin, Tick)> for Vector {
    fn from_iter<I: IntoIterator<Item = (Origin, Tick)>>(entries: I) -> Vector {
        let mut vector = Vector::default();
        entries.into_iter().for_each(|(origin, tick)| vector.raise(origin, tick));
        vector
    }
}

impl Origin {
    /// Appends the origin: node, then incarnation.
    pub fn encode(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(&self.node.0);
        out.extend_from_slice(&self.incarnation.0.to_le_bytes());
    }

    /// Takes an origin from the front of `reader`.
    pub fn decode(reader: &mut Reader<'_>) -> Decoded<Origin> {
        Ok(Origin { node: NodeId(reader.array()?), incarnation: Incarnation(reader.u64()?) })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn any_vector() -> impl Strategy<Value = Vector> {
        let entry = (0u8..4, 0u64..3, 1u64..1 << 56).prop_map(|(node, incarnation, tick)| {
            let origin = Origin { node: NodeId([node; 16]), incarnation: Incarnation(incarnation) };
            (origin, Tick::from_raw(tick).unwrap())
        });
        proptest::collection::vec(entry, 0..8).prop_map(|entries| entries.into_iter().collect())
    }

    proptest! {
        #[test]
        fn a_vector_comes_back_and_never_from_a_part_of_it(vector in any_vector(), cut: prop::sample::Index) {
            let mut bytes = Vec::new();
            vector.encode(&mut bytes);
            let mut reader = Reader::new(&bytes);
            prop_assert_eq!(Vector::decode(&mut reader), Ok(vector));
            prop_assert!(reader.is_empty());
            let cut = cut.index(bytes.len());
            prop_assert!(Vector::decode(&mut Reader::new(&bytes[..cut])).is_err());
        }

        #[test]
        fn what_both_have_is_covered_by_both_and_by_what_either_has(a in any_vector(), b in any_vector()) {
            let common = a.common(&b);
            prop_assert_eq!(&common, &b.common(&a));
            prop_assert!(a.covers_all(&common) && b.covers_all(&common));
            let mut either = a.clone();
            either.raise_all(&b);
            prop_assert!(either.covers_all(&a) && either.covers_all(&b));
            prop_assert_eq!(a.covers_all(&b), either == a);
        }

        #[test]
        fn hostile_bytes_never_panic(bytes: Vec<u8>) {
            let _ = Vector::decode(&mut Reader::new(&bytes));
        }
    }

    #[test]
    fn a_count_beyond_the_limit_is_refused_before_its_entries() {
        let mut bytes = Vec::new();
        put_varint(&mut bytes, Vector::DECODED_MAX as u64 + 1);
        bytes.resize(1 << 20, 7);
        assert_eq!(Vector::decode(&mut Reader::new(&bytes)), Err(Corruption::OutOfRange));
    }
}
