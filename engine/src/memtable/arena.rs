//! A bump arena: memory that is handed out once and freed as a whole.
//!
//! One contiguous region of fixed capacity, reserved at creation and backed by the operating system
//! as it is touched. A region may have been used before, so fresh memory holds anything: what is read
//! must have been written. Places in it are [`Place`]s: 32-bit counts of 8 bytes, so
//! an arena may span 32 GiB; place 0 is never handed out and means "nothing".
//!
//! Invariants:
//! - A place handed out by [`Arena::allocate`] is 8-byte aligned, lies wholly inside the region, and
//!   overlaps no other.
//! - Memory is written by its allocator before its place is published, and never freed or moved
//!   while the arena lives.

use base::lock::{Mutex, Rank};
use base::{Error, Result};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, AtomicU64, AtomicUsize, Ordering};

/// Where something stands in an arena, in units of 8 bytes. Zero is nowhere.
pub(super) type Place = u32;

/// Bytes a [`Place`] counts.
pub(super) const UNIT: usize = 8;
/// The largest region that places reach.
const CAPACITY_MAX: usize = (u32::MAX as usize) * UNIT;

/// See the module.
pub(super) struct Arena {
    /// None only while it is dropped.
    region: Option<Region>,
    base: *mut u8,
    capacity: usize,
    /// Bytes handed out.
    used: AtomicUsize,
    home: Arenas,
}

// SAFETY: `base` points into the region, which is plain memory that may be used from any thread;
// the methods order all access to it.
unsafe impl Send for Arena {}
// SAFETY: as for `Send`.
unsafe impl Sync for Arena {}

/// Where regions go when their arena is dropped, to be used again: touching fresh memory costs a
/// page fault each 4 KiB. Keeps one.
#[derive(Clone)]
pub(crate) struct Arenas(Arc<Mutex<Option<Region>>>);

impl Default for Arenas {
    fn default() -> Self {
        Arenas(Arc::new(Mutex::new(Rank::Stats, None)))
    }
}

impl Arenas {
    /// An arena of at least `capacity` bytes.
    pub(super) fn arena(&self, capacity: usize) -> Result<Arena> {
        let capacity = capacity.clamp(4096, CAPACITY_MAX).next_multiple_of(4096);
        let used_before = self.0.lock().take_if(|region| region.len() == capacity);
        let region = match used_before {
            Some(region) => region,
            None => Region::reserve(capacity)?,
        };
        let (base, capacity) = (region.base(), region.len());
        let used = AtomicUsize::new(UNIT);
        Ok(Arena { region: Some(region), base, capacity, used, home: self.clone() })
    }
}

impl Drop for Arena {
    fn drop(&mut self) {
        let unused = std::mem::replace(&mut *self.home.0.lock(), self.region.take());
        // Unmapped without the lock.
        drop(unused);
    }
}

impl Arena {
    /// Bytes handed out.
    pub(super) fn used(&self) -> usize {
        self.used.load(Ordering::Relaxed)
    }

    /// Bytes that can be handed out.
    pub(super) fn capacity(&self) -> usize {
        self.capacity
    }

    /// Hands out `len` bytes, or `None` if they do not fit.
    #[inline]
    pub(super) fn allocate(&self, len: usize) -> Option<Place> {
        let len = len.next_multiple_of(UNIT);
        let start = self.used.fetch_add(len, Ordering::Relaxed);
        let end = start.checked_add(len)?;
        if end > self.capacity {
            self.used.fetch_sub(len, Ordering::Relaxed);
            return None;
        }
        Some((start / UNIT) as Place)
    }

    /// The address of byte `offset` behind `place`. The access that follows must stay inside what
    /// was allocated at `place`.
    #[inline]
    fn address(&self, place: Place, offset: usize) -> *mut u8 {
        // SAFETY: callers pass places from `allocate` and offsets inside that allocation, so the
        // address lies inside the region; both sums fit in isize because the region does.
        unsafe { self.base.add(place as usize * UNIT + offset) }
    }

    /// Makes `units` units from `place` on zero.
    ///
    /// # Safety
    /// They lie inside the allocation, and no other thread knows the place yet.
    pub(super) unsafe fn clear(&self, place: Place, units: usize) {
        for unit in 0..units {
            // SAFETY: the caller vouches for the range.
            unsafe { self.atomic64(place, unit * UNIT) }.store(0, Ordering::Relaxed);
        }
    }

    /// Writes `bytes` at `offset` behind `place`, before the place is published.
    ///
    /// # Safety
    /// `offset + bytes.len()` lies inside the allocation, and no other thread reads or writes it
    /// until its place is published.
    #[inline]
    pub(super) unsafe fn write(&self, place: Place, offset: usize, bytes: &[u8]) {
        let to = self.address(place, offset);
        // SAFETY: the caller owns the range; it can not overlap `bytes`, which is not in the arena's
        // unpublished memory.
        unsafe { std::ptr::copy_nonoverlapping(bytes.as_ptr(), to, bytes.len()) }
    }

