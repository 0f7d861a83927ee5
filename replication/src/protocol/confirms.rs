//! What this side says without being asked: what it has, what other authors have, that it is there.

use super::config::SessionConfig;
use super::message::{Heartbeat, Statement};
use crate::error::ProtocolError;
use crate::group::{Group, READER_BEAT_EVERY};
use crate::roster::Role;
use crate::store::Store;
use base::{NodeId, Vector};
use std::collections::BTreeMap;
use std::time::Duration;

/// How long a node that has become a reader says nothing: what was let in before is written by then, and
/// its next statement says where its writes end.
const LAST_WRITES_WAIT: Duration = Duration::from_secs(1);
/// How often a statement without anything received, or of another author, is sent.
const STATE_EVERY: Duration = Duration::from_secs(1);

/// What was said, and when.
pub(crate) struct Confirms {
    stated: Option<Vector>,
    stated_at: Duration,
    passed_on_at: Duration,
    /// When this node was last seen to be an author.
    wrote_at: Option<Duration>,
    /// Per author the version of its statement that the peer was told.
    told: BTreeMap<NodeId, u64>,
    beat_at: Option<Duration>,
    beat_every: Duration,
    /// The peer's last heartbeat: its clock, and ours when it came.
    beat_heard: (u64, u64),
}

impl Confirms {
    pub(crate) fn new(now: Duration) -> Confirms {
        Confirms {
            stated: None,
            stated_at: now,
            passed_on_at: now,
            wrote_at: None,
            told: BTreeMap::new(),
            beat_at: None,
            beat_every: Duration::ZERO,
            beat_heard: (0, 0),
        }
    }

    /// When something is to be said at the latest.
    pub(crate) fn timeout(&self, config: &SessionConfig, unconfirmed: u64) -> Option<Duration> {
        let confirm = (unconfirmed > 0).then(|| self.stated_at + config.confirm_after);
        let beat = self.beat_at.map(|at| at + self.beat_every);
        confirm.into_iter().chain(beat).min()
    }

    /// Readers are told more often what was written, for they promise how old is what they show.
    pub(crate) fn serve(&mut self, peer: Option<Role>, config: &SessionConfig) {
        let every = config.heartbeat_every;
        let is_reader = peer == Some(Role::Observer);
        self.beat_every = if is_reader { every.min(READER_BEAT_EVERY) } else { every };
    }

    pub(crate) fn heard_beat(&mut self, sent_ms: u64, came_ms: u64) {
        self.beat_heard = (sent_ms, came_ms);
    }

    /// Our own statement if it is due, or one to pass on. A node that is not whole, or is taking
    /// another state, promises nothing.
    pub(crate) fn next_statement(
        &mut self,
        now: Duration,
        config: &SessionConfig,
        group: &Group,
        store: &dyn Store,
        unconfirmed: &mut u64,
    ) -> Result<Option<Statement>, ProtocolError> {
        let scope = group.scope();
        if group.role() == Role::Author {
            self.wrote_at = Some(now);
        }
        if group.is_silent() || !store.is_whole(scope) {
            self.stated_at = now;
            return Ok(None);
        }
        let waits = if *unconfirmed > 0 { config.confirm_after } else { STATE_EVERY };
        let is_much = *unconfirmed >= config.confirm_bytes;
        if self.stated.is_none() || is_much || now >= self.stated_at + waits {
            self.stated_at = now;
            let (durable, applied) = (store.durable(scope), store.applied(scope));
            if durable == applied {
                *unconfirmed = 0;
            } else if *unconfirmed > 0 {
                store.request_sync();
                // What was taken is counted anew; what is not durable yet is confirmed in time.
                *unconfirmed = 1;
            }
            if self.stated.as_ref() != Some(&durable) && self.may_state(now, group, store)? {
                let statement = Statement::of(scope, store.origin(), &durable, &applied)?;
                group.note_peer(config.peer, |peer| peer.told.clone_from(&durable));
                self.stated = Some(durable);
                return Ok(Some(statement));
            }
        }
        self.pass_on(now, config, group)
    }

    /// Whether what is durable may be said. What is said must not cover a record that makes this node a
    /// reader while it still writes.
    fn may_state(
        &mut self,
        now: Duration,
        group: &Group,
        store: &dyn Store,
    ) -> Result<bool, ProtocolError> {
        if group.role() == Role::Author {
            self.wrote_at = Some(now);
            // What was read before may be older than what is durable.
            group.read_roster(store)?;
            if group.role() == Role::Author {
                return Ok(true);
            }
        }
        Ok(self.wrote_at.is_none_or(|at| now >= at + LAST_WRITES_WAIT))
    }

    fn pass_on(
        &mut self,
        now: Duration,
        config: &SessionConfig,
        group: &Group,
    ) -> Result<Option<Statement>, ProtocolError> {
        if now < self.passed_on_at + STATE_EVERY {
            return Ok(None);
        }
        let Some((origin, vector, version)) = group.next_to_tell(&self.told, config.peer) else {
            self.passed_on_at = now;
            return Ok(None);
        };
        self.told.insert(origin.node, version);
        Statement::of(group.scope(), origin, &vector, &Vector::default()).map(Some)
    }

    pub(crate) fn next_heartbeat(
        &mut self,
        now: Duration,
        config: &SessionConfig,
        group: &Group,
        store: &dyn Store,
    ) -> Option<Heartbeat> {
        if self.beat_at.is_some_and(|at| now < at + self.beat_every) {
            return None;
        }
        self.beat_at = Some(now);
        let (echo_ms, received_ms) = self.beat_heard;
        let last = store.applied(group.scope()).get(store.origin()).raw();
        let lag_ms = group.lag_ms(config.peer, store);
        Some(Heartbeat { sent_ms: store.wall_ms(), echo_ms, received_ms, last, lag_ms })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::group::GroupConfig;
    use crate::memory::MemoryStore;
    use base::{Incarnation, ScopeId};

    /// It may be silent for minutes.
    #[test]
    fn a_node_that_makes_no_statements_is_not_asked_for_one_again_and_again() {
        let node = NodeId([1; 16]);
        let store = MemoryStore::new(node, Incarnation(7), 1_700_000_000_000);
        let config = GroupConfig { scope: ScopeId::MAIN, role: Role::Author, first: vec![node] };
        let group = Group::open(config, &store).unwrap();
        let config = SessionConfig::new(NodeId([2; 16]));
        let mut confirms = Confirms::new(Duration::ZERO);
        group.close(&store).unwrap();
        let (now, mut unconfirmed) = (Duration::from_secs(1), 100);

        let said = confirms.next_statement(now, &config, &group, &store, &mut unconfirmed);

        assert_eq!(said.unwrap(), None);
        assert!(confirms.timeout(&config, unconfirmed) > Some(now));
    }
}
