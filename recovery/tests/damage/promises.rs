//! What the surviving bytes of a database promise: how many batches must be there.
//!
//! This reads frames by itself, and knows nothing of the verdict that it is compared with.

use crate::disk::{Image, Kind, disk_of};
use crate::history::History;
use base::fs::Fs;
use base::{FileName, Position, frame};
use wal::HeaderState;

/// Which promises cover which batches.
pub(crate) struct Promises {
    database: [u8; 16],
    /// Batches that the first edit of the manifest covers.
    opened: usize,
    /// The manifest as it was, and the batches that all its edits cover.
    manifest: Vec<u8>,
    flushed: usize,
    /// Where the commit of each batch ends in the log.
    ends: Vec<(Position, usize)>,
}

impl Promises {
    /// Everything was promised by a clean close.
    pub(crate) fn all(history: &History) -> Promises {
        let opened = history.batches();
        Promises { database: [0; 16], opened, manifest: Vec::new(), flushed: 0, ends: Vec::new() }
    }

    /// Those of `image`, of which `opened` batches were there when it was opened last, and
    /// `flushed` when it was flushed last.
    pub(crate) fn of(image: &Image, history: &History, opened: usize, flushed: usize) -> Promises {
        let fs = disk_of(image);
        let database = recovery::read_identity(&fs).unwrap().database;
        let mut ends = Vec::new();
        for number in segments(image) {
            let mut reader = wal::read_segment(&fs, number, database, None).unwrap();
            while let Some(commit) = reader.next().unwrap() {
                ends.push((commit.end, history.batches_up_to(commit.seqno)));
            }
        }
        assert_eq!(ends.last().map(|(_, batch)| *batch), Some(history.batches()));
        Promises { database, opened, manifest: manifest(image), flushed, ends }
    }

    /// How many batches the bytes of `image` promise.
    pub(crate) fn batches(&self, image: &Image) -> usize {
        if self.ends.is_empty() {
            return self.opened;
        }
        let fs = disk_of(image);
        let promises = segments(image).map(|number| self.promise_of(&fs, image, number));
        let promise = promises.max().unwrap_or(Position::ZERO);
        let covered = self.ends.iter().filter(|(end, _)| *end <= promise);
        let logged = covered.map(|(_, batch)| *batch).max().unwrap_or(0);
        let flushed = if manifest(image) == self.manifest { self.flushed } else { 0 };
        self.opened.max(flushed).max(logged)
    }

    /// The highest promise of any frame of segment `number` whose header is whole.
    fn promise_of(&self, fs: &dyn Fs, image: &Image, number: u64) -> Position {
        let Ok(HeaderState::Good(header)) = wal::read_header(fs, number, self.database) else {
            return Position::ZERO;
        };
        let (key, bytes) = (header.key(), &image[FileName::Segment(number).path().as_str()]);
        let content = bytes.iter().rposition(|byte| *byte != 0).map_or(0, |last| last + 1);
        let frames = (0..content).filter(|at| bytes[*at..].starts_with(&frame::MAGIC));
        let headers = frames.filter_map(|at| {
            let header = bytes.get(at..at + frame::HEADER_LEN)?;
            frame::decode_header(&key, header, at as u64).ok()
        });
        headers.map(|header| header.promise).max().unwrap_or(Position::ZERO)
    }
}

fn segments(image: &Image) -> impl Iterator<Item = u64> {
    image.keys().filter_map(|name| match FileName::parse(name) {
        Some(FileName::Segment(number)) => Some(number),
        _ => None,
    })
}

fn manifest(image: &Image) -> Vec<u8> {
    let manifests = image.iter().filter(|(name, _)| Kind::of(name) == Kind::Manifest);
    manifests.flat_map(|(_, bytes)| bytes.clone()).collect()
}
