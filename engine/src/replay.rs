//! Commits that are only in the log, on their way into tables while the database opens.
//!
//! Nobody reads a memtable that is being replayed into, so commits wait in the order of the log and
//! are inserted by the order of their keys, many at once: a key finds its place where its neighbour
//! just was, in memory that is still near. That takes a third off the time of a replay.

use crate::compaction::Overlap;
use crate::flush::write_memtables;
use crate::memtable::{ForeignOp, Memtable};
use crate::options::Options;
use crate::origins::Origins;
use crate::output::{Depth, Ending, Output, OutputHost, OutputPlan};
use crate::parts::horizon;
use crate::range_map::RangeMap;
use crate::resolve::{Bottom, Policy};
use base::record::{Effect, Records};
use base::{Origin, Result, SpaceId, Tick, key_prefix};
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
    /// Commits for which the last memtable has room.
    waiting: Waiting,
    memtable_bytes: usize,
    block_bytes: usize,
    history: Duration,
    now_ms: u64,
    /// Whose commits they are.
    author: Origin,
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
            waiting: Waiting::default(),
            memtable_bytes: options.memtable_bytes,
            block_bytes: options.block_bytes,
            history: options.history,
            now_ms,
            author: Origin::default(),
            last: Tick::ZERO,
            dropped: None,
        }
    }

    /// Makes sure that the last memtable takes `need` more bytes.
    fn make_room(&mut self, need: usize) -> Result<()> {
        if let Some(last) = self.memtables.last()
            && self.reserved + need <= last.reservable()
        {
            self.reserved += need;
            return Ok(());
        }
        self.insert_waiting()?;
        // Recovery flushes once its bound is exceeded, which is less than this.
        let room = need.max(4 * self.memtable_bytes);
        let memtable = Arc::new(Memtable::new(self.memtable_bytes, room, Tick::ZERO, self.author)?);
        self.memtables.push(memtable);
        self.reserved = need;
        Ok(())
    }

    fn insert_waiting(&mut self) -> Result<()> {
        let Some(memtable) = self.memtables.last() else { return Ok(()) };
        self.waiting.insert_into(memtable)?;
        self.waiting.clear();
        Ok(())
    }

    /// What was taken, newest first, for reading.
    pub(crate) fn into_memtables(mut self) -> Result<Vec<Arc<Memtable>>> {
        self.insert_waiting()?;
        Ok(self.memtables.into_iter().rev().collect())
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

/// Bytes of commits that wait at the most; a larger commit waits alone.
const WAITING_BYTES_MAX: usize = 8 << 20;

/// Commits in the order of the log.
#[derive(Default)]
struct Waiting {
    payloads: Vec<u8>,
    /// Each commit, and where its payload ends.
    commits: Vec<(Tick, usize)>,
}

impl Waiting {
    fn push(&mut self, seqno: Tick, payload: &[u8]) {
        self.payloads.extend_from_slice(payload);
        self.commits.push((seqno, self.payloads.len()));
    }

    fn clear(&mut self) {
        self.payloads.clear();
        self.commits.clear();
        self.payloads.shrink_to(WAITING_BYTES_MAX);
    }

    /// Inserts all ops by the order of their keys; those of one key stay in their order.
    fn insert_into(&self, memtable: &Memtable) -> Result<()> {
        let mut ops = Vec::new();
        let mut start = 0;
        for &(seqno, end) in &self.commits {
            let payload = self.payloads.get(start..end).unwrap_or_default();
            each_effect(payload, |space, effect| ops.push((space, seqno, effect)));
            start = end;
        }
        let mut order: Vec<(SpaceId, u64, usize)> = Vec::with_capacity(ops.len());
        let keys = ops.iter().enumerate();
        order.extend(keys.map(|(at, (space, _, it))| (*space, key_prefix(it.op.key), at)));
        let key = |at: usize| ops.get(at).map(|(_, _, effect)| effect.op.key);
        order.sort_unstable_by(|a, b| {
            (a.0, a.1).cmp(&(b.0, b.1)).then_with(|| key(a.2).cmp(&key(b.2))).then(a.2.cmp(&b.2))
        });
        for (space, seqno, effect) in order.iter().filter_map(|(_, _, at)| ops.get(*at)) {
            let Effect { op, author } = *effect;
            match author {
                None => memtable.insert(*seqno, std::iter::once((*space, op)))?,
                Some((author, tick)) => {
                    let op = ForeignOp { space: *space, seqno: *seqno, tick, op };
                    memtable.insert_foreign(&author, std::iter::once(op))?;
                }
            }
        }
        Ok(())
    }
}

/// Calls `f` with what took effect of a commit that recovery has checked.
fn each_effect<'p>(payload: &'p [u8], mut f: impl FnMut(SpaceId, Effect<'p>)) {
    for record in Records::new(payload).map_while(Result::ok) {
        let scope = record.scope;
        let effects = record.effects();
        effects.for_each(|effect| f(SpaceId::new(scope, effect.op.keyspace), effect));
    }
}

impl ReplaySink for Replay {
    fn begin(&mut self, author: Origin) {
        self.author = author;
    }

    fn insert(&mut self, seqno: Tick, payload: &[u8]) -> Result<()> {
        let mut need = 0;
        let mut previous = None;
        each_effect(payload, |space, Effect { op, author }| {
            need += match author {
                None => Memtable::reservation(&op),
                Some(_) => Memtable::reservation_foreign(&op),
            };
            if previous.replace(space) != Some(space) {
                need += Memtable::KEYSPACE_RESERVATION;
            }
        });
        self.make_room(need)?;
        self.waiting.push(seqno, payload);
        self.last = seqno;
        match self.waiting.payloads.len() >= WAITING_BYTES_MAX {
            true => self.insert_waiting(),
            false => Ok(()),
        }
    }

    fn memory(&self) -> u64 {
        let inserted: u64 = self.memtables.iter().map(|table| table.used_bytes() as u64).sum();
        inserted + self.waiting.payloads.len() as u64
    }

    fn flush(&mut self, target: &FlushTarget) -> Result<Vec<TableMeta>> {
        self.insert_waiting()?;
        let mut memtables = std::mem::take(&mut self.memtables);
        memtables.reverse();
        let plan = OutputPlan {
            owner: target.owner,
            authors: target.authors.clone(),
            block_bytes: self.block_bytes,
            table_bytes: u64::MAX,
            depth: Depth::Upper,
            ending: Ending::Here,
        };
        let ranges: Vec<_> =
            memtables.iter().flat_map(|memtable| memtable.range_deletes().to_vec()).collect();
        let map = RangeMap::of(ranges.clone(), self.author);
        let horizon = self.horizon();
        let origins = Arc::new(Origins::new(target.authors.clone(), self.author));
        let policy = Policy::new(&[], horizon, self.now_ms, Bottom::Below, map, origins);
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
