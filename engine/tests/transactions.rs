//! What serializable means to a caller: whatever a transaction read is still so when it commits.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

mod fixture;

use esker::{Batch, Db, Error, Keyspace, Options, Result, SyncMode, Tick, WriteOptions};
use fixture::{Disk, keyspace, own, small};

fn open() -> (Disk, Db, Keyspace) {
    let disk = Disk::new(1);
    let db = disk.open(small());
    let k = keyspace(&db, "k");
    (disk, db, k)
}

fn conflicts<T>(result: Result<T>) -> bool {
    match result {
        Ok(_) => false,
        Err(Error::Conflict) => true,
        Err(error) => panic!("{error}"),
    }
}

#[test]
fn write_skew_is_refused() {
    let (_disk, db, k) = open();
    k.put(b"on call: ada", b"yes").unwrap();
    k.put(b"on call: bob", b"yes").unwrap();
    let mut ada = db.transaction().unwrap();
    let mut bob = db.transaction().unwrap();
    for transaction in [&mut ada, &mut bob] {
        assert_eq!(transaction.prefix(&k, b"on call").count(), 2);
    }
    ada.delete(&k, b"on call: ada").unwrap();
    bob.delete(&k, b"on call: bob").unwrap();
    assert!(!conflicts(ada.commit()));
    assert!(conflicts(bob.commit()));
    assert_eq!(k.iter().count(), 1);
}

#[test]
fn write_skew_over_single_keys_is_refused_whatever_the_order() {
    for first_reads_last in [false, true] {
        let (_disk, db, k) = open();
        let mut one = db.transaction().unwrap();
        let mut two = db.transaction().unwrap();
        assert!(one.get(&k, b"x").unwrap().is_none());
        assert!(!two.contains_key(&k, b"y").unwrap());
        one.put(&k, b"y", b"1").unwrap();
        two.put(&k, b"x", b"1").unwrap();
        let (first, second) = if first_reads_last { (two, one) } else { (one, two) };
        assert!(!conflicts(first.commit()));
        assert!(conflicts(second.commit()), "an absent key that was read has appeared");
    }
}

#[test]
fn a_phantom_is_refused() {
    type Write = fn(&Keyspace) -> Result<Tick>;
    let in_range: [(&str, Write); 5] = [
        ("a new key", |k| k.put(b"m", b"")),
        ("a key at the start", |k| k.put(b"b", b"")),
        ("a delete of a key", |k| k.delete(b"c")),
        ("a range delete that reaches in", |k| k.delete_range(b"a", b"b\0")),
        ("a delete of everything", |k| k.delete_prefix(b"")),
    ];
    let outside: [(&str, Write); 4] = [
        ("a key at the end", |k| k.put(b"x", b"")),
        ("a key before", |k| k.put(b"azz", b"")),
        ("a range delete up to the start", |k| k.delete_range(b"a", b"b")),
        ("a range delete from the end on", |k| k.delete_range(b"x", b"")),
    ];
    let cases = in_range.iter().map(|case| (case, true)).chain(outside.iter().map(|c| (c, false)));
    for ((what, write), expected) in cases {
        let (_disk, db, k) = open();
        k.put(b"c", b"").unwrap();
        let mut transaction = db.transaction().unwrap();
        // The range counts as read however far it is walked.
        drop(transaction.range(&k, b"b"..b"x"));
        transaction.put(&k, b"result", b"").unwrap();
        write(&k).unwrap();
        assert_eq!(conflicts(transaction.commit()), expected, "{what}");
    }
}

#[test]
fn an_unbounded_read_ends_at_its_keyspace() {
    let (_disk, db, k) = open();
    let after = keyspace(&db, "created after k");
    let mut transaction = db.transaction().unwrap();
    assert_eq!(transaction.range(&k, ..).count(), 0);
    transaction.put(&k, b"k", b"").unwrap();
    after.put([0], b"").unwrap();
    after.delete_range(b"", b"").unwrap();
    assert!(!conflicts(transaction.commit()));

    let mut transaction = db.transaction().unwrap();
    assert_eq!(transaction.range(&k, ..).count(), 1);
    transaction.put(&k, b"k", b"").unwrap();
    k.put([255; 300], b"").unwrap();
    assert!(conflicts(transaction.commit()));
}

#[test]
fn a_range_delete_conflicts_with_keys_that_were_read() {
    let (_disk, db, k) = open();
    for (key, expected) in [(b"b", true), (b"c", false), (b"a", false)] {
        let mut transaction = db.transaction().unwrap();
        transaction.get(&k, key).unwrap();
        transaction.put(&k, b"result", b"").unwrap();
        k.delete_range(b"b", b"c").unwrap();
        assert_eq!(conflicts(transaction.commit()), expected, "{key:?}");
    }
}

