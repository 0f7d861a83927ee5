//! `esker delete`: deletes one key.

use crate::args::KeyspaceArgs;
use crate::error::Outcome;
use crate::output::Output;
use crate::place;
use base::limits::check_key;
use engine::Create;
use serde::Serialize;
use std::ffi::OsString;

/// The command line of `esker delete`.
#[derive(clap::Args, Debug)]
#[command(after_help = "Examples:
  esker delete --path data ada
  esker delete --url http://127.0.0.1:8080 ada")]
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
    let place = place::open(&args.place.database, Create::Never)?;
    let seqno = place.delete(&args.place.keyspace, key)?;
    place.close()?;
    output.acknowledge(&Deleted { seqno })
}
