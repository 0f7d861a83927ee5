//! Two and more databases that take each other's commits.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

mod fixture;

use base::batch::Ops;
use base::shipment::ShipmentWriter;
use base::{KeyspaceId, Op, OpKind};
use esker::replicate::{
    Admission, Answers, DeltaHead, Incarnation, NodeId, Origin, Purpose, ScopeId, Vector,
};
use esker::{Batch, Db, Error, KeyspaceOptions, Options, Scope, SyncMode, Tick};
use fixture::{Disk, START_MS, fast, keyspace, ship};

const MAIN: ScopeId = ScopeId::MAIN;
const LEN_MAX: usize = 1 << 20;

fn next_shipment(from: &Db, after: &Vector) -> Vec<u8> {
    let mut tail = from.replication().tail(MAIN, after).unwrap();
    tail.next(after, LEN_MAX).unwrap().unwrap().bytes
}

/// A shipment of an author with this number, who puts a key of a keyspace.
fn invented(number: u64, name: &str) -> Vec<u8> {
    let origin = Origin { node: NodeId([0xee; 16]), incarnation: Incarnation(number) };
    let mut writer = ShipmentWriter::new(MAIN, origin, None);
    let mut ops = Vec::new();
    Op { keyspace: KeyspaceId(1), key: b"x", kind: OpKind::Put(b"y") }.encode(&mut ops);
    let name_of = |_| Some(name.to_owned());
    writer.push(Tick::from_ms(START_MS), 1, &Ops::encoded(&ops), name_of).unwrap();
    writer.finish()
}

fn taken(won: u64, lost: u64) -> Admission {
    Admission::Taken { won, lost, late: 0 }
}

/// Two databases whose clocks agree.
fn pair() -> (Disk, Disk, Db, Db) {
    let (disk_a, disk_b) = (Disk::new(1), Disk::new(2));
    let (a, b) = (disk_a.open(fast()), disk_b.open(fast()));
    (disk_a, disk_b, a, b)
}

fn get(db: &Db, name: &str, key: &str) -> Option<Vec<u8>> {
    db.existing_keyspace(name).unwrap().get(key).unwrap().map(|value| value.to_vec())
}

#[test]
fn what_one_node_writes_another_reads_under_the_same_name() {
    let (_, _, a, b) = pair();
    keyspace(&b, "numbers that differ");
    let users = keyspace(&a, "users");
    users.put("ada", "1815").unwrap();
    users.put("bob", "1").unwrap();
    users.delete("bob").unwrap();
    assert_eq!(ship(&a, &b), [taken(2, 1)], "of each key only the last one counts");
    assert_eq!(get(&b, "users", "ada").unwrap(), b"1815");
    assert_eq!(get(&b, "users", "bob"), None);
    assert_eq!(a.replication().applied(MAIN), b.replication().applied(MAIN));
    assert_eq!(ship(&a, &b), []);
}

#[test]
fn the_greater_stamp_wins_wherever_it_was_written_first() {
    let (disk_a, disk_b, a, b) = pair();
    let (at_a, at_b) = (keyspace(&a, "k"), keyspace(&b, "k"));
    at_a.put("x", "older").unwrap();
    disk_b.clock.set(START_MS + 1);
    at_b.put("x", "newer").unwrap();
    disk_a.clock.set(START_MS + 2);
    at_a.put("y", "newest").unwrap();
    at_b.put("y", "not so new").unwrap();
    assert_eq!(ship(&a, &b), [taken(1, 1)]);
    assert_eq!(ship(&b, &a), [taken(1, 1)]);
    for db in [&a, &b] {
        assert_eq!(get(db, "k", "x").unwrap(), b"newer");
        assert_eq!(get(db, "k", "y").unwrap(), b"newest");
    }
    assert_eq!(a.replication().applied(MAIN), b.replication().applied(MAIN));
}

