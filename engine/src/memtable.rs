//! Sorted writes in memory: what commits insert and reads look at first.
//!
//! One arena holds the entries of all keyspaces, a skip list each, so comparisons see user keys
//! only and an idle keyspace costs nothing. Many threads insert and read at once without locks;
//! nothing is removed; the whole is freed at once.
//!
//! In the arena, besides the lists' nodes: the filter's words, the buckets of the directory of
//! lists, and an entry a keyspace:
//!
//! ```text
//! offset  size  field
//!      0     8  space
//!      8     4  next in the bucket; 0 at the end
//!     12     4  unused
//!     16   160  head of the list
//! ```

mod arena;
mod cursor;
mod fingers;
mod list;

pub(crate) use arena::Arenas;
pub(crate) use cursor::MemtableCursor;

use crate::range_map::RangeMap;
use arena::{Arena, Place};
use base::foreign::{
    ERASE_LEN_MAX, Erased, FOREIGN_LEN_MAX, NumberedStamp, put_erase, put_foreign,
};
use base::lock::{Rank, RwLock};
use base::remote::Author;
use base::{Error, Op, OpKind, Origin, OriginNumber, Result, SpaceId, Tick, Trailer, key_hash};
use list::{HEAD_LEN, List, Trail};
use sstable::RangeDelete;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

/// Buckets of the directory of lists.
const BUCKETS: usize = 1024;
/// Range deletes after which it should be frozen: each more costs a copy of the list of all.
const RANGE_DELETES_MAX: usize = 4096;
const SPACE_ENTRY_LEN: usize = 16 + HEAD_LEN;
/// Bytes of entries for each 64-bit word of the filter: about three entries of 150 bytes.
const BYTES_PER_FILTER_WORD: usize = 512;
/// What the fixed parts and one keyspace's directory entry may take beyond the entries.
const SLACK: usize = 64 << 10;

/// An op of another author on its way in.
#[derive(Clone, Copy, Debug)]
pub(crate) struct ForeignOp<'a> {
    /// Its keyspace here.
    pub(crate) space: SpaceId,
    /// The commit here that brings it.
    pub(crate) seqno: Tick,
    /// When its author wrote it.
    pub(crate) tick: Tick,
    /// The op, with our number of its keyspace.
    pub(crate) op: Op<'a>,
}

/// See the module.
pub(crate) struct Memtable {
    arena: Arena,
    buckets: Place,
    filter: Place,
    filter_mask: u64,
    /// Bytes after which it should be frozen. The arena holds more, so that reservations, which
    /// assume the tallest nodes, do not end it early.
    limit: usize,
    /// Bytes that its fixed parts take.
    empty_used: usize,
    /// All commits in it are after this one.
    after: Tick,
    /// The author that "local" means in it.
    local: Origin,
    /// Range deletes, kept apart from the entries; replaced whole.
    range_deletes: RwLock<Arc<RangeMap>>,
    range_delete_count: AtomicUsize,
}

impl Memtable {
    /// An empty memtable for the commits after `after`, to be frozen at `limit` bytes but with room
    /// for at least `need` more bytes of reservations. "Local" means `local` in it.
    pub(crate) fn new(limit: usize, need: usize, after: Tick, local: Origin) -> Result<Memtable> {
        Memtable::new_in(&Arenas::default(), limit, need, after, local)
    }

    /// As [`Memtable::new`], in memory that an earlier memtable has used if there is any.
    pub(crate) fn new_in(
        arenas: &Arenas,
        limit: usize,
        need: usize,
        after: Tick,
        local: Origin,
    ) -> Result<Memtable> {
        let filter_words = (limit / BYTES_PER_FILTER_WORD).max(8).next_power_of_two();
        let fixed = filter_words * 8 + BUCKETS * 4 + SLACK + 2 * arena::UNIT;
        let arena = arenas.arena(fixed + (2 * limit).max(need))?;
        let full = || Error::invalid("the memory budget is too small for a memtable");
        let filter = arena.allocate(filter_words * 8).ok_or_else(full)?;
        let buckets = arena.allocate(BUCKETS * 4).ok_or_else(full)?;
        // SAFETY: both were just allocated, and nobody else knows them yet.
        unsafe { arena.clear(filter, filter_words * 8 / arena::UNIT) };
        // SAFETY: as above.
        unsafe { arena.clear(buckets, BUCKETS * 4 / arena::UNIT) };
        let empty_used = arena.used();
        Ok(Memtable {
            arena,
            buckets,
            filter,
            filter_mask: filter_words as u64 - 1,
            limit: limit + fixed,
            after,
            local,
            range_deletes: RwLock::new(Rank::Snapshots, Arc::default()),
            range_delete_count: AtomicUsize::new(0),
            empty_used,
        })
    }

