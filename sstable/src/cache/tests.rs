//! The cache as tables and many threads use it.

use super::*;
use crate::block::{BlockBuilder, Repeat};
use base::{EntryKind, KeyspaceId, ScopeId, SpaceId, Tick, Trailer};
use std::sync::atomic::AtomicBool;
use std::thread;

const SPACE: SpaceId = SpaceId::new(ScopeId::MAIN, KeyspaceId(1));
const MIB: usize = 1 << 20;

/// A block of about `len` bytes whose only key says which one it is.
fn block(table: u64, index: u32, len: usize) -> Block {
    let mut builder = BlockBuilder::default();
    let trailer = Trailer::new(Tick::ZERO, EntryKind::Put);
    builder.push(&name(table, index), trailer, &vec![0; len], Repeat::NewKey);
    let mut bytes = Vec::new();
    builder.finish(SPACE, &mut bytes);
    Block::decode(bytes, None).unwrap()
}

fn name(table: u64, index: u32) -> Vec<u8> {
    format!("{table}/{index}").into_bytes()
}

/// Reads a block as a table does; says whether it was in memory.
fn read(cache: &Cache, slots: &Arc<Slots>, table: u64, index: u32, len: usize) -> bool {
    if let Some(block) = &*slots.load(index) {
        block.touch();
        assert_eq!(block.key(0), name(table, index));
        return true;
    }
    let block = cache.insert(slots, index, block(table, index, len));
    assert_eq!(block.key(0), name(table, index));
    false
}

#[test]
fn a_block_that_was_inserted_is_found_and_counted() {
    let cache = Cache::new(MIB);
    let slots = Slots::new(1, 10);
    assert!(!read(&cache, &slots, 1, 3, 100));
    assert!(read(&cache, &slots, 1, 3, 100) && read(&cache, &slots, 1, 3, 100));
    let stats = cache.stats();
    assert_eq!((stats.hits, stats.misses, stats.inserts, stats.blocks), (2, 1, 1, 1));
    assert!((stats.hit_rate() - 2.0 / 3.0).abs() < 1e-9);
    assert!(slots.load(4).is_none() && slots.load(10).is_none());
}

#[test]
fn the_slower_of_two_loaders_gets_the_block_of_the_faster() {
    let cache = Cache::new(MIB);
    let slots = Slots::new(1, 1);
    let first = cache.insert(&slots, 0, block(1, 0, 10));
    let second = cache.insert(&slots, 0, block(1, 0, 10));
    assert!(Arc::ptr_eq(&first, &second));
    assert_eq!(cache.stats().blocks, 1);
}

#[test]
fn a_block_in_use_outlives_its_eviction() {
    let cache = Cache::new(MIB);
    let slots = Slots::new(1, 1_000);
    let held = cache.insert(&slots, 0, block(1, 0, 8_000));
    (1..1_000).for_each(|index| assert!(!read(&cache, &slots, 1, index, 8_000)));
    assert!(slots.load(0).is_none());
    assert_eq!(held.key(0), name(1, 0));
    assert!(cache.stats().bytes <= MIB);
}

#[test]
fn a_closed_table_leaves_nothing_behind() {
    let cache = Cache::new(64 * MIB);
    let (kept, closed) = (Slots::new(1, 100), Slots::new(2, 100));
    for index in 0..100 {
        read(&cache, &kept, 1, index, 1_000);
        read(&cache, &closed, 2, index, 1_000);
    }
    let both = cache.stats();
    let in_use = closed.load_full(7).unwrap();
    cache.forget(&closed);
    let one = cache.stats();
    assert_eq!((one.shards, both.blocks, one.blocks, one.bytes * 2), (16, 200, 100, both.bytes));
    assert!((0..100).all(|index| closed.load(index).is_none() && kept.load(index).is_some()));
    assert_eq!(Arc::strong_count(&in_use), 1);

    let late = cache.insert(&closed, 5, block(2, 5, 10));
    assert_eq!(late.key(0), name(2, 5));
    assert!(closed.load(5).is_none());
    assert_eq!(cache.stats().blocks, 100);
}

#[test]
fn blocks_of_a_table_dropped_without_goodbye_still_make_room() {
    let cache = Cache::new(MIB);
    let lost = Slots::new(1, 100);
    (0..100).for_each(|index| assert!(!read(&cache, &lost, 1, index, 8_000)));
    drop(lost);
    let slots = Slots::new(2, 1_000);
    (0..1_000).for_each(|index| assert!(!read(&cache, &slots, 2, index, 8_000)));
    let in_slots = (0..1_000).filter(|&index| slots.load(index).is_some()).count();
    assert_eq!(cache.stats().blocks, in_slots);
}

