//! Every code that an error of any crate may have: its family and its category.
//!
//! A code is stable, unique over all crates, and says what happened; the family says what kind of trouble it is,
//! for alerts and for clients that know no more; the category says who can do what about it. Crates above
//! this one name their codes here as well, so that there is one list; `node/deploy/ERRORS.md` has it for
//! people, and a test of the node holds list, document and sources against each other.

use crate::error::{Category, Error};
use std::fmt;

/// What kind of trouble an error is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Family {
    /// Between two machines or processes.
    Network,
    /// The disk, or the system below.
    Persistence,
    /// Nodes that take over from each other.
    Sync,
    /// Settings.
    Config,
    /// Something did not come in time.
    Timeout,
    /// Bytes are not what was written.
    Corruption,
    /// Others were first.
    Conflict,
    /// What was asked for is not there.
    NotFound,
    /// Who asks may not, or somebody else holds it.
    Access,
    /// The call makes no sense.
    Input,
    /// Not now.
    Unavailable,
    /// A bug.
    Internal,
}

impl Family {
    /// All of them.
    pub const ALL: [Family; 12] = [
        Family::Network,
        Family::Persistence,
        Family::Sync,
        Family::Config,
        Family::Timeout,
        Family::Corruption,
        Family::Conflict,
        Family::NotFound,
        Family::Access,
        Family::Input,
        Family::Unavailable,
        Family::Internal,
    ];

    /// Its stable name.
    pub fn name(self) -> &'static str {
        match self {
            Family::Network => "NETWORK_ERROR",
            Family::Persistence => "PERSISTENCE_ERROR",
            Family::Sync => "SYNC_ERROR",
            Family::Config => "CONFIG_ERROR",
            Family::Timeout => "TIMEOUT_ERROR",
            Family::Corruption => "CORRUPTION_ERROR",
            Family::Conflict => "CONFLICT_ERROR",
            Family::NotFound => "NOT_FOUND_ERROR",
            Family::Access => "ACCESS_ERROR",
            Family::Input => "INPUT_ERROR",
            Family::Unavailable => "UNAVAILABLE_ERROR",
            Family::Internal => "INTERNAL_ERROR",
        }
    }
}

impl fmt::Display for Family {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl Category {
    /// Its stable name, for programs.
    pub fn name(self) -> &'static str {
        match self {
            Category::Critical => "critical",
            Category::Retryable => "retryable",
            Category::Recoverable => "recoverable",
            Category::InvalidInput => "invalid_input",
        }
    }
}

/// Whether it helps to try again, in the words that clients of services know: what a category and a
/// family come to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Retrying {
    /// Something was in the way of the call: another commit, another process, too little space. The
    /// same call may succeed.
    Retriable,
    /// A node, or the way to it, is not ready at this moment. It passes: wait, then ask again.
    Transient,
    /// Nothing comes of it before somebody has done something.
    Fatal,
    /// The call itself is wrong.
    InvalidInput,
}

impl Retrying {
    /// All of them.
    pub const ALL: [Retrying; 4] =
        [Retrying::Retriable, Retrying::Transient, Retrying::Fatal, Retrying::InvalidInput];

    /// That of errors of a category and a family.
    pub fn of(category: Category, family: Family) -> Retrying {
        match (category, family) {
            (Category::Critical | Category::Recoverable, _) => Retrying::Fatal,
            (Category::InvalidInput, _) => Retrying::InvalidInput,
            (
                Category::Retryable,
                Family::Network | Family::Sync | Family::Timeout | Family::Unavailable,
            ) => Retrying::Transient,
            (Category::Retryable, _) => Retrying::Retriable,
        }
    }

    /// Its stable name, for programs.
    pub fn name(self) -> &'static str {
        match self {
            Retrying::Retriable => "retriable",
            Retrying::Transient => "transient",
            Retrying::Fatal => "fatal",
            Retrying::InvalidInput => "invalid_input",
        }
    }
}

impl Error {
    /// What kind of trouble it is.
    pub fn family(&self) -> Family {
        // A test holds that every code is listed.
        code_named(self.code()).map_or(Family::Internal, |code| code.family)
    }
}

