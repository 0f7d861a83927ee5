//! What is answered while the database is being opened: that the process is alive, and how far it is.
//!
//! ```text
//! GET /, /health/live                   200
//! GET /health/ready                     503 {"status":"not_ready","reasons":[..],"recovery":{..}}
//! GET /health, /health/detailed         503 {"status":"unhealthy","recovery":{..}}
//! everything else                       503 `Opening`, which may be asked again
//! ```
//!
//! ```text
//! "recovery": {"phase":"recovery","stage":"log","number":9,"stages":12,"bytesDone":..,"bytesTotal":..}
//! "recovery": {"phase":"peers"}
//! ```

use super::callers::Callers;
use super::page::page;
use super::probes::{live, unavailable};
use super::refusal::Refusal;
use super::routes::json;
use axum::Router;
use axum::body::Body;
use axum::extract::{Request, State};
use axum::http::Response;
use axum::middleware::{self, Next};
use axum::routing::get;
use engine::{Progress, Stage};
use serde_json::{Value, json};
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

/// How far the opening of a database has come, told to whoever asks and cancelled by who stops the node.
#[derive(Debug, Default)]
pub(crate) struct Opening {
    progress: Progress,
    is_recovered: AtomicBool,
    /// Where peers reached the node before, if the database was open in this process.
    before: Option<SocketAddr>,
}

impl Opening {
    /// The database is opened again, by a node that peers have reached at `listen`.
    pub(super) fn again(listen: SocketAddr) -> Opening {
        Opening { before: Some(listen), ..Opening::default() }
    }

    /// Where peers reached the node before, if it was one in this process.
    pub(crate) fn before(&self) -> Option<SocketAddr> {
        self.before
    }

    /// What recovery reports to.
    pub(crate) fn progress(&self) -> &Progress {
        &self.progress
    }

    /// The database is open; what remains are peers.
    pub(crate) fn recovered(&self) {
        self.is_recovered.store(true, Ordering::Release);
    }

    /// Where it is, for programs.
    fn report(&self) -> Value {
        if self.is_recovered.load(Ordering::Acquire) {
            return json!({ "phase": "peers" });
        }
        let stage = self.progress.stage();
        json!({
            "phase": "recovery",
            "stage": stage.map(|stage| stage.to_string()),
            "number": stage.map_or(0, |stage| stage as u8),
            "stages": Stage::ALL.len(),
            "bytesDone": self.progress.bytes_done(),
            "bytesTotal": self.progress.bytes_total(),
        })
    }

    /// Where it is, for people.
    pub(super) fn words(&self) -> String {
        if self.is_recovered.load(Ordering::Acquire) {
            return "the database is open, peers or other databases are not yet".to_owned();
        }
        let Some(stage) = self.progress.stage() else {
            return "the database is about to be opened".to_owned();
        };
        let (number, stages) = (stage as u8, Stage::ALL.len());
        let begun = format!("the database is being opened: {stage}, stage {number} of {stages}");
        match (self.progress.bytes_done(), self.progress.bytes_total()) {
            (_, 0) => begun,
            (done, total) => format!("{begun}, {done} of {total} bytes"),
        }
    }
}

/// All routes until there is a node.
pub(super) fn routes(opening: Arc<Opening>, callers: Arc<Callers>) -> Router {
    Router::new()
        .route("/", get(page))
        .route("/health", get(unhealthy))
        .route("/health/live", get(live))
        .route("/health/ready", get(ready))
        .route("/health/detailed", get(unhealthy))
        .fallback(refuse)
        .method_not_allowed_fallback(refuse)
        .layer(middleware::from_fn_with_state(callers, admit))
        .with_state(opening)
}

async fn admit(
    State(callers): State<Arc<Callers>>,
    request: Request,
    next: Next,
) -> Result<Response<Body>, Refusal> {
    callers.admit(request.uri().path(), request.headers())?;
    Ok(next.run(request).await)
}

async fn ready(State(opening): State<Arc<Opening>>) -> Response<Body> {
    let (reasons, recovery) = ([opening.words()], opening.report());
    let report = json!({ "status": "not_ready", "reasons": reasons, "recovery": recovery });
    unavailable(json(&report))
}

async fn unhealthy(State(opening): State<Arc<Opening>>) -> Response<Body> {
    unavailable(json(&json!({ "status": "unhealthy", "recovery": opening.report() })))
}

async fn refuse(State(opening): State<Arc<Opening>>) -> Refusal {
    Refusal::opening(opening.words())
}
