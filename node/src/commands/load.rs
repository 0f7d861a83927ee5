//! `esker load`: records from a file or a pipe, in batches.
//!
//! Streams: memory holds one batch. What `--ack` printed is stored, whatever happens to this
//! process afterwards.

use crate::args::{Durability, KeyspaceArgs};
use crate::database;
use crate::error::{Exit, Failure, Outcome};
use crate::files;
use crate::input::{InputFormat, Parsed, Records};
use crate::output::{Format, Output};
use crate::progress::Progress;
use crate::record::Record;
use base::limits::BATCH_LEN_MAX;
use engine::{Batch, Create, Db, Keyspace};
use serde::Serialize;
use std::collections::HashMap;
use std::num::NonZeroU64;
use std::path::{Path, PathBuf};

/// Bytes that a batch spends on one record besides its key and value, at most.
const RECORD_OVERHEAD: usize = 32;
/// A batch is committed early before it grows past this.
const BATCH_LEN_TARGET: usize = BATCH_LEN_MAX - (1 << 20);
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
  generate | esker load --path data --format tsv --batch 100 --ack -")]
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

/// What was loaded.
#[derive(Serialize)]
struct Loaded {
    loaded: u64,
    batches: u64,
    skipped: u64,
}

/// Loads the records.
pub(crate) fn run(args: &LoadArgs, output: &mut Output) -> Outcome {
    let input = files::open_input(&args.file)?;
    let format = args.format.unwrap_or_else(|| format_of(&args.file));
    let key = args.key.as_deref();
    let mut records = Records::new(input, format, key).map_err(|f| f.at(shown(&args.file)))?;
    let db = database::open_with(&args.place.database.path, Create::IfMissing, args.sync)?;
    let loader = Loader::new(&db, args, output)?;
    let loaded = loader.load(&mut records)?;
    db.close()?;
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

/// A load under way.
struct Loader<'a> {
    db: &'a Db,
    args: &'a LoadArgs,
    output: &'a mut Output,
    progress: Progress,
    keyspaces: HashMap<String, Keyspace>,
    keyspace: Keyspace,
    batch: Batch,
    batch_records: u64,
    batch_bytes: usize,
    loaded: Loaded,
}

impl<'a> Loader<'a> {
    fn new(db: &'a Db, args: &'a LoadArgs, output: &'a mut Output) -> Outcome<Loader<'a>> {
        Ok(Loader {
            db,
            args,
            progress: Progress::new(output, "records", 0),
            output,
            keyspaces: HashMap::new(),
            keyspace: database::keyspace_to_write(db, &args.place.keyspace)?,
            batch: Batch::new(),
            batch_records: 0,
            batch_bytes: 0,
            loaded: Loaded { loaded: 0, batches: 0, skipped: 0 },
        })
    }

    /// Stores all of `records`, and the rest at the end of input.
    fn load(mut self, records: &mut Records) -> Outcome<Loaded> {
        while let Some(Parsed { line, record }) = records.next()? {
            match record {
                Ok(record) => self.add(&record)?,
                Err(reason) if self.args.skip_bad => self.skip(line, &reason),
                Err(reason) => return Err(self.refuse(line, &reason)),
            }
        }
        self.commit()?;
        Ok(self.loaded)
    }

    /// Puts `record` into the batch, and commits what is full.
    fn add(&mut self, record: &Record) -> Outcome {
        let bytes = record.key.len() + record.value.len() + RECORD_OVERHEAD;
        if self.batch_bytes + bytes > BATCH_LEN_TARGET {
            self.commit()?;
        }
        let keyspace = match &record.keyspace {
            None => &self.keyspace,
            Some(name) => named(&mut self.keyspaces, self.db, name)?,
        };
        self.batch.put(keyspace, &record.key, &record.value);
        self.batch_records += 1;
        self.batch_bytes += bytes;
        if self.batch_records == self.args.batch.get() { self.commit() } else { Ok(()) }
    }

    /// Commits the batch, and says so once it is acknowledged.
    fn commit(&mut self) -> Outcome {
        if self.batch_records == 0 {
            return Ok(());
        }
        self.db.write(std::mem::take(&mut self.batch))?;
        self.progress.add(self.batch_records);
        self.loaded.loaded += self.batch_records;
        self.loaded.batches += 1;
        self.batch_records = 0;
        self.batch_bytes = 0;
        if self.args.ack {
            let acknowledged = self.loaded.loaded;
            self.output.result(acknowledged, &Acknowledged { acknowledged })?;
            self.output.flush()?;
        }
        Ok(())
    }

    fn skip(&mut self, line: u64, reason: &str) {
        self.loaded.skipped += 1;
        if self.loaded.skipped <= SKIPPED_REPORTED_MAX {
            let failure = bad_line(&self.args.file, line, format!("a line is skipped: {reason}"));
            self.output.warn(&failure.action("correct it and load it again"));
        }
    }

    fn refuse(&self, line: u64, reason: &str) -> Failure {
        let stored = self.loaded.loaded;
        let message = format!("bad line: {reason}; {stored} records before its batch are stored");
        bad_line(&self.args.file, line, message).action("correct the line, or use --skip-bad")
    }
}

/// The keyspace `name`, created on its first record.
fn named<'m>(
    known: &'m mut HashMap<String, Keyspace>,
    db: &Db,
    name: &str,
) -> Outcome<&'m Keyspace> {
    if !known.contains_key(name) {
        known.insert(name.to_owned(), database::keyspace_to_write(db, name)?);
    }
    known.get(name).ok_or_else(|| Failure::new(Exit::Bug, "Bug", "a keyspace vanished"))
}

fn bad_line(file: &Path, line: u64, message: String) -> Failure {
    Failure::new(Exit::Input, "BadLine", message).at(shown(file)).line(line)
}
