//! Running the real command, as a shell would.
#![allow(dead_code, reason = "each test program uses its part")]
#![allow(clippy::expect_used, reason = "a test fails by panicking")]

use std::ffi::OsStr;
use std::io::Write;
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
    Command::new(ESKER)
        .args(arguments)
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
pub(crate) fn arguments(line: &str, path: &Path) -> Vec<std::ffi::OsString> {
    let mut words = line.split(' ');
    let mut all = vec![words.next().expect("a command").into()];
    all.push("--path".into());
    all.push(path.into());
    all.extend(words.map(Into::into));
    all
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
