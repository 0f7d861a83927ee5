//! Whole replicas through storms, crashes, restores and wrong clocks, seed by seed.
//!
//! Any number of seeds: `cargo run --release -p esker-replication --example simulate -- --seeds A..B`.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

#[path = "story.rs"]
mod story;

use story::{Counts, MemoryMachine, Outcome, tell};

/// How many stories are told each time.
const SEEDS: std::ops::Range<u64> = 0..300;

fn check(seed: u64, outcome: &Outcome) {
    let Some(found) = &outcome.found else { return };
    let log = outcome.log.join("\n");
    panic!(
        "seed {seed}: {found}\n{log}\nseed {seed}: {found}\n\
         cargo run --release -p esker-replication --example simulate -- --seeds {seed}"
    );
}

#[test]
fn replicas_become_equal_to_what_was_written_whatever_happens() {
    story::count_panics();
    let mut counts = Counts::default();
    for seed in SEEDS {
        let outcome = tell::<MemoryMachine>(seed);
        check(seed, &outcome);
        counts += outcome.counts;
    }
    println!("{counts}");
    assert!(counts.restores > 0 && counts.late > 0 && counts.dropped > 0, "{counts}");
}

#[test]
fn a_seed_tells_the_identical_story_each_time() {
    for seed in [3, 5, 8, 13, 21] {
        let (once, again) = (tell::<MemoryMachine>(seed), tell::<MemoryMachine>(seed));
        assert_eq!(once.trace, again.trace, "seed {seed}");
        assert_eq!((once.counts, once.log), (again.counts, again.log), "seed {seed}");
    }
}
