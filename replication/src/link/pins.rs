//! The keys that may connect.
//!
//! Shared by everything that looks at a key: the handshakes, the guards of live connections, the
//! exchange that lets a new node join. A change is seen by all at once.

use super::bell::{Bell, Ear};
use super::key::Fingerprint;
use base::NodeId;
use base::lock::{Mutex, Rank};
use std::collections::BTreeMap;

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
    #[allow(dead_code, reason = "set by the exchange that lets nodes join")]
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
    guests: Guests,
}

impl Default for Pins {
    fn default() -> Pins {
        let state = State { nodes: BTreeMap::new(), guests: Guests::Unwanted };
        Pins { state: Mutex::new(Rank::Links, state), changed: Bell::default() }
    }
}

impl Pins {
    /// Lets the key `fingerprint` of `node` connect.
    pub fn pin(&self, fingerprint: Fingerprint, node: NodeId) {
        self.state.lock().nodes.insert(fingerprint, node);
        self.changed.ring();
    }

    /// Takes that right away. Live connections of the key are closed at once.
    pub fn revoke(&self, fingerprint: Fingerprint) {
        self.state.lock().nodes.remove(&fingerprint);
        self.changed.ring();
    }

    /// Whose key this is, if it is pinned.
    pub fn node_of(&self, fingerprint: Fingerprint) -> Option<NodeId> {
        self.state.lock().nodes.get(&fingerprint).copied()
    }

    /// All that are pinned.
    pub fn all(&self) -> Vec<(Fingerprint, NodeId)> {
        self.state.lock().nodes.iter().map(|(key, node)| (*key, *node)).collect()
    }

    pub(crate) fn standing(&self, fingerprint: Fingerprint) -> Standing {
        let state = self.state.lock();
        match (state.nodes.get(&fingerprint), state.guests) {
            (Some(node), _) => Standing::Pinned(*node),
            (None, Guests::Welcome) => Standing::Guest,
            (None, Guests::Unwanted) => Standing::Refused,
        }
    }

    /// Rung at every change.
    pub(crate) fn listen(&self) -> Ear {
        self.changed.listen()
    }
}
