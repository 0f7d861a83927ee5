//! Two nodes that compare all they hold: once with the same, once where one of them has lost a little of
//! what it says it has, scattered over everything.

use super::VALUE_LEN;
use super::apart::{Apart, Setup, check_equal, fresh, link, number, text};
use super::args::Args;
use super::table::{Figure, Target};
use crate::Result;
use crate::keys::KEY_LEN;
use std::path::PathBuf;

/// Records of both.
const RECORDS: u64 = 1_000_000;
/// Those of which one lacks the newest version.
const LOST: u64 = 1_000;

pub(super) fn measure(args: &Args) -> Result<Vec<Figure>> {
    let (count, lost) = (args.scaled(RECORDS), args.scaled(LOST));
    let mut nodes = fresh(args, &[Setup::default(); 2])?;
    ask_all(&mut nodes, "usage")?;
    let [first, _] = &mut *nodes else { return Err("a node is missing".into()) };
    first.ask(&format!("put 0 {count} 100 0"))?;
    first.ask("settle")?;
    link(&mut nodes)?;
    ask_all(&mut nodes, "confirmed")?;
    check_equal(&mut nodes, count)?;
    let equal = compare(args, nodes, None)?;
    let scattered = compare(args, start(args)?, Some(lost))?;
    let bytes = (count * (KEY_LEN + VALUE_LEN) as u64) as f64;
    let mut figures = equal.figures("equal stores", bytes, (200.0, 2.0));
    figures.extend(scattered.figures("a thousandth lost", bytes, (700_000.0, 6.0)));
    Ok(figures)
}

fn start(args: &Args) -> Result<Vec<Apart>> {
    let dir = |node: u64| -> PathBuf { args.dir.join(format!("node-{node}")) };
    (0..2).map(|node| Apart::start(&dir(node), Setup::default())).collect()
}

fn ask_all(nodes: &mut [Apart], command: &str) -> Result<Vec<serde_json::Value>> {
    nodes.iter_mut().map(|node| node.ask(command)).collect()
}

/// What a comparison took.
struct Compared {
    bytes: f64,
    half_rounds: f64,
    wall_ns: f64,
    cpu_ns: [f64; 2],
}

/// Ends `nodes`, starts them anew and lets them compare; before that the second loses the newest versions of
/// `lost` records.
fn compare(args: &Args, nodes: Vec<Apart>, lost: Option<u64>) -> Result<Compared> {
    nodes.into_iter().try_for_each(Apart::end)?;
    let mut nodes = start(args)?;
    if let ([first, second], Some(lost)) = (&mut *nodes, lost) {
        let written = first.ask(&format!("put 0 {lost} 100 0"))?;
        first.ask("settle")?;
        let (origin, last) = (text(&written, "origin")?, number(&written, "last")?);
        second.ask(&format!("claim {origin} {last}"))?;
    }
    link(&mut nodes)?;
    ask_all(&mut nodes, "confirmed")?;
    let before = ask_all(&mut nodes, "usage")?;
    let [first, second] = &mut *nodes else { return Err("a node is missing".into()) };
    let reports = [first.ask("audit")?, second.ask("audited")?];
    let after = ask_all(&mut nodes, "usage")?;
    let [one, two] = &reports;
    let exchanged = [number(one, "given")?, number(two, "taken")?];
    if exchanged != [lost.unwrap_or(0); 2] {
        return Err(format!("other entries came back than were lost: {reports:?}").into());
    }
    let mut cpu_ns = [0.0; 2];
    for ((cpu, before), after) in cpu_ns.iter_mut().zip(&before).zip(&after) {
        *cpu = (number(after, "cpu")? - number(before, "cpu")?) as f64;
    }
    let ended = number(one, "at")?.max(number(two, "at")?);
    let began = before.iter().map(|it| number(it, "at")).max_by_key(|at| at.as_ref().ok().copied());
    let wall_ns = (ended - began.ok_or("a node is missing")??) as f64;
    let (bytes, half_rounds) = (number(one, "bytes")? as f64, number(one, "half_rounds")? as f64);
    nodes.into_iter().try_for_each(Apart::end)?;
    Ok(Compared { bytes, half_rounds, wall_ns, cpu_ns })
}

impl Compared {
    fn figures(
        &self,
        of: &str,
        bytes: f64,
        (bytes_max, half_rounds_max): (f64, f64),
    ) -> Vec<Figure> {
        let figure = |what: &str, value, unit, how| {
            Figure::new(format!("comparison, {of}: {what}"), value, unit, how)
        };
        let [first, second] = self.cpu_ns.map(|ns| ns / bytes);
        vec![
            figure("bytes", self.bytes, "B", "both ways, without envelopes")
                .asked(Target::AtMost(bytes_max)),
            figure("half-rounds", self.half_rounds, "", "as counted")
                .asked(Target::AtMost(half_rounds_max)),
            figure("time", self.wall_ns / 1e6, "ms", "from asked to both done, repairs included"),
            figure("one side", first, "s/GB", "processor time"),
            figure("the other side", second, "s/GB", "processor time"),
        ]
    }
}
