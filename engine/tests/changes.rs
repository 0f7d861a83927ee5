//! The change feed: every durable commit once, in order, from wherever one left off.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod fixture;

use base::fs::CrashModel;
use esker::{Batch, ChangeKind, Changes, Commit, Db, Error, Options, SyncMode, Tick, WriteOptions};
use fixture::{Disk, keyspace, local_keyspace, small, small_busy};
use std::time::Duration;

const ASYNC: WriteOptions = WriteOptions { sync: Some(SyncMode::Async) };

fn put(db: &Db, key: &[u8], value: &[u8], options: WriteOptions) -> Tick {
    let mut batch = Batch::new();
    batch.put(&keyspace(db, "k"), key, value);
    db.write_with(batch, options).unwrap()
}

fn seqnos(changes: &mut Changes) -> Vec<Tick> {
    changes.map(|commit| commit.unwrap().seqno).collect()
}

#[test]
fn a_commit_comes_whole_with_what_it_changed_in_the_order_it_was_written() {
    let disk = Disk::new(1);
    let db = disk.open(small());
    let (k, local) = (keyspace(&db, "k"), local_keyspace(&db, "local"));
    let mut batch = Batch::new();
    batch.put(&k, b"a", b"1");
    batch.put(&k, b"a", b"2");
    batch.delete(&k, b"b");
    batch.put(&local, b"c", b"3");
    batch.delete_range(&k, b"x", b"y");
    batch.put_until(&k, b"d", b"4", 12345);
    let seqno = db.write(batch).unwrap();
    let all: Vec<Commit> = db.changes(Tick::ZERO).unwrap().map(|c| c.unwrap()).collect();
    assert_eq!(all.len(), 1);
    assert_eq!(all[0].seqno, seqno);
    let told: Vec<String> = all[0]
        .changes
        .iter()
        .map(|change| {
            let what = match &change.kind {
                ChangeKind::Put(value) => format!("put {:?}", &**value),
                ChangeKind::PutUntil { value, expires_at_ms } => {
                    format!("put {:?} until {expires_at_ms}", &**value)
                }
                ChangeKind::Delete => "delete".to_owned(),
                ChangeKind::DeleteRange { end } => format!("delete to {:?}", &**end),
                other => panic!("{other:?}"),
            };
            format!("{} {} {what}", change.keyspace, String::from_utf8_lossy(&change.key))
        })
        .collect();
    // Scopes are apart; within one the order stays.
    assert_eq!(
        told,
        [
            "k a put [49]",
            "k a put [50]",
            "k b delete",
            "k x delete to [121]",
            "k d put [52] until 12345",
            "local c put [51]",
        ]
    );
}

#[test]
fn every_commit_comes_once_in_order_across_segments_and_flushes() {
    let disk = Disk::new(1);
    let db = disk.open(Options { sync: SyncMode::Async, ..small() });
    let mut feed = db.changes(Tick::ZERO).unwrap();
    let mut written = Vec::new();
    let mut seen = Vec::new();
    for number in 0..1200u32 {
        let value = vec![number as u8; number as usize % 700];
        written.push(put(&db, &number.to_be_bytes(), &value, ASYNC));
        if number % 97 == 0 {
            db.sync().unwrap();
            seen.extend(seqnos(&mut feed));
            assert_eq!(seen, written, "after {number}");
        }
        if number % 300 == 299 {
            db.compact_all().unwrap();
        }
    }
    db.sync().unwrap();
    seen.extend(seqnos(&mut feed));
    assert_eq!(seen, written);
    assert!(disk.files_in("wal/").len() > 1 || feed.position() == *written.last().unwrap());
}

#[test]
fn a_feed_resumes_after_any_commit() {
    let disk = Disk::new(1);
    let db = disk.open(Options { log_retention_bytes: 1 << 30, ..small() });
    let written: Vec<Tick> = (0..120u32)
        .map(|number| {
            if number % 50 == 49 {
                db.flush().unwrap();
            }
            put(&db, &number.to_be_bytes(), &[1; 900], ASYNC)
        })
        .collect();
    db.sync().unwrap();
    for (number, after) in written.iter().enumerate() {
        let mut feed = db.changes(*after).unwrap();
        assert_eq!(feed.position(), *after);
        assert_eq!(seqnos(&mut feed), written[number + 1..], "after commit {number}");
        // A point between two commits is as good as the one before it.
        if let Some(between) = Tick::from_raw(after.raw() - 1).filter(|t| !written.contains(t)) {
            assert_eq!(seqnos(&mut db.changes(between).unwrap()), written[number..]);
        }
    }
    assert!(seqnos(&mut db.changes(Tick::MAX).unwrap()).is_empty());
}

