//! The one door through which the set of tables changes: an edit becomes durable in the manifest,
//! then current in the view; what it removed is retired.

use crate::range_map::RangeMap;
use crate::space::Space;
use crate::tables::{LiveRuns, Tables};
use crate::view::{NextView, View, Views};
use base::fs::Fs;
use base::lock::{Mutex, Rank};
use base::{Defect, FileName, Position, Result, Rng, planted};
use sstable::manifest::{Edit, ManifestLog, State, Version};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// See the module.
pub(crate) struct Installer {
    durable: Mutex<Durable>,
    /// What the manifest says, for those who must not wait for the disk. Behind by the edit that is being
    /// written, if one is.
    shown: Mutex<Arc<State>>,
    next_table: AtomicU64,
    fs: Arc<dyn Fs>,
    rng: Arc<dyn Rng>,
    tables: Arc<Tables>,
    views: Arc<Views>,
    space: Arc<Space>,
}

/// The manifest and what it says.
struct Durable {
    /// None once closed, and while the database is only read.
    log: Option<ManifestLog>,
    is_read_only: bool,
    /// Whether the directory is let go: what stands there may be somebody else's.
    is_abandoned: bool,
    state: Arc<State>,
    /// Files that no edit names any more, by the count of edits after which they may be deleted.
    freed: Vec<(u64, FileName)>,
    is_poisoned: bool,
}

impl std::fmt::Debug for Durable {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Durable {{ tables: {} }}", self.state.version.table_count())
    }
}

impl Installer {
    /// The door of a database in `state`, written to `log`; only read without one.
    pub(crate) fn new(
        log: Option<ManifestLog>,
        state: State,
        fs: Arc<dyn Fs>,
        rng: Arc<dyn Rng>,
        tables: Arc<Tables>,
        views: Arc<Views>,
        space: Arc<Space>,
    ) -> Installer {
        let next_table = AtomicU64::new(state.next_table);
        let is_read_only = log.is_none();
        let state = Arc::new(state);
        let shown = Mutex::new(Rank::Stats, state.clone());
        let durable = Durable {
            log,
            is_read_only,
            is_abandoned: false,
            state,
            freed: Vec::new(),
            is_poisoned: false,
        };
        let durable = Mutex::new(Rank::Manifest, durable);
        Installer { durable, shown, next_table, fs, rng, tables, views, space }
    }

    /// A number for a new table. Never given twice, even if the table is never installed.
    pub(crate) fn next_table(&self) -> u64 {
        self.next_table.fetch_add(1, Ordering::Relaxed)
    }

    /// The current set of tables.
    pub(crate) fn version(&self) -> Version {
        self.durable.lock().state.version.clone()
    }

    /// Asks about the durable state.
    pub(crate) fn with_state<R>(&self, ask: impl FnOnce(&State) -> R) -> R {
        ask(&self.durable.lock().state)
    }

    /// The state after the last edit that is durable. Never waits for the disk, unlike all others here: while
    /// an edit is being written, it is the state before.
    pub(crate) fn shown(&self) -> Arc<State> {
        self.shown.lock().clone()
    }

    /// Makes `edit` durable, and shows what the manifest says then.
    fn append(&self, durable: &mut Durable, edit: &Edit) -> Result<()> {
        durable.append(edit)?;
        let before = std::mem::replace(&mut *self.shown.lock(), durable.state.clone());
        drop(before); // not under the lock
        Ok(())
    }

    /// Makes the edit that `edit` builds from the current state durable, then current. `adjust` changes
    /// what else the view holds in the same step (a flush takes its memtable away).
    pub(crate) fn install(
        &self,
        edit: impl FnOnce(&State) -> Edit,
        adjust: impl FnOnce(&mut NextView),
    ) -> Result<()> {
        let mut durable = self.durable.lock();
        let mut edit = edit(&durable.state);
        edit.next_table = Some(self.next_table.load(Ordering::Relaxed));
        let changes_tables = !edit.added.is_empty() || !edit.removed.is_empty();
        let stays = |id: &u64| edit.added.iter().any(|added| added.meta.id == *id);
        let retired: Vec<u64> = edit.removed.iter().copied().filter(|id| !stays(id)).collect();
        // Whatever can fail comes before the edit is durable.
        let next = if changes_tables {
            let version = durable.state.version.apply(&edit).map_err(invalid)?;
            let runs = LiveRuns::of(&version, &self.tables);
            let ranges = table_ranges(&runs)?;
            Some((Arc::new(runs), Arc::new(ranges)))
        } else {
            None
        };
        self.append(&mut durable, &edit)?;
        self.views.install(|view: &View| {
            let mut parts = NextView::from(view);
            if let Some((runs, ranges)) = next {
                parts.runs = runs;
                parts.table_ranges = ranges;
            }
            adjust(&mut parts);
            parts
        });
        self.tables.retire(&retired);
        self.roll_if_large(&mut durable);
        Ok(())
    }

    /// Makes an edit durable that concerns no table and no view.
    pub(crate) fn record(&self, edit: impl FnOnce(&State) -> Edit) -> Result<()> {
        let mut durable = self.durable.lock();
        let mut edit = edit(&durable.state);
        edit.next_table = Some(self.next_table.load(Ordering::Relaxed));
        self.append(&mut durable, &edit)?;
        self.roll_if_large(&mut durable);
        Ok(())
    }

    /// As [`Installer::record`], and lets `then` look at the new state before anyone else changes it.
    pub(crate) fn record_then(
        &self,
        edit: impl FnOnce(&State) -> Edit,
        then: impl FnOnce(&State),
    ) -> Result<()> {
        let mut durable = self.durable.lock();
        let edit = edit(&durable.state);
        self.append(&mut durable, &edit)?;
        then(&durable.state);
        self.roll_if_large(&mut durable);
        Ok(())
    }

