//! Faults on order: which operation fails, on which file, when, and how.

use super::content::PAGE_LEN;
use std::io;

/// The operations of a file system.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum OpKind {
    /// [`Fs::open`](crate::fs::Fs::open).
    Open,
    /// [`ReadFile::read_exact_at`](crate::fs::ReadFile::read_exact_at).
    Read,
    /// [`Fs::list`](crate::fs::Fs::list).
    List,
    /// [`Fs::create`](crate::fs::Fs::create).
    Create,
    /// [`AppendFile::append`](crate::fs::AppendFile::append).
    Append,
    /// [`SyncHandle::sync_data`](crate::fs::SyncHandle::sync_data), and the second half of
    /// [`AppendFile::finish`](crate::fs::AppendFile::finish).
    SyncData,
    /// The first half of [`AppendFile::finish`](crate::fs::AppendFile::finish): giving back space.
    Finish,
    /// [`Fs::create_dir`](crate::fs::Fs::create_dir).
    CreateDir,
    /// [`Fs::rename`](crate::fs::Fs::rename), named by where the file goes.
    Rename,
    /// [`Fs::link`](crate::fs::Fs::link), named by where the file comes from.
    Link,
    /// [`Fs::remove`](crate::fs::Fs::remove).
    Remove,
    /// [`Fs::sync_dir`](crate::fs::Fs::sync_dir).
    SyncDir,
    /// [`Fs::lock`](crate::fs::Fs::lock).
    Lock,
}

impl OpKind {
    /// Whether it changes the disk or what is safe on it.
    pub fn is_change(self) -> bool {
        self >= OpKind::Create
    }
}

/// How an operation fails. A fault that makes no sense for an operation acts as [`Fault::Io`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// The device fails. After a failed sync of a file, what it should have secured never gets safe,
    /// though later syncs succeed; of a folder, a later sync may secure it.
    Io,
    /// No space: an append writes the first half of its bytes, then fails.
    DiskFull,
    /// The process has too many open files.
    TooManyFiles,
    /// A signal interrupts the call before it did anything.
    Interrupted,
    /// A read ends before its buffer is full.
    ShortRead,
    /// A read delivers, or an append writes, its bytes with this bit flipped (counted through the
    /// bytes, and around).
    BitFlip(u64),
    /// A read delivers, or an append writes, zeros in this one of the pages of 4 KiB that it touches
    /// (counted around).
    ZeroedPage(u64),
    /// A read is of, or an append goes to, a place this many pages further on in the file (counted
    /// around). Where the bytes should have gone, nothing changes.
    WrongPlace(u64),
    /// A read is of, or an append goes to, the same place of another file: of those that have it,
    /// this one (counted around). Where the bytes should have gone, nothing changes.
    WrongFile(u64),
    /// A sync reports success and secures nothing; a later one may.
    LyingSync,
    /// A sync reports success, and what it should have secured never gets safe, though later syncs
    /// succeed.
    LosingSync,
}

impl Fault {
    /// The error that a caller sees.
    pub(super) fn error(self) -> io::Error {
        use rustix::io::Errno;
        match self {
            Fault::DiskFull => Errno::NOSPC.into(),
            Fault::TooManyFiles => Errno::MFILE.into(),
            Fault::Interrupted => Errno::INTR.into(),
            Fault::ShortRead => io::ErrorKind::UnexpectedEof.into(),
            Fault::Io
            | Fault::BitFlip(_)
            | Fault::ZeroedPage(_)
            | Fault::WrongPlace(_)
            | Fault::WrongFile(_)
            | Fault::LyingSync
            | Fault::LosingSync => Errno::IO.into(),
        }
    }
}

/// Flips bit number `bit`, counted through `bytes` and around.
pub(super) fn flip(bytes: &mut [u8], bit: u64) {
    let bits = bytes.len() as u64 * 8;
    let Some(bit) = bit.checked_rem(bits) else { return };
    if let Some(byte) = usize::try_from(bit / 8).ok().and_then(|at| bytes.get_mut(at)) {
        *byte ^= 1 << (bit % 8);
    }
}

/// Zeroes what of page number `page` lies in `bytes`, which stand at `offset`; pages are counted
/// from the first that they touch, and around.
pub(super) fn zero_page(bytes: &mut [u8], offset: usize, page: u64) {
    let head = PAGE_LEN - offset % PAGE_LEN;
    let pages = 1 + bytes.len().saturating_sub(head).div_ceil(PAGE_LEN);
    let page = usize::try_from(page % pages as u64).unwrap_or(0);
    let start = if page == 0 { 0 } else { head + (page - 1) * PAGE_LEN };
    let end = (head + page * PAGE_LEN).min(bytes.len());
    if let Some(bytes) = bytes.get_mut(start..end) {
        bytes.fill(0);
    }
}

/// `offset` moved by `pages` in a file of `len` bytes, around its end.
pub(super) fn wrong_place(offset: usize, pages: u64, len: usize) -> usize {
    let pages_of_file = len.div_ceil(PAGE_LEN).max(1);
    let page = (offset / PAGE_LEN + usize::try_from(pages).unwrap_or(0)) % pages_of_file;
    page * PAGE_LEN + offset % PAGE_LEN
}

/// A fault and when it strikes.
#[derive(Clone, Debug)]
pub struct FaultPlan {
    fault: Fault,
    /// None stands for any.
    op: Option<OpKind>,
    path: String,
    /// Matching operations to let pass.
    pass: u64,
    /// Matching operations to strike after those.
    strike: u64,
}

impl FaultPlan {
    /// `fault` strikes the next `op` on any file, once.
    pub fn new(op: OpKind, fault: Fault) -> FaultPlan {
        FaultPlan { fault, op: Some(op), path: String::new(), pass: 0, strike: 1 }
    }

    /// `fault` strikes the next operation of any kind, once.
    pub fn any(fault: Fault) -> FaultPlan {
        FaultPlan { fault, op: None, path: String::new(), pass: 0, strike: 1 }
    }

    /// Only on files whose path contains `part`.
    pub fn on(self, part: &str) -> FaultPlan {
        FaultPlan { path: part.to_owned(), ..self }
    }

    /// Lets `count` matching operations pass first.
    pub fn after(self, count: u64) -> FaultPlan {
        FaultPlan { pass: count, ..self }
    }

    /// Strikes every time from then on, until the faults are cleared.
    pub fn sticky(self) -> FaultPlan {
        FaultPlan { strike: u64::MAX, ..self }
    }

    /// Counts an operation. The fault, if this is its turn.
    pub(super) fn strike(&mut self, op: OpKind, path: &str) -> Option<Fault> {
        if self.op.is_some_and(|own| own != op) || !path.contains(&self.path) {
            return None;
        }
        if self.pass > 0 {
            self.pass -= 1;
            return None;
        }
        if self.strike == 0 {
            return None;
        }
        self.strike -= 1;
        Some(self.fault)
    }
}
