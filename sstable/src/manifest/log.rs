//! A manifest being written, and its replay.
//!
//! Invariants:
//! - An edit counts once [`ManifestLog::append`] has returned: it was written and synced.
//! - The frame of an edit promises all frames before it, see [`ManifestLog::promised_edits`].
//! - The file never grows past its reservation in normal use, so a full disk shows when a manifest
//!   is created, not when an edit must be made durable.
//! - After the first failed write or sync nothing is appended any more.

use super::edit::Edit;
use super::reader::{HEADER_LEN, ManifestHeader, ManifestReader};
use super::root::{Root, write_root};
use super::state::State;
use base::error::FileKind;
use base::frame::{self, FrameHeader, FrameKey, FrameKind, Hash};
use base::fs::{self, AppendFile, Fs, SyncHandle};
use base::{Corruption, Defect, Error, FileName, Position, RelPath, Result, Rng, Tick, planted};
use std::io;
use std::path::PathBuf;
use std::sync::Arc;

/// Bytes reserved for a manifest at least.
const RESERVED_BYTES_MIN: u64 = 1 << 20;
/// Bytes of a manifest that a reader accepts at most.
const LEN_MAX: u64 = 1 << 30;

/// A manifest being written.
#[derive(Debug)]
pub struct ManifestLog {
    file: Box<dyn AppendFile>,
    sync: Arc<dyn SyncHandle>,
    path: PathBuf,
    header: ManifestHeader,
    key: Key,
    previous: Hash,
    root: Root,
    reserved_bytes: u64,
    edits: u64,
    promised_edits: u64,
    /// Of the manifest after this one. A number that failed is not tried again.
    next_number: u64,
    health: Health,
}

/// Keeps the frame key out of debug output.
struct Key(FrameKey);

impl std::fmt::Debug for Key {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Key")
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Health {
    Sound,
    Poisoned,
}

impl ManifestLog {
    /// Creates manifest `number` with one edit that says all of `state`, durable when this returns.
    /// It counts once its [`ManifestLog::root`] was written. A failure may leave the file behind.
    pub fn create(
        fs: &dyn Fs,
        rng: &dyn Rng,
        database: [u8; 16],
        generation: u64,
        number: u64,
        state: &State,
    ) -> Result<ManifestLog> {
        let relative = FileName::Manifest(number).path();
        let path = fs::full_path(fs, &relative);
        let mut nonce = [0; 16];
        rng.fill(&mut nonce).map_err(|e| Error::io("get random bytes for", &path, e))?;
        let header = ManifestHeader { database, number, generation, nonce };
        let key = header.frame_key();
        let mut prefix = Vec::new();
        let previous = header.encode(&mut prefix);
        let first = FrameHeader {
            kind: FrameKind::Edit,
            payload_len: 0,
            offset: HEADER_LEN as u64,
            first_seqno: Tick::ZERO,
            last_seqno: Tick::ZERO,
            promise: Position { segment: number, offset: 0 },
            previous,
        };
        let previous = frame::encode(&mut prefix, &key, &first, &encoded(&state.to_edit())?);
        let reserved_bytes = RESERVED_BYTES_MIN.max(prefix.len() as u64 * 4);
        let mut file =
            fs.create(&relative, reserved_bytes).map_err(|e| Error::io("create", &path, e))?;
        file.append(&prefix).map_err(|e| Error::io("write", &path, e))?;
        let sync = file.sync_handle();
        sync.sync_data().map_err(|e| Error::io("sync", &path, e))?;
        let folder = RelPath::folder(base::dir::MANIFEST_DIR);
        fs.sync_dir(&folder).map_err(|e| Error::io("sync", fs::full_path(fs, &folder), e))?;
        let root = Root {
            required_features: 0,
            optional_features: 0,
            database,
            generation,
            manifest: number,
            prefix_len: prefix.len() as u64,
            prefix_digest: *blake3::hash(&prefix).as_bytes(),
        };
        Ok(ManifestLog {
            file,
            sync,
            path,
            header,
            key: Key(key),
            previous,
            root,
            reserved_bytes,
            edits: 0,
            promised_edits: 0,
            next_number: number + 1,
            health: Health::Sound,
        })
    }

