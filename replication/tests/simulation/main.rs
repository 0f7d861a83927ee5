//! Whole replicas through storms, crashes, restores and wrong clocks, seed by seed.
//!
//! Any number of seeds: `cargo run --release -p esker-replication --example simulate -- --seeds A..B`.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

#[path = "story.rs"]
mod story;

use std::ops::Range;
use story::{Counts, EngineMachine, Machine, MemoryMachine, Outcome, tell, tell_twice};

/// How many stories are told each time.
const ENGINE_SEEDS: Range<u64> = 0..400;
const MEMORY_SEEDS: Range<u64> = 0..100;
/// Stories that did not end well once.
const BAD_ONCE: [u64; 6] = [1031, 2128, 6729, 7464, 8147, 9271];

fn check(store: &str, seed: u64, outcome: &Outcome) {
    let Some(found) = &outcome.found else { return };
    let log = outcome.log.join("\n");
    panic!(
        "seed {seed}: {found}\n{log}\nseed {seed}: {found}\n\
         cargo run --release -p esker-replication --example simulate -- \
         --seeds {seed} --store {store} --tell"
    );
}

fn tell_all<M: Machine>(store: &str, seeds: impl Iterator<Item = u64>) {
    story::count_panics();
    let mut counts = Counts::default();
    for seed in seeds {
        let outcome = tell::<M>(seed);
        check(store, seed, &outcome);
        counts += outcome.counts;
    }
    println!("{counts}");
    assert!(counts.restores > 0 && counts.late > 0 && counts.dropped > 0, "{counts}");
    assert!(counts.audits > counts.stories, "{counts}");
    assert!(counts.deltas > 0 && counts.rejoins > 0 && counts.bootstraps > 0, "{counts}");
    assert!(counts.untracked > 0 && counts.tracked > 0 && counts.promoted > 0, "{counts}");
}

#[test]
fn replicas_become_equal_to_what_was_written_whatever_happens() {
    tell_all::<EngineMachine>("engine", ENGINE_SEEDS.chain(BAD_ONCE));
}

#[test]
fn replicas_in_memory_become_equal_as_well() {
    tell_all::<MemoryMachine>("memory", MEMORY_SEEDS);
}

#[test]
fn a_seed_tells_the_identical_story_each_time() {
    [3, 5, 8, 13, 21]
        .iter()
        .for_each(|seed| check("engine", *seed, &tell_twice::<EngineMachine>(*seed)));
    [3, 5].iter().for_each(|seed| check("memory", *seed, &tell_twice::<MemoryMachine>(*seed)));
}
