//! The parent's end of a node that is a process: commands out, answers back.

use super::args::Args;
use crate::{Failure, Result};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;
use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};

/// How a node is opened.
#[derive(Clone, Copy, Debug)]
pub(super) struct Setup {
    pub(super) memtable_mb: u64,
    pub(super) retention_mb: u64,
}

impl Default for Setup {
    fn default() -> Setup {
        Setup { memtable_mb: 64, retention_mb: 0 }
    }
}

/// A node. It ends when this is dropped.
pub(super) struct Apart {
    child: Child,
    commands: Option<ChildStdin>,
    answers: BufReader<ChildStdout>,
    /// As its peers must be told: `NODE@ADDRESS`.
    pub(super) place: String,
}

impl Apart {
    /// Starts the node of `dir`, which is made if it is missing.
    pub(super) fn start(dir: &Path, setup: Setup) -> Result<Apart> {
        let mut child = Command::new(std::env::current_exe()?)
            .arg("--node")
            .arg(dir)
            .args(["--memtable-mb", &setup.memtable_mb.to_string()])
            .args(["--retention-mb", &setup.retention_mb.to_string()])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()?;
        let commands = child.stdin.take();
        let answers = BufReader::new(child.stdout.take().ok_or("the node has no output")?);
        let mut apart = Apart { child, commands, answers, place: String::new() };
        let hello = apart.answer()?;
        apart.place = format!("{}@{}", text(&hello, "node")?, text(&hello, "address")?);
        Ok(apart)
    }

    /// Makes the node do something, and waits until it has.
    pub(super) fn ask(&mut self, command: &str) -> Result<Value> {
        self.tell(command)?;
        self.answer()
    }

    /// Makes the node do something.
    pub(super) fn tell(&mut self, command: &str) -> Result<()> {
        let commands = self.commands.as_mut().ok_or("the node has ended")?;
        Ok(writeln!(commands, "{command}")?)
    }

    /// Waits until the node has done what it was told.
    pub(super) fn answer(&mut self) -> Result<Value> {
        let mut line = String::new();
        if self.answers.read_line(&mut line)? == 0 {
            return Err("a node has ended; see above".into());
        }
        Ok(serde_json::from_str(&line)?)
    }

    /// Lets the process stand still, or go on.
    pub(super) fn signal(&self, signal: Signal) -> Result<()> {
        let pid = i32::try_from(self.child.id())?;
        let pid = Pid::from_raw(pid).ok_or("the node has no process")?;
        Ok(kill_process(pid, signal)?)
    }

    /// Closes the database and waits for the end.
    pub(super) fn end(mut self) -> Result<()> {
        self.commands = None;
        let status = self.child.wait()?;
        if status.success() { Ok(()) } else { Err(format!("a node has ended: {status}").into()) }
    }
}

impl Drop for Apart {
    fn drop(&mut self) {
        if self.commands.is_some() {
            // Whoever is dropped without `end` has failed: nothing is waited for.
            let _ = self.child.kill();
            let _ = self.child.wait();
        }
    }
}

/// Nodes in new directories below `args.dir`.
pub(super) fn fresh(args: &Args, setups: &[Setup]) -> Result<Vec<Apart>> {
    let start = |(at, setup): (usize, &Setup)| {
        let dir = args.dir.join(format!("node-{at}"));
        match std::fs::remove_dir_all(&dir) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => Err(error.into()),
            _ => Apart::start(&dir, *setup),
        }
    };
    setups.iter().enumerate().map(start).collect()
}

/// Makes all of them peers of each other, and waits until they are connected.
pub(super) fn link(nodes: &mut [Apart]) -> Result<()> {
    let places: Vec<String> = nodes.iter().map(|node| node.place.clone()).collect();
    for (at, node) in nodes.iter_mut().enumerate() {
        let others = places.iter().enumerate().filter(|(other, _)| *other != at);
        let others: Vec<&str> = others.map(|(_, place)| place.as_str()).collect();
        node.ask(&format!("peers {}", others.join(" ")))?;
    }
    for node in nodes {
        node.ask("linked")?;
    }
    Ok(())
}

/// That all of them hold the same records.
pub(super) fn check_equal(nodes: &mut [Apart], count: u64) -> Result<()> {
    for node in nodes.iter_mut() {
        node.tell("content")?;
    }
    let contents: Result<Vec<Value>> = nodes.iter_mut().map(Apart::answer).collect();
    let contents = contents?;
    let is_right = |content: &Value| {
        Some(content) == contents.first() && number(content, "count").is_ok_and(|it| it == count)
    };
    match contents.iter().all(is_right) {
        true => Ok(()),
        false => Err(format!("the nodes differ: {contents:?}, expected {count} records").into()),
    }
}

/// A number of an answer.
pub(super) fn number(answer: &Value, name: &str) -> Result<u64> {
    let found = answer.get(name).and_then(Value::as_u64);
    found.ok_or_else(|| Failure::from(format!("no {name} in {answer}")))
}

/// A text of an answer.
pub(super) fn text<'a>(answer: &'a Value, name: &str) -> Result<&'a str> {
    let found = answer.get(name).and_then(Value::as_str);
    found.ok_or_else(|| Failure::from(format!("no {name} in {answer}")))
}

/// Pairs of numbers of an answer.
pub(super) fn pairs(answer: &Value, name: &str) -> Result<Vec<(u64, u64)>> {
    let found = answer.get(name).cloned().ok_or_else(|| format!("no {name} in {answer}"))?;
    Ok(serde_json::from_value(found)?)
}
