//! What a cache tells about itself.

/// What a cache has done since it was made, and what it holds now.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct CacheStats {
    /// Reads that found their block in memory.
    pub hits: u64,
    /// Reads that had to fetch their block.
    pub misses: u64,
    /// Blocks that were kept after a miss.
    pub inserts: u64,
    /// Blocks that were dropped to make room.
    pub evictions: u64,
    /// Blocks in memory.
    pub blocks: usize,
    /// Bytes of the blocks in memory.
    pub bytes: usize,
    /// Bytes of those blocks that were used once of late (T1).
    pub recent_bytes: usize,
    /// Bytes that blocks used once may have, as the policy has learned (p).
    pub target_bytes: usize,
    /// Evicted blocks that are remembered (B1 and B2).
    pub ghosts: usize,
    /// Bytes of indexes and filters that share the budget.
    pub charged_bytes: usize,
    /// The budget.
    pub capacity_bytes: usize,
    /// How many locks share the work.
    pub shards: usize,
}

impl CacheStats {
    /// The part of reads that found their block in memory, 0 to 1; 0 before the first read.
    pub fn hit_rate(&self) -> f64 {
        match self.hits + self.misses {
            0 => 0.0,
            reads => self.hits as f64 / reads as f64,
        }
    }
}
