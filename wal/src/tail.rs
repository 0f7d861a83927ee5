//! The change feed's reader: durable commits, as the log grows.
//!
//! A tail reads across segments, from any position at which a commit ended, up to a durable one.
//! Durable bytes never change, so it needs no lock; the caller keeps segments it still needs from
//! being released.

use crate::promise::headers;
use crate::reader::{CommitRef, Ending, Found, Limit, SegmentReader};
use crate::run::{CLOSE_LEN, RUN_LEN_MAX};
use crate::segment::{HEADER_LEN, HeaderState, SegmentEnd, read_header};
use base::error::FileKind;
use base::frame::{FrameKind, HEADER_LEN as FRAME_HEADER_LEN};
use base::fs::{Fs, full_path};
use base::{Corruption, Error, FileName, Position, Result};
use std::sync::Arc;

/// Reads durable commits in order.
#[derive(Debug)]
pub struct TailReader {
    fs: Arc<dyn Fs>,
    database: [u8; 16],
    /// Behind the last commit returned.
    position: Position,
    reader: Option<SegmentReader>,
    /// The segment after the reader's, and what it says of that.
    follower: Option<(u64, SegmentEnd)>,
}

/// What a look at the reader's segment gave.
enum Step {
    Commit(Found),
    /// The segment ends; the next one was entered.
    Entered,
    /// Everything below the durable position was returned.
    CaughtUp,
}

impl TailReader {
    /// A reader of the commits behind `from`: where a commit ended, or the front of a segment.
    pub fn new(fs: Arc<dyn Fs>, database: [u8; 16], from: Position) -> TailReader {
        TailReader { fs, database, position: from, reader: None, follower: None }
    }

    /// Behind the last commit returned: where another tail would go on.
    pub fn position(&self) -> Position {
        self.position
    }

    /// Goes on behind `position`, where a commit ended, if that is later.
    pub fn skip_to(&mut self, position: Position) {
        if position > self.position {
            (self.position, self.reader, self.follower) = (position, None, None);
        }
    }

    /// The next commit below `durable`, or `None` if all were returned; ask again with a later
    /// position. `durable` must be what a sync has secured ([`crate::Appender::durable`]).
    ///
    /// A segment that is gone is [`Error::Missing`]. After an error the reader is spent.
    pub fn next(&mut self, durable: Position) -> Result<Option<CommitRef<'_>>> {
        while self.position < durable {
            match self.step(durable)? {
                Step::Commit(found) => {
                    self.position.offset = found.end;
                    return Ok(self.reader.as_ref().map(|reader| reader.commit(&found)));
                }
                Step::Entered => {}
                Step::CaughtUp => break,
            }
        }
        Ok(None)
    }

    fn step(&mut self, durable: Position) -> Result<Step> {
        let current = self.position.segment;
        if self.follower.is_none() && durable.segment > current {
            self.follower = Some(self.find_follower(current, durable.segment)?);
        }
        let limit = self.follower.map_or(durable.offset, |(_, end)| end.end);
        let mut reader = match self.reader.take() {
            Some(reader) => reader,
            None => self.open(limit)?,
        };
        reader.raise_limit(limit);
        while let Some(found) = reader.step()? {
            if found.end > self.position.offset {
                self.reader = Some(reader);
                return Ok(Step::Commit(found));
            }
        }
        self.refuse_gap(&reader, limit)?;
        let Some((next, named)) = self.follower.take() else {
            self.reader = Some(reader);
            return Ok(Step::CaughtUp);
        };
        if reader.chained_end().is_some_and(|end| (end.end, end.hash) != (named.end, named.hash)) {
            return Err(self.corrupt(named.end, Corruption::BrokenChain));
        }
        self.position = Position { segment: next, offset: 0 };
        Ok(Step::Entered)
    }

    /// The first segment behind `current` that follows it, and what it says of it.
    fn find_follower(&self, current: u64, last: u64) -> Result<(u64, SegmentEnd)> {
        for number in current + 1..=last {
            let header = match read_header(self.fs.as_ref(), number, self.database) {
                Ok(HeaderState::Good(header)) => header,
                Ok(HeaderState::Blank | HeaderState::Bad(_)) | Err(Error::Missing { .. }) => {
                    continue;
                }
                Err(error) => return Err(error),
            };
            if let Some(named) = header.previous.filter(|named| named.number == current) {
                return Ok((number, named));
            }
        }
        let path = full_path(self.fs.as_ref(), &FileName::Segment(current + 1).path());
        Err(Error::Missing { file: FileKind::Log, path })
    }

    /// Opens the segment of `position`, near it if that is possible.
    fn open(&self, limit: u64) -> Result<SegmentReader> {
        let Position { segment, offset } = self.position;
        let limited = Limit::Exactly(limit);
        let mut reader = SegmentReader::open(self.fs.as_ref(), segment, self.database, limited)?;
        if offset > HEADER_LEN && offset <= limit {
            // A frame starts at `offset`, or a run that is no longer than this stands around it.
            let from = offset.saturating_sub((RUN_LEN_MAX + CLOSE_LEN) as u64).max(HEADER_LEN);
            let to = limit.min(offset + FRAME_HEADER_LEN as u64);
            let mut bytes = vec![0; usize::try_from(to.saturating_sub(from)).unwrap_or(0)];
            let path = || full_path(self.fs.as_ref(), &FileName::Segment(segment).path());
            let read = reader.file().read_exact_at(&mut bytes, from);
            read.map_err(|e| Error::io("read", path(), e))?;
            let start = headers(reader.key(), &bytes, from)
                .rfind(|header| header.kind != FrameKind::Close && header.offset <= offset)
                .map(|header| header.offset);
            if let Some(start) = start {
                reader.start_at(start);
            }
        }
        Ok(reader)
    }

    /// Refuses a reader that stopped before `limit`: what is durable must be readable.
    fn refuse_gap(&self, reader: &SegmentReader, limit: u64) -> Result<()> {
        let Ending { end, found } = reader.ending();
        match found {
            Some(found) => Err(self.corrupt(end.end, found)),
            None if end.end < limit => Err(self.corrupt(end.end, Corruption::MissingPromised)),
            None => Ok(()),
        }
    }

    fn corrupt(&self, offset: u64, found: Corruption) -> Error {
        let path = full_path(self.fs.as_ref(), &FileName::Segment(self.position.segment).path());
        Error::corrupt(FileKind::Log, path, offset, found)
    }
}
