//! Kills a process in the middle of a load and looks at what it had promised.
//!
//! The process is this program itself: `esker load --ack` fed through a pipe that never ends, so it
//! can not finish before it is killed. What it acknowledged must be there; what it did not
//! acknowledge may be there, but only as whole batches.

use super::brood::Brood;
use super::report::{Report, Step};
use crate::args::Durability;
use crate::database;
use crate::error::Outcome;
use crate::ucd;
use engine::Create;
use std::ffi::OsString;
use std::io::{BufRead, BufReader, BufWriter, Write};
use std::path::Path;
use std::process::ChildStdin;
use std::thread::{self, JoinHandle};

const KEYSPACE: &str = "characters";
const BATCH_RECORDS: usize = 100;
/// Where each round is killed: after so many records were acknowledged.
const KILLED_AFTER: [usize; 3] = [1_000, 5_000, 12_000];

/// Kills a loader at several points; each round goes on in the directory of the one before.
pub(super) fn kill_a_loader(brood: &Brood, report: &mut Report<'_>) -> Outcome {
    let mut step = report.begin("kill a process in mid-load");
    let path = brood.path().join("killed");
    let mut acknowledged = Vec::new();
    for after in KILLED_AFTER {
        let promised = load_and_kill(brood, &path, after)?;
        step.check(promised >= after, "the process ended before it was killed");
        verify(&path, promised, &mut step)?;
        acknowledged.push(promised.to_string());
    }
    let (kills, acknowledged) = (KILLED_AFTER.len(), acknowledged.join(", "));
    report.end(
        step,
        format_args!("{kills} times by SIGKILL; {acknowledged} records acknowledged, all there"),
    )
}

/// Starts a loader, kills it once it acknowledged `after` records, and returns what it had
/// acknowledged by then.
fn load_and_kill(brood: &Brood, path: &Path, after: usize) -> Outcome<usize> {
    let records = ucd::records()?;
    let mut child = brood.start(&arguments(path))?;
    let feeder = child.stdin.take().map(|pipe| thread::spawn(move || feed(pipe, records)));
    let mut acknowledged = 0;
    if let Some(stdout) = child.stdout.take() {
        let mut lines = BufReader::new(stdout).lines();
        while let Some(Ok(line)) = lines.next() {
            acknowledged = line.parse().unwrap_or(acknowledged);
            if acknowledged >= after {
                brood.kill(child.id)?;
                break;
            }
        }
        // What it printed before it died counts as well.
        for line in lines.map_while(Result::ok) {
            acknowledged = line.parse().unwrap_or(acknowledged);
        }
    }
    brood.wait(child.id)?;
    // The feeder has ended: its pipe broke with its reader. Only now may the pipe close.
    drop(feeder.map(JoinHandle::join));
    Ok(acknowledged)
}

/// Loading from standard input.
fn arguments(path: &Path) -> Vec<OsString> {
    let words = ["--quiet", "load", "--keyspace", KEYSPACE, "--format", "tsv", "--ack", "--batch"];
    let mut words: Vec<OsString> = words.map(OsString::from).into();
    words.extend([BATCH_RECORDS.to_string().into(), "--path".into(), path.into(), "-".into()]);
    words
}

/// Writes all `records` and hands the pipe back open, so that its reader never sees an end.
fn feed(
    pipe: ChildStdin,
    records: impl Iterator<Item = (String, &'static str)>,
) -> BufWriter<ChildStdin> {
    let mut pipe = BufWriter::new(pipe);
    for (key, value) in records {
        // An error means that the reader was killed, as planned.
        if writeln!(pipe, "{key}\t{value}").is_err() {
            break;
        }
    }
    pipe
}

/// Opens what the killed process left: everything promised, and only whole batches.
fn verify(path: &Path, promised: usize, step: &mut Step) -> Outcome {
    let db = database::open_with(path, Create::Never, Durability::Sync)?;
    let Some(keyspace) = database::keyspace_to_read(&db, KEYSPACE)? else {
        step.check(promised == 0, "the keyspace is gone");
        return Ok(db.close()?);
    };
    let mut stored = 0;
    for (number, (key, value)) in ucd::records()?.enumerate() {
        let found = keyspace.get(&key)?;
        if number < promised {
            step.check(
                found.as_deref() == Some(value.as_bytes()),
                "an acknowledged record is gone",
            );
        }
        stored += usize::from(found.is_some());
    }
    step.check(stored % BATCH_RECORDS == 0, "half a batch is there");
    step.check(stored >= promised, "less is there than was acknowledged");
    Ok(db.close()?)
}
