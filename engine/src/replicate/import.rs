//! An import: the tables of another node become the content of a scope that is empty here.
//!
//! The files are received into the folder of tables, under numbers that no edit names: until the one
//! edit that does, they are leftovers, which the next open removes. That edit brings the tables,
//! keyspaces, authors, vector, floor and highest dropped stamp at once, so a crash leaves all or nothing.
//!
//! The list of authors is the giver's from then on, this node behind them: so the numbers in the tables
//! mean what they meant. That is possible because a node without content names no author yet but
//! itself, and that as "local".

use super::{ExportFile, ExportHead, Moved, Replication};
use crate::commit::Queue;
use crate::jobs;
use crate::parts::Parts;
use base::error::FileKind;
use base::fs::{AppendFile, full_path};
use base::{Corruption, Error, FileName, Origin, OriginNumber, RelPath, Result, ScopeId, Tick};
use sstable::manifest::{Added, Edit, LAST_LEVEL, State};
use sstable::{Cache, Table, TableMeta};
use std::collections::BTreeMap;
use std::sync::Arc;

/// Files of an export at the most.
const FILES_MAX: usize = 1 << 20;

/// Tables on their way in. What was received is kept when it is dropped, for an import of the same
/// files, until the database is closed.
pub struct Import {
    parts: Arc<Parts>,
    scope: ScopeId,
    head: ExportHead,
    catalog: Edit,
    files: Vec<Received>,
}

/// A file on its way in.
pub(crate) struct Received {
    file: ExportFile,
    /// Its number here.
    number: u64,
    /// None once it is complete and synced.
    writer: Option<Box<dyn AppendFile>>,
    received: u64,
    hasher: blake3::Hasher,
}

impl Replication {
    /// Whether nothing was ever stored in the scope, so that tables can be imported into it.
    pub fn is_empty(&self, scope: ScopeId) -> Result<bool> {
        self.parts.refuse_if_closed()?;
        let view = self.parts.views.current();
        let mut memtables = std::iter::once(&view.active).chain(&view.frozen);
        let is_written = memtables.any(|memtable| {
            memtable.range_deletes().ranges().any(|range| range.space.scope() == scope)
                || memtable.spaces().iter().any(|space| space.scope() == scope)
        });
        Ok(!is_written && self.parts.installer.with_state(|state| is_empty(state, scope)))
    }

    /// Begins to take an export in.
    ///
    /// # Errors
    /// `InvalidInput` if the scope is not empty, if the head contradicts itself, or if a keyspace of
    /// another scope has a number that the giver uses: then a delta is the way.
    pub fn import(&self, scope: ScopeId, head: &ExportHead) -> Result<Import> {
        Import::begin(&self.parts, scope, head)
    }
}

/// Whether no table and no vector speaks of the scope.
fn is_empty(state: &State, scope: ScopeId) -> bool {
    let is_known = state.vectors.get(&scope).is_some_and(|vector| !vector.is_empty());
    !is_known && state.version.tables().all(|meta| meta.scope != scope)
}

impl Import {
    fn begin(parts: &Arc<Parts>, scope: ScopeId, head: &ExportHead) -> Result<Import> {
        parts.refuse_if_closed()?;
        parts.refuse_if_read_only()?;
        let catalog = checked(scope, head)?;
        super::stage::refuse_ahead(parts, latest_of(head, &catalog))?;
        parts.installer.with_state(|state| refuse_unless_fit(state, scope, &catalog))?;
        let mut kept = parts.admissions.take_received();
        let mut files = Vec::with_capacity(head.files.len());
        for file in &head.files {
            let place = kept.iter().position(|incoming| incoming.file == *file);
            files.push(match place {
                Some(place) => kept.swap_remove(place),
                None => Received::create(parts, file)?,
            });
        }
        kept.iter().for_each(|incoming| parts.obsolete.discard(parts, incoming.number));
        Ok(Import { parts: parts.clone(), scope, head: head.clone(), catalog, files })
    }

