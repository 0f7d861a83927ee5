//! A node that has nothing, and takes over tables.

use super::VALUE_LEN;
use super::apart::{Apart, Setup, check_equal, fresh, number, text};
use super::args::Args;
use super::table::{Figure, Target};
use crate::Result;
use crate::keys::KEY_LEN;
use crate::meter::disk_bytes;

/// Records of the giver.
const RECORDS: u64 = 10_000_000;

pub(super) fn measure(args: &Args) -> Result<Vec<Figure>> {
    let count = args.scaled(RECORDS);
    let mut nodes = fresh(args, &[Setup::default(); 2])?;
    let mut taker = nodes.pop().ok_or("a node is missing")?;
    let mut giver = nodes.pop().ok_or("a node is missing")?;
    let written = giver.ask(&format!("put 0 {count} 100 0"))?;
    giver.ask("settle")?;
    // What loading took of memory is not what giving takes.
    giver.end()?;
    giver = Apart::start(&args.dir.join("node-0"), Setup::default())?;
    let (giver_before, taker_before) = (giver.ask("forget")?, taker.ask("forget")?);
    giver.ask(&format!("peers {}", taker.place))?;
    taker.ask(&format!("peers {}", giver.place))?;
    let up = giver.ask("linked")?;
    let (origin, last) = (text(&written, "origin")?, number(&written, "last")?);
    let done = taker.ask(&format!("has {origin} {last}"))?;
    let (giver_after, taker_after) = (giver.ask("usage")?, taker.ask("usage")?);
    let bytes = (count * (KEY_LEN + VALUE_LEN) as u64) as f64;
    let took = number(&done, "at")? - number(&up, "at")?;
    let cpu = |before, after| -> Result<f64> {
        Ok((number(after, "cpu")? - number(before, "cpu")?) as f64 / bytes)
    };
    let mib = |usage| Ok::<f64, crate::Failure>(number(usage, "peak")? as f64 / 1048576.0);
    let on_disk = disk_bytes(&args.dir.join("node-1"))? as f64;
    let (rate, used) = ("keys and values, clock, from connected to visible", "processor time");
    let figures = vec![
        Figure::new("bootstrap by tables", bytes * 1e3 / took as f64, "MB/s", rate)
            .asked(Target::AtLeast(250.0)),
        Figure::new("bootstrap: giver", cpu(&giver_before, &giver_after)?, "s/GB", used),
        Figure::new("bootstrap: taker", cpu(&taker_before, &taker_after)?, "s/GB", used),
        Figure::new("bootstrap: memory of the giver", mib(&giver_after)?, "MiB", "VmHWM")
            .asked(Target::AtMost(128.0)),
        Figure::new("bootstrap: memory of the taker", mib(&taker_after)?, "MiB", "VmHWM")
            .asked(Target::AtMost(128.0)),
        Figure::new("bootstrap: disk of the taker", on_disk / 1048576.0, "MiB", "blocks"),
    ];
    let mut nodes = vec![giver, taker];
    check_equal(&mut nodes, count)?;
    nodes.into_iter().try_for_each(Apart::end)?;
    Ok(figures)
}
