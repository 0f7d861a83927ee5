//! A skip list of the entries of one keyspace, in an arena.
//!
//! Source: Pugh, "Skip Lists" (CACM 1990), with lock-free insertion (no removal, so plain
//! compare-and-swap per level suffices).
//!
//! A node in the arena:
//!
//! ```text
//! offset  size  field
//!      0     8  prefix       first 8 bytes of the key, base::key_prefix
//!      8     8  trailer
//!     16     4  value length
//!     20     2  key length
//!     22     1  height
//!     23     1  unused
//!     24   8*h  links        of each level, lowest first
//!      *     *  key, value
//! ```
//!
//! A link is the next node's place in the low half, 0 at the end, and the first 4 bytes of its key in
//! the high half: most comparisons are decided without touching the node.
//!
//! Invariants:
//! - Level 0 holds every entry, ordered by key ascending, seqno descending. Two entries of one key
//!   with one seqno (the same key twice in a batch): the one inserted later comes first.
//! - A node is written wholly before a release store publishes it at level 0; readers load links
//!   with acquire, so what they reach is complete. Nothing but links changes afterwards.

mod trail;

pub(super) use trail::Trail;

use super::arena::{Arena, Place};
use super::fingers::{FINGER_HEIGHT, Fingers, SURVEY_MIN};
use base::{Trailer, key_prefix};
use std::cmp::Ordering as Order;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};

/// More levels than the largest arena needs: half of the nodes reach each next level up to
/// [`FINGER_HEIGHT`], a quarter beyond.
pub(super) const HEIGHT_MAX: usize = 12;
const PREFIX_AT: usize = 0;
const TRAILER_AT: usize = 8;
const VALUE_LEN_AT: usize = 16;
const KEY_LEN_AT: usize = 20;
const HEIGHT_AT: usize = 22;
const LINKS_AT: usize = 24;

/// The most bytes a node takes for a key and a value of the given lengths.
pub(super) const fn node_len_max(key_len: usize, value_len: usize) -> usize {
    LINKS_AT + 8 * HEIGHT_MAX + key_len + value_len + 8
}

/// Bytes of a list's head in the arena: the first node of each level, the last one of each (a hint),
/// the fingers, how many tall nodes there are, and how many there must be for the next survey.
pub(super) const HEAD_LEN: usize = TAILS_AT + 4 * HEIGHT_MAX + 16;
const TAILS_AT: usize = 8 * HEIGHT_MAX;
const FINGERS_AT: usize = TAILS_AT + 4 * HEIGHT_MAX;
const TALL_AT: usize = FINGERS_AT + 4;
const SURVEY_AT: usize = FINGERS_AT + 8;

/// Steps from a finger to its target after which a search from the head is cheaper.
const STEPS_MAX: usize = 12;

/// One keyspace's entries. Borrowed from its memtable; as small as a pointer.
#[derive(Clone, Copy)]
pub(super) struct List<'a> {
    arena: &'a Arena,
    /// `HEAD_LEN` bytes in the arena.
    head: Place,
}

/// The way from one node to the next: its place, and the first half of its prefix.
#[derive(Clone, Copy, PartialEq, Eq)]
struct Link(u64);

impl Link {
    const END: Link = Link(0);

    #[inline]
    fn to(node: Place, prefix: u64) -> Link {
        Link(prefix & !u64::from(u32::MAX) | u64::from(node))
    }

    #[inline]
    fn node(self) -> Place {
        self.0 as Place
    }
}

/// What stands before and after a new node on every level.
struct Splice {
    before: [Place; HEIGHT_MAX],
    after: [Link; HEIGHT_MAX],
}

/// What is searched for: the first entry of the list that is at or after it.
#[derive(Clone, Copy)]
struct Target<'k> {
    prefix: u64,
    key: &'k [u8],
    /// Entries of the key with a greater seqno come before the target.
    seqno: u64,
}

