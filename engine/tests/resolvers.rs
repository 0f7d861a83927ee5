//! Resolvers: writes that lost to one which had not seen them are resolved once, by who wrote that.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

mod fixture;

use base::fs::CrashModel;
use esker::replicate::{Admission, DeltaHead, Purpose, ScopeId};
use esker::{
    Batch, Conflict, Db, KeyspaceOptions, Options, Resolution, ResolveError, Resolved, SyncMode,
};
use fixture::{Disk, START_MS, eventually, fast, keyspace, scale, ship, small_busy};
use proptest::prelude::*;
use std::collections::BTreeSet;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

const MAIN: ScopeId = ScopeId::MAIN;

/// What is in either, in order: a value is a list of words.
fn union(conflict: &Conflict<'_>) -> Result<Resolution, ResolveError> {
    Ok(match (conflict.winner, conflict.loser) {
        (Some(winner), Some(loser)) => Resolution::Put(joined(&(&words(winner) | &words(loser)))),
        _ => Resolution::KeepWinner,
    })
}

fn words(value: &[u8]) -> BTreeSet<String> {
    let words = std::str::from_utf8(value).unwrap().split(' ');
    words.filter(|word| !word.is_empty()).map(str::to_owned).collect()
}

fn joined(words: &BTreeSet<String>) -> Vec<u8> {
    words.iter().cloned().collect::<Vec<_>>().join(" ").into_bytes()
}

/// A node whose clock is `seed` milliseconds ahead, with a resolver for the keyspace k.
fn node(seed: u64) -> (Disk, Db) {
    let disk = Disk::new(seed);
    disk.clock.set(START_MS + seed);
    let db = disk.open(fast());
    db.set_resolver("k", union).unwrap();
    (disk, db)
}

/// As [`ship`], commit by commit, all admitted together.
fn ship_as_convoy(from: &Db, to: &Db) {
    let (from, to) = (from.replication(), to.replication());
    let mut tail = from.tail(MAIN, &to.applied(MAIN)).unwrap();
    let mut shipments = Vec::new();
    while let Some(shipment) = tail.next(&to.applied(MAIN), 1).unwrap() {
        shipments.push(shipment.bytes);
    }
    assert!(shipments.len() > 1);
    let shipments: Vec<&[u8]> = shipments.iter().map(Vec::as_slice).collect();
    assert_eq!(to.admit_all(&shipments).unwrap().len(), shipments.len());
}

fn put(db: &Db, key: &str, value: &str) {
    keyspace(db, "k").put(key, value).unwrap();
}

fn get(db: &Db, key: &str) -> Option<String> {
    let value = keyspace(db, "k").get(key).unwrap();
    value.map(|value| String::from_utf8(value.to_vec()).unwrap())
}

fn parked(db: &Db) -> usize {
    db.parked_conflicts(usize::MAX).unwrap().len()
}

fn own_commits(db: &Db) -> u64 {
    db.replication().commits(MAIN)
}

fn resolved(resolved: u64, parked: u64) -> Resolved {
    Resolved { resolved, parked }
}

#[test]
fn who_wrote_the_winner_merges_the_loser_once_and_both_have_it() {
    let ((_a, a), (_b, b)) = (node(1), node(2));
    put(&a, "x", "of-a");
    put(&b, "x", "of-b");
    ship(&b, &a);
    ship(&a, &b);
    assert_eq!((parked(&a), parked(&b)), (0, 1), "only who wrote the winner knows");
    let before = (own_commits(&a), own_commits(&b));
    assert_eq!(a.resolve_conflicts().unwrap(), resolved(0, 0));
    assert_eq!(b.resolve_conflicts().unwrap(), resolved(1, 0));
    ship(&b, &a);
    ship(&a, &b);
    for db in [&a, &b] {
        db.resolve_conflicts().unwrap();
        assert_eq!(get(db, "x").unwrap(), "of-a of-b");
        assert_eq!(parked(db), 0);
    }
    assert_eq!((own_commits(&a), own_commits(&b)), (before.0, before.1 + 1), "one merge");
    let stats = b.stats();
    assert_eq!((stats.conflicts_parked, stats.conflicts_resolved), (1, 1));
}

