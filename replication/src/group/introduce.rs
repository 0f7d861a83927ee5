//! The records of the roster that this node writes: about itself, and what operators decide.

use super::{Announcing, Group, NO_GROUP};
use crate::roster::{ANY_LIFE, Life, Member, Role};
use crate::store::{Store, keyspaces};
use base::{Error, NodeId, Origin, Result, Vector};

impl Group {
    /// Writes the records that only this node can write, when it may.
    pub(super) fn introduce(&self, store: &dyn Store) -> Result<()> {
        let own = store.origin();
        let scope = self.config.scope;
        let mut state = self.state.lock();
        state.is_settled |= !store.is_empty(scope)?;
        let role = self.role_in(&state.roster);
        let is_silent = state.is_closed || state.is_fenced();
        if role != Role::Author || !state.is_settled || is_silent || state.id == NO_GROUP {
            return Ok(());
        }
        if !state.may_speak() {
            return Ok(());
        }
        if let Announcing::At(tick) = state.announcing {
            let is_accepted = |author: NodeId| {
                let covers = |has: &Vector| has.covers(own, tick);
                // Whoever can say so itself is not spoken for.
                let is_here = state.peers.get(&author).is_some_and(|peer| peer.live.is_some());
                let passed_on = state.statements.passed_on(author).filter(|_| !is_here);
                let said = state.statements.said(author);
                author != self.node && (said.is_some_and(covers) || passed_on.is_some_and(covers))
            };
            let has_peers = state.roster.authors().any(|author| author != self.node);
            let is_enough = !has_peers || state.is_overruled;
            if is_enough || state.roster.authors().any(is_accepted) {
                state.announcing = Announcing::Not;
            }
        }
        let life = state.roster.life(self.node).cloned();
        let is_due = state.announcing == Announcing::Due;
        // A write waits for the disk, and everybody for this lock.
        drop(state);
        if life.as_ref().is_none_or(|life| life.incarnation != own.incarnation) {
            let first = Life { incarnation: own.incarnation, retired: Vec::new() };
            let life = life.map_or(first, |life| life.renewed(own.incarnation));
            let (key, value) = (Life::key(self.node), life.encode());
            let tick = store.put(scope, keyspaces::ROSTER, &key, &value)?;
            let mut state = self.state.lock();
            if is_due && state.own == own && state.announcing == Announcing::Due {
                state.announcing = Announcing::At(tick);
            }
        }
        for node in &self.config.first {
            self.enrol(store, *node, &Member::new(Role::Author))?;
        }
        Ok(())
    }

    /// Makes a node a member, unless it is one, and this node before, if it writes: one that began alone is not of the
    /// first roster, and nobody who knows the other may take it for less. Whatever operators decided about them, known
    /// here or not, stays above that.
    pub(crate) fn enrol(&self, store: &dyn Store, node: NodeId, member: &Member) -> Result<()> {
        if self.config.role == Role::Author {
            self.enrol_one(store, self.node, &Member::new(Role::Author))?;
        }
        self.enrol_one(store, node, member)
    }

    fn enrol_one(&self, store: &dyn Store, node: NodeId, member: &Member) -> Result<()> {
        let first = Member::first_key(node);
        let is_known = |key: &[u8]| Ok::<_, Error>(store.get(keyspaces::ROSTER, key)?.is_some());
        if !is_known(&Member::key(node))? && !is_known(&first)? {
            store.put(self.config.scope, keyspaces::ROSTER, &first, &member.encode())?;
        }
        Ok(())
    }

    /// Writes what operators decided about a node. A node that is deprecated is fenced: if it is
    /// made a member again, its present life must rejoin.
    pub fn set_member(&self, store: &dyn Store, node: NodeId, mut member: Member) -> Result<()> {
        let roster = self.read_roster(store)?;
        member.epoch = roster.epoch() + 1;
        let known = roster.member(node);
        member.fenced = known.and_then(|known| known.fenced).or(member.fenced);
        let life = roster.life(node).map(|life| life.incarnation);
        if member.role == Role::Deprecated {
            member.fenced = life.or(member.fenced).or(Some(ANY_LIFE));
        } else if member.fenced == Some(ANY_LIFE) {
            member.fenced = life.or(member.fenced);
        }
        self.write_member(store, node, &member)
    }

