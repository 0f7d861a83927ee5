//! Reading one segment, from its front to where it stops making sense.
//!
//! What is handed out has been verified before: a commit in a frame by the frame's Blake3, a record
//! of a closed run by the run's Blake3, a record of an unterminated run by its tag and those before
//! it. The chain of hashes is followed from the header on.
//!
//! A reader stops at its limit, at a clean end (nothing but zeros), or at the first bad byte. It
//! then says where and what; whether that is a torn tail or corruption is judged elsewhere.

use crate::promise::only_zeros;
use crate::run::{CLOSE_LEN, RUN_LEN_MAX, Record, Tagger, check_run};
use crate::segment::{HEADER_LEN, HeaderState, SegmentEnd, SegmentHeader, header_of, open_file};
use crate::window::Window;
use base::error::FileKind;
use base::frame::{self, FrameHeader, FrameKey, FrameKind, Hash};
use base::fs::{Access, Fs, full_path};
use base::{Corruption, Defect, Error, FileName, Position, Result, Tick, planted};
use std::path::PathBuf;

/// One commit, as it was appended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CommitRef<'a> {
    /// Its seqno.
    pub seqno: Tick,
    /// Where it ends.
    pub end: Position,
    /// What the caller of `append` gave.
    pub payload: &'a [u8],
}

/// Where and why a reader stopped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ending {
    /// The end of what was accepted, as the next segment would name it.
    pub end: SegmentEnd,
    /// What is wrong there; `None` at a clean end or at the reader's limit.
    pub found: Option<Corruption>,
}

/// Reads the commits of one segment.
pub struct SegmentReader {
    header: SegmentHeader,
    key: FrameKey,
    tagger: Tagger,
    path: PathBuf,
    window: Window,
    /// The start of the next frame.
    at: u64,
    /// What that frame names as previous; unknown after a start in the middle.
    hash: Option<Hash>,
    run: Option<VerifiedRun>,
    last_seqno: Tick,
    stopped: Option<Stop>,
}

/// Why nothing more can be accepted.
#[derive(Clone, Copy, Debug)]
enum Stop {
    /// Only zeros follow.
    Clean,
    /// What follows does not verify.
    Bad(Corruption),
}

/// A run, or the good part of one, that is being handed out.
#[derive(Clone, Copy, Debug)]
struct VerifiedRun {
    /// The next record.
    at: u64,
    /// Behind the last good record.
    records_end: u64,
    /// Behind the run, its Close included.
    end: u64,
    /// What follows names this as previous.
    hash: Hash,
    /// Why reading stops behind the run, if it does.
    stop: Option<Stop>,
}

/// Where in the window a commit's payload stands.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Found {
    seqno: Tick,
    at: u64,
    len: usize,
    /// Behind the commit.
    pub(crate) end: u64,
}

/// Opens segment `number` of `database` for reading, from its first frame or from the frame that
/// starts at `from`.
///
/// A header that does not verify is an error here; [`crate::scan_log`] judges it.
pub fn read_segment(
    fs: &dyn Fs,
    number: u64,
    database: [u8; 16],
    from: Option<u64>,
) -> Result<SegmentReader> {
    let mut reader = SegmentReader::open(fs, number, database, Limit::EndOfFile)?;
    if let Some(from) = from {
        reader.start_at(from);
    }
    Ok(reader)
}

/// How far a reader looks.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Limit {
    /// To the end of the file, as long as it is now.
    EndOfFile,
    /// To this byte, or to the end of the file if that is earlier.
    AtMost(u64),
    /// To this byte; the file is known to be as long.
    Exactly(u64),
}

impl SegmentReader {
    /// Opens segment `number`; its bytes below `limit` do not change any more.
    pub(crate) fn open(
        fs: &dyn Fs,
        number: u64,
        database: [u8; 16],
        limit: Limit,
    ) -> Result<SegmentReader> {
        let path = full_path(fs, &FileName::Segment(number).path());
        let file = open_file(fs, number)?;
        let bad = |found| Error::corrupt(FileKind::Log, &path, 0, found);
        let header = match header_of(fs, file.as_ref(), number, database)? {
            HeaderState::Good(header) => header,
            HeaderState::Blank => return Err(bad(Corruption::Truncated)),
            HeaderState::Bad(found) => return Err(bad(found)),
        };
        file.advise(Access::Sequential);
        let file_len = || file.len().map_err(|e| Error::io("read", &path, e));
        let limit = match limit {
            Limit::EndOfFile => file_len()?,
            Limit::AtMost(limit) => file_len()?.min(limit),
            Limit::Exactly(limit) => limit,
        };
        let key = header.key();
        Ok(SegmentReader {
            tagger: Tagger::new(&key),
            key,
            path,
            window: Window::new(file, limit),
            at: HEADER_LEN,
            hash: Some(header.digest),
            run: None,
            last_seqno: header.seqno_bound(),
            stopped: None,
            header,
        })
    }

