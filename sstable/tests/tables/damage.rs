//! Damaged and exchanged files: refused, never served, never a panic.

use crate::bed::*;
use base::{Corruption, Error, Trailer, key_hash};
use proptest::prelude::*;
use sstable::{Compression, RangeDelete, ReadMode, Table, TableMeta, WriterOptions};
use std::ops::Range;
use std::sync::Arc;

fn found(error: &Error) -> Option<Corruption> {
    match error {
        Error::Corrupt { found, .. } => Some(*found),
        _ => None,
    }
}

/// What the table shows, if it shows anything: `None` once a read was refused.
fn observe(table: &Arc<Table>) -> Option<Model> {
    let model = contents(table, ReadMode::Cached).ok()?;
    for (space, key, trailer) in model.keys() {
        let hash = key_hash(*space, key);
        let value = table.get(*space, key, hash, trailer.0, |_, value, _| value.to_vec()).ok()?;
        assert_eq!(value.as_ref(), model.get(&(*space, key.clone(), *trailer)));
    }
    Some(model)
}

fn small_table(bed: &Bed, compression: Compression) -> (Model, TableMeta) {
    let mut model = sample(12);
    model.insert(put(2, b"other", 5), vec![9; 300]);
    let range = RangeDelete {
        space: space(1),
        start: b"a".as_slice().into(),
        end: Box::default(),
        seqno: tick(600),
        stamp: tick(600),
        origin: None,
    };
    let options = WriterOptions { compression, ..SMALL_BLOCKS };
    let meta = bed.write_with(1, &model, &[range], options);
    (model, meta)
}

#[test]
fn every_flipped_bit_is_noticed_and_no_read_shows_it() {
    for compression in [Compression::None, Compression::Zstd] {
        let bed = Bed::new();
        let (model, meta) = small_table(&bed, compression);
        let bytes = bed.read(1);
        let step = if compression == Compression::None { 1 } else { 3 };
        for bit in (0..8 * bytes.len()).step_by(step) {
            let mut flipped = bytes.clone();
            flipped[bit / 8] ^= 1 << (bit % 8);
            bed.replace(1, flipped);
            let Ok(table) = bed.try_open(&meta) else { continue };
            let verdict = table.verify().unwrap_err();
            assert_eq!(found(&verdict), Some(Corruption::DigestMismatch), "bit {bit}");
            if let Some(shown) = observe(&table) {
                panic!("bit {bit} went unnoticed; the contents are the same: {}", shown == model);
            }
        }
    }
}

#[test]
fn a_file_of_another_length_is_refused() {
    let bed = Bed::new();
    let (_, meta) = small_table(&bed, Compression::None);
    let bytes = bed.read(1);
    for len in 0..bytes.len() {
        bed.replace(1, &bytes[..len]);
        assert_eq!(found(&bed.try_open(&meta).unwrap_err()), Some(Corruption::Truncated), "{len}");
        assert!(sstable::table::inspect(&bed.disk, 1).is_err(), "{len}");
    }
    bed.replace(1, [&*bytes, &[0]].concat());
    assert_eq!(found(&bed.try_open(&meta).unwrap_err()), Some(Corruption::Truncated));
}

/// Stale, exchanged and foreign files are whole tables; only what is expected tells them apart.
#[test]
fn another_table_in_its_place_is_refused() {
    let bed = Bed::new();
    let meta = bed.write(1, &sample(20), SMALL_BLOCKS);
    let mut other = sample(20);
    *other.values_mut().next().unwrap() = vec![99; 30];
    let other_meta = bed.write(2, &other, SMALL_BLOCKS);
    assert_eq!(meta.len, other_meta.len);
    bed.replace(1, bed.read(2));
    let error = bed.try_open(&meta).unwrap_err();
    assert_eq!(found(&error), Some(Corruption::DigestMismatch));

    let cache = bed.cache.clone();
    let foreign = Table::open(&bed.disk, Arc::new(other_meta.clone()), [8; 16], cache);
    assert_eq!(found(&foreign.unwrap_err()), Some(Corruption::Foreign));

    let renumbered = TableMeta { id: 1, ..other_meta.clone() };
    assert_eq!(found(&bed.try_open(&renumbered).unwrap_err()), Some(Corruption::BadVersion));
    let recounted = TableMeta { entries: 21, ..other_meta };
    assert_eq!(found(&bed.try_open(&recounted).unwrap_err()), Some(Corruption::BadVersion));
}

