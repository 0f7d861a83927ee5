//! The file system of the operating system.
//!
//! The only place of the workspace that opens, names or removes real files. Paths stay below the
//! root: a [`RelPath`] can not climb, and the last step of a path is never followed through a
//! link.
//!
//! Invariants:
//! - A file handed out by [`Fs::open`] was a regular file: a pipe or device standing under one of
//!   our names is refused instead of waited for.
//! - A failed create leaves no file behind.

mod append;
mod lock;
#[cfg(target_os = "linux")]
mod map;
mod reserve;

use super::{
    Access, AppendFile, DirEntry, DirEntryKind, Fs, LockError, LockGuard, ReadFile, Space, copy,
};
use crate::dir::RelPath;
use crate::lock::assert_may_block;
use std::any::Any;
use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io;
use std::os::unix::fs::{DirBuilderExt, FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// Owner writes, group reads: the secret in a database is nobody else's.
const FILE_MODE: u32 = 0o640;
const FOLDER_MODE: u32 = 0o750;

/// A directory of the operating system.
#[derive(Clone, Debug)]
pub struct OsFs {
    root: PathBuf,
}

impl OsFs {
    /// The directory at `root`, which need not exist yet.
    pub fn new(root: impl Into<PathBuf>) -> OsFs {
        OsFs { root: root.into() }
    }

    fn full(&self, path: &RelPath) -> PathBuf {
        path.below(&self.root)
    }

    /// A hard link, or `false` if these two places can not share a file.
    fn link_hard(&self, from: &RelPath, target: &OsFs, to: &RelPath) -> io::Result<bool> {
        match fs::hard_link(self.full(from), target.full(to)) {
            Ok(()) => Ok(true),
            Err(error) if cannot_link(&error) => Ok(false),
            Err(error) => Err(error),
        }
    }
}

impl Fs for OsFs {
    fn root(&self) -> &Path {
        &self.root
    }

    fn open(&self, path: &RelPath) -> io::Result<Arc<dyn ReadFile>> {
        assert_may_block();
        let full = self.full(path);
        if !fs::symlink_metadata(&full)?.is_file() {
            return Err(not_regular());
        }
        let mut options = OpenOptions::new();
        let file = never_follow(options.read(true)).open(full)?;
        Ok(Arc::new(OsReadFile { file }))
    }

    fn create(&self, path: &RelPath, preallocate: u64) -> io::Result<Box<dyn AppendFile>> {
        assert_may_block();
        let full = self.full(path);
        let mut options = OpenOptions::new();
        let options = options.read(true).write(true).create_new(true).mode(FILE_MODE);
        let file = never_follow(options).open(&full)?;
        append::start(file, preallocate).inspect_err(|_| {
            let _ = fs::remove_file(&full); // the first error is the one to report
        })
    }

    fn create_dir(&self, path: &RelPath) -> io::Result<()> {
        assert_may_block();
        if *path == RelPath::root() {
            return create_root(&self.root);
        }
        create_folder(&self.full(path))
    }

    fn rename(&self, from: &RelPath, to: &RelPath) -> io::Result<()> {
        assert_may_block();
        fs::rename(self.full(from), self.full(to))
    }

    fn link(&self, from: &RelPath, target: &dyn Fs, to: &RelPath) -> io::Result<()> {
        assert_may_block();
        let any: &dyn Any = target;
        if let Some(target) = any.downcast_ref::<OsFs>()
            && self.link_hard(from, target, to)?
        {
            return Ok(());
        }
        copy(&*self.open(from)?, target, to)
    }

    fn remove(&self, path: &RelPath) -> io::Result<()> {
        assert_may_block();
        fs::remove_file(self.full(path))
    }

    fn remove_dir(&self, path: &RelPath) -> io::Result<()> {
        assert_may_block();
        fs::remove_dir(self.full(path))
    }

    fn list(&self, path: &RelPath) -> io::Result<Vec<DirEntry>> {
        assert_may_block();
        let mut entries = Vec::new();
        for entry in fs::read_dir(self.full(path))? {
            entries.extend(describe(&entry?)?);
        }
        entries.sort_unstable();
        Ok(entries)
    }

    fn sync_dir(&self, path: &RelPath) -> io::Result<()> {
        assert_may_block();
        sync_folder(&self.full(path))
    }

    fn lock(&self, path: &RelPath) -> Result<LockGuard, LockError> {
        assert_may_block();
        lock::take(&self.full(path))
    }

    fn space(&self) -> io::Result<Space> {
        assert_may_block();
        let disk = rustix::fs::statvfs(&self.root)?;
        let disk_bytes = disk.f_bavail.saturating_mul(disk.f_frsize);
        let disk_total_bytes = disk.f_blocks.saturating_mul(disk.f_frsize);
        Ok(Space { disk_bytes, disk_total_bytes, handles: handles_left() })
    }

    fn at(&self, root: &Path) -> Arc<dyn Fs> {
        Arc::new(OsFs::new(root))
    }
}

#[derive(Debug)]
struct OsReadFile {
    file: File,
}

impl ReadFile for OsReadFile {
    fn len(&self) -> io::Result<u64> {
        assert_may_block();
        Ok(self.file.metadata()?.len())
    }

    fn read_exact_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<()> {
        assert_may_block();
        self.file.read_exact_at(buffer, offset)
    }

    #[cfg(target_os = "linux")]
    fn advise(&self, access: Access) {
        use rustix::fs::Advice;
        let advice = match access {
            Access::Random => Advice::Random,
            Access::Sequential => Advice::Sequential,
            Access::Later => Advice::DontNeed,
        };
        let _ = rustix::fs::fadvise(&self.file, 0, None, advice); // a hint: refusal changes nothing
    }

    #[cfg(not(target_os = "linux"))]
    fn advise(&self, _access: Access) {}
}

/// Opening must neither follow a link in the last step nor wait for the other end of a pipe.
fn never_follow(options: &mut OpenOptions) -> &mut OpenOptions {
    use rustix::fs::OFlags;
    options.custom_flags((OFlags::NOFOLLOW | OFlags::NONBLOCK).bits().cast_signed())
}

fn not_regular() -> io::Error {
    io::Error::new(io::ErrorKind::InvalidInput, "it is not a regular file")
}

/// Whether a copy will do where a hard link can not: another disk, or a disk without links.
fn cannot_link(error: &io::Error) -> bool {
    use rustix::io::Errno;
    let errno = Errno::from_io_error(error);
    errno.is_some_and(|errno| {
        matches!(errno, Errno::XDEV | Errno::PERM | Errno::MLINK | Errno::OPNOTSUPP)
    })
}

/// Creates the root with all folders above it, and makes the new names durable.
fn create_root(root: &Path) -> io::Result<()> {
    if root.as_os_str().is_empty() || root.is_dir() {
        return Ok(());
    }
    let parent = match root.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    };
    create_root(parent)?;
    create_folder(root)?;
    sync_folder(parent)
}