#[test]
fn a_write_that_had_seen_the_other_is_in_no_conflict() {
    let ((_a, a), (_b, b)) = (node(1), node(2));
    put(&a, "x", "one");
    ship(&a, &b);
    put(&b, "x", "two");
    ship(&b, &a);
    put(&a, "x", "three");
    ship(&a, &b);
    for db in [&a, &b] {
        assert_eq!((parked(db), get(db, "x").unwrap()), (0, "three".to_owned()));
        assert_eq!(db.stats().conflicts_parked, 0);
    }
}

#[test]
fn three_nodes_that_wrote_at_once_all_have_what_each_wrote() {
    let nodes = [node(1), node(2), node(3)];
    for (number, (_, db)) in nodes.iter().enumerate() {
        put(db, "x", &format!("of-{number}"));
    }
    for _ in 0..3 {
        for (_, from) in &nodes {
            for (_, to) in &nodes {
                if !std::ptr::eq(from, to) {
                    ship(from, to);
                    to.resolve_conflicts().unwrap();
                }
            }
        }
    }
    for (_, db) in &nodes {
        assert_eq!(get(db, "x").unwrap(), "of-0 of-1 of-2");
        assert_eq!(parked(db), 0);
    }
}

#[test]
fn a_loser_that_comes_by_several_ways_is_parked_once() {
    let ((_a, a), (_b, b), (_r, relay)) = (node(1), node(9), node(3));
    put(&b, "x", "of-b");
    put(&a, "x", "of-a");
    ship(&a, &relay);
    let mut tail = a.replication().tail(MAIN, &Default::default()).unwrap();
    let direct = tail.next(&Default::default(), 1 << 20).unwrap().unwrap().bytes;
    ship(&relay, &b);
    assert_eq!(b.replication().admit(&direct).unwrap(), Admission::Known);
    assert_eq!((parked(&b), parked(&relay)), (1, 0), "a relay has written nothing");
    assert_eq!(b.resolve_conflicts().unwrap(), resolved(1, 0));
    assert_eq!(b.replication().admit(&direct).unwrap(), Admission::Known);
    assert_eq!((parked(&b), b.stats().conflicts_parked), (0, 1));
}

/// Its author may have written the later one over something that it had got from here meanwhile.
#[test]
fn each_loser_is_parked_whether_or_not_its_author_has_written_the_key_again() {
    for is_convoy in [false, true] {
        let ((_a, a), (disk, b)) = (node(1), node(9));
        put(&b, "x", "of-b");
        put(&b, "y", "of-b");
        put(&b, "z", "of-b");
        for value in ["first", "second"] {
            put(&a, "x", value);
            put(&a, "z", value);
        }
        put(&a, "y", "gone");
        keyspace(&a, "k").delete("y").unwrap();
        _a.clock.set(START_MS + 10);
        put(&a, "z", "later than all");
        match is_convoy {
            true => ship_as_convoy(&a, &b),
            false => drop(ship(&a, &b)),
        }
        assert_eq!((parked(&b), b.stats().conflicts_parked), (6, 6));
        assert_eq!(b.resolve_conflicts().unwrap(), resolved(6, 0));
        assert_eq!(get(&b, "x").unwrap(), "first of-b second");
        assert_eq!(get(&b, "y").unwrap(), "gone of-b");
        let z = get(&b, "z").unwrap();
        assert_eq!(z, "all first later second than", "nobody here knows what `later` had seen");
        let left = b.replication().existing_keyspace("esker.conflicts").unwrap();
        assert_eq!(left.count(..).unwrap(), 0, "nothing of it is left behind");
        drop(disk);
    }
}

#[test]
fn a_delete_and_a_put_meet_as_they_are() {
    let ((_a, a), (_b, b)) = (node(1), node(2));
    let seen = Arc::new(Mutex::new(Vec::new()));
    let told = seen.clone();
    b.set_resolver("k", move |conflict: &Conflict<'_>| {
        let of = |value: Option<&[u8]>| value.map(<[u8]>::to_vec);
        let stamp = conflict.winner_stamp.map(|stamp| stamp.origin);
        told.lock().unwrap().push((of(conflict.winner), of(conflict.loser), stamp));
        Ok(match conflict.key {
            b"revived" => Resolution::Put(conflict.loser.unwrap().to_vec()),
            b"buried" => Resolution::Delete,
            _ => Resolution::KeepWinner,
        })
    })
    .unwrap();
    put(&a, "revived", "a");
    keyspace(&a, "k").delete("buried").unwrap();
    keyspace(&b, "k").delete("revived").unwrap();
    put(&b, "buried", "b");
    ship(&a, &b);
    assert_eq!(b.resolve_conflicts().unwrap(), resolved(2, 0));
    let own = Some(b.replication().origin());
    let seen: BTreeSet<_> = std::mem::take(&mut *seen.lock().unwrap()).into_iter().collect();
    let buried = (Some(b"b".to_vec()), None, own);
    assert_eq!(seen, BTreeSet::from([(None, Some(b"a".to_vec()), None), buried]));
    ship(&b, &a);
    for db in [&a, &b] {
        assert_eq!(get(db, "revived").unwrap(), "a");
        assert_eq!(get(db, "buried"), None);
    }
}

