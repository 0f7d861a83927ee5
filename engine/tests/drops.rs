//! Drops of keyspaces that replicate: what was written before is gone everywhere and for ever, and all who
//! have received the same have the same keyspaces.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

mod fixture;

use esker::replicate::{Purpose, ScopeId, Settled, Stamp};
use esker::{Db, Error, Tick};
use fixture::{Content, Disk, START_MS, content, fast, keyspace, node, scale};
use proptest::prelude::*;
use std::collections::{BTreeMap, BTreeSet};

const MAIN: ScopeId = ScopeId::MAIN;

/// Gives `to` what `from` has: by the log where it reaches back, else as state.
fn give(from: &Db, to: &Db) {
    let (giver, taker) = (from.replication(), to.replication());
    let Ok(mut tail) = giver.tail(MAIN, &taker.applied(MAIN)) else { return give_state(from, to) };
    while let Some(shipment) = tail.next(&taker.applied(MAIN), 1 << 20).unwrap() {
        taker.admit(&shipment.bytes).unwrap();
    }
}

fn give_state(from: &Db, to: &Db) {
    let (giver, taker) = (from.replication(), to.replication());
    let mut delta = giver.delta(MAIN, &taker.applied(MAIN)).unwrap();
    let mut stage = taker.stage(MAIN, delta.head(), Purpose::CatchUp).unwrap();
    while let Some(chunk) = delta.next(1 << 20).unwrap() {
        stage.add(&chunk).unwrap();
    }
    stage.install().unwrap();
}

fn exchange(one: &Db, other: &Db) {
    give(one, other);
    give(other, one);
}

/// As a copy of all tables.
fn bootstrap(from: &Db, to: &Db) {
    let mut export = from.replication().export(MAIN).unwrap();
    let mut import = to.replication().import(MAIN, &export.head().clone()).unwrap();
    for (id, mut offset) in import.received() {
        loop {
            let bytes = export.read(id, offset, 1 << 16).unwrap();
            if bytes.is_empty() {
                break;
            }
            import.add(id, offset, &bytes).unwrap();
            offset += bytes.len() as u64;
        }
    }
    while import.settle().unwrap() == Settled::NotYet {
        std::thread::yield_now();
    }
    import.install().unwrap();
}

fn put(db: &Db, name: &str, key: &str, value: &str) {
    keyspace(db, name).put(key, value).unwrap();
}

fn drop_it(db: &Db, name: &str) {
    db.drop_keyspace(db.existing_keyspace(name).unwrap()).unwrap();
}

fn all(db: &Db) -> BTreeMap<String, Content> {
    db.keyspaces().into_iter().map(|k| (k.name().to_owned(), content(&k))).collect()
}

fn one(name: &str, key: &str, value: &str) -> BTreeMap<String, Content> {
    let content = Content::from([(key.as_bytes().to_vec(), value.as_bytes().to_vec())]);
    BTreeMap::from([(name.to_owned(), content)])
}

fn is_dropped<T>(result: esker::Result<T>) -> bool {
    matches!(result, Err(Error::KeyspaceDropped { .. }))
}

/// All authors have all that is here: tombstones may go.
fn forget(dbs: &[&Db]) {
    let floor = dbs[0].replication().applied(MAIN);
    for db in dbs {
        assert_eq!(db.replication().applied(MAIN), floor);
        db.replication().raise_floor(MAIN, &floor).unwrap();
        put(db, "other", "so that the tables are merged", "x");
        db.compact_all().unwrap();
    }
}

