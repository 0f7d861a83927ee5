//! `esker node`: what operators ask of a running node, and change while it runs.
//!
//! ```text
//! health                          whether it is well; the exit code tells
//! mode, log, timeouts, reload     what changes while it runs
//! breakers, remedies              what it leaves alone, and what it does by itself
//! checkpoint, scrub, backup(s)    work on its database
//! datasets                        the other databases of its process
//! ```

mod backup;
mod breakers;
mod checkpoint;
mod datasets;
mod health;
mod log;
mod mode;
mod reload;
mod remedies;
mod scrub;
mod timeouts;

use crate::args::NodeArgs;
use crate::client::{Call, Client};
use crate::error::Outcome;
use crate::output::Output;
use clap::Subcommand;
use serde::de::DeserializeOwned;

/// The command line of `esker node`.
#[derive(clap::Args, Debug)]
#[command(after_help = "\
What is set with log and timeouts lasts until the node stops or reads its configuration again, and is of the
whole process; a mode lasts until it is changed. Everything else is of the database that the URL names, which
is a dataset with http://HOST:PORT/v1/datasets/NAME. Tables have a TAB between their columns; in JSON each
line of a table is one object.

Examples:
  esker node health --url http://127.0.0.1:8080
  esker node mode read-only --url http://127.0.0.1:8080
  esker node log --level debug --url http://127.0.0.1:8080
  esker node backup --kind full --url http://127.0.0.1:8080
  esker node breakers --reset backup --url http://127.0.0.1:8080")]
pub(crate) struct NodeCommandArgs {
    #[command(subcommand)]
    command: NodeCommand,
}

#[derive(Debug, Subcommand)]
enum NodeCommand {
    /// Prints whether the node is well; exits with 1 if it is not, with 7 if nothing answers
    Health(health::HealthArgs),
    /// Prints what users may ask for, or changes it
    Mode(mode::ModeArgs),
    /// Prints what is worth a line in the log, or changes it
    Log(log::LogArgs),
    /// Prints how long what may take, or changes it
    Timeouts(timeouts::TimeoutsArgs),
    /// Lets the node read its configuration again, as SIGHUP does
    Reload(reload::ReloadArgs),
    /// Prints what is left alone because it fails too often, or lets it be tried at once
    Breakers(breakers::BreakersArgs),
    /// Prints what the node does by itself against trouble, and how often it did
    Remedies(remedies::RemediesArgs),
    /// Makes a database of its own that holds everything committed so far
    Checkpoint(checkpoint::CheckpointArgs),
    /// Reads and verifies everything; exits with 10 if it finds anything
    Scrub(scrub::ScrubArgs),
    /// Makes a backup
    Backup(backup::BackupArgs),
    /// Lists the backups
    Backups(backup::BackupsArgs),
    /// Lists the other databases of the process
    Datasets(datasets::DatasetsArgs),
}

/// Carries out the subcommand.
pub(crate) fn run(args: &NodeCommandArgs, output: &mut Output) -> Outcome {
    match &args.command {
        NodeCommand::Health(args) => health::run(args, output),
        NodeCommand::Mode(args) => mode::run(args, output),
        NodeCommand::Log(args) => log::run(args, output),
        NodeCommand::Timeouts(args) => timeouts::run(args, output),
        NodeCommand::Reload(args) => reload::run(args, output),
        NodeCommand::Breakers(args) => breakers::run(args, output),
        NodeCommand::Remedies(args) => remedies::run(args, output),
        NodeCommand::Checkpoint(args) => checkpoint::run(args, output),
        NodeCommand::Scrub(args) => scrub::run(args, output),
        NodeCommand::Backup(args) => backup::run(args, output),
        NodeCommand::Backups(args) => backup::list(args, output),
        NodeCommand::Datasets(args) => datasets::run(args, output),
    }
}

/// What the node answers to `call`.
fn ask<T: DeserializeOwned>(node: &NodeArgs, call: &Call<'_>) -> Outcome<T> {
    Client::new(&node.url)?.send(call)?.json()
}