#[test]
fn a_loser_survives_a_crash_and_waits_for_a_resolver() {
    let ((_a, a), (disk, b)) = (node(1), node(2));
    put(&a, "x", "of-a");
    put(&b, "x", "of-b");
    ship(&a, &b);
    b.sync().unwrap();
    let b = Disk::of(disk.fs.crash(CrashModel::Prefix)).open(fast());
    assert_eq!(b.resolve_conflicts().unwrap(), resolved(0, 1), "there is no resolver yet");
    let [loser] = &b.parked_conflicts(10).unwrap()[..] else { panic!() };
    assert_eq!((&*loser.keyspace, &*loser.key), ("k", &b"x"[..]));
    assert_eq!(loser.value.as_deref(), Some(&b"of-a"[..]));
    assert_eq!(loser.stamp.origin, a.replication().origin());
    b.set_resolver("k", union).unwrap();
    assert_eq!(b.resolve_conflicts().unwrap(), resolved(1, 0));
    assert_eq!(get(&b, "x").unwrap(), "of-a of-b");
    b.flush().unwrap();
    assert_eq!(parked(&b), 0);
}

/// Either the admission is there with its loser, or neither: whatever a power loss leaves.
#[test]
fn a_loser_is_there_if_and_only_if_its_admission_is() {
    for seed in 0..40 * scale() {
        let ((_a, a), (disk, b)) = (node(1), node(2 + seed));
        put(&b, "x", "of-b");
        b.sync().unwrap();
        put(&a, "x", "of-a");
        ship(&a, &b);
        if seed % 2 == 0 {
            b.resolve_conflicts().unwrap();
        }
        let disk = Disk::of(disk.fs.crash(CrashModel::Prefix));
        disk.clock.set(START_MS + 100);
        let b = disk.open(fast());
        let own = a.replication().origin();
        let is_admitted = b.replication().applied(MAIN).get(own) > esker::Tick::ZERO;
        let is_merged = get(&b, "x").unwrap() == "of-a of-b";
        assert_eq!(is_admitted, parked(&b) == 1 || is_merged, "seed {seed}");
        assert!(parked(&b) == 0 || !is_merged, "seed {seed}: resolved twice");
    }
}

#[test]
fn a_resolver_that_fails_leaves_the_loser_and_is_asked_only_on_demand() {
    let ((_a, a), (_b, b)) = (node(1), node(2));
    let (calls, works) = (Arc::new(AtomicU64::new(0)), Arc::new(AtomicBool::new(false)));
    let (counted, is_well) = (calls.clone(), works.clone());
    b.set_resolver("k", move |conflict: &Conflict<'_>| {
        counted.fetch_add(1, Ordering::SeqCst);
        match (is_well.load(Ordering::SeqCst), conflict.key) {
            (true, _) => union(conflict),
            (false, b"panics") => panic!("as it is to"),
            (false, b"too long") => Ok(Resolution::Put(vec![0; (32 << 20) + 1])),
            (false, _) => Err("it does not like it".into()),
        }
    })
    .unwrap();
    for key in ["panics", "too long", "fails"] {
        put(&a, key, "of-a");
        put(&b, key, "of-b");
    }
    ship(&a, &b);
    assert_eq!(b.resolve_conflicts().unwrap(), resolved(0, 3));
    assert_eq!((calls.load(Ordering::SeqCst), b.stats().resolver_failures), (3, 3));
    put(&b, "y", "of-b");
    put(&a, "z", "1");
    ship(&a, &b);
    assert_eq!((calls.load(Ordering::SeqCst), parked(&b)), (3, 3));
    assert_eq!(get(&b, "fails").unwrap(), "of-b");
    works.store(true, Ordering::SeqCst);
    assert_eq!(b.resolve_conflicts().unwrap(), resolved(3, 0));
    assert_eq!(get(&b, "panics").unwrap(), "of-a of-b");
}

