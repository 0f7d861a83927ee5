//! `esker init`: creates an empty database and its identity.

use super::id::IdentityLine;
use crate::args::{DatabaseArgs, Durability};
use crate::database;
use crate::error::Outcome;
use crate::output::Output;
use engine::Create;

/// The command line of `esker init`.
#[derive(clap::Args, Debug)]
#[command(after_help = "Example:
  esker init --path data")]
pub(crate) struct InitArgs {
    #[command(flatten)]
    database: DatabaseArgs,
}

/// Creates the database.
pub(crate) fn run(args: &InitArgs, output: &mut Output) -> Outcome {
    let path = &args.database.path;
    database::open_with(path, Create::New, Durability::Sync)?.close()?;
    let identity = IdentityLine::read(path)?;
    let text = format_args!("created {}, node {}", path.display(), identity.node);
    output.remark(text, &identity)
}
