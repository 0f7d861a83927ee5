//! A peer that does not read any more: what that costs the writer, and the others.
//!
//! Three nodes. The first writes at a steady rate, for a while with both peers alive, then with one
//! of them stopped by a signal. Memtables are small, so that memory shows what is kept for peers.

use super::apart::{Apart, Setup, check_equal, fresh, link, number, pairs, text};
use super::args::Args;
use super::table::{Figure, Target, percentile};
use super::visible::times;
use crate::Result;
use rustix::process::Signal;

/// Records a second.
const RATE: u64 = 50_000;
/// Records in one phase: below the 20 s after which a silent peer counts as gone.
const RECORDS: u64 = 600_000;
const SETUP: Setup = Setup { memtable_mb: 4, retention_mb: 0 };

pub(super) fn measure(args: &Args) -> Result<Vec<Figure>> {
    let mut nodes = fresh(args, &[SETUP; 3])?;
    link(&mut nodes)?;
    let count = args.scaled(RECORDS);
    phase(&mut nodes, 0, count)?;
    let both = phase(&mut nodes, count, count)?;
    let [_, _, third] = nodes.as_mut_slice() else { return Err("a node is missing".into()) };
    third.signal(Signal::STOP)?;
    let stalled = phase(&mut nodes, 2 * count, count);
    let [writer, _, third] = nodes.as_mut_slice() else { return Err("a node is missing".into()) };
    third.signal(Signal::CONT)?;
    let stalled = stalled?;
    writer.ask("confirmed")?;
    check_equal(&mut nodes, 3 * count)?;
    nodes.into_iter().try_for_each(Apart::end)?;
    let (memory, how) = ((stalled.peak - both.peak).max(0.0), "VmHWM, against both alive");
    let time = "as visible, one put in a hundred";
    Ok(vec![
        Figure::new("a stalled peer costs the writer", memory, "MiB", how)
            .asked(Target::AtMost(16.0)),
        Figure::new("the other peer, both alive: p50", both.p50, "ms", time),
        Figure::new("the other peer, both alive: p99", both.p99, "ms", time),
        Figure::new("the other peer, one stalled: p50", stalled.p50, "ms", time),
        Figure::new("the other peer, one stalled: p99", stalled.p99, "ms", time),
    ])
}

struct Phase {
    peak: f64,
    p50: f64,
    p99: f64,
}

/// The first node writes, the second looks.
fn phase(nodes: &mut [Apart], first: u64, count: u64) -> Result<Phase> {
    let [writer, reader, _] = nodes else { return Err("a node is missing".into()) };
    writer.ask("forget")?;
    reader.ask("watch")?;
    let written = writer.ask(&format!("put {first} {count} 1 {RATE}"))?;
    let usage = writer.ask("usage")?;
    let (origin, last) = (text(&written, "origin")?, number(&written, "last")?);
    reader.ask(&format!("has {origin} {last}"))?;
    let seen = pairs(&reader.ask("watched")?, "seen")?;
    let times = times(&pairs(&written, "puts")?, &seen);
    Ok(Phase {
        peak: number(&usage, "peak")? as f64 / 1048576.0,
        p50: percentile(&times, 0.5) / 1e6,
        p99: percentile(&times, 0.99) / 1e6,
    })
}
