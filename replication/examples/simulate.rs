//! Whole replicas through storms, crashes, restores and wrong clocks, for any number of seeds.
//!
//! ```text
//! simulate --seeds A..B        the stories of these seeds; prints counts
//! simulate --seeds A           one story
//! simulate --seeds A --tell    and what happened in it
//! --twice                      each story twice: a seed that sends other packets the second time has failed
//! --store engine|memory        on databases of the engine (default), or on the reference in memory
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
use story::{Counts, EngineMachine, MemoryMachine, Outcome, tell, tell_twice};

/// No story takes so long, unless it runs in circles.
const STORY_MAX: Duration = Duration::from_secs(120);
const USAGE: &str = "simulate --seeds A..B [--store engine|memory] [--tell] [--twice]";

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let Some(Task { seeds, store, says, tells }) = parse(&arguments) else {
        eprintln!("{USAGE}");
        return ExitCode::from(2);
    };
    let told = match (store, tells) {
        (Store::Engine, Tells::Once) => tell::<EngineMachine>,
        (Store::Engine, Tells::Twice) => tell_twice::<EngineMachine>,
        (Store::Memory, Tells::Once) => tell::<MemoryMachine>,
        (Store::Memory, Tells::Twice) => tell_twice::<MemoryMachine>,
    };
    story::count_panics();
    let began = Instant::now();
    let (mut counts, mut failures) = (Counts::default(), 0);
    let (send, receive) = mpsc::channel();
    let telling = seeds.clone();
    std::thread::spawn(move || {
        for seed in telling {
            let outcome = base::panics::catch(|| told(seed));
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
                report(store, tells, seed, "it never ends");
                return ExitCode::FAILURE;
            }
        };
        if let Some(problem) = problem {
            failures += 1;
            report(store, tells, seed, &problem);
        }
    }
    println!("{counts}\n{failures} failures, {:.1} s", began.elapsed().as_secs_f64());
    if failures == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

fn report(store: Store, tells: Tells, seed: u64, problem: &str) {
    let twice = if tells == Tells::Twice { " --twice" } else { "" };
    let store = if store == Store::Engine { "engine" } else { "memory" };
    println!("seed {seed}: {problem}");
    println!(
        "  cargo run --release -p esker-replication --example simulate -- \
         --seeds {seed} --store {store} --tell{twice}"
    );
}

/// What was asked for.
struct Task {
    seeds: Range<u64>,
    store: Store,
    says: Says,
    tells: Tells,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Store {
    Engine,
    Memory,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Tells {
    Once,
    Twice,
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

fn parse(arguments: &[String]) -> Option<Task> {
    let mut task =
        Task { seeds: 0..0, store: Store::Engine, says: Says::Counts, tells: Tells::Once };
    let mut words = arguments.iter().map(String::as_str);
    while let Some(word) = words.next() {
        match word {
            "--tell" => task.says = Says::All,
            "--twice" => task.tells = Tells::Twice,
            "--seeds" => task.seeds = seeds(words.next()?)?,
            "--store" => {
                task.store = match words.next()? {
                    "engine" => Store::Engine,
                    "memory" => Store::Memory,
                    _ => return None,
                };
            }
            _ => return None,
        }
    }
    if task.seeds.is_empty() { None } else { Some(task) }
}

fn seeds(text: &str) -> Option<Range<u64>> {
    if let Some((from, to)) = text.split_once("..") {
        return Some(from.parse().ok()?..to.parse().ok()?);
    }
    let one: u64 = text.parse().ok()?;
    Some(one..one.checked_add(1)?)
}