    /// The most bytes that a keyspace takes beyond its entries.
    pub(crate) const KEYSPACE_RESERVATION: usize = SPACE_ENTRY_LEN;

    /// The most bytes that `op` of another author can take here.
    pub(crate) fn reservation_foreign(op: &Op<'_>) -> usize {
        Memtable::reservation(op) + FOREIGN_LEN_MAX
    }

    /// The most bytes that `op` can take here.
    #[inline]
    pub(crate) fn reservation(op: &Op<'_>) -> usize {
        let value = match op.kind {
            OpKind::Put(value) => value.len(),
            OpKind::PutExpiring { value, .. } => value.len() + 8,
            OpKind::Delete | OpKind::RangeDelete { .. } => 0,
            OpKind::Erase { .. } => ERASE_LEN_MAX,
        };
        list::node_len_max(op.key.len(), value)
    }

    /// Bytes that reservations may still add up to.
    pub(crate) fn reservable(&self) -> usize {
        self.arena.capacity().saturating_sub(self.empty_used + SLACK)
    }

    /// Bytes in use.
    pub(crate) fn used_bytes(&self) -> usize {
        self.arena.used().min(self.arena.capacity())
    }

    /// How full it is, from 0 to 1 and a little above.
    pub(crate) fn fill(&self) -> f64 {
        self.arena.used() as f64 / self.limit as f64
    }

    /// Whether it should be frozen.
    pub(crate) fn is_full(&self) -> bool {
        self.arena.used() >= self.limit
            || self.range_delete_count.load(Ordering::Relaxed) >= RANGE_DELETES_MAX
    }

    /// Whether nothing was inserted.
    pub(crate) fn is_empty(&self) -> bool {
        self.arena.used() == self.empty_used
    }

    /// All commits in it are after this one.
    pub(crate) fn after(&self) -> Tick {
        self.after
    }

    /// The author that "local" means in it.
    pub(crate) fn local(&self) -> Origin {
        self.local
    }

