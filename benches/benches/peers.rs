//! The same workloads side by side on Esker and its peers; see `README.md`.

use benches::args::Args;
use clap::Parser;
use std::process::ExitCode;

fn main() -> ExitCode {
    match benches::parent::run(&Args::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{error}");
            ExitCode::FAILURE
        }
    }
}
