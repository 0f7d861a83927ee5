//! Looks at a closed database from end to end, changes nothing, and does not stop at the first
//! finding.

use crate::backup::archive_damage;
use crate::claim::{self, Found};
use crate::identity;
use crate::inventory::Inventory;
use crate::log::{self, LogPlan};
use crate::plan::Verify;
use crate::progress::Progress;
use crate::replay::Checker;
use crate::{keys, root, tables};
use base::fs::Fs;
use base::{Error, FileName, Origin, Position, Result};
use sstable::Cache;
use sstable::manifest::{self, State};
use std::collections::HashSet;
use std::path::PathBuf;

const CACHE_BYTES: usize = 1 << 20;

/// How bad a [`Finding`] is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Severity {
    /// Nothing is wrong; the next open will tidy it up, or leave it alone.
    Note,
    /// All data is there, but a second copy of something is not.
    Warning,
    /// Data is damaged or missing: the database does not open, or not all of it can be read.
    Damage,
}

/// Something that [`check`] noticed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    /// How bad it is.
    pub severity: Severity,
    /// The stable code of the error, or what kind of note it is.
    pub code: &'static str,
    /// The file it is about.
    pub file: PathBuf,
    /// The byte it is about, if there is one.
    pub offset: Option<u64>,
    /// What was found, as a sentence.
    pub what: String,
}

/// Verifies the database in `fs` at `level`, without changing a byte of it. An error means that
/// there is nothing to check: no database, or one that is in use.
///
/// What each level finds:
/// - [`Verify::Quick`]: identity, roots, manifest and its rules; tables that are missing or of another
///   length; headers of log segments, and after a crash the log itself; strangers and leftovers.
/// - [`Verify::Full`]: also the log of a closed database, and of each table everything but its blocks,
///   so also one that is stale, foreign or another's; and the segments that wait for a backup.
/// - [`Verify::Paranoid`]: every block of every table, so every byte.
pub fn check(fs: &dyn Fs, level: Verify) -> Result<Vec<Finding>> {
    check_with_progress(fs, level, &Progress::default())
}

/// As [`check`]; meanwhile other threads may ask `progress` how far it has come, or cancel it.
pub fn check_with_progress(
    fs: &dyn Fs,
    level: Verify,
    progress: &Progress,
) -> Result<Vec<Finding>> {
    let missing = |found| Error::NotADatabase { path: fs.root().to_path_buf(), found };
    match claim::look(fs) {
        Ok(Found::Nothing) => return Err(missing("there is no such directory")),
        Ok(Found::EmptyDirectory) => return Err(missing("the directory is empty")),
        Ok(Found::Unfinished) => return Err(missing("its creation was cut short")),
        Err(error @ (Error::NotADatabase { .. } | Error::Permission { .. })) => return Err(error),
        Ok(Found::Database) | Err(_) => {}
    }
    let _lock = match claim::lock(fs) {
        Ok(lock) => Some(lock),
        Err(Error::Permission { .. }) => None, // On a disk that nobody writes to.
        Err(error) => return Err(error),
    };
    examine(fs, level, progress)
}

/// As [`check`], of a directory that is ours.
pub(crate) fn examine(fs: &dyn Fs, level: Verify, progress: &Progress) -> Result<Vec<Finding>> {
    let mut examination = Examination { fs, level, progress, findings: Vec::new() };
    examination.run();
    progress.refuse_if_cancelled()?;
    Ok(examination.findings)
}

struct Examination<'a> {
    fs: &'a dyn Fs,
    level: Verify,
    progress: &'a Progress,
    findings: Vec<Finding>,
}