#[test]
fn a_key_that_is_written_while_its_resolver_thinks_is_asked_about_again() {
    let ((_a, a), (_b, b)) = (node(1), node(2));
    let writes = Arc::new(AtomicU64::new(0));
    let (writer, counted) = (b.clone(), writes.clone());
    b.set_resolver("k", move |conflict: &Conflict<'_>| {
        if counted.fetch_add(1, Ordering::SeqCst) < 2 {
            put(&writer, "x", "meanwhile");
        }
        union(conflict)
    })
    .unwrap();
    put(&a, "x", "of-a");
    put(&b, "x", "of-b");
    ship(&a, &b);
    assert_eq!(b.resolve_conflicts().unwrap(), resolved(1, 0));
    assert_eq!(writes.load(Ordering::SeqCst), 3);
    assert_eq!(get(&b, "x").unwrap(), "meanwhile of-a");
}

#[test]
fn without_a_resolver_nothing_is_parked() {
    let ((_a, a), (_b, b)) = (node(1), node(2));
    for db in [&a, &b] {
        db.keyspace("other", KeyspaceOptions::default()).unwrap();
    }
    let other = |db: &Db| keyspace(db, "other");
    other(&a).put("x", "of-a").unwrap();
    other(&b).put("x", "of-b").unwrap();
    ship(&a, &b);
    assert_eq!((parked(&b), b.stats().conflicts_parked), (0, 0));
}

#[test]
fn a_loser_that_comes_as_state_is_parked_too() {
    let ((_a, a), (disk, b)) = (node(1), node(2));
    put(&a, "x", "of-a");
    put(&a, "seen", "a");
    put(&b, "x", "of-b");
    keyspace(&a, "k").delete("y").unwrap();
    put(&b, "y", "of-b");
    let give = || {
        let mut delta = a.replication().delta(MAIN, &b.replication().applied(MAIN)).unwrap();
        let into = b.replication();
        let mut stage = into.stage(MAIN, delta.head(), Purpose::CatchUp).unwrap();
        while let Some(chunk) = delta.next(1 << 20).unwrap() {
            stage.add(&chunk).unwrap();
        }
        stage.install().unwrap();
    };
    give();
    assert_eq!(parked(&b), 2);
    put(&b, "seen", "b");
    give();
    assert_eq!(parked(&b), 2, "what was overwritten knowingly is in no conflict");
    b.compact_all().unwrap();
    b.close().unwrap();
    let b = disk.open(fast());
    b.set_resolver("k", union).unwrap();
    assert_eq!(b.resolve_conflicts().unwrap(), resolved(2, 0));
    assert_eq!(get(&b, "x").unwrap(), "of-a of-b");
    assert_eq!(get(&b, "y").unwrap(), "of-b");
}

/// Nobody has a handle of a keyspace that is hidden, but its resolver writes to it.
#[test]
fn a_merge_brings_a_dropped_keyspace_back() {
    let ((_a, a), (_b, b), (_c, c)) = (node(1), node(100), node(50));
    a.replication().raise_floor(MAIN, &Default::default()).unwrap();
    put(&a, "x", "of-a");
    put(&b, "x", "of-b");
    keyspace(&b, "k").delete("x").unwrap();
    a.drop_keyspace(keyspace(&a, "k")).unwrap();
    put(&c, "x", "of-c");
    let loser_stays = |conflict: &Conflict<'_>| -> Result<Resolution, ResolveError> {
        Ok(Resolution::Put(conflict.loser.unwrap_or_default().to_vec()))
    };
    b.set_resolver("k", loser_stays).unwrap();
    ship(&a, &b);
    ship(&c, &b);
    assert!(b.existing_keyspace("k").is_err());
    assert_eq!(b.resolve_conflicts().unwrap(), resolved(1, 0));
    assert_eq!(b.existing_keyspace("k").unwrap().get("x").unwrap().unwrap(), b"of-c");
}

#[test]
fn state_that_was_overwritten_knowingly_is_in_no_conflict() {
    let ((_a, a), (_b, b)) = (node(1), node(2));
    put(&a, "x", "of-a");
    ship(&a, &b);
    put(&b, "x", "over it");
    let mut delta = a.replication().delta(MAIN, &Default::default()).unwrap();
    let mut stage = b.replication().stage(MAIN, delta.head(), Purpose::Rejoin).unwrap();
    while let Some(chunk) = delta.next(1 << 20).unwrap() {
        stage.add(&chunk).unwrap();
    }
    stage.install().unwrap();
    assert_eq!((parked(&b), get(&b, "x").unwrap()), (0, "over it".to_owned()));
}

