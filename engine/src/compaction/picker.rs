//! Which runs to merge next: a pure function of the version.
//!
//! Upper runs (levels below the last) pile up until there are [`Limits::upper_runs_max`]; then the
//! newest of similar size are merged into one. Everything is merged into the last level when the
//! upper runs hide too much of it ([`Limits::garbage_percent_max`]), when they have grown to a good
//! part of it and are many, or when nothing else is to do.

use crate::resolve::Bottom;
use base::{SpaceId, Tick};
use sstable::TableMeta;
use sstable::manifest::{LAST_LEVEL, Run, Version};
use std::sync::Arc;

/// When to merge.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Limits {
    /// Upper runs that may pile up.
    pub(crate) upper_runs_max: usize,
    /// Entries of the last level that upper runs may hide or delete, in percent of it.
    pub(crate) garbage_percent_max: u64,
    /// The wall clock: tables whose entries have all expired are dropped.
    pub(crate) now_ms: u64,
    /// Unless earlier reads may still see them: versions above it are all kept.
    pub(crate) horizon: Tick,
}

impl Default for Limits {
    fn default() -> Self {
        Limits { upper_runs_max: 12, garbage_percent_max: 15, now_ms: 0, horizon: Tick::MAX }
    }
}

/// How much there is to do besides compaction.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Load {
    /// Writes arrive: merge only what must be.
    Busy,
    /// Nothing was written for a while: tidy up.
    Idle,
}

/// Runs to merge into one.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Job {
    /// The tables to merge, by run, newest run first.
    pub(crate) inputs: Vec<Vec<Arc<TableMeta>>>,
    /// Tables older than the inputs.
    pub(crate) older: Vec<Arc<TableMeta>>,
    /// The place of the output among the runs.
    pub(crate) order: u64,
    /// The level of the output.
    pub(crate) level: u8,
    /// Whether nothing older lies in the range of the inputs.
    pub(crate) bottom: Bottom,
    /// Whether the tables only change their level.
    pub(crate) action: Action,
}

/// What to do with the inputs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Action {
    /// Merge them into new tables.
    Rewrite,
    /// Nothing overlaps: name them on the last level as they are.
    Move,
}

/// The next job for `version`, if any is due. `is_plain` says whether a keyspace's last level is
/// uncompressed, so that its tables may be moved there as they are.
pub(crate) fn pick(
    version: &Version,
    limits: &Limits,
    load: Load,
    is_plain: &dyn Fn(SpaceId) -> bool,
) -> Option<Job> {
    let (upper, last) = split(version.runs());
    if let Some(job) = movable(upper, last, is_plain) {
        return Some(job);
    }
    if upper.is_empty() {
        return last.and_then(|last| expired(version, last, limits));
    }
    let last_entries: u64 = last.map_or(0, |run| entries(run));
    let garbage: u64 = upper.iter().map(|run| garbage(run)).sum();
    if last.is_some() && garbage * 100 > last_entries * limits.garbage_percent_max {
        return Some(into_last(upper, last));
    }
    if upper.len() >= limits.upper_runs_max {
        return Some(relieve(upper, last));
    }
    let is_worth_it = last.is_none_or(|last| bytes(upper) * 20 > last.bytes());
    let has_deletes =
        upper.iter().any(|run| run.tables.iter().any(|t| t.range_deletes > 0 || t.tombstones > 0));
    match load {
        Load::Idle if is_worth_it || has_deletes || upper.len() > 2 => Some(into_last(upper, last)),
        _ => None,
    }
}

/// Everything, merged into the last level.
pub(crate) fn everything(version: &Version) -> Option<Job> {
    let (upper, last) = split(version.runs());
    if upper.is_empty() && last.is_none() {
        return None;
    }
    let runs: Vec<_> = upper.iter().chain(last).cloned().collect();
    Some(merge_of(&runs, &[], LAST_LEVEL, Bottom::Reached))
}

/// The tables of the last run with tombstones that could go without the other tables: a range delete
/// covers more than its table.
pub(crate) fn with_tombstones(version: &Version) -> impl Iterator<Item = &Arc<TableMeta>> {
    let (_, last) = split(version.runs());
    let tables = last.into_iter().flat_map(|run| &run.tables);
    tables.filter(|table| table.tombstones > 0 && table.range_deletes == 0)
}

/// A table of the last run, written anew by itself.
pub(crate) fn alone(version: &Version, table: &Arc<TableMeta>) -> Option<Job> {
    let (_, last) = split(version.runs());
    let mut job = merge_of(&[], &[], LAST_LEVEL, Bottom::Reached);
    (job.inputs, job.order) = (vec![vec![table.clone()]], last?.order);
    Some(job)
}

/// The upper runs and the last one.
fn split(runs: &[Arc<Run>]) -> (&[Arc<Run>], Option<&Arc<Run>>) {
    match runs.split_last() {
        Some((last, upper)) if last.level == LAST_LEVEL => (upper, Some(last)),
        _ => (runs, None),
    }
}

