//! Deltas on their way in: all of one or nothing, whatever happens meanwhile, and what a rejoiner gives up.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

mod fixture;

use base::fs::{CrashModel, SimFs};
use base::state::{StateEntry, StateKind, StateWriter};
use esker::replicate::{
    Admission, Answers, DeltaHead, Installed, NodeId, Origin, Purpose, ScopeId, Stage, Stamp,
    Vector,
};
use esker::{Db, Error, Options, SyncMode, Tick};
use fixture::{
    Content, Disk, Left, START_MS, assert_all_or_nothing, content, fast, keyspace, local_keyspace,
    node, ship, small_busy,
};
use std::sync::atomic::{AtomicBool, Ordering};

const MAIN: ScopeId = ScopeId::MAIN;
const QUARANTINE: &str = "esker.quarantine";

/// A stage at `to` that has everything `from` has to give.
fn staged(from: &Db, to: &Db, purpose: Purpose, len_max: usize) -> esker::Result<Stage> {
    let to = to.replication();
    let after = match purpose {
        Purpose::CatchUp if to.is_whole(MAIN) => to.applied(MAIN),
        _ => Vector::default(),
    };
    let mut delta = from.replication().delta(MAIN, &after)?;
    let mut stage = to.stage(MAIN, delta.head(), purpose)?;
    while let Some(chunk) = delta.next(len_max)? {
        stage.add(&chunk)?;
    }
    Ok(stage)
}

fn give(from: &Db, to: &Db, purpose: Purpose) {
    let installed = staged(from, to, purpose, 1 << 20).unwrap().install().unwrap();
    assert_eq!(installed, Installed::All);
}

/// What a node that lost everything but its vector has: nothing that it holds says what is missing.
fn claim_all_of(from: &Db, to: &Db) {
    let head = from.replication().delta(MAIN, &Vector::default()).unwrap().head().clone();
    to.replication().stage(MAIN, &head, Purpose::CatchUp).unwrap().install().unwrap();
}

/// Lets `db` forget its tombstones, as if all authors had all that is here.
fn forget(db: &Db) {
    let replication = db.replication();
    replication.raise_floor(MAIN, &replication.applied(MAIN)).unwrap();
    db.compact_all().unwrap();
    assert!(replication.dropped(MAIN) > Tick::ZERO);
}

fn all(db: &Db) -> Vec<(String, Content)> {
    let names = db.keyspaces().into_iter().filter(|k| k.name() != "mine");
    let all = names.map(|k| (k.name().to_owned(), content(&k)));
    all.filter(|(_, content)| !content.is_empty()).collect()
}

fn get(db: &Db, key: &str) -> Option<Vec<u8>> {
    keyspace(db, "k").get(key).unwrap().map(|value| value.to_vec())
}

/// Entries of the quarantine.
fn quarantined(db: &Db) -> usize {
    let found = db.replication().existing_keyspace(QUARANTINE);
    found.map_or(0, |keyspace| content(&keyspace).len())
}

/// Refused by the guard of the clock.
fn is_ahead(result: esker::Result<impl Sized>) -> bool {
    matches!(result, Err(Error::ClockSkew { limit_ms: 10_000, .. }))
}

fn is_invalid(result: esker::Result<impl Sized>) -> bool {
    matches!(result, Err(Error::InvalidInput { .. }))
}

/// Two keyspaces in which things were put, deleted and deleted by range.
fn giver() -> Db {
    let (_, db) = node(1);
    for number in 0..400u32 {
        keyspace(&db, "zebra").put(number.to_be_bytes(), [number as u8; 30]).unwrap();
        keyspace(&db, "ant").put(number.to_be_bytes(), b"ant").unwrap();
    }
    db.flush().unwrap();
    keyspace(&db, "zebra").delete_range(5u32.to_be_bytes(), 90u32.to_be_bytes()).unwrap();
    keyspace(&db, "zebra").put(7u32.to_be_bytes(), b"again").unwrap();
    keyspace(&db, "ant").delete(3u32.to_be_bytes()).unwrap();
    db
}

