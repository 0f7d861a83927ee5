//! The conversation of a reconciliation, one side of it.
//!
//! Half-rounds alternate: a side answers once the other's has ended. One that asks nothing (no
//! fingerprint, no list) is the last. At the end each side knows which of its elements the other
//! lacks.

use super::fingerprint::Fingerprint;
use super::message::{Claim, Frame, FrameWriter, Range};
use super::sketch::{Elements, Sketch};
use base::{Corruption, Error, Result};
use std::collections::BTreeSet;

/// Elements up to which a range is listed rather than cut.
const LEAF: u64 = 24;
/// Parts of a range that is cut.
const FAN_OUT: u64 = 16;
/// Parts of the first range, if it holds many elements: one half-round less.
const FIRST_FAN_OUT: u64 = 256;
/// Elements from which the first range is cut into that many.
const MANY: u64 = 1 << 16;
/// Elements of a range up to which a short fingerprint does.
const SHORT_MAX: u64 = 64;
/// Bytes of one half-round at the most: two sets that differ this much need a delta, not this.
const HALF_ROUND_LEN_MAX: usize = 8 << 20;
/// Half-rounds of a comparison at the most, of both sides together. A million elements take six, and after any
/// two more a part that still differs is a sixteenth: with these, 10^13 elements are compared.
pub const HALF_ROUNDS_MAX: u32 = 24;
/// Elements of one side that may be found to differ, for the same reason.
pub const FOUND_MAX: usize = 1 << 18;

/// Bytes of their names.
const FOUND_BYTES_MAX: usize = 16 << 20;

/// See the module.
#[derive(Debug)]
pub struct Comparison<E> {
    sketch: Sketch<E>,
    answer: FrameWriter,
    found: Found,
    /// Bytes of the names that were found.
    found_len: usize,
    bytes: u64,
    half_rounds: u32,
    /// Bytes of the half-round that is coming in.
    heard_len: usize,
    /// Whether the half-round that is coming in asks something.
    is_asked: bool,
    /// Whether the answer asks something.
    is_asking: bool,
    /// Whether anything that either side has said differs.
    is_equal: bool,
}

/// What a comparison has found on this side.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Found {
    /// Names of elements that the other side lacks, or holds in another version.
    pub ours: BTreeSet<Vec<u8>>,
}

impl Found {
    /// Adds a name to those whose bytes are `len`, if it has room.
    fn note(&mut self, name: &[u8], len: &mut usize) -> Result<()> {
        *len += name.len();
        too_large(*len, FOUND_BYTES_MAX)?;
        self.ours.insert(name.to_vec());
        too_large(self.ours.len(), FOUND_MAX - 1)
    }
}

/// What follows from a frame.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Step {
    /// The other side has more to say first.
    Wait,
    /// To be sent, in order; an answer will come.
    Answer(Vec<Vec<u8>>),
    /// To be sent, in order, if there is anything; the comparison has ended.
    Done(Vec<Vec<u8>>),
}

impl<E: Elements> Comparison<E> {
    /// A comparison of what is in `sketch`.
    pub fn new(sketch: Sketch<E>) -> Comparison<E> {
        let (answer, found) = (FrameWriter::default(), Found::default());
        Comparison {
            sketch,
            answer,
            found,
            found_len: 0,
            bytes: 0,
            half_rounds: 0,
            heard_len: 0,
            is_asked: false,
            is_asking: false,
            is_equal: true,
        }
    }

    /// The first half-round, of the side that begins.
    pub fn open(&mut self) -> Vec<Vec<u8>> {
        let claim = Claim::Long(self.sketch.all().wire());
        self.answer.push(&Range { from: Vec::new(), to: None, claim });
        self.send()
    }

    /// Takes a frame of the other side.
    ///
    /// # Errors
    /// `InvalidInput` for bytes that are no frame, for a half-round of more than 8 MiB, and for one behind
    /// [`HALF_ROUNDS_MAX`]; `TooLarge` if the sets differ too much. Then the comparison is spent.
    pub fn receive(&mut self, frame: &[u8]) -> Result<Step> {
        self.bytes += frame.len() as u64;
        self.heard_len = self.heard_len.saturating_add(frame.len());
        if self.heard_len > HALF_ROUND_LEN_MAX || self.half_rounds >= HALF_ROUNDS_MAX {
            return Err(Error::invalid("a comparison has no end at the other side"));
        }
        let mut frame = Frame::decode(frame).map_err(refused)?;
        while let Some(range) = frame.next_range().map_err(refused)? {
            // Whoever answers has found a difference; who opens has not.
            self.is_equal &= self.half_rounds == 0;
            self.answer_to(range)?;
            too_large(self.answer.len(), HALF_ROUND_LEN_MAX)?;
        }
        if !frame.is_last() {
            return Ok(Step::Wait);
        }
        (self.half_rounds, self.heard_len) = (self.half_rounds + 1, 0);
        Ok(match (std::mem::take(&mut self.is_asked), std::mem::take(&mut self.is_asking)) {
            (false, _) => Step::Done(Vec::new()),
            (true, false) => Step::Done(self.send()),
            (true, true) => Step::Answer(self.send()),
        })
    }

