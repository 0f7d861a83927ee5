//! A node that writes alone for long, and then takes what others have written meanwhile.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod fixture;

use esker::replicate::{Admission, ScopeId};
use esker::{Background, Batch, Db, Options, SyncMode};
use fixture::{Disk, START_MS, keyspace};

const MAIN: ScopeId = ScopeId::MAIN;

fn node(seed: u64) -> (Disk, Db) {
    let disk = Disk::new(seed);
    disk.clock.set(START_MS + seed);
    let options =
        Options { sync: SyncMode::Async, background: Background::Off, ..Options::default() };
    let db = disk.open(options);
    (disk, db)
}

/// What `db` writes next that `to` has not.
fn ship(db: &Db, to: &Db) -> Admission {
    let known = to.replication().applied(MAIN);
    let mut tail = db.replication().tail(MAIN, &known).unwrap();
    let shipment = tail.next(&known, 1 << 20).unwrap().unwrap();
    to.replication().admit(&shipment.bytes).unwrap()
}

#[test]
fn who_wrote_alone_for_long_compares_what_comes_then() {
    let ((_, a), (_, b)) = (node(1), node(2));
    keyspace(&a, "k").put("first", "of a").unwrap();
    assert_eq!(ship(&a, &b), Admission::Taken { won: 1, lost: 0, late: 0 });
    keyspace(&a, "k").put("key", "older").unwrap();
    let k = keyspace(&b, "k");
    k.put("key", "newer").unwrap();
    for round in 0..160u32 {
        let mut batch = Batch::new();
        (0..1000u32).for_each(|number| batch.put(&k, (round * 1000 + number).to_be_bytes(), b"v"));
        b.write(batch).unwrap();
    }
    assert_eq!(ship(&a, &b), Admission::Taken { won: 0, lost: 1, late: 0 });
    assert_eq!(k.get("key").unwrap().unwrap(), b"newer");
    // And what b writes from here on counts again.
    k.put("later", "newer").unwrap();
    keyspace(&a, "k").put("later", "older").unwrap();
    assert_eq!(ship(&a, &b), Admission::Taken { won: 0, lost: 1, late: 0 });
    assert_eq!(k.get("later").unwrap().unwrap(), b"newer");
}