impl<'a> List<'a> {
    /// The list whose head stands at `head`: `HEAD_LEN` bytes, zero for an empty list.
    pub(super) fn new(arena: &'a Arena, head: Place) -> List<'a> {
        List { arena, head }
    }

    /// Inserts an entry. `spread` is a hash of it, from which its height is drawn. Returns false if
    /// the arena is full.
    #[must_use]
    #[inline]
    pub(super) fn insert(self, key: &[u8], trailer: Trailer, value: &[u8], spread: u64) -> bool {
        let height = height_of(spread);
        let Some(node) = self.create(height, key, trailer, value) else { return false };
        let target = Target { prefix: key_prefix(key), key, seqno: trailer.0 >> 8 };
        let mut splice =
            self.tail_splice(&target).unwrap_or_else(|| self.find_splice(&target, height));
        self.splice_in_all(node, height, &target, &mut splice);
        true
    }

    /// Links a new node on all its levels.
    #[inline]
    fn splice_in_all(self, node: Place, height: usize, target: &Target<'_>, splice: &mut Splice) {
        for level in 0..height {
            self.splice_in(node, level, target, splice);
        }
        if height >= FINGER_HEIGHT {
            self.count_tall();
        }
    }

    /// Counts a tall node; surveys the list when it has grown enough.
    fn count_tall(self) {
        let tall = self.head_word(TALL_AT).fetch_add(1, Ordering::Relaxed) + 1;
        let due = self.head_word(SURVEY_AT).load(Ordering::Relaxed).max(SURVEY_MIN);
        if tall < due {
            return;
        }
        // One thread surveys; the others go on with the old fingers.
        let next = due + due / 2;
        let claimed = self.head_word(SURVEY_AT);
        let old = claimed.load(Ordering::Relaxed);
        if old.max(SURVEY_MIN) != due
            || claimed.compare_exchange(old, next, Ordering::Relaxed, Ordering::Relaxed).is_err()
        {
            return;
        }
        let mut nodes = Vec::with_capacity(tall as usize + 16);
        let level = FINGER_HEIGHT - 1;
        let mut node = self.link(0, level).node();
        while node != 0 {
            nodes.push(node);
            node = self.link(node, level).node();
        }
        if let Some(place) = Fingers::survey(self.arena, &nodes, |node| self.key(node)) {
            // Release: whoever finds the survey sees it complete.
            self.head_word(FINGERS_AT).store(place, Ordering::Release);
        }
    }

    /// Where to start a search: a node before the target and how many levels are left below. Without
    /// fingers, or where the list has grown too much between two of them, the head with all levels.
    #[inline]
    fn start(self, target: &Target<'_>) -> (Place, usize) {
        let place = self.head_word(FINGERS_AT).load(Ordering::Acquire);
        if place == 0 {
            return (0, HEIGHT_MAX);
        }
        let fingers = Fingers::new(self.arena, place);
        let mut before = fingers.below(target.key, |node| self.key(node));
        for _ in 0..STEPS_MAX {
            let after = self.link(before, FINGER_HEIGHT - 1);
            if !self.is_before(after, target) {
                return (before, FINGER_HEIGHT - 1);
            }
            before = after.node();
        }
        (0, HEIGHT_MAX)
    }

    #[inline]
    fn head_word(self, offset: usize) -> &'a AtomicU32 {
        // SAFETY: `offset` is one of the fields behind the links, inside the head.
        unsafe { self.arena.atomic32(self.head, offset) }
    }

    fn create(self, height: usize, key: &[u8], trailer: Trailer, value: &[u8]) -> Option<Place> {
        let data_at = LINKS_AT + 8 * height;
        let node = self.arena.allocate(data_at + key.len() + value.len())?;
        let mut fixed = [0u8; LINKS_AT];
        let (prefix, rest) = fixed.split_at_mut(TRAILER_AT);
        prefix.copy_from_slice(&key_prefix(key).to_ne_bytes());
        let (trailer_bytes, rest) = rest.split_at_mut(VALUE_LEN_AT - TRAILER_AT);
        trailer_bytes.copy_from_slice(&trailer.0.to_ne_bytes());
        let (value_len, rest) = rest.split_at_mut(KEY_LEN_AT - VALUE_LEN_AT);
        value_len.copy_from_slice(&(value.len() as u32).to_ne_bytes());
        let (key_len, rest) = rest.split_at_mut(HEIGHT_AT - KEY_LEN_AT);
        key_len.copy_from_slice(&(key.len() as u16).to_ne_bytes());
        rest.copy_from_slice(&[height as u8, 0]);
        // SAFETY: the node was just allocated with room for all of it and is not published yet.
        unsafe { self.arena.write(node, 0, &fixed) };
        // SAFETY: as above.
        unsafe { self.arena.write(node, data_at, key) };
        // SAFETY: as above.
        unsafe { self.arena.write(node, data_at + key.len(), value) };
        Some(node)
    }

