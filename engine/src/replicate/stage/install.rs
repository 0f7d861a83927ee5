//! A staged delta becomes one commit: compared at its place in the order, written as tables, and made
//! current by one edit together with the vector.

use super::super::late::QUARANTINE;
use super::super::{Answers, Moved, keyspaces};
use super::judge::{Here, Judge, Own};
use super::output::{Tables, discard};
use super::prepared::Prepared;
use super::staged::Staged;
use super::{Installed, Purpose, Stage, refuse_unless_above_floor};
use crate::commit::{Barrier, Queue};
use crate::damage::Missing;
use crate::drops;
use crate::jobs;
use crate::keyspace::KeyspaceState;
use crate::parts::Parts;
use crate::quarantine::{self, Remains};
use crate::range_map::RangeMap;
use crate::space::Weight;
use crate::tables::TableHandle;
use base::state::{StateEntry, StateKind};
use base::{KeyRanges, Result, ScopeId, SpaceId, Stamp, Tick, Vector};
use sstable::manifest::{Added, Edit, State};
use sstable::{RangeDelete, TableMeta};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::Ordering;

/// Where the entries of a keyspace are.
struct Place {
    state: Arc<KeyspaceState>,
    /// The first chunk that has any.
    first: Option<u64>,
}

/// The keyspaces of a delta by their numbers here, which is the order of tables.
type Places = BTreeMap<SpaceId, Place>;

/// What a delta leaves.
struct Written {
    /// The oldest first.
    runs: Vec<Vec<TableMeta>>,
    late: u64,
    unanswered: u64,
    parked: u64,
}

/// How an attempt to install ended.
enum Attempt {
    Done(Tick),
    /// Nothing was changed: there are late puts, and this node may not answer them.
    Unanswered(u64),
    /// There are late puts, or a keyspace was dropped, that nobody had expected.
    Outdated,
    /// Nothing was changed: more is missing here than the giver was asked for.
    TooLittle,
}

/// Installs `stage` while nobody admits.
pub(super) fn install(stage: &Stage, mut prepared: Option<Prepared>) -> Result<Installed> {
    let (parts, scope) = (&*stage.parts, stage.scope);
    parts.commits.check_writable()?;
    let mends = mends(stage);
    if mends == Mends::Nothing {
        parts.damage.check()?;
    }
    parts.probe_if_nobody_does();
    parts.space.admit(Weight::Puts)?;
    let known = parts.commits.with_queue(|queue| {
        queue.observe(stage.outline.latest);
        queue.vectors().of(scope)
    });
    refuse_unless_above_floor(&stage.head, stage.purpose, &known)?;
    number_authors(stage)?;
    let place = loop {
        let places = places(stage)?;
        match attempt(stage, &mut prepared, &places, mends)? {
            Attempt::Done(place) => break place,
            Attempt::Unanswered(late) => return Ok(Installed::Unanswered { late }),
            Attempt::TooLittle => return Ok(Installed::TooLittle),
            Attempt::Outdated => {}
        }
    };
    // The log has none of it.
    parts.commits.bear_witness(parts.installer.durable(), place);
    parts.update_pressure();
    parts.compaction_bell.ring();
    drops::follow_all(&stage.parts);
    Ok(Installed::All)
}

/// Every author has a number before an entry names it.
fn number_authors(stage: &Stage) -> Result<()> {
    let parts = &*stage.parts;
    stage.outline.origins.iter().try_for_each(|origin| parts.number_of_other(*origin).map(drop))?;
    parts.number_of(parts.identity().origin())?;
    if matches!(stage.purpose, Purpose::Rejoin | Purpose::Heal) {
        // Entries from another life may have to be erased.
        let view = parts.views.current();
        let damaged = parts.damage.to_heal();
        let is_read = |meta: &TableMeta| meta.scope == stage.scope && !damaged.contains(&meta.id);
        for handle in view.runs.tables().filter(|handle| is_read(handle.meta())) {
            parts.number_of(handle.table()?.local())?;
        }
    }
    Ok(())
}

