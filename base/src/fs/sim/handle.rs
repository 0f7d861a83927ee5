//! Open files and locks of the simulated disk.

use super::content::{Change, Inode};
use super::crash::Dice;
use super::disk::{Disk, Interruption};
use super::fault::{Fault, OpKind, flip};
use crate::fs::{AppendFile, ReadFile, Release, SyncHandle};
use crate::lock::assert_may_block;
use parking_lot::Mutex;
use std::fmt;
use std::io;
use std::sync::Arc;

/// A file, opened under some name. The name is for faults and traces.
#[derive(Clone)]
pub(super) struct OpenFile {
    pub(super) disk: Arc<Mutex<Disk>>,
    pub(super) inode: Arc<Mutex<Inode>>,
    pub(super) path: String,
}

impl fmt::Debug for OpenFile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SimFs file {}", self.path)
    }
}

impl ReadFile for OpenFile {
    fn len(&self) -> io::Result<u64> {
        assert_may_block();
        let disk = self.disk.lock();
        if disk.is_off {
            return Err(Interruption::PowerIsOff.into());
        }
        Ok(self.inode.lock().seen().len() as u64)
    }

    fn read_exact_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<()> {
        assert_may_block();
        let begun = self.disk.lock().begin(OpKind::Read, &self.path, buffer.len() as u64);
        let flipped_bit = match begun {
            Ok(()) => None,
            Err(Interruption::Fault(Fault::BitFlip(bit))) => Some(bit),
            Err(interruption) => return Err(interruption.into()),
        };
        let offset = usize::try_from(offset).map_err(io::Error::other)?;
        if !self.inode.lock().seen().read(buffer, offset) {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        if let Some(bit) = flipped_bit {
            flip(buffer, bit);
        }
        Ok(())
    }
}

impl SyncHandle for OpenFile {
    fn sync_data(&self) -> io::Result<()> {
        assert_may_block();
        let mut disk = self.disk.lock();
        match disk.begin(OpKind::SyncData, &self.path, 0) {
            Ok(()) => disk.sync_file(&self.inode),
            Err(Interruption::Fault(Fault::LyingSync)) => {}
            Err(interruption) => {
                if let Interruption::Fault(_) = interruption {
                    self.inode.lock().lose_risked();
                }
                return Err(interruption.into());
            }
        }
        Ok(())
    }
}

/// A file being appended to.
#[derive(Debug)]
pub(super) struct SimAppendFile {
    pub(super) file: OpenFile,
    pub(super) len: usize,
}

impl SimAppendFile {
    /// Puts `bytes` behind the appended ones, as many as there is space for. How many that were.
    fn put(&self, disk: &mut Disk, bytes: &[u8]) -> usize {
        let mut inode = self.file.inode.lock();
        let growth = (self.len + bytes.len()).saturating_sub(inode.seen().len());
        let missing = growth as u64 - disk.take_space(growth as u64);
        let (fitting, _) = bytes.split_at(bytes.len() - missing as usize);
        if !fitting.is_empty() {
            inode.change(Change::Write { offset: self.len, bytes: fitting.to_vec() });
        }
        fitting.len()
    }
}

impl AppendFile for SimAppendFile {
    fn append(&mut self, bytes: &[u8]) -> io::Result<()> {
        assert_may_block();
        let disk = Arc::clone(&self.file.disk);
        let mut disk = disk.lock();
        let written = match disk.begin(OpKind::Append, &self.file.path, bytes.len() as u64) {
            Ok(()) => self.put(&mut disk, bytes),
            Err(Interruption::Fault(Fault::BitFlip(bit))) => {
                let mut flipped = bytes.to_vec();
                flip(&mut flipped, bit);
                self.put(&mut disk, &flipped)
            }
            Err(interruption) => {
                let some = match interruption {
                    Interruption::Fault(Fault::DiskFull) => bytes.len() / 2,
                    Interruption::PowerFails => Dice(disk.trace).below(bytes.len() + 1),
                    Interruption::Fault(_) | Interruption::PowerIsOff => 0,
                };
                let (head, _) = bytes.split_at(some);
                self.put(&mut disk, head);
                return Err(interruption.into());
            }
        };
        if written < bytes.len() {
            return Err(Fault::DiskFull.error());
        }
        self.len += written;
        Ok(())
    }

    fn len(&self) -> u64 {
        self.len as u64
    }

    fn sync_handle(&self) -> Arc<dyn SyncHandle> {
        Arc::new(self.file.clone())
    }

    fn finish(self: Box<Self>) -> io::Result<u64> {
        assert_may_block();
        let mut disk = self.file.disk.lock();
        disk.begin(OpKind::Finish, &self.file.path, self.len())?;
        let mut inode = self.file.inode.lock();
        let unused = inode.seen().len().saturating_sub(self.len);
        if unused > 0 {
            inode.change(Change::SetLen(self.len));
            disk.give_back(unused as u64);
        }
        drop((inode, disk));
        self.file.sync_data()?;
        Ok(self.len())
    }
}

/// A lock being held.
pub(super) struct HeldLock {
    pub(super) disk: Arc<Mutex<Disk>>,
    pub(super) path: String,
}

impl Release for HeldLock {}

impl fmt::Debug for HeldLock {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SimFs lock {}", self.path)
    }
}

impl Drop for HeldLock {
    fn drop(&mut self) {
        self.disk.lock().locks.remove(&self.path);
    }
}
