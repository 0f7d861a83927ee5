//! Commits that are only in the log, on their way into tables while the database opens.

use crate::compaction::Overlap;
use crate::flush::write_memtables;
use crate::memtable::Memtable;
use crate::options::Options;
use crate::output::{Depth, Output, OutputHost, OutputPlan};
use crate::parts::horizon;
use crate::range_map::RangeMap;
use crate::resolve::{Bottom, Policy};
use base::record::Records;
use base::{Op, Result, SpaceId, Tick};
use recovery::{FlushTarget, ReplaySink};
use sstable::TableMeta;
use sstable::manifest::{Edit, KeyspaceSettings};
use std::sync::Arc;
use std::time::Duration;

/// Memtables that recovery fills and flushes.
pub(crate) struct Replay {
    /// Oldest first. More than one only if a commit did not fit.
    memtables: Vec<Arc<Memtable>>,
    /// Bytes of the last memtable that commits may have taken, at the most.
    reserved: usize,
    memtable_bytes: usize,
    block_bytes: usize,
    history: Duration,
    now_ms: u64,
    last: Tick,
    /// Overwritten versions up to it may be gone.
    dropped: Option<Tick>,
}

impl Replay {
    /// Nothing replayed yet.
    pub(crate) fn new(options: &Options, now_ms: u64) -> Replay {
        Replay {
            memtables: Vec::new(),
            reserved: 0,
            memtable_bytes: options.memtable_bytes,
            block_bytes: options.block_bytes,
            history: options.history,
            now_ms,
            last: Tick::ZERO,
            dropped: None,
        }
    }

    /// The memtable that takes `need` more bytes.
    fn with_room(&mut self, need: usize) -> Result<Arc<Memtable>> {
        if let Some(last) = self.memtables.last()
            && self.reserved + need <= last.reservable()
        {
            self.reserved += need;
            return Ok(last.clone());
        }
        // Recovery flushes once its bound is exceeded, which is less than this.
        let room = need.max(4 * self.memtable_bytes);
        let memtable = Arc::new(Memtable::new(self.memtable_bytes, room, Tick::ZERO)?);
        self.memtables.push(memtable.clone());
        self.reserved = need;
        Ok(memtable)
    }

    /// What the manifest must be told once the database is open.
    pub(crate) fn edit(&self) -> Option<Edit> {
        self.dropped.map(|horizon| Edit { horizon: Some(horizon), ..Edit::default() })
    }

    /// Versions above it are kept for reads as of an earlier time.
    fn horizon(&self) -> Tick {
        horizon(self.last, self.history, self.now_ms)
    }
}

/// The ops of a commit that recovery has checked.
fn ops_of(payload: &[u8]) -> impl Iterator<Item = (SpaceId, Op<'_>)> {
    Records::new(payload).map_while(Result::ok).flat_map(|record| {
        let scope = record.scope;
        record.ops.map(move |op| (SpaceId::new(scope, op.keyspace), op))
    })
}

impl ReplaySink for Replay {
    fn insert(&mut self, seqno: Tick, payload: &[u8]) -> Result<()> {
        let mut need = 0;
        let mut previous = None;
        for (space, op) in ops_of(payload) {
            need += Memtable::reservation(&op);
            if previous.replace(space) != Some(space) {
                need += Memtable::KEYSPACE_RESERVATION;
            }
        }
        self.with_room(need)?.insert(seqno, ops_of(payload))?;
        self.last = seqno;
        Ok(())
    }

    fn memory(&self) -> u64 {
        self.memtables.iter().map(|memtable| memtable.used_bytes() as u64).sum()
    }

    fn flush(&mut self, target: &FlushTarget) -> Result<Vec<TableMeta>> {
        let mut memtables = std::mem::take(&mut self.memtables);
        memtables.reverse();
        let plan = OutputPlan {
            owner: target.owner,
            block_bytes: self.block_bytes,
            table_bytes: u64::MAX,
            depth: Depth::Upper,
        };
        let ranges: Vec<_> =
            memtables.iter().flat_map(|memtable| memtable.range_deletes().to_vec()).collect();
        let map = RangeMap::of(ranges.clone());
        let horizon = self.horizon();
        let policy = Policy::new(&[], horizon, self.now_ms, Bottom::Below, map);
        self.dropped = Some(horizon).filter(|_| !memtables.is_empty()).max(self.dropped);
        let host = ReplayHost { target };
        let output = Output::new(plan, target.fs.clone(), &host, ranges);
        write_memtables(&memtables, &policy, output, &mut Overlap::default())
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

    fn settings(&self, space: SpaceId) -> Option<KeyspaceSettings> {
        let keyspace = self.target.keyspaces.get(&space.keyspace())?;
        Some(keyspace.settings)
    }
}
