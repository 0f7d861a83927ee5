//! What a repair takes from a damaged log: the commits before the first damage, in order.
//!
//! Commits behind the damage are counted and never taken: each may rely on one that is lost, and a
//! log that skips commits is no log of anything.

use crate::promise::headers;
use crate::reader::{Ending, Limit, SegmentReader};
use crate::scan::{LogScan, SegmentFacts, scan_log};
use crate::segment::{HEADER_LEN, HeaderState, SegmentEnd, read_header};
use base::error::Category;
use base::frame::FrameHeader;
use base::fs::{Fs, full_path};
use base::{Error, FileName, Position, Result, Tick};

/// Bytes looked at in one go.
const STEP_LEN: usize = 1 << 20;

/// The part of a log that can be replayed.
#[derive(Debug)]
pub struct LogSalvage {
    /// The commits before the first damage.
    pub scan: LogScan,
    /// What comes behind them, if anything is lost.
    pub cut: Option<LogCut>,
}

/// Where a damaged log ends for a repair.
#[derive(Debug)]
pub struct LogCut {
    /// The first byte that is not taken.
    pub at: Position,
    /// Why not.
    pub error: Error,
    /// What is lost behind it.
    pub later: LaterCommits,
}

/// Commits behind a damage that verify by themselves.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct LaterCommits {
    /// How many.
    pub count: u64,
    /// Seqno of the first; zero if there is none.
    pub first: Tick,
    /// Seqno of the last; zero if there is none.
    pub last: Tick,
}

impl LaterCommits {
    fn add(&mut self, seqno: Tick) {
        if self.count == 0 {
            self.first = seqno;
        }
        self.count += 1;
        self.last = self.last.max(seqno);
    }
}

/// Reads the log as [`scan_log`] does; where that refuses, up to the damage. Commits up to `flushed`
/// are in tables, so they are no loss.
pub fn salvage_log(
    fs: &dyn Fs,
    database: [u8; 16],
    segments: &[u64],
    first: u64,
    promise: Position,
    flushed: Tick,
) -> Result<LogSalvage> {
    match scan_log(fs, database, segments, first, promise) {
        Ok(scan) => Ok(LogSalvage { scan, cut: None }),
        Err(error) if error.category() == Category::Critical => {
            let mut segments: Vec<u64> =
                segments.iter().copied().filter(|it| *it >= first).collect();
            segments.sort_unstable();
            let scan = accept(fs, database, &segments, first)?;
            let at = scan.end().map_or(Position { segment: first, offset: 0 }, |end| Position {
                segment: end.number,
                offset: end.end,
            });
            let later = count_behind(fs, database, &segments, at, flushed)?;
            Ok(LogSalvage { scan, cut: Some(LogCut { at, error, later }) })
        }
        Err(error) => Err(error),
    }
}

/// Ends an accepted log before the commit that `refuse` is the first to refuse, if it refuses any.
pub fn cut_where(
    fs: &dyn Fs,
    scan: LogScan,
    flushed: Tick,
    mut refuse: impl FnMut(Tick, Position, &[u8]) -> Result<()>,
) -> Result<LogSalvage> {
    let mut good_end = Position::ZERO;
    let checked = scan.replay(fs, |seqno, end, payload| {
        refuse(seqno, end, payload)?;
        good_end = end;
        Ok(())
    });
    let error = match checked {
        Ok(()) => return Ok(LogSalvage { scan, cut: None }),
        Err(error) if error.category() == Category::Critical => error,
        Err(error) => return Err(error),
    };
    let numbers: Vec<u64> = scan.segments.iter().map(SegmentFacts::number).collect();
    let first = numbers.first().copied().unwrap_or(0);
    let at = match good_end {
        Position::ZERO => Position { segment: first, offset: HEADER_LEN },
        end => end,
    };
    let mut kept = LogScan::empty(scan.database());
    for &number in numbers.iter().filter(|number| **number <= at.segment) {
        let whole = scan.segments.iter().find(|facts| facts.number() == number);
        let end = whole.map_or(at.offset, |facts| facts.end.end);
        let end = if number == at.segment { at.offset } else { end };
        read_into(fs, &mut kept, number, Limit::AtMost(end))?;
    }
    let later = count_behind(fs, scan.database(), &numbers, at, flushed)?;
    Ok(LogSalvage { scan: kept, cut: Some(LogCut { at, error, later }) })
}

/// The database of segment `number`, if its header verifies.
pub fn database_of(fs: &dyn Fs, number: u64) -> Result<Option<[u8; 16]>> {
    const DATABASE_AT: u64 = 16;
    for copy in [0, HEADER_LEN - 160] {
        let file = crate::segment::open_file(fs, number)?;
        let mut database = [0; 16];
        if file.read_exact_at(&mut database, copy + DATABASE_AT).is_ok()
            && let Ok(HeaderState::Good(_)) = read_header(fs, number, database)
        {
            return Ok(Some(database));
        }
    }
    Ok(None)
}

