//! Datasets: further databases in the same process, each a table `[datasets.NAME]`.
//!
//! ```text
//! [datasets.orders]             path, listen, preset, role, .. as at the top of the file
//! [datasets.orders.engine]      what differs from [engine], and so with the other tables
//! ```
//!
//! What a dataset does not say is as the main database has it, but for what only one database can have
//! (`keys::Reach`): its directory must be given, the rest of that is at its default. What is about the process
//! can not be said of a dataset.

use super::keys::{KEYS, Key, Reach};
use super::layers::{Config, Mistake, Source, Values};
use super::presets;
use super::typed;
use super::value::Value;
use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::{Component, Path, PathBuf};

/// What the names of their settings begin with.
pub(super) const PREFIX: &str = "datasets.";
/// Datasets of a process at most, besides the main one.
pub(super) const DATASETS_MAX: usize = 64;
/// Bytes of a name at most.
const NAME_LEN_MAX: usize = 64;
/// What a name may be, as words.
pub(super) const NAME_ALLOWED: &str = "a table [datasets.NAME], whose name has 1 to 64 letters, digits, dashes \
     and underscores, and is not `main`: that is the one at the top of the file";
/// How the one is called that is no table of its own.
pub(crate) const MAIN: &str = "main";

/// Whether a dataset may be called `name`: it stands in URLs, in labels of metrics and in lines of the log.
pub(super) fn is_name(name: &str) -> bool {
    let is_fine = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_';
    name != MAIN && (1..=NAME_LEN_MAX).contains(&name.len()) && name.bytes().all(is_fine)
}

/// Dataset and key of the setting `name` in a file; no key if it is the table of a dataset.
pub(super) fn split(name: &str) -> Option<(&str, Option<&str>)> {
    let rest = name.strip_prefix(PREFIX)?;
    Some(rest.split_once('.').map_or((rest, None), |(dataset, key)| (dataset, Some(key))))
}

/// The name of the setting `key` of `dataset`.
pub(super) fn full_name(dataset: &str, key: &str) -> String {
    format!("{PREFIX}{dataset}.{key}")
}

/// What is in effect in each of the datasets that are `given`, beside a main database with the values `main`; and
/// what is wrong with that.
pub(super) fn settle(
    main: &Config,
    given: BTreeMap<String, Values>,
) -> (BTreeMap<String, Config>, Vec<Mistake>) {
    let mut mistakes = Vec::new();
    if given.len() > DATASETS_MAX {
        let allowed = format!("at most {DATASETS_MAX} datasets in a process");
        mistakes.push(mistake_at("the configuration", "datasets", given.len(), allowed));
    }
    let settled = given.into_iter().map(|(name, given)| (name, settle_one(main, given)));
    let datasets: BTreeMap<String, Config> = settled.collect();
    for (name, config) in &datasets {
        let of_itself = typed::contradictions(config).filter(|mistake| is_of_dataset(&mistake.key));
        mistakes.extend(
            of_itself.map(|mistake| Mistake { key: full_name(name, &mistake.key), ..mistake }),
        );
        if config.text("path").is_none() {
            let (key, allowed) = (full_name(name, "path"), "a path: each dataset has a directory");
            mistakes.push(mistake_at("the configuration", &key, "\"\"", allowed.to_owned()));
        }
    }
    let all: Vec<(&str, &Config)> = std::iter::once(("", main))
        .chain(datasets.iter().map(|(name, config)| (name.as_str(), config)))
        .collect();
    for (at, (name, config)) in all.iter().enumerate() {
        for (other_name, other) in all.iter().take(at) {
            mistakes.extend(collisions((name, config), (other_name, other)));
        }
    }
    (datasets, mistakes)
}

fn settle_one(main: &Config, given: Values) -> Config {
    let mut values = Values::new();
    for key in KEYS {
        let found = match key.reach() {
            Reach::Process | Reach::Shared => main.with_source(key.name).cloned(),
            Reach::Own => key.kind.read(key.default).map(|value| (value, Source::Default)),
        };
        found.map(|found| values.insert(key.name, found));
    }
    if let Some((Value::Text(preset), _)) = given.get("preset") {
        let of_dataset = |(name, _): &&(&str, &str)| is_of_dataset(name);
        for (name, words) in presets::settings_of(preset).iter().filter(of_dataset) {
            if let Some(key) = Key::named(name)
                && let Some(value) = key.kind.read(words)
            {
                values.insert(key.name, (value, Source::Preset(preset.clone())));
            }
        }
    }
    values.extend(given);
    Config::of(values, BTreeMap::new())
}

