//! The keys that may connect.
//!
//! Shared by everything that looks at a key: the handshakes, the guards of live connections, the
//! exchange that lets a new node join. A change is seen by all at once.

use super::bell::{Bell, Ear};
use super::error::LinkError;
use super::key::Fingerprint;
use super::succession::Succession;
use crate::roster::MEMBERS_MAX;
use base::NodeId;
use base::lock::{Mutex, Rank};
use std::collections::{BTreeMap, BTreeSet};

/// What a key may do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Standing {
    /// It is the key of this node.
    Pinned(NodeId),
    /// Nobody knows it, and somebody may join.
    Guest,
    /// It is that of a node that was retired: it is told so, and nothing else.
    Retired,
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
    /// Nodes that are told that they may not.
    retired: BTreeSet<NodeId>,
    /// How the keys of nodes have changed: none of those that were given up comes back.
    successions: BTreeMap<NodeId, Succession>,
    guests: Guests,
}

impl State {
    fn node_of(&self, fingerprint: Fingerprint) -> Option<NodeId> {
        let named = || self.named_in(&self.named, fingerprint);
        self.nodes.get(&fingerprint).copied().or_else(named)
    }

    fn is_given_up(&self, fingerprint: Fingerprint) -> bool {
        self.successions.values().any(|it| it.given_up().any(|old| old == fingerprint))
    }

    /// Which of `nodes` has this key now.
    fn named_in(&self, nodes: &BTreeSet<NodeId>, fingerprint: Fingerprint) -> Option<NodeId> {
        let changed = self.successions.values().find(|changes| changes.is_at(fingerprint));
        let node = changed.map_or(fingerprint.node(), Succession::node);
        let is_given_up = changed.is_none() && self.successions.contains_key(&node);
        (nodes.contains(&node) && !is_given_up).then_some(node)
    }
}

impl Default for Pins {
    fn default() -> Pins {
        let (nodes, named, successions) = (BTreeMap::new(), BTreeSet::new(), BTreeMap::new());
        let (retired, guests) = (BTreeSet::new(), Guests::Unwanted);
        let state = State { nodes, named, retired, successions, guests };
        Pins { state: Mutex::new(Rank::Links, state), changed: Bell::default() }
    }
}

