//! The sources of a configuration, one over the other.

use super::datasets;
use super::file::{self, Written};
use super::keys::{KEYS, Key, Reach, Reload};
use super::presets;
use super::typed;
use super::value::{Value, invitation_of};
use crate::client::TOKEN_VARIABLE;
use crate::error::{Exit, Failure};
use replication::link::Token;
use serde::Serialize;
use std::collections::BTreeMap;
use std::fmt;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

/// Where a setting comes from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Source {
    /// It was not set.
    Default,
    /// A preset.
    Preset(String),
    /// A line of a file.
    File(PathBuf, u64),
    /// An environment variable.
    Environment(String),
    /// An option of the command line.
    Option(String),
}

impl fmt::Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Source::Default => f.write_str("default"),
            Source::Preset(name) => write!(f, "preset {name}"),
            Source::File(path, line) => write!(f, "{} line {line}", path.display()),
            Source::Environment(name) => f.write_str(name),
            Source::Option(name) => f.write_str(name),
        }
    }
}

/// Something in a configuration that is wrong.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(crate) struct Mistake {
    /// Where it is.
    pub(crate) place: String,
    /// The setting, if it is about one.
    pub(crate) key: String,
    /// What was given.
    pub(crate) value: String,
    /// What is allowed.
    pub(crate) allowed: String,
}

impl fmt::Display for Mistake {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Mistake { place, key, value, allowed } = self;
        match key.is_empty() {
            true => write!(f, "{place}: {allowed}"),
            false => write!(f, "{place}: {key} = {value}; allowed: {allowed}"),
        }
    }
}

/// Values of settings by name, and where they come from.
pub(super) type Values = BTreeMap<&'static str, (Value, Source)>;

/// What is in effect, and why.
#[derive(Clone, Debug)]
pub(crate) struct Config {
    values: Values,
    datasets: BTreeMap<String, Config>,
}

impl Config {
    /// A configuration of these.
    pub(super) fn of(values: Values, datasets: BTreeMap<String, Config>) -> Config {
        Config { values, datasets }
    }

    /// Further databases in the same process, by name; each has a value for every setting.
    pub(crate) fn datasets(&self) -> &BTreeMap<String, Config> {
        &self.datasets
    }

    /// The value of `key`, if it has one.
    pub(crate) fn get(&self, key: &str) -> Option<&Value> {
        self.values.get(key).map(|(value, _)| value)
    }

    /// The value of `key`, and where it comes from.
    pub(crate) fn with_source(&self, key: &str) -> Option<&(Value, Source)> {
        self.values.get(key)
    }

    /// The settings that differ from those of `before` and only change at a start. A dataset that came or went is
    /// named as a whole.
    pub(crate) fn waits_for_start(&self, before: &Config) -> Vec<String> {
        let is_changed = |key: &&Key| self.get(key.name) != before.get(key.name);
        let waiting = KEYS.iter().filter(|key| key.reload == Reload::Restart).filter(is_changed);
        let mut waiting: Vec<String> = waiting.map(|key| key.name.to_owned()).collect();
        for (name, dataset) in &self.datasets {
            let Some(before) = before.datasets.get(name) else {
                waiting.push(format!("{}{name}", datasets::PREFIX));
                continue;
            };
            let of_process =
                |key: &String| Key::named(key).is_some_and(|key| key.reach() == Reach::Process);
            let of_dataset = dataset.waits_for_start(before).into_iter();
            let of_dataset = of_dataset.filter(|key| !of_process(key));
            waiting.extend(of_dataset.map(|key| datasets::full_name(name, &key)));
        }
        let gone = before.datasets.keys().filter(|name| !self.datasets.contains_key(*name));
        waiting.extend(gone.map(|name| format!("{}{name}", datasets::PREFIX)));
        waiting
    }

    /// Takes over the settings of `next` that change at once.
    pub(crate) fn take_live(&mut self, next: &Config) {
        for (name, dataset) in &mut self.datasets {
            if let Some(next) = next.datasets.get(name) {
                dataset.take_live(next);
            }
        }
        for key in KEYS.iter().filter(|key| key.reload == Reload::Live) {
            if let Some(found) = next.values.get(key.name) {
                self.values.insert(key.name, found.clone());
            }
        }
    }

    /// A text; none if it is not set or empty.
    pub(crate) fn text(&self, key: &str) -> Option<&str> {
        match self.get(key) {
            Some(Value::Text(words)) if !words.is_empty() => Some(words),
            _ => None,
        }
    }

