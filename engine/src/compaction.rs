//! Merging runs down.
//!
//! Lazy leveling (Dayan & Idreos, "Dostoevsky", SIGMOD 2018): upper runs pile up unmerged; the last
//! level is one run. The picker decides what to merge as a pure function of the version; this file
//! does it.

pub(crate) mod forgettable;
pub(crate) mod picker;

use crate::floors::Floors;
use crate::merge::{Merge, RunCursor, Source};
use crate::origins::Origins;
use crate::output::{Depth, IsFirst, Output, OutputHost, OutputPlan};
use crate::range_map::RangeMap;
use crate::resolve::{Policy, Resolve, Stored, Verdict};
use crate::tables::{TableHandle, Tables};
use base::fs::Fs;
use base::{Error, Result, ScopeId, SpaceId, Tick, key_hash};
use picker::Job;
use sstable::manifest::{Added, Edit, LAST_LEVEL};
use sstable::{ReadMode, Table, TableMeta};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

/// What a job's result says, for the one who installs it.
pub(crate) struct Outcome {
    /// The edit that replaces the inputs by the outputs.
    pub(crate) edit: Edit,
    /// Bytes of tables written.
    pub(crate) bytes_written: u64,
}

/// What a job needs from those around it.
pub(crate) struct Workshop<'a> {
    /// The disk.
    pub(crate) fs: Arc<dyn Fs>,
    /// Tables in use.
    pub(crate) tables: &'a Tables,
    /// Numbers and settings.
    pub(crate) host: &'a dyn OutputHost,
    /// How outputs are written; the depth is the job's.
    pub(crate) plan: OutputPlan,
    /// Read points that snapshots hold, ascending.
    pub(crate) held: Vec<Tick>,
    /// Versions above are all kept.
    pub(crate) horizon: Tick,
    /// The wall clock.
    pub(crate) now_ms: u64,
    /// The authors that entries name.
    pub(crate) origins: Arc<Origins>,
    /// Up to where tombstones may go.
    pub(crate) floors: Floors,
    /// Whether all entries of the keyspace may be forgotten.
    pub(crate) is_dropped: &'a dyn Fn(SpaceId) -> bool,
    /// Asked between entries, and told the bytes of those since it was last asked; true ends the job
    /// with [`base::Error::Cancelled`].
    pub(crate) is_cancelled: &'a dyn Fn(u64) -> bool,
}

/// Merges the inputs of `job` into new tables.
pub(crate) fn run(job: &Job, workshop: &Workshop<'_>) -> Result<Outcome> {
    let handle = |meta: &Arc<TableMeta>| workshop.tables.handle(meta);
    let handles = || job.inputs.iter().flatten().map(handle);
    // A table of range deletes only is in no order with the others of its run.
    let with_entries =
        |run: &Vec<_>| run.iter().map(handle).filter(|handle| handle.has_entries()).collect();
    let inputs: Vec<Arc<[Arc<TableHandle>]>> = job.inputs.iter().map(with_entries).collect();
    let mut ranges = RangeMap::default();
    let mut spaces = BTreeSet::new();
    for handle in handles() {
        let table = handle.table()?;
        ranges.add(table.range_deletes().iter().cloned(), table.local());
        spaces.extend(table.spaces().map(|(space, _)| space));
    }
    let Workshop { held, horizon, now_ms, origins, floors, .. } = workshop;
    let policy = Policy::new(held, *horizon, *now_ms, job.bottom, ranges, origins.clone())
        .above(floors.clone());
    let depth = if job.level == LAST_LEVEL { Depth::Last } else { Depth::Upper };
    let plan = OutputPlan { depth, ..workshop.plan.clone() };
    let kept_ranges = policy.surviving_ranges().cloned().collect();
    let mut output = Output::new(plan, workshop.fs.clone(), workshop.host, kept_ranges);
    let mut older = Overlap::over(&job.older, workshop.tables)?;
    let mut dropped = Dropped::new();
    policy.dropped_ranges().for_each(|(scope, stamp)| note(&mut dropped, scope, Some(stamp)));
    for space in spaces.into_iter().filter(|space| !(workshop.is_dropped)(*space)) {
        let cursors = inputs
            .iter()
            .map(|tables| Source::Run(RunCursor::over(tables.clone(), space, ReadMode::Bypass)));
        let mut merge = Merge::new(cursors.collect());
        merge.seek_first()?;
        let stamp = write_space_until(
            &mut merge,
            space,
            &policy,
            &mut output,
            &mut older,
            workshop.is_cancelled,
        )?;
        note(&mut dropped, space.scope(), stamp);
    }
    let mut written = output.finish()?;
    if let Some(first) = written.first_mut() {
        first.shadowed = older.hits();
    }
    Ok(outcome(job, written, dropped))
}

/// The highest tick of the stamp of a tombstone that went, per scope.
type Dropped = BTreeMap<ScopeId, Tick>;