    /// How many bytes of each file are here already.
    pub fn received(&self) -> Vec<(u64, u64)> {
        self.files.iter().map(|incoming| (incoming.file.id, incoming.received)).collect()
    }

    /// Adds bytes of the file `id` at `offset`, which must be where it ends so far.
    ///
    /// # Errors
    /// `InvalidInput` for other bytes than the next ones; `Corrupt` if the file is complete and is not the
    /// one that was announced: it has to be sent again.
    pub fn add(&mut self, id: u64, offset: u64, bytes: &[u8]) -> Result<()> {
        let incoming = self.files.iter_mut().find(|incoming| incoming.file.id == id);
        let incoming = incoming.ok_or_else(|| Error::invalid("the file was not announced"))?;
        let end = offset.checked_add(bytes.len() as u64);
        if offset != incoming.received || end.is_none_or(|end| end > incoming.file.len) {
            return Err(Error::invalid("the bytes are not the next ones of the file"));
        }
        incoming.add(&self.parts, bytes)
    }

    /// Verifies all files and makes them the content of the scope, durably.
    ///
    /// # Errors
    /// `InvalidInput` if bytes are missing, or if the scope is not empty any more; `Corrupt` if a file is not
    /// what the catalog says. Nothing was changed then.
    pub fn install(mut self) -> Result<()> {
        if self.files.iter().any(|incoming| incoming.writer.is_some()) {
            return Err(Error::invalid("not all bytes of the export are here"));
        }
        let parts = self.parts.clone();
        let folder = RelPath::folder(base::dir::TABLES_DIR);
        let path = || full_path(&*parts.fs, &folder);
        parts.fs.sync_dir(&folder).map_err(|e| Error::io("sync", path(), e))?;
        let added = self.numbered()?;
        for added in &added {
            let cache = Cache::new(0);
            Table::open(&*parts.fs, added.meta.clone(), parts.identity().database, cache)?;
        }
        let (vector, scope) = (self.head.state.vector.clone(), self.scope);
        let clock = self.head.clock.max(vector.latest()).max(self.head.state.dropped);
        parts.commits.with_queue(|queue| queue.observe(clock));
        // From the barrier on nobody writes under the numbers of before.
        let close = |queue: &mut Queue, seqno| {
            parts.catalog.close_scope(scope);
            queue.note_bulk(seqno);
            Moved::Nothing
        };
        let installed = parts.admissions.pause(|| {
            parts.commits.barrier(close, |barrier| {
                jobs::flush_up_to(&parts, barrier.before)?;
                if !parts.installer.with_state(|state| is_empty(state, scope)) {
                    return Err(not_empty());
                }
                parts.install(|state| self.edit(state, added, barrier.seqno), |_| {})?;
                parts.installer.with_state(|state| {
                    parts.origins.follow(state);
                    parts.catalog.adopt(scope, state.keyspaces.values());
                });
                parts.commits.jump(scope, barrier.seqno, &vector);
                Ok(barrier.seqno)
            })
        });
        if installed.is_err() {
            parts.catalog.open_scope(scope);
        }
        let place = installed?;
        self.files.clear();
        // The log has none of it.
        parts.commits.bear_witness(parts.installer.durable(), place);
        parts.update_pressure();
        parts.compaction_bell.ring();
        Ok(())
    }

    /// The tables under their numbers here.
    fn numbered(&self) -> Result<Vec<Added>> {
        let numbers: BTreeMap<u64, u64> =
            self.files.iter().map(|incoming| (incoming.file.id, incoming.number)).collect();
        let added = self.catalog.added.iter().map(|added| {
            let id = *numbers.get(&added.meta.id)?;
            let meta = Arc::new(TableMeta { id, ..(*added.meta).clone() });
            Some(Added { order: added.order, level: added.level, meta })
        });
        let added: Option<Vec<Added>> = added.collect();
        added.ok_or_else(|| Error::invalid("a table of the catalog is not among the files"))
    }

