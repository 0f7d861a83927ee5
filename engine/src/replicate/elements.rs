//! What two nodes compare: of each key of a scope what is newest, as it is at one moment.
//!
//! An element's name is its keyspace's name, a zero byte, and its key. Names of keyspaces hold no zero
//! byte, so the order of names is that of keyspaces, then of keys.

use super::moment::{Moment, lasts_until_ms};
use super::{DeltaHead, Replication};
use crate::merge::{Merge, RunCursor, Source};
use crate::read::Found;
use base::state::{StateEntry, StateKind};
use base::{Result, ScopeId, SpaceId, Stamp, Trailer};
use sstable::ReadMode;
use std::cell::RefCell;

/// The elements of a scope at one moment. Pins the tables of that moment.
pub struct Elements {
    moment: Moment,
    is_whole: bool,
    /// The keyspace that was read last.
    reading: RefCell<Option<(SpaceId, ReadMode, Merge)>>,
}

/// What is known of a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Element {
    /// The author's stamp; of an erase, the stamp of its victim.
    pub stamp: Stamp,
    /// The commit that brought it.
    pub carrier: Stamp,
    /// Whether it is an erase: then it is just above its victim.
    pub is_erase: bool,
    /// Until when it is a value, in milliseconds since the Unix epoch; 0 if it is none. Then it goes
    /// once the floor has passed it.
    pub lasts_until_ms: u64,
}

impl Replication {
    /// The elements of `scope` as they are now.
    pub fn elements(&self, scope: ScopeId) -> Result<Elements> {
        let moment = Moment::of(&self.parts, scope)?;
        Ok(Elements { moment, is_whole: self.is_whole(scope), reading: RefCell::new(None) })
    }
}

impl Elements {
    /// What was received and forgotten at that moment.
    pub fn head(&self) -> &DeltaHead {
        &self.moment.head
    }

    /// Whether nothing was lost then.
    pub fn is_whole(&self) -> bool {
        self.is_whole
    }

    /// Calls `each` with every name from `from` up to, not including, `to`, in order, until it returns
    /// false; with no element where what is there is hidden by a range delete, or stands for nothing.
    pub fn scan(
        &self,
        from: &[u8],
        to: Option<&[u8]>,
        each: &mut dyn FnMut(&[u8], Option<Element>) -> bool,
    ) -> Result<()> {
        // Long scans are for sums; the short ones of a comparison come back to the same blocks.
        let mode = if to.is_none() { ReadMode::Bypass } else { ReadMode::Cached };
        let (first, key) = split(from);
        for (name, space) in &self.moment.spaces {
            let key: &[u8] = match name.as_bytes().cmp(first) {
                std::cmp::Ordering::Less => continue,
                std::cmp::Ordering::Equal => key,
                std::cmp::Ordering::Greater => &[],
            };
            let mut full = name.as_bytes().to_vec();
            full.push(0);
            if to.is_some_and(|to| to <= &*full) {
                return Ok(());
            }
            let mut merge = self.merge(*space, mode);
            merge.seek(key, Trailer::MAX)?;
            let flow = self.scan_space(*space, &mut merge, &mut full, to, each)?;
            self.reading.replace(Some((*space, mode, merge)));
            if flow == Flow::Stop {
                return Ok(());
            }
        }
        Ok(())
    }

    fn scan_space(
        &self,
        space: SpaceId,
        merge: &mut Merge,
        name: &mut Vec<u8>,
        to: Option<&[u8]>,
        each: &mut dyn FnMut(&[u8], Option<Element>) -> bool,
    ) -> Result<Flow> {
        let keyspace_len = name.len();
        while merge.is_valid() {
            let (key, trailer) = (merge.key(), merge.trailer());
            if trailer.seqno() > self.moment.at || name.get(keyspace_len..) == Some(key) {
                merge.step()?;
                continue;
            }
            name.truncate(keyspace_len);
            name.extend_from_slice(key);
            if to.is_some_and(|to| to <= &**name) {
                return Ok(Flow::Stop);
            }
            let local = merge.local().unwrap_or(self.moment.view.active.local());
            let found = Found { trailer, stored: merge.value(), local: Some(local) };
            if !each(name, self.element(space, key, &found)?) {
                return Ok(Flow::Stop);
            }
            merge.step()?;
        }
        Ok(Flow::On)
    }

    /// What is newest of a key, unless it is hidden or stands for nothing.
    fn element(&self, space: SpaceId, key: &[u8], found: &Found<'_>) -> Result<Option<Element>> {
        let Found { trailer, stored, local } = *found;
        let local = local.unwrap_or(self.moment.view.active.local());
        let of = self.moment.provenance(trailer, stored, local)?;
        let is_hidden = self.moment.is_covered(space, key, trailer, stored, local);
        if is_hidden || of.is_nothing() {
            return Ok(None);
        }
        let lasts_until_ms = lasts_until_ms(trailer, stored)?;
        let (stamp, carrier, is_erase) = (of.stamp, of.carrier, of.is_erase);
        Ok(Some(Element { stamp, carrier, is_erase, lasts_until_ms }))
    }

    /// Calls `found` with what is known of the key called `name`, if anything is: a range delete that
    /// hides it counts as a deletion of the key.
    pub fn look_up(&self, name: &[u8], found: &mut dyn FnMut(&StateEntry<'_>)) -> Result<()> {
        let moment = &self.moment;
        let (keyspace, key) = split(name);
        let space = moment.spaces.iter().find(|(known, _)| known.as_bytes() == keyspace);
        let Some((keyspace, space)) = space else { return Ok(()) };
        let covering = moment.covering(*space, key);
        let mut is_told = false;
        let told = moment.newest(*space, key, |newest| {
            let local = newest.local.unwrap_or(moment.view.active.local());
            let of = moment.provenance(newest.trailer, newest.stored, local)?;
            let is_hidden = covering.is_some_and(|range| range > of.stamp);
            if !is_hidden && !of.is_nothing() {
                let kind = moment.kind(newest.trailer, newest.stored, &of)?;
                is_told = true;
                found(&StateEntry { keyspace, key, stamp: of.stamp, kind });
            }
            Ok(())
        })?;
        told.transpose()?;
        if let Some(stamp) = covering.filter(|_| !is_told) {
            found(&StateEntry { keyspace, key, stamp, kind: StateKind::Delete });
        }
        Ok(())
    }

    /// The entries of a keyspace, merged.
    fn merge(&self, space: SpaceId, mode: ReadMode) -> Merge {
        if let Some((read, of, merge)) = self.reading.take()
            && (read, of) == (space, mode)
        {
            return merge;
        }
        let view = &self.moment.view;
        let memtables = std::iter::once(&view.active).chain(&view.frozen);
        let memtables = memtables.map(|memtable| Source::Memtable(memtable.cursor(space)));
        let runs = view.runs.runs().iter().filter(|run| run.may_hold(space));
        let runs = runs.map(|run| Source::Run(RunCursor::new(run, space, mode)));
        Merge::new(memtables.chain(runs).collect())
    }
}

/// Whether to go on.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Flow {
    On,
    Stop,
}

/// The keyspace and the key of a name, or of what a name may begin with.
fn split(name: &[u8]) -> (&[u8], &[u8]) {
    let zero = name.iter().position(|byte| *byte == 0);
    let (keyspace, key) = name.split_at_checked(zero.unwrap_or(name.len())).unwrap_or_default();
    (keyspace, key.get(1..).unwrap_or_default())
}

impl std::fmt::Debug for Elements {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Elements {{ scope: {}, at: {} }}", self.moment.scope.0, self.moment.at)
    }
}
