//! Bulk load of sorted entries: straight into tables.
//!
//! The tables are written with seqno 0 before anything is locked. Then the ingest takes its place in
//! the order of commits as a barrier: what came before is flushed, so that newer runs hold newer
//! entries; the tables are installed with the barrier's tick as the seqno of all their entries.
//!
//! The log does not have them, so a peer that is behind it gets them as state.

use crate::bounds::successor;
use crate::commit::Queue;
use crate::conflicts::KeyRange;
use crate::jobs;
use crate::keyspace::KeyspaceState;
use crate::output::{IsFirst, Output, OutputPlan};
use crate::parts::Parts;
use crate::space::Weight;
use base::limits::{check_key, check_value};
use base::{EntryKind, Error, Result, ScopeId, SpaceId, Tick, Trailer, Vector};
use sstable::TableMeta;
use sstable::manifest::{Added, Edit, State};
use std::sync::Arc;

/// Stores `entries` in `keyspace` as one commit.
pub(crate) fn ingest<K: AsRef<[u8]>, V: AsRef<[u8]>>(
    parts: &Parts,
    keyspace: &KeyspaceState,
    entries: impl IntoIterator<Item = (K, V)>,
) -> Result<Tick> {
    keyspace.check_live()?;
    parts.commits.check_writable()?;
    parts.damage.check()?;
    parts.probe_if_nobody_does();
    parts.space.admit(Weight::Puts)?;
    let plan = parts.output_plan(parts.options.table_bytes);
    let author = plan.owner.origin;
    let written = write(parts, plan, keyspace, entries)?;
    if written.is_empty() {
        return Ok(parts.commits.visible());
    }
    let ids: Vec<u64> = written.iter().map(|meta| meta.id).collect();
    let times_freed = parts.space.times_freed();
    if !parts.affords(0) && parts.space.note_full_since(times_freed) {
        // What is in memory could not be flushed any more.
        ids.into_iter().for_each(|id| parts.obsolete.discard(parts, id));
        return Err(parts.space.error());
    }
    let ranges = written.iter().map(|meta| key_range(keyspace.space, meta));
    let scope = keyspace.space.scope();
    let claim = |queue: &mut Queue, seqno: Tick| {
        ranges.for_each(|range| queue.conflicts().note_range(seqno, range));
        queue.note_bulk_load(scope, seqno)
    };
    // Nobody begins another life from the claim on, but while tables were written somebody may. A place
    // that is claimed for nothing would be a commit that nobody has.
    let may = || match parts.identity().origin() == author {
        true => keyspace.check_live(),
        false => Err(Error::Renewed),
    };
    let installed = parts.commits.barrier_if(may, claim, |barrier| {
        jobs::flush_up_to(parts, barrier.before)?;
        keyspace.check_live()?;
        install(parts, scope, &written, barrier.seqno)?;
        Ok(barrier.seqno)
    });
    if let Ok(place) = installed {
        // The log has none of the entries.
        parts.commits.bear_witness(parts.installer.durable(), place);
    }
    if installed.is_err() {
        ids.into_iter().for_each(|id| parts.installer.free(base::FileName::Table(id)));
    }
    parts.update_pressure();
    parts.compaction_bell.ring();
    installed
}

fn write<K: AsRef<[u8]>, V: AsRef<[u8]>>(
    parts: &Parts,
    plan: OutputPlan,
    keyspace: &KeyspaceState,
    entries: impl IntoIterator<Item = (K, V)>,
) -> Result<Vec<TableMeta>> {
    let mut output = Output::new(plan, parts.fs.clone(), parts, Vec::new());
    let mut last: Option<Vec<u8>> = None;
    for (key, value) in entries {
        let (key, value) = (key.as_ref(), value.as_ref());
        check_key(key)?;
        check_value(value)?;
        if last.as_deref().is_some_and(|last| last >= key) {
            return Err(Error::invalid("an ingested key does not ascend; sort the input"));
        }
        let trailer = Trailer::new(Tick::ZERO, EntryKind::Put);
        output.add(keyspace.space, key, trailer, value, IsFirst::Yes)?;
        let last = last.get_or_insert_default();
        last.clear();
        last.extend_from_slice(key);
    }
    output.finish()
}

/// The keys that the table may hold.
fn key_range(space: SpaceId, meta: &TableMeta) -> KeyRange {
    (space, (*meta.smallest.key).into(), successor(&meta.largest.key).into())
}

fn install(parts: &Parts, scope: ScopeId, written: &[TableMeta], seqno: Tick) -> Result<()> {
    let vector = Vector::from_iter([(parts.identity().origin(), seqno)]);
    let edit = |state: &State| {
        let order = state.version.next_order();
        let added = written.iter().map(|meta| {
            let meta = TableMeta { seqno_override: Some(seqno), ..meta.clone() };
            Added { order, level: 0, meta: Arc::new(meta) }
        });
        let added = added.collect();
        Edit {
            added,
            flushed: Some(seqno),
            last_tick: Some(seqno),
            ingests: vec![seqno],
            vectors: scope.is_replicated().then_some((scope, vector)).into_iter().collect(),
            ..Edit::default()
        }
    };
    parts.install(edit, |_| {})
}
