//! `esker restore`: a database as it was.

use super::backup::{self, RestoredLine};
use crate::args::DatabaseArgs;
use crate::error::{Failure, Outcome};
use crate::output::Output;
use crate::progress::watch;
use base::Moment;
use engine::RestorePoint;
use std::path::PathBuf;

/// The command line of `esker restore`.
#[derive(clap::Args, Debug)]
#[command(after_help = "\
Without --at, the newest moment that the backups cover. With it, exactly the commits up to the end of that
millisecond; a moment that is not covered is refused, and the message says which are. Everything is
verified before anything is made. The new database is the same node in another incarnation.

Examples:
  esker restore --from backups --path data
  esker restore --from backups --path data --at 2026-03-01T12:30:00Z")]
pub(crate) struct RestoreArgs {
    /// The directory of backups
    #[arg(long, value_name = "DIR")]
    from: PathBuf,
    #[command(flatten)]
    database: DatabaseArgs,
    /// RFC 3339, or milliseconds since 1970
    #[arg(long, value_name = "TIMESTAMP")]
    at: Option<String>,
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
    let restored =
        watch(output, "restoring", &progress, || backups.restore(path, point, &progress))?;
    let line = RestoredLine::of(&restored);
    output.remark(&line, &line)
}
