//! The bytes of a manifest file, walked frame by frame.
//!
//! ```text
//! offset  size  field
//!      0     8  magic          "ESKRMF\0\x01"; the last byte is the format version
//!      8     1  digest         1 = Blake3
//!      9     1  compression    0 = none
//!     10     1  cipher suite   0 = plain
//!     11     1  reserved       0
//!     12     4  key id         0 while plain
//!     16    16  database
//!     32     8  number         as in the file name
//!     40     8  generation     of the database that wrote it
//!     48    16  nonce          random; keys the frames together with database and number
//!     64    16  header digest  Blake3 of bytes 0..64
//!     80     *  frames         (base::frame): Edit, or Seal at the end; zeros behind the last
//! ```
//!
//! The first frame's `previous` is the header digest, and its edit says everything.

use super::edit::Edit;
use crate::footer::Refusal;
use base::codec::{Decoded, Reader};
use base::error::FileKind;
use base::frame::{self, FrameKey, FrameKind, HASH_LEN, Hash};
use base::{Corruption, Error, Position};
use std::path::Path;

const MAGIC: [u8; 7] = *b"ESKRMF\0";
const VERSION: u8 = 1;
const DIGEST_BLAKE3: u8 = 1;
const DIGEST_AT: usize = 64;
pub(super) const HEADER_LEN: usize = DIGEST_AT + HASH_LEN;
const _: () = assert!(HEADER_LEN == 80, "the diagram above says frames start at 80");

/// What stands at the front of a manifest.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ManifestHeader {
    /// The database it belongs to.
    pub database: [u8; 16],
    /// Its number.
    pub number: u64,
    /// The generation of the database that wrote it.
    pub generation: u64,
    /// Makes its frames unlike those of any other file.
    pub nonce: [u8; 16],
}

impl ManifestHeader {
    /// Appends the header and returns its digest: what the first frame follows.
    pub(super) fn encode(&self, out: &mut Vec<u8>) -> Hash {
        let start = out.len();
        out.extend_from_slice(&MAGIC);
        out.push(VERSION);
        out.extend_from_slice(&[DIGEST_BLAKE3, 0, 0, 0]);
        out.extend_from_slice(&0u32.to_le_bytes());
        out.extend_from_slice(&self.database);
        out.extend_from_slice(&self.number.to_le_bytes());
        out.extend_from_slice(&self.generation.to_le_bytes());
        out.extend_from_slice(&self.nonce);
        let digest = digest(out.get(start..).unwrap_or_default());
        out.extend_from_slice(&digest);
        digest
    }

    /// The header at the front of `bytes`, and its digest. What the digest vouches for was written
    /// so: from there on, the unknown is unsupported and not corrupt.
    fn decode(bytes: &[u8]) -> Result<(ManifestHeader, Hash), Refusal> {
        let bytes = bytes.first_chunk::<HEADER_LEN>().ok_or(Corruption::Truncated)?;
        let (fields, stored) = bytes.split_at(DIGEST_AT);
        let mut reader = Reader::new(fields);
        if reader.array()? != MAGIC {
            return Err(Corruption::BadMagic.into());
        }
        let hash = digest(fields);
        if hash != stored {
            return Err(Corruption::DigestMismatch.into());
        }
        check_format(&mut reader)?;
        let header = ManifestHeader {
            database: reader.array()?,
            number: reader.u64()?,
            generation: reader.u64()?,
            nonce: reader.array()?,
        };
        Ok((header, hash))
    }

    pub(super) fn frame_key(&self) -> FrameKey {
        let mut material = Vec::with_capacity(40);
        material.extend_from_slice(&self.database);
        material.extend_from_slice(&self.number.to_le_bytes());
        material.extend_from_slice(&self.nonce);
        FrameKey::derive("esker manifest frames v1", &material)
    }
}

/// The format version, the algorithms and the key id, as all files of ours have them behind seven
/// bytes of magic.
pub(super) fn check_format(reader: &mut Reader<'_>) -> Result<(), Refusal> {
    let version = reader.u8()?;
    if version != VERSION {
        let (found, supported) = (u64::from(version), u64::from(VERSION));
        return Err(Refusal::Format { found, supported });
    }
    let algorithms: [u8; 4] = reader.array()?;
    match reader.u32()? {
        0 if algorithms == [DIGEST_BLAKE3, 0, 0, 0] => Ok(()),
        0 => Err(Corruption::UnknownAlgorithm.into()),
        key_id => Err(Refusal::Key(key_id)),
    }
}

/// The error that the front of `file` at `path` was refused.
pub(super) fn refused(refusal: Refusal, file: FileKind, path: &Path) -> Error {
    let path = path.to_path_buf();
    match refusal {
        Refusal::Corrupt(found) => Error::Corrupt { file, path, offset: 0, found },
        Refusal::Format { found, supported } => Error::FormatUnsupported { path, found, supported },
        Refusal::Key(key_id) => Error::KeyUnavailable { path, key_id },
    }
}

