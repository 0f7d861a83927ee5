//! A damaged table is replaced by what verifies of it.
//!
//! Every block that verifies is written into a new table; one edit swaps the two and marks the scope
//! as incomplete; the damaged file goes to `quarantine/` before that, by recovery's hand. What the lost
//! blocks hid in older tables shows again: whoever chooses this prefers to go on.

use crate::damage::LostRange;
use crate::output::{Depth, IsFirst, Output, OutputPlan};
use crate::parts::Parts;
use base::fs::full_path;
use base::{Error, FileName, Result, ScopeId, SpaceId};
use sstable::manifest::{Added, Edit, LAST_LEVEL, State};
use sstable::table::{LostBlock, salvage};
use sstable::{Cache, Table, TableMeta, TableOwner};
use std::sync::Arc;

/// Replaces every table that is known to be damaged. Returns whether there was one.
pub(crate) fn replace_damaged(parts: &Parts) -> Result<bool> {
    let tables = parts.damage.to_replace();
    tables.iter().try_for_each(|table| replace(parts, *table))?;
    Ok(!tables.is_empty())
}

/// Where a table stands.
type Place = (u64, u8, Arc<TableMeta>);

/// Where a table stands that is damaged; one that is not is forgotten. While it can not be read, nothing
/// is known of it.
fn place_of(parts: &Parts, id: u64) -> Result<Option<Place>> {
    let version = parts.installer.version();
    let place = version.runs().iter().find_map(|run| {
        let meta = run.tables.iter().find(|meta| meta.id == id)?;
        Some((run.order, run.level, meta.clone()))
    });
    if let Some(place) = place
        && is_damaged(parts, &place.2)?
    {
        return Ok(Some(place));
    }
    parts.damage.forget_table(id);
    Ok(None)
}

/// What verifies of a damaged table, in tables that no edit names yet.
#[derive(Debug)]
pub(crate) struct Remains {
    /// The damaged table.
    pub(crate) id: u64,
    /// What takes its place.
    pub(crate) added: Vec<Added>,
}

/// What verifies of the damaged tables of `scope` that a peer is to make whole. Their files are in
/// quarantine afterwards; the tables themselves stay until an edit removes them. Nothing may be merged
/// meanwhile.
pub(crate) fn remains_of(parts: &Parts, scope: ScopeId) -> Result<Vec<Remains>> {
    let mut all = Vec::new();
    for id in parts.damage.to_heal() {
        let Some((order, level, meta)) = place_of(parts, id)? else { continue };
        if meta.scope != scope {
            continue;
        }
        let depth = if level == LAST_LEVEL { Depth::Last } else { Depth::Upper };
        let plan = OutputPlan { depth, ..parts.output_plan(u64::MAX) };
        recovery::set_table_aside(&parts.fs, parts.generation, id)?;
        let (written, _) = parts.space.with_reserve(|| rescue(parts, &meta, plan.clone()))?;
        let added = written.into_iter().map(|meta| Added { order, level, meta: Arc::new(meta) });
        all.push(Remains { id, added: added.collect() });
    }
    Ok(all)
}

fn replace(parts: &Parts, id: u64) -> Result<()> {
    let _compacting = parts.compacting.lock();
    let Some((order, level, meta)) = place_of(parts, id)? else { return Ok(()) };
    let depth = if level == LAST_LEVEL { Depth::Last } else { Depth::Upper };
    let plan = OutputPlan { depth, ..parts.output_plan(u64::MAX) };
    recovery::set_table_aside(&parts.fs, parts.generation, id)?;
    let (written, lost) = parts.space.with_reserve(|| rescue(parts, &meta, plan.clone()))?;
    let numbers: Vec<u64> = written.iter().map(|meta| meta.id).collect();
    let incomplete = vec![(meta.scope, parts.commits.visible())];
    let added =
        written.into_iter().map(|meta| Added { order, level, meta: Arc::new(meta) }).collect();
    let edit = Edit { added, removed: vec![id], incomplete, ..Edit::default() };
    let edit = |_: &State| {
        parts.damage.count_salvage();
        edit
    };
    parts.install_written(&numbers, edit, |_| {})?;
    tracing::error!(target: "esker", table = id, ranges = lost.len(), "a damaged table was replaced by what verifies of it");
    parts.damage.note_lost(lost);
    parts.obsolete.delete(parts);
    Ok(())
}

/// Whether it still is: what a read met may have been a mishap on the way.
fn is_damaged(parts: &Parts, meta: &Arc<TableMeta>) -> Result<bool> {
    let cache = Cache::new(1 << 20);
    let opened = Table::open(parts.fs.as_ref(), meta.clone(), parts.identity().database, cache);
    match opened.and_then(|table| table.verify()) {
        Ok(_) => Ok(false),
        Err(Error::Corrupt { .. } | Error::Missing { .. }) => Ok(true),
        Err(error) => Err(error),
    }
}

/// Writes what verifies of a table. Returns the new tables and what is lost.
fn rescue(
    parts: &Parts,
    meta: &TableMeta,
    plan: OutputPlan,
) -> Result<(Vec<TableMeta>, Vec<LostRange>)> {
    let damaged = match salvage(parts.fs.as_ref(), meta, parts.identity().database) {
        Ok(damaged) => damaged,
        Err(Error::Corrupt { .. } | Error::Missing { .. }) => {
            return Ok((Vec::new(), vec![everything(parts, meta)]));
        }
        Err(error) => return Err(error),
    };
    let (ranges, are_ranges_lost) = match damaged.range_deletes() {
        Ok(ranges) => (ranges.to_vec(), false),
        Err(_) => (Vec::new(), true),
    };
    // What is left of it is still of the life that wrote it.
    let local = damaged.local().or_else(|| plan.authors.origin(meta.local));
    let local = local.unwrap_or(plan.owner.origin);
    let owner = TableOwner { origin: local, ..plan.owner };
    let plan = OutputPlan { owner, authors: plan.authors.as_seen_by(local), ..plan };
    let mut output = Output::new(plan, parts.fs.clone(), parts, ranges);
    let mut last: Option<(SpaceId, Vec<u8>)> = None;
    let blocks = damaged.read(|space, key, trailer, value| {
        let is_same = last.as_ref().is_some_and(|(of, last)| *of == space && last == key);
        if !is_same {
            last = Some((space, key.to_vec()));
        }
        let first = if is_same { IsFirst::No } else { IsFirst::Yes };
        output.add(space, key, trailer, value, first)
    })?;
    let mut lost: Vec<LostRange> =
        blocks.iter().map(|block| of_block(parts, meta, block)).collect();
    if are_ranges_lost {
        lost.push(everything(parts, meta));
    }
    Ok((output.finish()?, lost))
}

fn of_block(parts: &Parts, meta: &TableMeta, block: &LostBlock) -> LostRange {
    LostRange {
        keyspace: parts.catalog.name_of(block.space),
        first: block.first.to_vec(),
        last: block.last.to_vec(),
        file: full_path(parts.fs.as_ref(), &FileName::Table(meta.id).path()),
    }
}

fn everything(parts: &Parts, meta: &TableMeta) -> LostRange {
    LostRange {
        keyspace: parts.catalog.name_of(meta.smallest.space),
        first: meta.smallest.key.to_vec(),
        last: meta.largest.key.to_vec(),
        file: full_path(parts.fs.as_ref(), &FileName::Table(meta.id).path()),
    }
}
