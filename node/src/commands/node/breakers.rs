//! `esker node breakers`: what a node leaves alone because it fails too often.

use super::ask;
use crate::args::NodeArgs;
use crate::client::{Call, Method};
use crate::error::Outcome;
use crate::output::Output;
use crate::wire::percent_encode;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::fmt;

/// The command line of `esker node breakers`.
#[derive(clap::Args, Debug)]
#[command(after_help = "\
A line a breaker: name, state (closed, open, half-open), calls that succeeded, that failed, and that were not
made. A reset closes one, so that the next call is made; what it counts goes on.

Examples:
  esker node breakers --url http://127.0.0.1:8080
  esker node breakers --reset backup --url http://127.0.0.1:8080")]
pub(super) struct BreakersArgs {
    #[command(flatten)]
    node: NodeArgs,
    /// Closes this one
    #[arg(long, value_name = "NAME")]
    reset: Option<String>,
}

/// How a breaker is, as a node says it.
#[derive(Deserialize)]
struct Report {
    state: u8,
    successes: u64,
    failures: u64,
    rejected: u64,
}

/// How a breaker is, as programs read it.
#[derive(Serialize)]
struct BreakerLine<'a> {
    breaker: &'a str,
    state: &'static str,
    successes: u64,
    failures: u64,
    rejected: u64,
}

/// Prints all breakers, or closes one.
pub(super) fn run(args: &BreakersArgs, output: &mut Output) -> Outcome {
    let Some(name) = &args.reset else {
        let all: BTreeMap<String, Report> =
            ask(&args.node, &Call::quick(Method::Get, "/v1/breakers"))?;
        let mut lines = all.iter().map(|(name, report)| BreakerLine::of(name, report));
        return lines.try_for_each(|line| output.result(&line, &line));
    };
    let path = format!("/v1/breakers/{}/reset", percent_encode(name.as_bytes()));
    let all: BTreeMap<String, Report> = ask(&args.node, &Call::quick(Method::Post, &path))?;
    match all.get_key_value(name) {
        Some((name, report)) => {
            let line = BreakerLine::of(name, report);
            output.remark(&line, &line)
        }
        None => Ok(()),
    }
}

impl BreakerLine<'_> {
    fn of<'a>(breaker: &'a str, report: &Report) -> BreakerLine<'a> {
        let state = match report.state {
            0 => "closed",
            1 => "open",
            2 => "half-open",
            _ => "unknown",
        };
        let Report { successes, failures, rejected, .. } = *report;
        BreakerLine { breaker, state, successes, failures, rejected }
    }
}

impl fmt::Display for BreakerLine<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let BreakerLine { breaker, state, successes, failures, rejected } = self;
        write!(f, "{breaker}\t{state}\t{successes}\t{failures}\t{rejected}")
    }
}
