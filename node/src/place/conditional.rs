//! Writes that happen only if nobody else wrote meanwhile, and several writes as one commit.
//!
//! A condition names the stamp that the record is to have. It is checked and held in one transaction of the
//! engine, so it is true at the moment of the commit, on this node. What another node has written and
//! this one has not received yet does not count.

use super::{Directory, Place};
use crate::args::{DEFAULT_KEYSPACE, Durability};
use crate::database;
use crate::error::{Exit, Failure, Outcome};
use crate::wire::{NO_SUCH_KEY, STAMP_MISMATCH};
use base::{Error, Stamp};
use engine::{Batch, Db, Keyspace, Transaction, Value, WriteOptions};
use std::collections::{BTreeSet, HashMap, HashSet};

/// How often a transaction is run that others disturb.
const TRIES: usize = 16;

/// What has to be so for a write to happen.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) enum Condition {
    /// Nothing.
    #[default]
    None,
    /// There is no record.
    Absent,
    /// There is a record.
    Present,
    /// The record has one of these stamps.
    Is(Vec<Stamp>),
    /// There is no record, or it has none of these stamps.
    IsNot(Vec<Stamp>),
}

impl Condition {
    /// Whether a record with `stamp`, or none, is as wanted.
    pub(crate) fn holds(&self, stamp: Option<Stamp>) -> bool {
        let is_among = |stamps: &[Stamp]| stamp.is_some_and(|stamp| stamps.contains(&stamp));
        match self {
            Condition::None => true,
            Condition::Absent => stamp.is_none(),
            Condition::Present => stamp.is_some(),
            Condition::Is(stamps) => is_among(stamps),
            Condition::IsNot(stamps) => !is_among(stamps),
        }
    }
}

/// What happens to a record.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Change {
    /// It gets this value.
    Put(Vec<u8>),
    /// It goes.
    Delete,
}

/// One write.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Operation {
    /// Where.
    pub(crate) keyspace: String,
    /// To which record.
    pub(crate) key: Vec<u8>,
    /// What.
    pub(crate) change: Change,
    /// If what is so.
    pub(crate) condition: Condition,
}

impl Directory {
    /// The value of `key`, and who wrote it when.
    pub(crate) fn get_stamped(
        &self,
        keyspace: &str,
        key: &[u8],
    ) -> Outcome<Option<(Value, Stamp)>> {
        match database::keyspace_to_read(self.db(), keyspace)? {
            Some(keyspace) => Ok(keyspace.get_stamped(key)?),
            None => Ok(None),
        }
    }

    /// Carries out all of `operations` as one commit, or none if a condition does not hold. Returns its
    /// seqno; none if there was nothing to do.
    pub(crate) fn apply(
        &self,
        operations: &[Operation],
        durability: Option<Durability>,
    ) -> Outcome<Option<u64>> {
        if let ([one], None) = (operations, durability)
            && one.condition == Condition::None
        {
            return match &one.change {
                Change::Put(value) => self.put(&one.keyspace, &one.key, value).map(Some),
                Change::Delete => self.delete(&one.keyspace, &one.key),
            };
        }
        let options = WriteOptions { sync: durability.map(Durability::mode) };
        let mut keyspaces = self.keyspaces_of(operations)?;
        let is_conditional = |one: &Operation| one.condition != Condition::None;
        if !operations.iter().any(is_conditional) {
            keyspaces.make_missing(self.db())?;
            return self.apply_blindly(operations, &keyspaces, options);
        }
        if !keyspaces.missing.is_empty() {
            // What is refused makes no keyspace.
            check_conditions(&mut self.db().transaction()?, operations, &keyspaces)?;
            keyspaces.make_missing(self.db())?;
        }
        for _ in 0..TRIES {
            match self.apply_if(operations, &keyspaces, options) {
                // Somebody wrote one of the records in between: the next try sees what.
                Err(failure) if failure.code() == Error::Conflict.code() => {}
                decided => return decided,
            }
        }
        Err(Error::Conflict.into())
    }