    /// Links `node` at `level`, searching anew from the splice when another thread was faster.
    fn splice_in(self, node: Place, level: usize, target: &Target<'_>, splice: &mut Splice) {
        let (Some(before), Some(after)) =
            (splice.before.get_mut(level), splice.after.get_mut(level))
        else {
            return;
        };
        let here = Link::to(node, target.prefix);
        loop {
            self.link_word(node, level).store(after.0, Ordering::Relaxed);
            let word = self.link_word(*before, level);
            // Release: whoever follows this link sees the node complete.
            if word.compare_exchange(after.0, here.0, Ordering::Release, Ordering::Relaxed).is_ok()
            {
                if *after == Link::END {
                    self.tail_hint(level).store(node, Ordering::Release);
                }
                return;
            }
            (*before, *after) = self.find_at(*before, level, target);
        }
    }

    /// The splice at the end of the list, if the target belongs there and nobody interferes: makes
    /// ascending input cheap. The hints may be stale; a stale one is noticed here or by the
    /// compare-and-swap.
    fn tail_splice(self, target: &Target<'_>) -> Option<Splice> {
        let last = self.tail_hint(0).load(Ordering::Acquire);
        if last == 0 || self.link(last, 0) != Link::END || !self.is_node_before(last, target) {
            return None;
        }
        let mut splice = Splice { before: [0; HEIGHT_MAX], after: [Link::END; HEIGHT_MAX] };
        for (level, before) in splice.before.iter_mut().enumerate() {
            let tail = self.tail_hint(level).load(Ordering::Acquire);
            let is_at_end = self.link(tail, level) == Link::END;
            if !is_at_end || (tail != 0 && !self.is_node_before(tail, target)) {
                return None;
            }
            *before = tail;
        }
        Some(splice)
    }

    /// The splice for a node of `height`; levels above it are not filled in.
    fn find_splice(self, target: &Target<'_>, height: usize) -> Splice {
        let mut splice = Splice { before: [0; HEIGHT_MAX], after: [Link::END; HEIGHT_MAX] };
        let (mut before, levels) =
            if height < FINGER_HEIGHT { self.start(target) } else { (0, HEIGHT_MAX) };
        for level in (0..levels).rev() {
            let (found, after) = self.find_at(before, level, target);
            before = found;
            if let (Some(b), Some(a)) = (splice.before.get_mut(level), splice.after.get_mut(level))
            {
                (*b, *a) = (found, after);
            }
        }
        splice
    }

    /// Walks `level` from `before` (0: the head) to the last node before the target; returns it and
    /// the link behind it.
    #[inline]
    fn find_at(self, mut before: Place, level: usize, target: &Target<'_>) -> (Place, Link) {
        loop {
            let after = self.link(before, level);
            if !self.is_before(after, target) {
                return (before, after);
            }
            before = after.node();
        }
    }

    /// The last node before the target, 0 if there is none, and the first one at or after it.
    #[inline]
    fn find(self, target: &Target<'_>) -> (Place, Place) {
        let mut after = Link::END;
        let (mut before, levels) = self.start(target);
        for level in (0..levels).rev() {
            (before, after) = self.find_at(before, level, target);
        }
        (before, after.node())
    }

    /// Whether `link` leads to a node that sorts before the target.
    #[inline]
    fn is_before(self, link: Link, target: &Target<'_>) -> bool {
        match (link.0 >> 32).cmp(&(target.prefix >> 32)) {
            Order::Less => link != Link::END,
            Order::Greater => false,
            Order::Equal => link != Link::END && self.is_node_before(link.node(), target),
        }
    }

    /// Whether `node` sorts before the target.
    #[inline]
    fn is_node_before(self, node: Place, target: &Target<'_>) -> bool {
        match self.prefix(node).cmp(&target.prefix) {
            Order::Less => true,
            Order::Greater => false,
            Order::Equal => match self.key(node).cmp(target.key) {
                Order::Less => true,
                Order::Greater => false,
                Order::Equal => self.trailer(node).0 >> 8 > target.seqno,
            },
        }
    }

    /// The first entry at or after (`key`, `trailer`); 0 if there is none.
    #[inline]
    pub(super) fn seek(self, key: &[u8], trailer: Trailer) -> Place {
        self.find(&Target { prefix: key_prefix(key), key, seqno: trailer.0 >> 8 }).1
    }

    /// The last entry whose key is below `key`; 0 if there is none.
    pub(super) fn seek_before(self, key: &[u8]) -> Place {
        self.find(&Target { prefix: key_prefix(key), key, seqno: u64::MAX }).0
    }

    /// The first entry; 0 if the list is empty.
    pub(super) fn first(self) -> Place {
        self.link(0, 0).node()
    }