    /// The edit that adopts everything at once.
    fn edit(&self, state: &State, added: Vec<Added>, seqno: Tick) -> Edit {
        let origins = joined(&self.catalog, state, self.parts.identity().origin());
        let number_of = |origin: Origin| {
            let found = origins.iter().find(|(_, known)| *known == origin);
            found.map_or(OriginNumber::LOCAL, |(number, _)| *number)
        };
        let mut all = placed(state, added);
        let mut removed = Vec::new();
        for run in state.version.runs() {
            for meta in &run.tables {
                let local = state.origin(meta.local).map_or(OriginNumber::LOCAL, number_of);
                let meta = Arc::new(TableMeta { local, ..(**meta).clone() });
                removed.push(meta.id);
                all.push(Added { order: run.order, level: run.level, meta });
            }
        }
        let (scope, head) = (self.scope, &self.head.state);
        Edit {
            added: all,
            removed,
            flushed: Some(seqno),
            last_tick: Some(seqno),
            keyspaces: self.catalog.keyspaces.clone(),
            dropped_stamps: vec![(scope, head.dropped)],
            horizon: self.catalog.horizon,
            ingests: vec![seqno],
            adopted: Some(scope),
            origins,
            vectors: vec![(scope, head.vector.clone())],
            floors: vec![(scope, head.floor.clone())],
            whole: vec![scope],
            ..Edit::default()
        }
    }
}

/// The giver's authors with their numbers, then those that are known here besides.
fn joined(catalog: &Edit, state: &State, own: Origin) -> Vec<(OriginNumber, Origin)> {
    let mut origins = catalog.origins.clone();
    for origin in state.origins.iter().copied().chain([own]) {
        if origins.iter().all(|(_, known)| *known != origin)
            && let Some(number) = OriginNumber::at(origins.len())
        {
            origins.push((number, origin));
        }
    }
    origins
}

/// The tables with orders and levels that fit those of `state`: runs of the giver's last level below
/// everything, the others above, in their order.
fn placed(state: &State, added: Vec<Added>) -> Vec<Added> {
    let oldest = state.version.runs().last();
    let last = match oldest {
        Some(run) if run.level == LAST_LEVEL => Some(run.order),
        Some(run) => run.order.checked_sub(1),
        None => Some(1),
    };
    let mut orders: Vec<u64> = added.iter().map(|added| added.order).collect();
    orders.sort_unstable();
    orders.dedup();
    let base = state.version.next_order().max(2);
    let place = |order: u64| base + orders.partition_point(|other| *other < order) as u64;
    let moved = added.into_iter().map(|added| match (added.level, last) {
        (LAST_LEVEL, Some(order)) => Added { order, ..added },
        (LAST_LEVEL, None) => Added { order: place(added.order), level: LAST_LEVEL - 1, ..added },
        _ => Added { order: place(added.order), ..added },
    });
    moved.collect()
}

/// The latest moment that a head speaks of.
fn latest_of(head: &ExportHead, catalog: &Edit) -> Tick {
    let super::DeltaHead { vector, floor, dropped } = &head.state;
    let tables = catalog.added.iter().flat_map(|added| added.meta.latest());
    let all = [head.clock, vector.latest(), floor.latest(), *dropped];
    let all = all.into_iter().chain(catalog.horizon).chain(tables.map(|(_, tick)| tick));
    all.max().unwrap_or(Tick::ZERO)
}

