//! The file of a table: reads of it, and errors that name it.

use base::fs::{Access, Fs, ReadFile, full_path};
use base::{Corruption, Error, FileName, Result, error::FileKind};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// The open file of a table.
#[derive(Debug)]
pub(crate) struct TableFile {
    file: Arc<dyn ReadFile>,
    path: PathBuf,
    len: u64,
}

impl TableFile {
    /// Opens the file of the table `id`.
    pub(crate) fn open(fs: &dyn Fs, id: u64) -> Result<TableFile> {
        let name = FileName::Table(id).path();
        let path = full_path(fs, &name);
        let file = match fs.open(&name) {
            Ok(file) => file,
            Err(e) if e.kind() == io::ErrorKind::NotFound => {
                return Err(Error::Missing { file: FileKind::Table, path });
            }
            Err(e) => return Err(Error::io("open", path, e)),
        };
        file.advise(Access::Random);
        let len = file.len().map_err(|e| Error::io("measure", &path, e))?;
        Ok(TableFile { file, path, len })
    }

    /// As if the file ended at `len`, if it is longer.
    pub(crate) fn ending_at(self, len: u64) -> TableFile {
        TableFile { len: self.len.min(len), ..self }
    }

    /// Whether the `len` bytes at `position` are in the file.
    pub(crate) fn has(&self, position: u64, len: u64) -> bool {
        position.checked_add(len).is_some_and(|end| end <= self.len)
    }

    /// Bytes of the file when it was opened.
    pub(crate) fn len(&self) -> u64 {
        self.len
    }

    /// Where it is, for messages.
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// Replaces `buffer` by the `len` bytes at `position`.
    pub(crate) fn read_into(&self, buffer: &mut Vec<u8>, position: u64, len: u64) -> Result<()> {
        if !self.has(position, len) {
            return Err(self.corrupt(position, Corruption::Truncated));
        }
        let len = usize::try_from(len).map_err(|_| self.corrupt(position, Corruption::OutOfRange));
        buffer.resize(len?, 0);
        self.file.read_exact_at(buffer, position).map_err(|e| Error::io("read", &self.path, e))
    }

    /// The `len` bytes at `position`.
    pub(crate) fn read(&self, position: u64, len: u64) -> Result<Vec<u8>> {
        let mut bytes = Vec::new();
        self.read_into(&mut bytes, position, len)?;
        Ok(bytes)
    }

    /// The file is corrupt at `position`.
    #[cold]
    pub(crate) fn corrupt(&self, position: u64, found: Corruption) -> Error {
        Error::corrupt(FileKind::Table, &self.path, position, found)
    }
}