#[test]
fn a_charge_takes_room_from_blocks_until_it_is_dropped() {
    let cache = Cache::new(16 * MIB);
    let slots = Slots::new(1, 10_000);
    let fill = || (0..10_000).for_each(|index| _ = read(&cache, &slots, 1, index, 8_000));
    fill();
    assert!(cache.stats().bytes > 15 * MIB);

    let charge = cache.charge(12 * MIB);
    assert_eq!((charge.bytes(), cache.stats().charged_bytes), (12 * MIB, 12 * MIB));
    assert!(cache.stats().bytes <= 4 * MIB);
    fill();
    assert!(cache.stats().bytes <= 4 * MIB);

    let more = cache.charge(100 * MIB);
    fill();
    let floor = 16 * MIB / BLOCKS_PART_MIN;
    assert!(cache.stats().bytes <= floor && cache.stats().blocks > 0);

    drop((charge, more));
    fill();
    assert!(cache.stats().bytes > 15 * MIB && cache.stats().charged_bytes == 0);
}

#[test]
fn a_smaller_capacity_evicts_at_once() {
    let cache = Cache::new(16 * MIB);
    let slots = Slots::new(1, 2_000);
    (0..2_000).for_each(|index| assert!(!read(&cache, &slots, 1, index, 8_000)));
    cache.set_capacity(2 * MIB);
    assert!(cache.stats().bytes <= 2 * MIB);
    cache.set_capacity(0);
    assert_eq!((cache.stats().bytes, cache.stats().ghosts), (0, 0));
    assert!(!read(&cache, &slots, 1, 0, 100) && !read(&cache, &slots, 1, 0, 100));
}

#[test]
fn blocks_of_one_table_spread_evenly_over_the_shards() {
    let slots = Slots::new(77, 1_000);
    let mut seen = vec![false; 1_000];
    for shard in 0..16 {
        let indexes: Vec<u32> = slots.indexes_of_shard(shard, 16).collect();
        assert!((62..=63).contains(&indexes.len()));
        for index in indexes {
            assert_eq!(slots.shard_of(index, 16), shard);
            assert!(!std::mem::replace(&mut seen[index as usize], true));
        }
    }
    assert!(seen.iter().all(|&seen| seen));
}

#[test]
fn there_are_as_many_shards_as_the_capacity_is_worth() {
    let shards = |capacity| Cache::new(capacity).stats().shards;
    assert_eq!([0, MIB, 8 * MIB - 1].map(shards), [1, 1, 1]);
    assert_eq!([8 * MIB, 63 * MIB, 64 * MIB, 4096 * MIB].map(shards), [2, 8, 16, 16]);
}

/// Threads load, hit, close and reopen tables, charge and resize all at once. No block is ever the
/// wrong one, the budget holds, and when all tables are closed nothing is left.
#[test]
fn no_entry_is_lost_track_of_by_many_threads() {
    const TABLES: u64 = 6;
    const BLOCKS: u32 = 200;
    let cache = Cache::new(8 * MIB);
    let tables: Vec<_> = (0..TABLES)
        .map(|table| arc_swap::ArcSwap::new(Slots::new(table, BLOCKS as usize)))
        .collect();
    let is_over = AtomicBool::new(false);
    thread::scope(|scope| {
        let readers: Vec<_> = (1..=4u64)
            .map(|seed| {
                let (cache, tables) = (&cache, &tables);
                scope.spawn(move || {
                    let mut random = seed;
                    for step in 0..20_000 {
                        random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(seed);
                        let table = (random >> 40) % TABLES;
                        let index = (random >> 50) as u32 % BLOCKS;
                        let slots = tables[table as usize].load_full();
                        read(cache, &slots, table, index, 4_000 + (index as usize % 7) * 3_000);
                        if step % 500 == 0 {
                            let new = Slots::new(table, BLOCKS as usize);
                            let old = tables[table as usize].swap(new);
                            cache.forget(&old);
                            assert!((0..BLOCKS).all(|index| old.load(index).is_none()));
                        }
                    }
                })
            })
            .collect();
        scope.spawn(|| {
            while !is_over.load(Ordering::Relaxed) {
                let charge = cache.charge(2 * MIB);
                cache.set_capacity(6 * MIB);
                drop(charge);
                cache.set_capacity(8 * MIB);
                assert!(cache.stats().bytes <= 8 * MIB);
            }
        });
        let outcomes: Vec<_> = readers.into_iter().map(|reader| reader.join()).collect();
        is_over.store(true, Ordering::Relaxed);
        outcomes.into_iter().for_each(|outcome| outcome.unwrap());
    });
    let stats = cache.stats();
    assert_eq!(stats.hits + stats.misses, 80_000);
    assert!(stats.evictions > 0 && stats.hits > 0);

    tables.iter().for_each(|slots| cache.forget(&slots.load()));
    let stats = cache.stats();
    assert_eq!((stats.blocks, stats.bytes, stats.charged_bytes), (0, 0, 0));
}