fn is_of_dataset(key: &str) -> bool {
    Key::named(key).is_some_and(|key| key.reach() != Reach::Process)
}

/// What only one of two databases can have, and both do.
fn collisions(
    (name, config): (&str, &Config),
    (other_name, other): (&str, &Config),
) -> Vec<Mistake> {
    let other_key = |key: &str| match other_name {
        "" => key.to_owned(),
        name => full_name(name, key),
    };
    let refuse = |key: &str, allowed: String| {
        let (value, source) = config.with_source(key)?;
        Some(mistake_at(&source.to_string(), &full_name(name, key), value, allowed))
    };
    let mut all = Vec::new();
    if let (Some(path), Some(taken)) = (config.text("path"), other.text("path"))
        && is_within_one_another(Path::new(path), Path::new(taken))
    {
        let allowed = format!(
            "a directory that is not that of {}, nor in it or around it",
            other_key("path")
        );
        all.extend(refuse("path", allowed));
    }
    if let (Some(listen), Some(taken)) = (config.address("listen"), other.address("listen"))
        && is_same_place(listen, taken)
    {
        let allowed = format!("another address than {}, or port 0", other_key("listen"));
        all.extend(refuse("listen", allowed));
    }
    if let (Some(to), Some(taken)) = (config.text("backup.to"), other.text("backup.to"))
        && is_within_one_another(Path::new(to), Path::new(taken))
    {
        let allowed = format!("another directory than {}", other_key("backup.to"));
        all.extend(refuse("backup.to", allowed));
    }
    all
}

/// Whether two sockets can not listen at both.
fn is_same_place(one: SocketAddr, other: SocketAddr) -> bool {
    let is_same_ip =
        one.ip() == other.ip() || one.ip().is_unspecified() || other.ip().is_unspecified();
    one.port() != 0 && one.port() == other.port() && is_same_ip
}

/// Whether one is the other or below it, as they are written: links are not followed. Whoever opens a
/// directory twice nevertheless is told that it is locked.
fn is_within_one_another(one: &Path, other: &Path) -> bool {
    let (one, other) = (plain(one), plain(other));
    one.starts_with(&other) || other.starts_with(&one)
}

/// `path` from the root, without steps that lead nowhere.
fn plain(path: &Path) -> PathBuf {
    let mut plain = PathBuf::new();
    for part in std::path::absolute(path).as_deref().unwrap_or(path).components() {
        match part {
            Component::CurDir => {}
            Component::ParentDir => drop(plain.pop()),
            part => plain.push(part),
        }
    }
    plain
}

fn mistake_at(place: &str, key: &str, value: impl ToString, allowed: String) -> Mistake {
    Mistake { place: place.to_owned(), key: key.to_owned(), value: value.to_string(), allowed }
}

#[cfg(test)]
mod tests {
    use super::super::layers::Layers;
    use super::*;

    fn settled(text: &str) -> Result<Config, Vec<String>> {
        let mut layers = Layers::default();
        layers.read_file(text, Path::new("node.toml"));
        layers.settle().map_err(|all| all.iter().map(ToString::to_string).collect())
    }

    #[test]
    fn a_dataset_has_what_it_says_then_its_preset_then_what_the_main_one_has() {
        let config = settled(
            "path = 'a'\nrole = 'replica'\nhttp = '[::1]:1'\npeers = ['000102030405060708090a0b0c0d0e0f@1.2.3.4:5']\n\
             [engine]\nmemory_bytes = '1 GiB'\nmemtable_bytes = '64 MiB'\nblock_bytes = '4 KiB'\n\
             [log]\nlevel = 'warn'\n[backup]\nto = 'b'\nkeep = 3\n\
             [datasets.orders]\npath = 'c'\npreset = 'development'\nlag_threshold_ms = 7\n\
             [datasets.orders.engine]\nmemtable_bytes = '2 MiB'\n\
             [datasets.plain]\npath = 'd'\n",
        )
        .unwrap();
        let orders = &config.datasets()["orders"];
        let source = |key: &str| orders.with_source(key).unwrap().1.to_string();
        assert_eq!((orders.text("path"), orders.text("role")), (Some("c"), Some("writer")));
        assert_eq!(orders.number("engine.memory_bytes"), 64 << 20);
        assert_eq!(source("engine.memory_bytes"), "preset development");
        assert_eq!(orders.number("engine.memtable_bytes"), 2 << 20);
        assert_eq!(source("engine.memtable_bytes"), "node.toml line 19");
        assert_eq!(orders.number("engine.block_bytes"), 4 << 10);
        assert_eq!(orders.text("http"), Some("[::1]:1"));
        assert_eq!(orders.text("log.level"), Some("warn"), "the level is of the process");
        assert_eq!((orders.text("backup.to"), orders.number("backup.keep")), (None, 3));
        assert_eq!((orders.number("lag_threshold_ms"), orders.list("peers").len()), (7, 0));
        let plain = &config.datasets()["plain"];
        assert_eq!(plain.number("engine.memory_bytes"), 1 << 30);
        assert_eq!(config.text("path"), Some("a"));
    }

