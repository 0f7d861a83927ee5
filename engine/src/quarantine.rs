//! A damaged table is replaced by what verifies of it.
//!
//! Every block that verifies is written into a new table; one edit swaps the two and marks the scope
//! as incomplete; the damaged file goes to `quarantine/` before that, by recovery's hand. What the lost
//! blocks hid in older tables shows again: whoever chooses this prefers to go on.

use crate::damage::{LostRange, Missing};
use crate::output::{Depth, IsFirst, Output, OutputPlan};
use crate::parts::Parts;
use base::fs::full_path;
use base::{Error, FileName, KeyRange, Result, ScopeId, SpaceId};
use sstable::manifest::{Added, Edit, LAST_LEVEL, State};
use sstable::table::{LostBlock, Salvage, salvage};
use sstable::{Cache, RangeDelete, Table, TableMeta, TableOwner};
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
    /// What it had besides.
    pub(crate) missing: Missing,
}

/// What the damaged tables of `scope` had that a peer is to bring, as far as is known. Each table is read
/// once for that.
pub(crate) fn missing_of(parts: &Parts, scope: ScopeId) -> Result<Missing> {
    let mut all = Vec::new();
    for id in parts.damage.to_heal() {
        let known = match parts.damage.missing(id) {
            Some(known) => known,
            None => match place_of(parts, id)? {
                Some((_, _, meta)) if meta.scope == scope => look(parts, &meta)?,
                _ => continue,
            },
        };
        parts.damage.note_missing(id, known.clone());
        match known {
            Missing::Anything => return Ok(Missing::Anything),
            Missing::Ranges(ranges) => all.extend(ranges),
        }
    }
    Ok(Missing::Ranges(all))
}

/// What a damaged table lacks.
fn look(parts: &Parts, meta: &TableMeta) -> Result<Missing> {
    let damaged = salvaged(parts, meta)?;
    let blocks = damaged.as_ref().map(|damaged| damaged.read(|_, _, _, _| Ok(()))).transpose()?;
    let ranges = ranges_of(parts, meta, damaged.as_ref());
    Ok(missing(parts, meta, ranges.as_ref(), blocks.as_deref()))
}

/// What of the table can be read; none if nothing can.
fn salvaged(parts: &Parts, meta: &TableMeta) -> Result<Option<Salvage>> {
    match salvage(parts.fs.as_ref(), meta, parts.identity().database) {
        Ok(damaged) => Ok(Some(damaged)),
        Err(Error::Corrupt { .. } | Error::Missing { .. }) => Ok(None),
        Err(error) => Err(error),
    }
}

/// The range deletes of a damaged table: who reads has had them in memory since it was opened. None if
/// they are lost.
fn ranges_of(
    parts: &Parts,
    meta: &TableMeta,
    damaged: Option<&Salvage>,
) -> Option<Vec<RangeDelete>> {
    if meta.range_deletes == 0 {
        return Some(Vec::new());
    }
    let known = opened(parts, meta).map(|table| table.range_deletes().to_vec());
    known.or_else(|| damaged?.range_deletes().ok().map(<[_]>::to_vec))
}

/// The table, if it was opened when it was whole.
fn opened(parts: &Parts, meta: &TableMeta) -> Option<Arc<Table>> {
    let view = parts.views.current();
    let handle = view.runs.tables().find(|handle| handle.meta().id == meta.id)?;
    handle.opened().cloned()
}

/// What went with `blocks` of a table, or with all of it. Range deletes may hide keys of any other table.
fn missing(
    parts: &Parts,
    meta: &TableMeta,
    ranges: Option<&Vec<RangeDelete>>,
    blocks: Option<&[LostBlock]>,
) -> Missing {
    let Some(blocks) = blocks.filter(|_| ranges.is_some()) else {
        return if ranges.is_some() { all_of(parts, meta) } else { Missing::Anything };
    };
    let range = |block: &LostBlock| {
        // Nobody misses the keys of a keyspace that was dropped.
        let state = parts.catalog.of_space(block.space)?;
        Some(KeyRange::between(&state.name, &block.first, &block.last))
    };
    Missing::Ranges(blocks.iter().filter_map(range).collect())
}

