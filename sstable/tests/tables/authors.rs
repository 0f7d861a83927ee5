//! Entries of other authors: who they are, and up to which of their commits the table knows.

use crate::bed::*;
use base::foreign::{Erased, NumberedStamp, put_erase, put_foreign};
use base::{EntryKind, FileName, Incarnation, NodeId, Origin, OriginNumber, Stamp, Trailer};
use sstable::{Authors, RangeDelete, TableMeta, TableSource, TableWriter};
use std::sync::Arc;

fn origin(node: u8) -> Origin {
    Origin { node: NodeId([node; 16]), incarnation: Incarnation(5) }
}

/// The author of the tables is the second of three.
fn authors() -> Authors {
    let list = vec![origin(7), OWNER.origin, origin(8)];
    Authors { local: OriginNumber(2), list: Arc::new(list) }
}

fn stamp(origin: u32, raw: u64) -> NumberedStamp {
    NumberedStamp { origin: OriginNumber(origin), tick: tick(raw) }
}

fn foreign(seqno: u64, origin: u32, raw: u64, value: &[u8]) -> Vec<u8> {
    let mut stored = Vec::new();
    put_foreign(&mut stored, tick(seqno), stamp(origin, raw));
    stored.extend_from_slice(value);
    stored
}

fn range(author: Option<Origin>, stamp: u64) -> RangeDelete {
    let (start, end) = (b"x".as_slice().into(), Box::default());
    RangeDelete { space: space(1), start, end, seqno: tick(90), stamp: tick(stamp), origin: author }
}

fn writer(bed: &Bed) -> TableWriter {
    let mut writer = bed.writer(3, SMALL_BLOCKS);
    writer.set_authors(authors());
    writer
}

#[test]
fn a_table_knows_its_authors_and_the_last_commit_of_each() {
    let bed = Bed::new();
    let mut writer = writer(&bed);
    let mut add = |key: &[u8], trailer, stored: &[u8]| {
        writer.add(space(1), key, trailer, stored).unwrap();
    };
    add(b"a", Trailer::foreign(tick(50), EntryKind::Put), &foreign(50, 1, 20, b"value"));
    add(b"b", Trailer::new(tick(40), EntryKind::Put), b"mine");
    add(b"c", Trailer::foreign(tick(60), EntryKind::Delete), &foreign(60, 3, 30, b""));
    let mut erase = Vec::new();
    let victim = Stamp { tick: tick(55), origin: origin(99) };
    put_erase(&mut erase, tick(70), Erased { victim, carrier: stamp(1, 35) });
    add(b"d", Trailer::new(tick(70), EntryKind::Erase), &erase);
    let until = 900u64.to_le_bytes();
    add(b"e", Trailer::foreign(tick(71), EntryKind::PutExpiring), &foreign(71, 3, 31, &until));
    writer.add_range_delete(range(Some(origin(8)), 45)).unwrap();
    writer.add_range_delete(range(None, 41)).unwrap();
    let meta = writer.finish().unwrap();

    assert_eq!(meta.local, OriginNumber(2));
    let latest: Vec<_> = meta.latest().map(|(number, at)| (number.0, at.raw())).collect();
    assert_eq!(latest, [(0, 41), (1, 35), (3, 45)]);
    assert_eq!((meta.tombstones, meta.expiring, meta.expires_at_max_ms), (2, 1, 900));
    assert_eq!(meta.tombstone_stamp_max, tick(55));
    let table = bed.open(&meta);
    assert_eq!(table.verify().unwrap(), 5);
    assert_eq!(table.local(), OWNER.origin);
    let named = [(OriginNumber(1), origin(7)), (OriginNumber(3), origin(8))];
    assert_eq!(table.authors(), named);
    let lie = TableMeta { origins: [(OriginNumber::LOCAL, tick(41))].into(), ..meta };
    assert!(bed.try_open(&lie).is_err());
}

#[test]
fn an_author_without_a_number_and_a_stamp_that_does_not_decode_are_refused() {
    let bed = Bed::new();
    let mut writer = writer(&bed);
    assert!(writer.add_range_delete(range(Some(origin(9)), 1)).is_err());
    let trailer = Trailer::foreign(tick(50), EntryKind::Put);
    assert!(writer.add(space(1), b"k", trailer, &[]).is_err());
    assert!(writer.add(space(1), b"k", trailer, &foreign(60, 1, 5, b"")).is_err());
    let erase = Trailer::new(tick(50), EntryKind::Erase);
    assert!(writer.add(space(1), b"k", erase, b"short").is_err());
    writer.add(space(1), b"k", trailer, &foreign(50, 4, 5, b"")).unwrap();
    assert!(writer.finish().is_err());
}

#[test]
fn a_table_of_another_database_is_opened_only_if_the_manifest_says_so() {
    let bed = Bed::new();
    let mut meta = bed.write(1, &sample(20), SMALL_BLOCKS);
    let file = bed.disk.read_file(&FileName::Table(1).path()).unwrap();
    let mut copy = bed.fs().create(&FileName::Table(9).path(), 0).unwrap();
    copy.append(&file).unwrap();
    copy.finish().unwrap();
    meta.id = 9;
    assert!(bed.try_open(&meta).is_err());
    for (database, id, opens) in [([99; 16], 1, false), (DATABASE, 2, false), (DATABASE, 1, true)] {
        meta.source = Some(TableSource { database, id });
        assert_eq!(bed.try_open(&meta).is_ok(), opens);
    }
    assert_eq!(bed.open(&meta).verify().unwrap(), meta.entries);
}