#[test]
fn a_missing_file_is_missing_and_not_corrupt() {
    let bed = Bed::new();
    let meta = bed.write(1, &sample(2), SMALL_BLOCKS);
    bed.disk.remove_file(&base::FileName::Table(1).path()).unwrap();
    assert_eq!(bed.try_open(&meta).unwrap_err().code(), "TableMissing");
}

/// The error names the file, the block and what to do.
#[test]
fn corruption_says_where_it_is() {
    let bed = Bed::new();
    let meta = bed.write(1, &sample(100), SMALL_BLOCKS);
    let mut bytes = bed.read(1);
    bytes[1000] ^= 1;
    bed.replace(1, bytes);
    let error = bed.open(&meta).verify().unwrap_err();
    let Error::Corrupt { path, offset, .. } = &error else { panic!("{error}") };
    assert!(path.ends_with("tables/00000000000000000001.sst"), "{}", path.display());
    assert!((800..=1000).contains(offset), "{offset}");
}

const FOOTER_LEN: usize = 240;
const ROOT_LEN: usize = 32;

/// Replaces one digest by another wherever it is.
fn replace_digest(bytes: &mut [u8], old: [u8; 16], new: [u8; 16]) {
    let at: Vec<usize> = (0..bytes.len() - 16).filter(|at| bytes[*at..at + 16] == old).collect();
    at.into_iter().for_each(|at| bytes[at..at + 16].copy_from_slice(&new));
}

fn digest(bytes: &[u8]) -> [u8; 16] {
    *blake3::hash(bytes).as_bytes().first_chunk().unwrap()
}

/// Makes all digests of the changed file true again, as an attacker would who also holds the
/// manifest. `parts` are the blocks, then the sections, of the file before.
fn reseal(before: &[u8], after: &mut [u8], parts: &[Range<usize>]) -> [u8; 32] {
    for part in parts {
        let (old, new) = (digest(&before[part.clone()]), digest(&after[part.clone()]));
        if old != new {
            replace_digest(after, old, new);
        }
    }
    let footer_at = after.len() - FOOTER_LEN;
    let (fields, root) = after[footer_at..].split_at_mut(FOOTER_LEN - ROOT_LEN);
    root.copy_from_slice(blake3::hash(fields).as_bytes());
    (&*root).try_into().unwrap()
}

/// Blocks, then the index, then the other sections, as the digests depend on each other.
fn parts_of(bytes: &[u8]) -> Vec<Range<usize>> {
    let footer = &bytes[bytes.len() - FOOTER_LEN..];
    let number = |at: usize| u64::from_le_bytes(footer[at..at + 8].try_into().unwrap()) as usize;
    let section = |at: usize| number(at)..number(at) + number(at + 8);
    let (filter, index) = (section(48), section(80));
    // Every block has its digest in the index: find the ends by trying.
    let mut blocks = Vec::new();
    let mut start = 0;
    let listed = &bytes[index.clone()];
    for end in 1..=filter.start {
        let here = digest(&bytes[start..end]);
        if listed.windows(16).any(|window| window == here) {
            blocks.push(start..end);
            start = end;
        }
    }
    assert_eq!(start, filter.start);
    blocks.extend([index, filter, section(112), section(176)]);
    blocks
}

/// A table whose author lies: `change` alters the file, and all digests are true again.
fn forged(change: impl FnOnce(&mut Vec<u8>, &[Range<usize>])) -> (Bed, TableMeta) {
    let bed = Bed::new();
    let (_, meta) = small_table(&bed, Compression::None);
    let before = bed.read(1);
    let parts = parts_of(&before);
    let mut after = before.clone();
    change(&mut after, &parts);
    assert_ne!(before, after);
    let root = reseal(&before, &mut after, &parts);
    bed.replace(1, after);
    (bed, TableMeta { root, ..meta })
}

