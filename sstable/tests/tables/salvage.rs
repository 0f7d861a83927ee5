//! What is read of damaged tables: all that verifies, and nothing else.

use crate::bed::*;
use base::{Error, Result};
use sstable::table::{LostBlock, Salvage, salvage};
use sstable::{Compression, RangeDelete, TableMeta, WriterOptions};
use std::cmp::Reverse;

fn filled(bed: &Bed, compression: Compression) -> (Model, TableMeta) {
    let mut model = sample(12);
    model.insert(put(2, b"other", 5), vec![9; 300]);
    model.insert(put(2, b"third", 6), vec![8; 30]);
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

fn try_salvage(bed: &Bed, meta: &TableMeta) -> Result<Salvage> {
    salvage(&bed.disk, meta, DATABASE)
}

fn read(salvage: &Salvage) -> (Model, Vec<LostBlock>) {
    let mut model = Model::new();
    let lost = salvage.read(|space, key, trailer, value| {
        let before = model.insert((space, key.to_vec(), Reverse(trailer)), value.to_vec());
        assert!(before.is_none(), "an entry comes twice");
        Ok(())
    });
    (model, lost.unwrap())
}

/// That `shown` lacks of `model` only what `lost` speaks of, and adds nothing.
#[track_caller]
fn assert_accounted_for(model: &Model, shown: &Model, lost: &[LostBlock]) {
    assert!(shown.iter().all(|(at, value)| model.get(at) == Some(value)), "an entry was made up");
    for (space, key, _) in model.keys().filter(|at| !shown.contains_key(*at)) {
        let covers =
            |lost: &LostBlock| lost.space == *space && *lost.first <= **key && **key <= *lost.last;
        assert!(lost.iter().any(covers), "{key:?} is lost, and nobody says so");
    }
}

#[test]
fn a_whole_table_is_read_wholly() {
    let bed = Bed::new();
    let (model, meta) = filled(&bed, Compression::None);
    let table = try_salvage(&bed, &meta).unwrap();
    let (shown, lost) = read(&table);
    assert_eq!(shown, model);
    assert!(lost.is_empty() && table.range_deletes().unwrap().len() == 1);
}

#[test]
fn whichever_byte_is_damaged_the_loss_is_named_and_the_rest_is_read() {
    for compression in [Compression::None, Compression::Zstd] {
        let bed = Bed::new();
        let (model, meta) = filled(&bed, compression);
        let bytes = bed.read(1);
        let (mut whole, mut partial, mut none, mut ranges) = (0, 0, 0, 0);
        for at in 0..bytes.len() {
            let mut damaged = bytes.clone();
            damaged[at] ^= 1 << (at % 8);
            bed.replace(1, damaged);
            let table = match try_salvage(&bed, &meta) {
                Ok(table) => table,
                Err(error) => {
                    assert!(matches!(error, Error::Corrupt { .. }), "{error}");
                    none += 1;
                    continue;
                }
            };
            ranges += usize::from(table.range_deletes().is_err());
            let (shown, lost) = read(&table);
            assert_accounted_for(&model, &shown, &lost);
            let is_whole = shown == model;
            assert_eq!(is_whole, lost.is_empty());
            assert!(lost.len() <= 1, "one byte is in one block");
            whole += usize::from(is_whole);
            partial += usize::from(!is_whole);
        }
        // Blocks, filter and properties, index and footer, range deletes: all were met.
        assert!(partial > 100 && whole > 50 && none > 200 && ranges > 5, "{partial} {whole}");
    }
}

#[test]
fn a_longer_file_loses_nothing_and_a_shorter_one_has_no_end_to_start_from() {
    let bed = Bed::new();
    let (model, meta) = filled(&bed, Compression::None);
    let bytes = bed.read(1);
    bed.replace(1, [&*bytes, &[7; 900]].concat());
    let (shown, lost) = read(&try_salvage(&bed, &meta).unwrap());
    assert!(shown == model && lost.is_empty());
    for len in (0..bytes.len()).step_by(7) {
        bed.replace(1, &bytes[..len]);
        assert_eq!(try_salvage(&bed, &meta).unwrap_err().code(), "TableCorrupt", "{len}");
    }
}

#[test]
fn another_table_in_its_place_gives_nothing() {
    let bed = Bed::new();
    let (_, meta) = filled(&bed, Compression::None);
    bed.write(2, &sample(40), WriterOptions::default());
    bed.replace(1, bed.read(2));
    assert_eq!(try_salvage(&bed, &meta).unwrap_err().code(), "TableCorrupt");
}