/// What a node gets back of an earlier life may have been written knowing what comes after it.
#[test]
fn a_write_of_an_earlier_life_that_was_given_back_is_in_no_conflict() {
    let ((_a, a), (disk, b), (_c, c)) = (node(1), node(9), node(3));
    put(&b, "before", "1");
    b.sync().unwrap();
    let copy = disk.fs.fork();
    put(&a, "x", "of-a");
    ship(&a, &b);
    put(&b, "x", "over it");
    let mut tail = b.replication().tail(MAIN, &a.replication().applied(MAIN)).unwrap();
    let own = b.replication().origin();
    let mut given = Vec::new();
    while let Some(it) = tail.next(&a.replication().applied(MAIN), 1 << 20).unwrap() {
        given.extend((it.origin == own).then_some(it.bytes));
    }
    for bytes in &given {
        c.replication().admit(bytes).unwrap();
    }
    let disk = Disk::of(copy);
    disk.clock.set(START_MS + 20);
    let b = disk.open(fast());
    b.replication().renew().unwrap();
    b.set_resolver("k", union).unwrap();
    ship(&c, &b);
    assert_eq!(get(&b, "x").unwrap(), "over it");
    ship(&a, &b);
    assert_eq!(parked(&b), 0, "it had been seen");
    assert_eq!(get(&b, "x").unwrap(), "over it");
}

#[test]
fn a_resolution_expires_when_the_winner_would_have() {
    let ((_a, a), (disk, b)) = (node(1), node(2));
    let lasts = Duration::from_millis(500);
    keyspace(&a, "k").put_expiring("x", "of-a", lasts / 2).unwrap();
    keyspace(&b, "k").put_expiring("x", "of-b", lasts).unwrap();
    put(&b, "y", "of-b");
    keyspace(&a, "k").put_expiring("y", "of-a", lasts).unwrap();
    ship(&a, &b);
    disk.clock.set(START_MS + 300);
    assert_eq!(b.resolve_conflicts().unwrap().parked, 0);
    assert_eq!(get(&b, "x").unwrap(), "of-b", "the loser has expired");
    put(&a, "z", "of-a");
    keyspace(&b, "k").put_expiring("z", "of-b", lasts).unwrap();
    ship(&a, &b);
    assert_eq!(b.resolve_conflicts().unwrap(), resolved(1, 0));
    assert_eq!(get(&b, "z").unwrap(), "of-a of-b");
    disk.clock.set(START_MS + 801);
    assert_eq!(get(&b, "z"), None);
}

#[test]
fn losers_of_a_dropped_keyspace_go_with_it() {
    let ((_a, a), (_b, b)) = (node(1), node(2));
    put(&a, "x", "of-a");
    put(&b, "x", "of-b");
    ship(&a, &b);
    b.drop_keyspace(keyspace(&b, "k")).unwrap();
    put(&b, "x", "anew");
    assert_eq!(b.resolve_conflicts().unwrap(), resolved(1, 0));
    assert_eq!((get(&b, "x").unwrap(), parked(&b)), ("anew".to_owned(), 0));
}

#[test]
fn of_several_losers_the_newest_is_resolved_first() {
    let ((_a, a), (_b, b)) = (node(1), node(9));
    let first_come = |conflict: &Conflict<'_>| {
        Ok(match (conflict.winner, conflict.loser) {
            (Some(b"of-b"), Some(loser)) => Resolution::Put(loser.to_vec()),
            _ => Resolution::KeepWinner,
        })
    };
    b.set_resolver("k", first_come).unwrap();
    put(&b, "x", "of-b");
    for value in ["first", "second", "third"] {
        put(&a, "x", value);
    }
    ship(&a, &b);
    assert_eq!(b.resolve_conflicts().unwrap(), resolved(3, 0));
    assert_eq!(get(&b, "x").unwrap(), "third");
}

