//! Whether a node is well: its engine, whether it takes writes, and what its peers have not confirmed.
//!
//! Lag is how long the oldest unconfirmed commit has waited, so idle peers do not lag. A peer that
//! collection waits for counts; others are only listed under the peers.

use super::glimpse::Seen;
use super::node::Node;
use crate::replicas::{Behind, Peer, PeerClass, Replicas};
use crate::writes::Writes;
use engine::{Health, Status};
use esker_node::health::Wellness;
use serde::Serialize;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

/// From here on what is known of the peers is too old to call a node healthy. It is looked at whenever somebody asks.
const LOOK_AGE_MAX: Duration = Duration::from_secs(10);

/// How the peers of a node are.
#[derive(Debug)]
pub(super) struct PeersLook {
    peers: Vec<Peer>,
    behind: Option<Behind>,
    /// Whether they let this node take writes of users.
    pub(super) writes: Writes,
}

impl PeersLook {
    /// That of this moment. May wait for the disk.
    pub(super) fn at(replicas: &dyn Replicas) -> PeersLook {
        PeersLook { peers: replicas.peers(), behind: replicas.behind(), writes: replicas.writes() }
    }
}

impl Seen<PeersLook> {
    /// How far a replica is behind the writers, at the most.
    pub(super) fn behind(&self) -> Option<Behind> {
        let mut behind = self.what.behind.clone()?;
        let age_ms = u64::try_from(self.age().as_millis()).unwrap_or(u64::MAX);
        behind.lag_ms = behind.lag_ms.map(|lag_ms| lag_ms.saturating_add(age_ms));
        Some(behind)
    }
}

/// When a peer lags so much that it needs attention.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct LagThresholds {
    degraded_ms: u64,
    unhealthy_ms: u64,
    replica_ms: u64,
}

/// Why.
const OLD_LOOK: &str = "the disk does not answer: what is told of the peers is old";

/// How far a replica may be behind the writers.
const REPLICA_MS: u64 = 1000;

impl LagThresholds {
    /// Thresholds; the second is never below the first.
    pub(crate) fn new(degraded_ms: u64, unhealthy_ms: u64) -> LagThresholds {
        let unhealthy_ms = unhealthy_ms.max(degraded_ms);
        LagThresholds { degraded_ms, unhealthy_ms, replica_ms: REPLICA_MS }
    }

    /// The same, with how far a replica may be behind.
    pub(crate) fn with_replica_ms(self, replica_ms: u64) -> LagThresholds {
        LagThresholds { replica_ms, ..self }
    }

    /// A replica that is further behind is not ready.
    pub(crate) fn replica_ms(self) -> u64 {
        self.replica_ms
    }

    /// From here on a node is degraded.
    pub(crate) fn degraded_ms(self) -> u64 {
        self.degraded_ms
    }

    /// From here on it is unhealthy.
    pub(crate) fn unhealthy_ms(self) -> u64 {
        self.unhealthy_ms
    }
}

impl Default for LagThresholds {
    fn default() -> LagThresholds {
        LagThresholds::new(30_000, 120_000)
    }
}

/// What `/health` answers.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct HealthReport {
    /// The worst of engine, peers and writes.
    pub(crate) status: Wellness,
    /// Whether writes of users are taken, and if not why.
    writes: Writes,
    /// Of the peers alone.
    #[serde(skip)]
    pub(super) peers_status: Wellness,
    #[serde(skip)]
    thresholds: LagThresholds,
    engine: EngineReport,
    pub(super) tracked_peer_count: usize,
    /// Tracked peers that have never confirmed anything.
    peers_with_no_confirmation: Vec<String>,
    /// The lag of the tracked peer that lags most.
    pub(super) max_lag_ms: u64,
    lagging_peers: Vec<String>,
    /// Of each tracked peer, when it last confirmed something, in milliseconds since the Unix epoch.
    last_successful_confirmation_update_by_peer: BTreeMap<String, Option<u64>>,
    /// Peers from which nothing is taken, because their clock is too far ahead.
    parked_peers: Vec<String>,
    /// Of a replica only.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) replica: Option<ReplicaReport>,
    /// Of the main database of a process that has others: how each of those is.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    datasets: BTreeMap<String, Wellness>,
}

