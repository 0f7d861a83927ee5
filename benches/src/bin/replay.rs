//! What opening after a kill costs for each record that is only in the log.
//!
//! ```text
//! cargo run --release -p benches --bin replay [RECORDS]
//! ```
//!
//! A child process puts records of 16-byte keys and 100-byte values in scattered order, unsynced, and
//! kills itself. Opening verifies the log, replays it and writes its records as tables. What writing
//! and syncing those tables costs alone is measured too, by flushing the same records from memory,
//! and taken off. Rounds are repeated; medians are printed, and the peak of resident memory against
//! the budget.

use benches::keys::{KeyShape, Keys, Values};
use benches::{Result, meter};
use engine::{Db, KeyspaceOptions, Options, SyncMode};
use rustix::process::{Signal, getpid, kill_process};
use std::path::Path;
use std::process::{Command, ExitCode};
use std::time::Instant;

const RECORDS: u64 = 300_000;
const ROUNDS: usize = 5;
const CHILD: &str = "--fill";

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let result = match arguments.as_slice() {
        [] => measure(RECORDS),
        [records] => records.parse().map_err(Into::into).and_then(measure),
        [child, dir, records] if child == CHILD => fill_and_die(Path::new(dir), records),
        _ => Err("usage: replay [RECORDS]".into()),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{error}");
            ExitCode::FAILURE
        }
    }
}

fn options() -> Options {
    Options { sync: SyncMode::Async, ..Options::default() }
}

fn put_all(db: &Db, records: u64) -> Result<()> {
    let keyspace = db.keyspace("default", KeyspaceOptions::default())?;
    let (keys, values) = (Keys::new(KeyShape::Hashed, records), Values::new(100));
    let mut value = Vec::new();
    for number in 0..records {
        values.fill(&mut value, number, 0);
        keyspace.put(keys.scattered(number), &value)?;
    }
    Ok(())
}

fn fill_and_die(dir: &Path, records: &str) -> Result<()> {
    let db = Db::open(dir, options())?;
    put_all(&db, records.parse()?)?;
    kill_process(getpid(), Signal::KILL)?;
    Ok(())
}

/// One opening after a kill.
struct Round {
    open_ns: u64,
    open_cpu_ns: u64,
    flush_ns: u64,
    flush_cpu_ns: u64,
    commits: u64,
    log_bytes: u64,
    peak_rss_bytes: u64,
}

fn measure(records: u64) -> Result<()> {
    let rounds = (0..ROUNDS).map(|_| round(records)).collect::<Result<Vec<Round>>>()?;
    let median = |of: fn(&Round) -> u64| {
        let mut values: Vec<u64> = rounds.iter().map(of).collect();
        values.sort_unstable();
        values.get(values.len() / 2).copied().unwrap_or(0)
    };
    let commits = median(|round| round.commits).max(1);
    let per_record = |ns: u64| ns as f64 / 1000.0 / commits as f64;
    println!("replayed      {commits} of {records} records, {} log bytes", median(|r| r.log_bytes));
    let (open, flush) = (median(|r| r.open_ns), median(|r| r.flush_ns));
    println!("open          {:.1} ms, {:.3} us a record", open as f64 / 1e6, per_record(open));
    println!("flush alone   {:.1} ms, {:.3} us a record", flush as f64 / 1e6, per_record(flush));
    let rest = open.saturating_sub(flush);
    println!("the rest      {:.1} ms, {:.3} us a record", rest as f64 / 1e6, per_record(rest));
    let rest = median(|r| r.open_cpu_ns).saturating_sub(median(|r| r.flush_cpu_ns));
    println!("its processor {:.1} ms, {:.3} us a record", rest as f64 / 1e6, per_record(rest));
    let (peak, budget) = (median(|r| r.peak_rss_bytes), options().memory_bytes as f64);
    println!("peak memory   {} MiB, {:.2} of the budget", peak >> 20, peak as f64 / budget);
    Ok(())
}

fn round(records: u64) -> Result<Round> {
    let dir = std::env::temp_dir().join(format!("esker-replay-{}", std::process::id()));
    let flushed = dir.with_extension("flushed");
    for dir in [&dir, &flushed] {
        let _ = std::fs::remove_dir_all(dir); // left by a run that was interrupted
    }
    let child = Command::new(std::env::current_exe()?)
        .arg(CHILD)
        .arg(&dir)
        .arg(records.to_string())
        .status()?;
    if child.code().is_some() {
        return Err("the process to be killed ended too early".into());
    }
    meter::forget_peak();
    let (start, cpu) = (Instant::now(), meter::process_cpu_ns());
    let db = Db::open(&dir, options())?;
    let open_ns = u64::try_from(start.elapsed().as_nanos())?;
    let (open_cpu_ns, peak_rss_bytes) = (meter::process_cpu_ns() - cpu, meter::peak_rss_bytes());
    let report = db.recovery_report().clone();
    db.close()?;
    std::fs::remove_dir_all(&dir)?;

    let db = Db::open(&flushed, options())?;
    put_all(&db, report.commits_replayed)?;
    let (start, cpu) = (Instant::now(), meter::process_cpu_ns());
    db.flush()?;
    let flush_ns = u64::try_from(start.elapsed().as_nanos())?;
    let flush_cpu_ns = meter::process_cpu_ns() - cpu;
    db.close()?;
    std::fs::remove_dir_all(&flushed)?;
    Ok(Round {
        open_ns,
        open_cpu_ns,
        flush_ns,
        flush_cpu_ns,
        commits: report.commits_replayed,
        log_bytes: report.log_bytes,
        peak_rss_bytes,
    })
}
