//! Many threads at once on a real disk, with memtables so small that flush and compaction never
//! rest. Nothing here measures time: threads run a number of rounds.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

mod fixture;

use esker::{Batch, Db, Error, Iter, Keyspace, Options, SyncMode, WriteOptions};
use fixture::{keyspace, own, scale, small_busy};
use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::Duration;

const MODES: [SyncMode; 3] =
    [SyncMode::Sync, SyncMode::Periodic(Duration::from_millis(5)), SyncMode::Async];

fn write_mode(round: usize) -> WriteOptions {
    WriteOptions { sync: Some(MODES[round % MODES.len()]) }
}

/// A database with sizes that keep the background threads busy.
fn open() -> (tempfile::TempDir, Db, Keyspace) {
    let dir = tempfile::tempdir().unwrap();
    let db = Db::open(dir.path().join("data"), Options { sync: SyncMode::Async, ..small_busy() });
    let db = db.unwrap();
    let keyspace = keyspace(&db, "k");
    (dir, db, keyspace)
}

/// Counts the threads that still run their rounds: observers go on until it is zero.
struct Running(AtomicU64);

impl Running {
    fn new(threads: u64) -> Running {
        Running(threads.into())
    }

    fn go_on(&self) -> bool {
        self.0.load(Ordering::SeqCst) > 0
    }

    fn end(&self) {
        self.0.fetch_sub(1, Ordering::SeqCst);
    }
}

/// Ends a count when dropped, so that a panic stops the observers too.
struct Ends<'a>(&'a Running);

impl Drop for Ends<'_> {
    fn drop(&mut self) {
        self.0.end();
    }
}

#[test]
fn a_writer_reads_its_own_writes_whatever_others_do() {
    let (_dir, db, k) = open();
    let rounds = 5000 * scale() as usize;
    let running = Running::new(4);
    thread::scope(|scope| {
        for writer in 0..4usize {
            let (db, k, running) = (&db, &k, &running);
            scope.spawn(move || {
                let _ends = Ends(running);
                for round in 0..rounds {
                    let key = format!("{writer} {:03}", round * 7 % 200);
                    let value = format!("{round} {}", "x".repeat(round % 300));
                    // A sync now and then: a disk does few of them a second.
                    let mode = if round % 50 == writer { round / 50 } else { 2 };
                    let mut batch = Batch::new();
                    match round % 9 {
                        8 => batch.delete(k, &key),
                        _ => batch.put(k, &key, &value),
                    }
                    db.write_with(batch, write_mode(mode)).unwrap();
                    let found = k.get(&key).unwrap();
                    let expected = if round % 9 == 8 { None } else { Some(value.into_bytes()) };
                    assert_eq!(found.map(Vec::from), expected, "round {round}");
                    if round % 64 == 0 {
                        let mine: Vec<_> = k.prefix(format!("{writer} ")).map(own).collect();
                        let here = mine.iter().find(|(k, _)| *k == key.as_bytes());
                        assert_eq!(here.map(|(_, value)| value.clone()), expected);
                    }
                }
            });
        }
        scope.spawn(|| {
            while running.go_on() {
                db.flush().unwrap();
                db.compact(&k).unwrap();
            }
        });
    });
    db.close().unwrap();
}

#[test]
fn a_batch_is_never_seen_half() {
    let (_dir, db, a) = open();
    let b = keyspace(&db, "b");
    let local = fixture::local_keyspace(&db, "local");
    let rounds = 5000 * scale();
    let running = Running::new(2);
    thread::scope(|scope| {
        for writer in 0..2u64 {
            let (db, a, b, local, running) = (&db, &a, &b, &local, &running);
            scope.spawn(move || {
                let _ends = Ends(running);
                for round in 0..rounds {
                    let value = format!("{writer} {round} {}", "y".repeat(round as usize % 100));
                    let mut batch = Batch::new();
                    if round % 5 == 4 {
                        batch.delete_range(a, b"", b"");
                    }
                    for keyspace in [a, b, local] {
                        batch.put(keyspace, b"first", &value);
                        batch.put(keyspace, b"last", &value);
                    }
                    db.write_with(batch, write_mode(if round % 40 == 0 { 0 } else { 2 })).unwrap();
                }
            });
        }
        for reader in 0..2 {
            let (db, a, b, local, running) = (&db, &a, &b, &local, &running);
            scope.spawn(move || {
                let mut seen = 0u64;
                while running.go_on() || seen == 0 {
                    let snapshot = db.snapshot();
                    let mut values = Vec::new();
                    for keyspace in [a, b, local] {
                        values.extend(snapshot.multi_get(keyspace, &["first", "last"]).unwrap());
                        values.push(snapshot.get(keyspace, b"first").unwrap());
                    }
                    assert!(values.windows(2).all(|pair| pair[0] == pair[1]), "{values:?}");
                    // Without a snapshot each call is one moment.
                    let pair = a.multi_get(&["first", "last"]).unwrap();
                    assert_eq!(pair[0], pair[1]);
                    let mut all: Vec<_> = match reader {
                        0 => a.iter().map(own).collect(),
                        _ => a.iter().rev().map(own).collect(),
                    };
                    all.dedup_by(|x, y| x.1 == y.1);
                    assert!(all.len() <= 1, "a scan saw half a batch");
                    seen += 1;
                }
            });
        }
    });
}

