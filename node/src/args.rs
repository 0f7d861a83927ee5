//! The command line: what is accepted, with an example for each command.

use crate::commands;
use crate::output::{Format, Verbosity};
use clap::{Args, Parser, Subcommand, ValueEnum};
use engine::SyncMode;
use std::path::PathBuf;
use std::time::Duration;

/// The keyspace of every command that names none.
pub(crate) const DEFAULT_KEYSPACE: &str = "default";

const EXAMPLES: &str = "\
Examples:
  esker demo
  esker put --path data ada 1815
  esker get --path data ada
  printf 'ada\\t1815\\n' | esker load --path data --format tsv -
  esker serve --path data
  esker get --url http://127.0.0.1:8080 ada

Exit codes: 0 ok, 1 other error, 2 usage, 3 not found, 4 already exists, 5 invalid input,
6 permission or locked, 7 I/O, 8 database, 9 conflict, 10 integrity, 11 a check of demo or bench
failed, 99 a bug.";

/// An ordered key-value database in a directory.
#[derive(Debug, Parser)]
#[command(name = "esker", version, after_help = EXAMPLES, max_term_width = 100)]
pub(crate) struct Cli {
    /// How results and errors are written
    #[arg(long, global = true, value_enum, default_value_t = Format::Text, value_name = "FORMAT")]
    pub(crate) output: Format,
    /// Writes results and errors only: no remarks, no progress
    #[arg(long, short, global = true)]
    quiet: bool,
    #[command(subcommand)]
    pub(crate) command: Command,
}

impl Cli {
    /// How much is said besides results.
    pub(crate) fn verbosity(&self) -> Verbosity {
        if self.quiet { Verbosity::Quiet } else { Verbosity::Normal }
    }
}

/// What to do.
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Creates an empty database and its identity; refuses an existing one
    Init(commands::init::InitArgs),
    /// Runs the engine and three nodes on real data in a temporary directory and checks every step
    Demo(commands::demo::DemoArgs),
    /// Loads records from a file or standard input
    Load(commands::load::LoadArgs),
    /// Sets the value of a key
    Put(commands::put::PutArgs),
    /// Prints the value of a key; exits with 3 if there is none
    Get(commands::get::GetArgs),
    /// Deletes a key, whether it exists or not
    Delete(commands::delete::DeleteArgs),
    /// Prints the records of a range in order
    Scan(commands::scan::ScanArgs),
    /// Writes records as lines that `load` reads back byte for byte
    Export(commands::export::ExportArgs),
    /// Prints the digest of the content: equal content, equal digest, on any node
    Digest(commands::digest::DigestArgs),
    /// Lists the keyspaces with their records and bytes
    Keyspaces(commands::keyspaces::KeyspacesArgs),
    /// Prints counters, levels, cache and space
    Stats(commands::stats::StatsArgs),
    /// Verifies a closed database without changing a byte; exits with 10 if anything is wrong
    Check(commands::check::CheckArgs),
    /// Rebuilds a damaged database from what still verifies, after copying all of it
    Repair(commands::repair::RepairArgs),
    /// Makes, lists, verifies and removes backups
    Backup(commands::backup::BackupArgs),
    /// Makes a database of a backup, as it was at a moment
    Restore(commands::restore::RestoreArgs),
    /// Merges tables until nothing superfluous is left
    Compact(commands::compact::CompactArgs),
    /// Writes everything in memory to tables
    Flush(commands::flush::FlushArgs),
    /// Measures the database with workloads like those of db_bench
    Bench(commands::bench::BenchArgs),
    /// Prints one file of a database, even a damaged one, and where and why it stops
    Dump(commands::dump::DumpArgs),
    /// Prints node id, incarnation and public key fingerprint
    Id(commands::id::IdArgs),
    /// Checks, shows or begins the configuration of a node
    Config(commands::config::ConfigArgs),
    /// Runs a node: the database over HTTP, until SIGTERM
    Serve(commands::serve::ServeArgs),
    /// Prints how a running node and its peers are
    Status(commands::status::StatusArgs),
    /// Lists and changes the peers of a running node
    Peers(commands::peers::PeersArgs),
    /// Asks and changes what else operators do on a running node: health, mode, log, backups, ..
    Node(commands::node::NodeCommandArgs),
}

