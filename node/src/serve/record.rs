//! Get, put and delete of one record.

use super::body::{Held, read_whole};
use super::node::Node;
use super::query::{segment, text_segment};
use super::refusal::Refusal;
use super::routes::json;
use crate::error::{Exit, Failure, Outcome};
use crate::place::Place;
use crate::wire::{KEY_HEADER, NO_SUCH_KEY, Written, key_of_header};
use axum::body::Body;
use axum::extract::{Request, State};
use axum::http::request::Parts;
use axum::http::{Response, header};
use base::limits::{VALUE_LEN_MAX, check_key, check_keyspace_name};
use std::sync::Arc;

/// Which record a request is about.
struct Address {
    keyspace: String,
    key: Vec<u8>,
}

impl Address {
    /// `/v1/keyspaces/{keyspace}/records/{key}`, or `.../record` with the key in a header.
    fn of(head: &Parts) -> Outcome<Address> {
        let keyspace = text_segment(&head.uri, 2)?;
        check_keyspace_name(&keyspace)?;
        let key = match (head.uri.path().ends_with("/record"), head.headers.get(KEY_HEADER)) {
            (true, Some(value)) => key_of_header(value.as_bytes())?,
            (true, None) => {
                return Err(Failure::input(format!("the header {KEY_HEADER} is missing")));
            }
            (false, _) => segment(&head.uri, 4)?,
        };
        check_key(&key)?;
        Ok(Address { keyspace, key })
    }
}

/// Answers with the value as it is.
pub(super) async fn get(
    State(node): State<Arc<Node>>,
    request: Request,
) -> Result<Response<Body>, Refusal> {
    let (head, _) = request.into_parts();
    let Address { keyspace, key } = Address::of(&head)?;
    let value = node
        .blocking(move |node| {
            let value = node.directory().get(&keyspace, &key)?;
            value.ok_or_else(|| no_such_key(&keyspace))
        })
        .await?;
    let memory = node.memory(value.len()).await?;
    let mut response = Response::new(Body::new(Held::new(value.into(), memory)));
    let bytes = header::HeaderValue::from_static("application/octet-stream");
    response.headers_mut().insert(header::CONTENT_TYPE, bytes);
    Ok(response)
}

/// Stores the body as the value.
pub(super) async fn put(
    State(node): State<Arc<Node>>,
    request: Request,
) -> Result<Response<Body>, Refusal> {
    let (head, body) = request.into_parts();
    let Address { keyspace, key } = Address::of(&head)?;
    let value = read_whole(&node, &head.headers, body, VALUE_LEN_MAX, "value").await?;
    node.check_takes_writes()?;
    let seqno =
        node.blocking(move |node| node.directory().put(&keyspace, &key, &value.bytes)).await?;
    Ok(json(&Written { seqno: Some(seqno) }))
}

/// Deletes the key, whether it exists or not.
pub(super) async fn delete(
    State(node): State<Arc<Node>>,
    request: Request,
) -> Result<Response<Body>, Refusal> {
    let (head, _) = request.into_parts();
    let Address { keyspace, key } = Address::of(&head)?;
    node.check_takes_writes()?;
    let seqno = node.blocking(move |node| node.directory().delete(&keyspace, &key)).await?;
    Ok(json(&Written { seqno }))
}

fn no_such_key(keyspace: &str) -> Failure {
    Failure::new(Exit::NotFound, NO_SUCH_KEY, format!("keyspace {keyspace:?} has no such key"))
        .action("scan the keyspace to see its keys")
}