#[test]
fn a_shipment_is_taken_once_and_only_in_order() {
    let (_, _, a, b) = pair();
    let (k, none) = (keyspace(&a, "k"), Vector::default());
    let first = k.put("x", "1").unwrap();
    let one = next_shipment(&a, &none);
    k.put("x", "2").unwrap();
    let two = next_shipment(&a, &a_after(&a, first));
    let both = next_shipment(&a, &none);
    let b = b.replication();
    assert_eq!(b.admit(&two).unwrap(), Admission::Gap { have: Tick::ZERO });
    assert_eq!(b.admit(&one).unwrap(), taken(1, 0));
    assert_eq!(b.admit(&one).unwrap(), Admission::Known);
    assert_eq!(b.admit(&both).unwrap(), taken(1, 0), "the part that is known is left out");
    assert_eq!(b.admit(&two).unwrap(), Admission::Known);
}

fn a_after(db: &Db, tick: Tick) -> Vector {
    Vector::from_iter([(db.replication().origin(), tick)])
}

#[test]
fn a_copy_of_a_node_that_goes_on_by_itself_is_a_fork() {
    let (disk_a, _, a, b) = pair();
    let k = keyspace(&a, "k");
    let first = k.put("x", "1").unwrap();
    a.sync().unwrap();
    let copy = Disk::of(disk_a.fs.fork());
    copy.clock.set(START_MS + 5);
    k.put("x", "2").unwrap();
    ship(&a, &b);
    let twin = copy.open(fast());
    keyspace(&twin, "k").put("x", "3").unwrap();
    let bytes = next_shipment(&twin, &a_after(&a, first));
    let found = b.replication().admit(&bytes).unwrap();
    let at = b.replication().applied(MAIN).get(a.replication().origin());
    assert_eq!(found, Admission::Fork { origin: a.replication().origin(), at });
    assert_eq!(get(&b, "k", "x").unwrap(), b"2");
}

#[test]
fn a_clock_too_far_ahead_is_not_let_in() {
    let (disk_a, disk_b, a, b) = pair();
    disk_a.clock.set(START_MS + 10_001);
    keyspace(&a, "k").put("x", "1").unwrap();
    let bytes = next_shipment(&a, &Vector::default());
    let ahead = Admission::ClockAhead { by_ms: 10_001 };
    assert_eq!(b.replication().admit(&bytes).unwrap(), ahead);
    assert!(b.replication().applied(MAIN).is_empty() && b.existing_keyspace("k").is_err());
    disk_b.clock.set(START_MS + 1);
    assert_eq!(b.replication().admit(&bytes).unwrap(), taken(1, 0));
    let own = keyspace(&b, "k").put("y", "1").unwrap();
    assert!(own.ms() > START_MS + 10_000, "later commits are above what came");
}

#[test]
fn what_was_admitted_survives_a_crash_and_is_passed_on() {
    let (_, disk_b, a, b) = pair();
    let mut batch = Batch::new();
    let (k, other) = (keyspace(&a, "k"), keyspace(&a, "other"));
    batch.put(&k, "x", "1");
    batch.put_until(&other, "y", "2", START_MS + 50);
    a.write(batch).unwrap();
    other.delete_range("a", "c").unwrap();
    ship(&a, &b);
    b.sync().unwrap();
    let vector = b.replication().durable(MAIN);
    assert_eq!(vector, a.replication().applied(MAIN));
    let before = b.replication().origin();
    let disk = Disk::of(disk_b.fs.fork());
    let again = disk.open(fast());
    assert_eq!(again.recovery_report().commits_replayed, 1, "a shipment is one commit");
    assert_eq!(again.replication().origin(), before);
    assert_eq!(again.replication().applied(MAIN), vector);
    assert_eq!(get(&again, "k", "x").unwrap(), b"1");
    assert_eq!(get(&again, "other", "y").unwrap(), b"2");
    disk.clock.set(START_MS + 50);
    assert_eq!(get(&again, "other", "y"), None);
    // A third node gets from the second what the first has written.
    let c = Disk::new(3).open(fast());
    ship(&b, &c);
    assert_eq!(get(&c, "k", "x").unwrap(), b"1");
    assert_eq!(c.replication().applied(MAIN), vector);
    assert_eq!(ship(&a, &c), []);
}