    /// The keyspaces of `operations`, in whatever order these are. None is made.
    fn keyspaces_of(&self, operations: &[Operation]) -> Outcome<Keyspaces> {
        let is_put = |one: &&Operation| matches!(one.change, Change::Put(_));
        let put_to: HashSet<&str> =
            operations.iter().filter(is_put).map(|one| one.keyspace.as_str()).collect();
        let mut all = Keyspaces::default();
        for Operation { keyspace: name, .. } in operations {
            if all.there.contains_key(name) || all.missing.contains(name) {
                continue;
            }
            database::check_changeable(name)?;
            match self.db().existing_keyspace(name) {
                Ok(keyspace) => drop(all.there.insert(name.clone(), keyspace)),
                Err(Error::KeyspaceNotFound { .. }) if put_to.contains(name.as_str()) => {
                    all.missing.insert(name.clone());
                }
                // One that is only deleted from is not made.
                Err(Error::KeyspaceNotFound { .. }) if name == DEFAULT_KEYSPACE => {}
                Err(error) => return Err(error.into()),
            }
        }
        Ok(all)
    }

    fn apply_blindly(
        &self,
        operations: &[Operation],
        keyspaces: &Keyspaces,
        options: WriteOptions,
    ) -> Outcome<Option<u64>> {
        let mut batch = Batch::new();
        for Operation { keyspace, key, change, .. } in operations {
            // Nothing was ever stored in one that is not there.
            let Some(keyspace) = keyspaces.there.get(keyspace) else { continue };
            match change {
                Change::Put(value) => batch.put(keyspace, key, value),
                Change::Delete => batch.delete(keyspace, key),
            }
        }
        if batch.is_empty() {
            return Ok(None);
        }
        Ok(Some(self.db().write_with(batch, options)?.raw()))
    }

    fn apply_if(
        &self,
        operations: &[Operation],
        keyspaces: &Keyspaces,
        options: WriteOptions,
    ) -> Outcome<Option<u64>> {
        let mut transaction = self.db().transaction()?;
        check_conditions(&mut transaction, operations, keyspaces)?;
        let mut count = 0;
        for Operation { keyspace, key, change, .. } in operations {
            let Some(keyspace) = keyspaces.there.get(keyspace) else { continue };
            count += 1;
            match change {
                Change::Put(value) => transaction.put(keyspace, key, value)?,
                Change::Delete => transaction.delete(keyspace, key)?,
            }
        }
        if count == 0 {
            return Ok(None);
        }
        Ok(Some(transaction.commit_with(options)?.raw()))
    }
}

/// The keyspaces of some operations, by name.
#[derive(Default)]
struct Keyspaces {
    there: HashMap<String, Keyspace>,
    /// Those that are put to and not there yet.
    missing: BTreeSet<String>,
}

impl Keyspaces {
    /// Makes those that are missing.
    fn make_missing(&mut self, db: &Db) -> Outcome {
        while let Some(name) = self.missing.pop_first() {
            let keyspace = database::keyspace_to_write(db, &name)?;
            self.there.insert(name, keyspace);
        }
        Ok(())
    }
}

/// Refuses operations whose conditions do not hold when `transaction` begins.
fn check_conditions(
    transaction: &mut Transaction,
    operations: &[Operation],
    keyspaces: &Keyspaces,
) -> Outcome {
    for (at, Operation { keyspace, key, condition, .. }) in operations.iter().enumerate() {
        if *condition == Condition::None {
            continue;
        }
        let found = match keyspaces.there.get(keyspace) {
            Some(keyspace) => transaction.get_stamped(keyspace, key)?,
            None => None,
        };
        if !condition.holds(found.map(|(_, stamp)| stamp)) {
            return Err(mismatch(at, operations.len()));
        }
    }
    Ok(())
}

fn mismatch(at: usize, count: usize) -> Failure {
    let message = match count {
        1 => "the record is not as the request wants it".to_owned(),
        _ => format!("the record of operation {at} is not as the request wants it"),
    };
    not_as_wanted(message)
}

