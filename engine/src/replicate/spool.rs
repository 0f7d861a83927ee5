//! Bytes that wait on the disk instead of in memory: what travels in pieces, until all of it is here, or
//! until all of it has left.
//!
//! It is a file among the tables that no edit names: it goes when this is dropped, or at the next open.
//! No other process ever reads it, so it is not synced.

use super::Replication;
use crate::parts::Parts;
use base::fs::{AppendFile, ReadFile, full_path};
use base::{Error, FileName, Result};
use std::path::PathBuf;
use std::sync::Arc;

/// See the module.
pub struct Spool {
    parts: Arc<Parts>,
    number: u64,
    writer: Box<dyn AppendFile>,
    reader: Option<Arc<dyn ReadFile>>,
}

impl Replication {
    /// Room on the disk for what is not to be held in memory.
    pub fn spool(&self) -> Result<Spool> {
        let parts = &self.parts;
        parts.refuse_if_closed()?;
        parts.refuse_if_read_only()?;
        let number = parts.installer.next_table();
        let name = FileName::Table(number).path();
        let path = full_path(&*parts.fs, &name);
        let writer = parts.fs.create(&name, 0).map_err(|e| Error::io("create", path, e))?;
        Ok(Spool { parts: parts.clone(), number, writer, reader: None })
    }
}

impl Spool {
    /// Adds bytes behind those that are there.
    ///
    /// # Errors
    /// `DiskFull` if users' writes need the space.
    pub fn append(&mut self, bytes: &[u8]) -> Result<()> {
        self.parts.admit_received(bytes.len() as u64)?;
        self.writer.append(bytes).map_err(|e| Error::io("append to", self.path(), e))
    }

    /// How many there are.
    pub fn len(&self) -> u64 {
        self.writer.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.writer.is_empty()
    }

    /// Replaces `bytes` by as many of the spool from `offset` on.
    pub fn read(&mut self, bytes: &mut [u8], offset: u64) -> Result<()> {
        let name = FileName::Table(self.number).path();
        let reader = match &self.reader {
            Some(reader) => reader.clone(),
            None => self.parts.fs.open(&name).map_err(|e| Error::io("open", self.path(), e))?,
        };
        reader.read_exact_at(bytes, offset).map_err(|e| Error::io("read", self.path(), e))?;
        self.reader = Some(reader);
        Ok(())
    }

    fn path(&self) -> PathBuf {
        full_path(&*self.parts.fs, &FileName::Table(self.number).path())
    }
}

impl Drop for Spool {
    fn drop(&mut self) {
        self.parts.obsolete.discard(&self.parts, self.number);
    }
}

impl std::fmt::Debug for Spool {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Spool {{ number: {}, bytes: {} }}", self.number, self.len())
    }
}
