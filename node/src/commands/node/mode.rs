//! `esker node mode`: what users may ask for.

use super::ask;
use crate::args::NodeArgs;
use crate::client::{Call, Method};
use crate::error::{Exit, Failure, Outcome};
use crate::output::Output;
use crate::serve::Mode;
use serde::{Deserialize, Serialize};
use std::path::Path;

/// The command line of `esker node mode`.
#[derive(clap::Args, Debug)]
#[command(after_help = "\
A mode lasts over restarts, until it is changed. Peers, operators, probes and metrics go on in all of them.
Exits with 1 (NotKept) if the node is in the mode, and could not note that for its next start.

Examples:
  esker node mode --url http://127.0.0.1:8080
  esker node mode maintenance --url http://127.0.0.1:8080")]
pub(super) struct ModeArgs {
    #[command(flatten)]
    node: NodeArgs,
    /// What users may ask for from now on
    #[arg(value_enum, value_name = "MODE")]
    mode: Option<Mode>,
}

/// What users may ask for, as a node says it.
#[derive(Deserialize, Serialize)]
struct Current {
    mode: Mode,
    /// After a change: whether it lasts over a restart.
    #[serde(skip_serializing_if = "Option::is_none")]
    kept: Option<bool>,
}

/// Prints the mode, or changes it.
pub(super) fn run(args: &ModeArgs, output: &mut Output) -> Outcome {
    let Some(mode) = args.mode else {
        let current: Current = ask(&args.node, &Call::quick(Method::Get, "/v1/mode"))?;
        return output.result(text_of(&current), &current);
    };
    let body = serde_json::json!({ "mode": mode }).to_string();
    let call = Call { body: body.as_bytes(), ..Call::quick(Method::Post, "/v1/mode") };
    let current: Current = ask(&args.node, &call)?;
    output.remark(text_of(&current), &current)?;
    match current.kept {
        Some(false) => Err(not_kept(&args.node.url)),
        _ => Ok(()),
    }
}

fn text_of(current: &Current) -> String {
    format!("mode: {}", current.mode.name())
}

fn not_kept(url: &str) -> Failure {
    let message = "the node is in this mode until it stops, and will not remember it";
    Failure::new(Exit::Other, "NotKept", message)
        .at(Path::new(url))
        .action("see why it takes no writes: `esker node health detailed`; set the mode again then")
}