/// The keyspaces that the delta is about; those that are missing are created.
fn places(stage: &Stage) -> Result<Places> {
    let (parts, scope) = (&*stage.parts, stage.scope);
    let mut places = Places::new();
    if stage.purpose == Purpose::Rejoin {
        let live = parts.catalog.live().into_iter();
        let here = live.filter(|state| state.space.scope() == scope);
        places.extend(here.map(|state| (state.space, Place { state, first: None })));
    }
    for range in stage.missing.iter() {
        if let Some(state) = parts.catalog.find(&range.keyspace)
            && state.space.scope() == scope
        {
            places.insert(state.space, Place { state, first: None });
        }
    }
    let named = &stage.outline.keyspaces;
    let opened = keyspaces::open_all(parts, scope, named.keys().map(String::as_str))?;
    for (state, first) in opened.into_iter().zip(named.values()) {
        places.insert(state.space, Place { state, first: *first });
    }
    Ok(places)
}

/// Takes a place in the order of commits, and installs there.
fn attempt(
    stage: &Stage,
    prepared: &mut Option<Prepared>,
    places: &Places,
    mends: Mends,
) -> Result<Attempt> {
    let (parts, scope) = (&*stage.parts, stage.scope);
    let dropped = dropped(parts, scope);
    let expects_late = stage.purpose == Purpose::Disown
        || stage.outline.oldest_put.is_some_and(|oldest| oldest <= dropped)
        || may_be_late_there(stage);
    let answers = parts.admissions.answers(scope);
    let copies = match expects_late && answers == Answers::Author {
        true => Some(keyspaces::open_keyspace(parts, scope, QUARANTINE)?.space),
        false => None,
    };
    let parked_in = parts.resolvers.parked_in();
    let claim = |queue: &mut Queue, seqno: Tick| {
        places.values().for_each(|place| place.state.note_arrival());
        for space in places.keys().copied().chain(copies).chain(parked_in) {
            queue.conflicts().note_range(seqno, (space, [].into(), [].into()));
        }
        if copies.is_some() {
            // Answers to late puts are a commit of this node that the log has not.
            return queue.note_bulk_load(scope, seqno);
        }
        queue.note_bulk(seqno);
        Moved::Nothing
    };
    let install = |barrier: Barrier| {
        jobs::flush_up_to(parts, barrier.before)?;
        if places.values().any(|place| place.state.check_live().is_err()) {
            return Ok(Attempt::Outdated);
        }
        // What is damaged must stay where it is.
        let _compacting = (mends == Mends::Tables).then(|| parts.compacting.lock());
        let mut remains = Unnamed { parts, all: Vec::new() };
        if mends == Mends::Tables {
            quarantine::remains_of(parts, scope, &mut remains.all)?;
        }
        if !is_enough(stage, &remains.all) {
            return Ok(Attempt::TooLittle);
        }
        let here = here(parts, scope, barrier, &remains.all)?;
        let lateness = Lateness { is_expected: expects_late, answers, copies };
        let written = adopt_or_write(stage, prepared, places, &here, barrier.seqno, &lateness)?;
        if written.unanswered > 0 {
            discard(parts, &written.runs);
            return Ok(match answers {
                Answers::Author => Attempt::Outdated,
                Answers::Reader => Attempt::Unanswered(written.unanswered),
            });
        }
        let mut vector = stage.head.vector.clone();
        if copies.is_some() {
            vector.raise(parts.identity().origin(), barrier.seqno);
        }
        let mut all = here.vector.clone();
        all.raise_all(&vector);
        let mut tables: Vec<u64> = written.runs.iter().flatten().map(|meta| meta.id).collect();
        tables.extend(remains.ids());
        let edit = |state: &State| {
            let mut edit = edit(stage, state, &written, all, barrier.seqno);
            if parts.damage.salvages() != here.salvages {
                // Content was lost that had been compared: the scope has to rejoin once more.
                edit.whole.clear();
            }
            for remains in &remains.all {
                edit.added.extend(remains.added.iter().cloned());
                edit.removed.push(remains.id);
            }
            edit
        };
        let installed = parts.install_written(&tables, edit, |_| {});
        let mended = std::mem::take(&mut remains.all);
        installed?;
        parts.commits.jump(scope, barrier.seqno, &vector);
        count(stage, &written);
        mended.iter().for_each(|mended| forget(parts, mended.id));
        Ok(Attempt::Done(barrier.seqno))
    };
    match mends {
        Mends::Nothing => parts.commits.barrier(claim, install),
        Mends::Tables => parts.commits.mending_barrier(claim, install),
    }
}