#[test]
fn a_drop_is_a_drop_on_all_nodes_and_ends_their_handles() {
    let ((_a, a), (disk, b)) = (node(1), node(2));
    put(&a, "k", "x", "1");
    exchange(&a, &b);
    let (at_a, at_b) = (keyspace(&a, "k"), keyspace(&b, "k"));
    a.drop_keyspace(at_a.clone()).unwrap();
    assert!(at_a.is_dropped() && is_dropped(at_a.put("x", "2")) && is_dropped(at_a.get("x")));
    assert!(is_dropped(a.drop_keyspace(at_a)));
    assert_eq!(at_b.get("x").unwrap().unwrap(), b"1");
    exchange(&a, &b);
    assert!(at_b.is_dropped() && is_dropped(at_b.put("x", "2")) && is_dropped(at_b.get("x")));
    for db in [&a, &b] {
        assert!(matches!(db.existing_keyspace("k"), Err(Error::KeyspaceNotFound { .. })));
        assert_eq!(all(db), BTreeMap::new());
    }
    b.close().unwrap();
    let b = disk.open(fast());
    assert_eq!(all(&b), BTreeMap::new());
    b.close().unwrap();
    let read_only = Db::open_read_only_on(disk.platform(), fast()).unwrap();
    assert_eq!(all(&read_only), BTreeMap::new());
}

#[test]
fn a_write_anywhere_creates_it_again_everywhere_without_what_was_there() {
    let ((_a, a), (_b, b), (_c, c)) = (node(1), node(2), node(3));
    put(&a, "k", "old", "1");
    exchange(&a, &b);
    exchange(&a, &c);
    drop_it(&a, "k");
    exchange(&a, &b);
    put(&b, "k", "new", "2");
    keyspace(&b, "k").delete("new").unwrap();
    exchange(&b, &c);
    exchange(&c, &a);
    let empty = BTreeMap::from([("k".to_owned(), Content::new())]);
    for db in [&a, &b, &c] {
        assert_eq!(all(db), empty, "it holds also without entries");
    }
    put(&c, "k", "new", "3");
    exchange(&b, &c);
    exchange(&c, &a);
    for db in [&a, &b, &c] {
        assert_eq!(all(db), one("k", "new", "3"));
    }
}

#[test]
fn what_was_written_before_the_drop_never_comes_back_however_late_it_comes() {
    let ((_a, a), (_b, b), (away, c)) = (node(5), node(6), node(1));
    put(&c, "k", "late", "of-c");
    put(&a, "k", "x", "1");
    exchange(&a, &b);
    drop_it(&a, "k");
    exchange(&a, &b);
    give(&c, &b);
    assert_eq!(all(&b), BTreeMap::new(), "older than the drop");
    exchange(&a, &b);
    assert_eq!(all(&a), BTreeMap::new());
    put(&a, "k", "x", "2");
    exchange(&a, &b);
    assert_eq!(all(&b), one("k", "x", "2"));
    c.close().unwrap();
    let c = away.open(fast());
    exchange(&b, &c);
    exchange(&a, &c);
    for db in [&a, &b, &c] {
        assert_eq!(all(db), one("k", "x", "2"));
    }
    forget(&[&a, &b, &c]);
    exchange(&a, &b);
    exchange(&b, &c);
    exchange(&a, &b);
    for db in [&a, &b, &c] {
        assert_eq!(all(db).remove("k"), one("k", "x", "2").remove("k"));
    }
}

/// It comes when nobody knows the drop any more: as a late put, it goes into quarantine.
#[test]
fn what_comes_after_the_drop_was_forgotten_is_late() {
    let ((_a, a), (_b, b), (_c, c)) = (node(5), node(6), node(1));
    put(&a, "k", "x", "1");
    put(&c, "k", "late", "of-c");
    drop_it(&a, "k");
    exchange(&a, &b);
    forget(&[&a, &b]);
    assert!(a.replication().dropped(MAIN) > Tick::ZERO);
    give(&c, &a);
    exchange(&a, &b);
    for db in [&a, &b] {
        assert_eq!(all(db).keys().collect::<Vec<_>>(), ["other"]);
        let copies = db.replication().existing_keyspace("esker.quarantine").unwrap();
        assert_eq!(copies.count(..).unwrap(), 2);
    }
}

#[test]
fn what_was_written_after_the_drop_by_who_did_not_know_stays() {
    let ((_a, a), (_b, b)) = (node(1), node(50));
    put(&a, "k", "x", "1");
    exchange(&a, &b);
    drop_it(&a, "k");
    put(&b, "k", "y", "2");
    exchange(&a, &b);
    for db in [&a, &b] {
        assert_eq!(all(db), one("k", "y", "2"));
    }
}