#[test]
fn a_snapshot_stays_as_it_is_while_others_write_flush_and_compact() {
    let (_dir, db, k) = open();
    for number in 0..300u32 {
        k.put(number.to_be_bytes(), b"before").unwrap();
    }
    let running = Running::new(2);
    let rounds = 15_000 * scale() as u32;
    thread::scope(|scope| {
        for writer in 0..2u32 {
            let (k, running) = (&k, &running);
            scope.spawn(move || {
                let _ends = Ends(running);
                for round in 0..rounds {
                    let key = (round * 13 % 400).to_be_bytes();
                    match (round + writer) % 8 {
                        0 => k.delete(key).unwrap(),
                        1 if round % 100 == 1 => k.delete_range(key, []).unwrap(),
                        _ => k.put(key, vec![writer as u8; round as usize % 200]).unwrap(),
                    };
                }
            });
        }
        for _ in 0..2 {
            scope.spawn(|| {
                let mut kept = Vec::new();
                while running.go_on() {
                    let snapshot = db.snapshot();
                    let now: Vec<_> = snapshot.iter(&k).map(own).collect();
                    kept.push((snapshot, now));
                    if kept.len() > 6 {
                        kept.remove(0);
                    }
                    for (snapshot, then) in &kept {
                        let mut backward: Vec<_> = snapshot.iter(&k).rev().map(own).collect();
                        backward.reverse();
                        assert_eq!(backward, *then);
                        for (key, value) in then.iter().step_by(17) {
                            assert_eq!(snapshot.get(&k, key).unwrap().as_deref(), Some(&**value));
                        }
                    }
                }
            });
        }
        scope.spawn(|| {
            while running.go_on() {
                db.compact(&k).unwrap();
            }
        });
    });
}

fn number(value: Option<esker::Value>) -> u64 {
    value.map_or(0, |value| u64::from_be_bytes((*value).try_into().unwrap()))
}

/// Adds one to a key of `k`, as often as it takes.
fn increment(db: &Db, k: &Keyspace, key: &[u8], mode: WriteOptions) {
    loop {
        let mut transaction = db.transaction().unwrap();
        let count = number(transaction.get(k, key).unwrap());
        transaction.put(k, key, (count + 1).to_be_bytes()).unwrap();
        match transaction.commit_with(mode) {
            Ok(_) => return,
            Err(Error::Conflict) => {}
            Err(error) => panic!("{error}"),
        }
    }
}

#[test]
fn no_increment_by_a_transaction_is_lost() {
    let (_dir, db, k) = open();
    let rounds = 1500 * scale();
    thread::scope(|scope| {
        for thread in 0..4u64 {
            let (db, k) = (&db, &k);
            scope.spawn(move || {
                for round in 0..rounds {
                    let key = [(round % 3) as u8];
                    let mode = write_mode(if round % 30 == thread { 0 } else { 2 });
                    increment(db, k, &key, mode);
                    if round % 100 == 99 {
                        db.flush().unwrap();
                    }
                }
            });
        }
    });
    let total: u64 = (0..3u8).map(|key| number(k.get([key]).unwrap())).sum();
    assert_eq!(total, 4 * rounds);
    assert_eq!(db.stats().transactions, 0);
}

#[test]
fn money_moves_and_never_appears_or_vanishes() {
    const ACCOUNTS: u64 = 12;
    let (_dir, db, k) = open();
    let mut batch = Batch::new();
    for account in 0..ACCOUNTS {
        batch.put(&k, account.to_be_bytes(), 100u64.to_be_bytes());
    }
    db.write(batch).unwrap();
    let running = Running::new(3);
    let rounds = 2000 * scale();
    let transfer = |from: u64, to: u64| -> Result<(), Error> {
        let mut transaction = db.transaction()?;
        let rich = number(transaction.get(&k, from.to_be_bytes())?);
        let poor = number(transaction.get(&k, to.to_be_bytes())?);
        if rich > 0 && from != to {
            transaction.put(&k, from.to_be_bytes(), (rich - 1).to_be_bytes())?;
            transaction.put(&k, to.to_be_bytes(), (poor + 1).to_be_bytes())?;
        }
        transaction.commit().map(|_| ())
    };
    let sum = |iter: Iter| iter.map(|entry| number(Some(entry.unwrap().1))).sum::<u64>();
    thread::scope(|scope| {
        for thread in 0..3u64 {
            let (transfer, running) = (&transfer, &running);
            scope.spawn(move || {
                let _ends = Ends(running);
                for round in 0..rounds {
                    let (from, to) = (round * 7 + thread, round * 5 + thread * 3);
                    match transfer(from % ACCOUNTS, to % ACCOUNTS) {
                        Ok(()) | Err(Error::Conflict) => {}
                        Err(error) => panic!("{error}"),
                    }
                }
            });
        }
        scope.spawn(|| {
            while running.go_on() {
                assert_eq!(sum(db.snapshot().iter(&k)), ACCOUNTS * 100);
                assert_eq!(sum(k.iter()), ACCOUNTS * 100);
            }
        });
        scope.spawn(|| {
            while running.go_on() {
                db.flush().unwrap();
            }
        });
    });
    assert_eq!(sum(k.iter()), ACCOUNTS * 100);
}

