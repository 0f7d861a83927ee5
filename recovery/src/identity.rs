//! Stage 2: who the database is.
//!
//! `IDENTITY` is written at creation, and again, by way of `IDENTITY.tmp`, whenever another life or
//! another key begins:
//!
//! ```text
//! offset  size  field
//!      0     8  magic              "ESKRID\0\x01"; the last byte is the format version
//!      8     1  digest             1 = Blake3
//!      9     1  compression        0 = none
//!     10     1  cipher suite       0 = plain
//!     11     1  reserved           0
//!     12     4  key id             of the key ring; 0 while files are plain
//!     16     8  required features  an unknown bit refuses to open
//!     24     8  optional features  1 = the key was changed; unknown bits are ignored
//!     32    16  database           random
//!     48    16  node               first bytes of the Blake3 of the first public key
//!     64     8  incarnation        random, new in every life of the data
//!     72    32  secret             seed of the present Ed25519 key pair
//!    104    32  digest             keyed Blake3 of bytes 0..104
//! ```

use base::codec::{Decoded, Reader};
use base::error::FileKind;
use base::fs::{self, Fs};
use base::{Corruption, Error, FileName, Identity, Incarnation, NodeId, RelPath, Result, Rng};
use ed25519_compact::{KeyPair, Seed};
use std::fmt::Write;
use std::io;

const MAGIC: [u8; 7] = *b"ESKRID\0";
const VERSION: u8 = 1;
const ALGORITHMS: [u8; 4] = [1, 0, 0, 0]; // Blake3, not compressed, plain, reserved
const DIGEST_AT: usize = 104;
const LEN: usize = DIGEST_AT + 32;
const _: () = assert!(LEN == 136, "as the diagram above says");

/// Features of the format that this version understands.
const REQUIRED_FEATURES: u64 = 0;
/// The secret is not the one that the node is named after.
const KEY_CHANGED: u64 = 1;

/// What `IDENTITY` says.
#[derive(Clone, Copy, Debug)]
pub(crate) struct IdentityFile {
    pub(crate) identity: Identity,
    /// The key of the key ring; 0 while files are plain.
    pub(crate) key_id: u32,
    /// Whether the node has changed its key.
    is_key_changed: bool,
}

/// A new database of a new node.
pub fn generate_identity(rng: &dyn Rng) -> io::Result<Identity> {
    let mut identity = Identity {
        database: [0; 16],
        node: NodeId::default(),
        incarnation: Incarnation::default(),
        secret: [0; 32],
    };
    rng.fill(&mut identity.database)?;
    rng.fill(&mut identity.secret)?;
    identity.node = node_of(&identity);
    new_life(&identity, rng)
}

/// The same database and node in a new life: what a restore or a copy must have.
pub fn new_life(identity: &Identity, rng: &dyn Rng) -> io::Result<Identity> {
    let mut incarnation = [0; 8];
    rng.fill(&mut incarnation)?;
    Ok(Identity { incarnation: Incarnation(u64::from_le_bytes(incarnation)), ..*identity })
}

/// The node's Ed25519 public key.
pub fn public_key(identity: &Identity) -> [u8; 32] {
    *KeyPair::from_seed(Seed::new(identity.secret)).pk
}

/// The Blake3 of the node's public key, in hex: what operators compare. It starts with the node id, unless
/// the key was changed.
pub fn public_key_fingerprint(identity: &Identity) -> String {
    let digest = blake3::hash(&public_key(identity));
    digest.as_bytes().iter().fold(String::with_capacity(64), |mut hex, byte| {
        let _ = write!(hex, "{byte:02x}");
        hex
    })
}

fn node_of(identity: &Identity) -> NodeId {
    let digest = blake3::hash(&public_key(identity));
    NodeId(digest.as_bytes().first_chunk().copied().unwrap_or_default())
}

/// Whether the node's name belongs to its secret, as far as it must.
pub(crate) fn is_consistent(file: &IdentityFile) -> bool {
    file.is_key_changed || file.identity.node == node_of(&file.identity)
}

/// Writes `IDENTITY`, which must not exist, and makes it durable.
pub fn write_identity(fs: &dyn Fs, identity: &Identity) -> Result<()> {
    write_to(fs, identity, FileName::Identity)?;
    fs.sync_dir(&RelPath::root()).map_err(|e| Error::io("sync", fs.root(), e))
}

/// Puts `identity` in the place of the one that is there, durably.
pub fn replace_identity(fs: &dyn Fs, identity: &Identity) -> Result<()> {
    let (temp, name) = (FileName::IdentityTemp.path(), FileName::Identity.path());
    match fs.remove(&temp) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            return Err(Error::io("remove", fs::full_path(fs, &temp), error));
        }
        _ => {}
    }
    write_to(fs, identity, FileName::IdentityTemp)?;
    fs.rename(&temp, &name).map_err(|e| Error::io("replace", fs::full_path(fs, &name), e))?;
    fs.sync_dir(&RelPath::root()).map_err(|e| Error::io("sync", fs.root(), e))
}

