//! Memtables to tables.

use crate::compaction::{Overlap, write_space};
use crate::memtable::Memtable;
use crate::merge::{Merge, Source};
use crate::output::Output;
use crate::resolve::Policy;
use base::{Result, SpaceId};
use sstable::TableMeta;
use std::collections::BTreeSet;
use std::sync::Arc;

/// Writes what `memtables` (newest first) hold to `output`, without the versions that nobody can
/// read any more. Returns the tables of one run, and how many of its entries `older` suggests hide
/// older ones.
pub(crate) fn write_memtables(
    memtables: &[Arc<Memtable>],
    policy: &Policy,
    mut output: Output<'_>,
    older: &mut Overlap,
) -> Result<Vec<TableMeta>> {
    let spaces: BTreeSet<SpaceId> =
        memtables.iter().flat_map(|memtable| memtable.spaces()).collect();
    for space in spaces {
        let cursors = memtables.iter().map(|memtable| Source::Memtable(memtable.cursor(space)));
        let mut merge = Merge::new(cursors.collect());
        merge.seek_first()?;
        write_space(&mut merge, space, policy, &mut output, older)?;
    }
    let mut tables = output.finish()?;
    if let Some(first) = tables.first_mut() {
        first.shadowed = older.hits();
    }
    Ok(tables)
}
