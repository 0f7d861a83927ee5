//! What reads cost on a node: without replication, beside an idle link, and of entries that another node
//! has written.

use super::apart::{Apart, Setup, check_equal, fresh, link};
use super::args::Args;
use super::table::{Figure, median};
use crate::{Failure, Result};
use serde_json::Value;

/// Records.
const RECORDS: u64 = 1_000_000;
/// Gets of one turn.
const GETS: u64 = 1_000_000;

pub(super) fn measure(args: &Args) -> Result<Vec<Figure>> {
    let (count, gets) = (args.scaled(RECORDS), args.scaled(GETS));
    let mut nodes = fresh(args, &[Setup::default(); 2])?;
    link(&mut nodes)?;
    // It comes with the tail: tables that are taken over say themselves whose they are.
    if let Some(first) = nodes.first_mut() {
        first.ask(&format!("put 0 {count} 100 0"))?;
    }
    for command in ["confirmed", "settle"] {
        nodes.iter_mut().try_for_each(|node| node.ask(command).map(drop))?;
    }
    check_equal(&mut nodes, count)?;
    nodes.into_iter().try_for_each(Apart::end)?;
    let read = format!("read {count} {gets}");
    let (mut plain, mut linked, mut taken) = (Vec::new(), Vec::new(), Vec::new());
    for _ in 0..args.rounds {
        plain.push(Read::of(&alone(args)?.ask(&read)?)?);
        let mut nodes = both(args)?;
        link(&mut nodes)?;
        let [first, second] = &mut *nodes else { return Err("a node is missing".into()) };
        linked.push(Read::of(&first.ask(&read)?)?);
        taken.push(Read::of(&second.ask(&read)?)?);
        nodes.into_iter().try_for_each(Apart::end)?;
    }
    let how = "processor time of the reading thread, in turns, medians";
    let figures = |of: &str, reads: &[Read]| {
        let middle = |part: fn(&Read) -> f64| median(reads.iter().map(part).collect());
        [("get", middle(|it| it.get_ns)), ("scan, an entry", middle(|it| it.scan_ns))]
            .map(|(what, ns)| Figure::new(format!("{what}: {of}"), ns, "ns", how))
    };
    let all = [
        figures("not replicated", &plain),
        figures("beside an idle link", &linked),
        figures("entries of another node", &taken),
    ];
    Ok(all.into_iter().flatten().collect())
}

/// What one read of a record costs.
struct Read {
    get_ns: f64,
    scan_ns: f64,
}

impl Read {
    fn of(answer: &Value) -> Result<Read> {
        let number = |name: &str| {
            let found = answer.get(name).and_then(Value::as_f64);
            found.ok_or_else(|| Failure::from(format!("no {name} in {answer}")))
        };
        Ok(Read { get_ns: number("get_ns")?, scan_ns: number("scan_ns")? })
    }
}

fn alone(args: &Args) -> Result<Apart> {
    Apart::start(&args.dir.join("node-0"), Setup::default())
}

fn both(args: &Args) -> Result<Vec<Apart>> {
    Ok(vec![alone(args)?, Apart::start(&args.dir.join("node-1"), Setup::default())?])
}
