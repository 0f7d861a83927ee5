//! Get, put and delete of one record.

use super::body::{Held, Reading, Whole, read_whole};
use super::condition::{condition_of, tag_of};
use super::node::Node;
use super::query::{Query, segment, text_segment};
use super::refusal::Refusal;
use super::routes::json;
use crate::args::Durability;
use crate::error::{Failure, Outcome};
use crate::place::{Change, Condition, Operation, no_such_key};
use crate::wire::{KEY_HEADER, Written, key_of_header};
use axum::body::Body;
use axum::extract::{Request, State};
use axum::http::header::{CONTENT_TYPE, ETAG, HeaderName, HeaderValue};
use axum::http::request::Parts;
use axum::http::{Response, StatusCode};
use base::Stamp;
use base::limits::{VALUE_LEN_MAX, check_key, check_keyspace_name};
use std::sync::Arc;
use tokio::sync::OwnedSemaphorePermit;

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

/// Answers with the value as it is, and its stamp.
pub(super) async fn get(
    State(node): State<Arc<Node>>,
    request: Request,
) -> Result<Response<Body>, Refusal> {
    let (head, _) = request.into_parts();
    let Address { keyspace, key } = Address::of(&head)?;
    let condition = condition_of(&head.headers)?;
    let (value, stamp) = node
        .quick(move |node| {
            let found = node.directory().get_stamped(&keyspace, &key)?;
            found.ok_or_else(|| no_such_key(&keyspace))
        })
        .await?;
    let mut response = match (condition.holds(Some(stamp)), condition) {
        (true, _) => {
            let memory = node.shares().memory(value.len()).await?;
            let mut response = Response::new(Body::new(Held::new(value.into_bytes(), memory)));
            response.headers_mut().insert(CONTENT_TYPE, BYTES);
            response
        }
        (false, Condition::IsNot(_)) => of_status(StatusCode::NOT_MODIFIED),
        (false, _) => return Err(Refusal::not_as_wanted()),
    };
    response.headers_mut().extend(tagged(stamp));
    Ok(response)
}

/// Bytes of a value that takes next to no time to store.
const SMALL_LEN_MAX: usize = 16 << 10;

const BYTES: HeaderValue = HeaderValue::from_static("application/octet-stream");

/// Stores the body as the value, if the record is as the headers want it.
pub(super) async fn put(
    State(node): State<Arc<Node>>,
    request: Request,
) -> Result<Response<Body>, Refusal> {
    let (head, body) = request.into_parts();
    let (address, wanted) = (Address::of(&head)?, Wanted::of(&head)?);
    let value = Reading { what: "value", len_max: VALUE_LEN_MAX, copies: 1 };
    let Whole { bytes, memory } = read_whole(&node, &head.headers, body, value).await?;
    write(node, address, wanted, Change::Put(bytes), memory).await
}

/// Deletes the key, whether it exists or not, if the record is as the headers want it.
pub(super) async fn delete(
    State(node): State<Arc<Node>>,
    request: Request,
) -> Result<Response<Body>, Refusal> {
    let (head, _) = request.into_parts();
    let (address, wanted) = (Address::of(&head)?, Wanted::of(&head)?);
    write(node, address, wanted, Change::Delete, None).await
}

/// How a record is to be written.
struct Wanted {
    condition: Condition,
    durability: Option<Durability>,
}

impl Wanted {
    fn of(head: &Parts) -> Outcome<Wanted> {
        let durability = Query::of(&head.uri, &["sync"])?.durability("sync")?;
        Ok(Wanted { condition: condition_of(&head.headers)?, durability })
    }
}

async fn write(
    node: Arc<Node>,
    Address { keyspace, key }: Address,
    Wanted { condition, durability }: Wanted,
    change: Change,
    memory: Option<OwnedSemaphorePermit>,
) -> Result<Response<Body>, Refusal> {
    node.check_takes_writes_to([&*keyspace]).await?;
    if matches!(change, Change::Put(_)) {
        node.limits().check_room()?;
    }
    let (is_put, is_small) = match &change {
        Change::Put(value) => (true, value.len() <= SMALL_LEN_MAX),
        Change::Delete => (false, true),
    };
    let operation = Operation { keyspace, key, change, condition };
    let is_quick = node.is_quick(durability) && is_small;
    let job = move |node: &Node| {
        let _memory = memory;
        let seqno = node.directory().apply(&[operation], durability)?;
        Ok((seqno, seqno.and_then(|seqno| node.own_stamp(seqno))))
    };
    let written = if is_quick { node.quick(job).await } else { node.blocking(job).await };
    let (seqno, stamp) = written?;
    let mut response = json(&Written { seqno });
    response.headers_mut().extend(stamp.filter(|_| is_put).and_then(tagged));
    Ok(response)
}

/// The header that says which write a value is of.
fn tagged(stamp: Stamp) -> Option<(HeaderName, HeaderValue)> {
    let tag = format!("\"{}\"", tag_of(stamp));
    HeaderValue::try_from(tag).ok().map(|tag| (ETAG, tag))
}

fn of_status(status: StatusCode) -> Response<Body> {
    let mut response = Response::new(Body::empty());
    *response.status_mut() = status;
    response
}
