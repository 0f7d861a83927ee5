//! A finished table, open for reading.
//!
//! ```text
//! get:  filter (one line of cache) -> index (flat search) -> slot -> block (columns)
//! ```
//!
//! Filter and index stay in memory, charged to the cache's budget; blocks come and go in the cache.
//!
//! Invariants:
//! - A block is verified and validated when it is read from the file, never again.
//! - Every byte of the file is covered by the root that the manifest knows.

mod file;
mod open;
mod salvage;
mod span;
mod verify;

pub use open::{inspect, usage};
pub use salvage::{LostBlock, Salvage, salvage};
pub(crate) use span::{Direction, Spans};

use crate::block::Block;
use crate::cache::{Cache, CachedBlock, Charge, Slots};
use crate::compression;
use crate::cursor::{ReadMode, TableCursor};
use crate::filter::Filter;
use crate::footer::digest_of;
use crate::index::{BlockRef, Index};
use crate::meta::TableMeta;
use crate::properties::SpaceUsage;
use crate::range_delete::RangeDelete;
use base::codec::Decoded;
use base::fs::Fs;
use base::{Corruption, Defect, Origin, OriginNumber, Result, SpaceId, Tick, Trailer, planted};
use file::TableFile;
use std::fmt;
use std::ops::Range;
use std::sync::Arc;

/// A finished table, open for reading.
pub struct Table {
    filter: Filter,
    index: Index,
    slots: Arc<Slots>,
    cache: Arc<Cache>,
    file: TableFile,
    meta: Arc<TableMeta>,
    range_deletes: Box<[RangeDelete]>,
    spaces: Box<[(SpaceId, SpaceUsage)]>,
    local: Origin,
    authors: Box<[(OriginNumber, Origin)]>,
    _charge: Charge,
}

impl Table {
    /// Opens the table that `meta` speaks of. Any other file in its place is refused: by length,
    /// root, database, number and counts.
    pub fn open(
        fs: &dyn Fs,
        meta: Arc<TableMeta>,
        owner_database: [u8; 16],
        cache: Arc<Cache>,
    ) -> Result<Table> {
        let open::Parts { file, filter, index, range_deletes, spaces, local, authors } =
            open::open(fs, &meta, owner_database)?;
        let slots = Slots::new(meta.id, index.len());
        let memory = filter.memory() + index.memory() + index.len() * size_of::<usize>();
        Ok(Table {
            _charge: cache.charge(size_of::<Table>() + memory),
            filter,
            index,
            slots,
            cache,
            file,
            meta,
            range_deletes,
            spaces,
            local,
            authors,
        })
    }

    /// What the manifest knows of it.
    #[inline]
    pub fn meta(&self) -> &Arc<TableMeta> {
        &self.meta
    }

    /// Its range deletes, by space and start ascending, then newest first.
    #[inline]
    pub fn range_deletes(&self) -> &[RangeDelete] {
        &self.range_deletes
    }

    /// The author that "local" means in it.
    pub fn local(&self) -> Origin {
        self.local
    }

    /// The other authors of its entries, by number.
    pub fn authors(&self) -> &[(OriginNumber, Origin)] {
        &self.authors
    }

