//! Finished segments on their way from the log to the next backup.
//!
//! A segment that leaves the log is linked into `archive/` first. The archive keeps the oldest: they
//! lead on from the last backup. Once it is full, what comes later is not kept, and the moments
//! behind can not be restored; the next backup starts anew.

use crate::inventory::Inventory;
use crate::log::LogPlan;
use crate::lone::LoneFile;
use crate::report::Report;
use base::dir::ARCHIVE_DIR;
use base::fs::{Fs, ReadFile, copy, full_path};
use base::{Error, FileName, RelPath, Result};
use sstable::manifest::Archiving;
use std::collections::BTreeMap;
use std::io;
use wal::HeaderState;

/// A segment to keep.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Kept {
    /// Its number.
    pub number: u64,
    /// Whether its bytes are durable.
    pub durability: Durability,
}

/// Whether the bytes of a segment survive a power loss.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Durability {
    /// They do: a link will do.
    Synced,
    /// A crash may have left them unsynced: they are copied.
    Unknown,
}

/// Whether everything found room.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Room {
    /// All are there, durably.
    Enough,
    /// Some are not, and none that comes later is worth keeping.
    Short,
}

/// Puts `segments` of the log, oldest first, into the archive, as far as `bytes_max` goes. Those that
/// are there already stay.
pub fn archive(fs: &dyn Fs, segments: &[Kept], bytes_max: u64) -> Result<Room> {
    if segments.is_empty() {
        return Ok(Room::Enough);
    }
    let folder = RelPath::folder(ARCHIVE_DIR);
    let path = full_path(fs, &folder);
    fs.create_dir(&folder).map_err(|e| Error::io("create", &path, e))?;
    let root = fs.root();
    fs.sync_dir(&RelPath::root()).map_err(|e| Error::io("sync", root, e))?;
    let entries = fs.list(&folder).map_err(|e| Error::io("list", &path, e))?;
    let mut bytes: u64 = entries.iter().map(|entry| entry.len).sum();
    let there: BTreeMap<String, u64> = entries
        .into_iter()
        .map(|entry| (format!("{ARCHIVE_DIR}/{}", entry.name), entry.len))
        .collect();
    let mut room = Room::Enough;
    for segment in segments {
        let (from, to) =
            (FileName::Segment(segment.number).path(), FileName::Archived(segment.number).path());
        let from_path = full_path(fs, &from);
        let file = fs.open(&from).map_err(|e| Error::io("open", &from_path, e))?;
        let len = file.len().map_err(|e| Error::io("measure", &from_path, e))?;
        match there.get(to.as_str()) {
            // One of the right length may be a copy that a power loss left without its bytes.
            Some(known) if *known == len && is_same(&*file, fs, &to, len) => continue,
            Some(_) => fs.remove(&to).map_err(|e| Error::io("remove", full_path(fs, &to), e))?,
            None if bytes.saturating_add(len) > bytes_max => {
                room = Room::Short;
                break;
            }
            None => {}
        }
        let kept = match segment.durability {
            Durability::Synced => fs.link(&from, fs, &to),
            Durability::Unknown => copy(&*file, fs, &to),
        };
        kept.map_err(|e| Error::io("archive", &from_path, e))?;
        bytes = bytes.saturating_add(len);
    }
    fs.sync_dir(&folder).map_err(|e| Error::io("sync", path, e))?;
    Ok(room)
}

/// Whether the file `to` holds the first `len` bytes of `file`. One that can not be read does not.
fn is_same(file: &dyn ReadFile, fs: &dyn Fs, to: &RelPath, len: u64) -> bool {
    const PIECE_LEN: usize = 256 << 10;
    let Ok(other) = fs.open(to) else { return false };
    let (mut ours, mut theirs, mut at) = (Vec::new(), Vec::new(), 0);
    while at < len {
        let piece_len = usize::try_from(len - at).unwrap_or(PIECE_LEN).min(PIECE_LEN);
        ours.resize(piece_len, 0);
        theirs.resize(piece_len, 0);
        let read = file.read_exact_at(&mut ours, at).and(other.read_exact_at(&mut theirs, at));
        if read.is_err() || ours != theirs {
            return false;
        }
        at += piece_len as u64;
    }
    true
}

/// Archives what a database left in its log and that no backup has, before the log is swept. Returns the
/// segments that could not be archived and must stay.
pub(crate) fn keep(
    fs: &dyn Fs,
    database: [u8; 16],
    inventory: &Inventory,
    archiving: Option<Archiving>,
    log: &LogPlan,
    bytes_max: u64,
    report: &mut Report,
) -> Vec<u64> {
    let Some(archiving) = archiving else { return Vec::new() };
    let mut held = Vec::new();
    let segments = unarchived(fs, database, inventory, archiving, log);
    let archived = segments.and_then(|segments| {
        held = segments.iter().map(|segment| segment.number).collect();
        archive(fs, &segments, bytes_max)
    });
    match archived {
        Ok(Room::Enough) => held.clear(),
        Ok(Room::Short) => {
            report.warnings.push(FULL.to_owned());
            held.clear();
        }
        Err(error) => report.warnings.push(format!("cannot archive the log: {error}")),
    }
    held
}

/// What is said when segments are not kept.
pub const FULL: &str = "the archive of the log is full, so later moments can not be restored; \
                        make a backup, or allow more archive bytes";

/// The segments that a database left in its log and that no backup has: back from where the log ends, as
/// each names the one before it.
fn unarchived(
    fs: &dyn Fs,
    database: [u8; 16],
    inventory: &Inventory,
    archiving: Archiving,
    log: &LogPlan,
) -> Result<Vec<Kept>> {
    let durability = match log {
        LogPlan::Closed(_) => Durability::Synced,
        LogPlan::Scanned(_) => Durability::Unknown,
    };
    let mut segments = Vec::new();
    let mut at = log.end().map_or(0, |end| end.number);
    while at >= archiving.from && at != 0 {
        let name = if inventory.segments.contains_key(&at) {
            segments.push(Kept { number: at, durability });
            FileName::Segment(at)
        } else if inventory.archived.contains_key(&at) {
            FileName::Archived(at)
        } else {
            break;
        };
        let path = full_path(fs, &name.path());
        let file = match fs.open(&name.path()) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => break,
            Err(error) => return Err(Error::io("open", path, error)),
        };
        let HeaderState::Good(header) = wal::read_header(&LoneFile(file), at, database)? else {
            break;
        };
        at = header.previous.map_or(0, |previous| previous.number);
    }
    segments.reverse();
    Ok(segments)
}
