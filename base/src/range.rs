//! Ranges of keys, by the names of their keyspaces, as nodes name them to each other.
//!
//! A list of them is small, whatever it is made of: long keys are cut and neighbours joined so that it
//! holds at least what it was made of. So it may only say where something may be missing, never where
//! something is.

use crate::codec::Decoded;
use crate::error::Corruption;
use crate::limits::KEYSPACE_NAME_LEN_MAX;

/// The keys of `keyspace` from `start` up to, not including, `end`; to the last one if that is empty.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct KeyRange {
    /// The keyspace's name.
    pub keyspace: String,
    /// The first key.
    pub start: Vec<u8>,
    /// The first key behind it; none if it is empty.
    pub end: Vec<u8>,
}

impl KeyRange {
    /// The keys from `first` to `last`, both included.
    pub fn between(keyspace: &str, first: &[u8], last: &[u8]) -> KeyRange {
        let (keyspace, start) = (keyspace.to_owned(), first.to_vec());
        KeyRange { keyspace, start, end: [last, &[0]].concat() }
    }

    /// Whether `key` of its keyspace is inside.
    pub fn holds(&self, key: &[u8]) -> bool {
        *self.start <= *key && !self.ends_before(key)
    }

    /// Whether all of it is before `key`.
    pub fn ends_before(&self, key: &[u8]) -> bool {
        !self.end.is_empty() && *self.end <= *key
    }

    /// Whether it has a key in common with the keys from `start` up to `end`, to the last one if empty.
    pub fn touches(&self, start: &[u8], end: &[u8]) -> bool {
        !self.ends_before(start) && (end.is_empty() || *self.start < *end)
    }

    /// The same range or a larger one, between short keys.
    fn cut(mut self) -> KeyRange {
        self.start.truncate(KeyRanges::KEY_LEN_MAX);
        if self.end.len() > KeyRanges::KEY_LEN_MAX {
            self.end.truncate(KeyRanges::KEY_LEN_MAX);
            // The next string of that length or less; without one, to the last key.
            while self.end.last() == Some(&u8::MAX) {
                self.end.pop();
            }
            if let Some(last) = self.end.last_mut() {
                *last += 1;
            }
        }
        self
    }

    /// Takes in `other`, which is of the same keyspace and starts no earlier.
    fn extend(&mut self, other: &KeyRange) {
        if self.end.is_empty() || other.end.is_empty() {
            self.end.clear();
        } else if self.end < other.end {
            self.end.clone_from(&other.end);
        }
    }
}

/// Few short ranges, by keyspace and start; none touches the next.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct KeyRanges(Vec<KeyRange>);

impl KeyRanges {
    /// Ranges at the most.
    pub const COUNT_MAX: usize = 16;
    /// Bytes of a key at the most.
    pub const KEY_LEN_MAX: usize = 512;

    /// At least all of `ranges`; none if they are in too many keyspaces.
    pub fn around(ranges: impl IntoIterator<Item = KeyRange>) -> Option<KeyRanges> {
        let mut ranges: Vec<KeyRange> = ranges.into_iter().map(KeyRange::cut).collect();
        ranges.sort();
        join(&mut ranges, |before, next| before.end.is_empty() || before.end >= next.start);
        while ranges.len() > KeyRanges::COUNT_MAX {
            let (count, mut place) = (ranges.len(), 0);
            // Two by two, so that what is far apart stays so as long as can be.
            join(&mut ranges, |_, _| {
                place += 1;
                place % 2 == 1
            });
            if ranges.len() == count {
                return None;
            }
        }
        Some(KeyRanges(ranges))
    }

