//! `esker restore`: a database as it was.

use super::backup::{self, NewWritesLine, RestoredLine};
use crate::args::DatabaseArgs;
use crate::error::{Failure, Outcome};
use crate::output::Output;
use crate::progress::watch;
use base::Moment;
use engine::replicate::Replication;
use engine::{Error, RestorePoint};
use replication::engine_store::recorded_role;
use replication::roster::Role;
use std::path::PathBuf;

/// The command line of `esker restore`.
#[derive(clap::Args, Debug)]
#[command(after_help = "\
Without --at, the newest moment that the backups cover. With it, exactly the commits up to the end of that
millisecond; a moment that is not covered is refused, and the message says which are. Everything is
verified before anything is made. The new database is the same node in another incarnation.

A node with peers gets from them what came after the backup. With --as-new-writes they go back in time with
it: every keyspace that replicates is written anew with the time of now. Once the node has met them, all have
what the backup has and nothing else; but what they write later than that stays, and by a clock that is ahead
all is later. Keyspaces that are not in the backup stay as they are, and so do local ones on the peers. While
it works, the database stands in the directory with .anew behind its name.

Examples:
  esker restore --from backups --path data
  esker restore --from backups --path data --at 2026-03-01T12:30:00Z
  esker restore --from backups --path data --as-new-writes")]
pub(crate) struct RestoreArgs {
    /// The directory of backups
    #[arg(long, value_name = "DIR")]
    from: PathBuf,
    #[command(flatten)]
    database: DatabaseArgs,
    /// RFC 3339, or milliseconds since 1970
    #[arg(long, value_name = "TIMESTAMP")]
    at: Option<String>,
    /// Lets what is restored win over what the peers of the node hold
    #[arg(long)]
    as_new_writes: bool,
}

/// Restores.
pub(crate) fn run(args: &RestoreArgs, output: &mut Output) -> Outcome {
    let point = match &args.at {
        None => RestorePoint::Newest,
        Some(at) => {
            let moment: Result<Moment, _> = at.parse();
            let refuse = |error| Failure::input(format!("--at makes no sense: {error}"));
            RestorePoint::Moment(moment.map_err(refuse)?.ms)
        }
    };
    let backups = backup::open(&args.from)?;
    let progress = engine::Progress::default();
    let path = &args.database.path;
    if args.as_new_writes {
        let (restored, written) = watch(output, "restoring", &progress, || {
            backups.restore_as_new_writes(path, point, &progress, refuse_reader)
        })?;
        let line = RestoredLine::of(&restored).with(NewWritesLine::of(&written));
        return output.remark(&line, &line);
    }
    let restored =
        watch(output, "restoring", &progress, || backups.restore(path, point, &progress))?;
    let line = RestoredLine::of(&restored);
    output.remark(&line, &line)
}

/// Refuses to write in the name of a node whose peers take no writes of it.
fn refuse_reader(replication: &Replication) -> engine::Result<()> {
    let role = recorded_role(replication)?;
    if matches!(role, None | Some(Role::Author)) {
        return Ok(());
    }
    let what = "this node only read at that moment, so its peers take no writes of it; restore the backup of \
                a node that writes, or restore without new writes";
    Err(Error::InvalidInput { message: what.to_owned() })
}
