//! The memtable against a map, and under many threads.

use super::*;
use base::{Cursor, KeyspaceId};
use proptest::prelude::*;
use std::collections::BTreeMap;

const SPACE: SpaceId = SpaceId(1 << 32 | 7);

fn put<'a>(key: &'a [u8], value: &'a [u8]) -> (SpaceId, Op<'a>) {
    (SPACE, Op { keyspace: KeyspaceId(7), key, kind: OpKind::Put(value) })
}

fn delete(key: &[u8]) -> (SpaceId, Op<'_>) {
    (SPACE, Op { keyspace: KeyspaceId(7), key, kind: OpKind::Delete })
}

fn get(memtable: &Memtable, key: &[u8], at: u64) -> Option<(Trailer, Vec<u8>)> {
    let at = Trailer::at(Tick::from_raw(at).unwrap());
    memtable.get(SPACE, key, key_hash(SPACE, key), at).map(|(t, v)| (t, v.to_vec()))
}

fn tick(raw: u64) -> Tick {
    Tick::from_raw(raw).unwrap()
}

#[test]
fn a_later_op_of_one_commit_hides_an_earlier_one() {
    let memtable = Memtable::new(1 << 20, 0, Tick::ZERO, Origin::default()).unwrap();
    let ops = [put(b"a", b"1"), put(b"a", b"2"), put(b"b", b"1"), delete(b"b"), put(b"c", b"1")];
    memtable.insert(tick(5), ops.into_iter()).unwrap();
    assert_eq!(get(&memtable, b"a", 9).unwrap().1, b"2");
    assert_eq!(get(&memtable, b"b", 9).unwrap().0, Trailer::new(tick(5), base::EntryKind::Delete));
    assert_eq!(get(&memtable, b"c", 9).unwrap().1, b"1");
    assert_eq!(get(&memtable, b"a", 4), None);
}

#[test]
fn keyspaces_do_not_mix() {
    let memtable = Memtable::new(1 << 20, 0, Tick::ZERO, Origin::default()).unwrap();
    for space in 0..3000u64 {
        let key = space.to_be_bytes();
        let op = Op { keyspace: KeyspaceId(0), key: &key, kind: OpKind::Put(b"v") };
        memtable.insert(tick(1), std::iter::once((SpaceId(space), op))).unwrap();
    }
    assert_eq!(memtable.spaces(), (0..3000).map(SpaceId).collect::<Vec<_>>());
    for space in 0..3000u64 {
        let (key, other) = (space.to_be_bytes(), (space + 1).to_be_bytes());
        let space = SpaceId(space);
        assert!(memtable.get(space, &key, key_hash(space, &key), Trailer::MAX).is_some());
        assert!(memtable.get(space, &other, key_hash(space, &other), Trailer::MAX).is_none());
    }
}

#[test]
fn many_threads_insert_at_once_and_nothing_is_lost() {
    let threads = if cfg!(miri) { 2 } else { 4 };
    let each = if cfg!(miri) { 40 } else { 5000u64 };
    let memtable = Arc::new(Memtable::new(8 << 20, 0, Tick::ZERO, Origin::default()).unwrap());
    std::thread::scope(|scope| {
        for thread in 0..threads {
            let memtable = &memtable;
            scope.spawn(move || {
                for i in 0..each {
                    // Threads interleave in key order, half of them ascending, half descending.
                    let i = if thread % 2 == 0 { i } else { each - 1 - i };
                    let key = (i * threads + thread).to_be_bytes();
                    memtable.insert(tick(i + 1), std::iter::once(put(&key, &key))).unwrap();
                    assert!(get(memtable, &key, u64::MAX >> 8).is_some());
                }
            });
        }
    });
    let mut cursor = memtable.cursor(SPACE);
    cursor.seek_first().unwrap();
    for i in 0..each * threads {
        assert_eq!((cursor.key(), cursor.value()), (&i.to_be_bytes()[..], &i.to_be_bytes()[..]));
        cursor.advance().unwrap();
    }
    assert!(!cursor.is_valid());
}

type Model = BTreeMap<(Vec<u8>, std::cmp::Reverse<u64>), Vec<u8>>;

fn arbitrary_entries() -> impl Strategy<Value = Vec<(Vec<u8>, Vec<u8>)>> {
    let key = proptest::collection::vec(0u8..4, 1..11);
    proptest::collection::vec((key, proptest::collection::vec(any::<u8>(), 0..20)), 1..200)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(if cfg!(miri) { 3 } else { 128 }))]

    /// Gets, both directions and all seeks agree with a sorted map of (key, newest first).
    #[test]
    fn it_agrees_with_a_sorted_map(entries in arbitrary_entries(), probe in proptest::collection::vec(0u8..4, 1..11), at in 0u64..200) {
        let memtable = Arc::new(Memtable::new(1 << 20, 0, Tick::ZERO, Origin::default()).unwrap());
        let mut model = Model::new();
        for (i, (key, value)) in entries.iter().enumerate() {
            let seqno = i as u64 + 1;
            memtable.insert(tick(seqno), std::iter::once(put(key, value))).unwrap();
            model.insert((key.clone(), std::cmp::Reverse(seqno)), value.clone());
        }
        let expected = model.range((probe.clone(), std::cmp::Reverse(at))..)
            .next().filter(|((key, _), _)| *key == probe).map(|(_, value)| value.clone());
        prop_assert_eq!(get(&memtable, &probe, at).map(|found| found.1), expected);

        let mut cursor = memtable.cursor(SPACE);
        cursor.seek_first().unwrap();
        for (key, value) in &model {
            prop_assert_eq!((cursor.key(), cursor.trailer().seqno().raw(), cursor.value()), (&key.0[..], key.1.0, &value[..]));
            cursor.advance().unwrap();
        }
        prop_assert!(!cursor.is_valid());
        cursor.seek_last().unwrap();
        for (key, value) in model.iter().rev() {
            prop_assert_eq!((cursor.key(), cursor.trailer().seqno().raw(), cursor.value()), (&key.0[..], key.1.0, &value[..]));
            cursor.retreat().unwrap();
        }
        prop_assert!(!cursor.is_valid());
        cursor.seek(&probe, Trailer::MAX).unwrap();
        let first = model.range((probe.clone(), std::cmp::Reverse(u64::MAX))..).next();
        prop_assert_eq!(cursor.is_valid().then(|| cursor.key().to_vec()), first.map(|(key, _)| key.0.clone()));
        cursor.seek_before(&probe).unwrap();
        let last = model.range(..(probe.clone(), std::cmp::Reverse(u64::MAX))).next_back();
        prop_assert_eq!(cursor.is_valid().then(|| cursor.key().to_vec()), last.map(|(key, _)| key.0.clone()));
    }
}
