//! The finished segments of a database that lead from one backup to the next.
//!
//! A segment is where the log has it, or in the archive. The header of each names the one before it and
//! how many bytes of that count; what the log holds behind them is a torn tail, and no history.

use super::record::LogPlace;
use crate::lone::LoneFile;
use base::dir::{ARCHIVE_DIR, WAL_DIR};
use base::fs::{Fs, ReadFile, full_path};
use base::{Error, FileName, Identity, RelPath, Result, Tick};
use std::collections::BTreeMap;
use std::io;
use std::path::PathBuf;
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
    file: Arc<dyn ReadFile>,
    path: PathBuf,
}

/// The segments from `from` on up to the place `log`, oldest first, as far as each is followed by the
/// next.
pub(crate) fn finished_segments(
    fs: &dyn Fs,
    identity: &Identity,
    from: u64,
    log: LogPlace,
) -> Result<Vec<Finished>> {
    let found = find(fs, identity, from, log.number)?;
    let mut finished = Vec::new();
    let mut at = from;
    while let Some(segment) = found.get(&at) {
        let follows = |end: &SegmentEnd| end.number == at;
        let follower = found.values().rev().find_map(|next| {
            let end = next.header.previous.filter(follows)?;
            Some((next.header.number, end.end))
        });
        let (read, is_whole) = read(segment, follower.map(|(_, end)| end))?;
        finished.push(read);
        match follower {
            Some((next, _)) if is_whole => at = next,
            _ => break,
        }
    }
    Ok(finished)
}

/// All segments from `from` to before `end` that this life of the database wrote.
fn find(fs: &dyn Fs, identity: &Identity, from: u64, end: u64) -> Result<BTreeMap<u64, Found>> {
    let mut found = BTreeMap::new();
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
            if number < from || number >= end {
                continue;
            }
            if let Some(segment) = open(fs, identity, name, number)? {
                found.insert(number, segment);
            }
        }
    }
    Ok(found)
}

fn open(fs: &dyn Fs, identity: &Identity, name: FileName, number: u64) -> Result<Option<Found>> {
    let path = full_path(fs, &name.path());
    let file = match fs.open(&name.path()) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(Error::io("open", path, error)),
    };
    let header = wal::read_header(&LoneFile(file.clone()), number, identity.database)?;
    let HeaderState::Good(header) = header else { return Ok(None) };
    let is_own = header.owner.origin == identity.origin();
    Ok(is_own.then_some(Found { header, file, path }))
}

/// Reads a segment up to `end`, or to where it ends by itself. Also returns whether it is good up to
/// there.
fn read(segment: &Found, end: Option<u64>) -> Result<(Finished, bool)> {
    let Found { header, file, path } = segment;
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
    let good = reader.ending().end.end;
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
    Ok((finished, end.is_none_or(|end| good >= end)))
}
