//! How blocks are compressed.
//!
//! The compression byte of a block is in the index entry that points at it, with the length before
//! compression, so a decompressor is told how much to expect before it sees a byte.

use base::Corruption;
use base::codec::Decoded;

/// How blocks are compressed. Part of the format, do not change.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(u8)]
pub enum Compression {
    /// Not at all.
    #[default]
    None = 0,
    /// Zstandard at level 1: about half the size, 10 us a block to write and 3 us to read.
    Zstd = 1,
}

impl Compression {
    /// Whether stored bytes are the block itself.
    pub const fn is_none(self) -> bool {
        matches!(self, Compression::None)
    }

    /// The compression whose byte is `raw`, or `None` for a byte this version does not know.
    pub const fn from_raw(raw: u8) -> Option<Compression> {
        Some(match raw {
            0 => Compression::None,
            1 => Compression::Zstd,
            _ => return None,
        })
    }
}

/// A compressed block must save this part of its bytes to be kept.
const SAVING_MIN: usize = 8;

/// Compresses blocks of one table.
#[derive(Default)]
pub(crate) struct Compressor {
    #[cfg(feature = "zstd")]
    zstd: Option<zstd::bulk::Compressor<'static>>,
    compressed: Vec<u8>,
}

impl Compressor {
    /// Replaces `block[start..]` by its compressed form if that is worth it. Returns what was done.
    pub(crate) fn compress(
        &mut self,
        compression: Compression,
        block: &mut Vec<u8>,
        start: usize,
    ) -> Compression {
        let raw = block.get(start..).unwrap_or_default();
        let wanted_len = raw.len() - raw.len() / SAVING_MIN;
        if compression == Compression::None || !self.zstd_compress(raw, wanted_len) {
            return Compression::None;
        }
        block.truncate(start);
        block.extend_from_slice(&self.compressed);
        Compression::Zstd
    }

    /// Leaves `raw` compressed to less than `wanted_len` bytes in `self.compressed`, or returns
    /// false.
    #[cfg(feature = "zstd")]
    fn zstd_compress(&mut self, raw: &[u8], wanted_len: usize) -> bool {
        const LEVEL: i32 = 1;
        if self.zstd.is_none() {
            self.zstd = zstd::bulk::Compressor::new(LEVEL).ok();
        }
        let Some(zstd) = &mut self.zstd else { return false };
        self.compressed.clear();
        self.compressed.reserve(wanted_len);
        let compressed = zstd.compress_to_buffer(raw, &mut self.compressed);
        compressed.is_ok_and(|len| len < wanted_len)
    }

    #[cfg(not(feature = "zstd"))]
    fn zstd_compress(&mut self, _raw: &[u8], _wanted_len: usize) -> bool {
        false
    }
}

impl std::fmt::Debug for Compressor {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Compressor").finish_non_exhaustive()
    }
}

/// The `raw_len` bytes that `stored` was made from. Never allocates more than that.
pub(crate) fn decompress(
    compression: Compression,
    stored: &[u8],
    raw_len: usize,
) -> Decoded<Vec<u8>> {
    match compression {
        Compression::None if stored.len() == raw_len => Ok(stored.to_vec()),
        Compression::None => Err(Corruption::BadCompression),
        Compression::Zstd => zstd_decompress(stored, raw_len),
    }
}

#[cfg(feature = "zstd")]
fn zstd_decompress(stored: &[u8], raw_len: usize) -> Decoded<Vec<u8>> {
    use std::cell::RefCell;
    thread_local! {
        /// A context takes longer to make than a block to decompress.
        static ZSTD: RefCell<Option<zstd::bulk::Decompressor<'static>>> = const { RefCell::new(None) };
    }
    ZSTD.with_borrow_mut(|zstd| {
        if zstd.is_none() {
            *zstd = zstd::bulk::Decompressor::new().ok();
        }
        let zstd = zstd.as_mut().ok_or(Corruption::BadCompression)?;
        let mut raw = vec![0; raw_len];
        match zstd.decompress_to_buffer(stored, raw.as_mut_slice()) {
            Ok(len) if len == raw_len => Ok(raw),
            _ => Err(Corruption::BadCompression),
        }
    })
}

#[cfg(not(feature = "zstd"))]
fn zstd_decompress(_stored: &[u8], _raw_len: usize) -> Decoded<Vec<u8>> {
    Err(Corruption::UnknownAlgorithm)
}

#[cfg(all(test, feature = "zstd"))]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn what_does_not_shrink_is_stored_as_it_is() {
        let mut noise = vec![0; 4096];
        blake3::Hasher::new().finalize_xof().fill(&mut noise);
        let before = noise.clone();
        let done = Compressor::default().compress(Compression::Zstd, &mut noise, 0);
        assert_eq!((done, noise), (Compression::None, before));
    }

    #[test]
    fn what_shrinks_comes_back_and_only_to_its_own_length() {
        let raw = b"a tide of tides ".repeat(300);
        let mut block = b"before".to_vec();
        block.extend_from_slice(&raw);
        let done = Compressor::default().compress(Compression::Zstd, &mut block, 6);
        assert_eq!(done, Compression::Zstd);
        let (before, stored) = block.split_at(6);
        assert!(before == b"before" && stored.len() < raw.len() / 8);
        assert_eq!(decompress(done, stored, raw.len()), Ok(raw.clone()));
        for wrong in [0, raw.len() - 1, raw.len() + 1] {
            assert_eq!(decompress(done, stored, wrong), Err(Corruption::BadCompression));
        }
    }

    proptest! {
        #[test]
        fn hostile_bytes_never_panic(bytes: Vec<u8>, raw_len in 0usize..100_000) {
            let _ = decompress(Compression::Zstd, &bytes, raw_len);
        }
    }
}
