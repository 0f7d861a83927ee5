//! One file of the log, and its header.
//!
//! A segment is a header, then frames (base::frame) back to back. Unused preallocated space behind
//! them reads as zeros. The header stands twice, in two pages of the file, because its key opens
//! every frame: the damage of one copy harms nothing.
//!
//! ```text
//! offset  size  field
//!      0     8  magic           "ESKWAL\0\x01"; the last byte is the format version
//!      8     1  digest          1 = Blake3
//!      9     1  compression     0 = none
//!     10     1  cipher suite    0 = plain
//!     11     1  reserved        0
//!     12     4  key id          0 while plain
//!     16    16  database        id
//!     32     8  number          of this segment, as in its file name
//!     40     8  previous        number of the segment before it; 0 = none ..
//!     48     8  previous end    .. where that was accepted to end ..
//!     56    16  previous hash   .. and the hash of what stands last in it; zeros after a clean
//!                               close, when nobody reads it
//!     72    16  origin          node
//!     88     8  origin          incarnation
//!     96     8  generation      of the root under which it was created
//!    104     8  seqno bound     every commit here has a greater seqno
//!    112    16  nonce           random
//!    128     8  features        required feature bits; unknown ones refuse to open
//!    136     8  reserved        0
//!    144    16  digest          Blake3 of bytes 0..144; what the first frame names as previous
//!    160     *  zeros           to byte 4096
//!   4096   160  the same header once more
//!   4256     *  frames
//! ```
//!
//! Invariants:
//! - The key of a segment's frames comes from database, number and nonce, so no frame of another
//!   file ever verifies here.
//! - Segments form a chain by `previous`; numbers only grow, but may leave gaps.

use base::codec::{Decoded, Reader};
use base::error::FileKind;
use base::frame::{FrameKey, HASH_LEN, Hash, truncate};
use base::fs::{Fs, ReadFile, full_path};
use base::{Corruption, Error, FileName, Incarnation, NodeId, Origin, Result, Tick};
use std::io;
use std::path::Path;
use std::sync::Arc;

const MAGIC: [u8; 7] = *b"ESKWAL\0";
const VERSION: u8 = 1;
const DIGEST_BLAKE3: u8 = 1;
const COPY_LEN: usize = 160;
const NUMBER_AT: usize = 32;
const DIGEST_AT: usize = 144;
const COPY_AT: usize = 4096;
const _: () = assert!(DIGEST_AT + HASH_LEN == COPY_LEN, "as the diagram above says");

/// Bytes before a segment's first frame.
pub const HEADER_LEN: u64 = (COPY_AT + COPY_LEN) as u64;

/// Whose segments they are: what every header of one appender repeats.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SegmentOwner {
    /// The database.
    pub database: [u8; 16],
    /// The author of its commits.
    pub origin: Origin,
    /// The generation of the root.
    pub generation: u64,
}

/// Where a segment ends: what the next one says about it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SegmentEnd {
    /// The segment.
    pub number: u64,
    /// Its accepted bytes.
    pub end: u64,
    /// The hash of what stands last in them.
    pub hash: Hash,
    /// The greatest seqno of the log up to there.
    pub last_seqno: Tick,
}

/// What a segment's file says about itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SegmentHeader {
    /// Whose it is.
    pub owner: SegmentOwner,
    /// Its number.
    pub number: u64,
    /// The segment before it; its `last_seqno` is the bound below all commits here.
    pub previous: Option<SegmentEnd>,
    /// Random, so that the key is this file's alone.
    pub nonce: [u8; 16],
    /// The digest of the header.
    pub digest: Hash,
}

impl SegmentHeader {
    /// The header of a new segment.
    pub(crate) fn new(
        owner: SegmentOwner,
        number: u64,
        previous: Option<SegmentEnd>,
        nonce: [u8; 16],
    ) -> SegmentHeader {
        let mut header = SegmentHeader { owner, number, previous, nonce, digest: [0; HASH_LEN] };
        header.digest = digest(&header.fields());
        header
    }

    /// The key of the segment's frames.
    pub fn key(&self) -> FrameKey {
        let mut material = Vec::with_capacity(40);
        material.extend_from_slice(&self.owner.database);
        material.extend_from_slice(&self.number.to_le_bytes());
        material.extend_from_slice(&self.nonce);
        FrameKey::derive("esker wal segment v1", &material)
    }

