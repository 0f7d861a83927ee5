//! Convoys: shipments of one author that follow one another, admitted together.
//!
//! Each becomes a commit with a record of its own, as if it had come alone. What is done once for all is to
//! wait for the queue, and to insert: by the order of keys, so that a key finds its place where its
//! neighbour just was, in memory that is still near.
//!
//! Only what can be decided without those before it goes in a convoy: what one author wrote about one key each,
//! so that a later one of a key wins over the earlier ones, whatever else is here. It ends before a shipment with
//! range deletes or erases, one with a put that may be late, and one that can not be looked up. Such a one goes
//! alone, and so does the first of a convoy that something keeps changing under. Then the next convoy begins.

use super::admission::Admission;
use super::admissions::Known;
use super::admit::{self, Decided, Judged, LOOKS_MAX, Shipped, Task, admit_one};
use super::decide::{Basis, Verdict};
use super::{Recent, keyspaces};
use crate::commit::Queue;
use crate::creation::is_reserved;
use crate::memtable::{ForeignOp, Memtable};
use crate::parts::Parts;
use crate::space::Weight;
use crate::view::View;
use base::remote::Author;
use base::{OpKind, Result, SpaceId, Tick, key_prefix};
use std::cmp::Reverse;
use std::sync::Arc;

/// Bytes of the shipments of a convoy, once there are two: the queue is locked while they are appended.
const BYTES_MAX: usize = 4 << 20;

/// See [`super::Replication::admit_all`].
pub(super) fn admit_all(parts: &Parts, shipments: &[&[u8]]) -> Result<Vec<Admission>> {
    let mut shipped = Vec::with_capacity(shipments.len());
    let mut broken = None;
    for bytes in shipments {
        match Shipped::decode(bytes) {
            Ok(decoded) => shipped.push(decoded),
            Err(error) => {
                broken = Some(error);
                break;
            }
        }
    }
    let mut admitted = Vec::with_capacity(shipped.len());
    while let Some(rest) = shipped.get(admitted.len()..).filter(|rest| !rest.is_empty()) {
        let front = admit_front(parts, rest)?;
        let goes_on = |it: &Admission| matches!(it, Admission::Known | Admission::Taken { .. });
        let goes_on = front.iter().all(goes_on);
        admitted.extend(front);
        if !goes_on {
            return Ok(admitted);
        }
    }
    broken.map_or(Ok(admitted), Err)
}

/// Admits the first of `shipped`, and what can go with it.
fn admit_front(parts: &Parts, shipped: &[Shipped<'_>]) -> Result<Vec<Admission>> {
    let convoy = front(shipped, until(parts, shipped));
    if convoy.len() > 1
        && let Some(admitted) = admit_convoy(parts, convoy)?
    {
        return Ok(admitted);
    }
    let first = shipped.iter().take(1);
    first.map(|shipped| admit_one(parts, shipped)).collect()
}

/// What a convoy may hold, as far as it is known before it is looked up.
#[derive(Clone, Copy)]
struct Until {
    /// No put up to this tick, which may be late.
    dropped: Tick,
    /// No tick behind this one, which is too far ahead of the clock here.
    latest: Tick,
}

/// What may go with the first of `shipped`; none if that goes alone.
fn until(parts: &Parts, shipped: &[Shipped<'_>]) -> Option<Until> {
    let [first, _, ..] = shipped else { return None };
    let mut known = parts.admissions.admitting.lock();
    // Whatever is wrong with it, it tells alone.
    admit::place_of(parts, &first.shipment).ok()?;
    let view = parts.views.current();
    let dropped = admit::dropped(parts, first.shipment.scope, &view, &mut known);
    Some(Until { dropped, latest: admit::latest(parts) })
}

/// The shipments at the front that follow one another, as far as they can go together.
fn front<'s, 'a>(shipped: &'s [Shipped<'a>], until: Option<Until>) -> &'s [Shipped<'a>] {
    let Some(until) = until else { return &[] };
    let mut bytes = 0;
    let mut before: Option<&Shipped<'_>> = None;
    let joins = |next: &&'s Shipped<'a>| {
        bytes += next.bytes.len();
        let follows = before.is_none_or(|before| next.follows(before));
        before = Some(next);
        let is_small = bytes <= BYTES_MAX;
        follows && is_small && next.shipment.last() <= until.latest && is_plain(next, until.dropped)
    };
    let count = shipped.iter().take_while(joins).count();
    shipped.get(..count).unwrap_or_default()
}

/// Whether each of its ops stands for what its author wrote of one key, and none is a put up to `dropped`.
fn is_plain(shipped: &Shipped<'_>, dropped: Tick) -> bool {
    let shipment = &shipped.shipment;
    shipment.commits.iter().all(|commit| {
        commit.ops.clone().all(|op| {
            let is_of_key = !matches!(op.kind, OpKind::RangeDelete { .. } | OpKind::Erase { .. });
            let is_reserved = || shipment.name_of(op.keyspace).is_some_and(is_reserved);
            is_of_key && (commit.tick > dropped || !op.stores_value() || is_reserved())
        })
    })
}