    fn send(&mut self) -> Vec<Vec<u8>> {
        let frames = std::mem::take(&mut self.answer).finish();
        self.bytes += frames.iter().map(|frame| frame.len() as u64).sum::<u64>();
        self.half_rounds += 1;
        frames
    }

    fn answer_to(&mut self, range: &Range) -> Result<()> {
        self.is_asked |= !matches!(range.claim, Claim::Same | Claim::Wanted(_));
        match &range.claim {
            Claim::Same => Ok(()),
            Claim::Short(theirs) => self.compare(range, theirs),
            Claim::Long(theirs) => self.compare(range, theirs),
            Claim::List(theirs) => self.compare_list(range, theirs),
            Claim::Wanted(wanted) => self.note_wanted(range, wanted),
        }
    }

    fn compare(&mut self, range: &Range, theirs: &[u8]) -> Result<()> {
        let (from, to) = (&*range.from, range.to.as_deref());
        let ours = self.sketch.fingerprint(from, to)?;
        if ours.wire().starts_with(theirs) {
            return Ok(());
        }
        self.is_asking = true;
        self.is_equal = false;
        if ours.count <= LEAF {
            return self.list(range);
        }
        let fan_out = if ours.count > MANY { FIRST_FAN_OUT } else { FAN_OUT };
        let mut starts = vec![range.from.clone()];
        starts.extend(self.sketch.cuts(from, to, fan_out)?);
        let ends = starts.iter().skip(1).cloned().map(Some).chain([range.to.clone()]);
        for (from, to) in starts.iter().cloned().zip(ends) {
            let part = self.sketch.fingerprint(&from, to.as_deref())?;
            self.answer.push(&Range { from, to, claim: claim_of(&part) });
        }
        Ok(())
    }

    fn list(&mut self, range: &Range) -> Result<()> {
        let ours = self.sketch.list(&range.from, range.to.as_deref(), LEAF as usize)?;
        let digests = ours.iter().map(|(_, digest)| digest.short()).collect();
        self.answer.push(&Range { claim: Claim::List(digests), ..range.clone() });
        Ok(())
    }

    fn compare_list(&mut self, range: &Range, theirs: &[u64]) -> Result<()> {
        let mut missing: BTreeSet<u64> = theirs.iter().copied().collect();
        let Comparison { sketch, found, found_len, .. } = self;
        let mut noted = Ok(());
        // What is here may be all there is: it is not held at once.
        sketch.visit(&range.from, range.to.as_deref(), &mut |name, digest| {
            if !missing.remove(&digest.short()) {
                noted = found.note(name, found_len);
            }
            noted.is_ok()
        })?;
        noted?;
        if !missing.is_empty() {
            let claim = Claim::Wanted(missing.into_iter().collect());
            self.answer.push(&Range { claim, ..range.clone() });
        }
        Ok(())
    }

    fn note_wanted(&mut self, range: &Range, wanted: &[u64]) -> Result<()> {
        let wanted: BTreeSet<u64> = wanted.iter().copied().collect();
        let ours = self.sketch.list(&range.from, range.to.as_deref(), LEAF as usize)?;
        let mut named = ours.into_iter().filter(|(_, digest)| wanted.contains(&digest.short()));
        named.try_for_each(|(name, _)| self.found.note(&name, &mut self.found_len))
    }

    /// Whether, so far, neither side has found a difference.
    pub fn is_equal(&self) -> bool {
        self.is_equal
    }

    /// What is compared.
    pub fn sketch(&self) -> &Sketch<E> {
        &self.sketch
    }

    /// As [`Comparison::sketch`], when nothing is left to compare.
    pub fn into_sketch(self) -> Sketch<E> {
        self.sketch
    }

    /// What was found so far.
    pub fn found(&self) -> &Found {
        &self.found
    }

    /// Half-rounds so far, of both sides.
    pub fn half_rounds(&self) -> u32 {
        self.half_rounds
    }

    /// Bytes sent and received so far.
    pub fn bytes(&self) -> u64 {
        self.bytes
    }
}

fn claim_of(part: &Fingerprint) -> Claim {
    let wire = part.wire();
    match wire.first_chunk() {
        Some(short) if part.count <= SHORT_MAX => Claim::Short(*short),
        _ => Claim::Long(wire),
    }
}

