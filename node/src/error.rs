//! How a command fails: what people read, what programs read, and the exit code.
//!
//! On standard error a failure is one line, or with `--output json` one object:
//!
//! ```text
//! error[CODE]: what failed; where; what to do
//! {"code":..,"family":..,"category":..,"retrying":..,"message":..,"action":..,"file":..,
//!  "offset":..,"line":..,"metadata":{..},"operations":[..],"errors":[..]}
//! ```
//!
//! `deploy/ERRORS.md` lists all codes, and says what the fields are.
//!
//! A node answers with the same object and one field more, `exit`, so that a command says the same
//! and ends the same with `--url` as with `--path`.
//!
//! Neither ever holds a key or a value: logs travel further than data may.

mod links;
mod object;

use base::Error;
use base::codes::{Retrying, code_named};
use base::error::FileKind;
use std::borrow::Cow;
use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

pub(crate) use links::listen_failed;

/// The result of a command.
pub(crate) type Outcome<T = ()> = Result<T, Failure>;

/// The exit codes, part of the contract with scripts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum Exit {
    /// Anything without a code of its own.
    Other = 1,
    /// The command line is wrong.
    Usage = 2,
    /// The key or keyspace is not there.
    NotFound = 3,
    /// It is there already.
    Exists = 4,
    /// Input that makes no sense.
    Input = 5,
    /// No permission, or held by another process.
    Denied = 6,
    /// The disk, or a file that the user named.
    Io = 7,
    /// The directory could not be opened as a database.
    Database = 8,
    /// Another commit was first.
    Conflict = 9,
    /// `check` has findings.
    Integrity = 10,
    /// A check of `demo` or `bench` failed.
    CheckFailed = 11,
    /// A bug in this program.
    Bug = 99,
}

impl Exit {
    const ALL: [Exit; 12] = [
        Exit::Other,
        Exit::Usage,
        Exit::NotFound,
        Exit::Exists,
        Exit::Input,
        Exit::Denied,
        Exit::Io,
        Exit::Database,
        Exit::Conflict,
        Exit::Integrity,
        Exit::CheckFailed,
        Exit::Bug,
    ];

    /// The exit that a node names by its number; a number of a newer node is any failure.
    fn of_number(number: u8) -> Exit {
        Exit::ALL.into_iter().find(|exit| *exit as u8 == number).unwrap_or(Exit::Other)
    }
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> ExitCode {
        ExitCode::from(exit as u8)
    }
}

/// Why a command stopped.
#[derive(Debug)]
pub(crate) struct Failure {
    details: Box<Details>,
}

#[derive(Debug)]
struct Details {
    exit: Exit,
    code: Cow<'static, str>,
    family: Cow<'static, str>,
    category: Cow<'static, str>,
    /// The category and family in one word.
    retrying: Cow<'static, str>,
    message: String,
    action: String,
    file: Option<PathBuf>,
    offset: Option<u64>,
    line: Option<u64>,
    /// Numbers and names by name.
    metadata: BTreeMap<Cow<'static, str>, String>,
    /// What was being done, innermost first.
    operations: Vec<Cow<'static, str>>,
    /// What else has failed.
    errors: Vec<Failure>,
}

impl Failure {
    /// A failure of this program's own making.
    pub(crate) fn new(exit: Exit, code: &'static str, message: impl Into<String>) -> Failure {
        let known = code_named(code);
        let category = known.map_or(UNKNOWN, |code| code.category.name());
        let action = match exit {
            Exit::Usage | Exit::Input | Exit::NotFound | Exit::Exists => "correct the call",
            Exit::Integrity => "run `esker repair` or restore a backup",
            Exit::CheckFailed | Exit::Bug => "report it with this output",
            Exit::Other | Exit::Denied | Exit::Io | Exit::Database | Exit::Conflict => "try again",
        };
        let details = Details {
            exit,
            code: code.into(),
            family: known.map_or(UNKNOWN, |code| code.family.name()).into(),
            category: category.into(),
            retrying: known.map_or(UNKNOWN, |code| code.retrying().name()).into(),
            message: message.into(),
            action: action.to_owned(),
            file: None,
            offset: None,
            line: None,
            metadata: BTreeMap::new(),
            operations: Vec::new(),
            errors: Vec::new(),
        };
        Failure { details: Box::new(details) }
    }

    /// Input that makes no sense.
    pub(crate) fn input(message: impl Into<String>) -> Failure {
        Failure::new(Exit::Input, "InvalidInput", message)
    }

    /// Standard output was closed by its reader: not worth a word.
    pub(crate) fn output(source: io::Error) -> Failure {
        Failure::from(Error::io("write to", STANDARD_OUTPUT, source))
    }

    /// With another sentence about what to do.
    pub(crate) fn action(mut self, action: impl Into<String>) -> Failure {
        self.details.action = action.into();
        self
    }

    /// With the file it is about, if none is known yet.
    pub(crate) fn at(mut self, file: &Path) -> Failure {
        self.details.file.get_or_insert_with(|| file.to_path_buf());
        self
    }

