//! Every setting there is.

use super::value::Kind;
use crate::logs::LEVELS;

/// When a change takes effect.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Reload {
    /// On SIGHUP, while the node runs.
    Live,
    /// When the node starts.
    Restart,
}

/// Which of the databases of a process a setting is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Reach {
    /// The process, with all of them.
    Process,
    /// The main one, and the others unless they have another value.
    Shared,
    /// One alone.
    Own,
}

/// One setting.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Key {
    /// Its name, with the table in front of it if it is in one.
    pub(crate) name: &'static str,
    /// What it may be.
    pub(crate) kind: Kind,
    /// What it is unless told otherwise, as words. Empty means none.
    pub(crate) default: &'static str,
    /// When a change takes effect.
    pub(crate) reload: Reload,
    /// What it is for, as one sentence.
    pub(crate) about: &'static str,
}

impl Key {
    /// The name of its environment variable.
    pub(crate) fn variable(&self) -> String {
        format!("ESKER_{}", self.name.to_uppercase().replace('.', "_"))
    }

    /// Which databases it is about.
    pub(crate) fn reach(&self) -> Reach {
        match self.name.split_once('.').map_or(self.name, |(table, _)| table) {
            "http" | "end_with_input" | "auth" | "log" | "timeouts" | "health" => Reach::Process,
            _ if OF_ONE.contains(&self.name) => Reach::Own,
            _ => Reach::Shared,
        }
    }

    /// The key of that name.
    pub(crate) fn named(name: &str) -> Option<&'static Key> {
        KEYS.iter().find(|key| key.name == name)
    }
}

/// What no two databases have in common.
const OF_ONE: [&str; 8] =
    ["path", "listen", "peers", "join", "role", "local_keyspaces", "resolvers", "backup.to"];

const KIB: u64 = 1 << 10;
const MIB: u64 = 1 << 20;
const GIB: u64 = 1 << 30;
const TIB: u64 = 1 << 40;
/// Milliseconds and seconds of a day.
const DAY_MS: u64 = 86_400_000;
const DAY: u64 = 86_400;

const fn key(
    name: &'static str,
    kind: Kind,
    default: &'static str,
    reload: Reload,
    about: &'static str,
) -> Key {
    Key { name, kind, default, reload, about }
}

use Reload::{Live, Restart};

