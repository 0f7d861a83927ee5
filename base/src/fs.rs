//! The seam to the disk. All file operations of the engine go through [`Fs`].
//!
//! The life of a file: created once under a fresh name, appended to, finished, then immutable until
//! it is removed. Only the root is ever renamed over. Nothing is modified in place.
//!
//! What a sync promises: after [`SyncHandle::sync_data`] returned, the bytes appended before the
//! call survive a power loss; after [`Fs::sync_dir`] returned, so do the names created, renamed or
//! removed in that folder before the call. Appended bytes survive the death of the process
//! without any sync.

mod os;
#[cfg(any(test, feature = "sim"))]
mod sim;

pub use os::OsFs;
#[cfg(any(test, feature = "sim"))]
pub use sim::{CrashModel, Fault, FaultPlan, HeldSyncs, Moment, OpKind as SimOp, SimFs};

use crate::dir::RelPath;
use std::any::Any;
use std::fmt;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// A directory on a disk, and what can be done in it.
pub trait Fs: Any + Send + Sync + fmt::Debug {
    /// Where the directory is, for messages.
    fn root(&self) -> &Path;
    /// Opens a finished file (or a segment still growing) for reading.
    fn open(&self, path: &RelPath) -> io::Result<Arc<dyn ReadFile>>;
    /// Creates a file that must not exist, reserving `preallocate` bytes on the disk. A full disk
    /// shows here or at an append, never later.
    fn create(&self, path: &RelPath, preallocate: u64) -> io::Result<Box<dyn AppendFile>>;
    /// Creates a folder; no error if it exists. The empty path creates the root itself.
    fn create_dir(&self, path: &RelPath) -> io::Result<()>;
    /// Renames within the directory, replacing what stands at `to`.
    fn rename(&self, from: &RelPath, to: &RelPath) -> io::Result<()>;
    /// Makes the finished file `from` also stand at `to` below the other directory `target`: a hard
    /// link where possible, else a copy.
    fn link(&self, from: &RelPath, target: &dyn Fs, to: &RelPath) -> io::Result<()>;
    /// Removes a file.
    fn remove(&self, path: &RelPath) -> io::Result<()>;
    /// Removes a folder that is empty; the empty path removes the root itself. Whoever can not leaves
    /// an empty folder behind.
    fn remove_dir(&self, _path: &RelPath) -> io::Result<()> {
        Err(io::ErrorKind::Unsupported.into())
    }
    /// The entries of a folder, sorted by name.
    fn list(&self, path: &RelPath) -> io::Result<Vec<DirEntry>>;
    /// Makes the names in a folder durable.
    fn sync_dir(&self, path: &RelPath) -> io::Result<()>;
    /// Takes the lock file at `path`, creating it if needed; held until the guard is dropped or the
    /// process dies. `Err(LockError::Held)` names the holder.
    fn lock(&self, path: &RelPath) -> Result<LockGuard, LockError>;
    /// What the disk and the process have left.
    fn space(&self) -> io::Result<Space>;
    /// Another directory on the same kind of file system: checkpoints and backups go there.
    fn at(&self, root: &Path) -> Arc<dyn Fs>;
}

/// A file being read.
pub trait ReadFile: Send + Sync + fmt::Debug {
    /// Its length in bytes.
    fn len(&self) -> io::Result<u64>;
    /// Whether it has no bytes.
    fn is_empty(&self) -> io::Result<bool> {
        Ok(self.len()? == 0)
    }
    /// Fills `buffer` from `offset`; an early end of the file is an error.
    fn read_exact_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<()>;
    /// Tells the disk how the file will be read. Only a hint.
    fn advise(&self, _access: Access) {}
}

/// How a file will be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Access {
    /// Here and there.
    Random,
    /// From front to back.
    Sequential,
    /// Not soon: what is kept of it in memory can go, as far as it is on the disk.
    Later,
}

