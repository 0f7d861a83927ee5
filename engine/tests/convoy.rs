//! Shipments that are admitted together, against the same ones by one.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

mod fixture;

use base::fs::{CrashModel, Fault, FaultPlan, SimOp};
use esker::replicate::{Admission, Answers, ScopeId, Stamped, Vector};
use esker::{Background, Batch, Db, Error, Options, Tick};
use fixture::{Dice, Disk, START_MS, fast, file_ending, keyspace, local_keyspace};
use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};

const MAIN: ScopeId = ScopeId::MAIN;
const KEYSPACES: [&str; 2] = ["one", "two"];

/// Writes a batch. Now and then it deletes a range.
fn write(db: &Db, dice: &mut Dice, what: &str) {
    let mut batch = Batch::new();
    for number in 0..=dice.below(5) {
        let k = keyspace(db, KEYSPACES[dice.below(2) as usize]);
        let key = dice.key(30);
        match dice.below(40) {
            0 => batch.delete_range(&k, &key, format!("{key}5")),
            1..=8 => batch.delete(&k, &key),
            _ => batch.put(&k, &key, format!("{what} {number} {}", "-".repeat(90))),
        }
    }
    db.write(batch).unwrap();
}

/// All that the log of `db` has, as shipments of about `len_max` bytes.
fn shipments(db: &Db, len_max: usize) -> Vec<(Tick, Vec<u8>)> {
    let (replication, mut known) = (db.replication(), Vector::default());
    let mut tail = replication.tail(MAIN, &known).unwrap();
    let mut all = Vec::new();
    while let Some(shipment) = tail.next(&known, len_max).unwrap() {
        known.raise(shipment.origin, shipment.last);
        all.push((shipment.last, shipment.bytes));
    }
    all
}

/// Everything with its stamps, and every tombstone.
fn state(db: &Db) -> (Vector, Vec<Vec<u8>>, Vec<Stamped>) {
    let replication = db.replication();
    let mut delta = replication.delta(MAIN, &Vector::default()).unwrap();
    let chunks = std::iter::from_fn(|| delta.next(1 << 16).unwrap()).collect();
    let quarantine = replication.entries("esker.quarantine").unwrap();
    (replication.applied(MAIN), chunks, quarantine)
}

/// Admits all; what goes on after it stopped is asked for again.
fn admit_in_convoys(db: &Db, shipments: &[&[u8]], dice: &mut Dice) -> Vec<Admission> {
    let mut all = Vec::new();
    while let Some(rest) = shipments.get(all.len()..).filter(|rest| !rest.is_empty()) {
        let count = 1 + dice.below(rest.len().min(12) as u64) as usize;
        let admitted = db.replication().admit_all(&rest[..count]).unwrap();
        assert!(!admitted.is_empty() && admitted.len() <= count);
        all.extend(admitted);
    }
    all
}

