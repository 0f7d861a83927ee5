//! Shipments that are admitted together, against the same ones by one.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

mod fixture;

use base::fs::CrashModel;
use esker::replicate::{Admission, ScopeId, Stamped, Vector};
use esker::{Batch, Db, Options, SyncMode, Tick};
use fixture::{Disk, START_MS, keyspace, small};
use std::collections::BTreeMap;

const MAIN: ScopeId = ScopeId::MAIN;
const KEYSPACES: [&str; 2] = ["one", "two"];

/// A small generator, so that a seed says all.
struct Dice(u64);

impl Dice {
    fn of(seed: u64) -> Dice {
        Dice((seed + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1)
    }

    fn below(&mut self, limit: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 >> 11) % limit
    }

    fn key(&mut self) -> String {
        format!("key {}", self.below(30))
    }
}

fn fast() -> Options {
    Options { sync: SyncMode::Async, ..small() }
}

/// Writes a batch. Now and then it deletes a range.
fn write(db: &Db, dice: &mut Dice, what: &str) {
    let mut batch = Batch::new();
    for number in 0..=dice.below(5) {
        let k = keyspace(db, KEYSPACES[dice.below(2) as usize]);
        let key = dice.key();
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
