//! From settings to the options of the engine and the rest of a node.

use super::layers::{Config, Mistake};
use super::value::in_units;
use crate::args::Durability;
use crate::error::Outcome;
use crate::files;
use engine::{BackupKind, BackupSchedule, CorruptionAction, Create, Options, Scrub, SyncMode};
use esker_node::resilience::{BreakerSettings, Profile, Timeout, Timeouts};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// Memtables that the budget of memory must hold.
const MEMTABLES: u64 = 3;

/// Bytes of a file with a token at most.
const TOKEN_FILE_LEN_MAX: usize = 4096;
/// Bytes of a token at least: shorter ones can be guessed.
const TOKEN_LEN_MIN: usize = 16;
/// Beacons that a neighbour may lose, and one more.
const BEACONS: u64 = 2;

/// Settings that are allowed, each for itself, and not together.
pub(super) fn contradictions(config: &Config) -> impl Iterator<Item = Mistake> {
    let of_network = too_silent(config).into_iter().chain(out_of_reach(config));
    let of_http = open_to_all(config).into_iter().chain(no_token(config));
    too_little_memory(config).into_iter().chain(of_http).chain(of_network)
}

/// A file that holds no token.
fn no_token(config: &Config) -> Option<Mistake> {
    let key = "auth.token_file";
    let read = token_in(Path::new(config.text(key)?));
    let allowed = format!("a file with a token of at least {TOKEN_LEN_MIN} bytes");
    match read {
        Ok(Some(_)) => None,
        Ok(None) => mistake(config, key, allowed),
        Err(failure) => mistake(config, key, format!("{allowed}; {}", failure.message())),
    }
}

/// The token that the file `path` holds, unless it is too short for one.
pub(crate) fn token_in(path: &Path) -> Outcome<Option<String>> {
    let text = files::read_text(path, TOKEN_FILE_LEN_MAX)?;
    let token = text.trim();
    Ok((token.len() >= TOKEN_LEN_MIN).then(|| token.to_owned()))
}

fn too_little_memory(config: &Config) -> Option<Mistake> {
    let (memory, memtable) = ("engine.memory_bytes", "engine.memtable_bytes");
    let least = config.number(memtable).saturating_mul(MEMTABLES);
    let allowed = format!("at least {} times {memtable}, {}", MEMTABLES, in_units(least));
    if config.number(memory) >= least { None } else { mistake(config, memory, allowed) }
}

/// An address that others reach, where nobody has to say who they are.
fn open_to_all(config: &Config) -> Option<Mistake> {
    let is_loopback = config.address("http").is_none_or(|address| address.ip().is_loopback());
    let has_tokens =
        !config.list("auth.tokens").is_empty() || config.text("auth.token_file").is_some();
    if is_loopback || has_tokens {
        return None;
    }
    let allowed = "an address of this machine's loopback and a port, such as 127.0.0.1:8080; others with \
                   auth.tokens or auth.token_file";
    mistake(config, "http", allowed.to_owned())
}

/// A neighbour that counts as gone although it has only lost one beacon.
fn too_silent(config: &Config) -> Option<Mistake> {
    let (expiry, interval) =
        ("replication.discovery.expiry_ms", "replication.discovery.interval_ms");
    let least = config.number(interval).saturating_mul(BEACONS);
    let allowed = format!("at least {BEACONS} times {interval}, {least}");
    if config.number(expiry) >= least { None } else { mistake(config, expiry, allowed) }
}

/// An address that nodes which are found by IPv4 can not be reached from.
fn out_of_reach(config: &Config) -> Option<Mistake> {
    let only_v6 = |address: SocketAddr| address.is_ipv6() && !address.ip().is_unspecified();
    let is_out = config.address("listen").is_some_and(only_v6);
    if !is_out || !config.flag("replication.discovery.enabled") {
        return None;
    }
    let allowed = "an IPv4 address, or [::] and a port, with replication.discovery.enabled";
    mistake(config, "listen", allowed.to_owned())
}

fn mistake(config: &Config, key: &str, allowed: String) -> Option<Mistake> {
    let (value, source) = config.with_source(key)?;
    let (key, value) = (key.to_owned(), value.to_string());
    Some(Mistake { place: source.to_string(), key, value, allowed })
}

