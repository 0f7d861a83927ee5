//! Inserting one entry after the other in their order: each is searched from where the last one went.
//!
//! The closer the next place is, the fewer nodes are touched; entries that were inserted so lie in memory in
//! their order, so whoever passes them later reads ahead. Where the next place is far, a finger is nearer.
//!
//! Invariants:
//! - On every level, what stands before comes before all that is inserted from here on.
//! - On the levels below [`LOW`], nothing stood between before and after when they were read, but what was
//!   inserted last. Above, more may: those levels are walked anew for each node that reaches them.
//! - Another thread that has inserted in between is noticed when the node is linked.

use super::super::arena::Place;
use super::super::fingers::FINGER_HEIGHT;
use super::{HEIGHT_MAX, List, Splice, Target, height_of};
use base::{Trailer, key_prefix};

/// Levels that most nodes reach at the most.
const LOW: usize = FINGER_HEIGHT - 1;

/// Where the last entry went.
#[derive(Default)]
pub(in super::super) struct Trail(Option<Splice>);

impl List<'_> {
    /// As [`List::insert`]. Costs less if the entry comes soon after the last one of the same `trail`.
    #[must_use]
    pub(in super::super) fn insert_behind(
        self,
        trail: &mut Trail,
        key: &[u8],
        trailer: Trailer,
        value: &[u8],
        spread: u64,
    ) -> bool {
        let height = height_of(spread);
        let Some(node) = self.create(height, key, trailer, value) else { return false };
        let target = Target { prefix: key_prefix(key), key, seqno: trailer.0 >> 8 };
        let mut splice = match trail.0.take().filter(|last| self.is_behind(last, &target)) {
            Some(last) => self.follow(last, height, &target),
            None => self.tail_splice(&target).unwrap_or_else(|| self.find_splice(&target, height)),
        };
        self.splice_in_all(node, height, &target, &mut splice);
        splice.before.iter_mut().take(height).for_each(|before| *before = node);
        trail.0 = Some(splice);
        true
    }

    /// Whether the target comes after what was inserted last.
    fn is_behind(self, last: &Splice, target: &Target<'_>) -> bool {
        let [node, ..] = last.before;
        node != 0 && self.is_node_before(node, target)
    }

    /// Moves a splice forward to the target: up to the first level on which nothing lies between, and
    /// down again.
    fn follow(self, mut splice: Splice, height: usize, target: &Target<'_>) -> Splice {
        if height >= FINGER_HEIGHT {
            self.walk(&mut splice, HEIGHT_MAX, target);
            return splice;
        }
        let low = splice.after.iter().take(LOW);
        let levels = low.take_while(|after| self.is_before(**after, target)).count();
        if levels < LOW {
            self.walk(&mut splice, levels, target);
            return splice;
        }
        let near = self.find_splice(target, height);
        let before = splice.before.iter_mut().zip(near.before);
        before.take(LOW).for_each(|(before, found)| *before = found);
        let after = splice.after.iter_mut().zip(near.after);
        after.take(LOW).for_each(|(after, found)| *after = found);
        splice
    }

    /// Moves the lowest `levels` of a splice forward to the target.
    fn walk(self, splice: &mut Splice, levels: usize, target: &Target<'_>) {
        let mut moved: Option<Place> = None;
        for level in (0..levels).rev() {
            let (Some(before), Some(after)) =
                (splice.before.get_mut(level), splice.after.get_mut(level))
            else {
                continue;
            };
            let (found, next) = self.find_at(moved.unwrap_or(*before), level, target);
            if found != *before {
                moved = Some(found);
            }
            (*before, *after) = (found, next);
        }
    }
}
