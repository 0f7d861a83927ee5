//! How far the peers are: plain numbers, for a node to show.

use base::{NodeId, Tick, Vector};
use std::collections::{BTreeMap, VecDeque};

/// Moments of own commits that are remembered.
const MARKS_MAX: usize = 256;
/// Commits closer together than this share a moment.
const MARK_EVERY_MS: u64 = 50;

/// What an audit has found: a comparison of all that two nodes hold.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct AuditReport {
    /// When it ended, by our wall clock.
    pub at_ms: u64,
    /// Elements compared here.
    pub elements: u64,
    /// Those of ours that the other lacked, or had in another version.
    pub differences: u64,
    /// Entries that were lost here, and are back.
    pub taken: u64,
    /// Entries that were lost there, and are back.
    pub given: u64,
    /// Entries that the other may have deleted: they were erased here, with copies in quarantine.
    pub disowned: u64,
    /// The same there.
    pub disowned_there: u64,
    /// Entries that the other may have deleted, but may not say so: it only reads. They stay.
    pub unsettled: u64,
    /// Differences that may be no more than lag: the next audit tells.
    pub lag: u64,
    /// Half-rounds of the comparison.
    pub half_rounds: u32,
    /// Bytes of the comparison.
    pub bytes: u64,
}

impl AuditReport {
    /// Differences that lag does not explain: something went wrong earlier.
    pub fn diverged(&self) -> u64 {
        // Two of them are what the other says.
        let all = [self.taken, self.given, self.disowned, self.disowned_there, self.unsettled];
        all.into_iter().fold(0, u64::saturating_add)
    }
}

/// What is known about one peer.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PeerStatus {
    /// Whether a session is up.
    pub is_connected: bool,
    /// Whether it is an author, which the floor waits for.
    pub is_tracked: bool,
    /// What it said last that it has, durably.
    pub confirmed: Vector,
    /// When it said so, by our wall clock; none if it never did.
    pub confirmed_at_ms: Option<u64>,
    /// What it was told last that is here, durably.
    pub told: Vector,
    /// Age of our oldest commit that it has not confirmed; 0 if there is none.
    pub lag_ms: u64,
    /// Our commits that it has not confirmed; after a crash perhaps a few more.
    pub pending: u64,
    /// Shipments that were sent to it and are not confirmed.
    pub under_way: u64,
    /// Their bytes.
    pub under_way_bytes: u64,
    /// Bytes in memory of payloads of it that were not whole yet: the most there were since the start.
    pub held_bytes_max: u64,
    /// By how much its clock is ahead of ours.
    pub clock_offset_ms: i64,
    /// Why nothing is taken from it now, if so.
    pub is_parked: bool,
    /// Shipments of it that were left out, because nothing is known of their author and there are as many as
    /// there may be.
    pub authors_refused: u64,
    /// What it said of others that can not be, or not yet: it counts for nothing, or not before its time.
    pub statements_refused: u64,
    /// The last audit with it.
    pub audit: Option<AuditReport>,
    /// Divergent entries that all audits with it have found.
    pub diverged: u64,
}

/// How far all peers are. The names are those of the health endpoint.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Health {
    /// Peers that the floor waits for.
    pub tracked_peer_count: usize,
    /// Those of them that never confirmed anything.
    pub peers_with_no_confirmation: Vec<NodeId>,
    /// The greatest lag of a tracked peer.
    pub max_lag_ms: u64,
    /// Tracked peers whose lag exceeds the threshold that was given.
    pub lagging_peers: Vec<NodeId>,
    /// When each peer last confirmed something.
    pub last_successful_confirmation_update_by_peer: BTreeMap<NodeId, u64>,
    /// All that is known of each peer.
    pub peers: BTreeMap<NodeId, PeerStatus>,
}

impl Health {
    /// The summary of `peers`; those who lag more than `lag_ms_max` are named.
    pub fn of(peers: BTreeMap<NodeId, PeerStatus>, lag_ms_max: u64) -> Health {
        let mut health = Health::default();
        for (node, peer) in &peers {
            if let Some(at) = peer.confirmed_at_ms {
                health.last_successful_confirmation_update_by_peer.insert(*node, at);
            }
            if !peer.is_tracked {
                continue;
            }
            health.tracked_peer_count += 1;
            health.max_lag_ms = health.max_lag_ms.max(peer.lag_ms);
            if peer.confirmed_at_ms.is_none() {
                health.peers_with_no_confirmation.push(*node);
            }
            if peer.lag_ms > lag_ms_max {
                health.lagging_peers.push(*node);
            }
        }
        health.peers = peers;
        health
    }
}

