//! Statements: what each author has, durably, as it said itself, whoever passed it on.
//!
//! A statement counts once our own vector covers every component of it: then nothing that its
//! author wrote before it can reach us later. Those that do not count yet wait, two per author and way:
//! the older one, so that a busy author is not always ahead of us, and the newest.
//!
//! What an author said here itself and what others passed on of it are kept apart, so a word that was
//! passed on wrongly holds up nothing that the author says. In one life each statement of an author covers
//! the one before it. So of two that say different things one is a lie: the last word stays, and what
//! others passed on goes once the author itself says something else.

use crate::roster::{MEMBERS_MAX, Roster};
use crate::rules::{self, Statement as Counted};
use base::{NodeId, Origin, Vector};
use std::collections::BTreeMap;

/// Which way a statement came.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Way {
    /// Its author said it here.
    Own,
    /// Another node passed it on.
    PassedOn,
}

/// Statements of an author that came one way. Each is one that was said, never two in one: so it is no longer
/// than a message, whatever is said.
#[derive(Clone, Debug, Default)]
struct Track {
    waiting: Option<Vector>,
    newest: Vector,
}

impl Track {
    /// Notes a statement, unless the newest one covers it.
    fn note(&mut self, durable: &Vector) -> News {
        if self.newest.covers_all(durable) {
            return News::None;
        }
        if !durable.covers_all(&self.newest) {
            self.waiting = None;
        }
        self.newest.clone_from(durable);
        self.waiting.get_or_insert_with(|| durable.clone());
        News::Some
    }

    /// Takes out the greatest statement that `own` covers and that was not counted.
    fn count(&mut self, own: &Vector) -> Option<Vector> {
        let waiting = self.waiting.take()?;
        if own.covers_all(&self.newest) {
            return Some(self.newest.clone());
        }
        if own.covers_all(&waiting) {
            self.waiting = Some(self.newest.clone());
            return Some(waiting);
        }
        self.waiting = Some(waiting);
        None
    }

    fn contradicts(&self, durable: &Vector) -> bool {
        !self.newest.covers_all(durable) && !durable.covers_all(&self.newest)
    }
}

/// What is known of one author's statements.
#[derive(Clone, Debug)]
struct Stated {
    origin: Origin,
    /// All that counts.
    counted: Vector,
    own: Track,
    passed_on: Track,
    /// Which way the last word came.
    last: Way,
    /// What another life said whose record is still on its way here.
    heir: Option<(Origin, Way, Vector)>,
    /// Rises with each news, so that sessions know what to pass on.
    version: u64,
}

/// The statements of all authors. At most [`MEMBERS_MAX`] of them, seven vectors each, none of which is longer
/// than one on the wire.
#[derive(Clone, Debug, Default)]
pub struct Statements {
    by_node: BTreeMap<NodeId, Stated>,
    /// What was passed on last of each that is of a time which is not yet, by the clock here.
    put_off: BTreeMap<NodeId, (Origin, Vector)>,
    version: u64,
}

/// Whether a statement said anything new.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum News {
    /// It was known.
    None,
    /// It was not.
    Some,
    /// Its author itself has said something else: it was passed on wrongly.
    Wrong,
}

impl Stated {
    fn of(origin: Origin) -> Stated {
        Stated {
            origin,
            counted: Vector::default(),
            own: Track::default(),
            passed_on: Track::default(),
            last: Way::Own,
            heir: None,
            version: 0,
        }
    }

    fn track(&self, way: Way) -> &Track {
        match way {
            Way::Own => &self.own,
            Way::PassedOn => &self.passed_on,
        }
    }

    fn note(&mut self, way: Way, durable: &Vector) -> News {
        let news = match way {
            Way::Own => self.own.note(durable),
            // It said so here already.
            Way::PassedOn if self.own.newest.covers_all(durable) => News::None,
            Way::PassedOn if self.own.contradicts(durable) => News::Wrong,
            Way::PassedOn => self.passed_on.note(durable),
        };
        if news == News::Some {
            self.last = way;
            if way == Way::Own && self.passed_on.contradicts(durable) {
                self.passed_on = Track::default();
            }
        }
        news
    }

    /// Keeps what a life says of which nothing is known yet.
    fn expect(&mut self, origin: Origin, way: Way, durable: &Vector) {
        let stays = self.heir.as_ref().is_some_and(|(known, said, vector)| {
            let is_older = *known == origin && vector.covers_all(durable);
            (*said, way) == (Way::Own, Way::PassedOn) || is_older
        });
        if !stays {
            self.heir = Some((origin, way, durable.clone()));
        }
    }
}

