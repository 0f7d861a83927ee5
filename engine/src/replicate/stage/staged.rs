//! Reads what is staged back, one chunk at a time.

use super::Stage;
use base::error::FileKind;
use base::fs::{ReadFile, full_path};
use base::state::{StateChunk, StateEntry};
use base::{Corruption, Error, FileName, Result};
use std::cmp::Ordering;
use std::path::PathBuf;
use std::sync::Arc;

const HEADER_LEN: u64 = 4;

/// The chunks of a stage.
pub(super) struct Staged<'s> {
    stage: &'s Stage,
    file: Arc<dyn ReadFile>,
}

/// Whether to go on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Flow {
    On,
    Stop,
}

impl<'s> Staged<'s> {
    pub(super) fn open(stage: &'s Stage) -> Result<Staged<'s>> {
        let name = FileName::Table(stage.number).path();
        let path = || full_path(&*stage.parts.fs, &name);
        let file = stage.parts.fs.open(&name).map_err(|e| Error::io("open", path(), e))?;
        Ok(Staged { stage, file })
    }

    /// Calls `visit` with each range delete.
    pub(super) fn each_range(
        &self,
        mut visit: impl FnMut(&StateEntry<'_>) -> Result<()>,
    ) -> Result<()> {
        self.each(0, self.stage.outline.ranges_end, |entry| {
            if super::is_range(entry) {
                visit(entry)?;
            }
            Ok(Flow::On)
        })
    }

    /// Calls `visit` with each other entry of the keyspace `name`, which begin in the chunk at `first`.
    pub(super) fn each_point(
        &self,
        name: &str,
        first: u64,
        mut visit: impl FnMut(&StateEntry<'_>) -> Result<()>,
    ) -> Result<()> {
        self.each(first, self.stage.writer.len(), |entry| {
            if super::is_range(entry) {
                return Ok(Flow::On);
            }
            match entry.keyspace.cmp(name) {
                Ordering::Less => Ok(Flow::On),
                Ordering::Equal => visit(entry).map(|()| Flow::On),
                Ordering::Greater => Ok(Flow::Stop),
            }
        })
    }

    fn each(
        &self,
        start: u64,
        end: u64,
        mut visit: impl FnMut(&StateEntry<'_>) -> Result<Flow>,
    ) -> Result<()> {
        let (mut offset, mut bytes) = (start, Vec::new());
        while offset < end {
            self.read(offset, &mut bytes)?;
            let chunk = StateChunk::decode(&bytes).map_err(|found| self.broken(offset, found))?;
            for entry in &chunk.entries {
                if visit(entry)? == Flow::Stop {
                    return Ok(());
                }
            }
            offset += HEADER_LEN + bytes.len() as u64;
        }
        Ok(())
    }

    /// Reads the chunk at `offset`.
    fn read(&self, offset: u64, bytes: &mut Vec<u8>) -> Result<()> {
        let unreadable = |error| Error::io("read", self.path(), error);
        let mut header = [0; HEADER_LEN as usize];
        self.file.read_exact_at(&mut header, offset).map_err(unreadable)?;
        let len = u32::from_le_bytes(header) as usize;
        if len > super::CHUNK_LEN_MAX {
            return Err(self.broken(offset, Corruption::OutOfRange));
        }
        bytes.resize(len, 0);
        self.file.read_exact_at(bytes, offset + HEADER_LEN).map_err(unreadable)
    }

    fn broken(&self, offset: u64, found: Corruption) -> Error {
        Error::corrupt(FileKind::Table, self.path(), offset, found)
    }

    fn path(&self) -> PathBuf {
        full_path(&*self.stage.parts.fs, &FileName::Table(self.stage.number).path())
    }
}