/// The catalog of a head that agrees with itself.
fn checked(scope: ScopeId, head: &ExportHead) -> Result<Edit> {
    let broken = |what: &str| Error::invalid(format!("the head of an export is refused: {what}"));
    if head.files.len() > FILES_MAX {
        return Err(Error::too_large("export", FILES_MAX as u64, head.files.len() as u64));
    }
    let catalog = Edit::decode(&head.catalog).map_err(|found| broken(&found.to_string()))?;
    let of_scope = catalog.added.iter().all(|added| added.meta.scope == scope)
        && catalog.keyspaces.iter().all(|keyspace| keyspace.scope == scope);
    if !of_scope {
        return Err(broken("its catalog speaks of another scope"));
    }
    if catalog.added.iter().any(|added| added.meta.source.is_none()) {
        return Err(broken("a table does not say who wrote it"));
    }
    let is_listed = |number: OriginNumber| match number.place() {
        Some(place) => place < catalog.origins.len(),
        None => true,
    };
    let metas = || catalog.added.iter().map(|added| &added.meta);
    if !metas().all(|it| is_listed(it.local) && it.latest().all(|(it, _)| is_listed(it))) {
        return Err(broken("a table names an author without a number"));
    }
    let files = head.files.iter().map(|file| (file.id, file.len));
    let tables = catalog.added.iter().map(|added| (added.meta.id, added.meta.len));
    let (files, tables): (BTreeMap<_, _>, BTreeMap<_, _>) = (files.collect(), tables.collect());
    if files != tables || files.len() != head.files.len() {
        return Err(broken("files and tables are not the same"));
    }
    let keep = Edit {
        added: catalog.added,
        keyspaces: catalog.keyspaces,
        origins: catalog.origins,
        horizon: catalog.horizon,
        ..Edit::default()
    };
    State::default().apply(&keep).map_err(|found| broken(&found.to_string()))?;
    Ok(keep)
}

/// Refuses what can not be adopted on top of `state`.
fn refuse_unless_fit(state: &State, scope: ScopeId, catalog: &Edit) -> Result<()> {
    if !is_empty(state, scope) {
        return Err(not_empty());
    }
    let is_taken = |keyspace: &&sstable::manifest::KeyspaceRecord| {
        state.keyspaces.get(&keyspace.id).is_some_and(|known| known.scope != scope)
    };
    match catalog.keyspaces.iter().find(is_taken) {
        None => Ok(()),
        Some(keyspace) => Err(Error::invalid(format!(
            "keyspace number {} is taken here; take a delta instead of tables",
            keyspace.id.0
        ))),
    }
}

fn not_empty() -> Error {
    Error::invalid("tables can be imported only into an empty scope; take a delta instead")
}

impl Received {
    fn create(parts: &Parts, file: &ExportFile) -> Result<Received> {
        let number = parts.installer.next_table();
        let name = FileName::Table(number).path();
        let path = full_path(&*parts.fs, &name);
        let writer = parts.fs.create(&name, 0).map_err(|e| Error::io("create", path, e))?;
        let hasher = blake3::Hasher::new();
        Ok(Received { file: file.clone(), number, writer: Some(writer), received: 0, hasher })
    }

    fn add(&mut self, parts: &Parts, bytes: &[u8]) -> Result<()> {
        let path = || full_path(&*parts.fs, &FileName::Table(self.number).path());
        let Some(writer) = &mut self.writer else { return Ok(()) };
        writer.append(bytes).map_err(|e| Error::io("append to", path(), e))?;
        self.hasher.update(bytes);
        self.received += bytes.len() as u64;
        if self.received < self.file.len {
            return Ok(());
        }
        if *self.hasher.finalize().as_bytes() != self.file.digest {
            let path = path();
            parts.obsolete.discard(parts, self.number);
            *self = Received::create(parts, &self.file)?;
            let found = Corruption::DigestMismatch;
            return Err(Error::corrupt(FileKind::Table, path, 0, found));
        }
        if let Some(writer) = self.writer.take() {
            writer.finish().map_err(|e| Error::io("sync", path(), e))?;
        }
        Ok(())
    }
}

impl Drop for Import {
    /// What was received is kept for the next try.
    fn drop(&mut self) {
        self.parts.admissions.keep_received(&mut self.files);
    }
}

impl std::fmt::Debug for Received {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Received {{ number: {}, bytes: {} }}", self.number, self.received)
    }
}

impl std::fmt::Debug for Import {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Import {{ files: {} }}", self.files.len())
    }
}
