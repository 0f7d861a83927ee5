//! The unit in which tables are read.

/// A validated block.
#[derive(Debug)]
pub struct Block {
    bytes: Box<[u8]>,
}

impl Block {
    /// Bytes of memory that it takes.
    pub fn memory(&self) -> usize {
        self.bytes.len() + size_of::<Block>()
    }
}