    /// A node was shut out by somebody who had never heard of its life, and is let in again: this is the
    /// life that must rejoin, and none that follows.
    pub(crate) fn name_fenced_life(&self, store: &dyn Store, origin: Origin) -> Result<()> {
        let roster = self.read_roster(store)?;
        let Some(member) = roster.member(origin.node) else { return Ok(()) };
        if member.fenced != Some(ANY_LIFE) || member.role == Role::Deprecated {
            return Ok(());
        }
        let (epoch, fenced) = (roster.epoch() + 1, Some(origin.incarnation));
        self.write_member(store, origin.node, &Member { epoch, fenced, ..member.clone() })
    }

    fn write_member(&self, store: &dyn Store, node: NodeId, member: &Member) -> Result<()> {
        let key = Member::key(node);
        store.put(self.config.scope, keyspaces::ROSTER, &key, &member.encode())?;
        self.read_roster(store).map(drop)
    }
}

#[cfg(test)]
mod tests {
    use super::super::{GroupConfig, Writes};
    use super::*;
    use crate::memory::MemoryStore;
    use base::{Incarnation, ScopeId};

    const WALL_MS: u64 = 1_700_000_000_000;
    const OWN: NodeId = NodeId([1; 16]);
    const PEER: NodeId = NodeId([2; 16]);

    fn open(first: &[NodeId], store: &MemoryStore) -> Group {
        let first = first.to_vec();
        let config = GroupConfig { scope: ScopeId::MAIN, role: Role::Author, first };
        Group::open(config, store).unwrap()
    }

    /// Else it may write what it has to give up once it knows them.
    #[test]
    fn an_empty_node_that_has_peers_takes_no_writes_before_it_knows_them() {
        let store = MemoryStore::new(OWN, Incarnation(7), WALL_MS);
        assert_eq!(open(&[OWN, PEER], &store).writes(), Writes::Joining);
        assert_ne!(open(&[OWN], &store).writes(), Writes::Joining, "it has none");
        store.put(ScopeId::MAIN, "k", b"k", b"v").unwrap();
        assert_ne!(open(&[OWN, PEER], &store).writes(), Writes::Joining, "it is one of them");
    }

    #[test]
    fn a_restored_node_writes_once_an_operator_says_that_its_peers_are_gone() {
        let store = MemoryStore::new(OWN, Incarnation(7), WALL_MS);
        store.put(ScopeId::MAIN, "k", b"k", b"v").unwrap();
        let group = open(&[OWN, PEER], &store);
        group.belong_to(&store, [7; 16]).unwrap();
        group.overrule();
        group.introduce(&store).unwrap();
        let store = MemoryStore::restore(&store.backup(), Incarnation(8), WALL_MS + 1_000);
        let group = open(&[OWN, PEER], &store);
        let introduce = || (0..3).for_each(|_| group.introduce(&store).unwrap());
        introduce();
        assert_eq!(group.writes(), Writes::Announcing);
        group.overrule();
        introduce();
        assert_eq!(group.writes(), Writes::Open);
    }

    /// Else one that passes on a false word makes it write in a life that nobody has accepted.
    #[test]
    fn an_author_that_is_here_accepts_a_new_life_itself() {
        let before = MemoryStore::new(OWN, Incarnation(7), WALL_MS);
        before.put(ScopeId::MAIN, "k", b"k", b"v").unwrap();
        let group = open(&[OWN, PEER], &before);
        group.belong_to(&before, [7; 16]).unwrap();
        group.overrule();
        group.introduce(&before).unwrap();
        let relay = NodeId([3; 16]);
        for is_here in [true, false] {
            let store = MemoryStore::restore(&before.backup(), Incarnation(8), WALL_MS + 1_000);
            let group = open(&[OWN, PEER], &store);
            let introduce = || (0..3).for_each(|_| group.introduce(&store).unwrap());
            let peer = Origin { node: PEER, incarnation: Incarnation(7) };
            if is_here {
                group.enter(peer).unwrap();
            }
            group.meet(PEER);
            introduce();
            let has = store.applied(ScopeId::MAIN);
            group.note_statement(&store, peer, relay, &has);
            introduce();
            let expected = if is_here { Writes::Announcing } else { Writes::Open };
            assert_eq!(group.writes(), expected);
            group.note_statement(&store, peer, PEER, &has);
            introduce();
            assert_eq!(group.writes(), Writes::Open);
        }
    }
}
