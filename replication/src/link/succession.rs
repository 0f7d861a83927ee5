//! All changes of a node's key, oldest first.
//!
//! ```text
//! size     field
//! n * 216  changes   as in `rotation.rs`, at most 16: the first gives up the key that the node is
//!                    named after, each other one the key that the one before it has brought
//! ```
//!
//! Whoever knows the name of a node can check them, and needs nobody to believe them. So they are
//! shown in every handshake, in the certificate, and the roster keeps them for those who never met
//! the node with the key in between.

use super::error::LinkError;
use super::key::{Fingerprint, LinkKey};
use super::rotation::{MAGIC, Rotation};
use base::NodeId;

/// See the module.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Succession {
    node: NodeId,
    changes: Vec<Rotation>,
}

impl Succession {
    /// Changes of one node's key at the most.
    pub const CHANGES_MAX: usize = 16;
    /// Bytes at the most.
    pub const LEN_MAX: usize = Succession::CHANGES_MAX * Rotation::LEN;

    /// No change yet: `node` has the key that it is named after.
    pub fn none(node: NodeId) -> Succession {
        Succession { node, changes: Vec::new() }
    }

    /// Whose keys these are.
    pub fn node(&self) -> NodeId {
        self.node
    }

    /// How often the key was changed.
    pub fn len(&self) -> usize {
        self.changes.len()
    }

    /// Whether it never was.
    pub fn is_empty(&self) -> bool {
        self.changes.is_empty()
    }

    /// The present key; none if that is the one that the node is named after.
    pub fn present(&self) -> Option<Fingerprint> {
        self.changes.last().map(Rotation::new_key)
    }

    /// Whether `key` is the present one.
    pub fn is_at(&self, key: Fingerprint) -> bool {
        self.present().map_or(key.node() == self.node, |present| present == key)
    }