#[test]
fn a_delta_brings_everything_wherever_its_keyspaces_are_numbered() {
    let a = giver();
    for len_max in [1, 100, 1 << 20] {
        let (disk, b) = node(2);
        let mine = local_keyspace(&b, "mine");
        mine.put("of", "b").unwrap();
        keyspace(&b, "ant").put(3u32.to_be_bytes(), b"newer").unwrap();
        staged(&a, &b, Purpose::CatchUp, len_max).unwrap().install().unwrap();
        assert_eq!(keyspace(&b, "ant").get(3u32.to_be_bytes()).unwrap().unwrap(), b"newer");
        keyspace(&b, "ant").delete(3u32.to_be_bytes()).unwrap();
        assert_eq!(all(&b), all(&a));
        let (at_a, at_b) = (a.replication(), b.replication());
        assert!(at_b.applied(MAIN).covers_all(&at_a.applied(MAIN)));
        assert!(at_b.durable(MAIN).covers_all(&at_a.applied(MAIN)));
        b.compact_all().unwrap();
        b.close().unwrap();
        let b = disk.open(fast());
        assert_eq!(all(&b), all(&a));
        assert!(b.replication().applied(MAIN).covers_all(&at_a.applied(MAIN)));
        assert_eq!(content(&local_keyspace(&b, "mine")).len(), 1);
        assert!(b.scrub().unwrap().findings.is_empty());
    }
}

/// Counterexample 1: a delta breaks off, and its giver is restored without what it gave.
#[test]
fn a_delta_that_breaks_off_leaves_nothing() {
    let a = giver();
    let (disk, b) = node(2);
    let before = (b.replication().applied(MAIN), disk.files_in("tables/").len());
    drop(staged(&a, &b, Purpose::CatchUp, 100).unwrap());
    assert!(all(&b).is_empty());
    assert_eq!((b.replication().applied(MAIN), disk.files_in("tables/").len()), before);
    // A process that dies leaves the file; the next one sweeps it.
    let stage = staged(&a, &b, Purpose::CatchUp, 100).unwrap();
    let crashed = Disk::of(disk.fs.crash(CrashModel::Kill));
    assert_eq!(crashed.files_in("tables/").len(), before.1 + 1);
    drop(stage);
    let b = crashed.open(fast());
    assert!(all(&b).is_empty());
    assert_eq!(crashed.files_in("tables/").len(), before.1);
}

#[test]
fn a_crash_leaves_all_of_a_delta_or_nothing() {
    let a = giver();
    let expected = all(&a);
    let prepared = {
        let (disk, b) = node(2);
        local_keyspace(&b, "mine").put("of", "b").unwrap();
        b.close().unwrap();
        disk.fs
    };
    let run = |fs: &SimFs| {
        let b = Disk::of(fs.clone()).try_open(fast())?;
        staged(&a, &b, Purpose::Rejoin, 1 << 12)?.install()
    };
    assert_all_or_nothing(&prepared, fast, run, |b| {
        assert_eq!(content(&local_keyspace(b, "mine")).len(), 1);
        if b.replication().applied(MAIN).covers_all(&a.replication().applied(MAIN)) {
            assert_eq!(all(b), expected);
            return Left::All;
        }
        assert!(all(b).is_empty());
        Left::Nothing
    });
}

#[test]
fn a_disk_that_fails_takes_no_delta_and_loses_nothing() {
    let a = giver();
    let (disk, b) = node(2);
    keyspace(&b, "k").put("x", "mine").unwrap();
    let stage = staged(&a, &b, Purpose::CatchUp, 1 << 20).unwrap();
    let before = (all(&b), b.replication().applied(MAIN));
    disk.fs.stop_after(disk.fs.ops() + 3);
    assert!(stage.install().is_err());
    assert_eq!((all(&b), b.replication().applied(MAIN)), before);
}

