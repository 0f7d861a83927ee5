//! The directory of backups: names, records, lock.
//!
//! ```text
//! LOCK                                    held by whoever changes the store
//! <number>.backup                         a backup; its rename to this name is its commit point
//! tables/<root digest>-<number>.sst       a table, copied for that backup
//! log/<incarnation>-<segment number>.log  the accepted bytes of a finished segment
//! *.tmp                                   being written; meaningless
//! ```
//!
//! Files are written under another name, synced, and renamed. What no `.backup` file names is a leftover
//! of someone who died, and goes when the next one changes the store.

use super::record::{BackupRecord, Refusal, StoredSegment, StoredTable};
use base::error::FileKind;
use base::fs::{DirEntry, DirEntryKind, Fs, LockError, LockGuard, ReadFile, full_path, read_small};
use base::{Corruption, Error, FileName, Incarnation, RelPath, Result};
use std::collections::BTreeSet;
use std::fmt::Write;
use std::io;
use std::path::Path;
use std::sync::Arc;

/// The folder of tables.
const TABLES_DIR: &str = "tables";
/// The folder of archived segments.
const LOG_DIR: &str = "log";
const RECORD_SUFFIX: &str = ".backup";
const TEMP_SUFFIX: &str = ".tmp";
/// Bytes of a record at the most.
const RECORD_LEN_MAX: u64 = 1 << 30;

/// The folders of a store.
pub(crate) const FOLDERS: [&str; 2] = [TABLES_DIR, LOG_DIR];

/// A directory of backups.
#[derive(Clone, Debug)]
pub struct Store {
    pub(crate) fs: Arc<dyn Fs>,
}

/// The records of a store.
#[derive(Debug, Default)]
pub struct Shelf {
    /// Those that are whole, by number.
    pub records: Vec<BackupRecord>,
    /// The numbers of those that are not, and why.
    pub damaged: Vec<(u64, Error)>,
}

impl Store {
    /// The store in the directory of `fs`, whether it exists or not.
    pub fn new(fs: Arc<dyn Fs>) -> Store {
        Store { fs }
    }

    /// All records, by number.
    pub fn shelf(&self) -> Result<Shelf> {
        let mut shelf = Shelf::default();
        for entry in self.top()? {
            let Some(number) = record_number(&entry.name) else { continue };
            match self.record(number) {
                Ok(record) => shelf.records.push(record),
                Err(error @ (Error::Io { .. } | Error::Permission { .. })) => return Err(error),
                Err(error) => shelf.damaged.push((number, error)),
            }
        }
        Ok(shelf)
    }

    fn top(&self) -> Result<Vec<DirEntry>> {
        let path = self.fs.root();
        self.fs.list(&RelPath::root()).map_err(|error| match error.kind() {
            io::ErrorKind::NotFound => {
                Error::Missing { file: FileKind::Backup, path: path.to_path_buf() }
            }
            io::ErrorKind::NotADirectory => {
                Error::NotADatabase { path: path.to_path_buf(), found: "it is not a directory" }
            }
            _ => Error::io("list", path, error),
        })
    }

    fn record(&self, number: u64) -> Result<BackupRecord> {
        let name = record_path(number);
        let path = full_path(&*self.fs, &name);
        let corrupt = |found| Error::corrupt(FileKind::Backup, &path, 0, found);
        let bytes = match read_small(&*self.fs, &name, RECORD_LEN_MAX) {
            Ok(bytes) => bytes,
            Err(error) if error.kind() == io::ErrorKind::InvalidData => {
                return Err(corrupt(Corruption::TrailingBytes));
            }
            Err(error) => return Err(Error::io("read", &path, error)),
        };
        let record = self.parse(&path, &bytes)?;
        if record.number == number { Ok(record) } else { Err(corrupt(Corruption::Misplaced)) }
    }