    /// A number.
    pub(crate) fn number(&self, key: &str) -> u64 {
        match self.get(key) {
            Some(Value::Number(number)) => *number,
            _ => 0,
        }
    }

    /// A flag.
    pub(crate) fn flag(&self, key: &str) -> bool {
        matches!(self.get(key), Some(Value::Flag(true)))
    }

    /// An address.
    pub(crate) fn address(&self, key: &str) -> Option<SocketAddr> {
        self.text(key)?.parse().ok()
    }

    /// An invitation: token and address.
    pub(crate) fn invitation(&self, key: &str) -> Option<(Token, SocketAddr)> {
        invitation_of(self.text(key)?)
    }

    /// A list.
    pub(crate) fn list(&self, key: &str) -> &[String] {
        match self.get(key) {
            Some(Value::List(list)) => list,
            _ => &[],
        }
    }
}

/// The sources that were read so far, and the mistakes in them.
#[derive(Debug, Default)]
pub(crate) struct Layers {
    file: Values,
    environment: Values,
    options: Values,
    /// Only a file and an option make datasets.
    datasets: BTreeMap<String, Values>,
    mistakes: Vec<Mistake>,
}

impl Layers {
    /// Reads `text`, the content of the file at `path`.
    pub(crate) fn read_file(&mut self, text: &str, path: &Path) {
        let (written, broken) = file::read(text);
        for broken in broken {
            let place = Source::File(path.to_path_buf(), broken.line).to_string();
            self.mistake(place, "", "", format!("it is not TOML: {}", broken.message));
        }
        for one in written {
            let source = Source::File(path.to_path_buf(), one.line);
            let Some((dataset, name)) = datasets::split(&one.name) else {
                match admit(&one, &one.name, source) {
                    Ok((key, found)) => drop(self.file.insert(key.name, found)),
                    Err(mistake) => self.mistakes.push(mistake),
                }
                continue;
            };
            match admit_of_dataset(&one, dataset, name, source) {
                Ok(found) => {
                    let values = self.datasets.entry(dataset.to_owned()).or_default();
                    values.extend(found.map(|(key, found)| (key.name, found)));
                }
                Err(mistake) => self.mistakes.push(mistake),
            }
        }
    }

    /// Reads the variables of the environment whose names begin with `ESKER_`.
    pub(crate) fn read_environment(&mut self, all: impl Iterator<Item = (String, String)>) {
        // An empty variable is one that is not set; the token is for commands that ask a node.
        let is_setting = |name: &str| name.starts_with("ESKER_") && name != TOKEN_VARIABLE;
        let all = all.filter(|(name, words)| is_setting(name) && !words.is_empty());
        for (name, words) in all {
            let Some(key) = KEYS.iter().find(|key| key.variable() == name) else {
                self.mistake(name.clone(), &name, &words, "there is no such setting".to_owned());
                continue;
            };
            match key.kind.read(&words) {
                Some(value) => {
                    self.environment.insert(key.name, (value, Source::Environment(name)));
                }
                None => self.mistake(name, key.name, &words, key.kind.allowed()),
            }
        }
    }

    /// Takes an option of the command line.
    pub(crate) fn option(&mut self, key: &'static str, option: &str, words: &str) {
        let Some(key) = Key::named(key) else { return };
        match key.kind.read(words) {
            Some(value) => {
                self.options.insert(key.name, (value, Source::Option(option.to_owned())));
            }
            None => self.mistake(option.to_owned(), key.name, words, key.kind.allowed()),
        }
    }

    /// Takes a dataset of the command line, written NAME=DIR.
    pub(crate) fn dataset(&mut self, option: &str, words: &str) {
        match words.split_once('=') {
            Some((name, path)) if datasets::is_name(name) && !path.is_empty() => {
                let found = (Value::Text(path.to_owned()), Source::Option(option.to_owned()));
                self.datasets.entry(name.to_owned()).or_default().insert("path", found);
            }
            _ => {
                let allowed = "NAME=DIR, a name of letters, digits, dashes and underscores";
                self.mistake(option.to_owned(), "datasets", words, allowed.to_owned());
            }
        }
    }

    fn mistake(&mut self, place: String, key: &str, value: &str, allowed: String) {
        let (key, value) = (key.to_owned(), value.to_owned());
        self.mistakes.push(Mistake { place, key, value, allowed });
    }