#[test]
fn the_own_stream_goes_on_where_it_was_before_a_close() {
    let (disk_a, _, a, b) = pair();
    keyspace(&a, "k").put("x", "1").unwrap();
    ship(&a, &b);
    a.close().unwrap();
    let a = disk_a.open(fast());
    keyspace(&a, "k").put("x", "2").unwrap();
    assert_eq!(ship(&a, &b), [taken(1, 0)]);
    let nothing = Vector::default();
    let gone = a.replication().tail(MAIN, &nothing).unwrap_err();
    assert_eq!(gone.code(), "HistoryGone");
    assert_eq!(a.replication().applied(MAIN), b.replication().applied(MAIN));
}

#[test]
fn reserved_names_are_not_for_users() {
    let (_, _, a, b) = pair();
    let refused = a.keyspace("esker.roster", KeyspaceOptions::default()).unwrap_err();
    assert_eq!(refused.code(), "InvalidInput");
    let roster = a.replication().keyspace(MAIN, "esker.roster").unwrap();
    roster.put("member", "1").unwrap();
    ship(&a, &b);
    assert_eq!(get(&b, "esker.roster", "member").unwrap(), b"1");
    assert!(a.keyspaces().is_empty() && b.keyspaces().is_empty());
}

#[test]
fn what_is_no_shipment_is_refused_with_a_reason() {
    let (_, _, a, b) = pair();
    keyspace(&a, "k").put("x", "1").unwrap();
    let mut bytes = next_shipment(&a, &Vector::default());
    for at in 0..bytes.len() {
        bytes[at] ^= 1;
        let refused = b.replication().admit(&bytes).unwrap_err();
        assert_eq!(refused.code(), "InvalidInput");
        bytes[at] ^= 1;
        assert!(b.replication().admit(&bytes[..at]).is_err());
    }
    assert!(b.replication().applied(MAIN).is_empty());
}

/// Local writers on several threads, admissions between them: both nodes end with the same.
#[test]
fn admission_beside_local_writers_loses_nothing() {
    let (disk_a, disk_b) = (Disk::new(1), Disk::new(2));
    let busy = || Options { sync: SyncMode::Async, ..fixture::small_busy() };
    let (a, b) = (disk_a.open(busy()), disk_b.open(busy()));
    let is_done = std::sync::atomic::AtomicU64::new(0);
    let write = |db: &Db, name: u64| {
        let k = keyspace(db, "k");
        for round in 0..400u64 {
            let key = format!("key {}", (round * 7 + name * 3) % 40);
            match round % 9 {
                0 => k.delete(&key).unwrap(),
                1 => k.delete_range("key 1", "key 2").unwrap(),
                _ => k.put(&key, format!("{name} {round}")).unwrap(),
            };
        }
        is_done.fetch_add(1, std::sync::atomic::Ordering::SeqCst);
    };
    std::thread::scope(|scope| {
        for (db, name) in [(&a, 1), (&a, 2), (&b, 3), (&b, 4)] {
            let write = &write;
            scope.spawn(move || write(db, name));
        }
        for (from, to) in [(&a, &b), (&b, &a)] {
            let is_done = &is_done;
            scope.spawn(move || {
                while is_done.load(std::sync::atomic::Ordering::SeqCst) < 4 {
                    from.sync().unwrap();
                    ship(from, to);
                }
            });
        }
    });
    for (from, to) in [(&a, &b), (&b, &a)] {
        from.sync().unwrap();
        ship(from, to);
    }
    assert_eq!(a.replication().applied(MAIN), b.replication().applied(MAIN));
    let content = |db: &Db| {
        let entries = keyspace(db, "k").iter();
        entries
            .map(|entry| entry.map(|(k, v)| (k.to_vec(), v.to_vec())).unwrap())
            .collect::<Vec<_>>()
    };
    assert_eq!(content(&a), content(&b));
    assert!(!content(&a).is_empty());
}

/// Wall clock and monotonic clock, each in the test's hands.
#[derive(Default)]
struct TwoClocks {
    wall_ms: std::sync::atomic::AtomicU64,
    monotonic_ms: std::sync::atomic::AtomicU64,
}

impl TwoClocks {
    fn set(&self, wall_ms: u64, monotonic_ms: u64) {
        self.wall_ms.store(wall_ms, std::sync::atomic::Ordering::SeqCst);
        self.monotonic_ms.store(monotonic_ms, std::sync::atomic::Ordering::SeqCst);
    }
}

