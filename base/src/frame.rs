//! The one envelope of log and manifest: a chained, keyed frame.
//!
//! ```text
//! offset  size  field
//!      0     4  magic          "EFR\x01"; the last byte is the format version
//!      4     1  kind           FrameKind
//!      5     1  digest         1 = Blake3
//!      6     1  compression    0 = none
//!      7     1  cipher suite   0 = plain
//!      8     4  key id         0 while plain
//!     12     4  payload length
//!     16     8  offset         of this frame in its file
//!     24     8  first seqno    of what the payload holds; 0 if nothing
//!     32     8  last seqno
//!     40     8  promise        segment up to which ..
//!     48     8  promise        .. and offset: what a real sync had secured when this was written
//!     56    16  previous       the hash of the frame before it; of the file header for the first
//!     72     8  reserved       0
//!     80    16  header digest  keyed Blake3 of bytes 0..80
//!     96     *  payload
//!      *    16  hash           keyed Blake3 of everything before it; absent for a Run
//! ```
//!
//! The key is the file's own, so a frame of another file never verifies, and a copy of a frame
//! inside a value never looks like one. The header digest lets a reader trust the payload length
//! before it uses it, so a flipped length never looks like the end of the file.

use crate::codec::{Decoded, Reader};
use crate::defect::{Defect, planted};
use crate::error::Corruption;
use crate::position::Position;
use crate::tick::Tick;

/// First bytes of every frame; the last byte is the format version.
pub const MAGIC: [u8; 4] = *b"EFR\x01";
/// Bytes of a frame's header.
pub const HEADER_LEN: usize = 96;
/// Bytes of a digest as frames store it.
pub const HASH_LEN: usize = 16;
/// Bytes a frame adds around its payload.
pub const OVERHEAD: usize = HEADER_LEN + HASH_LEN;
/// The largest payload a reader accepts: the largest batch with room for its records' headers.
pub const PAYLOAD_LEN_MAX: usize = crate::limits::BATCH_LEN_MAX + (1 << 20);

const DIGEST_BLAKE3: u8 = 1;
const HEADER_DIGEST_AT: usize = 80;
const _: () = assert!(HEADER_DIGEST_AT + HASH_LEN == HEADER_LEN, "as the diagram above says");

/// A truncated Blake3 digest.
pub type Hash = [u8; HASH_LEN];

/// What a frame is. Part of the format, do not change; 0 is reserved.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum FrameKind {
    /// The payload is one commit.
    Commit = 1,
    /// Opens a run: no payload, no hash; tagged records follow.
    Run = 2,
    /// Closes a run: the payload is the Blake3 of the run.
    Close = 3,
    /// Says nothing but its promise.
    Seal = 4,
    /// The payload is a manifest edit.
    Edit = 5,
}

impl FrameKind {
    const fn from_raw(raw: u8) -> Option<FrameKind> {
        Some(match raw {
            1 => FrameKind::Commit,
            2 => FrameKind::Run,
            3 => FrameKind::Close,
            4 => FrameKind::Seal,
            5 => FrameKind::Edit,
            _ => return None,
        })
    }
}

/// The decoded header of a frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FrameHeader {
    /// What it is.
    pub kind: FrameKind,
    /// Bytes of payload behind the header.
    pub payload_len: u32,
    /// Where the frame stands in its file.
    pub offset: u64,
    /// First seqno of the payload.
    pub first_seqno: Tick,
    /// Last seqno of the payload.
    pub last_seqno: Tick,
    /// What a real sync had secured when it was written.
    pub promise: Position,
    /// The hash of the frame before it.
    pub previous: Hash,
}

impl FrameHeader {
    /// Bytes of the whole frame.
    pub fn frame_len(&self) -> u64 {
        let hash = if self.kind == FrameKind::Run { 0 } else { HASH_LEN as u64 };
        HEADER_LEN as u64 + u64::from(self.payload_len) + hash
    }
}

