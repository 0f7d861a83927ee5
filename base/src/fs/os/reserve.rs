//! Space on the disk before it is needed.

use std::fs::File;
use std::io;

/// What stands behind the bytes of a new file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Reserved {
    /// Nothing: the file grows with its appends.
    Nothing,
    /// Blocks of its own: writing there needs no further space.
    Blocks,
    /// Blocks of its own that may be written through a mapping without running out of space.
    Mappable,
}

/// Makes the empty `file` `len` bytes long, zeros with blocks of their own. Where a disk does not
/// know this, the file stays empty.
///
/// More than is free is refused before anything is reserved: some disks would take all there is
/// before they fail, and starve everyone else meanwhile.
#[cfg(target_os = "linux")]
pub(super) fn reserve(file: &File, len: u64) -> io::Result<Reserved> {
    use rustix::fs::{FallocateFlags, fallocate};
    use rustix::io::{Errno, retry_on_intr};
    if len == 0 {
        return Ok(Reserved::Nothing);
    }
    let disk = rustix::fs::fstatvfs(file)?;
    if disk.f_bavail.saturating_mul(disk.f_frsize) < len {
        return Err(Errno::NOSPC.into());
    }
    match retry_on_intr(|| fallocate(file, FallocateFlags::empty(), 0, len)) {
        Ok(()) if is_mappable(file)? => Ok(Reserved::Mappable),
        Ok(()) => Ok(Reserved::Blocks),
        Err(Errno::OPNOTSUPP | Errno::NOSYS) => Ok(Reserved::Nothing),
        Err(errno) => Err(errno.into()),
    }
}

#[cfg(not(target_os = "linux"))]
pub(super) fn reserve(_file: &File, _len: u64) -> io::Result<Reserved> {
    Ok(Reserved::Nothing)
}

/// Whether the disk keeps its word for a mapping: on a copying disk (btrfs) reserved blocks are
/// not the ones written, and running out of space would kill the process.
#[cfg(target_os = "linux")]
fn is_mappable(file: &File) -> io::Result<bool> {
    const EXT4: u64 = 0xef53;
    const XFS: u64 = 0x5846_5342;
    const TMPFS: u64 = 0x0102_1994;
    let kind = rustix::fs::fstatfs(file)?.f_type;
    Ok([EXT4, XFS, TMPFS].contains(&(kind as u64 & 0xffff_ffff)))
}
