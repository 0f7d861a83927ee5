//! Status and changes of peers, through the seam to replication.

use super::admin::body_of;
use super::node::Node;
use super::query::{Query, text_segment};
use super::refusal::Refusal;
use super::routes::json;
use crate::error::{Failure, Outcome};
use crate::replicas::{
    Behind, Discovery, PeerAddress, PeerChange, Replicas, Role, SyncStatus, no_such_peer, node_of,
};
use axum::body::Body;
use axum::extract::{Request, State};
use axum::http::{Response, Uri};
use serde::{Deserialize, Serialize};
use std::sync::Arc;
use std::time::Duration;
use tokio::time::Instant;

/// How long a flush waits unless told otherwise, and at the most.
const FLUSH_WAIT_MS: u64 = 10_000;
const FLUSH_WAIT_MS_MAX: u64 = 60_000;
/// Between two looks at one.
const FLUSH_STEP: Duration = Duration::from_millis(20);

/// How a node and its peers are.
#[derive(Deserialize, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct StatusReport {
    /// Its name.
    pub(crate) node: String,
    /// This life of its data.
    pub(crate) incarnation: String,
    /// What it is to its peers.
    pub(crate) role: Role,
    /// Where it listens for peers.
    pub(crate) listen: String,
    /// Of a replica: how far it is behind the writers.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) behind: Option<Behind>,
    /// How members that have moved are looked for, if they are.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) discovery: Option<Discovery>,
    /// How its peers are, and it with them.
    #[serde(flatten)]
    pub(crate) sync: SyncStatus,
}

/// A request to add a peer.
#[derive(Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct NewPeer {
    /// `ID@ADDR`.
    pub(crate) peer: String,
}

/// What a promoted node is.
#[derive(Deserialize, Serialize)]
pub(crate) struct Promoted {
    /// What it is to its peers.
    pub(crate) role: Role,
}

impl StatusReport {
    /// That of `node`.
    pub(super) fn of(node: &Node) -> StatusReport {
        let replicas: &dyn Replicas = node.replicas();
        let identity = node.directory().db().identity();
        StatusReport {
            node: identity.node.to_string(),
            incarnation: identity.incarnation.to_string(),
            role: replicas.role(),
            listen: replicas.listens_at().to_string(),
            behind: replicas.behind(),
            discovery: replicas.discovery(),
            sync: replicas.sync_status(),
        }
    }
}

/// How the node and its peers are.
pub(super) async fn status(State(node): State<Arc<Node>>) -> Result<Response<Body>, Refusal> {
    let report = node.blocking(|node| Ok(StatusReport::of(node))).await?;
    Ok(json(&report))
}

/// Waits until all tracked peers have what was written here up to now, for a while. A client that goes ends it.
pub(super) async fn flush(
    State(node): State<Arc<Node>>,
    uri: Uri,
) -> Result<Response<Body>, Refusal> {
    let wait_ms = Query::of(&uri, &["wait_ms"])?.number::<u64>("wait_ms")?;
    let wait_ms = wait_ms.unwrap_or(FLUSH_WAIT_MS);
    if wait_ms > FLUSH_WAIT_MS_MAX {
        let message = format!("the parameter `wait_ms` is at most {FLUSH_WAIT_MS_MAX}");
        return Err(Failure::input(message).into());
    }
    let _turn = node.shares().wait().await?;
    let end = Instant::now() + Duration::from_millis(wait_ms);
    let mut flush = node.blocking(|node| node.replicas().begin_flush()).await?;
    loop {
        let now = Instant::now();
        let looked = node.blocking(move |node| {
            let flushed = node.replicas().flushed(&mut flush)?;
            Ok((flush, flushed))
        });
        let (looked, flushed) = looked.await?;
        if flushed.failed == 0 || now >= end || node.is_draining() {
            return Ok(json(&flushed));
        }
        flush = looked;
        tokio::time::sleep_until(end.min(now + FLUSH_STEP)).await;
    }
}

/// All peers.
pub(super) async fn list(State(node): State<Arc<Node>>) -> Result<Response<Body>, Refusal> {
    let peers = node.blocking(|node| Ok(node.replicas().peers())).await?;
    Ok(json(&peers))
}

/// A token for one node that wants to join.
pub(super) async fn invite(State(node): State<Arc<Node>>) -> Result<Response<Body>, Refusal> {
    let invitation = node.blocking(|node| node.replicas().invite()).await?;
    Ok(json(&invitation))
}

/// Adds the peer that the body names.
pub(super) async fn add(
    State(node): State<Arc<Node>>,
    request: Request,
) -> Result<Response<Body>, Refusal> {
    let NewPeer { peer } = body_of(&node, request, "{\"peer\":\"ID@ADDR\"}").await?;
    let peer: PeerAddress = peer.parse()?;
    let added = node.blocking(move |node| node.replicas().add(&peer)).await?;
    Ok(json(&added))
}

/// Makes a replica a writer.
pub(super) async fn promote(
    State(node): State<Arc<Node>>,
    uri: Uri,
) -> Result<Response<Body>, Refusal> {
    Query::of(&uri, &[])?;
    let role = node.blocking(|node| {
        node.replicas().promote()?;
        Ok(node.replicas().role())
    });
    Ok(json(&Promoted { role: role.await? }))
}

/// `/v1/peers/{id}/{change}`
pub(super) async fn change(
    State(node): State<Arc<Node>>,
    uri: Uri,
) -> Result<Response<Body>, Refusal> {
    Query::of(&uri, &[])?;
    let Some(change) = PeerChange::named(&text_segment(&uri, 3)?) else {
        return Err(Refusal::no_such_path());
    };
    let peer = peer_id(&text_segment(&uri, 2)?)?;
    let changed = node.blocking(move |node| node.replicas().change(peer, change)).await?;
    Ok(json(&changed))
}

fn peer_id(text: &str) -> Outcome<base::NodeId> {
    node_of(text).ok_or_else(no_such_peer)
}
