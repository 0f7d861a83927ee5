//! Bodies of requests, bounded in bytes and in time, and bodies of answers that hold memory.

use super::node::Node;
use super::pace::Pace;
use super::refusal::Refusal;
use axum::body::{Body, Bytes, HttpBody};
use axum::http::HeaderMap;
use axum::http::header::CONTENT_LENGTH;
use esker_node::resilience::Timeout;
use http_body::{Frame, SizeHint};
use http_body_util::BodyExt;
use std::convert::Infallible;
use std::pin::Pin;
use std::task::{Context, Poll};
use tokio::sync::OwnedSemaphorePermit;
use tokio::time::Instant;

/// A body read whole, and the memory that it may take.
pub(super) struct Whole {
    pub(super) bytes: Vec<u8>,
    pub(super) memory: Option<OwnedSemaphorePermit>,
}

/// How a body is read.
pub(super) struct Reading {
    /// What errors call it.
    pub(super) what: &'static str,
    /// Bytes at most.
    pub(super) len_max: usize,
    /// How often it is in memory at a time. All of that is asked for at once, before anything is read: whoever
    /// held a part and waited for more could wait for others who do the same.
    pub(super) copies: usize,
}

/// Reads all of a body. One that says that it is too long is refused before anything is read.
pub(super) async fn read_whole(
    node: &Node,
    headers: &HeaderMap,
    body: Body,
    Reading { what, len_max, copies }: Reading,
) -> Result<Whole, Refusal> {
    let declared = declared_len(headers);
    if let Some(len) = declared.filter(|len| *len > len_max as u64) {
        return Err(Refusal::too_large(what, len_max, len));
    }
    let expected = declared.and_then(|len| usize::try_from(len).ok()).unwrap_or(len_max);
    let memory = node.shares().memory(expected.saturating_mul(copies)).await?;
    let mut bytes = Vec::with_capacity(declared.map_or(0, |_| expected));
    let mut body = body;
    let mut pace = Pace::new(node.timeout(Timeout::HttpBody));
    while let Some(part) = next_part(&mut body, &mut pace).await? {
        if bytes.len() + part.len() > len_max {
            return Err(Refusal::too_large(what, len_max, (bytes.len() + part.len()) as u64));
        }
        bytes.extend_from_slice(&part);
    }
    Ok(Whole { bytes, memory })
}

/// The next bytes of a body that comes at `pace`; `None` at its end.
pub(super) async fn next_part(body: &mut Body, pace: &mut Pace) -> Result<Option<Bytes>, Refusal> {
    loop {
        let began = Instant::now();
        let frame = tokio::time::timeout(pace.left(), body.frame()).await;
        let frame = frame.map_err(|_| Refusal::too_slow(pace.patience()))?;
        let bytes = match &frame {
            Some(Ok(frame)) => frame.data_ref().map_or(0, Bytes::len),
            Some(Err(_)) | None => 0,
        };
        pace.note(began.elapsed(), bytes);
        match frame {
            None => return Ok(None),
            Some(Err(_)) => return Err(Refusal::cut_off()),
            // Trailers say nothing here.
            Some(Ok(frame)) => {
                if let Ok(data) = frame.into_data() {
                    return Ok(Some(data));
                }
            }
        }
    }
}

/// How long a body says that it is.
pub(super) fn declared_len(headers: &HeaderMap) -> Option<u64> {
    headers.get(CONTENT_LENGTH)?.to_str().ok()?.parse().ok()
}

/// Bytes of an answer, with the memory that they may take until they are sent.
pub(super) struct Held {
    bytes: Option<Bytes>,
    _memory: Option<OwnedSemaphorePermit>,
}

impl Held {
    /// `bytes`, holding `memory`.
    pub(super) fn new(bytes: Bytes, memory: Option<OwnedSemaphorePermit>) -> Held {
        Held { bytes: Some(bytes), _memory: memory }
    }
}

impl HttpBody for Held {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        _context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        Poll::Ready(self.bytes.take().map(|bytes| Ok(Frame::data(bytes))))
    }

    fn is_end_stream(&self) -> bool {
        self.bytes.is_none()
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(self.bytes.as_ref().map_or(0, |bytes| bytes.len() as u64))
    }
}
