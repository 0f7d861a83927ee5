//! Esker alone, with criterion: is a change faster or slower?
//!
//! Unsynced writes unless the name says otherwise; 16-byte hashed keys, 100-byte values. Reads run
//! on a settled store of 200 000 records that fits the cache.

use benches::meter::wait_until_quiet;
use benches::{Failure, KeyShape, Keys, Result, Values, zipf};
use criterion::measurement::WallTime;
use criterion::{BenchmarkGroup, Criterion, Throughput, criterion_group, criterion_main};
use engine::{Batch, Db, Keyspace, KeyspaceOptions, Options, SyncMode};
use std::hint::black_box;
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};
use tempfile::TempDir;

const RECORDS: u64 = 200_000;
const VALUE_LEN: usize = 100;
const BATCH: u64 = 100;

/// A database in a directory that goes with it.
struct Store {
    db: Db,
    keyspace: Keyspace,
    keys: Keys,
    values: Values,
    dir: TempDir,
}

impl Store {
    fn empty(sync: SyncMode) -> Result<Store> {
        let dir = TempDir::new_in(env!("CARGO_TARGET_TMPDIR"))?;
        let (db, keyspace) = open(dir.path(), sync)?;
        let keys = Keys::new(KeyShape::Hashed, RECORDS);
        Ok(Store { db, keyspace, keys, values: Values::new(VALUE_LEN), dir })
    }

    fn loaded() -> Result<Store> {
        let store = Store::empty(SyncMode::Async)?;
        for first in (0..RECORDS).step_by(BATCH as usize) {
            store.put_batch(first)?;
        }
        store.db.flush()?;
        wait_until_quiet(|| (store.db.stats().compactions, store.db.stats().moves));
        Ok(store)
    }

    fn put(&self, index: u64, value: &mut Vec<u8>) -> Result<()> {
        self.values.fill(value, index, 0);
        self.keyspace.put(self.keys.scattered(index), value)?;
        Ok(())
    }

    fn put_batch(&self, first: u64) -> Result<()> {
        let (mut batch, mut value) = (Batch::new(), Vec::new());
        for index in first..first + BATCH {
            self.values.fill(&mut value, index, 0);
            batch.put(&self.keyspace, self.keys.scattered(index), &value);
        }
        self.db.write(batch)?;
        Ok(())
    }
}

fn open(dir: &Path, sync: SyncMode) -> Result<(Db, Keyspace)> {
    let db = Db::open(dir, Options { sync, ..Options::default() })?;
    let keyspace = db.keyspace("bench", KeyspaceOptions::default())?;
    Ok((db, keyspace))
}

/// Criterion takes no errors; a benchmark that fails must not look fast.
fn must<T, E: Into<Failure>>(result: std::result::Result<T, E>) -> T {
    match result.map_err(E::into) {
        Ok(value) => value,
        Err(error) => {
            eprintln!("the benchmark failed: {error}");
            std::process::exit(1)
        }
    }
}

fn writes(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("write");
    let store = must(Store::empty(SyncMode::Async));
    let (mut index, mut value) = (0, Vec::new());
    group.throughput(Throughput::Elements(1));
    group.bench_function("put", |bencher| {
        bencher.iter(|| {
            must(store.put(index, &mut value));
            index += 1;
        });
    });
    group.throughput(Throughput::Elements(BATCH));
    group.bench_function("batch of 100", |bencher| {
        bencher.iter(|| {
            must(store.put_batch(index));
            index += BATCH;
        });
    });
    group.finish();
    must(store.db.close());
}

fn reads(criterion: &mut Criterion) {
    let store = must(Store::loaded());
    let mut group = criterion.benchmark_group("read");
    group.throughput(Throughput::Elements(1));
    get(&mut group, &store);
    scan(&mut group, &store);
    mixed(&mut group, &store);
    group.finish();
    must(store.db.close());
}