/// Two transactions that each read what the other writes: one order must explain the result.
#[test]
fn transactions_and_ingests_that_race_are_serializable() {
    let (_dir, db, k) = open();
    let rounds = 150 * scale();
    for round in 0..rounds {
        let (x, y) = (format!("x{round}"), format!("y{round}"));
        let (txn, ingest) = thread::scope(|scope| {
            let txn = scope.spawn(|| {
                let mut transaction = db.transaction().unwrap();
                let seen = transaction.get(&k, &x).unwrap().is_some();
                transaction.put(&k, &y, b"1").unwrap();
                thread::yield_now();
                (seen, transaction.commit())
            });
            let ingest = scope.spawn(|| k.ingest([(&x, b"1")]).unwrap());
            (txn.join().unwrap(), ingest.join().unwrap())
        });
        let (seen, commit) = txn;
        match commit {
            Ok(seqno) => assert_eq!(seen, ingest < seqno, "it did not see what came before it"),
            Err(Error::Conflict) => {}
            Err(error) => panic!("{error}"),
        }
    }
}

#[test]
fn iterators_move_between_threads_and_outlive_the_handles() {
    let (_dir, db, k) = open();
    let expected: BTreeMap<Vec<u8>, Vec<u8>> = (0..2000u32)
        .map(|number| (number.to_be_bytes().to_vec(), vec![number as u8; 100]))
        .collect();
    for (key, value) in &expected {
        k.put(key, value).unwrap();
    }
    let mut iter = k.iter();
    let mut collected: Vec<_> = iter.by_ref().take(500).map(own).collect();
    k.delete_range([], []).unwrap();
    db.compact(&k).unwrap();
    let worker = thread::spawn(move || {
        let rest: Vec<_> = iter.by_ref().take(500).map(own).collect();
        (iter, rest)
    });
    let (iter, rest) = worker.join().unwrap();
    collected.extend(rest);
    drop(k);
    db.close().unwrap();
    collected.extend(iter.map(own));
    assert!(collected.into_iter().eq(expected));
}

#[test]
fn closing_under_load_gives_closed_and_keeps_what_was_acknowledged() {
    for round in 0..24 * scale() as usize {
        let (dir, db, k) = open();
        let acknowledged = AtomicU64::new(0);
        let started = AtomicBool::new(false);
        let last: Vec<u64> = thread::scope(|scope| {
            let mut writers = Vec::new();
            for writer in 0..3usize {
                let (db, k) = (db.clone(), k.clone());
                let (acknowledged, started) = (&acknowledged, &started);
                writers.push(scope.spawn(move || {
                    let mut written = 0u64;
                    let error = loop {
                        let mut batch = Batch::new();
                        batch.put(
                            &k,
                            [&[writer as u8][..], &written.to_be_bytes()].concat(),
                            [7; 90],
                        );
                        let mode = if written.is_multiple_of(20) { writer } else { 2 };
                        match db.write_with(batch, write_mode(mode)) {
                            Ok(_) => written += 1,
                            Err(error) => break error,
                        }
                        if acknowledged.fetch_add(1, Ordering::SeqCst) > 300 {
                            started.store(true, Ordering::SeqCst);
                        }
                    };
                    assert!(matches!(error, Error::Closed), "{error}");
                    written
                }));
            }
            let reader = scope.spawn({
                let (db, k) = (db.clone(), k.clone());
                move || loop {
                    let read = k.get([1]).and_then(|_| k.multi_get(&[[2]])).map(|_| ());
                    let result = match round % 3 {
                        0 => read,
                        1 => read.and_then(|()| db.flush()),
                        _ => read.and_then(|()| db.compact(&k)),
                    };
                    match result {
                        Ok(()) => {}
                        Err(Error::Closed) => return,
                        Err(error) => panic!("{error}"),
                    }
                }
            });
            while !started.load(Ordering::SeqCst) {
                thread::yield_now();
            }
            db.clone().close().unwrap();
            reader.join().unwrap();
            writers.into_iter().map(|writer| writer.join().unwrap()).collect()
        });
        assert!(matches!(k.put(b"k", b"v"), Err(Error::Closed)));
        assert!(matches!(db.transaction().map(|_| ()), Err(Error::Closed)));
        assert!(k.iter().next().unwrap().is_err());
        drop((db, k));
        let db = Db::open(dir.path().join("data"), small_busy()).unwrap();
        assert!(db.recovery_report().was_closed);
        let k = keyspace(&db, "k");
        for (writer, written) in last.into_iter().enumerate() {
            let found = k.prefix([writer as u8]).count() as u64;
            assert_eq!(found, written, "of writer {writer} in round {round}");
        }
    }
}
