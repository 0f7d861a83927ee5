//! What operators change while a node runs, and ask about it. Each change is in the audit.
//!
//! ```text
//! GET POST  /v1/mode                    {"mode":"normal" | "read-only" | "maintenance"}
//! GET POST  /v1/log                     {"level":..,"filter":..}, one or both
//! GET POST  /v1/timeouts                {"drain":MILLISECONDS,..}, those that change
//! POST      /v1/reload                  reads the configuration again; what waits for a start
//! GET       /v1/breakers                state and counts by name
//! POST      /v1/breakers/{name}/reset   closes one
//! GET       /v1/remedies                what the node does by itself, whether it would and how often it did
//! ```
//!
//! What is changed here lasts until the node stops, or reads its configuration again; but for the mode, which is kept.

use super::body::{Reading, read_whole};
use super::mode::Mode;
use super::node::Node;
use super::query::{Query, text_segment};
use super::refusal::Refusal;
use super::routes::json;
use crate::error::{Exit, Failure, Outcome};
use crate::logs::{self, AUDIT};
use crate::replicas::node_of;
use axum::body::Body;
use axum::extract::{Request, State};
use axum::http::{Response, Uri};
use esker_node::resilience::{BreakerReport, Timeout};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_json::json;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

/// Bytes of a request at most.
const REQUEST_LEN_MAX: usize = 4096;

#[derive(Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
struct ModeBody {
    mode: Mode,
}

/// What users may ask for.
pub(super) async fn mode(State(node): State<Arc<Node>>) -> Response<Body> {
    json(&ModeBody { mode: node.mode().get() })
}

/// Changes it.
pub(super) async fn set_mode(
    State(node): State<Arc<Node>>,
    request: Request,
) -> Result<Response<Body>, Refusal> {
    let shape = "{\"mode\":\"normal\"}, or \"read-only\" or \"maintenance\"";
    let ModeBody { mode } = body_of(&node, request, shape).await?;
    // Whatever comes of keeping it: who asks for it wants it now.
    let before = node.mode().set(mode);
    tracing::info!(target: AUDIT, ?before, after = ?mode, "the mode was set");
    let kept = node.blocking(move |node| {
        let kept = mode.keep(node.directory().db());
        if let Err(failure) = &kept {
            tracing::warn!(
                code = failure.code(),
                failure = failure.to_text(),
                "the mode lasts until the node stops"
            );
        }
        Ok(kept.is_ok())
    });
    Ok(json(&json!({ "mode": mode, "kept": kept.await? })))
}

#[derive(Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
struct LogBody {
    level: Option<String>,
    filter: Option<String>,
}

/// What is worth a line.
pub(super) async fn log() -> Response<Body> {
    let (level, filter) = logs::levels();
    json(&LogBody { level: Some(level), filter: Some(filter) })
}

/// Changes it.
pub(super) async fn set_log(
    State(node): State<Arc<Node>>,
    request: Request,
) -> Result<Response<Body>, Refusal> {
    let shape = "{\"level\":\"info\",\"filter\":\"esker=debug\"}, one or both";
    let LogBody { level, filter } = body_of(&node, request, shape).await?;
    let before = logs::levels();
    let (level, filter) = (level.unwrap_or(before.0), filter.unwrap_or(before.1));
    logs::set(&level, &filter)?;
    tracing::info!(target: AUDIT, level, filter, "the level of the log was set");
    Ok(json(&LogBody { level: Some(level), filter: Some(filter) }))
}

/// How long everything may take, in milliseconds by name.
pub(super) async fn timeouts(State(node): State<Arc<Node>>) -> Response<Body> {
    json(&node.timeouts().all())
}

/// Changes some; all or none.
pub(super) async fn set_timeouts(
    State(node): State<Arc<Node>>,
    request: Request,
) -> Result<Response<Body>, Refusal> {
    let shape = "{\"drain\":30000}, milliseconds by name";
    let asked: BTreeMap<String, u64> = body_of(&node, request, shape).await?;
    let refuse = |error: &dyn std::fmt::Display| Failure::input(error.to_string());
    for (name, millis) in &asked {
        Timeout::check(name, Duration::from_millis(*millis)).map_err(|error| refuse(&error))?;
    }
    for (name, millis) in &asked {
        let set = node.timeouts().set(name, Duration::from_millis(*millis));
        set.map_err(|error| refuse(&error))?;
        tracing::info!(target: AUDIT, name, millis, "a timeout was set");
    }
    Ok(json(&node.timeouts().all()))
}

/// Reads the configuration again.
pub(super) async fn reload(
    State(node): State<Arc<Node>>,
    uri: Uri,
) -> Result<Response<Body>, Refusal> {
    Query::of(&uri, &[])?;
    let waiting = node.blocking(Node::reload).await?;
    Ok(json(&json!({ "waiting": waiting })))
}

/// How each breaker is, those of peers too.
pub(super) async fn breakers(State(node): State<Arc<Node>>) -> Result<Response<Body>, Refusal> {
    Ok(json(&node.blocking(|node| Ok(breakers_of(node))).await?))
}

/// What the name of the breaker of a peer begins with; its node follows.
const OF_PEER: &str = "peer-";

fn breakers_of(node: &Node) -> BTreeMap<String, BreakerReport> {
    let peers = node.replicas().breakers().into_iter();
    let mut all = node.breakers().reports();
    all.extend(peers.map(|(peer, report)| (format!("{OF_PEER}{peer}"), report)));
    all
}

/// How each remedy is.
pub(super) async fn remedies(State(node): State<Arc<Node>>) -> Response<Body> {
    json(&node.healing().reports())
}

/// Closes a breaker.
pub(super) async fn reset_breaker(
    State(node): State<Arc<Node>>,
    uri: Uri,
) -> Result<Response<Body>, Refusal> {
    Query::of(&uri, &[])?;
    let name = text_segment(&uri, 2)?;
    let reports = node.blocking(move |node| {
        let was_there = match name.strip_prefix(OF_PEER).and_then(node_of) {
            Some(peer) => node.replicas().reset_breaker(peer),
            None => node.breakers().reset(&name),
        };
        if was_there {
            return Ok(breakers_of(node));
        }
        let message = "no breaker of that name was used yet";
        let failure = Failure::new(Exit::NotFound, "BreakerNotFound", message);
        Err(failure.action("list the breakers to see their names"))
    });
    Ok(json(&reports.await?))
}

/// The body of `request`, which looks like `shape`.
pub(super) async fn body_of<T: DeserializeOwned>(
    node: &Node,
    request: Request,
    shape: &str,
) -> Result<T, Refusal> {
    let (head, body) = request.into_parts();
    Query::of(&head.uri, &[])?;
    let reading = Reading { what: "request", len_max: REQUEST_LEN_MAX, copies: 1 };
    let body = read_whole(node, &head.headers, body, reading).await?;
    let parsed: Outcome<T> = serde_json::from_slice(&body.bytes)
        .map_err(|_| Failure::input(format!("the body is not {shape}")));
    Ok(parsed?)
}
