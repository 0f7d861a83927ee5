//! Blocks against a sorted list, and hostile ones.

use super::*;
use base::EntryKind;
use proptest::prelude::*;
use std::cmp::Reverse;
use std::collections::BTreeMap;

type Entry = ((Vec<u8>, Reverse<u64>), Vec<u8>);
type Entries = BTreeMap<(Vec<u8>, Reverse<u64>), Vec<u8>>;

const SPACE: SpaceId = SpaceId(7);

fn trailer(seqno: u64, kind: EntryKind) -> u64 {
    Trailer::new(Tick::from_raw(seqno).unwrap(), kind).0
}

fn build(entries: &Entries) -> Vec<u8> {
    let mut builder = BlockBuilder::default();
    let mut last: Option<&[u8]> = None;
    for ((key, trailer), value) in entries {
        let is_older = last == Some(key);
        let repeat = if is_older { Repeat::OlderVersion } else { Repeat::NewKey };
        builder.push(key, Trailer(trailer.0), value, repeat);
        last = Some(key);
    }
    let mut out = b"before".to_vec();
    builder.finish(SPACE, &mut out);
    assert!(builder.is_empty());
    out.split_off(6)
}

fn any_key() -> impl Strategy<Value = Vec<u8>> {
    prop_oneof![
        prop::collection::vec(0u8..3, 0..5),
        prop::collection::vec(0u8..2, 7..11),
        any::<[u8; 16]>().prop_map(Vec::from),
        prop::collection::vec(any::<u8>(), 0..300),
    ]
}

fn any_trailer() -> impl Strategy<Value = Reverse<u64>> {
    let seqno = prop_oneof![0u64..3, 1000u64..1300, 0u64..1 << 56];
    let kind = prop_oneof![4 => Just(EntryKind::Put), 1 => Just(EntryKind::Delete)];
    (seqno, kind).prop_map(|(seqno, kind)| Reverse(trailer(seqno, kind)))
}

fn any_entries(len: usize) -> impl Strategy<Value = Entries> {
    let value = prop::collection::vec(any::<u8>(), 0..20);
    let front = prop_oneof![Just(Vec::new()), prop::collection::vec(any::<u8>(), 0..40)];
    let keys = prop::collection::btree_map((any_key(), any_trailer()), value, 1..len);
    (front, keys).prop_map(|(front, keys)| {
        let with_front = |key: &[u8]| [&*front, key].concat();
        keys.into_iter()
            .map(|((key, trailer), value)| ((with_front(&key), trailer), value))
            .collect()
    })
}

/// Keys that differ late, so that whole columns are one prefix.
fn any_tied_entries() -> impl Strategy<Value = Entries> {
    let key = prop::collection::vec(0u8..2, 0..8).prop_map(|tail| [&[9; 9], &*tail].concat());
    let first = prop_oneof![Just(vec![8u8]), Just(vec![9; 10])];
    (first, prop::collection::btree_map((key, any_trailer()), Just(vec![1]), 1..700)).prop_map(
        |(first, mut entries)| {
            entries.insert((first, Reverse(1)), vec![]);
            entries
        },
    )
}

fn check_against(entries: &Entries, targets: &[(Vec<u8>, Reverse<u64>)]) {
    let block = Block::decode(build(entries), None).unwrap();
    assert_eq!((block.count(), block.space()), (entries.len(), SPACE));
    for (index, ((key, trailer), value)) in entries.iter().enumerate() {
        assert_eq!(block.key(index), *key);
        assert_eq!(block.trailer(index).0, trailer.0);
        assert_eq!(block.value(index), value);
        assert_eq!(&block.bytes()[block.value_range(index)], value);
        assert!(block.key_is(index, key));
    }
    let own: Vec<_> = entries.keys().cloned().collect();
    for target in targets.iter().chain(&own) {
        let expected = own.partition_point(|entry| entry < target);
        let (key, trailer) = (&target.0, Trailer(target.1.0));
        assert_eq!(block.search(key, trailer), expected, "{target:?}");
        let found = own.get(expected).filter(|entry| entry.0 == *key).map(|_| expected);
        assert_eq!(block.find(key, trailer), found, "{target:?}");
    }
}

proptest! {
    #[test]
    fn a_block_answers_like_a_sorted_map(
        entries in any_entries(80), targets in prop::collection::vec((any_key(), any_trailer()), 20)
    ) {
        check_against(&entries, &targets);
    }

    #[test]
    fn prefixes_that_tie_are_decided_by_the_rest(
        entries in any_tied_entries(), targets in prop::collection::vec((any_key(), any_trailer()), 9)
    ) {
        check_against(&entries, &targets);
    }

    #[test]
    fn hostile_bytes_never_panic(bytes: Vec<u8>) {
        exercise(bytes);
    }

    /// Most bytes of the header are plausible here, so that what follows it is reached.
    #[test]
    fn changed_blocks_never_panic(
        entries in any_entries(20),
        changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..4),
        cut in prop::option::of(any::<prop::sample::Index>()),
    ) {
        let mut bytes = build(&entries);
        for (at, byte) in changes {
            let at = at.index(bytes.len());
            bytes[at] = byte;
        }
        if let Some(cut) = cut {
            bytes.truncate(cut.index(bytes.len()));
        }
        exercise(bytes);
    }
}

