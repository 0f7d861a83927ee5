//! Whole replicas through storms, crashes, restores and wrong clocks, for any number of seeds.
//!
//! ```text
//! simulate --seeds A..B        the stories of these seeds; prints counts
//! simulate --seeds A           one story
//! simulate --seeds A --tell    and what happened in it
//! ```
//!
//! A failure prints the seed and how to run it again, and the exit code is 1.

#[path = "../tests/simulation/story.rs"]
#[allow(clippy::unwrap_used, clippy::panic, reason = "a story fails by panicking")]
mod story;

use std::ops::Range;
use std::process::ExitCode;
use std::sync::mpsc;
use std::time::{Duration, Instant};
use story::{Counts, MemoryMachine, Outcome, tell};

/// No story takes so long, unless it runs in circles.
const STORY_MAX: Duration = Duration::from_secs(120);
const USAGE: &str = "simulate --seeds A..B [--tell]";

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let Some((seeds, says)) = parse(&arguments) else {
        eprintln!("{USAGE}");
        return ExitCode::from(2);
    };
    story::count_panics();
    let began = Instant::now();
    let (mut counts, mut failures) = (Counts::default(), 0);
    let (send, receive) = mpsc::channel();
    let telling = seeds.clone();
    std::thread::spawn(move || {
        for seed in telling {
            let outcome = std::panic::catch_unwind(|| tell::<MemoryMachine>(seed));
            if send.send(outcome.ok()).is_err() {
                return;
            }
        }
    });
    for seed in seeds {
        let problem = match receive.recv_timeout(STORY_MAX) {
            Ok(Some(outcome)) => {
                counts += outcome.counts;
                show(&outcome, says);
                outcome.found
            }
            Ok(None) => Some("the story panicked".to_owned()),
            Err(_) => {
                println!("seed {seed}: it never ends");
                println!(
                    "  cargo run --release -p esker-replication --example simulate -- --seeds {seed} --tell"
                );
                return ExitCode::FAILURE;
            }
        };
        if let Some(problem) = problem {
            failures += 1;
            println!("seed {seed}: {problem}");
            println!(
                "  cargo run --release -p esker-replication --example simulate -- --seeds {seed} --tell"
            );
        }
    }
    println!("{counts}\n{failures} failures, {:.1} s", began.elapsed().as_secs_f64());
    if failures == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Says {
    Counts,
    All,
}

fn show(outcome: &Outcome, says: Says) {
    if says == Says::All {
        outcome.log.iter().for_each(|line| println!("{line}"));
        println!("{}", outcome.trace);
    }
}

fn parse(arguments: &[String]) -> Option<(Range<u64>, Says)> {
    let (first, rest) = arguments.split_first()?;
    let (seeds, rest) = rest.split_first().filter(|_| first == "--seeds")?;
    let says = match rest {
        [] => Says::Counts,
        [tell] if tell == "--tell" => Says::All,
        _ => return None,
    };
    let seeds = match seeds.split_once("..") {
        Some((from, to)) => from.parse().ok()?..to.parse().ok()?,
        None => {
            let one = seeds.parse().ok()?;
            one..one + 1
        }
    };
    Some((seeds, says))
}