#[test]
fn what_is_no_delta_is_refused_and_changes_nothing() {
    let (_, b) = node(2);
    let at = |ms: u64| Tick::from_ms(ms);
    let origin = Origin { node: NodeId([9; 16]), ..Origin::default() };
    let stamp = |ms| Stamp { tick: at(ms), origin };
    let vector: Vector = [(origin, at(START_MS))].into_iter().collect();
    let head = DeltaHead { vector, ..DeltaHead::default() };
    let put = StateKind::Put(b"v");
    let range = StateKind::RangeDelete { end: b"z" };
    let chunk = |scope, entries: &[(&str, &[u8], u64, StateKind<'_>)]| {
        let mut writer = StateWriter::new(scope);
        for (keyspace, key, ms, kind) in entries {
            writer.push(&StateEntry { keyspace, key, stamp: stamp(*ms), kind: *kind });
        }
        writer.finish()
    };
    let good = chunk(MAIN, &[("k", b"b", START_MS, put)]);
    let mut stage = b.replication().stage(MAIN, &head, Purpose::CatchUp).unwrap();
    stage.add(&chunk(MAIN, &[("z", b"", START_MS, range)])).unwrap();
    stage.add(&good).unwrap();
    let ahead = START_MS + 3_600_000;
    for bad in [
        chunk(MAIN, &[("k", b"b", START_MS, put)]),
        chunk(MAIN, &[("k", b"c", START_MS, put), ("k", b"a", START_MS, put)]),
        chunk(MAIN, &[("a", b"c", START_MS, put)]),
        chunk(MAIN, &[("k", b"c", START_MS, range)]),
        chunk(MAIN, &[("k", b"c", START_MS, put), ("l", b"c", START_MS, range)]),
        chunk(ScopeId(7), &[("k", b"c", START_MS, put)]),
        good[..good.len() - 1].to_vec(),
        Vec::new(),
    ] {
        assert!(is_invalid(stage.add(&bad)));
    }
    for bad in [
        chunk(MAIN, &[("k", b"c", ahead, put)]),
        chunk(MAIN, &[("k", b"c", START_MS, StateKind::Erase { carrier: stamp(ahead) })]),
    ] {
        assert!(is_ahead(stage.add(&bad)));
    }
    let backwards = StateKind::RangeDelete { end: b"a" };
    let mut other = b.replication().stage(MAIN, &head, Purpose::CatchUp).unwrap();
    assert!(is_invalid(other.add(&chunk(MAIN, &[("k", b"b", START_MS, backwards)]))));
    let huge = vec![0; 65 << 20];
    assert!(matches!(other.add(&huge), Err(Error::TooLarge { .. })));
    stage.add(&chunk(MAIN, &[("k", b"c", START_MS, put)])).unwrap();
    stage.install().unwrap();
    assert_eq!(all(&b).len(), 1);
    assert_eq!(content(&keyspace(&b, "k")).len(), 2);
    let far: Vector = [(origin, at(ahead))].into_iter().collect();
    for head in [
        DeltaHead { vector: far.clone(), ..DeltaHead::default() },
        DeltaHead { dropped: at(ahead), ..DeltaHead::default() },
        DeltaHead { floor: far, ..DeltaHead::default() },
    ] {
        assert!(is_ahead(b.replication().stage(MAIN, &head, Purpose::Rejoin)));
    }
    assert!(is_invalid(b.replication().stage(ScopeId::LOCAL, &head, Purpose::CatchUp)));
}

#[test]
fn who_is_below_the_floor_must_rejoin() {
    let (a, (_, b)) = (giver(), node(2));
    forget(&a);
    let head = a.replication().delta(MAIN, &Vector::default()).unwrap().head().clone();
    assert!(is_invalid(b.replication().stage(MAIN, &head, Purpose::CatchUp)));
    give(&a, &b, Purpose::Rejoin);
    assert_eq!(all(&b), all(&a));
    let (at_a, at_b) = (a.replication(), b.replication());
    assert_eq!((at_b.floor(MAIN), at_b.dropped(MAIN)), (at_a.floor(MAIN), at_a.dropped(MAIN)));
}

#[test]
fn a_peer_behind_a_delta_gets_none_of_it_from_the_log() {
    let (_, a) = node(1);
    let (_, b) = node(2);
    let (_, c) = node(3);
    keyspace(&a, "k").put("1", "of a").unwrap();
    ship(&a, &b);
    keyspace(&a, "k").put("2", "of a").unwrap();
    give(&a, &b, Purpose::CatchUp);
    keyspace(&a, "k").put("3", "of a").unwrap();
    ship(&a, &b);
    let refused = b.replication().tail(MAIN, &c.replication().applied(MAIN));
    assert!(matches!(refused, Err(Error::HistoryGone { .. })), "{refused:?}");
    give(&b, &c, Purpose::CatchUp);
    assert_eq!(all(&c), all(&a));
    keyspace(&a, "k").put("4", "of a").unwrap();
    ship(&a, &b);
    ship(&b, &c);
    assert_eq!(all(&c), all(&a));
}

#[test]
fn a_peer_that_reads_the_log_is_told_that_a_delta_went_past_it() {
    let (_, a) = node(1);
    let (_, b) = node(2);
    keyspace(&a, "k").put("1", "of a").unwrap();
    ship(&a, &b);
    let mut known = b.replication().applied(MAIN);
    let mut tail = b.replication().tail(MAIN, &known).unwrap();
    assert_eq!(tail.next(&known, 1 << 20).unwrap(), None);
    keyspace(&a, "k").put("2", "of a").unwrap();
    give(&a, &b, Purpose::CatchUp);
    let refused = tail.next(&known, 1 << 20);
    assert!(matches!(refused, Err(Error::HistoryGone { .. })), "{refused:?}");
    known.raise_all(&b.replication().applied(MAIN));
    assert_eq!(tail.next(&known, 1 << 20).unwrap(), None);
}

#[test]
fn what_others_write_while_a_delta_is_installed_is_not_lost() {
    let (_, a) = node(1);
    for number in 0..3000u32 {
        keyspace(&a, "k").put(number.to_be_bytes(), b"of a").unwrap();
    }
    let disk_b = Disk::new(2);
    disk_b.clock.set(START_MS + 9); // Whatever b writes is newer.
    let b = disk_b.open(Options { sync: SyncMode::Async, ..small_busy() });
    let (k, is_over) = (keyspace(&b, "k"), AtomicBool::new(false));
    let writes = std::thread::scope(|scope| {
        let writers: Vec<_> = (0..3u32)
            .map(|writer| {
                let (k, is_over) = (&k, &is_over);
                scope.spawn(move || {
                    let mut writes = 0u32;
                    while !is_over.load(Ordering::Relaxed) || writes < 1000 {
                        let number = (writes % 1000) * 3 + writer;
                        k.put(number.to_be_bytes(), format!("{writer} {writes}")).unwrap();
                        writes += 1;
                    }
                    writes
                })
            })
            .collect();
        for _ in 0..4 {
            let stage = staged(&a, &b, Purpose::Rejoin, 1 << 12).unwrap();
            stage.install().unwrap();
        }
        is_over.store(true, Ordering::Relaxed);
        writers.into_iter().map(|writer| writer.join().unwrap()).collect::<Vec<_>>()
    });
    for number in 0..3000u32 {
        let (writer, place) = (number % 3, number / 3);
        let count = writes[writer as usize];
        let last = (count - 1 - place) / 1000 * 1000 + place;
        let found = k.get(number.to_be_bytes()).unwrap().unwrap();
        assert_eq!(found, format!("{writer} {last}").as_bytes());
    }
}

#[test]
fn a_rejoiner_gives_up_what_the_other_has_received_and_let_go() {
    for has_older in [false, true] {
        let (_, a) = node(1);
        let (disk, b) = node(2);
        let (at_a, at_b) = (keyspace(&a, "k"), keyspace(&b, "k"));
        for key in ["deleted", "range 1", "range 2", "kept"] {
            at_b.put(key, "of b").unwrap();
        }
        ship(&b, &a);
        at_a.delete("deleted").unwrap();
        at_a.delete_range("range", "rangf").unwrap();
        forget(&a);
        disk.clock.set(START_MS + 9);
        at_b.put("new", "of b").unwrap();
        if has_older {
            at_a.put("deleted", "of a").unwrap();
        }
        give(&a, &b, Purpose::Rejoin);
        let older = has_older.then(|| b"of a".to_vec());
        let check = |b: &Db| {
            assert_eq!(get(b, "deleted"), older);
            assert_eq!((get(b, "range 1"), get(b, "range 2")), (None, None));
            assert_eq!(get(b, "kept").unwrap(), b"of b");
            assert_eq!(get(b, "new").unwrap(), b"of b");
        };
        check(&b);
        b.compact_all().unwrap();
        check(&b);
        b.close().unwrap();
        let b = disk.open(fast());
        check(&b);
        give(&b, &a, Purpose::CatchUp);
        assert_eq!(all(&a), all(&b));
        assert!(b.replication().is_whole(MAIN));
    }
}

/// Counterexample 8: what a rejoiner has of others, and the other has not, stays.
#[test]
fn a_rejoiner_keeps_what_the_other_has_not_received_of_anybody() {
    let (_, a) = node(1);
    let (_, b) = node(2);
    let (_, c) = node(3);
    keyspace(&c, "k").put("x", "of c").unwrap();
    ship(&c, &b);
    keyspace(&a, "k").put("y", "of a").unwrap();
    give(&a, &b, Purpose::Rejoin);
    assert_eq!(get(&b, "x").unwrap(), b"of c");
    assert_eq!(get(&b, "y").unwrap(), b"of a");
}

#[test]
fn a_node_that_lost_content_gets_it_back_and_is_whole_again() {
    let a = giver();
    let (_, b) = node(2);
    claim_all_of(&a, &b);
    give(&a, &b, Purpose::CatchUp);
    assert!(all(&b).is_empty(), "what its vector covers it is not given");
    b.replication().set_incomplete(MAIN).unwrap();
    give(&a, &b, Purpose::CatchUp);
    assert_eq!(all(&b), all(&a));
    assert!(!b.replication().is_whole(MAIN));
    give(&a, &b, Purpose::Rejoin);
    assert_eq!(all(&b), all(&a));
    assert!(b.replication().is_whole(MAIN));
}

/// C has put w and is not heard of again; B has dropped a deletion of it. Returns the nodes.
fn late() -> (Db, Db) {
    let (_, b) = node(5);
    let (_, c) = node(1);
    keyspace(&c, "k").put("w", "late").unwrap();
    keyspace(&c, "k").put("other", "late").unwrap();
    keyspace(&b, "k").delete("w").unwrap();
    forget(&b);
    keyspace(&b, "k").put("other", "newer").unwrap();
    (b, c)
}

#[test]
fn a_late_put_of_a_delta_is_erased_everywhere_and_kept_in_quarantine() {
    let (b, c) = late();
    let (disk, d) = node(4);
    ship(&c, &d);
    give(&c, &b, Purpose::CatchUp);
    assert_eq!(get(&b, "w"), None);
    assert_eq!(get(&b, "other").unwrap(), b"newer");
    assert_eq!(quarantined(&b), 2);
    assert!(b.replication().is_whole(MAIN));
    keyspace(&b, "k").put("after", "it").unwrap();
    // Counterexample 2: the erase goes by its carrier, although its victim is known.
    assert_eq!(get(&d, "w").unwrap(), b"late");
    give(&b, &d, Purpose::Rejoin);
    assert_eq!(all(&d), all(&b));
    // Nor is there a gap in b's own commits.
    keyspace(&b, "k").put("more", "of b").unwrap();
    assert!(matches!(ship(&b, &d)[..], [Admission::Taken { won: 1, .. }]));
    d.close().unwrap();
    assert_eq!(all(&disk.open(fast())), all(&b));
}

/// Counterexample 6: an observer finds a late write.
#[test]
fn who_may_not_answer_a_late_put_takes_no_delta_with_it_and_asks_an_author() {
    let (b, c) = late();
    let (_, author) = node(6);
    ship(&b, &author);
    forget(&author);
    assert!(matches!(
        ship(&c, &author)[..],
        [_, Admission::Taken { late: 1, .. }] | [Admission::Taken { late: 1, .. }]
    ));
    b.replication().set_answers(MAIN, Answers::Reader);
    let before = (b.replication().applied(MAIN), all(&b));
    let installed = staged(&c, &b, Purpose::CatchUp, 1 << 20).unwrap().install().unwrap();
    assert_eq!(installed, Installed::Unanswered { late: 1 });
    assert_eq!((b.replication().applied(MAIN), all(&b)), before);
    assert!(b.replication().is_whole(MAIN));
    keyspace(&author, "k").put("more", "of an author").unwrap();
    give(&author, &b, Purpose::Rejoin);
    assert_eq!((all(&b), quarantined(&b)), (all(&author), 2));
    assert!(b.replication().is_whole(MAIN));
}

/// What it lacks was deleted, unless its giver knows better: one that has not received the delete does
/// not, and what both have received does not come back from there.
#[test]
fn a_reader_takes_late_puts_only_from_an_author_that_has_received_what_was_forgotten() {
    let (_, author) = node(6);
    let (_, c) = node(1);
    let (disk_b, b) = node(5);
    keyspace(&c, "k").put("gone", "1").unwrap();
    ship(&c, &b);
    keyspace(&c, "k").put("w", "late").unwrap();
    disk_b.clock.set(START_MS + 1);
    keyspace(&b, "k").delete("gone").unwrap();
    ship(&b, &author);
    forget(&b);
    b.replication().set_answers(MAIN, Answers::Reader);
    let install =
        |from: &Db| staged(from, &b, Purpose::Rejoin, 1 << 20).unwrap().install().unwrap();

    assert_eq!(install(&c), Installed::Unanswered { late: 1 });
    assert_eq!((get(&b, "gone"), get(&b, "w")), (None, None));

    ship(&c, &author);
    assert_eq!(get(&author, "w").unwrap(), b"late");
    assert_eq!(install(&author), Installed::All);
    assert_eq!((all(&b), quarantined(&b)), (all(&author), 0));
}

/// Counterexample 3: an erase of an older put takes the place of a newer put that was let go.
#[test]
fn an_older_version_at_the_other_does_not_hide_that_a_newer_one_was_let_go() {
    let (_, a) = node(4);
    let (_, b) = node(2);
    let (_, c) = node(1);
    keyspace(&c, "k").put("w", "late").unwrap();
    keyspace(&b, "k").put("w", "of b").unwrap();
    ship(&b, &a);
    keyspace(&a, "k").delete("w").unwrap();
    forget(&a);
    assert!(matches!(ship(&c, &a)[..], [Admission::Taken { late: 1, .. }]));
    ship(&c, &b);
    assert_eq!(get(&b, "w").unwrap(), b"of b");
    give(&a, &b, Purpose::Rejoin);
    assert_eq!(get(&b, "w"), None);
    assert_eq!(all(&b), all(&a));
    b.compact_all().unwrap();
    assert_eq!(all(&b), all(&a));
}

/// Counterexample 9: the floor and the highest dropped stamp come with the state.
#[test]
fn who_has_rejoined_gives_no_delta_to_whom_the_other_would_not() {
    let (_, a) = node(1);
    let (_, b) = node(2);
    let (_, observer) = node(3);
    keyspace(&a, "k").put("p", "of a").unwrap();
    ship(&a, &observer);
    ship(&a, &b);
    keyspace(&b, "k").delete("p").unwrap();
    forget(&b);
    give(&b, &a, Purpose::Rejoin);
    assert_eq!(get(&a, "p"), None);
    assert!(is_invalid(staged(&a, &observer, Purpose::CatchUp, 100)));
    give(&a, &observer, Purpose::Rejoin);
    assert_eq!(get(&observer, "p"), None);
}

/// A stage may wait for long: what was received and deleted meanwhile does not come back with it.
#[test]
fn what_came_and_went_while_a_delta_was_staged_stays_gone() {
    let (_, a) = node(1);
    let (_, b) = node(2);
    keyspace(&a, "k").put("p", "of a").unwrap();
    let stage = staged(&a, &b, Purpose::CatchUp, 100).unwrap();
    ship(&a, &b);
    keyspace(&b, "k").delete("p").unwrap();
    forget(&b);
    stage.install().unwrap();
    assert_eq!((get(&b, "p"), quarantined(&b)), (None, 0));
}

/// Lateness is about what never was here, so what was lost comes back, however old.
#[test]
fn what_was_lost_is_not_late() {
    let (_, a) = node(1);
    let (_, b) = node(5);
    keyspace(&a, "k").put("p", "of a").unwrap();
    keyspace(&b, "k").delete("other").unwrap();
    forget(&b);
    claim_all_of(&a, &b);
    b.replication().set_incomplete(MAIN).unwrap();
    ship(&b, &a);
    give(&a, &b, Purpose::Rejoin);
    assert_eq!((get(&b, "p").unwrap(), quarantined(&b)), (b"of a".to_vec(), 0));
}

/// B has forgotten a deletion of w that A, below B's floor, never heard of. With B's floor A vouches
/// for it: so A answers its own put, and keeps a copy.
#[test]
fn a_rejoin_answers_puts_here_that_the_other_would_find_late() {
    let (disk_a, a) = node(1);
    let (_, reader) = node(2);
    let (_, b) = node(5);
    for db in [&a, &reader] {
        keyspace(db, "k").put("w", "late").unwrap();
        keyspace(db, "k").put("other", "late").unwrap();
    }
    disk_a.clock.set(START_MS + 9);
    keyspace(&a, "k").put("kept", "newest").unwrap();
    keyspace(&b, "k").delete("w").unwrap();
    forget(&b);
    keyspace(&b, "k").put("other", "newer").unwrap();
    // Who may not write leaves it to B.
    reader.replication().set_answers(MAIN, Answers::Reader);
    give(&b, &reader, Purpose::Rejoin);
    assert_eq!((get(&reader, "w").unwrap(), quarantined(&reader)), (b"late".to_vec(), 0));

    give(&b, &a, Purpose::Rejoin);

    assert_eq!((get(&a, "w"), quarantined(&a)), (None, 2));
    assert_eq!(get(&a, "other").unwrap(), b"newer");
    assert_eq!(get(&a, "kept").unwrap(), b"newest");
    // B finds nothing late that A has not answered.
    give(&a, &b, Purpose::CatchUp);
    assert_eq!(all(&a), all(&b));
}

/// Range deletes need not be in order, so nothing else would end them; and they are compared in memory.
#[test]
fn endless_range_deletes_are_refused() {
    let (_, b) = node(2);
    let mut writer = StateWriter::new(MAIN);
    let stamp = Stamp { tick: Tick::from_ms(START_MS), origin: b.replication().origin() };
    let (start, end) = (vec![1; 1 << 10], vec![2; 1 << 10]);
    let kind = StateKind::RangeDelete { end: &end };
    for _ in 0..2000 {
        writer.push(&StateEntry { keyspace: "k", key: &start, stamp, kind });
    }
    let chunk = writer.finish();
    let mut stage = b.replication().stage(MAIN, &DeltaHead::default(), Purpose::CatchUp).unwrap();
    let taken = (0..100).take_while(|_| stage.add(&chunk).is_ok()).count();
    assert!(taken * chunk.len() <= 64 << 20 && taken > 10, "{taken}");
    drop(stage);
    keyspace(&b, "k").put("still", "open").unwrap();
}

#[test]
fn a_copy_from_before_the_first_floor_rejoins_if_deletes_are_forgotten() {
    let disk = Disk::new(1);
    disk.clock.set(START_MS + 1);
    let a = disk.open(fast());
    let (_, b) = node(2);
    for key in ["x", "y"] {
        keyspace(&a, "k").put(key, "of a").unwrap();
    }
    a.flush().unwrap();
    give(&a, &b, Purpose::CatchUp);
    keyspace(&a, "k").delete("x").unwrap();
    a.compact_all().unwrap();
    assert!(a.replication().dropped(MAIN) > Tick::ZERO, "nobody replicated it");
    a.replication().raise_floor(MAIN, &Vector::default()).unwrap();
    assert!(is_invalid(staged(&a, &b, Purpose::CatchUp, 1 << 20)));
    give(&a, &b, Purpose::Rejoin);
    assert_eq!((get(&b, "x"), get(&b, "y").unwrap()), (None, b"of a".to_vec()));
}

#[test]
fn what_was_let_go_does_not_swallow_an_older_write_that_nobody_has_seen() {
    for by_delta in [false, true] {
        let (disk_d, d) = node(1);
        let (disk_b, b) = node(2);
        let (_, a) = node(3);
        let (_, g) = node(4);
        keyspace(&d, "k").put("x", "of d").unwrap();
        disk_b.clock.set(START_MS + 20);
        keyspace(&b, "k").put("x", "of b").unwrap();
        ship(&b, &a);
        ship(&b, &g);
        keyspace(&a, "k").delete("x").unwrap();
        forget(&a);
        give(&a, &g, Purpose::Rejoin);
        assert_eq!(get(&g, "x"), None);
        if by_delta {
            give(&d, &g, Purpose::CatchUp);
        } else {
            let taken = ship(&d, &g);
            assert!(matches!(taken[..], [Admission::Taken { late: 1, .. }]), "{taken:?}");
        }
        // What it was, and its value.
        assert_eq!((get(&g, "x"), quarantined(&g)), (None, 2), "{by_delta}");
        disk_d.clock.set(START_MS + 30);
    }
}