/// One history: twins take what an author wrote, one each by one, the other in convoys.
fn compare(seed: u64) -> (u64, u64) {
    let mut dice = Dice::of(seed);
    let (author, alone, together) = (Disk::new(1), Disk::new(2), Disk::new(2));
    let disks = [&author, &alone, &together];
    let (a, b, c) = (author.open(fast()), alone.open(fast()), together.open(fast()));
    let mut now_ms = START_MS;
    let mut pass = |dice: &mut Dice| {
        now_ms += dice.below(3);
        disks.iter().for_each(|disk| disk.clock.set(now_ms));
    };
    // Their clocks agree, so what they write at one moment has stamps that differ by the node only.
    for db in [&b, &c] {
        db.replication().raise_floor(MAIN, &Vector::default()).unwrap();
    }
    let forgets = dice.below(3) == 0;
    for round in 0..60 {
        pass(&mut dice);
        write(&a, &mut dice, &format!("a {round}"));
        if dice.below(4) == 0 {
            pass(&mut dice);
            let seed = dice.below(1 << 40);
            for db in [&b, &c] {
                write(db, &mut Dice::of(seed), &format!("b {round}"));
            }
        }
        if forgets && round == 30 {
            for db in [&b, &c] {
                keyspace(db, "one").delete("key 1").unwrap();
                db.replication().raise_floor(MAIN, &db.replication().applied(MAIN)).unwrap();
                db.compact_all().unwrap();
            }
        }
    }
    pass(&mut dice);
    a.sync().unwrap();
    let mut all = shipments(&a, [1, 200, 1000][dice.below(3) as usize]);
    // Some come twice.
    for _ in 0..3 {
        let at = dice.below(all.len() as u64) as usize;
        all.insert(at + 1, all[at].clone());
    }
    let bytes: Vec<&[u8]> = all.iter().map(|(_, bytes)| &**bytes).collect();
    let expected: Vec<Admission> =
        bytes.iter().map(|it| b.replication().admit(it).unwrap()).collect();
    assert_eq!(admit_in_convoys(&c, &bytes, &mut dice), expected, "seed {seed}");
    assert_eq!(state(&c), state(&b), "seed {seed}");
    let tally = expected.iter().fold((0, 0), |(lost_all, late_all), it| match it {
        Admission::Taken { lost, late, .. } => (lost_all + lost, late_all + late),
        _ => (lost_all, late_all),
    });
    // What the log says is the same too, and what it passes on.
    let passed_on = [&b, &c].map(|db| shipments(db, 1).len());
    assert_eq!(passed_on[0], passed_on[1]);
    drop((b, c));
    let (b, c) = (alone.open(fast()), together.open(fast()));
    assert_eq!(state(&c), state(&b), "seed {seed}, opened again");
    tally
}

#[test]
fn a_convoy_leaves_what_its_shipments_leave_one_by_one() {
    let seeds = std::env::var("ESKER_SEEDS").ok().and_then(|seeds| seeds.parse().ok());
    let tallies = (0..seeds.unwrap_or(60)).map(compare);
    let (lost, late) = tallies.fold((0, 0), |sum, it| (sum.0 + it.0, sum.1 + it.1));
    assert!(lost > 100 && late > 100, "{lost} {late}");
}

/// Whatever a crash leaves of a convoy, the vector says exactly what is here, and what was synced is.
#[test]
fn a_crash_leaves_whole_shipments_of_a_convoy_and_the_vector_says_which() {
    let author = Disk::new(1).open(fast());
    let mut dice = Dice::of(7);
    (0..80).for_each(|round| write(&author, &mut dice, &format!("a {round}")));
    author.sync().unwrap();
    let all = shipments(&author, 300);
    let contents = {
        let reference = Disk::new(2).open(fast());
        let content = |db: &Db| KEYSPACES.map(|name| db.replication().entries(name).unwrap());
        let mut contents = BTreeMap::from([(Tick::ZERO, content(&reference))]);
        for (last, bytes) in &all {
            reference.replication().admit(bytes).unwrap();
            contents.insert(*last, content(&reference));
        }
        contents
    };
    let disk = Disk::new(3);
    let db = disk.open(fast());
    keyspace(&db, "one");
    let (first, second) = all.split_at(all.len() / 2);
    let bytes = |all: &[(Tick, Vec<u8>)]| all.iter().map(|it| it.1.clone()).collect::<Vec<_>>();
    let admit = |bytes: &[Vec<u8>]| {
        let bytes: Vec<&[u8]> = bytes.iter().map(|bytes| &**bytes).collect();
        let admitted = db.replication().admit_all(&bytes).unwrap();
        assert!(admitted.iter().all(|it| matches!(it, Admission::Taken { .. })));
        assert_eq!(admitted.len(), bytes.len());
    };
    let synced = first.last().unwrap().0;
    disk.fs.record();
    admit(&bytes(first));
    db.sync().unwrap();
    disk.fs.mark(synced.raw());
    admit(&bytes(second));
    db.flush().unwrap();
    let origin = author.replication().origin();
    let mut places = BTreeMap::new();
    for (number, moment) in disk.fs.take_moments().iter().enumerate() {
        for model in [CrashModel::Kill, CrashModel::Synced, CrashModel::Prefix] {
            let db = Disk::of(moment.crash(model, number as u64)).open(fast());
            let last = db.replication().applied(MAIN).get(origin);
            let expected = contents.get(&last).unwrap_or_else(|| panic!("half of {last}"));
            let found = KEYSPACES.map(|name| db.replication().entries(name).unwrap());
            assert_eq!(found, *expected, "moment {number} {model:?}");
            assert!(last.raw() >= moment.mark(), "moment {number} {model:?}: {last}");
            *places.entry(last).or_insert(0) += 1;
        }
    }
    assert!(places.len() > 5, "{places:?}");
}