impl Statements {
    /// Notes that `origin` has `durable`. Only members may speak, so the number is bounded.
    pub fn note(&mut self, origin: Origin, way: Way, durable: &Vector, roster: &Roster) -> News {
        let is_known = self.by_node.contains_key(&origin.node);
        if roster.member(origin.node).is_none() || (!is_known && self.by_node.len() >= MEMBERS_MAX)
        {
            return News::None;
        }
        let stated = self.by_node.entry(origin.node).or_insert_with(|| Stated::of(origin));
        if stated.origin.incarnation != origin.incarnation {
            // A retired life may still be passed on; only the present one replaces another.
            if !roster.is_current(origin) {
                if !roster.is_retired(origin) {
                    stated.expect(origin, way, durable);
                }
                return News::None;
            }
            *stated = Stated::of(origin);
        }
        let news = stated.note(way, durable);
        if news == News::Some {
            self.version += 1;
            stated.version = self.version;
        }
        news
    }

    /// Keeps what was passed on of `origin` until its time has come: nobody says it again, and if the clock
    /// here is behind, it is true.
    pub fn put_off(&mut self, origin: Origin, durable: &Vector, roster: &Roster) {
        let has_room = self.put_off.len() < MEMBERS_MAX || self.put_off.contains_key(&origin.node);
        if has_room && roster.member(origin.node).is_some() {
            self.put_off.insert(origin.node, (origin, durable.clone()));
        }
    }

    /// Takes over what was put off and has no tick behind `latest_ms`.
    pub fn adopt_due(&mut self, latest_ms: u64, roster: &Roster) {
        let put_off = std::mem::take(&mut self.put_off).into_iter();
        let (due, later): (Vec<_>, Vec<_>) =
            put_off.partition(|(_, (_, said))| said.latest().ms() <= latest_ms);
        self.put_off = later.into_iter().collect();
        for (_, (origin, durable)) in due {
            self.note(origin, Way::PassedOn, &durable, roster);
        }
    }

    /// Takes over what was said by lives that `roster` knows by now: nobody says it again.
    pub fn adopt(&mut self, roster: &Roster) {
        let is_due = |heir: &mut (Origin, Way, Vector)| roster.is_current(heir.0);
        let heirs = self.by_node.values_mut().filter_map(|stated| stated.heir.take_if(is_due));
        for (origin, way, durable) in heirs.collect::<Vec<_>>() {
            self.note(origin, way, &durable, roster);
        }
    }

    /// Counts what `own` covers by now.
    pub fn count(&mut self, own: &Vector) {
        for stated in self.by_node.values_mut() {
            for track in [&mut stated.own, &mut stated.passed_on] {
                if let Some(counts) = track.count(own) {
                    stated.counted.raise_all(&counts);
                }
            }
        }
    }

    /// What counts of an author at a node that has `own`: of its present life, and said since it
    /// became an author.
    pub fn counted(&self, node: NodeId, roster: &Roster, own: &Vector) -> Option<Counted> {
        let stated = self.by_node.get(&node)?;
        let statement = Counted { origin: stated.origin, vector: stated.counted.clone() };
        let counts = roster.is_current(stated.origin)
            && rules::is_counted(&statement, roster.since(node), own);
        counts.then_some(statement)
    }

    /// The newest statement of `node`, counted or not: what it said here, if it did.
    pub fn newest(&self, node: NodeId) -> Option<(Origin, &Vector)> {
        let stated = self.by_node.get(&node)?;
        let way = if stated.own.newest.is_empty() { Way::PassedOn } else { Way::Own };
        Some((stated.origin, &stated.track(way).newest))
    }

    /// What `node` said here last.
    pub fn said(&self, node: NodeId) -> Option<&Vector> {
        self.by_node.get(&node).map(|stated| &stated.own.newest)
    }

    /// What others passed on of `node`.
    pub fn passed_on(&self, node: NodeId) -> Option<&Vector> {
        self.by_node.get(&node).map(|stated| &stated.passed_on.newest)
    }

