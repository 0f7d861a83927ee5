//! `esker compact`: merges tables until nothing superfluous is left.

use crate::args::DatabaseArgs;
use crate::database;
use crate::error::Outcome;
use crate::files;
use crate::output::{Output, human_bytes};
use serde::Serialize;

/// The command line of `esker compact`.
#[derive(clap::Args, Debug)]
#[command(after_help = "\
Keyspaces share tables, so naming one compacts the others as well; it must exist.

Example:
  esker compact --path data")]
pub(crate) struct CompactArgs {
    #[command(flatten)]
    database: DatabaseArgs,
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
    let disk_bytes_before = files::disk_usage(&args.database.path);
    let db = database::open(&args.database)?;
    let keyspace = match &args.keyspace {
        Some(name) => database::keyspace_to_read(&db, name)?,
        None => None,
    };
    match keyspace {
        Some(keyspace) => db.compact(&keyspace)?,
        None => db.compact_all()?,
    }
    db.close()?;
    let disk_bytes_after = files::disk_usage(&args.database.path);
    let (before, after) = (human_bytes(disk_bytes_before), human_bytes(disk_bytes_after));
    output.remark(
        format_args!("compacted: {before} on disk before, {after} after"),
        &Compacted { disk_bytes_before, disk_bytes_after },
    )
}
