//! HTTP to a node, from a command: one request, one answer.

mod answer;

pub(crate) use self::answer::{Answer, AnswerLines, broken_off};

use crate::error::{Exit, Failure, Outcome};
use crate::wire;
use esker_node::resilience::{Jitter, Retry, RetryError};
use serde::de::DeserializeOwned;
use std::ffi::OsStr;
use std::fmt;
use std::io;
use std::path::Path;
use std::thread;
use std::time::Duration;
use ureq::http::{Request, Response};
use ureq::{Agent, AsSendBody, Body};

/// The code of the failure that says nothing came back.
const UNREACHABLE: &str = "Unreachable";
/// Before a call is sent for the second time.
const RETRY_PAUSE: Duration = Duration::from_millis(100);
/// How long a node may take to accept a connection.
const CONNECT_PATIENCE: Duration = Duration::from_secs(5);
/// How long a node may take to begin its answer to what is done quickly. Longer than it waits itself for what
/// others have.
const ANSWER_PATIENCE: Duration = Duration::from_secs(30);
/// A connection that was idle for longer is not used again: the node may be closing it.
const IDLE_MAX: Duration = Duration::from_secs(5);

/// The variable of the environment with the token for a node that wants one.
pub(crate) const TOKEN_VARIABLE: &str = "ESKER_TOKEN";

/// A node that is talked to.
pub(crate) struct Client {
    agent: Agent,
    /// Its URL without a slash at the end.
    url: String,
    /// Says who asks, if there is a token.
    authorization: Option<String>,
    answer_patience: Duration,
}

/// How long an answer may take to begin.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Patience {
    /// As what is done quickly does.
    Short,
    /// As long as the work takes.
    Endless,
}

/// What a request does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Method {
    /// Reads.
    Get,
    /// Sets.
    Put,
    /// Does.
    Post,
    /// Removes.
    Delete,
}

/// A request to a node.
pub(crate) struct Call<'a> {
    /// What it does.
    pub(crate) method: Method,
    /// With what.
    pub(crate) path: &'a str,
    /// The key, where it is not in the path.
    pub(crate) key: Option<&'a str>,
    /// What goes along.
    pub(crate) body: &'a [u8],
    /// How long it is waited for.
    pub(crate) patience: Patience,
}

impl<'a> Call<'a> {
    /// A request that has all it says in method and path, for work that may be long.
    pub(crate) fn new(method: Method, path: &'a str) -> Call<'a> {
        Call { method, path, key: None, body: &[], patience: Patience::Endless }
    }

    /// The same for what is done quickly.
    pub(crate) fn quick(method: Method, path: &'a str) -> Call<'a> {
        Call { patience: Patience::Short, ..Call::new(method, path) }
    }
}

/// A try that failed.
#[derive(Debug)]
struct Tried {
    failure: Failure,
    stage: Stage,
}

/// How far a call has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    /// It was not sent.
    Unsent,
    /// It was sent, perhaps in part, and nothing came back: whether it was carried out is not known.
    Sent(Method),
    /// The node has answered.
    Answered,
}

impl RetryError for Tried {
    /// Whether the same call may succeed later and does no harm if it was carried out already. A write that is
    /// sent twice does: it would undo what somebody else has written in between.
    fn is_retryable(&self) -> bool {
        match self.stage {
            Stage::Unsent => self.failure.code() == UNREACHABLE,
            Stage::Sent(method) => method == Method::Get,
            // The node says so before it has begun, or else how far it came.
            Stage::Answered => {
                matches!(self.failure.code(), "Opening" | "Overloaded")
                    && !self.failure.has_stored()
            }
        }
    }
}

/// A call that makes no sense is not sent.
impl<F: Into<Failure>> From<F> for Tried {
    fn from(failure: F) -> Tried {
        Tried { failure: failure.into(), stage: Stage::Unsent }
    }
}

impl fmt::Display for Tried {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.failure.to_text())
    }
}

impl Client {
    /// A client of the node at `url`: `http://`, a host and a port, perhaps the path of a dataset.
    pub(crate) fn new(url: &str) -> Outcome<Client> {
        let refuse = |why: &str| {
            Err(Failure::input(why)
                .at(Path::new(url))
                .action("give a URL such as http://127.0.0.1:8080"))
        };
        let trimmed = url.trim_end_matches('/');
        let Some(host) = trimmed.strip_prefix("http://") else {
            return refuse("a URL starts with http://");
        };
        let (host, dataset) = host.split_once(wire::DATASETS_PATH).unwrap_or((host, "none"));
        let is_odd = |part: &str| part.is_empty() || part.contains(['/', '?', '#', '@']);
        if is_odd(host) || is_odd(dataset) {
            return refuse(
                "a URL has a host and a port, and nothing else behind them than /v1/datasets/NAME",
            );
        }
        let config = Agent::config_builder()
            .http_status_as_error(false)
            .max_redirects(0)
            .proxy(None)
            .timeout_connect(Some(CONNECT_PATIENCE))
            .max_idle_age(IDLE_MAX)
            .build();
        let authorization = authorization_of(std::env::var_os(TOKEN_VARIABLE).as_deref())?;
        Ok(Client {
            agent: config.into(),
            url: trimmed.to_owned(),
            authorization,
            answer_patience: ANSWER_PATIENCE,
        })
    }

