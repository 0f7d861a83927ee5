//! That this node was retired: those that retired it refuse it, and that is how it hears of it.
//!
//! It remembers, so that it takes no writes that nobody would ever see, after a restart either; until
//! a member takes it as it is, or it has rejoined with one. While a member talks with it, others that
//! refuse it have not heard yet that it is back.
//!
//! ```text
//! key        "retired", in the keyspace `esker.node`
//! size       field
//!    1       version   1
//!    1       retired   1 if it was, 0 if it is back
//! ```

use super::Group;
use crate::roster::Role;
use crate::store::{Store, keyspaces};
use base::{NodeId, Result, ScopeId};

const VERSION: u8 = 1;
const KEY: &[u8] = b"retired";

/// What is known of it, and what is written.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Retired {
    pub(super) is_so: bool,
    is_kept: bool,
}

impl Retired {
    /// What `store` remembers.
    pub(super) fn read(store: &dyn Store) -> Result<Retired> {
        let kept = store.get(keyspaces::NODE, KEY)?;
        let is_so = kept.as_deref() == Some(&[VERSION, 1]);
        Ok(Retired { is_so, is_kept: is_so })
    }
}

impl Group {
    /// The node `by` refuses this one, because its group has retired it.
    pub(crate) fn note_retired(&self, by: NodeId) {
        let mut state = self.state.lock();
        let is_member = |node: NodeId| {
            let role = state.roster.role(node);
            matches!(role, Some(Role::Author | Role::Observer))
        };
        let is_taken = state.peers.iter().any(|(node, it)| it.live.is_some() && is_member(*node));
        // Who is out itself, or was never in, does not know.
        if is_member(by) && !is_taken {
            state.retired.is_so = true;
            state.owed.want_kept();
        }
    }

    /// A member takes this node as it is, or gave it its state.
    pub(crate) fn note_member(&self) {
        let mut state = self.state.lock();
        if std::mem::take(&mut state.retired.is_so) {
            state.owed.want_kept();
        }
    }

    /// Writes what has changed.
    pub(super) fn keep_retirement(&self, store: &dyn Store) -> Result<()> {
        let retired = self.state.lock().retired;
        if retired.is_so != retired.is_kept {
            let value = [VERSION, u8::from(retired.is_so)];
            store.put(ScopeId::LOCAL, keyspaces::NODE, KEY, &value)?;
            self.state.lock().retired.is_kept = retired.is_so;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::super::{GroupConfig, Writes};
    use super::*;
    use crate::memory::MemoryStore;
    use crate::roster::Member;
    use base::{Incarnation, Origin};

    const WALL_MS: u64 = 1_700_000_000_000;

    fn origin(of: u8) -> Origin {
        Origin { node: NodeId([of; 16]), incarnation: Incarnation(7) }
    }

    /// Node 1 of a group of three.
    fn group() -> (Group, MemoryStore) {
        let Origin { node, incarnation } = origin(1);
        let store = MemoryStore::new(node, incarnation, WALL_MS);
        let first = [1, 2, 3].map(|of| origin(of).node).to_vec();
        let config = GroupConfig { scope: ScopeId::MAIN, role: Role::Author, first };
        (Group::open(config, &store).unwrap(), store)
    }

    #[test]
    fn who_refuses_a_node_that_another_takes_has_not_heard_that_it_is_back() {
        let (group, _store) = group();
        group.enter(origin(2)).unwrap();
        group.note_retired(origin(3).node);
        assert_ne!(group.writes(), Writes::Retired);
        group.leave(origin(2));
        group.note_retired(origin(3).node);
        assert_eq!(group.writes(), Writes::Retired);
    }

    #[test]
    fn a_hello_alone_does_not_take_a_node_back() {
        let (group, _store) = group();
        group.note_retired(origin(9).node);
        assert_ne!(group.writes(), Writes::Retired, "a stranger does not know");
        group.note_retired(origin(2).node);
        group.enter(origin(2)).unwrap();
        assert_eq!(group.writes(), Writes::Retired);
        group.note_member();
        assert_ne!(group.writes(), Writes::Retired);
    }

    #[test]
    fn a_node_that_was_to_rejoin_and_is_retired_is_told_so() {
        let (group, store) = group();
        let (own, fenced) = (origin(1), Some(origin(1).incarnation));
        let set = |role| {
            let member = Member { fenced, ..Member::new(role) };
            group.set_member(&store, own.node, member).unwrap();
            group.writes()
        };
        assert_eq!(set(Role::Author), Writes::Rejoining);
        assert_eq!(set(Role::Deprecated), Writes::Retired);
        assert_eq!(set(Role::Author), Writes::Rejoining);
        group.note_retired(origin(2).node);
        assert_eq!(group.writes(), Writes::Retired, "nobody lets it rejoin");
    }

    #[test]
    fn what_it_knows_outlives_a_restart() {
        let (group, store) = group();
        group.note_retired(origin(2).node);
        group.keep_retirement(&store).unwrap();
        let again = Group::open(group.config.clone(), &store).unwrap();
        assert_eq!(again.writes(), Writes::Retired);
        again.note_member();
        again.keep_retirement(&store).unwrap();
        let again = Group::open(again.config.clone(), &store).unwrap();
        assert_ne!(again.writes(), Writes::Retired);
    }
}
