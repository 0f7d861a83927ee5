//! What a node reports of its health, as lines for people.

use serde::Deserialize;
use serde_json::{Map, Value};
use std::collections::BTreeMap;
use std::fmt;

/// All that any of the probes answers with; each has a part of it.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(super) struct Report {
    status: String,
    writes: Option<String>,
    reasons: Vec<String>,
    recovery: Option<Recovery>,
    engine: Option<Engine>,
    tracked_peer_count: Option<u64>,
    max_lag_ms: Option<u64>,
    peers_with_no_confirmation: Vec<String>,
    lagging_peers: Vec<String>,
    parked_peers: Vec<String>,
    replica: Option<Replica>,
    datasets: BTreeMap<String, String>,
    node: Option<String>,
    version: Option<String>,
    uptime_seconds: Option<u64>,
    checks: BTreeMap<String, Check>,
}

#[derive(Debug, Deserialize)]
struct Engine {
    status: String,
    reasons: Vec<String>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Replica {
    lag_ms: Option<u64>,
    lag_threshold_ms: u64,
}

#[derive(Debug, Deserialize)]
struct Check {
    status: String,
    message: String,
}

/// How far the opening of the database is.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Recovery {
    phase: String,
    stage: Option<String>,
    number: u64,
    stages: u64,
    bytes_done: u64,
    bytes_total: u64,
}

impl Report {
    /// What of `told` people read. What is not known here is in the JSON only.
    pub(super) fn of(told: &Map<String, Value>) -> Report {
        let status = || told.get("status").and_then(Value::as_str).unwrap_or_default().to_owned();
        serde_json::from_value(Value::Object(told.clone()))
            .unwrap_or_else(|_| Report { status: status(), ..Report::default() })
    }

    /// How the node is, in one word.
    pub(super) fn status(&self) -> &str {
        &self.status
    }

    /// Why it is not well, as far as it says so.
    pub(super) fn reasons(&self) -> Vec<String> {
        let bad = |status: &str| status == "unhealthy";
        let engine = self.engine.iter().flat_map(|engine| engine.reasons.iter().cloned());
        let parked = self.parked_peers.iter().map(|peer| format!("the clock of {peer} is ahead"));
        let datasets = self.datasets.iter().filter(|(_, status)| bad(status));
        let datasets = datasets.map(|(name, _)| format!("dataset {name} is unhealthy"));
        let checks = self.checks.iter().filter(|(_, check)| bad(&check.status));
        let checks = checks.map(|(name, check)| format!("{name}: {}", check.message));
        let reasons = self.reasons.iter().cloned().chain(engine).chain(parked);
        reasons.chain(datasets).chain(checks).collect()
    }

    fn of_peers(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(count) = self.tracked_peer_count {
            write!(f, "\ntracked peers: {count}")?;
        }
        if let Some(lag_ms) = self.max_lag_ms {
            write!(f, "\ngreatest lag: {lag_ms} ms")?;
        }
        for (what, peers) in [
            ("never confirmed", &self.peers_with_no_confirmation),
            ("lags", &self.lagging_peers),
            ("clock ahead", &self.parked_peers),
        ] {
            peers.iter().try_for_each(|peer| write!(f, "\n{what}: {peer}"))?;
        }
        match &self.replica {
            Some(Replica { lag_ms: Some(lag_ms), lag_threshold_ms }) => {
                write!(f, "\nbehind the writers: {lag_ms} ms of {lag_threshold_ms}")
            }
            Some(Replica { lag_ms: None, .. }) => f.write_str("\nbehind the writers: unknown"),
            None => Ok(()),
        }
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "status: {}", self.status)?;
        let named = [("node", &self.node), ("version", &self.version), ("writes", &self.writes)];
        for (name, value) in named.into_iter().filter_map(|(name, of)| Some((name, of.as_ref()?))) {
            write!(f, "\n{name}: {value}")?;
        }
        if let Some(seconds) = self.uptime_seconds {
            write!(f, "\nuptime: {seconds} s")?;
        }
        self.reasons.iter().try_for_each(|reason| write!(f, "\nreason: {reason}"))?;
        self.recovery.iter().try_for_each(|recovery| write!(f, "\nrecovery: {recovery}"))?;
        if let Some(Engine { status, reasons }) = &self.engine {
            write!(f, "\nengine: {status}")?;
            reasons.iter().try_for_each(|reason| write!(f, "\nreason: {reason}"))?;
        }
        self.of_peers(f)?;
        let mut datasets = self.datasets.iter();
        datasets.try_for_each(|(name, status)| write!(f, "\ndataset {name}: {status}"))?;
        let mut checks = self.checks.iter();
        checks.try_for_each(|(name, Check { status, message })| {
            write!(f, "\n{name}\t{status}\t{message}")
        })
    }
}

impl fmt::Display for Recovery {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Recovery { phase, stage, number, stages, bytes_done, bytes_total } = self;
        let Some(stage) = stage else { return f.write_str(phase) };
        write!(f, "{stage}, stage {number} of {stages}")?;
        match bytes_total {
            0 => Ok(()),
            total => write!(f, ", {bytes_done} of {total} bytes"),
        }
    }
}
