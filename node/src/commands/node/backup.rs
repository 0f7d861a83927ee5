//! `esker node backup` and `backups`: backups that a running node makes, where its configuration says.

use super::ask;
use crate::args::NodeArgs;
use crate::client::{Call, Method};
use crate::error::{Failure, Outcome};
use crate::output::{Output, human_bytes};
use crate::progress::watch;
use base::Moment;
use clap::ValueEnum;
use engine::Progress;
use serde::{Deserialize, Serialize};
use std::fmt;

/// The command line of `esker node backup`.
#[derive(clap::Args, Debug)]
#[command(after_help = "\
The node makes it in the directory that the setting backup.to names; without one it is refused (NotConfigured,
exit 5). It is called off when this command ends before it is done. On the machine of the node `esker backup`
verifies and prunes what is there, and `esker restore` makes a database of it.

Examples:
  esker node backup --url http://127.0.0.1:8080
  esker node backup --kind full --url http://127.0.0.1:8080")]
pub(super) struct BackupArgs {
    #[command(flatten)]
    node: NodeArgs,
    /// What it brings
    #[arg(long, value_enum, value_name = "KIND", default_value = "incremental")]
    kind: Kind,
}

/// The command line of `esker node backups`.
#[derive(clap::Args, Debug)]
#[command(after_help = "\
A line a backup, oldest first: number, kind, when it was made, its tables, its segments of the log. In JSON
with the number of the backup whose tables it shares (parent), 0 if there is none. Of a backup that can not
be read a warning says why, on standard error. Exits with 3 if the directory is not there: no backup was made
yet, or its disk is away.

Example:
  esker node backups --url http://127.0.0.1:8080")]
pub(super) struct BackupsArgs {
    #[command(flatten)]
    node: NodeArgs,
}

/// What a backup brings.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Kind {
    /// All tables
    Full,
    /// Tables that earlier backups do not have; all, if there are none
    Incremental,
}

/// What a node says about its backups.
#[derive(Deserialize)]
struct BackupList {
    backups: Vec<BackupLine>,
    /// Why others can not be read.
    damaged: Vec<serde_json::Value>,
}

/// A backup, as a node says it.
#[derive(Deserialize, Serialize)]
#[serde(rename_all = "camelCase")]
struct BackupLine {
    number: u64,
    kind: String,
    parent: u64,
    made_ms: u64,
    tables: u64,
    table_bytes: u64,
    segments: u64,
    segment_bytes: u64,
}

/// Makes a backup.
pub(super) fn run(args: &BackupArgs, output: &mut Output) -> Outcome {
    let kind = match args.kind {
        Kind::Full => "full",
        Kind::Incremental => "incremental",
    };
    let path = format!("/v1/backup?kind={kind}");
    let call = Call::new(Method::Post, &path);
    let made: BackupLine =
        watch(output, "backing up", &Progress::default(), || ask(&args.node, &call))?;
    output.remark(&made, &made)
}

/// Lists the backups.
pub(super) fn list(args: &BackupsArgs, output: &mut Output) -> Outcome {
    let all: BackupList = ask(&args.node, &Call::quick(Method::Get, "/v1/backups"))?;
    all.backups.iter().try_for_each(|line| output.result(line, line))?;
    for damaged in all.damaged {
        if let Some(failure) = Failure::from_answer(damaged.to_string().as_bytes()) {
            output.warn(&failure);
        }
    }
    Ok(())
}

impl fmt::Display for BackupLine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let BackupLine { number, kind, tables, segments, .. } = self;
        let made = Moment { ms: self.made_ms };
        let (bytes, log) = (human_bytes(self.table_bytes), human_bytes(self.segment_bytes));
        write!(
            f,
            "{number}\t{kind}\tmade {made}\t{tables} tables {bytes}\t{segments} segments {log}"
        )
    }
}