    /// The record in `bytes`, the file `path`.
    pub(crate) fn parse(&self, path: &Path, bytes: &[u8]) -> Result<BackupRecord> {
        BackupRecord::decode(bytes).map_err(|refusal| match refusal {
            Refusal::Corrupt(found) => Error::corrupt(FileKind::Backup, path, 0, found),
            Refusal::Format { found, supported } => {
                Error::FormatUnsupported { path: path.to_path_buf(), found, supported }
            }
            Refusal::Key(key_id) => Error::KeyUnavailable { path: path.to_path_buf(), key_id },
        })
    }

    /// Keeps others from changing the store.
    pub(crate) fn lock(&self) -> Result<LockGuard> {
        let root = self.fs.root();
        self.fs.lock(&FileName::Lock.path()).map_err(|error| match error {
            LockError::Held(holder) => Error::Locked { path: root.to_path_buf(), holder },
            LockError::Io(source) if source.kind() == io::ErrorKind::NotFound => {
                Error::Missing { file: FileKind::Backup, path: root.to_path_buf() }
            }
            LockError::Io(source) => Error::io("lock", root, source),
        })
    }

    /// As [`Store::lock`], or nothing where nobody can write.
    pub(crate) fn lock_to_read(&self) -> Result<Option<LockGuard>> {
        match self.lock() {
            Ok(lock) => Ok(Some(lock)),
            Err(Error::Permission { .. }) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Refuses a directory that holds something else.
    pub(crate) fn refuse_strangers(&self) -> Result<()> {
        let is_ours = |name: &str| {
            name == FileName::Lock.path().as_str()
                || FOLDERS.contains(&name)
                || record_number(name.strip_suffix(TEMP_SUFFIX).unwrap_or(name)).is_some()
        };
        let top = self.top()?;
        let is_used = top.iter().any(|entry| record_number(&entry.name).is_some());
        let mut stranger = top.into_iter().map(|entry| entry.name).find(|name| !is_ours(name));
        for folder in FOLDERS {
            // Later ones are left alone; before the first backup they say that this is no store.
            if stranger.is_none() && !is_used {
                let entries = self.entries(&RelPath::folder(folder))?;
                let mut others = entries.iter().filter(|entry| !is_file_of(folder, entry));
                stranger = others.next().map(|entry| format!("{folder}/{}", entry.name));
            }
        }
        match stranger {
            None => Ok(()),
            Some(name) => {
                let root = self.fs.root().display();
                let message =
                    format!("{root} holds {name}, so it is no directory of backups; name another");
                Err(Error::invalid(message))
            }
        }
    }

    /// Opens a file that a record names.
    pub(crate) fn open(&self, name: &RelPath) -> Result<Arc<dyn ReadFile>> {
        let path = full_path(&*self.fs, name);
        self.fs.open(name).map_err(|error| match error.kind() {
            io::ErrorKind::NotFound => Error::Missing { file: FileKind::Backup, path },
            _ => Error::io("open", path, error),
        })
    }

    /// All files of the store's own in the folders, and the records that are being written.
    pub(crate) fn files(&self) -> Result<Vec<RelPath>> {
        let is_temp = |entry: &DirEntry| {
            let name = entry.name.strip_suffix(TEMP_SUFFIX);
            entry.kind == DirEntryKind::File && name.is_some_and(|n| record_number(n).is_some())
        };
        let root = RelPath::root();
        let temps = self.top()?.into_iter().filter(is_temp);
        let mut files: Vec<RelPath> = temps.filter_map(|entry| root.join(&entry.name)).collect();
        for name in FOLDERS {
            let folder = RelPath::folder(name);
            let entries = self.entries(&folder)?;
            let own = entries.iter().filter(|entry| is_file_of(name, entry));
            files.extend(own.filter_map(|entry| folder.join(&entry.name)));
        }
        Ok(files)
    }

    /// What is in a folder, which need not be there.
    fn entries(&self, folder: &RelPath) -> Result<Vec<DirEntry>> {
        match self.fs.list(folder) {
            Ok(entries) => Ok(entries),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Vec::new()),
            Err(error) => Err(Error::io("list", full_path(&*self.fs, folder), error)),
        }
    }

    /// Makes the names in a folder durable.
    pub(crate) fn sync_dir(&self, folder: &RelPath) -> Result<()> {
        let path = full_path(&*self.fs, folder);
        self.fs.sync_dir(folder).map_err(|e| Error::io("sync", path, e))
    }
}

impl Shelf {
    /// The files that the records need: their tables, and the segments that lead on from one of them.
    pub(crate) fn needed(&self) -> BTreeSet<RelPath> {
        let mut needed: BTreeSet<RelPath> =
            self.records.iter().flat_map(|record| record.tables.iter().map(table_path)).collect();
        for record in &self.records {
            let life = record.identity.incarnation;
            let segments = record.segments.iter();
            let used = segments.filter(|segment| self.is_used(life, segment.number));
            needed.extend(used.map(|segment| segment_path(life, segment.number)));
        }
        needed
    }