/// Digests with the key of one file.
#[derive(Clone, Copy)]
pub struct FrameKey([u8; 32]);

impl FrameKey {
    /// The key derived from what identifies a file: the database, the file, its nonce.
    /// `context` tells the uses apart.
    pub fn derive(context: &str, material: &[u8]) -> FrameKey {
        FrameKey(blake3::derive_key(context, material))
    }

    /// The keyed digest of `bytes`, truncated.
    #[inline]
    pub fn hash(&self, bytes: &[u8]) -> Hash {
        truncate(&blake3::keyed_hash(&self.0, bytes))
    }

    /// The seed of the 64-bit tags of this file's runs.
    pub fn tag_seed(&self) -> u64 {
        u64::from_le_bytes(*self.hash(b"run tag seed").first_chunk().unwrap_or(&[0; 8]))
    }
}

/// The first 16 bytes of a digest.
#[inline]
pub fn truncate(digest: &blake3::Hash) -> Hash {
    let mut hash = [0; HASH_LEN];
    hash.copy_from_slice(digest.as_bytes().first_chunk::<HASH_LEN>().unwrap_or(&[0; HASH_LEN]));
    hash
}

/// Appends a whole frame to `out` and returns its hash. `header.payload_len` is set from `payload`.
///
/// For a [`FrameKind::Run`] the payload is empty and the returned hash is the header's digest.
pub fn encode(out: &mut Vec<u8>, key: &FrameKey, header: &FrameHeader, payload: &[u8]) -> Hash {
    let start = out.len();
    out.extend_from_slice(&MAGIC);
    out.extend_from_slice(&[header.kind as u8, DIGEST_BLAKE3, 0, 0]);
    out.extend_from_slice(&0u32.to_le_bytes());
    out.extend_from_slice(&(payload.len() as u32).to_le_bytes());
    out.extend_from_slice(&header.offset.to_le_bytes());
    out.extend_from_slice(&header.first_seqno.raw().to_le_bytes());
    out.extend_from_slice(&header.last_seqno.raw().to_le_bytes());
    out.extend_from_slice(&header.promise.segment.to_le_bytes());
    out.extend_from_slice(&header.promise.offset.to_le_bytes());
    out.extend_from_slice(&header.previous);
    out.extend_from_slice(&0u64.to_le_bytes());
    let digest = key.hash(out.get(start..).unwrap_or_default());
    out.extend_from_slice(&digest);
    if header.kind == FrameKind::Run {
        return digest;
    }
    out.extend_from_slice(payload);
    let hash = key.hash(out.get(start..).unwrap_or_default());
    out.extend_from_slice(&hash);
    hash
}

/// Reads and verifies the header at the front of `bytes`, which stand at `offset` of their file.
pub fn decode_header(key: &FrameKey, bytes: &[u8], offset: u64) -> Decoded<FrameHeader> {
    let bytes = bytes.first_chunk::<HEADER_LEN>().ok_or(Corruption::Truncated)?;
    let (fields, digest) = bytes.split_at(HEADER_DIGEST_AT);
    let mut reader = Reader::new(fields);
    if reader.array()? != MAGIC {
        return Err(Corruption::BadMagic);
    }
    if key.hash(fields) != digest {
        return Err(Corruption::DigestMismatch);
    }
    let kind = FrameKind::from_raw(reader.u8()?).ok_or(Corruption::UnknownKind)?;
    let algorithms: [u8; 3] = reader.array()?;
    let key_id = reader.u32()?;
    if algorithms != [DIGEST_BLAKE3, 0, 0] || key_id != 0 {
        return Err(Corruption::UnknownAlgorithm);
    }
    let header = FrameHeader {
        kind,
        payload_len: reader.u32()?,
        offset: reader.u64()?,
        first_seqno: Tick::from_raw(reader.u64()?).ok_or(Corruption::OutOfRange)?,
        last_seqno: Tick::from_raw(reader.u64()?).ok_or(Corruption::OutOfRange)?,
        promise: Position { segment: reader.u64()?, offset: reader.u64()? },
        previous: reader.array()?,
    };
    if header.offset != offset {
        return Err(Corruption::Misplaced);
    }
    if header.payload_len as usize > PAYLOAD_LEN_MAX {
        return Err(Corruption::OutOfRange);
    }
    Ok(header)
}

