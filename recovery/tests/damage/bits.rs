//! Every bit of every file, turned over alone.
//!
//! Bits of reserved space, long stretches of zeros, are thinned out in the fast profile.

use crate::disk::{Image, Kind, disk_of, small};
use crate::jury::{Outcome, Tally, judge, run};
use crate::samples::{self, Sample};
use engine::Options;
use recovery::{Finding, Severity, Verify, check};
use std::collections::BTreeMap;
use std::time::Instant;

/// A frame of its own, not in a run.
const LARGE: usize = 16 << 10;

/// Which bits of an image are turned over.
#[derive(Clone, Copy)]
struct Thinning {
    /// One in so many bits of what is used.
    used: usize,
    /// One in so many bits of the zeros behind the content of a file and behind a segment's header.
    zeros: usize,
}

const ALL: Thinning = Thinning { used: 1, zeros: 1 };

/// The chosen bits of an image: path and number.
fn bits(image: &Image, thinning: Thinning) -> Vec<(&str, usize)> {
    let mut bits = Vec::new();
    for (name, bytes) in image {
        let end = bytes.iter().rposition(|byte| *byte != 0).map_or(0, |last| last + 1);
        let is_zeros =
            |at: usize| at >= end || Kind::of(name) == Kind::Log && at > 160 && at < 4096;
        let is_chosen = |bit: &usize| {
            let stride = if is_zeros(bit / 8) { thinning.zeros } else { thinning.used };
            bit.is_multiple_of(stride)
        };
        bits.extend((0..bytes.len() * 8).filter(is_chosen).map(|bit| (name.as_str(), bit)));
    }
    bits
}

fn flip(image: &Image, (name, bit): (&str, usize)) -> Image {
    let mut image = image.clone();
    image.get_mut(name).unwrap()[bit / 8] ^= 1 << (bit % 8);
    image
}

/// Of each kind of file: bits of it, how many opening or reading noticed, how many only a check, and
/// how many stand in zeros that nobody reads.
type Noticed = BTreeMap<Kind, [usize; 4]>;

/// Turns the chosen bits over, opens and reads, and checks what that did not notice.
fn campaign(
    name: &str,
    sample: &Sample,
    thinning: Thinning,
    options: &Options,
) -> (Tally, Noticed) {
    let started = Instant::now();
    let Sample { image, history, promises } = sample;
    let bits = bits(image, thinning);
    let whole = check(&disk_of(image), Verify::Paranoid).unwrap();
    assert!(whole.iter().all(|finding| finding.severity == Severity::Note), "{whole:?}");
    let case = |number: usize, noticed: &mut Noticed| {
        let bit = bits[number];
        let flipped = flip(image, bit);
        let outcome = judge(&flipped, history, promises.batches(&flipped), options.clone());
        let found = matches!(outcome, Outcome::Refused(_) | Outcome::Unreadable(_));
        let counts = noticed.entry(Kind::of(bit.0)).or_default();
        counts[0] += 1;
        counts[1] += usize::from(found);
        if !found && check_notices(&flipped, &whole) {
            counts[2] += 1;
        } else if !found && image[bit.0][bit.1 / 8] == 0 {
            counts[3] += 1;
        }
        outcome
    };
    let join = |all: &mut Noticed, more: Noticed| {
        for (kind, counts) in more {
            let sums = all.entry(kind).or_default();
            sums.iter_mut().zip(counts).for_each(|(sum, count)| *sum += count);
        }
    };
    let describe = |number: usize| {
        let (file, bit) = bits[number];
        format!("bit {} of byte {} of {file}", bit % 8, bit / 8)
    };
    let (tally, noticed) = run(bits.len(), describe, case, join);
    for (kind, [bits, found, checked, zeros]) in &noticed {
        println!(
            "campaign {name}, {kind:?}: {bits} bits, {found} found by opening and reading, \
             {checked} more by a check, {zeros} in zeros that nobody reads, {} not found",
            bits - found - checked - zeros
        );
    }
    tally.conclude(name, started);
    assert_eq!(tally.cases, bits.len());
    (tally, noticed)
}

/// Whether a check of `image` says what one of the `whole` image does not.
fn check_notices(image: &Image, whole: &[Finding]) -> bool {
    let found = check(&disk_of(image), Verify::Paranoid);
    found.map_or(true, |found| found.iter().any(|finding| !whole.contains(finding)))
}

/// At least 95 of 100 bits that mean something were found.
#[track_caller]
fn require_noticed(noticed: &Noticed) {
    for kind in [Kind::Log, Kind::Table, Kind::Manifest] {
        let [bits, found, checked, zeros] = noticed[&kind];
        assert!((found + checked) * 100 >= (bits - zeros) * 95, "{kind:?}: {noticed:?}");
    }
}

#[test]
fn no_bit_of_a_closed_database_turns_silently() {
    let sample = samples::closed();
    let (tally, noticed) = campaign("bits, closed", &sample, ALL, &small());
    assert_eq!(tally.lost, 0);
    require_noticed(&noticed);
}

/// With nothing but default options: large buffers, and threads in the background.
#[test]
fn no_bit_of_a_closed_database_turns_silently_with_default_options() {
    let thinning = Thinning { used: 61, zeros: 997 };
    let options = Options::default();
    let (tally, _) = campaign("bits, closed, defaults", &samples::closed(), thinning, &options);
    assert_eq!(tally.lost, 0);
}

#[test]
fn a_bit_of_a_killed_database_costs_no_promise() {
    let thinning = Thinning { used: 1, zeros: 61 };
    let (tally, noticed) = campaign("bits, unsealed", &samples::unsealed(0), thinning, &small());
    assert!(tally.lost > 0, "an open run has no promise yet");
    require_noticed(&noticed);
}

#[test]
fn a_bit_of_a_large_commit_costs_no_promise() {
    let thinning = Thinning { used: 61, zeros: 997 };
    campaign("bits, unsealed, large", &samples::unsealed(LARGE), thinning, &small());
}

#[test]
#[ignore = "the long profile"]
fn campaign_of_bits_closed() {
    let (tally, noticed) = campaign("bits, closed", &samples::closed(), ALL, &Options::default());
    assert_eq!(tally.lost, 0);
    require_noticed(&noticed);
}

#[test]
#[ignore = "the long profile"]
fn campaign_of_bits_unsealed() {
    let (_, noticed) = campaign("bits, unsealed", &samples::unsealed(LARGE), ALL, &small());
    require_noticed(&noticed);
}
