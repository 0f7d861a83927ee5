//! The elements of one side, summed up.
//!
//! One scan takes a mark every so many elements: a name, and the fingerprint of everything before
//! it. The fingerprint of a range between marks is a difference; at its ends the elements between
//! mark and end are scanned again. A sketch holds at most [`MARKS_MAX`] marks, and fewer where names are
//! long, so its memory grows neither with the set nor with its names; it is true as long as the elements
//! are those of one snapshot.

use super::fingerprint::{ElementDigest, Fingerprint};
use base::Result;

/// Marks of a sketch at the most.
pub const MARKS_MAX: usize = 1 << 16;
/// Bytes of the names of its marks at the most: 64 each where there are as many as may be.
const NAMES_LEN_MAX: usize = 4 << 20;
const _: () = assert!(MARKS_MAX * size_of::<Mark>() <= 4 << 20, "both together are 8 MiB");

/// Elements of a snapshot, in the order of their names.
pub trait Elements {
    /// Calls `each` with every name from `from` up to, not including, `to` (to the last one if there is
    /// no `to`), in order, until it returns false; with no digest if it is not to be compared.
    fn scan(
        &self,
        from: &[u8],
        to: Option<&[u8]>,
        each: &mut dyn FnMut(&[u8], Option<&ElementDigest>) -> bool,
    ) -> Result<()>;
}

/// See the module.
#[derive(Debug)]
pub struct Sketch<E> {
    elements: E,
    /// By name; the first one is before all elements.
    marks: Vec<Mark>,
    all: Fingerprint,
}

#[derive(Debug)]
struct Mark {
    /// A name that it stands before.
    name: Box<[u8]>,
    /// All elements before it.
    before: Fingerprint,
}

/// How much a sketch may hold.
#[derive(Clone, Copy, Debug)]
struct Most {
    marks: usize,
    names_len: usize,
}

/// A sketch in the making, so that summing up many elements can be done piece by piece.
#[derive(Debug)]
pub struct Sketching<E> {
    sketch: Sketch<E>,
    most: Most,
    /// Bytes of the names of all marks.
    names_len: usize,
    /// A mark stands before every so many names.
    stride: u64,
    names: u64,
    /// Where to go on.
    next: Vec<u8>,
}

impl<E: Elements> Sketching<E> {
    /// Nothing of `elements` is summed up yet.
    pub fn of(elements: E) -> Sketching<E> {
        Sketching::with(elements, Most { marks: MARKS_MAX, names_len: NAMES_LEN_MAX })
    }

    fn with(elements: E, most: Most) -> Sketching<E> {
        let sketch = Sketch { elements, marks: Vec::new(), all: Fingerprint::default() };
        Sketching { sketch, most, names_len: 0, stride: 1, names: 0, next: Vec::new() }
    }

    /// Sums up `count` more names. Returns false if there were not so many: then it is done.
    pub fn go_on(&mut self, count: u64) -> Result<bool> {
        let end = self.names + count;
        let Sketching { sketch: Sketch { elements, marks, all }, next, .. } = self;
        let (names, stride, most) = (&mut self.names, &mut self.stride, self.most);
        let names_len = &mut self.names_len;
        let from = std::mem::take(next);
        elements.scan(&from, None, &mut |name, digest| {
            if *names == end {
                next.extend_from_slice(name);
                return false;
            }
            // The first one stays, however long.
            let is_full = |marks: &[Mark], held: usize| {
                let is_too_long = held + name.len() > most.names_len;
                !marks.is_empty() && (marks.len() >= most.marks || is_too_long)
            };
            while names.is_multiple_of(*stride) && is_full(marks, *names_len) {
                *names_len = thin(marks);
                *stride *= 2;
            }
            if names.is_multiple_of(*stride) {
                *names_len += name.len();
                marks.push(Mark { name: name.into(), before: *all });
            }
            *names += 1;
            digest.into_iter().for_each(|digest| all.add(digest));
            true
        })?;
        Ok(!self.next.is_empty())
    }

    /// What is summed up.
    pub fn elements(&self) -> &E {
        &self.sketch.elements
    }

    /// The sketch of all that was summed up.
    pub fn finish(self) -> Sketch<E> {
        self.sketch
    }
}

impl<E: Elements> Sketch<E> {
    /// Sums up `elements`.
    pub fn of(elements: E) -> Result<Sketch<E>> {
        let mut sketching = Sketching::of(elements);
        while sketching.go_on(u64::from(u32::MAX))? {}
        Ok(sketching.finish())
    }

