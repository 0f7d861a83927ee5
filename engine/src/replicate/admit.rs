//! Admission: a shipment of another node becomes one commit of this one.
//!
//! ```text
//! decode ─ clock ─ vector ─ keyspaces ─ look up ─┬─ queue: judge ─ append ─┬─ insert
//!                                                │   as long as what was   │
//!                                                └── found may be outdated ┘
//! ```

use super::admission::Admission;
use super::admissions::Known;
use super::decide::{Basis, Verdict};
use super::incoming::{Arrivals, Incoming};
use super::late::{Answer, Answers, QUARANTINE};
use super::parked::{Loser, LostWrite, Parking};
use super::{Moved, Recent, keyspaces};
use crate::commit::{Admitted, Queue};
use crate::creation::{check_name_of_peer, is_reserved};
use crate::drops;
use crate::keyspace::KeyspaceState;
use crate::memtable::{ForeignOp, Memtable};
use crate::parts::Parts;
use crate::space::Weight;
use crate::stats::Counter;
use crate::view::View;
use base::batch::Ops;
use base::limits::BATCH_OPS_MAX;
use base::record::encode_author_header;
use base::remote::{Author, Outcome, Outcomes, RemoteHeader, encode_remote_batch};
use base::{Error, KeyspaceId, Op, Result, ScopeId, Shipment, SpaceId, Stamp, Tick, key_hash};
use std::sync::Arc;

/// Views that may change before lookups are repeated under the lock of the queue.
pub(super) const LOOKS_MAX: u32 = 4;

/// See [`super::Replication::admit`].
pub(crate) fn admit(parts: &Parts, bytes: &[u8]) -> Result<Admission> {
    admit_one(parts, &Shipped::decode(bytes)?)
}

/// A shipment as it came.
pub(super) struct Shipped<'a> {
    pub(super) shipment: Shipment<'a>,
    pub(super) bytes: &'a [u8],
}

impl<'a> Shipped<'a> {
    /// Refuses what is none, or about what is each node's own.
    pub(super) fn decode(bytes: &'a [u8]) -> Result<Shipped<'a>> {
        let shipment = Shipment::decode(bytes).map_err(|found| {
            Error::invalid(format!("what was received is no shipment: {found}"))
        })?;
        if !shipment.scope.is_replicated() {
            return Err(Error::invalid("a shipment of scope 0, which is each node's own"));
        }
        shipment.keyspaces.iter().try_for_each(|(_, name)| check_name_of_peer(name))?;
        let puts = puts_of_users(&shipment);
        if puts > BATCH_OPS_MAX {
            return Err(Error::too_large("number of puts in a shipment", BATCH_OPS_MAX, puts));
        }
        Ok(Shipped { shipment, bytes })
    }

    /// The names of its keyspaces.
    pub(super) fn names(&self) -> impl Iterator<Item = &'a str> + Clone {
        self.shipment.keyspaces.iter().map(|(_, name)| *name)
    }

    /// Whether it goes on where `before`, of the same author, ends.
    pub(super) fn follows(&self, before: &Shipped<'_>) -> bool {
        let (one, next) = (&before.shipment, &self.shipment);
        (one.scope, one.origin, Some(one.last())) == (next.scope, next.origin, next.previous)
    }
}

/// Puts outside the keyspaces of replication: the answer to those that are late, three ops each, must fit a
/// shipment. Not counted where all ops together are no more than a batch has.
fn puts_of_users(shipment: &Shipment<'_>) -> u64 {
    if shipment.commits.iter().map(|commit| commit.op_count).sum::<u64>() <= BATCH_OPS_MAX {
        return 0;
    }
    let is_of_users = |number| !shipment.name_of(number).is_some_and(is_reserved);
    let ops = shipment.commits.iter().flat_map(|commit| commit.ops.clone());
    ops.filter(|op| op.stores_value() && is_of_users(op.keyspace)).count() as u64
}

