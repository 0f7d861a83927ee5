//! The keys that may connect.
//!
//! Shared by everything that looks at a key: the handshakes, the guards of live connections, the
//! exchange that lets a new node join. A change is seen by all at once.

use super::bell::{Bell, Ear};
use super::error::LinkError;
use super::key::Fingerprint;
use super::rotation::Rotation;
use base::NodeId;
use base::lock::{Mutex, Rank};
use std::collections::{BTreeMap, BTreeSet};

/// Keys that are remembered as given up.
const RETIRED_MAX: usize = 4096;

/// What a key may do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Standing {
    /// It is the key of this node.
    Pinned(NodeId),
    /// Nobody knows it, and somebody may join.
    Guest,
    /// It may not connect.
    Refused,
}

/// Whether keys that nobody knows may ask to join.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Guests {
    /// An invitation is open.
    Welcome,
    /// None is.
    Unwanted,
}

/// The pinned keys and whose they are. A node keeps its name when its key changes.
#[derive(Debug)]
pub struct Pins {
    state: Mutex<State>,
    changed: Bell,
}

#[derive(Debug)]
struct State {
    nodes: BTreeMap<Fingerprint, NodeId>,
    /// Nodes whose first key may connect, known by their names only.
    named: BTreeSet<NodeId>,
    /// Keys that were given up: none of them comes back.
    retired: BTreeSet<Fingerprint>,
    guests: Guests,
}

impl State {
    fn node_of(&self, fingerprint: Fingerprint) -> Option<NodeId> {
        let named = || {
            let node = fingerprint.node();
            let is_open = self.named.contains(&node) && !self.retired.contains(&fingerprint);
            is_open.then_some(node)
        };
        self.nodes.get(&fingerprint).copied().or_else(named)
    }
}

impl Default for Pins {
    fn default() -> Pins {
        let (nodes, named, retired) = (BTreeMap::new(), BTreeSet::new(), BTreeSet::new());
        let state = State { nodes, named, retired, guests: Guests::Unwanted };
        Pins { state: Mutex::new(Rank::Links, state), changed: Bell::default() }
    }
}

impl Pins {
    /// Lets the key `fingerprint` of `node` connect.
    pub fn pin(&self, fingerprint: Fingerprint, node: NodeId) {
        self.state.lock().nodes.insert(fingerprint, node);
        self.changed.ring();
    }

    /// Lets exactly these nodes connect, besides pinned keys: each with the key that its name was
    /// derived from, unless it was exchanged. Live connections of others are closed at once.
    pub fn set_named(&self, nodes: impl Iterator<Item = NodeId>) {
        let nodes: BTreeSet<NodeId> = nodes.collect();
        let mut state = self.state.lock();
        let before = std::mem::replace(&mut state.named, nodes);
        let has_changed = before != state.named;
        drop(state);
        if has_changed {
            self.changed.ring();
        }
    }

    /// Takes that right away. Live connections of the key are closed at once.
    pub fn revoke(&self, fingerprint: Fingerprint) {
        self.state.lock().nodes.remove(&fingerprint);
        self.changed.ring();
    }

    /// Exchanges a node's key for the one that the old key names. Live connections of the old key
    /// are closed; the new one may connect at once. The old one never can again, so an old record
    /// that somebody kept moves nothing.
    pub fn rotate(&self, rotation: &Rotation) -> Result<(), LinkError> {
        let (old, new, node) = (rotation.old_key(), rotation.new_key(), rotation.node());
        let refused = |reason| Err(LinkError::Rotation { old, reason });
        let mut state = self.state.lock();
        if state.node_of(old) != Some(node) {
            return refused("it is not the pinned key of that node");
        }
        if state.retired.contains(&new) || state.nodes.contains_key(&new) {
            return refused("the new key was used before");
        }
        if state.retired.len() >= RETIRED_MAX {
            return refused("too many keys were exchanged");
        }
        state.nodes.remove(&old);
        state.nodes.insert(new, node);
        state.retired.insert(old);
        drop(state);
        self.changed.ring();
        Ok(())
    }

    pub(crate) fn set_guests(&self, guests: Guests) {
        self.state.lock().guests = guests;
    }

    /// Whose key this is, if it is pinned.
    pub fn node_of(&self, fingerprint: Fingerprint) -> Option<NodeId> {
        self.state.lock().node_of(fingerprint)
    }

    /// All that are pinned.
    pub fn all(&self) -> Vec<(Fingerprint, NodeId)> {
        self.state.lock().nodes.iter().map(|(key, node)| (*key, *node)).collect()
    }

    pub(crate) fn standing(&self, fingerprint: Fingerprint) -> Standing {
        let state = self.state.lock();
        match (state.node_of(fingerprint), state.guests) {
            (Some(node), _) => Standing::Pinned(node),
            (None, Guests::Welcome) => Standing::Guest,
            (None, Guests::Unwanted) => Standing::Refused,
        }
    }

    /// Rung at every change.
    pub(crate) fn listen(&self) -> Ear {
        self.changed.listen()
    }
}

#[cfg(test)]
mod tests {
    use super::super::key::LinkKey;
    use super::*;

    fn key(seed: u8) -> LinkKey {
        LinkKey::from_seed([seed; 32]).unwrap()
    }

    #[test]
    fn a_change_of_keys_moves_the_pin_and_cannot_be_repeated_or_undone() {
        let (pins, node) = (Pins::default(), key(1).fingerprint().node());
        pins.pin(key(1).fingerprint(), node);
        let (there, back) =
            (Rotation::sign(node, &key(1), &key(2)), Rotation::sign(node, &key(2), &key(1)));

        pins.rotate(&there).unwrap();

        assert_eq!(pins.all(), [(key(2).fingerprint(), node)]);
        assert_eq!(pins.rotate(&there).unwrap_err().code(), "Rotation");
        assert_eq!(pins.rotate(&back).unwrap_err().code(), "Rotation");
        pins.rotate(&Rotation::sign(node, &key(2), &key(3))).unwrap();
        assert_eq!(pins.node_of(key(3).fingerprint()), Some(node), "the name stays");
    }

    #[test]
    fn a_named_node_may_come_with_the_key_of_its_name_until_it_is_exchanged() {
        let (pins, node) = (Pins::default(), key(1).fingerprint().node());
        pins.set_named([node].into_iter());
        assert_eq!(pins.node_of(key(1).fingerprint()), Some(node));
        assert_eq!(pins.node_of(key(2).fingerprint()), None);
        pins.rotate(&Rotation::sign(node, &key(1), &key(2))).unwrap();
        assert_eq!(pins.node_of(key(1).fingerprint()), None);
        assert_eq!(pins.node_of(key(2).fingerprint()), Some(node));
        pins.set_named(std::iter::empty());
        assert_eq!(pins.node_of(key(2).fingerprint()), Some(node));
    }

    #[test]
    fn a_node_can_change_only_its_own_key() {
        let (pins, node) = (Pins::default(), key(1).fingerprint().node());
        pins.pin(key(1).fingerprint(), node);
        pins.pin(key(2).fingerprint(), key(2).fingerprint().node());
        for wrong in [
            Rotation::sign(node, &key(2), &key(3)),
            Rotation::sign(node, &key(4), &key(3)),
            Rotation::sign(node, &key(1), &key(2)),
        ] {
            assert_eq!(pins.rotate(&wrong).unwrap_err().code(), "Rotation");
        }
        assert_eq!(pins.all().len(), 2);
    }
}
