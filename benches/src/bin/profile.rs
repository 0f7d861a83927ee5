//! One workload on Esker, the same at every run, for an instruction counter.
//!
//! ```text
//! cargo build --release -p benches --features valgrind --bin profile
//! valgrind --tool=callgrind --toggle-collect='*drive_share*' \
//!     target/release/profile WORKLOAD KEYS VALUE_BYTES
//! ```
//!
//! The store is loaded and settled first. The toggle counts only the thread that runs the workload,
//! while it does, so loading and background work do not show, and two runs differ by next to nothing.

use benches::args::Args;
use benches::contender::Name;
use benches::run::Turn;
use clap::Parser;
use std::process::ExitCode;

const USAGE: &str = "usage: profile WORKLOAD [KEYS [VALUE_BYTES]]";
/// Counting slows everything down some fifty times: no limit of time.
const NO_LIMIT: &str = "1000000";

fn main() -> ExitCode {
    match profile() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{error}");
            ExitCode::FAILURE
        }
    }
}

fn profile() -> benches::Result<()> {
    let mut given = std::env::args().skip(1);
    let workload = given.next().ok_or(USAGE)?;
    let keys = given.next().unwrap_or_else(|| "100000".to_owned());
    let value_size = given.next().unwrap_or_else(|| "100".to_owned());
    let flags = [
        ("--workloads", workload),
        ("--keys", keys),
        ("--value-size", value_size),
        ("--seconds-max", NO_LIMIT.to_owned()),
    ];
    let flags = flags.iter().flat_map(|(name, value)| [*name, value.as_str()]);
    let args = Args::try_parse_from(std::iter::once("profile").chain(flags))?;
    let mut turn = Turn::new(Name::Esker, &args, args.dir.join("profile"))?;
    for workload in args.workloads() {
        println!("{}", turn.run(*workload)?.to_json());
    }
    turn.end()
}
