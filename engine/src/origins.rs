//! The authors whose entries are here, and their numbers.
//!
//! The manifest holds the list; this is what readers and writers of entries ask, without a lock. An
//! author is in the list before any entry names it, and stays.

use arc_swap::ArcSwap;
use base::{Origin, OriginNumber};
use sstable::Authors;
use sstable::manifest::State;
use std::sync::Arc;

/// See the module.
#[derive(Debug)]
pub(crate) struct Origins {
    /// The author of what this database writes in this life.
    own: Origin,
    authors: ArcSwap<Authors>,
}

impl Origins {
    /// Those that `state` lists, with `own` as the local one.
    pub(crate) fn of(state: &State, own: Origin) -> Origins {
        Origins { own, authors: ArcSwap::from_pointee(listed(state, own)) }
    }

    /// Takes over what `state` lists now.
    pub(crate) fn follow(&self, state: &State) {
        self.authors.store(Arc::new(listed(state, self.own)));
    }

    /// All of them.
    pub(crate) fn authors(&self) -> Authors {
        Authors::clone(&self.authors.load())
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
