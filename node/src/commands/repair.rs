//! `esker repair`: rebuilds a damaged database from what still verifies, after a copy.

use super::check::FindingLine;
use super::id::IdentityLine;
use crate::args::DatabaseArgs;
use crate::database;
use crate::error::{Exit, Failure, Outcome};
use crate::output::Output;
use crate::progress::watch;
use engine::{Loss, Platform, RepairOptions, RepairReport};
use serde::Serialize;
use std::path::PathBuf;

/// The command line of `esker repair`.
#[derive(clap::Args, Debug)]
#[command(after_help = "\
Copies the whole directory first and compares the copy; then keeps what verifies and rebuilds the rest.
Every loss is a line: what, file, byte, and the keys or commits that may be affected. Of a damaged log
the commits before the damage are taken. In a lost range of keys an earlier value may show, also one
that was deleted. The losses also stand in lost.txt in the copy. A healthy database is not changed.
Ends with 0 if the database opens again, with 8 if nothing can be rebuilt.

--new-life and --new-node are for replicas whose directory is not damaged, but a plain copy; the node must not
run. Put back in the place of what its peers remember, and written to, it is refused as a Fork: with --new-life it
keeps what it has, and fetches from them what it has forgotten. Where the one it was copied from goes on as well,
--new-node makes it another node, which has to be added to the others.

Example:
  esker repair --path data --backup data.damaged
  esker repair --path data --new-life")]
pub(crate) struct RepairArgs {
    #[command(flatten)]
    database: DatabaseArgs,
    /// Where the copy goes: a directory that is missing or empty [default: beside the database]
    #[arg(long, value_name = "DIR")]
    backup: Option<PathBuf>,
    /// Begins another life of the node, which fetches what it has forgotten
    #[arg(long, conflicts_with_all = ["backup", "new_node"])]
    new_life: bool,
    /// Makes the copy of a node another node
    #[arg(long, conflicts_with = "backup")]
    new_node: bool,
}

/// Who the directory is from now on.
#[derive(Serialize)]
struct AnewObject {
    node: String,
    incarnation: String,
}

#[derive(Serialize)]
struct RepairObject<'a> {
    healthy: bool,
    copy: Option<String>,
    tables_kept: usize,
    tables_written: usize,
    commits_replayed: u64,
    findings: Vec<FindingLine<'a>>,
    losses: Vec<LossLine<'a>>,
    notes: &'a [String],
    remaining: Vec<FindingLine<'a>>,
}

/// A loss; keys are in hex.
#[derive(Serialize)]
struct LossLine<'a> {
    code: &'static str,
    file: Option<String>,
    offset: Option<u64>,
    what: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    keyspace: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    first_key_hex: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    last_key_hex: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    later_commits: Option<u64>,
}

/// Repairs, then prints what was done and what is lost.
pub(crate) fn run(args: &RepairArgs, output: &mut Output) -> Outcome {
    if args.new_life || args.new_node {
        return begin_anew(args, output);
    }
    let path = &args.database.path;
    let options = RepairOptions { copy_to: args.backup.clone() };
    let progress = engine::Progress::default();
    let report = watch(output, "repairing", &progress, || {
        engine::repair_with_progress(Platform::at(path), &options, &progress)
    })?;
    output.result(text_of(&report), &object_of(&report))?;
    match report.remaining.len() {
        0 => Ok(()),
        found => {
            let message = format!("the database still has {found} findings");
            Err(Failure::new(Exit::Database, "RepairFailed", message).at(path))
        }
    }
}

/// Changes who a whole directory is, and nothing else.
fn begin_anew(args: &RepairArgs, output: &mut Output) -> Outcome {
    let db = database::open(&args.database)?;
    match args.new_node {
        true => drop(db.replication().become_another_node()?),
        false => drop(db.replication().begin_anew()?),
    }
    db.close()?;
    let IdentityLine { node, incarnation, .. } = IdentityLine::read(&args.database.path)?;
    let text = format!("node {node}\nincarnation {incarnation}");
    output.result(text, &AnewObject { node, incarnation })
}

fn text_of(report: &RepairReport) -> String {
    let Some(copy) = &report.copy else {
        return "nothing to repair; nothing was changed".to_owned();
    };
    let mut lines = vec![format!("copied to {}", copy.display())];
    lines.extend(
        report.findings.iter().map(|finding| format!("found[{}]: {}", finding.code, finding.what)),
    );
    lines.extend(report.losses.iter().map(|loss| {
        let file = loss.file().map_or(String::new(), |file| format!("{}", file.display()));
        let offset = loss.offset().map_or(String::new(), |offset| format!(" at byte {offset}"));
        let place = if file.is_empty() { file } else { format!("{file}{offset}: ") };
        format!("lost[{}]: {place}{loss}", loss.code())
    }));
    lines.extend(report.notes.iter().map(|note| format!("note: {note}")));
    let RepairReport { losses, tables_kept, tables_written, commits_replayed, .. } = report;
    let losses = losses.len();
    lines.push(format!(
        "repaired: {losses} losses; {tables_kept} tables kept, {tables_written} written, \
         {commits_replayed} commits replayed"
    ));
    lines.join("\n")
}

fn object_of(report: &RepairReport) -> RepairObject<'_> {
    RepairObject {
        healthy: report.is_healthy(),
        copy: report.copy.as_ref().map(|copy| copy.display().to_string()),
        tables_kept: report.tables_kept,
        tables_written: report.tables_written,
        commits_replayed: report.commits_replayed,
        findings: report.findings.iter().map(FindingLine::of).collect(),
        losses: report.losses.iter().map(LossLine::of).collect(),
        notes: &report.notes,
        remaining: report.remaining.iter().map(FindingLine::of).collect(),
    }
}

impl LossLine<'_> {
    fn of(loss: &Loss) -> LossLine<'_> {
        let line = LossLine {
            code: loss.code(),
            file: loss.file().map(|file| file.display().to_string()),
            offset: loss.offset(),
            what: loss.to_string(),
            keyspace: None,
            first_key_hex: None,
            last_key_hex: None,
            later_commits: None,
        };
        match loss {
            Loss::Keys { keyspace, first, last, .. } => LossLine {
                keyspace: Some(keyspace),
                first_key_hex: Some(hex(first)),
                last_key_hex: last.as_deref().map(hex),
                ..line
            },
            Loss::Commits { later, .. } => LossLine { later_commits: Some(*later), ..line },
            Loss::Name { keyspace } => LossLine { keyspace: Some(keyspace), ..line },
            _ => line,
        }
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
