//! `esker load`: records from a file or a pipe, in batches.
//!
//! Streams: memory holds one batch. What `--ack` printed is stored, whatever happens to this
//! process afterwards.

use crate::args::{Durability, KeyspaceArgs};
use crate::error::{Exit, Failure, Outcome};
use crate::files;
use crate::input::{InputFormat, Records};
use crate::loader::{Listener, Loaded, Loader};
use crate::output::{Format, Output};
use crate::place;
use crate::progress::Progress;
use engine::Create;
use serde::Serialize;
use std::num::NonZeroU64;
use std::path::{Path, PathBuf};

/// Skipped lines that are reported one by one; the others are only counted.
const SKIPPED_REPORTED_MAX: u64 = 20;

/// The command line of `esker load`.
#[derive(clap::Args, Debug)]
#[command(after_help = "\
ndjson: {\"key\":..,\"value\":..}, strings, or key_b64/value_b64 for bytes; with --key FIELD any JSON
object, stored as it stands under the text or number of that field. tsv: key TAB value, raw bytes.
csv: a header line; --key names the column; the record is stored as a JSON object. Empty lines are
skipped. A bad line ends it with its number and exit code 5; earlier batches are stored, nothing of
its own batch is. The format is that of the file's ending, else ndjson.

Examples:
  esker load --path data records.ndjson
  esker load --path data --keyspace users --format csv --key name users.csv
  generate | esker load --path data --format tsv --batch 100 --ack -
  esker load --url http://127.0.0.1:8080 records.ndjson")]
pub(crate) struct LoadArgs {
    #[command(flatten)]
    place: KeyspaceArgs,
    /// How the records are written
    #[arg(long, value_enum, value_name = "FORMAT")]
    format: Option<InputFormat>,
    /// The field or column that is the key
    #[arg(long, value_name = "FIELD")]
    key: Option<String>,
    /// Records to commit at once
    #[arg(long, value_name = "N", default_value = "1000")]
    batch: NonZeroU64,
    /// When a commit is acknowledged
    #[arg(long, value_enum, value_name = "MODE", default_value = "sync")]
    sync: Durability,
    /// Prints the number of records acknowledged so far after each commit, a line each
    #[arg(long)]
    ack: bool,
    /// Passes over bad lines and counts them
    #[arg(long)]
    skip_bad: bool,
    /// What to load; - is standard input
    file: PathBuf,
}

/// One acknowledged commit.
#[derive(Serialize)]
struct Acknowledged {
    acknowledged: u64,
}

/// Loads the records.
pub(crate) fn run(args: &LoadArgs, output: &mut Output) -> Outcome {
    let input = files::open_input(&args.file)?;
    let format = args.format.unwrap_or_else(|| format_of(&args.file));
    let key = args.key.as_deref();
    let mut records = Records::new(input, format, key).map_err(|f| f.at(shown(&args.file)))?;
    let place = place::open_with(&args.place.database, Create::IfMissing, args.sync)?;
    let sink = place.sink(&args.place.keyspace, args.sync)?;
    let progress = Progress::new(output, "records", 0);
    let mut teller = Teller { args, output, progress };
    let loaded = Loader::new(sink, args.batch, &mut teller).load(&mut records)?;
    drop(teller);
    place.close()?;
    let Loaded { loaded: count, batches, skipped } = loaded;
    if args.ack && output.format() == Format::Text {
        return Ok(());
    }
    let skipped =
        if skipped == 0 { String::new() } else { format!(", {skipped} bad lines skipped") };
    output.remark(format_args!("loaded {count} records in {batches} batches{skipped}"), &loaded)
}

/// The format that a file's ending suggests.
fn format_of(file: &Path) -> InputFormat {
    match file.extension().and_then(|ending| ending.to_str()) {
        Some("tsv") => InputFormat::Tsv,
        Some("csv") => InputFormat::Csv,
        _ => InputFormat::Ndjson,
    }
}

/// How messages name the input.
fn shown(file: &Path) -> &Path {
    if files::is_standard_stream(file) { Path::new("standard input") } else { file }
}

/// Tells the user how the load goes.
struct Teller<'a> {
    args: &'a LoadArgs,
    output: &'a mut Output,
    progress: Progress,
}

impl Listener for Teller<'_> {
    fn bad_line(&mut self, line: u64, reason: &str, so_far: &Loaded) -> Outcome {
        if !self.args.skip_bad {
            return Err(bad_line(&self.args.file, line, format!("bad line: {reason}"))
                .action("correct the line, or use --skip-bad"));
        }
        if so_far.skipped < SKIPPED_REPORTED_MAX {
            let failure = bad_line(&self.args.file, line, format!("a line is skipped: {reason}"));
            self.output.warn(&failure.action("correct it and load it again"));
        }
        Ok(())
    }

    fn committed(&mut self, records: u64, so_far: &Loaded) -> Outcome {
        self.progress.add(records);
        if self.args.ack {
            let acknowledged = so_far.loaded;
            self.output.result(acknowledged, &Acknowledged { acknowledged })?;
            self.output.flush()?;
        }
        Ok(())
    }
}

fn bad_line(file: &Path, line: u64, message: String) -> Failure {
    Failure::new(Exit::Input, "BadLine", message).at(shown(file)).line(line)
}
