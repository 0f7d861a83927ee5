//! The next segment's file, made before it is needed.
//!
//! Creating and reserving a file costs about a millisecond. A background thread does it ahead of
//! time, so that rolling under the write queue's lock only writes a header.

use crate::retired::SyncState;
use base::dir::{RelPath, WAL_DIR};
use base::fs::{AppendFile, Fs, full_path};
use base::{Defect, Error, FileName, Result, planted};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

/// Says that a spare is being built or waiting, for as long as it lives.
#[derive(Debug)]
pub(crate) struct Claim(Arc<AtomicBool>);

impl Claim {
    /// Claims `taken`; the caller has seen that it is free, or does not care.
    pub(crate) fn new(taken: &Arc<AtomicBool>) -> Claim {
        taken.store(true, Ordering::Release);
        Claim(Arc::clone(taken))
    }
}

impl Drop for Claim {
    fn drop(&mut self) {
        self.0.store(false, Ordering::Release);
    }
}

/// Builds a [`Spare`] on any thread. Dropping it lets the appender ask again.
#[derive(Debug)]
pub struct SpareBuilder {
    pub(crate) fs: Arc<dyn Fs>,
    pub(crate) number: u64,
    pub(crate) capacity: u64,
    pub(crate) state: SyncState,
    pub(crate) claim: Claim,
}

impl SpareBuilder {
    /// Creates the file, reserves its space and makes its name durable. Hold no lock meanwhile.
    pub fn build(self) -> Result<Spare> {
        let file = create_file(self.fs.as_ref(), &self.state, self.number, self.capacity)?;
        let SpareBuilder { number, capacity, claim, .. } = self;
        Ok(Spare { number, capacity, file, _claim: claim })
    }
}

/// An empty segment file, its name durable.
#[derive(Debug)]
pub struct Spare {
    pub(crate) number: u64,
    pub(crate) capacity: u64,
    pub(crate) file: Box<dyn AppendFile>,
    _claim: Claim,
}

/// Creates the file of segment `number`, with its name durable.
///
/// If it can not be created, nothing has changed: that can be tried again, under another number.
/// If its name can not be made durable, no later sync of the folder can be trusted: that poisons.
pub(crate) fn create_file(
    fs: &dyn Fs,
    state: &SyncState,
    number: u64,
    capacity: u64,
) -> Result<Box<dyn AppendFile>> {
    let path = FileName::Segment(number).path();
    let file = fs
        .create(&path, capacity)
        .map_err(|source| Error::io("create", full_path(fs, &path), source))?;
    let folder = RelPath::folder(WAL_DIR);
    if planted(Defect::SkipSegmentDirectorySync) {
        return Ok(file);
    }
    fs.sync_dir(&folder)
        .map_err(|e| state.poison(Error::io("sync the folder", full_path(fs, &folder), e)))?;
    Ok(file)
}