impl Pins {
    /// Lets the key `fingerprint` of `node` connect, unless it was given up.
    pub fn pin(&self, fingerprint: Fingerprint, node: NodeId) {
        let mut state = self.state.lock();
        if state.is_given_up(fingerprint) {
            return;
        }
        state.nodes.insert(fingerprint, node);
        drop(state);
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

    /// Tells exactly these nodes, when they connect, that they were retired.
    pub fn set_retired(&self, nodes: impl Iterator<Item = NodeId>) {
        self.state.lock().retired = nodes.collect();
    }

    /// Takes that right away. Live connections of the key are closed at once.
    pub fn revoke(&self, fingerprint: Fingerprint) {
        self.state.lock().nodes.remove(&fingerprint);
        self.changed.ring();
    }

    /// Takes over the changes of a node's key. Live connections of its former keys are closed; the
    /// last one may connect at once. A former one never can again, so an old record that somebody
    /// kept moves nothing.
    pub fn follow(&self, changes: &Succession) -> Result<(), LinkError> {
        let mut state = self.state.lock();
        match state.successions.get(&changes.node()) {
            Some(known) if known.follows(changes) => return Ok(()),
            Some(known) if !changes.follows(known) => {
                let old = known.present().unwrap_or_default();
                let reason = "other changes of the key of that node are known";
                return Err(LinkError::Rotation { old, reason });
            }
            None if changes.is_empty() => return Ok(()),
            None if state.successions.len() >= MEMBERS_MAX => {
                let old = changes.given_up().next().unwrap_or_default();
                let reason = "the keys of too many nodes were changed";
                return Err(LinkError::Rotation { old, reason });
            }
            Some(_) | None => {}
        }
        let (node, mut was_pinned) = (changes.node(), false);
        for old in changes.given_up() {
            was_pinned |= state.nodes.remove(&old).is_some();
        }
        if let Some(present) = changes.present().filter(|_| was_pinned) {
            state.nodes.insert(present, node);
        }
        state.successions.insert(node, changes.clone());
        drop(state);
        self.changed.ring();
        Ok(())
    }

    /// Hears what a certificate says about `key`, if that may belong to a node that may connect.
    /// What is signed by the keys before it needs no proof that the peer holds it.
    pub(crate) fn hear(&self, key: Fingerprint, certificate: &[u8]) {
        if self.node_of(key).is_some() {
            return;
        }
        let Some(bytes) = Succession::find_in(certificate) else { return };
        // Signatures are expensive: not for whoever comes.
        if !Succession::node_named_in(bytes).is_some_and(|node| self.may_connect(node)) {
            return;
        }
        let followed = Succession::decode(bytes)
            .and_then(|changes| if changes.is_at(key) { self.follow(&changes) } else { Ok(()) });
        if let Err(error) = followed {
            tracing::warn!(%key, code = error.code(), %error, "a peer shows changes of its key that are not believed");
        }
    }

    fn may_connect(&self, node: NodeId) -> bool {
        let state = self.state.lock();
        state.named.contains(&node) || state.nodes.values().any(|of| *of == node)
    }

    /// All changes of keys that are known, by node.
    pub fn successions(&self) -> Vec<Succession> {
        self.state.lock().successions.values().cloned().collect()
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
            (None, _) if state.is_given_up(fingerprint) => Standing::Refused,
            (None, Guests::Welcome) => Standing::Guest,
            (None, Guests::Unwanted) if state.named_in(&state.retired, fingerprint).is_some() => {
                Standing::Retired
            }
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

    /// The changes of the node of key 1 to the keys that follow.
    fn changes(keys: &[u8]) -> Succession {
        let mut all = Succession::none(key(1).fingerprint().node());
        let mut present = key(1);
        for seed in keys {
            all = all.then(&present, &key(*seed)).unwrap();
            present = key(*seed);
        }
        all
    }

    #[test]
    fn a_change_of_keys_moves_the_pin_and_cannot_be_undone() {
        let (pins, node) = (Pins::default(), key(1).fingerprint().node());
        pins.pin(key(1).fingerprint(), node);

        pins.follow(&changes(&[2])).unwrap();

        assert_eq!(pins.all(), [(key(2).fingerprint(), node)]);
        assert_eq!(pins.follow(&changes(&[3])).unwrap_err().code(), "Rotation");
        pins.follow(&changes(&[2, 3])).unwrap();
        pins.follow(&changes(&[2])).unwrap();
        assert_eq!(pins.node_of(key(3).fingerprint()), Some(node), "the name stays");
        assert_eq!(pins.node_of(key(2).fingerprint()), None);
        assert_eq!(pins.successions(), [changes(&[2, 3])]);
        // Whoever has the key that was given up may have a token too.
        pins.set_guests(Guests::Welcome);
        assert_eq!(pins.standing(key(1).fingerprint()), Standing::Refused);
        assert_eq!(pins.standing(key(9).fingerprint()), Standing::Guest);
        pins.pin(key(1).fingerprint(), node);
        assert_eq!(pins.node_of(key(1).fingerprint()), None);
    }

    #[test]
    fn a_named_node_may_come_with_the_key_of_its_name_until_it_is_exchanged() {
        let (pins, node) = (Pins::default(), key(1).fingerprint().node());
        pins.set_named([node].into_iter());
        assert_eq!(pins.node_of(key(1).fingerprint()), Some(node));
        assert_eq!(pins.node_of(key(2).fingerprint()), None);
        pins.follow(&changes(&[2])).unwrap();
        assert_eq!(pins.node_of(key(1).fingerprint()), None);
        assert_eq!(pins.node_of(key(2).fingerprint()), Some(node));
        pins.set_named(std::iter::empty());
        assert_eq!(pins.node_of(key(2).fingerprint()), None, "it is no peer any more");
    }

    #[test]
    fn changes_that_a_peer_shows_are_heard_only_of_nodes_that_may_connect() {
        let (pins, node) = (Pins::default(), key(1).fingerprint().node());
        let shown = key(3).succeeding(&changes(&[2, 3])).unwrap();
        pins.hear(shown.fingerprint(), &shown.certificate());
        assert!(pins.successions().is_empty());
        pins.set_named([node].into_iter());
        pins.hear(key(4).fingerprint(), &shown.certificate());
        assert!(pins.successions().is_empty(), "they lead to another key");
        pins.hear(shown.fingerprint(), &shown.certificate());
        assert_eq!(pins.node_of(shown.fingerprint()), Some(node));
        assert_eq!(pins.node_of(key(1).fingerprint()), None);
    }
}