    /// Goes on in a new manifest that starts with all of `state`, and makes it count. Returns the
    /// number of the old one, which can be removed.
    ///
    /// Counts of edits go on; all earlier edits are promised. If the new manifest can not be
    /// created, nothing has changed; if its root can not be written, which of the two counts is
    /// unknown, and the log is poisoned.
    pub fn roll(&mut self, fs: &dyn Fs, rng: &dyn Rng, state: &State) -> Result<u64> {
        self.refuse_if_poisoned()?;
        let ManifestHeader { database, number: old, generation, .. } = self.header;
        let number = self.next_number;
        self.next_number += 1;
        let created = ManifestLog::create(fs, rng, database, generation, number, state);
        let next = created.inspect_err(|_| {
            let _ = fs.remove(&FileName::Manifest(number).path());
        })?;
        self.health = Health::Poisoned;
        write_root(fs, &next.root)?;
        *self = ManifestLog { edits: self.edits, promised_edits: self.edits, ..next };
        Ok(old)
    }

    /// Appends `edit` and syncs. After a failure the log is poisoned: what is on disk is unknown.
    pub fn append(&mut self, edit: &Edit) -> Result<()> {
        self.append_frame(FrameKind::Edit, &encoded(edit)?)?;
        self.promised_edits = self.edits;
        self.edits += 1;
        Ok(())
    }

    /// Promises all edits so far: appends an empty frame and syncs.
    pub fn seal(&mut self) -> Result<()> {
        self.append_frame(FrameKind::Seal, &[])?;
        self.promised_edits = self.edits;
        Ok(())
    }

    /// Seals the log and gives back unused space.
    pub fn finish(mut self) -> Result<()> {
        self.seal()?;
        self.file.finish().map_err(|e| Error::io("sync", &self.path, e))?;
        Ok(())
    }

    fn append_frame(&mut self, kind: FrameKind, payload: &[u8]) -> Result<()> {
        self.refuse_if_poisoned()?;
        let offset = self.file.len();
        let header = FrameHeader {
            kind,
            payload_len: 0,
            offset,
            first_seqno: Tick::ZERO,
            last_seqno: Tick::ZERO,
            promise: Position { segment: self.header.number, offset },
            previous: self.previous,
        };
        let mut bytes = Vec::with_capacity(frame::OVERHEAD + payload.len());
        let hash = frame::encode(&mut bytes, &self.key.0, &header, payload);
        self.health = Health::Poisoned;
        self.file.append(&bytes).map_err(|e| Error::io("write", &self.path, e))?;
        if !planted(Defect::InstallBeforeDurable) {
            self.sync.sync_data().map_err(|e| Error::io("sync", &self.path, e))?;
        }
        self.health = Health::Sound;
        self.previous = hash;
        Ok(())
    }

    fn refuse_if_poisoned(&self) -> Result<()> {
        match self.health {
            Health::Sound => Ok(()),
            Health::Poisoned => Err(Error::Poisoned),
        }
    }

    /// The root that makes this manifest count.
    pub fn root(&self) -> &Root {
        &self.root
    }

    /// Its number.
    pub fn number(&self) -> u64 {
        self.header.number
    }

    /// Bytes written.
    pub fn len(&self) -> u64 {
        self.file.len()
    }

    /// Never: it starts with a header.
    pub fn is_empty(&self) -> bool {
        self.file.is_empty()
    }

    /// Whether it is time to [`ManifestLog::roll`]: its reservation is nearly used up.
    pub fn wants_roll(&self) -> bool {
        self.len() > self.reserved_bytes / 4 * 3
    }

    /// How many edits were appended; the first edit is number 1.
    pub fn edits(&self) -> u64 {
        self.edits
    }

