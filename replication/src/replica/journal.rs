//! What happened between a node and its peers, as far as it is remembered.

use base::NodeId;
use base::lock::{Mutex, Rank};
use std::collections::{BTreeMap, VecDeque};
use std::fmt::Display;

/// Troubles that are remembered.
const TROUBLES_MAX: usize = 50;

/// Something that went wrong.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Trouble {
    /// When, in milliseconds since the Unix epoch.
    pub at_ms: u64,
    /// With whom, if that is known.
    pub node: Option<NodeId>,
    /// The stable name of the error.
    pub code: &'static str,
    /// What happened.
    pub message: String,
}

/// What was exchanged since the start.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Totals {
    /// Frames sent.
    pub frames_sent: u64,
    /// Frames received.
    pub frames_received: u64,
    /// Bytes of them.
    pub bytes_sent: u64,
    /// Bytes that packing has kept off the wire.
    pub bytes_saved: u64,
    /// Bytes of them.
    pub bytes_received: u64,
    /// Sessions that came up.
    pub sessions: u64,
    /// Deltas that were taken: the log did not reach back far enough.
    pub deltas: u64,
    /// Whole states that were taken: it was away for longer than deletes are kept.
    pub rejoins: u64,
    /// Bootstraps by tables.
    pub bootstraps: u64,
    /// Links that failed.
    pub failures: u64,
    /// When a frame last came, in milliseconds since the Unix epoch; 0 if none did.
    pub heard_ms: u64,
}

/// See the module.
#[derive(Debug)]
pub(super) struct Journal {
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    totals: BTreeMap<NodeId, Totals>,
    troubles: VecDeque<Trouble>,
}

impl Default for Journal {
    fn default() -> Journal {
        Journal { state: Mutex::new(Rank::Stats, State::default()) }
    }
}

impl Journal {
    /// Changes the totals of `peer`.
    pub(super) fn count(&self, peer: NodeId, count: impl FnOnce(&mut Totals)) {
        count(self.state.lock().totals.entry(peer).or_default());
    }

    /// Notes that a link to `peer` has failed.
    pub(super) fn note_failure(
        &self,
        peer: NodeId,
        at_ms: u64,
        code: &'static str,
        error: &dyn Display,
    ) {
        self.count(peer, |totals| totals.failures += 1);
        self.note_trouble(Some(peer), at_ms, code, error);
    }

    /// Notes something that went wrong, perhaps with a peer; its link goes on.
    pub(super) fn note_trouble(
        &self,
        node: Option<NodeId>,
        at_ms: u64,
        code: &'static str,
        error: &dyn Display,
    ) {
        let trouble = Trouble { at_ms, node, code, message: error.to_string() };
        let mut state = self.state.lock();
        state.troubles.push_back(trouble);
        if state.troubles.len() > TROUBLES_MAX {
            state.troubles.pop_front();
        }
    }

    /// The totals of one peer.
    pub(super) fn totals_of(&self, peer: NodeId) -> Totals {
        self.state.lock().totals.get(&peer).copied().unwrap_or_default()
    }

    /// The totals of all peers.
    pub(super) fn totals(&self) -> Totals {
        let state = self.state.lock();
        state.totals.values().fold(Totals::default(), |all, one| Totals {
            frames_sent: all.frames_sent + one.frames_sent,
            frames_received: all.frames_received + one.frames_received,
            bytes_sent: all.bytes_sent + one.bytes_sent,
            bytes_saved: all.bytes_saved + one.bytes_saved,
            bytes_received: all.bytes_received + one.bytes_received,
            sessions: all.sessions + one.sessions,
            deltas: all.deltas + one.deltas,
            rejoins: all.rejoins + one.rejoins,
            bootstraps: all.bootstraps + one.bootstraps,
            failures: all.failures + one.failures,
            heard_ms: all.heard_ms.max(one.heard_ms),
        })
    }

    /// The last trouble with one peer.
    pub(super) fn trouble_of(&self, peer: NodeId) -> Option<Trouble> {
        let state = self.state.lock();
        state.troubles.iter().rev().find(|trouble| trouble.node == Some(peer)).cloned()
    }

    /// The last troubles, oldest first.
    pub(super) fn troubles(&self) -> Vec<Trouble> {
        self.state.lock().troubles.iter().cloned().collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_goes_wrong_on_a_link_that_goes_on_is_no_failed_link() {
        let (journal, peer) = (Journal::default(), NodeId([7; 16]));
        journal.note_trouble(Some(peer), 1, "Diverged", &"an audit found something");
        assert_eq!(journal.totals_of(peer).failures, 0);
        assert_eq!(journal.trouble_of(peer).unwrap().code, "Diverged");
        journal.note_failure(peer, 2, "TimedOut", &"it said nothing");
        assert_eq!((journal.totals_of(peer).failures, journal.totals().failures), (1, 1));
        assert_eq!(journal.troubles().len(), 2);
    }
}
