//! Stage 4: is there enough to work with?

use base::error::Resource;
use base::fs::Fs;
use base::{Error, FileName, Result};

/// Bytes for roots and manifest, beside the first segment of the log.
const DISK_BYTES_MIN: u64 = 4 << 20;
/// Bytes of the first segment.
const SEGMENT_BYTES_MIN: u64 = 1 << 20;
/// Files that recovery and a small database have open at once.
const HANDLES_MIN: u64 = 32;
/// Bytes a sink needs to make progress.
const MEMORY_BYTES_MIN: u64 = 64 << 10;

/// Refuses if disk, file handles or memory do not suffice to open at all.
pub(crate) fn check(fs: &dyn Fs, segment_bytes: u64, memory_bytes: u64) -> Result<()> {
    let space = fs.space().map_err(|e| Error::io("measure the disk of", fs.root(), e))?;
    let disk_bytes = space.disk_bytes.saturating_add(reserve_bytes(fs));
    require(Resource::Disk, need_to_open(segment_bytes), disk_bytes)?;
    require(Resource::Handles, HANDLES_MIN, space.handles)?;
    require(Resource::Memory, MEMORY_BYTES_MIN, memory_bytes)
}

/// Refuses if the disk can not take what the replay of `log_bytes` writes. Returns whether that
/// takes the reserve.
pub(crate) fn check_replay(fs: &dyn Fs, segment_bytes: u64, log_bytes: u64) -> Result<bool> {
    let space = fs.space().map_err(|e| Error::io("measure the disk of", fs.root(), e))?;
    let tables = log_bytes.saturating_add(log_bytes / 10);
    let need = need_to_open(segment_bytes).saturating_add(tables);
    require(Resource::Disk, need, space.disk_bytes.saturating_add(reserve_bytes(fs)))?;
    Ok(space.disk_bytes < need)
}

fn need_to_open(segment_bytes: u64) -> u64 {
    DISK_BYTES_MIN.saturating_add(segment_bytes.min(SEGMENT_BYTES_MIN))
}

/// What a full disk still has for us.
fn reserve_bytes(fs: &dyn Fs) -> u64 {
    fs.open(&FileName::Reserve.path()).and_then(|file| file.len()).unwrap_or(0)
}

fn require(what: Resource, need: u64, have: u64) -> Result<()> {
    if have >= need { Ok(()) } else { Err(Error::ResourceShort { what, need, have }) }
}
