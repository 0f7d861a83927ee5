//! A node that was away: for so long that it gets a delta though the log reaches back, far behind or just
//! enough; so shortly that it goes on in the log; and where the log does not reach back any more.

use super::VALUE_LEN;
use super::apart::{Apart, Setup, check_equal, fresh, link, number, text};
use super::args::Args;
use super::table::{Figure, Target};
use crate::Result;
use crate::keys::KEY_LEN;
use serde_json::Value;

/// Records that are written while the node is away.
const RECORDS: u64 = 3_000_000;
/// The same of a node that is not so far behind.
const SOME: u64 = 400_000;
/// The same of a node that is behind by little, yet enough for a delta.
const LITTLE: u64 = 100_000;
/// The same of a node that is not far enough behind for a delta.
const FEW: u64 = 25_000;
/// Records that both have before.
const BEFORE: u64 = 1000;
/// More than all of the log.
const ALL_MB: u64 = 8 << 10;

pub(super) fn measure(args: &Args) -> Result<Vec<Figure>> {
    let (all, nothing) = (Setup { retention_mb: ALL_MB, ..Setup::default() }, Setup::default());
    let count = args.scaled(RECORDS);
    let far = absence(args, all, count, true)?;
    let some = absence(args, all, args.scaled(SOME), true)?;
    let little = absence(args, all, args.scaled(LITTLE), true)?;
    let near = absence(args, all, args.scaled(FEW), true)?;
    let gone = absence(args, nothing, count, false)?;
    Ok(far
        .describe("catch-up, far behind", Target::AtLeast(150.0))
        .into_iter()
        .chain(some.describe("catch-up, 400 k records", Target::AtLeast(150.0)))
        .chain(little.describe("catch-up, 100 k records", Target::AtLeast(150.0)))
        .chain(near.describe("catch-up from the log, 25 k records", Target::AtLeast(150.0)))
        .chain(gone.describe("catch-up, the log is gone", Target::AtLeast(150.0)))
        .collect())
}

struct CatchUp {
    mb_per_second: f64,
    /// Seconds of processor time a gigabyte of keys and values.
    giver: f64,
    taker: f64,
    peaks: (f64, f64),
}

impl CatchUp {
    fn describe(&self, what: &str, target: Target) -> Vec<Figure> {
        let rate = "keys and values, clock, from connected to visible";
        let cpu = "processor time of the process";
        let (giver, taker) = self.peaks;
        vec![
            Figure::new(what, self.mb_per_second, "MB/s", rate).asked(target),
            Figure::new(format!("{what}: giver"), self.giver, "s/GB", cpu),
            Figure::new(format!("{what}: taker"), self.taker, "s/GB", cpu),
            Figure::new(format!("{what}: memory of the giver"), giver, "MiB", "VmHWM"),
            Figure::new(format!("{what}: memory of the taker"), taker, "MiB", "VmHWM"),
        ]
    }
}

/// One node is away while the other writes.
fn absence(args: &Args, setup: Setup, count: u64, log_reaches: bool) -> Result<CatchUp> {
    let mut nodes = fresh(args, &[setup; 2])?;
    link(&mut nodes)?;
    let mut taker = nodes.pop().ok_or("a node is missing")?;
    let mut giver = nodes.pop().ok_or("a node is missing")?;
    let before = giver.ask(&format!("put 0 {BEFORE} 100 0"))?;
    giver.ask("confirmed")?;
    taker.end()?;
    let written = giver.ask(&format!("put {BEFORE} {count} 100 0"))?;
    giver.ask("settle")?;
    let (origin, last) = (text(&before, "origin")?, number(&before, "last")?);
    let reaches = giver.ask(&format!("reaches {origin} {last}"))?;
    if reaches["reaches"] != Value::Bool(log_reaches) && !args.quick {
        return Err(format!("the log reaches back: {reaches}, wanted {log_reaches}").into());
    }
    taker = Apart::start(&args.dir.join("node-1"), setup)?;
    let (giver_before, taker_before) = (giver.ask("forget")?, taker.ask("forget")?);
    let last = number(&written, "last")?;
    taker.ask(&format!("peers {}", giver.place))?;
    let connected = taker.ask("linked")?;
    let done = taker.ask(&format!("has {origin} {last}"))?;
    let (giver_after, taker_after) = (giver.ask("usage")?, taker.ask("usage")?);
    let bytes = (count * (KEY_LEN + VALUE_LEN) as u64) as f64;
    let cpu = |before, after| -> Result<f64> {
        Ok((number(after, "cpu")? - number(before, "cpu")?) as f64 / bytes)
    };
    let took = number(&done, "at")? - number(&connected, "at")?;
    let mib = |usage| Ok::<f64, crate::Failure>(number(usage, "peak")? as f64 / 1048576.0);
    let found = CatchUp {
        mb_per_second: bytes * 1e3 / took as f64,
        giver: cpu(&giver_before, &giver_after)?,
        taker: cpu(&taker_before, &taker_after)?,
        peaks: (mib(&giver_after)?, mib(&taker_after)?),
    };
    let mut nodes = vec![giver, taker];
    check_equal(&mut nodes, BEFORE + count)?;
    nodes.into_iter().try_for_each(Apart::end)?;
    Ok(found)
}
