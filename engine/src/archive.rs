//! Finished log segments that wait for the next backup.
//!
//! Nothing is kept before the first backup. From then on a segment that leaves the log goes through
//! `archive/`: what the database did since the last backup is there or still in the log.

use crate::parts::Parts;
use base::fs::Fs;
use base::lock::{Mutex, Rank};
use base::{FileName, Tick};
use recovery::archive::{Durability, FULL, Kept, Room};
use sstable::manifest::Archiving;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

/// From where on segments are kept when nothing is.
const NOWHERE: u64 = u64::MAX;

/// What the database remembers of its archive; the manifest holds where it begins.
#[derive(Debug)]
pub(crate) struct Archive {
    /// The first segment to keep.
    from: AtomicU64,
    is_full: AtomicBool,
    /// Segments archived since the last backup.
    waiting: AtomicU64,
    /// Bytes of all segments that are kept.
    bytes: AtomicU64,
    /// Segments that could not be archived yet.
    stubborn: Mutex<Stubborn>,
}

#[derive(Debug, Default)]
struct Stubborn {
    segments: Vec<u64>,
    why: Option<String>,
}

impl Archive {
    /// As the manifest has it, of the database in `fs`.
    pub(crate) fn new(archiving: Option<Archiving>, fs: &dyn Fs) -> Archive {
        let from = archiving.map_or(NOWHERE, |archiving| archiving.from);
        Archive {
            from: from.into(),
            bytes: bytes_from(fs, from).into(),
            is_full: AtomicBool::new(false),
            waiting: AtomicU64::new(0),
            stubborn: Mutex::new(Rank::Obsolete, Stubborn::default()),
        }
    }

    /// The first segment to keep, if any is kept.
    pub(crate) fn from(&self) -> Option<u64> {
        Some(self.from.load(Ordering::Acquire)).filter(|from| *from != NOWHERE)
    }

    /// Keeps the segments from `from` on; earlier ones are in a backup.
    pub(crate) fn begin(&self, from: u64) {
        self.from.store(from, Ordering::Release);
        self.is_full.store(false, Ordering::Release);
        self.waiting.store(0, Ordering::Release);
    }

    /// Keeps nothing from now on.
    pub(crate) fn end(&self) {
        self.begin(NOWHERE);
    }

    /// Bytes of all segments that are kept.
    pub(crate) fn bytes(&self) -> u64 {
        self.bytes.load(Ordering::Relaxed)
    }

    fn measure(&self, fs: &dyn Fs) {
        self.bytes.store(bytes_from(fs, self.from.load(Ordering::Acquire)), Ordering::Relaxed);
    }

    /// Whether a segment waits for a backup.
    pub(crate) fn has_waiting(&self) -> bool {
        self.waiting.load(Ordering::Acquire) > 0
    }

    /// What needs attention.
    pub(crate) fn trouble(&self) -> Option<String> {
        if self.is_full.load(Ordering::Acquire) {
            return Some(FULL.to_owned());
        }
        self.stubborn.lock().why.clone()
    }
}

/// Whether the log has segments that can be released once all up to `flushed` is in tables, and that
/// are kept.
pub(crate) fn wants_any(parts: &Parts, flushed: Tick) -> bool {
    let Some(from) = parts.archive.from() else { return false };
    let segments = parts.commits.with_queue(|queue| queue.appender().map(|log| log.segments()));
    let Some((_growing, finished)) = segments.as_deref().unwrap_or_default().split_last() else {
        return false;
    };
    finished.iter().any(|span| span.number >= from && span.last_seqno <= flushed)
}

/// Archives those of `segments`, released by the log, that are kept. Returns those that could not be:
/// their files must stay.
pub(crate) fn take_over(parts: &Parts, segments: &[u64]) -> Vec<u64> {
    let archive = &parts.archive;
    let mut stubborn = std::mem::take(&mut *archive.stubborn.lock());
    let Some(from) = archive.from() else { return Vec::new() };
    let again = std::mem::take(&mut stubborn.segments);
    let kept: Vec<u64> =
        again.iter().chain(segments).copied().filter(|number| *number >= from).collect();
    if kept.is_empty() {
        return kept;
    }
    let durable = |number: &u64| Kept { number: *number, durability: Durability::Synced };
    let files: Vec<Kept> = kept.iter().map(durable).collect();
    let bytes_max = parts.options.archive_bytes;
    let result = if archive.is_full.load(Ordering::Acquire) {
        Ok(Room::Short)
    } else {
        recovery::archive::archive(&*parts.fs, &files, bytes_max)
    };
    match result {
        Ok(room) => {
            // Those of an earlier time were not in the caller's hands.
            again.into_iter().for_each(|number| parts.installer.free(FileName::Segment(number)));
            archive.is_full.store(room == Room::Short && bytes_max > 0, Ordering::Release);
            archive.waiting.fetch_add(kept.len() as u64, Ordering::AcqRel);
            archive.measure(&*parts.fs);
            parts.backup_bell.ring();
            Vec::new()
        }
        Err(error) => {
            tracing::warn!(target: "esker::engine", code = error.code(), %error, "a segment of the log could not be archived");
            let why = Some(format!("the log could not be archived: {error}"));
            *archive.stubborn.lock() = Stubborn { segments: kept.clone(), why };
            kept
        }
    }
}

/// Removes what was archived before segment `from`.
pub(crate) fn forget(parts: &Parts, from: u64) {
    let numbers = archived(&*parts.fs).into_iter().map(|(number, _)| number);
    numbers
        .filter(|number| *number < from)
        .for_each(|number| parts.installer.free(FileName::Archived(number)));
    parts.obsolete.settle(parts);
    parts.archive.measure(&*parts.fs);
}

/// The archived segments and their bytes.
fn archived(fs: &dyn Fs) -> Vec<(u64, u64)> {
    let folder = base::RelPath::folder(base::dir::ARCHIVE_DIR);
    let entries = fs.list(&folder).unwrap_or_default();
    let segments = entries.iter().filter_map(|entry| {
        match FileName::parse(&format!("{}/{}", base::dir::ARCHIVE_DIR, entry.name)) {
            Some(FileName::Archived(number)) => Some((number, entry.len)),
            _ => None,
        }
    });
    segments.collect()
}

/// Bytes of those from segment `from` on.
fn bytes_from(fs: &dyn Fs, from: u64) -> u64 {
    if from == NOWHERE {
        return 0;
    }
    archived(fs).into_iter().filter(|(number, _)| *number >= from).map(|(_, len)| len).sum()
}