    /// With the byte of the file it is about.
    pub(crate) fn at_byte(mut self, offset: u64) -> Failure {
        self.details.offset = Some(offset);
        self
    }

    /// With the line of the input it is about.
    pub(crate) fn line(mut self, line: u64) -> Failure {
        self.details.line = Some(line);
        self
    }

    /// While `operation` was being done. Called from the inside out.
    pub(crate) fn during(mut self, operation: impl Into<Cow<'static, str>>) -> Failure {
        self.details.operations.push(operation.into());
        self
    }

    /// After `records` were stored, which stay.
    pub(crate) fn stored(mut self, records: u64) -> Failure {
        if records > 0 {
            self.details.message.push_str(&format!(", and {records} records are stored"));
        }
        self.details.metadata.insert("stored".into(), records.to_string());
        self
    }

    /// Whether records were stored before it.
    pub(crate) fn has_stored(&self) -> bool {
        self.details.metadata.get("stored").is_some_and(|records| records != "0")
    }

    /// Of the dataset `name`, one of several databases of a process.
    pub(crate) fn of_dataset(mut self, name: &str) -> Failure {
        self.details.message = format!("dataset {name}: {}", self.details.message);
        self.details.metadata.insert("dataset".into(), name.to_owned());
        self
    }

    /// With all of `errors`, which it sums up.
    pub(crate) fn of_all(mut self, errors: Vec<Failure>) -> Failure {
        self.details.errors.extend(errors);
        self
    }

    /// How something ended, and what had to follow it; both failures if there are two.
    pub(crate) fn both(first: Outcome, then: Outcome) -> Outcome {
        match (first, then) {
            (Err(mut first), Err(then)) => {
                let also = format!(", then {}: {}", then.code(), then.details.message);
                first.details.message.push_str(&also);
                Err(first.of_all(vec![then]))
            }
            (first, then) => first.and(then),
        }
    }

    /// What failed, in words.
    pub(crate) fn message(&self) -> &str {
        &self.details.message
    }

    /// The stable name of the failure.
    pub(crate) fn code(&self) -> &str {
        &self.details.code
    }

    /// What can be done about it, for programs.
    pub(crate) fn category(&self) -> &str {
        &self.details.category
    }

    /// What the process ends with.
    pub(crate) fn exit(&self) -> Exit {
        self.details.exit
    }

    /// Whether it only says that nobody reads standard output any more.
    pub(crate) fn is_broken_pipe(&self) -> bool {
        self.details.code == BROKEN_PIPE
    }

    /// As people read it, without a line end: three parts, with `; ` nowhere but between them.
    pub(crate) fn to_text(&self) -> String {
        let Details { code, message, action, .. } = &*self.details;
        let place = match (&self.details.file, self.details.offset, self.details.line) {
            (Some(file), Some(offset), _) => format!("{} at byte {offset}", file.display()),
            (Some(file), None, Some(line)) => format!("{} line {line}", file.display()),
            (Some(file), None, None) => file.display().to_string(),
            (None, _, Some(line)) => format!("line {line}"),
            (None, _, None) => "command line".to_owned(),
        };
        let (message, action) = (message.replace("; ", ", "), action.replace("; ", ", "));
        let text = format!("error[{code}]: {message}; {place}; {action}");
        text.replace(['\n', '\r'], " ")
    }
}

/// The family and category of a code that is not listed here.
const UNKNOWN: &str = "unknown";

const BROKEN_PIPE: &str = "BrokenPipe";
/// The path that stands for it in errors.
const STANDARD_OUTPUT: &str = "standard output";

impl From<Error> for Failure {
    fn from(error: Error) -> Failure {
        if let Error::Io { path, source, .. } = &error
            && source.kind() == io::ErrorKind::BrokenPipe
            && path == Path::new(STANDARD_OUTPUT)
        {
            return Failure::new(Exit::Other, BROKEN_PIPE, "standard output was closed");
        }
        let metadata = error.metadata().into_iter();
        let details = Details {
            exit: exit_of(&error),
            code: error.code().into(),
            family: error.family().name().into(),
            category: error.category().name().into(),
            retrying: Retrying::of(error.category(), error.family()).name().into(),
            message: error.to_string(),
            action: error.action().to_owned(),
            file: error.path().map(Path::to_path_buf),
            offset: error.offset(),
            line: None,
            metadata: metadata.map(|(name, value)| (name.into(), value)).collect(),
            operations: Vec::new(),
            errors: Vec::new(),
        };
        Failure { details: Box::new(details) }
    }
}

