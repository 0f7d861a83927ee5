//! What those ask who start, stop and watch nodes: is it alive, is it ready, what does it find.
//!
//! ```text
//! GET  /health/live      200 as long as the process answers
//! GET  /health/ready     200 if it takes reads of users, else 503 with the reasons; also whether it takes writes
//! GET  /health/detailed  200, or 503 if anything is unhealthy; every check with what it measured
//! ```
//!
//! None of them waits for a disk, a peer or a check. What is known of peers is a look of this moment or, if that
//! has to wait for the disk, the one before.

use super::glimpse::Seen;
use super::health::PeersLook;
use super::node::Node;
use super::routes::json;
use crate::writes::Writes;
use axum::body::Body;
use axum::extract::State;
use axum::http::{Response, StatusCode};
use engine::Status;
use esker_node::health::{CheckReport, Wellness};
use serde::Serialize;
use serde_json::json;
use std::collections::BTreeMap;
use std::sync::Arc;

/// Why users are sent elsewhere before anything is known of the peers.
const NOTHING_SEEN: &str = "nothing is known of the peers yet: the disk does not answer";

/// Why none is sent to a node with a new disk.
const NOTHING_THERE: &str =
    "the node has a new disk, and has not met a peer that may hold its data";

/// What `/health/detailed` answers.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Detailed {
    status: Wellness,
    /// Milliseconds since the Unix epoch.
    timestamp: u64,
    uptime_seconds: u64,
    version: &'static str,
    node: String,
    checks: BTreeMap<String, CheckReport>,
}

/// The process answers.
pub(super) async fn live() -> Response<Body> {
    json(&json!({ "status": "alive" }))
}

/// Whether users should be sent here: to the main database of a process only if all others are ready, too.
pub(super) async fn ready(State(node): State<Arc<Node>>) -> Response<Body> {
    let look = node.begin_look_at_peers();
    // All look at the same time.
    let begin = |node: Arc<Node>| (node.begin_look_at_peers(), node);
    let all = node.datasets().all();
    let datasets: Vec<_> =
        all.map(|(name, door)| (name.to_owned(), door.standing().map(begin))).collect();
    let look = look.seen().await;
    let mut reasons = reasons(&node, look.as_deref());
    for (name, begun) in datasets {
        let of_dataset = match begun {
            Ok((look, node)) => self::reasons(&node, look.seen().await.as_deref()),
            Err(words) => vec![words],
        };
        let of_dataset = of_dataset.into_iter();
        reasons.extend(of_dataset.map(|reason| format!("dataset {name}: {reason}")));
    }
    let writes = node.writes_if(|| look.map_or(Writes::Joining, |look| look.what.writes));
    if reasons.is_empty() {
        return json(&json!({ "status": "ready", "writes": writes }));
    }
    unavailable(json(&json!({ "status": "not_ready", "reasons": reasons, "writes": writes })))
}

/// Why no user should be sent to `node` itself, whose peers are as `look` says, if anybody knows.
fn reasons(node: &Node, look: Option<&Seen<PeersLook>>) -> Vec<String> {
    let mut reasons = Vec::new();
    if node.is_draining() {
        reasons.push("the node is shutting down".to_owned());
    }
    if node.mode().check_reads().is_err() {
        reasons.push("the node is being maintained".to_owned());
    }
    let health = node.directory().db().health();
    match health.status {
        Status::Healthy | Status::Degraded | Status::ReadOnly => {}
        Status::Corrupt | Status::Poisoned => reasons.extend(health.reasons),
        Status::Closed => reasons.push("the database is closed".to_owned()),
    }
    let Some(look) = look else {
        reasons.push(NOTHING_SEEN.to_owned());
        return reasons;
    };
    if look.what.writes == Writes::Joining {
        reasons.push(NOTHING_THERE.to_owned());
    }
    if let Some(behind) = look.behind()
        && !behind.is_within(node.thresholds().replica_ms())
    {
        reasons.push(node.too_far_behind(&behind, node.thresholds().replica_ms()));
    }
    reasons
}

/// Every check with what it found last; those of datasets with their name in front.
pub(super) async fn detailed(State(node): State<Arc<Node>>) -> Response<Body> {
    let Some(mut report) = node.findings() else {
        return unavailable(json(&json!({ "status": "unhealthy", "checks": {} })));
    };
    for (name, door) in node.datasets().all() {
        let found = door.standing().map(|node| node.findings());
        let of_dataset = match found {
            Ok(Some(of_dataset)) => of_dataset,
            found => {
                let words = found.err().unwrap_or_else(|| "it has not looked yet".to_owned());
                report.status = Wellness::Unhealthy;
                report.checks.insert(format!("{name}.engine"), not_there(&words));
                continue;
            }
        };
        report.status = report.status.max(of_dataset.status);
        let named = |(check, found)| (format!("{name}.{check}"), found);
        report.checks.extend(of_dataset.checks.into_iter().map(named));
    }
    let detailed = Detailed {
        status: report.status,
        timestamp: node.wall_ms(),
        uptime_seconds: node.uptime().as_secs(),
        version: env!("CARGO_PKG_VERSION"),
        node: node.directory().db().identity().node.to_string(),
        checks: report.checks,
    };
    let response = json(&detailed);
    if detailed.status == Wellness::Unhealthy { unavailable(response) } else { response }
}

/// What is found of a database that is not open.
fn not_there(why: &str) -> CheckReport {
    CheckReport {
        status: Wellness::Unhealthy,
        message: why.to_owned(),
        numbers: BTreeMap::new(),
        duration_ms: 0,
        age_ms: 0,
        is_timed_out: false,
    }
}

/// The same answer, with the status that sends users elsewhere.
pub(super) fn unavailable(mut response: Response<Body>) -> Response<Body> {
    *response.status_mut() = StatusCode::SERVICE_UNAVAILABLE;
    response
}
