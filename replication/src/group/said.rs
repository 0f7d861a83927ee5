//! What is said of who has what: by peers of themselves, and of others.

use super::Group;
use crate::confirm::{News, Way};
use crate::store::Store;
use base::{NodeId, Origin, Vector};
use std::collections::BTreeMap;

impl Group {
    /// Notes what `origin` has. `speaker` is the peer that says so.
    pub fn note_statement(
        &self,
        store: &dyn Store,
        origin: Origin,
        speaker: NodeId,
        durable: &Vector,
    ) {
        let way = if origin.node == speaker { Way::Own } else { Way::PassedOn };
        if way == Way::Own {
            self.note_confirm(store, speaker, durable.get(store.origin()));
        }
        let latest_ms = store.wall_ms().saturating_add(self.max_drift_ms);
        let mut state = self.state.lock();
        let state = &mut *state;
        // What it says of itself holds up itself alone. What others pass on would hold up whom it is about.
        let news = match way {
            Way::PassedOn if durable.latest().ms() > latest_ms => {
                state.statements.put_off(origin, durable, &state.roster);
                News::Wrong
            }
            _ => state.statements.note(origin, way, durable, &state.roster),
        };
        if news != News::Wrong {
            state.note_silent(origin, durable);
        }
        let Some(peer) = state.peers.get_mut(&speaker) else { return };
        if news == News::Wrong {
            let refused = &mut peer.status.statements_refused;
            *refused = refused.saturating_add(1);
        }
        if way == Way::Own {
            // It is one that was said, not all that ever was: so it is no longer than a message.
            if !peer.status.confirmed.covers_all(durable) {
                peer.status.confirmed.clone_from(durable);
            }
            peer.status.confirmed_at_ms = Some(store.wall_ms());
        }
    }

    /// A statement that a peer was not told yet.
    pub fn next_to_tell(
        &self,
        told: &BTreeMap<NodeId, u64>,
        except: NodeId,
    ) -> Option<(Origin, Vector, u64)> {
        let state = self.state.lock();
        let (origin, vector, version) = state.statements.next_to_tell(told, except)?;
        Some((origin, vector.clone(), version))
    }
}

#[cfg(test)]
mod tests {
    use super::super::GroupConfig;
    use super::*;
    use crate::memory::MemoryStore;
    use crate::roster::{Life, Role};
    use crate::store::keyspaces;
    use base::{Incarnation, ScopeId, Tick};
    use std::time::Duration;

    const WALL_MS: u64 = 1_700_000_000_000;
    const OWN: u8 = 1;
    const AUTHOR: u8 = 2;
    const LIAR: u8 = 3;
    const RELAY: u8 = 4;

    fn origin(of: u8) -> Origin {
        Origin { node: NodeId([of; 16]), incarnation: Incarnation(7) }
    }

    /// A node that talks with a liar, and with others who are honest.
    struct Bed {
        store: MemoryStore,
        group: Group,
        looks: u64,
    }

    impl Bed {
        fn new(others: &[u8]) -> Bed {
            let Origin { node, incarnation } = origin(OWN);
            let store = MemoryStore::new(node, incarnation, WALL_MS);
            for of in others {
                let life = Life { incarnation, retired: Vec::new() };
                let key = Life::key(origin(*of).node);
                store.put(ScopeId::MAIN, keyspaces::ROSTER, &key, &life.encode()).unwrap();
            }
            let all = others.iter().chain([&OWN]);
            let first = all.map(|of| origin(*of).node).collect();
            let config = GroupConfig { scope: ScopeId::MAIN, role: Role::Author, first };
            let group = Group::open(config, &store).unwrap();
            others.iter().for_each(|of| group.enter(origin(*of)).unwrap());
            Bed { store, group, looks: 0 }
        }

        /// All that was written here.
        fn all(&self) -> Vector {
            self.store.sync();
            self.store.durable(ScopeId::MAIN)
        }

        /// `speaker` says that `of` has `has`.
        fn say(&self, speaker: u8, of: u8, has: &Vector) {
            self.group.note_statement(&self.store, origin(of), origin(speaker).node, has);
        }