/// When own commits were made, coarser the longer a peer lacks them: enough to tell the age of the
/// oldest one that a peer lacks, within a hundredth.
#[derive(Clone, Debug)]
pub(crate) struct Marks {
    /// With how many commits there were at the time.
    marks: VecDeque<(Tick, u64)>,
    every_ms: u64,
    last: Tick,
}

impl Default for Marks {
    fn default() -> Marks {
        Marks { marks: VecDeque::new(), every_ms: MARK_EVERY_MS, last: Tick::ZERO }
    }
}

impl Marks {
    /// The newest own commit is at `last`, and so many there were before it at least.
    pub(crate) fn note(&mut self, last: Tick, number: u64) {
        if last <= self.last {
            return;
        }
        self.last = last;
        if self.marks.back().is_some_and(|(mark, _)| last.ms() < mark.ms() + self.every_ms) {
            return;
        }
        self.marks.push_back((last, number));
        if self.marks.len() > MARKS_MAX {
            self.every_ms = self.every_ms.saturating_mul(2);
            let mut keep = false;
            self.marks.retain(|_| {
                keep = !keep;
                keep
            });
        }
    }

    /// All peers have everything up to `confirmed`.
    pub(crate) fn forget(&mut self, confirmed: Tick) {
        while self.marks.front().is_some_and(|(mark, _)| *mark <= confirmed) {
            self.marks.pop_front();
        }
        if self.marks.is_empty() {
            self.every_ms = MARK_EVERY_MS;
        }
    }

    /// How many commits there were at least up to `tick`, if that is remembered.
    pub(crate) fn number_at(&self, tick: Tick) -> Option<u64> {
        let before = |(mark, _): &&(Tick, u64)| *mark <= tick;
        self.marks.iter().take_while(before).last().map(|(_, number)| *number)
    }

    /// The age of the oldest own commit after `confirmed`.
    pub(crate) fn lag_ms(&self, confirmed: Tick, wall_ms: u64) -> u64 {
        if confirmed >= self.last {
            return 0;
        }
        let marks = self.marks.iter().map(|(mark, _)| mark);
        let oldest = marks.into_iter().find(|mark| **mark > confirmed).unwrap_or(&self.last);
        wall_ms.saturating_sub(oldest.ms())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_idle_pair_has_no_lag_and_a_first_write_starts_at_zero() {
        let mut marks = Marks::default();
        marks.note(Tick::from_ms(1_000), 1);
        assert_eq!(marks.lag_ms(Tick::from_ms(1_000), 9_000_000), 0);
        marks.note(Tick::from_ms(9_000_000), 2);
        assert_eq!(marks.lag_ms(Tick::from_ms(1_000), 9_000_010), 10);
        assert_eq!(marks.lag_ms(Tick::from_ms(1_000), 9_000_500), 500);
    }

    #[test]
    fn lag_is_that_of_the_oldest_commit_and_memory_is_bounded() {
        let mut marks = Marks::default();
        (1..100_000).for_each(|at| marks.note(Tick::from_ms(at * 40), at));
        assert!(marks.marks.len() <= MARKS_MAX);
        let wall_ms = 100_000 * 40;
        let lag = marks.lag_ms(Tick::from_ms(40), wall_ms);
        assert!(lag > wall_ms * 98 / 100 && lag <= wall_ms, "{lag}");
        marks.forget(Tick::from_ms(wall_ms - 40));
        assert_eq!(marks.every_ms, MARK_EVERY_MS);
    }

    #[test]
    fn only_tracked_peers_count_for_health() {
        let observer = PeerStatus { lag_ms: 90_000, ..PeerStatus::default() };
        let author = PeerStatus { is_tracked: true, lag_ms: 40_000, ..PeerStatus::default() };
        let peers = BTreeMap::from([(NodeId([1; 16]), observer), (NodeId([2; 16]), author)]);
        let health = Health::of(peers, 30_000);
        assert_eq!((health.tracked_peer_count, health.max_lag_ms), (1, 40_000));
        assert_eq!(health.lagging_peers, [NodeId([2; 16])]);
        assert_eq!(health.peers_with_no_confirmation, [NodeId([2; 16])]);
    }
}
