//! What is behind a bad byte: promises, or nothing but zeros.
//!
//! A frame's header verifies by the segment's key and its own offset, so a search for the magic at
//! every byte finds the frames behind a damaged one, and never takes a value for a frame.

use base::Position;
use base::frame::{self, FrameHeader, FrameKey, HEADER_LEN, MAGIC};
use base::fs::ReadFile;
use std::io;

/// Bytes looked at in one go.
const STEP_LEN: usize = 1 << 20;

/// The highest promise in any verifying frame header of `file` that starts at or behind `from`.
pub fn highest_promise(file: &dyn ReadFile, key: &FrameKey, from: u64) -> io::Result<Position> {
    let len = file.len()?;
    let mut highest = Position::ZERO;
    let mut bytes = Vec::new();
    let mut start = from;
    while start < len {
        read_at_most(file, &mut bytes, start, STEP_LEN + HEADER_LEN - 1, len)?;
        for header in headers(key, &bytes, start) {
            highest = highest.max(header.promise);
        }
        start += STEP_LEN as u64;
    }
    Ok(highest)
}

/// Whether nothing but zeros stand in `file` from `from` on.
pub(crate) fn only_zeros(file: &dyn ReadFile, from: u64) -> io::Result<bool> {
    let len = file.len()?;
    let mut bytes = Vec::new();
    let mut start = from;
    while start < len {
        read_at_most(file, &mut bytes, start, STEP_LEN, len)?;
        if !is_zero(&bytes) {
            return Ok(false);
        }
        start += STEP_LEN as u64;
    }
    Ok(true)
}

/// The verifying frame headers that start anywhere in `bytes`, which stand at `start`.
pub(crate) fn headers<'a>(
    key: &'a FrameKey,
    bytes: &'a [u8],
    start: u64,
) -> impl DoubleEndedIterator<Item = FrameHeader> + 'a {
    bytes
        .windows(HEADER_LEN)
        .enumerate()
        .filter(|(_, window)| window.starts_with(&MAGIC))
        .filter_map(move |(at, window)| frame::decode_header(key, window, start + at as u64).ok())
}

fn is_zero(bytes: &[u8]) -> bool {
    // Comparing whole chunks is one call of `memcmp` each, fast in unoptimised builds too.
    const ZEROS: [u8; 4096] = [0; 4096];
    bytes.chunks(ZEROS.len()).all(|chunk| ZEROS.starts_with(chunk))
}

fn read_at_most(
    file: &dyn ReadFile,
    bytes: &mut Vec<u8>,
    start: u64,
    len: usize,
    file_len: u64,
) -> io::Result<()> {
    let rest = usize::try_from(file_len.saturating_sub(start)).unwrap_or(usize::MAX);
    bytes.resize(len.min(rest), 0);
    file.read_exact_at(bytes, start)
}

#[cfg(test)]
mod tests {
    use super::*;
    use base::Tick;
    use base::dir::{RelPath, TABLES_DIR};
    use base::frame::FrameKind;
    use base::fs::{Fs, SimFs};
    use std::sync::Arc;

    fn file_of(bytes: &[u8]) -> Arc<dyn ReadFile> {
        let disk = SimFs::new(1);
        let folder = RelPath::folder(TABLES_DIR);
        disk.create_dir(&folder).unwrap();
        let path = folder.join("any").unwrap();
        disk.write_file(&path, bytes).unwrap();
        disk.open(&path).unwrap()
    }

    /// A frame is found wherever it stands, also across the border of two reads.
    #[test]
    fn a_promise_is_found_at_every_place() {
        let key = FrameKey::derive("test", b"segment");
        let promise = Position { segment: 4, offset: 77 };
        for offset in [10, STEP_LEN - HEADER_LEN, STEP_LEN - 95, STEP_LEN - 1, STEP_LEN] {
            let header = FrameHeader {
                kind: FrameKind::Seal,
                payload_len: 0,
                offset: offset as u64,
                first_seqno: Tick::ZERO,
                last_seqno: Tick::ZERO,
                promise,
                previous: [0; 16],
            };
            let mut bytes = vec![b'E'; offset];
            frame::encode(&mut bytes, &key, &header, &[]);
            let file = file_of(&bytes);
            assert_eq!(highest_promise(file.as_ref(), &key, 0).unwrap(), promise);
            let behind = highest_promise(file.as_ref(), &key, offset as u64 + 1).unwrap();
            assert_eq!(behind, Position::ZERO);
        }
    }

    #[test]
    fn one_bit_anywhere_is_not_only_zeros() {
        let mut bytes = vec![0; STEP_LEN + 1000];
        assert!(only_zeros(file_of(&bytes).as_ref(), 0).unwrap());
        for at in [0, 255, 256, STEP_LEN - 1, STEP_LEN, STEP_LEN + 999] {
            bytes[at] = 1;
            assert!(!only_zeros(file_of(&bytes).as_ref(), 0).unwrap(), "byte {at}");
            assert!(only_zeros(file_of(&bytes).as_ref(), at as u64 + 1).unwrap());
            bytes[at] = 0;
        }
    }
}
