//! Tables through their public face: what goes in comes out, and nothing else ever does.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

mod authors;
mod bed;
mod damage;
mod faults;
mod model;
mod salvage;

use base::{EntryKind, Error, Trailer};
use bed::*;
use sstable::{RangeDelete, TableKey, WriterOptions};

#[test]
fn the_meta_says_what_is_in_the_table() {
    let bed = Bed::new();
    let mut model = sample(100);
    let delete = Trailer::new(tick(7777), EntryKind::Delete);
    model.insert((space(1), b"gone".to_vec(), std::cmp::Reverse(delete)), vec![]);
    let expiring = Trailer::new(tick(8), EntryKind::PutExpiring);
    let value = [&900u64.to_le_bytes()[..], b"x"].concat();
    model.insert((space(2), b"soon".to_vec(), std::cmp::Reverse(expiring)), value);

    let meta = bed.write(4, &model, SMALL_BLOCKS);

    assert_eq!((meta.id, meta.scope, meta.generation), (4, base::ScopeId::MAIN, 3));
    assert_eq!((meta.entries, meta.tombstones, meta.expiring), (model.len() as u64, 1, 1));
    assert_eq!((meta.seqno_min, meta.seqno_max), (tick(8), tick(7777)));
    assert_eq!((meta.tombstone_stamp_max, meta.expires_at_max_ms), (tick(7777), 900));
    assert_eq!(meta.smallest, TableKey::new(space(1), b"gone"));
    assert_eq!(meta.largest, TableKey::new(space(2), b"soon"));
    assert_eq!(meta.len, bed.read(4).len() as u64);
    let raw = |((_, key, _), value): (&(_, Vec<u8>, _), &Vec<u8>)| (key.len() + value.len()) as u64;
    assert_eq!(meta.raw_bytes, model.iter().map(raw).sum::<u64>());
}

#[test]
fn a_table_says_the_same_about_itself_as_its_writer_did() {
    let bed = Bed::new();
    let meta = bed.write(4, &sample(50), WriterOptions::default());
    assert_eq!(sstable::table::inspect(&bed.disk, 4).unwrap(), (meta, OWNER));
}

#[test]
fn keyspaces_are_accounted_apart() {
    let bed = Bed::new();
    let mut model = sample(40);
    model.insert(put(5, b"lone", 9), b"value".to_vec());
    let meta = bed.write(1, &model, SMALL_BLOCKS);
    let spaces: Vec<_> = bed.open(&meta).spaces().collect();
    assert_eq!(spaces.iter().map(|(space, _)| *space).collect::<Vec<_>>(), [space(1), space(5)]);
    assert_eq!((spaces[1].1.entries, spaces[1].1.raw_bytes), (1, 9));
    assert_eq!(spaces[0].1.entries + 1, meta.entries);
    assert_eq!(spaces[0].1.raw_bytes + 9, meta.raw_bytes);
    assert!(spaces[0].1.stored_bytes > spaces[1].1.stored_bytes);
}

#[test]
fn range_deletes_come_back_in_order_and_a_table_may_hold_nothing_else() {
    let bed = Bed::new();
    let range = |start: &[u8], end: &[u8], seqno| RangeDelete {
        space: space(1),
        start: start.into(),
        end: end.into(),
        seqno: tick(seqno),
        stamp: tick(seqno + 1),
        origin: None,
    };
    let ranges = [range(b"m", b"", 5), range(b"a", b"c", 3), range(b"a", b"b", 4)];
    let meta = bed.write_with(2, &Model::new(), &ranges, WriterOptions::default());
    assert_eq!((meta.entries, meta.range_deletes, meta.tombstone_stamp_max), (0, 3, tick(6)));
    assert_eq!((meta.seqno_min, meta.seqno_max), (tick(3), tick(5)));
    assert_eq!(meta.smallest, TableKey::new(space(1), b"a"));
    assert_eq!(meta.largest, TableKey::new(space(1), b"m"));
    let table = bed.open(&meta);
    assert_eq!(table.range_deletes(), [ranges[2].clone(), ranges[1].clone(), ranges[0].clone()]);
    assert_eq!(table.verify().unwrap(), 0);
    let mut cursor = table.cursor(space(1), sstable::ReadMode::Cached);
    cursor.seek_first().unwrap();
    assert!(!cursor.is_valid());
    cursor.seek_last().unwrap();
    assert!(!cursor.is_valid());
    cursor.seek_before(b"z").unwrap();
    assert!(!cursor.is_valid());
}

/// Bulk ingested tables are written before their seqno is known.
#[test]
fn a_seqno_override_raises_every_entry_on_read() {
    let bed = Bed::new();
    let model: Model = (0..50u8).map(|number| (put(1, &[b'k', number], 0), vec![number])).collect();
    let mut meta = bed.write(1, &model, SMALL_BLOCKS);
    meta.seqno_override = Some(tick(1 << 30));
    let table = bed.open(&meta);
    assert_eq!(meta.newest(), tick(1 << 30));
    assert_eq!(table.verify().unwrap(), 50);
    let raised: Model = (0..50u8).map(|n| (put(1, &[b'k', n], 1 << 30), vec![n])).collect();
    assert_eq!(contents(&table, sstable::ReadMode::Cached).unwrap(), raised);
    let hash = base::key_hash(space(1), b"k\x07");
    let get = |at| table.get(space(1), b"k\x07", hash, at, |trailer, _, _| trailer).unwrap();
    assert_eq!(get(Trailer::MAX), Some(Trailer::new(tick(1 << 30), EntryKind::Put)));
    assert_eq!(get(Trailer::at(tick((1 << 30) - 1))), None);
}

