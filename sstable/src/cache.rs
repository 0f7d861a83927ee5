//! The block cache: blocks of tables in memory, within a budget of bytes.
//!
//! ```text
//! table  ──> Slots: one slot a block ──> CachedBlock
//!                        ▲                    ▲ touch: one bit, no lock
//!                        │ empties            │
//! Cache  ──> Shard (lock) ──> Policy: CAR over its entries
//! ```
//!
//! A hit reads a slot and sets one bit: no lock, no hash table, no reference count. Misses and
//! evictions take the lock of one shard. Blocks of one table go to the shards in turn, so that the
//! shards fill evenly.
//!
//! Invariants:
//! - A slot holds a block if and only if the policy of its shard has the entry. Both change only
//!   under that shard's lock.
//! - The weights of a shard's entries never exceed the shard's part of what blocks may use.
//! - Evicted blocks are dropped after the lock is released.

mod charge;
mod lists;
mod policy;
mod slots;
mod stats;

pub use charge::Charge;
pub use slots::{CachedBlock, Slots};
pub use stats::CacheStats;

use crate::block::Block;
use base::Striped;
use base::lock::{Mutex, Rank};
use policy::{Evicted, Policy, Temperature};
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

/// A shard is worth its lock from this many bytes on; smaller ones would fill unevenly.
const SHARD_BYTES_MIN: usize = 4 << 20;
/// More shards than this do not help: hits take no lock.
const SHARDS_MAX: usize = 16;
/// The part of the capacity that charges leave to blocks: one in so many. With none at all every
/// read would be a file read.
const BLOCKS_PART_MIN: usize = 16;

/// Blocks of tables in memory, within a budget of bytes.
pub struct Cache {
    shards: Box<[Shard]>,
    /// Bytes for blocks and charges together.
    capacity: AtomicUsize,
    /// Bytes of the capacity that others use.
    charged: AtomicUsize,
    hits: Arc<Striped<AtomicU64>>,
}

struct Shard {
    policy: Mutex<Policy<Arc<CachedBlock>>>,
    misses: AtomicU64,
    inserts: AtomicU64,
    evictions: AtomicU64,
}

impl Cache {
    /// A cache of `capacity_bytes` for blocks and what is charged to it.
    pub fn new(capacity_bytes: usize) -> Arc<Cache> {
        let shards = prev_power_of_two(capacity_bytes / SHARD_BYTES_MIN).min(SHARDS_MAX);
        let cache = Cache {
            shards: (0..shards).map(|_| Shard::new(capacity_bytes / shards)).collect(),
            capacity: capacity_bytes.into(),
            charged: 0.into(),
            hits: Arc::default(),
        };
        Arc::new(cache)
    }

    /// Keeps `block`, which a read of the block `index` just missed, and returns it. If another
    /// thread was faster, returns that thread's block.
    pub fn insert(&self, slots: &Arc<Slots>, index: u32, block: Block) -> Arc<CachedBlock> {
        self.insert_as(Temperature::Warm, slots, index, block)
    }

    /// Like [`Cache::insert`], for a block that is probably read once: it is the next to go, unless
    /// it is touched first.
    pub fn insert_cold(&self, slots: &Arc<Slots>, index: u32, block: Block) -> Arc<CachedBlock> {
        self.insert_as(Temperature::Cold, slots, index, block)
    }

    /// Hands out `block` without keeping it, for a reader that shall leave no trace here.
    pub fn bypass(&self, slots: &Arc<Slots>, index: u32, block: Block) -> Arc<CachedBlock> {
        CachedBlock::new(block, slots, index, &self.hits)
    }

    fn insert_as(
        &self,
        temperature: Temperature,
        slots: &Arc<Slots>,
        index: u32,
        block: Block,
    ) -> Arc<CachedBlock> {
        let block = CachedBlock::new(block, slots, index, &self.hits);
        let shard = self.shard_of(slots, index);
        shard.misses.fetch_add(1, Ordering::Relaxed);
        let mut policy = shard.policy.lock();
        if let Some(present) = slots.load_full(index) {
            return present;
        }
        if slots.is_closed() || index as usize >= slots.len() {
            return block;
        }
        let (weight, fingerprint) = (block.weight(), slots.fingerprint(index));
        let Some(admitted) = policy.insert(fingerprint, weight, temperature, Arc::clone(&block))
        else {
            return block;
        };
        block.set_node(admitted.node);
        slots.fill(index, &block);
        shard.empty(&admitted.evicted);
        drop(policy);
        shard.inserts.fetch_add(1, Ordering::Relaxed);
        drop(admitted.evicted);
        block
    }

