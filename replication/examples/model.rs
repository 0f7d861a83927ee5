//! The model of the rules at any length: `cargo run --release -p esker-replication --example model
//! -- --depth 8 --histories 1000000 [--from SEED] [--bound NAME] [--without RULE]`.
//!
//! Sees every history inside each bound down to the depth, then plays histories by chance. The
//! first one that breaks a promise is printed in as few steps as it needs, and ends the run with
//! exit code 1.

#[path = "../tests/model/action.rs"]
mod action;
#[path = "../tests/model/admit.rs"]
mod admit;
#[path = "../tests/model/bounds.rs"]
mod bounds;
#[path = "../tests/model/catch_up.rs"]
mod catch_up;
#[path = "../tests/model/chance.rs"]
mod chance;
#[path = "../tests/model/heal.rs"]
mod heal;
#[path = "../tests/model/oracle.rs"]
mod oracle;
#[path = "../tests/model/roles.rs"]
mod roles;
#[path = "../tests/model/rule.rs"]
mod rule;
#[path = "../tests/model/search.rs"]
mod search;
#[path = "../tests/model/text.rs"]
mod text;
#[path = "../tests/model/world.rs"]
mod world;

use bounds::BOUNDS;
use chance::{Failure, play};
use rule::{Rule, Rules};
use search::{Bound, search};
use std::process::ExitCode;

/// The rules that can be left out.
const RULES: [Rule; 22] = [
    Rule::FloorOfEveryAuthor,
    Rule::DropBelowFloor,
    Rule::JumpRaisesClock,
    Rule::CausalStatements,
    Rule::EveryComponent,
    Rule::StatementsOfThisLife,
    Rule::StatementsOfMembers,
    Rule::DeltaAboveFloor,
    Rule::DeltaIsStaged,
    Rule::DeltaDeduped,
    Rule::EraseByCarrier,
    Rule::AbsenceByStamp,
    Rule::EraseShadows,
    Rule::ObserverRefuses,
    Rule::RejoinerClosed,
    Rule::PushOfAllOrigins,
    Rule::RejoinBothWays,
    Rule::DonorsLatePuts,
    Rule::NewestRecordFences,
    Rule::DonorKnowsMember,
    Rule::RosterFirst,
    Rule::RestoredWaits,
];

/// What the command line asks for.
#[derive(Debug, Default)]
struct Asked {
    depth: usize,
    from: u64,
    histories: u64,
    bound: Option<String>,
    rules: Rules,
}

fn main() -> ExitCode {
    let asked = match parse(std::env::args().skip(1)) {
        Ok(asked) => asked,
        Err(reason) => {
            eprintln!("{reason}");
            return ExitCode::from(2);
        }
    };
    match see_all(&asked).and_then(|()| play_all(&asked)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            println!("{}", failure.shrunk(&asked.rules).told(&asked.rules));
            ExitCode::FAILURE
        }
    }
}

fn see_all(asked: &Asked) -> Result<(), Box<Failure>> {
    let is_asked = |bound: &&Bound| asked.bound.as_ref().is_none_or(|name| bound.name == name);
    for bound in BOUNDS.iter().filter(is_asked).filter(|_| asked.depth > 0) {
        let seen = search(&Bound { depth: asked.depth, ..*bound }, &asked.rules)?;
        println!("{}: {seen}", bound.name);
    }
    Ok(())
}

fn play_all(asked: &Asked) -> Result<(), Box<Failure>> {
    let mut steps = 0;
    for seed in asked.from..asked.from + asked.histories {
        steps += play(seed, &asked.rules)?;
    }
    println!("{} histories by chance, {steps} steps", asked.histories);
    Ok(())
}

fn parse(mut arguments: impl Iterator<Item = String>) -> Result<Asked, String> {
    let mut asked = Asked { rules: Rules::all(), ..Asked::default() };
    while let Some(name) = arguments.next() {
        let value = arguments.next().ok_or_else(|| format!("{name} needs a value"))?;
        let number = || value.parse::<u64>().map_err(|e| format!("{name} {value}: {e}"));
        match name.as_str() {
            "--depth" => asked.depth = number()? as usize,
            "--from" => asked.from = number()?,
            "--histories" => asked.histories = number()?,
            "--bound" => asked.bound = Some(value),
            "--without" => asked.rules = Rules::without(rule_named(&value)?),
            _ => return Err(format!("{name} is unknown")),
        }
    }
    Ok(asked)
}

fn rule_named(name: &str) -> Result<Rule, String> {
    let is_it = |rule: &Rule| format!("{rule:?}") == name;
    let names = || RULES.map(|rule| format!("{rule:?}")).join(", ");
    RULES.into_iter().find(is_it).ok_or_else(|| format!("rules are: {}", names()))
}