impl Config {
    /// The options of the engine.
    pub(crate) fn engine_options(&self) -> Options {
        let size = |key: &str| usize::try_from(self.number(key)).unwrap_or(usize::MAX);
        let every = self.number("engine.scrub_every_seconds");
        let scrub = Scrub {
            every: Duration::from_secs(every),
            bytes_per_second: self.number("engine.scrub_bytes_per_second"),
        };
        Options {
            create: Create::IfMissing,
            sync: match self.durability() {
                Durability::Periodic => SyncMode::Periodic(self.millis("engine.sync_interval_ms")),
                other => other.mode(),
            },
            memory_bytes: size("engine.memory_bytes"),
            memtable_bytes: size("engine.memtable_bytes"),
            block_bytes: size("engine.block_bytes"),
            table_bytes: self.number("engine.table_bytes"),
            segment_bytes: self.number("engine.segment_bytes"),
            log_retention_bytes: self.number("engine.log_retention_bytes"),
            reserve_bytes: self.number("engine.reserve_bytes"),
            archive_bytes: self.number("engine.archive_bytes"),
            history: Duration::from_secs(self.number("engine.history_seconds")),
            transactions_max: self.number("engine.transactions_max"),
            on_corruption: match self.text("engine.on_corruption") {
                Some("quarantine") => CorruptionAction::Quarantine,
                Some("heal") => CorruptionAction::HealFromPeer,
                _ => CorruptionAction::Halt,
            },
            scrub: (every > 0).then_some(scrub),
            max_drift: self.millis("engine.max_drift_ms"),
            ..Options::default()
        }
    }

    /// When commits are acknowledged that say nothing else.
    pub(crate) fn durability(&self) -> Durability {
        match self.text("engine.sync") {
            Some("periodic") => Durability::Periodic,
            Some("async") => Durability::Async,
            _ => Durability::Sync,
        }
    }

    /// Backups that are made without being asked for; they begin once there is somebody to guard them.
    pub(crate) fn backup_schedule(&self) -> Option<BackupSchedule> {
        Some(BackupSchedule {
            to: PathBuf::from(self.text("backup.to")?),
            every: Duration::from_secs(self.number("backup.every_seconds")),
            keep: usize::try_from(self.number("backup.keep")).unwrap_or(usize::MAX),
            kind: match self.text("backup.kind") {
                Some("full") => BackupKind::Full,
                _ => BackupKind::Incremental,
            },
            bytes_per_second: self.number("backup.bytes_per_second"),
        })
    }

    /// The timeouts: those of the profile, and what is set besides.
    pub(crate) fn timeouts(&self) -> Timeouts {
        let profile = self.text("timeouts.profile").and_then(Profile::named).unwrap_or_default();
        let timeouts = Timeouts::of(profile);
        for timeout in Timeout::ALL {
            let value = self.millis(&format!("timeouts.{}_ms", timeout.name()));
            if !value.is_zero() {
                // The kind of the setting allows what can be set.
                let _ = timeouts.set(timeout.name(), value);
            }
        }
        timeouts
    }

    /// When what fails is left alone, but for peers.
    pub(crate) fn breakers(&self) -> BreakerSettings {
        self.breaker_settings("")
    }

    /// When peers that can not be reached are left alone.
    pub(crate) fn peer_breakers(&self) -> BreakerSettings {
        self.breaker_settings("peer_")
    }

    fn breaker_settings(&self, of: &str) -> BreakerSettings {
        let count = |name: &str| {
            u32::try_from(self.number(&format!("breakers.{of}{name}"))).unwrap_or(u32::MAX)
        };
        BreakerSettings {
            failures: count("failures"),
            pause: self.millis(&format!("breakers.{of}pause_ms")),
            successes: count("successes"),
            trials: count("trials"),
        }
    }

    /// A time in milliseconds.
    pub(crate) fn millis(&self, key: &str) -> Duration {
        Duration::from_millis(self.number(key))
    }
}

#[cfg(test)]
mod tests {
    use super::super::layers::Layers;
    use super::*;
    use std::path::Path;

    fn config(text: &str) -> Config {
        let mut layers = Layers::default();
        layers.read_file(text, Path::new("node.toml"));
        layers.settle().unwrap()
    }

