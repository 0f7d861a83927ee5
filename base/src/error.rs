//! What can go wrong, where, and what to do about it.
//!
//! A decoder returns its own small [`Corruption`]; the caller who knows path and offset wraps it.

mod metadata;

use std::fmt;
use std::io;
use std::path::{Path, PathBuf};

/// The result of everything that can fail.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// How bytes differ from what was written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Corruption {
    /// They end before their content does.
    Truncated,
    /// They do not start as such a file or frame does.
    BadMagic,
    /// The digest over them is not the one expected.
    DigestMismatch,
    /// A kind byte or flag that this version does not know.
    UnknownKind,
    /// A digest, compression or cipher number that this version does not know.
    UnknownAlgorithm,
    /// A number outside its range.
    OutOfRange,
    /// A varint that is overlong or overflows.
    BadVarint,
    /// A frame that says it stands elsewhere.
    Misplaced,
    /// A frame that does not follow the one before it.
    BrokenChain,
    /// Keys, versions or blocks that are not in order.
    OutOfOrder,
    /// Bytes behind the end of the content.
    TrailingBytes,
    /// It ends before a byte that a later sync had secured.
    MissingPromised,
    /// It decompresses to something else than it says.
    BadCompression,
    /// It belongs to another database.
    Foreign,
    /// It contradicts what is known about it from elsewhere.
    BadVersion,
    /// It verifies, and breaks this rule, which every set of tables and keyspaces obeys.
    BrokenRule(&'static str),
}

impl fmt::Display for Corruption {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Corruption::Truncated => "it ends too early",
            Corruption::BadMagic => "its first bytes are wrong",
            Corruption::DigestMismatch => "its digest does not match",
            Corruption::UnknownKind => "it has an unknown kind",
            Corruption::UnknownAlgorithm => "it names an unknown algorithm",
            Corruption::OutOfRange => "a number in it is out of range",
            Corruption::BadVarint => "a number in it is malformed",
            Corruption::Misplaced => "it was written for another place",
            Corruption::BrokenChain => "it does not follow the frame before it",
            Corruption::OutOfOrder => "its entries are out of order",
            Corruption::TrailingBytes => "bytes follow its end",
            Corruption::MissingPromised => "bytes that were once synced are missing",
            Corruption::BadCompression => "it does not decompress to what it says",
            Corruption::Foreign => "it belongs to another database",
            Corruption::BadVersion => "it contradicts what is known about it",
            Corruption::BrokenRule(rule) => return write!(f, "it breaks a rule: {rule}"),
        })
    }
}

/// What a caller can do about an error.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Category {
    /// The data cannot be served as it is: repair or restore.
    Critical,
    /// The same call may succeed later.
    Retryable,
    /// An operator can clear it without touching data.
    Recoverable,
    /// The call itself is wrong.
    InvalidInput,
}

/// Which resource is short.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Resource {
    /// Bytes free on the disk.
    Disk,
    /// Bytes of the memory budget.
    Memory,
    /// File handles.
    Handles,
}

