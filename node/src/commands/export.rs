//! `esker export`: writes records as lines that `load` reads back byte for byte.

use crate::args::{DEFAULT_KEYSPACE, PlaceArgs};
use crate::error::Outcome;
use crate::files::{self, NewFile};
use crate::output::Output;
use crate::place::{self, Entry, Selection, Which};
use crate::progress::Progress;
use crate::record::RecordLine;
use engine::Create;
use serde::Serialize;
use std::io::{self, Write};
use std::path::PathBuf;

/// The command line of `esker export`.
#[derive(clap::Args, Debug)]
#[command(after_help = "\
Lines are JSON objects of key and value, with _b64 behind the name for what is not UTF-8. With --all
each line also names its keyspace. A file appears under its name only when it is complete.

Examples:
  esker export --path data records.ndjson
  esker export --url http://127.0.0.1:8080 records.ndjson
  esker export --path data --all - | esker load --path copy -")]
pub(crate) struct ExportArgs {
    #[command(flatten)]
    place: PlaceArgs,
    /// The keyspace
    #[arg(long, value_name = "K", default_value = DEFAULT_KEYSPACE, conflicts_with = "all")]
    keyspace: String,
    /// All keyspaces; each line names its own
    #[arg(long)]
    all: bool,
    /// Where to write; - is standard output
    file: PathBuf,
}

#[derive(Serialize)]
struct Exported {
    records: u64,
}

/// Writes the records as of one moment.
pub(crate) fn run(args: &ExportArgs, output: &mut Output) -> Outcome {
    let which = if args.all { Which::All } else { Which::One(args.keyspace.clone()) };
    let place = place::open(&args.place, Create::Never)?;
    let mut entries = place.walk(&Selection::all_of(which))?;
    let progress = Progress::new(output, "records", 0);
    let mut target = match files::is_standard_stream(&args.file) {
        true => Target::Output(output),
        false => Target::File(NewFile::create(&args.file)?),
    };
    let mut records = 0;
    while let Some(Entry { keyspace, key, value }) = entries.next()? {
        let line = RecordLine::new(key, value);
        let line = if args.all { line.in_keyspace(keyspace) } else { line };
        target.line(&line)?;
        records += 1;
        progress.add(1);
    }
    drop((progress, entries));
    place.close()?;
    match target {
        Target::Output(_) => Ok(()),
        Target::File(file) => {
            file.finish()?;
            output.remark(format_args!("exported {records} records"), &Exported { records })
        }
    }
}

/// Where the lines go.
enum Target<'o> {
    Output(&'o mut Output),
    File(NewFile),
}

impl Target<'_> {
    fn line(&mut self, line: &RecordLine<'_>) -> Outcome {
        match self {
            Target::Output(output) => output.object(line),
            Target::File(file) => file.write(|out| write_line(out, line)),
        }
    }
}

fn write_line(out: &mut impl Write, line: &RecordLine<'_>) -> io::Result<()> {
    serde_json::to_writer(&mut *out, line)?;
    out.write_all(b"\n")
}