/// What goes with all entries of a table.
fn all_of(parts: &Parts, meta: &TableMeta) -> Missing {
    let (first, last) = (&meta.smallest, &meta.largest);
    let spaces = parts.catalog.live().into_iter();
    let inside = spaces.filter(|state| (first.space..=last.space).contains(&state.space));
    let ranges = inside.map(|state| {
        let (keyspace, mut start, mut end) = (state.name.clone(), Vec::new(), Vec::new());
        if state.space == first.space {
            start = first.key.to_vec();
        }
        if state.space == last.space {
            end = [&*last.key, &[0]].concat();
        }
        KeyRange { keyspace, start, end }
    });
    Missing::Ranges(ranges.collect())
}

/// Adds to `all` what verifies of the damaged tables of `scope` that a peer is to make whole; of some, if
/// it fails. Their files are in quarantine afterwards; the tables themselves stay until an edit removes
/// them. Nothing may be merged meanwhile.
pub(crate) fn remains_of(parts: &Parts, scope: ScopeId, all: &mut Vec<Remains>) -> Result<()> {
    for id in parts.damage.to_heal() {
        let Some((order, level, meta)) = place_of(parts, id)? else { continue };
        if meta.scope != scope {
            continue;
        }
        let depth = if level == LAST_LEVEL { Depth::Last } else { Depth::Upper };
        let plan = OutputPlan { depth, ..parts.output_plan(u64::MAX) };
        recovery::set_table_aside(&parts.fs, parts.generation, id)?;
        let rescued = parts.space.with_reserve(|| rescue(parts, &meta, plan.clone()))?;
        let Rescued { written, missing, .. } = rescued;
        parts.damage.note_missing(id, missing.clone());
        let added = written.into_iter().map(|meta| Added { order, level, meta: Arc::new(meta) });
        all.push(Remains { id, added: added.collect(), missing });
    }
    Ok(())
}

fn replace(parts: &Parts, id: u64) -> Result<()> {
    let _compacting = parts.compacting.lock();
    let Some((order, level, meta)) = place_of(parts, id)? else { return Ok(()) };
    let depth = if level == LAST_LEVEL { Depth::Last } else { Depth::Upper };
    let plan = OutputPlan { depth, ..parts.output_plan(u64::MAX) };
    recovery::set_table_aside(&parts.fs, parts.generation, id)?;
    let rescued = parts.space.with_reserve(|| rescue(parts, &meta, plan.clone()))?;
    let Rescued { written, lost, .. } = rescued;
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
    tracing::error!(target: "esker::engine", code = "TableCorrupt", table = id, ranges = lost.len(), "a damaged table was replaced by what verifies of it");
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

/// What was saved of a table.
struct Rescued {
    written: Vec<TableMeta>,
    lost: Vec<LostRange>,
    missing: Missing,
}

/// Writes what verifies of a table into new ones.
fn rescue(parts: &Parts, meta: &TableMeta, plan: OutputPlan) -> Result<Rescued> {
    let damaged = salvaged(parts, meta)?;
    let ranges = ranges_of(parts, meta, damaged.as_ref());
    // What is left of it is still of the life that wrote it.
    let local = damaged.as_ref().and_then(Salvage::local);
    let local = local.or_else(|| opened(parts, meta).map(|table| table.local()));
    let local = local.or_else(|| plan.authors.origin(meta.local)).unwrap_or(plan.owner.origin);
    let owner = TableOwner { origin: local, ..plan.owner };
    let plan = OutputPlan { owner, authors: plan.authors.as_seen_by(local), ..plan };
    let kept = ranges.clone().unwrap_or_default();
    let mut output = Output::new(plan, parts.fs.clone(), parts, kept);
    let mut last: Option<(SpaceId, Vec<u8>)> = None;
    let blocks = damaged.map(|damaged| {
        damaged.read(|space, key, trailer, value| {
            let is_same = last.as_ref().is_some_and(|(of, last)| *of == space && last == key);
            if !is_same {
                last = Some((space, key.to_vec()));
            }
            let first = if is_same { IsFirst::No } else { IsFirst::Yes };
            output.add(space, key, trailer, value, first)
        })
    });
    let blocks = blocks.transpose()?;
    let missing = missing(parts, meta, ranges.as_ref(), blocks.as_deref());
    let of_blocks = |all: &Vec<LostBlock>| all.iter().map(|it| of_block(parts, meta, it)).collect();
    let lost = match &blocks {
        Some(blocks) if ranges.is_some() => of_blocks(blocks),
        _ => vec![everything(parts, meta)],
    };
    Ok(Rescued { written: output.finish()?, lost, missing })
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
