//! How a node and its peers are, in one answer.

use super::{PeerReport, Replica, Totals, Trouble};

/// How a node and its peers are.
#[derive(Clone, Debug)]
pub struct SyncStatus {
    /// Whether a link to any peer is up.
    pub is_online: bool,
    /// When something was last received from any peer or confirmed by it, in milliseconds since the
    /// Unix epoch; none if nothing ever was.
    pub last_sync_ms: Option<u64>,
    /// Commits of this node that the peer that is furthest behind has not confirmed.
    pub pending: u64,
    /// Each peer.
    pub peers: Vec<PeerReport>,
    /// What went wrong last, oldest first; at most 50.
    pub troubles: Vec<Trouble>,
    /// What was exchanged with all peers since the start.
    pub totals: Totals,
}

impl PeerReport {
    /// When something was last received from it or confirmed by it.
    pub fn last_sync_ms(&self) -> Option<u64> {
        let heard = Some(self.totals.heard_ms).filter(|at| *at > 0);
        heard.max(self.status.confirmed_at_ms)
    }
}

impl Replica {
    /// What was exchanged with all peers.
    pub fn totals(&self) -> Totals {
        self.shared.journal.totals()
    }

    /// What went wrong last, oldest first.
    pub fn troubles(&self) -> Vec<Trouble> {
        self.shared.journal.troubles()
    }

    /// How this node and its peers are now.
    pub fn sync_status(&self) -> SyncStatus {
        let peers = self.peers();
        SyncStatus {
            is_online: peers.iter().any(|peer| peer.status.is_connected),
            last_sync_ms: peers.iter().filter_map(PeerReport::last_sync_ms).max(),
            pending: peers.iter().map(|peer| peer.status.pending).max().unwrap_or(0),
            peers,
            troubles: self.troubles(),
            totals: self.totals(),
        }
    }
}
