//! What a node answers: values, lines, failures.

use crate::error::{Exit, Failure, Outcome};
use crate::wire;
use serde::de::DeserializeOwned;
use std::io::{BufRead, BufReader, Read};
use std::path::Path;
use ureq::http::{Response, StatusCode};
use ureq::{Body, BodyReader};

/// Bytes of a failure that a node answers with, at most.
const FAILURE_LEN_MAX: u64 = 64 << 10;
const BUFFER_LEN: usize = 256 << 10;

/// The answer of a node: its body, not yet read.
pub(crate) struct Answer {
    status: StatusCode,
    body: Body,
    url: String,
}

impl Answer {
    /// The answer that `response` of the node at `url` is.
    pub(super) fn new(response: Response<Body>, url: &str) -> Answer {
        let (head, body) = response.into_parts();
        Answer { status: head.status, body, url: url.to_owned() }
    }

    /// Itself, or the failure that it is.
    pub(super) fn or_failure(self) -> Outcome<Answer> {
        if self.status.is_success() { Ok(self) } else { Err(self.into_failure()) }
    }

    /// What the node reports, whether it is well or not; or the failure that it answers with instead.
    pub(super) fn into_report<T: DeserializeOwned>(self) -> Outcome<T> {
        if self.status != StatusCode::SERVICE_UNAVAILABLE {
            return self.or_failure()?.json();
        }
        let (status, url) = (self.status, self.url.clone());
        let bytes = self.bytes(wire::OBJECT_LEN_MAX)?;
        let is_failure = Failure::from_answer(&bytes).is_some();
        let report = serde_json::from_slice(&bytes).ok().filter(|_| !is_failure);
        report.ok_or_else(|| failure_of(&bytes, status, &url))
    }

    /// All of the body, of at most `len_max` bytes.
    pub(crate) fn bytes(self, len_max: usize) -> Outcome<Vec<u8>> {
        let url = self.url;
        let mut bytes = Vec::new();
        let mut reader = self.body.into_reader().take(len_max as u64 + 1);
        reader.read_to_end(&mut bytes).map_err(|e| broken_off(&url, &e.to_string()))?;
        if bytes.len() > len_max {
            return Err(broken_off(&url, &format!("it has more than {len_max} bytes")));
        }
        Ok(bytes)
    }

    /// The body as one JSON value.
    pub(crate) fn json<T: DeserializeOwned>(self) -> Outcome<T> {
        let url = self.url.clone();
        let bytes = self.bytes(wire::OBJECT_LEN_MAX)?;
        serde_json::from_slice(&bytes).map_err(|_| broken_off(&url, "it is not what was asked for"))
    }

    /// The body line by line.
    pub(crate) fn lines(self) -> AnswerLines {
        let reader = BufReader::with_capacity(BUFFER_LEN, self.body.into_reader());
        AnswerLines { reader, url: self.url, line: Vec::new() }
    }

    /// The failure in its body.
    fn into_failure(self) -> Failure {
        let mut body = Vec::new();
        // Whatever can be read of it decides.
        let _ = self.body.into_reader().take(FAILURE_LEN_MAX).read_to_end(&mut body);
        failure_of(&body, self.status, &self.url)
    }
}

/// The failure in the `body` of an answer with `status`.
fn failure_of(body: &[u8], status: StatusCode, url: &str) -> Failure {
    let failure = Failure::from_answer(body).unwrap_or_else(|| {
        let exit = if status.is_client_error() { Exit::Input } else { Exit::Other };
        Failure::new(exit, "HttpStatus", format!("the node answered with status {status}"))
    });
    failure.at(Path::new(url))
}

/// The lines of an answer.
pub(crate) struct AnswerLines {
    reader: BufReader<BodyReader<'static>>,
    url: String,
    line: Vec<u8>,
}

impl AnswerLines {
    /// The next line, without its line feed; `None` at the end. A line that holds a failure ends it.
    pub(crate) fn next(&mut self) -> Outcome<Option<&[u8]>> {
        self.line.clear();
        let limit = wire::LINE_LEN_MAX as u64 + 1;
        let read = self.reader.by_ref().take(limit).read_until(b'\n', &mut self.line);
        match read {
            Err(error) => return Err(broken_off(&self.url, &error.to_string())),
            Ok(0) => return Ok(None),
            Ok(_) => {}
        }
        if self.line.pop() != Some(b'\n') {
            return Err(broken_off(&self.url, "a line has no end"));
        }
        if self.line.starts_with(b"{\"error\"")
            && let Some(failure) = wire::failure_in(&self.line)
        {
            return Err(failure.at(Path::new(&self.url)));
        }
        Ok(Some(&self.line))
    }
}

/// The answer of the node at `url` is not whole.
pub(crate) fn broken_off(url: &str, why: &str) -> Failure {
    Failure::new(Exit::Io, "BrokenOff", format!("the answer of the node is not whole: {why}"))
        .at(Path::new(url))
        .action("see whether the node still runs, then ask again")
}
