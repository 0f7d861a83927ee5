//! The end of a table: where its sections are, and the digest of everything.
//!
//! ```text
//! offset  size  field
//!      0     8  magic              "ESKTBL\0\x01"; the last byte is the format version
//!      8     8  table id           as in the file name
//!     16    16  database id
//!     32     4  required features  bits; an unknown one refuses the file
//!     36     4  optional features  bits; unknown ones are ignored
//!     40     1  digest             1 = Blake3
//!     41     1  cipher suite       0 = plain
//!     42     2  reserved           0
//!     44     4  key id             0 while plain
//!     48    32  filter             position 8, length 8, digest 16
//!     80    32  index              likewise; holds the digests of the blocks
//!    112    32  range deletes      likewise; length 0 = none
//!    144    32  graveyard          reserved: tombstones that scans must not walk; length 0
//!    176    32  properties         likewise
//!    208    32  root               Blake3-256 of bytes 0..208
//! ```
//!
//! The file is: data blocks from offset 0, the sections in the order above, the footer; all back to
//! back. Section and block digests are the first 16 bytes of a Blake3 over the stored bytes.
//!
//! Invariants:
//! - The root is that of a Merkle tree: footer, sections, blocks. Whoever knows it, knows every
//!   byte of the file.

use base::Corruption;
use base::codec::{Decoded, Reader};

const MAGIC: [u8; 8] = *b"ESKTBL\0\x01";
const VERSION: u8 = 1;
const DIGEST_BLAKE3: u8 = 1;
const CIPHER_PLAIN: u8 = 0;
/// Bits of required features that this version knows.
const REQUIRED_KNOWN: u32 = 0;
const ROOT_AT: usize = 8 + 8 + 16 + 4 + 4 + 1 + 1 + 2 + 4 + 5 * SECTION_REF_LEN;
const ROOT_LEN: usize = 32;
const SECTION_REF_LEN: usize = 8 + 8 + DIGEST_LEN;
/// Bytes of a footer.
pub(crate) const FOOTER_LEN: usize = ROOT_AT + ROOT_LEN;
const _: () = assert!(ROOT_AT == 208, "the diagram above says where the root is");

const DIGEST_LEN: usize = 16;

/// The digest of a block or section.
pub(crate) type Digest = [u8; DIGEST_LEN];

/// The digest of stored bytes.
pub(crate) fn digest_of(stored: &[u8]) -> Digest {
    let hash = blake3::hash(stored);
    hash.as_bytes().first_chunk().copied().unwrap_or_default()
}

/// Where a section is, and what it must hash to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct SectionRef {
    pub(crate) position: u64,
    pub(crate) len: u64,
    pub(crate) digest: Digest,
}

impl SectionRef {
    /// Where it ends; an absurd length ends nowhere.
    pub(crate) fn end(&self) -> Option<u64> {
        self.position.checked_add(self.len)
    }

    fn encode(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(&self.position.to_le_bytes());
        out.extend_from_slice(&self.len.to_le_bytes());
        out.extend_from_slice(&self.digest);
    }

    fn decode(reader: &mut Reader<'_>) -> Decoded<SectionRef> {
        Ok(SectionRef { position: reader.u64()?, len: reader.u64()?, digest: reader.array()? })
    }
}

/// The end of a table.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Footer {
    pub(crate) table: u64,
    pub(crate) database: [u8; 16],
    pub(crate) filter: SectionRef,
    pub(crate) index: SectionRef,
    pub(crate) range_deletes: SectionRef,
    pub(crate) graveyard: SectionRef,
    pub(crate) properties: SectionRef,
}

/// Why a footer is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Refusal {
    /// It is not what was written.
    Corrupt(Corruption),
    /// A newer version wrote it.
    Format { found: u64, supported: u64 },
    /// It is encrypted.
    Key(u32),
}

impl From<Corruption> for Refusal {
    fn from(found: Corruption) -> Refusal {
        Refusal::Corrupt(found)
    }
}

impl Footer {
    /// Appends the footer in the diagram above; returns its root.
    pub(crate) fn encode(&self, out: &mut Vec<u8>) -> [u8; ROOT_LEN] {
        let mut fields = Vec::with_capacity(FOOTER_LEN);
        fields.extend_from_slice(&MAGIC);
        fields.extend_from_slice(&self.table.to_le_bytes());
        fields.extend_from_slice(&self.database);
        fields.extend_from_slice(&0u32.to_le_bytes());
        fields.extend_from_slice(&0u32.to_le_bytes());
        fields.extend_from_slice(&[DIGEST_BLAKE3, CIPHER_PLAIN, 0, 0]);
        fields.extend_from_slice(&0u32.to_le_bytes());
        self.filter.encode(&mut fields);
        self.index.encode(&mut fields);
        self.range_deletes.encode(&mut fields);
        self.graveyard.encode(&mut fields);
        self.properties.encode(&mut fields);
        let root = *blake3::hash(&fields).as_bytes();
        out.extend_from_slice(&fields);
        out.extend_from_slice(&root);
        root
    }