#[test]
fn what_arrives_in_a_keyspace_that_was_found_empty_is_seen() {
    let ((_a, a), (_b, b), (_c, c)) = (node(1), node(2), node(90));
    put(&a, "k", "x", "1");
    drop_it(&a, "k");
    exchange(&a, &b);
    for _ in 0..2 {
        assert_eq!(all(&b), BTreeMap::new());
    }
    put(&c, "k", "y", "2");
    give(&c, &b);
    assert_eq!(all(&b), one("k", "y", "2"));
}

#[test]
fn who_asks_for_a_keyspace_again_walks_over_nothing() {
    let ((_a, a), (_b, b)) = (node(1), node(50));
    for name in ["gone", "alive"] {
        (0..100).for_each(|number| put(&a, name, &format!("{number:03}"), "old"));
    }
    exchange(&a, &b);
    put(&b, "alive", "y", "of-b");
    drop_it(&a, "gone");
    drop_it(&a, "alive");
    exchange(&a, &b);
    let look =
        |db: &Db| (db.existing_keyspace("gone").is_ok(), db.existing_keyspace("alive").is_ok());
    for db in [&a, &b] {
        assert_eq!(look(db), (false, true));
        let scans = db.stats().scans;
        assert_eq!((look(db), db.keyspaces().len()), ((false, true), 1));
        assert_eq!(db.stats().scans, scans);
    }
    let scans = b.stats().scans;
    give_state(&a, &b);
    assert_eq!(look(&b), (false, true));
    assert_eq!(b.stats().scans, scans, "a delta ends no handles of what nobody has opened");
    keyspace(&b, "alive").delete("y").unwrap();
    assert_eq!(look(&b), (false, false), "what was seen is gone");
    put(&b, "alive", "y", "again");
    assert_eq!(look(&b), (false, true));
}

#[test]
fn who_gets_state_or_tables_has_the_same_keyspaces() {
    let ((disk, a), (_b, b), (_c, c), (_d, d)) = (node(1), node(2), node(3), node(4));
    put(&a, "k", "x", "1");
    put(&a, "gone", "x", "1");
    put(&a, "again", "x", "1");
    exchange(&a, &b);
    let at_b = keyspace(&b, "gone");
    drop_it(&a, "gone");
    drop_it(&a, "again");
    put(&a, "again", "y", "2");
    a.close().unwrap();
    let a = disk.open(fast());
    assert!(a.replication().tail(MAIN, &b.replication().applied(MAIN)).is_err());
    give(&a, &b);
    assert!(at_b.is_dropped());
    give(&a, &c);
    bootstrap(&a, &d);
    let names: Vec<String> = all(&a).into_keys().collect();
    assert_eq!(names, ["again", "k"]);
    for db in [&b, &c, &d] {
        assert_eq!(all(db), all(&a));
    }
    put(&d, "gone", "z", "3");
    for db in [&a, &b, &c] {
        exchange(&d, db);
        assert_eq!(all(db), all(&d));
        assert_eq!(all(db).len(), 3);
    }
}

#[test]
fn a_keyspace_of_the_own_scope_is_dropped_here_and_at_once() {
    let (_a, a) = node(1);
    let local = fixture::local_keyspace(&a, "mine");
    local.put("x", "1").unwrap();
    let before = a.replication().applied(MAIN);
    a.drop_keyspace(local).unwrap();
    assert_eq!(a.replication().applied(MAIN), before);
    assert_eq!(all(&a), BTreeMap::new());
    assert!(fixture::local_keyspace(&a, "mine").get("x").unwrap().is_none());
}

#[test]
fn what_a_peer_tells_of_keyspaces_that_do_not_replicate_ends_no_handles() {
    let ((_a, a), (_b, b)) = (node(1), node(2));
    let (mine, there) = (fixture::local_keyspace(&b, "mine"), keyspace(&b, "k"));
    let roster = b.replication().keyspace(MAIN, "esker.roster").unwrap();
    let told = a.replication().keyspace(MAIN, "esker.keyspaces").unwrap();
    for name in [&b"mine"[..], b"esker.roster", b"esker.keyspaces", b"\xff", b"unknown"] {
        told.put(name, [1, 2]).unwrap();
    }
    for value in [&[][..], &[1], &[1, 1], &[1, 3], &[2, 2], &[1, 2, 0]] {
        told.put("k", value).unwrap();
    }
    exchange(&a, &b);
    for keyspace in [&mine, &there, &roster] {
        keyspace.put("x", "1").unwrap();
    }
    assert_eq!(all(&b).into_keys().collect::<Vec<_>>(), ["k", "mine"]);
}

