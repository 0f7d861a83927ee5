//! Several writes as one commit.
//!
//! ```text
//! {"op":"put","key":"ada","value":"1815"}                    in the keyspace of the query, or `default`
//! {"op":"delete","keyspace":"users","key_b64":"/wA="}
//! {"op":"put","key":"a","value":"2","if_match":"TAG"}        only if the record has this stamp
//! {"op":"put","key":"a","value":"2","if_match":null}         only if there is no record
//! ```

use super::body::{Reading, Whole, read_whole};
use super::condition::{stamp_of, tag_of};
use super::node::Node;
use super::query::Query;
use super::refusal::Refusal;
use super::routes::json;
use crate::args::{DEFAULT_KEYSPACE, Durability};
use crate::error::{Failure, Outcome};
use crate::place::{Change, Condition, Operation};
use crate::record::bytes_of;
use axum::body::Body;
use axum::extract::{Request, State};
use axum::http::{Response, Uri};
use base::limits::{BATCH_LEN_MAX, check_key, check_keyspace_name, check_value};
use base::{Origin, Stamp, Tick};
use serde::{Deserialize, Deserializer, Serialize};
use std::borrow::Cow;
use std::sync::Arc;

/// Bytes of a body at most: a batch in base64, and the words around it.
const BODY_LEN_MAX: usize = BATCH_LEN_MAX / 3 * 4 + (8 << 20);
/// Operations at most.
const OPERATIONS_MAX: usize = 100_000;
const PARAMETERS: [&str; 2] = ["keyspace", "sync"];

#[derive(Clone, Copy, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Op {
    Put,
    Delete,
}

/// A line of the body.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Line<'a> {
    op: Op,
    #[serde(borrow, default)]
    keyspace: Option<Cow<'a, str>>,
    #[serde(borrow, default)]
    key: Option<Cow<'a, str>>,
    #[serde(borrow, default)]
    key_b64: Option<Cow<'a, str>>,
    #[serde(borrow, default)]
    value: Option<Cow<'a, str>>,
    #[serde(borrow, default)]
    value_b64: Option<Cow<'a, str>>,
    /// None if it is not there; none within if it is null.
    #[serde(default, deserialize_with = "there_or_null")]
    if_match: Option<Option<String>>,
}

fn there_or_null<'de, D: Deserializer<'de>>(from: D) -> Result<Option<Option<String>>, D::Error> {
    Option::deserialize(from).map(Some)
}

/// What was done.
#[derive(Serialize)]
struct Applied {
    /// Of the commit; none if there was nothing to do.
    seqno: Option<u64>,
    /// The tag of all records that were put.
    stamp: Option<String>,
    operations: usize,
}

/// Carries out the lines of the body as one commit.
pub(super) async fn batch(
    State(node): State<Arc<Node>>,
    request: Request,
) -> Result<Response<Body>, Refusal> {
    let (head, body) = request.into_parts();
    let (keyspace, durability) = parameters(&head.uri)?;
    // As bytes, and as operations.
    let reading = Reading { what: "batch", len_max: BODY_LEN_MAX, copies: 2 };
    let Whole { bytes, memory } = read_whole(&node, &head.headers, body, reading).await?;
    let parsing = node.blocking(move |_| Ok((operations_of(&bytes, &keyspace)?, memory)));
    let (operations, memory) = parsing.await?;
    node.check_takes_writes_to(operations.iter().map(|one| &*one.keyspace)).await?;
    let deletes = operations.iter().filter(|one| matches!(one.change, Change::Delete)).count();
    node.limits().check_deletes(deletes, &head.headers)?;
    if deletes < operations.len() {
        node.limits().check_room()?;
    }
    let applied = node.holding(memory, move |node| {
        let seqno = node.directory().apply(&operations, durability)?;
        let stamp = seqno.and_then(|seqno| node.own_stamp(seqno)).map(tag_of);
        Ok(Applied { seqno, stamp, operations: operations.len() })
    });
    Ok(json(&applied.await?))
}

fn parameters(uri: &Uri) -> Outcome<(String, Option<Durability>)> {
    let mut query = Query::of(uri, &PARAMETERS)?;
    let keyspace = query.text("keyspace")?.unwrap_or_else(|| DEFAULT_KEYSPACE.to_owned());
    check_keyspace_name(&keyspace)?;
    Ok((keyspace, query.durability("sync")?))
}

/// The operations of a body; those that name no keyspace are of `keyspace`.
fn operations_of(body: &[u8], keyspace: &str) -> Outcome<Vec<Operation>> {
    let mut operations = Vec::new();
    let lines = body.split(|byte| *byte == b'\n').zip(1..);
    for (line, number) in lines.filter(|(line, _)| !line.trim_ascii().is_empty()) {
        if operations.len() == OPERATIONS_MAX {
            let message = format!("a batch has at most {OPERATIONS_MAX} operations");
            return Err(Failure::input(message).line(number).action("make several of it"));
        }
        let operation = operation_of(line, keyspace);
        operations.push(operation.map_err(|failure| failure.line(number))?);
    }
    Ok(operations)
}