    /// The keyspaces that it has entries of, ascending, and what they take.
    pub fn spaces(&self) -> impl Iterator<Item = (SpaceId, SpaceUsage)> + '_ {
        self.spaces.iter().copied()
    }

    /// Whether a key whose [`base::key_hash`] is `hash` may be in it.
    #[inline]
    pub fn may_contain(&self, hash: u64) -> bool {
        self.filter.may_contain(hash)
    }

    /// Calls `found` with the trailer and stored value of the newest entry of `key` at or below
    /// `at`, and with the block that keeps the value alive. `None` if there is no such entry.
    #[inline]
    pub fn get<R>(
        &self,
        space: SpaceId,
        key: &[u8],
        hash: u64,
        at: Trailer,
        found: impl FnOnce(Trailer, &[u8], &Arc<CachedBlock>) -> R,
    ) -> Result<Option<R>> {
        if !self.filter.may_contain(hash) {
            return Ok(None);
        }
        let Some(number) = self.index.find(space, key, at) else { return Ok(None) };
        if let Some(block) = &*self.slots.load(number as u32) {
            block.touch();
            return Ok(get_in(block, key, at, found));
        }
        let block = self.load(number)?;
        Ok(get_in(&block, key, at, found))
    }

    /// A cursor over the entries of `space`, standing nowhere.
    pub fn cursor(self: &Arc<Table>, space: SpaceId, read: ReadMode) -> TableCursor {
        TableCursor::new(Arc::clone(self), space, read)
    }

    /// Reads all of the file and checks it: digests, structure, order, counts, filter. Returns how
    /// many entries there are.
    pub fn verify(&self) -> Result<u64> {
        verify::verify(self, &mut |_| Ok(()))
    }

    /// As [`Table::verify`]; `pace` is told the bytes of each block, and may end it with an error.
    pub fn verify_paced(&self, pace: &mut dyn FnMut(u64) -> Result<()>) -> Result<u64> {
        verify::verify(self, pace)
    }

    /// Reads all of the file and checks its digests, from the root down: then it is what was written,
    /// which [`Table::verify`] looks at too.
    pub fn verify_stored(&self) -> Result<()> {
        verify::verify_stored(self)
    }

    /// The blocks of `space`.
    pub(crate) fn blocks_of(&self, space: SpaceId) -> Range<usize> {
        self.index.blocks_of(space)
    }

    /// The first block of `space` that ends at or after (`key`, `trailer`).
    #[inline]
    pub(crate) fn find_block(&self, space: SpaceId, key: &[u8], trailer: Trailer) -> Option<usize> {
        self.index.find(space, key, trailer)
    }

    /// The block, from the cache or by way of it.
    pub(crate) fn cached_block(&self, number: usize) -> Result<Arc<CachedBlock>> {
        if let Some(block) = &*self.slots.load(number as u32) {
            block.touch();
            return Ok(Arc::clone(block));
        }
        self.load(number)
    }

    #[cold]
    fn load(&self, number: usize) -> Result<Arc<CachedBlock>> {
        let place = self.place(number)?;
        let stored = self.file.read(place.position, u64::from(place.stored_len))?;
        let block = self.decode(number, place, Stored::Owned(stored))?;
        Ok(self.cache.insert(&self.slots, number as u32, block))
    }

    fn place(&self, number: usize) -> Result<&BlockRef> {
        let place = self.index.block(number);
        place.ok_or_else(|| self.file.corrupt(0, Corruption::OutOfRange))
    }

    fn decode(&self, number: usize, place: &BlockRef, stored: Stored<'_>) -> Result<Block> {
        let block = self.try_decode(number, place, stored);
        block.map_err(|found| self.file.corrupt(place.position, found))
    }

    /// The block `number`, if `stored` is what the index speaks of.
    fn try_decode(&self, number: usize, place: &BlockRef, stored: Stored<'_>) -> Decoded<Block> {
        let block = decode_block(place, stored, self.meta.seqno_override)?;
        fits_index(&self.index, number, &block)?;
        Ok(block)
    }
}

/// The block in `stored`, if that is what `place` speaks of.
fn decode_block(
    place: &BlockRef,
    stored: Stored<'_>,
    seqno_override: Option<Tick>,
) -> Decoded<Block> {
    let is_good = digest_of(stored.bytes()) == place.digest;
    if !is_good && !planted(Defect::SkipBlockDigest) {
        return Err(Corruption::DigestMismatch);
    }
    let raw_len = place.raw_len as usize;
    let raw = match stored {
        Stored::Owned(bytes) if place.compression.is_none() && bytes.len() == raw_len => bytes,
        stored => compression::decompress(place.compression, stored.bytes(), raw_len)?,
    };
    Block::decode(raw, seqno_override)
}

/// Whether `block` ends where `index` says of the block `number`.
fn fits_index(index: &Index, number: usize, block: &Block) -> Decoded<()> {
    let (last_key, last_trailer) = index.last(number);
    let last = block.count() - 1;
    let is_indexed = block.key_is(last, last_key) && block.trailer(last) == last_trailer;
    if !is_indexed || !index.blocks_of(block.space()).contains(&number) {
        return Err(Corruption::Misplaced);
    }
    Ok(())
}

/// The bytes of a block as they are in the file.
enum Stored<'a> {
    Owned(Vec<u8>),
    Borrowed(&'a [u8]),
}

impl Stored<'_> {
    fn bytes(&self) -> &[u8] {
        match self {
            Stored::Owned(bytes) => bytes,
            Stored::Borrowed(bytes) => bytes,
        }
    }
}

#[inline]
fn get_in<R>(
    block: &Arc<CachedBlock>,
    key: &[u8],
    at: Trailer,
    found: impl FnOnce(Trailer, &[u8], &Arc<CachedBlock>) -> R,
) -> Option<R> {
    let entry = block.find(key, at)?;
    Some(found(block.trailer(entry), block.value(entry), block))
}

impl Drop for Table {
    fn drop(&mut self) {
        self.cache.forget(&self.slots);
    }
}

impl fmt::Debug for Table {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Table")
            .field("id", &self.meta.id)
            .field("entries", &self.meta.entries)
            .field("blocks", &self.index.len())
            .finish_non_exhaustive()
    }
}
