//! From which key to which: the ranges that scans take.

use crate::scan::prefix_end;
use std::ops::{Bound, Range, RangeFrom, RangeFull, RangeInclusive, RangeTo, RangeToInclusive};

/// A range of keys: `..`, `a..b`, `a..=b`, `a..`, `..b`, `..=b` or a pair of [`Bound`]s, of anything
/// that is bytes.
pub trait KeyBounds {
    /// Where it starts.
    fn start(&self) -> Bound<&[u8]>;
    /// Where it ends.
    fn end(&self) -> Bound<&[u8]>;
}

impl KeyBounds for RangeFull {
    fn start(&self) -> Bound<&[u8]> {
        Bound::Unbounded
    }

    fn end(&self) -> Bound<&[u8]> {
        Bound::Unbounded
    }
}

/// Says where the keys of a range type are.
macro_rules! key_bounds {
    ($range:ty, $this:ident: $start:expr, $end:expr) => {
        impl<K: AsRef<[u8]>> KeyBounds for $range {
            fn start(&$this) -> Bound<&[u8]> {
                $start
            }

            fn end(&$this) -> Bound<&[u8]> {
                $end
            }
        }
    };
}

key_bounds!(Range<K>, self: Bound::Included(self.start.as_ref()), Bound::Excluded(self.end.as_ref()));
key_bounds!(RangeFrom<K>, self: Bound::Included(self.start.as_ref()), Bound::Unbounded);
key_bounds!(RangeTo<K>, self: Bound::Unbounded, Bound::Excluded(self.end.as_ref()));
key_bounds!(RangeToInclusive<K>, self: Bound::Unbounded, Bound::Included(self.end.as_ref()));
key_bounds!(RangeInclusive<K>, self: Bound::Included(self.start().as_ref()), Bound::Included(self.end().as_ref()));
key_bounds!((Bound<K>, Bound<K>), self: self.0.as_ref().map(K::as_ref), self.1.as_ref().map(K::as_ref));

/// A range as two keys: `start` inclusive, `end` exclusive and empty for "to the last key".
#[derive(Clone, Debug, Default)]
pub(crate) struct Bounds {
    pub(crate) start: Vec<u8>,
    pub(crate) end: Vec<u8>,
    is_empty: bool,
}

impl Bounds {
    /// The keys in `range`.
    pub(crate) fn of(range: &impl KeyBounds) -> Bounds {
        let start = match range.start() {
            Bound::Included(key) => key.to_vec(),
            Bound::Excluded(key) => successor(key),
            Bound::Unbounded => Vec::new(),
        };
        let end = match range.end() {
            Bound::Included(key) => successor(key),
            // No key is below the empty one.
            Bound::Excluded([]) => return Bounds { is_empty: true, ..Bounds::default() },
            Bound::Excluded(key) => key.to_vec(),
            Bound::Unbounded => Vec::new(),
        };
        let is_empty = !end.is_empty() && start >= end;
        Bounds { start, end, is_empty }
    }

    /// The keys that start with `prefix`.
    pub(crate) fn prefix(prefix: &[u8]) -> Bounds {
        Bounds { start: prefix.to_vec(), end: prefix_end(prefix), is_empty: false }
    }

    /// Whether no key can be in it.
    pub(crate) fn is_empty(&self) -> bool {
        self.is_empty
    }
}

/// The smallest key above `key`.
pub(crate) fn successor(key: &[u8]) -> Vec<u8> {
    let mut next = Vec::with_capacity(key.len() + 1);
    next.extend_from_slice(key);
    next.push(0);
    next
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn check(range: impl KeyBounds, contains: impl Fn(&[u8]) -> bool, key: &[u8]) {
        let bounds = Bounds::of(&range);
        let found = !bounds.is_empty()
            && *bounds.start <= *key
            && (bounds.end.is_empty() || *key < *bounds.end);
        assert_eq!(found, contains(key), "{bounds:?} and {key:?}");
    }

    fn key() -> impl Strategy<Value = Vec<u8>> {
        proptest::collection::vec(prop_oneof![Just(0u8), Just(1), Just(255)], 0..4)
    }

    proptest! {
        #[test]
        fn every_range_holds_the_keys_it_says(a in key(), b in key(), x in key()) {
            prop_assume!(!x.is_empty());
            check(.., |_| true, &x);
            check(a.clone()..b.clone(), |x| *a <= *x && *x < *b, &x);
            check(a.clone()..=b.clone(), |x| *a <= *x && *x <= *b, &x);
            check(&a.., |x| *a <= *x, &x);
            check(..&b, |x| *x < *b, &x);
            check(..=&b, |x| *x <= *b, &x);
            check((Bound::Excluded(&a), Bound::Included(&b)), |x| *a < *x && *x <= *b, &x);
            check((Bound::Unbounded, Bound::Excluded(&b)), |x| *x < *b, &x);
            check((Bound::Excluded(&a), Bound::Unbounded), |x| *a < *x, &x);
        }
    }
}