#[test]
fn only_what_is_durable_is_told() {
    let disk = Disk::new(1);
    let db = disk.open(small());
    let first = put(&db, b"a", b"1", WriteOptions { sync: Some(SyncMode::Sync) });
    let second = put(&db, b"b", b"2", ASYNC);
    let mut feed = db.changes(Tick::ZERO).unwrap();
    assert_eq!(seqnos(&mut feed), [first]);
    // What the feed told survives a power failure, what it did not tell need not.
    let lost = Disk::of(disk.fs.crash(CrashModel::Synced)).open(small());
    assert!(keyspace(&lost, "k").get(b"a").unwrap().is_some());
    assert!(keyspace(&lost, "k").get(b"b").unwrap().is_none());
    db.sync().unwrap();
    assert_eq!(seqnos(&mut feed), [second]);
    assert_eq!(feed.next().map(|commit| commit.unwrap()), None);
}

#[test]
fn waiting_asks_for_the_sync_that_a_commit_still_needs() {
    let disk = Disk::new(1);
    let db = disk.open(small());
    let mut feed = db.changes(Tick::ZERO).unwrap();
    assert!(!feed.wait(Duration::from_millis(1)).unwrap(), "nothing is there");
    let seqno = put(&db, b"a", b"1", ASYNC);
    assert!(feed.wait(Duration::from_secs(60)).unwrap());
    assert_eq!(seqnos(&mut feed), [seqno]);
    assert!(!feed.wait(Duration::from_millis(1)).unwrap());
}

#[test]
fn a_waiting_feed_wakes_when_something_is_committed() {
    let disk = Disk::new(1);
    let db = disk.open(small_busy());
    keyspace(&db, "k");
    for options in [ASYNC, WriteOptions::default()] {
        let mut feed = db.changes(db.snapshot().seqno()).unwrap();
        let reader = std::thread::spawn(move || {
            while !feed.wait(Duration::from_secs(60)).unwrap() {}
            seqnos(&mut feed)
        });
        let seqno = put(&db, b"a", b"1", options);
        assert_eq!(reader.join().unwrap(), [seqno]);
    }
}

#[test]
fn a_feed_keeps_the_segments_it_has_not_passed() {
    let disk = Disk::new(1);
    let db = disk.open(small());
    let mut feed = db.changes(Tick::ZERO).unwrap();
    let written: Vec<Tick> =
        (0..400u32).map(|number| put(&db, &number.to_be_bytes(), &[1; 900], ASYNC)).collect();
    db.flush().unwrap();
    let pinned = disk.files_in("wal/").len();
    assert!(pinned > 4, "{pinned} segments");
    assert_eq!(seqnos(&mut feed), written);
    put(&db, b"more", b"", ASYNC);
    db.flush().unwrap();
    db.flush().unwrap();
    let left = disk.files_in("wal/").len();
    assert!(left <= 2, "{left} of {pinned} segments");
    drop(feed);
    put(&db, b"more", b"", ASYNC);
    db.flush().unwrap();
    assert!(disk.files_in("wal/").len() <= 2);
}

#[test]
fn history_that_is_gone_is_named_and_never_skipped() {
    let disk = Disk::new(1);
    let db = disk.open(small());
    let written: Vec<Tick> =
        (0..300u32).map(|number| put(&db, &number.to_be_bytes(), &[1; 900], ASYNC)).collect();
    db.flush().unwrap();
    let error = db.changes(Tick::ZERO).map(drop).unwrap_err();
    let Error::HistoryGone { asked: 0, oldest } = error else { panic!("{error}") };
    // What is named as the oldest is answered, with nothing missing.
    let from = Tick::from_raw(oldest).unwrap();
    let rest = seqnos(&mut db.changes(from).unwrap());
    let expected: Vec<Tick> = written.iter().copied().filter(|seqno| *seqno > from).collect();
    assert_eq!(rest, expected);
    for asked in written.iter().filter(|seqno| **seqno < from) {
        assert!(matches!(db.changes(*asked), Err(Error::HistoryGone { .. })));
    }
}

