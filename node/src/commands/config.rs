//! `esker config`: the configuration of a node, checked, shown or begun.

use crate::config::{Config, Layers, Mistake, effective, refuse, template};
use crate::error::Outcome;
use crate::files;
use crate::output::Output;
use serde_json::json;
use std::path::PathBuf;

/// Bytes of a file at most.
pub(crate) const FILE_LEN_MAX: usize = 1 << 20;

/// The command line of `esker config`.
#[derive(clap::Args, Debug)]
#[command(after_help = "\
Settings come from defaults, a preset, the file, the environment (ESKER_LOG_LEVEL for log.level) and the
command line of `serve`; the right one wins. A mistake exits with 5, after all of them were named.

Examples:
  esker config init > node.toml
  esker config check --config node.toml
  esker config show --config node.toml --output json")]
pub(crate) struct ConfigArgs {
    #[command(subcommand)]
    what: What,
}

/// What to do with a configuration.
#[derive(clap::Subcommand, Debug)]
enum What {
    /// Names every mistake at once, with key, value and what is allowed
    Check(FileArgs),
    /// Prints what is in effect and where each value comes from
    Show(FileArgs),
    /// Prints a file with every setting, commented out at its default
    Init,
}

#[derive(clap::Args, Debug)]
struct FileArgs {
    /// The file
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
}

/// Runs the command.
pub(crate) fn run(args: &ConfigArgs, output: &mut Output) -> Outcome {
    match &args.what {
        What::Check(file) => check(file, output),
        What::Show(file) => show(file, output),
        What::Init => {
            let text = template();
            output.result(format_args!("{}", text.trim_end()), &json!({ "file": text }))
        }
    }
}

fn check(args: &FileArgs, output: &mut Output) -> Outcome {
    match gather(args)? {
        Ok(_) => output.result(format_args!("no mistakes"), &json!({ "mistakes": [] })),
        Err(mistakes) => {
            let lines: Vec<String> = mistakes.iter().map(ToString::to_string).collect();
            let lines = lines.join("\n");
            output.result(format_args!("{lines}"), &json!({ "mistakes": mistakes }))?;
            Err(refuse(&mistakes))
        }
    }
}

fn show(args: &FileArgs, output: &mut Output) -> Outcome {
    let config = gather(args)?.map_err(|mistakes| refuse(&mistakes))?;
    let settings = effective(&config);
    let line =
        |(key, value, source): &(&str, String, String)| format!("{key} = {value}  # {source}");
    let text: Vec<String> = settings.iter().map(line).collect();
    let object = |(key, value, source): &(&str, String, String)| json!({ "key": key, "value": value, "source": source });
    let objects: Vec<_> = settings.iter().map(object).collect();
    output.result(format_args!("{}", text.join("\n")), &json!({ "settings": objects }))
}

/// The file and the environment together.
fn gather(args: &FileArgs) -> Outcome<Result<Config, Vec<Mistake>>> {
    let mut layers = Layers::default();
    if let Some(path) = &args.config {
        layers.read_file(&files::read_text(path, FILE_LEN_MAX)?, path);
    }
    layers.read_environment(crate::config::environment());
    Ok(layers.settle())
}
