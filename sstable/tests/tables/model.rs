//! Gets and cursors against a sorted map.

use crate::bed::*;
use base::{SpaceId, Trailer, key_hash};
use proptest::prelude::*;
use sstable::{ReadMode, Table, TableCursor};
use std::cmp::Reverse;
use std::sync::Arc;

type Found = Option<(Trailer, Vec<u8>)>;

fn expected(model: &Model, space: SpaceId, key: &[u8], at: Trailer) -> Found {
    let (found, value) = model.range((space, key.to_vec(), Reverse(at))..).next()?;
    (found.0 == space && found.1 == key).then(|| (found.2.0, value.clone()))
}

fn get(table: &Table, space: SpaceId, key: &[u8], at: Trailer) -> Found {
    let hash = key_hash(space, key);
    table
        .get(space, key, hash, at, |trailer, value, block| {
            let index = block.find(key, at).unwrap();
            assert_eq!(&block.bytes()[block.value_range(index)], value);
            (trailer, value.to_vec())
        })
        .unwrap()
}

#[derive(Clone, Debug)]
enum Step {
    First,
    Last,
    Seek(Vec<u8>, Trailer),
    SeekOwn(prop::sample::Index),
    Before(Vec<u8>),
    BeforeOwn(prop::sample::Index),
    Advance(u8),
    Retreat(u8),
    Mode(bool),
}

fn any_step() -> impl Strategy<Value = Step> {
    prop_oneof![
        1 => Just(Step::First),
        1 => Just(Step::Last),
        2 => (any_key(), any_trailer()).prop_map(|(key, trailer)| Step::Seek(key, trailer)),
        4 => any::<prop::sample::Index>().prop_map(Step::SeekOwn),
        2 => any_key().prop_map(Step::Before),
        2 => any::<prop::sample::Index>().prop_map(Step::BeforeOwn),
        4 => (1u8..9).prop_map(Step::Advance),
        4 => (1u8..9).prop_map(Step::Retreat),
        1 => any::<bool>().prop_map(Step::Mode),
    ]
}

/// The entries of one keyspace and a place among them.
struct Reference<'a> {
    entries: Vec<(&'a [u8], Reverse<Trailer>, &'a [u8])>,
    at: Option<usize>,
}

impl Reference<'_> {
    fn go(&mut self, at: Option<usize>) {
        self.at = at.filter(|at| *at < self.entries.len());
    }

    fn seek(&mut self, key: &[u8], trailer: Trailer) {
        let target = (key, Reverse(trailer));
        self.go(Some(self.entries.partition_point(|entry| (entry.0, entry.1) < target)));
    }

    fn before(&mut self, key: &[u8]) {
        self.go(self.entries.partition_point(|entry| entry.0 < key).checked_sub(1));
    }
}

fn take(step: &Step, cursor: &mut TableCursor, reference: &mut Reference<'_>) {
    let own = |index: &prop::sample::Index, reference: &Reference<'_>| {
        let entries = &reference.entries;
        (!entries.is_empty()).then(|| {
            (
                entries[index.index(entries.len())].0.to_vec(),
                entries[index.index(entries.len())].1.0,
            )
        })
    };
    match step {
        Step::First => {
            cursor.seek_first().unwrap();
            reference.go(Some(0));
        }
        Step::Last => {
            cursor.seek_last().unwrap();
            reference.go(reference.entries.len().checked_sub(1));
        }
        Step::Seek(key, trailer) => {
            cursor.seek(key, *trailer).unwrap();
            reference.seek(key, *trailer);
        }
        Step::SeekOwn(index) => {
            let Some((key, trailer)) = own(index, reference) else { return };
            cursor.seek(&key, trailer).unwrap();
            reference.seek(&key, trailer);
        }
        Step::Before(key) => {
            cursor.seek_before(key).unwrap();
            reference.before(key);
        }
        Step::BeforeOwn(index) => {
            let Some((key, _)) = own(index, reference) else { return };
            cursor.seek_before(&key).unwrap();
            reference.before(&key);
        }
        Step::Advance(times) => {
            for _ in 0..*times {
                cursor.advance().unwrap();
                reference.go(reference.at.map(|at| at + 1));
            }
        }
        Step::Retreat(times) => {
            for _ in 0..*times {
                cursor.retreat().unwrap();
                reference.go(reference.at.and_then(|at| at.checked_sub(1)));
            }
        }
        Step::Mode(is_cached) => {
            cursor.set_read_mode(if *is_cached { ReadMode::Cached } else { ReadMode::Bypass });
        }
    }
}

