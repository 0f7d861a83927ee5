//! Waiting until peers have confirmed what was written here, and what came of it.
//!
//! The log is the queue of what peers that are away will get: nothing has to be sent again, and nothing is
//! lost by giving up. So a flush syncs, dials whoever has no link without waiting for its next turn, and looks.

use super::{Replica, Trouble};
use crate::group::{Due, Settled};
use base::NodeId;
use std::time::Duration;

/// Between two looks.
const LOOK_EVERY: Duration = Duration::from_millis(10);

/// A flush that has begun.
#[derive(Clone, Debug)]
pub struct Flush {
    due: Due,
    began_ms: u64,
}

/// What came of a flush.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Flushed {
    /// Commits that waited when it began, and that every tracked peer has confirmed since.
    pub successful: u64,
    /// Those that some tracked peer has still not confirmed. It gets them when it comes.
    pub failed: u64,
    /// The same of each tracked peer.
    pub peers: Vec<PeerFlushed>,
}

/// What came of a flush to one peer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PeerFlushed {
    /// The peer.
    pub node: NodeId,
    /// What it has confirmed, and what not.
    pub settled: Settled,
    /// What went wrong with it last since the flush began.
    pub trouble: Option<Trouble>,
}

impl Flushed {
    /// Whether nothing waits any more.
    pub fn is_done(&self) -> bool {
        self.failed == 0
    }
}

impl Replica {
    /// Begins to bring what was written here up to now to all tracked peers. Called inside a tokio runtime.
    pub fn begin_flush(&self) -> Flush {
        let shared = &self.shared;
        shared.store.request_sync();
        shared.driving.ring();
        let dialed = shared.dialed.lock().clone();
        dialed.into_iter().for_each(|(node, address)| self.mesh.hurry(node, address));
        Flush { due: shared.group.due(&*shared.store), began_ms: shared.store.wall_ms() }
    }

    /// What has become of `flush` by now. A node that lives anew has to bring all it has once more.
    pub fn flushed(&self, flush: &mut Flush) -> Flushed {
        let (group, store) = (&self.shared.group, &*self.shared.store);
        let settled = group.settled(&flush.due, store).unwrap_or_else(|| {
            flush.due = group.due(store);
            group.settled(&flush.due, store).unwrap_or_default()
        });
        let waited = settled.values().map(|peer| peer.successful + peer.failed).max().unwrap_or(0);
        let failed = settled.values().map(|peer| peer.failed).max().unwrap_or(0);
        let report = |(node, settled)| {
            let trouble = self.shared.journal.trouble_of(node);
            let trouble = trouble.filter(|trouble| trouble.at_ms >= flush.began_ms);
            PeerFlushed { node, settled, trouble }
        };
        let peers = settled.into_iter().map(report).collect();
        Flushed { successful: waited - failed, failed, peers }
    }

    /// Brings what was written here up to now to all tracked peers, and waits for their confirms, for
    /// `patience` at the most.
    pub async fn flush_pending(&self, patience: Duration) -> Flushed {
        let mut flush = self.begin_flush();
        let until_done = async {
            while !self.flushed(&mut flush).is_done() {
                tokio::time::sleep(LOOK_EVERY).await;
            }
        };
        // What came of it is told in any case.
        let _ = tokio::time::timeout(patience, until_done).await;
        self.flushed(&mut flush)
    }
}
