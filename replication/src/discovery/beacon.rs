//! What a node says of itself to the local network: one datagram, always of the same length.
//!
//! Integers little-endian:
//!
//! ```text
//! offset  size  field
//!      0     8  magic  "ESKBCN\0\x01"; the last byte is the format version
//!      8    16  mark   of the group: who does not know its name learns nothing, others know their own
//!     24    16  node   who says it
//!     40     2  port   where it listens, at the address that the datagram comes from; not 0
//! ```
//!
//! There is no digest: UDP has one against accidents, and against liars it would not help.

use crate::group::GroupId;
use base::codec::{Decoded, Reader};
use base::{Corruption, NodeId};

const MAGIC: [u8; 8] = *b"ESKBCN\0\x01";
/// Bytes of a beacon.
pub const BEACON_LEN: usize = 8 + 16 + 16 + 2; // magic, mark, node, port
const _: () = assert!(BEACON_LEN == 42, "the diagram above ends there");

/// What Blake3 derives marks under.
const MARKS: &str = "esker 2026 mark of a group in beacons";

/// By what nodes of one group know each other's beacons.
pub type GroupMark = [u8; 16];

/// The mark of `group`.
pub fn mark_of(group: GroupId) -> GroupMark {
    let mut mark = GroupMark::default();
    let mut hasher = blake3::Hasher::new_derive_key(MARKS);
    hasher.update(&group).finalize_xof().fill(&mut mark);
    mark
}

/// See the module.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Beacon {
    /// Of its group.
    pub mark: GroupMark,
    /// Who says it.
    pub node: NodeId,
    /// Where it listens.
    pub port: u16,
}

impl Beacon {
    /// Its bytes.
    pub fn encode(&self) -> [u8; BEACON_LEN] {
        let mut out = [0; BEACON_LEN];
        let port = self.port.to_le_bytes();
        let fields = MAGIC.iter().chain(&self.mark).chain(&self.node.0).chain(&port);
        out.iter_mut().zip(fields).for_each(|(to, from)| *to = *from);
        out
    }

    /// The beacon that is `bytes`, all of them.
    pub fn decode(bytes: &[u8]) -> Decoded<Beacon> {
        let mut reader = Reader::new(bytes);
        let [name @ .., version] = reader.array::<8>()?;
        let [known @ .., current] = MAGIC;
        if name != known {
            return Err(Corruption::BadMagic);
        }
        if version != current {
            return Err(Corruption::UnknownKind);
        }
        let (mark, node) = (reader.array()?, NodeId(reader.array()?));
        let port = u16::from_le_bytes(reader.array()?);
        if port == 0 {
            return Err(Corruption::OutOfRange);
        }
        if reader.is_empty() {
            Ok(Beacon { mark, node, port })
        } else {
            Err(Corruption::TrailingBytes)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn beacon() -> impl Strategy<Value = Beacon> {
        let parts = (any::<GroupMark>(), any::<[u8; 16]>(), 1u16..);
        parts.prop_map(|(mark, node, port)| Beacon { mark, node: NodeId(node), port })
    }

    proptest! {
        #[test]
        fn a_beacon_comes_back_and_never_from_a_part_of_it_or_more(
            beacon in beacon(),
            cut in 0..BEACON_LEN,
            more in any::<u8>(),
        ) {
            let bytes = beacon.encode();
            prop_assert_eq!(Beacon::decode(&bytes), Ok(beacon));
            prop_assert_eq!(Beacon::decode(&bytes[..cut]), Err(Corruption::Truncated));
            let longer = [&bytes[..], &[more]].concat();
            prop_assert_eq!(Beacon::decode(&longer), Err(Corruption::TrailingBytes));
        }

        #[test]
        fn hostile_bytes_are_refused_or_are_a_beacon(mut bytes: Vec<u8>, is_begun: bool) {
            if is_begun {
                bytes.splice(..0, MAGIC);
            }
            if let Ok(beacon) = Beacon::decode(&bytes) {
                prop_assert_eq!(&beacon.encode()[..], &bytes[..]);
            }
        }
    }

    /// The bytes of version 1, for good.
    #[test]
    fn a_beacon_is_the_bytes_of_the_diagram() {
        let beacon = Beacon { mark: [0xaa; 16], node: NodeId([0xbb; 16]), port: 0x1d3d };
        let expected = [&b"ESKBCN\0\x01"[..], &[0xaa; 16], &[0xbb; 16], &[0x3d, 0x1d]].concat();
        assert_eq!(beacon.encode(), expected[..]);
    }

    #[test]
    fn another_version_and_port_0_are_refused_by_name() {
        let bytes = Beacon { mark: [1; 16], node: NodeId([2; 16]), port: 3 }.encode();
        let with = |at: usize, byte: u8| {
            let mut bytes = bytes;
            bytes[at] = byte;
            Beacon::decode(&bytes)
        };
        assert_eq!(with(7, 2), Err(Corruption::UnknownKind));
        assert_eq!(with(0, 2), Err(Corruption::BadMagic));
        assert_eq!(with(40, 0), Err(Corruption::OutOfRange));
    }

    #[test]
    fn a_mark_says_which_group_it_is_and_not_its_name() {
        let (one, other) = (mark_of([1; 16]), mark_of([2; 16]));
        assert_eq!(one, mark_of([1; 16]));
        assert_ne!(one, other);
        let plain = blake3::hash(&[1; 16]);
        assert_ne!(one[..], plain.as_bytes()[..16], "derived under a purpose of its own");
    }
}