    /// How messages name the node.
    pub(crate) fn name(&self) -> &Path {
        Path::new(&self.url)
    }

    /// Sends `call` and waits for the beginning of the answer. A failure that the node answers with is
    /// returned as if it had happened here. What was not begun, or may be done twice, is tried again.
    pub(crate) fn send(&self, call: &Call<'_>) -> Outcome<Answer> {
        let jitter = Jitter::Seeded(u64::from(std::process::id()));
        let per_try = (call.patience == Patience::Short).then_some(self.answer_patience);
        let again = Retry { first: RETRY_PAUSE, jitter, per_try, ..Retry::default() };
        let sent = again.run(thread::sleep, |attempt| {
            let answer = self.send_once(call, attempt.timeout)?;
            answer.or_failure().map_err(|failure| Tried { failure, stage: Stage::Answered })
        });
        sent.map_err(|tried| tried.failure.during("ask the node"))
    }

    /// What the node reports of itself at `path`, whether it is well or not. It is asked once, and has so long to
    /// begin its answer: who wants to know how it is now wants to know that it does not answer, too.
    pub(crate) fn report<T: DeserializeOwned>(&self, path: &str, within: Duration) -> Outcome<T> {
        let answer = self.send_once(&Call::quick(Method::Get, path), Some(within));
        let told = answer.map_err(|tried| tried.failure).and_then(Answer::into_report);
        told.map_err(|failure| failure.during("ask the node"))
    }

    /// Sends `call` and waits for the beginning of the answer, whatever that is.
    fn send_once(&self, call: &Call<'_>, timeout: Option<Duration>) -> Result<Answer, Tried> {
        if call.path.len() > wire::URL_LEN_MAX {
            let (limit, len) = (wire::URL_LEN_MAX as u64, call.path.len() as u64);
            return Err(base::Error::too_large("URL with encoded bounds", limit, len).into());
        }
        let builder = Request::builder().uri(format!("{}{}", self.url, call.path));
        let builder = match call.key {
            Some(key) => builder.header(wire::KEY_HEADER, key),
            None => builder,
        };
        let builder = match &self.authorization {
            Some(authorization) => builder.header("authorization", authorization),
            None => builder,
        };
        let invalid = |_| Failure::input("it is not a URL").at(self.name());
        let result = match call.method {
            Method::Get => self.run(builder.method("GET").body(()).map_err(invalid)?, timeout),
            Method::Delete => {
                self.run(builder.method("DELETE").body(()).map_err(invalid)?, timeout)
            }
            Method::Put => {
                self.run(builder.method("PUT").body(call.body).map_err(invalid)?, timeout)
            }
            Method::Post => {
                self.run(builder.method("POST").body(call.body).map_err(invalid)?, timeout)
            }
        };
        let response = result.map_err(|error| {
            let stage = if is_unsent(&error) { Stage::Unsent } else { Stage::Sent(call.method) };
            Tried { failure: self.unreachable(&error), stage }
        });
        Ok(Answer::new(response?, &self.url))
    }

    /// Sends `request` and waits until its answer begins, so long at the most.
    fn run<S: AsSendBody>(
        &self,
        request: Request<S>,
        timeout: Option<Duration>,
    ) -> Result<Response<Body>, ureq::Error> {
        let request = self.agent.configure_request(request).timeout_recv_response(timeout).build();
        self.agent.run(request)
    }

    fn unreachable(&self, error: &ureq::Error) -> Failure {
        let why = match error {
            ureq::Error::Io(source) => source.to_string(),
            other => other.to_string(),
        };
        Failure::new(Exit::Io, UNREACHABLE, format!("no answer from the node: {why}"))
            .at(self.name())
            .action("see whether it runs and listens there")
    }
}

/// Whether there was no connection on which a call could have been sent.
fn is_unsent(error: &ureq::Error) -> bool {
    use ureq::{Error, Timeout};
    match error {
        Error::HostNotFound | Error::ConnectionFailed => true,
        Error::Timeout(Timeout::Resolve | Timeout::Connect) => true,
        Error::Io(source) => source.kind() == io::ErrorKind::ConnectionRefused,
        _ => false,
    }
}

