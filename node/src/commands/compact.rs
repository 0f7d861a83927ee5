//! `esker compact`: merges tables until nothing superfluous is left.

use crate::args::DatabaseArgs;
use crate::database;
use crate::error::Outcome;
use crate::files;
use crate::output::{Output, human_bytes};
use serde::Serialize;

/// The command line of `esker compact`.
#[derive(clap::Args, Debug)]
#[command(after_help = "Example:
  esker compact --path data --keyspace users")]
pub(crate) struct CompactArgs {
    #[command(flatten)]
    database: DatabaseArgs,
    /// Only this keyspace; all of them if none is named
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
    let disk_bytes_before = files::disk_usage(&args.database.path);
    let db = database::open(&args.database)?;
    let keyspaces = match &args.keyspace {
        Some(name) => database::keyspace_to_read(&db, name)?.into_iter().collect(),
        None => database::all_keyspaces(&db)?,
    };
    for keyspace in &keyspaces {
        db.compact(keyspace)?;
    }
    db.close()?;
    let disk_bytes_after = files::disk_usage(&args.database.path);
    let (before, after) = (human_bytes(disk_bytes_before), human_bytes(disk_bytes_after));
    output.remark(
        format_args!("compacted: {before} on disk before, {after} after"),
        &Compacted { disk_bytes_before, disk_bytes_after },
    )
}
