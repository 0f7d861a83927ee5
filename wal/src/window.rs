//! A window that moves over a file: big reads, small looks.

use base::fs::ReadFile;
use std::io;
use std::sync::Arc;

/// Bytes fetched at once, unless a look needs more.
const FETCH_LEN: usize = 1 << 20;

/// The bytes of a file below a limit, as far as they are needed.
#[derive(Debug)]
pub(crate) struct Window {
    file: Arc<dyn ReadFile>,
    /// Nothing from here on is read: it may still change.
    limit: u64,
    /// Where `bytes` stand in the file.
    start: u64,
    bytes: Vec<u8>,
}

impl Window {
    /// A window of the first `limit` bytes of `file`, which must have as many.
    pub(crate) fn new(file: Arc<dyn ReadFile>, limit: u64) -> Window {
        Window { file, limit, start: 0, bytes: Vec::new() }
    }

    pub(crate) fn file(&self) -> &Arc<dyn ReadFile> {
        &self.file
    }

    pub(crate) fn limit(&self) -> u64 {
        self.limit
    }

    /// Lets the window see more: bytes below the new limit do not change any more.
    pub(crate) fn raise_limit(&mut self, limit: u64) {
        self.limit = self.limit.max(limit);
    }

    /// Makes `len` bytes from `offset` on visible, or as many as the limit allows.
    pub(crate) fn fetch(&mut self, offset: u64, len: usize) -> io::Result<()> {
        let wanted = self.clip(offset, len);
        if self.visible(offset).len() >= wanted {
            return Ok(());
        }
        let kept = self.visible(offset).len();
        let skipped = self.bytes.len() - kept;
        self.bytes.copy_within(skipped.., 0);
        let target = self.clip(offset, wanted.max(FETCH_LEN));
        self.bytes.resize(target.max(kept), 0);
        self.start = offset;
        let missing = self.bytes.get_mut(kept..).unwrap_or_default();
        let read = self.file.read_exact_at(missing, offset + kept as u64);
        if read.is_err() {
            self.bytes.truncate(kept);
        }
        read
    }

    /// What is visible from `offset` on.
    #[inline]
    pub(crate) fn visible(&self, offset: u64) -> &[u8] {
        offset
            .checked_sub(self.start)
            .and_then(|skipped| self.bytes.get(usize::try_from(skipped).ok()?..))
            .unwrap_or_default()
    }

    fn clip(&self, offset: u64, len: usize) -> usize {
        let below_limit = self.limit.saturating_sub(offset);
        usize::try_from(below_limit).map_or(len, |below_limit| len.min(below_limit))
    }
}
