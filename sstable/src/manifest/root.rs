//! The root: which manifest counts.
//!
//! `CURRENT` and `CURRENT.copy` hold the same root:
//!
//! ```text
//! offset  size  field
//!      0     8  magic              "ESKRRT\0\x01"; the last byte is the format version
//!      8     1  digest             1 = Blake3
//!      9     1  compression        0 = none
//!     10     1  cipher suite       0 = plain
//!     11     1  reserved           0
//!     12     4  key id             0 while plain
//!     16     8  required features  an unknown bit refuses to open
//!     24     8  optional features  unknown bits are ignored
//!     32    16  database
//!     48     8  generation
//!     56     8  manifest           its number
//!     64     8  prefix length      of the manifest's header and first frame
//!     72    32  prefix digest      Blake3 of those bytes
//!    104    32  digest             keyed Blake3 of bytes 0..104
//! ```
//!
//! Invariants:
//! - Each is replaced by writing `CURRENT.tmp`, syncing it, renaming it, syncing the folder.
//! - `CURRENT` first, then the copy. So one of them is whole at any moment, and if both are whole
//!   but differ, the newer one counts.

use super::reader::{check_format, refused};
use crate::footer::Refusal;
use base::codec::Reader;
use base::error::FileKind;
use base::fs::{self, Fs};
use base::{Corruption, Defect, Error, FileName, RelPath, Result, planted};
use std::io;

const MAGIC: [u8; 7] = *b"ESKRRT\0";
const VERSION: u8 = 1;
const DIGEST_BLAKE3: u8 = 1;
const DIGEST_AT: usize = 104;
const LEN: usize = DIGEST_AT + 32;
const _: () = assert!(LEN == 136, "as the diagram above says");

/// Features of the format that this version understands and that a reader must understand.
const REQUIRED_FEATURES: u64 = 0;

/// Which manifest counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Root {
    /// Features that a reader must understand.
    pub required_features: u64,
    /// Features that a reader may ignore.
    pub optional_features: u64,
    /// The database.
    pub database: [u8; 16],
    /// Counts the opens of the database.
    pub generation: u64,
    /// The number of the manifest.
    pub manifest: u64,
    /// Bytes of the manifest's header and first frame.
    pub prefix_len: u64,
    /// Their Blake3.
    pub prefix_digest: [u8; 32],
}

/// What the two root files say.
#[derive(Debug)]
pub struct Roots {
    /// The root that counts.
    pub root: Root,
    /// The file it was read from.
    pub source: FileName,
    /// What is wrong with the other file, if it does not hold the same root.
    pub other: Option<Error>,
}

impl Root {
    fn encode(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(LEN);
        out.extend_from_slice(&MAGIC);
        out.push(VERSION);
        out.extend_from_slice(&[DIGEST_BLAKE3, 0, 0, 0]);
        out.extend_from_slice(&0u32.to_le_bytes());
        out.extend_from_slice(&self.required_features.to_le_bytes());
        out.extend_from_slice(&self.optional_features.to_le_bytes());
        out.extend_from_slice(&self.database);
        out.extend_from_slice(&self.generation.to_le_bytes());
        out.extend_from_slice(&self.manifest.to_le_bytes());
        out.extend_from_slice(&self.prefix_len.to_le_bytes());
        out.extend_from_slice(&self.prefix_digest);
        let digest = digest(&out);
        out.extend_from_slice(&digest);
        out
    }

    /// What the digest vouches for was written so: from there on, the unknown is unsupported and
    /// not corrupt.
    fn decode(bytes: &[u8]) -> Result<Root, Refusal> {
        let (bytes, behind) = bytes.split_first_chunk::<LEN>().ok_or(Corruption::Truncated)?;
        let (fields, stored) = bytes.split_at(DIGEST_AT);
        let mut reader = Reader::new(fields);
        if reader.array()? != MAGIC {
            return Err(Corruption::BadMagic.into());
        }
        if digest(fields) != stored {
            return Err(Corruption::DigestMismatch.into());
        }
        if !behind.is_empty() {
            return Err(Corruption::TrailingBytes.into());
        }
        check_format(&mut reader)?;
        let required_features = reader.u64()?;
        if required_features & !REQUIRED_FEATURES != 0 {
            let (found, supported) = (required_features, REQUIRED_FEATURES);
            return Err(Refusal::Format { found, supported });
        }
        Ok(Root {
            required_features,
            optional_features: reader.u64()?,
            database: reader.array()?,
            generation: reader.u64()?,
            manifest: reader.u64()?,
            prefix_len: reader.u64()?,
            prefix_digest: reader.array()?,
        })
    }

