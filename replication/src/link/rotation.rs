//! A node changes its key: the old one names the new one.
//!
//! ```text
//! offset  size  field
//!      0     8  magic      "ESKRKEY\x01"; the last byte is the format version
//!      8    16  node       whose key it is; its name stays
//!     24    32  old key    Ed25519 public key
//!     56    32  new key    Ed25519 public key
//!     88    64  by old     signature of the old key over bytes 0..88
//!    152    64  by new     signature of the new key over bytes 0..152: its holder agrees
//! ```
//!
//! Whoever has the old key pinned needs nobody else to believe the record.

use super::error::LinkError;
use super::key::{Fingerprint, LinkKey};
use base::codec::{Decoded, Reader};
use base::{Corruption, NodeId};
use ed25519_compact::{PublicKey, Signature};

pub(crate) const MAGIC: [u8; 8] = *b"ESKRKEY\x01";
const SIGNED_BY_OLD: usize = 88;
const SIGNED_BY_NEW: usize = SIGNED_BY_OLD + 64;
const LEN: usize = SIGNED_BY_NEW + 64;
const _: () = assert!(LEN == 216, "as the diagram above says");

/// That a node's key is another one from now on. Only made by those who hold both keys, and only
/// decoded if both signatures are right.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rotation {
    node: NodeId,
    old: [u8; 32],
    new: [u8; 32],
    by_old: [u8; 64],
    by_new: [u8; 64],
}

impl Rotation {
    /// Bytes of an encoded record.
    pub const LEN: usize = LEN;

    /// Says that `node` goes from the key `old` to the key `new`.
    pub fn sign(node: NodeId, old: &LinkKey, new: &LinkKey) -> Rotation {
        let (old, new) = (old.pair(), new.pair());
        let mut rotation =
            Rotation { node, old: *old.pk, new: *new.pk, by_old: [0; 64], by_new: [0; 64] };
        let bytes = rotation.encode();
        let (part, _) = bytes.split_at(SIGNED_BY_OLD);
        rotation.by_old = *old.sk.sign(part, None);
        let bytes = rotation.encode();
        let (part, _) = bytes.split_at(SIGNED_BY_NEW);
        rotation.by_new = *new.sk.sign(part, None);
        rotation
    }

    /// Whose key it is.
    pub fn node(&self) -> NodeId {
        self.node
    }

    /// The key that is given up.
    pub fn old_key(&self) -> Fingerprint {
        Fingerprint::of(&self.old)
    }

    /// The key that takes its place.
    pub fn new_key(&self) -> Fingerprint {
        Fingerprint::of(&self.new)
    }

    /// As bytes.
    pub fn encode(&self) -> [u8; LEN] {
        let mut out = [0; LEN];
        let fields: [&[u8]; 6] =
            [&MAGIC, &self.node.0, &self.old, &self.new, &self.by_old, &self.by_new];
        let bytes = fields.into_iter().flatten();
        out.iter_mut().zip(bytes).for_each(|(to, byte)| *to = *byte);
        out
    }

    /// From exactly [`Rotation::LEN`] bytes whose signatures are right.
    pub fn decode(bytes: &[u8]) -> Result<Rotation, LinkError> {
        let rotation = fields(bytes).map_err(|found| LinkError::Text {
            what: "change of a key",
            reason: match found {
                Corruption::Truncated => "it ends too early",
                Corruption::BadMagic => "it does not begin as one, or is of another version",
                _ => "bytes follow its end",
            },
        })?;
        let wrong = |reason| LinkError::Rotation { old: rotation.old_key(), reason };
        if rotation.old == rotation.new {
            return Err(wrong("the new key is the old one"));
        }
        let verify = |key: [u8; 32], signature: [u8; 64], part: Option<&[u8]>| {
            let part = part.unwrap_or_default();
            PublicKey::new(key).verify(part, &Signature::new(signature)).is_ok()
        };
        if !verify(rotation.old, rotation.by_old, bytes.get(..SIGNED_BY_OLD)) {
            return Err(wrong("the old key has not signed it"));
        }
        if !verify(rotation.new, rotation.by_new, bytes.get(..SIGNED_BY_NEW)) {
            return Err(wrong("the new key has not signed it"));
        }
        Ok(rotation)
    }
}

fn fields(bytes: &[u8]) -> Decoded<Rotation> {
    let mut reader = Reader::new(bytes);
    if reader.array()? != MAGIC {
        return Err(Corruption::BadMagic);
    }
    let rotation = Rotation {
        node: NodeId(reader.array()?),
        old: reader.array()?,
        new: reader.array()?,
        by_old: reader.array()?,
        by_new: reader.array()?,
    };
    if reader.is_empty() { Ok(rotation) } else { Err(Corruption::TrailingBytes) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(seed: u8) -> LinkKey {
        LinkKey::from_seed([seed; 32]).unwrap()
    }

    fn rotation() -> Rotation {
        Rotation::sign(key(1).fingerprint().node(), &key(1), &key(2))
    }

    #[test]
    fn a_change_of_keys_comes_back() {
        let decoded = Rotation::decode(&rotation().encode()).unwrap();
        assert_eq!(decoded, rotation());
        assert_eq!(
            (decoded.old_key(), decoded.new_key()),
            (key(1).fingerprint(), key(2).fingerprint())
        );
        assert_eq!(decoded.node(), key(1).fingerprint().node());
    }

    #[test]
    fn a_change_of_keys_with_any_bit_flipped_or_cut_anywhere_is_refused() {
        let bytes = rotation().encode();
        for bit in 0..8 * bytes.len() {
            let mut flipped = bytes;
            flipped[bit / 8] ^= 1 << (bit % 8);
            assert!(Rotation::decode(&flipped).is_err(), "bit {bit}");
        }
        for end in 0..bytes.len() {
            assert_eq!(Rotation::decode(&bytes[..end]).unwrap_err().code(), "BadText", "{end}");
        }
        assert!(Rotation::decode(&[&bytes[..], &[0]].concat()).is_err());
    }

    #[test]
    fn nobody_can_sign_for_the_old_key_or_claim_a_new_one_of_others() {
        let node = key(1).fingerprint().node();
        let mut forged = Rotation::sign(node, &key(3), &key(2));
        forged.old = *key(1).pair().pk;
        let error = Rotation::decode(&forged.encode()).unwrap_err();
        assert_eq!(error.code(), "Rotation");
        let mut stolen = Rotation::sign(node, &key(1), &key(3));
        stolen.new = *key(2).pair().pk;
        assert_eq!(Rotation::decode(&stolen.encode()).unwrap_err().code(), "Rotation");
        let same = Rotation::sign(node, &key(1), &key(1));
        assert_eq!(Rotation::decode(&same.encode()).unwrap_err().code(), "Rotation");
    }
}
