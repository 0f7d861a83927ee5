//! `esker node scrub`: a running node reads and verifies everything.

use super::ask;
use crate::args::NodeArgs;
use crate::client::{Call, Method};
use crate::error::{Exit, Failure, Outcome};
use crate::output::{Output, human_bytes};
use crate::progress::watch;
use engine::Progress;
use serde::{Deserialize, Serialize};
use std::path::Path;

/// The command line of `esker node scrub`.
#[derive(clap::Args, Debug)]
#[command(after_help = "\
Every finding is a line: file, byte, what; findings end it with 10. The last line says how much was read. It
goes on as long as this command waits for it. For a closed database see `esker check`.

Example:
  esker node scrub --url http://127.0.0.1:8080")]
pub(super) struct ScrubArgs {
    #[command(flatten)]
    node: NodeArgs,
}

#[derive(Deserialize)]
struct Report {
    tables: u64,
    segments: u64,
    bytes: u64,
    findings: Vec<FindingLine>,
}

/// A file that is damaged or could not be read.
#[derive(Deserialize, Serialize)]
struct FindingLine {
    path: String,
    offset: Option<u64>,
    what: String,
}

#[derive(Serialize)]
struct Summary {
    tables: u64,
    segments: u64,
    bytes: u64,
    findings: usize,
}

/// Prints every finding, then how much was read.
pub(super) fn run(args: &ScrubArgs, output: &mut Output) -> Outcome {
    let call = Call::new(Method::Post, "/v1/scrub");
    let report: Report =
        watch(output, "scrubbing", &Progress::default(), || ask(&args.node, &call))?;
    for finding in &report.findings {
        let FindingLine { path, offset, what } = finding;
        let place = offset.map_or(String::new(), |offset| format!(" at byte {offset}"));
        output.result(format_args!("finding: {path}{place}: {what}"), finding)?;
    }
    let Report { tables, segments, bytes, .. } = report;
    let findings = report.findings.len();
    output.remark(
        format_args!(
            "scrubbed {tables} tables and {segments} segments, {}: {findings} findings",
            human_bytes(bytes)
        ),
        &Summary { tables, segments, bytes, findings },
    )?;
    match findings {
        0 => Ok(()),
        found => {
            let message = format!("the database of the node has {found} findings");
            Err(Failure::new(Exit::Integrity, "Integrity", message).at(Path::new(&args.node.url)))
        }
    }
}
