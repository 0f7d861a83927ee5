//! Digest, keyspaces, numbers, flush and compaction: what concerns everything there is.
//!
//! Reading ends when nobody waits for it any more. Flushes and merges go on, and keep their turn until they
//! are done.

use super::disk::on_disk;
use super::ending::Interest;
use super::node::Node;
use super::query::{Query, text_segment};
use super::refusal::Refusal;
use super::routes::json;
use crate::database::keyspace_to_read;
use crate::place::Place;
use axum::body::Body;
use axum::extract::State;
use axum::http::{Response, Uri};
use base::limits::check_keyspace_name;
use std::sync::Arc;

/// The digest of all keyspaces, or of the one in the path.
pub(super) async fn digest(
    State(node): State<Arc<Node>>,
    uri: Uri,
) -> Result<Response<Body>, Refusal> {
    Query::of(&uri, &[])?;
    let keyspace = match uri.path().starts_with("/v1/keyspaces/") {
        true => Some(text_segment(&uri, 2)?),
        false => None,
    };
    keyspace.as_deref().map_or(Ok(()), check_keyspace_name)?;
    let turn = node.shares().stream().await?;
    let (_interest, lost) = Interest::new();
    let ending = node.ending();
    let line = node
        .holding(turn, move |node| {
            let mut watch = || lost.check().and_then(|()| ending.check());
            node.directory().digest(keyspace.as_deref(), &mut watch)
        })
        .await?;
    Ok(json(&line))
}

/// Every keyspace with its records and bytes, counted.
pub(super) async fn keyspaces(
    State(node): State<Arc<Node>>,
    uri: Uri,
) -> Result<Response<Body>, Refusal> {
    Query::of(&uri, &[])?;
    let turn = node.shares().stream().await?;
    let (_interest, lost) = Interest::new();
    let ending = node.ending();
    let lines = node
        .holding(turn, move |node| {
            let mut watch = || lost.check().and_then(|()| ending.check());
            node.directory().keyspaces(&mut watch)
        })
        .await?;
    Ok(json(&lines))
}

/// Writes everything in memory to tables.
pub(super) async fn flush(
    State(node): State<Arc<Node>>,
    uri: Uri,
) -> Result<Response<Body>, Refusal> {
    Query::of(&uri, &[])?;
    let turn = node.shares().load().await?;
    node.holding(turn, |node| on_disk(node, || node.directory().db().flush())).await?;
    Ok(json(&()))
}

/// Merges tables until nothing superfluous is left.
pub(super) async fn compact(
    State(node): State<Arc<Node>>,
    uri: Uri,
) -> Result<Response<Body>, Refusal> {
    let keyspace = Query::of(&uri, &["keyspace"])?.text("keyspace")?;
    keyspace.as_deref().map_or(Ok(()), check_keyspace_name)?;
    let turn = node.shares().load().await?;
    let merging = node.holding(turn, move |node| {
        let db = node.directory().db();
        keyspace.map_or(Ok(None), |name| keyspace_to_read(db, &name))?;
        on_disk(node, || db.compact_all())
    });
    merging.await?;
    Ok(json(&()))
}

/// The numbers of this moment.
pub(super) async fn stats(
    State(node): State<Arc<Node>>,
    uri: Uri,
) -> Result<Response<Body>, Refusal> {
    Query::of(&uri, &[])?;
    let numbers = node.blocking(|node| node.directory().stats()).await?;
    Ok(json(&numbers))
}
