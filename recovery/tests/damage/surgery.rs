//! Files cut, stretched, blanked, exchanged, put back, removed and copied.

use crate::disk::{Image, Kind, small};
use crate::jury::{Tally, judge, run};
use crate::samples::{End, Sample, Worn, worn};
use base::FileName;
use std::collections::{BTreeMap, BTreeSet};
use std::time::Instant;

/// Files up to this length are truncated at every length in the fast profile too.
const SMALL_LEN: usize = 1500;

/// One operation, on the file that it names first.
#[derive(Clone, Debug)]
enum Cut {
    Truncate(String, usize),
    Extend(String, Vec<u8>),
    Blank(String, usize, usize),
    Swap(String, String),
    /// Its content becomes that of the other file at an earlier step.
    Replace(String, String, usize),
    Remove(Vec<String>),
    /// It also stands under the other name.
    Copy(String, String),
    /// What stood at these paths at an earlier step is put back.
    PutBack(Vec<String>, usize),
}

impl Cut {
    fn apply(&self, image: &Image, steps: &[Image]) -> Image {
        let mut cut = image.clone();
        let mut edit =
            |name: &String, edit: &dyn Fn(&mut Vec<u8>)| edit(cut.get_mut(name).unwrap());
        match self {
            Cut::Truncate(name, len) => edit(name, &|bytes| bytes.truncate(*len)),
            Cut::Extend(name, more) => edit(name, &|bytes| bytes.extend_from_slice(more)),
            Cut::Blank(name, from, to) => edit(name, &|bytes| bytes[*from..*to].fill(0)),
            Cut::Replace(name, other, step) => {
                edit(name, &|bytes| bytes.clone_from(&steps[*step][other]));
            }
            Cut::Swap(one, other) => {
                edit(one, &|bytes| bytes.clone_from(&image[other]));
                edit(other, &|bytes| bytes.clone_from(&image[one]));
            }
            Cut::Remove(names) => cut.retain(|name, _| !names.contains(name)),
            Cut::Copy(name, other) => {
                let bytes = image[name].clone();
                cut.insert(other.clone(), bytes);
            }
            Cut::PutBack(names, step) => {
                let old = names.iter().filter_map(|name| Some((name, steps[*step].get(name)?)));
                cut.extend(old.map(|(name, bytes)| (name.clone(), bytes.clone())));
            }
        }
        cut
    }
}

/// Every cut of `image`; `stride` thins the lengths of large files out.
fn cuts(image: &Image, steps: &[Image], stride: usize) -> Vec<Cut> {
    let mut cuts = Vec::new();
    for (name, bytes) in image {
        cut_alone(&mut cuts, name, bytes, stride);
    }
    for kind in [Kind::Identity, Kind::Root, Kind::Manifest, Kind::Log, Kind::Table] {
        let names: Vec<_> = image.keys().filter(|name| Kind::of(name) == kind).cloned().collect();
        for (at, name) in names.iter().enumerate() {
            cuts.push(Cut::Remove(vec![name.clone()]));
            cuts.extend(names[..at].iter().map(|other| Cut::Swap(name.clone(), other.clone())));
            cuts.extend(copies(image, name));
            cuts.extend(versions(image, steps, name));
        }
        cuts.push(Cut::Remove(names));
    }
    cuts.extend(put_back(image, steps));
    cuts
}

fn cut_alone(cuts: &mut Vec<Cut>, name: &str, bytes: &[u8], stride: usize) {
    let name = || name.to_owned();
    let len = bytes.len();
    let is_chosen = |at: &usize| {
        len <= SMALL_LEN || at.is_multiple_of(stride) || at % 512 <= 1 || *at + 2 > len
    };
    cuts.extend((0..len).filter(is_chosen).map(|at| Cut::Truncate(name(), at)));
    for more in [1, 7, 512, 4096] {
        cuts.push(Cut::Extend(name(), vec![0; more]));
        let noise = (0..more).map(|at| (at * 151 + 7) as u8);
        cuts.push(Cut::Extend(name(), noise.collect()));
        cuts.push(Cut::Extend(name(), bytes.iter().copied().take(more).collect()));
    }
    for page in [512, 4096] {
        let pages = (0..len).step_by(page).map(|from| (from, len.min(from + page)));
        let used = pages.filter(|(from, to)| bytes[*from..*to].iter().any(|byte| *byte != 0));
        cuts.extend(used.map(|(from, to)| Cut::Blank(name(), from, to)));
    }
}

