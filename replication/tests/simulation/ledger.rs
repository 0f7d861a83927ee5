//! All writes that were acknowledged, and what must be read because of them.

use crate::story::machine::Content;
use base::{Origin, Tick, Vector};
use replication::memory::{Change, Write};
use replication::store::keyspaces;
use std::collections::{BTreeMap, BTreeSet};

/// Keyspace and key.
type Place = (String, Vec<u8>);

/// One acknowledged write.
#[derive(Clone, Debug)]
struct Entry {
    writes: Vec<Write>,
    /// Some disk has it: it may not be lost.
    is_kept: bool,
}

/// See the module.
#[derive(Debug, Default)]
pub(crate) struct Ledger {
    entries: BTreeMap<(Tick, Origin), Entry>,
    /// Those whose only disk was lost.
    pub(crate) lost: u64,
}

/// What each key that was ever written should have.
pub(crate) type Fold = BTreeMap<Place, Option<Vec<u8>>>;

impl Ledger {
    /// A write was acknowledged.
    pub(crate) fn note(&mut self, origin: Origin, tick: Tick, writes: &[Write]) {
        let entry = Entry { writes: writes.to_vec(), is_kept: true };
        self.entries.insert((tick, origin), entry);
    }

    /// A crash took what `origin` wrote above `last`. Nobody else can have it: only what is durable
    /// is sent. Says who has.
    pub(crate) fn cut(&mut self, origin: Origin, last: Tick, others: &[Vector]) -> Option<Tick> {
        let gone = |(tick, of): &(Tick, Origin)| *of == origin && *tick > last;
        let seen = self.entries.keys().filter(|key| gone(key)).map(|(tick, _)| *tick);
        let leaked =
            seen.into_iter().find(|tick| others.iter().any(|vector| vector.covers(origin, *tick)));
        self.entries.retain(|key, _| !gone(key));
        leaked
    }

    /// A disk has lost something: what no other has may be missing from now on.
    pub(crate) fn forget_unless(&mut self, held: &[Vector]) {
        for ((tick, origin), entry) in &mut self.entries {
            if entry.is_kept && !held.iter().any(|vector| vector.covers(*origin, *tick)) {
                entry.is_kept = false;
                self.lost += 1;
            }
        }
    }

    /// A write that should have survived, and is not in `vector`.
    pub(crate) fn missing(&self, vector: &Vector) -> Option<(Tick, Origin)> {
        let is_missing = |(tick, origin): (Tick, Origin)| !vector.covers(origin, tick);
        let kept = self.entries.iter().filter(|(_, entry)| entry.is_kept);
        kept.map(|(key, _)| *key).find(|key| is_missing(*key))
    }

    /// The last writer's value of each key, of all writes that `vector` covers.
    pub(crate) fn fold(&self, vector: &Vector) -> Fold {
        let mut fold = Fold::new();
        for ((tick, origin), entry) in &self.entries {
            if !vector.covers(*origin, *tick) {
                continue;
            }
            // In the order of stamps, so the last one wins; a range delete takes all before it.
            for Write { keyspace, key, change } in &entry.writes {
                let value = match change {
                    Change::Put(value) => Some(value.clone()),
                    Change::Delete | Change::Erase(_) => None,
                    Change::DeleteTo(end) => {
                        let is_in = |at: &Place| {
                            at.0 == *keyspace && at.1 >= *key && (end.is_empty() || at.1 < *end)
                        };
                        fold.iter_mut().filter(|(at, _)| is_in(at)).for_each(|(_, v)| *v = None);
                        continue;
                    }
                };
                fold.insert((keyspace.clone(), key.clone()), value);
            }
        }
        fold
    }

    /// What is wrong with `content`, which `vector` says is all there is.
    pub(crate) fn judge(&self, vector: &Vector, content: &Content) -> Option<String> {
        if let Some((tick, origin)) = self.missing(vector) {
            let entry = &self.entries[&(tick, origin)];
            return Some(format!("lost: {tick} of {origin:?}, {:?}", entry.writes));
        }
        let fold = self.fold(vector);
        let quarantine = keyspaces::QUARANTINE;
        let late: BTreeSet<&[u8]> = content
            .iter()
            .filter(|(keyspace, ..)| keyspace == quarantine)
            .map(|(.., value)| value.as_slice())
            .collect();
        let found: BTreeMap<Place, &Vec<u8>> = content
            .iter()
            .filter(|(keyspace, ..)| !keyspace.starts_with(keyspaces::RESERVED))
            .map(|(keyspace, key, value)| ((keyspace.clone(), key.clone()), value))
            .collect();
        for (place, expected) in &fold {
            let is_late = expected.as_deref().is_some_and(|value| late.contains(value));
            let found = found.get(place).copied();
            if found != expected.as_ref() && !(is_late && found.is_none()) {
                let text = |value: Option<&Vec<u8>>| value.map(|v| shown(v));
                let (found, expected) = (text(found), text(expected.as_ref()));
                return Some(format!("{}: {found:?} instead of {expected:?}", name(place)));
            }
        }
        let phantom = found.keys().find(|place| !fold.contains_key(*place));
        phantom.map(|place| format!("{}: a key that nobody wrote", name(place)))
    }

    /// A late write of one of `living`: nothing may be forgotten before they know of it, and what they
    /// write then is newer.
    pub(crate) fn late_of(&self, living: &[Origin], content: &Content) -> Option<String> {
        let late = content.iter().filter(|(keyspace, ..)| keyspace == keyspaces::QUARANTINE);
        let late: BTreeSet<&[u8]> = late.map(|(.., value)| value.as_slice()).collect();
        let is_late = |write: &Write| match &write.change {
            Change::Put(value) => late.contains(value.as_slice()),
            Change::Delete | Change::DeleteTo(_) | Change::Erase(_) => false,
        };
        let of_living = self.entries.iter().filter(|((_, origin), _)| living.contains(origin));
        let mut writes = of_living
            .flat_map(|((tick, _), entry)| entry.writes.iter().map(move |write| (*tick, write)));
        let (tick, write) = writes.find(|(_, write)| is_late(write))?;
        Some(format!("{} at {tick} was late, although its author lives", describe(write)))
    }

    pub(crate) fn len(&self) -> usize {
        self.entries.len()
    }

    /// All writes of a key, for the report of a failure.
    pub(crate) fn history(&self) -> Vec<String> {
        let line = |((tick, origin), entry): (&(Tick, Origin), &Entry)| {
            let kept = if entry.is_kept { "" } else { " (only disk lost)" };
            let writes: Vec<String> = entry.writes.iter().map(describe).collect();
            format!("{tick} {:04x}: {}{kept}", origin.incarnation.0 >> 48, writes.join(", "))
        };
        self.entries.iter().map(line).collect()
    }
}

/// A write in words.
pub(crate) fn describe(write: &Write) -> String {
    let place = name(&(write.keyspace.clone(), write.key.clone()));
    match &write.change {
        Change::Put(value) => format!("{place} = {}", shown(value)),
        Change::Delete => format!("delete {place}"),
        Change::DeleteTo(end) => format!("delete {place}..{}", shown(end)),
        Change::Erase(_) => format!("erase {place}"),
    }
}

fn name((keyspace, key): &Place) -> String {
    format!("{keyspace}/{}", String::from_utf8_lossy(key))
}

fn shown(value: &[u8]) -> String {
    String::from_utf8_lossy(&value[..value.len().min(20)]).into_owned()
}
