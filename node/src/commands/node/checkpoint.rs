//! `esker node checkpoint`: a database of its own beside that of a running node.

use super::ask;
use crate::args::NodeArgs;
use crate::client::{Call, Method};
use crate::error::Outcome;
use crate::output::Output;
use crate::progress::watch;
use engine::Progress;
use serde::{Deserialize, Serialize};

/// The command line of `esker node checkpoint`.
#[derive(clap::Args, Debug)]
#[command(after_help = "\
It is made of hard links, so it takes no space until tables are merged, in the directory that the setting
checkpoint.to names; without one it is refused (NotConfigured, exit 5).

Example:
  esker node checkpoint before-upgrade --url http://127.0.0.1:8080")]
pub(super) struct CheckpointArgs {
    #[command(flatten)]
    node: NodeArgs,
    /// What it is called: a plain name, without slashes
    #[arg(value_name = "NAME")]
    name: String,
}

#[derive(Deserialize, Serialize)]
struct Checkpoint {
    /// Where it is, on the machine of the node.
    path: String,
    /// The last commit in it.
    seqno: u64,
}

/// Makes a checkpoint.
pub(super) fn run(args: &CheckpointArgs, output: &mut Output) -> Outcome {
    let body = serde_json::json!({ "name": args.name }).to_string();
    let call = Call { body: body.as_bytes(), ..Call::new(Method::Post, "/v1/checkpoint") };
    let progress = Progress::default();
    let made: Checkpoint =
        watch(output, "making a checkpoint", &progress, || ask(&args.node, &call))?;
    let Checkpoint { path, seqno } = &made;
    output.remark(format_args!("checkpoint {path}: everything until commit {seqno}"), &made)
}
