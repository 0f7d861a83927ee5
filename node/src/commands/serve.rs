//! `esker serve`: runs a node until it is told to stop.

use crate::args::Durability;
use crate::error::Outcome;
use crate::files;
use crate::output::Output;
use crate::place::Directory;
use crate::replicas::{self, Role};
use crate::serve::{self, Ready, Settings, SettingsFile};
use engine::Create;
use std::path::PathBuf;

/// Bytes of a settings file at most.
const SETTINGS_LEN_MAX: usize = 1 << 20;

/// The command line of `esker serve`.
#[derive(clap::Args, Debug)]
#[command(after_help = "\
Prints one line once it serves: ready node=ID listen=ADDR http=ADDR. SIGTERM and SIGINT end it: requests
may finish for 30 seconds, or until a second signal. The database is created if it is missing. HTTP
is without encryption and passwords, so it listens on this machine only. A file has the same names:
path, listen, http, peers, join, role, end_with_input.

Examples:
  esker serve --path data
  esker serve --path data --listen 127.0.0.1:7400 --http 127.0.0.1:8080
  esker serve --config node.toml")]
pub(crate) struct ServeArgs {
    /// A file with settings instead of the options below
    #[arg(
        long,
        value_name = "FILE",
        conflicts_with_all = ["path", "listen", "http", "peers", "join", "role", "end_with_input"]
    )]
    config: Option<PathBuf>,
    /// The database directory
    #[arg(long, value_name = "DIR", required_unless_present = "config")]
    path: Option<PathBuf>,
    /// Where peers connect; port 0 takes any [default: 127.0.0.1:0]
    #[arg(long, value_name = "ADDR")]
    listen: Option<String>,
    /// Where users connect, on this machine; port 0 takes any [default: 127.0.0.1:8080]
    #[arg(long, value_name = "ADDR")]
    http: Option<String>,
    /// A peer of the first roster, given on every side; may be repeated
    #[arg(long = "peer", value_name = "ID@ADDR")]
    peers: Vec<String>,
    /// The invitation of a node to join
    #[arg(long, value_name = "TOKEN@ADDR")]
    join: Option<String>,
    /// What the node is to its peers [default: writer]
    #[arg(long, value_enum, value_name = "ROLE")]
    role: Option<Role>,
    /// Stops at the end of standard input too, so that it does not outlive who started it
    #[arg(long)]
    end_with_input: bool,
}

/// Serves until a signal.
pub(crate) fn run(args: &ServeArgs, output: &mut Output) -> Outcome {
    let settings = settings(args)?;
    let directory = Directory::open(&settings.path, Create::IfMissing, Durability::Sync)?;
    let replicas = replicas::start(directory.db(), &settings)?;
    serve::serve(directory, replicas, &settings, |ready| {
        let Ready { node, listen, http } = ready;
        output.result(format_args!("ready node={node} listen={listen} http={http}"), ready)?;
        output.flush()
    })
}

/// What the command line or the file asks for.
fn settings(args: &ServeArgs) -> Outcome<Settings> {
    let file = match &args.config {
        Some(path) => {
            let text = files::read_text(path, SETTINGS_LEN_MAX)?;
            let file = SettingsFile::parse(&text, path)?;
            return Settings::of(file).map_err(|failure| failure.at(path));
        }
        None => SettingsFile {
            path: args.path.clone(),
            listen: args.listen.clone(),
            http: args.http.clone(),
            peers: args.peers.clone(),
            join: args.join.clone(),
            role: args.role.unwrap_or_default(),
            end_with_input: args.end_with_input,
            ..SettingsFile::default()
        },
    };
    Settings::of(file)
}
