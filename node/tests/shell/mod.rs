//! Running the real command, as a shell would.
#![allow(dead_code, reason = "each test program uses its part")]
#![allow(clippy::expect_used, clippy::panic, reason = "a test fails by panicking")]

pub(crate) mod group;
pub(crate) mod way;

use std::ffi::{OsStr, OsString};
use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use tempfile::TempDir;

/// The binary under test.
pub(crate) const ESKER: &str = env!("CARGO_BIN_EXE_esker");

/// How a run ended.
#[derive(Debug)]
pub(crate) struct Ended {
    pub(crate) code: Option<i32>,
    pub(crate) out: Vec<u8>,
    pub(crate) err: String,
}

impl Ended {
    /// Standard output as text.
    pub(crate) fn text(&self) -> &str {
        std::str::from_utf8(&self.out).expect("the output is text")
    }

    /// Standard output as one JSON value a line.
    pub(crate) fn json(&self) -> Vec<serde_json::Value> {
        let parse = |line| serde_json::from_str(line).expect("a line is JSON");
        self.text().lines().map(parse).collect()
    }

    /// Standard error as one JSON value.
    pub(crate) fn error(&self) -> serde_json::Value {
        serde_json::from_str(self.err.trim_end()).expect("the error is JSON")
    }

    /// Asserts success and returns itself.
    #[track_caller]
    pub(crate) fn ok(self) -> Ended {
        assert_eq!(self.code, Some(0), "{}{}", String::from_utf8_lossy(&self.out), self.err);
        self
    }

    /// Asserts the exit code and that the error's code is `name`.
    #[track_caller]
    pub(crate) fn fails(self, code: i32, name: &str) -> Ended {
        assert_eq!(self.code, Some(code), "{}{}", String::from_utf8_lossy(&self.out), self.err);
        assert!(self.err.contains(name), "{name} is not in: {}", self.err);
        self
    }
}

/// Runs `esker` with `arguments` to its end.
pub(crate) fn esker<A: AsRef<OsStr>>(arguments: impl IntoIterator<Item = A>) -> Ended {
    esker_with(arguments, b"")
}

/// Runs `esker` with `arguments` and `input` on standard input to its end.
pub(crate) fn esker_with<A: AsRef<OsStr>>(
    arguments: impl IntoIterator<Item = A>,
    input: &[u8],
) -> Ended {
    let mut child = start(arguments);
    let mut pipe = child.stdin.take().expect("it is piped");
    let input = input.to_vec();
    // A command that ends early leaves the rest unread.
    let feeder = std::thread::spawn(move || drop(pipe.write_all(&input)));
    let output = child.wait_with_output().expect("it ends");
    feeder.join().expect("the feeder ends");
    Ended {
        code: output.status.code(),
        out: output.stdout,
        err: String::from_utf8(output.stderr).expect("errors are text"),
    }
}

/// Starts `esker` with all its streams piped.
pub(crate) fn start<A: AsRef<OsStr>>(arguments: impl IntoIterator<Item = A>) -> Child {
    start_in(arguments, &[])
}

/// As [`start`], with these variables besides.
pub(crate) fn start_in<A: AsRef<OsStr>>(
    arguments: impl IntoIterator<Item = A>,
    variables: &[(&str, &str)],
) -> Child {
    Command::new(ESKER)
        .args(arguments)
        // What a node says about itself is not what most tests are about.
        .env("ESKER_LOG_LEVEL", "error")
        .envs(variables.iter().copied())
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("the binary starts")
}

/// A place for databases, removed at the end.
pub(crate) struct Place {
    dir: TempDir,
}

impl Place {
    /// An empty place.
    pub(crate) fn new() -> Place {
        Place { dir: tempfile::tempdir().expect("there is room") }
    }

    /// The path of `name` in it.
    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// Runs `esker` on the database `data`: `line` split at blanks, then `--path`.
    pub(crate) fn run(&self, line: &str) -> Ended {
        self.run_with(line, b"")
    }

    /// Like [`Place::run`], with standard input.
    pub(crate) fn run_with(&self, line: &str, input: &[u8]) -> Ended {
        esker_with(arguments(line, &self.path("data")), input)
    }

    /// Stores `records` in the keyspace `default`.
    pub(crate) fn fill(&self, records: &[(&str, &str)]) {
        let text: String = records.iter().map(|(key, value)| format!("{key}\t{value}\n")).collect();
        self.run_with("load --format tsv -", text.as_bytes()).ok();
    }
}

