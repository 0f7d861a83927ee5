//! The whole log: validated before anything is replayed.
//!
//! Segments form a chain by what each header says of the one before. The scan follows the chain
//! back from the newest readable header to the first needed segment, then reads it front to back.
//! Where a segment is shorter than its follower says, where a byte is bad, or where the log ends,
//! the evidence is gathered and judged ([`crate::judge`]).
//!
//! Nothing is written here. What is torn, and what is left over, is reported for quarantine.

use crate::promise::highest_promise;
use crate::reader::{Ending, Limit, SegmentReader};
use crate::segment::{HEADER_LEN, HeaderState, SegmentEnd, SegmentHeader, open_file, read_header};
use crate::verdict::{Evidence, Later, Verdict, judge};
use base::error::FileKind;
use base::fs::{Fs, full_path};
use base::{Corruption, Error, FileName, Position, Result, Tick};
use std::collections::BTreeMap;
use std::path::PathBuf;

/// An accepted segment, or the accepted part of the last one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SegmentFacts {
    /// Its header.
    pub header: SegmentHeader,
    /// Where its accepted part ends.
    pub end: SegmentEnd,
    /// How many commits that part has.
    pub commits: u64,
    /// Seqno of the first of them; zero if there is none.
    pub first_seqno: Tick,
}

impl SegmentFacts {
    /// Its number.
    pub fn number(&self) -> u64 {
        self.header.number
    }
}

/// What a crash cut off.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TornTail {
    /// Where the accepted part ends: all behind it, in this segment and in later ones, is cut off.
    pub at: Position,
    /// What is wrong there; `None` if the segment only ends earlier than the next one says.
    pub found: Option<Corruption>,
    /// The later segments, in order.
    pub later: Vec<u64>,
}

/// A validated log.
#[derive(Clone, Debug)]
pub struct LogScan {
    database: [u8; 16],
    /// The accepted segments, oldest first.
    pub segments: Vec<SegmentFacts>,
    /// What a crash cut off, if it did.
    pub torn: Option<TornTail>,
    /// Segments that are no part of the log: never used, or left by a recovery that died.
    pub leftovers: Vec<u64>,
    /// The seqno of the last accepted commit; zero if there is none.
    pub last_seqno: Tick,
    /// Accepted bytes of all segments.
    pub bytes: u64,
}

impl LogScan {
    /// Of a log without segments.
    pub(crate) fn empty(database: [u8; 16]) -> LogScan {
        LogScan {
            database,
            segments: Vec::new(),
            torn: None,
            leftovers: Vec::new(),
            last_seqno: Tick::ZERO,
            bytes: 0,
        }
    }

    /// Whose log it is.
    pub(crate) fn database(&self) -> [u8; 16] {
        self.database
    }

    /// Adds the next segment.
    pub(crate) fn accept(&mut self, facts: SegmentFacts) {
        self.last_seqno = self.last_seqno.max(facts.end.last_seqno);
        self.bytes += facts.end.end;
        self.segments.push(facts);
    }

    /// Where the log ends: what the next segment follows.
    pub fn end(&self) -> Option<SegmentEnd> {
        self.segments.last().map(|facts| facts.end)
    }

    /// How many commits were accepted.
    pub fn commits(&self) -> u64 {
        self.segments.iter().map(|facts| facts.commits).sum()
    }

    /// The accepted segments of a generation newer than `generation`, the root's. Without commits
    /// they were left by a recovery that died; see [`newer_commits`] for those with.
    pub fn abandoned(&self, generation: u64) -> impl Iterator<Item = u64> {
        let newer = move |facts: &&SegmentFacts| facts.header.owner.generation > generation;
        self.segments.iter().filter(newer).map(SegmentFacts::number)
    }

    /// Hands every accepted commit to `sink` (seqno, end, payload), in order.
    pub fn replay(
        &self,
        fs: &dyn Fs,
        mut sink: impl FnMut(Tick, Position, &[u8]) -> Result<()>,
    ) -> Result<()> {
        for facts in &self.segments {
            let limit = Limit::AtMost(facts.end.end);
            let mut reader = SegmentReader::open(fs, facts.number(), self.database, limit)?;
            while let Some(commit) = reader.next()? {
                sink(commit.seqno, commit.end, commit.payload)?;
            }
            let Ending { end, found } = reader.ending();
            if end != facts.end {
                // It was whole a moment ago.
                let found = found.unwrap_or(Corruption::MissingPromised);
                return Err(corrupt(fs, facts.number(), end.end, found));
            }
        }
        Ok(())
    }
}