        /// Whether every author has `all`, as far as this node can tell.
        fn is_floor(&mut self, all: &Vector) -> bool {
            self.looks += 1;
            self.group.tick(Duration::from_secs(self.looks), &self.store).unwrap();
            self.store.floor(ScopeId::MAIN).covers_all(all)
        }
    }

    /// What nobody has written, at a time that may be.
    fn with_more(all: &Vector, ahead_ms: u64) -> Vector {
        let mut more = all.clone();
        more.raise(origin(99), Tick::from_ms(WALL_MS + ahead_ms));
        more
    }

    #[test]
    fn a_lie_about_an_author_holds_up_nothing_that_the_author_says() {
        for is_first in [true, false] {
            let mut bed = Bed::new(&[AUTHOR, LIAR]);
            let all = bed.all();
            bed.say(LIAR, LIAR, &all);
            if is_first {
                bed.say(LIAR, AUTHOR, &with_more(&all, 0));
            }
            assert!(!bed.is_floor(&all), "the author has said nothing");
            bed.say(AUTHOR, AUTHOR, &all);
            bed.say(LIAR, AUTHOR, &with_more(&all, 0));
            assert!(bed.is_floor(&all));
            // What the author says next shows the lie; from then on it is said on no more.
            bed.store.put(ScopeId::MAIN, "k", b"k", b"v").unwrap();
            let all = bed.all();
            bed.say(LIAR, LIAR, &all);
            bed.say(AUTHOR, AUTHOR, &all);
            assert!(bed.is_floor(&all));
            let told = bed.group.next_to_tell(&BTreeMap::new(), origin(LIAR).node);
            assert_eq!(told.map(|(of, has, _)| (of, has)), Some((origin(AUTHOR), all)));
        }
    }

    #[test]
    fn a_lie_that_was_passed_on_lasts_until_somebody_knows_better() {
        let mut bed = Bed::new(&[AUTHOR, LIAR, RELAY]);
        bed.group.leave(origin(AUTHOR));
        bed.say(LIAR, AUTHOR, &with_more(&bed.all(), 0));
        bed.store.put(ScopeId::MAIN, "k", b"k", b"v").unwrap();
        let all = bed.all();
        [LIAR, RELAY].iter().for_each(|of| bed.say(*of, *of, &all));
        assert!(!bed.is_floor(&all));
        bed.say(RELAY, AUTHOR, &all);
        assert!(bed.is_floor(&all));
    }

    #[test]
    fn what_can_not_be_is_not_believed_of_others() {
        let mut bed = Bed::new(&[AUTHOR, LIAR]);
        let all = bed.all();
        bed.say(AUTHOR, AUTHOR, &all);
        bed.say(LIAR, AUTHOR, &with_more(&all, 3_600_000));
        let mut less = Vector::default();
        less.raise(origin(98), Tick::from_ms(WALL_MS));
        bed.say(LIAR, AUTHOR, &less);
        let refused = |of| {
            let health = bed.group.health(&bed.store, 0);
            health.peers.get(&origin(of).node).unwrap().statements_refused
        };
        assert_eq!((refused(LIAR), refused(AUTHOR)), (2, 0));
        let told = bed.group.next_to_tell(&BTreeMap::new(), origin(LIAR).node);
        assert_eq!(told.map(|(_, has, _)| has), Some(all.clone()));
        bed.say(LIAR, LIAR, &all);
        assert!(bed.is_floor(&all));
    }

    /// A clock that was behind is right one day, and then nobody says it again.
    #[test]
    fn what_is_passed_on_and_of_a_time_that_is_not_yet_counts_when_it_is() {
        let mut bed = Bed::new(&[AUTHOR, RELAY]);
        bed.store.set_wall_ms(WALL_MS + 20_000);
        bed.store.put(ScopeId::MAIN, "k", b"k", b"v").unwrap();
        let all = bed.all();
        bed.store.set_wall_ms(WALL_MS);
        bed.say(RELAY, RELAY, &all);
        bed.say(RELAY, AUTHOR, &all);
        assert!(!bed.is_floor(&all));
        bed.store.set_wall_ms(WALL_MS + 20_000);
        assert!(bed.is_floor(&all));
    }
}
