//! What was written, and what must be read of it.

use base::{Origin, Tick, Vector};
use std::collections::BTreeMap;
use std::sync::Mutex;

/// Keys and values.
pub(crate) type Content = BTreeMap<Vec<u8>, Vec<u8>>;

/// Something done to a key, or to the keys from one up to another.
#[derive(Clone, Debug)]
pub(crate) enum Op {
    Put(Vec<u8>, Vec<u8>),
    Delete(Vec<u8>),
    DeleteRange(Vec<u8>, Vec<u8>),
}

/// Every acknowledged commit, by stamp.
#[derive(Default)]
pub(crate) struct Ledger {
    commits: Mutex<BTreeMap<(Tick, Origin), Vec<Op>>>,
}

impl Ledger {
    pub(crate) fn note(&self, tick: Tick, origin: Origin, ops: Vec<Op>) {
        assert!(self.commits.lock().unwrap().insert((tick, origin), ops).is_none());
    }

    /// What covers all of it.
    pub(crate) fn vector(&self) -> Vector {
        let mut vector = Vector::default();
        for (tick, origin) in self.commits.lock().unwrap().keys() {
            vector.raise(*origin, *tick);
        }
        vector
    }

    /// All of it in the order of stamps.
    pub(crate) fn fold(&self) -> Content {
        let mut content = Content::new();
        for op in self.commits.lock().unwrap().values().flatten() {
            match op.clone() {
                Op::Put(key, value) => drop(content.insert(key, value)),
                Op::Delete(key) => drop(content.remove(&key)),
                Op::DeleteRange(start, end) => {
                    content.retain(|key, _| *key < start || *key >= end);
                }
            }
        }
        content
    }
}
