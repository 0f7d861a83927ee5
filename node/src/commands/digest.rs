//! `esker digest`: one number for the content.

use crate::args::DatabaseArgs;
use crate::database;
use crate::digest::ContentDigest;
use crate::error::Outcome;
use crate::output::Output;
use crate::progress::Progress;
use serde::Serialize;

/// The command line of `esker digest`.
#[derive(clap::Args, Debug)]
#[command(after_help = "\
Blake3 over every live record: keyspaces in the order of their names, keys in order within each; of
each record the keyspace's name, the key and the value, each preceded by its length in 8 bytes,
little-endian. Without --keyspace all keyspaces count; an empty one adds nothing.

Example:
  test \"$(esker digest --path a)\" = \"$(esker digest --path b)\"")]
pub(crate) struct DigestArgs {
    #[command(flatten)]
    database: DatabaseArgs,
    /// Only this keyspace
    #[arg(long, value_name = "K")]
    keyspace: Option<String>,
}

#[derive(Serialize)]
struct Digest {
    digest: String,
    records: u64,
    bytes: u64,
}

/// Prints the digest as of one moment.
pub(crate) fn run(args: &DigestArgs, output: &mut Output) -> Outcome {
    let db = database::open(&args.database)?;
    let keyspaces = match &args.keyspace {
        Some(name) => database::keyspace_to_read(&db, name)?.into_iter().collect(),
        None => db.keyspaces(),
    };
    let progress = Progress::new(output, "records", 0);
    let snapshot = db.snapshot();
    let mut digest = ContentDigest::default();
    for keyspace in &keyspaces {
        database::for_each(&snapshot, keyspace, |key, value| {
            digest.add(keyspace.name(), key, value);
            progress.add(1);
            Ok(())
        })?;
    }
    drop((progress, snapshot));
    db.close()?;
    let (records, bytes) = (digest.records(), digest.bytes());
    let digest = Digest { digest: digest.to_hex(), records, bytes };
    output.result(&digest.digest, &digest)
}
