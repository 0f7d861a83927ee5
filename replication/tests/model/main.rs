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
    ("everything", Rule::JumpRaisesClock, 4),
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

#[test]
fn no_history_inside_the_bounds_breaks_a_promise() {
    let rules = Rules::all();
    for bound in BOUNDS {
        let depth = bound.depth.min(DEPTH);
        match search(&Bound { depth, ..bound }, &rules) {
            Ok(seen) => println!("{}: {seen}", bound.name),
            Err(failure) => panic!("{}: {}", bound.name, failure.told(&rules)),
        }
    }
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
