//! What was written, batch by batch, and what a database may therefore hold.

use base::{Error, Tick};
use engine::{Batch, Db, Iter, SyncMode, WriteOptions};
use std::collections::{BTreeMap, BTreeSet};

/// Keys and values of each keyspace, by name.
pub(crate) type Content = BTreeMap<String, BTreeMap<Vec<u8>, Vec<u8>>>;

/// The states that a database went through.
#[derive(Clone, Debug)]
pub(crate) struct History {
    /// After each batch; the first is before any.
    states: Vec<Content>,
    /// Their places in the order of commits, without that of the first state.
    ticks: Vec<Tick>,
    /// Every key that was ever written, and one that never was.
    keys: BTreeMap<String, BTreeSet<Vec<u8>>>,
}

/// One step of a batch.
pub(crate) enum Step<'a> {
    Put(&'a str, u32, usize),
    Delete(&'a str, u32),
    DeleteRange(&'a str, u32, u32),
}

use Step::{Delete, DeleteRange, Put};

pub(crate) fn key(number: u32) -> Vec<u8> {
    format!("key {number:03}").into_bytes()
}

/// A value that no other batch writes.
fn value(batch: usize, number: u32, len: usize) -> Vec<u8> {
    let mut value = format!("{batch} {number} ").into_bytes();
    value.extend(b"abcdefgh".iter().cycle().take(len));
    value
}

impl History {
    /// Of a database with these keyspaces.
    pub(crate) fn of(keyspaces: &[&str]) -> History {
        let state = keyspaces.iter().map(|name| ((*name).to_owned(), BTreeMap::new())).collect();
        let absent = || BTreeSet::from([b"absent".to_vec()]);
        let keys = keyspaces.iter().map(|name| ((*name).to_owned(), absent())).collect();
        History { states: vec![state], ticks: Vec::new(), keys }
    }

    /// Writes a batch.
    pub(crate) fn write(&mut self, db: &Db, steps: &[Step<'_>], sync: SyncMode) {
        let number = self.states.len();
        let mut state = self.last().clone();
        let mut batch = Batch::new();
        for step in steps {
            let (Put(name, ..) | Delete(name, ..) | DeleteRange(name, ..)) = step;
            let keyspace = db.existing_keyspace(name).unwrap();
            let content = state.get_mut(*name).unwrap();
            match *step {
                Put(_, at, len) => {
                    batch.put(&keyspace, key(at), value(number, at, len));
                    content.insert(key(at), value(number, at, len));
                    self.keys.get_mut(*name).unwrap().insert(key(at));
                }
                Delete(_, at) => {
                    batch.delete(&keyspace, key(at));
                    content.remove(&key(at));
                }
                DeleteRange(_, from, to) => {
                    batch.delete_range(&keyspace, key(from), key(to));
                    content.retain(|k, _| *k < key(from) || *k >= key(to));
                }
            }
        }
        let tick = db.write_with(batch, WriteOptions { sync: Some(sync) }).unwrap();
        self.ticks.push(tick);
        self.states.push(state);
    }

    /// Ingests fresh values of these keys, as one batch.
    pub(crate) fn ingest(&mut self, db: &Db, name: &str, numbers: std::ops::Range<u32>) {
        let batch = self.states.len();
        let entries: Vec<_> =
            numbers.map(|number| (key(number), value(batch, number, 20))).collect();
        let keyspace = db.existing_keyspace(name).unwrap();
        self.ticks.push(keyspace.ingest(entries.iter().map(|(k, v)| (k, v))).unwrap());
        let mut state = self.last().clone();
        state.get_mut(name).unwrap().extend(entries.iter().cloned());
        self.keys.get_mut(name).unwrap().extend(entries.into_iter().map(|(key, _)| key));
        self.states.push(state);
    }

    pub(crate) fn last(&self) -> &Content {
        self.states.last().unwrap()
    }

    pub(crate) fn batches(&self) -> usize {
        self.ticks.len()
    }

    /// How many batches there are up to the commit at `tick`.
    pub(crate) fn batches_up_to(&self, tick: Tick) -> usize {
        self.ticks.partition_point(|other| *other <= tick)
    }

    /// What `db` answers to everything that can be asked.
    pub(crate) fn ask(&self, db: &Db) -> Answers {
        let mut answers = Answers {
            names: db.keyspaces().iter().map(|keyspace| keyspace.name().to_owned()).collect(),
            ..Answers::default()
        };
        for (name, keys) in &self.keys {
            let Ok(keyspace) = db.existing_keyspace(name) else { continue };
            let mut gets = Vec::with_capacity(keys.len());
            for key in keys {
                match keyspace.get(key) {
                    Ok(value) => gets.push((key.clone(), value.map(Vec::from))),
                    Err(error) => answers.errors.push(error),
                }
            }
            let forward = answers.walk(keyspace.iter(), Iter::next);
            let backward = answers.walk(keyspace.iter(), Iter::next_back);
            let count = match keyspace.count(..) {
                Ok(count) => Some(count),
                Err(error) => {
                    answers.errors.push(error);
                    None
                }
            };
            answers.keyspaces.insert(name.clone(), Answer { gets, forward, backward, count });
        }
        answers
    }

    /// The number of the last batch whose state all of `answers` agree with.
    pub(crate) fn agrees(&self, answers: &Answers) -> Option<usize> {
        self.states.iter().rposition(|state| answers.agree(state))
    }

    /// How many batches at the end are lost; `None` if that can not be, because the first `promised`
    /// were promised or there never was such a state.
    pub(crate) fn lost(&self, answers: &Answers, promised: usize) -> Option<usize> {
        let agreed = self.agrees(answers)?;
        (agreed >= promised).then(|| self.batches() - agreed)
    }
}

type Entries = Vec<(Vec<u8>, Vec<u8>)>;

/// What a database answered; errors are none of the answers.
#[derive(Debug, Default)]
pub(crate) struct Answers {
    names: Vec<String>,
    keyspaces: BTreeMap<String, Answer>,
    pub(crate) errors: Vec<Error>,
}

#[derive(Debug)]
struct Answer {
    gets: Vec<(Vec<u8>, Option<Vec<u8>>)>,
    forward: Walk,
    backward: Walk,
    count: Option<u64>,
}

/// The entries that an iterator gave, and whether it came to its end.
#[derive(Debug)]
struct Walk {
    entries: Entries,
    ended: bool,
}

impl Answers {
    fn walk<T: AsRef<[u8]>>(
        &mut self,
        mut iter: Iter,
        step: impl Fn(&mut Iter) -> Option<engine::Result<(T, T)>>,
    ) -> Walk {
        let mut entries = Vec::new();
        while let Some(entry) = step(&mut iter) {
            match entry {
                Ok((key, value)) => {
                    entries.push((key.as_ref().to_vec(), value.as_ref().to_vec()));
                }
                Err(error) => {
                    self.errors.push(error);
                    return Walk { entries, ended: false };
                }
            }
        }
        Walk { entries, ended: true }
    }

    fn agree(&self, state: &Content) -> bool {
        self.names.iter().eq(state.keys())
            && self.keyspaces.len() == state.len()
            && self
                .keyspaces
                .iter()
                .all(|(name, answer)| state.get(name).is_some_and(|content| answer.agrees(content)))
    }
}

impl Answer {
    fn agrees(&self, content: &BTreeMap<Vec<u8>, Vec<u8>>) -> bool {
        self.gets.iter().all(|(key, value)| content.get(key) == value.as_ref())
            && self.forward.agrees(content.iter())
            && self.backward.agrees(content.iter().rev())
            && self.count.is_none_or(|count| count == content.len() as u64)
    }
}

impl Walk {
    fn agrees<'a>(&self, mut content: impl Iterator<Item = (&'a Vec<u8>, &'a Vec<u8>)>) -> bool {
        let mut given = self.entries.iter();
        let same = given.all(|(key, value)| content.next() == Some((key, value)));
        same && (!self.ended || content.next().is_none())
    }
}
