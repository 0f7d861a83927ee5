//! What becomes of each key: the rules of a delta, entry by entry.
//!
//! ```text
//! catch up   an entry that is news here and greater than what is here is stored
//! rejoin     besides, what is here, if the giver has received it and holds nothing as great:
//!              becomes what the giver holds of the key
//!              or is erased, if that is nothing
//!            a put here that the giver has not received but would find late is answered: whoever
//!              takes the giver's floor over vouches for what was forgotten below it
//! heal       where something is missing here as rejoin, elsewhere as catch up
//! mend       an entry that was received and is greater than what is here is stored
//! disown     an entry that is what is here is answered as a late put
//! ```
//!
//! What is erased so has no author: the erase names its victim as its carrier. It stands for nothing, so
//! no delta gives it away, and it is not let go itself.
//!
//! A tombstone that only the giver has let go may stay: it hides what the giver has not either, and
//! the floor that comes with the delta lets it go here too. So do range deletes.

use super::super::Answers;
use super::super::decide::is_own_write;
use super::super::incoming::Precedence;
use super::super::parked::{Loser, LostWrite};
use super::output::Tables;
use super::{Purpose, Stage};
use crate::creation::is_reserved;
use crate::keyspace::KeyspaceState;
use crate::merge::{Merge, RunCursor, Source};
use crate::range_map::RangeMap;
use crate::read;
use crate::tables::{LiveRun, TableHandle};
use crate::view::View;
use base::error::FileKind;
use base::foreign::{EntryStamp, plain_value, stamp_of};
use base::state::{StateEntry, StateKind};
use base::{
    Corruption, EntryKind, Error, KeyRange, KeyRanges, Origin, Result, SpaceId, Stamp, Tick,
    Trailer, Vector,
};
use sstable::ReadMode;
use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

/// What entries are compared with: what is visible at the delta's place.
pub(super) struct Here {
    pub(super) view: Arc<View>,
    /// The last commit before the place.
    pub(super) at: Tick,
    /// What was received.
    pub(super) vector: Vector,
    /// What of that excuses an entry: nothing while content is missing.
    pub(super) known: Vector,
    /// What may have been forgotten here; not older than the view.
    pub(super) floor: Vector,
    /// The highest tick of a tombstone that was dropped; not older than the view.
    pub(super) dropped: Tick,
    /// Tables replaced by what verifies of them, before the view was taken.
    pub(super) salvages: u64,
    /// What is read in the place of damaged tables.
    pub(super) replaced: BTreeMap<u64, Vec<Arc<TableHandle>>>,
}

impl Here {
    /// A cursor over the entries of `space` in a run, damaged tables replaced.
    fn cursor(&self, run: &LiveRun, space: SpaceId) -> RunCursor {
        if self.replaced.is_empty() {
            return RunCursor::new(run, space, ReadMode::Bypass);
        }
        let tables =
            run.tables().iter().flat_map(|table| match self.replaced.get(&table.meta().id) {
                Some(remains) => remains.clone(),
                None => vec![table.clone()],
            });
        RunCursor::over(tables.collect(), space, ReadMode::Bypass)
    }
}

/// Decides about one keyspace after the other.
pub(super) struct Judge<'j, 'a> {
    pub(super) stage: &'j Stage,
    pub(super) here: &'j Here,
    /// The range deletes of the delta.
    pub(super) ranges: &'j RangeMap,
    pub(super) tables: &'j mut Tables<'a>,
    /// The rule for the key at hand: never [`Purpose::Heal`], which is two others by turns.
    pub(super) rule: Purpose,
    /// Whether late puts are answered here.
    pub(super) answers: Answers,
    /// Late puts that were answered.
    pub(super) late: u64,
    /// Late puts that nobody here may answer.
    pub(super) unanswered: u64,
    /// The keyspaces that have a resolver.
    pub(super) watched: &'j [SpaceId],
    /// Entries that lost unseen to one of this node's, and are parked.
    pub(super) parked: u64,
}

/// The newest entry of a key here.
#[derive(Clone, Copy, Debug)]
pub(super) struct Mine {
    pub(super) rank: Precedence,
    carrier: Stamp,
    is_put: bool,
    /// Whether it stands for nothing, see the module.
    is_nothing: bool,
    /// Whether this node wrote it, after all that was received before.
    is_own: bool,
}

impl Judge<'_, '_> {
    /// What is here of `key`, unless a range delete hides it.
    pub(super) fn look_up(&mut self, space: SpaceId, entry: &StateEntry<'_>) -> Result<()> {
        let view = &self.here.view;
        // All before the place was flushed.
        let found = read::newest_flushed(view, space, entry.key, self.here.at, |found| {
            let local = || found.local.unwrap_or(view.active.local());
            mine(view, found.trailer, found.stored, local)
        })?;
        let mine = found.transpose()?;
        self.decide(space, entry, mine)
    }