fn too_large(value: usize, limit: usize) -> Result<()> {
    if value <= limit {
        return Ok(());
    }
    let (limit, value) = (limit as u64, value as u64);
    Err(Error::TooLarge { what: "the difference of two copies", limit, value })
}

fn refused(found: Corruption) -> Error {
    Error::invalid(format!("a reconciliation frame was refused: {found}"))
}

#[cfg(test)]
mod tests {
    use super::super::sketch::tests::{PASSED_OVER, Set, any_set};
    use super::*;
    use crate::reconcile::ElementDigest;
    use proptest::prelude::*;
    use std::cell::Cell;

    /// Runs a whole comparison; returns it from both sides.
    fn run(a: Set, b: Set) -> (Comparison<Set>, Comparison<Set>) {
        let mut a = Comparison::new(Sketch::of(a).unwrap());
        let mut b = Comparison::new(Sketch::of(b).unwrap());
        let mut frames = a.open();
        for half_round in 0..100 {
            let taker = if half_round % 2 == 0 { &mut b } else { &mut a };
            let steps: Vec<Step> = frames.iter().map(|f| taker.receive(f).unwrap()).collect();
            let (last, earlier) = steps.split_last().unwrap();
            assert!(earlier.iter().all(|step| *step == Step::Wait));
            match last {
                Step::Answer(answer) => frames = answer.clone(),
                Step::Done(answer) => {
                    let other = if half_round % 2 == 0 { &mut a } else { &mut b };
                    for frame in answer {
                        let step = other.receive(frame).unwrap();
                        assert!(matches!(step, Step::Wait | Step::Done(_)));
                    }
                    return (a, b);
                }
                Step::Wait => panic!("the last frame of a half-round was not marked"),
            }
        }
        panic!("the comparison does not end");
    }

    fn only_in(a: &Set, b: &Set) -> BTreeSet<Vec<u8>> {
        let differs = |(name, digest): &(&Vec<u8>, &ElementDigest)| {
            digest.short() != PASSED_OVER && b.0.get(*name) != Some(digest)
        };
        a.0.iter().filter(differs).map(|(name, _)| name.clone()).collect()
    }

    proptest! {
        #[test]
        fn both_sides_learn_exactly_what_the_other_lacks(
            common in any_set(), a in any_set(), b in any_set()
        ) {
            let with = |more: &Set| {
                let mut set = common.clone();
                set.0.extend(more.0.clone());
                set
            };
            let (a, b) = (with(&a), with(&b));
            let (left, right) = run(a.clone(), b.clone());
            prop_assert_eq!(&left.found().ours, &only_in(&a, &b));
            prop_assert_eq!(&right.found().ours, &only_in(&b, &a));
            let is_equal = only_in(&a, &b).is_empty() && only_in(&b, &a).is_empty();
            prop_assert_eq!((left.is_equal(), right.is_equal()), (is_equal, is_equal));
        }

        #[test]
        fn hostile_frames_never_panic(set in any_set(), frames: Vec<Vec<u8>>) {
            let mut side = Comparison::new(Sketch::of(set).unwrap());
            for mut frame in frames {
                frame.splice(0..0, [1, 0]);
                let _ = side.receive(&frame);
            }
        }
    }

    #[test]
    fn equal_sets_take_one_round_trip_and_few_bytes() {
        let set = Set((0u32..1000).map(|i| numbered(i, 0)).collect());
        let (a, b) = run(set.clone(), set);
        assert!(a.found().ours.is_empty() && b.found().ours.is_empty());
        assert!(a.is_equal() && b.is_equal());
        assert_eq!(a.half_rounds(), 2);
        assert!(a.bytes() <= 200, "{}", a.bytes());
    }

    #[test]
    fn a_side_that_claims_to_hold_nothing_does_not_make_the_other_list_everything() {
        let set = Set((0..FOUND_MAX as u32 + 9).map(|i| numbered(i, 0)).collect());
        let mut side = Comparison::new(Sketch::of(set).unwrap());
        let mut writer = FrameWriter::default();
        writer.push(&Range { from: Vec::new(), to: None, claim: Claim::List(Vec::new()) });
        let refused = writer.finish().iter().try_for_each(|f| side.receive(f).map(|_| ()));
        assert!(matches!(refused, Err(Error::TooLarge { .. })), "{refused:?}");
    }