    /// Inserts the ops of a commit, each into the space that `space_of` gives for it.
    ///
    /// Within one commit a later op of a key hides an earlier one. Fails only if the caller did not
    /// reserve enough.
    pub(crate) fn insert<'o>(
        &self,
        seqno: Tick,
        ops: impl Iterator<Item = (SpaceId, Op<'o>)>,
    ) -> Result<()> {
        let mut cached: Option<(SpaceId, List<'_>)> = None;
        for (space, op) in ops {
            let list = match cached {
                Some((of, list)) if of == space => list,
                _ => self.list_or_create(space)?,
            };
            cached = Some((space, list));
            self.insert_op(list, space, seqno, &op)?;
        }
        Ok(())
    }

    /// Inserts ops of another author. Those that come in the order of their keys, the newest of a key
    /// first, take less time.
    ///
    /// Fails only if the caller did not reserve enough.
    pub(crate) fn insert_foreign<'o>(
        &self,
        author: &Author,
        ops: impl Iterator<Item = ForeignOp<'o>>,
    ) -> Result<()> {
        let mut stored = Vec::new();
        let mut cached: Option<(SpaceId, List<'_>)> = None;
        let mut trail = Trail::default();
        for ForeignOp { space, seqno, tick, op } in ops {
            let list = match cached {
                Some((of, list)) if of == space => list,
                _ => {
                    trail = Trail::default();
                    self.list_or_create(space)?
                }
            };
            cached = Some((space, list));
            let stamp = NumberedStamp { origin: author.number, tick };
            let kind = op.entry_kind();
            stored.clear();
            let trailer = match op.kind {
                OpKind::RangeDelete { end } => {
                    let (start, end) = (op.key.into(), end.into());
                    let origin = Some(author.origin);
                    let range = RangeDelete { space, start, end, seqno, stamp: tick, origin };
                    self.add_range_delete(range);
                    continue;
                }
                OpKind::Erase { victim } => {
                    put_erase(&mut stored, seqno, Erased { victim, carrier: stamp });
                    Trailer::new(seqno, kind)
                }
                _ => {
                    put_foreign(&mut stored, seqno, stamp);
                    Trailer::foreign(seqno, kind)
                }
            };
            if let OpKind::PutExpiring { expires_at_ms, .. } = op.kind {
                stored.extend_from_slice(&expires_at_ms.to_le_bytes());
            }
            if let OpKind::Put(value) | OpKind::PutExpiring { value, .. } = op.kind {
                stored.extend_from_slice(value);
            }
            let hash = key_hash(space, op.key);
            let spread = spread(hash, seqno);
            if !list.insert_behind(&mut trail, op.key, trailer, &stored, spread) {
                return Err(Error::invalid("a memtable is full although room was reserved"));
            }
            self.filter_add(hash);
        }
        Ok(())
    }

    #[inline]
    fn insert_op(&self, list: List<'_>, space: SpaceId, seqno: Tick, op: &Op<'_>) -> Result<()> {
        let trailer = Trailer::new(seqno, op.entry_kind());
        let hash = key_hash(space, op.key);
        let spread = spread(hash, seqno);
        let inserted = match op.kind {
            OpKind::Put(value) => list.insert(op.key, trailer, value, spread),
            OpKind::Delete => list.insert(op.key, trailer, &[], spread),
            OpKind::PutExpiring { expires_at_ms, value } => {
                let mut stored = Vec::with_capacity(8 + value.len());
                stored.extend_from_slice(&expires_at_ms.to_le_bytes());
                stored.extend_from_slice(value);
                list.insert(op.key, trailer, &stored, spread)
            }
            OpKind::Erase { victim } => {
                let carrier = NumberedStamp { origin: OriginNumber::LOCAL, tick: seqno };
                let mut stored = Vec::with_capacity(ERASE_LEN_MAX);
                put_erase(&mut stored, seqno, Erased { victim, carrier });
                list.insert(op.key, trailer, &stored, spread)
            }
            OpKind::RangeDelete { end } => {
                self.insert_range_delete(space, op.key, end, seqno);
                true
            }
        };
        if !inserted {
            return Err(Error::invalid("a memtable is full although room was reserved"));
        }
        self.filter_add(hash);
        Ok(())
    }

    fn insert_range_delete(&self, space: SpaceId, start: &[u8], end: &[u8], seqno: Tick) {
        let range = RangeDelete {
            space,
            start: start.into(),
            end: end.into(),
            seqno,
            stamp: seqno,
            origin: None,
        };
        self.add_range_delete(range);
    }

    fn add_range_delete(&self, range: RangeDelete) {
        let mut map = self.range_deletes.write();
        *map = Arc::new(map.with(range, self.local));
        self.range_delete_count.fetch_add(1, Ordering::Release);
    }

    /// Whether it holds any range delete.
    #[inline]
    pub(crate) fn has_range_deletes(&self) -> bool {
        self.range_delete_count.load(Ordering::Acquire) > 0
    }

    /// Its range deletes.
    pub(crate) fn range_deletes(&self) -> Arc<RangeMap> {
        self.range_deletes.read().clone()
    }

    /// The newest entry of `key` at or below `at`. `hash` is the key's [`key_hash`].
    #[inline]
    pub(crate) fn get(
        &self,
        space: SpaceId,
        key: &[u8],
        hash: u64,
        at: Trailer,
    ) -> Option<(Trailer, &[u8])> {
        if !self.may_contain(hash) {
            return None;
        }
        let list = self.list(space)?;
        let node = list.seek(key, at);
        if node == 0 || list.key(node) != key {
            return None;
        }
        Some((list.trailer(node), list.value(node)))
    }

    /// A cursor over the entries of one keyspace.
    pub(crate) fn cursor(self: &Arc<Self>, space: SpaceId) -> MemtableCursor {
        MemtableCursor::new(self.clone(), self.list_head(space))
    }

    /// The keyspaces that have entries here, in order.
    pub(crate) fn spaces(&self) -> Vec<SpaceId> {
        let mut spaces = Vec::new();
        for bucket in 0..BUCKETS {
            let mut entry = self.bucket(bucket).load(Ordering::Acquire);
            while entry != 0 {
                spaces.push(SpaceId(self.space_of(entry)));
                entry = self.next_in_bucket(entry).load(Ordering::Acquire);
            }
        }
        spaces.sort_unstable();
        spaces
    }

    fn list(&self, space: SpaceId) -> Option<List<'_>> {
        Some(List::new(&self.arena, self.list_head(space)?))
    }

