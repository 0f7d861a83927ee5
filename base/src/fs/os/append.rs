//! Appending to a file: by pwrite, or by copying into a mapping of reserved space.
//!
//! Both leave the bytes in the page cache before `append` returns, so they survive the death of the
//! process, and one fdatasync of the file covers both. The mapping saves the system call: an append
//! of 150 bytes costs a tenth of a write.
//!
//! Invariants:
//! - `len` counts bytes that are in place. A failed append leaves it as it was; what was written
//!   behind it is overwritten by the next append.
//! - A mapping covers reserved blocks only, so touching it never runs out of space.

#[cfg(target_os = "linux")]
use super::map::Window;
use super::reserve::{Reserved, reserve};
use crate::fs::{AppendFile, SyncHandle};
use crate::lock::assert_may_block;
use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::sync::Arc;

/// Appends from here on are cheaper by pwrite than by touching page after page.
#[cfg(target_os = "linux")]
const PWRITE_LEN_MIN: usize = 64 << 10;

/// Starts appending to the new, empty `file` with `preallocate` bytes reserved.
pub(super) fn start(file: File, preallocate: u64) -> io::Result<Box<dyn AppendFile>> {
    let reserved = reserve(&file, preallocate)?;
    let allocated = if reserved == Reserved::Nothing { 0 } else { preallocate };
    let plain = PlainFile { file: Arc::new(file), len: 0, allocated };
    #[cfg(target_os = "linux")]
    if reserved == Reserved::Mappable {
        return Ok(Box::new(MapFile { plain, window: None }));
    }
    Ok(Box::new(plain))
}

/// Appends by pwrite.
#[derive(Debug)]
struct PlainFile {
    file: Arc<File>,
    len: u64,
    /// How long the file was made ahead; zeros from `len` on.
    allocated: u64,
}

impl AppendFile for PlainFile {
    fn append(&mut self, bytes: &[u8]) -> io::Result<()> {
        assert_may_block();
        self.file.write_all_at(bytes, self.len)?;
        self.len += bytes.len() as u64;
        Ok(())
    }

    fn len(&self) -> u64 {
        self.len
    }

    fn sync_handle(&self) -> Arc<dyn SyncHandle> {
        Arc::new(OsSyncHandle { file: Arc::clone(&self.file) })
    }

    fn finish(self: Box<Self>) -> io::Result<u64> {
        assert_may_block();
        if self.len < self.allocated {
            self.file.set_len(self.len)?;
            self.file.sync_all()?;
        } else {
            self.file.sync_data()?;
        }
        Ok(self.len)
    }
}

/// Appends by copying into a window of the reserved part; behind it, by pwrite.
#[cfg(target_os = "linux")]
#[derive(Debug)]
struct MapFile {
    plain: PlainFile,
    window: Option<Window>,
}

#[cfg(target_os = "linux")]
impl MapFile {
    /// Moves the window to the end of the file and copies there; pwrite for what does not fit.
    #[cold]
    fn append_elsewhere(&mut self, bytes: &[u8]) -> io::Result<()> {
        if bytes.len() < PWRITE_LEN_MIN {
            self.window = None; // unmapped before the next one is mapped
            let window = Window::at(&self.plain.file, self.plain.len, self.plain.allocated);
            self.window = window.unwrap_or(None); // no room to map: pwrite does as well
            if self.copy(bytes) {
                return Ok(());
            }
        }
        self.plain.append(bytes)
    }

    #[inline]
    fn copy(&mut self, bytes: &[u8]) -> bool {
        let copied = self.window.as_mut().is_some_and(|window| window.write(bytes, self.plain.len));
        if copied {
            self.plain.len += bytes.len() as u64;
        }
        copied
    }
}

#[cfg(target_os = "linux")]
impl AppendFile for MapFile {
    fn append(&mut self, bytes: &[u8]) -> io::Result<()> {
        assert_may_block();
        if bytes.len() < PWRITE_LEN_MIN && self.copy(bytes) {
            return Ok(());
        }
        self.append_elsewhere(bytes)
    }

    fn len(&self) -> u64 {
        self.plain.len
    }

    fn sync_handle(&self) -> Arc<dyn SyncHandle> {
        self.plain.sync_handle()
    }

    fn finish(self: Box<Self>) -> io::Result<u64> {
        let MapFile { plain, window } = *self;
        drop(window); // before the file gets shorter than it
        Box::new(plain).finish()
    }
}

#[derive(Debug)]
struct OsSyncHandle {
    file: Arc<File>,
}

impl SyncHandle for OsSyncHandle {
    fn sync_data(&self) -> io::Result<()> {
        assert_may_block();
        self.file.sync_data()
    }
}
