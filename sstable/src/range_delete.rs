//! Deletes of key ranges, and the section of a table that holds them.
//!
//! ```text
//! count      varint
//! per range:
//!   space    varint
//!   start    bytes
//!   end      bytes    exclusive; empty = to the end of the keyspace
//!   seqno    varint
//!   stamp    varint   the tick of the stamp
//!   origin   u8       0 = local: the origin in the properties; 1 = 24 bytes follow:
//!                     node 16, incarnation 8
//! ```
//!
//! Ranges ascend by space and start, then descend by seqno. They overlap freely; whoever reads them
//! cuts them to pieces. An empty section holds none.

use base::codec::{Decoded, Reader, put_bytes, put_varint};
use base::limits::KEY_LEN_MAX;
use base::{Corruption, Incarnation, NodeId, Origin, SpaceId, Stamp, Tick};
use std::cmp::Reverse;

const ORIGIN_LOCAL: u8 = 0;
const ORIGIN_GIVEN: u8 = 1;
/// Bytes of an encoded range at least.
const RANGE_LEN_MIN: usize = 6;

/// A delete of all keys in a range that carry a smaller stamp.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RangeDelete {
    /// The keyspace.
    pub space: SpaceId,
    /// The first key.
    pub start: Box<[u8]>,
    /// The first key behind the range; empty if it goes to the end of the keyspace.
    pub end: Box<[u8]>,
    /// The local commit, from which on readers see it.
    pub seqno: Tick,
    /// The tick of its stamp, which decides what it covers.
    pub stamp: Tick,
    /// The author, or `None` for what "local" means in the table.
    pub origin: Option<Origin>,
}

impl RangeDelete {
    /// Whether `key` of its keyspace is in the range.
    pub fn contains(&self, key: &[u8]) -> bool {
        *self.start <= *key && (self.end.is_empty() || *key < *self.end)
    }

    /// Its stamp, where "local" means `local`.
    pub fn stamp(&self, local: Origin) -> Stamp {
        Stamp { tick: self.stamp, origin: self.origin.unwrap_or(local) }
    }

    fn order(&self) -> (SpaceId, &[u8], Reverse<Tick>) {
        (self.space, &self.start, Reverse(self.seqno))
    }

    fn encode(&self, out: &mut Vec<u8>) {
        put_varint(out, self.space.0);
        put_bytes(out, &self.start);
        put_bytes(out, &self.end);
        put_varint(out, self.seqno.raw());
        put_varint(out, self.stamp.raw());
        match self.origin {
            None => out.push(ORIGIN_LOCAL),
            Some(origin) => {
                out.push(ORIGIN_GIVEN);
                out.extend_from_slice(&origin.node.0);
                out.extend_from_slice(&origin.incarnation.0.to_le_bytes());
            }
        }
    }

    fn decode(reader: &mut Reader<'_>) -> Decoded<RangeDelete> {
        let range = RangeDelete {
            space: SpaceId(reader.varint()?),
            start: reader.bytes()?.into(),
            end: reader.bytes()?.into(),
            seqno: decode_tick(reader)?,
            stamp: decode_tick(reader)?,
            origin: match reader.u8()? {
                ORIGIN_LOCAL => None,
                ORIGIN_GIVEN => Some(Origin {
                    node: NodeId(reader.array()?),
                    incarnation: Incarnation(reader.u64()?),
                }),
                _ => return Err(Corruption::UnknownKind),
            },
        };
        range.is_sound().then_some(range).ok_or(Corruption::OutOfRange)
    }

    /// Whether its keys make sense.
    pub(crate) fn is_sound(&self) -> bool {
        let is_ordered = self.end.is_empty() || self.start < self.end;
        is_ordered && self.start.len() <= KEY_LEN_MAX && self.end.len() <= KEY_LEN_MAX
    }
}

fn decode_tick(reader: &mut Reader<'_>) -> Decoded<Tick> {
    Tick::from_raw(reader.varint()?).ok_or(Corruption::OutOfRange)
}

/// Sorts `ranges` as the section has them.
pub(crate) fn sort(ranges: &mut [RangeDelete]) {
    ranges.sort_by(|a, b| a.order().cmp(&b.order()));
}

/// Appends the section of sorted `ranges`.
pub(crate) fn encode(ranges: &[RangeDelete], out: &mut Vec<u8>) {
    if ranges.is_empty() {
        return;
    }
    put_varint(out, ranges.len() as u64);
    ranges.iter().for_each(|range| range.encode(out));
}

/// The ranges of the section `bytes`.
pub(crate) fn decode(bytes: &[u8]) -> Decoded<Box<[RangeDelete]>> {
    if bytes.is_empty() {
        return Ok(Box::default());
    }
    let mut reader = Reader::new(bytes);
    let count = reader.len()?;
    let mut ranges = Vec::with_capacity(count.min(bytes.len() / RANGE_LEN_MIN));
    for _ in 0..count {
        ranges.push(RangeDelete::decode(&mut reader)?);
    }
    if !reader.is_empty() {
        return Err(Corruption::TrailingBytes);
    }
    if !ranges.is_sorted_by(|a, b| a.order() <= b.order()) {
        return Err(Corruption::OutOfOrder);
    }
    Ok(ranges.into())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    pub(crate) fn any_range() -> impl Strategy<Value = RangeDelete> {
        let key = || prop::collection::vec(0u8..4, 0..4);
        let tick = || (0u64..1 << 56).prop_map(|raw| Tick::from_raw(raw).unwrap());
        (0u64..3, key(), key(), tick(), tick(), any::<Option<([u8; 16], u64)>>()).prop_map(
            |(space, a, b, seqno, stamp, origin)| {
                let (start, end) = if a < b { (a, b) } else { (b, a) };
                let end = if start == end { Vec::new() } else { end };
                RangeDelete {
                    space: SpaceId(space),
                    start: start.into(),
                    end: end.into(),
                    seqno,
                    stamp,
                    origin: origin.map(|(node, incarnation)| Origin {
                        node: NodeId(node),
                        incarnation: Incarnation(incarnation),
                    }),
                }
            },
        )
    }

    proptest! {
        #[test]
        fn ranges_come_back_and_never_from_half_their_bytes(
            mut ranges in prop::collection::vec(any_range(), 1..8), cut: prop::sample::Index
        ) {
            sort(&mut ranges);
            let mut out = Vec::new();
            encode(&ranges, &mut out);
            let decoded = decode(&out).unwrap();
            prop_assert_eq!(&*decoded, &*ranges);
            let cut = cut.index(out.len());
            prop_assert!(cut == 0 || decode(&out[..cut]).is_err());
        }

        #[test]
        fn hostile_bytes_never_panic(bytes: Vec<u8>) {
            let _ = decode(&bytes);
        }
    }

    #[test]
    fn a_range_without_end_contains_every_key_from_its_start_on() {
        let mut range = RangeDelete {
            space: SpaceId(1),
            start: b"b".as_slice().into(),
            end: Box::default(),
            seqno: Tick::ZERO,
            stamp: Tick::ZERO,
            origin: None,
        };
        assert!(!range.contains(b"a") && range.contains(b"b") && range.contains(b"\xff\xff"));
        range.end = b"c".as_slice().into();
        assert!(range.contains(b"bzz") && !range.contains(b"c"));
    }
}