#[test]
fn retention_keeps_flushed_segments_up_to_its_size() {
    let segments_with = |log_retention_bytes: u64| {
        let disk = Disk::new(1);
        let db = disk.open(Options { log_retention_bytes, ..small() });
        for number in 0..500u32 {
            put(&db, &number.to_be_bytes(), &[1; 900], ASYNC);
        }
        db.flush().unwrap();
        put(&db, b"more", b"", ASYNC);
        db.flush().unwrap();
        disk.files_in("wal/").len() as u64
    };
    let (none, some, all) =
        (segments_with(0), segments_with(3 * (64 << 10)), segments_with(1 << 30));
    assert!(none <= 2 && all >= 7, "{none} {some} {all}");
    assert!((2..=5).contains(&some), "{none} {some} {all}");
}

#[test]
fn a_feed_goes_on_over_a_reopen_from_where_it_was() {
    let disk = Disk::new(1);
    let db = disk.open(small());
    put(&db, b"a", b"1", ASYNC);
    let mut feed = db.changes(Tick::ZERO).unwrap();
    db.sync().unwrap();
    let position = seqnos(&mut feed)[0];
    drop(feed);
    db.close().unwrap();
    let db = disk.open(small());
    let mut feed = db.changes(position).unwrap();
    assert!(seqnos(&mut feed).is_empty());
    let seqno = put(&db, b"b", b"2", WriteOptions::default());
    assert!(seqno > position);
    assert_eq!(seqnos(&mut feed), [seqno]);
}

/// What only the log held at a crash went to tables when the database was opened: the feed can not
/// tell it, and must not pretend there was nothing.
#[test]
fn commits_recovered_from_the_log_are_told_or_named_as_gone() {
    let disk = Disk::new(1);
    let db = disk.open(small());
    let first = put(&db, b"a", b"1", WriteOptions::default());
    let second = put(&db, b"b", b"2", WriteOptions::default());
    let db = Disk::of(disk.fs.crash(CrashModel::Synced)).open(small());
    match db.changes(first) {
        Ok(mut feed) => assert_eq!(seqnos(&mut feed), [second]),
        Err(error) => assert!(matches!(error, Error::HistoryGone { .. }), "{error}"),
    }
    assert!(seqnos(&mut db.changes(second).unwrap()).is_empty());
}

#[test]
fn names_of_dropped_keyspaces_are_still_told() {
    let disk = Disk::new(1);
    let db = disk.open(small());
    let gone = keyspace(&db, "gone");
    gone.put(b"a", b"1").unwrap();
    db.drop_keyspace(gone).unwrap();
    keyspace(&db, "gone").put(b"b", b"2").unwrap();
    let names: Vec<String> = db
        .changes(Tick::ZERO)
        .unwrap()
        .flat_map(|commit| commit.unwrap().changes)
        .map(|change| format!("{} {}", change.keyspace, String::from_utf8_lossy(&change.key)))
        .collect();
    assert_eq!(names, ["gone a", "gone b"]);
}

#[test]
fn a_feed_of_a_closed_database_says_so() {
    let disk = Disk::new(1);
    let db = disk.open(small());
    let mut feed = db.changes(Tick::ZERO).unwrap();
    put(&db, b"a", b"1", WriteOptions::default());
    db.clone().close().unwrap();
    assert!(matches!(feed.next(), Some(Err(Error::Closed))));
    assert!(matches!(db.changes(Tick::ZERO), Err(Error::Closed)));
}

#[test]
fn a_feed_runs_along_with_writers_and_misses_nothing() {
    let disk = Disk::new(1);
    let db = disk.open(Options { sync: SyncMode::Async, ..small_busy() });
    keyspace(&db, "k");
    let mut feed = db.changes(Tick::ZERO).unwrap();
    let mut written: Vec<Tick> = std::thread::scope(|scope| {
        let writers: Vec<_> = (0..3u32)
            .map(|writer| {
                let db = &db;
                let write = move |number: u32| {
                    let options =
                        if number % 50 == writer { WriteOptions::default() } else { ASYNC };
                    put(db, &(writer * 1000 + number).to_be_bytes(), &[1; 500], options)
                };
                scope.spawn(move || (0..400).map(write).collect::<Vec<Tick>>())
            })
            .collect();
        let reader = scope.spawn(|| {
            let mut seen = Vec::new();
            while seen.len() < 1200 {
                feed.wait(Duration::from_secs(60)).unwrap();
                seen.extend(seqnos(&mut feed));
            }
            seen
        });
        let written: Vec<Tick> =
            writers.into_iter().flat_map(|writer| writer.join().unwrap()).collect();
        let seen = reader.join().unwrap();
        assert!(seen.is_sorted());
        assert_eq!(seen.len(), written.len());
        written.iter().for_each(|seqno| assert!(seen.binary_search(seqno).is_ok()));
        written
    });
    written.sort_unstable();
    assert_eq!(feed.position(), *written.last().unwrap());
}