/// Admits the first of `shipped`, which follow one another; none if the first has to go alone.
fn admit_convoy(parts: &Parts, shipped: &[Shipped<'_>]) -> Result<Option<Vec<Admission>>> {
    let Some(first) = shipped.first() else { return Ok(None) };
    parts.refuse_if_closed()?;
    parts.refuse_if_read_only()?;
    parts.let_pass(shipped.iter().map(|it| it.bytes.len()).sum())?;
    super::raise_bound(parts)?;
    let mut known = parts.admissions.admitting.lock();
    let Ok(before) = admit::place_of(parts, &first.shipment) else { return Ok(None) };
    let origin = first.shipment.origin;
    let author = Author { number: parts.number_of(origin)?, origin };
    loop {
        // All of them at once: whatever keeps one of them from being there, its shipment tells.
        let names = shipped.iter().flat_map(Shipped::names);
        let _ = keyspaces::create_missing(parts, first.shipment.scope, names);
        let befores = shipped.iter().map(|it| it.shipment.last());
        let befores = std::iter::once(before).chain(befores);
        let tasks = shipped.iter().zip(befores);
        let tasks = tasks.map_while(|(it, before)| Task::new(parts, it, author, before).ok());
        let mut convoy = Convoy { parts, author, tasks: tasks.collect() };
        match convoy.run(&mut known)? {
            Way::Gone(admitted) => return Ok(Some(admitted)),
            Way::Alone => return Ok(None),
            Way::Dropped => {}
        }
    }
}

/// Shipments that are ready to be compared.
struct Convoy<'a> {
    parts: &'a Parts,
    author: Author,
    tasks: Vec<Task<'a>>,
}

/// How a convoy goes.
enum Way {
    /// It is admitted, from the front as far as the log took it.
    Gone(Vec<Admission>),
    /// The first alone: if something is wrong with it, it tells so.
    Alone,
    /// A keyspace was dropped meanwhile.
    Dropped,
}

impl Convoy<'_> {
    fn run(&mut self, known: &mut Known) -> Result<Way> {
        let commits = &self.parts.commits;
        let recent = commits.with_queue(|queue| queue.recent().clone());
        for _ in 0..LOOKS_MAX {
            // What the view has dropped is known: it is asked for after the view was taken.
            let view = self.parts.views.current();
            let Some(first) = self.tasks.first() else { return Ok(Way::Alone) };
            let dropped = first.dropped(&view, known);
            let bases = self.look(&view, dropped, &recent);
            // Those that can not be looked up now tell why when they are the first.
            self.tasks.truncate(bases.len());
            let [_, .., last] = &*self.tasks else { return Ok(Way::Alone) };
            let needs: Vec<usize> =
                self.tasks.iter().map(|task| task.reservation(dropped)).collect();
            let need = needs.iter().sum();
            // What refuses all of them may have let the first pass.
            let Ok(mut queue) = commits.settled_queue(need, self.weight()) else {
                return Ok(Way::Alone);
            };
            queue.observe(last.shipment.last());
            let verdicts = match self.judge(&bases, &recent) {
                Ok(Judged::Done(verdicts)) => verdicts,
                refused => {
                    queue.give_back(need);
                    drop(queue);
                    match refused {
                        Ok(Judged::Dropped) => return Ok(Way::Dropped),
                        Ok(_) => continue,
                        Err(_) => return Ok(Way::Alone),
                    }
                }
            };
            let decided = self.tasks.iter().zip(verdicts);
            let decided: Vec<(&Task<'_>, Decided)> =
                decided.map(|(task, verdicts)| (task, task.decide(verdicts, None))).collect();
            let write = |queue: &mut Queue, number: usize, seqno| {
                let of = decided.get(number);
                of.map(|(task, decided)| task.write(queue, seqno, decided, &recent))
            };
            let insert = |memtable: &Memtable, seqnos: &[Tick]| {
                memtable.insert_foreign(&self.author, in_order(&decided, seqnos).into_iter())?;
                let mut all = decided.iter().zip(seqnos);
                all.try_for_each(|((task, it), seqno)| task.insert_own(memtable, *seqno, it))
            };
            let gone = commits.admit(queue, &needs, write, insert)?;
            let gone = decided.iter().take(gone);
            return Ok(Way::Gone(gone.map(|(task, decided)| task.count(decided)).collect()));
        }
        Ok(Way::Alone)
    }

    /// What the ops of the first may meet in `view`, up to one that can not be decided with those before it.
    fn look(&self, view: &Arc<View>, dropped: Tick, recent: &Recent) -> Vec<Basis> {
        let is_sure =
            |task: &&Task<'_>| task.arrivals.is_plain && task.may_be_late(dropped).next().is_none();
        let sure = self.tasks.iter().take_while(is_sure);
        sure.map_while(|task| task.look(view.clone(), dropped, recent).ok()).collect()
    }

    fn weight(&self) -> Weight {
        let stores = self.tasks.iter().any(|task| task.arrivals.stores_values());
        if stores { Weight::Puts } else { Weight::Deletes }
    }

    /// Decides about all of them. Those of one author before an op are older than it, so they need not be
    /// here for it to be compared.
    fn judge(&self, bases: &[Basis], recent: &Recent) -> Result<Judged<Vec<Vec<Verdict>>>> {
        let mut all = Vec::with_capacity(bases.len());
        for (task, basis) in self.tasks.iter().zip(bases) {
            match task.judge(basis, recent)? {
                Judged::Done(verdicts) => all.push(verdicts),
                Judged::Outdated => return Ok(Judged::Outdated),
                Judged::Dropped => return Ok(Judged::Dropped),
            }
        }
        Ok(Judged::Done(all))
    }
}

