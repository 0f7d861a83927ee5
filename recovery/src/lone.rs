//! One open file, presented as the only file of a database, whatever its real name.

use base::RelPath;
use base::fs::{AppendFile, DirEntry, Fs, LockError, LockGuard, ReadFile, Space};
use std::io;
use std::path::Path;
use std::sync::Arc;

/// A directory in which every name opens the same file, and nothing else can be done.
#[derive(Clone, Debug)]
pub(crate) struct LoneFile(pub(crate) Arc<dyn ReadFile>);

impl Fs for LoneFile {
    fn root(&self) -> &Path {
        Path::new("")
    }

    fn open(&self, _: &RelPath) -> io::Result<Arc<dyn ReadFile>> {
        Ok(self.0.clone())
    }

    fn create(&self, _: &RelPath, _: u64) -> io::Result<Box<dyn AppendFile>> {
        Err(only_reads())
    }

    fn create_dir(&self, _: &RelPath) -> io::Result<()> {
        Err(only_reads())
    }

    fn rename(&self, _: &RelPath, _: &RelPath) -> io::Result<()> {
        Err(only_reads())
    }

    fn link(&self, _: &RelPath, _: &dyn Fs, _: &RelPath) -> io::Result<()> {
        Err(only_reads())
    }

    fn remove(&self, _: &RelPath) -> io::Result<()> {
        Err(only_reads())
    }

    fn list(&self, _: &RelPath) -> io::Result<Vec<DirEntry>> {
        Ok(Vec::new())
    }

    fn sync_dir(&self, _: &RelPath) -> io::Result<()> {
        Err(only_reads())
    }

    fn lock(&self, _: &RelPath) -> Result<LockGuard, LockError> {
        Err(LockError::Io(only_reads()))
    }

    fn space(&self) -> io::Result<Space> {
        Ok(Space { disk_bytes: 0, disk_total_bytes: 0, handles: 0 })
    }

    fn at(&self, _: &Path) -> Arc<dyn Fs> {
        Arc::new(self.clone())
    }
}

fn only_reads() -> io::Error {
    io::Error::new(io::ErrorKind::Unsupported, "a single file is only read")
}