/// Whether damaged tables are replaced.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Mends {
    Tables,
    Nothing,
}

fn mends(stage: &Stage) -> Mends {
    let may_mend = matches!(stage.purpose, Purpose::Rejoin | Purpose::Heal);
    match may_mend && !stage.parts.damage.to_heal().is_empty() {
        true => Mends::Tables,
        false => Mends::Nothing,
    }
}

/// Whether the giver was asked for all that is missing here.
fn is_enough(stage: &Stage, remains: &[Remains]) -> bool {
    if stage.purpose != Purpose::Heal {
        return true;
    }
    let is_whole = |state: &State| !state.incomplete.contains_key(&stage.scope);
    let is_asked = |remains: &Remains| match &remains.missing {
        Missing::Anything => false,
        Missing::Ranges(ranges) => {
            let around = KeyRanges::around(ranges.iter().cloned());
            around.is_some_and(|around| stage.missing.cover(&around))
        }
    };
    stage.parts.installer.with_state(is_whole) && remains.iter().all(is_asked)
}

/// Remains that no edit names: they go if none comes.
struct Unnamed<'a> {
    parts: &'a Parts,
    all: Vec<Remains>,
}

impl Unnamed<'_> {
    fn ids(&self) -> impl Iterator<Item = u64> {
        self.all.iter().flat_map(|remains| remains.added.iter().map(|added| added.meta.id))
    }
}

impl Drop for Unnamed<'_> {
    fn drop(&mut self) {
        self.ids().for_each(|id| self.parts.obsolete.discard(self.parts, id));
    }
}

/// A damaged table is replaced, and what it had is here again.
fn forget(parts: &Parts, id: u64) {
    tracing::warn!(target: "esker::engine", table = id, "a damaged table was made whole from a peer");
    parts.meters.tables_healed.fetch_add(1, Ordering::Relaxed);
    parts.obsolete.delete(parts);
}

/// Whether puts here may be late for the giver.
fn may_be_late_there(stage: &Stage) -> bool {
    let (scope, head) = (stage.scope, &stage.head);
    let has_more = || {
        let here = stage.parts.commits.with_queue(|queue| queue.vectors().of(scope));
        !head.vector.covers_all(&here)
    };
    stage.purpose == Purpose::Rejoin && head.dropped > Tick::ZERO && has_more()
}

fn dropped(parts: &Parts, scope: ScopeId) -> Tick {
    let of = |state: &State| state.dropped_stamps.get(&scope).copied();
    parts.installer.with_state(of).unwrap_or(Tick::ZERO)
}

