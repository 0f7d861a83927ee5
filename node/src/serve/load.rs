//! Lines of records into batches.
//!
//! The body is read as it comes and parsed on a thread that may block; a few parts of it are in between.
//! Only a body that ended where it said counts as ended: what a lost connection cut off is not stored.

use super::body::{declared_len, next_part};
use super::ending::{Ending, Interest};
use super::node::Node;
use super::pace::Pace;
use super::query::Query;
use super::refusal::Refusal;
use super::routes::json;
use crate::args::{DEFAULT_KEYSPACE, Durability};
use crate::error::{Exit, Failure, Outcome};
use crate::input::Records;
use crate::loader::{Listener, Loaded, Loader};
use crate::wire::LINE_LEN_MAX;
use axum::body::{Body, Bytes};
use axum::extract::{Request, State};
use axum::http::{Response, Uri};
use base::limits::{BATCH_LEN_MAX, check_keyspace_name};
use esker_node::resilience::Timeout;
use std::io::{self, BufRead, Read};
use std::num::NonZeroU64;
use std::sync::Arc;
use tokio::sync::mpsc;

/// Parts of a body between the connection and the parser.
const PARTS_WAITING: usize = 4;
/// Records of a commit unless told otherwise.
const BATCH_RECORDS: NonZeroU64 = match NonZeroU64::new(1000) {
    Some(records) => records,
    None => NonZeroU64::MIN,
};
const PARAMETERS: [&str; 4] = ["keyspace", "batch", "sync", "skip_bad"];

/// How a body is loaded.
struct Plan {
    keyspace: String,
    batch_records: NonZeroU64,
    durability: Durability,
    bad: BadLines,
}

/// What happens to a line that is no record.
#[derive(Clone, Copy, PartialEq, Eq)]
enum BadLines {
    Refused,
    Skipped,
}

impl Plan {
    /// As the query says, with `durability` if it says nothing of it.
    fn of(uri: &Uri, durability: Durability) -> Outcome<Plan> {
        let mut query = Query::of(uri, &PARAMETERS)?;
        let keyspace = query.text("keyspace")?.unwrap_or_else(|| DEFAULT_KEYSPACE.to_owned());
        check_keyspace_name(&keyspace)?;
        let durability = query.durability("sync")?.unwrap_or(durability);
        Ok(Plan {
            keyspace,
            batch_records: query.number("batch")?.unwrap_or(BATCH_RECORDS),
            durability,
            bad: if query.is_set("skip_bad")? { BadLines::Skipped } else { BadLines::Refused },
        })
    }
}

/// Stores the lines of the body in batches.
pub(super) async fn load(
    State(node): State<Arc<Node>>,
    request: Request,
) -> Result<Response<Body>, Refusal> {
    let (head, mut body) = request.into_parts();
    let plan = Plan::of(&head.uri, node.durability())?;
    node.check_takes_writes_to([&*plan.keyspace]).await?;
    node.limits().check_room()?;
    let turn = node.shares().load().await?;
    let memory = node.shares().memory(memory_of(declared_len(&head.headers))).await?;
    let (sender, receiver) = mpsc::channel(PARTS_WAITING);
    let (_interest, lost) = Interest::new();
    let ending = node.ending();
    let asked = node.clone();
    let gate = Box::new(move |scope| {
        asked.check_writes(scope)?;
        asked.healing().check_load()?;
        asked.limits().check_room()
    });
    let storing = node.holding((turn, memory), move |node| {
        let input = Box::new(BodyReader { parts: receiver, here: Bytes::new(), is_ended: false });
        let mut records = Records::of_lines(input, LINE_LEN_MAX);
        let sink = node.directory().gated_sink(&plan.keyspace, plan.durability, gate)?;
        let mut watch = Watch { bad: plan.bad, lost, ending };
        Loader::new(sink, plan.batch_records, &mut watch).load(&mut records)
    });
    let mut pace = Pace::new(node.timeout(Timeout::HttpBody));
    let feeding = async {
        loop {
            let part = next_part(&mut body, &mut pace).await?;
            let is_last = part.is_none();
            // Once nobody takes parts any more, the other side has failed and says why.
            if sender.send(part).await.is_err() || is_last {
                break;
            }
        }
        drop(sender);
        Ok::<(), Refusal>(())
    };
    let (loaded, fed) = tokio::join!(storing, feeding);
    fed?;
    Ok(json(&loaded?))
}

/// Memory that a load of a body of such a length takes: a line, and a batch.
fn memory_of(declared_len: Option<u64>) -> usize {
    let most = LINE_LEN_MAX + BATCH_LEN_MAX;
    let len = declared_len.and_then(|len| usize::try_from(len).ok()).unwrap_or(most);
    len.saturating_mul(2).min(most)
}

/// Looks after a load.
struct Watch {
    bad: BadLines,
    lost: Ending,
    ending: Ending,
}

impl Listener for Watch {
    fn bad_line(&mut self, line: u64, reason: &str, _so_far: &Loaded) -> Outcome {
        if self.bad == BadLines::Skipped {
            return Ok(());
        }
        Err(Failure::new(Exit::Input, "BadLine", format!("bad line: {reason}"))
            .line(line)
            .action("correct the line, or use skip_bad"))
    }

    fn committed(&mut self, _records: u64, _so_far: &Loaded) -> Outcome {
        self.lost.check()?;
        self.ending.check()
    }
}

/// A body as a stream of bytes, for a thread that may block. `None` in the channel is the end.
struct BodyReader {
    parts: mpsc::Receiver<Option<Bytes>>,
    here: Bytes,
    is_ended: bool,
}

impl BufRead for BodyReader {
    fn fill_buf(&mut self) -> io::Result<&[u8]> {
        while self.here.is_empty() && !self.is_ended {
            match self.parts.blocking_recv() {
                Some(Some(part)) => self.here = part,
                Some(None) => self.is_ended = true,
                None => return Err(io::ErrorKind::UnexpectedEof.into()),
            }
        }
        Ok(&self.here)
    }

    fn consume(&mut self, len: usize) {
        let rest = self.here.len().min(len);
        drop(self.here.split_to(rest));
    }
}

impl Read for BodyReader {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let read = self.fill_buf()?.read(buffer)?;
        self.consume(read);
        Ok(read)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_load_is_as_durable_as_the_node_unless_it_says_otherwise() {
        for of_node in Durability::ALL {
            let durability = |path| Plan::of(&Uri::from_static(path), of_node).unwrap().durability;
            assert_eq!(durability("/v1/load?keyspace=k"), of_node);
            assert_eq!(durability("/v1/load?sync=sync"), Durability::Sync);
            assert_eq!(durability("/v1/load?sync=async"), Durability::Async);
        }
    }
}
