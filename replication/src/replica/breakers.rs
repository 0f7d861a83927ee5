//! Which peers are left alone because they can not be reached.

use super::Replica;
use crate::link::{BreakerSettings, BreakerState, DialCounts};
use base::NodeId;
use std::collections::BTreeMap;

impl Replica {
    /// Leaves peers alone that can not be reached as `settings` say from now on.
    pub fn configure_breakers(&self, settings: BreakerSettings) {
        self.mesh.configure_breakers(settings);
    }

    /// Whether each peer that was dialed is left alone, and how attempts to reach it have ended.
    pub fn breakers(&self) -> BTreeMap<NodeId, (BreakerState, DialCounts)> {
        self.mesh.breakers()
    }

    /// Does not leave `node` alone any more, and dials it now if it is dialed at all. Returns false if it never
    /// was. Called inside a tokio runtime.
    pub fn reset_breaker(&self, node: NodeId) -> bool {
        let address = self.shared.dialed.lock().get(&node).copied();
        let was_dialed = self.mesh.reset_breaker(node);
        if let Some(address) = address {
            self.mesh.hurry(node, address);
        }
        was_dialed
    }
}