    /// The greatest seqno before this segment.
    pub fn seqno_bound(&self) -> Tick {
        self.previous.map_or(Tick::ZERO, |previous| previous.last_seqno)
    }

    fn fields(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(COPY_LEN);
        let (number, end, hash) = self.previous.map_or((0, 0, [0; HASH_LEN]), |previous| {
            (previous.number, previous.end, previous.hash)
        });
        out.extend_from_slice(&MAGIC);
        out.extend_from_slice(&[VERSION, DIGEST_BLAKE3, 0, 0, 0]);
        out.extend_from_slice(&0u32.to_le_bytes());
        out.extend_from_slice(&self.owner.database);
        out.extend_from_slice(&self.number.to_le_bytes());
        out.extend_from_slice(&number.to_le_bytes());
        out.extend_from_slice(&end.to_le_bytes());
        out.extend_from_slice(&hash);
        out.extend_from_slice(&self.owner.origin.node.0);
        out.extend_from_slice(&self.owner.origin.incarnation.0.to_le_bytes());
        out.extend_from_slice(&self.owner.generation.to_le_bytes());
        out.extend_from_slice(&self.seqno_bound().raw().to_le_bytes());
        out.extend_from_slice(&self.nonce);
        out.extend_from_slice(&0u64.to_le_bytes());
        out.extend_from_slice(&0u64.to_le_bytes());
        out
    }

    /// The first [`HEADER_LEN`] bytes of the segment's file.
    pub(crate) fn encode(&self) -> Vec<u8> {
        let mut copy = self.fields();
        copy.extend_from_slice(&self.digest);
        let mut out = copy.clone();
        out.resize(COPY_AT, 0);
        out.extend_from_slice(&copy);
        out
    }
}

fn digest(fields: &[u8]) -> Hash {
    truncate(&blake3::hash(fields))
}

/// What was found where a segment's header should be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HeaderState {
    /// A header that verifies.
    Good(SegmentHeader),
    /// Only zeros: the file was created and never used.
    Blank,
    /// Neither copy verifies.
    Bad(Corruption),
}

/// Reads the header of segment `number` of `database`.
///
/// A header that verifies, but names another database or something this version does not know, is an
/// error: damage does not look like that.
pub fn read_header(fs: &dyn Fs, number: u64, database: [u8; 16]) -> Result<HeaderState> {
    let file = open_file(fs, number)?;
    header_of(fs, file.as_ref(), number, database)
}

/// The first byte of the header of segment `number` that is not as it was written, although the
/// header is readable: in one of its copies, or between them.
pub fn header_flaw(
    fs: &dyn Fs,
    number: u64,
    database: [u8; 16],
) -> Result<Option<(u64, Corruption)>> {
    let file = open_file(fs, number)?;
    let HeaderState::Good(header) = header_of(fs, file.as_ref(), number, database)? else {
        return Ok(None);
    };
    let written = header.encode();
    let mut bytes = vec![0; written.len()];
    let path = full_path(fs, &FileName::Segment(number).path());
    let io = |e| Error::io("read", &path, e);
    let len = file.len().map_err(io)?;
    if len < HEADER_LEN {
        return Ok(Some((len, Corruption::Truncated)));
    }
    file.read_exact_at(&mut bytes, 0).map_err(io)?;
    let flaw = bytes.iter().zip(&written).position(|(found, written)| found != written);
    Ok(flaw.map(|at| (at as u64, Corruption::DigestMismatch)))
}

/// Opens the file of segment `number`; if it is not there, that is [`Error::Missing`].
pub(crate) fn open_file(fs: &dyn Fs, number: u64) -> Result<Arc<dyn ReadFile>> {
    let name = FileName::Segment(number).path();
    fs.open(&name).map_err(|e| {
        let path = full_path(fs, &name);
        match e.kind() {
            io::ErrorKind::NotFound => Error::Missing { file: FileKind::Log, path },
            _ => Error::io("open", path, e),
        }
    })
}

