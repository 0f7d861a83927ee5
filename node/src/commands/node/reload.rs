//! `esker node reload`: the configuration is read again.

use super::ask;
use crate::args::NodeArgs;
use crate::client::{Call, Method};
use crate::error::Outcome;
use crate::output::Output;
use serde::{Deserialize, Serialize};

/// The command line of `esker node reload`.
#[derive(clap::Args, Debug)]
#[command(after_help = "\
Prints the settings that have changed and wait until the node starts again. A file with a mistake changes
nothing (exit 5). Asked of the main database it is for all datasets, else for the one that the URL names.

Example:
  esker node reload --url http://127.0.0.1:8080")]
pub(super) struct ReloadArgs {
    #[command(flatten)]
    node: NodeArgs,
}

#[derive(Deserialize, Serialize)]
struct Reloaded {
    /// What waits for the next start.
    waiting: Vec<String>,
}

/// Lets the node read its configuration.
pub(super) fn run(args: &ReloadArgs, output: &mut Output) -> Outcome {
    let reloaded: Reloaded = ask(&args.node, &Call::quick(Method::Post, "/v1/reload"))?;
    if reloaded.waiting.is_empty() {
        return output.remark("the configuration was read again", &reloaded);
    }
    let line = |key: &String| format!("waits for the next start: {key}");
    output.result(reloaded.waiting.iter().map(line).collect::<Vec<_>>().join("\n"), &reloaded)
}
