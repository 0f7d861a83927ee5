//! `esker node log`: what is worth a line in the log of a node.

use super::ask;
use crate::args::NodeArgs;
use crate::client::{Call, Method};
use crate::error::Outcome;
use crate::output::Output;
use serde::{Deserialize, Serialize};

/// The command line of `esker node log`.
#[derive(clap::Args, Debug)]
#[command(after_help = "\
What is not named stays as it is. It lasts until the node stops or reads its configuration again.

Examples:
  esker node log --url http://127.0.0.1:8080
  esker node log --level warn --filter esker::engine=debug --url http://127.0.0.1:8080
  esker node log --filter '' --url http://127.0.0.1:8080")]
pub(super) struct LogArgs {
    #[command(flatten)]
    node: NodeArgs,
    /// The level from now on: error, warn, info, debug or trace
    #[arg(long, value_name = "LEVEL")]
    level: Option<String>,
    /// Targets with levels of their own from now on, such as replication=debug
    #[arg(long, value_name = "TARGET=LEVEL,..")]
    filter: Option<String>,
}

/// What is worth a line, or what changes of it.
#[derive(Deserialize, Serialize)]
struct Levels {
    #[serde(skip_serializing_if = "Option::is_none")]
    level: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    filter: Option<String>,
}

/// Prints level and filter, or changes them.
pub(super) fn run(args: &LogArgs, output: &mut Output) -> Outcome {
    let change = Levels { level: args.level.clone(), filter: args.filter.clone() };
    if change.level.is_none() && change.filter.is_none() {
        let levels: Levels = ask(&args.node, &Call::quick(Method::Get, "/v1/log"))?;
        return output.result(text_of(&levels), &levels);
    }
    let body = serde_json::json!(change).to_string();
    let call = Call { body: body.as_bytes(), ..Call::quick(Method::Post, "/v1/log") };
    let levels: Levels = ask(&args.node, &call)?;
    output.remark(text_of(&levels), &levels)
}

fn text_of(levels: &Levels) -> String {
    let or_none = |text: &Option<String>| text.clone().unwrap_or_default();
    format!("level: {}\nfilter: {}", or_none(&levels.level), or_none(&levels.filter))
}
