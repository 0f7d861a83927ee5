//! `esker flush`: writes everything in memory to tables.

use crate::args::PlaceArgs;
use crate::error::Outcome;
use crate::output::Output;
use crate::place;
use crate::progress::watch;
use engine::Progress;
use serde::Serialize;

/// The command line of `esker flush`.
#[derive(clap::Args, Debug)]
#[command(after_help = "Example:
  esker flush --path data")]
pub(crate) struct FlushArgs {
    #[command(flatten)]
    place: PlaceArgs,
}

#[derive(Serialize)]
struct Flushed {
    flushed: bool,
}

/// Flushes.
pub(crate) fn run(args: &FlushArgs, output: &mut Output) -> Outcome {
    let place = place::open_watched(&args.place, output)?;
    watch(output, "flushing", &Progress::default(), || place.flush())?;
    place.close()?;
    output.remark("flushed", &Flushed { flushed: true })
}
