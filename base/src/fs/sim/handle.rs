//! Open files and locks of the simulated disk.

use super::content::{Change, Inode, split};
use super::crash::Dice;
use super::disk::{Disk, Interruption};
use super::fault::{Fault, OpKind, flip, wrong_place, zero_page};
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
        let offset = usize::try_from(offset).map_err(io::Error::other)?;
        let mut disk = self.disk.lock();
        let fault = match disk.begin(OpKind::Read, &self.path, buffer.len() as u64) {
            Ok(()) => None,
            Err(Interruption::Fault(fault)) if is_of_bytes(fault) => Some(fault),
            Err(interruption) => return Err(interruption.into()),
        };
        let own = self.inode.lock();
        let (mut from, mut at) = (own.seen().clone(), offset);
        drop(own);
        match fault {
            Some(Fault::WrongPlace(pages)) => at = wrong_place(offset, pages, from.len()),
            Some(Fault::WrongFile(number)) => {
                let other = self.other_file(&disk, number, offset + buffer.len());
                from = other.map_or(from, |other| other.lock().seen().clone());
            }
            _ => {}
        }
        if !from.read(buffer, at) {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        match fault {
            Some(Fault::BitFlip(bit)) => flip(buffer, bit),
            Some(Fault::ZeroedPage(page)) => zero_page(buffer, offset, page),
            _ => {}
        }
        Ok(())
    }
}

/// Whether it makes an operation succeed with wrong bytes.
fn is_of_bytes(fault: Fault) -> bool {
    matches!(
        fault,
        Fault::BitFlip(_) | Fault::ZeroedPage(_) | Fault::WrongPlace(_) | Fault::WrongFile(_)
    )
}

impl OpenFile {
    /// Of the other files of at least `len` bytes, number `number`, counted around.
    fn other_file(&self, disk: &Disk, number: u64, len: usize) -> Option<Arc<Mutex<Inode>>> {
        let own = self.inode.lock().id;
        let mut others = disk.named_files();
        others.retain(|id, inode| *id != own && inode.lock().seen().len() >= len);
        let number = number.checked_rem(others.len() as u64)?;
        others.into_values().nth(usize::try_from(number).unwrap_or(0))
    }
}

impl SyncHandle for OpenFile {
    fn sync_data(&self) -> io::Result<()> {
        assert_may_block();
        let gate = self.disk.lock().gate.clone();
        gate.pass(&self.path);
        let mut disk = self.disk.lock();
        match disk.begin(OpKind::SyncData, &self.path, 0) {
            Ok(()) => disk.sync_file(&self.inode),
            Err(Interruption::Fault(Fault::LyingSync)) => {}
            Err(Interruption::Fault(Fault::LosingSync)) => self.inode.lock().lose_risked(),
            Err(Interruption::Fault(Fault::Interrupted)) => {
                return Err(Fault::Interrupted.error());
            }
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
        let fitting = room_for(disk, &inode, self.len, bytes);
        if !fitting.is_empty() {
            inode.change(Change::Write { offset: self.len, bytes: fitting.into() });
        }
        fitting.len()
    }

    /// As [`SimAppendFile::put`], but the bytes are spoiled by `fault` on their way.
    fn put_wrong(&self, disk: &mut Disk, bytes: &[u8], fault: Fault) -> usize {
        let mut spoiled = bytes.to_vec();
        match fault {
            Fault::BitFlip(bit) => flip(&mut spoiled, bit),
            Fault::ZeroedPage(page) => zero_page(&mut spoiled, self.len, page),
            Fault::WrongPlace(_) | Fault::WrongFile(_) => {
                return self.put_elsewhere(disk, bytes, fault);
            }
            _ => {}
        }
        self.put(disk, &spoiled)
    }

    /// The file gets as long as it should, and the bytes go elsewhere.
    fn put_elsewhere(&self, disk: &mut Disk, bytes: &[u8], fault: Fault) -> usize {
        let end = self.len + bytes.len();
        let (mut target, mut offset) = (Arc::clone(&self.file.inode), self.len);
        match fault {
            Fault::WrongPlace(pages) => {
                offset = wrong_place(offset, pages, self.file.inode.lock().seen().len());
            }
            Fault::WrongFile(number) => match self.file.other_file(disk, number, end) {
                Some(other) => target = other,
                None => return self.put(disk, bytes),
            },
            _ => {}
        }
        let mut own = self.file.inode.lock();
        let fitting = room_for(disk, &own, self.len, bytes);
        if own.seen().len() < self.len + fitting.len() {
            own.change(Change::SetLen(self.len + fitting.len()));
        }
        drop(own);
        let (landing, _) = bytes.split_at(fitting.len());
        let mut target = target.lock();
        let (landing, _) = split(landing, target.seen().len().saturating_sub(offset));
        target.change(Change::Write { offset, bytes: landing.into() });
        fitting.len()
    }
}

/// What of `bytes` there is space for at `offset` of a file.
fn room_for<'a>(disk: &mut Disk, inode: &Inode, offset: usize, bytes: &'a [u8]) -> &'a [u8] {
    let growth = (offset + bytes.len()).saturating_sub(inode.seen().len());
    let missing = growth as u64 - disk.take_space(growth as u64);
    let (fitting, _) = bytes.split_at(bytes.len() - missing as usize);
    fitting
}

impl AppendFile for SimAppendFile {
    fn append(&mut self, bytes: &[u8]) -> io::Result<()> {
        assert_may_block();
        let disk = Arc::clone(&self.file.disk);
        let mut disk = disk.lock();
        let begun = disk.begin(OpKind::Append, &self.file.path, bytes.len() as u64);
        if !matches!(begun, Err(Interruption::PowerFails | Interruption::PowerIsOff)) {
            let inode = self.file.inode.lock().id;
            disk.trace_append(inode, self.len, bytes);
        }
        let written = match begun {
            Ok(()) => self.put(&mut disk, bytes),
            Err(Interruption::Fault(fault)) if is_of_bytes(fault) => {
                self.put_wrong(&mut disk, bytes, fault)
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
