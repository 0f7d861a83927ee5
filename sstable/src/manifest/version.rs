//! The tables at one moment.
//!
//! A version is a list of runs, newest first. A run is a list of tables that do not overlap: it is
//! one sorted sequence cut into files. A flush makes one run; a compaction replaces runs that are
//! neighbours in age, or some of their tables, by tables of one run.
//!
//! Invariants, checked by every [`Version::apply`]:
//! - A table id occurs once.
//! - The tables of a run are sorted by smallest key and disjoint by (space, user key), so all
//!   versions of a key in one run are in one table. Tables without entries (range deletes only)
//!   stand behind the others and take no part in this.
//! - All tables of a run are of the run's level. Only the oldest run may be of [`LAST_LEVEL`].
//! - A table belongs to one scope, and its counts agree with each other.

use super::edit::{Added, Edit};
use crate::meta::TableMeta;
use base::Corruption;
use std::collections::{BTreeMap, HashSet};
use std::sync::Arc;

/// The level of the oldest run when it holds everything below; 0 is what a flush makes.
pub const LAST_LEVEL: u8 = 6;

/// Tables that make one sorted sequence.
#[derive(Clone, Debug, PartialEq)]
pub struct Run {
    /// Its age: a run of greater order is newer. Two runs never have the same.
    pub order: u64,
    /// 0 = flushed, then ever more merged, up to [`LAST_LEVEL`].
    pub level: u8,
    /// Sorted by smallest key; tables without entries last.
    pub tables: Vec<Arc<TableMeta>>,
}

impl Run {
    /// Bytes of its files.
    pub fn bytes(&self) -> u64 {
        self.tables.iter().map(|table| table.len).fold(0, u64::saturating_add)
    }

    fn new(order: u64, level: u8, mut tables: Vec<Arc<TableMeta>>) -> Result<Run, Corruption> {
        tables.sort_by(|a, b| {
            (a.entries == 0, &a.smallest, a.id).cmp(&(b.entries == 0, &b.smallest, b.id))
        });
        for pair in tables.windows(2) {
            if let [left, right] = pair
                && right.entries > 0
                && left.largest >= right.smallest
            {
                return Err(broken("the tables of a run do not overlap"));
            }
        }
        Ok(Run { order, level, tables })
    }
}

/// The tables at one moment: runs, newest first. Immutable; a clone copies only pointers.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Version {
    runs: Vec<Arc<Run>>,
}

impl Version {
    /// The runs, newest first.
    pub fn runs(&self) -> &[Arc<Run>] {
        &self.runs
    }

    /// Every table, newest run first.
    pub fn tables(&self) -> impl Iterator<Item = &Arc<TableMeta>> {
        self.runs.iter().flat_map(|run| &run.tables)
    }

    /// How many tables there are.
    pub fn table_count(&self) -> usize {
        self.runs.iter().map(|run| run.tables.len()).sum()
    }

    /// Bytes of all table files.
    pub fn bytes(&self) -> u64 {
        self.runs.iter().map(|run| run.bytes()).fold(0, u64::saturating_add)
    }

    /// The order that makes a new run the newest.
    pub fn next_order(&self) -> u64 {
        self.runs.first().map_or(1, |run| run.order.saturating_add(1))
    }

    /// The version after `edit`, or [`Corruption::BrokenRule`] if that would break an invariant.
    pub fn apply(&self, edit: &Edit) -> Result<Version, Corruption> {
        if edit.added.is_empty() && edit.removed.is_empty() {
            return Ok(self.clone());
        }
        let removed = distinct(edit.removed.iter().copied())?;
        let added_ids = distinct(edit.added.iter().map(|added| added.meta.id))?;
        let mut joining = group(&edit.added)?;
        let mut removed_found = 0;
        let mut runs = Vec::with_capacity(self.runs.len() + joining.len());
        for run in &self.runs {
            let keeps = |table: &&Arc<TableMeta>| !removed.contains(&table.id);
            let kept: Vec<_> = run.tables.iter().filter(keeps).cloned().collect();
            removed_found += run.tables.len() - kept.len();
            if kept.iter().any(|table| added_ids.contains(&table.id)) {
                return Err(broken("a table occurs once"));
            }
            let new = if kept.is_empty() { None } else { joining.remove(&run.order) };
            match new {
                None if kept.len() == run.tables.len() => runs.push(run.clone()),
                None if kept.is_empty() => {}
                None => runs.push(Arc::new(Run { tables: kept, ..**run })),
                Some((level, _)) if level != run.level => {
                    return Err(broken("the tables of a run are of one level"));
                }
                Some((level, mut tables)) => {
                    tables.extend(kept);
                    runs.push(Arc::new(Run::new(run.order, level, tables)?));
                }
            }
        }
        if removed_found != removed.len() {
            return Err(broken("a table that leaves was there"));
        }
        for (order, (level, tables)) in joining {
            runs.push(Arc::new(Run::new(order, level, tables)?));
        }
        runs.sort_by_key(|run| std::cmp::Reverse(run.order));
        match runs.split_last() {
            Some((_, newer)) if newer.iter().any(|run| run.level >= LAST_LEVEL) => {
                Err(broken("only the oldest run is of the last level"))
            }
            _ => Ok(Version { runs }),
        }
    }
}

