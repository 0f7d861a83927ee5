//! How much of what tables hold is still live: an estimate by what the manifest knows of them, so nothing
//! is read for it.
//!
//! ```text
//! live = bytes of all puts - for each run: entries it hides * mean bytes of the puts in older runs
//! ```
//!
//! The puts of a table are its entries but for tombstones; a tombstone takes as much as the mean of the
//! table's first and last key. A run hides as many older entries as was guessed when it was written, no
//! fewer than it has tombstones and no more than it has entries.

use sstable::TableMeta;
use sstable::manifest::{Run, Version};

/// What the tables of a version hold.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Content {
    /// Bytes of the keys and values of all entries.
    pub(crate) raw_bytes: u64,
    /// Those that are live, about.
    pub(crate) live_bytes: u64,
}

impl Content {
    /// That of `version`.
    pub(crate) fn of(version: &Version) -> Content {
        let mut older = Puts::default();
        let (mut raw_bytes, mut hidden_bytes) = (0, 0);
        for run in version.runs().iter().rev() {
            hidden_bytes += older.bytes_of(hides(run));
            older.add(run);
            raw_bytes += run.tables.iter().map(|table| table.raw_bytes).sum::<u64>();
        }
        Content { raw_bytes, live_bytes: older.bytes.saturating_sub(hidden_bytes) }
    }
}

/// Puts, all versions of them.
#[derive(Clone, Copy, Debug, Default)]
struct Puts {
    count: u64,
    bytes: u64,
}

impl Puts {
    fn add(&mut self, run: &Run) {
        for table in &run.tables {
            self.count += table.entries.saturating_sub(table.tombstones);
            self.bytes += table.raw_bytes.saturating_sub(tombstone_bytes(table));
        }
    }

    /// What so many of them take in the mean.
    fn bytes_of(&self, count: u64) -> u64 {
        let bytes = u128::from(self.bytes) * u128::from(count.min(self.count));
        bytes.checked_div(u128::from(self.count)).map_or(0, |bytes| bytes as u64)
    }
}

fn tombstone_bytes(table: &TableMeta) -> u64 {
    if table.tombstones == table.entries {
        return table.raw_bytes;
    }
    let keys = table.smallest.key.len() + table.largest.key.len();
    (table.tombstones * keys as u64 / 2).min(table.raw_bytes)
}

/// How many entries of older runs a run hides.
fn hides(run: &Run) -> u64 {
    let sum = |of: fn(&TableMeta) -> u64| run.tables.iter().map(|table| of(table)).sum::<u64>();
    sum(|table| table.shadowed).max(sum(|table| table.tombstones)).min(sum(|table| table.entries))
}

#[cfg(test)]
mod tests {
    use super::*;
    use base::{KeyspaceId, OriginNumber, ScopeId, SpaceId, Tick};
    use sstable::TableKey;
    use sstable::manifest::{Added, Edit, LAST_LEVEL};
    use std::sync::Arc;

    /// Entries, tombstones among them, bytes, and entries that hide others.
    type Table = (u64, u64, u64, u64);

    /// Runs of one table with keys of four bytes, newest run first.
    fn version(runs: &[Table]) -> Version {
        let space = SpaceId::new(ScopeId::MAIN, KeyspaceId(1));
        let added =
            runs.iter().rev().zip(1..).map(|(&(entries, tombstones, raw_bytes, shadowed), id)| {
                Added {
                    order: id,
                    level: if id == 1 { LAST_LEVEL } else { 0 },
                    meta: Arc::new(TableMeta {
                        id,
                        len: 1000,
                        root: [0; 32],
                        scope: ScopeId::MAIN,
                        smallest: TableKey::new(space, b"aaaa"),
                        largest: TableKey::new(space, b"zzzz"),
                        entries,
                        tombstones,
                        expiring: 0,
                        range_deletes: 0,
                        raw_bytes,
                        seqno_min: Tick::from_ms(1),
                        seqno_max: Tick::from_ms(1),
                        tombstone_stamp_max: Tick::ZERO,
                        expires_at_max_ms: 0,
                        generation: 1,
                        shadowed,
                        seqno_override: None,
                        local: OriginNumber::LOCAL,
                        origins: Box::default(),
                        source: None,
                    }),
                }
            });
        let edit = Edit { added: added.collect(), ..Edit::default() };
        Version::default().apply(&edit).unwrap()
    }

    fn live(runs: &[Table]) -> u64 {
        Content::of(&version(runs)).live_bytes
    }

    #[test]
    fn what_newer_runs_hide_is_not_live() {
        assert_eq!(Content::of(&Version::default()), Content::default());
        let last = (100, 0, 10_000, 0);
        assert_eq!(
            Content::of(&version(&[last])),
            Content { raw_bytes: 10_000, live_bytes: 10_000 }
        );
        // New records, then forty that are written again with values half as long.
        assert_eq!(live(&[(50, 0, 5000, 0), last]), 15_000);
        assert_eq!(live(&[(40, 0, 2000, 40), last]), 8000);
        // Both runs hide the same forty: of the older one's, too.
        let means = (12_000 * 40) / 140;
        assert_eq!(live(&[(40, 0, 2000, 40), (40, 0, 2000, 40), last]), 14_000 - 4000 - means);
        assert_eq!(Content::of(&version(&[(40, 0, 2000, 40), last])).raw_bytes, 12_000);
    }

    #[test]
    fn tombstones_and_what_they_delete_are_not_live() {
        let last = (100, 0, 10_000, 0);
        assert_eq!(live(&[(30, 30, 120, 32), last]), 7000, "no more than there are tombstones");
        assert_eq!(live(&[(30, 30, 120, 0), last]), 7000, "and no fewer");
        // Ten of thirty are tombstones of four bytes each; twenty are new.
        assert_eq!(live(&[(30, 10, 2040, 8), last]), 11_000);
        // One that must stay in the last run hides nothing.
        assert_eq!(live(&[(100, 50, 5200, 0)]), 5000);
        assert_eq!(live(&[(200, 200, 800, 200), last]), 0);
        assert_eq!(live(&[(10, 10, 40, 0)]), 0);
    }
}