/// Admits a shipment that was decoded.
pub(super) fn admit_one(parts: &Parts, shipped: &Shipped<'_>) -> Result<Admission> {
    let Shipped { shipment, bytes } = shipped;
    parts.refuse_if_closed()?;
    parts.refuse_if_read_only()?;
    parts.let_pass(bytes.len())?;
    super::raise_bound(parts)?;
    let mut known = parts.admissions.admitting.lock();
    let before = match place_of(parts, shipment) {
        Ok(before) => before,
        Err(refused) => return Ok(refused),
    };
    let origin = shipment.origin;
    let author = Author { number: parts.number_of(origin)?, origin };
    loop {
        let task = Task::new(parts, shipped, author, before)?;
        if let Some(taken) = task.run(&mut known)? {
            return Ok(taken);
        }
    }
}

/// How far `tick` is ahead of the clock here; 0 if no more than it may be.
fn by_ms_ahead(parts: &Parts, tick: Tick) -> u64 {
    let by_ms = tick.ms().saturating_sub(parts.clock.wall_ms());
    if by_ms > parts.options.max_drift_ms() { by_ms } else { 0 }
}

/// The last tick that is not too far ahead of the clock here.
pub(super) fn latest(parts: &Parts) -> Tick {
    Tick::last_of_ms(parts.clock.wall_ms().saturating_add(parts.options.max_drift_ms()))
}

/// Up to where the shipment is known here, if the rest of it can follow.
pub(super) fn place_of(parts: &Parts, shipment: &Shipment<'_>) -> Result<Tick, Admission> {
    let origin = shipment.origin;
    match by_ms_ahead(parts, shipment.last()) {
        0 => {}
        by_ms => return Err(Admission::ClockAhead { by_ms }),
    }
    let have = parts.commits.with_queue(|queue| {
        queue.check_scope(shipment.scope)?;
        Ok(queue.vectors().get(shipment.scope, origin))
    });
    let have = have.map_err(|_: Error| Admission::Closed)?;
    if shipment.last() <= have {
        return Err(Admission::Known);
    }
    if !parts.origins.has_room_for(origin) {
        return Err(Admission::TooManyAuthors);
    }
    let previous = shipment.previous.unwrap_or(Tick::ZERO);
    let is_known = |at: Tick| shipment.commits.iter().any(|commit| commit.tick == at);
    if previous > have {
        Err(Admission::Gap { have })
    } else if (previous < have && !is_known(have)) || origin == parts.identity().origin() {
        Err(Admission::Fork { origin, at: have })
    } else {
        Ok(have)
    }
}

/// The highest tick of a tombstone ever dropped in the scope, not older than `view`, which was taken before.
pub(super) fn dropped(parts: &Parts, scope: ScopeId, view: &View, known: &mut Known) -> Tick {
    let generation = view.generation();
    let dropped = match known.dropped {
        Some((of, of_scope, tick)) if of == generation && of_scope == scope => tick,
        _ => parts
            .installer
            .with_state(|state| state.dropped_stamps.get(&scope).copied().unwrap_or(Tick::ZERO)),
    };
    known.dropped = Some((generation, scope, dropped));
    dropped
}

/// One shipment, ready to be compared.
pub(super) struct Task<'a> {
    parts: &'a Parts,
    pub(super) shipment: &'a Shipment<'a>,
    bytes: &'a [u8],
    author: Author,
    before: Tick,
    /// Those of the shipment, in its order.
    keyspaces: Vec<Arc<KeyspaceState>>,
    /// Those that have a resolver.
    watched: Vec<SpaceId>,
    pub(super) arrivals: Arrivals<'a>,
}

/// What is to be done with the ops of a shipment.
pub(super) struct Decided {
    verdicts: Vec<Verdict>,
    outcomes: Outcomes,
    answer: Answer,
    /// What lost unseen, and has a resolver.
    parking: Parking,
    /// Late puts that this node may not answer.
    unanswered: u64,
}