/// All settings, in the order in which a file has them.
#[rustfmt::skip]
pub(crate) const KEYS: &[Key] = &[
    key("preset", Kind::Choice(super::presets::NAMES), "balanced", Restart, "Settings that go together"),
    key("path", Kind::Path, "", Restart, "The directory of the database, created if it is missing"),
    key("listen", Kind::Address, "127.0.0.1:0", Restart, "Where peers connect"),
    key("http", Kind::Address, "127.0.0.1:8080", Restart, "Where users connect; others than loopback need auth.tokens or auth.token_file"),
    key("peers", Kind::Peers, "", Restart, "The peers of the first roster, given on every side"),
    key("join", Kind::Invitation, "", Restart, "The invitation of a node to join: TOKEN@ADDR"),
    key("role", Kind::Choice(&["writer", "replica", "respond-only"]), "writer", Restart, "What the node is to its peers"),
    key("end_with_input", Kind::Flag, "false", Restart, "Whether the end of standard input stops the node"),
    key("lag_threshold_ms", Kind::Number(1, 30 * DAY_MS), "30000", Live, "A peer that lags as much is called degraded"),
    key("critical_lag_threshold_ms", Kind::Number(1, 30 * DAY_MS), "120000", Live, "And as much unhealthy; never below the other"),
    key("replica_lag_threshold_ms", Kind::Number(1, 30 * DAY_MS), "1000", Live, "A replica that is further behind the writers is not ready"),
    key("local_keyspaces", Kind::Keyspaces, "", Restart, "Keyspaces that never leave this node"),
    key("resolvers", Kind::Resolvers, "", Restart, "Who decides about writes of several nodes that had not seen each other: KEYSPACE=json merges JSON objects"),
    key("auth.tokens", Kind::Tokens, "", Live, "Who may ask over HTTP: NAME:HASH, as `esker config token` prints them; with any, each request needs a token"),
    key("auth.token_file", Kind::Path, "", Live, "A file that holds one more token, such as a mounted secret"),
    key("engine.sync", Kind::Choice(&["sync", "periodic", "async"]), "sync", Restart, "When a commit is acknowledged: synced, or to be synced soon"),
    key("engine.sync_interval_ms", Kind::Number(1, 60_000), "100", Restart, "The time between two syncs with sync = periodic"),
    key("engine.memory_bytes", Kind::Bytes(16 * MIB, 16 * TIB), "256 MiB", Restart, "Memory for memtables, cache, indexes and filters"),
    key("engine.memtable_bytes", Kind::Bytes(MIB, GIB), "64 MiB", Restart, "Memory of one memtable; up to three take from memory_bytes"),
    key("engine.block_bytes", Kind::Bytes(KIB, MIB), "8 KiB", Restart, "A block of a table before compression"),
    key("engine.table_bytes", Kind::Bytes(MIB, 4 * GIB), "64 MiB", Restart, "A table that a compaction writes"),
    key("engine.segment_bytes", Kind::Bytes(MIB, GIB), "32 MiB", Restart, "A segment of the log at the most"),
    key("engine.log_retention_bytes", Kind::Bytes(0, TIB), "0", Restart, "Flushed segments of the log that are kept for change feeds"),
    key("engine.reserve_bytes", Kind::Bytes(0, TIB), "64 MiB", Restart, "Disk kept back for a full disk"),
    key("engine.archive_bytes", Kind::Bytes(0, 16 * TIB), "1 GiB", Restart, "Log kept between backups, for moments between them"),
    key("engine.history_seconds", Kind::Number(0, 3650 * DAY), "0", Restart, "How long old versions are kept for reads of the past"),
    key("engine.transactions_max", Kind::Number(1, 1_000_000), "1000", Restart, "Transactions that may be open at once"),
    key("engine.on_corruption", Kind::Choice(&["halt", "quarantine", "heal"]), "halt", Restart, "What follows when a file turns out to be damaged"),
    key("engine.scrub_every_seconds", Kind::Number(0, 3650 * DAY), "604800", Restart, "How often everything is verified; 0 never"),
    key("engine.scrub_bytes_per_second", Kind::Bytes(4 * KIB, TIB), "16 MiB", Restart, "How fast it is read for that"),
    key("engine.max_drift_ms", Kind::Number(1, DAY_MS), "10000", Restart, "How far clocks of peers may be ahead"),
    key("backup.to", Kind::Path, "", Live, "Where backups are made by themselves; none without it"),
    key("backup.every_seconds", Kind::Number(1, 3650 * DAY), "86400", Live, "The time between two"),
    key("backup.keep", Kind::Number(1, 1_000_000), "10", Live, "How many are kept"),
    key("backup.kind", Kind::Choice(&["incremental", "full"]), "incremental", Live, "What each of those brings: the tables that are not there yet, or all"),
    key("backup.bytes_per_second", Kind::Bytes(64 * KIB, TIB), "64 MiB", Live, "How fast they copy"),
    key("checkpoint.to", Kind::Path, "", Restart, "The directory below which checkpoints are made when operators ask; none without it"),
    key("limits.requests_per_second", Kind::Number(0, 10_000_000), "0", Live, "Requests for data by who asks; 0 any number"),
    key("limits.storage_bytes", Kind::Bytes(0, 16 * TIB), "0", Live, "Tables and memtables from which on puts are refused; 0 any number"),
    key("limits.deletes_per_batch", Kind::Number(0, 100_000), "10000", Live, "Deletes that a batch may have without the header esker-deletes; 0 any number"),
    key("remedies.resume", Kind::Flag, "true", Live, "Whether puts are taken again by themselves once a full disk has space"),
    key("remedies.resume_per_hour", Kind::Number(0, 3600), "60", Live, "How often in an hour; 0 is never"),
    key("remedies.reopen", Kind::Flag, "true", Live, "Whether a poisoned database is opened again without a restart"),
    key("remedies.reopen_per_hour", Kind::Number(0, 3600), "3", Live, "How often in an hour; 0 is never"),
    key("remedies.heal", Kind::Flag, "true", Live, "Whether peers may bring what damaged tables had, with engine.on_corruption = heal"),
    key("remedies.heal_per_hour", Kind::Number(0, 3600), "100", Live, "How many tables in an hour; 0 is none"),
    key("remedies.restart", Kind::Flag, "true", Live, "Whether a thread that scrubs or makes backups begins anew after a panic"),
    key("remedies.restart_per_hour", Kind::Number(0, 3600), "10", Live, "How often in an hour; 0 is never"),
    key("remedies.shed", Kind::Flag, "true", Live, "Whether writes are refused while too much work is owed"),
    key("remedies.shed_per_hour", Kind::Number(0, 3600), "60", Live, "How often in an hour that may begin; 0 is never"),
    key("remedies.shed_percent", Kind::Number(1, 100), "98", Live, "The share of the work that may be owed from which on; it ends at three quarters of it"),
    key("breakers.failures", Kind::Number(1, 1000), "5", Live, "Failures in a row after which what fails, such as backups, is left alone for a while"),
    key("breakers.pause_ms", Kind::Number(1, DAY_MS), "30000", Live, "For how long"),
    key("breakers.successes", Kind::Number(1, 1000), "3", Live, "Successes in a row after which it counts as well again"),
    key("breakers.trials", Kind::Number(1, 1000), "3", Live, "How many may try at once until then"),
    key("breakers.peer_failures", Kind::Number(1, 1000), "5", Live, "Attempts in a row to reach a peer after which it is left alone for a while"),
    key("breakers.peer_pause_ms", Kind::Number(1, DAY_MS), "30000", Live, "For how long"),
    key("breakers.peer_successes", Kind::Number(1, 1000), "3", Live, "How often it has to be reached until it counts as well again"),
    key("breakers.peer_trials", Kind::Number(1, 1000), "3", Live, "How many attempts may be made at once until then"),
    key("replication.discovery.enabled", Kind::Flag, "false", Restart, "Whether members that have moved are looked for on the local network"),
    key("replication.discovery.address", Kind::Network, "255.255.255.255", Restart, "Whom beacons are sent to, the same on every node"),
    key("replication.discovery.port", Kind::Number(1, 65_535), "7485", Restart, "The port of that address"),
    key("replication.discovery.interval_ms", Kind::Number(100, DAY_MS), "5000", Restart, "The time between two beacons, more or less a tenth"),
    key("replication.discovery.expiry_ms", Kind::Number(100, 30 * DAY_MS), "15000", Restart, "After how long a silence a node is not looked for at an address; at least twice the interval"),
    key("log.level", Kind::Choice(&LEVELS), "info", Live, "What is worth a line"),
    key("log.filter", Kind::Levels, "", Live, "Levels by component, such as replication=debug; over the level"),
    key("log.format", Kind::Choice(&["text", "json"]), "text", Restart, "How lines are written"),
    key("log.file", Kind::Path, "", Restart, "Where they are written; standard error without it"),
    key("log.rotate_bytes", Kind::Bytes(64 * KIB, TIB), "100 MiB", Restart, "A file that is this long is put aside"),
    key("log.keep", Kind::Number(1, 1000), "10", Restart, "How many files are kept"),
    key("log.audit_file", Kind::Path, "", Restart, "Where what operators do is written, apart from the log"),
    key("timeouts.profile", Kind::Choice(&["default", "production", "test"]), "default", Live, "Timeouts that go together; each can be set besides"),
    key("timeouts.http_head_ms", Kind::Number(0, 3_600_000), "0", Live, "The head of a request, or idleness; 0 as the profile says"),
    key("timeouts.http_body_ms", Kind::Number(0, 3_600_000), "0", Live, "How far the body of a request may fall behind 16 KiB/s"),
    key("timeouts.http_answer_ms", Kind::Number(0, 3_600_000), "0", Live, "How far the reader of an answer may fall behind 16 KiB/s"),
    key("timeouts.share_ms", Kind::Number(0, 3_600_000), "0", Live, "Waiting for memory or a turn that others have"),
    key("timeouts.drain_ms", Kind::Number(0, 3_600_000), "0", Live, "Requests that go on after SIGTERM"),
    key("timeouts.close_ms", Kind::Number(0, 3_600_000), "0", Live, "Work that goes on after requests were cut off"),
    key("timeouts.health_check_ms", Kind::Number(0, 3_600_000), "0", Live, "A look of a health check"),
    key("timeouts.peer_dial_ms", Kind::Number(0, 3_600_000), "0", Live, "A connection to a peer, until both have shown their keys; with 20 s of silence it is given up whatever this says"),
    key("timeouts.peer_hello_ms", Kind::Number(0, 3_600_000), "0", Live, "What a peer says first on a connection"),
    key("timeouts.backup_ms", Kind::Number(0, 3_600_000), "0", Live, "A backup in which nothing goes on; none is cut off for being long"),
    key("health.every_ms", Kind::Number(100, DAY_MS), "5000", Live, "The time between two looks of a health check"),
    key("health.cpu_percent", Kind::Number(1, 100), "80", Live, "Processor time from which on it is called short"),
    key("health.memory_percent", Kind::Number(1, 100), "85", Live, "Memory from which on it is called short"),
    key("health.disk_percent", Kind::Number(1, 100), "90", Live, "Disk from which on it is called short"),
    key("health.log_sync_ms", Kind::Number(0, 3_600_000), "100", Live, "The slowest hundredth of syncs of the log, and one that runs, may take so long; longer is called degraded"),
    key("health.critical_log_sync_ms", Kind::Number(0, 3_600_000), "1000", Live, "And even longer unhealthy; never below the other"),
    key("health.debt_percent", Kind::Number(1, 100), "50", Live, "The share of the work that may be owed from which on it is called degraded"),
    key("health.critical_debt_percent", Kind::Number(1, 100), "95", Live, "And from which on unhealthy; never below the other"),
];

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    #[test]
    fn names_and_variables_are_unique_and_defaults_are_allowed() {
        let names: BTreeSet<_> = KEYS.iter().map(|key| key.name).collect();
        let variables: BTreeSet<_> = KEYS.iter().map(Key::variable).collect();
        assert_eq!((names.len(), variables.len()), (KEYS.len(), KEYS.len()));
        for key in KEYS {
            let is_none =
                key.default.is_empty() && matches!(key.kind, Kind::Path | Kind::Invitation);
            assert!(is_none || key.kind.read(key.default).is_some(), "{}", key.name);
            assert!(!key.about.ends_with('.') && !key.about.is_empty(), "{}", key.name);
        }
    }
}
