//! What those ask who start, stop and watch nodes: is it alive, is it ready, what does it find.
//!
//! ```text
//! GET  /health/live      200 as long as the process answers
//! GET  /health/ready     200 if it takes reads of users, else 503 with the reasons; also whether it takes writes
//! GET  /health/detailed  200, or 503 if anything is unhealthy; every check with what it measured
//! ```
//!
//! None of them waits for a disk, a peer or a check.

use super::node::Node;
use super::routes::json;
use axum::body::Body;
use axum::extract::State;
use axum::http::{Response, StatusCode};
use engine::Status;
use esker_node::health::{CheckReport, Wellness};
use serde::Serialize;
use serde_json::json;
use std::collections::BTreeMap;
use std::sync::Arc;

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
    let mut reasons = reasons(&node);
    for (name, door) in node.datasets().all() {
        let of_dataset = door.reasons().into_iter();
        reasons.extend(of_dataset.map(|reason| format!("dataset {name}: {reason}")));
    }
    let writes = node.writes();
    if reasons.is_empty() {
        return json(&json!({ "status": "ready", "writes": writes }));
    }
    unavailable(json(&json!({ "status": "not_ready", "reasons": reasons, "writes": writes })))
}

/// Why no user should be sent to `node` itself.
pub(super) fn reasons(node: &Node) -> Vec<String> {
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
    if let Some(behind) = node.replicas().behind()
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
        let Some(of_dataset) = door.node().and_then(|node| node.findings()) else {
            report.status = Wellness::Unhealthy;
            report.checks.insert(format!("{name}.engine"), not_there(&door.reasons().join("; ")));
            continue;
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
