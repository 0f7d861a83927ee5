//! `esker compact`: merges tables until nothing superfluous is left.

use crate::args::PlaceArgs;
use crate::error::Outcome;
use crate::output::{Output, human_bytes};
use crate::place::{self, Place};
use crate::progress::watch;
use engine::Progress;
use serde::Serialize;

/// The command line of `esker compact`.
#[derive(clap::Args, Debug)]
#[command(after_help = "\
Keyspaces share tables, so naming one compacts the others as well; it must exist.

Examples:
  esker compact --path data
  esker compact --url http://127.0.0.1:8080")]
pub(crate) struct CompactArgs {
    #[command(flatten)]
    place: PlaceArgs,
    /// The keyspace that matters
    #[arg(long, value_name = "K")]
    keyspace: Option<String>,
}

#[derive(Serialize)]
struct Compacted {
    disk_bytes_before: u64,
    disk_bytes_after: u64,
}

/// Compacts.
pub(crate) fn run(args: &CompactArgs, output: &mut Output) -> Outcome {
    let place = place::open_watched(&args.place, output)?;
    let disk_bytes_before = disk_bytes(&*place)?;
    let progress = Progress::default();
    watch(output, "compacting", &progress, || place.compact(args.keyspace.as_deref(), &progress))?;
    let disk_bytes_after = disk_bytes(&*place)?;
    place.close()?;
    let (before, after) = (human_bytes(disk_bytes_before), human_bytes(disk_bytes_after));
    output.remark(
        format_args!("compacted: {before} on disk before, {after} after"),
        &Compacted { disk_bytes_before, disk_bytes_after },
    )
}

fn disk_bytes(place: &dyn Place) -> Outcome<u64> {
    let stats = place.stats()?;
    Ok(stats.get("disk_bytes").and_then(serde_json::Value::as_u64).unwrap_or(0))
}
