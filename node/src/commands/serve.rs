//! `esker serve`: runs a node until it is told to stop.

use crate::commands::config::FILE_LEN_MAX;
use crate::config::{self, Config, Layers};
use crate::error::Outcome;
use crate::files;
use crate::logs;
use crate::output::Output;
use crate::place::Directory;
use crate::process::memory_limit;
use crate::replicas::{self, Role};
use crate::serve::{self, Opened, Opening, Ready, Settings};
use clap::ValueEnum;
use engine::KeyspaceOptions;
use replication::JsonMerge;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// The command line of `esker serve`.
#[derive(clap::Args, Clone, Debug)]
#[command(after_help = "\
Answers /health while it opens the database, and prints one line once it serves: ready node=ID listen=ADDR
http=ADDR. SIGTERM and SIGINT end it: requests may finish for 30 seconds, or until a second signal. The
database is created if it is missing. HTTP is without encryption, and listens beyond this
machine only if the configuration has tokens. `esker config init` prints a file with every setting; the environment is over the file, and
the options here over both. SIGHUP lets the node read them again.

Examples:
  esker serve --path data
  esker serve --path data --listen 127.0.0.1:7400 --http 127.0.0.1:8080
  esker serve --path data --dataset orders=orders
  esker serve --config node.toml")]
pub(crate) struct ServeArgs {
    /// A file with settings; the options below are over it
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// The database directory
    #[arg(long, value_name = "DIR")]
    path: Option<PathBuf>,
    /// Where peers connect; port 0 takes any [default: 127.0.0.1:0]
    #[arg(long, value_name = "ADDR")]
    listen: Option<String>,
    /// Where users connect; port 0 takes any [default: 127.0.0.1:8080]
    #[arg(long, value_name = "ADDR")]
    http: Option<String>,
    /// A peer of the first roster, given on every side; may be repeated
    #[arg(long = "peer", value_name = "ID@ADDR")]
    peers: Vec<String>,
    /// The invitation of a node to join
    #[arg(long, value_name = "TOKEN@ADDR")]
    join: Option<String>,
    /// A keyspace that never leaves this node; may be repeated
    #[arg(long = "local", value_name = "K")]
    local_keyspaces: Vec<String>,
    /// Merges JSON objects that several nodes wrote without having seen each other; may be repeated
    #[arg(long = "resolve", value_name = "K=json")]
    resolvers: Vec<String>,
    /// What the node is to its peers [default: writer]
    #[arg(long, value_enum, value_name = "ROLE")]
    role: Option<Role>,
    /// A further database, served at /v1/datasets/NAME; may be repeated
    #[arg(long = "dataset", value_name = "NAME=DIR")]
    datasets: Vec<String>,
    /// Looks for members that have moved on the local network
    #[arg(long)]
    discover: bool,
    /// Stops at the end of standard input too, so that it does not outlive who started it
    #[arg(long)]
    end_with_input: bool,
}

/// Serves until a signal.
pub(crate) fn run(args: &ServeArgs, output: &mut Output) -> Outcome {
    let settings = Settings::of(gather(args)?)?;
    let logs = logs::start(&settings.config)?;
    if let Some(bytes) = memory_limit() {
        let notes = config::notes(&settings.config, bytes);
        notes.iter().for_each(|note| tracing::warn!("{note}"));
    }
    let again = args.clone();
    let reread = Arc::new(move || gather(&again));
    let served = serve::serve(&settings, reread, open, |ready| {
        let Ready { node, listen, http, .. } = ready;
        output.result(format_args!("ready node={node} listen={listen} http={http}"), ready)?;
        output.flush()
    });
    // What was logged is written before the process ends.
    drop(logs);
    served
}

/// Opens the database that `settings` name, and begins to talk with its peers.
fn open(settings: &Settings, opening: &Opening) -> Outcome<Opened> {
    // A node that was open before stays where its peers know it, and has joined.
    let again = opening.before().map(|listen| Settings { listen, join: None, ..settings.clone() });
    let settings = again.as_ref().unwrap_or(settings);
    let options = settings.config.engine_options();
    let directory = Directory::open_with(&settings.path, options, opening.progress())?;
    for name in settings.config.list("local_keyspaces") {
        let scope = engine::Scope::Local;
        directory.db().keyspace(name, KeyspaceOptions { scope, ..KeyspaceOptions::default() })?;
    }
    opening.recovered();
    let replicas = replicas::start(directory.db(), settings)?;
    // Whether this node may write is known by now.
    for words in settings.config.list("resolvers") {
        if let Some(name) = config::resolved_by_json(words) {
            directory.db().set_resolver(name, JsonMerge)?;
        }
    }
    Ok(Opened { directory, replicas })
}

/// What the file, the environment and the command line ask for.
fn gather(args: &ServeArgs) -> Outcome<Config> {
    let mut layers = Layers::default();
    if let Some(path) = &args.config {
        layers.read_file(&files::read_text(path, FILE_LEN_MAX)?, path);
    }
    layers.read_environment(config::environment());
    let path = args.path.as_deref().map(Path::to_string_lossy);
    let role = args.role.and_then(|role| Some(role.to_possible_value()?.get_name().to_owned()));
    let peers = (!args.peers.is_empty()).then(|| args.peers.join(","));
    let local = (!args.local_keyspaces.is_empty()).then(|| args.local_keyspaces.join(","));
    let resolvers = (!args.resolvers.is_empty()).then(|| args.resolvers.join(","));
    let end_with_input = args.end_with_input.then_some("true");
    let discover = args.discover.then_some("true");
    let options = [
        ("path", "--path", path.as_deref()),
        ("listen", "--listen", args.listen.as_deref()),
        ("http", "--http", args.http.as_deref()),
        ("peers", "--peer", peers.as_deref()),
        ("join", "--join", args.join.as_deref()),
        ("role", "--role", role.as_deref()),
        ("local_keyspaces", "--local", local.as_deref()),
        ("resolvers", "--resolve", resolvers.as_deref()),
        ("replication.discovery.enabled", "--discover", discover),
        ("end_with_input", "--end-with-input", end_with_input),
    ];
    for (key, option, words) in options {
        if let Some(words) = words {
            layers.option(key, option, words);
        }
    }
    args.datasets.iter().for_each(|words| layers.dataset("--dataset", words));
    layers.settle().map_err(|mistakes| config::refuse(&mistakes))
}