/// As [`read_header`], of a file already open.
pub(crate) fn header_of(
    fs: &dyn Fs,
    file: &dyn ReadFile,
    number: u64,
    database: [u8; 16],
) -> Result<HeaderState> {
    let path = full_path(fs, &FileName::Segment(number).path());
    let io = |source| Error::io("read", &path, source);
    let len = file.len().map_err(io)?.min(HEADER_LEN);
    let mut bytes = vec![0; usize::try_from(len).unwrap_or(0)];
    file.read_exact_at(&mut bytes, 0).map_err(io)?;
    if bytes.iter().all(|byte| *byte == 0) {
        return Ok(HeaderState::Blank);
    }
    let second = bytes.get(COPY_AT..).unwrap_or_default();
    let verified =
        verify(&bytes, number).or_else(|found| verify(second, number).map_err(|_| found));
    let fields = match verified {
        Ok(fields) => fields,
        Err(found) => return Ok(HeaderState::Bad(found)),
    };
    refuse_unsupported(fields, &path)?;
    let header = decode(fields).map_err(|found| corrupt(&path, FileKind::Log, found))?;
    if header.owner.database != database {
        return Err(corrupt(&path, FileKind::ForeignLog, Corruption::Foreign));
    }
    Ok(HeaderState::Good(header))
}

fn corrupt(path: &Path, file: FileKind, found: Corruption) -> Error {
    Error::corrupt(file, path, 0, found)
}

/// The fields of the copy at the front of `bytes`, if its digest matches and it is of segment
/// `number`. After a crash, blocks may hold what another segment once had there.
fn verify(bytes: &[u8], number: u64) -> Decoded<&[u8]> {
    let copy = bytes.get(..COPY_LEN).ok_or(Corruption::Truncated)?;
    if !copy.starts_with(&MAGIC) {
        return Err(Corruption::BadMagic);
    }
    let (fields, stored) = copy.split_at_checked(DIGEST_AT).ok_or(Corruption::Truncated)?;
    if digest(fields) != stored {
        return Err(Corruption::DigestMismatch);
    }
    match fields.get(NUMBER_AT..NUMBER_AT + 8) {
        Some(stored) if stored == number.to_le_bytes() => Ok(fields),
        _ => Err(Corruption::Misplaced),
    }
}

/// Refuses what only a newer version, or one with keys, can read.
fn refuse_unsupported(fields: &[u8], path: &Path) -> Result<()> {
    let part = |at: usize, len: usize| {
        let mut word = [0; 8];
        let bytes = fields.get(at..at + len).unwrap_or_default();
        word.iter_mut().zip(bytes).for_each(|(to, from)| *to = *from);
        u64::from_le_bytes(word)
    };
    let (version, features) = (part(MAGIC.len(), 1), part(128, 8));
    if version != u64::from(VERSION) || features != 0 {
        let found = if features == 0 { version } else { features << 8 | version };
        let supported = u64::from(VERSION);
        return Err(Error::FormatUnsupported { path: path.to_path_buf(), found, supported });
    }
    match part(12, 4) {
        0 => Ok(()),
        key_id => Err(Error::KeyUnavailable { path: path.to_path_buf(), key_id: key_id as u32 }),
    }
}

fn decode(fields: &[u8]) -> Decoded<SegmentHeader> {
    let mut reader = Reader::new(fields);
    reader.take(MAGIC.len() + 1)?;
    if reader.array()? != [DIGEST_BLAKE3, 0, 0, 0] || reader.u32()? != 0 {
        return Err(Corruption::UnknownAlgorithm);
    }
    let database = reader.array()?;
    let number = reader.u64()?;
    let (previous, end, hash) = (reader.u64()?, reader.u64()?, reader.array()?);
    let node = NodeId(reader.array()?);
    let origin = Origin { node, incarnation: Incarnation(reader.u64()?) };
    let generation = reader.u64()?;
    let last_seqno = Tick::from_raw(reader.u64()?).ok_or(Corruption::OutOfRange)?;
    let nonce = reader.array()?;
    let previous =
        (previous != 0).then_some(SegmentEnd { number: previous, end, hash, last_seqno });
    let owner = SegmentOwner { database, origin, generation };
    Ok(SegmentHeader { owner, number, previous, nonce, digest: digest(fields) })
}

#[cfg(test)]
mod tests {
    use super::*;
    use base::fs::SimFs;

    const DATABASE: [u8; 16] = [4; 16];

