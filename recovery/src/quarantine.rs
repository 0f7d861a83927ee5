//! Where evidence goes: what a crash cut off is set aside before anything could remove it, and is
//! never read again.
//!
//! Names: `quarantine/<generation>-<what>`, with a number behind if the name is taken.

use base::dir::QUARANTINE_DIR;
use base::fs::{Fs, ReadFile, full_path};
use base::{Error, FileName, RelPath, Result};
use std::io;
use std::sync::Arc;

/// Makes the table `number` of a running database also stand in quarantine, durably; once, however often
/// it is called. Returns where; none if the file is gone.
pub fn set_table_aside(fs: &Arc<dyn Fs>, generation: u64, number: u64) -> Result<Option<RelPath>> {
    let from = FileName::Table(number).path();
    match fs.open(&from) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        _ => {}
    }
    let mut quarantine = Quarantine::new(fs, generation);
    let what = format!("table-{number}");
    // Within one open a number is of one table only.
    match quarantine.standing(&what) {
        Some(earlier) => quarantine.files.push(earlier),
        None => quarantine.link(&from, &what)?,
    }
    quarantine.sync()?;
    Ok(quarantine.files.pop())
}

const STEP_LEN: usize = 1 << 20;
const NAMES_MAX: u32 = 1000;

/// A quarantine folder that takes what one open sets aside.
pub(crate) struct Quarantine<'a> {
    fs: &'a Arc<dyn Fs>,
    generation: u64,
    /// What was set aside.
    pub(crate) files: Vec<RelPath>,
}

impl<'a> Quarantine<'a> {
    pub(crate) fn new(fs: &'a Arc<dyn Fs>, generation: u64) -> Quarantine<'a> {
        Quarantine { fs, generation, files: Vec::new() }
    }

    /// Copies the bytes of `from` behind `offset`, without the zeros at their end. Nothing happens
    /// if only zeros are there.
    pub(crate) fn copy_tail(&mut self, from: &RelPath, offset: u64, what: &str) -> Result<()> {
        let path = full_path(self.fs.as_ref(), from);
        let read = |e| Error::io("read", &path, e);
        let file = self.fs.open(from).map_err(read)?;
        let end = content_end(file.as_ref(), offset).map_err(read)?;
        if end == offset {
            return Ok(());
        }
        let to = self.free_name(what)?;
        self.files.push(to.clone());
        let to_path = full_path(self.fs.as_ref(), &to);
        let write = |e| Error::io("write", &to_path, e);
        let mut copy = self.fs.create(&to, 0).map_err(write)?;
        let mut bytes = Vec::new();
        let mut at = offset;
        while at < end {
            bytes.resize(STEP_LEN.min(usize::try_from(end - at).unwrap_or(STEP_LEN)), 0);
            file.read_exact_at(&mut bytes, at).map_err(read)?;
            copy.append(&bytes).map_err(write)?;
            at += bytes.len() as u64;
        }
        copy.finish().map_err(write)?;
        Ok(())
    }

    /// Makes the whole file `from` also stand in quarantine.
    pub(crate) fn link(&mut self, from: &RelPath, what: &str) -> Result<()> {
        let to = self.free_name(what)?;
        self.files.push(to.clone());
        let path = full_path(self.fs.as_ref(), from);
        self.fs.link(from, self.fs.as_ref(), &to).map_err(|e| Error::io("link", path, e))
    }

    /// What was set aside earlier in this open as `what`.
    fn standing(&self, what: &str) -> Option<RelPath> {
        let name = format!("{:020}-{what}", self.generation);
        let path = RelPath::folder(QUARANTINE_DIR).join(&name)?;
        self.fs.open(&path).is_ok().then_some(path)
    }

    /// Makes everything set aside durable.
    pub(crate) fn sync(&self) -> Result<()> {
        if self.files.is_empty() {
            return Ok(());
        }
        let folder = RelPath::folder(QUARANTINE_DIR);
        let path = full_path(self.fs.as_ref(), &folder);
        self.fs.sync_dir(&folder).map_err(|e| Error::io("sync", path, e))
    }

    fn free_name(&self, what: &str) -> Result<RelPath> {
        let folder = RelPath::folder(QUARANTINE_DIR);
        let path = full_path(self.fs.as_ref(), &folder);
        let list = |e| Error::io("list", &path, e);
        if self.files.is_empty() {
            self.fs.create_dir(&folder).map_err(|e| Error::io("create", &path, e))?;
            let root = self.fs.root();
            self.fs.sync_dir(&RelPath::root()).map_err(|e| Error::io("sync", root, e))?;
        }
        let entries = self.fs.list(&folder).map_err(list)?;
        for number in 0..NAMES_MAX {
            let name = match number {
                0 => format!("{:020}-{what}", self.generation),
                number => format!("{:020}-{what}.{number}", self.generation),
            };
            if entries.iter().all(|entry| entry.name != name)
                && let Some(free) = folder.join(&name)
            {
                return Ok(free);
            }
        }
        Err(list(io::Error::other("too many files of one name are set aside there")))
    }
}

/// Where the last byte other than zero ends, from `offset` on.
fn content_end(file: &dyn ReadFile, offset: u64) -> io::Result<u64> {
    let len = file.len()?;
    let (mut end, mut at, mut bytes) = (offset, offset, Vec::new());
    while at < len {
        bytes.resize(STEP_LEN.min(usize::try_from(len - at).unwrap_or(STEP_LEN)), 0);
        file.read_exact_at(&mut bytes, at)?;
        if let Some(last) = bytes.iter().rposition(|byte| *byte != 0) {
            end = at + last as u64 + 1;
        }
        at += bytes.len() as u64;
    }
    Ok(end)
}