/// A file being written.
pub trait AppendFile: Send + fmt::Debug {
    /// Appends `bytes` behind all earlier ones.
    fn append(&mut self, bytes: &[u8]) -> io::Result<()>;
    /// Bytes appended so far. Preallocated space behind them reads as zeros.
    fn len(&self) -> u64;
    /// Whether nothing was appended yet.
    fn is_empty(&self) -> bool {
        self.len() == 0
    }
    /// A handle that syncs this file from any thread while appends go on.
    fn sync_handle(&self) -> Arc<dyn SyncHandle>;
    /// Gives back unused preallocated space and syncs. Returns the final length.
    fn finish(self: Box<Self>) -> io::Result<u64>;
}

/// Syncs one file.
pub trait SyncHandle: Send + Sync + fmt::Debug {
    /// Makes every byte appended before the call durable.
    fn sync_data(&self) -> io::Result<()>;
}

/// One entry of a folder.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct DirEntry {
    /// Its name within the folder.
    pub name: String,
    /// What it is.
    pub kind: DirEntryKind,
    /// Bytes, for files.
    pub len: u64,
}

/// What an entry of a folder is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum DirEntryKind {
    /// A regular file.
    File,
    /// A folder.
    Folder,
    /// A link, a pipe, a device: nothing of ours.
    Other,
}

/// What is left of disk and handles.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Space {
    /// Bytes that this user may still write.
    pub disk_bytes: u64,
    /// Bytes of the whole disk.
    pub disk_total_bytes: u64,
    /// Files that this process may still open.
    pub handles: u64,
}

/// Keeps a directory locked while it lives.
#[derive(Debug)]
pub struct LockGuard {
    _release: Box<dyn Release>,
}

impl LockGuard {
    /// A guard that releases by dropping `release`.
    pub fn new(release: impl Release) -> LockGuard {
        LockGuard { _release: Box::new(release) }
    }
}

/// What a [`LockGuard`] holds: dropping it releases the lock.
pub trait Release: Send + Sync + fmt::Debug + 'static {}

/// Why a lock could not be taken.
#[derive(Debug)]
pub enum LockError {
    /// Another holder has it; its process id if it is known.
    Held(Option<u32>),
    /// The operating system refused.
    Io(io::Error),
}

/// The full path of `path` in `fs`, for messages.
pub fn full_path(fs: &dyn Fs, path: &RelPath) -> PathBuf {
    path.below(fs.root())
}

/// The whole content of the small file at `path`, at most `len_max` bytes.
pub fn read_small(fs: &dyn Fs, path: &RelPath, len_max: u64) -> io::Result<Vec<u8>> {
    let file = fs.open(path)?;
    let len = file.len()?;
    if len > len_max {
        return Err(io::Error::new(
            io::ErrorKind::InvalidData,
            "it is larger than such a file gets",
        ));
    }
    let mut bytes = vec![0; usize::try_from(len).map_err(io::Error::other)?];
    file.read_exact_at(&mut bytes, 0)?;
    Ok(bytes)
}

/// Copies all of `source` into the new file `to` of `target` and syncs it. A failed copy leaves no
/// file behind.
pub fn copy(source: &dyn ReadFile, target: &dyn Fs, to: &RelPath) -> io::Result<()> {
    let mut file = target.create(to, 0)?;
    let copied = copy_bytes(source, &mut *file).and_then(|()| file.finish());
    if copied.is_err() {
        let _ = target.remove(to); // the first error is the one to report
    }
    copied.map(drop)
}

fn copy_bytes(source: &dyn ReadFile, target: &mut dyn AppendFile) -> io::Result<()> {
    const PIECE_LEN: u64 = 1 << 20;
    let len = source.len()?;
    let mut buffer = Vec::new();
    while target.len() < len {
        let piece_len = PIECE_LEN.min(len - target.len());
        buffer.resize(usize::try_from(piece_len).map_err(io::Error::other)?, 0);
        source.read_exact_at(&mut buffer, target.len())?;
        target.append(&buffer)?;
    }
    Ok(())
}
