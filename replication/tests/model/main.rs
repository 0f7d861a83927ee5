//! The rules of replication, tried on histories of three nodes and two keys.
//!
//! Whoever changes a rule changes it in `replication::rules` or in this model first. A history
//! that breaks a promise is printed in as few steps as it needs, with what each node held.

#![allow(clippy::panic, reason = "a test fails by panicking")]

mod action;
mod admit;
mod bounds;
mod catch_up;
mod chance;
mod counterexamples;
mod heal;
mod oracle;
mod roles;
mod rule;
mod search;
mod text;
mod world;

use bounds::BOUNDS;
use chance::{Failure, play};
use rule::{Rule, Rules};
use search::{Bound, search};

/// Histories by chance that each run plays.
const HISTORIES: u64 = 20_000;

/// The rules that a model must miss within so many histories to be worth running.
const VARIANTS: [(Rule, u64); 6] = [
    (Rule::FloorOfEveryAuthor, 1_000),
    (Rule::DropBelowFloor, 1_000),
    (Rule::JumpRaisesClock, 5_000),
    (Rule::CausalStatements, 20_000),
    (Rule::DeltaAboveFloor, 20_000),
    (Rule::DeltaDeduped, 20_000),
];

#[test]
fn no_history_by_chance_breaks_a_promise() {
    let rules = Rules::all();
    let played: Result<Vec<usize>, Box<Failure>> =
        (0..HISTORIES).map(|seed| play(seed, &rules)).collect();
    match played {
        Ok(steps) => {
            println!("{HISTORIES} histories, {} steps", steps.iter().sum::<usize>());
        }
        Err(failure) => panic!("{}", failure.shrunk(&rules).told(&rules)),
    }
}

/// Steps down to which every history is seen on each run.
const DEPTH: usize = 5;

/// What goes wrong inside each bound if it is left out, in the order of the bounds, and after how many
/// steps at the most.
const MISSED: [(&str, Rule, usize); BOUNDS.len()] = [
    ("drop", Rule::DropBelowFloor, 3),
    ("drop, relay", Rule::FloorOfEveryAuthor, 3),
    ("delta, relay", Rule::JumpRaisesClock, 4),
    ("late writes", Rule::FloorOfEveryAuthor, 3),
    ("late writes, relay", Rule::EraseShadows, 4),
    ("restore, relay", Rule::DropBelowFloor, 3),
    ("join", Rule::JumpRaisesClock, 4),
    ("roles", Rule::FloorOfEveryAuthor, 4),
    ("everything", Rule::JumpRaisesClock, 4),
    ("everything, relay", Rule::JumpRaisesClock, 4),
    ("everything, join", Rule::JumpRaisesClock, 4),
];

#[test]
fn a_search_inside_each_bound_catches_a_known_bad_variant() {
    for (bound, (name, rule, depth)) in BOUNDS.into_iter().zip(MISSED) {
        assert_eq!(bound.name, name);
        let rules = Rules::without(rule);
        match search(&Bound { depth, ..bound }, &rules) {
            Ok(seen) => panic!("{name}: nothing goes wrong without {rule:?}: {seen}"),
            Err(failure) => {
                let (worlds, steps) = (failure.seed, failure.steps.len());
                println!("{name}, without {rule:?}: after {worlds} worlds, in {steps} steps");
            }
        }
    }
}

/// The worlds and steps inside each bound, in the order of the bounds. Fewer are a bound that has shrunk, or
/// steps that are refused by mistake.
const SEEN: [(&str, usize, usize); BOUNDS.len()] = [
    ("drop", 31_653, 82_875),
    ("drop, relay", 31_384, 77_753),
    ("delta, relay", 46_322, 115_961),
    ("late writes", 148_956, 306_951),
    ("late writes, relay", 95_448, 205_975),
    ("restore, relay", 60_744, 145_678),
    ("join", 48_718, 97_343),
    ("roles", 271_443, 606_585),
    ("everything", 169_523, 327_966),
    ("everything, relay", 52_736, 108_669),
    ("everything, join", 35_195, 59_748),
];

#[test]
fn no_history_inside_the_bounds_breaks_a_promise() {
    let rules = Rules::all();
    let all_seen = BOUNDS.map(|bound| {
        let depth = bound.depth.min(DEPTH);
        let seen = search(&Bound { depth, ..bound }, &rules);
        let seen =
            seen.unwrap_or_else(|failure| panic!("{}: {}", bound.name, failure.told(&rules)));
        println!("{}: {seen}", bound.name);
        (bound.name, seen.worlds, seen.steps)
    });
    assert_eq!(all_seen, SEEN);
}

#[test]
fn the_documents_say_how_much_is_seen() {
    let worlds: usize = SEEN.iter().map(|(_, worlds, _)| worlds).sum();
    let steps: usize = SEEN.iter().map(|(_, _, steps)| steps).sum();
    let told = format!("{} worlds", thousands(worlds));
    let told = format!(
        "{told} (five steps deep, four with everything at once) in {} steps",
        thousands(steps)
    );
    let text = include_str!("../../../ARCHITECTURE.md").split_whitespace().collect::<Vec<_>>();
    assert!(text.join(" ").contains(&told), "ARCHITECTURE.md does not say: {told}");
}

/// With a comma before every three digits.
fn thousands(number: usize) -> String {
    let digits = number.to_string();
    let is_cut = |at: &usize| (digits.len() - at).is_multiple_of(3) && *at > 0;
    let cut = |(at, digit): (usize, char)| match is_cut(&at) {
        true => format!(",{digit}"),
        false => digit.to_string(),
    };
    digits.chars().enumerate().map(cut).collect()
}

#[test]
fn every_known_bad_variant_is_caught() {
    for (rule, histories) in VARIANTS {
        let rules = Rules::without(rule);
        let caught = (0..histories).find_map(|seed| play(seed, &rules).err());
        let Some(failure) = caught else { panic!("nothing goes wrong without {rule:?}") };
        let histories = failure.seed + 1;
        println!("without {rule:?}, after {histories} histories: {}", failure.shrunk(&rules));
    }
}