    /// `len` bytes at `offset` behind `place`.
    ///
    /// # Safety
    /// The range lies inside the allocation, was written before `place` was published, and is never
    /// written again.
    #[inline]
    pub(super) unsafe fn bytes(&self, place: Place, offset: usize, len: usize) -> &[u8] {
        let from = self.address(place, offset);
        // SAFETY: the caller vouches for range and immutability; the region outlives `self`.
        unsafe { std::slice::from_raw_parts(from, len) }
    }

    /// The 64-bit number at `offset` behind `place`.
    ///
    /// # Safety
    /// The eight bytes lie inside the allocation; `offset` is a multiple of 8.
    #[inline]
    pub(super) unsafe fn atomic64(&self, place: Place, offset: usize) -> &AtomicU64 {
        let at = self.address(place, offset).cast::<u64>();
        // SAFETY: aligned because places and `offset` are; inside the region; every access to a
        // word that is shared while it changes goes through this method.
        unsafe { AtomicU64::from_ptr(at) }
    }

    /// The 32-bit number at `offset` behind `place`.
    ///
    /// # Safety
    /// The four bytes lie inside the allocation; `offset` is a multiple of 4.
    #[inline]
    pub(super) unsafe fn atomic32(&self, place: Place, offset: usize) -> &AtomicU32 {
        let at = self.address(place, offset).cast::<u32>();
        // SAFETY: as for `atomic64`.
        unsafe { AtomicU32::from_ptr(at) }
    }
}

/// The memory behind an arena.
#[cfg(not(miri))]
struct Region {
    map: memmap2::MmapRaw,
}

#[cfg(not(miri))]
impl Region {
    fn reserve(len: usize) -> Result<Region> {
        let short = |_| Error::ResourceShort {
            what: base::error::Resource::Memory,
            need: len as u64,
            have: 0,
        };
        let map = memmap2::MmapOptions::new().len(len).map_anon().map_err(short)?;
        #[cfg(target_os = "linux")]
        if len >= 2 << 20 {
            // A hint: without huge pages everything works, only slower.
            let _ = map.advise(memmap2::Advice::HugePage);
        }
        Ok(Region { map: map.into() })
    }

    #[inline]
    fn base(&self) -> *mut u8 {
        self.map.as_mut_ptr()
    }

    #[inline]
    fn len(&self) -> usize {
        self.map.len()
    }
}

/// The same from the ordinary allocator, where the interpreter knows no memory maps.
#[cfg(miri)]
struct Region {
    base: std::ptr::NonNull<u8>,
    layout: std::alloc::Layout,
}

#[cfg(miri)]
impl Region {
    fn reserve(len: usize) -> Result<Region> {
        let invalid = |_| Error::invalid("the region is too large");
        let layout = std::alloc::Layout::from_size_align(len, 64).map_err(invalid)?;
        // SAFETY: the layout is not empty, `Arenas::arena` asks for at least a page.
        let base = unsafe { std::alloc::alloc_zeroed(layout) };
        let base = std::ptr::NonNull::new(base).ok_or(Error::invalid("out of memory"))?;
        Ok(Region { base, layout })
    }

    fn base(&self) -> *mut u8 {
        self.base.as_ptr()
    }

    fn len(&self) -> usize {
        self.layout.size()
    }
}

#[cfg(miri)]
// SAFETY: the region is plain memory; `Arena` orders all access to it.
unsafe impl Send for Region {}
#[cfg(miri)]
// SAFETY: as for `Send`.
unsafe impl Sync for Region {}

#[cfg(miri)]
impl Drop for Region {
    fn drop(&mut self) {
        // SAFETY: allocated in `reserve` with this layout, freed once.
        unsafe { std::alloc::dealloc(self.base.as_ptr(), self.layout) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_do_not_overlap_and_a_full_arena_says_so() {
        let arena = Arenas::default().arena(4096).unwrap();
        let mut last_end = UNIT;
        while let Some(place) = arena.allocate(20) {
            let start = place as usize * UNIT;
            assert!(start >= last_end && start + 24 <= arena.capacity());
            last_end = start + 24;
        }
        assert!(last_end + 24 > arena.capacity());
    }

    #[test]
    fn what_was_written_is_read_back() {
        let arena = Arenas::default().arena(4096).unwrap();
        let place = arena.allocate(11).unwrap();
        // SAFETY: eleven bytes were allocated at `place`, nobody else uses them.
        unsafe { arena.write(place, 0, b"hello world") };
        // SAFETY: written just above, never again.
        assert_eq!(unsafe { arena.bytes(place, 6, 5) }, b"world");
    }
}