    /// The keys that were given up.
    pub fn given_up(&self) -> impl Iterator<Item = Fingerprint> + '_ {
        self.changes.iter().map(Rotation::old_key)
    }

    /// Whether these are all changes of `other`, and perhaps more.
    pub fn follows(&self, other: &Succession) -> bool {
        let keys = |of: &Succession| -> Vec<Fingerprint> {
            of.changes.iter().map(Rotation::new_key).collect()
        };
        self.node == other.node && keys(self).starts_with(&keys(other))
    }

    /// The changes as far as they lead to `key`; none if they do not.
    pub fn up_to(mut self, key: Fingerprint) -> Option<Succession> {
        while !self.is_at(key) {
            self.changes.pop()?;
        }
        Some(self)
    }

    /// One change more: from the present key to `new`.
    pub fn then(mut self, present: &LinkKey, new: &LinkKey) -> Result<Succession, LinkError> {
        let old = present.fingerprint();
        let refused = |reason| Err(LinkError::Rotation { old, reason });
        if !self.is_at(old) {
            return refused("it is not the present key of that node");
        }
        if self.changes.len() >= Succession::CHANGES_MAX {
            return refused("it was changed sixteen times: let a new node take its place");
        }
        self.changes.push(Rotation::sign(self.node, present, new));
        Ok(self)
    }

    /// As bytes.
    pub fn encode(&self) -> Vec<u8> {
        self.changes.iter().flat_map(Rotation::encode).collect()
    }

    /// The changes in `bytes`, one at least. All signatures are right, and each change follows from
    /// the one before it.
    pub fn decode(bytes: &[u8]) -> Result<Succession, LinkError> {
        let bad = |reason| LinkError::Text { what: "list of changes of a key", reason };
        if bytes.is_empty() || bytes.len() > Succession::LEN_MAX {
            return Err(bad("it has not one to sixteen of them"));
        }
        let mut changes: Vec<Rotation> = Vec::new();
        for bytes in bytes.chunks(Rotation::LEN) {
            let change = Rotation::decode(bytes)?;
            let (old, node) = (change.old_key(), change.node());
            let follows = match changes.last() {
                None => old.node() == node,
                Some(before) => before.node() == node && before.new_key() == old,
            };
            if !follows || changes.iter().any(|before| before.old_key() == change.new_key()) {
                return Err(LinkError::Rotation { old, reason: "it does not follow" });
            }
            changes.push(change);
        }
        let node = changes.first().map(Rotation::node).ok_or_else(|| bad("it is empty"))?;
        Ok(Succession { node, changes })
    }

    /// The node whose key the first of these changes says it is about.
    pub(crate) fn node_named_in(bytes: &[u8]) -> Option<NodeId> {
        let node = bytes.get(MAGIC.len()..)?.first_chunk()?;
        Some(NodeId(*node))
    }

    /// The changes that stand somewhere in `bytes`, such as a certificate.
    pub(crate) fn find_in(bytes: &[u8]) -> Option<&[u8]> {
        let at = bytes.windows(MAGIC.len()).position(|window| window == MAGIC)?;
        let rest = bytes.get(at..)?;
        let count = rest.chunks_exact(Rotation::LEN).take_while(|it| it.starts_with(&MAGIC));
        let count = count.take(Succession::CHANGES_MAX).count();
        rest.get(..count * Rotation::LEN).filter(|found| !found.is_empty())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn key(seed: u8) -> LinkKey {
        LinkKey::from_seed([seed; 32]).unwrap()
    }

    /// The changes of a node from key 1 to key 2, and so on.
    fn up_to(last: u8) -> Succession {
        let first = Succession::none(key(1).fingerprint().node());
        (1..last).fold(first, |all, seed| all.then(&key(seed), &key(seed + 1)).unwrap())
    }

    #[test]
    fn changes_come_back_and_lead_to_the_last_key() {
        let all = up_to(4);
        let decoded = Succession::decode(&all.encode()).unwrap();
        assert_eq!(decoded, all);
        assert!(decoded.is_at(key(4).fingerprint()) && !decoded.is_at(key(1).fingerprint()));
        assert_eq!(decoded.given_up().count(), 3);
        assert!(all.follows(&up_to(2)) && !up_to(2).follows(&all));
        assert_eq!(all.clone().up_to(key(2).fingerprint()), Some(up_to(2)));
        assert_eq!(all.clone().up_to(key(1).fingerprint()), Some(up_to(1)));
        assert_eq!(all.up_to(key(9).fingerprint()), None);
    }

    #[test]
    fn changes_that_do_not_begin_at_the_name_or_leave_a_gap_are_refused() {
        let bytes = up_to(4).encode();
        let code = |bytes: &[u8]| Succession::decode(bytes).unwrap_err().code();
        assert_eq!(code(&bytes[Rotation::LEN..]), "Rotation");
        let gap = [&bytes[..Rotation::LEN], &bytes[2 * Rotation::LEN..]].concat();
        assert_eq!(code(&gap), "Rotation");
        let back = Rotation::sign(key(1).fingerprint().node(), &key(4), &key(1));
        assert_eq!(code(&[&bytes[..], &back.encode()].concat()), "Rotation");
        assert_eq!(code(&[]), "BadText");
        assert_eq!(code(&bytes[..bytes.len() - 1]), "BadText");
    }

    #[test]
    fn a_key_is_changed_sixteen_times_at_the_most() {
        let last = 1 + Succession::CHANGES_MAX as u8;
        let full = up_to(last);
        assert_eq!(Succession::decode(&full.encode()).unwrap(), full);
        let error = full.then(&key(last), &key(last + 1)).unwrap_err();
        assert!(error.to_string().contains("sixteen times"), "{error}");
        assert!(up_to(2).then(&key(1), &key(3)).is_err(), "not the present key");
    }

    #[test]
    fn a_certificate_shows_the_changes_of_its_key() {
        let shown = key(3).succeeding(&up_to(3)).unwrap().certificate();
        assert_eq!(Succession::find_in(&shown), Some(&up_to(3).encode()[..]));
        assert_eq!(Succession::find_in(&key(3).certificate()), None);
    }

    proptest! {
        #[test]
        fn hostile_bytes_never_panic(noise: Vec<u8>, at: prop::sample::Index, cut: prop::sample::Index) {
            let mut bytes = up_to(3).encode();
            let at = at.index(bytes.len());
            bytes.splice(at..at, noise.iter().copied());
            bytes.truncate(cut.index(bytes.len() + 1));
            let _ = Succession::decode(&bytes);
            let _ = Succession::find_in(&bytes).map(Succession::decode);
        }
    }
}