#[test]
fn an_ingest_conflicts_with_what_was_read() {
    let (_disk, db, k) = open();
    let mut reads_key = db.transaction().unwrap();
    reads_key.get(&k, b"b").unwrap();
    reads_key.put(&k, b"result", b"").unwrap();
    let mut reads_range = db.transaction().unwrap();
    assert_eq!(reads_range.range(&k, b"c"..b"z").count(), 0);
    reads_range.put(&k, b"result", b"").unwrap();
    let mut reads_elsewhere = db.transaction().unwrap();
    assert_eq!(reads_elsewhere.range(&k, b"x"..).count(), 0);
    reads_elsewhere.put(&k, b"elsewhere", b"").unwrap();
    k.ingest([(b"b", b""), (b"d", b"")]).unwrap();
    assert!(conflicts(reads_key.commit()));
    assert!(conflicts(reads_range.commit()));
    assert!(!conflicts(reads_elsewhere.commit()));
}

#[test]
fn reading_alone_never_conflicts() {
    let (_disk, db, k) = open();
    k.put(b"a", b"1").unwrap();
    let mut transaction = db.transaction().unwrap();
    assert_eq!(transaction.get(&k, b"a").unwrap().unwrap(), b"1");
    k.put(b"a", b"2").unwrap();
    db.compact(&k).unwrap();
    assert_eq!(transaction.get(&k, b"a").unwrap().unwrap(), b"1");
    assert_eq!(transaction.range(&k, ..).map(own).count(), 1);
    let seqno = transaction.seqno();
    assert_eq!(transaction.commit().unwrap(), seqno);
}

#[test]
fn writing_without_reading_never_conflicts() {
    let (_disk, db, k) = open();
    let mut one = db.transaction().unwrap();
    let mut two = db.transaction().unwrap();
    one.put(&k, b"a", b"one").unwrap();
    two.put(&k, b"a", b"two").unwrap();
    // A key that it wrote itself was not read from anywhere.
    assert_eq!(two.get(&k, b"a").unwrap().unwrap(), b"two");
    k.put(b"a", b"other").unwrap();
    let first = two.commit().unwrap();
    assert!(one.commit().unwrap() > first);
    assert_eq!(k.get(b"a").unwrap().unwrap(), b"one");
}

#[test]
fn transactions_on_different_keys_and_keyspaces_do_not_conflict() {
    let (_disk, db, k) = open();
    let other = keyspace(&db, "other");
    let mut one = db.transaction().unwrap();
    one.get(&k, b"a").unwrap();
    one.put(&k, b"a", b"").unwrap();
    other.put(b"a", b"").unwrap();
    k.put(b"b", b"").unwrap();
    k.put(b"", b"").unwrap_err();
    assert!(!conflicts(one.commit()));
}

#[test]
fn a_transaction_sees_what_it_did_and_nothing_of_others() {
    let (_disk, db, k) = open();
    for key in [b"a", b"c", b"e"] {
        k.put(key, b"stored").unwrap();
    }
    let mut transaction = db.transaction().unwrap();
    transaction.put(&k, b"b", b"new").unwrap();
    transaction.delete(&k, b"c").unwrap();
    transaction.put(&k, b"e", b"replaced").unwrap();
    transaction.put(&k, b"f", b"").unwrap();
    transaction.delete(&k, b"f").unwrap();
    transaction.delete(&k, b"nothing there").unwrap();
    k.put(b"d", b"of another").unwrap();
    let found: Vec<_> = transaction.range(&k, ..).map(own).collect();
    let expected = [("a", "stored"), ("b", "new"), ("e", "replaced")];
    assert!(found.iter().eq(&expected.map(|(k, v)| (k.into(), v.into()))), "{found:?}");
    assert_eq!(transaction.range(&k, b"b"..b"e").map(own).count(), 1);
    assert_eq!(transaction.range(&k, b"b"..=b"e").map(own).count(), 2);
    assert_eq!(transaction.range(&k, b"z"..b"a").map(own).count(), 0);
    assert_eq!(transaction.prefix(&k, b"b").map(own).count(), 1);
    assert!(transaction.get(&k, b"c").unwrap().is_none());
    assert!(transaction.contains_key(&k, b"b").unwrap());
    drop(transaction);
    assert_eq!(k.iter().count(), 4, "nothing of a dropped transaction is stored");
    assert!(k.get(b"b").unwrap().is_none());
}

#[test]
fn a_commit_is_one_batch_in_the_feed_and_after_a_crash() {
    let (disk, db, k) = open();
    let local = fixture::local_keyspace(&db, "local");
    let mut transaction = db.transaction().unwrap();
    transaction.put(&k, b"a", b"1").unwrap();
    transaction.put(&local, b"b", b"2").unwrap();
    let seqno = transaction.commit_with(WriteOptions { sync: Some(SyncMode::Sync) }).unwrap();
    let commits: Vec<_> = db.changes(Tick::ZERO).unwrap().map(|commit| commit.unwrap()).collect();
    assert_eq!(commits.len(), 1);
    assert_eq!((commits[0].seqno, commits[0].changes.len()), (seqno, 2));
    let db = Disk::of(disk.fs.crash(base::fs::CrashModel::Synced)).open(small());
    assert_eq!(keyspace(&db, "k").get(b"a").unwrap().unwrap(), b"1");
}

