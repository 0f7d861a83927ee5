//! `esker dump`: one file of a database as lines, even a damaged one.

use crate::error::{Exit, Failure, Outcome};
use crate::files;
use crate::output::{Format, Output};
use clap::ValueEnum;
use recovery::dump;
use serde::Serialize;
use std::io::{self, Write};
use std::path::PathBuf;

/// The command line of `esker dump`.
#[derive(clap::Args, Debug)]
#[command(after_help = "\
Prints up to where the file stops making sense; the last line says where that is and why. Exits with
10 if that is not its end. The file may stand anywhere, under any name; no lock is taken.

Examples:
  esker dump wal data/wal/00000000000000000002.log
  esker dump table data/tables/00000000000000000007.sst
  esker dump manifest data/manifest/00000000000000000002.mf")]
pub(crate) struct DumpArgs {
    /// What kind of file it is
    #[arg(value_enum)]
    kind: Kind,
    /// The file
    file: PathBuf,
}

/// A kind of file.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Kind {
    /// A segment of the log
    Wal,
    /// A sorted table
    Table,
    /// A manifest
    Manifest,
}

/// Prints the file.
pub(crate) fn run(args: &DumpArgs, output: &mut Output) -> Outcome {
    let file = files::open_database_file(&args.file)?;
    let render = match args.kind {
        Kind::Wal => dump::wal,
        Kind::Table => dump::table,
        Kind::Manifest => dump::manifest,
    };
    let mut lines = Lines { output, pending: Vec::new(), last: String::new() };
    let outcome = render(file, &mut lines)?;
    let last = lines.last;
    match outcome {
        dump::Outcome::Whole => Ok(()),
        dump::Outcome::Stopped(offset) => {
            Err(Failure::new(Exit::Integrity, "Integrity", last).at(&args.file).at_byte(offset))
        }
    }
}

#[derive(Serialize)]
struct DumpLine<'a> {
    line: &'a str,
}

/// Takes what is rendered and hands it on line by line, in the output's format.
struct Lines<'o> {
    output: &'o mut Output,
    pending: Vec<u8>,
    /// The line handed on last.
    last: String,
}

impl Lines<'_> {
    fn hand_on(&mut self) -> io::Result<()> {
        self.last = String::from_utf8_lossy(&self.pending).into_owned();
        self.pending.clear();
        let last = &self.last;
        let is_json = self.output.format() == Format::Json;
        self.output.write_raw(|out| {
            match is_json {
                true => serde_json::to_writer(&mut *out, &DumpLine { line: last })?,
                false => out.write_all(last.as_bytes())?,
            }
            out.write_all(b"\n")
        })
    }
}

impl Write for Lines<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        for line in bytes.split_inclusive(|&byte| byte == b'\n') {
            match line.strip_suffix(b"\n") {
                Some(end) => {
                    self.pending.extend_from_slice(end);
                    self.hand_on()?;
                }
                None => self.pending.extend_from_slice(line),
            }
        }
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
