//! The digest of content: equal content, equal digest, on any node.
//!
//! Blake3 over every live record, keyspaces in the order of their names' bytes, keys in order within
//! each:
//!
//! ```text
//! size  field
//!    8  name length     little-endian
//!    *  keyspace name
//!    8  key length      little-endian
//!    *  key
//!    8  value length    little-endian
//!    *  value
//! ```
//!
//! The lengths make it impossible to move a byte from one field to the next unnoticed. An empty
//! keyspace adds nothing, so a database with all its records in one keyspace has the digest of that
//! keyspace.

/// A digest under way.
#[derive(Debug, Default)]
pub(crate) struct ContentDigest {
    hasher: blake3::Hasher,
    scratch: Vec<u8>,
    records: u64,
    bytes: u64,
}

impl ContentDigest {
    /// Adds the next record. The caller keeps the order.
    pub(crate) fn add(&mut self, keyspace: &str, key: &[u8], value: &[u8]) {
        self.scratch.clear();
        for field in [keyspace.as_bytes(), key, value] {
            self.scratch.extend_from_slice(&(field.len() as u64).to_le_bytes());
            self.scratch.extend_from_slice(field);
        }
        self.hasher.update(&self.scratch);
        self.records += 1;
        self.bytes += key.len() as u64 + value.len() as u64;
    }

    /// Records added so far.
    pub(crate) fn records(&self) -> u64 {
        self.records
    }

    /// Bytes of keys and values added so far.
    pub(crate) fn bytes(&self) -> u64 {
        self.bytes
    }

    /// The digest of everything added so far, in hexadecimal.
    pub(crate) fn to_hex(&self) -> String {
        self.hasher.finalize().to_hex().to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn digest(records: &[(&str, &str, &str)]) -> String {
        let mut digest = ContentDigest::default();
        for (keyspace, key, value) in records {
            digest.add(keyspace, key.as_bytes(), value.as_bytes());
        }
        digest.to_hex()
    }

    #[test]
    fn a_byte_moved_between_fields_changes_the_digest() {
        let all = [
            digest(&[("k", "ab", "c")]),
            digest(&[("k", "a", "bc")]),
            digest(&[("ka", "b", "c")]),
            digest(&[("k", "ab", "c"), ("k", "d", "")]),
            digest(&[("k", "d", ""), ("k", "ab", "c")]),
            digest(&[]),
        ];
        for (i, a) in all.iter().enumerate() {
            assert!(all.iter().skip(i + 1).all(|b| a != b), "{i}");
        }
    }

    /// The format is a promise between versions and nodes: this constant never changes.
    #[test]
    fn the_digest_is_blake3_of_the_fields_with_their_lengths() {
        let bytes = b"\x01\0\0\0\0\0\0\0k\x02\0\0\0\0\0\0\0ab\x01\0\0\0\0\0\0\0c";
        assert_eq!(digest(&[("k", "ab", "c")]), blake3::hash(bytes).to_hex().to_string());
    }
}
