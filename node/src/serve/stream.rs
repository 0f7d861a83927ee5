//! Scan and export: records as lines, as slowly as their reader likes.
//!
//! The answer is made piece by piece, each when the one before is sent, so memory holds one piece and no
//! thread waits for a reader. All pieces show one moment.

use super::ending::Ending;
use super::node::Node;
use super::query::{Query, text_segment};
use super::refusal::Refusal;
use crate::error::Outcome;
use crate::logs;
use crate::place::{Direction, Entry, KeyRange, Part, Selection, Walk, Which};
use crate::record::RecordLine;
use crate::wire;
use axum::body::{Body, Bytes, HttpBody};
use axum::extract::State;
use axum::http::header::{CONTENT_TYPE, HeaderValue};
use axum::http::{Response, Uri};
use base::limits::check_keyspace_name;
use http_body::Frame;
use std::future::Future;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use tokio::sync::OwnedSemaphorePermit;
use tokio::task::JoinHandle;

/// A piece is sent once it has as many bytes; one record may make it longer.
const PIECE_LEN: usize = 64 << 10;
const PARAMETERS: [&str; 6] = ["prefix", "start", "end", "reverse", "limit", "keys_only"];

/// The records of one keyspace.
pub(super) async fn scan(
    State(node): State<Arc<Node>>,
    uri: Uri,
) -> Result<Response<Body>, Refusal> {
    let name = text_segment(&uri, 2)?;
    check_keyspace_name(&name)?;
    let selection = selection(Which::One(name), &uri)?;
    answer(node, selection).await
}

/// The records of all keyspaces; each line names its own.
pub(super) async fn export(
    State(node): State<Arc<Node>>,
    uri: Uri,
) -> Result<Response<Body>, Refusal> {
    let selection = selection(Which::All, &uri)?;
    answer(node, selection).await
}

/// What the query asks for.
fn selection(keyspaces: Which, uri: &Uri) -> Outcome<Selection> {
    let mut query = Query::of(uri, &PARAMETERS)?;
    let prefix = query.bytes("prefix").unwrap_or_default();
    Ok(Selection {
        keyspaces,
        range: KeyRange::of(prefix, query.bytes("start"), query.bytes("end"))?,
        direction: match query.is_set("reverse")? {
            true => Direction::Reverse,
            false => Direction::Forward,
        },
        limit: query.number("limit")?.unwrap_or(u64::MAX),
        part: if query.is_set("keys_only")? { Part::Key } else { Part::Record },
    })
}

/// Makes the first piece, so that what fails at once has its own status, and sends the rest after it.
async fn answer(node: Arc<Node>, selection: Selection) -> Result<Response<Body>, Refusal> {
    let turn = node.shares().stream().await?;
    let (lines, first) = node
        .blocking(move |node| {
            let mut lines = Lines {
                _turn: turn,
                walk: node.directory().start_walk(&selection)?,
                part: selection.part,
                keyspaces: selection.keyspaces,
                ending: node.ending(),
                inside: logs::Inside::now(),
            };
            let first = lines.piece()?;
            Ok((lines, first))
        })
        .await?;
    let body = match first {
        Piece::Last(bytes) => Body::from(bytes),
        Piece::More(bytes) => {
            let step = Step::Resting(Box::new(lines));
            Body::new(Pieces { ready: Some(bytes), step })
        }
    };
    let mut response = Response::new(body);
    let lines = HeaderValue::from_static("application/x-ndjson");
    response.headers_mut().insert(CONTENT_TYPE, lines);
    Ok(response)
}

/// Records on their way to lines.
struct Lines {
    walk: Walk,
    part: Part,
    keyspaces: Which,
    ending: Ending,
    /// What its pieces are made in, on whatever thread.
    inside: logs::Inside,
    _turn: OwnedSemaphorePermit,
}

/// Some lines.
enum Piece {
    More(Bytes),
    Last(Bytes),
}

impl Lines {
    /// The next lines.
    fn piece(&mut self) -> Outcome<Piece> {
        let mut bytes = Vec::with_capacity(PIECE_LEN + (PIECE_LEN >> 2));
        self.ending.check()?;
        while let Some(Entry { keyspace, key, value }) = self.walk.next()? {
            let line = match self.part {
                Part::Key => RecordLine::compact_key(key),
                Part::Record => RecordLine::compact(key, value),
            };
            let line = match self.keyspaces {
                Which::All => line.in_keyspace(keyspace),
                Which::One(_) => line,
            };
            line.write(&mut bytes)?;
            if bytes.len() >= PIECE_LEN {
                return Ok(Piece::More(bytes.into()));
            }
        }
        Ok(Piece::Last(bytes.into()))
    }

    /// The next lines; if they fail, a line that says so.
    fn piece_or_error(&mut self) -> Piece {
        self.piece().unwrap_or_else(|failure| Piece::Last(wire::error_line(&failure).into()))
    }
}

/// The body of an answer in pieces.
struct Pieces {
    ready: Option<Bytes>,
    step: Step,
}

/// What a body in pieces is doing.
enum Step {
    /// Waiting for the reader.
    Resting(Box<Lines>),
    /// Making the next piece.
    Working(JoinHandle<(Box<Lines>, Piece)>),
    /// Done.
    Done,
}

impl HttpBody for Pieces {
    type Data = Bytes;
    type Error = io::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<io::Result<Frame<Bytes>>>> {
        if let Some(bytes) = self.ready.take() {
            return Poll::Ready(Some(Ok(Frame::data(bytes))));
        }
        let mut job = match std::mem::replace(&mut self.step, Step::Done) {
            Step::Done => return Poll::Ready(None),
            Step::Working(job) => job,
            Step::Resting(mut lines) => tokio::task::spawn_blocking(move || {
                let inside = lines.inside.clone();
                let piece = inside.run(|| lines.piece_or_error());
                (lines, piece)
            }),
        };
        match Pin::new(&mut job).poll(context) {
            Poll::Pending => {
                self.step = Step::Working(job);
                Poll::Pending
            }
            Poll::Ready(Ok((lines, Piece::More(bytes)))) => {
                self.step = Step::Resting(lines);
                Poll::Ready(Some(Ok(Frame::data(bytes))))
            }
            Poll::Ready(Ok((_, Piece::Last(bytes)))) if bytes.is_empty() => Poll::Ready(None),
            Poll::Ready(Ok((_, Piece::Last(bytes)))) => Poll::Ready(Some(Ok(Frame::data(bytes)))),
            // Ends the connection: an answer that is not whole must not look as if it were.
            Poll::Ready(Err(_)) => Poll::Ready(Some(Err(io::ErrorKind::Interrupted.into()))),
        }
    }
}