#[test]
fn an_admission_goes_on_while_handles_end() {
    let ((_a, a), (_b, b)) = (node(1), node(2));
    std::thread::scope(|scope| {
        scope.spawn(|| {
            for round in 0..200 {
                put(&a, "k", "x", &round.to_string());
                give(&a, &b);
            }
        });
        scope.spawn(|| {
            for _ in 0..200 {
                let k = keyspace(&b, "k");
                if let Err(error) = b.drop_keyspace(k) {
                    assert!(matches!(error, Error::KeyspaceDropped { .. }), "{error}");
                }
            }
        });
    });
    exchange(&a, &b);
    exchange(&a, &b);
    assert_eq!(all(&a), all(&b));
}

#[derive(Clone, Debug)]
enum Step {
    Put(usize, u8, u8, u8),
    Delete(usize, u8, u8),
    Drop(usize, u8),
    Open(usize, u8),
    Give(usize, usize),
    /// All three give each other what they have, and forget what they may.
    Forget,
    Flush(usize),
    Reopen(usize),
    Wait(usize, u64),
}

fn any_step() -> impl Strategy<Value = Step> {
    let (node, name, key) = (0..3usize, 0..2u8, 0..3u8);
    let at = (node.clone(), name.clone(), key);
    prop_oneof![
        6 => (at.clone(), any::<u8>()).prop_map(|((n, k, x), v)| Step::Put(n, k, x, v)),
        2 => at.prop_map(|(n, k, x)| Step::Delete(n, k, x)),
        3 => (node.clone(), name.clone()).prop_map(|(n, k)| Step::Drop(n, k)),
        1 => (node.clone(), name).prop_map(|(n, k)| Step::Open(n, k)),
        6 => (node.clone(), node.clone()).prop_map(|(a, b)| Step::Give(a, b)),
        1 => Just(Step::Forget),
        1 => node.clone().prop_map(Step::Flush),
        1 => node.clone().prop_map(Step::Reopen),
        2 => (node, 0..9u64).prop_map(|(n, ms)| Step::Wait(n, ms)),
    ]
}

/// What everybody remembers of a keyspace: the newest write of each key, drop and word that it is there.
#[derive(Clone, Debug, Default)]
struct Remembered {
    writes: BTreeMap<u8, (Stamp, Option<u8>)>,
    dropped: Option<Stamp>,
    there: Option<Stamp>,
    /// Whether anybody ever wrote to it.
    is_known: bool,
}

impl Remembered {
    fn content(&self) -> Option<Content> {
        let live = self.writes.iter().filter(|(_, (stamp, _))| Some(*stamp) > self.dropped);
        let live = live.filter_map(|(key, (_, value))| Some((vec![*key], vec![(*value)?])));
        let content: Content = live.collect();
        let is_there = self.dropped.is_none() || self.there > self.dropped;
        (self.is_known && (is_there || !content.is_empty())).then_some(content)
    }
}

fn name(number: u8) -> String {
    format!("k{number}")
}

/// The stamp of the last commit of `db` if it has made one since `before`.
fn stamp_since(db: &Db, before: Tick) -> Option<Stamp> {
    let origin = db.replication().origin();
    let tick = db.replication().applied(MAIN).get(origin);
    (tick > before).then_some(Stamp { tick, origin })
}

fn own_tick(db: &Db) -> Tick {
    db.replication().applied(MAIN).get(db.replication().origin())
}

