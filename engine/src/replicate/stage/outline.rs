//! What a delta is about, in short.
//!
//! A chunk has thousands of entries, of few keyspaces and few authors. So it is looked through once, and
//! what is the same as for the entry before is not looked at again ([`Gist`]); everybody else asks what
//! was found.

use crate::creation::check_name_of_peer;
use base::limits::KEYSPACES_MAX;
use base::state::{StateEntry, StateKind};
use base::{Error, Origin, Result, Tick, Vector};
use std::collections::{BTreeMap, BTreeSet};

/// What is staged.
#[derive(Debug, Default)]
pub(super) struct Outline {
    /// The first chunk in the file with a point entry of each keyspace; none if there is no such chunk.
    pub(super) keyspaces: BTreeMap<String, Option<u64>>,
    /// Where the last chunk with range deletes ends.
    pub(super) ranges_end: u64,
    /// All authors.
    pub(super) origins: BTreeSet<Origin>,
    /// The greatest tick in it.
    pub(super) latest: Tick,
    /// The smallest tick of a put that was not received here, if there is one.
    pub(super) oldest_put: Option<Tick>,
    /// Keyspace and key of the last entry that is no range delete.
    last: Option<(String, Vec<u8>)>,
}

/// What the next chunk of a delta is about.
#[derive(Debug)]
pub(super) struct Gist<'c> {
    /// The keyspaces, each as often as entries of it, of one sort, follow others.
    pub(super) keyspaces: Vec<(&'c str, Sort)>,
    /// Who has brought its entries.
    pub(super) carriers: BTreeSet<Origin>,
    /// The greatest tick in it.
    pub(super) latest: Tick,
    /// The smallest tick of a put that was not received here, if there is one.
    pub(super) oldest_put: Option<Tick>,
    /// Keyspace and key of the last entry that is no range delete.
    last: Option<(&'c str, &'c [u8])>,
}

/// What an entry is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Sort {
    /// All keys of a range.
    Range,
    /// One key.
    Point,
}

impl Outline {
    /// Of a delta without entries, whose head says `latest`.
    pub(super) fn of(latest: Tick) -> Outline {
        Outline { latest, ..Outline::default() }
    }

    /// What `entries` are about, where `known` was received before.
    ///
    /// # Errors
    /// `InvalidInput` or `TooLarge` if they can not come next.
    pub(super) fn gist<'c>(&self, entries: &[StateEntry<'c>], known: &Vector) -> Result<Gist<'c>> {
        let before = self.last.as_ref().map(|(name, key)| (&**name, &**key));
        let mut gist = Gist {
            keyspaces: Vec::new(),
            carriers: BTreeSet::new(),
            latest: Tick::ZERO,
            oldest_put: None,
            last: None,
        };
        // The author before, and what was received of it.
        let mut author = None;
        for entry in entries {
            gist.place(entry, before)?;
            gist.date(entry, known, &mut author);
        }
        self.check(&gist)?;
        Ok(gist)
    }

    /// Refuses more keyspaces or authors than there may be.
    fn check(&self, gist: &Gist<'_>) -> Result<()> {
        let all = gist.keyspaces.iter().map(|(name, _)| *name);
        let new: BTreeSet<&str> = all.filter(|it| !self.keyspaces.contains_key(*it)).collect();
        let count = self.keyspaces.len() + new.len();
        if count > KEYSPACES_MAX {
            let (limit, count) = (KEYSPACES_MAX as u64, count as u64);
            return Err(Error::too_large("number of keyspaces of a delta", limit, count));
        }
        // A victim is named in full, all others by number.
        let count = self.origins.len() + gist.carriers.difference(&self.origins).count();
        if count > Vector::LEN_MAX {
            let (limit, count) = (Vector::LEN_MAX as u64, count as u64);
            return Err(Error::too_large("number of authors of a delta", limit, count));
        }
        Ok(())
    }

    /// Notes a chunk that is in the file at `place`, if it is there.
    pub(super) fn note(&mut self, gist: Gist<'_>, place: Option<(u64, u64)>) {
        for (name, sort) in gist.keyspaces {
            if !self.keyspaces.contains_key(name) {
                self.keyspaces.insert(name.to_owned(), None);
            }
            match (place, self.keyspaces.get_mut(name)) {
                (Some((_, end)), _) if sort == Sort::Range => self.ranges_end = end,
                (Some((start, _)), Some(first)) => _ = first.get_or_insert(start),
                _ => {}
            }
        }
        self.origins.extend(gist.carriers);
        self.latest = self.latest.max(gist.latest);
        self.oldest_put = self.oldest_put.into_iter().chain(gist.oldest_put).min();
        if let Some((name, key)) = gist.last {
            self.last = Some((name.to_owned(), key.to_vec()));
        }
    }
}

impl<'c> Gist<'c> {
    /// Whether there is a range delete.
    pub(super) fn has_ranges(&self) -> bool {
        self.keyspaces.iter().any(|(_, sort)| *sort == Sort::Range)
    }

    /// Notes what an entry is about, unless it can not come next.
    fn place(&mut self, entry: &StateEntry<'c>, before: Option<(&str, &[u8])>) -> Result<()> {
        let sort = match entry.kind {
            StateKind::RangeDelete { .. } => Sort::Range,
            _ => Sort::Point,
        };
        let goes_on = self.keyspaces.last().is_some_and(|(name, of)| {
            *of == sort && (std::ptr::eq(*name, entry.keyspace) || *name == entry.keyspace)
        });
        if !goes_on {
            check_name_of_peer(entry.keyspace)?;
            self.keyspaces.push((entry.keyspace, sort));
        }
        if let StateKind::RangeDelete { end } = entry.kind {
            if self.last.is_some() || before.is_some() {
                return Err(out_of_order());
            }
            if !end.is_empty() && end <= entry.key {
                return Err(Error::invalid("a range delete of the delta ends before it starts"));
            }
            return Ok(());
        }
        let is_next = match self.last.or(before) {
            Some((_, key)) if goes_on => key < entry.key,
            Some(last) => last < (entry.keyspace, entry.key),
            None => true,
        };
        self.last = Some((entry.keyspace, entry.key));
        if is_next { Ok(()) } else { Err(out_of_order()) }
    }

    /// Notes who wrote an entry and when. `author` is who wrote the one before, and what was received of it.
    fn date(
        &mut self,
        entry: &StateEntry<'_>,
        known: &Vector,
        author: &mut Option<(Origin, Tick)>,
    ) {
        let carrier = entry.carrier();
        self.latest = self.latest.max(entry.stamp.tick).max(carrier.tick);
        let received = match *author {
            Some((origin, received)) if origin == carrier.origin => received,
            _ => {
                self.carriers.insert(carrier.origin);
                let received = known.get(carrier.origin);
                *author = Some((carrier.origin, received));
                received
            }
        };
        let is_put = matches!(entry.kind, StateKind::Put(_) | StateKind::PutExpiring { .. });
        if is_put && entry.stamp.tick > received {
            self.oldest_put = self.oldest_put.into_iter().chain([entry.stamp.tick]).min();
        }
    }
}

fn out_of_order() -> Error {
    Error::invalid("the entries of the delta are out of order")
}