    /// Goes on in a new manifest if the old one is large. A failure is no failure of the edit: the
    /// next one tries again, or finds the manifest poisoned.
    fn roll_if_large(&self, durable: &mut Durable) {
        let Some(log) = &mut durable.log else { return };
        if !log.wants_roll() {
            return;
        }
        let state = &*durable.state;
        match self.space.with_reserve(|| log.roll(&*self.fs, &*self.rng, state)) {
            Ok(old) => {
                durable.freed.iter_mut().for_each(|(edits, _)| *edits = 0);
                durable.freed.push((0, FileName::Manifest(old)));
            }
            Err(error) => {
                tracing::warn!(target: "esker::engine", code = error.code(), %error, "the manifest could not be renewed");
            }
        }
    }

    /// What of the manifest is durable, its number as the segment.
    pub(crate) fn durable(&self) -> Position {
        let durable = self.durable.lock();
        let log = durable.log.as_ref();
        log.map_or(Position::ZERO, |log| Position { segment: log.number(), offset: log.len() })
    }

    /// Reads the manifest from the disk: it says what is known here.
    pub(crate) fn verify(&self) -> Result<()> {
        let durable = self.durable.lock();
        let Some(log) = &durable.log else { return Ok(()) };
        let replayed = sstable::manifest::replay(&*self.fs, log.root())?;
        if durable.is_poisoned || replayed.state == *durable.state {
            return Ok(());
        }
        let path = base::fs::full_path(&*self.fs, &FileName::Manifest(log.number()).path());
        let found = base::Corruption::BadVersion;
        Err(base::Error::corrupt(base::error::FileKind::Manifest, path, replayed.end, found))
    }

    /// Whether an edit failed, so that what is on disk is unknown.
    pub(crate) fn is_poisoned(&self) -> bool {
        self.durable.lock().is_poisoned
    }

    /// Says that `file` is named by no edit any more.
    pub(crate) fn free(&self, file: FileName) {
        let mut durable = self.durable.lock();
        let edits = durable.log.as_ref().map_or(0, ManifestLog::edits);
        durable.freed.push((edits, file));
    }

    /// Takes the files that may be deleted: a later frame of the manifest has promised the edit that
    /// freed them. None if nothing may be deleted here.
    pub(crate) fn take_deletable(&self) -> Option<Vec<FileName>> {
        let mut durable = self.durable.lock();
        if !durable.may_delete() {
            return None;
        }
        let promised = durable.log.as_ref().map_or(u64::MAX, ManifestLog::promised_edits);
        let freed = std::mem::take(&mut durable.freed);
        let (ready, waiting): (Vec<_>, Vec<_>) = freed
            .into_iter()
            .partition(|(edits, _)| *edits <= promised || planted(Defect::DeleteBeforePromised));
        durable.freed = waiting;
        Some(ready.into_iter().map(|(_, file)| file).collect())
    }

    /// Whether the directory's files are this database's to delete.
    pub(crate) fn may_delete(&self) -> bool {
        self.durable.lock().may_delete()
    }

    /// Whether files wait for one more edit before they may be deleted.
    pub(crate) fn has_freed(&self) -> bool {
        !self.durable.lock().freed.is_empty()
    }

    /// Lets go of the manifest, whatever state it is in: no edit can follow, and nothing is deleted.
    pub(crate) fn abandon(&self) {
        let mut durable = self.durable.lock();
        durable.log = None;
        durable.is_abandoned = true;
    }

    /// Writes the last edit and closes the manifest.
    pub(crate) fn close(&self, edit: impl FnOnce(&State) -> Edit) -> Result<()> {
        let mut durable = self.durable.lock();
        let edit = edit(&durable.state);
        self.append(&mut durable, &edit)?;
        match durable.log.take() {
            Some(log) => log.finish(),
            None => Ok(()),
        }
    }
}

impl Durable {
    fn may_delete(&self) -> bool {
        !self.is_read_only && !self.is_abandoned
    }

    fn append(&mut self, edit: &Edit) -> Result<()> {
        if self.is_poisoned {
            return Err(base::Error::Poisoned);
        }
        if self.is_read_only {
            return Err(base::Error::ReadOnly);
        }
        let mut next = State::clone(&self.state);
        next.apply(edit).map_err(invalid)?;
        let log = self.log.as_mut().ok_or(base::Error::Closed)?;
        if let Err(error) = log.append(edit) {
            // What is on disk is unknown now.
            self.is_poisoned = true;
            return Err(error);
        }
        self.state = Arc::new(next);
        Ok(())
    }
}

/// An edit that contradicts the state it is for.
fn invalid(found: base::Corruption) -> base::Error {
    let path = base::dir::MANIFEST_DIR;
    match found {
        base::Corruption::BrokenRule(rule) => {
            base::Error::VersionInvalid { path: path.into(), offset: 0, rule }
        }
        found => base::Error::corrupt(base::error::FileKind::Manifest, path, 0, found),
    }
}

/// The range deletes of all tables. Opens the few tables that have any.
pub(crate) fn table_ranges(runs: &LiveRuns) -> Result<RangeMap> {
    let mut ranges = RangeMap::default();
    for handle in runs.tables().filter(|handle| handle.meta().range_deletes > 0) {
        let table = handle.table()?;
        ranges.add(table.range_deletes().iter().cloned(), table.local());
    }
    Ok(ranges)
}