/// The header that says who asks, with `token` if there is one. Line ends around it, as files have them, are no
/// part of it.
fn authorization_of(token: Option<&OsStr>) -> Outcome<Option<String>> {
    let token = token.unwrap_or_default();
    let refuse = || {
        let message = format!("{TOKEN_VARIABLE} holds what can not be part of a token");
        Failure::input(message).action("set it to one line as `esker config token` prints it")
    };
    let token = token.to_str().ok_or_else(refuse)?.trim();
    match token.bytes().all(|byte| byte.is_ascii_graphic()) {
        true if token.is_empty() => Ok(None),
        true => Ok(Some(format!("Bearer {token}"))),
        false => Err(refuse()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::{Read, Write};
    use std::net::{TcpListener, TcpStream};

    /// Answers one connection after the other with these, and counts them. An empty one is hung up on.
    fn node(answers: Vec<String>) -> (Client, thread::JoinHandle<usize>) {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let answering = thread::spawn(move || {
            let mut count = 0;
            for answer in answers {
                let (mut stream, _) = listener.accept().unwrap();
                count += 1;
                if answer == "end" {
                    break;
                }
                if !answer.is_empty() {
                    read_head(&mut stream);
                    stream.write_all(answer.as_bytes()).unwrap();
                }
            }
            count
        });
        (Client::new(&url).unwrap(), answering)
    }

    fn read_head(stream: &mut TcpStream) {
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            let mut byte = [0];
            stream.read_exact(&mut byte).unwrap();
            head.push(byte[0]);
        }
    }

    fn answer(status: &str, body: &str) -> String {
        let len = body.len();
        format!("HTTP/1.1 {status}\r\ncontent-length: {len}\r\nconnection: close\r\n\r\n{body}")
    }

    #[test]
    fn what_only_reads_is_tried_again_when_the_connection_is_lost() {
        let (client, answering) = node(vec![String::new(), answer("200 OK", "yes")]);
        let sent = client.send(&Call::new(Method::Get, "/v1/stats"));
        assert_eq!(sent.unwrap().bytes(10).unwrap(), b"yes");
        assert_eq!(answering.join().unwrap(), 2);
    }

    /// Sent twice, a put could undo what somebody else has written in between.
    #[test]
    fn what_changes_something_is_only_sent_again_if_it_was_not_begun() {
        for method in [Method::Post, Method::Put, Method::Delete] {
            let (client, answering) = node(vec![String::new(), "end".to_owned()]);
            let failure = client.send(&Call::new(method, "/v1/load")).err().unwrap();
            assert_eq!(failure.code(), UNREACHABLE, "{method:?}");
            let address = client.url.strip_prefix("http://").unwrap();
            drop(TcpStream::connect(address).unwrap());
            assert_eq!(answering.join().unwrap(), 2, "one was ours");
            // Nobody listens any more.
            let tried = client.send_once(&Call::new(method, "/v1/load"), None).err().unwrap();
            assert_eq!((tried.stage, tried.is_retryable()), (Stage::Unsent, true), "{method:?}");
        }
    }

    /// Takes every connection and lets none go, until the client is done with `ask`; returns their number.
    fn frozen(ask: impl FnOnce(Client)) -> usize {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let (end, ended) = std::sync::mpsc::channel::<()>();
        let taking = thread::spawn(move || {
            let mut held = Vec::new();
            while ended.try_recv().is_err() {
                held.push(listener.accept().unwrap());
            }
            held.len() - 1
        });
        let mut client = Client::new(&format!("http://{address}")).unwrap();
        client.answer_patience = Duration::from_millis(50);
        ask(client);
        end.send(()).unwrap();
        drop(TcpStream::connect(address).unwrap());
        taking.join().unwrap()
    }

    #[test]
    fn a_node_that_never_answers_is_not_waited_for_for_ever() {
        for (method, tries) in [(Method::Get, 3), (Method::Put, 1), (Method::Delete, 1)] {
            let asked = frozen(|client| {
                let failure = client.send(&Call::quick(method, "/v1/stats")).err().unwrap();
                assert_eq!(failure.code(), UNREACHABLE, "{method:?}");
            });
            assert_eq!(asked, tries, "{method:?}: a write that was sent may have been carried out");
        }
    }

    #[test]
    fn long_work_is_waited_for() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let mut client =
            Client::new(&format!("http://{}", listener.local_addr().unwrap())).unwrap();
        client.answer_patience = Duration::from_millis(10);
        let answering = thread::spawn(move || {
            let (mut stream, _) = listener.accept().unwrap();
            read_head(&mut stream);
            thread::sleep(Duration::from_millis(200));
            stream.write_all(answer("200 OK", "done").as_bytes()).unwrap();
        });
        let sent = client.send(&Call::new(Method::Get, "/v1/digest"));
        assert_eq!(sent.unwrap().bytes(10).unwrap(), b"done");
        answering.join().unwrap();
    }

    #[test]
    fn a_node_that_has_not_begun_is_asked_again() {
        let opening = Failure::new(Exit::Other, "Opening", "not yet").to_answer();
        let refused = answer("503 Service Unavailable", &opening);
        let (client, answering) =
            node(vec![refused.clone(), refused.clone(), answer("200 OK", "")]);
        client.send(&Call::new(Method::Post, "/v1/load")).map(drop).unwrap();
        assert_eq!(answering.join().unwrap(), 3);
        let (client, answering) = node(vec![refused.clone(), refused.clone(), refused]);
        let failure = client.send(&Call::new(Method::Get, "/v1/stats")).err().unwrap();
        assert_eq!(failure.code(), "Opening");
        assert_eq!(answering.join().unwrap(), 3, "three tries and no more");
    }

    /// Whoever has found the failure: it is told once that a node was asked, and behind that what the node was doing.
    #[test]
    fn a_failure_tells_once_what_was_being_done() {
        let operations = |failure: &Failure| {
            let object: serde_json::Value = serde_json::from_str(&failure.to_json()).unwrap();
            object["operations"].clone()
        };
        let full = Failure::new(Exit::Io, "DiskFull", "the disk is full").during("backup");
        let (client, answering) = node(vec![answer("500 Internal", &full.to_answer())]);
        let failure = client.send(&Call::new(Method::Post, "/v1/backup")).err().unwrap();
        assert_eq!(operations(&failure), serde_json::json!(["ask the node", "backup"]));
        answering.join().unwrap();
        let (client, answering) = node(vec!["end".to_owned()]);
        let failure = client.send(&Call::new(Method::Post, "/v1/backup")).err().unwrap();
        assert_eq!(operations(&failure), serde_json::json!(["ask the node"]));
        answering.join().unwrap();
    }

    /// A report comes with 503 too; a failure or the page of a proxy does as well, and is none. Who asks for one
    /// asks once.
    #[test]
    fn a_report_is_told_from_a_failure() {
        let report = |answered: String| {
            let (client, answering) = node(vec![answered]);
            let told: Outcome<serde_json::Value> = client.report("/health", ANSWER_PATIENCE);
            answering.join().unwrap();
            told.map(|told| told["status"].clone()).map_err(|failure| failure.code().to_owned())
        };
        let busy = Failure::new(Exit::Other, "Overloaded", "later").to_answer();
        let sick = "{\"status\":\"unhealthy\"}";
        for (answered, expected) in [
            (answer("200 OK", "{\"status\":\"healthy\"}"), Ok("healthy")),
            (answer("503 Service Unavailable", sick), Ok("unhealthy")),
            (answer("503 Service Unavailable", &busy), Err("Overloaded")),
            (answer("503 Service Unavailable", "<html>later</html>"), Err("HttpStatus")),
            (answer("502 Bad Gateway", sick), Err("HttpStatus")),
            (answer("200 OK", "<html>hello</html>"), Err("BrokenOff")),
        ] {
            assert_eq!(report(answered), expected.map(Into::into).map_err(str::to_owned));
        }
    }

    #[test]
    fn what_was_stored_in_part_is_not_sent_again() {
        let refused = || Failure::new(Exit::Other, "Overloaded", "later");
        let is_sent_again = |failure| Tried { failure, stage: Stage::Answered }.is_retryable();
        assert!(is_sent_again(refused()) && is_sent_again(refused().stored(0)));
        assert!(!is_sent_again(refused().stored(7)));
    }

    #[test]
    fn a_token_is_one_word_whatever_ends_its_line() {
        use std::os::unix::ffi::OsStrExt;
        let of = |token: &[u8]| authorization_of(Some(OsStr::from_bytes(token)));
        assert_eq!(of(b"a-token\r\n").unwrap().as_deref(), Some("Bearer a-token"));
        for none in [None, Some(OsStr::new("")), Some(OsStr::new("\n"))] {
            assert_eq!(authorization_of(none).unwrap(), None);
        }
        for bad in [&b"a\rb"[..], b"a b", b"\xff", "t\u{f6}ken".as_bytes()] {
            let text = of(bad).unwrap_err().to_text();
            assert!(text.contains(TOKEN_VARIABLE), "{text}");
        }
    }
}