    fn sample() -> SegmentHeader {
        let origin = Origin { node: NodeId([2; 16]), incarnation: Incarnation(8) };
        let owner = SegmentOwner { database: DATABASE, origin, generation: 6 };
        let previous =
            SegmentEnd { number: 6, end: 9999, hash: [5; 16], last_seqno: Tick::from_ms(3) };
        SegmentHeader::new(owner, 7, Some(previous), [1; 16])
    }

    fn disk(bytes: &[u8]) -> SimFs {
        let disk = SimFs::new(1);
        disk.create_dir(&base::RelPath::folder(base::dir::WAL_DIR)).unwrap();
        disk.write_file(&FileName::Segment(7).path(), bytes).unwrap();
        disk
    }

    fn read(bytes: &[u8]) -> Result<HeaderState> {
        read_header(&disk(bytes), 7, DATABASE)
    }

    fn flaw(bytes: &[u8]) -> Option<(u64, Corruption)> {
        header_flaw(&disk(bytes), 7, DATABASE).unwrap()
    }

    #[test]
    fn a_header_comes_back() {
        let header = sample();
        assert_eq!(header.encode().len() as u64, HEADER_LEN);
        assert_eq!(read(&header.encode()).unwrap(), HeaderState::Good(header));
        let first = SegmentHeader::new(header.owner, 7, None, [1; 16]);
        assert_eq!(read(&first.encode()).unwrap(), HeaderState::Good(first));
    }

    #[test]
    fn damage_of_one_copy_harms_nothing_and_of_both_is_found() {
        let (header, bytes) = (sample(), sample().encode());
        for at in (0..COPY_LEN).chain(COPY_AT..COPY_AT + COPY_LEN) {
            let mut flipped = bytes.clone();
            flipped[at] ^= 1 << (at % 8);
            assert_eq!(read(&flipped).unwrap(), HeaderState::Good(header), "byte {at}");
            assert_eq!(flaw(&flipped), Some((at as u64, Corruption::DigestMismatch)));
            flipped[(at + COPY_AT) % (2 * COPY_AT)] ^= 1 << (at % 8);
            assert!(matches!(read(&flipped).unwrap(), HeaderState::Bad(_)), "byte {at}");
        }
    }

    #[test]
    fn a_flaw_beside_a_readable_header_is_found() {
        let bytes = sample().encode();
        assert_eq!(flaw(&bytes), None);
        assert_eq!(flaw(&[&bytes[..], &[1; 100]].concat()), None, "that is no header");
        assert_eq!(flaw(&bytes[..4200]), Some((4200, Corruption::Truncated)));
        let mut stained = bytes;
        stained[2000] = 1;
        assert_eq!(flaw(&stained), Some((2000, Corruption::DigestMismatch)));
    }

    #[test]
    fn a_file_without_a_header_is_blank_or_bad() {
        assert_eq!(read(&[]).unwrap(), HeaderState::Blank);
        assert_eq!(read(&[0; 20_000]).unwrap(), HeaderState::Blank);
        let bytes = sample().encode();
        assert_eq!(read(&bytes[..100]).unwrap(), HeaderState::Bad(Corruption::Truncated));
        let other = SegmentHeader { number: 8, ..sample() };
        let other = SegmentHeader::new(other.owner, 8, other.previous, other.nonce).encode();
        assert_eq!(read(&other).unwrap(), HeaderState::Bad(Corruption::Misplaced));
        let half = [&other[..COPY_AT], &bytes[COPY_AT..]].concat();
        assert_eq!(read(&half).unwrap(), HeaderState::Good(sample()));
    }

    /// What a newer version, or one with keys, wrote is refused by name and not taken for damage.
    #[test]
    fn unknown_versions_features_and_keys_are_refused() {
        let with = |at: usize| {
            let mut fields = sample().fields();
            fields[at] ^= 2;
            let digest = digest(&fields);
            read(&[fields, digest.to_vec()].concat()).unwrap_err()
        };
        assert!(matches!(with(7), Error::FormatUnsupported { found: 3, supported: 1, .. }));
        assert!(matches!(with(128), Error::FormatUnsupported { .. }));
        assert!(matches!(with(12), Error::KeyUnavailable { key_id: 2, .. }));
        assert!(matches!(with(8), Error::Corrupt { found: Corruption::UnknownAlgorithm, .. }));
        assert!(matches!(with(16), Error::Corrupt { found: Corruption::Foreign, .. }));
    }
}
