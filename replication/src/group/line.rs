//! Peers that this node gets in line with, however often a link to them breaks meanwhile.

use super::Group;
use base::NodeId;

impl Group {
    /// What `peer` has is late here, and this node may not answer it: it gets in line with that peer, in
    /// this session or another.
    pub(crate) fn owe_line(&self, peer: NodeId) {
        if let Some(peer) = self.state.lock().peers.get_mut(&peer) {
            peer.owes_line = true;
        }
    }

    /// Whether this node still has to get in line with `peer`.
    pub fn owes_line(&self, peer: NodeId) -> bool {
        self.state.lock().peers.get(&peer).is_some_and(|peer| peer.owes_line)
    }

    /// The state of `peer` was installed here.
    pub(crate) fn is_in_line(&self, peer: NodeId) {
        if let Some(peer) = self.state.lock().peers.get_mut(&peer) {
            peer.owes_line = false;
        }
    }
}