/// What is visible at the barrier.
fn here(parts: &Parts, scope: ScopeId, barrier: Barrier, remains: &[Remains]) -> Result<Here> {
    let salvages = parts.damage.salvages();
    let view = parts.views.current();
    // Not older than the view: what the view has dropped is known.
    let dropped = dropped(parts, scope);
    let is_whole = parts.installer.with_state(|state| !state.incomplete.contains_key(&scope));
    let vector = parts.commits.at_visible(|_, vectors| vectors.of(scope));
    let floor = parts.installer.with_state(|state| state.floors.get(&scope).cloned());
    let floor = floor.unwrap_or_else(|| vector.clone());
    let is_excuse = is_whole && remains.is_empty();
    let known = if is_excuse { vector.clone() } else { Vector::default() };
    let mut replaced = BTreeMap::new();
    for Remains { id, added, .. } in remains {
        let tables: Vec<_> = added.iter().map(|added| parts.tables.handle(&added.meta)).collect();
        for table in &tables {
            parts.number_of(table.table()?.local())?;
        }
        // Range deletes alone are in no order with the others.
        let tables = tables.into_iter().filter(|table| table.has_entries()).collect();
        replaced.insert(*id, tables);
    }
    Ok(Here { view, at: barrier.before, vector, known, floor, dropped, salvages, replaced })
}

/// What is done about late puts.
struct Lateness {
    /// Whether there may be any.
    is_expected: bool,
    answers: Answers,
    /// Where copies go.
    copies: Option<SpaceId>,
}

/// What a stage has prepared, as it is at the delta's place.
struct Ready<'a> {
    prepared: &'a Prepared,
    tables: Vec<Arc<TableHandle>>,
}

/// Takes what was prepared as it is and writes what is in the file, or writes all anew.
fn adopt_or_write(
    stage: &Stage,
    prepared: &mut Option<Prepared>,
    places: &Places,
    here: &Here,
    seqno: Tick,
    lateness: &Lateness,
) -> Result<Written> {
    let Some(prepared) = prepared else {
        return write(stage, None, places, here, seqno, lateness);
    };
    let run = prepared.tables_at(seqno);
    let handle = |meta: &TableMeta| stage.parts.tables.handle(&Arc::new(meta.clone()));
    let tables: Vec<_> = run.iter().map(handle).collect();
    let is_there =
        |name: &str, space| places.get(&space).is_some_and(|place| place.state.name == name);
    if lateness.is_expected || !prepared.holds(&here.view, &tables, is_there)? {
        return write(stage, Some(Ready { prepared, tables }), places, here, seqno, lateness);
    }
    // What is in the file came behind all that was prepared, so it is of other keys.
    let mut written = match stage.writer.is_empty() {
        true => Written { runs: Vec::new(), late: 0, unanswered: 0, parked: 0 },
        false => write(stage, None, places, here, seqno, lateness)?,
    };
    if written.unanswered == 0 {
        prepared.hand_over();
        written.runs.insert(0, run);
    }
    Ok(written)
}

/// Compares everything, and writes what is to be stored.
fn write(
    stage: &Stage,
    ready: Option<Ready<'_>>,
    places: &Places,
    here: &Here,
    seqno: Tick,
    lateness: &Lateness,
) -> Result<Written> {
    let (parts, answers) = (&*stage.parts, lateness.answers);
    let read_anew = ready.iter().flat_map(|ready| &ready.tables).map(|table| table.meta().len);
    parts.admit_received(stage.writer.len().saturating_add(read_anew.sum()))?;
    let staged = Staged::open(stage)?;
    let (ranges, map) = ranges(stage, &staged, places, here, seqno)?;
    let mut tables = Tables::new(parts, seqno, ranges, lateness.copies);
    let rule = stage.purpose;
    let (ranges, written) = (&map, &mut tables);
    let watched = parts.resolvers.watched(places.values().map(|place| &place.state));
    let mut judge = Judge {
        stage,
        here,
        ranges,
        tables: written,
        rule,
        answers,
        late: 0,
        unanswered: 0,
        watched: &watched,
        parked: 0,
    };
    for (space, Place { state, first }) in places {
        let mut own = match stage.purpose {
            Purpose::CatchUp | Purpose::Mend | Purpose::Disown => None,
            Purpose::Rejoin => Some(Own::of(here, state)?),
            Purpose::Heal => Some(Own::within(here, state, &stage.missing)?),
        };
        if let Some(Ready { prepared, tables }) = &ready {
            let look_up = |entry: &StateEntry<'_>| judge.look_up(*space, entry);
            prepared.each(&here.view, tables, &state.name, look_up)?;
        }
        if let Some(first) = first {
            staged.each_point(&state.name, *first, |entry| match &mut own {
                Some(own) => own.join(&mut judge, entry),
                None => judge.look_up(*space, entry),
            })?;
        }
        if let Some(own) = &mut own {
            own.finish(&mut judge)?;
        }
    }
    let Judge { late, unanswered, parked, .. } = judge;
    Ok(Written { runs: tables.finish()?, late, unanswered, parked })
}