/// Follows the chain from `first` to the first damage.
fn accept(fs: &dyn Fs, database: [u8; 16], segments: &[u64], first: u64) -> Result<LogScan> {
    let mut scan = LogScan::empty(database);
    if segments.first() != Some(&first) {
        return Ok(scan);
    }
    for (at, &number) in segments.iter().enumerate() {
        let Some(header) = good_header(fs, number, database)? else { break };
        let follows = match (header, scan.end()) {
            (_, None) => true,
            (named, Some(end)) => named == Some(end),
        };
        if !follows {
            break;
        }
        let named = match segments.get(at + 1) {
            Some(&next) => good_header(fs, next, database)?.flatten(),
            None => None,
        };
        let limit = match named.filter(|named| named.number == number) {
            Some(named) => Limit::AtMost(named.end),
            None => Limit::EndOfFile,
        };
        if !read_into(fs, &mut scan, number, limit)? {
            break;
        }
    }
    Ok(scan)
}

/// What the header of a segment names before it; the outer `None` says that the header is damaged
/// or foreign.
fn good_header(fs: &dyn Fs, number: u64, database: [u8; 16]) -> Result<Option<Option<SegmentEnd>>> {
    match read_header(fs, number, database) {
        Ok(HeaderState::Good(header)) => Ok(Some(header.previous)),
        Ok(HeaderState::Blank | HeaderState::Bad(_)) => Ok(None),
        Err(error) if error.category() == Category::Critical => Ok(None),
        Err(error) => Err(error),
    }
}

/// Adds what is good of a segment; returns whether all below `limit` is.
fn read_into(fs: &dyn Fs, scan: &mut LogScan, number: u64, limit: Limit) -> Result<bool> {
    let mut limit = limit;
    loop {
        let mut reader = SegmentReader::open(fs, number, scan.database(), limit)?;
        let (mut commits, mut first_seqno, mut behind) = (0, Tick::ZERO, HEADER_LEN);
        let broken = loop {
            match reader.next() {
                Ok(Some(commit)) => {
                    if commits == 0 {
                        first_seqno = commit.seqno;
                    }
                    commits += 1;
                    behind = commit.end.offset;
                }
                Ok(None) => break None,
                Err(Error::ReplayInvariant { .. }) => break Some(behind),
                Err(error) => return Err(error),
            }
        };
        if let Some(behind) = broken {
            // Once more, up to the commit that breaks a rule.
            limit = Limit::AtMost(behind);
            continue;
        }
        let Ending { end, found } = reader.ending();
        let header = *reader.header();
        let is_whole = found.is_none() && matches!(limit, Limit::EndOfFile)
            || matches!(limit, Limit::AtMost(limit) if limit == end.end && found.is_none());
        scan.accept(SegmentFacts { header, end, commits, first_seqno });
        return Ok(is_whole);
    }
}

/// Counts the commits behind `at` that verify by themselves and are newer than `flushed`.
fn count_behind(
    fs: &dyn Fs,
    database: [u8; 16],
    segments: &[u64],
    at: Position,
    flushed: Tick,
) -> Result<LaterCommits> {
    let mut later = LaterCommits::default();
    for &number in segments.iter().filter(|number| **number >= at.segment) {
        let opened = SegmentReader::open(fs, number, database, Limit::EndOfFile);
        let mut reader = match opened {
            Ok(reader) => reader,
            Err(error) if error.category() == Category::Critical => continue,
            Err(error) => return Err(error),
        };
        let mut from = if number == at.segment { at.offset.max(HEADER_LEN) } else { HEADER_LEN };
        while let Some(offset) = next_frame(fs, &reader, number, from)? {
            reader.start_at(offset);
            while let Ok(Some(commit)) = reader.next() {
                if commit.seqno > flushed {
                    later.add(commit.seqno);
                }
            }
            from = reader.ending().end.end.max(offset + 1);
            reader = SegmentReader::open(fs, number, database, Limit::EndOfFile)?;
        }
    }
    Ok(later)
}

/// Where the first frame at or behind `from` starts whose header verifies.
fn next_frame(fs: &dyn Fs, reader: &SegmentReader, number: u64, from: u64) -> Result<Option<u64>> {
    let path = full_path(fs, &FileName::Segment(number).path());
    let io = |e| Error::io("read", &path, e);
    let len = reader.file().len().map_err(io)?;
    let mut bytes = Vec::new();
    let mut start = from;
    while start < len {
        let rest = usize::try_from(len - start).unwrap_or(usize::MAX);
        bytes.resize((STEP_LEN + base::frame::HEADER_LEN - 1).min(rest), 0);
        reader.file().read_exact_at(&mut bytes, start).map_err(io)?;
        let found = headers(reader.key(), &bytes, start).next();
        if let Some(FrameHeader { offset, .. }) = found {
            return Ok(Some(offset));
        }
        start += STEP_LEN as u64;
    }
    Ok(None)
}
