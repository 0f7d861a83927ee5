//! How fast a node says how it is while one of its checks hangs, and while clients ask for all it can do besides.
//!
//! What is measured is the real command, which serves its own routes from a process of its own. It is built with the
//! feature `hanging-check`, which no release has: one more check, `hangs`, whose look never comes back.

mod client;

use crate::Result;
use clap::Parser;
use client::Connection;
use std::ffi::OsString;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

/// Who asks how the node is.
const PATHS: [&str; 4] = ["/health", "/health/ready", "/health/live", "/health/detailed"];
/// What 99 of 100 answers may take, and what one to `/health/live` may at the most.
const P99_MAX: Duration = Duration::from_millis(10);
const LIVE_MAX: Duration = Duration::from_secs(2);
/// Records that are put and got.
const KEYS: u64 = 10_000;
const VALUE_LEN: usize = 100;
/// How long the check may hang before it is called so, and how long is waited for that.
const CHECK_TIMEOUT_MS: &str = "100";
const PATIENCE: Duration = Duration::from_secs(60);

/// How fast a node says how it is.
#[derive(Clone, Debug, Parser)]
#[command(name = "health")]
pub struct Args {
    /// An `esker` with the feature `hanging-check`; built into target/hanging unless it is given.
    #[arg(long)]
    esker: Option<PathBuf>,
    /// Requests for each path.
    #[arg(long, default_value_t = 20_000, value_parser = clap::value_parser!(u64).range(1..))]
    requests: u64,
    /// Connections that put and get at once in the second part.
    #[arg(long, default_value_t = 64, value_parser = clap::value_parser!(u64).range(1..))]
    clients: u64,
    /// Where the database is made.
    #[arg(long, default_value = concat!(env!("CARGO_MANIFEST_DIR"), "/../target/health"))]
    dir: PathBuf,
}

/// Measures what `words`, the command line, ask for, and prints it.
///
/// # Errors
/// A node that does not serve, or has no check that hangs.
pub fn run(words: &[String]) -> Result<()> {
    let args = Args::parse_from(std::iter::once("health").chain(words.iter().map(String::as_str)));
    let esker = match &args.esker {
        Some(esker) => esker.clone(),
        None => build()?,
    };
    let _ = std::fs::remove_dir_all(&args.dir);
    let node = Node::start(&esker, &args.dir)?;
    wait_until_it_hangs(&node.http)?;
    println!("{:10} {:18} {:>9} {:>9} {:>9}", "", "", "p50", "p99", "max");
    let mut is_met = measure("hung", &node.http, args.requests)?;
    let load = Load::default();
    thread::scope(|scope| {
        for client in 0..args.clients {
            let (load, http) = (&load, &node.http);
            scope.spawn(move || load.keep_asking(http, client));
        }
        let started = Instant::now();
        let measured = measure("and busy", &node.http, args.requests);
        load.is_over.store(true, Ordering::Relaxed);
        let per_second =
            load.answers.load(Ordering::Relaxed) as f64 / started.elapsed().as_secs_f64();
        println!("{} clients had {per_second:.0} puts and gets a second meanwhile", args.clients);
        is_met &= measured?;
        Result::Ok(())
    })?;
    drop(node);
    let _ = std::fs::remove_dir_all(&args.dir);
    println!(
        "asked: p99 < {P99_MAX:?}, /health/live < {LIVE_MAX:?}: {}",
        if is_met { "yes" } else { "NO" }
    );
    Ok(())
}

/// Builds the command with a check that hangs, apart from all others.
fn build() -> Result<PathBuf> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let target = root.join("target/hanging");
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| OsString::from("cargo"));
    let build = ["build", "--release", "-p", "esker-node", "--features", "hanging-check"];
    let built = Command::new(cargo)
        .args(build)
        .arg("--target-dir")
        .arg(&target)
        .current_dir(root)
        .status()?;
    match built.success() {
        true => Ok(target.join("release/esker")),
        false => Err("the node with a check that hangs could not be built".into()),
    }
}

/// A node in a process of its own, which ends with it.
struct Node {
    child: Child,
    http: String,
}