impl Command {
    /// Its name on the command line.
    pub(crate) fn name(&self) -> &'static str {
        match self {
            Command::Init(_) => "init",
            Command::Demo(_) => "demo",
            Command::Load(_) => "load",
            Command::Put(_) => "put",
            Command::Get(_) => "get",
            Command::Delete(_) => "delete",
            Command::Scan(_) => "scan",
            Command::Export(_) => "export",
            Command::Digest(_) => "digest",
            Command::Keyspaces(_) => "keyspaces",
            Command::Stats(_) => "stats",
            Command::Check(_) => "check",
            Command::Repair(_) => "repair",
            Command::Backup(_) => "backup",
            Command::Restore(_) => "restore",
            Command::Compact(_) => "compact",
            Command::Flush(_) => "flush",
            Command::Bench(_) => "bench",
            Command::Dump(_) => "dump",
            Command::Id(_) => "id",
            Command::Config(_) => "config",
            Command::Serve(_) => "serve",
            Command::Status(_) => "status",
            Command::Peers(_) => "peers",
            Command::Node(_) => "node",
        }
    }
}

/// The database of a command.
#[derive(Args, Debug)]
pub(crate) struct DatabaseArgs {
    /// The database directory
    #[arg(long, value_name = "DIR")]
    pub(crate) path: PathBuf,
}

/// The database of a command that also talks to a running node.
#[derive(Args, Debug)]
pub(crate) struct PlaceArgs {
    /// The database directory
    #[arg(long, value_name = "DIR", required_unless_present = "url", conflicts_with = "url")]
    pub(crate) path: Option<PathBuf>,
    /// A running node instead of a directory, such as http://127.0.0.1:8080
    #[arg(long, value_name = "URL")]
    pub(crate) url: Option<String>,
}

/// A running node.
#[derive(Args, Debug)]
pub(crate) struct NodeArgs {
    /// The node, such as http://127.0.0.1:8080
    #[arg(long, value_name = "URL")]
    pub(crate) url: String,
}

/// The database and keyspace of a command.
#[derive(Args, Debug)]
pub(crate) struct KeyspaceArgs {
    #[command(flatten)]
    pub(crate) database: PlaceArgs,
    /// The keyspace
    #[arg(long, value_name = "K", default_value = DEFAULT_KEYSPACE)]
    pub(crate) keyspace: String,
}

/// When a commit is acknowledged.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Durability {
    /// When it is synced to the disk
    Sync,
    /// When the process could die; synced every 100 ms
    Periodic,
    /// When the process could die; synced about once a second
    Async,
}

impl Durability {
    /// All of them.
    pub(crate) const ALL: [Durability; 3] =
        [Durability::Sync, Durability::Periodic, Durability::Async];

    /// The engine's word for it.
    pub(crate) fn mode(self) -> SyncMode {
        match self {
            Durability::Sync => SyncMode::Sync,
            Durability::Periodic => SyncMode::Periodic(Duration::from_millis(100)),
            Durability::Async => SyncMode::Async,
        }
    }

    /// Its name on the command line.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Durability::Sync => "sync",
            Durability::Periodic => "periodic",
            Durability::Async => "async",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;

    #[test]
    fn the_command_line_is_consistent() {
        Cli::command().debug_assert();
    }

    #[test]
    fn every_command_has_an_example() {
        check_examples(&Cli::command(), "esker");
    }

    fn check_examples(command: &clap::Command, path: &str) {
        for command in command.get_subcommands() {
            let path = format!("{path} {}", command.get_name());
            let help = command.get_after_help().map(ToString::to_string).unwrap_or_default();
            assert!(help.contains(&path), "{path} has no example");
            check_examples(command, &path);
        }
    }
}