    /// Accounts `bytes` that an open table uses outside of blocks (index, filter) until the charge
    /// is dropped. Blocks make room at once.
    pub fn charge(self: &Arc<Cache>, bytes: usize) -> Charge {
        Charge::new(Arc::clone(self), bytes)
    }

    /// Removes all blocks of a table that is closed. Later inserts for it are not kept.
    pub fn forget(&self, slots: &Slots) {
        slots.close();
        for (number, shard) in self.shards.iter().enumerate() {
            let mut forgotten = Vec::new();
            let mut policy = shard.policy.lock();
            for index in slots.indexes_of_shard(number, self.shards.len()) {
                if let Some(block) = slots.take(index) {
                    policy.remove(block.node());
                    forgotten.push(block);
                }
            }
            drop(policy);
            drop(forgotten);
        }
    }

    /// Changes the budget; blocks make room at once. The number of shards stays.
    pub fn set_capacity(&self, capacity_bytes: usize) {
        self.capacity.store(capacity_bytes, Ordering::SeqCst);
        self.resize_shards();
    }

    /// What the cache has done and holds.
    pub fn stats(&self) -> CacheStats {
        let mut stats = CacheStats {
            hits: self.hits.sum(),
            capacity_bytes: self.capacity.load(Ordering::Relaxed),
            charged_bytes: self.charged.load(Ordering::Relaxed),
            shards: self.shards.len(),
            ..CacheStats::default()
        };
        self.shards.iter().for_each(|shard| shard.add_to(&mut stats));
        stats
    }

    fn add_charge(&self, bytes: usize) {
        self.charged.fetch_add(bytes, Ordering::SeqCst);
        self.resize_shards();
    }

    fn release_charge(&self, bytes: usize) {
        self.charged.fetch_sub(bytes, Ordering::SeqCst);
        self.resize_shards();
    }

    /// Gives every shard its part of what blocks may use now. Whoever changes the budget calls
    /// this afterwards and the budget is read under the shard's lock, so the last one is right.
    fn resize_shards(&self) {
        for shard in &self.shards {
            let mut policy = shard.policy.lock();
            let evicted = policy.set_capacity(self.block_bytes_max() / self.shards.len());
            shard.empty(&evicted);
            drop(policy);
            drop(evicted);
        }
    }

    /// Bytes that blocks may use.
    fn block_bytes_max(&self) -> usize {
        let capacity = self.capacity.load(Ordering::SeqCst);
        let left = capacity.saturating_sub(self.charged.load(Ordering::SeqCst));
        left.max(capacity / BLOCKS_PART_MIN)
    }

    fn shard_of(&self, slots: &Slots, index: u32) -> &Shard {
        &self.shards[slots.shard_of(index, self.shards.len())]
    }
}

impl fmt::Debug for Cache {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Cache").field(&self.stats()).finish()
    }
}

impl Shard {
    fn new(capacity_bytes: usize) -> Shard {
        Shard {
            policy: Mutex::new(Rank::CacheShard, Policy::new(capacity_bytes)),
            misses: 0.into(),
            inserts: 0.into(),
            evictions: 0.into(),
        }
    }

    /// Empties the slots of evicted blocks. The caller holds the lock.
    fn empty(&self, evicted: &Evicted<Arc<CachedBlock>>) {
        evicted.iter().for_each(|block| block.leave_slot());
        self.evictions.fetch_add(evicted.iter().len() as u64, Ordering::Relaxed);
    }

    fn add_to(&self, stats: &mut CacheStats) {
        let usage = self.policy.lock().usage();
        stats.misses += self.misses.load(Ordering::Relaxed);
        stats.inserts += self.inserts.load(Ordering::Relaxed);
        stats.evictions += self.evictions.load(Ordering::Relaxed);
        stats.blocks += usage.entries;
        stats.bytes += usage.bytes;
        stats.recent_bytes += usage.recent_bytes;
        stats.target_bytes += usage.target_bytes;
        stats.ghosts += usage.ghosts;
    }
}

/// The largest power of two that is at most `n`; 1 for 0.
fn prev_power_of_two(n: usize) -> usize {
    1 << n.max(1).ilog2()
}

#[cfg(test)]
mod tests;