    /// A statement with a version above what `told` says of its author, not of `except`.
    pub fn next_to_tell(
        &self,
        told: &BTreeMap<NodeId, u64>,
        except: NodeId,
    ) -> Option<(Origin, &Vector, u64)> {
        let is_new = |(node, stated): &(&NodeId, &Stated)| {
            **node != except && stated.version > told.get(node).copied().unwrap_or(0)
        };
        let (_, stated) = self.by_node.iter().find(is_new)?;
        Some((stated.origin, &stated.track(stated.last).newest, stated.version))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::roster::Life;
    use crate::store::Held;
    use base::{Incarnation, Stamp, Tick};

    fn origin(node: u8, incarnation: u64) -> Origin {
        Origin { node: NodeId([node; 16]), incarnation: Incarnation(incarnation) }
    }

    fn vector(entries: &[(Origin, u64)]) -> Vector {
        entries.iter().map(|(of, tick)| (*of, Tick::from_raw(*tick).unwrap())).collect()
    }

    fn roster(lives: &[Origin]) -> Roster {
        let mut roster = Roster::first(lives.iter().map(|of| of.node));
        for of in lives {
            let life = Life { incarnation: of.incarnation, retired: Vec::new() };
            let (key, value) = (Life::key(of.node), life.encode());
            roster.read(&[Held { key, value, stamp: Stamp::default() }]);
        }
        roster
    }

    #[test]
    fn a_statement_counts_only_when_every_component_is_covered() {
        let (a, b) = (origin(1, 1), origin(2, 1));
        let roster = roster(&[a, b]);
        let mut statements = Statements::default();
        statements.note(a, Way::Own, &vector(&[(a, 10), (b, 5)]), &roster);
        let counted = |statements: &Statements, own: &Vector| {
            statements.counted(a.node, &roster, own).map(|counted| counted.vector)
        };
        let less = vector(&[(a, 10), (b, 4)]);
        statements.count(&less);
        assert_eq!(counted(&statements, &less), Some(Vector::default()));
        let enough = vector(&[(a, 10), (b, 5)]);
        statements.count(&enough);
        assert_eq!(counted(&statements, &enough), Some(enough.clone()));
    }

    #[test]
    fn an_author_that_is_always_ahead_is_counted_all_the_same() {
        let a = origin(1, 1);
        let roster = roster(&[a]);
        let mut statements = Statements::default();
        for tick in 1..100 {
            statements.note(a, Way::Own, &vector(&[(a, tick + 10)]), &roster);
            statements.count(&vector(&[(a, tick)]));
        }
        let own = vector(&[(a, 99)]);
        let counted = statements.counted(a.node, &roster, &own).unwrap().vector.get(a).raw();
        assert!(counted > 50, "{counted}");
    }

    #[test]
    fn statements_of_an_old_life_stop_counting_when_the_new_one_is_known() {
        let (old, new) = (origin(1, 1), origin(1, 2));
        let mut statements = Statements::default();
        let before = roster(&[old]);
        statements.note(old, Way::Own, &vector(&[(old, 10)]), &before);
        let own = vector(&[(old, 10)]);
        statements.count(&own);
        assert!(statements.counted(old.node, &before, &own).is_some());
        // The first write of the new life is enough.
        let both = vector(&[(old, 10), (new, 20)]);
        assert_eq!(statements.counted(old.node, &before, &both), None);
        let after = roster(&[new]);
        assert_eq!(statements.counted(old.node, &after, &own), None);
        assert_eq!(statements.note(new, Way::Own, &vector(&[(old, 3)]), &before), News::None);
        assert_eq!(statements.note(new, Way::Own, &vector(&[(old, 3)]), &after), News::Some);
        assert_eq!(statements.note(old, Way::Own, &vector(&[(old, 30)]), &after), News::None);
    }

    #[test]
    fn strangers_are_not_remembered() {
        let mut statements = Statements::default();
        let stranger = origin(9, 1);
        let said = vector(&[(stranger, 1)]);
        assert_eq!(statements.note(stranger, Way::Own, &said, &Roster::default()), News::None);
        assert!(statements.newest(stranger.node).is_none());
    }

    #[test]
    fn a_statement_that_comes_before_its_life_is_known_counts_once_it_is() {
        let (before, now) = (origin(1, 1), origin(1, 2));
        let old = roster(&[before]);
        let mut new = roster(&[before]);
        let life = Life { incarnation: now.incarnation, retired: vec![before.incarnation] };
        let (key, value) = (Life::key(now.node), life.encode());
        new.read(&[Held { key, value, stamp: Stamp::default() }]);
        let mut statements = Statements::default();
        statements.note(before, Way::Own, &vector(&[(before, 10)]), &old);
        let said = vector(&[(before, 10), (now, 20)]);
        assert_eq!(statements.note(now, Way::Own, &said, &old), News::None);
        statements.adopt(&old);
        assert_eq!(statements.newest(now.node).unwrap().0, before);
        statements.adopt(&new);
        statements.count(&said);
        assert_eq!(statements.counted(now.node, &new, &said).unwrap().vector, said);
        // What the former life said may still come: it is not expected again.
        statements.note(before, Way::Own, &vector(&[(before, 11)]), &new);
        statements.adopt(&new);
        assert_eq!(statements.newest(now.node), Some((now, &said)));
    }
}