/// `line` split at blanks, with `--path` in front of everything but the command.
pub(crate) fn arguments(line: &str, path: &Path) -> Vec<OsString> {
    let mut words = line.split(' ');
    let mut all = vec![words.next().expect("a command").into()];
    all.push("--path".into());
    all.push(path.into());
    all.extend(words.map(Into::into));
    all
}

/// A node that runs. Killed at the end, if nothing ended it before.
pub(crate) struct Served {
    child: Child,
    pub(crate) node: String,
    pub(crate) listen: String,
    pub(crate) http: String,
}

impl Served {
    /// Starts a node on the database at `path`, with any free ports, and waits until it serves.
    pub(crate) fn start(path: &Path) -> Served {
        Served::start_with(path, &[])
    }

    /// As [`Served::start`], with more `options`; perhaps with an address to listen at.
    pub(crate) fn start_with(path: &Path, options: &[&str]) -> Served {
        let mut line: Vec<OsString> = vec!["serve".into(), "--path".into(), path.into()];
        line.extend(["--http", "127.0.0.1:0"].map(Into::into));
        if !options.contains(&"--listen") {
            line.extend(["--listen", "127.0.0.1:0"].map(Into::into));
        }
        line.extend(options.iter().map(Into::into));
        Served::of(start(line))
    }

    /// The node that `child` is, once it says that it serves.
    pub(crate) fn of(mut child: Child) -> Served {
        let mut ready = String::new();
        let out = child.stdout.take().expect("it is piped");
        BufReader::new(out).read_line(&mut ready).expect("it says something");
        let mut words = ready.split_whitespace();
        let mut field = |name: &str| {
            let word = words.next().unwrap_or_default();
            word.strip_prefix(name).unwrap_or_else(|| panic!("{name} in {ready:?}")).to_owned()
        };
        assert_eq!(field("ready"), "");
        let (node, listen, http) = (field("node="), field("listen="), field("http="));
        Served { child, node, listen, http }
    }

    /// Its process.
    pub(crate) fn id(&self) -> u32 {
        self.child.id()
    }

    /// Asks it over HTTP; `headers` are whole lines.
    pub(crate) fn ask(&self, method: &str, path: &str, headers: &[&str], body: &str) -> Answered {
        exchange(&self.http, &request(method, path, headers, body.as_bytes()))
    }

    /// Its URL.
    pub(crate) fn url(&self) -> String {
        format!("http://{}", self.http)
    }

    /// Runs `esker` on it: `line` split at blanks, with `--url` behind the command.
    pub(crate) fn run(&self, line: &str) -> Ended {
        self.run_with(line, b"")
    }

    /// As [`Served::run`], with standard input.
    pub(crate) fn run_with(&self, line: &str, input: &[u8]) -> Ended {
        let (command, rest) = line.split_once(' ').map_or((line, None), |(c, r)| (c, Some(r)));
        let mut words: Vec<OsString> = vec![command.into(), "--url".into(), self.url().into()];
        words.extend(rest.into_iter().flat_map(|rest| rest.split(' ')).map(Into::into));
        esker_with(words, input)
    }

    /// Sends the signal that asks it to end.
    pub(crate) fn terminate(&self) {
        self.signal(rustix::process::Signal::TERM);
    }

    /// Sends it `signal`.
    pub(crate) fn signal(&self, signal: rustix::process::Signal) {
        let id = i32::try_from(self.child.id()).expect("it is a process id");
        let id = rustix::process::Pid::from_raw(id).expect("it is no zero");
        rustix::process::kill_process(id, signal).expect("it runs");
    }

    /// Asks it to end and waits for it. Returns its exit code and what it said on standard error.
    pub(crate) fn stop(self) -> (Option<i32>, String) {
        self.terminate();
        self.wait()
    }

    /// Whether it has ended.
    pub(crate) fn has_ended(&mut self) -> bool {
        self.child.try_wait().expect("it is a child").is_some()
    }

    /// Lets requests go on for an hour once it is told to end.
    pub(crate) fn drain_for_an_hour(&self) {
        self.ask("POST", "/v1/timeouts", &[], "{\"drain\":3600000}").is(200, "");
    }

    /// Waits for its end.
    pub(crate) fn wait(mut self) -> (Option<i32>, String) {
        let mut said = String::new();
        let mut err = self.child.stderr.take().expect("it is piped");
        std::io::Read::read_to_string(&mut err, &mut said).expect("errors are text");
        (self.child.wait().expect("it ends").code(), said)
    }