#[test]
fn losers_below_a_newer_range_delete_go_with_what_it_deletes() {
    let ((_a, a), (_b, b)) = (node(1), node(2));
    let revive = |conflict: &Conflict<'_>| {
        Ok(conflict.loser.map_or(Resolution::KeepWinner, |it| Resolution::Put(it.to_vec())))
    };
    b.set_resolver("k", revive).unwrap();
    put(&a, "x", "of-a");
    put(&b, "x", "of-b");
    ship(&a, &b);
    keyspace(&b, "k").delete_prefix("").unwrap();
    assert_eq!((parked(&b), b.resolve_conflicts().unwrap()), (1, resolved(1, 0)));
    assert_eq!((get(&b, "x"), parked(&b)), (None, 0));
}

#[test]
fn a_batch_that_loses_in_part_is_parked_in_that_part() {
    let ((_a, a), (_b, b)) = (node(1), node(2));
    put(&b, "x", "of-b");
    let k = keyspace(&a, "k");
    let mut batch = Batch::new();
    batch.put(&k, "x", "of-a");
    batch.put(&k, "y", "of-a");
    a.write(batch).unwrap();
    assert_eq!(ship(&a, &b), [Admission::Taken { won: 1, lost: 1, late: 0 }]);
    assert_eq!(b.resolve_conflicts().unwrap(), resolved(1, 0));
    assert_eq!(get(&b, "x").unwrap(), "of-a of-b");
    assert_eq!(get(&b, "y").unwrap(), "of-a");
}

#[test]
fn a_thread_of_its_own_resolves_what_comes() {
    let (_a, a) = node(1);
    let disk = Disk::new(2);
    disk.clock.set(START_MS + 2);
    let b = disk.open(Options { sync: SyncMode::Async, ..small_busy() });
    b.set_resolver("k", union).unwrap();
    for round in 0..20 {
        let key = format!("x{round}");
        put(&a, &key, "of-a");
        put(&b, &key, "of-b");
        ship(&a, &b);
        eventually("a merge", || get(&b, &key).unwrap() == "of-a of-b");
    }
    eventually("nothing is parked", || parked(&b) == 0);
    b.close().unwrap();
}

#[test]
fn the_thread_asks_a_resolver_that_failed_no_more() {
    let (_a, a) = node(1);
    let disk = Disk::new(2);
    disk.clock.set(START_MS + 2);
    let b = disk.open(Options { sync: SyncMode::Async, ..small_busy() });
    let calls = Arc::new(AtomicU64::new(0));
    let counted = calls.clone();
    b.set_resolver("k", move |conflict: &Conflict<'_>| match conflict.key {
        b"bad" => {
            counted.fetch_add(1, Ordering::SeqCst);
            Err("never".into())
        }
        _ => union(conflict),
    })
    .unwrap();
    for key in ["bad", "good", "better"] {
        put(&a, key, "of-a");
        put(&b, key, "of-b");
        ship(&a, &b);
        eventually("it was looked at", || {
            let stats = b.stats();
            stats.conflicts_parked == stats.conflicts_resolved + stats.resolver_failures
        });
    }
    assert_eq!((calls.load(Ordering::SeqCst), parked(&b)), (1, 1));
}

#[test]
fn names_that_are_not_for_users_have_no_resolver() {
    let (_a, a) = node(1);
    assert!(a.set_resolver("esker.roster", union).is_err());
    assert!(a.set_resolver("", union).is_err());
}

#[derive(Clone, Debug)]
enum Step {
    /// A node adds a word of its own to what it sees of a key.
    Add(usize, u8),
    /// Two nodes give each other what they have.
    Meet(usize, usize),
    Resolve(usize),
    Flush(usize),
    Reopen(usize),
    Wait(usize),
}

fn any_step() -> impl Strategy<Value = Step> {
    let node = 0..3usize;
    prop_oneof![
        6 => (node.clone(), 0..3u8).prop_map(|(n, key)| Step::Add(n, key)),
        6 => (node.clone(), node.clone()).prop_map(|(a, b)| Step::Meet(a, b)),
        3 => node.clone().prop_map(Step::Resolve),
        1 => node.clone().prop_map(Step::Flush),
        2 => node.prop_map(Step::Wait),
    ]
}

