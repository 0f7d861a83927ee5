//! Opening: after a clean close, and after a kill in the middle of writing.

use crate::args::Args;
use crate::contender::{Contender, Durability, Name};
use crate::drive::{Driven, duration_ns, histogram};
use crate::keys::{Keys, Values};
use crate::outcome::Outcome;
use crate::phase::Phase;
use crate::run::{Store, Turn};
use crate::workload::Workload;
use crate::{Result, meter};
use rustix::process::{Signal, getpid, kill_process};
use std::io::Write;
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::atomic::AtomicU64;
use std::time::Instant;

const ACKNOWLEDGED: &str = "acknowledged ";

impl Turn<'_> {
    /// Closes and opens the loaded store a few times. Only opening and the first get are timed.
    pub(crate) fn reopen(&mut self) -> Result<Outcome> {
        let mut store = self.take_loaded()?;
        let times = Workload::Reopen.ops(self.args.keys);
        let mut sum: Option<Driven> = None;
        for _ in 0..times {
            let Store { contender, dir, records } = store;
            contender.close()?;
            meter::forget_peak();
            let (driven, contender) = self.open_timed(&dir)?;
            store = Store { contender, dir, records };
            sum = Some(match sum {
                None => driven,
                Some(mut sum) => {
                    sum.ops += driven.ops;
                    sum.wall += driven.wall;
                    sum.thread_cpu_ns += driven.thread_cpu_ns;
                    sum.latency.add(driven.latency)?;
                    sum
                }
            });
        }
        let driven = sum.ok_or("nothing was reopened")?;
        let mut outcome = Outcome::of(self.engine.as_str(), "reopen", &driven);
        outcome.rss_bytes = meter::peak_rss_bytes();
        outcome.disk_bytes = meter::disk_bytes(&store.dir)?;
        self.loaded = Some(store);
        Ok(outcome)
    }

    /// Opens what a process left that was killed after its last acknowledged put.
    pub(crate) fn reopen_killed(&mut self) -> Result<Outcome> {
        let dir = self.fresh_dir("killed")?;
        let acknowledged = fill_and_die(&dir)?;
        meter::forget_peak();
        let (cpu, written) = (meter::process_cpu_ns(), meter::written_bytes());
        let (driven, contender) = self.open_timed(&dir)?;
        let mut outcome = Outcome::of(self.engine.as_str(), "reopen-killed", &driven);
        outcome.process_cpu_ns = meter::process_cpu_ns() - cpu;
        outcome.written_bytes = meter::written_bytes() - written;
        outcome.rss_bytes = meter::peak_rss_bytes();
        let found = contender.reader()?.scan(&[], u64::MAX, &mut |_, _| {})?;
        outcome.lost = acknowledged.saturating_sub(found);
        contender.close()?;
        crate::run::forget(&dir)?;
        Ok(outcome)
    }

    /// Opens and gets the first record, which need not have survived.
    fn open_timed(&self, dir: &Path) -> Result<(Driven, Box<dyn Contender>)> {
        let key = Keys::new(self.args.key_shape, self.args.keys).scattered(0);
        let cpu = meter::thread_cpu_ns();
        let start = Instant::now();
        let contender = self.open(dir, Durability::Process)?;
        contender.reader()?.get(&key, &mut |_| {})?;
        let wall = start.elapsed();
        let thread_cpu_ns = meter::thread_cpu_ns() - cpu;
        let mut latency = histogram()?;
        latency.saturating_record(duration_ns(wall));
        Ok((Driven { ops: 1, wall, thread_cpu_ns, latency, first_tenth: None }, contender))
    }
}

/// Starts a process like this one that fills a store in `dir` and kills itself; tells how many
/// puts it had acknowledged.
fn fill_and_die(dir: &Path) -> Result<u64> {
    let mut command = Command::new(std::env::current_exe()?);
    command.args(std::env::args_os().skip(1)).arg("--filler").arg(dir);
    let output = command.stderr(Stdio::inherit()).output()?;
    let text = String::from_utf8(output.stdout)?;
    let count = text.lines().find_map(|line| line.strip_prefix(ACKNOWLEDGED));
    Ok(count.ok_or("the process to be killed ended too early")?.parse()?)
}

/// Fills a store in `dir`, says how many puts were acknowledged, and ends as by `kill -9`.
pub fn fill_until_killed(engine: Name, args: &Args, dir: &Path) -> Result<()> {
    let contender = engine.open(dir, &args.setup(Durability::Process))?;
    let phase = Phase {
        store: contender.as_ref(),
        keys: Keys::new(args.key_shape, args.keys),
        values: Values::new(args.value_size),
        records: &AtomicU64::new(0),
        written: AtomicU64::new(0),
        threads: args.threads,
        limit: args.limit(Workload::ReopenKilled),
    };
    let driven = phase.run(Workload::FillRandom, args.keys)?;
    println!("{ACKNOWLEDGED}{}", driven.ops);
    std::io::stdout().flush()?;
    kill_process(getpid(), Signal::KILL)?;
    Ok(())
}
