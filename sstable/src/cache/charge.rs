//! Memory that is not blocks but shares their budget.

use super::Cache;
use std::sync::Arc;

/// Bytes that an open table uses outside of blocks. Blocks get them back when it is dropped.
#[derive(Debug)]
#[must_use = "the bytes are given back at once when the charge is dropped"]
pub struct Charge {
    cache: Arc<Cache>,
    bytes: usize,
}

impl Charge {
    pub(super) fn new(cache: Arc<Cache>, bytes: usize) -> Charge {
        cache.add_charge(bytes);
        Charge { cache, bytes }
    }

    /// How many bytes.
    pub fn bytes(&self) -> usize {
        self.bytes
    }
}

impl Drop for Charge {
    fn drop(&mut self) {
        self.cache.release_charge(self.bytes);
    }
}
