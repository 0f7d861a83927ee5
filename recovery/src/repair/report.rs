//! What a repair says: what it found, what it kept, and exactly what is lost.
//!
//! The only report with keys of the user in it: whoever repairs must learn what to look for
//! elsewhere. It goes to the caller and into the copy, and to no log.

use crate::check::Finding;
use base::{ScopeId, Tick};
use std::fmt;
use std::path::{Path, PathBuf};

/// What [`crate::repair`] found and did.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RepairReport {
    /// What was wrong before.
    pub findings: Vec<Finding>,
    /// Where the directory was copied to, byte for byte, before anything was changed. None if there
    /// was nothing to do: then nothing was changed.
    pub copy: Option<PathBuf>,
    /// What is lost. Empty if everything could be rebuilt.
    pub losses: Vec<Loss>,
    /// What else is worth knowing, as sentences.
    pub notes: Vec<String>,
    /// Tables that were taken as they were.
    pub tables_kept: usize,
    /// Tables that were written anew.
    pub tables_written: usize,
    /// Commits taken from the log.
    pub commits_replayed: u64,
    /// What is still wrong afterwards: nothing, unless the disk fails again.
    pub remaining: Vec<Finding>,
}

impl RepairReport {
    /// Whether there was nothing to do.
    pub fn is_healthy(&self) -> bool {
        self.copy.is_none()
    }
}

/// Something that could not be saved.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Loss {
    /// Entries. Of a key in the range, the entry may be gone, or an earlier value of it may show, or
    /// it may show although it was deleted.
    Keys {
        /// The table that held them.
        file: PathBuf,
        /// Where the damage is, if the file is there.
        offset: Option<u64>,
        /// The keyspace's name.
        keyspace: String,
        /// The first key that may be affected.
        first: Box<[u8]>,
        /// The last one; none means to the end of the keyspace.
        last: Option<Box<[u8]>>,
    },
    /// Deletes of key ranges: what they deleted may show again, anywhere in the scope.
    RangeDeletes {
        /// The table that held them.
        file: PathBuf,
        /// Where the damage is, if the file is there.
        offset: Option<u64>,
        /// The scope.
        scope: ScopeId,
    },
    /// A table of which not even its keys are known.
    Table {
        /// The table.
        file: PathBuf,
        /// Where the damage is.
        offset: Option<u64>,
    },
    /// Commits from a place in the log on.
    Commits {
        /// The segment.
        file: PathBuf,
        /// The first byte that was not taken.
        offset: u64,
        /// How many commits behind it verify by themselves. They are not applied: what they rely on
        /// is lost. There may have been more.
        later: u64,
        /// The seqno of the first of these; zero if there is none.
        first: Tick,
        /// The seqno of the last of these; zero if there is none.
        last: Tick,
    },
    /// Which tables there were: the set was put together from the tables that stand in the directory.
    /// Entries that were deleted, and keyspaces that were dropped, may show again.
    History {
        /// The manifest, or its folder.
        file: PathBuf,
        /// Where it is damaged.
        offset: Option<u64>,
    },
    /// The name of a keyspace.
    Name {
        /// What it is called now.
        keyspace: String,
    },
    /// Who the node was: it has a new name and key now.
    Identity {
        /// The identity.
        file: PathBuf,
    },
}

impl Loss {
    /// The file that was damaged, if it is about one.
    pub fn file(&self) -> Option<&Path> {
        match self {
            Loss::Keys { file, .. }
            | Loss::RangeDeletes { file, .. }
            | Loss::Table { file, .. }
            | Loss::Commits { file, .. }
            | Loss::History { file, .. }
            | Loss::Identity { file } => Some(file),
            Loss::Name { .. } => None,
        }
    }

    /// The byte of the file where the damage is, if that is known.
    pub fn offset(&self) -> Option<u64> {
        match self {
            Loss::Keys { offset, .. }
            | Loss::RangeDeletes { offset, .. }
            | Loss::Table { offset, .. }
            | Loss::History { offset, .. } => *offset,
            Loss::Commits { offset, .. } => Some(*offset),
            Loss::Name { .. } | Loss::Identity { .. } => None,
        }
    }

    /// What kind of loss it is, for programs.
    pub fn code(&self) -> &'static str {
        match self {
            Loss::Keys { .. } => "Keys",
            Loss::RangeDeletes { .. } => "RangeDeletes",
            Loss::Table { .. } => "Table",
            Loss::Commits { .. } => "Commits",
            Loss::History { .. } => "History",
            Loss::Name { .. } => "Name",
            Loss::Identity { .. } => "Identity",
        }
    }
}

/// A sentence without the file. Keys are escaped as in Rust.
impl fmt::Display for Loss {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Loss::Keys { keyspace, first, last, .. } => {
                let first = first.escape_ascii();
                write!(f, "keyspace {keyspace:?}: entries from \"{first}\" ")?;
                match last {
                    Some(last) => write!(f, "to \"{}\"", last.escape_ascii()),
                    None => f.write_str("to the end"),
                }?;
                f.write_str(" may be gone or show an earlier state")
            }
            Loss::RangeDeletes { scope, .. } => {
                write!(
                    f,
                    "scope {}: what deletes of key ranges had deleted may show again",
                    scope.0
                )
            }
            Loss::Table { .. } => f.write_str("a table is lost, and what it held is unknown"),
            Loss::Commits { later: 0, .. } => {
                f.write_str("commits from here on are lost; none behind the damage verifies")
            }
            Loss::Commits { later, first, last, .. } => write!(
                f,
                "commits from here on are lost; {later} behind the damage verify and were not \
                 applied, seqno {first} to {last}"
            ),
            Loss::History { .. } => f.write_str(
                "which tables there were is lost; deleted entries and dropped keyspaces may show \
                 again",
            ),
            Loss::Name { keyspace } => {
                write!(f, "the name of a keyspace is lost; it is called {keyspace:?} now")
            }
            Loss::Identity { .. } => f.write_str("the node has a new name and a new key"),
        }
    }
}