impl esker::platform::Clock for TwoClocks {
    fn wall_ms(&self) -> u64 {
        self.wall_ms.load(std::sync::atomic::Ordering::SeqCst)
    }

    fn monotonic(&self) -> std::time::Duration {
        let ms = self.monotonic_ms.load(std::sync::atomic::Ordering::SeqCst);
        std::time::Duration::from_millis(ms)
    }
}

#[test]
fn a_wall_clock_that_jumps_refuses_writes_until_it_is_back() {
    let clock = std::sync::Arc::new(TwoClocks::default());
    clock.set(START_MS, 0);
    let platform = esker::Platform { clock: clock.clone(), ..Disk::new(1).platform() };
    let db = Db::open_on(platform, fast()).unwrap();
    let k = keyspace(&db, "k");
    clock.set(START_MS + 60_000, 0);
    k.put("x", "nobody replicates").unwrap();
    assert_eq!(db.health().clock_jump_ms, None);
    db.replication();
    clock.set(START_MS + 69_000, 1);
    k.put("x", "set right by nine seconds").unwrap();
    clock.set(START_MS + 90_000, 1_000);
    let refused = k.put("x", "jumped").unwrap_err();
    assert_eq!((refused.code(), refused.category()), ("ClockSkew", esker::Category::Recoverable));
    clock.set(START_MS - 90_000, 1_000);
    assert_eq!(k.put("x", "jumped back").unwrap_err().code(), "ClockSkew");
    let health = db.health();
    assert_eq!((health.status, health.clock_jump_ms), (esker::Status::Degraded, Some(159_999)));
    assert!(health.reasons[0].contains("159999 ms"), "{:?}", health.reasons);
    clock.set(START_MS + 70_000, 1_000);
    assert_eq!((db.health().status, db.health().clock_jump_ms), (esker::Status::Healthy, None));
    k.put("x", "back").unwrap();
}

#[test]
fn no_tick_is_used_twice_after_a_crash_and_a_clock_that_went_back() {
    let (disk_a, _, a, b) = pair();
    let before = keyspace(&a, "k").put("x", "1").unwrap();
    ship(&a, &b);
    a.sync().unwrap();
    let lost = keyspace(&a, "k").put("x", "2").unwrap();
    let disk = Disk::of(disk_a.fs.crash(base::fs::CrashModel::Synced));
    disk.clock.set(START_MS - 5000);
    let again = disk.open(fast());
    let next = keyspace(&again, "k").put("x", "3").unwrap();
    assert!(before < lost && next > lost, "{before} {lost} {next}");
    ship(&again, &b);
    assert_eq!(get(&b, "k", "x").unwrap(), b"3");
}

/// Others may have what a crash has cut off.
#[test]
fn a_lost_tail_makes_another_incarnation_of_a_node_that_replicates() {
    for replicates in [false, true] {
        let (disk, _, a, b) = pair();
        keyspace(&a, "k").put("x", "1").unwrap();
        if replicates {
            ship(&a, &b);
        }
        a.sync().unwrap();
        let before = a.identity().origin();
        let disk = Disk::of(disk.fs.fork());
        tear(&disk);
        let a = disk.open(fast());
        let report = a.recovery_report();
        assert!(report.torn_log.is_some());
        assert_eq!(report.new_life.is_some(), replicates);
        assert_eq!(a.identity().origin() != before, replicates);
        if !replicates {
            continue;
        }
        assert_eq!(a.replication().applied(MAIN), b.replication().applied(MAIN));
        keyspace(&a, "k").put("x", "2").unwrap();
        assert_eq!(ship(&a, &b), [taken(1, 0)]);
        assert_eq!(b.replication().applied(MAIN).len(), 2);
        assert_eq!(get(&b, "k", "x").unwrap(), b"2");
        let after = a.identity().origin();
        a.close().unwrap();
        assert_eq!(disk.open(fast()).identity().origin(), after);
    }
}