/// The range deletes that are news here, and the map of all that the delta has.
fn ranges(
    stage: &Stage,
    staged: &Staged<'_>,
    places: &Places,
    here: &Here,
    seqno: Tick,
) -> Result<(Vec<RangeDelete>, RangeMap)> {
    let numbers: BTreeMap<&str, SpaceId> =
        places.iter().map(|(space, place)| (&*place.state.name, *space)).collect();
    let mut all = Vec::new();
    staged.each_range(|entry| {
        let Some(space) = numbers.get(entry.keyspace) else { return Ok(()) };
        all.extend(range_of(entry, *space, seqno));
        Ok(())
    })?;
    let stamp = |range: &RangeDelete| range.stamp(Stamp::default().origin);
    let is_news = |range: &&RangeDelete| !here.known.covers_stamp(stamp(range));
    let mut news: Vec<RangeDelete> = all.iter().filter(is_news).cloned().collect();
    // Those of a damaged table may be lost with it; if only some keys are missing, none is.
    if !news.is_empty() && (here.replaced.is_empty() || stage.purpose == Purpose::Heal) {
        let held: BTreeSet<_> = here
            .view
            .table_ranges
            .ranges()
            .map(|range| (range.space, &range.start, &range.end, stamp(range)))
            .collect();
        news.retain(|it| !held.contains(&(it.space, &it.start, &it.end, stamp(it))));
    }
    news.sort_by(|a, b| (a.space, &a.start, a.stamp).cmp(&(b.space, &b.start, b.stamp)));
    news.dedup();
    // Each says its author.
    Ok((news, RangeMap::of(all, Stamp::default().origin)))
}

fn range_of(entry: &StateEntry<'_>, space: SpaceId, seqno: Tick) -> Option<RangeDelete> {
    let StateKind::RangeDelete { end } = entry.kind else { return None };
    let Stamp { tick: stamp, origin } = entry.stamp;
    let (start, end) = (entry.key.into(), end.into());
    Some(RangeDelete { space, start, end, seqno, stamp, origin: Some(origin) })
}

/// The edit that makes all of it count.
fn edit(stage: &Stage, state: &State, written: &Written, vector: Vector, seqno: Tick) -> Edit {
    let (scope, head) = (stage.scope, &stage.head);
    let orders = state.version.next_order()..;
    let added = orders.zip(&written.runs).flat_map(|(order, run)| {
        run.iter().map(move |meta| Added { order, level: 0, meta: Arc::new(meta.clone()) })
    });
    Edit {
        added: added.collect(),
        flushed: Some(seqno),
        last_tick: Some(seqno),
        ingests: vec![seqno],
        vectors: vec![(scope, vector)],
        floors: vec![(scope, head.floor.clone())],
        dropped_stamps: vec![(scope, head.dropped)],
        whole: (stage.purpose == Purpose::Rejoin).then_some(scope).into_iter().collect(),
        ..Edit::default()
    }
}

fn count(stage: &Stage, written: &Written) {
    let late = written.late;
    stage.parts.resolvers.note_parked(written.parked);
    if late > 0 {
        stage.parts.admissions.count_late(late);
        tracing::warn!(target: "esker::engine", late, "late writes of a delta were put into quarantine");
    }
}