/// All kinds of steps, and in every other history nobody is opened again.
fn any_steps() -> impl Strategy<Value = Vec<Step>> {
    let some = || prop::collection::vec(any_step(), 1..60);
    let reopened = (some(), 0..3usize, some());
    let reopened = reopened.prop_map(|(mut steps, node, rest)| {
        steps.push(Step::Reopen(node));
        steps.extend(rest);
        steps
    });
    prop_oneof![some(), reopened]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64 * scale() as u32))]

    /// Whoever overwrites a word has seen it and keeps it, or has not and it is merged: none is lost.
    #[test]
    fn no_word_is_lost_and_all_nodes_end_equal(
        steps in any_steps()
    ) {
        let mut nodes: Vec<(Disk, Option<Db>)> =
            (1..4).map(node).map(|(disk, db)| (disk, Some(db))).collect();
        let mut added = vec![BTreeSet::new(); 3];
        for (number, step) in steps.iter().enumerate() {
            let db = |node: usize| nodes[node].1.as_ref().unwrap();
            match *step {
                Step::Add(node, of) => {
                    let key = format!("k{of}");
                    let mut all = words(get(db(node), &key).unwrap_or_default().as_bytes());
                    all.insert(format!("w{number}"));
                    added[of as usize].insert(format!("w{number}"));
                    keyspace(db(node), "k").put(key, joined(&all)).unwrap();
                }
                Step::Meet(one, other) if one != other => meet(db(one), db(other)),
                Step::Meet(..) => {}
                Step::Resolve(node) => drop(db(node).resolve_conflicts().unwrap()),
                Step::Flush(node) => db(node).compact_all().unwrap(),
                Step::Wait(node) => nodes[node].0.clock.set(START_MS + 10 * number as u64),
                Step::Reopen(node) => {
                    let (disk, db) = &mut nodes[node];
                    db.take().unwrap().sync().unwrap();
                    let reopened = disk.open(Options { log_retention_bytes: 1 << 30, ..fast() });
                    reopened.set_resolver("k", union).unwrap();
                    *db = Some(reopened);
                }
            }
        }
        let all: Vec<&Db> = nodes.iter().map(|(_, db)| db.as_ref().unwrap()).collect();
        let mut rounds = 0;
        loop {
            for (one, other) in [(0, 1), (1, 2), (2, 0)] {
                meet(all[one], all[other]);
                all[one].resolve_conflicts().unwrap();
                all[other].resolve_conflicts().unwrap();
            }
            let vectors: BTreeSet<_> =
                all.iter().map(|db| format!("{:?}", db.replication().applied(MAIN))).collect();
            if vectors.len() == 1 {
                break;
            }
            rounds += 1;
            prop_assert!(rounds < 20, "merges do not come to an end");
        }
        // After a reopening others get state, and what they have let go of is not in it.
        let is_by_log = !steps.iter().any(|step| matches!(step, Step::Reopen(_)));
        for (of, added) in added.iter().enumerate() {
            let first = get(all[0], &format!("k{of}"));
            for db in &all {
                let found = get(db, &format!("k{of}"));
                prop_assert_eq!(&found, &first);
                let found = words(found.unwrap_or_default().as_bytes());
                prop_assert!(found.is_subset(added) && (found == *added || !is_by_log));
                prop_assert_eq!(parked(db), 0);
            }
        }
    }
}

/// What `from` has and `to` has not: by the log where it reaches back.
enum Gift {
    Shipments(Vec<Vec<u8>>),
    Chunks(DeltaHead, Vec<Vec<u8>>),
}

impl Gift {
    fn of(from: &Db, to: &Db) -> Gift {
        let after = to.replication().applied(MAIN);
        match from.replication().tail(MAIN, &after) {
            Ok(mut tail) => {
                let next = std::iter::from_fn(|| tail.next(&after, 1 << 20).unwrap());
                Gift::Shipments(next.map(|shipment| shipment.bytes).collect())
            }
            Err(_) => {
                let mut delta = from.replication().delta(MAIN, &after).unwrap();
                let head = delta.head().clone();
                let chunks = std::iter::from_fn(|| delta.next(1 << 20).unwrap());
                Gift::Chunks(head, chunks.collect())
            }
        }
    }

    fn give(self, to: &Db) {
        let to = to.replication();
        match self {
            Gift::Shipments(all) => all.iter().for_each(|it| {
                to.admit(it).unwrap();
            }),
            Gift::Chunks(head, chunks) => {
                let mut stage = to.stage(MAIN, &head, Purpose::CatchUp).unwrap();
                chunks.iter().for_each(|chunk| stage.add(chunk).unwrap());
                stage.install().unwrap();
            }
        }
    }
}

/// Nobody writes between what one gives and what it gets.
fn meet(one: &Db, other: &Db) {
    let (there, back) = (Gift::of(one, other), Gift::of(other, one));
    there.give(other);
    back.give(one);
}
