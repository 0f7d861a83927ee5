//! A process that measures one engine in one round, so that memory, bytes written and caches of
//! one engine never show in the figures of another.

use crate::Result;
use crate::args::Args;
use crate::contender::Name;
use crate::run::Turn;

/// Runs all workloads on `engine` and prints one line for each.
///
/// A workload that fails is reported and skipped; the next one starts on new ground.
pub fn measure(engine: Name, args: &Args) -> Result<()> {
    let dir = args.dir.join(engine.as_str());
    let mut turn = Turn::new(engine, args, dir)?;
    for workload in args.workloads() {
        match turn.run(*workload) {
            Ok(outcome) => println!("{}", outcome.to_json()),
            Err(error) => eprintln!("{} {}: {error}", engine.as_str(), workload.name()),
        }
    }
    turn.end()
}