fn broken(rule: &'static str) -> Corruption {
    Corruption::BrokenRule(rule)
}

/// The ids as a set; twice the same breaks the rules.
fn distinct(ids: impl Iterator<Item = u64>) -> Result<HashSet<u64>, Corruption> {
    let mut set = HashSet::new();
    for id in ids {
        if !set.insert(id) {
            return Err(broken("a table occurs once in an edit"));
        }
    }
    Ok(set)
}

/// Level and tables that join each run.
type Joining = BTreeMap<u64, (u8, Vec<Arc<TableMeta>>)>;

fn group(added: &[Added]) -> Result<Joining, Corruption> {
    let mut joining = Joining::new();
    for Added { order, level, meta } in added {
        let (run_level, tables) = joining.entry(*order).or_insert((*level, Vec::new()));
        if run_level != level || *level > LAST_LEVEL {
            return Err(broken("the tables of a run are of one level, at most the last"));
        }
        if !is_sane(meta) {
            return Err(broken("what is said of a table agrees with itself"));
        }
        tables.push(meta.clone());
    }
    Ok(joining)
}

fn is_sane(meta: &TableMeta) -> bool {
    meta.len > 0
        && (meta.entries > 0 || meta.range_deletes > 0)
        && meta.tombstones <= meta.entries
        && meta.expiring <= meta.entries
        && meta.seqno_min <= meta.seqno_max
        && (meta.entries == 0 || meta.smallest <= meta.largest)
        && meta.smallest.space.scope() == meta.scope
        && (meta.entries == 0 || meta.largest.space.scope() == meta.scope)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::manifest::samples::{added, added_range_deletes};
    use proptest::prelude::*;

    fn edit(added: &[Added], removed: &[u64]) -> Edit {
        Edit { added: added.to_vec(), removed: removed.to_vec(), ..Edit::default() }
    }

    /// Runs as text: newest first, `order/level: id[smallest-largest] ...`.
    fn text(version: &Version) -> String {
        let table = |table: &Arc<TableMeta>| {
            let key = |key: &[u8]| String::from_utf8_lossy(key).into_owned();
            format!(" {}[{}-{}]", table.id, key(&table.smallest.key), key(&table.largest.key))
        };
        let run = |run: &Arc<Run>| {
            let tables: String = run.tables.iter().map(table).collect();
            format!("{}/{}:{tables}\n", run.order, run.level)
        };
        version.runs().iter().map(run).collect()
    }

    fn start() -> Version {
        let tables = [
            added(1, 6, 1, "a", "f"),
            added(1, 6, 2, "g", "m"),
            added(1, 6, 3, "n", "z"),
            added(5, 1, 4, "c", "p"),
            added(9, 0, 5, "b", "x"),
        ];
        Version::default().apply(&edit(&tables, &[])).unwrap()
    }

    #[test]
    fn a_flush_becomes_the_newest_run() {
        let version = start();
        let flushed = edit(&[added(version.next_order(), 0, 6, "a", "b")], &[]);
        assert_eq!(
            text(&version.apply(&flushed).unwrap()),
            "10/0: 6[a-b]\n9/0: 5[b-x]\n5/1: 4[c-p]\n1/6: 1[a-f] 2[g-m] 3[n-z]\n"
        );
    }

    #[test]
    fn a_compaction_replaces_whole_runs_or_some_of_their_tables() {
        let whole = edit(&[added(9, 1, 7, "b", "x")], &[4, 5]);
        let version = start().apply(&whole).unwrap();
        assert_eq!(text(&version), "9/1: 7[b-x]\n1/6: 1[a-f] 2[g-m] 3[n-z]\n");
        let some = edit(&[added(1, 6, 8, "b", "h"), added(1, 6, 9, "i", "m")], &[7, 1, 2]);
        let version = version.apply(&some).unwrap();
        assert_eq!(text(&version), "1/6: 8[b-h] 9[i-m] 3[n-z]\n");
        assert_eq!((version.table_count(), version.bytes()), (3, 300));
    }

    #[test]
    fn a_table_removed_and_added_moves() {
        let version = start().apply(&edit(&[added(5, 2, 4, "c", "p")], &[4])).unwrap();
        assert_eq!(version.runs()[1].level, 2);
    }

    #[test]
    fn tables_of_range_deletes_only_stand_behind_the_others() {
        let tables = [added_range_deletes(2, 0, 1, "b"), added(2, 0, 2, "a", "z")];
        let version = Version::default().apply(&edit(&tables, &[])).unwrap();
        assert_eq!(text(&version), "2/0: 2[a-z] 1[b-b]\n");
    }

    #[test]
    fn what_breaks_an_invariant_is_refused() {
        let cases: &[(&str, Edit)] = &[
            (
                "an id twice in the edit",
                edit(&[added(10, 0, 6, "a", "b"), added(11, 0, 6, "c", "d")], &[]),
            ),
            ("an id that exists", edit(&[added(10, 0, 5, "a", "b")], &[])),
            ("an id removed twice", edit(&[], &[5, 5])),
            ("an id that is not there", edit(&[], &[6])),
            (
                "an overlap in the edit",
                edit(&[added(10, 0, 6, "a", "c"), added(10, 0, 7, "c", "d")], &[]),
            ),
            ("an overlap with what stays", edit(&[added(1, 6, 6, "a", "h")], &[1])),
            ("two levels in a run", edit(&[added(1, 5, 6, "a", "b")], &[1])),
            (
                "two levels in an edit",
                edit(&[added(10, 0, 6, "a", "b"), added(10, 1, 7, "c", "d")], &[]),
            ),
            ("the last level on a newer run", edit(&[added(10, 6, 6, "a", "b")], &[])),
            ("a run below the last level", edit(&[added(0, 0, 6, "a", "b")], &[])),
            ("a level past the last", edit(&[added(0, 7, 6, "a", "b")], &[])),
        ];
        for (rule, edit) in cases {
            let refused = start().apply(edit);
            assert!(matches!(refused, Err(Corruption::BrokenRule(_))), "{rule}: {refused:?}");
        }
    }

    #[test]
    fn a_table_that_contradicts_itself_is_refused() {
        type Break = fn(&mut TableMeta);
        let breaks: &[Break] = &[
            |meta| meta.len = 0,
            |meta| meta.entries = 0,
            |meta| meta.tombstones = 11,
            |meta| meta.expiring = 11,
            |meta| meta.seqno_min = base::Tick::MAX,
            |meta| std::mem::swap(&mut meta.smallest, &mut meta.largest),
            |meta| meta.scope = base::ScopeId(9),
        ];
        for (number, broken) in breaks.iter().enumerate() {
            let mut added = added(10, 0, 6, "a", "b");
            broken(Arc::make_mut(&mut added.meta));
            let refused = start().apply(&edit(&[added], &[]));
            assert!(matches!(refused, Err(Corruption::BrokenRule(_))), "{number}: {refused:?}");
        }
    }

    proptest! {
        /// Whatever is applied, a version either refuses or keeps what it promises.
        #[test]
        fn every_version_keeps_its_promises(
            steps in proptest::collection::vec(
                (1u64..5, 0u8..8, 0u8..20, 0u8..4, proptest::option::of(1u64..30)), 1..40
            )
        ) {
            let mut version = Version::default();
            for (id, (order, level, from, len, removed)) in steps.into_iter().enumerate() {
                let keys = (format!("{from:02}"), format!("{:02}", from + len));
                let table = added(order, level, id as u64 + 1, &keys.0, &keys.1);
                let Ok(next) = version.apply(&edit(&[table], removed.as_slice())) else { continue };
                prop_assert_eq!(next.table_count() + removed.iter().len(), version.table_count() + 1);
                version = next;
                let ids: HashSet<_> = version.tables().map(|table| table.id).collect();
                prop_assert_eq!(ids.len(), version.table_count());
                prop_assert!(version.runs().is_sorted_by(|a, b| a.order > b.order));
                for run in version.runs() {
                    prop_assert!(!run.tables.is_empty());
                    prop_assert!(run.tables.is_sorted_by(|a, b| a.largest < b.smallest));
                }
                let newer = version.runs().split_last().map_or(&[][..], |(_, newer)| newer);
                prop_assert!(newer.iter().all(|run| run.level < LAST_LEVEL));
            }
        }
    }
}
