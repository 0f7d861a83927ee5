//! Faults on order: which operation fails, on which file, when, and how.

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
    /// The device fails. After a failed sync, what it should have secured never gets safe, though
    /// later syncs succeed.
    Io,
    /// No space: an append writes the first half of its bytes, then fails.
    DiskFull,
    /// The process has too many open files.
    TooManyFiles,
    /// A read ends before its buffer is full.
    ShortRead,
    /// A read delivers, or an append writes, its bytes with this bit flipped (counted through the
    /// bytes, and around).
    BitFlip(u64),
    /// A sync reports success and secures nothing.
    LyingSync,
}

impl Fault {
    /// The error that a caller sees.
    pub(super) fn error(self) -> io::Error {
        use rustix::io::Errno;
        match self {
            Fault::DiskFull => Errno::NOSPC.into(),
            Fault::TooManyFiles => Errno::MFILE.into(),
            Fault::ShortRead => io::ErrorKind::UnexpectedEof.into(),
            Fault::Io | Fault::BitFlip(_) | Fault::LyingSync => Errno::IO.into(),
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

/// A fault and when it strikes.
#[derive(Clone, Debug)]
pub struct FaultPlan {
    fault: Fault,
    op: OpKind,
    path: String,
    /// Matching operations to let pass.
    pass: u64,
    /// Matching operations to strike after those.
    strike: u64,
}

impl FaultPlan {
    /// `fault` strikes the next `op` on any file, once.
    pub fn new(op: OpKind, fault: Fault) -> FaultPlan {
        FaultPlan { fault, op, path: String::new(), pass: 0, strike: 1 }
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
        if op != self.op || !path.contains(&self.path) {
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
