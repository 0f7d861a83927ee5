//! `esker demo`: the whole engine on real data, every step checked.
//!
//! Loads the table of all Unicode characters, reads it in every way, changes it, kills a process
//! in the middle of a load, flushes, compacts and reopens, and compares with a plain map in memory
//! all the way. Then three nodes keep each other equal through cuts, kills and absences. Ends with 0
//! only if every check held.

mod brood;
mod durability;
mod kill;
mod ledger;
mod node;
mod report;
mod steps;
mod trio;

use self::brood::Brood;
use self::report::Report;
use self::steps::Workshop;
use self::trio::Trio;
use crate::error::{Exit, Failure, Outcome};
use crate::files::Scratch;
use crate::output::Output;
use base::{Clock, SystemClock};
use serde::Serialize;
use std::path::PathBuf;

/// The command line of `esker demo`.
#[derive(clap::Args, Debug)]
#[command(after_help = "\
Works in a temporary directory that is removed afterwards; with --keep in DIR, which must be missing
or empty and stays, with a database in each of its folders. Three of them are those of nodes, which run
as processes of their own on loopback and end with it, however it ends.

Examples:
  esker demo
  esker demo --keep demo-data && esker scan --path demo-data/main --keyspace characters --limit 3")]
pub(crate) struct DemoArgs {
    /// Works in this directory and leaves it there
    #[arg(long, value_name = "DIR")]
    keep: Option<PathBuf>,
}

#[derive(Serialize)]
struct Summary {
    checks: u64,
    failed: u64,
    seconds: f64,
}

/// Runs all steps; fails if any check in them did.
pub(crate) fn run(args: &DemoArgs, output: &mut Output) -> Outcome {
    let scratch = match &args.keep {
        Some(path) => Scratch::kept(path)?,
        None => Scratch::temporary("esker-demo")?,
    };
    let brood = Brood::new(scratch, output.format())?;
    let clock = SystemClock::default();
    let mut report = Report::new(output, &clock);
    let mut workshop = Workshop::open(brood.path())?;
    workshop.load(&mut report)?;
    workshop.read_back(&mut report)?;
    workshop.scan_blocks(&mut report)?;
    workshop.change(&mut report)?;
    workshop.hold_a_snapshot(&mut report)?;
    workshop.conflict(&mut report)?;
    workshop.flush_and_compact(&mut report)?;
    workshop.reopen(&mut report)?;
    kill::kill_a_loader(&brood, &mut report)?;
    Trio::new(&brood)?.run(&mut report)?;
    durability::check_directories(brood.path(), &mut report)?;
    let (checks, failed) = report.totals();
    let seconds = clock.monotonic().as_secs_f64();
    output.result(
        format_args!("{checks} checks, {failed} failed, {seconds:.1} s"),
        &Summary { checks, failed, seconds },
    )?;
    if failed > 0 {
        let message = format!("{failed} of {checks} checks failed");
        return Err(Failure::new(Exit::CheckFailed, "CheckFailed", message).at(brood.path()));
    }
    Ok(())
}
