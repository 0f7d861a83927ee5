//! `esker get`: prints the value of one key.

use crate::args::KeyspaceArgs;
use crate::error::{Exit, Failure, Outcome};
use crate::output::{Format, Output};
use crate::place;
use crate::record::RecordLine;
use base::limits::check_key;
use engine::Create;
use std::ffi::OsString;
use std::io::Write;

/// The command line of `esker get`.
#[derive(clap::Args, Debug)]
#[command(
    after_help = "Text output is the value's bytes and a line feed; with --raw the bytes only.

Examples:
  esker get --path data ada
  esker get --url http://127.0.0.1:8080 ada
  esker get --path data --raw picture > picture.png"
)]
pub(crate) struct GetArgs {
    #[command(flatten)]
    place: KeyspaceArgs,
    /// Prints the value's bytes without a line feed behind them
    #[arg(long)]
    raw: bool,
    /// The key, as bytes
    #[arg(allow_negative_numbers = true)]
    key: OsString,
}

/// Prints the value.
pub(crate) fn run(args: &GetArgs, output: &mut Output) -> Outcome {
    let key = args.key.as_encoded_bytes();
    check_key(key)?;
    let place = place::open(&args.place.database, Create::Never)?;
    let value = place.get(&args.place.keyspace, key)?;
    place.close()?;
    let Some(value) = value else {
        let message = format!("keyspace {:?} has no such key", args.place.keyspace);
        return Err(Failure::new(Exit::NotFound, "NotFound", message)
            .at(place::name(&args.place.database))
            .action("scan the keyspace to see its keys"));
    };
    match output.format() {
        Format::Json => output.object(&RecordLine::new(key, &value)),
        Format::Text => output.write(|out| {
            out.write_all(&value)?;
            if args.raw { Ok(()) } else { out.write_all(b"\n") }
        }),
    }
}
