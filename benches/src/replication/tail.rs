//! The live tail: one writer, one replica that confirms what it has made durable.
//!
//! The same load runs once on a node alone, once on two that know nothing of each other, and once with a
//! replica. Processor time counts from the first put until everything is confirmed, and until flushes and
//! merges have settled: all have the same of those to do. Two at a time share caches and memory, so each
//! costs more than alone: what replication costs is between the second figure and the third.

use super::VALUE_LEN;
use super::apart::{Apart, Setup, check_equal, fresh, link, number, text};
use super::args::Args;
use super::table::{Figure, Target, median};
use crate::Result;
use crate::keys::KEY_LEN;

/// Records that are written.
const RECORDS: u64 = 2_000_000;
/// Bytes of key and value of one.
const RECORD_LEN: f64 = (KEY_LEN + VALUE_LEN) as f64;

/// What one round of one batch size gave.
struct Round {
    ops_per_second: f64,
    /// Nanoseconds of processor time an op: the writer alone, beside a stranger, with a replica, and the
    /// replica.
    alone: f64,
    beside: f64,
    writer: f64,
    replica: f64,
    /// Bytes an op beyond key and value: in frames, in UDP, and what comes back.
    framed: f64,
    sent: f64,
    returned: f64,
    /// Bytes an op that compression has kept off the wire; they count as sent above.
    saved: f64,
    /// Ops a frame.
    frame: f64,
}

pub(super) fn measure(args: &Args) -> Result<Vec<Figure>> {
    let mut figures = Vec::new();
    for batch in [1, 100] {
        let rounds: Result<Vec<Round>> = (0..args.rounds).map(|_| round(args, batch)).collect();
        figures.extend(describe(batch, &rounds?));
    }
    Ok(figures)
}

fn round(args: &Args, batch: u64) -> Result<Round> {
    let count = args.scaled(RECORDS);
    let put = format!("put 0 {count} {batch} 0");
    let alone = unlinked(args, &put, 1)?;
    let beside = unlinked(args, &put, 2)?;
    let mut nodes = fresh(args, &[Setup::default(); 2])?;
    link(&mut nodes)?;
    let [writer, replica] = nodes.as_mut_slice() else { return Err("a node is missing".into()) };
    let (before, replica_before) = (writer.ask("usage")?, replica.ask("usage")?);
    let written = writer.ask(&put)?;
    let confirmed = writer.ask("confirmed")?;
    let (after, _) = (writer.ask("usage")?, text(&written, "origin")?);
    writer.tell("settle")?;
    replica.tell("settle")?;
    let (settled, replica_settled) = (writer.answer()?, replica.answer()?);
    let replica_used = number(&replica_settled, "cpu")? - number(&replica_before, "cpu")?;
    let used = number(&settled, "cpu")? - number(&written, "cpu")?;
    check_equal(&mut nodes, count)?;
    nodes.into_iter().try_for_each(Apart::end)?;
    let took = number(&confirmed, "at")? - number(&written, "at")?;
    let per_op = |total: u64| total as f64 / count as f64;
    let grown = |name| Ok::<u64, crate::Failure>(number(&after, name)? - number(&before, name)?);
    Ok(Round {
        ops_per_second: count as f64 * 1e9 / took as f64,
        alone: per_op(alone),
        beside: per_op(beside),
        writer: per_op(used),
        replica: per_op(replica_used),
        framed: per_op(grown("bytes_sent")? + grown("bytes_saved")?) - RECORD_LEN,
        sent: per_op(grown("udp_sent")? + grown("bytes_saved")?) - RECORD_LEN,
        saved: per_op(grown("bytes_saved")?),
        returned: per_op(grown("udp_received")?),
        frame: count as f64 / grown("frames_sent")?.max(1) as f64,
    })
}

/// Processor time of the first of `count` nodes that all do the same at once, and know no other.
fn unlinked(args: &Args, put: &str, count: usize) -> Result<u64> {
    let mut nodes = fresh(args, &vec![Setup::default(); count])?;
    for command in [put, "sync", "settle"] {
        nodes.iter_mut().try_for_each(|node| node.tell(command))?;
    }
    let mut used = Vec::new();
    for node in &mut nodes {
        let written = node.answer()?;
        node.answer()?;
        used.push(number(&node.answer()?, "cpu")? - number(&written, "cpu")?);
    }
    nodes.into_iter().try_for_each(Apart::end)?;
    used.first().copied().ok_or_else(|| "a node is missing".into())
}

fn describe(batch: u64, rounds: &[Round]) -> Vec<Figure> {
    let of = |part: fn(&Round) -> f64| median(rounds.iter().map(part).collect());
    let what = |what: &str| match batch {
        1 => format!("tail, single puts: {what}"),
        _ => format!("tail, batches of {batch}: {what}"),
    };
    let extra = |round: &Round| (round.writer / round.alone - 1.0) * 100.0;
    let extra_beside = |round: &Round| (round.writer / round.beside - 1.0) * 100.0;
    let cpu = "processor time of the process, settled";
    vec![
        Figure::new(
            what("sustained"),
            of(|it| it.ops_per_second),
            "ops/s",
            "clock, until confirmed",
        )
        .asked(Target::AtLeast(200_000.0)),
        Figure::new(what("writer alone"), of(|it| it.alone), "ns/op", cpu),
        Figure::new(what("writer beside a stranger"), of(|it| it.beside), "ns/op", cpu),
        Figure::new(what("writer"), of(|it| it.writer), "ns/op", cpu),
        Figure::new(what("extra for the writer"), of(extra), "%", cpu).asked(Target::AtMost(25.0)),
        Figure::new(what("extra, compared with beside a stranger"), of(extra_beside), "%", cpu),
        Figure::new(what("replica"), of(|it| it.replica), "ns/op", cpu),
        Figure::new(what("ops a frame"), of(|it| it.frame), "ops", "frames sent"),
        Figure::new(what("beyond key and value, in frames"), of(|it| it.framed), "B/op", "frames")
            .asked(Target::AtMost(10.0)),
        Figure::new(what("beyond key and value, in UDP"), of(|it| it.sent), "B/op", "QUIC's count")
            .asked(Target::AtMost(10.0)),
        Figure::new(what("saved by compression"), of(|it| it.saved), "B/op", "frames"),
        Figure::new(what("coming back, in UDP"), of(|it| it.returned), "B/op", "QUIC's count"),
    ]
}