/// The exit code of an engine error.
fn exit_of(error: &Error) -> Exit {
    match error {
        Error::AlreadyExists { .. } => Exit::Exists,
        Error::InvalidInput { .. }
        | Error::TooLarge { .. }
        | Error::ConfigMismatch { .. }
        | Error::HistoryGone { .. } => Exit::Input,
        Error::KeyspaceNotFound { .. } | Error::KeyspaceDropped { .. } => Exit::NotFound,
        Error::Locked { .. } | Error::Permission { .. } | Error::ReadOnly => Exit::Denied,
        Error::Io { .. } | Error::DiskFull { .. } | Error::Poisoned | Error::Stalled { .. } => {
            Exit::Io
        }
        Error::Corrupt { file: FileKind::Backup, .. }
        | Error::Missing { file: FileKind::Backup, .. } => Exit::Integrity,
        Error::Corrupt { .. }
        | Error::Halted { .. }
        | Error::Missing { .. }
        | Error::StaleManifest { .. }
        | Error::VersionInvalid { .. }
        | Error::ReplayInvariant { .. }
        | Error::CommitFailed { .. }
        | Error::NotADatabase { .. }
        | Error::FormatUnsupported { .. }
        | Error::KeyUnavailable { .. }
        | Error::ResourceShort { .. } => Exit::Database,
        Error::Conflict | Error::TooManyTransactions { .. } => Exit::Conflict,
        _ => Exit::Other,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_locked_directory_names_its_holder_and_suggests_the_url() {
        let error = Error::Locked { path: "/data".into(), holder: Some(42) };
        let failure = Failure::from(error);
        let text = failure.to_text();
        assert!(text.starts_with("error[Locked]: ") && text.contains("process 42"), "{text}");
        assert!(text.contains("--url"), "{text}");
        assert_eq!(failure.exit(), Exit::Denied);
    }

    #[test]
    fn a_failure_is_one_line_and_one_object() {
        let failure = Failure::input("two\nlines").at(Path::new("a.tsv")).line(7);
        assert_eq!(
            failure.to_text(),
            "error[InvalidInput]: two lines; a.tsv line 7; correct the call"
        );
        let object: serde_json::Value = serde_json::from_str(&failure.to_json()).unwrap();
        assert_eq!(object["code"], "InvalidInput");
        assert_eq!(object["category"], "invalid_input");
        assert_eq!(object["retrying"], "invalid_input");
        assert_eq!(object["file"], "a.tsv");
        assert_eq!(object["line"], 7);
        assert!(object["offset"].is_null());
    }

    #[test]
    fn a_failure_survives_the_way_from_a_node() {
        let failure = Failure::input("a limit is 7").at(Path::new("a.tsv")).line(7).action("do");
        let answered = Failure::from_answer(failure.to_answer().as_bytes()).unwrap();
        assert_eq!(answered.to_json(), failure.to_json());
        assert_eq!(answered.exit(), Exit::Input);
        for exit in Exit::ALL {
            let answer = Failure::new(exit, "Code", "words").to_answer();
            assert_eq!(Failure::from_answer(answer.as_bytes()).unwrap().exit(), exit);
        }
        for other in ["", "[]", "{}", "null", &failure.to_json()] {
            assert!(Failure::from_answer(other.as_bytes()).is_none(), "{other}");
        }
    }

    #[test]
    fn what_was_done_and_what_else_failed_goes_with_it_also_over_http() {
        let first = Failure::from(Error::too_large("key", 7, 9)).during("put").during("load");
        let then = Failure::from(Error::Poisoned).during("close");
        let both = Failure::both(Err(first), Err(then)).unwrap_err().during("serve");
        let object: serde_json::Value = serde_json::from_str(&both.to_json()).unwrap();
        assert_eq!(object["operations"], serde_json::json!(["serve", "load", "put"]));
        assert_eq!(object["metadata"]["limit"], "7");
        assert_eq!(object["family"], "INPUT_ERROR");
        assert_eq!(object["errors"][0]["retrying"], "fatal");
        assert_eq!(object["errors"][0]["code"], "Poisoned");
        assert_eq!(object["errors"][0]["family"], "PERSISTENCE_ERROR");
        assert!(both.to_text().contains(", then Poisoned: "), "{}", both.to_text());
        let answered = Failure::from_answer(both.to_answer().as_bytes()).unwrap();
        assert_eq!(answered.to_json(), both.to_json());
        assert!(Failure::both(Ok(()), Ok(())).is_ok());
    }

    #[test]
    fn the_line_has_three_parts_whatever_is_said() {
        let failure = Failure::input("a key; too long").stored(3).action("cut it; try again");
        let parts =
            ["error[InvalidInput]: a key, too long, and 3 records are stored", "command line"];
        assert_eq!(failure.to_text(), format!("{}; cut it, try again", parts.join("; ")));
    }

    #[test]
    fn a_code_that_is_not_listed_is_unknown() {
        let failure = Failure::new(Exit::Other, "Tomorrow", "words");
        assert_eq!(failure.category(), "unknown");
        let object: serde_json::Value = serde_json::from_str(&failure.to_json()).unwrap();
        assert_eq!(object["retrying"], "unknown");
    }

    #[test]
    fn the_place_of_a_corruption_is_its_file_and_byte() {
        use base::error::FileKind;
        let error =
            Error::corrupt(FileKind::Table, "/d/tables/7.sst", 80, base::Corruption::Truncated);
        let failure = Failure::from(error);
        assert!(failure.to_text().contains("; /d/tables/7.sst at byte 80; "));
        assert_eq!((failure.exit(), failure.details.offset), (Exit::Database, Some(80)));
    }
}