    #[test]
    fn every_mistake_about_datasets_is_named_at_once() {
        let mistakes = settled(
            "path = 'a'\nlisten = '127.0.0.1:7400'\n[backup]\nto = 'b'\n\
             [datasets.one]\npath = './x/../a/deep'\nlisten = '0.0.0.0:7400'\nhttp = '127.0.0.1:1'\nfoo = 1\n\
             [datasets.one.engine]\nmemory_bytes = '16 MiB'\nblock_bytes = 1\n\
             [datasets.two]\npath = 'c'\n[datasets.two.backup]\nto = 'b'\n[datasets.two.log]\nlevel = 'warn'\n\
             [datasets.three]\n[datasets.'a b']\npath = 'e'\n[datasets.'a.b']\npath = 'f'\n",
        )
        .unwrap_err();
        for expected in [
            "node.toml line 6: datasets.one.path = \"./x/../a/deep\"; allowed: a directory that is not that of path",
            "node.toml line 7: datasets.one.listen = \"0.0.0.0:7400\"; allowed: another address than listen",
            "node.toml line 8: datasets.one.http = '127.0.0.1:1'; allowed: http is for the whole process",
            "node.toml line 9: datasets.one.foo = 1; allowed: there is no such setting",
            "node.toml line 11: datasets.one.engine.memory_bytes = 16777216; allowed: at least 3 times",
            "node.toml line 12: datasets.one.engine.block_bytes = 1; allowed: 1 KiB to 1 MiB",
            "node.toml line 16: datasets.two.backup.to = \"b\"; allowed: another directory than backup.to",
            "node.toml line 18: datasets.two.log.level = 'warn'; allowed: log.level is for the whole process",
            "the configuration: datasets.three.path = \"\"; allowed: a path",
            "node.toml line 21: datasets.a b.path = 'e'; allowed: a table [datasets.NAME]",
            "node.toml line 23: datasets.a.b.path = 'f'; allowed: there is no such setting",
        ] {
            let is_there = |line: &String| line.starts_with(expected);
            assert!(mistakes.iter().any(is_there), "{expected}: {mistakes:#?}");
        }
        assert_eq!(mistakes.len(), 11, "{mistakes:#?}");
    }

    #[test]
    fn two_datasets_may_not_share_what_only_one_can_have_and_there_are_not_too_many() {
        let of = |one: &str, other: &str| {
            let text = format!("[datasets.a]\npath = '{one}'\n[datasets.b]\npath = '{other}'\n");
            settled(&text).is_ok()
        };
        assert!(of("x", "y") && of("/x/a", "/x/ab") && of("x/a", "x/b"));
        assert!(!of("x", "x") && !of("x", "./x/") && !of("/x/y", "/x") && !of("/x", "/x/y/z"));
        let listening = |one: &str, other: &str| {
            settled(&format!(
                "[datasets.a]\npath = 'x'\nlisten = '{one}'\n[datasets.b]\npath = 'y'\nlisten = '{other}'\n"
            ))
            .is_ok()
        };
        assert!(listening("127.0.0.1:0", "127.0.0.1:0") && listening("127.0.0.1:7", "127.0.0.2:7"));
        assert!(!listening("127.0.0.1:7", "127.0.0.1:7") && !listening("[::]:7", "127.0.0.2:7"));
        let many = |count: usize| {
            let tables = (0..count).map(|n| format!("[datasets.d{n}]\npath = 'p{n}'\n"));
            settled(&tables.collect::<String>())
        };
        assert_eq!(many(DATASETS_MAX).unwrap().datasets().len(), DATASETS_MAX);
        let refused = many(DATASETS_MAX + 1).unwrap_err();
        assert!(refused[0].contains("datasets = 65; allowed: at most 64"), "{refused:?}");
    }
}