    /// What was summed up.
    #[cfg(test)]
    pub(crate) fn elements(&self) -> &E {
        &self.elements
    }

    /// What was summed up, when the sums are not needed any more.
    pub fn into_elements(self) -> E {
        self.elements
    }

    /// What all elements come to.
    pub fn all(&self) -> Fingerprint {
        self.all
    }

    /// What the elements from `from` up to `to` come to.
    pub fn fingerprint(&self, from: &[u8], to: Option<&[u8]>) -> Result<Fingerprint> {
        let upper = match to {
            Some(to) => self.before(to)?,
            None => self.all,
        };
        Ok(upper.minus(self.before(from)?))
    }

    /// The elements before `name`.
    fn before(&self, name: &[u8]) -> Result<Fingerprint> {
        let behind = self.marks.partition_point(|mark| *mark.name <= *name);
        let Some(mark) = behind.checked_sub(1).and_then(|at| self.marks.get(at)) else {
            return Ok(Fingerprint::default());
        };
        let mut sum = mark.before;
        if *mark.name < *name {
            self.elements.scan(&mark.name, Some(name), &mut |_, digest| {
                digest.into_iter().for_each(|digest| sum.add(digest));
                true
            })?;
        }
        Ok(sum)
    }

    /// Names that cut the range into up to `parts` parts of about as many elements each; each is the
    /// shortest that does.
    pub fn cuts(&self, from: &[u8], to: Option<&[u8]>, parts: u64) -> Result<Vec<Vec<u8>>> {
        let first = self.before(from)?.count;
        let count = self.fingerprint(from, to)?.count;
        let mut cuts: Vec<Vec<u8>> = Vec::new();
        for part in 1..parts.min(count) {
            let cut = self.cut_before(first + count * part / parts.min(count))?;
            let is_inside = *cut > *from && to.is_none_or(|to| *cut < *to);
            if is_inside && cuts.last().is_none_or(|last| *last < cut) {
                cuts.push(cut);
            }
        }
        Ok(cuts)
    }

    /// The shortest name above element number `place - 1` and not above element number `place`.
    fn cut_before(&self, place: u64) -> Result<Vec<u8>> {
        let behind = self.marks.partition_point(|mark| mark.before.count < place);
        let start = behind.checked_sub(1).and_then(|at| self.marks.get(at));
        let (from, mut count) = match start {
            Some(mark) => (&*mark.name, mark.before.count),
            None => (&[][..], 0),
        };
        let (mut below, mut cut) = (Vec::new(), Vec::new());
        self.elements.scan(from, None, &mut |name, digest| {
            if digest.is_none() {
                return true;
            }
            if count >= place {
                cut = shortest_between(&below, name).to_vec();
                return false;
            }
            below.clear();
            below.extend_from_slice(name);
            count += 1;
            true
        })?;
        Ok(cut)
    }

    /// The elements from `from` up to `to`, `len_max` of them at the most: they are held all at once.
    pub fn list(
        &self,
        from: &[u8],
        to: Option<&[u8]>,
        len_max: usize,
    ) -> Result<Vec<(Vec<u8>, ElementDigest)>> {
        let mut list = Vec::new();
        self.visit(from, to, &mut |name, digest| {
            list.push((name.to_vec(), *digest));
            list.len() < len_max
        })?;
        Ok(list)
    }

    /// Calls `each` with the elements from `from` up to `to`, until it returns false.
    pub fn visit(
        &self,
        from: &[u8],
        to: Option<&[u8]>,
        each: &mut dyn FnMut(&[u8], &ElementDigest) -> bool,
    ) -> Result<()> {
        self.elements
            .scan(from, to, &mut |name, digest| digest.is_none_or(|digest| each(name, digest)))
    }
}

/// Removes every other mark, so that the others stay evenly far apart. Returns the bytes of their names.
fn thin(marks: &mut Vec<Mark>) -> usize {
    let (mut is_even, mut names_len) = (false, 0);
    marks.retain(|mark| {
        is_even = !is_even;
        names_len += if is_even { mark.name.len() } else { 0 };
        is_even
    });
    names_len
}

