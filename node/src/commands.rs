//! The commands, one file each.

pub(crate) mod backup;
pub(crate) mod bench;
pub(crate) mod check;
pub(crate) mod compact;
pub(crate) mod config;
pub(crate) mod delete;
pub(crate) mod demo;
pub(crate) mod digest;
pub(crate) mod dump;
pub(crate) mod export;
pub(crate) mod flush;
pub(crate) mod get;
pub(crate) mod id;
pub(crate) mod init;
pub(crate) mod keyspaces;
pub(crate) mod load;
pub(crate) mod node;
pub(crate) mod peers;
pub(crate) mod put;
pub(crate) mod repair;
pub(crate) mod restore;
pub(crate) mod scan;
pub(crate) mod serve;
pub(crate) mod stats;
pub(crate) mod status;

use crate::args::Command;
use crate::error::Outcome;
use crate::output::Output;

/// Carries out `command`.
pub(crate) fn run(command: Command, output: &mut Output) -> Outcome {
    match command {
        Command::Init(args) => init::run(&args, output),
        Command::Demo(args) => demo::run(&args, output),
        Command::Load(args) => load::run(&args, output),
        Command::Put(args) => put::run(&args, output),
        Command::Get(args) => get::run(&args, output),
        Command::Delete(args) => delete::run(&args, output),
        Command::Scan(args) => scan::run(&args, output),
        Command::Export(args) => export::run(&args, output),
        Command::Digest(args) => digest::run(&args, output),
        Command::Keyspaces(args) => keyspaces::run(&args, output),
        Command::Stats(args) => stats::run(&args, output),
        Command::Backup(args) => backup::run(&args, output),
        Command::Restore(args) => restore::run(&args, output),
        Command::Check(args) => check::run(&args, output),
        Command::Repair(args) => repair::run(&args, output),
        Command::Compact(args) => compact::run(&args, output),
        Command::Flush(args) => flush::run(&args, output),
        Command::Config(args) => config::run(&args, output),
        Command::Bench(args) => bench::run(&args, output),
        Command::Dump(args) => dump::run(&args, output),
        Command::Id(args) => id::run(&args, output),
        Command::Serve(args) => serve::run(&args, output),
        Command::Status(args) => status::run(&args, output),
        Command::Peers(args) => peers::run(&args, output),
        Command::Node(args) => node::run(&args, output),
    }
}
