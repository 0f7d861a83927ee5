//! How long a put takes until the other node sees it, while nothing else happens.
//!
//! The writer notes when it calls `put`. The other node looks whenever its database tells that
//! something changed, and notes what is visible then. Only what is durable travels, so each time
//! has a sync of the writer's disk in it.

use super::apart::{Apart, Setup, fresh, link, pairs, text};
use super::args::Args;
use super::table::{Figure, Target, percentile};
use crate::Result;
use std::time::Instant;

/// Puts that are timed.
const PUTS: u64 = 2000;
/// Microseconds from one to the next.
const EVERY: u64 = 5000;

pub(super) fn measure(args: &Args) -> Result<Vec<Figure>> {
    let mut nodes = fresh(args, &[Setup::default(); 2])?;
    link(&mut nodes)?;
    let [writer, reader] = nodes.as_mut_slice() else { return Err("a node is missing".into()) };
    let (puts, command) = (args.scaled(PUTS), "trickle");
    writer.ask(&format!("{command} 100 {EVERY}"))?;
    reader.ask("watch")?;
    let trickled = writer.ask(&format!("{command} {puts} {EVERY}"))?;
    let (origin, last) = (text(&trickled, "origin")?, &trickled["last"]);
    reader.ask(&format!("has {origin} {last}"))?;
    let seen = pairs(&reader.ask("watched")?, "seen")?;
    let times = times(&pairs(&trickled, "puts")?, &seen);
    nodes.into_iter().try_for_each(Apart::end)?;
    let syncs = syncs(args)?;
    let of = |sorted: &[u64], share| percentile(sorted, share) / 1e6;
    let (what, how) = ("visible on the peer", "monotonic clock, call of put to look at the peer");
    let disk = "a file of its own, reserved, 128 bytes a time";
    Ok(vec![
        Figure::new(format!("{what}: p50"), of(&times, 0.5), "ms", how).asked(Target::AtMost(1.0)),
        Figure::new(format!("{what}: p90"), of(&times, 0.9), "ms", how),
        Figure::new(format!("{what}: p99"), of(&times, 0.99), "ms", how)
            .asked(Target::AtMost(10.0)),
        Figure::new("a sync of this disk: p50", of(&syncs, 0.5), "ms", disk),
        Figure::new("a sync of this disk: p99", of(&syncs, 0.99), "ms", disk),
    ])
}

/// How long each of `puts` took until it was `seen`, sorted.
pub(super) fn times(puts: &[(u64, u64)], seen: &[(u64, u64)]) -> Vec<u64> {
    let mut times = Vec::new();
    for (put_at, tick) in puts {
        let first = seen.partition_point(|(_, up_to)| up_to < tick);
        if let Some((seen_at, _)) = seen.get(first) {
            times.push(seen_at.saturating_sub(*put_at));
        }
    }
    times.sort_unstable();
    times
}

/// How long the disk takes for what the log does at each sync.
fn syncs(args: &Args) -> Result<Vec<u64>> {
    use std::os::unix::fs::FileExt;
    let path = args.dir.join("syncs");
    let file = std::fs::File::create(&path)?;
    file.write_all_at(&vec![0; 1 << 20], 0)?;
    file.sync_all()?;
    let mut times = Vec::new();
    for at in 0..args.scaled(PUTS) {
        file.write_all_at(&[1; 128], at * 128 % (1 << 20))?;
        let started = Instant::now();
        file.sync_data()?;
        times.push(u64::try_from(started.elapsed().as_nanos())?);
        std::thread::sleep(std::time::Duration::from_micros(EVERY));
    }
    times.sort_unstable();
    std::fs::remove_file(path)?;
    Ok(times)
}