    /// Starts at the frame at `offset` instead, whose predecessor is then not checked.
    pub(crate) fn start_at(&mut self, offset: u64) {
        (self.at, self.hash, self.run, self.stopped) = (offset, None, None, None);
    }

    /// Lets the reader look further: bytes below `limit` do not change any more.
    pub(crate) fn raise_limit(&mut self, limit: u64) {
        self.window.raise_limit(limit);
    }

    /// The segment's header.
    pub fn header(&self) -> &SegmentHeader {
        &self.header
    }

    /// The end of what was accepted, if the chain was followed up to there.
    pub(crate) fn chained_end(&self) -> Option<SegmentEnd> {
        self.hash.is_some().then(|| self.ending().end)
    }

    /// The key of the segment's frames.
    pub(crate) fn key(&self) -> &FrameKey {
        &self.key
    }

    /// The file itself.
    pub(crate) fn file(&self) -> &dyn base::fs::ReadFile {
        self.window.file().as_ref()
    }

    /// Where reading has come to: behind the last commit returned, or behind what follows it.
    pub fn position(&self) -> Position {
        let offset = self.run.map_or(self.at, |run| run.at);
        Position { segment: self.header.number, offset }
    }

    /// The next commit, or `None` where the reader stops; [`SegmentReader::ending`] then says why.
    /// An error is the operating system's, or a broken rule of the log.
    #[expect(clippy::should_implement_trait, reason = "what is returned borrows from the reader")]
    pub fn next(&mut self) -> Result<Option<CommitRef<'_>>> {
        match self.step()? {
            Some(found) => Ok(Some(self.commit(&found))),
            None => Ok(None),
        }
    }

    /// Moves to the next commit.
    pub(crate) fn step(&mut self) -> Result<Option<Found>> {
        let Some(found) = self.find()? else { return Ok(None) };
        if found.seqno <= self.last_seqno {
            let (path, offset) = (self.path.clone(), found.at);
            let rule = "seqnos of commits increase";
            return Err(Error::ReplayInvariant { path, offset, rule });
        }
        self.last_seqno = found.seqno;
        Ok(Some(found))
    }

    /// The commit that the last step found.
    pub(crate) fn commit(&self, found: &Found) -> CommitRef<'_> {
        let payload = self.window.visible(found.at).get(..found.len).unwrap_or_default();
        let end = Position { segment: self.header.number, offset: found.end };
        CommitRef { seqno: found.seqno, end, payload }
    }

    /// Where and why the reader stopped. Meaningful once [`SegmentReader::next`] returned `None`.
    pub fn ending(&self) -> Ending {
        let (number, hash) = (self.header.number, self.hash.unwrap_or_default());
        let end = SegmentEnd { number, end: self.at, hash, last_seqno: self.last_seqno };
        let found = match self.stopped {
            Some(Stop::Bad(found)) => Some(found),
            Some(Stop::Clean) | None => None,
        };
        Ending { end, found }
    }

    fn find(&mut self) -> Result<Option<Found>> {
        loop {
            if let Some(run) = self.run {
                match self.next_record(run) {
                    Some(found) => return Ok(Some(found)),
                    None => self.leave_run(run),
                }
            }
            if self.stopped.is_some() || self.at >= self.window.limit() {
                return Ok(None);
            }
            if let Some(found) = self.read_frame()? {
                return Ok(Some(found));
            }
        }
    }

    /// Reads the frame at `at`. Returns a commit if it is one.
    fn read_frame(&mut self) -> Result<Option<Found>> {
        self.fetch(frame::HEADER_LEN)?;
        let bytes = self.window.visible(self.at);
        let header = match frame::decode_header(&self.key, bytes, self.at) {
            Ok(header) => header,
            Err(found) => {
                self.stopped = Some(self.clean_or(found, self.at)?);
                return Ok(None);
            }
        };
        let follows =
            self.hash.is_none_or(|hash| hash == header.previous) || planted(Defect::SkipChain);
        match header.kind {
            _ if !follows => Ok(self.stop(Corruption::BrokenChain)),
            FrameKind::Run => self.enter_run(&header).map(|()| None),
            FrameKind::Commit | FrameKind::Seal => self.take_frame(&header),
            FrameKind::Close | FrameKind::Edit => Ok(self.stop(Corruption::UnknownKind)),
        }
    }

    fn take_frame(&mut self, header: &FrameHeader) -> Result<Option<Found>> {
        let frame_len = header.frame_len();
        if frame_len > self.window.limit().saturating_sub(self.at) {
            return Ok(self.stop(Corruption::Truncated));
        }
        self.fetch(frame_len as usize)?;
        let frame = match frame::decode(&self.key, self.window.visible(self.at), self.at) {
            Ok(frame) => frame,
            Err(found) => return Ok(self.stop(found)),
        };
        let (at, len) = (self.at + frame::HEADER_LEN as u64, frame.payload.len());
        self.hash = Some(frame.hash);
        self.at += frame_len;
        let is_commit = header.kind == FrameKind::Commit;
        Ok(is_commit.then_some(Found { seqno: header.last_seqno, at, len, end: self.at }))
    }

    /// Verifies the run at `at`, as far as it is good, before any of its records is returned.
    fn enter_run(&mut self, header: &FrameHeader) -> Result<()> {
        self.fetch(RUN_LEN_MAX + CLOSE_LEN)?;
        let bytes = self.window.visible(self.at);
        let bytes = bytes.get(..RUN_LEN_MAX + CLOSE_LEN).unwrap_or(bytes);
        let opening = match frame::decode(&self.key, bytes, self.at) {
            Ok(frame) => frame.hash,
            Err(found) => {
                self.stop(found);
                return Ok(());
            }
        };
        let start = self.at;
        let check = check_run(&self.key, self.tagger, bytes, start, &opening);
        let records_end = start + check.records_len as u64;
        let stop = match check.open {
            None => None,
            Some(_) if records_end >= self.window.limit() => None,
            Some(found) => Some(self.clean_or(found, records_end)?),
        };
        self.run = Some(VerifiedRun {
            at: (start + header.frame_len()).min(records_end),
            records_end,
            end: start + check.len as u64,
            hash: if check.len == 0 { header.previous } else { check.hash },
            stop,
        });
        Ok(())
    }

    fn next_record(&mut self, run: VerifiedRun) -> Option<Found> {
        if run.at >= run.records_end {
            return None;
        }
        let record = Record::decode(self.window.visible(run.at)).ok()?;
        let end = run.at + record.len() as u64;
        let len = record.payload.len();
        let found = Found { seqno: record.seqno, at: end - len as u64, len, end };
        self.run = Some(VerifiedRun { at: end, ..run });
        Some(found)
    }

    fn leave_run(&mut self, run: VerifiedRun) {
        self.run = None;
        (self.at, self.hash, self.stopped) = (run.end, Some(run.hash), run.stop);
    }

    fn stop(&mut self, found: Corruption) -> Option<Found> {
        self.stopped = Some(Stop::Bad(found));
        None
    }

    /// A clean end if only zeros stand in the file from `at` on, else `found`.
    fn clean_or(&self, found: Corruption, at: u64) -> Result<Stop> {
        let clean = only_zeros(self.file(), at).map_err(|e| Error::io("read", &self.path, e))?;
        Ok(if clean { Stop::Clean } else { Stop::Bad(found) })
    }

    fn fetch(&mut self, len: usize) -> Result<()> {
        self.window.fetch(self.at, len).map_err(|e| Error::io("read", &self.path, e))
    }
}

