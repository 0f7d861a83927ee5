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

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[derive(Debug)]
    struct Bytes(Vec<u8>);

    impl ReadFile for Bytes {
        fn len(&self) -> io::Result<u64> {
            Ok(self.0.len() as u64)
        }

        fn read_exact_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<()> {
            let from = offset as usize;
            let bytes = self.0.get(from..from + buffer.len());
            buffer.copy_from_slice(bytes.ok_or(io::ErrorKind::UnexpectedEof)?);
            Ok(())
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]

        /// Whatever is looked at in whatever order, it is the file's bytes, none behind the limit.
        #[test]
        fn a_window_shows_the_file_below_its_limit(
            looks in proptest::collection::vec((0u64..3 << 20, 0usize..2 << 20), 1..12),
            limits in proptest::collection::vec(0u64..3 << 20, 1..4),
        ) {
            let bytes: Vec<u8> = (0..3u32 << 20).map(|at| (at ^ (at >> 8)) as u8).collect();
            let mut window = Window::new(Arc::new(Bytes(bytes.clone())), 0);
            for limit in limits {
                window.raise_limit(limit);
                let below = &bytes[..window.limit() as usize];
                for (offset, len) in &looks {
                    window.fetch(*offset, *len).unwrap();
                    let expected = below.get(*offset as usize..).unwrap_or_default();
                    let visible = window.visible(*offset);
                    prop_assert!(visible.len() >= (*len).min(expected.len()));
                    prop_assert!(expected.starts_with(visible));
                }
            }
        }
    }
}
