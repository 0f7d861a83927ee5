//! `esker keyspaces`: what keyspaces there are, and how much is in each.

use crate::args::DatabaseArgs;
use crate::database;
use crate::error::Outcome;
use crate::output::Output;
use serde::Serialize;

/// The command line of `esker keyspaces`.
#[derive(clap::Args, Debug)]
#[command(after_help = "\
A line a keyspace: name TAB records TAB bytes of keys and values. Counts are exact: it walks them.

Example:
  esker keyspaces --path data")]
pub(crate) struct KeyspacesArgs {
    #[command(flatten)]
    database: DatabaseArgs,
}

#[derive(Serialize)]
struct KeyspaceLine<'a> {
    keyspace: &'a str,
    records: u64,
    bytes: u64,
}

/// Lists the keyspaces by name.
pub(crate) fn run(args: &KeyspacesArgs, output: &mut Output) -> Outcome {
    let db = database::open(&args.database)?;
    let snapshot = db.snapshot();
    for keyspace in &db.keyspaces() {
        let (mut records, mut bytes) = (0, 0);
        database::for_each(&snapshot, keyspace, |key, value| {
            records += 1;
            bytes += key.len() as u64 + value.len() as u64;
            Ok(())
        })?;
        let line = KeyspaceLine { keyspace: keyspace.name(), records, bytes };
        output.result(format_args!("{}\t{records}\t{bytes}", keyspace.name()), &line)?;
    }
    drop(snapshot);
    Ok(db.close()?)
}