    /// The list that another node names.
    ///
    /// # Errors
    /// If it is longer than may be, or not in order.
    pub fn of(ranges: Vec<KeyRange>) -> Decoded<KeyRanges> {
        let is_short = |range: &KeyRange| {
            range.start.len().max(range.end.len()) <= KeyRanges::KEY_LEN_MAX
                && (1..=KEYSPACE_NAME_LEN_MAX).contains(&range.keyspace.len())
                && (range.end.is_empty() || range.start < range.end)
        };
        if ranges.len() > KeyRanges::COUNT_MAX || !ranges.iter().all(is_short) {
            return Err(Corruption::OutOfRange);
        }
        let follows = |(before, next): (&KeyRange, &KeyRange)| {
            before.keyspace < next.keyspace
                || (before.keyspace == next.keyspace && before.ends_before(&next.start))
        };
        match ranges.iter().zip(ranges.iter().skip(1)).all(follows) {
            true => Ok(KeyRanges(ranges)),
            false => Err(Corruption::OutOfOrder),
        }
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// All of them.
    pub fn iter(&self) -> impl Iterator<Item = &KeyRange> {
        self.0.iter()
    }

    /// Those of a keyspace.
    pub fn within(&self, keyspace: &str) -> impl Iterator<Item = &KeyRange> {
        self.0.iter().filter(move |range| range.keyspace == keyspace)
    }

    /// Whether every key of `other` is inside.
    pub fn cover(&self, other: &KeyRanges) -> bool {
        other.iter().all(|part| {
            self.within(&part.keyspace).any(|all| {
                let ends = all.end.is_empty() || (!part.end.is_empty() && part.end <= all.end);
                all.start <= part.start && ends
            })
        })
    }
}

/// Joins neighbours in one keyspace for which `should_join` holds.
fn join(ranges: &mut Vec<KeyRange>, mut should_join: impl FnMut(&KeyRange, &KeyRange) -> bool) {
    ranges.dedup_by(|next, before| {
        let joins = before.keyspace == next.keyspace && should_join(before, next);
        if joins {
            before.extend(next);
        }
        joins
    });
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn any_key() -> impl Strategy<Value = Vec<u8>> {
        let byte = prop_oneof![Just(0u8), Just(7), Just(255)];
        let long = (any::<[u8; 2]>(), 500usize..520).prop_map(|([first, rest], len)| {
            let mut key = vec![rest | 0xf0; len];
            key[0] = first;
            key
        });
        prop_oneof![4 => proptest::collection::vec(byte, 1..4), 1 => long, 1 => Just(vec![255; 600])]
    }

    fn any_ranges() -> impl Strategy<Value = Vec<KeyRange>> {
        let range =
            ("[ab]", any_key(), any_key(), any::<bool>()).prop_map(|(name, a, b, is_open)| {
                let mut range =
                    KeyRange::between(&name, a.as_slice().min(&b), a.as_slice().max(&b));
                if is_open {
                    range.end.clear();
                }
                range
            });
        proptest::collection::vec(range, 0..60)
    }

    proptest! {
        #[test]
        fn a_list_holds_at_least_what_it_was_made_of_and_is_short(
            ranges in any_ranges(), keys in proptest::collection::vec(any_key(), 1..40)
        ) {
            let list = KeyRanges::around(ranges.clone()).unwrap();
            prop_assert_eq!(KeyRanges::of(list.0.clone()), Ok(list.clone()));
            for range in &ranges {
                for key in keys.iter().chain([&range.start]).filter(|key| range.holds(key)) {
                    prop_assert!(list.within(&range.keyspace).any(|it| it.holds(key)));
                }
            }
            prop_assert!(list.cover(&list));
            let few = KeyRanges::around(ranges.into_iter().take(3)).unwrap();
            prop_assert!(list.cover(&few), "{list:?} {few:?}");
        }

        #[test]
        fn ranges_touch_if_they_have_a_key_in_common(
            ranges in any_ranges(), keys in proptest::collection::vec(any_key(), 1..40)
        ) {
            for pair in ranges.windows(2) {
                let [a, b] = pair else { continue };
                let common = keys.iter().chain([&a.start, &b.start]);
                let has_common = common.clone().any(|key| a.holds(key) && b.holds(key));
                prop_assert_eq!(a.touches(&b.start, &b.end), has_common);
            }
        }
    }

    #[test]
    fn a_long_end_is_cut_above_what_it_held() {
        for (byte, last) in [(9, 9), (255, 255), (255, 0)] {
            let mut end = vec![byte; KeyRanges::KEY_LEN_MAX];
            let inside = [&end[..], &[last.min(254)]].concat();
            end.extend([last, 1]);
            let range = KeyRange { keyspace: "k".to_owned(), start: vec![1], end };
            assert!(range.holds(&inside));
            let list = KeyRanges::around([range]).unwrap();
            assert!(list.iter().all(|range| range.holds(&inside)), "{byte} {last}");
        }
    }

    #[test]
    fn lists_that_are_too_long_or_out_of_order_are_refused() {
        let range = |at: u8| KeyRange::between("k", &[at], &[at]);
        let many: Vec<KeyRange> = (0..17).map(|at| range(3 * at)).collect();
        assert_eq!(KeyRanges::of(many.clone()), Err(Corruption::OutOfRange));
        assert_eq!(KeyRanges::of(many[..16].to_vec()).unwrap().iter().count(), 16);
        assert_eq!(KeyRanges::of(vec![range(2), range(1)]), Err(Corruption::OutOfOrder));
        let long = KeyRange::between("k", &[1; 513], &[2]);
        assert_eq!(KeyRanges::of(vec![long]), Err(Corruption::OutOfRange));
        let backward = KeyRange { start: vec![3], end: vec![2], keyspace: "k".to_owned() };
        assert_eq!(KeyRanges::of(vec![backward]), Err(Corruption::OutOfRange));
        let spread = (0..17u8).map(|at| KeyRange { keyspace: format!("{at:02}"), ..range(at) });
        assert_eq!(KeyRanges::around(spread), None);
        let joined = KeyRanges::around(many).unwrap();
        assert_eq!(joined.iter().count(), 9);
    }
}