fn meet_all(all: &[&Db]) {
    for _ in 0..2 {
        for (from, to) in [(0, 1), (1, 2), (2, 0), (1, 0), (2, 1), (0, 2)] {
            give(all[from], all[to]);
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64 * scale() as u32))]

    #[test]
    fn all_nodes_end_with_the_same_keyspaces_and_nothing_from_before_a_drop(
        steps in prop::collection::vec(any_step(), 1..60)
    ) {
        let mut nodes: Vec<(Disk, Option<Db>)> =
            (1..4).map(node).map(|(disk, db)| (disk, Some(db))).collect();
        let mut remembered = vec![Remembered::default(); 2];
        for (number, step) in steps.iter().enumerate() {
            let db = |node: usize| nodes[node].1.as_ref().unwrap();
            match *step {
                Step::Put(node, of, key, value) => {
                    let (db, of) = (db(node), usize::from(of));
                    let k = reopened(db, &mut remembered[of], of as u8);
                    let tick = k.put([key], [value]).unwrap();
                    let stamp = Stamp { tick, origin: db.replication().origin() };
                    let known = remembered[of].writes.entry(key).or_default();
                    *known = (*known).max((stamp, Some(value)));
                    remembered[of].is_known = true;
                }
                Step::Delete(node, of, key) => {
                    let (db, of) = (db(node), usize::from(of));
                    let k = reopened(db, &mut remembered[of], of as u8);
                    let tick = k.delete([key]).unwrap();
                    let stamp = Stamp { tick, origin: db.replication().origin() };
                    let known = remembered[of].writes.entry(key).or_default();
                    *known = (*known).max((stamp, None));
                    remembered[of].is_known = true;
                }
                Step::Drop(node, of) => {
                    let db = db(node);
                    let before = own_tick(db);
                    if let Ok(k) = db.existing_keyspace(&name(of)) {
                        db.drop_keyspace(k).unwrap();
                        let stamp = stamp_since(db, before);
                        prop_assert!(stamp.is_some());
                        let known = &mut remembered[usize::from(of)];
                        known.dropped = known.dropped.max(stamp);
                    }
                }
                Step::Open(node, of) => {
                    // One that nobody has written to is known only where it was opened.
                    if db(node).existing_keyspace(&name(of)).is_ok() || remembered[usize::from(of)].is_known {
                        reopened(db(node), &mut remembered[usize::from(of)], of);
                    }
                }
                Step::Give(from, to) if from != to => give(db(from), db(to)),
                Step::Give(..) => {}
                Step::Flush(node) => db(node).compact_all().unwrap(),
                Step::Wait(node, ms) => {
                    nodes[node].0.clock.set(START_MS + 10 * number as u64 + ms);
                }
                Step::Forget => {
                    let all = [db(0), db(1), db(2)];
                    meet_all(&all);
                    let floor = all[0].replication().applied(MAIN);
                    for db in all {
                        prop_assert_eq!(db.replication().applied(MAIN), floor.clone());
                        db.replication().raise_floor(MAIN, &floor).unwrap();
                        db.compact_all().unwrap();
                    }
                }
                Step::Reopen(node) => {
                    let (disk, db) = &mut nodes[node];
                    db.take().unwrap().close().unwrap();
                    *db = Some(disk.open(fast()));
                }
            }
        }
        let dbs: Vec<&Db> = nodes.iter().map(|(_, db)| db.as_ref().unwrap()).collect();
        meet_all(&dbs);
        let expected: BTreeMap<String, Content> = (0..2u8)
            .filter_map(|of| Some((name(of), remembered[usize::from(of)].content()?)))
            .collect();
        let names: BTreeSet<_> = expected.keys().cloned().collect();
        for (number, db) in dbs.iter().enumerate() {
            let found = all(db);
            let found_names: BTreeSet<_> = found.keys().cloned().collect();
            prop_assert_eq!(&found_names, &names, "node {}", number);
            prop_assert_eq!(&found, &expected, "node {}", number);
        }
    }
}

/// Opens a keyspace, and remembers if that has told others that it is there.
fn reopened(db: &Db, remembered: &mut Remembered, of: u8) -> esker::Keyspace {
    let before = own_tick(db);
    let k = keyspace(db, &name(of));
    remembered.there = remembered.there.max(stamp_since(db, before));
    k
}
