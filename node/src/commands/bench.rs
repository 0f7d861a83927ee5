//! `esker bench`: workloads like those of db_bench, measured and checked.

mod keys;
mod workload;

use self::workload::{Measured, Setup, Workload};
use crate::args::{DatabaseArgs, Durability};
use crate::database;
use crate::error::{Exit, Failure, Outcome};
use crate::files;
use crate::output::{Output, human_bytes};
use crate::process::Usage;
use base::SystemClock;
use base::limits::VALUE_LEN_MAX;
use clap::builder::{RangedU64ValueParser, TypedValueParser};
use engine::{Create, Stats};
use serde::Serialize;

/// The keyspace that workloads use; nothing else of the database is touched.
const KEYSPACE: &str = "bench";

/// The command line of `esker bench`.
#[derive(clap::Args, Debug)]
#[command(after_help = "\
fillseq and fillrandom write every key once, in order or not; overwrite writes random keys again;
readrandom gets random keys, readmissing keys that are not there; readseq walks everything;
seekrandom seeks to random keys and reads ten entries; deleterandom deletes every key once. Keys have
16 bytes. Values are checked as they are read. Latencies are in microseconds.

Examples:
  esker bench --path bench-data
  esker bench --path bench-data --workload fillrandom,readrandom --keys 1000000 --sync async")]
pub(crate) struct BenchArgs {
    #[command(flatten)]
    database: DatabaseArgs,
    /// What to run, one after the other
    #[arg(
        long,
        value_enum,
        value_delimiter = ',',
        value_name = "W,..",
        default_value = "fillrandom,readrandom,readmissing,readseq,seekrandom,overwrite"
    )]
    workload: Vec<Workload>,
    /// How many keys
    #[arg(long, value_name = "N", default_value_t = 100_000,
          value_parser = clap::value_parser!(u64).range(1..=1_000_000_000))]
    keys: u64,
    /// Bytes of a value
    #[arg(long, value_name = "B", default_value_t = 100,
          value_parser = RangedU64ValueParser::<u64>::new().range(0..=VALUE_LEN_MAX as u64)
              .map(|len| len as usize))]
    value_size: usize,
    /// Threads that work at the same time
    #[arg(long, value_name = "T", default_value_t = 1,
          value_parser = clap::value_parser!(u64).range(1..=256))]
    threads: u64,
    /// When a commit is acknowledged
    #[arg(long, value_enum, value_name = "MODE", default_value = "sync")]
    sync: Durability,
}

/// One workload's result.
#[derive(Serialize)]
struct Line {
    workload: &'static str,
    keys: u64,
    value_size: usize,
    threads: u64,
    sync: &'static str,
    ops: u64,
    seconds: f64,
    ops_per_second: f64,
    p50_us: f64,
    p99_us: f64,
    p999_us: f64,
    found: u64,
    failed_checks: u64,
    bytes_written: u64,
    disk_bytes: u64,
    rss_bytes: Option<u64>,
}

/// Runs the workloads in the order given.
pub(crate) fn run(args: &BenchArgs, output: &mut Output) -> Outcome {
    let db = database::open_with(&args.database.path, Create::IfMissing, args.sync)?;
    let keyspace = database::keyspace_to_write(&db, KEYSPACE)?;
    let clock = SystemClock::default();
    let mut setup = Setup {
        db: &db,
        keyspace: &keyspace,
        clock: &clock,
        keys: args.keys,
        value_len: args.value_size,
        threads: args.threads,
        is_filled: false,
    };
    let mut failed = 0;
    for &workload in &args.workload {
        let before = disk_writes(&db.stats());
        let measured = workload::run(workload, &setup)?;
        setup.is_filled = workload.leaves_filled(setup.is_filled);
        failed += measured.failed_checks;
        let written = disk_writes(&db.stats()).saturating_sub(before);
        report(&line_of(workload, args, &measured, written), output)?;
    }
    drop(keyspace);
    db.close()?;
    if failed > 0 {
        let message = format!("{failed} reads returned something else than was written");
        let failure = Failure::new(Exit::CheckFailed, "CheckFailed", message);
        return Err(failure.at(&args.database.path));
    }
    Ok(())
}

/// Bytes handed to the disk since the database was opened.
fn disk_writes(stats: &Stats) -> u64 {
    stats.bytes_logged + stats.bytes_flushed + stats.bytes_compacted
}

fn line_of(workload: Workload, args: &BenchArgs, measured: &Measured, written: u64) -> Line {
    let micros = |quantile| measured.latency.value_at_quantile(quantile) as f64 / 1000.0;
    let seconds = measured.took.as_secs_f64();
    Line {
        workload: workload.name(),
        keys: args.keys,
        value_size: args.value_size,
        threads: args.threads,
        sync: args.sync.name(),
        ops: measured.ops,
        seconds,
        ops_per_second: measured.ops as f64 / seconds.max(1e-9),
        p50_us: micros(0.5),
        p99_us: micros(0.99),
        p999_us: micros(0.999),
        found: measured.found,
        failed_checks: measured.failed_checks,
        bytes_written: written,
        disk_bytes: files::disk_usage(&args.database.path),
        rss_bytes: Usage::read().map(|usage| usage.resident_bytes),
    }
}

fn report(line: &Line, output: &mut Output) -> Outcome {
    let (written, disk) = (human_bytes(line.bytes_written), human_bytes(line.disk_bytes));
    let rss = line.rss_bytes.map_or("unknown".to_owned(), human_bytes);
    output.result(
        format_args!(
            "{:<12} {:>10.0} ops/s  p50 {:.2}  p99 {:.2}  p99.9 {:.2} us  {} ops in {:.2} s, \
             {} found, {} wrong; written {written}, disk {disk}, rss {rss}",
            line.workload,
            line.ops_per_second,
            line.p50_us,
            line.p99_us,
            line.p999_us,
            line.ops,
            line.seconds,
            line.found,
            line.failed_checks,
        ),
        line,
    )?;
    output.flush()
}
