//! `esker digest`: one number for the content.

use crate::args::PlaceArgs;
use crate::error::Outcome;
use crate::output::Output;
use crate::place;
use crate::progress::Progress;
use engine::Create;

/// The command line of `esker digest`.
#[derive(clap::Args, Debug)]
#[command(after_help = "\
Blake3 over every live record: keyspaces in the order of their names, keys in order within each; of
each record the keyspace's name, the key and the value, each preceded by its length in 8 bytes,
little-endian. Without --keyspace all keyspaces count; an empty one adds nothing.

Example:
  test \"$(esker digest --path a)\" = \"$(esker digest --url http://127.0.0.1:8080)\"")]
pub(crate) struct DigestArgs {
    #[command(flatten)]
    place: PlaceArgs,
    /// Only this keyspace
    #[arg(long, value_name = "K")]
    keyspace: Option<String>,
}

/// Prints the digest as of one moment.
pub(crate) fn run(args: &DigestArgs, output: &mut Output) -> Outcome {
    let place = place::open(&args.place, Create::Never)?;
    let progress = Progress::new(output, "records", 0);
    let digest = place.digest(args.keyspace.as_deref(), &mut || {
        progress.add(1);
        Ok(())
    })?;
    drop(progress);
    place.close()?;
    output.result(&digest.digest, &digest)
}
