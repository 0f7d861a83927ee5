//! Which path is answered by which handler. How keys travel in paths is described in `wire`.
//!
//! ```text
//! GET PUT DELETE  /v1/keyspaces/{keyspace}/records/{key}    the value as it is; {"seqno":..}; see
//!                                                           `condition`
//! GET PUT DELETE  /v1/keyspaces/{keyspace}/record           the same, the key in a header
//! GET             /v1/keyspaces/{keyspace}/records          lines; prefix start end reverse limit
//!                                                           keys_only
//! GET             /v1/keyspaces/{keyspace}/digest           {"digest":..,"records":..,"bytes":..}
//! GET             /v1/keyspaces                             [{"keyspace":..,"records":..,"bytes":..}]
//! GET             /v1/export                                lines of all keyspaces
//! GET             /v1/digest                                the digest of all keyspaces
//! GET             /v1/stats                                 numbers by name
//! POST            /v1/flush, /v1/compact                    null; keyspace
//! ..              /v1/checkpoint, backup, backups, scrub    see `upkeep`
//! ..              /v1/mode, log, timeouts, reload,
//!                 breakers, remedies                        see `admin`
//! POST            /v1/batch                                 operations in, all or nothing; keyspace sync
//! POST            /v1/load                                  lines in; keyspace batch sync skip_bad
//! GET             /v1/status                                node, role, peers, errors, totals
//! GET             /v1/peers                                 the peers
//! POST            /v1/peers/flush                           waits for their confirms; wait_ms
//! POST            /v1/peers                                 adds {"peer":"ID@ADDR"}
//! POST            /v1/invitations                           {"token":..,"expires":..}
//! GET             /v1/datasets                              the other databases of the process
//! GET             /v1/datasets/{dataset}                    one of them; behind another slash it answers itself
//! POST            /v1/promote                               {"role":..}
//! POST            /v1/peers/{id}/{change}                   enable disable track untrack deprecate
//!                                                           remove
//! GET             /health                                   200 or 503
//! GET             /health/{live,ready,detailed}             see `probes`
//! GET             /                                         the page, see `page`
//! GET             /v1/overview                              what it shows
//! GET             /metrics                                  what Prometheus reads
//! GET             /openapi.json                             all of this, for programs
//! ```

use super::health::HealthReport;
use super::node::Node;
use super::refusal::Refusal;
use super::{
    admin, batch, content, datasets, load, overview, page, peers, probes, record, stream, upkeep,
};
use crate::error::{Failure, Outcome};
use crate::logs::{AUDIT, span_of_operation};
use crate::metrics;
use crate::wire::MAX_LAG_HEADER;
use axum::Router;
use axum::body::Body;
use axum::extract::{MatchedPath, Request, State};
use axum::http::header::{CONTENT_TYPE, HeaderValue};
use axum::http::{Method, Response, StatusCode, Uri};
use axum::middleware::{self, Next};
use axum::response::IntoResponse;
use axum::routing::{get, post};
use esker_node::health::Wellness;
use esker_node::lines::serving;
use serde::Serialize;
use std::sync::Arc;
use std::time::Instant;
use tracing::Instrument;

/// The document that a test holds against the routes.
const OPENAPI: &str = include_str!("openapi.json");

/// What users ask besides what concerns a keyspace.
const DATA: [&str; 4] = ["/v1/batch", "/v1/load", "/v1/export", "/v1/digest"];

/// All routes of `node`.
pub(super) fn routes(node: Arc<Node>) -> Router {
    data(&node)
        .merge(of_operators())
        .merge(of_watchers())
        .fallback(nothing)
        .method_not_allowed_fallback(async || Refusal::no_such_method())
        .layer(middleware::from_fn_with_state(node.clone(), attend))
        .with_state(node)
}

