//! A configuration as text: a file to begin with, and what is in effect.

use super::datasets::full_name;
use super::keys::{KEYS, Key, Reach, Reload};
use super::layers::Config;
use super::value::Kind;
use std::fmt::Write;

/// A file with every setting, commented out at its default.
pub(crate) fn template() -> String {
    let mut text = String::from(
        "# Settings of an Esker node. Everything is at its default: take the # away to change it.\n\
         # A variable of the environment or an option of the command line is stronger.\n",
    );
    let mut table = "";
    for key in KEYS {
        let (of, name) = key.name.rsplit_once('.').unwrap_or(("", key.name));
        if of != table {
            table = of;
            // Writing to a string does not fail.
            let _ = write!(text, "\n[{of}]\n");
        }
        let _ = write!(text, "\n# {}: {}.", key.about, key.kind.allowed());
        if key.reload == Reload::Live {
            text.push_str(" Changes on SIGHUP.");
        }
        let _ = write!(text, "\n# {name} = {}\n", default_of(key));
    }
    text + OF_DATASETS
}

/// What a file says about further databases.
const OF_DATASETS: &str = "
# Further databases in the same process, at most 64: each has a table with a name of letters, digits, dashes and
# underscores, with a directory, an identity, peers and a budget of memory of its own. A table may have every
# setting above but for http, end_with_input, auth, log, timeouts and health. What it leaves out is as above, but
# for listen, peers, join, role, local_keyspaces, resolvers and backup.to, which are at their default.

# [datasets.orders]

# path = \"orders\"
";

fn default_of(key: &Key) -> String {
    let value = key.kind.read(key.default);
    match (key.kind, value) {
        (Kind::Bytes(..), _) => format!("{:?}", key.default),
        (_, Some(value)) => value.to_string(),
        (_, None) => "\"\"".to_owned(),
    }
}

/// Every setting with its value and where that comes from, a line each.
pub(crate) fn effective(config: &Config) -> Vec<(String, String, String)> {
    let mut lines = Vec::new();
    for key in KEYS {
        lines.extend(
            line_of(config, key).map(|(value, source)| (key.name.to_owned(), value, source)),
        );
    }
    for (name, dataset) in config.datasets() {
        for key in KEYS.iter().filter(|key| key.reach() != Reach::Process) {
            let line = line_of(dataset, key);
            lines.extend(line.map(|(value, source)| (full_name(name, key.name), value, source)));
        }
    }
    lines
}

fn line_of(config: &Config, key: &Key) -> Option<(String, String)> {
    let (value, source) = config.with_source(key.name)?;
    // Whoever has an invitation may join.
    let is_secret = key.kind == Kind::Invitation && config.text(key.name).is_some();
    let value = if is_secret { "(not shown)".to_owned() } else { value.to_string() };
    Some((value, source.to_string()))
}

#[cfg(test)]
mod tests {
    use super::super::layers::Layers;
    use super::*;
    use std::path::Path;

    #[test]
    fn the_template_has_every_setting_and_says_what_is_the_default() {
        let uncommented: String = template()
            .lines()
            .map(|line| line.strip_prefix("# ").unwrap_or(line))
            .filter(|line| line.contains(" = ") && !line.contains(": ") || line.starts_with('['))
            .map(|line| format!("{line}\n"))
            .collect();
        let read = |text: &str| {
            let mut layers = Layers::default();
            layers.read_file(text, Path::new("node.toml"));
            layers.settle().unwrap()
        };
        assert_eq!(read(&uncommented).datasets()["orders"].text("path"), Some("orders"));
        let (written, default) = (read(&uncommented), read(&template()));
        for key in KEYS {
            let last = key.name.rsplit('.').next().unwrap();
            assert!(uncommented.contains(&format!("{last} = ")), "{}", key.name);
            let is_none = key.default.is_empty();
            assert!(is_none || written.get(key.name) == default.get(key.name), "{}", key.name);
        }
    }
}
