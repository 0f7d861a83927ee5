//! Commits that are waited for later, or awaited, or not at all.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod fixture;

use esker::{Batch, CommitTicket, Db, Keyspace, Options, SyncMode, WriteOptions};
use fixture::{Disk, keyspace, small, small_busy};
use std::future::Future;
use std::pin::pin;
use std::sync::Arc;
use std::task::{Context, Poll, Wake, Waker};
use std::thread::Thread;

struct Unpark(Thread);

impl Wake for Unpark {
    fn wake(self: Arc<Self>) {
        self.0.unpark();
    }
}

/// The smallest executor there is.
fn block_on<F: Future>(future: F) -> F::Output {
    let mut future = pin!(future);
    let waker = Waker::from(Arc::new(Unpark(std::thread::current())));
    loop {
        match future.as_mut().poll(&mut Context::from_waker(&waker)) {
            Poll::Ready(output) => return output,
            Poll::Pending => std::thread::park(),
        }
    }
}

fn submit(db: &Db, k: &Keyspace, number: u32, sync: SyncMode) -> CommitTicket {
    let mut batch = Batch::new();
    batch.put(k, number.to_be_bytes(), b"value");
    db.submit_with(batch, WriteOptions { sync: Some(sync) }).unwrap()
}

#[test]
fn tickets_keep_the_order_of_submission_and_can_be_waited_for_in_any() {
    for options in [small(), small_busy()] {
        let disk = Disk::new(1);
        let db = disk.open(options);
        let k = keyspace(&db, "k");
        let modes = [SyncMode::Sync, SyncMode::Async, SyncMode::Sync];
        let mut tickets: Vec<_> =
            (0..60u32).map(|number| submit(&db, &k, number, modes[number as usize % 3])).collect();
        assert!(tickets.is_sorted_by_key(|ticket| ticket.seqno()));
        tickets.reverse();
        for ticket in tickets {
            let seqno = ticket.seqno();
            assert_eq!(ticket.wait().unwrap(), seqno);
            assert!(db.snapshot().seqno() >= seqno);
        }
        assert_eq!(k.count(..).unwrap(), 60);
    }
}

#[test]
fn a_ticket_can_be_awaited_without_any_runtime() {
    let disk = Disk::new(1);
    let db = disk.open(small_busy());
    let k = keyspace(&db, "k");
    let before = db.snapshot().seqno();
    let tickets: Vec<_> = (0..40).map(|number| submit(&db, &k, number, SyncMode::Sync)).collect();
    assert!(tickets.iter().all(|ticket| ticket.seqno() > before));
    for ticket in tickets {
        let seqno = ticket.seqno();
        assert_eq!(block_on(ticket).unwrap(), seqno);
    }
    // What an awaited Sync commit stored is durable.
    let lost = Disk::of(disk.fs.crash(base::fs::CrashModel::Synced)).open(small());
    assert_eq!(keyspace(&lost, "k").count(..).unwrap(), 40);
    assert!(block_on(db.submit(Batch::new()).unwrap()).is_ok());
}

#[test]
fn a_commit_whose_ticket_is_dropped_is_made_all_the_same() {
    for options in [small(), small_busy()] {
        let disk = Disk::new(1);
        let db = disk.open(options.clone());
        let k = keyspace(&db, "k");
        // More than the memtables hold.
        let batch_of = |number: u32| {
            let mut batch = Batch::new();
            batch.put(&k, number.to_be_bytes(), [7; 900]);
            batch
        };
        for number in 0..400u32 {
            drop(db.submit(batch_of(number)).unwrap());
        }
        db.sync().unwrap();
        assert_eq!(k.count(..).unwrap(), 400);
        drop(db.submit(batch_of(400)).unwrap());
        k.ingest([(b"ingested", b"")]).unwrap();
        drop(db.submit(batch_of(401)).unwrap());
        db.close().unwrap();
        assert_eq!(keyspace(&disk.open(options), "k").count(..).unwrap(), 403);
    }
}

#[test]
fn many_threads_await_their_own_commits() {
    let disk = Disk::new(1);
    let db = disk.open(Options { sync: SyncMode::Sync, ..small_busy() });
    let k = keyspace(&db, "k");
    std::thread::scope(|scope| {
        for thread in 0..4u32 {
            let (db, k) = (&db, &k);
            scope.spawn(move || {
                for round in 0..60 {
                    let number = thread * 1000 + round;
                    block_on(submit(db, k, number, SyncMode::Sync)).unwrap();
                    assert!(k.contains_key(number.to_be_bytes()).unwrap());
                }
            });
        }
    });
    assert_eq!(k.count(..).unwrap(), 240);
}
