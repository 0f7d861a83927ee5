//! Whether the clock of this node is right, as far as its peers can tell.
//!
//! A node that writes with a wrong clock hurts all: what it writes wins over everything that the others
//! write until their clocks are there, or loses to what is older. One peer that disagrees may be wrong
//! itself; if most do, this node is.

use super::{Group, State};

/// Peers whose clocks tell something about ours: of two nodes neither knows which one is wrong.
const PEERS_MIN: usize = 2;

impl State {
    /// By how much the clock of this node differs from those of most peers it talks with, at the least, if
    /// that is more than `max_drift_ms`.
    pub(super) fn clock_skew_ms(&self, max_drift_ms: u64) -> Option<u64> {
        let live = self.peers.values().filter(|peer| peer.live.is_some());
        let mut offsets: Vec<i64> = live.map(|peer| peer.status.clock_offset_ms).collect();
        if offsets.len() < PEERS_MIN {
            return None;
        }
        offsets.sort_unstable();
        // More than half of them are at the first one or above it, and at the second one or below it.
        let (lower, upper) =
            (offsets.get((offsets.len() - 1) / 2)?, offsets.get(offsets.len() / 2)?);
        let by_ms = (*lower).max(upper.saturating_neg());
        u64::try_from(by_ms).ok().filter(|by_ms| *by_ms > max_drift_ms)
    }
}

impl Group {
    /// By how much the clock of this node differs from those of most of its peers, and how much may be; none
    /// if that much may be.
    pub fn clock_skew_ms(&self) -> Option<(u64, u64)> {
        let by_ms = self.state.lock().clock_skew_ms(self.max_drift_ms)?;
        Some((by_ms, self.max_drift_ms))
    }
}

#[cfg(test)]
mod tests {
    use super::super::{GroupConfig, Writes};
    use super::*;
    use crate::memory::MemoryStore;
    use crate::roster::Role;
    use base::{Incarnation, NodeId, Origin, ScopeId};

    fn origin(of: u8) -> Origin {
        Origin { node: NodeId([of; 16]), incarnation: Incarnation(7) }
    }

    /// Node 1 of a group of five, which talks with peers whose clocks are ahead by so much.
    fn group(offsets: &[i64]) -> Group {
        let Origin { node, incarnation } = origin(1);
        let store = MemoryStore::new(node, incarnation, 1_700_000_000_000);
        let first = (1..=5).map(|of| origin(of).node).collect();
        let config = GroupConfig { scope: ScopeId::MAIN, role: Role::Author, first };
        let group = Group::open(config, &store).unwrap();
        group.settle();
        for (of, offset_ms) in (2..).zip(offsets) {
            group.enter(origin(of)).unwrap();
            group.note_peer(origin(of).node, |peer| peer.clock_offset_ms = *offset_ms);
        }
        group
    }

    #[test]
    fn who_differs_from_most_peers_takes_no_writes_until_they_agree() {
        for right in [
            &[][..],
            &[3_600_000],
            &[3_600_000, 0],
            &[3_600_000, -3_600_000],
            &[10_000, -10_000, 10_000],
            &[3_600_000, 3_600_000, 0, 9_000],
            &[i64::MAX, i64::MAX, i64::MIN, i64::MIN],
        ] {
            assert_eq!(group(right).writes(), Writes::Open, "{right:?}");
        }
        for (wrong, by_ms) in [
            (&[3_600_000, 3_600_000][..], 3_600_000),
            (&[-20_000, -10_001], 10_001),
            (&[0, 30_000, 40_000], 30_000),
            (&[0, i64::MIN, i64::MIN], i64::MAX as u64),
        ] {
            let group = group(wrong);
            assert_eq!(group.clock_skew_ms(), Some((by_ms, 10_000)), "{wrong:?}");
            assert_eq!(group.writes(), Writes::ClockSkew);
            (2..).zip(wrong).for_each(|(of, _)| group.leave(origin(of)));
            assert_eq!(group.writes(), Writes::Open, "nobody is there to tell");
        }
    }
}
