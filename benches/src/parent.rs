//! Starts a process per engine and round, engines interleaved, and collects their lines.

use crate::Result;
use crate::args::Args;
use crate::contender::Name;
use crate::outcome::Outcome;
use crate::report::Report;
use crate::{chart, child, reopen};
use std::fs::{File, create_dir_all, write};
use std::io::{BufRead, BufReader, Write};
use std::process::{Command, Stdio};

/// Does what the flags say: all of it, or one child's part.
pub fn run(args: &Args) -> Result<()> {
    match (args.child, &args.filler) {
        (Some(engine), Some(dir)) => reopen::fill_until_killed(engine, args, dir),
        (Some(engine), None) => child::measure(engine, args),
        (None, _) => compare(args),
    }
}

fn compare(args: &Args) -> Result<()> {
    create_dir_all(&args.dir)?;
    create_dir_all(&args.out)?;
    let mut lines = File::create(args.out.join("results.jsonl"))?;
    let mut outcomes = Vec::new();
    for round in 0..args.rounds as usize {
        // Whoever comes first finds a colder machine: let it be another one each time.
        let mut engines = args.engines().to_vec();
        let first = round % engines.len().max(1);
        engines.rotate_left(first);
        for engine in engines {
            eprintln!("round {} of {}: {}", round + 1, args.rounds, engine.as_str());
            measure_apart(engine, &mut lines, &mut outcomes)?;
        }
    }
    let report = Report::new(args, outcomes);
    let text = report.to_markdown();
    write(args.out.join("report.md"), &text)?;
    write(args.out.join("report.svg"), chart::draw(&report))?;
    println!("{text}");
    println!("written to {}", args.out.display());
    Ok(())
}

/// Starts a child and reads its lines as they come.
fn measure_apart(engine: Name, lines: &mut File, outcomes: &mut Vec<Outcome>) -> Result<()> {
    let mut child = Command::new(std::env::current_exe()?)
        .args(std::env::args_os().skip(1))
        .args(["--child", engine.as_str()])
        .stdout(Stdio::piped())
        .spawn()?;
    let stdout = child.stdout.take().ok_or("the child has no output")?;
    for line in BufReader::new(stdout).lines() {
        let line = line?;
        let outcome = Outcome::from_json(&line)?;
        let (ops, ns) = (outcome.ops.max(1), outcome.wall_ns);
        eprintln!("  {:14} {:9} ops, {:8} ns each", outcome.workload, ops, ns / ops);
        writeln!(lines, "{line}")?;
        outcomes.push(outcome);
    }
    let status = child.wait()?;
    if !status.success() {
        eprintln!("  {} ended early: {status}", engine.as_str());
    }
    Ok(())
}
