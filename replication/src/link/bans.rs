//! Peers that broke a rule on purpose or by a fault, and until when they are not let in.
//!
//! Who dials gives such a peer up by itself; this is for those that dial. Only pinned keys get so far,
//! so there are no more entries than peers.

use super::conversation::Then;
use super::error::LinkError;
use base::NodeId;
use base::lock::{Mutex, Rank};
use std::collections::BTreeMap;
use std::time::Duration;

/// See the module.
#[derive(Debug)]
pub(crate) struct Bans {
    lasts: Duration,
    until: Mutex<BTreeMap<NodeId, Duration>>,
}

impl Bans {
    /// Nobody is banned. A ban lasts this long.
    pub(crate) fn new(lasts: Duration) -> Bans {
        Bans { lasts, until: Mutex::new(Rank::Links, BTreeMap::new()) }
    }

    /// Notes why a link to `peer` has ended.
    pub(crate) fn note(&self, peer: NodeId, error: &LinkError, now: Duration) {
        let breaks_rules = match error {
            LinkError::Conversation { by: super::Side::Us, then, .. } => *then == Then::Ban,
            LinkError::FrameLength { .. }
            | LinkError::UnknownChannel { .. }
            | LinkError::DoubledChannel { .. } => true,
            _ => false,
        };
        if breaks_rules {
            tracing::warn!(%peer, code = error.code(), %error, "the peer is not let in for {} s", self.lasts.as_secs());
            self.until.lock().insert(peer, now.saturating_add(self.lasts));
        }
    }

    /// How long `peer` is not let in yet.
    pub(crate) fn remaining(&self, peer: NodeId, now: Duration) -> Option<Duration> {
        let mut bans = self.until.lock();
        bans.retain(|_, until| *until > now);
        bans.get(&peer).map(|until| until.saturating_sub(now))
    }

    /// Lets `peer` in again.
    pub(crate) fn pardon(&self, peer: NodeId) {
        self.until.lock().remove(&peer);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::link::Side;

    const PEER: NodeId = NodeId([1; 16]);

    #[test]
    fn only_who_breaks_a_rule_is_banned_and_only_for_a_while() {
        let bans = Bans::new(Duration::from_secs(60));
        let parted =
            |by, then| LinkError::Conversation { by, code: 1, reason: String::new(), then };
        let honest = [
            parted(Side::Us, Then::Retry),
            parted(Side::Us, Then::Leave),
            parted(Side::Peer, Then::Ban),
            LinkError::Superseded,
            LinkError::Closed { by: Side::Peer },
            LinkError::FrameTruncated { wanted: 2, received: 1 },
        ];
        for error in honest {
            bans.note(PEER, &error, Duration::ZERO);
            assert_eq!(bans.remaining(PEER, Duration::ZERO), None, "{error}");
        }
        let rude = [
            parted(Side::Us, Then::Ban),
            LinkError::FrameLength { len: 0, max: 1 },
            LinkError::UnknownChannel { byte: 9 },
        ];
        for error in rude {
            bans.note(PEER, &error, Duration::from_secs(5));
            let remaining = bans.remaining(PEER, Duration::from_secs(6));
            assert_eq!(remaining, Some(Duration::from_secs(59)), "{error}");
            assert_eq!(bans.remaining(NodeId([2; 16]), Duration::from_secs(6)), None);
            assert_eq!(bans.remaining(PEER, Duration::from_secs(65)), None);
            bans.note(PEER, &error, Duration::from_secs(70));
            bans.pardon(PEER);
            assert_eq!(bans.remaining(PEER, Duration::from_secs(70)), None);
        }
    }
}