fn operation_of(line: &[u8], keyspace: &str) -> Outcome<Operation> {
    let line: Line<'_> = serde_json::from_slice(line).map_err(|error| {
        // The parser's own words may quote the data.
        let at = error.column();
        Failure::input(format!("it is no operation {{\"op\":..,\"key\":..}} at column {at}"))
    })?;
    let key = bytes_of("key", line.key, line.key_b64).map_err(Failure::input)?;
    check_key(&key)?;
    let keyspace = line.keyspace.map_or_else(|| keyspace.to_owned(), Cow::into_owned);
    check_keyspace_name(&keyspace)?;
    let change = match (line.op, &line.value, &line.value_b64) {
        (Op::Delete, None, None) => Change::Delete,
        (Op::Delete, ..) => return Err(Failure::input("a delete has no value")),
        (Op::Put, ..) => {
            let value = bytes_of("value", line.value, line.value_b64).map_err(Failure::input)?;
            check_value(&value)?;
            Change::Put(value)
        }
    };
    let condition = match line.if_match {
        None => Condition::None,
        Some(None) => Condition::Absent,
        Some(Some(tag)) if tag == "*" => Condition::Present,
        Some(Some(tag)) => {
            let stamp = stamp_of(tag.trim_matches('"'));
            let refuse =
                || Failure::input("\"if_match\" is null, \"*\" or a tag that a get answers with");
            Condition::Is(vec![stamp.ok_or_else(refuse)?])
        }
    };
    Ok(Operation { keyspace, key, change, condition })
}

impl Node {
    /// The stamp of a commit that this node has just made.
    pub(super) fn own_stamp(&self, seqno: u64) -> Option<Stamp> {
        let identity = self.directory().db().identity();
        let origin = Origin { node: identity.node, incarnation: identity.incarnation };
        Some(Stamp { tick: Tick::from_raw(seqno)?, origin })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_operations_with_conditions() {
        let tag = tag_of(Stamp::default());
        let body = format!(
            "{{\"op\":\"put\",\"key\":\"a\",\"value\":\"1\",\"if_match\":null}}\n\n\
             {{\"op\":\"delete\",\"keyspace\":\"users\",\"key_b64\":\"/wA=\",\"if_match\":\"{tag}\"}}\r\n\
             {{\"op\":\"put\",\"key\":\"b\",\"value_b64\":\"/w==\"}}"
        );
        let all = operations_of(body.as_bytes(), "default").unwrap();
        let conditions =
            [Condition::Absent, Condition::Is(vec![Stamp::default()]), Condition::None];
        assert_eq!(all.iter().map(|one| one.condition.clone()).collect::<Vec<_>>(), conditions);
        assert_eq!((all[1].keyspace.as_str(), &*all[1].key), ("users", &[255, 0][..]));
        assert_eq!(
            (all[0].keyspace.as_str(), &all[2].change),
            ("default", &Change::Put(vec![255]))
        );
    }

    #[test]
    fn a_line_that_makes_no_sense_is_named_by_its_number() {
        for bad in [
            "{}",
            "{\"op\":\"merge\",\"key\":\"a\"}",
            "{\"op\":\"put\",\"key\":\"a\"}",
            "{\"op\":\"put\",\"key\":\"\",\"value\":\"\"}",
            "{\"op\":\"delete\",\"key\":\"a\",\"value\":\"1\"}",
            "{\"op\":\"delete\",\"key\":\"a\",\"if_match\":\"7\"}",
            "{\"op\":\"delete\",\"key\":\"a\",\"extra\":1}",
            "{\"op\":\"delete\",\"keyspace\":\"\",\"key\":\"a\"}",
        ] {
            let body = format!("{{\"op\":\"delete\",\"key\":\"a\"}}\n{bad}");
            let text = operations_of(body.as_bytes(), "default").unwrap_err().to_text();
            assert!(text.contains("; line 2; "), "{bad}: {text}");
            assert!(!text.contains("merge"), "{text}");
        }
    }

    #[test]
    fn a_batch_has_a_limit_of_operations() {
        let line = "{\"op\":\"delete\",\"key\":\"a\"}\n";
        assert_eq!(operations_of(line.repeat(3).as_bytes(), "k").unwrap().len(), 3);
        let refused = operations_of(line.repeat(OPERATIONS_MAX + 1).as_bytes(), "k").unwrap_err();
        assert!(refused.to_text().contains("at most 100000 operations"), "{}", refused.to_text());
    }
}