    #[test]
    fn settings_of_discovery_are_held_against_each_other() {
        let mistakes = |text: &str| -> Vec<String> {
            let mut layers = Layers::default();
            layers.read_file(text, Path::new("node.toml"));
            let mistakes = layers.settle().err().unwrap_or_default();
            mistakes.iter().map(ToString::to_string).collect()
        };
        let table = "[replication.discovery]\n";
        assert_eq!(mistakes(&format!("{table}interval_ms = 7500\n")), [""; 0]);
        let found = mistakes(&format!("{table}interval_ms = 7501\n"));
        assert!(found.len() == 1 && found[0].contains("at least 2 times"), "{found:?}");
        let listen = "listen = '[::1]:7400'\n";
        assert_eq!(mistakes(listen), [""; 0]);
        let found = mistakes(&format!("{listen}{table}enabled = true\n"));
        assert!(found.len() == 1 && found[0].contains("listen"), "{found:?}");
        assert_eq!(mistakes(&format!("listen = '[::]:7400'\n{table}enabled = true\n")), [""; 0]);
    }

    #[test]
    fn the_defaults_are_those_of_the_engine() {
        let (found, expected) = (config("").engine_options(), Options::default());
        assert_eq!(format!("{found:?}"), format!("{expected:?}"));
    }

    #[test]
    fn every_setting_of_the_engine_reaches_it() {
        let text = "[engine]\nsync = 'periodic'\nsync_interval_ms = 7\nmemory_bytes = '20 MiB'\n\
                    memtable_bytes = '2 MiB'\nblock_bytes = '4 KiB'\ntable_bytes = '3 MiB'\n\
                    segment_bytes = '5 MiB'\nlog_retention_bytes = 11\nreserve_bytes = 12\n\
                    archive_bytes = 13\nhistory_seconds = 14\ntransactions_max = 15\n\
                    on_corruption = 'quarantine'\nscrub_every_seconds = 16\n\
                    scrub_bytes_per_second = '17 KiB'\nmax_drift_ms = 18\n\
                    [backup]\nto = 'b'\n";
        let seconds = Duration::from_secs;
        let expected = Options {
            sync: SyncMode::Periodic(Duration::from_millis(7)),
            memory_bytes: 20 << 20,
            memtable_bytes: 2 << 20,
            block_bytes: 4096,
            table_bytes: 3 << 20,
            segment_bytes: 5 << 20,
            log_retention_bytes: 11,
            reserve_bytes: 12,
            archive_bytes: 13,
            history: seconds(14),
            transactions_max: 15,
            on_corruption: CorruptionAction::Quarantine,
            scrub: Some(Scrub { every: seconds(16), bytes_per_second: 17 << 10 }),
            max_drift: Duration::from_millis(18),
            ..Options::default()
        };
        assert_eq!(format!("{:?}", config(text).engine_options()), format!("{expected:?}"));
        let never = config("[engine]\nscrub_every_seconds = 0\n");
        assert_eq!(never.engine_options().scrub, None);
    }

    #[test]
    fn every_setting_of_backups_reaches_the_schedule() {
        assert_eq!(config("[backup]\nkeep = 3\n").backup_schedule(), None, "they need a directory");
        let to = "[backup]\nto = 'b'\n";
        let defaults = BackupSchedule { to: "b".into(), ..BackupSchedule::default() };
        assert_eq!(config(to).backup_schedule(), Some(defaults));
        let set = "every_seconds = 19\nkeep = 20\nkind = 'full'\nbytes_per_second = '70 KiB'\n";
        let expected = BackupSchedule {
            to: "b".into(),
            every: Duration::from_secs(19),
            keep: 20,
            kind: BackupKind::Full,
            bytes_per_second: 70 << 10,
        };
        assert_eq!(config(&format!("{to}{set}")).backup_schedule(), Some(expected));
    }

    #[test]
    fn breakers_of_peers_are_set_apart_from_the_others() {
        let defaults = config("");
        assert_eq!(defaults.breakers(), BreakerSettings::default());
        assert_eq!(defaults.peer_breakers(), BreakerSettings::default());
        let set = config(
            "[breakers]\nfailures = 1\npause_ms = 2\nsuccesses = 3\ntrials = 4\n\
             peer_failures = 5\npeer_pause_ms = 6\npeer_successes = 7\npeer_trials = 8\n",
        );
        let of = |failures, pause, successes, trials| {
            let pause = Duration::from_millis(pause);
            BreakerSettings { failures, pause, successes, trials }
        };
        assert_eq!((set.breakers(), set.peer_breakers()), (of(1, 2, 3, 4), of(5, 6, 7, 8)));
    }

    #[test]
    fn a_timeout_that_is_set_is_over_its_profile() {
        let timeouts = config("[timeouts]\nprofile = 'test'\ndrain_ms = 70\n").timeouts();
        assert_eq!(timeouts.get(Timeout::Drain), Duration::from_millis(70));
        assert_eq!(timeouts.get(Timeout::HttpHead), Duration::from_secs(1));
    }
}
