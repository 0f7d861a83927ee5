//! The place that is a running node, over HTTP.

use super::{
    DigestLine, Direction, Entries, Entry, KeyspaceLine, Part, Place, Selection, Sink, Which,
};
use crate::args::Durability;
use crate::client::{AnswerLines, Call, Client, Method, Patience, broken_off};
use crate::error::{Failure, Outcome};
use crate::loader::Loaded;
use crate::record::{Record, RecordLine};
use crate::wire::{self, KeyPlace, Written, percent_encode};
use base::limits::{VALUE_LEN_MAX, check_keyspace_name};
use engine::Progress;
use serde_json::{Map, Value};
use std::rc::Rc;

/// A node behind a URL.
pub(crate) struct Remote {
    client: Rc<Client>,
}

impl Remote {
    /// The node at `url`. It is not asked for anything yet.
    pub(crate) fn new(url: &str) -> Outcome<Remote> {
        Ok(Remote { client: Rc::new(Client::new(url)?) })
    }

    /// Sends a request about one record.
    fn record(
        &self,
        method: Method,
        keyspace: &str,
        key: &[u8],
        body: &[u8],
    ) -> Outcome<crate::client::Answer> {
        check_keyspace_name(keyspace)?;
        let patience = Patience::Short;
        match wire::record_path(keyspace, key) {
            KeyPlace::Path(path) => {
                self.client.send(&Call { method, path: &path, key: None, body, patience })
            }
            KeyPlace::Header { path, value } => {
                self.client.send(&Call { method, path: &path, key: Some(&value), body, patience })
            }
        }
    }
}

impl Place for Remote {
    fn get(&self, keyspace: &str, key: &[u8]) -> Outcome<Option<Vec<u8>>> {
        match self.record(Method::Get, keyspace, key, &[]) {
            Ok(answer) => Ok(Some(answer.bytes(VALUE_LEN_MAX)?)),
            Err(failure) if failure.code() == wire::NO_SUCH_KEY => Ok(None),
            Err(failure) => Err(failure),
        }
    }

    fn put(&self, keyspace: &str, key: &[u8], value: &[u8]) -> Outcome<u64> {
        let answer = self.record(Method::Put, keyspace, key, value)?;
        let written: Written = answer.json()?;
        written.seqno.ok_or_else(|| self.strange("it has no seqno"))
    }

    fn delete(&self, keyspace: &str, key: &[u8]) -> Outcome<Option<u64>> {
        let written: Written = self.record(Method::Delete, keyspace, key, &[])?.json()?;
        Ok(written.seqno)
    }

    fn walk(&self, selection: &Selection) -> Outcome<Box<dyn Entries>> {
        let path = walk_path(selection)?;
        let answer = self.client.send(&Call::new(Method::Get, &path))?;
        let (keyspace, part) = match &selection.keyspaces {
            Which::One(name) => (name.clone(), selection.part),
            Which::All => (String::new(), selection.part),
        };
        let record = Record::default();
        let url = self.client.name().display().to_string();
        Ok(Box::new(RemoteEntries { lines: answer.lines(), part, keyspace, record, url }))
    }

    fn digest(
        &self,
        keyspace: Option<&str>,
        _watch: &mut dyn FnMut() -> Outcome,
    ) -> Outcome<DigestLine> {
        let path = match keyspace {
            Some(name) => {
                check_keyspace_name(name)?;
                format!("/v1/keyspaces/{}/digest", percent_encode(name.as_bytes()))
            }
            None => "/v1/digest".to_owned(),
        };
        self.client.send(&Call::new(Method::Get, &path))?.json()
    }

    fn keyspaces(&self, _watch: &mut dyn FnMut() -> Outcome) -> Outcome<Vec<KeyspaceLine>> {
        self.client.send(&Call::new(Method::Get, "/v1/keyspaces"))?.json()
    }

    fn flush(&self) -> Outcome {
        self.client.send(&Call::new(Method::Post, "/v1/flush"))?.json::<()>()
    }