/// Validates the log of `database` from segment `first` on. `segments` are the numbers found in the
/// directory, in any order; `promise` is what the manifest says was secured.
pub fn scan_log(
    fs: &dyn Fs,
    database: [u8; 16],
    segments: &[u64],
    first: u64,
    promise: Position,
) -> Result<LogScan> {
    let mut headers = BTreeMap::new();
    for number in segments.iter().copied().filter(|number| *number >= first) {
        headers.insert(number, read_header(fs, number, database)?);
    }
    let promised = Some(promise.segment).filter(|segment| *segment >= first);
    if let Some(missing) =
        [Some(first), promised].into_iter().flatten().find(|it| !headers.contains_key(it))
    {
        return Err(Error::Missing { file: FileKind::Log, path: path_of(fs, missing) });
    }
    let chain = Chain { fs, database, headers, first, promise };
    let numbers = chain.numbers()?;
    chain.read(&numbers)
}

/// The first segment among `segments` of a generation newer than `generation` that holds commits,
/// and its generation: the root that knew it was put back to an older one.
pub fn newer_commits(
    fs: &dyn Fs,
    database: [u8; 16],
    segments: &[u64],
    generation: u64,
) -> Result<Option<(u64, u64)>> {
    for &number in segments {
        let HeaderState::Good(header) = read_header(fs, number, database)? else { continue };
        let newer = header.owner.generation;
        if newer > generation && has_commits(fs, database, number)? {
            return Ok(Some((number, newer)));
        }
    }
    Ok(None)
}

fn has_commits(fs: &dyn Fs, database: [u8; 16], number: u64) -> Result<bool> {
    let mut reader = SegmentReader::open(fs, number, database, Limit::EndOfFile)?;
    Ok(reader.next()?.is_some())
}

fn path_of(fs: &dyn Fs, number: u64) -> PathBuf {
    full_path(fs, &FileName::Segment(number).path())
}

fn corrupt(fs: &dyn Fs, number: u64, offset: u64, found: Corruption) -> Error {
    Error::corrupt(FileKind::Log, path_of(fs, number), offset, found)
}

/// The segments of a directory, by their headers.
struct Chain<'a> {
    fs: &'a dyn Fs,
    database: [u8; 16],
    headers: BTreeMap<u64, HeaderState>,
    first: u64,
    promise: Position,
}

