//! A damaged table is made whole from a peer: what it had is here again, or the error says why not.

use crate::pair::{Content, Pair, open, small};
use base::RelPath;
use base::fs::{CrashModel, SimFs};
use engine::{CorruptionAction, Db, Error, KeyspaceOptions, Options, Status};
use std::collections::BTreeSet;

pub(crate) fn options() -> Options {
    Options { on_corruption: CorruptionAction::HealFromPeer, ..small() }
}

/// Two nodes with the same, all of it in tables; and that.
fn equal(seed: u64) -> (Pair, Content) {
    let mut pair = Pair::new(seed, &options());
    for node in 0..2 {
        let keyspace = pair.keyspace(node, "k");
        for number in 0..600u32 {
            keyspace.put((2 * number + node as u32).to_be_bytes(), [number as u8; 100]).unwrap();
        }
        for number in (0..600u32).step_by(7) {
            keyspace.delete((2 * number + node as u32).to_be_bytes()).unwrap();
        }
    }
    pair.settle();
    for node in &pair.nodes {
        node.db.compact_all().unwrap();
    }
    let content = pair.content(0);
    assert!(content == pair.content(1) && content.len() > 1_000);
    (pair, content)
}

/// The largest table.
fn table(fs: &SimFs) -> RelPath {
    let tables = fs.files().into_iter().filter(|path| path.as_str().ends_with(".sst"));
    tables.max_by_key(|path| fs.read_file(path).unwrap().len()).unwrap()
}

/// Flips a bit at `at`, or so many bytes before the end if it is negative. Returns what was there.
pub(crate) fn flip(fs: &SimFs, path: &RelPath, at: isize) -> Vec<u8> {
    let whole = fs.read_file(path).unwrap();
    let mut bytes = whole.clone();
    let at = if at < 0 { bytes.len() - at.unsigned_abs() } else { at as usize };
    bytes[at] ^= 4;
    fs.write_file(path, bytes).unwrap();
    whole
}

fn quarantined(fs: &SimFs) -> usize {
    fs.files().into_iter().filter(|path| path.as_str().starts_with("quarantine/")).count()
}

/// Every key reads as expected, or with the error of the damage.
pub(crate) fn check_never_wrong(db: &Db, expected: &Content) -> u64 {
    let keyspace = db.keyspace("k", KeyspaceOptions::default()).unwrap();
    let mut unread = 0;
    for number in 0..1_200u32 {
        let key = number.to_be_bytes();
        match keyspace.get(key) {
            Ok(found) => {
                let expected = expected.get(&("k".to_owned(), key.to_vec()));
                assert!(found.as_deref() == expected.map(Vec::as_slice), "key {number}");
            }
            Err(Error::Corrupt { .. }) => unread += 1,
            Err(error) => panic!("{error}"),
        }
    }
    unread
}

pub(crate) fn check_whole(pair: &Pair, expected: &Content) {
    for node in 0..2 {
        let db = &pair.nodes[node].db;
        let found = pair.content(node);
        let differs = |place: &&(String, Vec<u8>)| found.get(*place) != expected.get(*place);
        let other: BTreeSet<_> = found.keys().chain(expected.keys()).filter(differs).collect();
        assert!(other.is_empty(), "node {node}: {} keys, {:?}", other.len(), other.first());
        assert!(db.scrub().unwrap().findings.is_empty());
        assert_eq!(db.health().status, Status::Healthy, "{:?}", db.health());
    }
}