    /// Decides about an entry of the delta, where `mine` is the newest here.
    fn decide(&mut self, space: SpaceId, entry: &StateEntry<'_>, mine: Option<Mine>) -> Result<()> {
        let theirs = rank_of(entry);
        let hiding = self.ranges.covering(space, entry.key, Tick::MAX);
        if hiding.is_some_and(|range| range > theirs.stamp) {
            // Its giver does not hold it any more.
            return self.miss(space, entry.key, mine);
        }
        let covering = read::covering(&self.here.view, space, entry.key, self.here.at);
        let mine = mine.filter(|mine| covering.is_none_or(|range| range <= mine.rank.stamp));
        if mine.is_some_and(|mine| self.is_let_go(&mine, Some(theirs), hiding)) {
            return self.tables.add(space, entry);
        }
        let is_covered = covering.is_some_and(|range| range > theirs.stamp);
        if self.rule == Purpose::Disown {
            let is_here = !is_covered && mine.is_some_and(|mine| mine.rank == theirs);
            return if is_here { self.answer(space, entry) } else { Ok(()) };
        }
        // What was let go hides what is below it, and says nothing about its deletion.
        let above = mine.filter(|mine| mine.rank >= theirs);
        if !is_covered && above.is_some_and(|above| above.is_own) {
            self.park_unseen(space, entry)?;
        }
        if self.is_known(entry.carrier())
            || is_covered
            || above.is_some_and(|above| !above.is_nothing)
        {
            return Ok(());
        }
        match above {
            _ if self.is_late(entry) && !self.is_vouched_for() => self.answer(space, entry),
            Some(_) => Ok(()),
            None => self.tables.add(space, entry),
        }
    }

    /// Parks an entry that lost to one of this node's, unless that had seen it, or nobody wants to know.
    fn park_unseen(&mut self, space: SpaceId, entry: &StateEntry<'_>) -> Result<()> {
        let is_new = !self.here.vector.covers_stamp(entry.carrier());
        let brings_news = matches!(self.rule, Purpose::CatchUp | Purpose::Rejoin);
        if !is_new || !brings_news || !self.watched.contains(&space) {
            return Ok(());
        }
        let write = match entry.kind {
            StateKind::Put(value) => LostWrite::Put(value, 0),
            StateKind::PutExpiring { expires_at_ms, value } => LostWrite::Put(value, expires_at_ms),
            StateKind::Delete => LostWrite::Delete,
            StateKind::RangeDelete { .. } | StateKind::Erase { .. } => return Ok(()),
        };
        let StateEntry { keyspace, key, stamp, .. } = *entry;
        self.parked += 1;
        self.tables.park(&Loser { space, keyspace, key, stamp, write })
    }

    /// Whether an entry is of no interest because of what was received.
    fn is_known(&self, carrier: Stamp) -> bool {
        match (self.stage.purpose, self.rule) {
            (Purpose::Mend, _) => !self.here.vector.covers_stamp(carrier),
            // Nothing is missing there.
            (Purpose::Heal, Purpose::CatchUp) => self.here.vector.covers_stamp(carrier),
            _ => self.here.known.covers_stamp(carrier),
        }
    }

    /// Answers a put that may not stay, if this node may.
    fn answer(&mut self, space: SpaceId, entry: &StateEntry<'_>) -> Result<()> {
        if !self.tables.answers() {
            self.unanswered += 1;
            return Ok(());
        }
        self.late += 1;
        self.tables.answer(space, entry.keyspace, entry)
    }

    /// Decides about a key of which the giver holds no entry.
    fn miss(&mut self, space: SpaceId, key: &[u8], mine: Option<Mine>) -> Result<()> {
        let Some(mine) = mine.filter(|mine| mine.is_put) else { return Ok(()) };
        let hiding = self.ranges.covering(space, key, Tick::MAX);
        if !self.is_let_go(&mine, None, hiding) {
            return Ok(());
        }
        let covering = read::covering(&self.here.view, space, key, self.here.at);
        match covering.is_some_and(|range| range > mine.rank.stamp) {
            true => Ok(()),
            false => self.tables.erase(space, key, mine.rank.stamp),
        }
    }

    /// Whether the giver has received `mine` and holds nothing as great.
    fn is_let_go(&self, mine: &Mine, point: Option<Precedence>, range: Option<Stamp>) -> bool {
        let is_below = |stamp: Stamp| Precedence { stamp, is_erase: false } < mine.rank;
        self.rule == Purpose::Rejoin
            && !mine.is_nothing
            && self.stage.head.vector.covers_stamp(mine.carrier)
            && point.is_none_or(|point| point < mine.rank)
            && range.is_none_or(is_below)
    }