fn create_folder(path: &Path) -> io::Result<()> {
    match DirBuilder::new().mode(FOLDER_MODE).create(path) {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
            let is_folder = fs::symlink_metadata(path)?.is_dir();
            if is_folder { Ok(()) } else { Err(io::ErrorKind::NotADirectory.into()) }
        }
        result => result,
    }
}

fn sync_folder(path: &Path) -> io::Result<()> {
    File::open(path)?.sync_all()
}

/// What stands there, or `None` if it is gone since the folder was read.
fn describe(entry: &fs::DirEntry) -> io::Result<Option<DirEntry>> {
    let found = match entry.metadata() {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        found => found?,
    };
    let name = entry.file_name();
    let kind = match name.to_str() {
        None => DirEntryKind::Other, // none of our names; the lossy one below is for reports
        Some(_) if found.is_file() => DirEntryKind::File,
        Some(_) if found.is_dir() => DirEntryKind::Folder,
        Some(_) => DirEntryKind::Other,
    };
    let len = if kind == DirEntryKind::File { found.len() } else { 0 };
    Ok(Some(DirEntry { name: name.to_string_lossy().into_owned(), kind, len }))
}

/// Files this process may still open. Where open ones can not be counted, the plain limit.
fn handles_left() -> u64 {
    let limit = rustix::process::getrlimit(rustix::process::Resource::Nofile).current;
    let open = fs::read_dir("/proc/self/fd").map_or(0, |entries| entries.count() as u64);
    limit.map_or(u64::MAX, |limit| limit.saturating_sub(open))
}

#[cfg(test)]
mod tests;