/// Puts bytes behind the end of the log that no frame accounts for.
fn tear(disk: &Disk) {
    let is_segment = |path: &base::RelPath| path.as_str().starts_with("wal/");
    let segment = disk.fs.files().into_iter().rfind(is_segment).unwrap();
    let bytes = disk.fs.read_file(&segment).unwrap();
    let end = bytes.iter().rposition(|byte| *byte != 0).unwrap() + 1;
    disk.fs.patch_file(&segment, end + 3, &[0xa5; 40]).unwrap();
}

#[test]
fn a_closed_scope_takes_no_writes_from_anyone_and_others_go_on() {
    let (_, _, a, b) = pair();
    keyspace(&a, "k").put("x", "1").unwrap();
    let shipment = next_shipment(&a, &Vector::default());
    let local = KeyspaceOptions { scope: Scope::Local, ..KeyspaceOptions::default() };
    let (own, shared) = (b.keyspace("own", local).unwrap(), keyspace(&b, "k"));

    b.replication().close(MAIN).unwrap();
    assert!(matches!(shared.put("x", "2"), Err(Error::ScopeClosed)));
    assert_eq!(b.replication().admit(&shipment).unwrap(), Admission::Closed);
    own.put("x", "3").unwrap();
    b.replication().reopen(MAIN).unwrap();

    assert_eq!(b.replication().admit(&shipment).unwrap(), taken(1, 0));
    shared.put("x", "2").unwrap();
}

/// A put that comes after its delete was forgotten: nobody knows whether it was older or newer than that.
#[test]
fn a_late_put_is_erased_everywhere_and_a_copy_is_kept() {
    let (_, disk_b, a, b) = pair();
    keyspace(&a, "k").put("x", "late").unwrap();
    keyspace(&a, "k").put_expiring("y", "late too", std::time::Duration::from_secs(9)).unwrap();
    disk_b.clock.set(START_MS + 1);
    let k = keyspace(&b, "k");
    k.delete("x").unwrap();
    let z = k.put("z", "newer").unwrap();
    b.compact_all().unwrap();
    assert_eq!(ship(&a, &b), [Admission::Taken { won: 0, lost: 0, late: 2 }]);
    assert_eq!((get(&b, "k", "x"), get(&b, "k", "y")), (None, None));
    b.sync().unwrap();
    let disk_b = Disk::of(disk_b.fs.fork());
    let b = disk_b.open(fast());
    assert_eq!((get(&b, "k", "x"), get(&b, "k", "y")), (None, None));
    let copies = |db: &Db| -> Vec<_> {
        let quarantine = db.replication().existing_keyspace("esker.quarantine").unwrap();
        quarantine.iter().map(|entry| entry.map(|(_, value)| value.to_vec()).unwrap()).collect()
    };
    let kept = copies(&b);
    assert_eq!(kept.len(), 4, "two of each");
    assert!(kept.iter().any(|value| value == b"late") && kept.iter().any(|it| it == b"late too"));
    assert!(z < b.replication().applied(MAIN).get(b.replication().origin()));
}

/// The erase is a commit like any other, and wins wherever its victim is.
#[test]
fn an_erase_reaches_the_author_of_the_late_put() {
    let (_, disk_b, a, b) = pair();
    keyspace(&a, "k").put("x", "late").unwrap();
    disk_b.clock.set(START_MS + 1);
    keyspace(&b, "k").delete("x").unwrap();
    ship(&b, &a);
    assert_eq!(get(&a, "k", "x"), None);
    disk_b.clock.set(START_MS + 2);
    keyspace(&b, "k").delete("other").unwrap();
    keyspace(&a, "k").put("other", "older").unwrap();
    b.compact_all().unwrap();
    let late = |found: &Admission| matches!(found, Admission::Taken { late, .. } if *late > 0);
    assert!(ship(&a, &b).iter().any(late));
    ship(&b, &a);
    for db in [&a, &b] {
        assert_eq!((get(db, "k", "x"), get(db, "k", "other")), (None, None));
    }
    assert_eq!(a.replication().applied(MAIN), b.replication().applied(MAIN));
    keyspace(&a, "k").put("x", "again").unwrap();
    ship(&a, &b);
    assert_eq!(get(&b, "k", "x").unwrap(), b"again");
}