/// The stamp of a record is another than the one asked for.
pub(crate) fn not_as_wanted(message: impl Into<String>) -> Failure {
    Failure::new(Exit::Conflict, STAMP_MISMATCH, message)
        .action("get the record again, and decide anew")
}

/// There is no such record.
pub(crate) fn no_such_key(keyspace: &str) -> Failure {
    Failure::new(Exit::NotFound, NO_SUCH_KEY, format!("keyspace {keyspace:?} has no such key"))
        .action("scan the keyspace to see its keys")
}

#[cfg(test)]
mod tests {
    use super::*;
    use engine::{Options, Progress};
    use std::sync::Barrier;

    fn directory() -> (tempfile::TempDir, Directory) {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("data");
        let directory =
            Directory::open_with(&path, Options::default(), &Progress::default()).unwrap();
        (dir, directory)
    }

    fn put(key: &[u8], value: &[u8], condition: Condition) -> Operation {
        let change = Change::Put(value.to_vec());
        Operation { keyspace: "k".to_owned(), key: key.to_vec(), change, condition }
    }

    #[test]
    fn a_batch_with_one_condition_that_fails_does_nothing() {
        let (_dir, directory) = directory();
        directory.apply(&[put(b"a", b"1", Condition::Absent)], None).unwrap();
        let both = [put(b"b", b"1", Condition::None), put(b"a", b"2", Condition::Is(Vec::new()))];
        let refused = directory.apply(&both, None).unwrap_err();
        assert_eq!(refused.code(), STAMP_MISMATCH);
        assert!(refused.to_text().contains("operation 1"), "{}", refused.to_text());
        assert_eq!(directory.get_stamped("k", b"b").unwrap(), None);
        let (value, stamp) = directory.get_stamped("k", b"a").unwrap().unwrap();
        assert_eq!(&*value, b"1");
        let seqno = directory.apply(&[put(b"a", b"2", Condition::Is(vec![stamp]))], None).unwrap();
        let (_, stamp) = directory.get_stamped("k", b"a").unwrap().unwrap();
        assert_eq!(seqno, Some(stamp.tick.raw()));
    }

    #[test]
    fn what_is_refused_makes_no_keyspace_and_the_order_of_operations_makes_no_difference() {
        let (_dir, directory) = directory();
        let refused = directory.apply(&[put(b"a", b"1", Condition::Present)], None).unwrap_err();
        assert_eq!(refused.code(), STAMP_MISMATCH);
        assert!(directory.db().existing_keyspace("k").is_err(), "it was made");
        let delete = |condition| Operation { change: Change::Delete, ..put(b"a", b"", condition) };
        let only = directory.apply(&[delete(Condition::None)], None).unwrap_err();
        assert_eq!(only.code(), "KeyspaceNotFound");
        for condition in [Condition::None, Condition::Absent] {
            let (_dir, directory) = self::directory();
            let both = [delete(condition.clone()), put(b"b", b"1", condition)];
            directory.apply(&both, None).unwrap();
            assert_eq!(&*directory.get_stamped("k", b"b").unwrap().unwrap().0, b"1");
        }
    }

    /// Each adds one to what it has read, and writes only if nobody else did.
    #[test]
    fn counters_that_many_raise_at_once_lose_nothing() {
        let (_dir, directory) = directory();
        directory.apply(&[put(b"n", b"0", Condition::None)], None).unwrap();
        let start = Barrier::new(4);
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| {
                    start.wait();
                    let mut done = 0;
                    while done < 25 {
                        let (value, stamp) = directory.get_stamped("k", b"n").unwrap().unwrap();
                        let count: u64 = std::str::from_utf8(&value).unwrap().parse().unwrap();
                        let next = (count + 1).to_string();
                        let condition = Condition::Is(vec![stamp]);
                        match directory.apply(&[put(b"n", next.as_bytes(), condition)], None) {
                            Ok(_) => done += 1,
                            Err(failure) => assert_eq!(failure.code(), STAMP_MISMATCH),
                        }
                    }
                });
            }
        });
        assert_eq!(&*directory.get_stamped("k", b"n").unwrap().unwrap().0, b"100");
    }
}