fn note(dropped: &mut Dropped, scope: ScopeId, stamp: Option<Tick>) {
    if let Some(stamp) = stamp {
        let highest = dropped.entry(scope).or_default();
        *highest = stamp.max(*highest);
    }
}

fn outcome(job: &Job, written: Vec<TableMeta>, dropped: Dropped) -> Outcome {
    let metas = || job.inputs.iter().flatten();
    let bytes_written = written.iter().map(|meta| meta.len).sum();
    let added = written.into_iter().map(|meta| Added {
        order: job.order,
        level: job.level,
        meta: Arc::new(meta),
    });
    let edit = Edit {
        added: added.collect(),
        removed: metas().map(|meta| meta.id).collect(),
        dropped_stamps: dropped.into_iter().collect(),
        ..Edit::default()
    };
    Outcome { edit, bytes_written }
}

/// Writes what the policy keeps of the entries under `merge`, all of `space`.
pub(crate) fn write_space(
    merge: &mut Merge,
    space: SpaceId,
    policy: &Policy,
    output: &mut Output<'_>,
    older: &mut Overlap,
) -> Result<()> {
    write_space_until(merge, space, policy, output, older, &|_| false).map(|_| ())
}

/// As [`write_space`], until cancelled. Returns the highest tick of the stamps of tombstones that went.
fn write_space_until(
    merge: &mut Merge,
    space: SpaceId,
    policy: &Policy,
    output: &mut Output<'_>,
    older: &mut Overlap,
    is_cancelled: &dyn Fn(u64) -> bool,
) -> Result<Option<Tick>> {
    let mut resolve = Resolve::new(policy);
    let own = output.owner().origin;
    let mut key = Vec::new();
    let mut is_first = IsFirst::Yes;
    let mut dropped = None;
    let (mut until_check, mut bytes) = (CHECK_EVERY, 0);
    while merge.is_valid() {
        if merge.key() != key {
            key.clear();
            key.extend_from_slice(merge.key());
            resolve.next_key();
            is_first = IsFirst::Yes;
        }
        let (trailer, value) = (merge.trailer(), merge.value());
        let local = merge.local().unwrap_or(own);
        let version = Stored { space, key: &key, trailer, value, local };
        match resolve.version(&version) {
            Verdict::Keep => {
                output.add_stored(&version, is_first)?;
                if is_first == IsFirst::Yes {
                    older.probe(space, &key);
                }
                is_first = IsFirst::No;
            }
            Verdict::KeepAsDelete => {
                output.add_expired(&version, is_first)?;
                is_first = IsFirst::No;
            }
            Verdict::Drop => {}
            Verdict::DropTombstone(stamp) => dropped = dropped.max(Some(stamp)),
        }
        let weight = 1 + value.len() / BYTES_PER_ENTRY;
        bytes += (key.len() + value.len()) as u64;
        merge.step()?;
        until_check = until_check.saturating_sub(weight);
        if until_check == 0 {
            until_check = CHECK_EVERY;
            if is_cancelled(std::mem::take(&mut bytes)) {
                return Err(Error::Cancelled);
            }
        }
    }
    if is_cancelled(bytes) {
        return Err(Error::Cancelled);
    }
    Ok(dropped)
}

/// Entries between two looks at whether to stop.
const CHECK_EVERY: usize = 4096;
/// A value of so many bytes counts as one more entry.
const BYTES_PER_ENTRY: usize = 1024;

/// Guesses how many entries of a run hide older ones: asks the filters of the older tables about
/// one key in eight.
#[derive(Debug, Default)]
pub(crate) struct Overlap {
    older: Vec<Arc<Table>>,
    hits: u64,
}

impl Overlap {
    /// Keys asked: one in this many.
    const SAMPLE: u64 = 8;

    /// Asks the tables that `metas` describe.
    pub(crate) fn over(metas: &[Arc<TableMeta>], tables: &Tables) -> Result<Overlap> {
        let open = |meta: &Arc<TableMeta>| match tables.handle(meta).table() {
            // It is only a guess, and a flush must not fail because an older table is damaged.
            Err(Error::Corrupt { .. } | Error::Missing { .. }) => None,
            opened => Some(opened.cloned()),
        };
        Ok(Overlap { older: metas.iter().filter_map(open).collect::<Result<_>>()?, hits: 0 })
    }

    /// Asks about one key.
    #[inline]
    pub(crate) fn probe(&mut self, space: SpaceId, key: &[u8]) {
        if self.older.is_empty() {
            return;
        }
        let hash = key_hash(space, key);
        if hash.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 61 != 0 {
            return;
        }
        let mut older = self.older.iter();
        if older.any(|table| table.meta().covers(space, key) && table.may_contain(hash)) {
            self.hits += Self::SAMPLE;
        }
    }

    /// The estimate.
    pub(crate) fn hits(&self) -> u64 {
        self.hits
    }
}