/// A verified frame: header, payload, and the hash that the next frame must name.
#[derive(Clone, Copy, Debug)]
pub struct Frame<'a> {
    /// The header.
    pub header: FrameHeader,
    /// The payload; empty for a run's opening.
    pub payload: &'a [u8],
    /// What the next frame names as `previous`.
    pub hash: Hash,
}

/// Reads and verifies the whole frame at the front of `bytes`, which stand at `offset`.
pub fn decode<'a>(key: &FrameKey, bytes: &'a [u8], offset: u64) -> Decoded<Frame<'a>> {
    let header = decode_header(key, bytes, offset)?;
    if header.kind == FrameKind::Run {
        let digest = bytes.get(HEADER_DIGEST_AT..).and_then(|rest| rest.first_chunk::<HASH_LEN>());
        return Ok(Frame { header, payload: &[], hash: *digest.ok_or(Corruption::Truncated)? });
    }
    let mut reader = Reader::new(bytes);
    let hashed = reader.take(HEADER_LEN + header.payload_len as usize)?;
    let hash: Hash = reader.array()?;
    if key.hash(hashed) != hash && !planted(Defect::SkipFrameDigest) {
        return Err(Corruption::DigestMismatch);
    }
    let payload = hashed.get(HEADER_LEN..).ok_or(Corruption::Truncated)?;
    Ok(Frame { header, payload, hash })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample(kind: FrameKind, payload: &[u8]) -> (FrameKey, FrameHeader, Vec<u8>) {
        let key = FrameKey::derive("test", b"file");
        let header = FrameHeader {
            kind,
            payload_len: payload.len() as u32,
            offset: 40,
            first_seqno: Tick::from_ms(1),
            last_seqno: Tick::from_ms(2),
            promise: Position { segment: 3, offset: 17 },
            previous: [7; HASH_LEN],
        };
        let mut bytes = Vec::new();
        encode(&mut bytes, &key, &header, payload);
        assert_eq!(bytes.len() as u64, header.frame_len());
        (key, header, bytes)
    }

    #[test]
    fn a_frame_comes_back() {
        for kind in
            [FrameKind::Commit, FrameKind::Run, FrameKind::Close, FrameKind::Seal, FrameKind::Edit]
        {
            let payload: &[u8] = if kind == FrameKind::Run { b"" } else { b"payload" };
            let (key, header, bytes) = sample(kind, payload);
            let frame = decode(&key, &bytes, 40).unwrap();
            assert_eq!((frame.header, frame.payload), (header, payload));
        }
    }

    #[test]
    fn a_moved_frame_and_one_of_another_file_are_refused() {
        let (key, _, bytes) = sample(FrameKind::Commit, b"payload");
        assert_eq!(decode(&key, &bytes, 41).unwrap_err(), Corruption::Misplaced);
        let other = FrameKey::derive("test", b"other file");
        assert_eq!(decode(&other, &bytes, 40).unwrap_err(), Corruption::DigestMismatch);
    }

    #[test]
    fn every_flipped_bit_is_detected() {
        let (key, _, bytes) = sample(FrameKind::Commit, b"payload of a commit");
        for bit in 0..bytes.len() * 8 {
            let mut flipped = bytes.clone();
            flipped[bit / 8] ^= 1 << (bit % 8);
            decode(&key, &flipped, 40).unwrap_err();
        }
        for len in 0..bytes.len() {
            decode(&key, &bytes[..len], 40).unwrap_err();
        }
    }
}
