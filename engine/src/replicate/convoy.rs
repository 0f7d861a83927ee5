//! Convoys: shipments of one author that follow one another, admitted together.
//!
//! Each becomes a commit with a record of its own, as if it had come alone. What is done once for all is to
//! wait for the queue, and to insert: by the order of keys, so that a key finds its place where its
//! neighbour just was, in memory that is still near.
//!
//! Only what can be decided without those before it goes in a convoy: ops of one author about one key each, so
//! the later one of a key wins over the earlier ones, whatever else is here. Range deletes, erases and puts
//! that may be late go alone. So does what something keeps changing under.

use super::Recent;
use super::admissions::Known;
use super::admit::{self, Admission, Decided, Judged, LOOKS_MAX, Shipped, Task, admit_one};
use super::decide::{Basis, Verdict};
use crate::commit::Queue;
use crate::memtable::{ForeignOp, Memtable};
use crate::parts::Parts;
use crate::space::Weight;
use base::remote::Author;
use base::{Result, SpaceId, Tick, key_prefix};
use std::cmp::Reverse;

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
    let convoy = front(shipped);
    if convoy.len() > 1
        && let Some(admitted) = admit_convoy(parts, convoy)?
    {
        return Ok(admitted);
    }
    let first = shipped.iter().take(1);
    first.map(|shipped| admit_one(parts, shipped)).collect()
}

/// The shipments at the front that follow one another.
fn front<'s, 'a>(shipped: &'s [Shipped<'a>]) -> &'s [Shipped<'a>] {
    let mut bytes = shipped.first().map_or(0, |first| first.bytes.len());
    let follow = |pair: &&[Shipped<'_>]| {
        let [one, next] = pair else { return false };
        bytes += next.bytes.len();
        let (one, next) = (&one.shipment, &next.shipment);
        (one.scope, one.origin, Some(one.last())) == (next.scope, next.origin, next.previous)
            && bytes <= BYTES_MAX
    };
    let more = shipped.windows(2).take_while(follow).count();
    shipped.get(..=more).unwrap_or(shipped)
}

/// Admits `shipped`, which follow one another; none if they have to go one by one.
fn admit_convoy(parts: &Parts, shipped: &[Shipped<'_>]) -> Result<Option<Vec<Admission>>> {
    let (Some(first), Some(last)) = (shipped.first(), shipped.last()) else { return Ok(None) };
    parts.refuse_if_closed()?;
    parts.refuse_if_read_only()?;
    parts.let_pass(shipped.iter().map(|it| it.bytes.len()).sum())?;
    super::raise_bound(parts)?;
    let mut known = parts.admissions.admitting.lock();
    // Whatever is wrong, it is told by the one that it is wrong with.
    let Ok(before) = admit::place_of(parts, &first.shipment) else { return Ok(None) };
    if admit::by_ms_ahead(parts, last.shipment.last()) > 0 {
        return Ok(None);
    }
    let origin = first.shipment.origin;
    let author = Author { number: parts.number_of(origin)?, origin };
    loop {
        let befores = shipped.iter().map(|it| it.shipment.last());
        let befores = std::iter::once(before).chain(befores);
        let tasks = shipped.iter().zip(befores);
        let tasks: Result<Vec<Task<'_>>> =
            tasks.map(|(it, before)| Task::new(parts, it, author, before)).collect();
        let convoy = Convoy { parts, author, tasks: tasks? };
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
    /// One by one.
    Alone,
    /// A keyspace was dropped meanwhile.
    Dropped,
}

impl Convoy<'_> {
    fn run(&self, known: &mut Known) -> Result<Way> {
        if !self.tasks.iter().all(|task| task.arrivals.is_plain) {
            return Ok(Way::Alone);
        }
        let (Some(first), Some(last)) = (self.tasks.first(), self.tasks.last()) else {
            return Ok(Way::Alone);
        };
        let commits = &self.parts.commits;
        let recent = commits.with_queue(|queue| queue.recent().clone());
        for _ in 0..LOOKS_MAX {
            // What the view has dropped is known: it is asked for after the view was taken.
            let view = self.parts.views.current();
            let dropped = first.dropped(&view, known);
            if self.tasks.iter().any(|task| task.may_be_late(dropped).next().is_some()) {
                return Ok(Way::Alone);
            }
            let look = |task: &Task<'_>| task.look(view.clone(), dropped, &recent);
            let bases: Vec<Basis> = self.tasks.iter().map(look).collect::<Result<_>>()?;
            let needs: Vec<usize> =
                self.tasks.iter().map(|task| task.reservation(dropped)).collect();
            let need = needs.iter().sum();
            let mut queue = commits.settled_queue(need, self.weight())?;
            queue.observe(last.shipment.last());
            let verdicts = match self.judge(&bases, &recent) {
                Ok(Judged::Done(verdicts)) => verdicts,
                refused => {
                    queue.give_back(need);
                    drop(queue);
                    match refused? {
                        Judged::Dropped => return Ok(Way::Dropped),
                        _ => continue,
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
                memtable.insert_foreign(&self.author, in_order(&decided, seqnos).into_iter())
            };
            let gone = commits.admit(queue, &needs, write, insert)?;
            let gone = decided.iter().take(gone);
            return Ok(Way::Gone(gone.map(|(task, decided)| task.count(decided)).collect()));
        }
        Ok(Way::Alone)
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
