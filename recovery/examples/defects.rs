//! Measures what the tests are worth: runs them with each deliberate defect of [`base::Defect`] in
//! turn, and counts how many make a test fail.
//!
//! ```text
//! cargo run -p esker-recovery --example defects             all of them
//! cargo run -p esker-recovery --example defects SkipSeal    only these
//! ```
//!
//! One build contains all defects (`--cfg esker_defects`, in a target directory of its own); the
//! environment variable `ESKER_DEFECT` switches one on. The same tests run without any first: where they
//! fail, nothing that they say counts. Noticed means that a test failed, or that a test never ended;
//! anything else that goes wrong is no point. The exit code is 0 if every defect was noticed.

use base::Defect;
use std::collections::BTreeSet;
use std::io::Read;
use std::os::unix::process::CommandExt;
use std::process::{Child, Command, ExitCode, Stdio};
use std::time::{Duration, Instant};

/// No suite takes this long.
const TIME_MAX: Duration = Duration::from_secs(20 * 60);

fn main() -> ExitCode {
    let asked: Vec<String> = std::env::args().skip(1).collect();
    let is_asked = |defect: &Defect| asked.is_empty() || asked.contains(&format!("{defect:?}"));
    let defects: Vec<Defect> = Defect::ALL.into_iter().filter(is_asked).collect();
    println!("building all tests with the defects in them");
    if !matches!(run(None, &["--workspace", "--no-run"]), Outcome::Passed) {
        eprintln!("the build failed");
        return ExitCode::FAILURE;
    }
    let mut sound: BTreeSet<&[&str]> = BTreeSet::new();
    let mut noticed = 0;
    for &defect in &defects {
        let started = Instant::now();
        let outcome = test(defect, &mut sound);
        let (seconds, name) = (started.elapsed().as_secs(), format!("{defect:?}"));
        match outcome {
            Outcome::Noticed(how) => {
                noticed += 1;
                println!("noticed   {name:26} {seconds:>4} s   {how}");
            }
            Outcome::Passed => println!("UNNOTICED {name:26} {seconds:>4} s"),
            Outcome::Unclear(how) => println!("UNCLEAR   {name:26} {seconds:>4} s   {how}"),
        }
    }
    println!("score: {noticed} of {}", defects.len());
    if noticed == defects.len() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

enum Outcome {
    Passed,
    /// How.
    Noticed(String),
    /// Why that says nothing.
    Unclear(String),
}

/// The arguments that test everything.
const ALL: &[&str] = &["--workspace"];

/// First the tests closest to the defect, then all. `sound` are those that pass without any defect.
fn test(defect: Defect, sound: &mut BTreeSet<&'static [&'static str]>) -> Outcome {
    for tests in [close_to(defect), ALL] {
        if !sound.contains(tests) {
            match run(None, tests) {
                Outcome::Passed => sound.insert(tests),
                Outcome::Noticed(how) | Outcome::Unclear(how) => {
                    return Outcome::Unclear(format!("{tests:?} without any defect: {how}"));
                }
            };
        }
        match run(Some(defect), tests) {
            Outcome::Passed => {}
            outcome => return outcome,
        }
    }
    Outcome::Passed
}

/// Where a defect is expected to be noticed soonest. Only saves time.
fn close_to(defect: Defect) -> &'static [&'static str] {
    match defect {
        Defect::TruncateAtAnyBadFrame
        | Defect::SkipSeal
        | Defect::PromiseTooMuch
        | Defect::SkipRecordTag
        | Defect::SkipChain
        | Defect::SkipSegmentDirectorySync
        | Defect::GoOnAfterFailedSync => &["-p", "esker-wal"],
        Defect::SkipFrameDigest | Defect::SwapLockRanks => &["-p", "esker-base"],
        Defect::SkipBlockDigest
        | Defect::SkipTableRoot
        | Defect::ForgetKeyInFilter
        | Defect::InstallBeforeDurable
        | Defect::SkipRootDirectorySync => &["-p", "esker-sstable"],
        Defect::AcceptStaleRoot
        | Defect::SkipLastReplay
        | Defect::SkipQuarantine
        | Defect::SkipTableListing => &["-p", "esker-recovery", "--test", "it"],
        Defect::AcknowledgeBeforeSync
        | Defect::ReuseSegmentNumber
        | Defect::ReleaseTooEarly
        | Defect::FlushMarksTooMuch => &["-p", "esker", "--test", "durability"],
        Defect::DeleteBeforePromised => &["-p", "esker", "--test", "last_edit"],
        Defect::DropTombstoneEarly | Defect::ForgetSnapshots | Defect::LoseRangeDelete => {
            &["-p", "esker", "--test", "model"]
        }
        Defect::ShowBeforeDurable => &["-p", "esker", "--lib"],
        Defect::SkipConflictCheck => &["-p", "esker", "--test", "transactions"],
    }
}

/// Runs `cargo test` with `arguments`, `defect` switched on.
fn run(defect: Option<Defect>, arguments: &[&str]) -> Outcome {
    let mut command = Command::new(std::env::var("CARGO").unwrap_or_else(|_| "cargo".to_owned()));
    command.arg("test").args(["--target-dir", "target/defects"]).args(arguments);
    let flags = std::env::var("RUSTFLAGS").unwrap_or_default();
    command.env("RUSTFLAGS", format!("{flags} --cfg esker_defects"));
    // What a defect makes fail is nothing to remember.
    command.env("PROPTEST_DISABLE_FAILURE_PERSISTENCE", "1");
    match defect {
        Some(defect) => command.env("ESKER_DEFECT", format!("{defect:?}")),
        None => command.env_remove("ESKER_DEFECT"),
    };
    let child = command.process_group(0).stdout(Stdio::piped()).stderr(Stdio::null()).spawn();
    match child {
        Ok(child) => finish(child),
        Err(error) => Outcome::Unclear(format!("cargo does not start: {error}")),
    }
}

fn finish(mut child: Child) -> Outcome {
    let output = child.stdout.take();
    let reader = std::thread::spawn(move || {
        let mut text = Vec::new();
        output.map(|mut output| output.read_to_end(&mut text));
        String::from_utf8_lossy(&text).into_owned()
    });
    let started = Instant::now();
    let status = loop {
        match child.try_wait() {
            Ok(None) if started.elapsed() < TIME_MAX => {
                std::thread::sleep(Duration::from_millis(100));
            }
            Ok(Some(status)) => break status,
            Ok(None) | Err(_) => {
                // Cargo's children too, which hold the pipe open.
                let group = format!("-{}", child.id());
                let _ = Command::new("kill").args(["-9", "--", &group]).status();
                return Outcome::Noticed("it hangs".to_owned());
            }
        }
    };
    let text = reader.join().unwrap_or_default();
    if status.success() {
        return Outcome::Passed;
    }
    let is_failure = |line: &&str| line.starts_with("test ") && line.ends_with("FAILED");
    let mut failed = text.lines().filter(is_failure).filter_map(|line| line.split(' ').nth(1));
    let Some(first) = failed.next() else {
        return Outcome::Unclear("cargo failed without a failed test".to_owned());
    };
    let more = failed.count();
    Outcome::Noticed(if more == 0 { first.to_owned() } else { format!("{first} and {more} more") })
}
