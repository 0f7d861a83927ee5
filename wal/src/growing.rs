//! The segment that takes appends. It knows one file: frames, runs, the chain of hashes; when to
//! roll and what may be promised is decided in `appender.rs`.
//!
//! Invariant: `end` is behind everything handed to the file, and the file holds nothing else.

use crate::run::{CLOSE_LEN, Closing, RECORD_HEADER_LEN, RUN_LEN_FULL, RUN_LEN_MAX, Tagger};
use crate::segment::{HEADER_LEN, SegmentEnd, SegmentHeader};
use base::frame::{self, FrameHeader, FrameKey, FrameKind, Hash};
use base::fs::{AppendFile, SyncHandle};
use base::{Defect, Position, Tick, planted};
use std::io;
use std::sync::Arc;

/// Bytes of a Seal frame.
pub(crate) const SEAL_LEN: u64 = frame::OVERHEAD as u64;
/// A buffer larger than this is not kept after the commit that needed it.
const BUFFER_LEN_KEPT: usize = 1 << 20;

/// A segment being appended to.
#[derive(Debug)]
pub(crate) struct Growing {
    number: u64,
    /// The segment before it; 0 if there is none.
    previous: u64,
    key: KeyOfSegment,
    tagger: Tagger,
    file: Box<dyn AppendFile>,
    sync: Arc<dyn SyncHandle>,
    /// Bytes that were reserved for the file.
    capacity: u64,
    end: u64,
    /// The hash of the last frame, or the header's digest.
    hash: Hash,
    first_seqno: Tick,
    last_seqno: Tick,
    run: Option<OpenRun>,
    /// The open run from its Run frame on, else scratch.
    buffer: Vec<u8>,
}

/// A run that was not closed yet.
#[derive(Clone, Copy, Debug)]
struct OpenRun {
    start: u64,
    records: u32,
    tag: u64,
    first_seqno: Tick,
    last_seqno: Tick,
}

/// Keeps the key out of what `Debug` prints.
struct KeyOfSegment(FrameKey);

impl std::fmt::Debug for KeyOfSegment {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("..")
    }
}

impl Growing {
    /// Starts the segment of `header` in an empty file with `capacity` reserved bytes.
    pub(crate) fn start(
        mut file: Box<dyn AppendFile>,
        capacity: u64,
        header: &SegmentHeader,
    ) -> io::Result<Growing> {
        file.append(&header.encode())?;
        let key = header.key();
        Ok(Growing {
            number: header.number,
            previous: header.previous.map_or(0, |previous| previous.number),
            tagger: Tagger::new(&key),
            key: KeyOfSegment(key),
            sync: file.sync_handle(),
            file,
            capacity,
            end: HEADER_LEN,
            hash: header.digest,
            first_seqno: Tick::ZERO,
            last_seqno: header.seqno_bound(),
            run: None,
            buffer: Vec::with_capacity(RUN_LEN_MAX),
        })
    }

    pub(crate) fn number(&self) -> u64 {
        self.number
    }

    /// The segment before it; 0 if there is none.
    pub(crate) fn previous(&self) -> u64 {
        self.previous
    }

    /// Behind the last byte appended.
    pub(crate) fn position(&self) -> Position {
        Position { segment: self.number, offset: self.end }
    }

    /// What the next segment says about this one. Only while no run is open.
    pub(crate) fn segment_end(&self) -> SegmentEnd {
        debug_assert!(self.run.is_none(), "the hash of an open run is not known yet");
        let (number, end) = (self.number, self.end);
        SegmentEnd { number, end, hash: self.hash, last_seqno: self.last_seqno }
    }

    /// Seqno of the first commit here, or zero.
    pub(crate) fn first_seqno(&self) -> Tick {
        self.first_seqno
    }

    /// Seqno of the last commit here, or of the log before.
    pub(crate) fn last_seqno(&self) -> Tick {
        self.last_seqno
    }

    pub(crate) fn sync_handle(&self) -> &Arc<dyn SyncHandle> {
        &self.sync
    }

    pub(crate) fn into_file(self) -> Box<dyn AppendFile> {
        self.file
    }

    /// Where the open run starts, if there is one.
    pub(crate) fn open_run(&self) -> Option<Position> {
        let run = self.run.as_ref()?;
        Some(Position { segment: self.number, offset: run.start })
    }

    /// Bytes that a record of `payload_len` needs, with what must still fit behind it.
    #[inline]
    pub(crate) fn room_for_record(&self, payload_len: usize) -> u64 {
        let opening = if self.run.is_none() { frame::HEADER_LEN } else { 0 };
        (opening + RECORD_HEADER_LEN + payload_len + CLOSE_LEN) as u64 + SEAL_LEN
    }