/// What is known of a code.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Code {
    /// The code.
    pub name: &'static str,
    /// What kind of trouble it is.
    pub family: Family,
    /// Who can do what about it.
    pub category: Category,
}

impl Code {
    /// Whether it helps to try again.
    pub fn retrying(&self) -> Retrying {
        Retrying::of(self.category, self.family)
    }
}

/// What is known of the code `name`; none if it is that of a newer version.
pub fn code_named(name: &str) -> Option<&'static Code> {
    CODES.iter().find(|code| code.name == name)
}

const fn code(name: &'static str, family: Family, category: Category) -> Code {
    Code { name, family, category }
}

/// All codes, by crate.
pub const CODES: &[Code] = {
    use Category::{Critical, InvalidInput, Recoverable, Retryable};
    use Family::{
        Access, Config, Conflict, Corruption, Input, Internal, Network, NotFound, Persistence,
        Sync, Timeout, Unavailable,
    };
    &[
        // Engine, recovery, log and tables (`esker`).
        code("Io", Persistence, Retryable),
        code("IdentityCorrupt", Corruption, Critical),
        code("IdentityMissing", Corruption, Critical),
        code("RootCorrupt", Corruption, Critical),
        code("RootMissing", Corruption, Critical),
        code("ManifestCorrupt", Corruption, Critical),
        code("ManifestMissing", Corruption, Critical),
        code("WalCorrupt", Corruption, Critical),
        code("WalMissing", Corruption, Critical),
        code("WalForeign", Corruption, Critical),
        code("TableCorrupt", Corruption, Critical),
        code("TableMissing", Corruption, Critical),
        code("Inventory", Corruption, Critical),
        code("BackupCorrupt", Corruption, Critical),
        code("BackupMissing", Corruption, Critical),
        code("NoBackups", NotFound, InvalidInput),
        code("StaleManifest", Corruption, Critical),
        code("VersionInvalid", Corruption, Critical),
        code("ReplayInvariant", Corruption, Critical),
        code("Halted", Corruption, Critical),
        code("CommitFailed", Persistence, Retryable),
        code("DiskFull", Persistence, Retryable),
        code("ResourceShort", Persistence, Retryable),
        code("Poisoned", Persistence, Recoverable),
        code("FormatUnsupported", Persistence, Recoverable),
        code("KeyUnavailable", Persistence, Recoverable),
        code("Locked", Access, Retryable),
        code("Permission", Access, Recoverable),
        code("ReadOnly", Access, Recoverable),
        code("Closed", Unavailable, Recoverable),
        code("ConfigMismatch", Config, Recoverable),
        code("NotADatabase", Input, InvalidInput),
        code("AlreadyExists", Input, InvalidInput),
        code("InvalidInput", Input, InvalidInput),
        code("KeyspaceNotFound", NotFound, InvalidInput),
        code("KeyspaceDropped", NotFound, InvalidInput),
        code("HistoryGone", NotFound, InvalidInput),
        code("Conflict", Conflict, Retryable),
        code("TooManyTransactions", Conflict, Retryable),
        code("ScopeClosed", Sync, Retryable),
        code("Renewed", Sync, Retryable),
        code("ClockSkew", Sync, Recoverable),
        code("Cancelled", Unavailable, Retryable),
        code("Stalled", Timeout, Retryable),
        // Conversations of nodes (`esker-replication`).
        code("TooLong", Sync, Critical),
        code("TooShort", Sync, Critical),
        code("FrameDamaged", Sync, Critical),
        code("FrameVersion", Sync, Critical),
        code("UnknownFrame", Sync, Critical),
        code("Malformed", Sync, Critical),
        code("Unexpected", Sync, Critical),
        code("ProtocolVersion", Sync, Recoverable),
        code("WrongGroup", Sync, Recoverable),
        code("OwnId", Sync, Recoverable),
        code("WrongNode", Sync, Recoverable),
        code("Clone", Sync, Recoverable),
        code("Fenced", Sync, Recoverable),
        code("WrongScope", Sync, Critical),
        code("ReaderWrites", Sync, Recoverable),
        code("Fork", Sync, Recoverable),
        code("ConfirmBeyond", Sync, Critical),
        code("Gap", Sync, Retryable),
        code("OutOfPlace", Sync, Critical),
        code("Silent", Timeout, Retryable),
        code("Left", Sync, Retryable),
        code("Over", Sync, Retryable),
        code("Store", Sync, Retryable),
        code("FileDamaged", Sync, Retryable),
        code("Unsayable", Sync, Retryable),
        code("AgreedElsewhere", Sync, Retryable),
        code("Deprecated", Sync, Retryable),
        // What peers find out about each other (`esker-replication`).
        code("Diverged", Sync, Critical),
        code("LateWrites", Sync, Recoverable),
        code("Healing", Sync, Retryable),
        code("ClockAhead", Sync, Recoverable),
        code("Incident", Sync, Recoverable),
        // Links between nodes (`esker-replication`).
        code("Socket", Network, Recoverable),
        code("Setting", Config, InvalidInput),
        code("LinkKey", Network, Recoverable),
        code("BadText", Input, InvalidInput),
        code("UnknownKey", Network, Recoverable),
        code("Revoked", Network, Recoverable),
        code("WrongProtocol", Network, Recoverable),
        code("Handshake", Network, Retryable),
        code("TimedOut", Timeout, Retryable),
        code("FrameLength", Network, Retryable),
        code("FrameTruncated", Network, Retryable),
        code("UnknownChannel", Network, Retryable),
        code("DoubledChannel", Network, Retryable),
        code("ChannelEnded", Network, Retryable),
        code("Superseded", Network, Retryable),
        code("JoinRefused", Network, Recoverable),
        code("Banned", Network, Recoverable),
        code("Retired", Network, Recoverable),
        code("Rotation", Network, Recoverable),
        code("Conversation", Network, Retryable),
        code("LinkLost", Network, Retryable),
        code("LinkClosed", Network, Retryable),
        // The command and the node (`esker-node`).
        code("NotFound", NotFound, InvalidInput),
        code("PeerNotFound", NotFound, InvalidInput),
        code("BreakerNotFound", NotFound, InvalidInput),
        code("DatasetNotFound", NotFound, InvalidInput),
        code("UnknownPath", NotFound, InvalidInput),
        code("StampMismatch", Conflict, InvalidInput),
        code("BadLine", Input, InvalidInput),
        code("KeyspaceReserved", Input, InvalidInput),
        code("UnknownMethod", Input, InvalidInput),
        code("Usage", Input, InvalidInput),
        code("ConfigInvalid", Config, InvalidInput),
        code("NotConfigured", Config, InvalidInput),
        code("ListenFailed", Network, Retryable),
        code("Unauthenticated", Access, InvalidInput),
        code("ForeignOrigin", Access, InvalidInput),
        code("ReadOnlyMode", Access, Recoverable),
        code("Opening", Unavailable, Retryable),
        code("Joining", Unavailable, Retryable),
        code("Forked", Sync, Recoverable),
        code("Maintenance", Unavailable, Retryable),
        code("NotKept", Persistence, Recoverable),
        code("NotReady", Unavailable, Retryable),
        code("Unhealthy", Unavailable, Recoverable),
        code("ShuttingDown", Unavailable, Retryable),
        code("Overloaded", Unavailable, Retryable),
        code("NotClosed", Timeout, Recoverable),
        code("BreakerOpen", Unavailable, Retryable),
        code("ReplicaLag", Sync, Retryable),
        code("Unconfirmed", Sync, Retryable),
        code("RateLimited", Unavailable, Retryable),
        code("QuotaExceeded", Unavailable, Recoverable),
        code("BulkDelete", Input, InvalidInput),
        code("TooSlow", Timeout, Retryable),
        code("CutOff", Network, Retryable),
        code("Unreachable", Network, Retryable),
        code("BrokenOff", Network, Retryable),
        code("HttpStatus", Network, Retryable),
        code("BrokenPipe", Persistence, Retryable),
        code("Interrupted", Unavailable, Retryable),
        code("Integrity", Corruption, Critical),
        code("RepairFailed", Corruption, Critical),
        code("CheckFailed", Internal, Critical),
        code("Bug", Internal, Critical),
    ]
};

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::{Corruption, FileKind, Resource};
    use std::collections::BTreeSet;
    use std::io;
    use std::path::PathBuf;

    const FILES: [FileKind; 8] = [
        FileKind::Identity,
        FileKind::Root,
        FileKind::Manifest,
        FileKind::Log,
        FileKind::Table,
        FileKind::ForeignLog,
        FileKind::Stranger,
        FileKind::Backup,
    ];

    /// One error of each variant, and of each kind of file.
    fn samples() -> Vec<Error> {
        let (path, rule, text) = (|| PathBuf::from("/d"), "a rule", || String::from("x"));
        let source = || io::Error::from(io::ErrorKind::TimedOut);
        let mut all = vec![
            Error::Io { action: "read", path: path(), source: source() },
            Error::StaleManifest { path: path(), generation: 1, seen: 2 },
            Error::VersionInvalid { path: path(), offset: 1, rule },
            Error::ReplayInvariant { path: path(), offset: 1, rule },
            Error::CommitFailed { path: path(), rule },
            Error::Locked { path: path(), holder: Some(7) },
            Error::NotADatabase { path: path(), found: "a file" },
            Error::AlreadyExists { path: path() },
            Error::Permission { path: path() },
            Error::FormatUnsupported { path: path(), found: 2, supported: 1 },
            Error::KeyUnavailable { path: path(), key_id: 1 },
            Error::ConfigMismatch { what: "scope", stored: text(), given: text() },
            Error::ResourceShort { what: Resource::Disk, need: 2, have: 1 },
            Error::DiskFull { path: path() },
            Error::Poisoned,
            Error::Halted { path: path() },
            Error::Closed,
            Error::ReadOnly,
            Error::TooLarge { what: "key", limit: 1, value: 2 },
            Error::InvalidInput { message: text() },
            Error::KeyspaceNotFound { name: text() },
            Error::KeyspaceDropped { name: text() },
            Error::ScopeClosed,
            Error::Renewed,
            Error::Conflict,
            Error::TooManyTransactions { limit: 1 },
            Error::HistoryGone { asked: 1, oldest: 2 },
            Error::ClockSkew { by_ms: 2, limit_ms: 1 },
            Error::Cancelled,
            Error::Stalled { path: path(), limit_ms: 1 },
        ];
        for file in FILES {
            all.push(Error::corrupt(file, "/d", 1, Corruption::Truncated));
            all.push(Error::Missing { file, path: path() });
        }
        all
    }

    #[test]
    fn every_error_is_in_the_list_with_its_category() {
        for error in samples() {
            let code = code_named(error.code()).unwrap_or_else(|| panic!("{}", error.code()));
            assert_eq!(code.category, error.category(), "{error:?}");
        }
    }

    #[test]
    fn codes_and_names_of_families_are_unique() {
        let codes: BTreeSet<_> = CODES.iter().map(|code| code.name).collect();
        let names: BTreeSet<_> = Family::ALL.iter().map(|family| family.name()).collect();
        assert_eq!((codes.len(), names.len()), (CODES.len(), Family::ALL.len()));
        assert!(code_named("Tomorrow").is_none());
    }

    #[test]
    fn what_has_numbers_tells_them() {
        let of = |error: &Error| error.metadata().into_iter().collect::<Vec<_>>();
        let too_large = Error::too_large("key", 7, 9);
        assert_eq!(
            of(&too_large),
            [("what", "key".into()), ("limit", "7".into()), ("value", "9".into())]
        );
        assert_eq!(
            of(&Error::Locked { path: "/d".into(), holder: Some(42) }),
            [("holder", "42".into())]
        );
        assert!(of(&Error::Poisoned).is_empty());
    }
}