#[test]
fn a_damaged_table_is_made_whole_from_the_peer_wherever_it_is_damaged() {
    for (seed, at) in [(1, 0), (2, 20_000), (3, -10), (4, -400), (5, -3_000)] {
        let (mut pair, expected) = equal(seed);
        let fs = pair.nodes[0].fs.clone();
        flip(&fs, &table(&fs), at);
        assert_eq!(pair.nodes[0].db.scrub().unwrap().findings.len(), 1, "{at}");
        assert_eq!(pair.nodes[0].db.health().status, Status::Corrupt);
        let refused = pair.keyspace(0, "k").put(b"key", b"value").unwrap_err();
        assert!(matches!(refused, Error::Halted { .. }), "{refused}");
        check_never_wrong(&pair.nodes[0].db, &expected);

        pair.settle();
        check_whole(&pair, &expected);
        assert_eq!(pair.nodes[0].db.stats().tables_healed, 1);
        assert_eq!(quarantined(&fs), 1);
        pair.keyspace(0, "k").put(b"key", b"value").unwrap();
        pair.settle();
        assert!(pair.content(0) == pair.content(1));

        let reopened = open(&fs.crash(CrashModel::Synced), &pair.clock, options());
        check_never_wrong(&reopened, &expected);
        assert!(reopened.scrub().unwrap().findings.is_empty());
    }
}

/// What the damaged block hid may not show again, although the peer has forgotten the deletion.
#[test]
fn what_a_damaged_tombstone_hid_stays_deleted() {
    let mut pair = Pair::new(6, &options());
    let keyspace = pair.keyspace(0, "k");
    for number in 0..600u32 {
        keyspace.put(number.to_be_bytes(), [number as u8; 100]).unwrap();
    }
    pair.settle();
    pair.nodes.iter().for_each(|node| node.db.compact_all().unwrap());
    for number in 0..600u32 {
        keyspace.delete(number.to_be_bytes()).unwrap();
    }
    pair.settle();
    pair.nodes[0].db.flush().unwrap();
    pair.nodes[1].db.compact_all().unwrap();
    assert_eq!(pair.content(1).len(), 0);
    let fs = pair.nodes[0].fs.clone();
    let newest = fs.files().into_iter().rfind(|path| path.as_str().ends_with(".sst")).unwrap();
    flip(&fs, &newest, 100);
    assert_eq!(pair.nodes[0].db.scrub().unwrap().findings.len(), 1);
    pair.settle();
    check_whole(&pair, &Content::new());
}

#[test]
fn with_both_copies_damaged_nothing_is_lost_and_both_say_so() {
    let (mut pair, expected) = equal(7);
    let damaged: Vec<_> = pair
        .nodes
        .iter()
        .map(|node| {
            let path = table(&node.fs);
            (path.clone(), flip(&node.fs, &path, 9_000))
        })
        .collect();
    for node in &pair.nodes {
        assert_eq!(node.db.scrub().unwrap().findings.len(), 1);
    }
    pair.run(20_000);
    for (node, (path, whole)) in pair.nodes.iter().zip(damaged) {
        assert_eq!(node.db.health().status, Status::Corrupt);
        check_never_wrong(&node.db, &expected);
        assert_eq!((node.db.stats().tables_healed, quarantined(&node.fs)), (0, 0));
        node.fs.write_file(&path, whole).unwrap();
        assert!(node.db.scrub().unwrap().findings.is_empty());
    }
    pair.settle();
    check_whole(&pair, &expected);
}

/// A power loss after any change of the disk: the node shows what it had or the error, and is healed
/// when it is started again.
#[test]
fn a_crash_while_a_table_is_made_whole_leaves_no_wrong_data() {
    let (mut pair, expected) = equal(8);
    let fs = pair.nodes[0].fs.clone();
    flip(&fs, &table(&fs), 9_000);
    assert_eq!(pair.nodes[0].db.scrub().unwrap().findings.len(), 1);
    fs.record();
    pair.settle();
    check_whole(&pair, &expected);
    let (mut unread, moments) = (0, fs.take_moments());
    for (number, moment) in moments.iter().enumerate() {
        let crashed = moment.crash(CrashModel::Synced, number as u64);
        let db = open(&crashed, &pair.clock, options());
        unread += u64::from(check_never_wrong(&db, &expected) > 0);
    }
    assert!(moments.len() > 10 && unread > 0, "{} {unread}", moments.len());
}