    /// Whether a segment leads on from a backup that is still there.
    pub(crate) fn is_used(&self, life: Incarnation, segment: u64) -> bool {
        let bases = self.records.iter().filter(|record| record.has_tables());
        let mut of_life = bases.filter(|record| record.identity.incarnation == life);
        of_life.any(|record| record.start <= segment)
    }

    /// The segment as a record describes it.
    pub(crate) fn segment(&self, life: Incarnation, number: u64) -> Option<&StoredSegment> {
        let of_life = self.records.iter().filter(|record| record.identity.incarnation == life);
        of_life.flat_map(|record| &record.segments).find(|segment| segment.number == number)
    }
}

/// Where the record of a backup stands.
pub(crate) fn record_path(number: u64) -> RelPath {
    path_in("", &format!("{number:020}{RECORD_SUFFIX}"))
}

fn record_number(name: &str) -> Option<u64> {
    let digits = name.strip_suffix(RECORD_SUFFIX)?;
    let is_number = digits.len() == 20 && digits.bytes().all(|byte| byte.is_ascii_digit());
    if is_number { digits.parse().ok().filter(|number| *number > 0) } else { None }
}

/// Whether an entry of `folder` is a file with a name that the store gives.
fn is_file_of(folder: &str, entry: &DirEntry) -> bool {
    let name = entry.name.strip_suffix(TEMP_SUFFIX).unwrap_or(&entry.name);
    let is_hex = |byte: u8| matches!(byte, b'0'..=b'9' | b'a'..=b'f');
    let (front_len, suffix) = if folder == TABLES_DIR { (64, ".sst") } else { (16, ".log") };
    let parts = name.strip_suffix(suffix).and_then(|stem| stem.split_once('-'));
    let is_ours = parts.is_some_and(|(front, number)| {
        front.len() == front_len
            && front.bytes().all(is_hex)
            && (1..=20).contains(&number.len())
            && number.bytes().all(|byte| byte.is_ascii_digit())
    });
    is_ours && entry.kind == DirEntryKind::File
}

/// Where a table stands.
pub(crate) fn table_path(table: &StoredTable) -> RelPath {
    let mut name = String::with_capacity(80);
    for byte in table.root {
        let _ = write!(name, "{byte:02x}"); // a string takes everything
    }
    let _ = write!(name, "-{}.sst", table.copy);
    path_in(TABLES_DIR, &name)
}

/// Where an archived segment stands.
pub(crate) fn segment_path(life: Incarnation, number: u64) -> RelPath {
    path_in(LOG_DIR, &format!("{:016x}-{number:020}.log", life.0))
}

/// The name under which the file of `name` is written.
pub(crate) fn temp_of(name: &RelPath) -> RelPath {
    let folder = name.parent();
    let last = name.as_str().rsplit('/').next().unwrap_or_default();
    folder.join(&format!("{last}{TEMP_SUFFIX}")).unwrap_or(folder)
}

/// Names made here are plain, so that joining them never fails.
fn path_in(folder: &'static str, name: &str) -> RelPath {
    let folder = RelPath::folder(folder);
    folder.join(name).unwrap_or(folder)
}
