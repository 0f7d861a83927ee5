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
    // Folding whole chunks, rather than stopping at each byte, lets the compiler use wide registers.
    bytes.chunks(256).all(|chunk| chunk.iter().fold(0, |seen, byte| seen | byte) == 0)
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