/// The shortest prefix of `above` that is greater than `below`, which is less than `above`.
fn shortest_between<'a>(below: &[u8], above: &'a [u8]) -> &'a [u8] {
    let common = below.iter().zip(above).take_while(|(a, b)| a == b).count();
    above.get(..common + 1).unwrap_or(above)
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeMap;
    use std::ops::Bound;

    #[derive(Clone, Debug, Default)]
    pub(crate) struct Set(pub(crate) BTreeMap<Vec<u8>, ElementDigest>);

    /// Names whose digest begins so are there, and are not compared.
    pub(crate) const PASSED_OVER: u64 = 0;

    impl Elements for Set {
        fn scan(
            &self,
            from: &[u8],
            to: Option<&[u8]>,
            each: &mut dyn FnMut(&[u8], Option<&ElementDigest>) -> bool,
        ) -> Result<()> {
            if to.is_some_and(|to| to <= from) {
                return Ok(());
            }
            let upper = to.map_or(Bound::Unbounded, Bound::Excluded);
            for (name, digest) in self.0.range::<[u8], _>((Bound::Included(from), upper)) {
                let digest = Some(digest).filter(|digest| digest.short() != PASSED_OVER);
                if !each(name, digest) {
                    break;
                }
            }
            Ok(())
        }
    }

    pub(crate) fn any_set() -> impl Strategy<Value = Set> {
        let name = proptest::collection::vec(0u8..6, 1..5);
        let passed_over = Just(ElementDigest::of([0; 32]));
        let digest =
            prop_oneof![4 => any::<[u8; 32]>().prop_map(ElementDigest::of), 1 => passed_over];
        proptest::collection::btree_map(name, digest, 0..200).prop_map(Set)
    }

    proptest! {
        /// Marks save work; they change no answer.
        #[test]
        fn any_range_comes_to_the_sum_of_its_elements(
            set in any_set(), marks in 1usize..40, names_len in 1usize..200, step in 1u64..50,
            from in proptest::collection::vec(0u8..6, 0..4),
            to in proptest::option::of(proptest::collection::vec(0u8..6, 1..4)),
        ) {
            prop_assume!(to.as_ref().is_none_or(|to| *to >= from));
            let mut sketching = Sketching::with(set.clone(), Most { marks, names_len });
            while sketching.go_on(step).unwrap() {}
            let sketch = sketching.finish();
            prop_assert!(sketch.marks.len() <= marks);
            let held: usize = sketch.marks.iter().map(|mark| mark.name.len()).sum();
            prop_assert!(held <= names_len || sketch.marks.len() == 1, "{held}");
            let mut set = set;
            set.0.retain(|_, digest| digest.short() != PASSED_OVER);
            let mut expected = Fingerprint::default();
            let inside = |name: &Vec<u8>| *name >= from && to.as_ref().is_none_or(|to| name < to);
            set.0.iter().filter(|(name, _)| inside(name)).for_each(|(_, d)| expected.add(d));
            prop_assert_eq!(sketch.fingerprint(&from, to.as_deref()).unwrap(), expected);
            let cuts = sketch.cuts(&from, to.as_deref(), 16).unwrap();
            let mut bounds = vec![from.clone()];
            bounds.extend(cuts);
            prop_assert!(bounds.is_sorted_by(|a, b| a < b));
            if expected.count >= 2 {
                let parts = bounds.len() as u64;
                prop_assert_eq!(parts, expected.count.min(16));
                for (at, part) in bounds.iter().enumerate() {
                    let end = bounds.get(at + 1).map(Vec::as_slice).or(to.as_deref());
                    let count = sketch.fingerprint(part, end).unwrap().count;
                    prop_assert!(count.abs_diff(expected.count / parts) <= 1, "{count} of {expected:?}");
                }
            }
        }
    }

    /// A thousand names of the greatest length are far more than their marks may hold; short ones keep all.
    #[test]
    fn long_names_leave_fewer_marks() {
        let held = |name_len: usize| {
            let name = |i: u32| {
                let mut name = i.to_be_bytes().to_vec();
                name.resize(name_len, b'n');
                (name, ElementDigest::of(*blake3::hash(&i.to_be_bytes()).as_bytes()))
            };
            let sketch = Sketch::of(Set((0..1000).map(name).collect())).unwrap();
            let names = sketch.marks.iter().map(|mark| mark.name.len());
            (sketch.marks.len(), names.sum::<usize>())
        };
        assert_eq!(held(100), (1000, 100_000));
        let (marks, bytes) = held(65_000);
        assert!((32..=64).contains(&marks) && bytes <= NAMES_LEN_MAX, "{marks} {bytes}");
    }
}