    /// A liar that says of everything, each time, that it holds something else.
    #[test]
    fn a_comparison_that_never_ends_is_refused() {
        let set = Set((0u32..1000).map(|i| numbered(i, 0)).collect());
        let mut side = Comparison::new(Sketch::of(set).unwrap());
        let refused = (0u8..100).find_map(|number| {
            let mut writer = FrameWriter::default();
            let claim = Claim::Short([number; Fingerprint::SHORT_LEN]);
            writer.push(&Range { from: Vec::new(), to: None, claim });
            writer.finish().iter().find_map(|frame| side.receive(frame).err())
        });
        assert!(matches!(refused, Some(Error::InvalidInput { .. })), "{refused:?}");
        assert_eq!(side.half_rounds(), HALF_ROUNDS_MAX);
    }

    /// A liar of whom no frame is the last.
    #[test]
    fn a_half_round_that_never_ends_is_refused() {
        let mut side = Comparison::new(Sketch::of(Set::default()).unwrap());
        let mut writer = FrameWriter::default();
        let to = Some(vec![b'n'; 60_000]);
        writer.push(&Range { from: Vec::new(), to, claim: Claim::Same });
        let mut frame = writer.finish().remove(0);
        frame[1] = 0;
        let refused = (0..1000).find_map(|_| side.receive(&frame).err());
        assert!(matches!(refused, Some(Error::InvalidInput { .. })), "{refused:?}");
        assert!(side.bytes() <= (HALF_ROUND_LEN_MAX + frame.len()) as u64, "{}", side.bytes());
    }

    /// Elements that have all the same long name, but for its beginning. Counts how many were looked at.
    struct Long {
        count: u32,
        seen: Cell<u32>,
    }

    impl Elements for Long {
        fn scan(
            &self,
            from: &[u8],
            to: Option<&[u8]>,
            each: &mut dyn FnMut(&[u8], Option<&ElementDigest>) -> bool,
        ) -> Result<()> {
            let mut name = vec![b'n'; 65_000];
            for i in 0..self.count {
                name[..4].copy_from_slice(&i.to_be_bytes());
                if *name < *from || to.is_some_and(|to| *name >= *to) {
                    continue;
                }
                self.seen.set(self.seen.get() + 1);
                let digest = ElementDigest::of(*blake3::hash(&i.to_be_bytes()).as_bytes());
                if !each(&name, Some(&digest)) {
                    break;
                }
            }
            Ok(())
        }
    }

    /// A claim of a few bytes: what it makes us find is bounded by its bytes before it is collected.
    #[test]
    fn long_names_that_differ_are_not_collected_past_their_bound() {
        let elements = Long { count: 3000, seen: Cell::new(0) };
        let mut side = Comparison::new(Sketch::of(elements).unwrap());
        let mut writer = FrameWriter::default();
        writer.push(&Range { from: Vec::new(), to: None, claim: Claim::List(Vec::new()) });
        let before = side.sketch().elements().seen.get();
        let refused = writer.finish().iter().try_for_each(|f| side.receive(f).map(|_| ()));
        assert!(matches!(refused, Err(Error::TooLarge { .. })), "{refused:?}");
        let most = (FOUND_BYTES_MAX / 65_000) as u32;
        assert_eq!(side.sketch().elements().seen.get() - before, most + 1);
        assert_eq!(side.found().ours.len(), most as usize);
    }

    #[test]
    fn sets_of_long_names_are_compared_all_the_same() {
        let set = |version| {
            let elements = (0u32..300).map(|i| {
                let (mut name, digest) = numbered(i, if i % 50 == 0 { version } else { 0 });
                name.resize(60_000, b'n');
                (name, digest)
            });
            Set(elements.collect())
        };
        let (a, b) = run(set(0), set(1));
        assert_eq!((a.found().ours.len(), b.found().ours.len()), (6, 6));
    }

    /// A thousand differences scattered over a million elements: the figures of the documentation.
    #[test]
    fn scattered_differences_cost_few_half_rounds_and_bytes_each() {
        let set = |version| {
            let elements = (0u32..1_000_000).map(|i| match i % 1000 {
                0 => numbered(i, version),
                _ => numbered(i, 0),
            });
            Set(elements.collect())
        };
        let (a, b) = run(set(0), set(1));
        assert_eq!((a.found().ours.len(), b.found().ours.len()), (1000, 1000));
        println!("{} bytes in {} half-rounds", a.bytes(), a.half_rounds());
        assert!(a.half_rounds() <= 6 && a.bytes() <= 700_000, "{}", a.bytes());
    }

    fn numbered(i: u32, version: u8) -> (Vec<u8>, ElementDigest) {
        let name = blake3::hash(&i.to_be_bytes()).as_bytes()[..16].to_vec();
        let digest = blake3::Hasher::new().update(&name).update(&[version]).finalize();
        (name, ElementDigest::of(*digest.as_bytes()))
    }
}