/// How far a replica is behind the writers.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct ReplicaReport {
    #[serde(flatten)]
    behind: Behind,
    lag_threshold_ms: u64,
    /// Whether it shows everything that is older than the threshold.
    pub(super) is_ready: bool,
}

#[derive(Debug, Serialize)]
struct EngineReport {
    status: &'static str,
    reasons: Vec<String>,
}

impl HealthReport {
    /// The report on `node`. May wait for the disk.
    pub(super) fn of(node: &Node) -> HealthReport {
        HealthReport::by(node, Some(&node.look_at_peers()))
    }

    /// The report on `node`, whose peers are as `look` says, if anybody knows. Does not wait for the disk.
    fn by(node: &Node, look: Option<&Seen<PeersLook>>) -> HealthReport {
        let engine = node.directory().db().health();
        let Some(look) = look else {
            return HealthReport::new(engine, &[], node.thresholds())
                .of_writes(node.writes_if(|| Writes::Joining))
                .of_old_look();
        };
        let report = HealthReport::new(engine, &look.what.peers, node.thresholds())
            .of_replica(look.behind())
            .of_writes(node.writes_if(|| look.what.writes));
        if look.age() > LOOK_AGE_MAX { report.of_old_look() } else { report }
    }

    /// The report on the main database of a process and on all others. Does not wait for the disk.
    pub(super) async fn of_all(node: &Arc<Node>) -> HealthReport {
        let look = node.begin_look_at_peers();
        // All look at the same time.
        let begin = |node: Arc<Node>| (node.begin_look_at_peers(), node);
        let all = node.datasets().all();
        let datasets: Vec<_> =
            all.map(|(name, door)| (name.to_owned(), door.node().map(begin))).collect();
        let mut report = HealthReport::by(node, look.seen().await.as_deref());
        for (name, begun) in datasets {
            let status = match begun {
                Some((look, node)) => HealthReport::by(&node, look.seen().await.as_deref()).status,
                None => Wellness::Unhealthy,
            };
            report.status = report.status.max(status);
            report.datasets.insert(name, status);
        }
        report
    }

    /// Of peers that nobody knows of how they are now.
    fn of_old_look(mut self) -> HealthReport {
        self.peers_status = self.peers_status.max(Wellness::Degraded);
        self.status = self.status.max(Wellness::Degraded);
        self.engine.reasons.push(OLD_LOOK.to_owned());
        self
    }

    /// With whether writes of users are taken.
    fn of_writes(mut self, writes: Writes) -> HealthReport {
        self.writes = writes;
        self.status = self.status.max(writes.wellness());
        self
    }

    /// With how far this node is behind the writers, if it is a replica.
    fn of_replica(mut self, behind: Option<Behind>) -> HealthReport {
        let Some(behind) = behind else { return self };
        let lag_threshold_ms = self.thresholds.replica_ms();
        let is_ready = behind.is_within(lag_threshold_ms);
        if !is_ready {
            self.peers_status = self.peers_status.max(Wellness::Degraded);
            self.status = self.status.max(Wellness::Degraded);
        }
        self.replica = Some(ReplicaReport { behind, lag_threshold_ms, is_ready });
        self
    }