#[test]
fn one_transaction_too_many_is_refused_and_those_that_end_make_room() {
    let disk = Disk::new(1);
    let db = disk.open(Options { transactions_max: 2, ..small() });
    let k = keyspace(&db, "k");
    let one = db.transaction().unwrap();
    let two = db.transaction().unwrap();
    let refused = db.transaction().unwrap_err();
    assert!(matches!(refused, Error::TooManyTransactions { limit: 2 }), "{refused}");
    assert_eq!(refused.category(), esker::Category::Retryable);
    drop(one);
    let mut three = db.transaction().unwrap();
    three.get(&k, b"a").unwrap();
    three.put(&k, b"a", b"").unwrap();
    k.put(b"a", b"").unwrap();
    assert!(conflicts(three.commit()), "a refused commit ends its transaction too");
    let four = db.transaction().unwrap();
    two.rollback();
    four.commit().unwrap();
    assert_eq!(db.stats().transactions, 0);
}

/// Beyond a bound the database forgets which keys were written, and is careful instead.
#[test]
fn writes_between_count_even_while_other_transactions_come_and_go() {
    let (_disk, db, k) = open();
    let mut long = db.transaction().unwrap();
    long.get(&k, b"0").unwrap();
    long.put(&k, b"result", b"").unwrap();
    for round in 0..50u8 {
        let mut short = db.transaction().unwrap();
        short.get(&k, [round]).unwrap();
        short.put(&k, [round], b"").unwrap();
        assert!(!conflicts(short.commit()));
    }
    let mut same_moment = db.transaction().unwrap();
    same_moment.get(&k, b"0").unwrap();
    same_moment.put(&k, b"result", b"").unwrap();
    // b"0" was written in round 48.
    assert!(conflicts(long.commit()));
    assert!(!conflicts(same_moment.commit()));
}

#[test]
fn a_transaction_begun_among_unacknowledged_commits_sees_them() {
    let (_disk, db, k) = open();
    let mut batch = Batch::new();
    batch.put(&k, b"a", b"1");
    let ticket = db.submit(batch).unwrap();
    let mut transaction = db.transaction().unwrap();
    assert!(transaction.seqno() >= ticket.seqno());
    assert_eq!(transaction.get(&k, b"a").unwrap().unwrap(), b"1");
    ticket.wait().unwrap();
}

#[test]
fn keys_and_values_past_their_limits_are_refused_at_once() {
    let (_disk, db, k) = open();
    let mut transaction = db.transaction().unwrap();
    assert!(transaction.put(&k, b"", b"").is_err());
    assert!(transaction.put(&k, vec![0; 65_536], b"").is_err());
    assert!(transaction.put(&k, b"k", vec![0; (32 << 20) + 1]).is_err());
    assert!(transaction.delete(&k, b"").is_err());
    transaction.commit().unwrap();
    assert_eq!(k.iter().count(), 0);
}

/// A range that holds no key reads nothing, whichever way its ends stand.
#[test]
fn an_inverted_range_is_empty_and_conflicts_with_nothing() {
    let (_disk, db, k) = open();
    let mut transaction = db.transaction().unwrap();
    assert_eq!(transaction.range(&k, b"z".as_slice()..b"a".as_slice()).count(), 0);
    transaction.put(&k, b"x", b"1").unwrap();
    k.put(b"m", b"2").unwrap();
    assert!(!conflicts(transaction.commit()));
}

#[test]
fn a_stamp_says_which_write_a_value_is_of_and_holds_its_key_for_the_commit() {
    let (_disk, db, k) = open();
    assert!(k.get_stamped(b"a").unwrap().is_none());
    let written = k.put(b"a", b"1").unwrap();
    let (value, stamp) = k.get_stamped(b"a").unwrap().unwrap();
    let identity = db.identity();
    assert_eq!((&*value, stamp.tick), (&b"1"[..], written));
    assert_eq!(
        (stamp.origin.node, stamp.origin.incarnation),
        (identity.node, identity.incarnation)
    );
    db.flush().unwrap();
    assert_eq!(k.get_stamped(b"a").unwrap().unwrap().1, stamp, "also from a table");

    let mut transaction = db.transaction().unwrap();
    transaction.put(&k, b"a", b"2").unwrap();
    let stored = transaction.get_stamped(&k, b"a").unwrap().unwrap();
    assert_eq!((&*stored.0, stored.1), (&b"1"[..], stamp), "not its own write");
    k.put(b"a", b"3").unwrap();
    assert!(conflicts(transaction.commit()));
    assert!(k.get_stamped(b"a").unwrap().unwrap().1 > stamp);
    k.delete(b"a").unwrap();
    assert!(k.get_stamped(b"a").unwrap().is_none());
}
