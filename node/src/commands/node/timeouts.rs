//! `esker node timeouts`: how long what may take.

use super::ask;
use crate::args::NodeArgs;
use crate::client::{Call, Method};
use crate::error::{Failure, Outcome};
use crate::output::{Format, Output};
use std::collections::BTreeMap;

/// The command line of `esker node timeouts`.
#[derive(clap::Args, Debug)]
#[command(after_help = "\
A line a timeout: name TAB milliseconds; in JSON one object with all of them by name. Of several changes all
are made or none. They last until the node stops or reads its configuration again.

Examples:
  esker node timeouts --url http://127.0.0.1:8080
  esker node timeouts drain=60000 close=10000 --url http://127.0.0.1:8080")]
pub(super) struct TimeoutsArgs {
    #[command(flatten)]
    node: NodeArgs,
    /// What may take so long from now on
    #[arg(value_name = "NAME=MILLISECONDS", value_parser = change_of)]
    changes: Vec<(String, u64)>,
}

/// Milliseconds by name.
type Timeouts = BTreeMap<String, u64>;

/// Prints all timeouts, or changes some.
pub(super) fn run(args: &TimeoutsArgs, output: &mut Output) -> Outcome {
    if args.changes.is_empty() {
        let all: Timeouts = ask(&args.node, &Call::quick(Method::Get, "/v1/timeouts"))?;
        return output.result(text_of(&all), &all);
    }
    let changes: Timeouts = args.changes.iter().cloned().collect();
    if changes.len() < args.changes.len() {
        return Err(Failure::input("a timeout is named twice").action("name each once"));
    }
    let body = serde_json::json!(changes).to_string();
    let call = Call { body: body.as_bytes(), ..Call::quick(Method::Post, "/v1/timeouts") };
    let mut all: Timeouts = ask(&args.node, &call)?;
    if output.format() == Format::Text {
        all.retain(|name, _| changes.contains_key(name));
    }
    output.remark(text_of(&all), &all)
}

fn text_of(timeouts: &Timeouts) -> String {
    let line = |(name, millis): (&String, &u64)| format!("{name}\t{millis}");
    timeouts.iter().map(line).collect::<Vec<_>>().join("\n")
}

/// The change that `word` asks for.
fn change_of(word: &str) -> Result<(String, u64), String> {
    let (name, millis) = word.split_once('=').ok_or("a change is NAME=MILLISECONDS")?;
    let millis = millis.parse().map_err(|_| "behind the = stands a number of milliseconds")?;
    Ok((name.to_owned(), millis))
}
