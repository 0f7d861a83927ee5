//! Tombstones that came to the last level when somebody still needed them, and that nobody needs any more,
//! because the floor has risen or what read before them is gone. No write would ever come across them.

use super::picker::{self, Job};
use crate::floors::Floors;
use crate::parts::Parts;
use base::foreign::NumberedStamp;
use base::{Result, Tick};
use sstable::TableMeta;
use std::collections::BTreeSet;
use std::sync::Arc;

/// Tables that kept tombstones although all seemed to be needless: what an erase was meant for is not
/// told by what the manifest knows. They are not looked at again in this life of the process.
#[derive(Debug, Default)]
pub(crate) struct Stubborn {
    tables: BTreeSet<u64>,
}

impl Stubborn {
    /// Notes which of the tables from the number `first` on are such, of which `parts` knows now.
    pub(crate) fn note(&mut self, parts: &Parts, first: u64) {
        let version = parts.installer.version();
        let live: BTreeSet<u64> = version.tables().map(|meta| meta.id).collect();
        let with_tombstones = version.tables().filter(|it| it.id >= first && it.tombstones > 0);
        self.tables.retain(|id| live.contains(id));
        self.tables.extend(with_tombstones.map(|meta| meta.id));
    }
}

/// A table of the last level whose tombstones may all go, as a job of its own.
pub(crate) fn pick(parts: &Parts, stubborn: &Stubborn) -> Result<Option<Job>> {
    let oldest_read = parts.snapshots.points().into_iter().chain([parts.horizon()]).min();
    let floors = parts.installer.with_state(Floors::of);
    let version = parts.installer.version();
    for table in picker::with_tombstones(&version) {
        let is_read = oldest_read.is_none_or(|oldest| table.newest() > oldest);
        if !is_read && !stubborn.tables.contains(&table.id) && are_covered(parts, &floors, table)? {
            return Ok(picker::alone(&version, table));
        }
    }
    Ok(None)
}

/// Whether the floor covers everything in the table that may be a tombstone.
fn are_covered(parts: &Parts, floors: &Floors, table: &Arc<TableMeta>) -> Result<bool> {
    if floors.is_present(table.scope) {
        return Ok(true);
    }
    let local = parts.tables.handle(table).table()?.local();
    let is_covered = |(origin, latest): (_, Tick)| {
        let tick = latest.min(table.tombstone_stamp_max);
        let stamp = parts.origins.stamp(NumberedStamp { origin, tick }, || local);
        floors.covers(table.scope, stamp)
    };
    Ok(table.latest().all(is_covered))
}