    /// The report on an engine and its peers.
    pub(crate) fn new(engine: Health, peers: &[Peer], thresholds: LagThresholds) -> HealthReport {
        let tracked: Vec<&Peer> =
            peers.iter().filter(|peer| peer.class == PeerClass::Tracked).collect();
        let named = |wanted: &dyn Fn(&Peer) -> bool| {
            let wanted = tracked.iter().filter(|peer| wanted(peer));
            wanted.map(|peer| peer.node.clone()).collect::<Vec<_>>()
        };
        let silent = named(&|peer| peer.last_confirmation.is_none());
        let lagging = named(&|peer| peer.lag_ms >= thresholds.degraded_ms());
        let max_lag_ms = tracked.iter().map(|peer| peer.lag_ms).max().unwrap_or(0);
        let (engine_name, mut engine_wellness) = of_engine(engine.status);
        if engine.clock_jump_ms.is_some() {
            engine_wellness = Wellness::Unhealthy;
        }
        let parked = peers.iter().filter(|peer| peer.parked);
        let parked: Vec<String> = parked.map(|peer| peer.node.clone()).collect();
        let peers_wellness = match (max_lag_ms, silent.is_empty() && lagging.is_empty()) {
            _ if !parked.is_empty() => Wellness::Unhealthy,
            (lag, _) if !tracked.is_empty() && lag >= thresholds.unhealthy_ms() => {
                Wellness::Unhealthy
            }
            (_, false) => Wellness::Degraded,
            (_, true) => Wellness::Healthy,
        };
        let confirmed = tracked.iter().map(|peer| (peer.node.clone(), peer.last_confirmation));
        HealthReport {
            status: engine_wellness.max(peers_wellness),
            writes: Writes::Open,
            peers_status: peers_wellness,
            engine: EngineReport { status: engine_name, reasons: engine.reasons },
            tracked_peer_count: tracked.len(),
            last_successful_confirmation_update_by_peer: confirmed.collect(),
            peers_with_no_confirmation: silent,
            max_lag_ms,
            lagging_peers: lagging,
            parked_peers: parked,
            replica: None,
            datasets: BTreeMap::new(),
            thresholds,
        }
    }
}

impl HealthReport {
    /// Tracked peers that lag or never confirmed anything.
    pub(super) fn peers_in_trouble(&self) -> usize {
        let silent = self.peers_with_no_confirmation.iter();
        let lagging = self.lagging_peers.iter();
        silent.chain(lagging).collect::<BTreeSet<_>>().len()
    }
}

