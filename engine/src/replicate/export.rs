//! An export: the tables of a scope as they are at one moment, for a node that has nothing of it.
//!
//! What a table says stays true elsewhere only together with the keyspaces and the list of authors that
//! its numbers mean. They travel as an edit of the manifest, the *catalog*, with what is said of the
//! tables.

use super::{DeltaHead, Replication};
use crate::jobs;
use crate::parts::Parts;
use crate::tables::TableHandle;
use base::fs::{Fs, ReadFile, full_path};
use base::{Error, FileName, OriginNumber, Result, ScopeId, Tick};
use sstable::manifest::{Added, Edit, State};
use sstable::{TableMeta, TableSource};
use std::sync::Arc;

/// A file of an export.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ExportFile {
    /// Its number at the giver.
    pub id: u64,
    /// Its bytes.
    pub len: u64,
    /// The digest that all of them are verified by, see [`sstable::TableMeta`].
    pub root: [u8; 32],
}

/// What an export brings besides files.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ExportHead {
    /// As of a delta.
    pub state: DeltaHead,
    /// The giver's clock.
    pub clock: Tick,
    /// Keyspaces, authors and what the manifest says of the tables.
    pub catalog: Vec<u8>,
    /// The files, by id.
    pub files: Vec<ExportFile>,
}

/// Tables of a moment, held until this is dropped.
pub struct Export {
    head: ExportHead,
    fs: Arc<dyn Fs>,
    /// Keep the files.
    _tables: Vec<Arc<TableHandle>>,
    /// The file read last.
    open: Option<(u64, Arc<dyn ReadFile>)>,
}

impl Replication {
    /// Flushes, and holds the tables of `scope` as they are then. Reads none of them: their roots are
    /// known since they were written.
    pub fn export(&self, scope: ScopeId) -> Result<Export> {
        Export::of(&self.parts, scope)
    }
}

impl Export {
    fn of(parts: &Parts, scope: ScopeId) -> Result<Export> {
        parts.refuse_if_closed()?;
        parts.refuse_if_read_only()?;
        let last = parts.commits.freeze_active()?;
        parts.commits.sync()?;
        parts.commits.wait_visible(last)?;
        jobs::flush_up_to(parts, last)?;
        let database = parts.identity().database;
        // Under the lock of the manifest, so that no table is let go before it is held.
        let (state, catalog, tables) = parts.installer.with_state(|state| {
            let metas = state.version.tables().filter(|meta| meta.scope == scope);
            let mut tables: Vec<_> = metas.map(|meta| parts.tables.handle(meta)).collect();
            tables.sort_by_key(|handle| handle.meta().id);
            (head_of(state, scope), catalog_of(state, scope, database), tables)
        });
        let clock = parts.commits.visible().max(catalog.last_tick.unwrap_or_default());
        let mut bytes = Vec::new();
        catalog.encode(&mut bytes);
        let fs = parts.fs.clone();
        let files = tables.iter().map(|handle| {
            let TableMeta { id, len, root, .. } = **handle.meta();
            ExportFile { id, len, root }
        });
        let files = files.collect();
        let head = ExportHead { state, clock, catalog: bytes, files };
        Ok(Export { head, fs, _tables: tables, open: None })
    }

    /// What comes with the files.
    pub fn head(&self) -> &ExportHead {
        &self.head
    }

    /// Bytes of the file `id` from `offset`, `len` at the most; empty at its end.
    ///
    /// # Errors
    /// `InvalidInput` for a file that is not of the export.
    pub fn read(&mut self, id: u64, offset: u64, len: usize) -> Result<Vec<u8>> {
        let known = self.head.files.iter().find(|file| file.id == id);
        let end = known.ok_or_else(|| Error::invalid("the file is not of this export"))?.len;
        let rest = end.saturating_sub(offset);
        let len = usize::try_from(rest).map_or(len, |rest| rest.min(len));
        let name = FileName::Table(id).path();
        let path = || full_path(&*self.fs, &name);
        let file = match &self.open {
            Some((of, file)) if *of == id => file.clone(),
            _ => self.fs.open(&name).map_err(|e| Error::io("open", path(), e))?,
        };
        let mut bytes = vec![0; len];
        file.read_exact_at(&mut bytes, offset).map_err(|e| Error::io("read", path(), e))?;
        self.open = Some((id, file));
        Ok(bytes)
    }
}

fn head_of(state: &State, scope: ScopeId) -> DeltaHead {
    let vector = state.vectors.get(&scope).cloned().unwrap_or_default();
    // The floor may be above what is in tables.
    let floor = state.floors.get(&scope).map(|floor| floor.common(&vector));
    DeltaHead {
        vector,
        floor: floor.unwrap_or_default(),
        dropped: state.dropped_stamps.get(&scope).copied().unwrap_or(Tick::ZERO),
    }
}

/// What a state must know so that the tables of `scope` mean there what they mean in `state`.
fn catalog_of(state: &State, scope: ScopeId, database: [u8; 16]) -> Edit {
    let mut added = Vec::new();
    for run in state.version.runs() {
        for meta in run.tables.iter().filter(|meta| meta.scope == scope) {
            let source = meta.source.unwrap_or(TableSource { database, id: meta.id });
            let meta = Arc::new(TableMeta { source: Some(source), ..(**meta).clone() });
            added.push(Added { order: run.order, level: run.level, meta });
        }
    }
    let keyspaces = state.keyspaces.values().filter(|keyspace| keyspace.scope == scope);
    let numbers = (0..).filter_map(OriginNumber::at);
    Edit {
        added,
        keyspaces: keyspaces.map(|keyspace| (**keyspace).clone()).collect(),
        last_tick: Some(state.last_tick),
        horizon: Some(state.horizon),
        origins: numbers.zip(state.origins.iter().copied()).collect(),
        ..Edit::default()
    }
}

impl std::fmt::Debug for Export {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Export {{ files: {} }}", self.head.files.len())
    }
}
