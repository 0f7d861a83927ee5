//! What a database has done and holds, as numbers.

use crate::commit::Write;
use crate::remedies::Permit;
use crate::times::{BUCKETS, SUB_BUCKETS, Times, begin_of, bucket_of};
use base::{OpKind, Striped};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// What operations are counted as.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Counter {
    Gets,
    Hits,
    Scans,
    Commits,
    BytesWritten,
    BytesAdmitted,
    Puts,
    Deletes,
    RangeDeletes,
}

const COUNTERS: usize = 9;

/// The ops of a write by kind.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Tally {
    pub(crate) puts: u64,
    pub(crate) deletes: u64,
    pub(crate) range_deletes: u64,
}

impl Tally {
    /// That of `write`.
    #[inline]
    pub(crate) fn of(write: &Write<'_>) -> Tally {
        match write {
            Write::One(_, op) => {
                let mut tally = Tally::default();
                tally.add(&op.kind);
                tally
            }
            Write::Batch(batch) | Write::Transaction(batch, _) => batch.tally(),
        }
    }

    /// With one op more.
    #[inline]
    pub(crate) fn add(&mut self, kind: &OpKind<'_>) {
        match kind {
            OpKind::Put(_) | OpKind::PutExpiring { .. } => self.puts += 1,
            OpKind::Delete => self.deletes += 1,
            OpKind::RangeDelete { .. } => self.range_deletes += 1,
            // Part of a put that was decided by a resolver.
            OpKind::Erase { .. } => {}
        }
    }
}

/// Counters that any thread may raise.
#[derive(Debug, Default)]
pub(crate) struct Meters {
    striped: Striped<[AtomicU64; COUNTERS]>,
    /// Time of sampled gets, commits, commits of a single put or a single delete, and beginnings of scans.
    pub(crate) get_latency: Histogram,
    /// Blocks of tables that those gets looked into.
    pub(crate) get_blocks: AtomicU64,
    pub(crate) commit_latency: Histogram,
    pub(crate) put_latency: Histogram,
    pub(crate) delete_latency: Histogram,
    pub(crate) scan_latency: Arc<Histogram>,
    pub(crate) flushes: AtomicU64,
    pub(crate) compactions: AtomicU64,
    pub(crate) moves: AtomicU64,
    pub(crate) bytes_flushed: AtomicU64,
    pub(crate) bytes_compacted: AtomicU64,
    pub(crate) scrubs: AtomicU64,
    pub(crate) tables_healed: AtomicU64,
    /// Whether threads that panicked may begin anew, and how often they did.
    pub(crate) restarts: Permit,
    pub(crate) backups: AtomicU64,
    pub(crate) backup_failures: AtomicU64,
    pub(crate) backup_failures_in_a_row: AtomicU64,
    pub(crate) last_backup_ms: AtomicU64,
    pub(crate) scrub_bytes_done: AtomicU64,
    pub(crate) scrub_bytes_total: AtomicU64,
    pub(crate) scrub_findings: AtomicU64,
}

impl Meters {
    /// Adds `amount`. Returns the thread's count before, by which callers pick samples.
    #[inline]
    pub(crate) fn add(&self, counter: Counter, amount: u64) -> u64 {
        let counter = self.striped.own().get(counter as usize);
        counter.map_or(0, |counter| counter.fetch_add(amount, Ordering::Relaxed))
    }

    /// Counts a commit of `tally`. Returns which times are taken of it, if any.
    #[inline]
    pub(crate) fn count_commit(&self, tally: Tally, bytes: usize) -> Option<Timed<'_>> {
        self.add(Counter::BytesWritten, bytes as u64);
        let commits = self.add(Counter::Commits, 1);
        let counted = |counter, amount| match amount {
            0 => 0,
            amount => self.add(counter, amount),
        };
        let puts = counted(Counter::Puts, tally.puts);
        let deletes = counted(Counter::Deletes, tally.deletes);
        counted(Counter::RangeDeletes, tally.range_deletes);
        // Puts and deletes that take turns are all timed now and then.
        let (before, alone) = match tally {
            Tally { puts: 1, deletes: 0, range_deletes: 0 } => (puts, Some(&self.put_latency)),
            Tally { puts: 0, deletes: 1, range_deletes: 0 } => {
                (deletes, Some(&self.delete_latency))
            }
            _ => (commits, None),
        };
        before.is_multiple_of(SAMPLE_EVERY).then_some(Timed { all: &self.commit_latency, alone })
    }

    /// The sum over all threads.
    pub(crate) fn total(&self, counter: Counter) -> u64 {
        let counters = self.striped.iter().filter_map(|part| part.get(counter as usize));
        counters.map(|counter| counter.load(Ordering::Relaxed)).sum()
    }
}

