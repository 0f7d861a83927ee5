//! `esker config`: the configuration of a node, checked, shown or begun.

use crate::config::{Config, Layers, Mistake, effective, notes, refuse, template, token_of};
use crate::error::{Failure, Outcome};
use crate::files;
use crate::output::Output;
use crate::process::memory_limit;
use base::{Error, OsRng, Rng};
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
  esker config init --config node.toml
  esker config check --config node.toml
  esker config show --config node.toml --output json
  esker config token ada")]
pub(crate) struct ConfigArgs {
    #[command(subcommand)]
    what: What,
}

/// What to do with a configuration.
#[derive(clap::Subcommand, Debug)]
enum What {
    /// Names every mistake at once, with key, value and what is allowed; else what to think about
    #[command(after_help = "Example:\n  esker config check --config node.toml")]
    Check(FileArgs),
    /// Prints what is in effect and where each value comes from
    #[command(after_help = "Example:\n  esker config show --config node.toml --output json")]
    Show(FileArgs),
    /// Prints a file with every setting, commented out at its default, or writes it to a new one
    #[command(after_help = "Example:\n  esker config init --config node.toml")]
    Init(FileArgs),
    /// Draws a token for HTTP: for its owner, and as the hash that a node knows it by
    #[command(after_help = "Example:\n  esker config token ada")]
    Token {
        /// Who it is for
        #[arg(value_name = "NAME", default_value = "operator")]
        name: String,
    },
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
        What::Init(file) => init(file, output),
        What::Token { name } => token(name, output),
    }
}

/// A file that is there is never replaced: it may be somebody's work.
fn init(args: &FileArgs, output: &mut Output) -> Outcome {
    let text = template();
    let Some(path) = &args.config else {
        return output.result(format_args!("{}", text.trim_end()), &json!({ "file": text }));
    };
    files::write_new(path, &text)?;
    output.remark(format_args!("written: {}", path.display()), &json!({ "path": path }))
}

/// Draws a token that cannot be guessed. The node is given what can not be turned back into it.
fn token(name: &str, output: &mut Output) -> Outcome {
    let mut bytes = [0; 32];
    OsRng.fill(&mut bytes).map_err(|e| Error::io("draw randomness for", "a token", e))?;
    let token = blake3::Hash::from_bytes(bytes).to_hex();
    let words = format!("{name}:{}", blake3::hash(token.as_bytes()).to_hex());
    if token_of(&words).is_none() {
        return Err(Failure::input(
            "a name has 1 to 64 letters, digits and dashes, and is not `file`",
        ));
    }
    let lines = format!("export ESKER_TOKEN={token}\n\n[auth]\ntokens = [\"{words}\"]");
    output.result(format_args!("{lines}"), &json!({ "token": token.as_str(), "tokens": [words] }))
}

fn check(args: &FileArgs, output: &mut Output) -> Outcome {
    match gather(args)? {
        Ok(config) => {
            let notes = memory_limit().map_or_else(Vec::new, |bytes| notes(&config, bytes));
            let lines = notes.iter().map(|note| format!("\nnote: {note}")).collect::<String>();
            let object = json!({ "mistakes": [], "notes": notes });
            output.result(format_args!("no mistakes{lines}"), &object)
        }
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
        |(key, value, source): &(String, String, String)| format!("{key} = {value}  # {source}");
    let text: Vec<String> = settings.iter().map(line).collect();
    let object = |(key, value, source): &(String, String, String)| json!({ "key": key, "value": value, "source": source });
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