fn write_to(fs: &dyn Fs, identity: &Identity, name: FileName) -> Result<()> {
    let name = name.path();
    let path = fs::full_path(fs, &name);
    let mut file = fs.create(&name, 0).map_err(|e| Error::io("create", &path, e))?;
    file.append(&encode(identity)).map_err(|e| Error::io("write", &path, e))?;
    file.finish().map_err(|e| Error::io("sync", &path, e))?;
    Ok(())
}

/// Who the database in this directory is.
pub fn read_identity(fs: &dyn Fs) -> Result<Identity> {
    read(fs).map(|file| file.identity)
}

pub(crate) fn read(fs: &dyn Fs) -> Result<IdentityFile> {
    let path = fs::full_path(fs, &FileName::Identity.path());
    let corrupt = |found| Error::corrupt(FileKind::Identity, &path, 0, found);
    let bytes = match fs::read_small(fs, &FileName::Identity.path(), 4096) {
        Ok(bytes) => bytes,
        Err(error) => {
            return Err(match error.kind() {
                io::ErrorKind::NotFound => Error::Missing { file: FileKind::Identity, path },
                io::ErrorKind::InvalidData => corrupt(Corruption::TrailingBytes),
                _ => Error::io("read", &path, error),
            });
        }
    };
    let fields = verified(&bytes).map_err(corrupt)?;
    let mut reader = Reader::new(fields);
    let [version] = reader.array().map_err(corrupt)?;
    if version != VERSION {
        let (found, supported) = (u64::from(version), u64::from(VERSION));
        return Err(Error::FormatUnsupported { path, found, supported });
    }
    let algorithms: [u8; 4] = reader.array().map_err(corrupt)?;
    let key_id = reader.u32().map_err(corrupt)?;
    let (required, optional) = (reader.u64().map_err(corrupt)?, reader.u64().map_err(corrupt)?);
    if required & !REQUIRED_FEATURES != 0 {
        let (found, supported) = (required, REQUIRED_FEATURES);
        return Err(Error::FormatUnsupported { path, found, supported });
    }
    if key_id == 0 && algorithms != ALGORITHMS {
        return Err(corrupt(Corruption::UnknownAlgorithm));
    }
    let identity = decode(&mut reader).map_err(corrupt)?;
    Ok(IdentityFile { identity, key_id, is_key_changed: optional & KEY_CHANGED != 0 })
}

fn encode(identity: &Identity) -> Vec<u8> {
    let mut out = Vec::with_capacity(LEN);
    out.extend_from_slice(&MAGIC);
    out.push(VERSION);
    out.extend_from_slice(&ALGORITHMS);
    out.extend_from_slice(&0u32.to_le_bytes());
    out.extend_from_slice(&REQUIRED_FEATURES.to_le_bytes());
    let is_key_changed = identity.node != node_of(identity);
    let optional = if is_key_changed { KEY_CHANGED } else { 0 };
    out.extend_from_slice(&optional.to_le_bytes());
    out.extend_from_slice(&identity.database);
    out.extend_from_slice(&identity.node.0);
    out.extend_from_slice(&identity.incarnation.0.to_le_bytes());
    out.extend_from_slice(&identity.secret);
    let digest = digest(&out);
    out.extend_from_slice(&digest);
    out
}

/// The fields behind the magic. What the digest vouches for was written so: from there on, the
/// unknown is unsupported and not corrupt.
fn verified(bytes: &[u8]) -> Decoded<&[u8]> {
    let (bytes, behind) = bytes.split_first_chunk::<LEN>().ok_or(Corruption::Truncated)?;
    let (fields, stored) = bytes.split_at(DIGEST_AT);
    let rest = fields.strip_prefix(&MAGIC).ok_or(Corruption::BadMagic)?;
    if digest(fields) != stored {
        return Err(Corruption::DigestMismatch);
    }
    if behind.is_empty() { Ok(rest) } else { Err(Corruption::TrailingBytes) }
}

fn decode(reader: &mut Reader<'_>) -> Decoded<Identity> {
    Ok(Identity {
        database: reader.array()?,
        node: NodeId(reader.array()?),
        incarnation: Incarnation(reader.u64()?),
        secret: reader.array()?,
    })
}

fn digest(fields: &[u8]) -> [u8; 32] {
    *blake3::keyed_hash(&blake3::derive_key("esker identity v1", b""), fields).as_bytes()
}
