//! An import: the tables of another node become the content of a scope that is empty here.
//!
//! The files are received into the folder of tables, under numbers that no edit names: until the one
//! edit that does, they are leftovers, which the next open removes. That edit brings the tables,
//! keyspaces, authors, vector, floor and highest dropped stamp at once, so a crash leaves all or nothing.
//!
//! The list of authors is the giver's from then on, this node behind them: so the numbers in the tables
//! mean what they meant. That is possible because a node without content names no author yet but
//! itself, and that as "local".
//!
//! No call reads or syncs more than the bytes that it is given: what takes longer is done meanwhile by a
//! thread, which is waited for if it is many files behind. Where there are to be none, the call that brings the
//! last bytes of a file syncs and reads all of it.

mod received;

pub(crate) use received::Received;

use super::stage::refuse_ahead;
use super::{DeltaHead, ExportHead, Moved, Replication};
use crate::commit::Queue;
use crate::creation::check_name_of_peer;
use crate::jobs;
use crate::parts::Parts;
use base::fs::full_path;
use base::{Error, Origin, OriginNumber, RelPath, Result, ScopeId, Tick, Vector};
use received::Checker;
use sstable::TableMeta;
use sstable::manifest::{Added, Edit, KeyspaceRecord, LAST_LEVEL, State};
use std::collections::BTreeMap;
use std::sync::Arc;

/// Files of an export at the most.
const FILES_MAX: usize = 1 << 20;

/// Tables on their way in. What was received is kept when it is dropped, for an import of the same
/// files, until the database is closed: complete files, and of the others the one of which most has come.
pub struct Import {
    parts: Arc<Parts>,
    scope: ScopeId,
    head: ExportHead,
    catalog: Edit,
    files: Vec<Received>,
    checker: Checker,
}