/// What an author wrote to one keyspace, a shipment a commit; the one in the middle is about keyspace "two".
fn forty(disk: &Disk) -> (Db, Vec<(Tick, Vec<u8>)>) {
    let author = disk.open(fast());
    let (one, two) = (keyspace(&author, "one"), keyspace(&author, "two"));
    for number in 0..40u32 {
        let k = if number == 20 { &two } else { &one };
        k.put(number.to_be_bytes(), [number as u8; 3000]).unwrap();
    }
    author.sync().unwrap();
    let all = shipments(&author, 1);
    assert_eq!(all.len(), 40);
    (author, all)
}

fn bytes_of(all: &[(Tick, Vec<u8>)]) -> Vec<&[u8]> {
    all.iter().map(|(_, bytes)| &**bytes).collect()
}

/// Whatever is wrong with the one in the middle, those before it are here, and nothing behind it is.
fn is_taken_up_to_the_middle(db: &Db, author: &Db, all: &[(Tick, Vec<u8>)]) {
    let have = db.replication().applied(MAIN).get(author.replication().origin());
    assert_eq!(all.iter().position(|(last, _)| *last == have), Some(19));
}

#[test]
fn those_before_a_shipment_that_is_refused_are_admitted() {
    let (author, all) = forty(&Disk::new(1));
    let taker = || Disk::new(2).open(fast());

    let db = taker();
    local_keyspace(&db, "two");
    let refused = db.replication().admit_all(&bytes_of(&all)).unwrap_err();
    assert!(matches!(refused, Error::ConfigMismatch { .. }), "{refused}");
    is_taken_up_to_the_middle(&db, &author, &all);

    let (db, mut broken) = (taker(), all.clone());
    broken[20].1[9] ^= 1;
    let refused = db.replication().admit_all(&bytes_of(&broken)).unwrap_err();
    assert!(matches!(refused, Error::InvalidInput { .. }), "{refused}");
    is_taken_up_to_the_middle(&db, &author, &all);

    // What it is compared with can not be read.
    let disk = Disk::new(2);
    disk.clock.set(START_MS + 5);
    let db = disk.open(fast());
    keyspace(&db, "two").put(20u32.to_be_bytes(), "older").unwrap();
    db.replication().raise_floor(MAIN, &Vector::default()).unwrap();
    db.flush().unwrap();
    let table = file_ending(&disk, ".sst");
    drop(db);
    disk.fs.inject(FaultPlan::new(SimOp::Read, Fault::Io).on(table.as_str()).sticky());
    let db = disk.open(fast());
    let refused = db.replication().admit_all(&bytes_of(&all)).unwrap_err();
    assert!(matches!(refused, Error::Io { .. }), "{refused}");
    is_taken_up_to_the_middle(&db, &author, &all);
}

/// The log takes no more in the middle of a convoy; what it took is here, the rest follows later.
#[test]
fn a_convoy_that_the_log_does_not_take_whole_goes_on_where_it_stopped() {
    let (author, all) = forty(&Disk::new(1));
    let disk = Disk::new(2);
    let db = disk.open(fast());
    keyspace(&db, "one");
    disk.fs.inject(FaultPlan::new(SimOp::Create, Fault::DiskFull).on(".log").sticky());
    let refused = db.replication().admit_all(&bytes_of(&all)).unwrap_err();
    assert!(matches!(refused, Error::DiskFull { .. }), "{refused}");
    let have = db.replication().applied(MAIN).get(author.replication().origin());
    let taken = all.iter().position(|(last, _)| *last == have).unwrap() + 1;
    assert!((2..39).contains(&taken), "{taken}");
    for (number, entry) in all.iter().enumerate().filter(|(number, _)| *number != 20) {
        let found = keyspace(&db, "one").get((number as u32).to_be_bytes()).unwrap();
        assert_eq!(found.is_some(), number < taken, "{number} {}", entry.0);
    }
    disk.fs.clear_faults();
    let admitted = db.replication().admit_all(&bytes_of(&all)).unwrap();
    assert!(admitted[..taken].iter().all(|it| *it == Admission::Known));
    let reference = Disk::new(3).open(fast());
    for bytes in bytes_of(&all) {
        reference.replication().admit(bytes).unwrap();
    }
    let content = |db: &Db| KEYSPACES.map(|name| db.replication().entries(name).unwrap());
    assert_eq!(content(&db), content(&reference));
}

