//! `esker export`: writes records as lines that `load` reads back byte for byte.

use crate::args::{DEFAULT_KEYSPACE, DatabaseArgs};
use crate::database;
use crate::error::Outcome;
use crate::files::{self, NewFile};
use crate::output::Output;
use crate::progress::Progress;
use crate::record::RecordLine;
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
  esker export --path data --all - | esker load --path copy -")]
pub(crate) struct ExportArgs {
    #[command(flatten)]
    database: DatabaseArgs,
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
    let db = database::open(&args.database)?;
    let keyspaces = match args.all {
        true => db.keyspaces(),
        false => database::keyspace_to_read(&db, &args.keyspace)?.into_iter().collect(),
    };
    let progress = Progress::new(output, "records", 0);
    let mut target = match files::is_standard_stream(&args.file) {
        true => Target::Output(output),
        false => Target::File(NewFile::create(&args.file)?),
    };
    let snapshot = db.snapshot();
    let mut records = 0;
    for keyspace in &keyspaces {
        database::for_each(&snapshot, keyspace, |key, value| {
            let line = RecordLine::new(key, value);
            let line = if args.all { line.in_keyspace(keyspace.name()) } else { line };
            records += 1;
            progress.add(1);
            target.line(&line)
        })?;
    }
    drop(progress);
    db.close()?;
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