impl Examination<'_> {
    fn run(&mut self) {
        let listed = Inventory::take(self.fs).map_err(|e| Error::io("list", self.fs.root(), e));
        let Some(inventory) = self.keep(listed.and_then(|inventory| inventory)) else { return };
        for stranger in &inventory.strangers {
            self.note(stranger, "Stranger", "it is none of ours and stays untouched".to_owned());
        }
        let database = self.identity();
        let Some(root) = self.root(database, &inventory) else { return };
        let Some(replayed) = self.keep(manifest::replay(self.fs, &root)) else { return };
        if let Some(offset) = replayed.torn {
            let name = FileName::Manifest(root.manifest).path();
            let what = format!("a crash cut it at byte {offset}; nothing before is lost");
            self.note(name.as_str(), "TornTail", what);
        }
        let database = root.database;
        self.tables(database, &replayed.state, &inventory);
        let manifest = Position { segment: root.manifest, offset: replayed.end };
        self.log(database, root.generation, &replayed.state, manifest, &inventory);
        self.archive(&replayed.state);
        self.leftovers(root.manifest, &replayed.state, &inventory);
    }

    /// Segments that wait for a backup: the data does not need them, moments of the past do.
    fn archive(&mut self, state: &State) {
        let (Some(archiving), Ok(file)) = (state.archiving, identity::read(self.fs)) else {
            return;
        };
        if self.level == Verify::Quick {
            return;
        }
        match archive_damage(self.fs, &file.identity, archiving.from) {
            Ok(damage) => damage.iter().for_each(|error| self.find(Severity::Warning, error)),
            Err(error) => self.find(Severity::Warning, &error),
        }
    }

    fn identity(&mut self) -> Option<[u8; 16]> {
        let file = self.keep(identity::read(self.fs))?;
        self.keep(keys::check(self.fs, &file));
        if !identity::is_consistent(&file) {
            let path = base::fs::full_path(self.fs, &FileName::Identity.path());
            let found = base::Corruption::Foreign;
            let error = Error::corrupt(base::error::FileKind::Identity, path, 48, found);
            self.find(Severity::Damage, &error);
        }
        Some(file.identity.database)
    }

    fn root(
        &mut self,
        database: Option<[u8; 16]>,
        inventory: &Inventory,
    ) -> Option<manifest::Root> {
        let roots = match database {
            Some(database) => root::choose(self.fs, database, inventory),
            None => manifest::read_root(self.fs),
        };
        let roots = self.keep(roots)?;
        if let Some(other) = &roots.other {
            self.find(Severity::Warning, other);
        }
        Some(roots.root)
    }

    fn tables(&mut self, database: [u8; 16], state: &State, inventory: &Inventory) {
        let cache = Cache::new(CACHE_BYTES);
        if self.level != Verify::Quick {
            self.progress.expect(state.version.bytes());
        }
        for table in state.version.tables() {
            if self.progress.is_cancelled() {
                return;
            }
            let whole = match tables::check_listed(self.fs, table, inventory) {
                Ok(()) if self.level == Verify::Quick => Ok(()),
                Ok(()) => tables::verify_table(self.fs, database, table, &cache, self.level),
                Err(error) => Err(error),
            };
            self.keep(whole);
            if self.level != Verify::Quick {
                self.progress.advance(table.len);
            }
        }
    }

    fn log(
        &mut self,
        database: [u8; 16],
        generation: u64,
        state: &State,
        manifest: Position,
        inventory: &Inventory,
    ) {
        if self.progress.is_cancelled() {
            return;
        }
        let validated = log::validate(self.fs, database, generation, state, inventory, self.level);
        let Some(LogPlan::Scanned(scan)) = self.keep(validated) else { return };
        if let Some(torn) = &scan.torn {
            let name = FileName::Segment(torn.at.segment).path();
            let offset = torn.at.offset;
            let what = format!("a crash cut it at byte {offset}; nothing acknowledged is lost");
            self.note(name.as_str(), "TornTail", what);
        }
        if self.level != Verify::Quick {
            scan.segments.iter().for_each(|facts| self.segment_header(database, facts.number()));
        }
        let mut checker = Checker::new(state, manifest);
        let progress = self.progress;
        progress.expect(scan.bytes);
        let mut before = Position::ZERO;
        let replayed = scan.replay(self.fs, |seqno, end, payload| {
            progress.refuse_if_cancelled()?;
            progress.advance_log(&mut before, end);
            checker.check(self.fs, Origin::default(), seqno, end, payload).map(drop)
        });
        self.keep(replayed);
    }

    /// A header has two copies, and opening is content with one.
    fn segment_header(&mut self, database: [u8; 16], number: u64) {
        let flaw = self.keep(wal::header_flaw(self.fs, number, database));
        if let Some((offset, found)) = flaw.flatten() {
            let path = base::fs::full_path(self.fs, &FileName::Segment(number).path());
            let error = Error::corrupt(base::error::FileKind::Log, path, offset, found);
            self.find(Severity::Warning, &error);
        }
    }

    /// Files that the next open removes.
    fn leftovers(&mut self, manifest: u64, state: &State, inventory: &Inventory) {
        let live: HashSet<u64> = state.version.tables().map(|table| table.id).collect();
        let manifests = inventory.manifests.keys().filter(|number| **number != manifest);
        let segments = inventory.segments.keys().filter(|number| **number < state.log_start);
        let tables = inventory.tables.keys().filter(|number| !live.contains(number));
        let leftovers: Vec<FileName> = manifests
            .map(|number| FileName::Manifest(*number))
            .chain(segments.map(|number| FileName::Segment(*number)))
            .chain(tables.map(|number| FileName::Table(*number)))
            .collect();
        for name in leftovers {
            let what = "nothing needs it; the next open removes it".to_owned();
            self.note(name.path().as_str(), "Leftover", what);
        }
    }

    fn keep<T>(&mut self, result: Result<T>) -> Option<T> {
        result.map_err(|error| self.find(Severity::Damage, &error)).ok()
    }

    fn find(&mut self, severity: Severity, error: &Error) {
        self.findings.push(Finding {
            severity,
            code: error.code(),
            file: error.path().unwrap_or(self.fs.root()).to_path_buf(),
            offset: error.offset(),
            what: error.to_string(),
        });
    }

    fn note(&mut self, file: &str, code: &'static str, what: String) {
        let file = self.fs.root().join(file);
        self.findings.push(Finding { severity: Severity::Note, code, file, offset: None, what });
    }
}
