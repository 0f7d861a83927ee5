//! A small log on a simulated disk, for the tests of this folder.
#![allow(dead_code, reason = "each test file uses its own part")]

use base::dir::WAL_DIR;
use base::fs::{Fs, SimFs};
use base::rng::SeededRng;
use base::{Error, FileName, Incarnation, NodeId, Origin, Position, RelPath, Result, Tick};
use std::sync::Arc;
use wal::{Appender, LogOptions, LogScan, SegmentEnd, SegmentOwner, scan_log};

pub(crate) const DATABASE: [u8; 16] = *b"database of test";
/// Room for a few commits only, so that short tests roll.
pub(crate) const SEGMENT_BYTES: u64 = 8 << 10;

pub(crate) fn disk(seed: u64) -> (SimFs, Arc<dyn Fs>) {
    let disk = SimFs::new(seed);
    let fs: Arc<dyn Fs> = Arc::new(disk.clone());
    make_folders(fs.as_ref());
    (disk, fs)
}

pub(crate) fn make_folders(fs: &dyn Fs) {
    fs.create_dir(&RelPath::root()).unwrap();
    fs.create_dir(&RelPath::folder(WAL_DIR)).unwrap();
    fs.sync_dir(&RelPath::root()).unwrap();
}

pub(crate) fn owner(generation: u64) -> SegmentOwner {
    let origin = Origin { node: NodeId([3; 16]), incarnation: Incarnation(9) };
    SegmentOwner { database: DATABASE, origin, generation }
}

pub(crate) fn create(fs: &Arc<dyn Fs>) -> Result<Appender> {
    create_behind(fs, 1, None)
}

pub(crate) fn create_behind(
    fs: &Arc<dyn Fs>,
    number: u64,
    previous: Option<SegmentEnd>,
) -> Result<Appender> {
    create_sized(fs, number, previous, SEGMENT_BYTES)
}

pub(crate) fn create_sized(
    fs: &Arc<dyn Fs>,
    number: u64,
    previous: Option<SegmentEnd>,
    segment_bytes: u64,
) -> Result<Appender> {
    let options = LogOptions { segment_bytes };
    let rng = SeededRng::new(number);
    Appender::create(Arc::clone(fs), &rng, owner(number), number, previous, options)
}

pub(crate) fn tick(raw: u64) -> Tick {
    Tick::from_raw(raw).unwrap()
}

/// The payload of commit `seqno`: `len` bytes that no other commit shares.
pub(crate) fn payload(seqno: u64, len: usize) -> Vec<u8> {
    let mut bytes: Vec<u8> = (0..len).map(|at| (at as u64 * 7 + seqno * 31) as u8).collect();
    seqno.to_le_bytes().iter().zip(&mut bytes).for_each(|(from, to)| *to = *from);
    bytes
}

pub(crate) fn append(log: &mut Appender, seqno: u64, len: usize) -> Position {
    log.append(tick(seqno), &payload(seqno, len)).unwrap()
}

pub(crate) fn sync(log: &mut Appender) -> Result<Position> {
    let target = log.prepare_sync()?;
    target.sync()?;
    log.synced(&target);
    Ok(target.position())
}

pub(crate) fn segments(fs: &dyn Fs) -> Vec<u64> {
    let entries = fs.list(&RelPath::folder(WAL_DIR)).unwrap();
    let numbers =
        entries.iter().map(|entry| match FileName::parse(&format!("{WAL_DIR}/{}", entry.name)) {
            Some(FileName::Segment(number)) => number,
            _ => panic!("{} in the folder of the log", entry.name),
        });
    numbers.collect()
}

pub(crate) fn path(number: u64) -> RelPath {
    FileName::Segment(number).path()
}

/// The bytes of a segment's file.
pub(crate) fn read(sim: &SimFs, number: u64) -> Vec<u8> {
    sim.read_file(&path(number)).unwrap()
}

/// Puts `bytes` in place of a segment's file.
pub(crate) fn write(sim: &SimFs, number: u64, bytes: &[u8]) {
    sim.write_file(&path(number), bytes).unwrap();
}

pub(crate) fn scan(fs: &dyn Fs) -> Result<LogScan> {
    scan_promised(fs, Position::ZERO)
}

pub(crate) fn scan_promised(fs: &dyn Fs, promise: Position) -> Result<LogScan> {
    scan_log(fs, DATABASE, &segments(fs), 1, promise)
}

pub(crate) type Commits = Vec<(u64, Vec<u8>)>;

/// What the log holds.
pub(crate) fn commits(fs: &dyn Fs, scan: &LogScan) -> Result<Commits> {
    let mut commits = Vec::new();
    scan.replay(fs, |seqno, _, payload| {
        commits.push((seqno.raw(), payload.to_vec()));
        Ok(())
    })?;
    assert_eq!(commits.len() as u64, scan.commits());
    Ok(commits)
}

/// Whether `error` says that what was written is not what is there.
pub(crate) fn is_damage(error: &Error) -> bool {
    matches!(
        error,
        Error::Corrupt { .. }
            | Error::Missing { .. }
            | Error::FormatUnsupported { .. }
            | Error::KeyUnavailable { .. }
    )
}