fn position_of(bytes: &[u8], wanted: &[u8]) -> usize {
    bytes.windows(wanted.len()).position(|window| window == wanted).unwrap()
}

#[test]
fn a_block_that_ends_elsewhere_than_the_index_says_is_refused() {
    let (bed, meta) = forged(|bytes, _| {
        let at = position_of(bytes, b"other");
        bytes[at + 4] = b's';
    });
    let error = bed.open(&meta).verify().unwrap_err();
    assert_eq!(found(&error), Some(Corruption::Misplaced));
}

#[test]
fn verifying_notices_a_filter_that_hides_keys() {
    let (bed, meta) = forged(|bytes, parts| {
        let filter = parts[parts.len() - 3].clone();
        bytes[filter.start + 8..filter.end].fill(0);
    });
    let error = bed.open(&meta).verify().unwrap_err();
    assert_eq!(found(&error), Some(Corruption::BadVersion));
}

#[test]
fn verifying_notices_counts_that_are_not_true() {
    let bed = Bed::new();
    let (_, meta) = small_table(&bed, Compression::None);
    let lies = [
        TableMeta { entries: meta.entries + 1, ..meta.clone() },
        TableMeta { tombstones: 1, ..meta.clone() },
        TableMeta { raw_bytes: meta.raw_bytes + 1, ..meta.clone() },
        TableMeta { range_deletes: 2, ..meta.clone() },
        TableMeta { expires_at_max_ms: 1, ..meta.clone() },
        TableMeta { seqno_min: meta.seqno_min.next(), ..meta.clone() },
        TableMeta { largest: sstable::TableKey::new(space(2), b"othes"), ..meta.clone() },
    ];
    for lie in lies {
        let encoded = |meta: &TableMeta| {
            let mut out = Vec::new();
            TableMeta { len: 0, root: [0; 32], ..meta.clone() }.encode(&mut out);
            out
        };
        let (bed, meta) = forged(|bytes, _| {
            let at = position_of(bytes, &encoded(&meta));
            bytes[at..at + encoded(&lie).len()].copy_from_slice(&encoded(&lie));
        });
        let lie = TableMeta { root: meta.root, ..lie };
        let error = bed.open(&lie).verify().unwrap_err();
        assert_eq!(found(&error), Some(Corruption::BadVersion), "{lie:?}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    /// With true digests everything behind them is reached. Whatever it does, it does not panic.
    #[test]
    fn a_forged_table_never_panics(
        changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..4),
        target: Vec<u8>,
    ) {
        thread_local! {
            static TABLE: (Bed, TableMeta, Vec<u8>, Vec<Range<usize>>) = {
                let bed = Bed::new();
                let (_, meta) = small_table(&bed, Compression::None);
                let bytes = bed.read(1);
                let parts = parts_of(&bytes);
                (bed, meta, bytes, parts)
            };
        }
        TABLE.with(|(bed, meta, bytes, parts)| {
            let mut forged = bytes.clone();
            for (at, byte) in changes {
                let at = at.index(forged.len());
                forged[at] = byte;
            }
            let root = reseal(bytes, &mut forged, parts);
            bed.replace(1, forged);
            let _ = sstable::table::inspect(&bed.disk, 1);
            let Ok(table) = bed.try_open(&TableMeta { root, ..meta.clone() }) else { return };
            let _ = table.verify();
            for space in [space(1), space(2)] {
                let hash = key_hash(space, &target);
                let _ = table.get(space, &target, hash, Trailer::MAX, |_, _, _| ());
                for read in [ReadMode::Cached, ReadMode::Bypass] {
                    let mut cursor = table.cursor(space, read);
                    let _ = cursor.seek(&target, Trailer::MAX);
                    let _ = cursor.seek_before(&target);
                    let _ = cursor.seek_last();
                    while cursor.is_valid() && cursor.retreat().is_ok() {}
                    let _ = cursor.seek_first();
                    while cursor.is_valid() && cursor.advance().is_ok() {}
                }
            }
        });
    }
}