/// Whether all that was received is what was announced.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Settled {
    /// It is, and all is here: it can be installed.
    Yes,
    /// Bytes are missing, or complete files are still being verified.
    NotYet,
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
    /// `ConfigMismatch` if one of its keyspaces exists here in another scope;
    /// `InvalidInput` if the scope is not empty, if the head contradicts itself, or if a keyspace of
    /// another scope has a number that the giver uses: then a delta is the way. `ClockSkew` if the head
    /// or a table is ahead of the clock here by more than is allowed. `DiskFull` if the files would not
    /// leave users' writes their space.
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
        refuse_ahead(parts, latest_of(head, &catalog))?;
        parts.installer.with_state(|state| refuse_unless_fit(state, scope, &catalog))?;
        let checker = Checker::new(parts)?;
        let mut kept = parts.admissions.take_received();
        // From here on what it has is kept, whatever fails.
        let (parts, head) = (parts.clone(), head.clone());
        let mut import = Import { parts, scope, head, catalog, files: Vec::new(), checker };
        if let Err(error) = import.announce(&mut kept) {
            import.files.append(&mut kept);
            return Err(import.give_way(error));
        }
        let parts = &import.parts;
        kept.iter().for_each(|incoming| incoming.discard(parts));
        Ok(import)
    }

    /// Takes what is announced from what was `kept`; the rest has to come.
    fn announce(&mut self, kept: &mut Vec<Received>) -> Result<()> {
        let metas = self.catalog.added.iter().map(|added| (added.meta.id, &added.meta));
        let metas: BTreeMap<u64, _> = metas.collect();
        self.refuse_unless_room(&metas, kept)?;
        for file in &self.head.files {
            let Some(meta) = metas.get(&file.id) else { continue };
            self.files.push(match kept.iter().position(|incoming| incoming.is_of(meta)) {
                Some(place) => kept.swap_remove(place).announced_as(file),
                None => Received::announced(file, meta),
            });
        }
        Ok(())
    }

    /// Refuses what is announced if what is not among the `kept` files does not fit on the disk.
    fn refuse_unless_room(
        &self,
        metas: &BTreeMap<u64, &Arc<TableMeta>>,
        kept: &[Received],
    ) -> Result<()> {
        let missing = self.head.files.iter().map(|file| {
            let is_it =
                |incoming: &&Received| metas.get(&file.id).is_some_and(|meta| incoming.is_of(meta));
            let here = kept.iter().find(is_it).map_or(0, |incoming| incoming.received);
            file.len.saturating_sub(here)
        });
        self.parts.admit_received(missing.fold(0, u64::saturating_add))
    }

    /// What was received is no longer kept if there is no space for the rest of it.
    fn give_way(&mut self, error: Error) -> Error {
        if matches!(error, Error::DiskFull { .. }) {
            self.discard();
        }
        error
    }

    fn discard(&mut self) {
        let parts = &self.parts;
        self.files.drain(..).for_each(|incoming| incoming.discard(parts));
    }

    /// How many bytes of each file are here already.
    pub fn received(&self) -> Vec<(u64, u64)> {
        self.files.iter().map(|incoming| (incoming.file.id, incoming.received)).collect()
    }

    /// Adds bytes of the file `id` at `offset`, which must be where it ends so far.
    ///
    /// # Errors
    /// `InvalidInput` for other bytes than the next ones; `DiskFull` if users' writes need the space: what
    /// was received is gone then.
    pub fn add(&mut self, id: u64, offset: u64, bytes: &[u8]) -> Result<()> {
        let added = self.add_to(id, offset, bytes);
        added.map_err(|error| self.give_way(error))
    }

    fn add_to(&mut self, id: u64, offset: u64, bytes: &[u8]) -> Result<()> {
        let incoming = self.files.iter_mut().find(|incoming| incoming.file.id == id);
        let incoming = incoming.ok_or_else(|| Error::invalid("the file was not announced"))?;
        let end = offset.checked_add(bytes.len() as u64);
        if offset != incoming.received || end.is_none_or(|end| end > incoming.file.len) {
            return Err(Error::invalid("the bytes are not the next ones of the file"));
        }
        self.parts.admit_received(bytes.len() as u64)?;
        incoming.add(&self.parts, &self.checker, bytes)
    }

    /// Looks how far it is. Complete files are synced and verified, every byte, while more comes.
    ///
    /// # Errors
    /// `Corrupt` if a file is not the one that was announced: it has to be sent again. `DiskFull` if users'
    /// writes need the space: what was received is gone then.
    pub fn settle(&mut self) -> Result<Settled> {
        let has_space = self.parts.admit_received(0);
        has_space.map_err(|error| self.give_way(error))?;
        let (parts, files) = (&self.parts, &mut self.files);
        files.iter_mut().try_for_each(|incoming| incoming.settle(parts))?;
        Ok(if self.is_settled() { Settled::Yes } else { Settled::NotYet })
    }

    fn is_settled(&self) -> bool {
        self.files.iter().all(Received::is_whole)
    }

    /// Makes all files the content of the scope, durably.
    ///
    /// # Errors
    /// `InvalidInput` if it is not settled, or if the scope is not empty any more. Nothing was changed
    /// then.
    pub fn install(mut self) -> Result<()> {
        if !self.is_settled() {
            return Err(Error::invalid("not all bytes of the export are here and verified"));
        }
        let parts = self.parts.clone();
        let folder = RelPath::folder(base::dir::TABLES_DIR);
        let path = || full_path(&*parts.fs, &folder);
        parts.fs.sync_dir(&folder).map_err(|e| Error::io("sync", path(), e))?;
        let added = self.numbered()?;
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
            self.files.iter().map(|incoming| (incoming.file.id, incoming.meta.id)).collect();
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
    let DeltaHead { vector, floor, dropped } = &head.state;
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
    let authors = catalog.origins.len().max(head.state.vector.len());
    if authors >= Vector::LEN_MAX {
        // This node comes besides.
        return Err(Error::too_large("number of authors", Vector::LEN_MAX as u64, authors as u64));
    }
    let of_scope = catalog.added.iter().all(|added| added.meta.scope == scope)
        && catalog.keyspaces.iter().all(|keyspace| keyspace.scope == scope);
    if !of_scope {
        return Err(broken("its catalog speaks of another scope"));
    }
    catalog.keyspaces.iter().try_for_each(|keyspace| check_name_of_peer(&keyspace.name))?;
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
    let files = head.files.iter().map(|file| (file.id, (file.len, file.root)));
    let meta_of = |added: &Added| (added.meta.id, (added.meta.len, added.meta.root));
    let tables = catalog.added.iter().map(meta_of);
    let (files, tables): (BTreeMap<_, _>, BTreeMap<_, _>) = (files.collect(), tables.collect());
    if files != tables || files.len() != head.files.len() {
        return Err(broken("files and tables are not the same"));
    }
    if head.files.iter().any(|file| file.len == 0) {
        return Err(broken("a table has no bytes"));
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
    // By name it is the same to users, and stays on this node.
    let comes =
        |name: &str| catalog.keyspaces.iter().any(|it| it.name == name && it.dropped.is_none());
    let mut others = state.keyspaces.values().filter(|known| known.scope != scope);
    if let Some(known) = others.find(|known| known.dropped.is_none() && comes(&known.name)) {
        return Err(Error::ConfigMismatch {
            what: "the keyspace's scope",
            stored: known.scope.0.to_string(),
            given: scope.0.to_string(),
        });
    }
    let is_taken = |keyspace: &&KeyspaceRecord| {
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

impl Drop for Import {
    /// What was received is kept for the next try.
    fn drop(&mut self) {
        let files = std::mem::take(&mut self.files).into_iter();
        let (mut growing, mut kept): (Vec<_>, Vec<_>) = files.partition(Received::is_growing);
        // Whoever announces files and breaks off, again and again, leaves no more than one open.
        growing.sort_unstable_by_key(|incoming| incoming.received);
        kept.extend(growing.pop_if(|most| most.received > 0));
        growing.iter().for_each(|incoming| incoming.discard(&self.parts));
        self.parts.admissions.keep_received(kept);
    }
}

impl std::fmt::Debug for Import {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Import {{ files: {} }}", self.files.len())
    }
}
