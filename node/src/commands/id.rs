//! `esker id`: who a database is, and another key for it.

use crate::args::DatabaseArgs;
use crate::database;
use crate::error::Outcome;
use crate::output::Output;
use base::error::FileKind;
use base::fs::{Fs, OsFs};
use base::{Error, FileName, OsRng, RelPath};
use replication::engine_store::EngineStore;
use replication::link::Bell;
use replication::replica::new_secret;
use serde::Serialize;
use std::io;
use std::path::Path;

/// The command line of `esker id`.
#[derive(clap::Args, Debug)]
#[command(after_help = "\
Reads one file and takes no lock, so it also works while the database is in use.

With --rotate the node gets another key and keeps its name. The node must not run. Peers take the new key
when they meet it, or hear of it from others, and the old one never again; a backup of before has the old
one, so make another backup.

Example:
  esker id --path data --output json
  esker id --path data --rotate")]
pub(crate) struct IdArgs {
    #[command(flatten)]
    database: DatabaseArgs,
    /// Exchanges the key of the node
    #[arg(long)]
    rotate: bool,
}

/// Who a database is, as programs read it.
#[derive(Serialize)]
pub(super) struct IdentityLine {
    pub(super) node: String,
    pub(super) incarnation: String,
    fingerprint: String,
}

impl IdentityLine {
    /// Who the database at `path` is.
    pub(super) fn read(path: &Path) -> Outcome<IdentityLine> {
        let fs = OsFs::new(path);
        let identity = recovery::read_identity(&fs).map_err(|error| explain(&fs, error))?;
        Ok(IdentityLine {
            node: identity.node.to_string(),
            incarnation: identity.incarnation.to_string(),
            fingerprint: recovery::public_key_fingerprint(&identity),
        })
    }
}

/// Prints who it is.
pub(crate) fn run(args: &IdArgs, output: &mut Output) -> Outcome {
    if args.rotate {
        rotate(&args.database)?;
    }
    let line = IdentityLine::read(&args.database.path)?;
    let IdentityLine { node, incarnation, fingerprint } = &line;
    output.result(
        format_args!("node {node}\nincarnation {incarnation}\nfingerprint {fingerprint}"),
        &line,
    )
}

/// Exchanges the key.
fn rotate(args: &DatabaseArgs) -> Outcome {
    let db = database::open(args)?;
    let store = EngineStore::new(db.clone(), &Bell::default());
    let secret = new_secret(&store, &db.identity(), &OsRng)?;
    db.replication().replace_secret(secret)?;
    Ok(db.close()?)
}

/// Tells a database that lost its identity from a directory that never was one.
fn explain(fs: &OsFs, error: Error) -> Error {
    let not_a_database = |found| Error::NotADatabase { path: fs.root().to_path_buf(), found };
    let entries = match fs.list(&RelPath::root()) {
        Ok(entries) => entries,
        Err(listing) => {
            return match listing.kind() {
                io::ErrorKind::NotFound => not_a_database("there is no such directory"),
                io::ErrorKind::NotADirectory => not_a_database("it is not a directory"),
                _ => error,
            };
        }
    };
    let roots = [FileName::Current.path(), FileName::CurrentCopy.path()];
    let has_root = entries.iter().any(|entry| roots.iter().any(|root| root.as_str() == entry.name));
    match error {
        Error::Missing { file: FileKind::Identity, .. } if !has_root => {
            not_a_database("it has no IDENTITY")
        }
        error => error,
    }
}