impl std::fmt::Debug for SegmentReader {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "SegmentReader {{ at: {} }}", self.position())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::run::Closing;
    use crate::segment::SegmentOwner;
    use crate::{Appender, LogOptions};
    use base::Origin;
    use base::dir::{RelPath, WAL_DIR};
    use base::fs::SimFs;
    use base::rng::SeededRng;
    use std::sync::Arc;

    /// A run whose Close verifies but does not match is bad from its start, and the chain ends with
    /// the frame before it.
    #[test]
    fn a_spoiled_run_ends_the_log_where_it_starts() {
        let disk = SimFs::new(1);
        disk.create_dir(&RelPath::folder(WAL_DIR)).unwrap();
        let owner = SegmentOwner { database: [1; 16], origin: Origin::default(), generation: 1 };
        let (fs, options) = (Arc::new(disk.clone()), LogOptions { segment_bytes: 8192 });
        let mut log = Appender::create(fs, &SeededRng::new(1), owner, 1, None, options).unwrap();
        log.append(Tick::from_ms(1), b"before").unwrap();
        log.close_run().unwrap();
        let start = log.end().offset;
        log.append(Tick::from_ms(2), b"spoiled").unwrap();
        let close = log.end().offset;
        log.close_run().unwrap();
        let open = |limit| SegmentReader::open(&disk, 1, [1; 16], limit).unwrap();

        let path = FileName::Segment(1).path();
        let mut bytes = disk.read_file(&path).unwrap();
        let key = open(Limit::EndOfFile).key;
        let header = frame::decode_header(&key, &bytes[close as usize..], close).unwrap();
        let mut forged = Vec::new();
        let closing = Closing { digest: [7; 16], records: 1, run_len: (close - start) as u32 };
        frame::encode(&mut forged, &key, &header, &closing.encode());
        bytes[close as usize..][..forged.len()].copy_from_slice(&forged);
        disk.write_file(&path, bytes).unwrap();

        let mut reader = open(Limit::EndOfFile);
        assert_eq!(reader.next().unwrap().unwrap().payload, b"before");
        assert_eq!(reader.next().unwrap(), None);
        let ending = reader.ending();
        assert_eq!((ending.end.end, ending.found), (start, Some(Corruption::DigestMismatch)));
        let mut before = open(Limit::AtMost(start));
        while before.next().unwrap().is_some() {}
        assert_eq!(before.ending(), Ending { found: None, ..ending });
    }
}
