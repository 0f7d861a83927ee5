//! Tombstones that came to the last level when somebody still needed them, and that nobody needs any more,
//! because the floor has risen or what read before them is gone. No write would ever come across them.

use super::picker::{self, Job};
use crate::floors::Floors;
use crate::parts::Parts;
use base::foreign::NumberedStamp;
use base::{Result, Tick};
use sstable::TableMeta;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

/// Tables that kept tombstones although all seemed to be needless: of an erase the manifest knows the
/// victim, not the commit that brought it.
#[derive(Debug, Default)]
pub(crate) struct Stubborn {
    tables: BTreeMap<u64, Again>,
}

/// When such a table is written anew once more.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Again {
    /// Once the floor covers all that it holds, so every commit that brought an erase too.
    OnceAllIsCovered,
    /// Not in this life of the process: that was so.
    Never,
}

/// What of a table is to be covered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Part {
    Tombstones,
    All,
}

/// A table of the last level whose tombstones may all go.
#[derive(Debug)]
pub(crate) struct Forgettable {
    /// It is written anew by this.
    pub(crate) job: Job,
    again: Again,
}

impl Stubborn {
    /// Notes which of the tables `written` for `forgettable` are such.
    pub(crate) fn note(&mut self, parts: &Parts, forgettable: &Forgettable, written: &[u64]) {
        let version = parts.installer.version();
        let live: BTreeSet<u64> = version.tables().map(|meta| meta.id).collect();
        let kept = version.tables().filter(|it| written.contains(&it.id) && it.tombstones > 0);
        self.tables.retain(|id, _| live.contains(id));
        self.tables.extend(kept.map(|meta| (meta.id, forgettable.again)));
    }
}

/// The next such table.
pub(crate) fn pick(parts: &Parts, stubborn: &Stubborn) -> Result<Option<Forgettable>> {
    let oldest_read = parts.snapshots.points().into_iter().chain([parts.horizon()]).min();
    let floors = parts.installer.with_state(Floors::of);
    let version = parts.installer.version();
    for table in picker::with_tombstones(&version) {
        let part = match stubborn.tables.get(&table.id) {
            None => Part::Tombstones,
            Some(Again::OnceAllIsCovered) => Part::All,
            Some(Again::Never) => continue,
        };
        let is_read = oldest_read.is_none_or(|oldest| table.newest() > oldest);
        if is_read || !is_covered(parts, &floors, table, part)? {
            continue;
        }
        let again = match is_covered(parts, &floors, table, Part::All)? {
            true => Again::Never,
            false => Again::OnceAllIsCovered,
        };
        return Ok(picker::alone(&version, table).map(|job| Forgettable { job, again }));
    }
    Ok(None)
}

/// Whether the floor covers everything in that part of the table: at least all that may be a tombstone.
fn is_covered(parts: &Parts, floors: &Floors, table: &Arc<TableMeta>, part: Part) -> Result<bool> {
    if floors.is_present(table.scope) {
        return Ok(true);
    }
    let local = parts.tables.handle(table).table()?.local();
    let is_covered = |(origin, latest): (_, Tick)| {
        let tick = match part {
            Part::Tombstones => latest.min(table.tombstone_stamp_max),
            Part::All => latest,
        };
        let stamp = parts.origins.stamp(NumberedStamp { origin, tick }, || local);
        floors.covers(table.scope, stamp)
    };
    Ok(table.latest().all(is_covered))
}
