//! Digest, keyspaces and numbers: what is computed from everything there is.
//!
//! The work ends when nobody waits for it any more.

use super::node::{Interest, Node};
use super::query::{Query, text_segment};
use super::refusal::Refusal;
use super::routes::json;
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
    let _turn = node.stream().await?;
    let (_interest, lost) = Interest::new();
    let ending = node.ending();
    let line = node
        .blocking(move |node| {
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
    let _turn = node.stream().await?;
    let (_interest, lost) = Interest::new();
    let ending = node.ending();
    let lines = node
        .blocking(move |node| {
            let mut watch = || lost.check().and_then(|()| ending.check());
            node.directory().keyspaces(&mut watch)
        })
        .await?;
    Ok(json(&lines))
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
