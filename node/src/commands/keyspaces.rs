//! `esker keyspaces`: what keyspaces there are, and how much is in each.

use crate::args::PlaceArgs;
use crate::error::Outcome;
use crate::output::Output;
use crate::place::{self, KeyspaceLine};
use crate::progress::Progress;
use engine::Create;

/// The command line of `esker keyspaces`.
#[derive(clap::Args, Debug)]
#[command(after_help = "\
A line a keyspace: name TAB records TAB bytes of keys and values. Counts are exact: it walks them.

Examples:
  esker keyspaces --path data
  esker keyspaces --url http://127.0.0.1:8080")]
pub(crate) struct KeyspacesArgs {
    #[command(flatten)]
    place: PlaceArgs,
}

/// Lists the keyspaces by name.
pub(crate) fn run(args: &KeyspacesArgs, output: &mut Output) -> Outcome {
    let place = place::open(&args.place, Create::Never)?;
    let progress = Progress::new(output, "records", 0);
    let lines = place.keyspaces(&mut || {
        progress.add(1);
        Ok(())
    })?;
    drop(progress);
    place.close()?;
    for line in &lines {
        let KeyspaceLine { keyspace, records, bytes } = line;
        output.result(format_args!("{keyspace}\t{records}\t{bytes}"), line)?;
    }
    Ok(())
}
