//! How often a peer is given state: each time costs this node a moment of its own, with a sync, and tables a
//! flush besides, for which users' writes wait.

use super::Group;
use crate::protocol::message::Wish;
use base::NodeId;
use std::collections::BTreeMap;
use std::time::Duration;

/// How long a peer that got state gets none of the same kind again: as long as one rests that is put off.
const GIVE_EVERY: Duration = Duration::from_secs(1);

/// Who got what of late. What sessions know of it themselves ends with them; a peer may connect again.
#[derive(Debug, Default)]
pub(super) struct Pace {
    given: BTreeMap<(NodeId, u8), Duration>,
}

impl Pace {
    fn has_rested(&mut self, peer: NodeId, wish: Wish, now: Duration) -> bool {
        self.given.retain(|_, at| now < *at + GIVE_EVERY);
        !self.given.contains_key(&(peer, wish as u8))
    }
}

impl Group {
    /// Whether `peer` may get what it wishes `now`; then it counts as given.
    pub(crate) fn may_give(&self, peer: NodeId, wish: Wish, now: Duration) -> bool {
        let pace = &mut self.state.lock().pace;
        let is_due = pace.has_rested(peer, wish, now);
        if is_due {
            pace.given.insert((peer, wish as u8), now);
        }
        is_due
    }

    /// Whether `peer` would get what it wishes `now`.
    pub(crate) fn has_rested(&self, peer: NodeId, wish: Wish, now: Duration) -> bool {
        self.state.lock().pace.has_rested(peer, wish, now)
    }
}
