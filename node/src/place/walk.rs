//! A walk through the records of an open database, as of one moment.
//!
//! It holds a snapshot and one cursor, so it may rest between two steps for as long as its reader
//! likes, on any thread.

use crate::database;
use crate::error::{Failure, Outcome};
use engine::{Cursor, Db, Keyspace, Snapshot};
use std::collections::VecDeque;

/// Records after which a walk leaves the cache to others.
const CACHED_MAX: u64 = 10_000;

/// Which records are walked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Selection {
    /// Of which keyspaces.
    pub(crate) keyspaces: Which,
    /// Which keys of each.
    pub(crate) range: KeyRange,
    /// Which way within each.
    pub(crate) direction: Direction,
    /// How many at most.
    pub(crate) limit: u64,
    /// What is wanted of each.
    pub(crate) part: Part,
}

impl Selection {
    /// All records of `keyspaces`.
    pub(crate) fn all_of(keyspaces: Which) -> Selection {
        Selection {
            keyspaces,
            range: KeyRange::default(),
            direction: Direction::Forward,
            limit: u64::MAX,
            part: Part::Record,
        }
    }
}

/// One keyspace or all.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Which {
    /// The one of this name.
    One(String),
    /// All of users, by name.
    All,
}

/// From the first key on or from the last back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Direction {
    /// In order.
    Forward,
    /// Against the order.
    Reverse,
}

/// Which part of a record is wanted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Part {
    /// The key alone.
    Key,
    /// Key and value.
    Record,
}

/// The keys from `start` on and before `end`; without an end up to the last.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct KeyRange {
    /// The first key.
    pub(crate) start: Vec<u8>,
    /// The first key behind it.
    pub(crate) end: Option<Vec<u8>>,
}

impl KeyRange {
    /// The keys that start with `prefix` and lie between `start` and `end`.
    pub(crate) fn of(
        prefix: Vec<u8>,
        start: Option<Vec<u8>>,
        end: Option<Vec<u8>>,
    ) -> Outcome<KeyRange> {
        if let (Some(start), Some(end)) = (&start, &end)
            && start > end
        {
            return Err(Failure::input("the start of the range is after its end"));
        }
        let behind_prefix = prefix_end(&prefix);
        let start = start.map_or(prefix.clone(), |start| start.max(prefix));
        let end = match (end, behind_prefix) {
            (Some(end), Some(behind)) => Some(end.min(behind)),
            (end, behind) => end.or(behind),
        };
        Ok(KeyRange { start, end })
    }

    fn has(&self, key: &[u8]) -> bool {
        key >= self.start.as_slice() && self.end.as_deref().is_none_or(|end| key < end)
    }
}

/// The shortest key above all that start with `prefix`; `None` if there is none.
fn prefix_end(prefix: &[u8]) -> Option<Vec<u8>> {
    let mut end = prefix.to_vec();
    while let Some(last) = end.pop() {
        if let Some(next) = last.checked_add(1) {
            end.push(next);
            return Some(end);
        }
    }
    None
}

/// One record on a walk.
#[derive(Clone, Copy)]
pub(crate) struct Entry<'a> {
    /// The keyspace it is in.
    pub(crate) keyspace: &'a str,
    /// Its key.
    pub(crate) key: &'a [u8],
    /// Its value.
    pub(crate) value: &'a [u8],
}

/// A walk under way.
pub(crate) struct Walk {
    snapshot: Snapshot,
    waiting: VecDeque<Keyspace>,
    here: Option<(Keyspace, Cursor)>,
    range: KeyRange,
    direction: Direction,
    left: u64,
    /// Records that may still be walked by way of the cache.
    cached: u64,
}

impl Walk {
    /// Starts before the first of the selected records.
    pub(crate) fn new(db: &Db, selection: &Selection) -> Outcome<Walk> {
        let keyspaces: Vec<Keyspace> = match &selection.keyspaces {
            Which::One(name) => database::keyspace_to_read(db, name)?.into_iter().collect(),
            Which::All => database::keyspaces_of_users(db),
        };
        Ok(Walk {
            snapshot: db.snapshot(),
            waiting: keyspaces.into(),
            here: None,
            range: selection.range.clone(),
            direction: selection.direction,
            left: selection.limit,
            cached: CACHED_MAX,
        })
    }

    /// The next record; `None` at the end.
    pub(crate) fn next(&mut self) -> Outcome<Option<Entry<'_>>> {
        if self.left == 0 {
            return Ok(None);
        }
        loop {
            match &mut self.here {
                Some((_, cursor)) => match self.direction {
                    Direction::Forward => cursor.advance()?,
                    Direction::Reverse => cursor.retreat()?,
                },
                None => match self.waiting.pop_front() {
                    Some(keyspace) => self.enter(keyspace)?,
                    None => return Ok(None),
                },
            }
            let key = self.here.as_ref().and_then(|(_, cursor)| cursor.entry());
            if key.is_some_and(|(key, _)| self.range.has(key)) {
                break;
            }
            self.here = None;
        }
        self.left -= 1;
        self.note_long();
        let Some((keyspace, cursor)) = &self.here else { return Ok(None) };
        let name = keyspace.name();
        Ok(cursor.entry().map(|(key, value)| Entry { keyspace: name, key, value }))
    }

    /// Counts a record; after many the cache is not filled any more.
    fn note_long(&mut self) {
        let Some(left) = self.cached.checked_sub(1) else { return };
        self.cached = left;
        if left == 0
            && let Some((_, cursor)) = &mut self.here
        {
            cursor.fill_cache(false);
        }
    }

    /// Places a cursor at the first wanted record of `keyspace`.
    fn enter(&mut self, keyspace: Keyspace) -> Outcome {
        let mut cursor = self.snapshot.cursor(&keyspace)?;
        cursor.fill_cache(self.cached > 0);
        match (self.direction, &self.range.end) {
            (Direction::Forward, _) if self.range.start.is_empty() => cursor.seek_first()?,
            (Direction::Forward, _) => cursor.seek(&self.range.start)?,
            (Direction::Reverse, None) => cursor.seek_last()?,
            (Direction::Reverse, Some(end)) => cursor.seek_before(end)?,
        }
        self.here = Some((keyspace, cursor));
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        /// Prefix, start and end together keep what each of them keeps.
        #[test]
        fn a_range_has_the_keys_that_prefix_start_and_end_all_keep(
            prefix in proptest::collection::vec(250u8.., 0..3),
            start in proptest::option::of(proptest::collection::vec(250u8.., 0..3)),
            end in proptest::option::of(proptest::collection::vec(250u8.., 0..3)),
            key in proptest::collection::vec(250u8.., 1..4),
        ) {
            let kept = key.starts_with(&prefix)
                && start.as_ref().is_none_or(|start| key >= *start)
                && end.as_ref().is_none_or(|end| key < *end);
            match KeyRange::of(prefix, start.clone(), end.clone()) {
                Ok(range) => prop_assert_eq!(range.has(&key), kept),
                Err(_) => prop_assert!(start > end),
            }
        }
    }
}