/// Where the time of a commit goes.
pub(crate) struct Timed<'a> {
    all: &'a Histogram,
    /// Of a commit of a single put or delete.
    alone: Option<&'a Histogram>,
}

impl Timed<'_> {
    /// It took `duration`.
    pub(crate) fn record(&self, duration: Duration) {
        self.all.record(duration);
        if let Some(alone) = self.alone {
            alone.record(duration);
        }
    }
}

/// Operations between two that are timed: reading the clock twice costs more than some gets.
pub(crate) const SAMPLE_EVERY: u64 = 64;

/// Durations in buckets of an eighth of a power of two.
#[derive(Debug)]
pub(crate) struct Histogram {
    buckets: Box<[AtomicU64]>,
}

impl Default for Histogram {
    fn default() -> Self {
        Histogram { buckets: (0..BUCKETS).map(|_| AtomicU64::new(0)).collect() }
    }
}

impl Histogram {
    /// Counts `duration`.
    pub(crate) fn record(&self, duration: Duration) {
        let nanos = u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX);
        if let Some(bucket) = self.buckets.get(bucket_of(nanos)) {
            bucket.fetch_add(1, Ordering::Relaxed);
        }
    }

    fn counts(&self) -> Vec<u64> {
        self.buckets.iter().map(|bucket| bucket.load(Ordering::Relaxed)).collect()
    }

    /// What was counted.
    pub(crate) fn times(&self) -> Times {
        Times::of(self.counts())
    }

    /// The same in short.
    pub(crate) fn latency(&self) -> Latency {
        let counts = self.counts();
        let total: u64 = counts.iter().sum();
        let at = |permille: u64| {
            let mut rank = (total * permille).div_ceil(1000);
            for (bucket, count) in counts.iter().enumerate() {
                if rank <= *count && rank > 0 {
                    return Duration::from_nanos(begin_of(bucket));
                }
                rank = rank.saturating_sub(*count);
            }
            Duration::ZERO
        };
        let middle = |bucket: usize| {
            (2 * (SUB_BUCKETS + bucket % SUB_BUCKETS) as u64 + 1) << (bucket / SUB_BUCKETS) >> 1
        };
        let nanos = counts.iter().enumerate().map(|(bucket, count)| middle(bucket) * count).sum();
        let below = |power: u32| {
            // The buckets of a power of two begin at it.
            let end = (power as usize - 3) * SUB_BUCKETS;
            counts.iter().take(end).sum()
        };
        Latency {
            samples: total,
            sum: Duration::from_nanos(nanos),
            below: Latency::BOUND_POWERS.map(below),
            p50: at(500),
            p99: at(990),
            p999: at(999),
        }
    }
}

/// Percentiles of sampled durations, exact to an eighth.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Latency {
    /// How many operations were timed.
    pub samples: u64,
    /// All of their times together.
    pub sum: Duration,
    /// How many took less than each of [`Latency::bounds`].
    pub below: [u64; Latency::BOUND_POWERS.len()],
    /// Half took at most this long.
    pub p50: Duration,
    /// 99 in 100 took at most this long.
    pub p99: Duration,
    /// 999 in 1000 took at most this long.
    pub p999: Duration,
}

impl Latency {
    /// The bounds as powers of two of a nanosecond: 1 us to 4.3 s.
    const BOUND_POWERS: [u32; 12] = [10, 12, 14, 16, 18, 20, 22, 24, 26, 28, 30, 32];

    /// What the counts of [`Latency::below`] are below of, ascending.
    pub fn bounds() -> [Duration; Latency::BOUND_POWERS.len()] {
        Latency::BOUND_POWERS.map(|power| Duration::from_nanos(1 << power))
    }
}

