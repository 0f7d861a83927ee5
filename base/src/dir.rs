//! The layout of a database directory. Every file name is made and parsed here.
//!
//! ```text
//! LOCK                    held for the life of the database; its text names the holder
//! IDENTITY                who the database is
//! CURRENT                 the root: which manifest counts
//! CURRENT.copy            the same root once more
//! CURRENT.tmp             a root being written; meaningless
//! RESERVE                 zeros: space for a full disk; meaningless
//! manifest/<number>.mf    edits of the set of tables
//! wal/<number>.log        segments of the log
//! tables/<number>.sst     tables
//! tables/<number>.tmp     reserved
//! archive/<number>.log     finished segments that wait for the next backup
//! quarantine/...          what recovery set aside; never read again
//! ```
//!
//! Numbers are decimal with leading zeros to 20 digits, so that names sort like numbers.

use std::fmt;
use std::path::{Path, PathBuf};

/// A path inside a database directory: made from a [`FileName`] or a known folder, never from
/// outside text.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RelPath(String);

/// The folders of a database directory.
pub const MANIFEST_DIR: &str = "manifest";
/// Segments of the log.
pub const WAL_DIR: &str = "wal";
/// Tables.
pub const TABLES_DIR: &str = "tables";
/// Finished segments that wait for the next backup.
pub const ARCHIVE_DIR: &str = "archive";
/// What recovery set aside.
pub const QUARANTINE_DIR: &str = "quarantine";

impl RelPath {
    /// The database directory itself.
    pub fn root() -> RelPath {
        RelPath(String::new())
    }

    /// A folder of the database directory: one of the constants of this module.
    pub fn folder(name: &'static str) -> RelPath {
        RelPath(name.to_owned())
    }

    /// `name` inside the folder `self`; refuses separators and dots-only names, so a path can not
    /// leave the directory.
    pub fn join(&self, name: &str) -> Option<RelPath> {
        let plain =
            !name.is_empty() && name != "." && name != ".." && !name.contains(['/', '\\', '\0']);
        plain.then(|| {
            if self.0.is_empty() {
                RelPath(name.to_owned())
            } else {
                RelPath(format!("{}/{name}", self.0))
            }
        })
    }

    /// The folder that holds it.
    pub fn parent(&self) -> RelPath {
        RelPath(self.0.rsplit_once('/').map_or(String::new(), |(parent, _)| parent.to_owned()))
    }

    /// As text, with `/` between folder and name; empty for the root.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// As a path below `root`.
    pub fn below(&self, root: &Path) -> PathBuf {
        if self.0.is_empty() { root.to_path_buf() } else { root.join(&self.0) }
    }
}

impl fmt::Display for RelPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.0.is_empty() { "." } else { &self.0 })
    }
}

/// A file that this software writes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum FileName {
    /// The lock file.
    Lock,
    /// Who the database is.
    Identity,
    /// An identity being replaced.
    IdentityTemp,
    /// The root.
    Current,
    /// The root once more.
    CurrentCopy,
    /// A root being written.
    CurrentTemp,
    /// Space kept for a full disk.
    Reserve,
    /// A manifest.
    Manifest(u64),
    /// A segment of the log.
    Segment(u64),
    /// A table.
    Table(u64),
    /// A finished segment that waits for the next backup.
    Archived(u64),
}

impl FileName {
    /// Where the file stands.
    pub fn path(self) -> RelPath {
        RelPath(match self {
            FileName::Lock => "LOCK".to_owned(),
            FileName::Identity => "IDENTITY".to_owned(),
            FileName::IdentityTemp => "IDENTITY.tmp".to_owned(),
            FileName::Current => "CURRENT".to_owned(),
            FileName::CurrentCopy => "CURRENT.copy".to_owned(),
            FileName::CurrentTemp => "CURRENT.tmp".to_owned(),
            FileName::Reserve => "RESERVE".to_owned(),
            FileName::Manifest(number) => format!("{MANIFEST_DIR}/{number:020}.mf"),
            FileName::Segment(number) => format!("{WAL_DIR}/{number:020}.log"),
            FileName::Table(number) => format!("{TABLES_DIR}/{number:020}.sst"),
            FileName::Archived(number) => format!("{ARCHIVE_DIR}/{number:020}.log"),
        })
    }

    /// The file that stands at `path`, if this software writes one there.
    pub fn parse(path: &str) -> Option<FileName> {
        Some(match path {
            "LOCK" => FileName::Lock,
            "IDENTITY" => FileName::Identity,
            "IDENTITY.tmp" => FileName::IdentityTemp,
            "CURRENT" => FileName::Current,
            "CURRENT.copy" => FileName::CurrentCopy,
            "CURRENT.tmp" => FileName::CurrentTemp,
            "RESERVE" => FileName::Reserve,
            _ => {
                let (folder, name) = path.split_once('/')?;
                let (number, extension) = name.split_once('.')?;
                if number.len() != 20 || !number.bytes().all(|byte| byte.is_ascii_digit()) {
                    return None;
                }
                let number = number.parse().ok()?;
                match (folder, extension) {
                    (MANIFEST_DIR, "mf") => FileName::Manifest(number),
                    (WAL_DIR, "log") => FileName::Segment(number),
                    (TABLES_DIR, "sst") => FileName::Table(number),
                    (ARCHIVE_DIR, "log") => FileName::Archived(number),
                    _ => return None,
                }
            }
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_come_back_and_strangers_do_not() {
        use FileName::*;
        for name in [
            Lock,
            Identity,
            IdentityTemp,
            Current,
            CurrentCopy,
            CurrentTemp,
            Reserve,
            Manifest(1),
            Segment(u64::MAX),
            Table(7),
            Archived(3),
        ] {
            assert_eq!(FileName::parse(name.path().as_str()), Some(name));
        }
        for stranger in [
            "",
            "wal",
            "wal/1.log",
            "wal/00000000000000000001.sst",
            "tables/+0000000000000000001.sst",
            "notes.txt",
            "wal/99999999999999999999.log",
        ] {
            assert_eq!(FileName::parse(stranger), None, "{stranger}");
        }
    }

    #[test]
    fn a_path_can_not_leave_the_directory() {
        for name in ["", ".", "..", "a/b", "../x", "a\\b", "a\0"] {
            assert_eq!(RelPath::root().join(name), None);
        }
    }
}
