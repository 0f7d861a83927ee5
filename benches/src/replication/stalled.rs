//! A peer that does not read any more: what that costs the writer, and the others.
//!
//! Three nodes. The first writes at a steady rate, in turns with both peers alive and with one of them
//! stopped by a signal, so that whatever else the machine does falls on both alike. Memtables are small, so
//! that memory shows what is kept for peers.

use super::apart::{Apart, Setup, check_equal, fresh, link, number, pairs, text};
use super::args::Args;
use super::table::{Figure, Target, median, percentile};
use super::visible::times;
use crate::Result;
use rustix::process::Signal;

/// Records a second.
const RATE: u64 = 50_000;
/// Records in one phase: below the 20 s after which a silent peer counts as gone.
const RECORDS: u64 = 300_000;
/// How often each phase comes; medians are printed.
const TURNS: u64 = 3;
/// A p99 that is so much greater is still the same: the turns of one kind differ by as much.
const STAYS: f64 = 1.25;
const SETUP: Setup = Setup { memtable_mb: 4, retention_mb: 0 };

pub(super) fn measure(args: &Args) -> Result<Vec<Figure>> {
    let mut nodes = fresh(args, &[SETUP; 3])?;
    link(&mut nodes)?;
    let count = args.scaled(RECORDS);
    phase(&mut nodes, 0, count)?;
    let mut first = count;
    let (mut alive, mut stalled) = (Vec::new(), Vec::new());
    for _ in 0..TURNS {
        alive.push(phase(&mut nodes, first, count)?);
        stalled.push(with_one_stopped(&mut nodes, first + count, count)?);
        first += 2 * count;
    }
    check_equal(&mut nodes, first)?;
    nodes.into_iter().try_for_each(Apart::end)?;
    let of = |phases: &[Phase], part: fn(&Phase) -> f64| median(phases.iter().map(part).collect());
    let peak = |it: &Phase| it.peak;
    let memory = (of(&stalled, peak) - of(&alive, peak)).max(0.0);
    let p99 = |it: &Phase| it.p99;
    let slower = of(&stalled, p99) / of(&alive, p99);
    let (how, time) = ("VmHWM, against both alive", "as visible, one put in a hundred, in turns");
    let other = |what: &str, phases: &[Phase], part| {
        Figure::new(format!("the other peer, {what}"), of(phases, part), "ms", time)
    };
    Ok(vec![
        Figure::new("a stalled peer costs the writer", memory, "MiB", how)
            .asked(Target::AtMost(16.0)),
        other("both alive: p50", &alive, |it| it.p50),
        other("one stalled: p50", &stalled, |it| it.p50),
        other("both alive: p99", &alive, p99),
        other("one stalled: p99", &stalled, p99),
        Figure::new("the other peer, one stalled: p99 against both alive", slower, "x", "it stays")
            .asked(Target::AtMost(STAYS)),
    ])
}

/// A phase in which the third node stands still. Afterwards it has everything.
fn with_one_stopped(nodes: &mut [Apart], first: u64, count: u64) -> Result<Phase> {
    let stop = |nodes: &mut [Apart], signal| match nodes {
        [_, _, third] => third.signal(signal),
        _ => Err("a node is missing".into()),
    };
    stop(nodes, Signal::STOP)?;
    let stalled = phase(nodes, first, count);
    stop(nodes, Signal::CONT)?;
    let stalled = stalled?;
    let [writer, ..] = nodes else { return Err("a node is missing".into()) };
    writer.ask("confirmed")?;
    Ok(stalled)
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
