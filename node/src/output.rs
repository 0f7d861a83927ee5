//! Standard output: results as text, or as JSON, one object a line.
//!
//! Only results go here. Errors, progress and warnings go to standard error.

use crate::error::{Failure, Outcome};
use clap::ValueEnum;
use serde::Serialize;
use std::fmt::Display;
use std::io::{self, BufWriter, IsTerminal, Stdout, Write};

/// How results and errors are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Format {
    /// For people and line tools.
    Text,
    /// For programs: one object, or one object a line.
    Json,
}

/// How much is said besides results.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Verbosity {
    /// Results only.
    Quiet,
    /// Remarks, and progress where a person watches.
    Normal,
}

/// Standard output, buffered.
#[derive(Debug)]
pub(crate) struct Output {
    format: Format,
    verbosity: Verbosity,
    stdout: BufWriter<Stdout>,
}

impl Output {
    /// Standard output in `format`.
    pub(crate) fn new(format: Format, verbosity: Verbosity) -> Output {
        Output { format, verbosity, stdout: BufWriter::with_capacity(64 << 10, io::stdout()) }
    }

    /// How results are written.
    pub(crate) fn format(&self) -> Format {
        self.format
    }

    /// Whether a person watches standard error and wants to see progress.
    pub(crate) fn shows_progress(&self) -> bool {
        self.verbosity == Verbosity::Normal
            && self.format == Format::Text
            && io::stderr().is_terminal()
    }

    /// Writes one result: `text` as a line, or `object` as one.
    pub(crate) fn result(&mut self, text: impl Display, object: &impl Serialize) -> Outcome {
        match self.format {
            Format::Text => self.write(|out| writeln!(out, "{text}")),
            Format::Json => self.object(object),
        }
    }

    /// Writes what was done, unless quiet: `text` as a line, or `object` as one.
    pub(crate) fn remark(&mut self, text: impl Display, object: &impl Serialize) -> Outcome {
        match (self.verbosity, self.format) {
            (Verbosity::Normal, _) => self.result(text, object),
            (Verbosity::Quiet, _) => Ok(()),
        }
    }

    /// Writes `object` if the output is JSON: in text, no news is good news.
    pub(crate) fn acknowledge(&mut self, object: &impl Serialize) -> Outcome {
        match self.format {
            Format::Text => Ok(()),
            Format::Json => self.object(object),
        }
    }

    /// Writes `object` as one line of JSON.
    pub(crate) fn object(&mut self, object: &impl Serialize) -> Outcome {
        self.write(|out| {
            serde_json::to_writer(&mut *out, object)?;
            out.write_all(b"\n")
        })
    }

    /// Writes with `write`.
    pub(crate) fn write(
        &mut self,
        write: impl FnOnce(&mut BufWriter<Stdout>) -> io::Result<()>,
    ) -> Outcome {
        self.write_raw(write).map_err(Failure::output)
    }

    /// Writes with `write`, for callers that hand on the operating system's error.
    pub(crate) fn write_raw(
        &mut self,
        write: impl FnOnce(&mut BufWriter<Stdout>) -> io::Result<()>,
    ) -> io::Result<()> {
        write(&mut self.stdout)
    }

    /// Hands everything written so far to the reader.
    pub(crate) fn flush(&mut self) -> Outcome {
        self.stdout.flush().map_err(Failure::output)
    }

    /// Drops what nobody reads any more: standard output is closed.
    pub(crate) fn abandon(self) {
        let (_stdout, _unwritten) = self.stdout.into_parts();
    }

    /// Writes a warning to standard error, unless quiet.
    pub(crate) fn warn(&self, failure: &Failure) {
        if self.verbosity == Verbosity::Quiet {
            return;
        }
        // Nobody is left to tell when standard error is gone.
        let _ = match self.format {
            Format::Text => writeln!(io::stderr(), "{}", failure.to_text()),
            Format::Json => writeln!(io::stderr(), "{}", failure.to_json()),
        };
    }
}

/// `bytes` as people read sizes.
pub(crate) fn human_bytes(bytes: u64) -> String {
    const UNITS: [&str; 5] = ["B", "KiB", "MiB", "GiB", "TiB"];
    let mut scaled = bytes as f64;
    let mut unit = "B";
    for next in UNITS {
        unit = next;
        if scaled < 1024.0 {
            break;
        }
        if next != "TiB" {
            scaled /= 1024.0;
        }
    }
    if unit == "B" { format!("{bytes} B") } else { format!("{scaled:.1} {unit}") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_read_well() {
        for (bytes, text) in [
            (0, "0 B"),
            (1023, "1023 B"),
            (1024, "1.0 KiB"),
            (1536 << 10, "1.5 MiB"),
            (3 << 30, "3.0 GiB"),
            (5 << 50, "5120.0 TiB"),
        ] {
            assert_eq!(human_bytes(bytes), text);
        }
    }
}