fn get(group: &mut BenchmarkGroup<'_, WallTime>, store: &Store) {
    let mut draw = zipf::Draw::new(1);
    group.bench_function("get, present", |bencher| {
        bencher.iter(|| {
            let key = store.keys.scattered(draw.below(RECORDS));
            must(store.keyspace.get(key))
        });
    });
    group.bench_function("get, missing", |bencher| {
        bencher.iter(|| {
            let key = store.keys.missing(draw.below(RECORDS));
            must(store.keyspace.get(key))
        });
    });
}

fn scan(group: &mut BenchmarkGroup<'_, WallTime>, store: &Store) {
    let mut draw = zipf::Draw::new(2);
    let mut cursor = must(store.keyspace.cursor());
    let mut seek_and_read = |count: u64| -> Result<()> {
        cursor.seek(store.keys.scattered(draw.below(RECORDS)))?;
        for _ in 0..count {
            let Some(entry) = cursor.entry() else { break };
            black_box(entry);
            cursor.advance()?;
        }
        Ok(())
    };
    group.bench_function("seek + 10", |bencher| bencher.iter(|| must(seek_and_read(10))));
    group.bench_function("seek + 100", |bencher| bencher.iter(|| must(seek_and_read(100))));
    group.throughput(Throughput::Elements(RECORDS));
    group.bench_function("full scan", |bencher| {
        bencher.iter(|| store.keyspace.iter().filter(|entry| black_box(entry).is_ok()).count());
    });
    group.throughput(Throughput::Elements(1));
}

fn mixed(group: &mut BenchmarkGroup<'_, WallTime>, store: &Store) {
    let zipf = zipf::Zipf::new(RECORDS, zipf::YCSB_THETA);
    let (mut draw, mut value) = (zipf::Draw::new(3), Vec::new());
    group.bench_function("half gets, half puts, Zipf", |bencher| {
        bencher.iter(|| {
            let index = zipf.spread(&mut draw);
            if draw.below(2) == 0 {
                let key = store.keys.scattered(index);
                black_box(must(store.keyspace.get(key)));
            } else {
                must(store.put(index, &mut value));
            }
        });
    });
}

fn synced_commits(criterion: &mut Criterion) {
    let store = must(Store::empty(SyncMode::Sync));
    let next = AtomicU64::new(0);
    let mut group = criterion.benchmark_group("synced commit");
    group.throughput(Throughput::Elements(1));
    for writers in [1, 8, 32] {
        group.bench_function(format!("{writers} writers"), |bencher| {
            bencher.iter_custom(|commits| commit_from_many(&store, &next, writers, commits));
        });
    }
    group.finish();
    must(store.db.close());
}

/// The time in which `writers` threads make `commits` commits together.
fn commit_from_many(store: &Store, next: &AtomicU64, writers: u64, commits: u64) -> Duration {
    let start = Instant::now();
    let end = next.load(Ordering::Relaxed) + commits;
    thread::scope(|scope| {
        for _ in 0..writers {
            scope.spawn(|| {
                let mut value = Vec::new();
                loop {
                    let index = next.fetch_add(1, Ordering::Relaxed);
                    if index >= end {
                        break;
                    }
                    must(store.put(index, &mut value));
                }
            });
        }
    });
    next.store(end, Ordering::Relaxed);
    start.elapsed()
}

fn opening(criterion: &mut Criterion) {
    let Store { db, dir, .. } = must(Store::loaded());
    must(db.close());
    let mut group = criterion.benchmark_group("open");
    group.bench_function("after a clean close", |bencher| {
        bencher.iter_custom(|times| {
            let mut sum = Duration::ZERO;
            for _ in 0..times {
                let start = Instant::now();
                let (db, _) = must(open(dir.path(), SyncMode::Async));
                sum += start.elapsed();
                must(db.close());
            }
            sum
        });
    });
    group.finish();
}

fn quick() -> Criterion {
    Criterion::default()
        .sample_size(20)
        .warm_up_time(Duration::from_secs(1))
        .measurement_time(Duration::from_secs(4))
}

criterion_group!(name = all; config = quick(); targets = writes, reads, synced_commits, opening);
criterion_main!(all);
