//! `esker flush`: writes everything in memory to tables.

use crate::args::DatabaseArgs;
use crate::database;
use crate::error::Outcome;
use crate::output::Output;
use serde::Serialize;

/// The command line of `esker flush`.
#[derive(clap::Args, Debug)]
#[command(after_help = "Example:
  esker flush --path data")]
pub(crate) struct FlushArgs {
    #[command(flatten)]
    database: DatabaseArgs,
}

#[derive(Serialize)]
struct Flushed {
    flushed: bool,
}

/// Flushes.
pub(crate) fn run(args: &FlushArgs, output: &mut Output) -> Outcome {
    let db = database::open(&args.database)?;
    db.flush()?;
    db.close()?;
    output.remark("flushed", &Flushed { flushed: true })
}
