//! `esker node health`: whether a running node is well, with an exit code for those who only want to know that.

mod report;

use self::report::Report;
use crate::args::NodeArgs;
use crate::client::Client;
use crate::error::{Exit, Failure, Outcome};
use crate::output::Output;
use clap::ValueEnum;
use serde_json::{Map, Value};
use std::path::Path;
use std::time::Duration;

/// The command line of `esker node health`.
#[derive(clap::Args, Debug)]
#[command(after_help = "\
Without PROBE it says whether engine, peers and writes are well. detailed has a line a check: name, status,
what it found. In JSON the report is as the node answers it.

Exits with 0 if the node is healthy or degraded, or ready; with 1 if it is not (Unhealthy, NotReady), after
what it reports was printed; with 7 if nothing answers in time (Unreachable); with 6 without a token where
one is needed: live and ready need none. A node that is being opened is alive, and neither well nor ready.

Examples:
  esker node health --url http://127.0.0.1:8080
  esker node health ready --url http://127.0.0.1:8080
  esker node health detailed --output json --url http://127.0.0.1:8080/v1/datasets/orders")]
pub(super) struct HealthArgs {
    #[command(flatten)]
    node: NodeArgs,
    /// What is asked
    #[arg(value_enum, value_name = "PROBE")]
    probe: Option<Probe>,
    /// How long the node may take to begin its answer
    #[arg(long, value_name = "MILLISECONDS", default_value_t = 5000,
          value_parser = clap::value_parser!(u64).range(1..))]
    timeout_ms: u64,
}

/// What can be asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Probe {
    /// Whether the process answers
    Live,
    /// Whether users should be sent to the node
    Ready,
    /// What each check has found last
    Detailed,
}

/// Prints what the node reports, and fails if it is not well.
pub(super) fn run(args: &HealthArgs, output: &mut Output) -> Outcome {
    let path = match args.probe {
        None => "/health",
        Some(Probe::Live) => "/health/live",
        Some(Probe::Ready) => "/health/ready",
        Some(Probe::Detailed) => "/health/detailed",
    };
    let within = Duration::from_millis(args.timeout_ms);
    let told: Map<String, Value> = Client::new(&args.node.url)?.report(path, within)?;
    let report = Report::of(&told);
    output.result(&report, &told)?;
    let failure = match report.status() {
        "unhealthy" => {
            Failure::new(Exit::Other, "Unhealthy", message("the node is unhealthy", &report))
                .action("see what each check has found: `esker node health detailed`")
        }
        "not_ready" => {
            Failure::new(Exit::Other, "NotReady", message("the node is not ready", &report))
                .action("send users to another node, or ask again later")
        }
        _ => return Ok(()),
    };
    Err(failure.at(Path::new(&args.node.url)))
}

/// What is wrong, with the reasons that the node has told.
fn message(what: &str, report: &Report) -> String {
    match report.reasons().join(", ") {
        reasons if reasons.is_empty() => what.to_owned(),
        reasons => format!("{what}: {reasons}"),
    }
}
