//! The command `esker`: a database directory from a shell.
//!
//! Results go to standard output, everything else to standard error; the exit code says how it
//! ended ([`error::Exit`]). The command knows no byte of a database file: it asks the engine, and
//! recovery for closed directories.

mod args;
mod client;
mod commands;
mod config;
mod database;
mod digest;
mod error;
mod escape;
mod files;
mod input;
mod loader;
mod logs;
mod metrics;
mod output;
mod place;
mod process;
mod progress;
mod record;
mod replicas;
mod serve;
mod ucd;
mod wire;
mod writes;

use crate::args::{Cli, Command};
use crate::error::{Exit, Failure};
use crate::output::{Format, Output};
use clap::Parser;
use clap::error::ErrorKind;
use std::ffi::OsString;
use std::io::Write;
use std::process::ExitCode;

fn main() -> ExitCode {
    let arguments: Vec<OsString> = std::env::args_os().collect();
    report_bugs(requested_format(&arguments));
    match Cli::try_parse_from(&arguments) {
        Ok(cli) => run(cli),
        Err(error) => refuse(&error, requested_format(&arguments)),
    }
}

/// Runs the command and reports how it ended.
fn run(cli: Cli) -> ExitCode {
    let format = cli.output;
    // A scan whose reader has seen enough is done; a load or a node that can not
    // report is not.
    let wants_all = matches!(
        cli.command,
        Command::Load(_) | Command::Demo(_) | Command::Bench(_) | Command::Serve(_)
    );
    let mut output = Output::new(format, cli.verbosity());
    let name = cli.command.name();
    let outcome = commands::run(cli.command, &mut output).and_then(|()| output.flush());
    let outcome = outcome.map_err(|failure| failure.during(name));
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) if failure.is_broken_pipe() => {
            output.abandon();
            if wants_all { failure.exit().into() } else { ExitCode::SUCCESS }
        }
        Err(failure) => {
            // What was found before the failure still counts; a second failure adds nothing.
            let _ = output.flush();
            report(&failure, format);
            failure.exit().into()
        }
    }
}

/// Reports a command line that makes no sense, or shows the help it asks for.
fn refuse(error: &clap::Error, format: Format) -> ExitCode {
    if matches!(error.kind(), ErrorKind::DisplayHelp | ErrorKind::DisplayVersion) {
        // Help into a closed pipe is still help.
        let _ = error.print();
        return ExitCode::SUCCESS;
    }
    let failure = Failure::new(Exit::Usage, "Usage", usage_message(&error.to_string()))
        .action("see `esker --help`, or --help behind a command");
    report(&failure, format);
    failure.exit().into()
}

/// The part of the parser's words that says what is wrong, on one line.
fn usage_message(words: &str) -> String {
    let said = words.split("\n\nUsage:").next().unwrap_or(words);
    let said = said.split("\n\nFor more information").next().unwrap_or(said);
    let said = said.strip_prefix("error: ").unwrap_or(said);
    said.split_whitespace().collect::<Vec<_>>().join(" ")
}

/// Writes a failure to standard error.
fn report(failure: &Failure, format: Format) {
    let line = match format {
        Format::Text => failure.to_text(),
        Format::Json => failure.to_json(),
    };
    // Nobody is left to tell when standard error is gone.
    let _ = writeln!(std::io::stderr(), "{line}");
}

/// The format that a command line asks for, readable even where the rest of it is wrong.
fn requested_format(arguments: &[OsString]) -> Format {
    let after = arguments.iter().skip(1);
    let pairs = arguments.iter().zip(after);
    let is_pair = pairs.into_iter().any(|(name, value)| name == "--output" && value == "json");
    let is_one = arguments.iter().any(|argument| argument == "--output=json");
    if is_pair || is_one { Format::Json } else { Format::Text }
}

/// Makes every panic that nobody catches, of any thread, end the process as a reported bug.
fn report_bugs(format: Format) {
    let report = move |message| report(&Failure::new(Exit::Bug, "Bug", message), format);
    esker_node::bugs::end_the_process(i32::from(Exit::Bug as u8), report);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_usage_message_is_one_line_without_the_usage() {
        let words = "error: the following required arguments were not provided:\n  --path <DIR>\n\n\
                     Usage: esker get --path <DIR> <KEY>\n\nFor more information, try '--help'.\n";
        assert_eq!(
            usage_message(words),
            "the following required arguments were not provided: --path <DIR>"
        );
    }

    #[test]
    fn the_format_is_known_even_if_nothing_else_is() {
        let of =
            |line: &str| requested_format(&line.split(' ').map(OsString::from).collect::<Vec<_>>());
        assert_eq!(of("esker nonsense --output json"), Format::Json);
        assert_eq!(of("esker --output=json nonsense"), Format::Json);
        assert_eq!(of("esker nonsense --output text json"), Format::Text);
    }
}