/// What users ask.
fn data(node: &Arc<Node>) -> Router<Arc<Node>> {
    let record = || get(record::get).put(record::put).delete(record::delete);
    Router::new()
        .route("/v1/keyspaces", get(content::keyspaces))
        .route("/v1/keyspaces/{keyspace}/records", get(stream::scan))
        .route("/v1/keyspaces/{keyspace}/records/{key}", record())
        .route("/v1/keyspaces/{keyspace}/record", record())
        .route("/v1/keyspaces/{keyspace}/digest", get(content::digest))
        .route("/v1/digest", get(content::digest))
        .route("/v1/export", get(stream::export))
        .route("/v1/batch", post(batch::batch))
        .route("/v1/load", post(load::load))
        .route_layer(middleware::from_fn_with_state(node.clone(), keep_bound))
}

/// What operators ask.
fn of_operators() -> Router<Arc<Node>> {
    Router::new()
        .route("/v1/flush", post(content::flush))
        .route("/v1/compact", post(content::compact))
        .route("/v1/checkpoint", post(upkeep::checkpoint))
        .route("/v1/backup", post(upkeep::backup))
        .route("/v1/backups", get(upkeep::backups))
        .route("/v1/scrub", post(upkeep::scrub))
        .route("/v1/mode", get(admin::mode).post(admin::set_mode))
        .route("/v1/log", get(admin::log).post(admin::set_log))
        .route("/v1/timeouts", get(admin::timeouts).post(admin::set_timeouts))
        .route("/v1/reload", post(admin::reload))
        .route("/v1/breakers", get(admin::breakers))
        .route("/v1/remedies", get(admin::remedies))
        .route("/v1/breakers/{name}/reset", post(admin::reset_breaker))
        .route("/v1/status", get(peers::status))
        .route("/v1/peers", get(peers::list).post(peers::add))
        .route("/v1/peers/flush", post(peers::flush))
        .route("/v1/peers/{id}/{change}", post(peers::change))
        .route("/v1/promote", post(peers::promote))
        .route("/v1/invitations", post(peers::invite))
        .route("/v1/datasets", get(datasets::list))
        .route("/v1/datasets/{dataset}", get(datasets::one))
}

/// What those ask who watch.
fn of_watchers() -> Router<Arc<Node>> {
    Router::new()
        .route("/", get(page::page))
        .route("/v1/overview", get(overview::overview))
        .route("/health", get(health))
        .route("/health/live", get(probes::live))
        .route("/health/ready", get(probes::ready))
        .route("/health/detailed", get(probes::detailed))
        .route("/metrics", get(metrics))
        .route("/v1/stats", get(content::stats))
        .route("/openapi.json", get(openapi))
}

/// Refuses users where nothing is answered, and those who ask for newer data than a replica has.
async fn keep_bound(
    State(node): State<Arc<Node>>,
    request: Request,
    next: Next,
) -> Result<Response<Body>, Refusal> {
    node.mode().check_reads()?;
    if let Some(max) = request.headers().get(MAX_LAG_HEADER) {
        let max = max.to_str().ok().and_then(|text| text.parse().ok());
        let max_ms = max.ok_or_else(|| {
            Failure::input(format!("the header {MAX_LAG_HEADER} is a number of milliseconds"))
        })?;
        node.check_shows(max_ms)?;
    }
    Ok(next.run(request).await)
}

