//! `esker scan`: prints the records of a range in order.

use crate::args::KeyspaceArgs;
use crate::error::Outcome;
use crate::escape::write_escaped;
use crate::output::{Format, Output};
use crate::place::{self, Direction, Entry, KeyRange, Part, Selection, Which};
use crate::record::RecordLine;
use engine::Create;
use std::ffi::OsString;
use std::io::Write;

/// The command line of `esker scan`.
#[derive(clap::Args, Debug)]
#[command(after_help = "\
Text output is a line a record: key TAB value, where \\t \\n \\r \\\\ stand for TAB, line feed,
carriage return and backslash, and \\xNN for a byte of another control character or of what is not
UTF-8. With --output json the lines are those that `load` reads back byte for byte.

Examples:
  esker scan --path data --prefix user: --limit 10
  esker scan --path data --start a --end n --reverse --keys-only
  esker scan --url http://127.0.0.1:8080 --prefix user:")]
pub(crate) struct ScanArgs {
    #[command(flatten)]
    place: KeyspaceArgs,
    /// Only keys that start with these bytes
    #[arg(long, value_name = "P")]
    prefix: Option<OsString>,
    /// Only keys at or after this one
    #[arg(long, value_name = "S")]
    start: Option<OsString>,
    /// Only keys before this one
    #[arg(long, value_name = "E")]
    end: Option<OsString>,
    /// From the last key to the first
    #[arg(long)]
    reverse: bool,
    /// At most so many records
    #[arg(long, value_name = "N")]
    limit: Option<u64>,
    /// Only the keys, without values
    #[arg(long)]
    keys_only: bool,
}

/// Prints the records.
pub(crate) fn run(args: &ScanArgs, output: &mut Output) -> Outcome {
    let selection = selection(args)?;
    let place = place::open(&args.place.database, Create::Never)?;
    let mut entries = place.walk(&selection)?;
    while let Some(Entry { key, value, .. }) = entries.next()? {
        match selection.part {
            Part::Key => print_key(key, output)?,
            Part::Record => print_record(key, value, output)?,
        }
    }
    drop(entries);
    place.close()
}

/// What the command line asks for.
fn selection(args: &ScanArgs) -> Outcome<Selection> {
    let bytes = |text: &Option<OsString>| text.as_ref().map(|t| t.as_encoded_bytes().to_vec());
    let prefix = bytes(&args.prefix).unwrap_or_default();
    let range = KeyRange::of(prefix, bytes(&args.start), bytes(&args.end))
        .map_err(|failure| failure.at(place::name(&args.place.database)))?;
    Ok(Selection {
        keyspaces: Which::One(args.place.keyspace.clone()),
        range,
        direction: if args.reverse { Direction::Reverse } else { Direction::Forward },
        limit: args.limit.unwrap_or(u64::MAX),
        part: if args.keys_only { Part::Key } else { Part::Record },
    })
}

fn print_key(key: &[u8], output: &mut Output) -> Outcome {
    match output.format() {
        Format::Json => output.object(&RecordLine::of_key(key)),
        Format::Text => output.write(|out| {
            write_escaped(out, key)?;
            out.write_all(b"\n")
        }),
    }
}

fn print_record(key: &[u8], value: &[u8], output: &mut Output) -> Outcome {
    match output.format() {
        Format::Json => output.object(&RecordLine::new(key, value)),
        Format::Text => output.write(|out| {
            write_escaped(out, key)?;
            out.write_all(b"\t")?;
            write_escaped(out, value)?;
            out.write_all(b"\n")
        }),
    }
}