    /// Whether the giver may have forgotten the deletion of `mine`, which it has not received.
    fn may_be_late_there(&self, name: &str, mine: &Mine) -> bool {
        let head = &self.stage.head;
        mine.is_put
            && mine.rank.stamp.tick <= head.dropped
            && !head.vector.covers_stamp(mine.carrier)
            && self.tables.answers()
            && !is_reserved(name)
    }

    /// Whether `mine` would win at the giver, which holds `theirs`, and is not hidden here.
    fn is_open(
        &self,
        space: SpaceId,
        key: &[u8],
        mine: &Mine,
        theirs: Option<&StateEntry<'_>>,
    ) -> bool {
        let hiding = self.ranges.covering(space, key, Tick::MAX);
        let covering = read::covering(&self.here.view, space, key, self.here.at);
        theirs.is_none_or(|theirs| rank_of(theirs) < mine.rank)
            && hiding.max(covering).is_none_or(|range| range < mine.rank.stamp)
    }

    /// Whether the giver, an author, has received all deletes that were forgotten here: what it holds
    /// was not deleted. Other authors answer for themselves.
    fn is_vouched_for(&self) -> bool {
        self.rule == Purpose::Rejoin
            && self.answers == Answers::Reader
            && self.stage.head.vector.covers_all(&self.here.floor)
    }

    /// Whether it is a put whose deletion may have been forgotten. Nothing is ever deleted in the
    /// keyspaces of replication itself.
    fn is_late(&self, entry: &StateEntry<'_>) -> bool {
        matches!(entry.kind, StateKind::Put(_) | StateKind::PutExpiring { .. })
            && entry.stamp.tick <= self.here.dropped
            && !self.here.vector.covers_stamp(entry.stamp)
            && !is_reserved(entry.keyspace)
    }
}

/// The entries of one keyspace here, the newest of each key.
pub(super) struct Own<'a> {
    merge: Merge,
    state: &'a KeyspaceState,
    /// Where the giver has sent everything, without what was passed; none if that is everywhere.
    within: Option<VecDeque<KeyRange>>,
    /// Whether the merge is in the first of them.
    is_inside: bool,
    key: Vec<u8>,
    /// What stands under the key, if it may be late for the giver.
    value: Option<(EntryKind, Vec<u8>)>,
}