    /// Bytes that a frame of `payload_len` needs, with what must still fit behind it.
    #[inline]
    pub(crate) fn room_for_frame(payload_len: usize) -> u64 {
        (frame::OVERHEAD + payload_len) as u64 + SEAL_LEN
    }

    /// Whether `room` more bytes fit.
    #[inline]
    pub(crate) fn has_room(&self, room: u64) -> bool {
        self.end.saturating_add(room) <= self.capacity
    }

    /// Whether more than half of the segment is taken.
    pub(crate) fn is_half_full(&self) -> bool {
        self.end > self.capacity / 2
    }

    /// Appends a commit as a record of the open run; opens one if there is none.
    #[inline]
    pub(crate) fn append_record(
        &mut self,
        seqno: Tick,
        payload: &[u8],
        promise: Position,
    ) -> io::Result<()> {
        let (mut run, from) = match self.run {
            Some(run) => (run, self.buffer.len()),
            None => (self.encode_run_frame(seqno, promise), 0),
        };
        let at = run.start + self.buffer.len() as u64;
        run.tag = self.tagger.encode(&mut self.buffer, run.tag, at, seqno, payload);
        run.records += 1;
        run.last_seqno = seqno;
        self.run = Some(run);
        self.write_buffer(from)?;
        self.note_commit(seqno);
        Ok(())
    }

    /// Whether the open run is long enough to be closed.
    #[inline]
    pub(crate) fn is_run_full(&self) -> bool {
        self.run.is_some() && self.buffer.len() >= RUN_LEN_FULL
    }

    /// Closes the open run, if there is one. Returns whether there was.
    pub(crate) fn close_run(&mut self, promise: Position) -> io::Result<bool> {
        let Some(run) = self.run.take() else { return Ok(false) };
        let closing = Closing::of(&self.key.0, &self.buffer, run.records);
        let seqnos = (run.first_seqno, run.last_seqno);
        self.append_frame(FrameKind::Close, seqnos, &closing.encode(), promise)?;
        Ok(true)
    }

    /// Appends a commit as a frame of its own. Only while no run is open.
    pub(crate) fn append_commit(
        &mut self,
        seqno: Tick,
        payload: &[u8],
        promise: Position,
    ) -> io::Result<()> {
        self.append_frame(FrameKind::Commit, (seqno, seqno), payload, promise)?;
        self.note_commit(seqno);
        Ok(())
    }

    /// Appends a frame that only promises. Only while no run is open.
    pub(crate) fn append_seal(&mut self, promise: Position) -> io::Result<()> {
        self.append_frame(FrameKind::Seal, (Tick::ZERO, Tick::ZERO), &[], promise)
    }

    fn encode_run_frame(&mut self, seqno: Tick, promise: Position) -> OpenRun {
        self.buffer.clear();
        let header = self.frame_header(FrameKind::Run, (seqno, seqno), 0, promise);
        self.hash = frame::encode(&mut self.buffer, &self.key.0, &header, &[]);
        let tag = Tagger::first(&self.hash);
        OpenRun { start: self.end, records: 0, tag, first_seqno: seqno, last_seqno: seqno }
    }

    fn append_frame(
        &mut self,
        kind: FrameKind,
        seqnos: (Tick, Tick),
        payload: &[u8],
        promise: Position,
    ) -> io::Result<()> {
        debug_assert!(self.run.is_none(), "a frame inside a run");
        self.buffer.clear();
        let header = self.frame_header(kind, seqnos, payload.len() as u32, promise);
        self.hash = frame::encode(&mut self.buffer, &self.key.0, &header, payload);
        self.write_buffer(0)?;
        if self.buffer.capacity() > BUFFER_LEN_KEPT {
            self.buffer = Vec::with_capacity(RUN_LEN_MAX);
        }
        Ok(())
    }

    fn frame_header(
        &self,
        kind: FrameKind,
        (first_seqno, last_seqno): (Tick, Tick),
        payload_len: u32,
        promise: Position,
    ) -> FrameHeader {
        let (offset, previous) = (self.end, self.hash);
        let promise = if planted(Defect::PromiseTooMuch) { self.position() } else { promise };
        FrameHeader { kind, payload_len, offset, first_seqno, last_seqno, promise, previous }
    }

    /// Hands the buffer from `from` on to the file.
    #[inline]
    fn write_buffer(&mut self, from: usize) -> io::Result<()> {
        let bytes = self.buffer.get(from..).unwrap_or_default();
        self.file.append(bytes)?;
        self.end += bytes.len() as u64;
        Ok(())
    }

    #[inline]
    fn note_commit(&mut self, seqno: Tick) {
        debug_assert!(seqno > self.last_seqno, "{seqno} after {}", self.last_seqno);
        if self.first_seqno == Tick::ZERO {
            self.first_seqno = seqno;
        }
        self.last_seqno = seqno;
    }
}
