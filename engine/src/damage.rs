//! Damaged files that reads, merges or a scrub have met, and what follows from it.
//!
//! What is damaged is never served: the call that met it gets the error. From then on writes are
//! refused, until a scrub finds everything whole or the database is repaired: whoever goes on writing
//! buries what a repair could still bring back. With [`CorruptionAction::Quarantine`] a damaged table
//! is replaced by what verifies of it instead, and writes go on. With [`CorruptionAction::HealFromPeer`]
//! writes are refused until replication has brought what the table had from another node.

use crate::bell::Bell;
use crate::options::CorruptionAction;
use crate::remedies::{Permission, Permit};
use base::error::FileKind;
use base::lock::{Mutex, Rank};
use base::{Error, FileName, KeyRange, Result};
use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

/// See the module.
#[derive(Debug)]
pub(crate) struct Damage {
    action: CorruptionAction,
    /// Whether writes are refused.
    is_halted: AtomicBool,
    known: Mutex<Known>,
    lost: Mutex<Vec<LostRange>>,
    /// Tables that were replaced by what verifies of them.
    salvages: AtomicU64,
    /// Rung when a table waits to be replaced.
    bell: Arc<Bell>,
    /// Whether tables that turn out to be damaged now may be healed.
    healing: Permit,
}

#[derive(Debug, Default)]
struct Known {
    /// What was found, by file.
    found: BTreeMap<PathBuf, Found>,
    /// Tables that no version names any more and somebody still reads: damage in them harms nobody else.
    retired: BTreeSet<u64>,
    /// What was missing of damaged tables when that was looked at last.
    missing: BTreeMap<u64, Missing>,
}

#[derive(Clone, Debug)]
struct Found {
    /// The table, if it is one.
    table: Option<u64>,
    what: String,
    /// Whether a peer may make it whole. What was allowed once stays so: it may be under way.
    may_heal: bool,
}

/// What of a scope may be missing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Missing {
    /// Anything.
    Anything,
    /// Only keys in these ranges.
    Ranges(Vec<KeyRange>),
}

/// Keys that may have been lost with a part of a table, all that it had between two keys.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct LostRange {
    /// The keyspace; none if it was dropped since.
    pub keyspace: Option<String>,
    /// The first key that may be gone, or be what it was earlier.
    pub first: Vec<u8>,
    /// The last one.
    pub last: Vec<u8>,
    /// The damaged file, as it was called.
    pub file: PathBuf,
}

impl Damage {
    /// Nothing is damaged as far as is known. `bell` wakes who replaces tables.
    pub(crate) fn new(action: CorruptionAction, bell: Arc<Bell>) -> Damage {
        Damage {
            action,
            is_halted: AtomicBool::new(false),
            known: Mutex::new(Rank::Stats, Known::default()),
            lost: Mutex::new(Rank::Stats, Vec::new()),
            salvages: AtomicU64::new(0),
            bell,
            healing: Permit::default(),
        }
    }

    /// Allows that tables are healed, also those that wait for it; or not those that turn out to be damaged
    /// from now on.
    pub(crate) fn permit_healing(&self, permission: Permission) {
        let mut known = self.known.lock();
        self.healing.set(permission);
        if permission == Permission::Granted {
            known.found.values_mut().for_each(|found| found.may_heal = true);
        }
    }

    /// A table is being replaced by what verifies of it. Called with the edit that does so.
    pub(crate) fn count_salvage(&self) {
        self.salvages.fetch_add(1, Ordering::AcqRel);
    }

    /// How many were. If it is the same before a view was taken and at an edit, nothing was lost between.
    pub(crate) fn salvages(&self) -> u64 {
        self.salvages.load(Ordering::Acquire)
    }

    /// Wakes who replaces tables.
    pub(crate) fn bell(&self) -> &Arc<Bell> {
        &self.bell
    }

    /// Notes `error` if it is about a damaged file of this database.
    #[cold]
    pub(crate) fn note(&self, error: &Error) {
        let (file, path) = match error {
            Error::Corrupt { file, path, .. } | Error::Missing { file, path } => (*file, path),
            _ => return,
        };
        let table = if file == FileKind::Table { table_at(path) } else { None };
        let is_to_replace = self.action == CorruptionAction::Quarantine && table.is_some();
        let mut known = self.known.lock();
        if table.is_some_and(|table| known.retired.contains(&table)) {
            return;
        }
        let before = known.found.get(path).is_some_and(|found| found.may_heal);
        let may_heal = before || self.healing.is_granted();
        let found = Found { table, what: error.to_string(), may_heal };
        let is_new = known.found.insert(path.clone(), found).is_none();
        if !is_to_replace {
            self.is_halted.store(true, Ordering::Release);
        }
        drop(known);
        if is_new {
            tracing::error!(target: "esker::engine", code = error.code(), %error, "a file of the database is damaged");
        }
        if is_to_replace {
            self.bell.ring();
        }
    }