#[test]
fn an_override_of_a_table_with_seqnos_is_refused() {
    let bed = Bed::new();
    let mut meta = bed.write(1, &sample(5), SMALL_BLOCKS);
    meta.seqno_override = Some(tick(1 << 30));
    assert_eq!(bed.try_open(&meta).unwrap_err().code(), "TableCorrupt");
}

#[test]
fn what_has_no_place_in_a_table_is_refused() {
    let bed = Bed::new();
    let at = |seqno, kind| Trailer::new(tick(seqno), kind);
    let refused = |result: base::Result<()>| matches!(result, Err(Error::InvalidInput { .. }));

    let mut writer = bed.writer(1, SMALL_BLOCKS);
    writer.add(space(2), b"k", at(5, EntryKind::Put), b"").unwrap();
    assert!(refused(writer.add(space(2), b"k", at(5, EntryKind::Put), b"")), "the same again");
    assert!(refused(writer.add(space(2), b"k", at(6, EntryKind::Put), b"")), "a newer version");
    assert!(refused(writer.add(space(2), b"j", at(5, EntryKind::Put), b"")), "a smaller key");
    assert!(refused(writer.add(space(1), b"z", at(5, EntryKind::Put), b"")), "a smaller space");
    assert!(refused(writer.add(space(2), b"l", at(5, EntryKind::RangeDelete), b"")));
    assert!(refused(writer.add(space(2), b"l", Trailer(5 << 8), b"")), "no kind");
    assert!(refused(writer.add(space(2), b"l", at(5, EntryKind::PutExpiring), b"1234567")));
    let other = base::SpaceId::new(base::ScopeId(9), base::KeyspaceId(1));
    assert!(refused(writer.add(other, b"l", at(5, EntryKind::Put), b"")), "another scope");
    let long = writer.add(space(2), &vec![b'l'; 70_000], at(5, EntryKind::Put), b"");
    assert!(matches!(long, Err(Error::TooLarge { .. })));
    writer.abandon();

    let empty = bed.writer(2, SMALL_BLOCKS).finish();
    assert!(refused(empty.map(drop)), "nothing at all");
}

#[test]
fn options_change_from_the_next_block_on() {
    let bed = Bed::new();
    let mut writer = bed.writer(1, WriterOptions { filter_bits_per_key: 0, ..SMALL_BLOCKS });
    writer.add(space(1), b"a", Trailer::new(tick(1), EntryKind::Put), &[1; 10]).unwrap();
    writer.set_options(WriterOptions { block_bytes: 8192, ..SMALL_BLOCKS });
    for key in 0..200u8 {
        let value = [key; 10];
        writer.add(space(2), &[key], Trailer::new(tick(1), EntryKind::Put), &value).unwrap();
    }
    let meta = writer.finish().unwrap();
    let table = bed.open(&meta);
    assert_eq!(table.verify().unwrap(), 201);
    let mut cursor = table.cursor(space(2), sstable::ReadMode::Cached);
    cursor.seek_first().unwrap();
    assert_eq!(cursor.block().unwrap().count(), 200, "the second keyspace has the larger blocks");
}

/// Scans trust a plain block to start with a key that the block before does not have.
#[test]
fn a_block_that_starts_with_an_older_version_is_not_plain() {
    let bed = Bed::new();
    let model: Model = (1..=60).map(|seqno| (put(1, b"key", seqno), vec![0; 30])).collect();
    let table = bed.open(&bed.write(1, &model, SMALL_BLOCKS));
    let mut cursor = table.cursor(space(1), sstable::ReadMode::Cached);
    cursor.seek_last().unwrap();
    let mut blocks = 0;
    while cursor.is_valid() {
        let block = cursor.block().unwrap().clone();
        assert!(!block.is_plain());
        blocks += 1;
        (0..block.count()).for_each(|_| cursor.retreat().unwrap());
    }
    assert!(blocks > 5, "{blocks}");
}

#[test]
fn the_estimate_is_near_the_truth() {
    let bed = Bed::new();
    let mut writer = bed.writer(1, WriterOptions::default());
    for ((space, key, trailer), value) in sample(5000) {
        writer.add(space, &key, trailer.0, &value).unwrap();
    }
    let estimate = writer.estimated_len();
    let len = writer.finish().unwrap().len;
    assert!(estimate.abs_diff(len) < len / 20, "{estimate} for {len}");
}

/// Closing a table gives back what it holds in the cache.
#[test]
fn a_dropped_table_leaves_nothing_in_the_cache() {
    let bed = Bed::new();
    let meta = bed.write(1, &sample(300), SMALL_BLOCKS);
    let table = bed.open(&meta);
    contents(&table, sstable::ReadMode::Cached).unwrap();
    let stats = bed.cache.stats();
    assert!(stats.bytes > 0 && stats.charged_bytes > 0 && stats.blocks > 10);
    drop(table);
    let stats = bed.cache.stats();
    assert_eq!((stats.bytes, stats.charged_bytes, stats.blocks), (0, 0, 0));
}

#[test]
fn readers_that_bypass_the_cache_leave_no_trace_in_it() {
    let bed = Bed::new();
    let model = sample(300);
    let table = bed.open(&bed.write(1, &model, SMALL_BLOCKS));
    assert_eq!(contents(&table, sstable::ReadMode::Bypass).unwrap(), model);
    table.verify().unwrap();
    let stats = bed.cache.stats();
    assert_eq!((stats.hits, stats.misses, stats.blocks), (0, 0, 0));
}
