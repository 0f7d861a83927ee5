//! The finished segments of a database that lead from one backup to the next.
//!
//! A segment is where the log has it, or in the archive. The header of each names the one before it and
//! how many bytes of that count; what the log holds behind them is a torn tail, and no history.

use super::record::LogPlace;
use crate::lone::LoneFile;
use base::dir::{ARCHIVE_DIR, WAL_DIR};
use base::error::FileKind;
use base::fs::{Fs, ReadFile, full_path};
use base::{Corruption, Error, FileName, Identity, RelPath, Result, Tick};
use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use wal::{HeaderState, SegmentEnd, SegmentHeader};

/// A segment that takes no more commits.
#[derive(Debug)]
pub(crate) struct Finished {
    pub(crate) number: u64,
    pub(crate) previous: u64,
    /// Ticks of its first and last commit; zero if it has none.
    pub(crate) first: Tick,
    pub(crate) last: Tick,
    /// Its accepted bytes.
    pub(crate) len: u64,
    pub(crate) file: Arc<dyn ReadFile>,
    pub(crate) path: PathBuf,
}

/// A segment that stands somewhere.
struct Found {
    header: SegmentHeader,
    folder: &'static str,
    file: Arc<dyn ReadFile>,
    path: PathBuf,
}

/// The segments of a database, as far as their headers say.
struct Census {
    found: BTreeMap<u64, Found>,
    /// Those whose header does not verify, and why.
    damaged: BTreeMap<u64, Error>,
}

impl Census {
    /// The segment that names `at` as the one before it, and how many bytes of that count.
    fn follower(&self, at: u64) -> Option<(u64, u64)> {
        let follows = |end: &SegmentEnd| end.number == at;
        self.found.values().rev().find_map(|next| {
            let end = next.header.previous.filter(follows)?;
            Some((next.header.number, end.end))
        })
    }
}

/// The segments from `from` on up to the place `log`, oldest first, as far as each is followed by the
/// next. One that is there and damaged is an error; one that is not there ends them, as the archive may
/// have been full.
pub(crate) fn finished_segments(
    fs: &dyn Fs,
    identity: &Identity,
    from: u64,
    log: LogPlace,
) -> Result<Vec<Finished>> {
    // The one that grows says where the last one ends.
    let mut census = find(fs, identity, from, log.number)?;
    let mut finished = Vec::new();
    let mut at = from;
    while at < log.number {
        if let Some(error) = census.damaged.remove(&at) {
            return Err(error);
        }
        let Some(segment) = census.found.get(&at) else { break };
        let follower = census.follower(at);
        let (read, damage) = read(segment, follower.map(|(_, end)| end))?;
        // Without a follower, bytes behind the last good one may be a torn tail, unless the log is
        // known to go on from there.
        if let Some(damage) = damage.filter(|_| follower.is_some() || at == log.previous) {
            return Err(damage);
        }
        finished.push(read);
        let Some((next, _)) = follower else { break };
        at = next;
    }
    Ok(finished)
}

/// What is damaged in the archive of the database `identity`, from segment `from` on.
pub(crate) fn archive_damage(fs: &dyn Fs, identity: &Identity, from: u64) -> Result<Vec<Error>> {
    let census = find(fs, identity, from, u64::MAX)?;
    let mut damage = Vec::new();
    for (number, segment) in &census.found {
        if segment.folder == ARCHIVE_DIR {
            let end = census.follower(*number).map(|(_, end)| end);
            match read(segment, end) {
                Ok((_, found)) => damage.extend(found),
                Err(error) => damage.push(error),
            }
        }
    }
    damage.extend(census.damaged.into_values());
    Ok(damage)
}

/// All segments from `from` to `end` that this life of the database wrote.
fn find(fs: &dyn Fs, identity: &Identity, from: u64, end: u64) -> Result<Census> {
    let mut census = Census { found: BTreeMap::new(), damaged: BTreeMap::new() };
    // The log first: a segment is in the archive before it leaves the log.
    for folder in [WAL_DIR, ARCHIVE_DIR] {
        let relative = RelPath::folder(folder);
        let entries = match fs.list(&relative) {
            Ok(entries) => entries,
            Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
            Err(error) => return Err(Error::io("list", full_path(fs, &relative), error)),
        };
        for entry in entries {
            let name = FileName::parse(&format!("{folder}/{}", entry.name));
            let (Some(name), Some(FileName::Segment(number) | FileName::Archived(number))) =
                (name, name)
            else {
                continue;
            };
            if number < from || number > end {
                continue;
            }
            match open(fs, identity, folder, name)? {
                Seen::Own(segment) => {
                    census.found.insert(number, segment);
                }
                // What the log has of it may be a file that was never used; what the archive has, not.
                Seen::Damaged(error) if folder == ARCHIVE_DIR => {
                    census.damaged.insert(number, error);
                }
                Seen::Damaged(_) | Seen::Other => {}
            }
        }
    }
    Ok(census)
}

/// What a file turned out to be.
enum Seen {
    Own(Found),
    Damaged(Error),
    /// Of another life, blank, or gone.
    Other,
}

fn open(fs: &dyn Fs, identity: &Identity, folder: &'static str, name: FileName) -> Result<Seen> {
    let (FileName::Segment(number) | FileName::Archived(number)) = name else {
        return Ok(Seen::Other);
    };
    let path = full_path(fs, &name.path());
    let file = match fs.open(&name.path()) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Seen::Other),
        Err(error) => return Err(Error::io("open", path, error)),
    };
    let header = wal::read_header(&LoneFile(file.clone()), number, identity.database)?;
    let header = match header {
        HeaderState::Good(header) => header,
        HeaderState::Blank if folder == WAL_DIR => return Ok(Seen::Other),
        HeaderState::Blank => {
            return Ok(Seen::Damaged(corrupt(&path, 0, Corruption::Truncated)));
        }
        HeaderState::Bad(found) => return Ok(Seen::Damaged(corrupt(&path, 0, found))),
    };
    let is_own = header.owner.origin == identity.origin();
    Ok(if is_own { Seen::Own(Found { header, folder, file, path }) } else { Seen::Other })
}

fn corrupt(path: &Path, offset: u64, found: Corruption) -> Error {
    Error::corrupt(FileKind::Log, path, offset, found)
}

/// Reads a segment up to `end`, or to where it ends by itself. Also returns what keeps it from being
/// good up to there.
fn read(segment: &Found, end: Option<u64>) -> Result<(Finished, Option<Error>)> {
    let Found { header, file, path, .. } = segment;
    let lone = LoneFile(file.clone());
    let mut reader = wal::read_segment(&lone, header.number, header.owner.database, None)?;
    let (mut first, mut last) = (Tick::ZERO, Tick::ZERO);
    while let Some(commit) = reader.next()? {
        if end.is_some_and(|end| commit.end.offset > end) {
            break;
        }
        if first == Tick::ZERO {
            first = commit.seqno;
        }
        last = commit.seqno;
    }
    let ending = reader.ending();
    let good = ending.end.end;
    let len = end.map_or(good, |end| end.min(good));
    let finished = Finished {
        number: header.number,
        previous: header.previous.map_or(0, |previous| previous.number),
        first,
        last,
        len,
        file: file.clone(),
        path: path.clone(),
    };
    let damage = match end {
        Some(end) if good >= end => None,
        Some(_) => Some(ending.found.unwrap_or(Corruption::Truncated)),
        None => ending.found,
    };
    Ok((finished, damage.map(|found| corrupt(path, good, found))))
}
