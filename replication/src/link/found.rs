//! Where peers may be besides the address that they are dialed at. Hints, which may be lies: what they
//! lead to counts for a peer and never against it.

use super::bell::Bell;
use base::NodeId;
use base::lock::{Mutex, Rank};
use std::collections::BTreeMap;
use std::net::SocketAddr;

/// The hints of all peers.
#[derive(Debug)]
pub(crate) struct Found {
    peers: Mutex<BTreeMap<NodeId, Vec<SocketAddr>>>,
    /// Rung when they change.
    pub(crate) changed: Bell,
}

impl Default for Found {
    fn default() -> Found {
        Found { peers: Mutex::new(Rank::Links, BTreeMap::new()), changed: Bell::default() }
    }
}

impl Found {
    /// Takes the place of all hints that there were.
    pub(crate) fn set(&self, all: BTreeMap<NodeId, Vec<SocketAddr>>) {
        let mut peers = self.peers.lock();
        if *peers != all {
            *peers = all;
            drop(peers);
            self.changed.ring();
        }
    }

    /// Where `peer` may be, besides `known`.
    pub(crate) fn of(&self, peer: NodeId, known: Option<SocketAddr>) -> Vec<SocketAddr> {
        let mut found = self.peers.lock().get(&peer).cloned().unwrap_or_default();
        found.retain(|address| Some(*address) != known);
        found
    }
}

/// Which hints about a peer were tried, the oldest attempt first.
#[derive(Debug, Default)]
pub(crate) struct Tried(Vec<SocketAddr>);

impl Tried {
    /// Whether one of `found` was never tried.
    pub(crate) fn is_news(&self, found: &[SocketAddr]) -> bool {
        found.iter().any(|address| !self.0.contains(address))
    }

    /// Which of `found` to try next: one that never was, or else the one whose turn is longest ago.
    pub(crate) fn next(&mut self, found: &[SocketAddr]) -> Option<SocketAddr> {
        self.0.retain(|address| found.contains(address));
        let fresh = found.iter().find(|address| !self.0.contains(address)).copied();
        let next = match fresh {
            Some(address) => address,
            None if self.0.is_empty() => return None,
            None => self.0.remove(0),
        };
        self.0.push(next);
        Some(next)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn address(port: u16) -> SocketAddr {
        SocketAddr::from(([10, 0, 0, 1], port))
    }

    #[test]
    fn hints_take_turns_and_new_ones_come_first() {
        let mut tried = Tried::default();
        assert_eq!(tried.next(&[]), None);
        let two = [address(1), address(2)];
        let turns: Vec<_> = (0..4).map(|_| tried.next(&two).unwrap().port()).collect();
        assert_eq!(turns, [1, 2, 1, 2]);
        assert!(!tried.is_news(&two));
        let three = [address(1), address(2), address(3)];
        assert!(tried.is_news(&three));
        let turns: Vec<_> = (0..4).map(|_| tried.next(&three).unwrap().port()).collect();
        assert_eq!(turns, [3, 1, 2, 3]);
        // What was silent for a while and is heard again is new.
        assert_eq!(tried.next(&[address(2)]), Some(address(2)));
        assert!(tried.is_news(&two));
    }

    #[test]
    fn the_address_that_is_dialed_anyway_is_no_hint() {
        let (found, peer) = (Found::default(), NodeId([1; 16]));
        found.set(BTreeMap::from([(peer, vec![address(1), address(2)])]));
        assert_eq!(found.of(peer, Some(address(1))), [address(2)]);
        assert_eq!(found.of(peer, None).len(), 2);
        assert!(found.of(NodeId([2; 16]), None).is_empty());
    }
}