fn digest(fields: &[u8]) -> Hash {
    FrameKey::derive("esker manifest header v1", b"").hash(fields)
}

fn is_zero(bytes: &[u8]) -> bool {
    // Comparing whole chunks is one call of `memcmp` each, fast in unoptimised builds too.
    const ZEROS: [u8; 4096] = [0; 4096];
    bytes.chunks(ZEROS.len()).all(|chunk| ZEROS.starts_with(chunk))
}

/// A verified frame of a manifest.
#[derive(Clone, Copy, Debug)]
pub struct ManifestEntry<'a> {
    /// Where the frame starts.
    pub offset: u64,
    /// Where it ends.
    pub end: u64,
    /// What was durable when it was written.
    pub promise: Position,
    kind: FrameKind,
    payload: &'a [u8],
}

impl ManifestEntry<'_> {
    /// The edit, or `None` for a seal.
    pub fn edit(&self) -> Decoded<Option<Edit>> {
        match self.kind {
            FrameKind::Edit => Edit::decode(self.payload).map(Some),
            FrameKind::Seal if self.payload.is_empty() => Ok(None),
            _ => Err(Corruption::UnknownKind),
        }
    }
}

/// Walks the frames of a manifest. After an error it stands at the bad frame and is spent.
pub struct ManifestReader<'a> {
    bytes: &'a [u8],
    header: ManifestHeader,
    key: FrameKey,
    offset: usize,
    previous: Hash,
}

impl<'a> ManifestReader<'a> {
    /// A reader of the manifest at `path` whose whole content is `bytes`. Says nothing about whose
    /// it is.
    pub fn new(path: &Path, bytes: &'a [u8]) -> base::Result<ManifestReader<'a>> {
        let (header, previous) = ManifestHeader::decode(bytes)
            .map_err(|refusal| refused(refusal, FileKind::Manifest, path))?;
        Ok(ManifestReader { bytes, header, key: header.frame_key(), offset: HEADER_LEN, previous })
    }

    /// What stands at its front.
    pub fn header(&self) -> &ManifestHeader {
        &self.header
    }

    /// Where the next frame starts, or the bad one, or where the content ends.
    pub fn offset(&self) -> u64 {
        self.offset as u64
    }

    /// The next frame, or `None` if nothing but zeros follow.
    pub fn next_entry(&mut self) -> Decoded<Option<ManifestEntry<'a>>> {
        let rest = self.bytes.get(self.offset..).ok_or(Corruption::Truncated)?;
        if is_zero(rest) {
            return Ok(None);
        }
        let offset = self.offset();
        let frame = frame::decode(&self.key, rest, offset)?;
        if frame.header.previous != self.previous {
            return Err(Corruption::BrokenChain);
        }
        let end = offset.checked_add(frame.header.frame_len()).ok_or(Corruption::OutOfRange)?;
        self.offset = usize::try_from(end).map_err(|_| Corruption::OutOfRange)?;
        self.previous = frame.hash;
        let frame::Frame { header, payload, .. } = frame;
        Ok(Some(ManifestEntry { offset, end, promise: header.promise, kind: header.kind, payload }))
    }

    /// The next frame behind the bad one that verifies by itself, whatever it follows. The next one
    /// after that is looked for in the same way.
    pub fn next_verifying(&mut self) -> Option<ManifestEntry<'a>> {
        let mut from = self.offset;
        loop {
            let rest = self.bytes.get(from..)?;
            let skipped = rest.windows(frame::MAGIC.len()).position(|it| it == frame::MAGIC)?;
            let at = from + skipped;
            if let Ok(frame) = frame::decode(&self.key, self.bytes.get(at..)?, at as u64) {
                let frame::Frame { header, payload, .. } = frame;
                let end = header.frame_len().saturating_add(at as u64);
                self.offset = usize::try_from(end).ok()?;
                let (offset, promise, kind) = (at as u64, header.promise, header.kind);
                return Some(ManifestEntry { offset, end, promise, kind, payload });
            }
            from = at + 1;
        }
    }

    /// The furthest byte that any frame behind the current position promises; zero if there is no
    /// such frame. The key makes chance finds impossible, so it looks at every byte.
    pub fn promise_ahead(&self) -> u64 {
        let mut furthest = 0;
        let rest = self.bytes.get(self.offset..).unwrap_or_default();
        for (skipped, window) in rest.windows(frame::HEADER_LEN).enumerate() {
            if !window.starts_with(&frame::MAGIC) {
                continue;
            }
            let offset = self.offset() + skipped as u64;
            if let Ok(header) = frame::decode_header(&self.key, window, offset)
                && header.promise.segment == self.header.number
            {
                furthest = furthest.max(header.promise.offset);
            }
        }
        furthest
    }
}