    /// Edits that a later durable frame has promised. What an edit freed may be deleted once its
    /// number is not above this.
    pub fn promised_edits(&self) -> u64 {
        self.promised_edits
    }
}

fn encoded(edit: &Edit) -> Result<Vec<u8>> {
    let mut payload = Vec::new();
    edit.encode(&mut payload);
    if payload.len() > frame::PAYLOAD_LEN_MAX {
        let limit = frame::PAYLOAD_LEN_MAX as u64;
        return Err(Error::too_large("manifest edit", limit, payload.len() as u64));
    }
    Ok(payload)
}

/// What a manifest said.
#[derive(Clone, Debug)]
pub struct Replayed {
    /// The fold of its edits.
    pub state: State,
    /// Its edits, the first one included.
    pub edits: u64,
    /// Where its content ends.
    pub end: u64,
    /// Where a torn last frame starts, if there is one.
    pub torn: Option<u64>,
}

/// Replays the manifest that `root` names.
///
/// A bad frame is corruption if the root's prefix covers it or a later frame promises it; else the
/// frame was never durable, and all before it counts.
pub fn replay(fs: &dyn Fs, root: &Root) -> Result<Replayed> {
    let (path, bytes) = read(fs, root.manifest)?;
    let corrupt = |offset, found| match found {
        Corruption::BrokenRule(rule) => Error::VersionInvalid { path: path.clone(), offset, rule },
        found => Error::corrupt(FileKind::Manifest, &path, offset, found),
    };
    let prefix = usize::try_from(root.prefix_len).ok().and_then(|len| bytes.get(..len));
    let prefix = prefix.ok_or_else(|| corrupt(bytes.len() as u64, Corruption::MissingPromised))?;
    if blake3::hash(prefix) != root.prefix_digest {
        return Err(corrupt(0, Corruption::DigestMismatch));
    }
    let mut reader = ManifestReader::new(&path, &bytes)?;
    if reader.header().database != root.database {
        return Err(corrupt(0, Corruption::Foreign));
    }
    if (reader.header().number, reader.header().generation) != (root.manifest, root.generation) {
        return Err(corrupt(0, Corruption::Misplaced));
    }
    let mut replayed = Replayed { state: State::default(), edits: 0, end: 0, torn: None };
    loop {
        let offset = reader.offset();
        match reader.next_entry() {
            Ok(None) => break,
            Ok(Some(entry)) => {
                let edit = entry.edit().map_err(|found| corrupt(offset, found))?;
                let Some(edit) = edit else { continue };
                replayed.state.apply(&edit).map_err(|found| corrupt(offset, found))?;
                replayed.edits += 1;
            }
            Err(found) if may_be_torn(found) && reader.promise_ahead() <= offset => {
                replayed.torn = Some(offset);
                break;
            }
            Err(found) => return Err(corrupt(offset, found)),
        }
    }
    replayed.end = reader.offset();
    Ok(replayed)
}

/// Whether a write cut short can look like this. A frame that verifies can not: it was written so.
pub(super) fn may_be_torn(found: Corruption) -> bool {
    matches!(found, Corruption::Truncated | Corruption::BadMagic | Corruption::DigestMismatch)
}

/// What can be said about a manifest that no root names.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Survey {
    /// The generation it was written in.
    pub generation: u64,
    /// Its whole edits, the first one included. A manifest that was never in use has at most one.
    pub edits: u64,
}

/// Looks at manifest `number`; `None` if it is not even a whole header of `database`.
pub fn survey(fs: &dyn Fs, database: [u8; 16], number: u64) -> Result<Option<Survey>> {
    let (path, bytes) = read(fs, number)?;
    let Ok(mut reader) = ManifestReader::new(&path, &bytes) else { return Ok(None) };
    let header = *reader.header();
    if header.database != database || header.number != number {
        return Ok(None);
    }
    let mut edits = 0;
    while let Ok(Some(entry)) = reader.next_entry() {
        edits += u64::from(!matches!(entry.edit(), Ok(None)));
    }
    Ok(Some(Survey { generation: header.generation, edits }))
}

pub(super) fn read(fs: &dyn Fs, number: u64) -> Result<(PathBuf, Vec<u8>)> {
    let relative = FileName::Manifest(number).path();
    let path = fs::full_path(fs, &relative);
    match fs::read_small(fs, &relative, LEN_MAX) {
        Ok(bytes) => Ok((path, bytes)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            Err(Error::Missing { file: FileKind::Manifest, path })
        }
        Err(error) => Err(Error::io("read", path, error)),
    }
}
