//! What waits outside of memory, were this a database on a disk.

use crate::store::Spool;
use base::{Error, Result};

/// See the module.
#[derive(Default)]
pub(crate) struct MemorySpool {
    bytes: Vec<u8>,
}

impl Spool for MemorySpool {
    fn append(&mut self, bytes: &[u8]) -> Result<()> {
        self.bytes.extend_from_slice(bytes);
        Ok(())
    }

    fn read(&mut self, bytes: &mut [u8], offset: u64) -> Result<()> {
        let rest = usize::try_from(offset).ok().and_then(|offset| self.bytes.get(offset..));
        let found = rest.and_then(|rest| rest.get(..bytes.len()));
        bytes.copy_from_slice(found.ok_or_else(|| Error::invalid("the spool ends before that"))?);
        Ok(())
    }
}