    fn compact(&self, keyspace: Option<&str>, _: &Progress) -> Outcome {
        let path = match keyspace {
            Some(name) => {
                check_keyspace_name(name)?;
                format!("/v1/compact?keyspace={}", percent_encode(name.as_bytes()))
            }
            None => "/v1/compact".to_owned(),
        };
        self.client.send(&Call::new(Method::Post, &path))?.json::<()>()
    }

    fn stats(&self) -> Outcome<Map<String, Value>> {
        self.client.send(&Call::quick(Method::Get, "/v1/stats"))?.json()
    }

    fn sink(&self, keyspace: &str, durability: Durability) -> Outcome<Box<dyn Sink>> {
        check_keyspace_name(keyspace)?;
        let keyspace = percent_encode(keyspace.as_bytes());
        // As large as a batch can be: the node decides by the same rule when one is full.
        let batch = u64::MAX;
        let path = format!("/v1/load?keyspace={keyspace}&batch={batch}&sync={}", durability.name());
        let mut sink =
            RemoteSink { client: self.client.clone(), path, body: Vec::new(), records: 0 };
        // Creates the keyspace, and tells before anything is read if that can not be.
        sink.commit()?;
        Ok(Box::new(sink))
    }

    fn close(self: Box<Self>) -> Outcome {
        Ok(())
    }
}

impl Remote {
    fn strange(&self, why: &str) -> Failure {
        broken_off(&self.client.name().display().to_string(), why)
    }
}

/// The path that asks for `selection`.
fn walk_path(selection: &Selection) -> Outcome<String> {
    let mut path = match &selection.keyspaces {
        Which::One(name) => {
            check_keyspace_name(name)?;
            format!("/v1/keyspaces/{}/records", percent_encode(name.as_bytes()))
        }
        Which::All => "/v1/export".to_owned(),
    };
    let mut sign = '?';
    let mut add = |name: &str, value: &str| {
        path.push(std::mem::replace(&mut sign, '&'));
        path.push_str(name);
        path.push('=');
        path.push_str(value);
    };
    if !selection.range.start.is_empty() {
        add("start", &percent_encode(&selection.range.start));
    }
    if let Some(end) = &selection.range.end {
        add("end", &percent_encode(end));
    }
    if selection.direction == Direction::Reverse {
        add("reverse", "true");
    }
    if selection.limit != u64::MAX {
        add("limit", &selection.limit.to_string());
    }
    if selection.part == Part::Key {
        add("keys_only", "true");
    }
    Ok(path)
}

/// Records that a node sends, line by line.
struct RemoteEntries {
    lines: AnswerLines,
    part: Part,
    /// The one of the lines that name none.
    keyspace: String,
    record: Record,
    url: String,
}

impl Entries for RemoteEntries {
    fn next(&mut self) -> Outcome<Option<Entry<'_>>> {
        let Some(line) = self.lines.next()? else { return Ok(None) };
        let parsed = match self.part {
            Part::Key => RecordLine::parse_key(line),
            Part::Record => RecordLine::parse(line),
        };
        self.record = parsed.map_err(|why| broken_off(&self.url, &why))?;
        let Record { keyspace, key, value } = &self.record;
        let keyspace = keyspace.as_deref().unwrap_or(&self.keyspace);
        Ok(Some(Entry { keyspace, key, value }))
    }
}

/// Sends each batch as one request, which the node commits as one batch.
struct RemoteSink {
    client: Rc<Client>,
    path: String,
    body: Vec<u8>,
    records: u64,
}

impl Sink for RemoteSink {
    fn add(&mut self, record: &Record) -> Outcome {
        let line = RecordLine::compact(&record.key, &record.value);
        let line = match &record.keyspace {
            Some(name) => line.in_keyspace(name),
            None => line,
        };
        line.write(&mut self.body)?;
        self.records += 1;
        Ok(())
    }

    fn commit(&mut self) -> Outcome {
        let call = Call { body: &self.body, ..Call::new(Method::Post, &self.path) };
        let loaded: Loaded = self.client.send(&call)?.json()?;
        let sent = std::mem::take(&mut self.records);
        self.body.clear();
        if loaded.loaded != sent || loaded.batches != u64::from(sent > 0) {
            let why = format!("of {sent} records it stored {}", loaded.loaded);
            return Err(broken_off(&self.client.name().display().to_string(), &why));
        }
        Ok(())
    }
}