impl<'a> Task<'a> {
    /// The new part of a shipment: that behind `before`. Keyspaces that are missing are created.
    pub(super) fn new(
        parts: &'a Parts,
        shipped: &'a Shipped<'a>,
        author: Author,
        before: Tick,
    ) -> Result<Task<'a>> {
        let Shipped { shipment, bytes } = shipped;
        let keyspaces = keyspaces::open_all(parts, shipment.scope, shipped.names())?;
        let watched = parts.resolvers.watched(keyspaces.iter());
        let arrivals = Arrivals::of(shipment, before, &keyspaces, &watched);
        Ok(Task { parts, shipment, bytes, author, before, keyspaces, watched, arrivals })
    }

    /// Decides and commits. None if a keyspace was dropped meanwhile.
    fn run(&self, known: &mut Known) -> Result<Option<Admission>> {
        let commits = &self.parts.commits;
        let recent = commits.with_queue(|queue| queue.recent().clone());
        let mut looks = 0;
        loop {
            // What the view has dropped is known: it is asked for after the view was taken.
            let view = self.parts.views.current();
            let dropped = self.dropped(&view, known);
            let need = self.reservation(dropped);
            let quarantine = self.quarantine(dropped)?;
            let basis = self.look(view, dropped, &recent)?;
            let mut queue = commits.settled_queue(need, self.weight())?;
            queue.observe(self.shipment.last());
            let mut verdicts = self.judge(&basis, &recent);
            if matches!(verdicts, Ok(Judged::Outdated)) && looks >= LOOKS_MAX {
                verdicts = self.judge_at_once(dropped, known, &recent);
            }
            let verdicts = match verdicts {
                Ok(Judged::Done(verdicts)) => verdicts,
                refused => {
                    queue.give_back(need);
                    drop(queue);
                    if let Judged::Dropped = refused? {
                        return Ok(None);
                    }
                    looks += 1;
                    continue;
                }
            };
            let decided = self.decide(verdicts, quarantine);
            if decided.unanswered > 0 {
                queue.give_back(need);
                drop(queue);
                return Ok(Some(self.refuse(decided.unanswered)));
            }
            let write =
                |queue: &mut Queue, _, seqno| Some(self.write(queue, seqno, &decided, &recent));
            let insert = |memtable: &Memtable, seqnos: &[Tick]| {
                seqnos.iter().try_for_each(|seqno| self.insert(memtable, *seqno, &decided))
            };
            commits.admit(queue, &[need], write, insert)?;
            return Ok(Some(self.count(&decided)));
        }
    }

    pub(super) fn look(&self, view: Arc<View>, dropped: Tick, recent: &Recent) -> Result<Basis> {
        Basis::look(view, &self.arrivals, self.author.origin, dropped, recent)
    }

    /// Decides by what was found. The queue is locked.
    pub(super) fn judge(&self, basis: &Basis, recent: &Recent) -> Result<Judged> {
        if self.keyspaces.iter().any(|state| state.check_live().is_err()) {
            return Ok(Judged::Dropped);
        }
        let verdicts = basis.judge(&self.arrivals, &self.parts.views, recent)?;
        Ok(verdicts.map_or(Judged::Outdated, Judged::Done))
    }

    /// Looks up and decides while the queue is locked: what changes all the time must stand still once.
    #[cold]
    fn judge_at_once(&self, dropped: Tick, known: &mut Known, recent: &Recent) -> Result<Judged> {
        let view = self.parts.views.current();
        match self.dropped(&view, known) == dropped {
            true => self.judge(&self.look(view, dropped, recent)?, recent),
            false => Ok(Judged::Outdated), // More may be late than there is room for.
        }
    }

    /// As [`dropped`], in the scope of the shipment.
    pub(super) fn dropped(&self, view: &View, known: &mut Known) -> Tick {
        dropped(self.parts, self.shipment.scope, view, known)
    }

    pub(super) fn may_be_late(&self, dropped: Tick) -> impl Iterator<Item = &Incoming<'_>> {
        self.arrivals.points.iter().filter(move |it| it.may_be_late && it.tick <= dropped)
    }

    /// Where copies of late puts go, if there may be any and this node may answer them.
    fn quarantine(&self, dropped: Tick) -> Result<Option<SpaceId>> {
        let answers = || self.parts.admissions.answers(self.shipment.scope);
        if self.may_be_late(dropped).next().is_none() || answers() == Answers::Reader {
            return Ok(None);
        }
        let scope = self.shipment.scope;
        keyspaces::open_keyspace(self.parts, scope, QUARANTINE).map(|state| Some(state.space))
    }

    /// The most bytes that all of it can take in the memtable.
    pub(super) fn reservation(&self, dropped: Tick) -> usize {
        let Arrivals { points, ranges, .. } = &self.arrivals;
        let ops = points.iter().chain(ranges).map(|it| Memtable::reservation_foreign(&it.op));
        let late = self.may_be_late(dropped).map(Answer::reservation);
        let losers = self.arrivals.keyed().filter(|it| self.is_watched(it));
        let losers = losers.map(|it| Parking::reservation(&it.op));
        let spaces = (self.keyspaces.len() + 2) * Memtable::KEYSPACE_RESERVATION;
        ops.chain(late).chain(losers).sum::<usize>() + spaces
    }

    /// Whether it is parked if it loses unseen.
    fn is_watched(&self, point: &Incoming<'_>) -> bool {
        self.watched.contains(&point.space)
    }

    pub(super) fn weight(&self) -> Weight {
        if self.arrivals.stores_values() { Weight::Puts } else { Weight::Deletes }
    }

    /// What follows from the verdicts.
    pub(super) fn decide(
        &self,
        mut verdicts: Vec<Verdict>,
        quarantine: Option<SpaceId>,
    ) -> Decided {
        let Arrivals { points, ranges, count, .. } = &self.arrivals;
        let (mut outcomes, mut answer) = (Outcomes::lost(*count), Answer::default());
        let (mut parking, mut unanswered) = (Parking::default(), 0);
        let parked_in = self.parts.resolvers.parked_in();
        ranges.iter().for_each(|range| outcomes.set(range.index, Outcome::Won));
        for (point, verdict) in points.iter().zip(&verdicts) {
            match (verdict, quarantine) {
                (Verdict::Won, _) => outcomes.set(point.index, Outcome::Won),
                (Verdict::Late, Some(quarantine)) => {
                    outcomes.set(point.index, Outcome::Late);
                    answer.add(point, self.author.origin, self.name_of(point.space), quarantine);
                }
                (Verdict::Late, None) => unanswered += 1,
                (Verdict::Lost | Verdict::Unseen, _) => {}
            }
        }
        let unseen = self.arrivals.keyed().zip(&verdicts);
        let unseen =
            unseen.filter(|(it, verdict)| **verdict == Verdict::Unseen && self.is_watched(it));
        for (loser, space) in unseen.filter_map(|(it, _)| self.loser(it).zip(parked_in)) {
            parking.add(&loser, space);
        }
        verdicts.truncate(points.len());
        Decided { verdicts, outcomes, answer, parking, unanswered }
    }

    /// What is not taken is not in the vector either: what this node lacks stays what was deleted.
    fn refuse(&self, late: u64) -> Admission {
        let node = self.author.origin.node;
        tracing::warn!(target: "esker::engine", late, %node, "late writes: an author has to answer them");
        Admission::Unanswered { late }
    }

    fn loser<'p>(&'p self, point: &Incoming<'p>) -> Option<Loser<'p>> {
        let stamp = Stamp { tick: point.tick, origin: self.author.origin };
        let (space, keyspace) = (point.space, self.name_of(point.space));
        let write = LostWrite::of(&point.op.kind)?;
        Some(Loser { space, keyspace, key: point.op.key, stamp, write })
    }

    fn name_of(&self, space: SpaceId) -> &str {
        let state = self.keyspaces.iter().find(|state| state.space == space);
        state.map_or("", |state| &state.name)
    }

    /// The records of the commit `seqno`, and what else the queue must know of it.
    pub(super) fn write(
        &self,
        queue: &mut Queue,
        seqno: Tick,
        decided: &Decided,
        recent: &Recent,
    ) -> Admitted {
        self.keyspaces.iter().for_each(|state| state.note_arrival());
        let scope = self.shipment.scope;
        let numbers: Vec<KeyspaceId> =
            self.keyspaces.iter().map(|state| state.space.keyspace()).collect();
        let header = RemoteHeader {
            seqno,
            scope,
            number: self.author.number,
            before: self.before,
            keyspaces: &numbers,
            outcomes: &decided.outcomes,
        };
        let answer = &decided.answer;
        let mut record = Vec::with_capacity(self.bytes.len() + answer.ops.len() + 128);
        encode_remote_batch(&mut record, &header, self.bytes);
        let mut moved = vec![(scope, self.author.origin, self.shipment.last())];
        if answer.count > 0 {
            let previous = queue.vectors().previous(scope);
            encode_author_header(&mut record, seqno, scope, previous, answer.count);
            record.extend_from_slice(&answer.ops);
            moved.push((scope, queue.vectors().own(), seqno));
        }
        let parking = &decided.parking;
        if parking.count > 0 {
            let (local, previous) = (ScopeId::LOCAL, queue.vectors().previous(ScopeId::LOCAL));
            encode_author_header(&mut record, seqno, local, previous, parking.count);
            record.extend_from_slice(&parking.ops);
            moved.push((local, queue.vectors().own(), seqno));
        }
        let conflicts = queue.conflicts();
        let stored = self.stored(decided, seqno).map(|it| (it.space, it.tick, it.op));
        let own = self.own_ops(decided).map(|(space, op)| (space, seqno, op));
        for (space, tick, op) in stored.chain(own) {
            recent.raise(key_hash(space, op.key), tick);
            if conflicts.is_watching() {
                conflicts.note(seqno, space, &op);
            }
        }
        Admitted { record, moved: Moved::Many(moved.into()), weight: self.weight() }
    }

    fn insert(&self, memtable: &Memtable, seqno: Tick, decided: &Decided) -> Result<()> {
        memtable.insert_foreign(&self.author, self.stored(decided, seqno))?;
        self.insert_own(memtable, seqno, decided)
    }

    /// Inserts what this node adds to the shipment.
    pub(super) fn insert_own(
        &self,
        memtable: &Memtable,
        seqno: Tick,
        decided: &Decided,
    ) -> Result<()> {
        memtable.insert(seqno, self.own_ops(decided))
    }

    /// The ops that are stored with their author's stamp.
    pub(super) fn stored<'d>(
        &'d self,
        decided: &'d Decided,
        seqno: Tick,
    ) -> impl Iterator<Item = ForeignOp<'d>> {
        let points = self.arrivals.points.iter().zip(&decided.verdicts);
        let won = points.filter(|(_, verdict)| **verdict == Verdict::Won).map(|(point, _)| point);
        let all = won.chain(&self.arrivals.ranges);
        all.map(move |it| ForeignOp { space: it.space, seqno, tick: it.tick, op: it.op })
    }

    /// Ends the handles of the keyspaces that the shipment has dropped.
    fn follow_drops(&self, decided: &Decided) {
        let mut keyspaces = self.keyspaces.iter();
        let Some(records) = keyspaces.find(|state| state.name == drops::KEYSPACES) else { return };
        for stored in self.stored(decided, Tick::ZERO).filter(|it| it.space == records.space) {
            drops::follow(self.parts, records, stored.op.key, &stored.op.kind);
        }
    }

    /// The ops of this node: answers to late puts, and what is parked.
    fn own_ops<'d>(&self, decided: &'d Decided) -> impl Iterator<Item = (SpaceId, Op<'d>)> {
        let of = |scope, ops| {
            Ops::encoded(ops).map(move |op: Op<'d>| (SpaceId::new(scope, op.keyspace), op))
        };
        of(self.shipment.scope, &decided.answer.ops).chain(of(ScopeId::LOCAL, &decided.parking.ops))
    }

    pub(super) fn count(&self, decided: &Decided) -> Admission {
        self.follow_drops(decided);
        let of = |wanted| decided.verdicts.iter().filter(|it| **it == wanted).count() as u64;
        let won = of(Verdict::Won) + self.arrivals.ranges.len() as u64;
        let late = of(Verdict::Late);
        let lost = (self.arrivals.new as u64).saturating_sub(won + late);
        self.parts.admissions.count(won, lost, late);
        let bytes =
            self.stored(decided, Tick::ZERO).map(|it| (it.op.key.len() + it.op.value_len()) as u64);
        self.parts.meters.add(Counter::BytesAdmitted, bytes.sum());
        self.parts.resolvers.note_parked(decided.parking.losers);
        if late > 0 {
            let node = self.author.origin.node;
            tracing::warn!(target: "esker::engine", late, %node, "late writes: in quarantine");
        }
        Admission::Taken { won, lost, late }
    }
}

/// What the verdicts are.
pub(super) enum Judged<V = Vec<Verdict>> {
    Done(V),
    /// What was found before may not be all there is now.
    Outdated,
    /// A keyspace is gone.
    Dropped,
}
