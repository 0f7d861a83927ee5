//! Placeholder until the cache is written.

/// The block cache.
#[derive(Debug)]
pub struct Cache;