/// Why the database could not do what was asked.
#[derive(Debug)]
#[non_exhaustive]
#[expect(missing_docs, reason = "each variant's sentence is about its fields")]
pub enum Error {
    /// The operating system refused. `action` completes the sentence "cannot ...".
    Io { action: &'static str, path: PathBuf, source: io::Error },
    /// Bytes on disk are not the bytes we wrote. Never retried, never repaired silently.
    Corrupt { file: FileKind, path: PathBuf, offset: u64, found: Corruption },
    /// A file that the manifest or the log needs is not there.
    Missing { file: FileKind, path: PathBuf },
    /// The root of the database is older than files that were committed under it.
    StaleManifest { path: PathBuf, generation: u64, seen: u64 },
    /// The manifest verifies and says something that breaks a rule of all sets of tables.
    VersionInvalid { path: PathBuf, offset: u64, rule: &'static str },
    /// The log holds something that no run of this software writes.
    ReplayInvariant { path: PathBuf, offset: u64, rule: &'static str },
    /// What was recovered could not be made durable; nothing was changed.
    CommitFailed { path: PathBuf, rule: &'static str },
    /// Another process holds the directory.
    Locked { path: PathBuf, holder: Option<u32> },
    /// The directory is not a database, or not a directory.
    NotADatabase { path: PathBuf, found: &'static str },
    /// A database is already there.
    AlreadyExists { path: PathBuf },
    /// The operating system denies access.
    Permission { path: PathBuf },
    /// Written by a newer version.
    FormatUnsupported { path: PathBuf, found: u64, supported: u64 },
    /// A key that the files need is not given, or not the right one.
    KeyUnavailable { path: PathBuf, key_id: u32 },
    /// Given options contradict stored ones.
    ConfigMismatch { what: &'static str, stored: String, given: String },
    /// Too little of a resource to work.
    ResourceShort { what: Resource, need: u64, have: u64 },
    /// The disk is full: reads go on, writes resume when space returns.
    DiskFull { path: PathBuf },
    /// A sync failed earlier, so what is on disk is unknown until the next open.
    Poisoned,
    /// A file is damaged: writes are refused until it is repaired; other reads go on.
    Halted { path: PathBuf },
    /// The database was closed.
    Closed,
    /// The database or this handle only reads.
    ReadOnly,
    /// Something given is longer than allowed.
    TooLarge { what: &'static str, limit: u64, value: u64 },
    /// Something given makes no sense.
    InvalidInput { message: String },
    /// No keyspace of that name.
    KeyspaceNotFound { name: String },
    /// The keyspace was dropped.
    KeyspaceDropped { name: String },
    /// The scope takes no writes while the state of another node is taken over.
    ScopeClosed,
    /// This node began another life while tables were written that name the one before.
    Renewed,
    /// Another commit changed what this transaction read.
    Conflict,
    /// More open transactions than allowed.
    TooManyTransactions { limit: u64 },
    /// The history asked for is no longer kept.
    HistoryGone { asked: u64, oldest: u64 },
    /// The wall clock has jumped, here or at a peer: what is written now, or came from there, has a tick
    /// that is not to be believed.
    ClockSkew { by_ms: u64, limit_ms: u64 },
    /// The operation was cancelled by its caller.
    Cancelled,
    /// Nothing went on in it for as long as it may stand still, so it was given up.
    Stalled { path: PathBuf, limit_ms: u64 },
}

/// What kind of file an error is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FileKind {
    /// Who the database is.
    Identity,
    /// The root or its copy.
    Root,
    /// A manifest.
    Manifest,
    /// A segment of the log.
    Log,
    /// A table.
    Table,
    /// A log segment that is of another database.
    ForeignLog,
    /// An unexpected entry of the directory.
    Stranger,
    /// A backup, or a file that backups need.
    Backup,
}

impl Error {
    /// An operating system error; `action` completes "cannot ...". Permission and full-disk
    /// conditions get their own variants.
    pub fn io(action: &'static str, path: impl AsRef<Path>, source: io::Error) -> Error {
        let path = path.as_ref().to_path_buf();
        match source.kind() {
            io::ErrorKind::PermissionDenied | io::ErrorKind::ReadOnlyFilesystem => {
                Error::Permission { path }
            }
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => Error::DiskFull { path },
            _ => Error::Io { action, path, source },
        }
    }

    /// Corruption of `file` at `offset`.
    pub fn corrupt(
        file: FileKind,
        path: impl AsRef<Path>,
        offset: u64,
        found: Corruption,
    ) -> Error {
        Error::Corrupt { file, path: path.as_ref().to_path_buf(), offset, found }
    }

    /// A call that makes no sense; `message` says why and what is allowed.
    pub fn invalid(message: impl Into<String>) -> Error {
        Error::InvalidInput { message: message.into() }
    }

    /// `what` has `value` where at most `limit` is allowed.
    pub fn too_large(what: &'static str, limit: u64, value: u64) -> Error {
        Error::TooLarge { what, limit, value }
    }

    /// The stable name of the error, for programs.
    pub fn code(&self) -> &'static str {
        match self {
            Error::Io { .. } => "Io",
            Error::Corrupt { file, .. } => match file {
                FileKind::Identity => "IdentityCorrupt",
                FileKind::Root => "RootCorrupt",
                FileKind::Manifest => "ManifestCorrupt",
                FileKind::Log => "WalCorrupt",
                FileKind::Table => "TableCorrupt",
                FileKind::ForeignLog => "WalForeign",
                FileKind::Stranger => "Inventory",
                FileKind::Backup => "BackupCorrupt",
            },
            Error::Missing { file, .. } => match file {
                FileKind::Log | FileKind::ForeignLog => "WalMissing",
                FileKind::Table => "TableMissing",
                FileKind::Manifest => "ManifestMissing",
                FileKind::Root => "RootMissing",
                FileKind::Backup => "BackupMissing",
                FileKind::Identity | FileKind::Stranger => "IdentityMissing",
            },
            Error::StaleManifest { .. } => "StaleManifest",
            Error::VersionInvalid { .. } => "VersionInvalid",
            Error::ReplayInvariant { .. } => "ReplayInvariant",
            Error::CommitFailed { .. } => "CommitFailed",
            Error::Locked { .. } => "Locked",
            Error::NotADatabase { .. } => "NotADatabase",
            Error::AlreadyExists { .. } => "AlreadyExists",
            Error::Permission { .. } => "Permission",
            Error::FormatUnsupported { .. } => "FormatUnsupported",
            Error::KeyUnavailable { .. } => "KeyUnavailable",
            Error::ConfigMismatch { .. } => "ConfigMismatch",
            Error::ResourceShort { .. } => "ResourceShort",
            Error::DiskFull { .. } => "DiskFull",
            Error::Poisoned => "Poisoned",
            Error::Halted { .. } => "Halted",
            Error::Closed => "Closed",
            Error::ReadOnly => "ReadOnly",
            Error::TooLarge { .. } | Error::InvalidInput { .. } => "InvalidInput",
            Error::KeyspaceNotFound { .. } => "KeyspaceNotFound",
            Error::KeyspaceDropped { .. } => "KeyspaceDropped",
            Error::ScopeClosed => "ScopeClosed",
            Error::Renewed => "Renewed",
            Error::Conflict => "Conflict",
            Error::TooManyTransactions { .. } => "TooManyTransactions",
            Error::HistoryGone { .. } => "HistoryGone",
            Error::ClockSkew { .. } => "ClockSkew",
            Error::Cancelled => "Cancelled",
            Error::Stalled { .. } => "Stalled",
        }
    }

    /// What a caller can do about it.
    pub fn category(&self) -> Category {
        match self {
            Error::Corrupt { .. }
            | Error::Halted { .. }
            | Error::Missing { .. }
            | Error::StaleManifest { .. }
            | Error::VersionInvalid { .. }
            | Error::ReplayInvariant { .. } => Category::Critical,
            Error::Io { .. }
            | Error::Locked { .. }
            | Error::CommitFailed { .. }
            | Error::ResourceShort { .. }
            | Error::DiskFull { .. }
            | Error::ScopeClosed
            | Error::Renewed
            | Error::Conflict
            | Error::TooManyTransactions { .. }
            | Error::Cancelled
            | Error::Stalled { .. } => Category::Retryable,
            Error::Poisoned
            | Error::Closed
            | Error::ReadOnly
            | Error::ClockSkew { .. }
            | Error::Permission { .. }
            | Error::FormatUnsupported { .. }
            | Error::KeyUnavailable { .. }
            | Error::ConfigMismatch { .. } => Category::Recoverable,
            Error::NotADatabase { .. }
            | Error::AlreadyExists { .. }
            | Error::TooLarge { .. }
            | Error::InvalidInput { .. }
            | Error::KeyspaceNotFound { .. }
            | Error::KeyspaceDropped { .. }
            | Error::HistoryGone { .. } => Category::InvalidInput,
        }
    }

    /// What to do about it, as a sentence.
    pub fn action(&self) -> &'static str {
        match self {
            Error::Io { .. } => "check the disk and the path, then try again",
            Error::Corrupt { file: FileKind::ForeignLog, .. } => {
                "remove the file that was copied in from another database"
            }
            Error::Corrupt { file: FileKind::Backup, .. }
            | Error::Missing { file: FileKind::Backup, .. } => {
                "restore another moment or from another place, and make a new full backup"
            }
            Error::Corrupt { .. }
            | Error::Missing { .. }
            | Error::VersionInvalid { .. }
            | Error::ReplayInvariant { .. } => {
                "run `esker check`, then `esker repair` or restore a backup"
            }
            Error::StaleManifest { .. } => {
                "put back the newest CURRENT and manifest, or run `esker repair`"
            }
            Error::CommitFailed { .. } => "check the disk, then open again; nothing was changed",
            Error::Locked { .. } => "stop that process, or talk to it with --url if it is a node",
            Error::NotADatabase { .. } => "name a database directory, or create one with `init`",
            Error::AlreadyExists { .. } => "choose another directory",
            Error::Permission { .. } => "give this user the right to read and write it",
            Error::FormatUnsupported { .. } => "open it with a newer version of esker",
            Error::KeyUnavailable { .. } => "give the key ring that the database was written with",
            Error::ConfigMismatch { .. } => "open it with the stored setting",
            Error::ResourceShort { what: Resource::Disk, .. } => "free disk space",
            Error::ResourceShort { what: Resource::Memory, .. } => "raise the memory budget",
            Error::ResourceShort { what: Resource::Handles, .. } => "raise the open file limit",
            Error::DiskFull { .. } => "free disk space; writes resume by themselves",
            Error::Poisoned => "close and reopen the database to recover",
            Error::Halted { .. } => "close it and run `esker check`, then `esker repair`",
            Error::Closed => "open the database again",
            Error::ReadOnly => "open the database for writing",
            Error::TooLarge { .. } | Error::InvalidInput { .. } => "correct the call",
            Error::KeyspaceNotFound { .. } => "list the keyspaces to see their names",
            Error::KeyspaceDropped { .. } => "open the keyspace again by its name",
            Error::ScopeClosed => "wait until the node has caught up with its peers",
            Error::Renewed => "load them again; nothing was changed",
            Error::Conflict => "run the transaction again from its start",
            Error::TooManyTransactions { .. } => "finish some transactions first",
            Error::HistoryGone { .. } => "ask for a later moment, or keep more history",
            Error::ClockSkew { .. } => {
                "set the clock right, or reopen the database if it is right now"
            }
            Error::Cancelled => "start it again",
            Error::Stalled { .. } => "check the disk behind it, or let it stand still for longer",
        }
    }

    /// The file it is about, if there is one.
    pub fn path(&self) -> Option<&Path> {
        match self {
            Error::Io { path, .. }
            | Error::Corrupt { path, .. }
            | Error::Missing { path, .. }
            | Error::StaleManifest { path, .. }
            | Error::VersionInvalid { path, .. }
            | Error::ReplayInvariant { path, .. }
            | Error::CommitFailed { path, .. }
            | Error::Locked { path, .. }
            | Error::NotADatabase { path, .. }
            | Error::AlreadyExists { path }
            | Error::Permission { path }
            | Error::FormatUnsupported { path, .. }
            | Error::KeyUnavailable { path, .. }
            | Error::Halted { path }
            | Error::DiskFull { path }
            | Error::Stalled { path, .. } => Some(path),
            _ => None,
        }
    }

    /// The byte of the file it is about, if there is one.
    pub fn offset(&self) -> Option<u64> {
        match self {
            Error::Corrupt { offset, .. }
            | Error::VersionInvalid { offset, .. }
            | Error::ReplayInvariant { offset, .. } => Some(*offset),
            _ => None,
        }
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Error::Io { action, path, source } => {
                write!(f, "cannot {action} {}: {source}", path.display())
            }
            Error::Corrupt { path, offset, found, .. } => {
                write!(f, "{} is corrupt at byte {offset}: {found}", path.display())
            }
            Error::Missing { path, .. } => write!(f, "{} is missing", path.display()),
            Error::StaleManifest { path, generation, seen } => write!(
                f,
                "{} is of generation {generation}, but files of generation {seen} were committed",
                path.display()
            ),
            Error::VersionInvalid { path, offset, rule }
            | Error::ReplayInvariant { path, offset, rule } => {
                write!(f, "{} breaks a rule at byte {offset}: {rule}", path.display())
            }
            Error::CommitFailed { path, rule } => {
                write!(f, "recovery could not commit {}: {rule}", path.display())
            }
            Error::Locked { path, holder: Some(pid) } => {
                write!(f, "{} is held by process {pid}", path.display())
            }
            Error::Locked { path, holder: None } => {
                write!(f, "{} is held by another process", path.display())
            }
            Error::NotADatabase { path, found } => {
                write!(f, "{} is not a database: {found}", path.display())
            }
            Error::AlreadyExists { path } => write!(f, "{} already exists", path.display()),
            Error::Permission { path } => write!(f, "no permission for {}", path.display()),
            Error::FormatUnsupported { path, found, supported } => write!(
                f,
                "{} has format {found:#x}; this version reads {supported:#x}",
                path.display()
            ),
            Error::KeyUnavailable { path, key_id } => {
                write!(f, "{} needs key {key_id}, which is not there", path.display())
            }
            Error::ConfigMismatch { what, stored, given } => {
                write!(f, "{what} is stored as {stored} but given as {given}")
            }
            Error::ResourceShort { what, need, have } => {
                let what = match what {
                    Resource::Disk => "bytes of disk",
                    Resource::Memory => "bytes of memory",
                    Resource::Handles => "file handles",
                };
                write!(f, "too few {what}: {need} needed, {have} available")
            }
            Error::DiskFull { path } => write!(f, "the disk of {} is full", path.display()),
            Error::Halted { path } => {
                write!(f, "writes are refused because {} is damaged", path.display())
            }
            Error::Poisoned => {
                f.write_str("an earlier write or sync failed; the database no longer takes writes")
            }
            Error::Closed => f.write_str("the database is closed"),
            Error::ReadOnly => f.write_str("the database is open for reading only"),
            Error::TooLarge { what, limit, value } => {
                write!(f, "a {what} may have at most {limit} bytes; this one has {value}")
            }
            Error::InvalidInput { message } => f.write_str(message),
            Error::KeyspaceNotFound { name } => write!(f, "there is no keyspace {name:?}"),
            Error::KeyspaceDropped { name } => write!(f, "keyspace {name:?} was dropped"),
            Error::ScopeClosed => f.write_str("the state of another node is being taken over"),
            Error::Renewed => f.write_str(
                "this node has begun another life while tables were written, which name the one before",
            ),
            Error::Conflict => f.write_str("another commit changed what this transaction read"),
            Error::TooManyTransactions { limit } => {
                write!(f, "more than {limit} transactions are open")
            }
            Error::HistoryGone { asked, oldest } => {
                write!(f, "tick {asked} is no longer kept; the oldest is {oldest}")
            }
            Error::ClockSkew { by_ms, limit_ms } => write!(
                f,
                "a wall clock, here or at a peer, has jumped by {by_ms} ms; at most {limit_ms} ms pass"
            ),
            Error::Cancelled => f.write_str("the operation was cancelled"),
            Error::Stalled { path, limit_ms } => {
                write!(f, "nothing went on at {} for {limit_ms} ms", path.display())
            }
        }
    }
}

impl std::error::Error for Error {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Error::Io { source, .. } => Some(source),
            _ => None,
        }
    }
}