fn compare(cursor: &TableCursor, reference: &Reference<'_>) {
    let here = reference.at.map(|at| reference.entries[at]);
    assert_eq!(cursor.is_valid(), here.is_some());
    let (key, trailer, value) = here.unwrap_or((b"", Reverse(Trailer::MIN), b""));
    assert_eq!((cursor.key(), cursor.trailer(), cursor.value()), (key, trailer.0, value));
    match cursor.block() {
        Some(block) => assert_eq!(&block.bytes()[cursor.value_range()], value),
        None => assert!(here.is_none()),
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn a_get_finds_what_a_sorted_map_finds(
        model in any_model(),
        options in any_options(),
        others in prop::collection::vec((1u32..5, any_key(), any_trailer()), 50),
    ) {
        let bed = Bed::new();
        let meta = bed.write(1, &model, options);
        let table = bed.open(&meta);
        prop_assert_eq!(table.verify().unwrap(), model.len() as u64);
        for (at, (space, key, trailer)) in model.keys().enumerate() {
            prop_assert!(table.may_contain(key_hash(*space, key)) && meta.covers(*space, key));
            let older = Trailer(trailer.0.0 - 1);
            for at in [Trailer::MAX, trailer.0, older, Trailer(at as u64)] {
                prop_assert_eq!(get(&table, *space, key, at), expected(&model, *space, key, at));
            }
        }
        for (number, key, at) in others {
            let at = if at.0.is_multiple_of(2) { at } else { Trailer::MAX };
            let space = space(number);
            prop_assert_eq!(get(&table, space, &key, at), expected(&model, space, &key, at));
        }
    }

    #[test]
    fn a_cursor_walks_as_over_a_sorted_map(
        model in any_model(),
        options in any_options(),
        number in 1u32..5,
        steps in prop::collection::vec(any_step(), 1..80),
    ) {
        let bed = Bed::new();
        let table = bed.open(&bed.write(1, &model, options));
        let space = space(number);
        let of_space = model.iter().filter(|(at, _)| at.0 == space);
        let entries = of_space.map(|((_, key, trailer), value)| (&**key, *trailer, &**value)).collect();
        let mut reference = Reference { entries, at: None };
        let mut cursor = table.cursor(space, ReadMode::Cached);
        for step in &steps {
            take(step, &mut cursor, &mut reference);
            compare(&cursor, &reference);
        }
    }

    #[test]
    fn both_read_modes_show_everything(model in any_model(), options in any_options()) {
        let bed = Bed::new();
        let table: Arc<Table> = bed.open(&bed.write(1, &model, options));
        prop_assert_eq!(&contents(&table, ReadMode::Bypass).unwrap(), &model);
        prop_assert_eq!(&contents(&table, ReadMode::Cached).unwrap(), &model);
        prop_assert_eq!(&contents(&table, ReadMode::Bypass).unwrap(), &model);
    }
}

/// A seek that stays in the block must not ask for it again, even when the cache has dropped it.
#[test]
fn a_seek_within_the_block_touches_no_cache() {
    let bed = Bed::new();
    let table = bed.open(&bed.write(1, &sample(30), sstable::WriterOptions::default()));
    let mut cursor = table.cursor(space(1), ReadMode::Cached);
    cursor.seek(b"user:0002", Trailer::MAX).unwrap();
    let before = bed.cache.stats();
    for key in ["user:0004", "user:0009", "user:0001", "user:0029", "user:0000"] {
        cursor.seek(key.as_bytes(), Trailer::MAX).unwrap();
        assert_eq!(cursor.key(), key.as_bytes());
    }
    cursor.seek_before(b"user:0020").unwrap();
    assert_eq!(cursor.key(), b"user:0019");
    let after = bed.cache.stats();
    assert_eq!((before.hits, before.misses), (after.hits, after.misses));
}

/// Long enough that spans are fetched several times, forward and backward.
#[test]
fn a_large_table_reads_the_same_in_every_way() {
    let bed = Bed::new();
    let model: Model = (0..30_000u64)
        .map(|n| (put(1, format!("{n:08}").as_bytes(), n + 1), vec![n as u8; 40]))
        .collect();
    let table = bed.open(&bed.write(1, &model, sstable::WriterOptions::default()));
    for read in [ReadMode::Bypass, ReadMode::Cached, ReadMode::Bypass] {
        let mut cursor = table.cursor(space(1), read);
        cursor.seek_last().unwrap();
        for ((_, key, trailer), value) in model.iter().rev() {
            assert_eq!(
                (cursor.key(), cursor.trailer(), cursor.value()),
                (&**key, trailer.0, &**value)
            );
            cursor.retreat().unwrap();
        }
        assert!(!cursor.is_valid());
        assert_eq!(contents(&table, read).unwrap().len(), model.len());
    }
    assert_eq!(table.verify().unwrap(), 30_000);
}
