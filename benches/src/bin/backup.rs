//! What a backup at its default rate takes from a writer and from a reader.
//!
//! ```text
//! cargo run --release -p benches --bin backup [RECORDS]
//! ```
//!
//! One thread overwrites, or gets, records of 16-byte keys and 100-byte values in scattered order for
//! some seconds, unsynced; then again while full backups are made one after the other. Rounds are
//! interleaved; medians are printed.

use benches::Result;
use benches::keys::{KeyShape, Keys, Values};
use engine::{BackupOptions, Backups, Db, Keyspace, KeyspaceOptions, Options, SyncMode};
use std::path::Path;
use std::process::ExitCode;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

const RECORDS: u64 = 1_000_000;
const ROUNDS: usize = 5;
const SECONDS: u64 = 5;

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let result = match arguments.as_slice() {
        [] => measure(RECORDS),
        [records] => records.parse().map_err(Into::into).and_then(measure),
        _ => Err("usage: backup [RECORDS]".into()),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{error}");
            ExitCode::FAILURE
        }
    }
}

/// What a thread does meanwhile.
#[derive(Clone, Copy, Debug)]
enum Work {
    Overwrite,
    Get,
}

fn measure(records: u64) -> Result<()> {
    let dir = std::env::temp_dir().join(format!("esker-backup-{}", std::process::id()));
    let measured = measure_in(&dir, records);
    let _ = std::fs::remove_dir_all(&dir); // the measurement counts
    measured
}

fn measure_in(dir: &Path, records: u64) -> Result<()> {
    let db = Db::open(dir.join("data"), Options { sync: SyncMode::Async, ..Options::default() })?;
    let keyspace = db.keyspace("default", KeyspaceOptions::default())?;
    let work =
        Thread { keyspace, keys: Keys::new(KeyShape::Hashed, records), values: Values::new(100) };
    work.fill(records)?;
    db.settle()?;
    let store = dir.join("store");
    println!("{records} records, {ROUNDS} rounds of {SECONDS} s; thousand operations per second");
    for kind in [Work::Overwrite, Work::Get] {
        let (mut alone, mut beside, mut copied) = (Vec::new(), Vec::new(), 0);
        for _ in 0..ROUNDS {
            alone.push(work.run(kind)?);
            db.settle()?;
            let (rate, bytes) = beside_backups(&db, &store, &work, kind)?;
            beside.push(rate);
            copied += bytes;
            db.settle()?;
        }
        let (alone, beside) = (median(alone), median(beside));
        let slower = (1.0 - beside / alone) * 100.0;
        let mib = copied >> 20;
        println!(
            "{kind:?}: {alone:.1} alone, {beside:.1} beside backups, {mib} MiB or more copied"
        );
        println!("{kind:?}: {slower:.1} % slower");
    }
    Ok(())
}

struct Thread {
    keyspace: Keyspace,
    keys: Keys,
    values: Values,
}

impl Thread {
    fn fill(&self, records: u64) -> Result<()> {
        let mut value = Vec::new();
        for number in 0..records {
            self.values.fill(&mut value, number, 0);
            self.keyspace.put(self.keys.scattered(number), &value)?;
        }
        Ok(())
    }

    /// Thousand operations per second.
    fn run(&self, work: Work) -> Result<f64> {
        let (started, limit) = (Instant::now(), Duration::from_secs(SECONDS));
        let (mut value, mut done) = (Vec::new(), 0u64);
        while started.elapsed() < limit {
            for _ in 0..1000 {
                let key = self.keys.scattered(done);
                match work {
                    Work::Overwrite => {
                        self.values.fill(&mut value, done, 1);
                        self.keyspace.put(key, &value)?;
                    }
                    Work::Get => {
                        self.keyspace.get_into(key, &mut value)?;
                    }
                }
                done += 1;
            }
        }
        Ok(done as f64 / started.elapsed().as_secs_f64() / 1000.0)
    }
}

/// As [`Thread::run`], while backups are made. Also returns the bytes that the last one had copied.
fn beside_backups(db: &Db, store: &Path, work: &Thread, kind: Work) -> Result<(f64, u64)> {
    let is_done = AtomicBool::new(false);
    let options = BackupOptions::default();
    let (rate, ended) = std::thread::scope(|scope| {
        let (options, is_done) = (&options, &is_done);
        let backups = scope.spawn(move || {
            while !is_done.load(Ordering::SeqCst) {
                match db.backup(store, options) {
                    Ok(_) => {}
                    Err(engine::Error::Cancelled) => break,
                    Err(error) => return Err(error),
                }
            }
            Ok(())
        });
        let rate = work.run(kind);
        is_done.store(true, Ordering::SeqCst);
        options.progress.cancel();
        (rate, backups.join())
    });
    ended.map_err(|_| "the backups panicked")??;
    Backups::open(store)?.list()?;
    Ok((rate?, options.progress.bytes_done()))
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or(0.0)
}
