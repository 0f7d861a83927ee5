//! What one node commits, others take: the largest batch, and the answer to it. No more than that is taken.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

mod fixture;

use base::batch::Ops;
use base::limits::BATCH_OPS_MAX;
use base::shipment::{SHIPMENT_OPS_MAX, ShipmentWriter};
use base::{Incarnation, KeyspaceId, NodeId, Op, OpKind, Origin, ScopeId};
use esker::replicate::Admission;
use esker::{Batch, Db, Error, Keyspace, Options, Tick};
use fixture::{Disk, START_MS, fast, keyspace, ship};

const MAIN: ScopeId = ScopeId::MAIN;

/// A batch of `count` puts.
fn puts(k: &Keyspace, count: u64) -> Batch {
    let mut batch = Batch::new();
    (0..count).for_each(|number| batch.put(k, number.to_be_bytes(), b""));
    batch
}

fn pair() -> (Disk, Db, Db) {
    let disk_b = Disk::new(2);
    let db = disk_b.open(fast());
    // The log keeps what was flushed, so that it can be shipped.
    let keeps = Options { log_retention_bytes: 64 << 20, ..fast() };
    (disk_b, Disk::new(1).open(keeps), db)
}

#[test]
fn a_batch_of_more_writes_than_peers_take_is_refused_and_the_largest_is_taken_by_them() {
    let (_, a, b) = pair();
    let k = keyspace(&a, "k");
    let refused = a.write(puts(&k, BATCH_OPS_MAX + 1)).unwrap_err();
    let Error::TooLarge { limit, value, .. } = refused else { panic!("{refused}") };
    assert_eq!((limit, value), (BATCH_OPS_MAX, BATCH_OPS_MAX + 1));
    assert_eq!(k.count(..).unwrap(), 0);
    k.put("before", "").unwrap();
    a.write(puts(&k, BATCH_OPS_MAX)).unwrap();
    k.put("behind", "").unwrap();
    let taken = |won| Admission::Taken { won, lost: 0, late: 0 };
    let last = [taken(1), taken(BATCH_OPS_MAX), taken(1)];
    assert_eq!(ship(&a, &b), last, "it goes alone");
    assert_eq!(keyspace(&b, "k").count(..).unwrap(), BATCH_OPS_MAX + 2);
}

/// Three ops answer a late put.
#[test]
fn the_answer_to_the_largest_late_batch_is_taken() {
    let (disk_b, a, b) = pair();
    a.write(puts(&keyspace(&a, "k"), BATCH_OPS_MAX)).unwrap();
    disk_b.clock.set(START_MS + 1);
    keyspace(&b, "k").delete("x").unwrap();
    b.compact_all().unwrap();
    let late = Admission::Taken { won: 0, lost: 0, late: BATCH_OPS_MAX };
    assert_eq!(ship(&a, &b), [late]);
    let answered = ship(&b, &a);
    let answers =
        |it: &Admission| matches!(it, Admission::Taken { won, .. } if *won == 3 * BATCH_OPS_MAX);
    assert!(answered.iter().any(answers), "{answered:?}");
    assert_eq!(keyspace(&a, "k").count(..).unwrap(), 0);
}

/// A shipment with a commit of `count` times the op.
fn shipment(count: u64, name: &str, kind: OpKind<'_>) -> Vec<u8> {
    let mut ops = Vec::new();
    let op = Op { keyspace: KeyspaceId(1), key: b"k", kind };
    (0..count).for_each(|_| op.encode(&mut ops));
    let author = Origin { node: NodeId([9; 16]), incarnation: Incarnation(1) };
    let mut writer = ShipmentWriter::new(MAIN, author, None);
    let name_of = |_| Some(name.to_owned());
    writer.push(Tick::from_ms(START_MS), count, &Ops::encoded(&ops), name_of).unwrap();
    writer.finish()
}

/// If all of them were late, nobody would take the answer.
#[test]
fn a_shipment_of_more_puts_than_a_batch_has_is_refused() {
    let (_, _, b) = pair();
    let admit = |bytes: &[u8]| b.replication().admit(bytes);
    let refused = admit(&shipment(BATCH_OPS_MAX + 1, "k", OpKind::Put(b"")));
    assert!(matches!(refused, Err(Error::TooLarge { .. })), "{refused:?}");
    assert!(b.replication().applied(MAIN).is_empty());
    let lost = |lost| Admission::Taken { won: 1, lost, late: 0 };
    let deletes = shipment(SHIPMENT_OPS_MAX, "k", OpKind::Delete);
    assert_eq!(admit(&deletes).unwrap(), lost(SHIPMENT_OPS_MAX - 1));
}
