//! Whether peers have all that was written here up to a moment.

use super::Group;
use crate::store::Store;
use base::{NodeId, Origin, Tick};
use std::collections::BTreeMap;

/// What this node had written at a moment, and what of it each tracked peer had not confirmed then.
#[derive(Clone, Debug)]
pub struct Due {
    own: Origin,
    last: Tick,
    commits: u64,
    before: BTreeMap<NodeId, u64>,
}

/// What a peer has confirmed of what was due.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Settled {
    /// Commits that it has confirmed since.
    pub successful: u64,
    /// Commits that it still has not.
    pub failed: u64,
    /// Whether a session with it is up.
    pub is_connected: bool,
}

impl Group {
    /// What tracked peers have not confirmed of all that was written here up to now.
    pub fn due(&self, store: &dyn Store) -> Due {
        let own = store.origin();
        // In this order: no commit is due that is not counted.
        let last = store.applied(self.scope()).get(own);
        let commits = store.commits(self.scope());
        let mut due = Due { own, last, commits, before: BTreeMap::new() };
        due.before = self.lacking(&due).map(|(node, settled)| (node, settled.failed)).collect();
        due
    }

    /// What has become of `due`, by peer. Who is tracked no more is left out, and so is who has become so
    /// meanwhile. None if this node has begun another life: then what it had written is written anew.
    pub fn settled(&self, due: &Due, store: &dyn Store) -> Option<BTreeMap<NodeId, Settled>> {
        if store.origin() != due.own {
            return None;
        }
        let of = |(node, now): (NodeId, Settled)| {
            let before = *due.before.get(&node)?;
            // What is known of numbers may have become more exact.
            let failed = now.failed.min(before);
            Some((node, Settled { successful: before - failed, failed, ..now }))
        };
        Some(self.lacking(due).filter_map(of).collect())
    }

    fn lacking(&self, due: &Due) -> impl Iterator<Item = (NodeId, Settled)> + use<> {
        let state = self.state.lock();
        let others = state.roster.authors().filter(|author| *author != self.node);
        let lacks = |node| {
            let failed = state.owed.pending(node, due.last, due.commits);
            let is_connected = state.peers.get(&node).is_some_and(|peer| peer.status.is_connected);
            (node, Settled { successful: 0, failed, is_connected })
        };
        others.map(lacks).collect::<Vec<_>>().into_iter()
    }
}
