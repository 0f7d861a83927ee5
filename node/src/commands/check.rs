//! `esker check`: verifies a closed database without changing a byte.

use crate::args::DatabaseArgs;
use crate::error::{Exit, Failure, Outcome};
use crate::output::Output;
use crate::progress::watch;
use base::fs::OsFs;
use clap::ValueEnum;
use recovery::{Finding, Severity, Verify};
use serde::Serialize;
use std::path::Path;

/// The command line of `esker check`.
#[derive(clap::Args, Debug)]
#[command(after_help = "\
quick reads what opening reads; full also reads the log and opens every table; paranoid reads every
byte. Every finding is a line: severity, code, file, byte, what. Findings are damage, and warnings where all
data is there and a second copy of something is not; they end it with 10. A note is such a line too, and no
finding: nothing is wrong, as with files that the next open tidies up.

Example:
  esker check --path data --level paranoid")]
pub(crate) struct CheckArgs {
    #[command(flatten)]
    database: DatabaseArgs,
    /// How much to verify
    #[arg(long, value_enum, value_name = "LEVEL", default_value = "full")]
    level: Level,
}

/// How much is verified.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Level {
    /// What opening reads
    Quick,
    /// Also the log, and the structure of every table
    Full,
    /// Every byte
    Paranoid,
}

/// A finding as programs read it.
#[derive(Serialize)]
pub(super) struct FindingLine<'a> {
    severity: &'static str,
    code: &'static str,
    file: String,
    offset: Option<u64>,
    what: &'a str,
}

#[derive(Serialize)]
struct Summary {
    level: &'static str,
    damage: usize,
    warnings: usize,
    notes: usize,
}

/// Prints every finding and every note, then how many there are. Notes are no findings: a process that was killed
/// leaves what the next open tidies up, and nothing is wrong with that.
pub(crate) fn run(args: &CheckArgs, output: &mut Output) -> Outcome {
    let path = &args.database.path;
    let progress = engine::Progress::default();
    let noticed = watch(output, "checking", &progress, || notice(path, args.level, &progress))?;
    for finding in &noticed {
        print_finding(finding, output)?;
    }
    let count = |severity| noticed.iter().filter(|it| it.severity == severity).count();
    let (damage, warnings) = (count(Severity::Damage), count(Severity::Warning));
    let notes = count(Severity::Note);
    let level = level_name(args.level);
    output.remark(
        format_args!(
            "checked at level {level}: {damage} damaged, {warnings} warnings, {notes} notes"
        ),
        &Summary { level, damage, warnings, notes },
    )?;
    match damage + warnings {
        0 => Ok(()),
        found => {
            let message = format!("the database has {found} findings");
            Err(Failure::new(Exit::Integrity, "Integrity", message).at(path))
        }
    }
}

/// Everything that is wrong with the database at `path`: damage and warnings, no notes.
pub(super) fn findings(path: &Path, level: Level) -> Outcome<Vec<Finding>> {
    let mut findings = notice(path, level, &engine::Progress::default())?;
    findings.retain(|finding| finding.severity > Severity::Note);
    Ok(findings)
}

/// Everything that is to be said of the database at `path`.
fn notice(path: &Path, level: Level, progress: &engine::Progress) -> Outcome<Vec<Finding>> {
    let verify = match level {
        Level::Quick => Verify::Quick,
        Level::Full => Verify::Full,
        Level::Paranoid => Verify::Paranoid,
    };
    Ok(recovery::check_with_progress(&OsFs::new(path), verify, progress)?)
}

impl FindingLine<'_> {
    pub(super) fn of(finding: &Finding) -> FindingLine<'_> {
        let severity = match finding.severity {
            Severity::Note => "note",
            Severity::Warning => "warning",
            Severity::Damage => "damage",
        };
        let (code, file) = (finding.code, finding.file.display().to_string());
        FindingLine { severity, code, file, offset: finding.offset, what: &finding.what }
    }
}

/// Writes a finding as a line.
pub(crate) fn print_finding(finding: &Finding, output: &mut Output) -> Outcome {
    let object = FindingLine::of(finding);
    let FindingLine { severity, code, file, offset, what } = &object;
    let offset = offset.map_or(String::new(), |offset| format!(" at byte {offset}"));
    output.result(format_args!("{severity}[{code}]: {file}{offset}: {what}"), &object)
}

fn level_name(level: Level) -> &'static str {
    match level {
        Level::Quick => "quick",
        Level::Full => "full",
        Level::Paranoid => "paranoid",
    }
}
