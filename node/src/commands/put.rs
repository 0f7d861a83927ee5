//! `esker put`: sets the value of one key.

use crate::args::KeyspaceArgs;
use crate::error::Outcome;
use crate::files;
use crate::output::Output;
use crate::place;
use base::limits::{self, check_key, check_value};
use engine::Create;
use serde::Serialize;
use std::ffi::OsString;

/// The command line of `esker put`.
#[derive(clap::Args, Debug)]
#[command(after_help = "Examples:
  esker put --path data ada 1815
  esker put --url http://127.0.0.1:8080 ada 1815
  esker put --path data picture - < picture.png")]
pub(crate) struct PutArgs {
    #[command(flatten)]
    place: KeyspaceArgs,
    /// The key, as bytes
    #[arg(allow_negative_numbers = true)]
    key: OsString,
    /// The value, as bytes; - reads it from standard input
    #[arg(allow_negative_numbers = true)]
    value: OsString,
}

#[derive(Serialize)]
struct Stored {
    seqno: u64,
}

/// Sets the value.
pub(crate) fn run(args: &PutArgs, output: &mut Output) -> Outcome {
    let key = args.key.as_encoded_bytes();
    check_key(key)?;
    let value = match args.value.as_encoded_bytes() {
        b"-" => files::read_standard_input(limits::VALUE_LEN_MAX)?,
        bytes => bytes.to_vec(),
    };
    check_value(&value)?;
    let place = place::open(&args.place.database, Create::IfMissing)?;
    let seqno = place.put(&args.place.keyspace, key, &value)?;
    place.close()?;
    output.acknowledge(&Stored { seqno })
}