    /// What is in effect.
    ///
    /// # Errors
    /// Every mistake in any source.
    pub(crate) fn settle(self) -> Result<Config, Vec<Mistake>> {
        let Layers { file, environment, options, datasets, mistakes } = self;
        let mut given = file;
        given.extend(environment);
        given.extend(options);
        let preset = match given.get("preset") {
            Some((Value::Text(name), _)) => name.clone(),
            _ => String::new(),
        };
        let mut values = BTreeMap::new();
        for key in KEYS {
            if let Some(value) = key.kind.read(key.default) {
                values.insert(key.name, (value, Source::Default));
            }
        }
        for (name, words) in presets::settings_of(&preset) {
            if let Some(key) = Key::named(name)
                && let Some(value) = key.kind.read(words)
            {
                values.insert(key.name, (value, Source::Preset(preset.clone())));
            }
        }
        values.extend(given);
        let mut config = Config::of(values, BTreeMap::new());
        let mut mistakes = mistakes;
        mistakes.extend(typed::contradictions(&config));
        let (datasets, of_datasets) = datasets::settle(&config, datasets);
        mistakes.extend(of_datasets);
        config.datasets = datasets;
        if mistakes.is_empty() { Ok(config) } else { Err(mistakes) }
    }
}

/// A setting with its value and where that comes from.
type Found = (&'static Key, (Value, Source));

/// The setting `name` that a file has in the line `one`.
fn admit(one: &Written, name: &str, source: Source) -> Result<Found, Mistake> {
    let refuse = |allowed: String| {
        let (key, value) = (one.name.clone(), one.words.clone());
        Mistake { place: source.to_string(), key, value, allowed }
    };
    let key = Key::named(name).ok_or_else(|| refuse(unknown(name)))?;
    match one.value.clone().and_then(|value| key.kind.admit(value)) {
        Some(value) => Ok((key, (value, source))),
        None => Err(refuse(key.kind.allowed())),
    }
}

/// The same of `dataset`; none if the line does no more than make it.
fn admit_of_dataset(
    one: &Written,
    dataset: &str,
    name: Option<&str>,
    source: Source,
) -> Result<Option<Found>, Mistake> {
    let refuse = |source: &Source, allowed: String| {
        let (key, value) = (one.name.clone(), one.words.clone());
        Err(Mistake { place: source.to_string(), key, value, allowed })
    };
    let Some(name) = name.filter(|_| datasets::is_name(dataset)) else {
        return match datasets::is_name(dataset) && one.value.is_none() {
            true => Ok(None),
            false => refuse(&source, datasets::NAME_ALLOWED.to_owned()),
        };
    };
    match Key::named(name).map(Key::reach) {
        Some(Reach::Process) => {
            refuse(&source, format!("{name} is for the whole process, outside of [datasets]"))
        }
        _ => admit(one, name, source).map(Some),
    }
}

/// Why a name is refused, with the name that may have been meant.
fn unknown(name: &str) -> String {
    let last = |name: &str| name.rsplit('.').next().unwrap_or_default().to_owned();
    let meant = KEYS.iter().map(|key| (strsim::levenshtein(name, key.name), key.name)).min();
    let elsewhere = KEYS.iter().find(|key| last(key.name) == last(name));
    match (elsewhere, meant) {
        (Some(key), _) => format!("there is no such setting; perhaps {} is meant", key.name),
        (None, Some((1..=2, meant))) => {
            format!("there is no such setting; perhaps {meant} is meant")
        }
        _ => "there is no such setting; `esker config init` lists all".to_owned(),
    }
}

const CONFIG_INVALID: &str = "ConfigInvalid";

/// All mistakes as one failure.
pub(crate) fn refuse(mistakes: &[Mistake]) -> Failure {
    let lines: Vec<String> = mistakes.iter().map(ToString::to_string).collect();
    let message = match lines.len() {
        1 => format!("a mistake in the configuration: {}", lines.concat()),
        count => format!("{count} mistakes in the configuration: {}", lines.join(" | ")),
    };
    let one = |mistake: &Mistake| {
        Failure::new(Exit::Input, CONFIG_INVALID, mistake.to_string()).action("correct the setting")
    };
    Failure::new(Exit::Input, CONFIG_INVALID, message)
        .action("correct the settings")
        .of_all(mistakes.iter().map(one).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn layers(text: &str) -> Layers {
        let mut layers = Layers::default();
        layers.read_file(text, Path::new("node.toml"));
        layers
    }

    fn variables(list: &[(&str, &str)]) -> impl Iterator<Item = (String, String)> {
        let owned = |(name, words): &(&str, &str)| ((*name).to_owned(), (*words).to_owned());
        list.iter().map(owned).collect::<Vec<_>>().into_iter()
    }

    #[test]
    fn the_stronger_source_wins_and_is_named() {
        let mut layers = layers(
            "path = 'a'\npreset = 'low-memory'\n[engine]\nmemtable_bytes = '2 MiB'\nsync = 'async'\n\
             [log]\nlevel = 'warn'",
        );
        layers.read_environment(variables(&[
            ("ESKER_ENGINE_SYNC", "periodic"),
            ("ESKER_LOG_LEVEL", "debug"),
            ("HOME", "/root"),
        ]));
        layers.option("log.level", "--log-level", "error");
        let config = layers.settle().unwrap();
        let source = |key: &str| config.with_source(key).unwrap().1.to_string();
        assert_eq!(config.text("path"), Some("a"));
        assert_eq!(config.number("engine.memory_bytes"), 32 << 20);
        assert_eq!(source("engine.memory_bytes"), "preset low-memory");
        assert_eq!(config.number("engine.memtable_bytes"), 2 << 20);
        assert_eq!(source("engine.memtable_bytes"), "node.toml line 4");
        assert_eq!(config.text("engine.sync"), Some("periodic"));
        assert_eq!(source("engine.sync"), "ESKER_ENGINE_SYNC");
        assert_eq!(config.text("log.level"), Some("error"));
        assert_eq!(source("log.level"), "--log-level");
        assert_eq!(source("engine.block_bytes"), "default");
    }

    #[test]
    fn every_mistake_is_named_at_once_with_its_place_value_and_what_is_allowed() {
        let mut layers = layers(
            "path = 'a'\nhtp = 'x'\nhttp = '0.0.0.0:80'\n\n[engine]\nmemory_bytes = 7\nsync = true\n\
             [engines]\ntable_bytes = 1\n[log]\nkeep = 1.5\n",
        );
        layers.read_environment(variables(&[
            ("ESKER_ENGINE_SINC", "async"),
            ("ESKER_LOG_KEEP", "many"),
        ]));
        layers.option("role", "--role", "king");
        let mistakes = layers.settle().unwrap_err();
        let lines: Vec<String> = mistakes.iter().map(ToString::to_string).collect();
        for expected in [
            "node.toml line 2: htp = 'x'; allowed: there is no such setting; perhaps http is meant",
            "node.toml line 3: http = \"0.0.0.0:80\"; allowed: an address of this machine's loopback",
            "node.toml line 6: engine.memory_bytes = 7; allowed: 16 MiB to 16 TiB",
            "node.toml line 7: engine.sync = true; allowed: one of sync, periodic, async",
            "node.toml line 9: engines.table_bytes = 1; allowed: there is no such setting; perhaps \
             engine.table_bytes is meant",
            "node.toml line 11: log.keep = 1.5; allowed: a number from 1 to 1000",
            "ESKER_ENGINE_SINC: ESKER_ENGINE_SINC = async; allowed: there is no such setting",
            "ESKER_LOG_KEEP: log.keep = many; allowed: a number from 1 to 1000",
            "--role: role = king; allowed: one of writer, replica, respond-only",
        ] {
            assert!(lines.iter().any(|line| line.starts_with(expected)), "{expected}: {lines:#?}");
        }
        assert_eq!(lines.len(), 9, "{lines:#?}");
        let failure = refuse(&mistakes);
        assert!(failure.to_text().contains("9 mistakes"), "{}", failure.to_text());
    }

    #[test]
    fn what_is_not_toml_is_a_mistake_with_its_line() {
        let lines = |text: &str| -> Vec<String> {
            layers(text).settle().unwrap_err().iter().map(ToString::to_string).collect()
        };
        let found = lines("path = 'a'\nlisten =\nkeep = = 1\n");
        assert!(
            found.iter().any(|line| line.starts_with("node.toml line 2: it is not")),
            "{found:?}"
        );
        assert!(found.iter().any(|line| line.starts_with("node.toml line 3: ")), "{found:?}");
        let twice = lines("path = 'a'\npath = 'b'\n");
        assert!(twice.iter().any(|line| line.starts_with("node.toml line 2: ")), "{twice:?}");
    }

    #[test]
    fn what_contradicts_itself_is_a_mistake() {
        let mistakes =
            layers("path = 'a'\n[engine]\nmemory_bytes = '16 MiB'\n").settle().unwrap_err();
        let [mistake] = &mistakes[..] else { unreachable!("{mistakes:?}") };
        assert_eq!(mistake.key, "engine.memory_bytes");
        assert!(mistake.allowed.contains("192 MiB"), "{mistake}");
    }
}
