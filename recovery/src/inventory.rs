//! Stage 5: every entry of the directory, by its name.
//!
//! Strangers are reported and never touched. A name of ours that is no regular file (a link, a
//! pipe, a folder) is refused: following it could leave the directory.

use base::dir::{ARCHIVE_DIR, MANIFEST_DIR, QUARANTINE_DIR, TABLES_DIR, WAL_DIR};
use base::error::FileKind;
use base::fs::{DirEntry, DirEntryKind, Fs, full_path};
use base::{Corruption, Error, FileName, RelPath, Result};
use std::collections::BTreeMap;
use std::io;

/// The folders of a database.
pub(crate) const FOLDERS: [&str; 3] = [MANIFEST_DIR, WAL_DIR, TABLES_DIR];

/// Numbers from here on are never given, so files that have them are none of ours.
const NUMBER_END: u64 = 1 << 62;

/// What is in a database directory.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Inventory {
    /// Files of the root folder.
    pub(crate) top: Vec<FileName>,
    /// Numbers and lengths.
    pub(crate) manifests: BTreeMap<u64, u64>,
    pub(crate) segments: BTreeMap<u64, u64>,
    pub(crate) tables: BTreeMap<u64, u64>,
    /// Segments kept for the next backup.
    pub(crate) archived: BTreeMap<u64, u64>,
    /// Paths of what is not ours.
    pub(crate) strangers: Vec<String>,
}

impl Inventory {
    /// Lists the directory. The error of listing its root is returned as it is.
    pub(crate) fn take(fs: &dyn Fs) -> io::Result<Result<Inventory>> {
        let entries = fs.list(&RelPath::root())?;
        Ok(Inventory::sort(fs, &entries))
    }

    fn sort(fs: &dyn Fs, entries: &[DirEntry]) -> Result<Inventory> {
        let mut inventory = Inventory::default();
        for entry in entries {
            let folder = FOLDERS.into_iter().find(|folder| *folder == entry.name);
            match (folder, FileName::parse(&entry.name)) {
                (Some(folder), _) => {
                    require_kind(fs, entry, DirEntryKind::Folder)?;
                    inventory.add_folder(fs, folder)?;
                }
                (None, Some(name)) => {
                    require_kind(fs, entry, DirEntryKind::File)?;
                    inventory.top.push(name);
                }
                (None, None) if entry.name == ARCHIVE_DIR => {
                    require_kind(fs, entry, DirEntryKind::Folder)?;
                    inventory.add_folder(fs, ARCHIVE_DIR)?;
                }
                (None, None) if entry.name == QUARANTINE_DIR => {
                    require_kind(fs, entry, DirEntryKind::Folder)?;
                }
                (None, None) => inventory.strangers.push(entry.name.clone()),
            }
        }
        Ok(inventory)
    }

    fn add_folder(&mut self, fs: &dyn Fs, folder: &'static str) -> Result<()> {
        let relative = RelPath::folder(folder);
        let entries =
            fs.list(&relative).map_err(|e| Error::io("list", full_path(fs, &relative), e))?;
        for mut entry in entries {
            entry.name = format!("{folder}/{}", entry.name);
            let name = FileName::parse(&entry.name).filter(|name| is_given(*name));
            if name.is_some() {
                require_kind(fs, &entry, DirEntryKind::File)?;
            }
            match name {
                Some(FileName::Manifest(number)) => self.manifests.insert(number, entry.len),
                Some(FileName::Segment(number)) => self.segments.insert(number, entry.len),
                Some(FileName::Table(number)) => self.tables.insert(number, entry.len),
                Some(FileName::Archived(number)) => self.archived.insert(number, entry.len),
                _ => {
                    self.strangers.push(entry.name);
                    None
                }
            };
        }
        Ok(())
    }

    /// Whether `name` stands in the root folder.
    pub(crate) fn has(&self, name: FileName) -> bool {
        self.top.contains(&name)
    }

    /// The numbers of all segments, ascending.
    pub(crate) fn segment_numbers(&self) -> Vec<u64> {
        self.segments.keys().copied().collect()
    }
}

fn is_given(name: FileName) -> bool {
    match name {
        FileName::Manifest(number)
        | FileName::Segment(number)
        | FileName::Table(number)
        | FileName::Archived(number) => number < NUMBER_END,
        _ => true,
    }
}

fn require_kind(fs: &dyn Fs, entry: &DirEntry, kind: DirEntryKind) -> Result<()> {
    if entry.kind == kind {
        return Ok(());
    }
    let path = fs.root().join(&entry.name);
    Err(Error::corrupt(FileKind::Stranger, path, 0, Corruption::UnknownKind))
}
