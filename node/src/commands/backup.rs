//! `esker backup`: copies of a database, and the log between them.

mod lines;

use crate::args::DatabaseArgs;
use crate::commands::check::print_finding;
use crate::database;
use crate::error::{Exit, Failure, Outcome};
use crate::output::{Output, human_bytes};
use crate::progress::watch;
use clap::Subcommand;
use engine::{BackupKind, BackupOptions, Backups, Error};
use lines::{BackupLine, PrunedLine, VerifiedLine};
pub(super) use lines::{NewWritesLine, RestoredLine};
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// The command line of `esker backup`.
#[derive(clap::Args, Debug)]
#[command(after_help = "\
A backup is a verified copy of all tables. The log since the backup before comes with it, so that every
moment in between can be restored; see `esker restore`. Back up to one directory only.

Examples:
  esker backup create --path data --to backups
  esker backup create --path data --to backups --incremental
  esker backup list --from backups
  esker backup verify --from backups
  esker backup prune --from backups --keep 10")]
pub(crate) struct BackupArgs {
    #[command(subcommand)]
    command: BackupCommand,
}

#[derive(Debug, Subcommand)]
enum BackupCommand {
    /// Makes a backup
    #[command(after_help = "Example:\n  esker backup create --path data --to backups")]
    Create(CreateArgs),
    /// Lists the backups, and from when until when each leads
    #[command(after_help = "Example:\n  esker backup list --from backups")]
    List(StoreArgs),
    /// Reads everything that the backups need; exits with 10 if anything is damaged or missing
    #[command(after_help = "Example:\n  esker backup verify --from backups")]
    Verify(StoreArgs),
    /// Removes all backups but the newest, and what only they need
    #[command(after_help = "Example:\n  esker backup prune --from backups --keep 10")]
    Prune(PruneArgs),
}

#[derive(clap::Args, Debug)]
struct CreateArgs {
    #[command(flatten)]
    database: DatabaseArgs,
    /// The directory of backups; created if it is missing
    #[arg(long, value_name = "DIR")]
    to: PathBuf,
    /// Shares the tables that earlier backups have copied
    #[arg(long)]
    incremental: bool,
    /// Bytes to copy in a second at the most
    #[arg(long, value_name = "BYTES", default_value_t = BackupOptions::default().bytes_per_second,
          value_parser = clap::value_parser!(u64).range(1..))]
    bytes_per_second: u64,
}

#[derive(clap::Args, Debug)]
struct StoreArgs {
    /// The directory of backups
    #[arg(long, alias = "to", value_name = "DIR")]
    from: PathBuf,
}

#[derive(clap::Args, Debug)]
struct PruneArgs {
    #[command(flatten)]
    store: StoreArgs,
    /// How many backups to keep
    #[arg(long, value_name = "N", default_value_t = 10)]
    keep: usize,
}

/// Carries out the command behind `backup`.
pub(crate) fn run(args: &BackupArgs, output: &mut Output) -> Outcome {
    match &args.command {
        BackupCommand::Create(args) => create(args, output),
        BackupCommand::List(args) => list(args, output),
        BackupCommand::Verify(args) => verify(args, output),
        BackupCommand::Prune(args) => prune(args, output),
    }
}

/// The backups in the directory `path`.
pub(crate) fn open(path: &Path) -> Outcome<Backups> {
    Backups::open(path).map_err(|error| match error {
        Error::Missing { .. } => {
            Failure::new(Exit::NotFound, "NoBackups", "there is no such directory of backups")
                .at(path)
        }
        error => error.into(),
    })
}

fn create(args: &CreateArgs, output: &mut Output) -> Outcome {
    let db = database::open(&args.database)?;
    let kind = if args.incremental { BackupKind::Incremental } else { BackupKind::Full };
    let bytes_per_second = args.bytes_per_second;
    let options = BackupOptions { kind, bytes_per_second, ..BackupOptions::default() };
    let progress = Arc::clone(&options.progress);
    let info = watch(output, "backing up", &progress, || db.backup(&args.to, &options));
    let closed = db.close();
    let line = BackupLine::of(&info?);
    closed?;
    let text = format_args!(
        "backup {} ({}): {} in {} tables, {} copied, covers everything until {}",
        line.number,
        line.kind,
        human_bytes(line.table_bytes),
        line.tables,
        human_bytes(line.copied_bytes),
        line.covered
    );
    output.remark(text, &line)
}

fn list(args: &StoreArgs, output: &mut Output) -> Outcome {
    let listing = open(&args.from)?.list()?;
    for info in &listing.backups {
        let line = BackupLine::of(info);
        output.result(&line, &line)?;
    }
    for (_, error) in listing.damaged {
        output.warn(&error.into());
    }
    Ok(())
}

fn verify(args: &StoreArgs, output: &mut Output) -> Outcome {
    let backups = open(&args.from)?;
    let progress = engine::Progress::default();
    let verified = watch(output, "verifying", &progress, || backups.verify(&progress))?;
    for finding in &verified.findings {
        print_finding(finding, output)?;
    }
    let line = VerifiedLine::of(&verified);
    output.remark(&line, &line)?;
    match verified.findings.len() {
        0 => Ok(()),
        found => {
            let message = format!("the backups have {found} findings");
            let failure = Failure::new(Exit::Integrity, "BackupCorrupt", message);
            Err(failure.at(&args.from).action("make a new full backup; older ones may be whole"))
        }
    }
}

fn prune(args: &PruneArgs, output: &mut Output) -> Outcome {
    let line = PrunedLine::of(open(&args.store.from)?.prune(args.keep)?);
    output.remark(&line, &line)
}