/// Calls everything on what may be a block. What decodes is in order.
fn exercise(bytes: Vec<u8>) {
    let Ok(block) = Block::decode(bytes, None) else { return };
    let mut last: Option<(Vec<u8>, Reverse<Trailer>)> = None;
    for index in 0..block.count() {
        let mut key = block.common_prefix().to_vec();
        let (trailer, value) = block.read(index, &mut key);
        assert_eq!(&block.bytes()[value], block.value(index));
        assert_eq!(block.search(&key, trailer), index);
        let here = Some((key, Reverse(trailer)));
        assert!(last < here);
        last = here;
    }
}

#[test]
fn every_flipped_bit_leaves_a_block_in_order_or_none() {
    let entry = |number: u8| {
        ((vec![b'k', number, 0, 1, 2, 3, 4, 5, 6, number], Reverse(513)), vec![number; 5])
    };
    let bytes = build(&(0..9).map(entry).collect());
    for bit in 0..8 * bytes.len() {
        let mut flipped = bytes.clone();
        flipped[bit / 8] ^= 1 << (bit % 8);
        exercise(flipped);
    }
    for len in 0..bytes.len() {
        assert!(Block::decode(bytes[..len].to_vec(), None).is_err(), "{len}");
    }
}

#[test]
fn a_block_of_puts_of_distinct_keys_is_plain_and_any_other_is_not() {
    let put =
        |key: &[u8], seqno| ((key.to_vec(), Reverse(trailer(seqno, EntryKind::Put))), vec![1]);
    let is_plain = |entries: &[Entry]| {
        Block::decode(build(&entries.iter().cloned().collect()), None).unwrap().is_plain()
    };
    assert!(is_plain(&[put(b"a", 1), put(b"b", 2)]));
    assert!(!is_plain(&[put(b"a", 1), put(b"a", 2)]));
    let delete = ((b"c".to_vec(), Reverse(trailer(3, EntryKind::Delete))), vec![]);
    assert!(!is_plain(&[put(b"a", 1), delete]));
}

/// A flag that promises more than is true would make scans skip checks.
#[test]
fn a_false_promise_of_plainness_is_refused() {
    let delete = ((b"c".to_vec(), Reverse(trailer(3, EntryKind::Delete))), vec![]);
    let older = ((b"c".to_vec(), Reverse(trailer(2, EntryKind::Put))), vec![]);
    let newer = ((b"c".to_vec(), Reverse(trailer(3, EntryKind::Put))), vec![]);
    for entries in [Entries::from([delete]), Entries::from([newer, older])] {
        let mut bytes = build(&entries);
        assert!(Block::decode(bytes.clone(), None).is_ok());
        bytes[4] |= FLAG_PLAIN as u8;
        assert!(Block::decode(bytes, None).is_err());
    }
}

#[test]
fn bytes_in_the_guard_are_refused() {
    let entry = ((b"k".to_vec(), Reverse(trailer(3, EntryKind::Put))), vec![]);
    let bytes = build(&Entries::from([entry]));
    for at in bytes.len() - GUARD_LEN..bytes.len() {
        let mut changed = bytes.clone();
        changed[at] = 1;
        assert_eq!(Block::decode(changed, None).unwrap_err(), Corruption::TrailingBytes);
    }
}

#[test]
fn an_override_raises_seqno_zero_and_nothing_else() {
    let put =
        |seqno| Entries::from([((b"k".to_vec(), Reverse(trailer(seqno, EntryKind::Put))), vec![])]);
    for seqno in [Tick::from_ms(77), Tick::MAX] {
        let block = Block::decode(build(&put(0)), Some(seqno)).unwrap();
        assert_eq!(block.trailer(0), Trailer::new(seqno, EntryKind::Put));
        assert!(block.is_plain());
    }
    assert!(Block::decode(build(&put(1)), Some(Tick::from_ms(77))).is_err());
}

#[test]
fn one_large_entry_is_a_block() {
    let large = ((vec![3; KEY_LEN_MAX], Reverse(u64::MAX >> 8 << 8 | 2)), vec![5; 3 << 20]);
    let small = ((vec![3; 2], Reverse(trailer(1, EntryKind::Put))), vec![6; 70_000]);
    check_against(&Entries::from([large.clone()]), &[]);
    check_against(&Entries::from([large, small]), &[]);
}