    /// The last entry; 0 if the list is empty.
    pub(super) fn last(self) -> Place {
        let mut before = 0;
        for level in (0..HEIGHT_MAX).rev() {
            loop {
                let after = self.link(before, level).node();
                if after == 0 {
                    break;
                }
                before = after;
            }
        }
        before
    }

    /// The entry after `node`; 0 at the end.
    #[inline]
    pub(super) fn after(self, node: Place) -> Place {
        self.link(node, 0).node()
    }

    /// The entry before `node`; 0 if it is the first. Costs a search.
    pub(super) fn before(self, node: Place) -> Place {
        let seqno = self.trailer(node).0 >> 8;
        let target = Target { prefix: self.prefix(node), key: self.key(node), seqno };
        let (before, _) = self.find(&target);
        self.walk_up_to(before, node)
    }

    /// From `before`, which sorts before `node`, along level 0 to the entry just before `node`:
    /// entries equal to it in key and seqno are told apart only by their place in the list.
    fn walk_up_to(self, mut before: Place, node: Place) -> Place {
        loop {
            let after = self.link(before, 0).node();
            if after == node || after == 0 {
                return before;
            }
            before = after;
        }
    }

    /// Where `level` goes on behind `node`, or behind the head for 0.
    #[inline]
    fn link(self, node: Place, level: usize) -> Link {
        Link(self.link_word(node, level).load(Ordering::Acquire))
    }

    #[inline]
    fn link_word(self, node: Place, level: usize) -> &'a AtomicU64 {
        debug_assert!(level < HEIGHT_MAX);
        if node == 0 {
            // SAFETY: the head starts with `HEIGHT_MAX` links, and `level` is below that.
            return unsafe { self.arena.atomic64(self.head, 8 * level) };
        }
        // SAFETY: a node reached at `level` is at least that high, so the link is inside it.
        unsafe { self.arena.atomic64(node, LINKS_AT + 8 * level) }
    }

    /// The hint where `level` ends.
    #[inline]
    fn tail_hint(self, level: usize) -> &'a AtomicU32 {
        debug_assert!(level < HEIGHT_MAX);
        // SAFETY: the head has `HEAD_LEN` bytes, and `level` is below `HEIGHT_MAX`.
        unsafe { self.arena.atomic32(self.head, TAILS_AT + 4 * level) }
    }

    #[inline]
    fn word(self, node: Place, offset: usize) -> u64 {
        // SAFETY: every node has its fixed part, and `offset` is 0, 8 or 16. Relaxed: the acquire
        // load that led here made the node's bytes visible, and they never change.
        unsafe { self.arena.atomic64(node, offset) }.load(Ordering::Relaxed)
    }

    #[inline]
    fn prefix(self, node: Place) -> u64 {
        self.word(node, PREFIX_AT)
    }

    /// The trailer of the entry at `node`.
    #[inline]
    pub(super) fn trailer(self, node: Place) -> Trailer {
        Trailer(self.word(node, TRAILER_AT))
    }

    /// Value length, key length and height, from the third word.
    #[inline]
    fn lengths(self, node: Place) -> (usize, usize, usize) {
        let bytes = self.word(node, VALUE_LEN_AT).to_ne_bytes();
        let [v0, v1, v2, v3, k0, k1, height, _] = bytes;
        (
            u32::from_ne_bytes([v0, v1, v2, v3]) as usize,
            u16::from_ne_bytes([k0, k1]) as usize,
            usize::from(height),
        )
    }

    /// The key of the entry at `node`.
    #[inline]
    pub(super) fn key(self, node: Place) -> &'a [u8] {
        let (_, key_len, height) = self.lengths(node);
        // SAFETY: `create` allocated and wrote the key there before the node was published.
        unsafe { self.arena.bytes(node, LINKS_AT + 8 * height, key_len) }
    }

    /// The value of the entry at `node`.
    #[inline]
    pub(super) fn value(self, node: Place) -> &'a [u8] {
        let (value_len, key_len, height) = self.lengths(node);
        // SAFETY: as for `key`.
        unsafe { self.arena.bytes(node, LINKS_AT + 8 * height + key_len, value_len) }
    }
}

/// Half of the nodes are higher than 1, half of those higher than 2, and so on up to
/// [`FINGER_HEIGHT`]; beyond, a quarter are.
#[inline]
fn height_of(spread: u64) -> usize {
    let halvings = (spread | 1 << 60).trailing_zeros() as usize;
    if halvings < FINGER_HEIGHT {
        return halvings + 1;
    }
    (FINGER_HEIGHT + (halvings - FINGER_HEIGHT) / 2 + 1).min(HEIGHT_MAX)
}
