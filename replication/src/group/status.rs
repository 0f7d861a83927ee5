//! How far the peers are.

use super::Group;
use crate::health::{Health, PeerStatus};
use crate::store::Store;
use base::{NodeId, Vector};
use std::collections::BTreeMap;

impl Group {
    /// Notes what a session knows of its peer besides statements.
    pub fn note_peer(&self, peer: NodeId, note: impl FnOnce(&mut PeerStatus)) {
        if let Some(peer) = self.state.lock().peers.get_mut(&peer) {
            note(&mut peer.status);
        }
    }

    /// Notes that `peer` is being given state with all that `given` covers.
    pub(crate) fn note_given(&self, peer: NodeId, given: Vector) {
        if let Some(peer) = self.state.lock().peers.get_mut(&peer) {
            peer.given = Some(given);
        }
    }

    /// How often in a row `peer`, which has `has` now, was given state and did not take all of it.
    pub(crate) fn broken_off(&self, peer: NodeId, has: &Vector) -> u32 {
        let mut state = self.state.lock();
        let Some(peer) = state.peers.get_mut(&peer) else { return 0 };
        match peer.given.take() {
            Some(given) if has.covers_all(&given) => peer.broken_off = 0,
            Some(_) => peer.broken_off += 1,
            None => {}
        }
        peer.broken_off
    }

    /// From now on `peer` counts as one that took all that it was given.
    pub(crate) fn forgive_broken_off(&self, peer: NodeId) {
        if let Some(peer) = self.state.lock().peers.get_mut(&peer) {
            peer.broken_off = 0;
        }
    }

    /// Notes how many bytes are held for payloads of `peer` that are not whole yet.
    pub(crate) fn note_held(&self, peer: NodeId, held: usize) {
        self.note_peer(peer, |peer| peer.held_bytes_max = peer.held_bytes_max.max(held as u64));
    }

    /// Notes that a shipment of `peer` was left out because of its author; returns how many were.
    pub(crate) fn refuse_author(&self, peer: NodeId) -> u64 {
        let mut refused = 0;
        self.note_peer(peer, |peer| {
            peer.authors_refused = peer.authors_refused.saturating_add(1);
            refused = peer.authors_refused;
        });
        refused
    }

    /// The age of our oldest commit that `peer` has not confirmed.
    pub fn lag_ms(&self, peer: NodeId, store: &dyn Store) -> u64 {
        let (own, wall_ms) = (store.origin(), store.wall_ms());
        let state = self.state.lock();
        let confirmed = state.peers.get(&peer).map(|peer| peer.status.confirmed.get(own));
        state.marks.lag_ms(confirmed.unwrap_or_default(), wall_ms)
    }

    /// How far the peers are.
    pub fn health(&self, store: &dyn Store, lag_ms_max: u64) -> Health {
        let (own, wall_ms) = (store.origin(), store.wall_ms());
        let commits = store.commits(self.config.scope);
        let last = store.applied(self.config.scope).get(own);
        let mut state = self.state.lock();
        state.marks.note(last, commits);
        let mut peers: BTreeMap<NodeId, PeerStatus> =
            state.peers.iter().map(|(node, peer)| (*node, peer.status.clone())).collect();
        for author in state.roster.authors().filter(|author| *author != self.node) {
            peers.entry(author).or_default().is_tracked = true;
        }
        for (node, peer) in &mut peers {
            peer.lag_ms = state.marks.lag_ms(peer.confirmed.get(own), wall_ms);
            if peer.is_tracked || peer.is_connected {
                peer.pending = state.owed.pending(*node, last, commits);
            }
        }
        Health::of(peers, lag_ms_max)
    }
}