impl Node {
    fn start(esker: &Path, dir: &Path) -> Result<Node> {
        let addresses = ["--http", "127.0.0.1:0", "--listen", "127.0.0.1:0"];
        let mut child = Command::new(esker)
            .args(["serve", "--path"])
            .arg(dir)
            .args(addresses)
            .env("ESKER_ENGINE_SYNC", "async")
            .env("ESKER_TIMEOUTS_HEALTH_CHECK_MS", CHECK_TIMEOUT_MS)
            .env("ESKER_LOG_LEVEL", "error")
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .spawn()
            .map_err(|error| format!("{} can not be started: {error}", esker.display()))?;
        let out = child.stdout.take().ok_or("the node has no output")?;
        let mut node = Node { child, http: String::new() };
        let mut ready = String::new();
        BufReader::new(out).read_line(&mut ready)?;
        let http = ready.split_whitespace().find_map(|word| word.strip_prefix("http="));
        node.http = http.ok_or_else(|| format!("the node does not serve: {ready:?}"))?.to_owned();
        Ok(node)
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        // It may have ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn wait_until_it_hangs(http: &str) -> Result<()> {
    let mut connection = Connection::open(http)?;
    let until = Instant::now() + PATIENCE;
    while Instant::now() < until {
        let (_, body) = connection.ask("GET", "/health/detailed", b"")?;
        let found: serde_json::Value = serde_json::from_slice(&body)?;
        let check = &found["checks"]["hangs"];
        if check.is_null() {
            return Err("no check hangs: build esker with --features hanging-check".into());
        }
        if check["isTimedOut"] == true {
            return Ok(());
        }
        thread::sleep(Duration::from_millis(20));
    }
    Err("the check does not hang".into())
}

/// Asks for each path, one request after the other over one connection. Returns whether it was fast enough.
fn measure(part: &str, http: &str, requests: u64) -> Result<bool> {
    let mut is_met = true;
    for path in PATHS {
        let mut connection = Connection::open(http)?;
        let mut took = Vec::with_capacity(usize::try_from(requests)?);
        for _ in 0..requests {
            let started = Instant::now();
            connection.ask("GET", path, b"")?;
            took.push(started.elapsed());
        }
        took.sort_unstable();
        let (p50, p99, max) = (share(&took, 50), share(&took, 99), share(&took, 100));
        println!("{part:10} {path:18} {:>9} {:>9} {:>9}", millis(p50), millis(p99), millis(max));
        is_met &= p99 < P99_MAX && (path != "/health/live" || max < LIVE_MAX);
    }
    Ok(is_met)
}

/// What so many of a hundred took at most.
fn share(sorted: &[Duration], percent: usize) -> Duration {
    let rank = (sorted.len() * percent).div_ceil(100);
    sorted.get(rank.saturating_sub(1)).copied().unwrap_or_default()
}

fn millis(duration: Duration) -> String {
    format!("{:.3} ms", duration.as_secs_f64() * 1000.0)
}

/// What clients do besides.
#[derive(Debug, Default)]
struct Load {
    is_over: AtomicBool,
    answers: AtomicU64,
}

impl Load {
    /// Puts and gets in turn, as fast as answers come, until it is over.
    fn keep_asking(&self, http: &str, client: u64) {
        if let Err(error) = self.try_asking(http, client) {
            eprintln!("client {client}: {error}");
        }
    }

    fn try_asking(&self, http: &str, client: u64) -> Result<()> {
        let mut connection = Connection::open(http)?;
        let value = [b'v'; VALUE_LEN];
        let mut number = client;
        while !self.is_over.load(Ordering::Relaxed) {
            number = crate::keys::mix(number);
            let path = format!("/v1/keyspaces/default/records/key-{}", number % KEYS);
            connection.ask("PUT", &path, &value)?;
            connection.ask("GET", &path, b"")?;
            self.answers.fetch_add(2, Ordering::Relaxed);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shares_are_of_what_was_measured() {
        let all: Vec<Duration> = (1..=200).map(Duration::from_millis).collect();
        let at = |percent| share(&all, percent).as_millis();
        assert_eq!((at(50), at(99), at(100)), (100, 198, 200));
        assert_eq!(share(&all[..1], 50), all[0]);
        assert_eq!(share(&[], 99), Duration::ZERO);
        assert_eq!(millis(Duration::from_micros(1500)), "1.500 ms");
    }
}
