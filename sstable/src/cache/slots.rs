//! Where the blocks of one open table are found, if they are in memory.

use super::lists::NodeId;
use super::policy::{Entry, Policy};
use crate::block::Block;
use arc_swap::{ArcSwapOption, Guard};
use base::Striped;
use std::fmt;
use std::ops::Deref;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, Weak};

/// One slot for each block of an open table.
///
/// Readers load slots whenever they like. A slot changes only under the lock of its shard.
pub struct Slots {
    table: u64,
    closed: AtomicBool,
    slots: Box<[ArcSwapOption<CachedBlock>]>,
}

impl Slots {
    /// Empty slots for the `len` blocks of the table with the number `table`.
    pub fn new(table: u64, len: usize) -> Arc<Slots> {
        let slots = (0..len).map(|_| ArcSwapOption::empty()).collect();
        Arc::new(Slots { table, closed: false.into(), slots })
    }

    /// The block `index`, if it is in memory. Takes no lock and no reference count. The caller
    /// [touches](CachedBlock::touch) what it uses.
    #[inline]
    pub fn load(&self, index: u32) -> Guard<Option<Arc<CachedBlock>>> {
        match self.slots.get(index as usize) {
            Some(slot) => slot.load(),
            None => Guard::from_inner(None),
        }
    }

    /// How many blocks the table has.
    pub fn len(&self) -> usize {
        self.slots.len()
    }

    /// Whether the table has no blocks.
    pub fn is_empty(&self) -> bool {
        self.slots.is_empty()
    }

    pub(super) fn load_full(&self, index: u32) -> Option<Arc<CachedBlock>> {
        self.slots.get(index as usize).and_then(|slot| slot.load_full())
    }

    pub(super) fn fill(&self, index: u32, block: &Arc<CachedBlock>) {
        if let Some(slot) = self.slots.get(index as usize) {
            slot.store(Some(Arc::clone(block)));
        }
    }

    pub(super) fn take(&self, index: u32) -> Option<Arc<CachedBlock>> {
        self.slots.get(index as usize).and_then(|slot| slot.swap(None))
    }

    /// From now on nothing is inserted. Seen by whoever takes a shard's lock later.
    pub(super) fn close(&self) {
        self.closed.store(true, Ordering::SeqCst);
    }

    pub(super) fn is_closed(&self) -> bool {
        self.closed.load(Ordering::SeqCst)
    }

    /// What the policy remembers of an evicted block.
    pub(super) fn fingerprint(&self, index: u32) -> u64 {
        mix(self.table ^ mix(u64::from(index)))
    }

    /// The shard of the block `index` among `shards`, a power of two: in turn, from a start that
    /// depends on the table.
    pub(super) fn shard_of(&self, index: u32, shards: usize) -> usize {
        (self.first_shard(shards) + index as usize) & (shards - 1)
    }

    /// The blocks that belong to one of `shards`.
    pub(super) fn indexes_of_shard(
        &self,
        shard: usize,
        shards: usize,
    ) -> impl Iterator<Item = u32> {
        let first = (shard + shards - self.first_shard(shards)) & (shards - 1);
        (first..self.slots.len()).step_by(shards).map(|index| index as u32)
    }

    fn first_shard(&self, shards: usize) -> usize {
        mix(self.table) as usize & (shards - 1)
    }
}

impl fmt::Debug for Slots {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Slots").field("table", &self.table).field("len", &self.len()).finish()
    }
}

/// A block in memory.
pub struct CachedBlock {
    block: Block,
    slots: Weak<Slots>,
    hits: Arc<Striped<AtomicU64>>,
    index: u32,
    /// Where the policy keeps it. Written once, under the shard's lock, before a slot has it.
    node: AtomicU32,
    /// Whether it was touched since the clock's hand last passed.
    referenced: AtomicBool,
}

impl CachedBlock {
    pub(super) fn new(
        block: Block,
        slots: &Arc<Slots>,
        index: u32,
        hits: &Arc<Striped<AtomicU64>>,
    ) -> Arc<CachedBlock> {
        Arc::new(CachedBlock {
            block,
            slots: Arc::downgrade(slots),
            hits: Arc::clone(hits),
            index,
            node: u32::MAX.into(),
            referenced: false.into(),
        })
    }

    /// Notes a hit: the block is worth keeping for another round of the clock.
    #[inline]
    pub fn touch(&self) {
        if !self.referenced.load(Ordering::Relaxed) {
            self.referenced.store(true, Ordering::Relaxed);
        }
        self.hits.add_one();
    }

    /// Bytes it costs: its own and those of its place in the policy, now and as a ghost.
    pub(super) fn weight(&self) -> usize {
        self.block.memory() + size_of::<CachedBlock>() + Policy::<Arc<CachedBlock>>::ENTRY_BYTES
    }

    pub(super) fn set_node(&self, node: NodeId) {
        self.node.store(node.raw(), Ordering::Relaxed);
    }

    pub(super) fn node(&self) -> NodeId {
        NodeId::from_raw(self.node.load(Ordering::Relaxed))
    }

    /// Empties the slot that has this block. The caller holds the shard's lock.
    pub(super) fn leave_slot(&self) {
        if let Some(slots) = self.slots.upgrade() {
            // The policy has a reference too, so no block is dropped here.
            slots.take(self.index);
        }
    }
}

impl Deref for CachedBlock {
    type Target = Block;

    #[inline]
    fn deref(&self) -> &Block {
        &self.block
    }
}

impl Entry for Arc<CachedBlock> {
    fn take_referenced(&self) -> bool {
        self.referenced.load(Ordering::Relaxed) && self.referenced.swap(false, Ordering::Relaxed)
    }
}

impl fmt::Debug for CachedBlock {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let table = self.slots.upgrade().map(|slots| slots.table);
        let mut debug = f.debug_struct("CachedBlock");
        debug.field("table", &table).field("index", &self.index).field("bytes", &self.weight());
        debug.finish()
    }
}

/// A 64-bit mix in which every bit of the input changes half the bits of the output (the finisher
/// of MurmurHash3).
fn mix(mut bits: u64) -> u64 {
    bits = (bits ^ bits >> 33).wrapping_mul(0xff51_afd7_ed55_8ccd);
    bits = (bits ^ bits >> 33).wrapping_mul(0xc4ce_b9fe_1a85_ec53);
    bits ^ bits >> 33
}
