//! What three nodes must hold in the end: of the writes that were acknowledged, per key the one with
//! the latest stamp.

use crate::digest::ContentDigest;
use std::collections::BTreeMap;

/// When a write was made, and where: the tick that its node answered with, and the node. The later
/// one wins, and of one tick the greater node, as on the nodes themselves.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Stamp {
    pub(super) tick: u64,
    pub(super) node: String,
}

/// A write that was acknowledged.
#[derive(Clone, Debug)]
pub(super) struct Write {
    pub(super) key: String,
    /// None: it is a delete.
    pub(super) value: Option<String>,
    pub(super) stamp: Stamp,
}

/// See the module.
#[derive(Clone, Debug, Default)]
pub(super) struct Ledger {
    keyspaces: BTreeMap<String, BTreeMap<String, Write>>,
}

/// Whether a write is what stands in the end, so far.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Fate {
    /// It stands, in the place of whatever was there.
    Won,
    /// A later one was there already.
    Lost,
}

impl Ledger {
    /// Notes `write`, in whatever order.
    pub(super) fn note(&mut self, keyspace: &str, write: Write) -> Fate {
        let keyspace = self.keyspaces.entry(keyspace.to_owned()).or_default();
        let known = keyspace.get(&write.key);
        if known.is_some_and(|known| known.stamp > write.stamp) {
            return Fate::Lost;
        }
        keyspace.insert(write.key.clone(), write);
        Fate::Won
    }

    /// Records that stand.
    pub(super) fn len(&self) -> u64 {
        let live = self.keyspaces.values().flat_map(BTreeMap::values);
        live.filter(|write| write.value.is_some()).count() as u64
    }

    /// The keys that stand in `keyspace`.
    pub(super) fn keys(&self, keyspace: &str) -> Vec<String> {
        let all = self.keyspaces.get(keyspace).into_iter().flat_map(BTreeMap::values);
        all.filter(|write| write.value.is_some()).map(|write| write.key.clone()).collect()
    }

    /// The write that stands for `key`, or deleted it.
    pub(super) fn last_write(&self, keyspace: &str, key: &str) -> Option<&Write> {
        self.keyspaces.get(keyspace)?.get(key)
    }

    /// The digest that a node must have.
    pub(super) fn digest(&self) -> String {
        let mut digest = ContentDigest::default();
        for (name, keyspace) in &self.keyspaces {
            for write in keyspace.values() {
                if let Some(value) = &write.value {
                    digest.add(name, write.key.as_bytes(), value.as_bytes());
                }
            }
        }
        digest.to_hex()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn write(value: Option<&str>, tick: u64, node: &str) -> Write {
        let stamp = Stamp { tick, node: node.to_owned() };
        Write { key: "k".to_owned(), value: value.map(str::to_owned), stamp }
    }

    #[test]
    fn the_latest_stamp_stands_whatever_the_order() {
        let writes = [
            write(Some("early"), 1, "b"),
            write(Some("late"), 3, "a"),
            write(None, 2, "c"),
            write(Some("of the greater node"), 3, "b"),
        ];
        let mut forward = Ledger::default();
        let mut backward = Ledger::default();
        let won = writes.iter().map(|write| forward.note("x", write.clone()));
        let won: Vec<Fate> = won.collect();
        for write in writes.iter().rev() {
            backward.note("x", write.clone());
        }
        assert_eq!(won, [Fate::Won, Fate::Won, Fate::Lost, Fate::Won]);
        assert_eq!(forward.digest(), backward.digest());
        assert_eq!((forward.len(), forward.keys("x")), (1, vec!["k".to_owned()]));
        forward.note("x", write(None, 4, "a"));
        assert_eq!((forward.len(), forward.digest()), (0, Ledger::default().digest()));
    }
}
