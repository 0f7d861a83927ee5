//! A window of a file that is written through memory.
//!
//! ```text
//! file    |.............|============ window ============|............|
//!         0             start (page)      len            end          reserved
//! ```

use memmap2::{MmapMut, MmapOptions};
use std::fs::File;
use std::io;

/// Bytes mapped at a time: few, because a sync takes each page that is mapped away from all processors, which
/// are interrupted for it.
const WINDOW_LEN: u64 = 128 << 10;
/// Windows start at multiples of this, the largest page size of our platforms.
const PAGE_LEN: u64 = 64 << 10;

/// A writable shared mapping of a part of a file.
#[derive(Debug)]
pub(super) struct Window {
    start: u64,
    map: MmapMut,
}

impl Window {
    /// The window of `file` that holds `offset`, ending at `reserved` at the latest. `None` if
    /// nothing is reserved there.
    ///
    /// All bytes below `reserved` must have blocks of their own.
    pub(super) fn at(file: &File, offset: u64, reserved: u64) -> io::Result<Option<Window>> {
        if offset >= reserved {
            return Ok(None);
        }
        let start = offset - offset % PAGE_LEN;
        let len = WINDOW_LEN.min(reserved - start);
        let mut options = MmapOptions::new();
        options.offset(start).len(usize::try_from(len).map_err(io::Error::other)?);
        // SAFETY: the mapping is sound while nobody else writes or shortens this part of the
        // file. The file was created by us under a fresh name; its one `MapFile` appends to it,
        // through this window or behind `len` by pwrite, and drops the window before it shortens
        // the file. Other readers use pread. Another process could still edit the file; the
        // directory lock forbids that.
        let map = unsafe { options.map_mut(file) }?;
        Ok(Some(Window { start, map }))
    }

    /// Copies `bytes` to `offset` of the file; `false` if they do not fit into the window.
    #[inline]
    pub(super) fn write(&mut self, bytes: &[u8], offset: u64) -> bool {
        let Some(at) = offset.checked_sub(self.start).and_then(|at| usize::try_from(at).ok())
        else {
            return false;
        };
        match self.map.get_mut(at..).and_then(|rest| rest.get_mut(..bytes.len())) {
            Some(place) => {
                place.copy_from_slice(bytes);
                true
            }
            None => false,
        }
    }
}
