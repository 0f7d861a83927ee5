//! Places in a skip list to start a search from, in one flat array.
//!
//! Walking down a skip list waits for memory at every node. The fingers are every node that is at
//! least [`FINGER_HEIGHT`] high, one in sixteen, as they stood when the list was last surveyed: their
//! keys' next bytes in a sorted column that stays in the processor's cache. A search finds the last
//! finger before its target there and walks the few nodes from it. The list is surveyed anew each
//! time its tall nodes have grown by half.
//!
//! In the arena:
//!
//! ```text
//! offset  size  field
//!      0     4  count
//!      4     4  length of the front that all surveyed keys share
//!      8     4  a node whose key starts with that front
//!     12     4  unused
//!     16   8*n  column: base::key_prefix of each key behind the front, ascending
//!      *   4*n  nodes
//! ```

use super::arena::{Arena, Place};
use base::key_prefix;
use std::sync::atomic::Ordering;

/// Nodes at least this high are fingers.
pub(super) const FINGER_HEIGHT: usize = 5;
/// Tall nodes below which a list is searched without fingers.
pub(super) const SURVEY_MIN: u32 = 64;

const COUNT_AT: usize = 0;
const FRONT_LEN_AT: usize = 4;
const FRONT_NODE_AT: usize = 8;
const COLUMN_AT: usize = 16;

/// One survey of a list.
#[derive(Clone, Copy)]
pub(super) struct Fingers<'a> {
    arena: &'a Arena,
    place: Place,
}

impl<'a> Fingers<'a> {
    /// The survey that stands at `place`.
    pub(super) fn new(arena: &'a Arena, place: Place) -> Fingers<'a> {
        Fingers { arena, place }
    }

    /// Writes a survey of `nodes`, in order, whose keys `key_of` gives. None if there is no room.
    pub(super) fn survey(
        arena: &'a Arena,
        nodes: &[Place],
        key_of: impl Fn(Place) -> &'a [u8],
    ) -> Option<Place> {
        let (first, last) = (*nodes.first()?, *nodes.last()?);
        let shared = key_of(first).iter().zip(key_of(last)).take_while(|(a, b)| a == b);
        let front_len = shared.count();
        let place = arena.allocate(COLUMN_AT + nodes.len() * 12)?;
        let fingers = Fingers { arena, place };
        fingers.word32(COUNT_AT).store(nodes.len() as u32, Ordering::Relaxed);
        fingers.word32(FRONT_LEN_AT).store(front_len as u32, Ordering::Relaxed);
        fingers.word32(FRONT_NODE_AT).store(first, Ordering::Relaxed);
        let nodes_at = COLUMN_AT + nodes.len() * 8;
        for (index, node) in nodes.iter().enumerate() {
            let rest = key_of(*node).get(front_len..).unwrap_or_default();
            fingers.column(index).store(key_prefix(rest), Ordering::Relaxed);
            fingers.word32(nodes_at + index * 4).store(*node, Ordering::Relaxed);
        }
        Some(place)
    }

    /// The last finger whose key is surely below `key`, or 0.
    #[inline]
    pub(super) fn below(self, key: &[u8], key_of: impl Fn(Place) -> &'a [u8]) -> Place {
        let count = self.word32(COUNT_AT).load(Ordering::Relaxed) as usize;
        let front_len = self.word32(FRONT_LEN_AT).load(Ordering::Relaxed) as usize;
        let mut target = key_prefix(key);
        if front_len > 0 {
            let first = self.word32(FRONT_NODE_AT).load(Ordering::Relaxed);
            let front = key_of(first).get(..front_len).unwrap_or_default();
            match key.strip_prefix(front) {
                Some(rest) => target = key_prefix(rest),
                None if key < front => return 0,
                None => target = u64::MAX,
            }
        }
        // How many of the column are below the target; branch-free halving.
        let (mut base, mut len) = (0, count);
        while len > 1 {
            let half = len / 2;
            let is_below = self.column(base + half - 1).load(Ordering::Relaxed) < target;
            base += if is_below { half } else { 0 };
            len -= half;
        }
        let below =
            base + usize::from(len == 1 && self.column(base).load(Ordering::Relaxed) < target);
        match below.checked_sub(1) {
            Some(last) => self.word32(COLUMN_AT + count * 8 + last * 4).load(Ordering::Relaxed),
            None => 0,
        }
    }

    fn word32(self, offset: usize) -> &'a std::sync::atomic::AtomicU32 {
        // SAFETY: offsets are of fields in the diagram above, inside what `survey` allocated.
        unsafe { self.arena.atomic32(self.place, offset) }
    }

    fn column(self, index: usize) -> &'a std::sync::atomic::AtomicU64 {
        // SAFETY: `index` is below the count; the column starts at a multiple of 8.
        unsafe { self.arena.atomic64(self.place, COLUMN_AT + index * 8) }
    }
}