impl Chain<'_> {
    /// The numbers of the segments that are the log, oldest first: all from the newest readable
    /// header back to the first needed segment.
    fn numbers(&self) -> Result<Vec<u64>> {
        for (&newest, header) in self.headers.iter().rev() {
            if !matches!(header, HeaderState::Good(_)) {
                continue;
            }
            match self.back_from(newest)? {
                Ok(numbers) => return Ok(numbers),
                // Left by a recovery that died, before anything was committed to it.
                Err(Unlinked { at })
                    if at == newest && !has_commits(self.fs, self.database, newest)? => {}
                Err(Unlinked { at }) => {
                    return Err(corrupt(self.fs, at, 0, Corruption::BrokenChain));
                }
            }
        }
        Ok(vec![self.first])
    }

    fn back_from(&self, newest: u64) -> Result<Result<Vec<u64>, Unlinked>> {
        let mut numbers = vec![newest];
        let mut current = newest;
        while current > self.first {
            let previous = match self.good(current) {
                Some(header) => header.previous.map_or(0, |previous| previous.number),
                // A damaged header can not say; the segment was named by the one after it.
                None => self.headers.range(..current).next_back().map_or(0, |(number, _)| *number),
            };
            if previous < self.first || previous >= current {
                return Ok(Err(Unlinked { at: current }));
            }
            if !self.headers.contains_key(&previous) {
                let path = path_of(self.fs, previous);
                return Err(Error::Missing { file: FileKind::Log, path });
            }
            numbers.push(previous);
            current = previous;
        }
        numbers.reverse();
        Ok(Ok(numbers))
    }

    fn good(&self, number: u64) -> Option<&SegmentHeader> {
        match self.headers.get(&number) {
            Some(HeaderState::Good(header)) => Some(header),
            _ => None,
        }
    }

    /// Reads the segments `numbers` up to where the log ends, and judges that end.
    fn read(&self, numbers: &[u64]) -> Result<LogScan> {
        let mut scan = LogScan::empty(self.database);
        let mut followers = numbers.iter().skip(1);
        for &number in numbers {
            let follower = followers.next().copied();
            let evidence = match self.good(number) {
                Some(_) => self.read_segment(&mut scan, number, follower)?,
                None => Some(self.headerless(number, follower)?),
            };
            if let Some(evidence) = evidence
                && self.settle(&mut scan, &evidence)?
            {
                return Ok(scan);
            }
        }
        self.settle_rest(&mut scan, numbers)?;
        Ok(scan)
    }

    /// Adds what is good of segment `number`. Returns evidence unless the log simply goes on.
    fn read_segment(
        &self,
        scan: &mut LogScan,
        number: u64,
        follower: Option<u64>,
    ) -> Result<Option<Evidence>> {
        let named = follower.and_then(|follower| self.good(follower)?.previous);
        let limit = named.map_or(Limit::EndOfFile, |named| Limit::AtMost(named.end));
        let mut reader = SegmentReader::open(self.fs, number, self.database, limit)?;
        let (mut commits, mut first_seqno) = (0, Tick::ZERO);
        while let Some(commit) = reader.next()? {
            if commits == 0 {
                first_seqno = commit.seqno;
            }
            commits += 1;
            scan.last_seqno = commit.seqno;
        }
        let Ending { end, found } = reader.ending();
        scan.segments.push(SegmentFacts { header: *reader.header(), end, commits, first_seqno });
        scan.bytes += end.end;
        if let Some(named) = named.filter(|named| found.is_none() && named.end == end.end) {
            let same = named.hash == end.hash;
            let broken = || corrupt(self.fs, number, end.end, Corruption::BrokenChain);
            return if same { Ok(None) } else { Err(broken()) };
        }
        if found.is_none() && named.is_none() {
            return Ok(None); // Judged at the follower, whose header is damaged, or at the end.
        }
        let mut promise = self.promise_behind(number)?;
        if found.is_some() {
            let io = |e| Error::io("read", path_of(self.fs, number), e);
            let here = highest_promise(reader.file(), reader.key(), end.end).map_err(io)?;
            promise = promise.max(here);
        }
        let at = Position { segment: number, offset: end.end };
        let later = if follower.is_some() { Later::Segment } else { Later::Nothing };
        Ok(Some(Evidence { at, found, later, promise }))
    }

    /// The evidence where a segment's header is damaged.
    fn headerless(&self, number: u64, follower: Option<u64>) -> Result<Evidence> {
        let found = match self.headers.get(&number) {
            Some(HeaderState::Bad(found)) => *found,
            _ => Corruption::Truncated,
        };
        let at = Position { segment: number, offset: 0 };
        let later = if follower.is_some() { Later::Segment } else { Later::Nothing };
        Ok(Evidence { at, found: Some(found), later, promise: self.promise_behind(number)? })
    }

    /// The highest promise of the manifest and of all segments later than `number`.
    fn promise_behind(&self, number: u64) -> Result<Position> {
        let mut promise = self.promise;
        for (&later, header) in self.headers.range(number + 1..) {
            let HeaderState::Good(header) = header else { continue };
            let file = open_file(self.fs, later)?;
            let found = highest_promise(file.as_ref(), &header.key(), HEADER_LEN)
                .map_err(|e| Error::io("read", path_of(self.fs, later), e))?;
            promise = promise.max(found);
        }
        Ok(promise)
    }

    /// Judges `evidence`. Returns whether the log ends there, torn.
    fn settle(&self, scan: &mut LogScan, evidence: &Evidence) -> Result<bool> {
        let at = match judge(evidence) {
            Verdict::Clean => return Ok(false),
            Verdict::Torn { at } => at,
            Verdict::Corrupt { at, found } => {
                return Err(corrupt(self.fs, at.segment, at.offset, found));
            }
        };
        let later = self.headers.range(at.segment + 1..).map(|(number, _)| *number).collect();
        scan.torn = Some(TornTail { at, found: evidence.found, later });
        self.note_leftovers(scan, at.segment);
        Ok(true)
    }

    /// Judges what is behind the last segment of the chain: segments whose headers do not verify,
    /// then the end of the log itself.
    fn settle_rest(&self, scan: &mut LogScan, numbers: &[u64]) -> Result<()> {
        let last = numbers.last().copied().unwrap_or(self.first);
        for (&number, header) in self.headers.range(last + 1..) {
            if matches!(header, HeaderState::Good(_)) {
                continue; // Unlinked: a leftover.
            }
            let evidence = self.headerless(number, None)?;
            let unused =
                *header == HeaderState::Blank && matches!(judge(&evidence), Verdict::Torn { .. });
            if !unused && self.settle(scan, &evidence)? {
                return Ok(());
            }
        }
        if let Some(end) = scan.end() {
            let at = Position { segment: end.number, offset: end.end };
            let later = Later::Nothing;
            self.settle(scan, &Evidence { at, found: None, later, promise: self.promise })?;
        }
        self.note_leftovers(scan, u64::MAX);
        Ok(())
    }

    /// Notes the segments before `end` that are no part of the log.
    fn note_leftovers(&self, scan: &mut LogScan, end: u64) {
        let accepted: Vec<u64> = scan.segments.iter().map(SegmentFacts::number).collect();
        let unused = self.headers.range(..end).map(|(number, _)| *number);
        scan.leftovers = unused.filter(|number| !accepted.contains(number)).collect();
    }
}

/// The chain back from a segment does not reach the first one: `at` names nothing before it.
struct Unlinked {
    at: u64,
}
