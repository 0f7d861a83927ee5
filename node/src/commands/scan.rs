//! `esker scan`: prints the records of a range in order.

use crate::args::KeyspaceArgs;
use crate::database;
use crate::error::{Failure, Outcome};
use crate::escape::write_escaped;
use crate::output::{Format, Output};
use crate::record::RecordLine;
use engine::Iter;
use std::ffi::OsString;
use std::io::Write;
use std::ops::Bound;

/// The command line of `esker scan`.
#[derive(clap::Args, Debug)]
#[command(after_help = "\
Text output is a line a record: key TAB value, where \\t \\n \\r \\\\ stand for TAB, line feed,
carriage return and backslash, and \\xNN for a byte of another control character or of what is not
UTF-8. With --output json the lines are those that `load` reads back byte for byte.

Examples:
  esker scan --path data --prefix user: --limit 10
  esker scan --path data --start a --end n --reverse --keys-only")]
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

/// Which part of a record is printed.
#[derive(Clone, Copy)]
enum Part {
    Key,
    Record,
}

/// Prints the records.
pub(crate) fn run(args: &ScanArgs, output: &mut Output) -> Outcome {
    let (start, end) = bounds(args)?;
    let db = database::open(&args.place.database)?;
    let Some(keyspace) = database::keyspace_to_read(&db, &args.place.keyspace)? else {
        return Ok(db.close()?);
    };
    let part = if args.keys_only { Part::Key } else { Part::Record };
    let entries: Iter = keyspace.range((start, end));
    let limit = args.limit.and_then(|limit| usize::try_from(limit).ok()).unwrap_or(usize::MAX);
    if args.reverse {
        print(entries.rev().take(limit), part, output)?;
    } else {
        print(entries.take(limit), part, output)?;
    }
    Ok(db.close()?)
}

type Bounds = (Bound<Vec<u8>>, Bound<Vec<u8>>);

/// The range that prefix, start and end leave.
fn bounds(args: &ScanArgs) -> Outcome<Bounds> {
    let bytes = |text: &Option<OsString>| text.as_ref().map(|t| t.as_encoded_bytes().to_vec());
    let (start, end) = (bytes(&args.start), bytes(&args.end));
    if let (Some(start), Some(end)) = (&start, &end)
        && start > end
    {
        return Err(Failure::input("--start is after --end").at(&args.place.database.path));
    }
    let prefix = bytes(&args.prefix).unwrap_or_default();
    let last = prefix_end(&prefix);
    let lower = start.map_or(prefix.clone(), |start| start.max(prefix));
    let upper = match (end, last) {
        (Some(end), Some(last)) => Some(end.min(last)),
        (end, last) => end.or(last),
    };
    Ok((Bound::Included(lower), upper.map_or(Bound::Unbounded, Bound::Excluded)))
}

/// The shortest key above all that start with `prefix`; `None` if there is none.
fn prefix_end(prefix: &[u8]) -> Option<Vec<u8>> {
    let mut end = prefix.to_vec();
    while let Some(last) = end.pop() {
        if let Some(next) = last.checked_add(1) {
            end.push(next);
            return Some(end);
        }
    }
    None
}

/// Prints `entries` one a line.
fn print<V: AsRef<[u8]>>(
    entries: impl Iterator<Item = engine::Result<(V, V)>>,
    part: Part,
    output: &mut Output,
) -> Outcome {
    for entry in entries {
        let (key, value) = entry?;
        let (key, value) = (key.as_ref(), value.as_ref());
        match (output.format(), part) {
            (Format::Json, Part::Key) => output.object(&RecordLine::of_key(key))?,
            (Format::Json, Part::Record) => output.object(&RecordLine::new(key, value))?,
            (Format::Text, Part::Key) => output.write(|out| {
                write_escaped(out, key)?;
                out.write_all(b"\n")
            })?,
            (Format::Text, Part::Record) => output.write(|out| {
                write_escaped(out, key)?;
                out.write_all(b"\t")?;
                write_escaped(out, value)?;
                out.write_all(b"\n")
            })?,
        }
    }
    Ok(())
}
