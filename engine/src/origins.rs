//! The authors whose entries are here, and their numbers.
//!
//! The manifest holds the list; this is what readers and writers of entries ask, without a lock. An
//! author is in the list before any entry names it, and stays.

use arc_swap::ArcSwap;
use base::foreign::{EntryStamp, NumberedStamp, stamp_of};
use base::{Incarnation, NodeId, Origin, OriginNumber, Stamp, Trailer, Vector};
use sstable::Authors;
use sstable::manifest::State;
use std::cmp::Ordering;
use std::sync::Arc;
use std::sync::atomic::{self, AtomicU64};

/// See the module.
#[derive(Debug, Default)]
pub(crate) struct Origins {
    node: NodeId,
    /// The life of this database: with its node, the author of what it writes.
    life: AtomicU64,
    authors: ArcSwap<Authors>,
}

impl Origins {
    /// Those that `state` lists, with `own` as the local one.
    pub(crate) fn of(state: &State, own: Origin) -> Origins {
        Origins::new(listed(state, own), own)
    }

    /// `authors`, of whom `own` is the local one.
    pub(crate) fn new(authors: Authors, own: Origin) -> Origins {
        let life = own.incarnation.0.into();
        Origins { node: own.node, life, authors: ArcSwap::from_pointee(authors) }
    }

    /// Takes over what `state` lists now.
    pub(crate) fn follow(&self, state: &State) {
        self.authors.store(Arc::new(listed(state, self.own())));
    }

    /// What is written from now on is of another life. `state` lists it.
    pub(crate) fn begin_life(&self, life: Incarnation, state: &State) {
        self.life.store(life.0, atomic::Ordering::Release);
        self.follow(state);
    }

    /// All of them.
    pub(crate) fn authors(&self) -> Authors {
        Authors::clone(&self.authors.load())
    }

    /// What this database writes in this life is of this author.
    pub(crate) fn own(&self) -> Origin {
        let incarnation = Incarnation(self.life.load(atomic::Ordering::Acquire));
        Origin { node: self.node, incarnation }
    }

    /// The full stamp of what an entry names by number, where "local" means what `local` says. An
    /// author that is not in the list, which can not be, counts as below all others.
    pub(crate) fn stamp(
        &self,
        NumberedStamp { origin, tick }: NumberedStamp,
        local: impl FnOnce() -> Origin,
    ) -> Stamp {
        let origin = match origin {
            OriginNumber::LOCAL => local(),
            number => self.authors.load().origin(number).unwrap_or_default(),
        };
        Stamp { tick, origin }
    }

    /// The stamp of a write, or that of the victim just below an erase.
    pub(crate) fn entry_stamp(&self, stamp: EntryStamp, local: impl FnOnce() -> Origin) -> Stamp {
        match stamp {
            EntryStamp::Written(stamp) => self.stamp(stamp, local),
            EntryStamp::Erase(erased) => erased.victim,
        }
    }

    /// Compares `other`, the stamp of a write, with the stored entry: ticks first, then authors, and
    /// an erase is just above its victim. What does not decode, which can not be, is below all.
    pub(crate) fn compare(
        &self,
        other: Stamp,
        trailer: Trailer,
        stored: &[u8],
        local: impl FnOnce() -> Origin,
    ) -> Ordering {
        let Ok(stamp) = stamp_of(trailer, stored) else { return Ordering::Greater };
        match other.tick.cmp(&stamp.tick()) {
            Ordering::Equal => {}
            decided => return decided,
        }
        let of_authors = other.origin.cmp(&self.entry_stamp(stamp, local).origin);
        of_authors.then(match stamp {
            EntryStamp::Written(_) => Ordering::Equal,
            EntryStamp::Erase(_) => Ordering::Less,
        })
    }

    /// Whether `origin` has a number, or may get one though it is a peer that brings it.
    pub(crate) fn has_room_for(&self, origin: Origin) -> bool {
        let authors = self.authors.load();
        authors.number_of(origin).is_some() || authors.list.len() < Vector::OTHERS_MAX
    }

    /// The number of an author, if it has one.
    pub(crate) fn number_of(&self, origin: Origin) -> Option<OriginNumber> {
        self.authors.load().number_of(origin)
    }
}

fn listed(state: &State, own: Origin) -> Authors {
    let local = state.number_of(own).unwrap_or_default();
    Authors { local, list: state.origins.clone() }
}