/// The numbers of one moment. Counts are since the database was opened.
#[derive(Clone, Debug, Default)]
#[non_exhaustive]
pub struct Stats {
    /// Lookups of one key.
    pub gets: u64,
    /// Lookups that found a value.
    pub hits: u64,
    /// Iterators and cursors made.
    pub scans: u64,
    /// Commits.
    pub commits: u64,
    /// Puts in those commits.
    pub puts: u64,
    /// Deletes of single keys in them.
    pub deletes: u64,
    /// Deletes of ranges in them, each counted as one.
    pub range_deletes: u64,
    /// Bytes of keys and values in those commits.
    pub bytes_written: u64,
    /// Bytes of keys and values in the commits of other nodes that were stored here.
    pub bytes_admitted: u64,
    /// Time of a get.
    pub get_latency: Latency,
    /// Blocks of tables that the timed gets looked into.
    pub get_blocks: u64,
    /// Time of a commit, waiting included.
    pub commit_latency: Latency,
    /// Time of a commit of a single put.
    pub put_latency: Latency,
    /// Time of a commit of a single delete.
    pub delete_latency: Latency,
    /// Time until a scan stands on its first entry.
    pub scan_latency: Latency,
    /// Time of a sync of the log; every one that has ended is timed.
    pub sync_latency: Latency,
    /// The same, one by one.
    pub sync_times: Times,
    /// How long the running sync of the log has gone on; zero if none runs.
    pub sync_running: Duration,
    /// Transactions begun.
    pub transactions_begun: u64,
    /// Transactions refused because what they had read was changed.
    pub conflicts: u64,
    /// Memtables flushed.
    pub flushes: u64,
    /// Compactions run.
    pub compactions: u64,
    /// Compactions that only moved tables.
    pub moves: u64,
    /// Bytes appended to the log.
    pub bytes_logged: u64,
    /// Bytes of tables written by flushes.
    pub bytes_flushed: u64,
    /// Bytes of tables written by compactions.
    pub bytes_compacted: u64,
    /// Bytes in memtables.
    pub memtable_bytes: u64,
    /// Memtables that wait for their flush.
    pub frozen_memtables: u64,
    /// Bytes of cached blocks.
    pub cache_bytes: u64,
    /// Bytes of the budget that indexes and filters take.
    pub index_bytes: u64,
    /// Bytes that the cache may use.
    pub cache_capacity_bytes: u64,
    /// Block lookups served from memory.
    pub cache_hits: u64,
    /// Block lookups that had to read.
    pub cache_misses: u64,
    /// Bytes of all tables.
    pub table_bytes: u64,
    /// Bytes of the keys and values of all entries in tables, before compression.
    pub raw_bytes: u64,
    /// Those of them that the newest versions of live records take: an estimate, see
    /// [`Stats::space_amplification`].
    pub live_bytes: u64,
    /// Bytes of the log.
    pub log_bytes: u64,
    /// Bytes of the parts of the log that wait for the next backup.
    pub archive_bytes: u64,
    /// Tables, by run, newest run first.
    pub runs: Vec<RunStats>,
    /// Open snapshots.
    pub snapshots: u64,
    /// The oldest commit that a snapshot still sees.
    pub oldest_snapshot: Option<u64>,
    /// Open transactions.
    pub transactions: u64,
    /// How much work is owed, from 0 to 1; writes slow down from a quarter on.
    pub write_pressure: f64,
    /// Time that writes were held back.
    pub throttled: Duration,
    /// Scrubs that were completed.
    pub scrubs: u64,
    /// Writes of other nodes that lost to one of this node's which had not seen them, and were parked for
    /// their resolver.
    pub conflicts_parked: u64,
    /// Those that were resolved.
    pub conflicts_resolved: u64,
    /// Times that a resolver failed.
    pub resolver_failures: u64,
    /// Damaged tables that were made whole from a peer since the database was opened.
    pub tables_healed: u64,
    /// How often puts were taken again after the disk was full, since the database was opened.
    pub resumes: u64,
    /// How often a background thread began anew after a panic, since then.
    pub restarts: u64,
    /// Backups made since the database was opened, those of the log alone as well.
    pub backups: u64,
    /// Backups that failed since then.
    pub backup_failures: u64,
    /// Those of them that no backup has succeeded after.
    pub backup_failures_in_a_row: u64,
    /// When the last one was made, in milliseconds since the Unix epoch; zero if none is known of: there was
    /// none since then, and none is where the schedule has backups made.
    pub last_backup_ms: u64,
    /// Bytes that the running scrub, or else the last one, has read.
    pub scrub_bytes_done: u64,
    /// Bytes of tables that the running scrub will read; zero while none runs.
    pub scrub_bytes_total: u64,
    /// Damaged files that the last scrub has found.
    pub scrub_findings: u64,
    /// Bytes of disk kept back for a full disk.
    pub reserve_bytes: u64,
    /// The last commit that reads see.
    pub visible_seqno: u64,
    /// The last commit that survives a power loss.
    pub durable_seqno: u64,
}