    /// The generation after this one.
    pub fn next_generation(&self) -> u64 {
        self.generation.saturating_add(1)
    }

    fn age(&self) -> (u64, u64) {
        (self.generation, self.manifest)
    }
}

fn digest(fields: &[u8]) -> [u8; 32] {
    *blake3::keyed_hash(&blake3::derive_key("esker root v1", b""), fields).as_bytes()
}

/// Makes `root` the one that counts: once the first rename is durable, it does.
pub fn write_root(fs: &dyn Fs, root: &Root) -> Result<()> {
    let bytes = root.encode();
    replace(fs, &bytes, FileName::Current)?;
    replace(fs, &bytes, FileName::CurrentCopy)
}

fn replace(fs: &dyn Fs, bytes: &[u8], name: FileName) -> Result<()> {
    let temp = FileName::CurrentTemp.path();
    let temp_path = fs::full_path(fs, &temp);
    match fs.remove(&temp) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            return Err(Error::io("remove", temp_path, error));
        }
        _ => {}
    }
    let mut file = fs.create(&temp, 0).map_err(|e| Error::io("create", &temp_path, e))?;
    file.append(bytes).map_err(|e| Error::io("write", &temp_path, e))?;
    file.finish().map_err(|e| Error::io("sync", &temp_path, e))?;
    let path = name.path();
    let full = fs::full_path(fs, &path);
    fs.rename(&temp, &path).map_err(|e| Error::io("rename to", full, e))?;
    if planted(Defect::SkipRootDirectorySync) {
        return Ok(());
    }
    fs.sync_dir(&RelPath::root()).map_err(|e| Error::io("sync", fs.root(), e))
}

/// The root that counts. One whole file suffices; of two, the newer counts.
pub fn read_root(fs: &dyn Fs) -> Result<Roots> {
    let current = read(fs, FileName::Current);
    let copy = read(fs, FileName::CurrentCopy);
    let (root, source, other) = match (current, copy) {
        (Ok(root), Ok(copy)) if copy.age() > root.age() => {
            (copy, FileName::CurrentCopy, stale(fs, FileName::Current, &root, &copy))
        }
        (Ok(root), Ok(copy)) => {
            (root, FileName::Current, stale(fs, FileName::CurrentCopy, &copy, &root))
        }
        // An older root does not stand in for one that this version can not read.
        (Err(error @ (Error::FormatUnsupported { .. } | Error::KeyUnavailable { .. })), _)
        | (_, Err(error @ (Error::FormatUnsupported { .. } | Error::KeyUnavailable { .. }))) => {
            return Err(error);
        }
        (Ok(root), Err(other)) => (root, FileName::Current, Some(other)),
        (Err(other), Ok(root)) => (root, FileName::CurrentCopy, Some(other)),
        (Err(Error::Missing { .. }), Err(error)) | (Err(error), Err(_)) => return Err(error),
    };
    Ok(Roots { root, source, other })
}

/// The error that `name` holds `old` although `new` counts; none if they are the same.
fn stale(fs: &dyn Fs, name: FileName, old: &Root, new: &Root) -> Option<Error> {
    (old != new).then(|| Error::StaleManifest {
        path: fs::full_path(fs, &name.path()),
        generation: old.generation,
        seen: new.generation,
    })
}

fn read(fs: &dyn Fs, name: FileName) -> Result<Root> {
    let path = fs::full_path(fs, &name.path());
    let bytes = match fs::read_small(fs, &name.path(), 4096) {
        Ok(bytes) => bytes,
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            return Err(Error::Missing { file: FileKind::Root, path });
        }
        Err(error) if error.kind() == io::ErrorKind::InvalidData => {
            return Err(Error::corrupt(FileKind::Root, path, 0, Corruption::TrailingBytes));
        }
        Err(error) => return Err(Error::io("read", path, error)),
    };
    Root::decode(&bytes).map_err(|refusal| refused(refusal, FileKind::Root, &path))
}