/// The file under other numbers.
fn copies(image: &Image, name: &str) -> Vec<Cut> {
    let numbers = [1, 2, 3, 5, 8, 13, 21, 34, 1000];
    let other = |number: u64| match FileName::parse(name) {
        Some(FileName::Manifest(_)) => Some(FileName::Manifest(number)),
        Some(FileName::Segment(_)) => Some(FileName::Segment(number)),
        Some(FileName::Table(_)) => Some(FileName::Table(number)),
        _ => None,
    };
    let names = numbers.iter().filter_map(|number| other(*number));
    let names = names.map(|other| other.path().as_str().to_owned());
    let free = names.filter(|other| !image.contains_key(other));
    free.map(|other| Cut::Copy(name.to_owned(), other)).collect()
}

/// Every other content that a file of its kind ever had.
fn versions(image: &Image, steps: &[Image], name: &String) -> Vec<Cut> {
    let mut seen = BTreeSet::from([&image[name]]);
    let mut cuts = Vec::new();
    for (step, old) in steps.iter().enumerate() {
        for (other, bytes) in old.iter().filter(|(other, _)| Kind::of(other) == Kind::of(name)) {
            if seen.insert(bytes) {
                cuts.push(Cut::Replace(name.clone(), other.clone(), step));
            }
        }
    }
    cuts
}

/// Older roots, one or both, alone, with their manifest, and with all files of their time; and each
/// kind of file as a whole as it was at each step.
fn put_back(image: &Image, steps: &[Image]) -> Vec<Cut> {
    let mut cuts = Vec::new();
    let (current, copy) = ("CURRENT".to_owned(), "CURRENT.copy".to_owned());
    for (step, old) in steps.iter().enumerate() {
        let of = |kinds: &[Kind]| -> Vec<String> {
            old.keys().filter(|name| kinds.contains(&Kind::of(name))).cloned().collect()
        };
        let sets = [
            vec![current.clone()],
            vec![copy.clone()],
            of(&[Kind::Root]),
            of(&[Kind::Manifest]),
            of(&[Kind::Log]),
            of(&[Kind::Root, Kind::Manifest]),
            of(&[Kind::Root, Kind::Manifest, Kind::Table]),
            of(&[Kind::Manifest, Kind::Table]),
        ];
        let differs =
            |names: &Vec<String>| names.iter().any(|name| old.get(name) != image.get(name));
        cuts.extend(sets.into_iter().filter(differs).map(|names| Cut::PutBack(names, step)));
    }
    cuts
}

fn campaign(name: &str, worn: &Worn, stride: usize) -> Tally {
    let started = Instant::now();
    let Worn { sample: Sample { image, history, promises }, steps } = worn;
    let cuts = cuts(image, steps, stride);
    let case = |number: usize, (): &mut ()| {
        let cut = cuts[number].apply(image, steps);
        judge(&cut, history, promises.batches(&cut), small())
    };
    let describe = |number: usize| format!("{:.200}", format!("{:?}", cuts[number]));
    let (tally, ()) = run(cuts.len(), describe, case, |(), ()| ());
    let mut kinds = BTreeMap::<_, usize>::new();
    for cut in &cuts {
        let what = format!("{cut:?}");
        *kinds.entry(what.split('(').next().unwrap().to_owned()).or_default() += 1;
    }
    println!("campaign {name}: {kinds:?}");
    tally.conclude(name, started);
    tally
}

#[test]
fn no_cut_of_a_closed_database_is_silent() {
    campaign("surgery, closed", &worn(End::Closed), 61);
}

#[test]
fn no_cut_of_a_killed_database_costs_a_promise() {
    let tally = campaign("surgery, unsealed", &worn(End::Killed), 61);
    assert!(tally.lost > 0, "an open run has no promise yet");
}

#[test]
#[ignore = "the long profile"]
fn campaign_of_surgery() {
    campaign("surgery, closed", &worn(End::Closed), 1);
    campaign("surgery, unsealed", &worn(End::Killed), 1);
}
