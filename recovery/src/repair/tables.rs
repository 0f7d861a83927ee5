//! The tables of a repaired database.
//!
//! Where the manifest is whole, only its tables count: one that verifies stays, of a damaged one all
//! blocks that verify are written to a new table in its place. Where the set of tables is lost, all
//! tables that are not known to be removed are merged into one run.

use super::facts::{Lost, undamaged};
use super::merge::Writer;
use super::report::{Loss, RepairReport};
use crate::inventory::Inventory;
use crate::lone::LoneFile;
use crate::plan::{FlushTarget, Verify};
use crate::progress::Progress;
use crate::tables::{check_listed, verify_table};
use base::error::{Category, FileKind};
use base::fs::{Fs, full_path};
use base::{Error, FileName, Result, ScopeId, SpaceId, Tick};
use sstable::manifest::{Added, Edit, State};
use sstable::table::{Salvage, salvage};
use sstable::{Cache, Table, TableKey, TableMeta};
use std::collections::BTreeSet;
use std::path::PathBuf;
use std::sync::Arc;

/// Bytes of blocks kept while tables are read: each block is read once.
const CACHE_BYTES: usize = 1 << 20;

/// Reads tables and notes what is lost.
pub(super) struct Workshop<'a> {
    pub(super) fs: &'a dyn Fs,
    pub(super) database: [u8; 16],
    pub(super) inventory: &'a Inventory,
    pub(super) target: &'a FlushTarget,
    pub(super) report: &'a mut RepairReport,
    /// Scopes that have lost something.
    pub(super) scopes: BTreeSet<ScopeId>,
    pub(super) progress: &'a Progress,
}