/// Too many upper runs: merges the newest ones of similar size, or all into the last level if the
/// upper runs together weigh half of it.
fn relieve(upper: &[Arc<Run>], last: Option<&Arc<Run>>) -> Job {
    let last_bytes = last.map_or(0, |last| last.bytes());
    if last.is_some() && bytes(upper) * 2 >= last_bytes {
        return into_last(upper, last);
    }
    // Take runs from the newest on while the next is not much larger than those taken together.
    let mut taken: u64 = 0;
    let mut count = 0;
    for run in upper {
        if count >= 2 && run.bytes() > taken {
            break;
        }
        taken += run.bytes();
        count += 1;
    }
    if count == upper.len() {
        return into_last(upper, last);
    }
    let (merged, older) = upper.split_at(count);
    let older: Vec<_> =
        older.iter().chain(last).flat_map(|run| run.tables.iter().cloned()).collect();
    let level = merged.iter().map(|run| run.level).max().unwrap_or(0).max(1);
    merge_of(merged, &older, level, Bottom::Below)
}

/// The upper runs, with the tables of the last run that lie between their first and last key: the
/// output's tables may end anywhere in between.
fn into_last(upper: &[Arc<Run>], last: Option<&Arc<Run>>) -> Job {
    let mut job = merge_of(upper, &[], LAST_LEVEL, Bottom::Reached);
    let Some(last) = last else { return job };
    // A range delete covers more than the keys of the table it is stored in.
    let mut all = upper.iter().chain([last]).flat_map(|run| &run.tables);
    let has_ranges = all.any(|table| table.range_deletes > 0);
    let tables = || upper.iter().flat_map(|run| &run.tables);
    let smallest = tables().map(|table| &table.smallest).min();
    let largest = tables().map(|table| &table.largest).max();
    let is_between = |below: &TableMeta| {
        largest.is_some_and(|largest| below.smallest <= *largest)
            && smallest.is_some_and(|smallest| *smallest <= below.largest)
    };
    let touched = last.tables.iter().filter(|below| has_ranges || is_between(below));
    let touched: Vec<_> = touched.cloned().collect();
    if !touched.is_empty() {
        job.inputs.push(touched);
    }
    job.order = last.order;
    job
}

fn merge_of(runs: &[Arc<Run>], older: &[Arc<TableMeta>], level: u8, bottom: Bottom) -> Job {
    Job {
        inputs: runs.iter().map(|run| run.tables.clone()).collect(),
        older: older.to_vec(),
        order: runs.iter().map(|run| run.order).min().unwrap_or(0),
        level,
        bottom,
        action: Action::Rewrite,
    }
}

/// The oldest upper run, if it can become part of the last one as it is.
fn movable(
    upper: &[Arc<Run>],
    last: Option<&Arc<Run>>,
    is_plain: &dyn Fn(SpaceId) -> bool,
) -> Option<Job> {
    let oldest = upper.last()?;
    let can_move = |table: &Arc<TableMeta>| {
        table.tombstones == 0
            && table.range_deletes == 0
            && table.expiring == 0
            && table.smallest.space == table.largest.space
            && is_plain(table.smallest.space)
            && last.is_none_or(|last| last.tables.iter().all(|below| !overlaps(table, below)))
    };
    if !oldest.tables.iter().all(can_move) {
        return None;
    }
    let order = last.map_or(oldest.order, |last| last.order);
    let mut job = merge_of(std::slice::from_ref(oldest), &[], LAST_LEVEL, Bottom::Reached);
    (job.order, job.action) = (order, Action::Move);
    Some(job)
}

/// A table of the last run whose entries have all expired.
fn expired(version: &Version, last: &Arc<Run>, limits: &Limits) -> Option<Job> {
    let is_over = |table: &&Arc<TableMeta>| {
        table.expiring > 0
            && table.expiring == table.entries
            && table.expires_at_max_ms <= limits.now_ms
            && table.newest() <= limits.horizon
    };
    // A range delete may cover entries of other tables; it goes only with all of them.
    if last.tables.iter().any(|table| table.range_deletes > 0) {
        return None;
    }
    alone(version, last.tables.iter().find(is_over)?)
}

fn overlaps(a: &TableMeta, b: &TableMeta) -> bool {
    a.smallest <= b.largest && b.smallest <= a.largest
}

fn entries(run: &Run) -> u64 {
    run.tables.iter().map(|table| table.entries).sum()
}

/// Older entries that a run hides, and tombstones, which hide one each and go with it.
fn garbage(run: &Run) -> u64 {
    run.tables.iter().map(|table| table.shadowed.max(table.tombstones)).sum()
}

fn bytes(runs: &[Arc<Run>]) -> u64 {
    runs.iter().map(|run| run.bytes()).sum()
}

#[cfg(test)]
mod tests;