/// An author has to answer the late one, so nothing behind it is taken either.
#[test]
fn a_reader_takes_a_convoy_up_to_what_may_be_late() {
    let author = Disk::new(1).open(fast());
    let one = keyspace(&author, "one");
    one.delete("a").unwrap();
    one.delete("b").unwrap();
    one.put("late", "v").unwrap();
    one.put("too", "v").unwrap();
    author.sync().unwrap();
    let all = shipments(&author, 1);
    let disk = Disk::new(2);
    disk.clock.set(START_MS + 5);
    let db = disk.open(fast());
    keyspace(&db, "one").delete("x").unwrap();
    db.compact_all().unwrap();
    db.replication().raise_floor(MAIN, &Vector::default()).unwrap();
    assert!(db.replication().dropped(MAIN) > all[3].0);
    db.replication().set_answers(MAIN, Answers::Reader);
    let admitted = db.replication().admit_all(&bytes_of(&all)).unwrap();
    let taken = |admitted: &Admission| matches!(admitted, Admission::Taken { late: 0, .. });
    assert!(admitted[..2].iter().all(taken), "{admitted:?}");
    assert_eq!(admitted[2..], [Admission::Unanswered { late: 1 }]);
    let have = db.replication().applied(MAIN).get(author.replication().origin());
    assert_eq!(have, all[1].0);
}

/// A convoy that local writes come between is compared with all of them.
#[test]
fn convoys_and_local_writes_at_the_same_time_leave_the_greatest_stamps() {
    let author = Disk::new(1).open(fast());
    author.replication(); // keeps the log
    let mut dice = Dice::of(11);
    (0..600).for_each(|round| write(&author, &mut dice, &format!("a {round}")));
    author.sync().unwrap();
    let all = shipments(&author, 100);
    let db = Disk::new(2).open(Options { background: Background::On, ..fast() });
    // Else merges forget deletes meanwhile, and puts are late.
    db.replication().raise_floor(MAIN, &Vector::default()).unwrap();
    let is_over = AtomicBool::new(false);
    let written = std::thread::scope(|scope| {
        let writer = scope.spawn(|| {
            let (mut dice, mut round) = (Dice::of(12), 0);
            while !is_over.load(Ordering::Acquire) || round < 50 {
                write(&db, &mut dice, &format!("b {round}"));
                round += 1;
            }
            round
        });
        let mut dice = Dice::of(13);
        let admitted = admit_in_convoys(&db, &bytes_of(&all), &mut dice);
        is_over.store(true, Ordering::Release);
        let others = admitted.iter().filter(|it| !matches!(it, Admission::Taken { late: 0, .. }));
        assert_eq!(others.collect::<Vec<_>>(), [&Admission::Closed; 0]);
        writer.join().unwrap()
    });
    assert!(written >= 50);
    db.sync().unwrap();
    let reference = Disk::new(3).open(fast());
    let own = {
        let known = author.replication().applied(MAIN);
        let mut tail = db.replication().tail(MAIN, &known).unwrap();
        let (mut known, mut own) = (known, Vec::new());
        while let Some(shipment) = tail.next(&known, 1).unwrap() {
            known.raise(shipment.origin, shipment.last);
            own.push(shipment.bytes);
        }
        own
    };
    for bytes in own.iter().map(|bytes| &**bytes).chain(bytes_of(&all)) {
        let admitted = reference.replication().admit(bytes).unwrap();
        assert!(matches!(admitted, Admission::Taken { .. }), "{admitted:?}");
    }
    let content = |db: &Db| KEYSPACES.map(|name| db.replication().entries(name).unwrap());
    assert_eq!(content(&db), content(&reference));
}
