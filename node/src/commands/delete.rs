//! `esker delete`: deletes one key.

use crate::args::KeyspaceArgs;
use crate::database;
use crate::error::Outcome;
use crate::output::Output;
use base::limits::check_key;
use serde::Serialize;
use std::ffi::OsString;

/// The command line of `esker delete`.
#[derive(clap::Args, Debug)]
#[command(after_help = "Example:
  esker delete --path data ada")]
pub(crate) struct DeleteArgs {
    #[command(flatten)]
    place: KeyspaceArgs,
    /// The key, as bytes
    #[arg(allow_negative_numbers = true)]
    key: OsString,
}

#[derive(Serialize)]
struct Deleted {
    seqno: Option<u64>,
}

/// Deletes the key, whether it exists or not.
pub(crate) fn run(args: &DeleteArgs, output: &mut Output) -> Outcome {
    let key = args.key.as_encoded_bytes();
    check_key(key)?;
    let db = database::open(&args.place.database)?;
    let seqno = match database::keyspace_to_read(&db, &args.place.keyspace)? {
        Some(keyspace) => Some(keyspace.delete(key)?.raw()),
        None => None,
    };
    db.close()?;
    output.acknowledge(&Deleted { seqno })
}