    /// Ends it as a crash does.
    pub(crate) fn kill(mut self) {
        self.child.kill().expect("it runs");
        self.child.wait().expect("it ends");
    }
}

impl Drop for Served {
    fn drop(&mut self) {
        // It may have ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// One answer over HTTP.
#[derive(Debug)]
pub(crate) struct Answered {
    pub(crate) status: u16,
    /// All that stands in front of the body, as it came.
    pub(crate) head: String,
    pub(crate) body: Vec<u8>,
}

impl Answered {
    /// The header `name`, given in lower case.
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        let lines = self.head.lines().filter_map(|line| line.split_once(": "));
        lines.into_iter().find(|(had, _)| had.to_lowercase() == name).map(|(_, value)| value)
    }

    /// Asserts the status and, for a failure, its code; returns itself.
    #[track_caller]
    pub(crate) fn is(self, status: u16, code: &str) -> Answered {
        let body = String::from_utf8_lossy(&self.body);
        assert_eq!(self.status, status, "{body}");
        assert!(code.is_empty() || self.json()["code"] == code, "{code}: {body}");
        self
    }

    /// The body as one JSON value.
    pub(crate) fn json(&self) -> serde_json::Value {
        serde_json::from_slice(&self.body)
            .unwrap_or_else(|e| panic!("{e}: {}", String::from_utf8_lossy(&self.body)))
    }
}

/// Sends `request` as it is and reads the answer to the end of the connection, which the request should ask
/// for. The rest of a request that nobody reads is no failure.
pub(crate) fn exchange(address: &str, request: &[u8]) -> Answered {
    let mut stream = std::net::TcpStream::connect(address).expect("it listens");
    let mut writer = stream.try_clone().expect("a socket can be cloned");
    let request = request.to_vec();
    let sender = std::thread::spawn(move || drop(writer.write_all(&request)));
    let mut all = Vec::new();
    // A reset behind an answer takes nothing from it.
    let _ = std::io::Read::read_to_end(&mut stream, &mut all);
    sender.join().expect("the sender ends");
    answer_of(&all)
}

/// A request with a body, `headers` being whole lines.
pub(crate) fn request(method: &str, path: &str, headers: &[&str], body: &[u8]) -> Vec<u8> {
    let headers: String = headers.iter().map(|line| format!("{line}\r\n")).collect();
    let len = body.len();
    let head = format!(
        "{method} {path} HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n{headers}content-length: {len}\r\n\r\n"
    );
    [head.as_bytes(), body].concat()
}

/// The answer in `bytes`, whose body is not in parts.
pub(crate) fn answer_of(bytes: &[u8]) -> Answered {
    let end = bytes.windows(4).position(|window| window == b"\r\n\r\n");
    let end = end.unwrap_or_else(|| panic!("no head: {:?}", String::from_utf8_lossy(bytes)));
    let head = std::str::from_utf8(&bytes[..end]).expect("a head is text");
    let status = head.split(' ').nth(1).and_then(|code| code.parse().ok());
    let (status, head) = (status.expect("a status"), head.to_owned());
    Answered { status, head, body: bytes[end + 4..].to_vec() }
}

/// Copies the directory `from` to `to`, as `cp -r` does.
pub(crate) fn copy(from: &Path, to: &Path) {
    std::fs::create_dir(to).expect("there is nothing yet");
    for entry in std::fs::read_dir(from).expect("it is a directory") {
        let from = entry.expect("it is readable").path();
        let to = to.join(from.file_name().expect("it has a name"));
        match from.is_dir() {
            true => copy(&from, &to),
            false => drop(std::fs::copy(&from, &to).expect("it can be copied")),
        }
    }
}

/// Every file below `path` with its content, for comparing; but for `LOCK`, which holds no data and
/// names whoever looked last.
pub(crate) fn content_of(path: &Path) -> Vec<(PathBuf, Vec<u8>)> {
    let mut all = Vec::new();
    for entry in std::fs::read_dir(path).expect("it is a directory") {
        let path = entry.expect("it is readable").path();
        if path.is_dir() {
            all.extend(content_of(&path));
        } else if path.file_name() != Some("LOCK".as_ref()) {
            let bytes = std::fs::read(&path).expect("it is readable");
            all.push((path, bytes));
        }
    }
    all.sort();
    all
}
