//! A disk that does not answer: whoever asks how the database is gets an answer all the same.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod fixture;

use esker::{Db, Status};
use fixture::{Disk, START_MS, keyspace, small};
use std::sync::mpsc::channel;
use std::thread;
use std::time::Duration;

/// Much longer than anything here takes, for a test that would wait for ever.
const PATIENCE: Duration = Duration::from_secs(60);

fn open() -> (Disk, Db) {
    let disk = Disk::new(1);
    let db = disk.open(small());
    (disk, db)
}

#[test]
fn health_and_numbers_are_told_while_the_manifest_waits_for_the_disk() {
    let (disk, db) = open();
    keyspace(&db, "k").put(b"a", b"b").unwrap();
    thread::scope(|scope| {
        let held = disk.fs.hold_syncs("manifest");
        let flush = scope.spawn(|| db.flush());
        assert!(held.has_begun(PATIENCE));
        let (tell, told) = channel();
        scope.spawn(|| {
            let tell = tell;
            tell.send((db.health(), db.stats())).unwrap();
        });
        let (health, stats) = told.recv_timeout(PATIENCE).unwrap();
        assert_eq!(health.status, Status::Healthy);
        assert_eq!(stats.table_bytes, 0, "the edit is not durable");
        drop(held);
        flush.join().unwrap().unwrap();
    });
    assert!(db.stats().table_bytes > 0, "it is shown once it is");
}

#[test]
fn a_sync_of_the_log_that_does_not_end_is_seen_while_it_runs() {
    let (disk, db) = open();
    let k = keyspace(&db, "k");
    let before = db.stats();
    assert_eq!(before.sync_running, Duration::ZERO);
    thread::scope(|scope| {
        let held = disk.fs.hold_syncs("wal");
        let put = scope.spawn(|| k.put(b"a", b"b"));
        assert!(held.has_begun(PATIENCE));
        disk.clock.set(START_MS + 3000);
        let stats = db.stats();
        assert_eq!(stats.sync_running, Duration::from_secs(3));
        assert_eq!(stats.sync_times, before.sync_times, "it has not ended");
        drop(held);
        put.join().unwrap().unwrap();
    });
    let after = db.stats();
    assert_eq!(after.sync_running, Duration::ZERO);
    let ended = after.sync_times.since(&before.sync_times);
    assert_eq!(ended.count(), 1);
    assert!(ended.quantile(1.0).unwrap() > Duration::from_secs(2));
}
