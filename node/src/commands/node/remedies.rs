//! `esker node remedies`: what a node does by itself against trouble.

use super::ask;
use crate::args::NodeArgs;
use crate::client::{Call, Method};
use crate::error::Outcome;
use crate::output::Output;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::fmt;

/// The command line of `esker node remedies`.
#[derive(clap::Args, Debug)]
#[command(after_help = "\
A line a remedy: name, state (ready, off, used-up), how often it was taken since the start, how often in the
last hour, and how often it may be taken in an hour. The section [remedies] of the settings changes them.

Example:
  esker node remedies --url http://127.0.0.1:8080")]
pub(super) struct RemediesArgs {
    #[command(flatten)]
    node: NodeArgs,
}

/// How a remedy is.
#[derive(Deserialize, Serialize)]
#[serde(rename_all = "camelCase")]
struct Report {
    state: String,
    taken: u64,
    taken_last_hour: u32,
    per_hour: u32,
}

/// The same with its name.
#[derive(Serialize)]
struct RemedyLine<'a> {
    remedy: &'a str,
    #[serde(flatten)]
    report: &'a Report,
}

/// Prints all remedies.
pub(super) fn run(args: &RemediesArgs, output: &mut Output) -> Outcome {
    let all: BTreeMap<String, Report> = ask(&args.node, &Call::quick(Method::Get, "/v1/remedies"))?;
    let mut lines = all.iter().map(|(remedy, report)| RemedyLine { remedy, report });
    lines.try_for_each(|line| output.result(&line, &line))
}

impl fmt::Display for RemedyLine<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let RemedyLine { remedy, report: Report { state, taken, taken_last_hour, per_hour } } =
            self;
        write!(f, "{remedy}\t{state}\t{taken}\t{taken_last_hour}\t{per_hour}")
    }
}