#[test]
fn a_put_below_a_range_delete_that_was_here_first_is_not_stored() {
    let (_, disk_b, a, b) = pair();
    keyspace(&a, "k").put("x", "older").unwrap();
    disk_b.clock.set(START_MS + 1);
    keyspace(&b, "k").delete_range("a", "z").unwrap();
    assert_eq!(ship(&a, &b), [taken(0, 1)]);
    assert_eq!(get(&b, "k", "x"), None);
}

/// Who may not write takes nothing of it: neither its vector nor what it lacks would be true.
#[test]
fn a_reader_refuses_a_shipment_with_late_puts_until_an_author_has_answered() {
    let (_, disk_b, a, b) = pair();
    keyspace(&a, "k").put("x", "late").unwrap();
    keyspace(&a, "k").delete("y").unwrap();
    disk_b.clock.set(START_MS + 1);
    keyspace(&b, "k").delete("x").unwrap();
    b.compact_all().unwrap();
    b.replication().set_answers(MAIN, Answers::Reader);
    let own = b.replication().applied(MAIN).get(b.replication().origin());

    let before = b.replication().applied(MAIN);

    assert_eq!(ship(&a, &b), [Admission::Unanswered { late: 1 }]);

    assert_eq!((get(&b, "k", "x"), b.replication().is_whole(MAIN)), (None, true));
    assert!(b.replication().existing_keyspace("esker.quarantine").is_err());
    assert_eq!(b.replication().applied(MAIN), before);
    // The answer of an author is above what it answers.
    let author = Disk::new(9).open(fast());
    ship(&b, &author);
    author.compact_all().unwrap();
    assert_eq!(ship(&a, &author), [Admission::Taken { won: 1, lost: 0, late: 1 }]);
    assert_eq!(ship(&author, &b), [taken(3, 0), taken(1, 1)]);
    assert_eq!(get(&b, "k", "x"), None);
    assert_eq!(b.replication().applied(MAIN).get(b.replication().origin()), own, "it wrote");
}

/// Nothing is ever deleted there, so nothing can come too late.
#[test]
fn a_member_is_never_late() {
    let (_, disk_b, a, b) = pair();
    let roster = a.replication().keyspace(MAIN, "esker.roster").unwrap();
    roster.put("m", "a member").unwrap();
    disk_b.clock.set(START_MS + 1);
    keyspace(&b, "k").delete("x").unwrap();
    b.compact_all().unwrap();
    assert_eq!(ship(&a, &b), [taken(1, 0)]);
    assert_eq!(get(&b, "esker.roster", "m").unwrap(), b"a member");
}

/// Else a peer that invents authors would fill the list for good.
#[test]
fn authors_beyond_the_bound_are_left_out_and_there_is_room_for_lives_of_this_node() {
    let (disk, _, a, b) = pair();
    let others = Vector::OTHERS_MAX as u64 - 1;
    for number in 0..others {
        let admitted = a.replication().admit(&invented(number, "k")).unwrap();
        assert!(matches!(admitted, Admission::Taken { .. }), "{number}: {admitted:?}");
    }
    for number in [others, others + 1] {
        let admitted = a.replication().admit(&invented(number, "k")).unwrap();
        assert_eq!(admitted, Admission::TooManyAuthors);
    }
    assert_eq!(a.replication().applied(MAIN).len() as u64, others);
    // Who is known is taken, another life of this node finds a place, and all that is read again.
    assert_eq!(a.replication().admit(&invented(0, "k")).unwrap(), Admission::Known);
    a.replication().renew().unwrap();
    keyspace(&a, "k").put("own", "1").unwrap();
    a.close().unwrap();
    let a = disk.open(fast());
    assert_eq!(get(&a, "k", "own").unwrap(), b"1");
    // State that brings one more is none that can be taken.
    keyspace(&b, "k").put("of b", "1").unwrap();
    let head = DeltaHead { vector: b.replication().applied(MAIN), ..DeltaHead::default() };
    let refused = a.replication().stage(MAIN, &head, Purpose::CatchUp).map(drop);
    assert!(matches!(refused, Err(Error::TooLarge { .. })), "{refused:?}");
}