/// The name of an engine's state, and how well a node with it is.
fn of_engine(status: Status) -> (&'static str, Wellness) {
    match status {
        Status::Healthy => ("healthy", Wellness::Healthy),
        Status::Degraded => ("degraded", Wellness::Degraded),
        Status::ReadOnly => ("read-only", Wellness::Unhealthy),
        Status::Corrupt => ("corrupt", Wellness::Unhealthy),
        Status::Poisoned => ("poisoned", Wellness::Unhealthy),
        Status::Closed => ("closed", Wellness::Unhealthy),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::replicas::Totals;

    fn peer(node: &str, class: PeerClass, lag_ms: u64, last_confirmation: Option<u64>) -> Peer {
        Peer {
            node: node.to_owned(),
            address: None,
            found: Vec::new(),
            class,
            enabled: true,
            online: true,
            breaker: 0,
            lag_ms,
            pending: 0,
            last_sync: None,
            last_confirmation,
            clock_offset_ms: 0,
            parked: false,
            under_way: 0,
            under_way_bytes: 0,
            diverged: 0,
            totals: Totals::default(),
            last_error: None,
        }
    }

    fn report(peers: &[Peer]) -> serde_json::Value {
        let engine = engine_health(Status::Healthy);
        serde_json::to_value(HealthReport::new(engine, peers, LagThresholds::default())).unwrap()
    }

    /// `Health` can only be made by the engine, so one is taken from a real database.
    fn engine_health(status: Status) -> Health {
        let dir = tempfile::tempdir().unwrap();
        let db = engine::Db::open(dir.path().join("data"), engine::Options::default()).unwrap();
        let mut health = db.health();
        health.status = status;
        health
    }

    #[test]
    fn a_node_without_peers_is_as_well_as_its_engine() {
        let report = report(&[]);
        assert_eq!(report["status"], "healthy");
        assert_eq!(report["trackedPeerCount"], 0);
        assert_eq!(report["maxLagMs"], 0);
        assert_eq!(report["peersWithNoConfirmation"], serde_json::json!([]));
        for (status, expected) in [
            (Status::Degraded, Wellness::Degraded),
            (Status::ReadOnly, Wellness::Unhealthy),
            (Status::Poisoned, Wellness::Unhealthy),
        ] {
            let health = engine_health(status);
            let report = HealthReport::new(health, &[], LagThresholds::default());
            assert_eq!(report.status, expected);
        }
        let mut jumped = engine_health(Status::Degraded);
        jumped.clock_jump_ms = Some(60_000);
        let report = HealthReport::new(jumped, &[], LagThresholds::default());
        assert_eq!(report.status, Wellness::Unhealthy, "no commit succeeds");
    }

    #[test]
    fn the_peer_that_lags_most_decides_and_only_tracked_ones_count() {
        let fine = peer("a", PeerClass::Tracked, 29_999, Some(7));
        let late = peer("b", PeerClass::Tracked, 30_000, Some(8));
        let lost = peer("c", PeerClass::Tracked, 120_000, Some(9));
        let observer = peer("d", PeerClass::Untracked, u64::MAX, None);
        assert_eq!(report(&[fine.clone(), observer.clone()])["status"], "healthy");
        let degraded = report(&[fine.clone(), late.clone(), observer]);
        assert_eq!(degraded["status"], "degraded");
        assert_eq!(degraded["trackedPeerCount"], 2);
        assert_eq!(degraded["laggingPeers"], serde_json::json!(["b"]));
        assert_eq!(degraded["maxLagMs"], 30_000);
        let times = &degraded["lastSuccessfulConfirmationUpdateByPeer"];
        assert_eq!(times, &serde_json::json!({ "a": 7, "b": 8 }));
        assert_eq!(report(&[fine, late, lost])["status"], "unhealthy");
    }

    #[test]
    fn a_peer_that_never_confirmed_is_named() {
        let report = report(&[peer("a", PeerClass::Tracked, 0, None)]);
        assert_eq!(report["status"], "degraded");
        assert_eq!(report["peersWithNoConfirmation"], serde_json::json!(["a"]));
        let times = &report["lastSuccessfulConfirmationUpdateByPeer"];
        assert_eq!(times, &serde_json::json!({ "a": null }));
    }

    #[test]
    fn a_peer_whose_clock_is_ahead_makes_health_red() {
        let parked = Peer { parked: true, ..peer("d", PeerClass::Untracked, 0, None) };
        let report = report(&[peer("a", PeerClass::Tracked, 0, Some(1)), parked]);
        assert_eq!(report["status"], "unhealthy");
        assert_eq!(report["parkedPeers"], serde_json::json!(["d"]));
    }

    #[test]
    fn a_replica_beyond_its_bound_is_not_ready() {
        let thresholds = LagThresholds::default();
        for (lag_ms, is_ready) in
            [(Some(0), true), (Some(1000), true), (Some(1001), false), (None, false)]
        {
            let behind = Behind { lag_ms, unheard_writers: Vec::new() };
            let engine = engine_health(Status::Healthy);
            let report = HealthReport::new(engine, &[], thresholds).of_replica(Some(behind));
            let wellness = if is_ready { Wellness::Healthy } else { Wellness::Degraded };
            assert_eq!(report.status, wellness, "{lag_ms:?}");
            let report = serde_json::to_value(report).unwrap();
            assert_eq!(report["replica"]["isReady"], is_ready);
            assert_eq!(report["replica"]["lagThresholdMs"], 1000);
        }
    }

    #[test]
    fn a_node_that_waits_for_somebody_before_it_takes_writes_is_not_well() {
        for writes in Writes::ALL {
            let engine = engine_health(Status::Healthy);
            let report = HealthReport::new(engine, &[], LagThresholds::default());
            let report = report.of_writes(writes);
            let wellness = match writes.name() {
                "forked" | "clock-skew" => Wellness::Unhealthy,
                "joining" | "rejoining" | "announcing" | "retired" => Wellness::Degraded,
                _ => Wellness::Healthy,
            };
            assert_eq!(report.status, wellness, "{writes:?}");
            assert_eq!(serde_json::to_value(report).unwrap()["writes"], writes.name());
        }
    }

    #[test]
    fn the_critical_threshold_is_never_below_the_other() {
        let thresholds = LagThresholds::new(500, 100);
        assert_eq!(thresholds.unhealthy_ms(), 500);
    }
}