/// All that is stored, as a memtable has it: by key, the newest of a key first.
fn in_order<'d>(decided: &'d [(&Task<'_>, Decided)], seqnos: &[Tick]) -> Vec<ForeignOp<'d>> {
    let stored = decided.iter().zip(seqnos);
    let stored = stored.flat_map(|((task, decided), seqno)| task.stored(decided, *seqno));
    let mut all: Vec<(SpaceId, u64, ForeignOp<'d>)> =
        stored.map(|it| (it.space, key_prefix(it.op.key), it)).collect();
    all.sort_unstable_by(|(space, prefix, a), (other, after, b)| {
        (space, prefix)
            .cmp(&(other, after))
            .then_with(|| (a.op.key, Reverse(a.seqno)).cmp(&(b.op.key, Reverse(b.seqno))))
    });
    all.into_iter().map(|(_, _, op)| op).collect()
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test fails by panicking")]
mod tests {
    use super::*;
    use base::batch::Ops;
    use base::shipment::ShipmentWriter;
    use base::{Incarnation, KeyspaceId, NodeId, Op, Origin, ScopeId, Stamp};

    fn op(what: char) -> Op<'static> {
        let (keyspace, kind) = match what {
            'p' => (1, OpKind::Put(b"v")),
            'P' => (1, OpKind::Put(&[1; BYTES_MAX / 2])),
            'd' => (1, OpKind::Delete),
            'r' => (1, OpKind::RangeDelete { end: b"z" }),
            'e' => (1, OpKind::Erase { victim: Stamp::default() }),
            _ => (2, OpKind::Put(b"of the nodes themselves")),
        };
        Op { keyspace: KeyspaceId(keyspace), key: b"k", kind }
    }

    /// A shipment for each, at the ticks 1, 2 and so on. One that is `-` is missing.
    fn shipments(text: &str) -> Vec<Vec<u8>> {
        let origin = Origin { node: NodeId([1; 16]), incarnation: Incarnation(1) };
        let mut previous = None;
        let mut all = Vec::new();
        for (what, tick) in text.chars().zip(1..) {
            let tick = Tick::from_raw(tick).unwrap();
            let follows = previous.replace(tick);
            if what == '-' {
                continue;
            }
            let mut ops = Vec::new();
            op(what).encode(&mut ops);
            let mut writer = ShipmentWriter::new(ScopeId::MAIN, origin, follows);
            let name =
                |id: KeyspaceId| Some(if id.0 == 1 { "k" } else { "esker.roster" }.to_owned());
            writer.push(tick, 1, &Ops::encoded(&ops), name).unwrap();
            all.push(writer.finish());
        }
        all
    }

    /// How many of the shipments at the front go together, if puts up to tick 3 may be late and the clock
    /// allows ticks up to 9.
    fn front_of(text: &str) -> usize {
        let all = shipments(text);
        let decoded: Vec<Shipped<'_>> = all.iter().map(|it| Shipped::decode(it).unwrap()).collect();
        let tick = |raw| Tick::from_raw(raw).unwrap();
        front(&decoded, Some(Until { dropped: tick(3), latest: tick(9) })).len()
    }

    #[test]
    fn a_convoy_ends_before_the_first_that_has_to_go_alone() {
        for (text, expected) in [
            ("dddpppd", 7),
            ("dddppr", 5),
            ("dddppe", 5),
            ("dddrppp", 3),
            ("rdddppp", 0),
            ("ddpppp", 2),
            ("ssspppp", 7),
            ("sssppppppppp", 9),
            ("dddPPPP", 4),
            ("ddd-d", 3),
        ] {
            assert_eq!(front_of(text), expected, "{text}");
        }
    }
}