    /// The footer in `bytes` and its root, of a file of `file_len` bytes.
    ///
    /// The root is checked first: what it vouches for was written, so it is unsupported at worst.
    pub(crate) fn decode(
        bytes: &[u8; FOOTER_LEN],
        file_len: u64,
    ) -> Result<(Footer, [u8; ROOT_LEN]), Refusal> {
        let (fields, stored_root) = bytes.split_at(ROOT_AT);
        let root = *blake3::hash(fields).as_bytes();
        if root != *stored_root {
            return Err(Corruption::DigestMismatch.into());
        }
        let mut reader = Reader::new(fields);
        check_magic(reader.array()?)?;
        let (table, database) = (reader.u64()?, reader.array()?);
        let required = reader.u32()?;
        if required & !REQUIRED_KNOWN != 0 {
            let (found, supported) = (u64::from(required), u64::from(REQUIRED_KNOWN));
            return Err(Refusal::Format { found, supported });
        }
        let _optional = reader.u32()?;
        check_algorithms(&mut reader)?;
        let footer = Footer {
            table,
            database,
            filter: SectionRef::decode(&mut reader)?,
            index: SectionRef::decode(&mut reader)?,
            range_deletes: SectionRef::decode(&mut reader)?,
            graveyard: SectionRef::decode(&mut reader)?,
            properties: SectionRef::decode(&mut reader)?,
        };
        footer.check_places(file_len)?;
        Ok((footer, root))
    }

    /// Sections in the order of the file.
    pub(crate) fn sections(&self) -> [SectionRef; 5] {
        [self.filter, self.index, self.range_deletes, self.graveyard, self.properties]
    }

    fn check_places(&self, file_len: u64) -> Decoded<()> {
        let mut expected = self.filter.position;
        for section in self.sections() {
            if section.position != expected {
                return Err(Corruption::Misplaced);
            }
            expected = section.end().ok_or(Corruption::OutOfRange)?;
        }
        let footer_at = file_len.checked_sub(FOOTER_LEN as u64).ok_or(Corruption::Truncated)?;
        if expected == footer_at { Ok(()) } else { Err(Corruption::Misplaced) }
    }
}

fn check_magic(magic: [u8; 8]) -> Result<(), Refusal> {
    let (name, version) = (magic.get(..7), magic[7]);
    if name != MAGIC.get(..7) {
        return Err(Corruption::BadMagic.into());
    }
    if version != VERSION {
        let (found, supported) = (u64::from(version), u64::from(VERSION));
        return Err(Refusal::Format { found, supported });
    }
    Ok(())
}

fn check_algorithms(reader: &mut Reader<'_>) -> Result<(), Refusal> {
    let [digest, cipher, _, _] = reader.array()?;
    let key_id = reader.u32()?;
    if key_id != 0 {
        return Err(Refusal::Key(key_id));
    }
    if digest != DIGEST_BLAKE3 || cipher != CIPHER_PLAIN {
        return Err(Corruption::UnknownAlgorithm.into());
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    const FILE_LEN: u64 = 1000 + FOOTER_LEN as u64;

    fn sample() -> Footer {
        let section = |position, end: u64| SectionRef {
            position,
            len: end - position,
            digest: digest_of(&position.to_le_bytes()),
        };
        Footer {
            table: 7,
            database: [3; 16],
            filter: section(100, 200),
            index: section(200, 800),
            range_deletes: section(800, 900),
            graveyard: section(900, 900),
            properties: section(900, 1000),
        }
    }

    fn encoded(footer: &Footer) -> [u8; FOOTER_LEN] {
        let mut out = Vec::new();
        footer.encode(&mut out);
        out.try_into().unwrap()
    }

    /// A footer whose fields were changed by someone who also fixed the root.
    fn forged(at: usize, byte: u8) -> Result<(Footer, [u8; 32]), Refusal> {
        let mut bytes = encoded(&sample());
        bytes[at] = byte;
        let root = *blake3::hash(&bytes[..ROOT_AT]).as_bytes();
        bytes[ROOT_AT..].copy_from_slice(&root);
        Footer::decode(&bytes, FILE_LEN)
    }

    #[test]
    fn every_flipped_bit_is_noticed() {
        let bytes = encoded(&sample());
        assert_eq!(Footer::decode(&bytes, FILE_LEN).unwrap().0, sample());
        for bit in 0..8 * FOOTER_LEN {
            let mut flipped = bytes;
            flipped[bit / 8] ^= 1 << (bit % 8);
            let refusal = Footer::decode(&flipped, FILE_LEN).unwrap_err();
            assert_eq!(refusal, Refusal::Corrupt(Corruption::DigestMismatch), "bit {bit}");
        }
    }

    #[test]
    fn what_a_newer_version_wrote_is_unsupported_and_not_corrupt() {
        assert_eq!(forged(7, 2).unwrap_err(), Refusal::Format { found: 2, supported: 1 });
        assert_eq!(forged(32, 4).unwrap_err(), Refusal::Format { found: 4, supported: 0 });
        assert_eq!(forged(36, 4).unwrap().0, sample(), "optional features are ignored");
        assert_eq!(forged(44, 9).unwrap_err(), Refusal::Key(9));
        let unknown = Refusal::Corrupt(Corruption::UnknownAlgorithm);
        assert_eq!(forged(40, 2).unwrap_err(), unknown);
        assert_eq!(forged(41, 1).unwrap_err(), unknown);
    }

    #[test]
    fn sections_leave_no_gap_and_do_not_overlap() {
        let misplaced = Refusal::Corrupt(Corruption::Misplaced);
        assert_eq!(Footer::decode(&encoded(&sample()), FILE_LEN + 1).unwrap_err(), misplaced);
        let mut footer = sample();
        footer.index.position += 1;
        assert_eq!(Footer::decode(&encoded(&footer), FILE_LEN).unwrap_err(), misplaced);
        let mut footer = sample();
        footer.properties.len = u64::MAX;
        let refusal = Footer::decode(&encoded(&footer), FILE_LEN).unwrap_err();
        assert_eq!(refusal, Refusal::Corrupt(Corruption::OutOfRange));
    }
}
