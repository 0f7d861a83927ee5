//! `esker node datasets`: the other databases of a process.

use super::ask;
use crate::args::NodeArgs;
use crate::client::{Call, Method};
use crate::error::Outcome;
use crate::output::Output;
use crate::wire::percent_encode;
use serde::{Deserialize, Serialize};
use std::fmt;

/// The command line of `esker node datasets`.
#[derive(clap::Args, Debug)]
#[command(after_help = "\
A line a dataset: name, status (open, opening), node, where it listens for peers, where it answers behind the
host. While it is being opened again, node and address are not known (-).

Examples:
  esker node datasets --url http://127.0.0.1:8080
  esker node datasets orders --url http://127.0.0.1:8080")]
pub(super) struct DatasetsArgs {
    #[command(flatten)]
    node: NodeArgs,
    /// Only this one; exits with 3 if there is none; main is the database beside them
    #[arg(value_name = "NAME")]
    name: Option<String>,
}

/// A dataset.
#[derive(Deserialize, Serialize)]
struct DatasetLine {
    dataset: String,
    url: String,
    status: String,
    node: Option<String>,
    listen: Option<String>,
}

/// Lists the datasets.
pub(super) fn run(args: &DatasetsArgs, output: &mut Output) -> Outcome {
    let all: Vec<DatasetLine> = match &args.name {
        None => ask(&args.node, &Call::quick(Method::Get, "/v1/datasets"))?,
        Some(name) => {
            let path = format!("/v1/datasets/{}", percent_encode(name.as_bytes()));
            vec![ask(&args.node, &Call::quick(Method::Get, &path))?]
        }
    };
    all.iter().try_for_each(|line| output.result(line, line))
}

impl fmt::Display for DatasetLine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let or_dash = |text: &Option<String>| text.clone().unwrap_or_else(|| "-".to_owned());
        let (node, listen) = (or_dash(&self.node), or_dash(&self.listen));
        let DatasetLine { dataset, url, status, .. } = self;
        write!(f, "{dataset}\t{status}\t{node}\t{listen}\t{url}")
    }
}
