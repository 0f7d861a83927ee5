//! Reads that go past the cache: whole stretches of the file, for those who read all of it.

use super::{Stored, Table};
use crate::cache::CachedBlock;
use base::Result;
use std::ops::Range;
use std::sync::Arc;

/// Bytes of the first read; each further one doubles.
const SPAN_BYTES_MIN: u64 = 32 << 10;
/// Bytes of a read at most, unless one block is larger.
const SPAN_BYTES_MAX: u64 = 256 << 10;

/// Where a reader is going.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Direction {
    /// To higher block numbers.
    Forward,
    /// To lower block numbers.
    Backward,
}

/// A stretch of the file in memory, and how far the next one reaches.
#[derive(Debug)]
pub(crate) struct Spans {
    /// Where `bytes` starts in the file.
    position: u64,
    bytes: Vec<u8>,
    bytes_wanted: u64,
}

impl Spans {
    pub(crate) fn new() -> Spans {
        Spans { position: 0, bytes: Vec::new(), bytes_wanted: SPAN_BYTES_MIN }
    }

    /// The block `number` of `table`, one of `blocks`; reads more of `blocks` ahead.
    ///
    /// A block that happens to be in the cache is taken from there, without a trace.
    pub(crate) fn block(
        &mut self,
        table: &Table,
        blocks: &Range<usize>,
        number: usize,
        direction: Direction,
    ) -> Result<Arc<CachedBlock>> {
        if let Some(block) = &*table.slots.load(number as u32) {
            return Ok(Arc::clone(block));
        }
        let place = table.place(number)?;
        if self.stored(place.position, place.stored_len).is_none() {
            self.fetch(table, blocks, number, direction)?;
        }
        let stored = self.stored(place.position, place.stored_len).unwrap_or_default();
        let block = table.decode(number, place, Stored::Borrowed(stored));
        // A reader that tries again shall read again.
        let block = block.inspect_err(|_| self.bytes.clear())?;
        Ok(table.cache.bypass(&table.slots, number as u32, block))
    }

    fn stored(&self, position: u64, len: u32) -> Option<&[u8]> {
        let start = usize::try_from(position.checked_sub(self.position)?).ok()?;
        self.bytes.get(start..)?.get(..len as usize)
    }

    /// Reads `number` and as many blocks after or before it as the wanted bytes hold.
    fn fetch(
        &mut self,
        table: &Table,
        blocks: &Range<usize>,
        number: usize,
        direction: Direction,
    ) -> Result<()> {
        let (mut first, mut last) = (number, number);
        let len = |first, last| -> Result<u64> {
            let (first, last) = (table.place(first)?, table.place(last)?);
            Ok(last.position + u64::from(last.stored_len) - first.position)
        };
        match direction {
            Direction::Forward => {
                while last + 1 < blocks.end && len(first, last + 1)? <= self.bytes_wanted {
                    last += 1;
                }
            }
            Direction::Backward => {
                while first > blocks.start && len(first - 1, last)? <= self.bytes_wanted {
                    first -= 1;
                }
            }
        }
        let position = table.place(first)?.position;
        let mut bytes = std::mem::take(&mut self.bytes);
        table.file.read_into(&mut bytes, position, len(first, last)?)?;
        (self.position, self.bytes) = (position, bytes);
        self.bytes_wanted = (2 * self.bytes_wanted).min(SPAN_BYTES_MAX);
        Ok(())
    }
}