impl Workshop<'_> {
    /// The edit that puts what is left of each damaged table of `state` in its place.
    pub(super) fn mend(&mut self, state: &State) -> Result<Edit> {
        let mut edit = Edit::default();
        let cache = Cache::new(CACHE_BYTES);
        for run in state.version.runs() {
            for meta in &run.tables {
                if self.is_whole(meta, &cache)? {
                    self.report.tables_kept += 1;
                    continue;
                }
                edit.removed.push(meta.id);
                let (order, level) = (run.order, run.level);
                for mended in self.rewrite(meta, level, state)? {
                    let meta = Arc::new(TableMeta { shadowed: meta.shadowed, ..mended });
                    edit.added.push(Added { order, level, meta });
                }
            }
        }
        edit.next_table = Some(self.target.upcoming());
        Ok(edit)
    }

    /// All tables that may hold entries of a database whose set of tables is `lost`.
    pub(super) fn collect(&mut self, lost: &Lost, state: &State) -> Result<Vec<Arc<Table>>> {
        let cache = Cache::new(CACHE_BYTES);
        let mut tables = Vec::new();
        for &id in self.inventory.tables.keys().filter(|id| !lost.removed.contains(id)) {
            let Some(meta) = self.describe(id, lost)? else { continue };
            let metas = match self.is_whole(&meta, &cache)? {
                true => vec![meta],
                false => self.rewrite(&meta, 0, state)?.into_iter().map(Arc::new).collect(),
            };
            for meta in metas {
                tables.push(Arc::new(Table::open(self.fs, meta, self.database, cache.clone())?));
            }
        }
        let is_gone = |id: &&u64| !self.inventory.tables.contains_key(id);
        let gone = lost.known.keys().filter(is_gone).filter(|id| !lost.removed.contains(id));
        for meta in gone.copied().filter_map(|id| lost.known.get(&id)).collect::<Vec<_>>() {
            let missing = Error::Missing { file: FileKind::Table, path: self.path_of(meta) };
            self.lose_all(meta, &missing, state);
        }
        Ok(tables)
    }

    /// What is known of table `id`: from an edit, or from itself.
    fn describe(&mut self, id: u64, lost: &Lost) -> Result<Option<Arc<TableMeta>>> {
        if let Some(known) = lost.known.get(&id) {
            return Ok(Some(known.clone()));
        }
        let file = full_path(self.fs, &FileName::Table(id).path());
        match sstable::table::inspect(self.fs, id) {
            Ok((_, owner)) if owner.database != self.database => {
                let note = format!("{} is of another database and was left out", file.display());
                self.report.notes.push(note);
                Ok(None)
            }
            Ok((meta, _)) => {
                if meta.entries > 0 && meta.seqno_max == Tick::ZERO {
                    self.report.notes.push(format!(
                        "{} was loaded in bulk, and when is lost: its entries count as the oldest",
                        file.display()
                    ));
                }
                Ok(Some(Arc::new(meta)))
            }
            Err(error) if error.category() == Category::Critical => {
                let offset = error.offset();
                self.scopes.insert(ScopeId::MAIN);
                self.report.losses.push(Loss::Table { file, offset });
                Ok(None)
            }
            Err(error) => Err(error),
        }
    }

    fn is_whole(&self, meta: &Arc<TableMeta>, cache: &Arc<Cache>) -> Result<bool> {
        self.progress.refuse_if_cancelled()?;
        self.progress.advance(meta.len);
        let whole = check_listed(self.fs, meta, self.inventory)
            .and_then(|()| verify_table(self.fs, self.database, meta, cache, Verify::Paranoid));
        Ok(undamaged(whole)?.is_some())
    }

    /// Writes all that verifies of a damaged table to a new one, if that is anything.
    fn rewrite(&mut self, meta: &TableMeta, level: u8, state: &State) -> Result<Vec<TableMeta>> {
        let damage = match salvage(self.fs, meta, self.database) {
            Ok(salvaged) => return self.write(meta, &salvaged, level, state),
            Err(error) if error.category() == Category::Critical => error,
            Err(error) => return Err(error),
        };
        match self.find_elsewhere(meta)? {
            Some(salvaged) => self.write(meta, &salvaged, level, state),
            None => {
                self.lose_all(meta, &damage, state);
                Ok(Vec::new())
            }
        }
    }

    /// The table under the name of another one.
    fn find_elsewhere(&mut self, meta: &TableMeta) -> Result<Option<Salvage>> {
        for &id in self.inventory.tables.keys().filter(|id| **id != meta.id) {
            let other = FileName::Table(id).path();
            let open = |e| Error::io("open", full_path(self.fs, &other), e);
            let file = LoneFile(self.fs.open(&other).map_err(open)?);
            if let Some(salvaged) = undamaged(salvage(&file, meta, self.database))? {
                let own = full_path(self.fs, &FileName::Table(meta.id).path());
                let (own, other) = (own.display(), full_path(self.fs, &other));
                self.report
                    .notes
                    .push(format!("{} holds what belongs into {own}", other.display()));
                return Ok(Some(salvaged));
            }
        }
        Ok(None)
    }

    fn write(
        &mut self,
        meta: &TableMeta,
        salvaged: &Salvage,
        level: u8,
        state: &State,
    ) -> Result<Vec<TableMeta>> {
        let local = salvaged.local().or_else(|| state.origin(meta.local));
        let local = local.unwrap_or(self.target.owner.origin);
        let mut writer = Writer::new(self.target, level, u64::MAX).of_life(local);
        match salvaged.range_deletes() {
            Ok(ranges) => ranges.iter().for_each(|range| writer.add_range(range.clone())),
            Err(error) => self.lose_ranges(meta, error.offset()),
        }
        let lost =
            salvaged.read(|space, key, trailer, value| writer.add(space, key, trailer, value))?;
        for block in lost {
            self.scopes.insert(meta.scope);
            self.report.losses.push(Loss::Keys {
                file: self.path_of(meta),
                offset: block.error.offset(),
                keyspace: name_of(state, block.space),
                first: block.first,
                last: Some(block.last),
            });
        }
        let tables = writer.finish()?;
        self.report.tables_written += tables.len();
        Ok(tables)
    }

    /// Notes that all of a table is lost.
    fn lose_all(&mut self, meta: &TableMeta, error: &Error, state: &State) {
        if meta.range_deletes > 0 {
            self.lose_ranges(meta, error.offset());
        }
        if meta.entries == 0 {
            return;
        }
        self.scopes.insert(meta.scope);
        let TableKey { space: from, key: first } = &meta.smallest;
        let TableKey { space: to, key: last } = &meta.largest;
        let between = state.keyspaces.values().map(|keyspace| keyspace.space());
        let between = between.filter(|space| (from..=to).contains(&space));
        for space in between.chain([*from, *to]).collect::<BTreeSet<_>>() {
            self.report.losses.push(Loss::Keys {
                file: self.path_of(meta),
                offset: error.offset(),
                keyspace: name_of(state, space),
                first: if space == *from { first.clone() } else { Box::default() },
                last: (space == *to).then(|| last.clone()),
            });
        }
    }

    fn lose_ranges(&mut self, meta: &TableMeta, offset: Option<u64>) {
        let (file, scope) = (self.path_of(meta), meta.scope);
        self.scopes.insert(scope);
        self.report.losses.push(Loss::RangeDeletes { file, offset, scope });
    }

    fn path_of(&self, meta: &TableMeta) -> PathBuf {
        full_path(self.fs, &FileName::Table(meta.id).path())
    }
}

fn name_of(state: &State, space: SpaceId) -> String {
    let keyspace = state.keyspaces.get(&space.keyspace());
    let unknown = || format!("{}/{}", space.scope().0, space.keyspace().0);
    keyspace.map_or_else(unknown, |keyspace| keyspace.name.clone())
}