/// Lets in who may ask, counts the request and its answer, and notes what operators do.
async fn attend(State(node): State<Arc<Node>>, request: Request, next: Next) -> Response<Body> {
    let open = node.requests().begin();
    let started = Instant::now();
    let method = request.method().clone();
    let path = request.extensions().get::<MatchedPath>().cloned();
    let callers = node.callers();
    let admitted = callers.admit(request.uri().path(), request.headers());
    let changes = path.as_ref().is_some_and(|path| is_of_operators(&method, path.as_str()));
    let changed = changes.then(|| request.uri().path().to_owned());
    let (caller, response) = match admitted {
        Ok(caller) => match within_rate(&node, path.as_ref(), caller) {
            Ok(()) => {
                let served = path.as_ref().and_then(|path| served_at(&method, path.as_str()));
                let work = next.run(request);
                let response = match (changed.as_deref(), served) {
                    (Some(path), _) => work.instrument(span_of_operation(path)).await,
                    (None, Some(operation)) => serving(operation, work).await,
                    (None, None) => work.await,
                };
                (Some(caller), response)
            }
            Err(failure) => (Some(caller), Refusal::too_often(failure).into_response()),
        },
        Err(refusal) => {
            node.note_stranger();
            (None, refusal.into_response())
        }
    };
    drop(open);
    let route = path.as_ref().map_or("none", MatchedPath::as_str);
    let status = response.status().as_u16();
    // Strangers change nothing, and could push out of the audit what operators have done.
    if let (Some(operation), Some(caller)) = (changed, caller) {
        tracing::info!(target: AUDIT, operation, caller, status, "an operator has asked");
    }
    node.requests().answered(method.as_str(), route, status, started.elapsed());
    response
}

/// Refuses who asks for data too often. Operators and those who watch are not counted.
fn within_rate(node: &Node, path: Option<&MatchedPath>, caller: &str) -> Outcome {
    let is_of_data = |path: &&MatchedPath| {
        let path = path.as_str();
        path.starts_with("/v1/keyspaces") || DATA.contains(&path)
    };
    match path.filter(is_of_data) {
        Some(_) => node.limits().admit(caller, node.uptime()),
        None => Ok(()),
    }
}

/// What users ask for by `method` at `route`, in a word.
fn served_at(method: &Method, route: &str) -> Option<&'static str> {
    let operation = match route {
        "/v1/keyspaces/{keyspace}/records/{key}" | "/v1/keyspaces/{keyspace}/record" => {
            match *method {
                Method::PUT => "put",
                Method::DELETE => "delete",
                _ => "get",
            }
        }
        "/v1/keyspaces/{keyspace}/records" => "scan",
        "/v1/batch" => "batch",
        "/v1/load" => "load",
        "/v1/export" => "export",
        "/v1/digest" | "/v1/keyspaces/{keyspace}/digest" => "digest",
        "/v1/keyspaces" => "keyspaces",
        _ => return None,
    };
    Some(operation)
}

/// Whether it changes how a node works; such paths hold no keys.
fn is_of_operators(method: &Method, route: &str) -> bool {
    method == Method::POST && !matches!(route, "/v1/load" | "/v1/batch")
}

/// There is nothing at `uri`.
async fn nothing(State(node): State<Arc<Node>>, uri: Uri) -> Refusal {
    match node.datasets().is_missing(&uri) {
        true => Refusal::no_such_dataset(),
        false => Refusal::no_such_path(),
    }
}

/// What can be asked, for programs that make clients.
async fn openapi() -> Response<Body> {
    let mut response = Response::new(Body::from(OPENAPI));
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    response
}

/// The numbers of this moment.
async fn metrics(State(node): State<Arc<Node>>) -> Result<Response<Body>, Refusal> {
    let text = node.blocking(|node| node.metrics()).await?;
    let mut response = Response::new(Body::from(text));
    let text = HeaderValue::from_static(metrics::CONTENT_TYPE);
    response.headers_mut().insert(CONTENT_TYPE, text);
    Ok(response)
}

/// Whether the node is well. Answers without waiting for the disk.
async fn health(State(node): State<Arc<Node>>) -> Response<Body> {
    let report = HealthReport::of_all(&node).await;
    let mut response = json(&report);
    if report.status == Wellness::Unhealthy {
        *response.status_mut() = StatusCode::SERVICE_UNAVAILABLE;
    }
    response
}

/// An answer that is one JSON value.
pub(super) fn json(value: &impl Serialize) -> Response<Body> {
    let mut text = serde_json::to_vec(value).unwrap_or_default();
    text.push(b'\n');
    let mut response = Response::new(Body::from(text));
    let json = HeaderValue::from_static("application/json");
    response.headers_mut().insert(CONTENT_TYPE, json);
    response
}