impl Own<'_> {
    /// Those of a keyspace, all of which are in tables.
    pub(super) fn of<'a>(here: &Here, state: &'a KeyspaceState) -> Result<Own<'a>> {
        let mut own = Own::nowhere(here, state, None);
        own.merge.seek_first()?;
        Ok(own)
    }

    /// The same, where the giver has sent everything in the ranges of `missing` and elsewhere what was news.
    pub(super) fn within<'a>(
        here: &Here,
        state: &'a KeyspaceState,
        missing: &KeyRanges,
    ) -> Result<Own<'a>> {
        let ranges = missing.within(&state.name).cloned().collect();
        Ok(Own::nowhere(here, state, Some(ranges)))
    }

    fn nowhere<'a>(
        here: &Here,
        state: &'a KeyspaceState,
        within: Option<VecDeque<KeyRange>>,
    ) -> Own<'a> {
        let space = state.space;
        let runs = here.view.runs.runs().iter().filter(|run| run.may_hold(space));
        let sources = runs.map(|run| Source::Run(here.cursor(run, space))).collect();
        let merge = Merge::new(sources);
        Own { merge, state, within, is_inside: false, key: Vec::new(), value: None }
    }

    /// Decides about `entry` and what is here of its key, after all keys before it of which the giver
    /// would have sent an entry.
    pub(super) fn join(&mut self, judge: &mut Judge<'_, '_>, entry: &StateEntry<'_>) -> Result<()> {
        while let Some(range) = self.first()
            && range.ends_before(entry.key)
        {
            self.pass_range(judge)?;
        }
        match &self.within {
            None => self.pass(judge, Some(entry.key))?,
            Some(ranges) if ranges.front().is_some_and(|range| range.holds(entry.key)) => {
                self.enter(judge)?;
                self.pass(judge, Some(entry.key))?;
            }
            Some(_) => {
                judge.rule = Purpose::CatchUp;
                self.merge.seek(entry.key, Trailer::MAX)?;
            }
        }
        let mine = match self.merge.is_valid() && self.merge.key() == entry.key {
            true => self.take(judge)?,
            false => None,
        };
        match mine {
            Some(mine) if self.answer_late(judge, &mine, Some(entry))? => Ok(()),
            mine => judge.decide(self.state.space, entry, mine),
        }
    }

    /// Decides about all keys that are left.
    pub(super) fn finish(&mut self, judge: &mut Judge<'_, '_>) -> Result<()> {
        if self.within.is_none() {
            return self.pass(judge, None);
        }
        while self.first().is_some() {
            self.pass_range(judge)?;
        }
        Ok(())
    }

    fn first(&self) -> Option<&KeyRange> {
        self.within.as_ref()?.front()
    }

    /// Goes to the start of the first range, unless the merge is inside.
    fn enter(&mut self, judge: &mut Judge<'_, '_>) -> Result<()> {
        judge.rule = Purpose::Rejoin;
        if let Some(range) = self.within.as_ref().and_then(VecDeque::front)
            && !std::mem::replace(&mut self.is_inside, true)
        {
            self.merge.seek(&range.start, Trailer::MAX)?;
        }
        Ok(())
    }

    /// Decides about the keys that are left of the first range.
    fn pass_range(&mut self, judge: &mut Judge<'_, '_>) -> Result<()> {
        self.enter(judge)?;
        let range = self.within.as_mut().and_then(VecDeque::pop_front);
        self.is_inside = false;
        match range {
            Some(range) if !range.end.is_empty() => self.pass(judge, Some(&range.end)),
            _ => self.pass(judge, None),
        }
    }

    /// Decides about the keys before `end`, of which the giver holds no entry; about all without one.
    fn pass(&mut self, judge: &mut Judge<'_, '_>, end: Option<&[u8]>) -> Result<()> {
        while self.merge.is_valid() && end.is_none_or(|end| self.merge.key() < end) {
            let mine = self.take(judge)?;
            if let Some(mine) = &mine
                && self.answer_late(judge, mine, None)?
            {
                continue;
            }
            judge.miss(self.state.space, &self.key, mine)?;
        }
        Ok(())
    }

    /// Answers `mine`, under the key, if it is late for the giver. Returns whether it was.
    fn answer_late(
        &self,
        judge: &mut Judge<'_, '_>,
        mine: &Mine,
        theirs: Option<&StateEntry<'_>>,
    ) -> Result<bool> {
        let (KeyspaceState { name, space, .. }, key) = (self.state, &*self.key);
        let Some((kind, value)) = &self.value else { return Ok(false) };
        if !judge.is_open(*space, key, mine, theirs) {
            return Ok(false);
        }
        let kind = match (kind, value.split_first_chunk::<8>()) {
            (EntryKind::PutExpiring, Some((at, value))) => {
                StateKind::PutExpiring { expires_at_ms: u64::from_le_bytes(*at), value }
            }
            _ => StateKind::Put(value),
        };
        judge.late += 1;
        let entry = StateEntry { keyspace: name, key, stamp: mine.rank.stamp, kind };
        judge.tables.answer(*space, name, &entry).map(|()| true)
    }

    /// The newest entry of the key under the merge, which is passed.
    fn take(&mut self, judge: &Judge<'_, '_>) -> Result<Option<Mine>> {
        let (here, mut newest) = (judge.here, None);
        self.value = None;
        self.key.clear();
        self.key.extend_from_slice(self.merge.key());
        while self.merge.is_valid() && self.merge.key() == self.key {
            let trailer = self.merge.trailer();
            if newest.is_none() && trailer.seqno() <= here.at {
                let local = self.merge.local().unwrap_or(here.view.active.local());
                let found = mine(&here.view, trailer, self.merge.value(), || local)?;
                if judge.may_be_late_there(&self.state.name, &found) {
                    let value = plain_value(trailer, self.merge.value()).map_err(unreadable)?;
                    self.value = trailer.kind().map(|kind| (kind, value.to_vec()));
                }
                newest = Some(found);
            }
            self.merge.step()?;
        }
        Ok(newest)
    }
}

fn unreadable(found: Corruption) -> Error {
    Error::corrupt(FileKind::Table, base::dir::TABLES_DIR, 0, found)
}

pub(super) fn rank_of(entry: &StateEntry<'_>) -> Precedence {
    let is_erase = matches!(entry.kind, StateKind::Erase { .. });
    Precedence { stamp: entry.stamp, is_erase }
}

pub(super) fn mine(
    view: &View,
    trailer: Trailer,
    stored: &[u8],
    local: impl Fn() -> Origin,
) -> Result<Mine> {
    let stamp = stamp_of(trailer, stored).map_err(unreadable)?;
    let is_erase = matches!(stamp, EntryStamp::Erase(_));
    let carrier = view.origins.stamp(stamp.carrier(), &local);
    let rank = Precedence { stamp: view.origins.entry_stamp(stamp, &local), is_erase };
    let is_put = matches!(trailer.kind(), Some(EntryKind::Put | EntryKind::PutExpiring));
    let is_own = !is_erase && is_own_write(view, stamp.carrier(), carrier.origin);
    let is_nothing = is_erase && carrier == rank.stamp;
    Ok(Mine { rank, carrier, is_put, is_nothing, is_own })
}