/// One sorted run of tables.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct RunStats {
    /// Its level: 0 fresh from a flush, 6 the last.
    pub level: u8,
    /// Its tables.
    pub tables: u64,
    /// Their bytes.
    pub bytes: u64,
    /// Their entries, all versions and tombstones.
    pub entries: u64,
}

impl Stats {
    /// Bytes written to disk, by log, flushes and compactions, for each byte of keys and values in
    /// commits, those of other nodes as well. Since the database was opened: `None` before the first.
    pub fn write_amplification(&self) -> Option<f64> {
        let disk = self.bytes_logged + self.bytes_flushed + self.bytes_compacted;
        ratio(disk, self.bytes_written + self.bytes_admitted)
    }

    /// Blocks of tables that a get looks into, in the mean of those that were timed since the database was
    /// opened: `None` before the first. Memtables cost no block, and filters keep most gets from tables
    /// without their key.
    pub fn read_amplification(&self) -> Option<f64> {
        ratio(self.get_blocks, self.get_latency.samples)
    }

    /// The most blocks that a get may have to look into, and the tables that each step of a scan chooses
    /// from: one of each run.
    pub fn read_amplification_max(&self) -> u64 {
        self.runs.len() as u64
    }

    /// Bytes of tables for each byte of keys and values of live records in them, below 1 where blocks are
    /// compressed. `None` while there are none. Log and archive do not grow with what is stored, and are
    /// told apart.
    ///
    /// What is live is estimated from what the manifest knows of each table, so nothing is read for it: of
    /// the bytes of all entries those of tombstones, and of entries that newer runs hide. How many those
    /// are was guessed when a run was written, from the filters of older tables, by one key in eight. What
    /// merges alone find out counts as live until then: entries that have expired, that a range delete
    /// covers, that are of a dropped keyspace, and old versions that a snapshot or the history keeps.
    pub fn space_amplification(&self) -> Option<f64> {
        ratio(self.table_bytes, self.live_bytes)
    }

    /// The part of block lookups served from memory.
    pub fn cache_hit_rate(&self) -> f64 {
        self.cache_hits as f64 / (self.cache_hits + self.cache_misses).max(1) as f64
    }

    /// What to change, if the numbers suggest anything.
    pub fn advice(&self) -> Option<&'static str> {
        let lookups = self.cache_hits + self.cache_misses;
        (lookups > 10_000 && self.cache_hit_rate() < 0.5)
            .then_some("fewer than half of the block lookups hit the cache: raise memory_bytes")
    }
}

/// Unless it is one of nothing.
fn ratio(of: u64, to: u64) -> Option<f64> {
    (to > 0).then(|| of as f64 / to as f64)
}

/// What one keyspace holds in tables. What is only in memtables is not counted.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct KeyspaceStats {
    /// Its name.
    pub name: String,
    /// Entries, all versions and tombstones included.
    pub entries: u64,
    /// Bytes of their keys and values.
    pub raw_bytes: u64,
    /// Bytes of its blocks in the files.
    pub table_bytes: u64,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles_are_exact_to_an_eighth() {
        let histogram = Histogram::default();
        for micros in 1..=1000u64 {
            histogram.record(Duration::from_micros(micros));
        }
        let latency = histogram.latency();
        assert_eq!(latency.samples, 1000);
        for (found, expected) in [(latency.p50, 500.0), (latency.p99, 990.0), (latency.p999, 999.0)]
        {
            let ratio = found.as_secs_f64() * 1e6 / expected;
            assert!((0.87..=1.01).contains(&ratio), "{found:?} for {expected} us");
        }
        let sum = latency.sum.as_secs_f64() / 0.5005;
        assert!((0.94..=1.06).contains(&sum), "{:?}", latency.sum);
        let bounds = Latency::bounds();
        for (bound, below) in bounds.into_iter().zip(latency.below) {
            let expected = (1..=1000).filter(|us| Duration::from_micros(*us) < bound).count();
            assert_eq!(below, expected as u64, "{bound:?}");
        }
    }
}