    /// Refuses writes while something is damaged.
    #[inline]
    pub(crate) fn check(&self) -> Result<()> {
        if self.is_halted.load(Ordering::Relaxed) { Err(self.halted()) } else { Ok(()) }
    }

    #[cold]
    fn halted(&self) -> Error {
        let path = self.known.lock().found.keys().next().cloned().unwrap_or_default();
        Error::Halted { path }
    }

    /// Whether anything is known to be damaged.
    pub(crate) fn is_known(&self) -> bool {
        !self.known.lock().found.is_empty()
    }

    /// What was found, as sentences.
    pub(crate) fn reasons(&self) -> Vec<String> {
        self.known.lock().found.values().map(|found| found.what.clone()).collect()
    }

    /// The damaged tables, if they are to be replaced.
    pub(crate) fn to_replace(&self) -> Vec<u64> {
        if self.action != CorruptionAction::Quarantine {
            return Vec::new();
        }
        self.known.lock().found.values().filter_map(|found| found.table).collect()
    }

    /// The damaged tables, if a peer is to make them whole.
    pub(crate) fn to_heal(&self) -> Vec<u64> {
        if self.action != CorruptionAction::HealFromPeer {
            return Vec::new();
        }
        let known = self.known.lock();
        known
            .found
            .values()
            .filter(|found| found.may_heal)
            .filter_map(|found| found.table)
            .collect()
    }

    /// Notes what a damaged table lacks.
    pub(crate) fn note_missing(&self, table: u64, missing: Missing) {
        self.known.lock().missing.insert(table, missing);
    }

    /// What a damaged table lacks, if that was looked at.
    pub(crate) fn missing(&self, table: u64) -> Option<Missing> {
        self.known.lock().missing.get(&table).cloned()
    }

    /// The table is whole after all, or nothing of it is left.
    pub(crate) fn forget_table(&self, table: u64) {
        self.forget(&mut self.known.lock(), table);
    }

    /// No version names the table any more, but somebody may still read it: what that finds does not
    /// count, nor what was found before.
    pub(crate) fn note_retired(&self, table: u64) {
        let mut known = self.known.lock();
        known.retired.insert(table);
        self.forget(&mut known, table);
    }

    /// Nobody reads the retired table any more.
    pub(crate) fn forget_retired(&self, table: u64) {
        self.known.lock().retired.remove(&table);
    }

    fn forget(&self, known: &mut Known, table: u64) {
        known.found.retain(|_, found| found.table != Some(table));
        known.missing.remove(&table);
        if known.found.is_empty() {
            self.is_halted.store(false, Ordering::Release);
        }
    }

    /// All files are whole after all.
    pub(crate) fn forget_all(&self) {
        let mut known = self.known.lock();
        known.found.clear();
        known.missing.clear();
        self.is_halted.store(false, Ordering::Release);
    }

    /// Notes what went with the damaged part of a table.
    pub(crate) fn note_lost(&self, ranges: Vec<LostRange>) {
        self.lost.lock().extend(ranges);
    }

    /// What went with damaged parts of tables since the database was opened.
    pub(crate) fn lost(&self) -> Vec<LostRange> {
        self.lost.lock().clone()
    }
}

/// The number of the table whose file is at `path`.
fn table_at(path: &std::path::Path) -> Option<u64> {
    let name = path.file_name()?.to_str()?;
    match FileName::parse(&format!("{}/{name}", base::dir::TABLES_DIR))? {
        FileName::Table(number) => Some(number),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use base::Corruption;

    #[test]
    fn what_may_not_be_healed_waits_until_it_may() {
        let damage = Damage::new(CorruptionAction::HealFromPeer, Arc::new(Bell::default()));
        let note = |table: u64| {
            let path = format!("db/tables/{table:020}.sst");
            damage.note(&Error::corrupt(FileKind::Table, path, 0, Corruption::Truncated));
        };
        note(4);
        damage.permit_healing(Permission::Withheld);
        note(5);
        note(4);
        assert_eq!(damage.to_heal(), [4], "what was begun goes on");
        assert!(damage.check().is_err());
        damage.permit_healing(Permission::Granted);
        assert_eq!(damage.to_heal(), [4, 5]);
    }

    /// A scan that began before goes on over the table that was replaced meanwhile.
    #[test]
    fn a_reader_that_comes_late_does_not_halt_a_database_that_is_whole_again() {
        let damage = Damage::new(CorruptionAction::HealFromPeer, Arc::new(Bell::default()));
        let damaged = |table: u64| {
            let path = format!("db/tables/{table:020}.sst");
            Error::corrupt(FileKind::Table, path, 0, Corruption::Truncated)
        };
        let error = damaged(4);
        damage.note(&error);
        assert_eq!((damage.check().is_err(), damage.to_heal()), (true, vec![4]));
        damage.note_retired(4);
        damage.note(&error);
        assert!(damage.check().is_ok() && !damage.is_known() && damage.to_heal().is_empty());
        damage.note(&damaged(5));
        assert!(damage.check().is_err(), "another one is damaged");
    }
}