    /// Where the head of the keyspace's list stands.
    #[inline]
    fn list_head(&self, space: SpaceId) -> Option<Place> {
        let mut entry = self.bucket(bucket_of(space)).load(Ordering::Acquire);
        while entry != 0 {
            if self.space_of(entry) == space.0 {
                return Some(entry + 2);
            }
            entry = self.next_in_bucket(entry).load(Ordering::Acquire);
        }
        None
    }

    #[inline]
    fn list_or_create(&self, space: SpaceId) -> Result<List<'_>> {
        if let Some(list) = self.list(space) {
            return Ok(list);
        }
        let full = || Error::invalid("a memtable is full although room was reserved");
        let entry = self.arena.allocate(SPACE_ENTRY_LEN).ok_or_else(full)?;
        // SAFETY: the entry was just allocated, and nobody else knows it yet.
        unsafe { self.arena.clear(entry, SPACE_ENTRY_LEN / arena::UNIT) };
        // SAFETY: the entry was just allocated; offset 0 is inside it.
        unsafe { self.arena.atomic64(entry, 0) }.store(space.0, Ordering::Relaxed);
        let bucket = self.bucket(bucket_of(space));
        loop {
            let first = bucket.load(Ordering::Acquire);
            if let Some(list) = self.list(space) {
                return Ok(list);
            }
            self.next_in_bucket(entry).store(first, Ordering::Relaxed);
            // Release: whoever finds the entry sees its space and its empty head.
            if bucket.compare_exchange(first, entry, Ordering::Release, Ordering::Relaxed).is_ok() {
                return Ok(List::new(&self.arena, entry + 2));
            }
        }
    }

    fn bucket(&self, bucket: usize) -> &std::sync::atomic::AtomicU32 {
        // SAFETY: `BUCKETS` words of four bytes were allocated there.
        unsafe { self.arena.atomic32(self.buckets, 4 * (bucket % BUCKETS)) }
    }

    fn space_of(&self, entry: Place) -> u64 {
        // SAFETY: a directory entry starts with its space.
        unsafe { self.arena.atomic64(entry, 0) }.load(Ordering::Relaxed)
    }

    fn next_in_bucket(&self, entry: Place) -> &std::sync::atomic::AtomicU32 {
        // SAFETY: a directory entry has its link at 8.
        unsafe { self.arena.atomic32(entry, 8) }
    }

    /// Whether a key with `hash` may have been inserted: a Bloom filter whose bits for one key share
    /// one word (Putze et al., "Cache-, Hash- and Space-Efficient Bloom Filters", 2007).
    #[inline]
    fn may_contain(&self, hash: u64) -> bool {
        let bits = filter_bits(hash);
        self.filter_word(hash).load(Ordering::Acquire) & bits == bits
    }

    #[inline]
    fn filter_add(&self, hash: u64) {
        let (word, bits) = (self.filter_word(hash), filter_bits(hash));
        if word.load(Ordering::Relaxed) & bits != bits {
            word.fetch_or(bits, Ordering::Release);
        }
    }

    #[inline]
    fn filter_word(&self, hash: u64) -> &AtomicU64 {
        let word = (hash >> 32) & self.filter_mask;
        // SAFETY: `filter_mask + 1` words were allocated there.
        unsafe { self.arena.atomic64(self.filter, word as usize * 8) }
    }
}

impl std::fmt::Debug for Memtable {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Memtable {{ after: {}, used: {} }}", self.after, self.used_bytes())
    }
}

/// Four bits of a word, from the low half of the hash.
#[inline]
fn filter_bits(hash: u64) -> u64 {
    1 << (hash & 63) | 1 << (hash >> 6 & 63) | 1 << (hash >> 12 & 63) | 1 << (hash >> 18 & 63)
}

/// What the height of a node comes from.
#[inline]
fn spread(hash: u64, seqno: Tick) -> u64 {
    (hash ^ seqno.raw()).wrapping_mul(0x9e37_79b9_7f4a_7c15).rotate_left(32)
}

#[inline]
fn bucket_of(space: SpaceId) -> usize {
    (space.0.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 54) as usize
}

#[cfg(test)]
mod tests;
