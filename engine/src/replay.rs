//! Commits that are only in the log, on their way into tables while the database opens.

use crate::compaction::Overlap;
use crate::flush::write_memtables;
use crate::memtable::Memtable;
use crate::output::{Depth, Output, OutputHost, OutputPlan};
use crate::resolve::{Bottom, Policy};
use base::record::Records;
use base::{Error, Result, SpaceId, Tick};
use recovery::{FlushTarget, ReplaySink};
use sstable::TableMeta;
use sstable::manifest::KeyspaceSettings;
use std::sync::Arc;

/// A memtable that recovery fills and flushes.
pub(crate) struct Replay {
    memtable: Option<Arc<Memtable>>,
    memtable_bytes: usize,
    block_bytes: usize,
    now_ms: u64,
    last: Tick,
}

impl Replay {
    /// Nothing replayed yet. `memtable_bytes` is the usual size of a memtable.
    pub(crate) fn new(memtable_bytes: usize, block_bytes: usize, now_ms: u64) -> Replay {
        Replay { memtable: None, memtable_bytes, block_bytes, now_ms, last: Tick::ZERO }
    }

    fn insert_records(&mut self, seqno: Tick, payload: &[u8]) -> Result<()> {
        let memtable = match &self.memtable {
            Some(memtable) => memtable,
            None => {
                // Recovery flushes only after it exceeded its bound by one commit.
                let room = 4 * self.memtable_bytes + 4 * payload.len();
                let memtable = Memtable::new(self.memtable_bytes, room, Tick::ZERO)?;
                self.memtable.insert(Arc::new(memtable))
            }
        };
        for record in Records::new(payload) {
            let record = record.map_err(|found| {
                Error::corrupt(base::error::FileKind::Log, base::dir::WAL_DIR, 0, found)
            })?;
            let scope = record.scope;
            let ops = record.ops.map(|op| (SpaceId::new(scope, op.keyspace), op));
            memtable.insert(seqno, ops)?;
        }
        self.last = seqno;
        Ok(())
    }
}

impl ReplaySink for Replay {
    fn insert(&mut self, seqno: Tick, payload: &[u8]) -> Result<()> {
        self.insert_records(seqno, payload)
    }

    fn memory(&self) -> u64 {
        self.memtable.as_ref().map_or(0, |memtable| memtable.used_bytes() as u64)
    }

    fn flush(&mut self, target: &FlushTarget) -> Result<Vec<TableMeta>> {
        let Some(memtable) = self.memtable.take() else { return Ok(Vec::new()) };
        let plan = OutputPlan {
            owner: target.owner,
            block_bytes: self.block_bytes,
            table_bytes: u64::MAX,
            depth: Depth::Upper,
        };
        let ranges = memtable.range_deletes();
        let kept = ranges.ranges().to_vec();
        let policy = Policy::new(
            &[],
            self.last,
            self.now_ms,
            Bottom::Below,
            crate::range_map::RangeMap::of(kept.clone()),
        );
        let host = ReplayHost { target };
        let output = Output::new(plan, target.fs.clone(), &host, kept);
        write_memtables(&[memtable], &policy, output, &mut Overlap::default())
    }
}

/// Numbers from recovery; recovery removes what a failed attempt leaves.
struct ReplayHost<'a> {
    target: &'a FlushTarget,
}

impl OutputHost for ReplayHost<'_> {
    fn next_table(&self) -> u64 {
        self.target.next_table()
    }

    fn discard(&self, _table: u64) {}

    fn settings(&self, _space: SpaceId) -> Option<KeyspaceSettings> {
        None
    }
}
