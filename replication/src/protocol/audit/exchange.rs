//! After a comparison that has found something: both sides show each other what they hold, and what
//! each may have lost comes back.
//!
//! ```text
//! turn 0   the opener tells its side of each difference
//! turn 1   the answerer tells its own side, what it knows better, and what it may have deleted
//! turn 2   the opener tells what it knows better, and what it may have deleted
//! ```
//!
//! Whoever hears of an entry knows it better, takes it, or may have deleted it and forgotten that.
//! What was taken is installed at the end of each turn.

use super::super::bulk::BULK_LEN_MAX;
use super::filtered::Filtered;
use super::message::{GONE_LEN_MAX, Gone, Say};
use super::{AuditReport, Trouble};
use crate::error::ProtocolError;
use crate::reconcile::message::NAME_LEN_MAX;
use crate::reconcile::{Absence, FOUND_MAX, Verdict, judge};
use crate::store::{DeltaHead, Purpose, Stage, Store};
use base::state::{StateChunk, StateEntry, StateKind, StateWriter};
use base::{Corruption, Error, Origin, Result, ScopeId, Tick};
use std::collections::BTreeSet;

/// Bytes of entries in a chunk.
const CHUNK_LEN: usize = 256 << 10;
/// Bytes of a message about what is gone, unless one name takes more.
const GONE_LEN: usize = 64 << 10;
const _: () = assert!(GONE_LEN <= GONE_LEN_MAX && NAME_LEN_MAX + Origin::LEN + 16 <= GONE_LEN_MAX);
/// Bytes of names that a side may have to be told of.
const NAMES_LEN_MAX: usize = 16 << 20;

/// Who has opened the audit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Side {
    Opener,
    Answerer,
}

/// The tick, the author, and whether it is an erase: the greater stays.
type Order = (Tick, Origin, bool);

/// See the module.
pub(super) struct Exchange {
    side: Side,
    turn: u8,
    scope: ScopeId,
    filtered: Filtered,
    /// What of ours the other side lacks or has in another version.
    ours: BTreeSet<Vec<u8>>,
    /// What is to be told in our next turn, or in this one.
    tell: BTreeSet<Vec<u8>>,
    tell_len: usize,
    gone: Vec<Gone>,
    mend: Option<Box<dyn Stage>>,
    disown: Option<Box<dyn Stage>>,
    /// Names heard in this turn: how many, and the last one.
    heard: (usize, Vec<u8>),
    /// The last name of those that were said to be gone in this turn.
    heard_gone: Vec<u8>,
    /// Of this turn.
    taken: u64,
    disowned: u64,
    pub(super) report: AuditReport,
}

impl Exchange {
    pub(super) fn new(
        side: Side,
        scope: ScopeId,
        filtered: Filtered,
        ours: BTreeSet<Vec<u8>>,
        report: AuditReport,
    ) -> Exchange {
        let tell_len = ours.iter().map(Vec::len).sum();
        Exchange {
            side,
            turn: 0,
            scope,
            filtered,
            tell: ours.clone(),
            tell_len,
            ours,
            gone: Vec::new(),
            mend: None,
            disown: None,
            heard: (0, Vec::new()),
            heard_gone: Vec::new(),
            taken: 0,
            disowned: 0,
            report,
        }
    }

    /// There is nothing to exchange.
    pub(super) fn end(&mut self) {
        self.turn = 3;
    }

    /// Whether all turns are over.
    pub(super) fn is_done(&self) -> bool {
        self.turn > 2
    }

    fn is_telling(&self) -> bool {
        !self.is_done() && (self.turn == 1) == (self.side == Side::Answerer)
    }

    /// What is said next, in our turn: its encoding is handed to `say`.
    pub(super) fn next(&mut self, say: &mut dyn FnMut(&Say<'_>)) -> Result<()> {
        if !self.is_telling() {
            return Ok(());
        }
        if let Some(chunk) = self.next_chunk()? {
            say(&Say::Chunk(&chunk));
        } else if !self.gone.is_empty() {
            say(&Say::Gone(self.next_gone()));
        } else {
            say(&Say::End { taken: self.taken, disowned: self.disowned });
            self.end_turn();
        }
        Ok(())
    }

    fn end_turn(&mut self) {
        self.turn += 1;
        (self.taken, self.disowned) = (0, 0);
        (self.heard, self.heard_gone) = ((0, Vec::new()), Vec::new());
    }

    fn next_chunk(&mut self) -> Result<Option<Vec<u8>>> {
        let mut writer = StateWriter::new(self.scope);
        while writer.len() < CHUNK_LEN {
            let Some(name) = self.tell.pop_first() else { break };
            self.filtered.moment.look_up(&name, &mut |entry| writer.push(entry))?;
        }
        Ok(if writer.is_empty() { None } else { Some(writer.finish()) })
    }

    fn next_gone(&mut self) -> Vec<Gone> {
        let mut len = 0;
        let fits = |gone: &&Gone| {
            len += gone.name.len() + Origin::LEN + 16;
            len <= GONE_LEN
        };
        let count = self.gone.iter().take_while(fits).count().max(1);
        self.gone.drain(..count.min(self.gone.len())).collect()
    }

    /// Takes what the other side says in its turn.
    pub(super) fn hear(
        &mut self,
        store: &dyn Store,
        says: &Say<'_>,
        may_disown: MayDisown,
    ) -> Result<(), Trouble> {
        if self.is_telling() {
            return Err(ProtocolError::Unexpected { what: "part of an audit" }.into());
        }
        match says {
            Say::Chunk(chunk) => self.hear_chunk(store, chunk),
            Say::Gone(all) => self.hear_gone(store, all, may_disown),
            Say::End { taken, disowned } => {
                let report = &mut self.report;
                report.given = report.given.saturating_add(*taken);
                report.disowned_there = report.disowned_there.saturating_add(*disowned);
                self.install()?;
                let (taken, disowned) = (self.taken, self.disowned);
                self.end_turn();
                (self.taken, self.disowned) = (taken, disowned);
                Ok(())
            }
            _ => Err(ProtocolError::Unexpected { what: "part of an audit" }.into()),
        }
    }

    /// Nothing of it is late: it was received before, or an author answers it here.
    fn install(&mut self) -> Result<()> {
        let stages = [self.mend.take(), self.disown.take()];
        stages.into_iter().flatten().try_for_each(|stage| stage.install().map(drop))
    }

    fn hear_chunk(&mut self, store: &dyn Store, chunk: &[u8]) -> Result<(), Trouble> {
        let malformed = |found| ProtocolError::malformed("chunk of an audit", found);
        if chunk.len() > BULK_LEN_MAX {
            return Err(malformed(Corruption::OutOfRange).into());
        }
        let chunk = StateChunk::decode(chunk).map_err(malformed)?;
        if chunk.scope != self.scope {
            return Err(ProtocolError::WrongScope { found: chunk.scope.0 }.into());
        }
        let mut taken = StateWriter::new(self.scope);
        for entry in &chunk.entries {
            let name = name_of(entry);
            self.next_name(&name).map_err(malformed)?;
            if matches!(entry.kind, StateKind::RangeDelete { .. }) {
                return Err(malformed(Corruption::UnknownKind).into());
            }
            if self.hear_entry(name, entry)? == Answer::Take {
                self.taken += 1;
                self.report.taken += 1;
                taken.push(entry);
            }
        }
        if taken.is_empty() {
            return Ok(());
        }
        let stage = staging(&mut self.mend, store, self.scope, Purpose::Mend)?;
        Ok(stage.add(&taken.finish())?)
    }

    /// Names come in order, and no more than a comparison can find.
    fn next_name(&mut self, name: &[u8]) -> Result<(), Corruption> {
        let (count, last) = &mut self.heard;
        *count += 1;
        if *count > 2 * FOUND_MAX {
            return Err(Corruption::OutOfRange);
        }
        if &**last >= name {
            return Err(Corruption::OutOfOrder);
        }
        last.clear();
        last.extend_from_slice(name);
        Ok(())
    }

    fn hear_entry(&mut self, name: Vec<u8>, theirs: &StateEntry<'_>) -> Result<Answer, Trouble> {
        let (mut mine, mut is_value): (Option<Order>, bool) = (None, false);
        self.filtered.moment.look_up(&name, &mut |entry| {
            (mine, is_value) = (Some(order(entry)), is_put(entry));
        })?;
        let head = self.filtered.moment.head();
        if mine.is_some_and(|mine| mine >= order(theirs)) {
            // Ours of the same name are told anyway, or were.
            if mine > Some(order(theirs)) && !self.ours.contains(&name) && self.turn < 2 {
                self.hold(&name)?;
                self.tell.insert(name);
            }
            return Ok(Answer::Nothing);
        }
        let absence = Absence {
            vector: &head.vector,
            dropped: head.dropped,
            is_whole: self.filtered.moment.is_whole(),
        };
        let is_forgotten = head.floor.covers_stamp(theirs.carrier());
        match judge(theirs.carrier(), &absence) {
            Verdict::Lag => {
                self.report.lag += 1;
                Ok(Answer::Nothing)
            }
            // An older value here would have met the deletion. An older deletion may have come after
            // the newer one was forgotten.
            Verdict::Deleted if !is_value && is_put(theirs) => {
                if self.turn < 2 {
                    self.hold(&name)?;
                    self.gone.push(Gone { name, stamp: theirs.stamp });
                }
                Ok(Answer::Nothing)
            }
            // It was dropped here as it may be, and what came late since has been answered.
            Verdict::Deleted if !is_value && is_forgotten => Ok(Answer::Nothing),
            Verdict::Lost | Verdict::Deleted => Ok(Answer::Take),
        }
    }

    /// Counts a name that is kept until it is told.
    fn hold(&mut self, name: &[u8]) -> Result<()> {
        self.tell_len += name.len();
        if self.tell_len <= NAMES_LEN_MAX {
            return Ok(());
        }
        let (limit, value) = (NAMES_LEN_MAX as u64, self.tell_len as u64);
        Err(Error::TooLarge { what: "the difference of two copies", limit, value })
    }

    fn hear_gone(
        &mut self,
        store: &dyn Store,
        all: &[Gone],
        may_disown: MayDisown,
    ) -> Result<(), Trouble> {
        let mut disowned = StateWriter::new(self.scope);
        for gone in all {
            let is_next = gone.name > self.heard_gone;
            if !is_next || !self.ours.contains(&gone.name) {
                return Err(ProtocolError::Unexpected { what: "deletion" }.into());
            }
            self.heard_gone.clone_from(&gone.name);
            if !self.filtered.knows_forgotten {
                self.report.lag += 1;
                continue;
            }
            if may_disown == MayDisown::No {
                self.report.unsettled += 1;
                continue;
            }
            let mut is_same = false;
            self.filtered.moment.look_up(&gone.name, &mut |entry| {
                is_same = entry.stamp == gone.stamp;
                if is_same {
                    disowned.push(entry);
                }
            })?;
            self.disowned += u64::from(is_same);
            self.report.disowned += u64::from(is_same);
        }
        if disowned.is_empty() {
            return Ok(());
        }
        let stage = staging(&mut self.disown, store, self.scope, Purpose::Disown)?;
        Ok(stage.add(&disowned.finish())?)
    }
}

/// Whether what the other side may have deleted goes here too.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum MayDisown {
    Yes,
    /// The other side only reads: its absences say nothing.
    No,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Answer {
    Take,
    Nothing,
}

fn staging<'s>(
    stage: &'s mut Option<Box<dyn Stage>>,
    store: &dyn Store,
    scope: ScopeId,
    purpose: Purpose,
) -> Result<&'s mut Box<dyn Stage>> {
    let begun = match stage.take() {
        Some(begun) => begun,
        None => store.stage(scope, &DeltaHead::default(), purpose)?,
    };
    Ok(stage.insert(begun))
}

fn name_of(entry: &StateEntry<'_>) -> Vec<u8> {
    [entry.keyspace.as_bytes(), &[0], entry.key].concat()
}

fn is_put(entry: &StateEntry<'_>) -> bool {
    matches!(entry.kind, StateKind::Put(_) | StateKind::PutExpiring { .. })
}

fn order(entry: &StateEntry<'_>) -> Order {
    let is_erase = matches!(entry.kind, StateKind::Erase { .. });
    (entry.stamp.tick, entry.stamp.origin, is_erase)
}

#[cfg(test)]
mod tests {
    use super::super::fixture::{NAME, WALL_MS, forget, node, ship, write};
    use super::super::message::Head;
    use super::*;
    use crate::memory::{Change, MemoryStore};
    use crate::reconcile::ElementKey;

    fn moment(store: &MemoryStore) -> Filtered {
        Filtered::of(store.elements(ScopeId::MAIN).unwrap(), ElementKey::of_group(b"group"), 0)
    }

    fn head(filtered: &Filtered) -> Head {
        let (vector, floor) =
            (filtered.moment.head().vector.clone(), filtered.moment.head().floor.clone());
        Head { horizon_ms: 0, vector, floor }
    }

    /// The reports of both about one element, which only the opener holds as something to compare.
    fn exchange(
        stores: [&MemoryStore; 2],
        moments: [Filtered; 2],
        may_disown: MayDisown,
    ) -> [AuditReport; 2] {
        let heads = [head(&moments[1]), head(&moments[0])];
        let ours = [BTreeSet::from([NAME.to_vec()]), BTreeSet::new()];
        let sides = [Side::Opener, Side::Answerer];
        let mut ends: Vec<Exchange> = (moments.into_iter().zip(heads))
            .zip(sides.into_iter().zip(ours))
            .map(|((moment, head), (side, ours))| {
                let moment = moment.against(&head);
                Exchange::new(side, ScopeId::MAIN, moment, ours, AuditReport::default())
            })
            .collect();
        while !ends[0].is_done() {
            let teller = usize::from(!ends[0].is_telling());
            let mut said = Vec::new();
            ends[teller].next(&mut |say| said.push((say.kind(), say.encode(1)))).unwrap();
            for (kind, payload) in said {
                let (_, say) = Say::decode(kind, &payload).unwrap();
                let heard = ends[1 - teller].hear(stores[1 - teller], &say, may_disown);
                assert!(heard.is_ok());
            }
        }
        [ends[0].report.clone(), ends[1].report.clone()]
    }

    /// It came here after our moment, and both forgot it before the other side's.
    #[test]
    fn a_deletion_after_one_moment_and_before_the_other_is_lag() {
        for may_disown in [MayDisown::Yes, MayDisown::No] {
            let (one, other) = (node(1), node(2));
            write(&one, b"key", Change::Put(b"v".to_vec()));
            ship(&one, &other);
            let early = moment(&one);
            write(&other, b"key", Change::Delete);
            ship(&other, &one);
            [&one, &other].into_iter().for_each(forget);
            let late = moment(&other);
            assert!(late.moment.head().dropped > Tick::ZERO);
            let [here, there] = exchange([&one, &other], [early, late], may_disown);
            assert_eq!((here.diverged(), there.diverged(), here.lag), (0, 0, 1));
        }
    }

    /// The other has forgotten the put with its deletion, and then an older deletion came.
    #[test]
    fn an_older_deletion_that_came_late_is_no_sign_of_a_loss() {
        let (one, other, late) = (node(1), node(2), node(3));
        write(&late, b"key", Change::Delete);
        one.set_wall_ms(WALL_MS + 5);
        write(&one, b"key", Change::Put(b"v".to_vec()));
        ship(&one, &other);
        write(&other, b"key", Change::Delete);
        forget(&other);
        ship(&late, &other);
        let moments = [moment(&one), moment(&other)];
        let mut kinds = Vec::new();
        moments[1].moment.look_up(NAME, &mut |it| kinds.push(format!("{:?}", it.kind))).unwrap();
        assert_eq!(kinds, ["Delete"]);
        let [here, there] = exchange([&one, &other], moments, MayDisown::Yes);
        assert_eq!((here.diverged(), there.diverged(), here.lag), (0, 0, 1));
        assert_eq!(other.dump(), []);
    }

    /// One has forgotten a range delete, and has answered a put that it deletes; the other still has it.
    #[test]
    fn what_a_forgotten_range_delete_hides_elsewhere_is_no_divergence() {
        let (one, other, late) = (node(1), node(2), node(3));
        write(&late, b"key", Change::Put(b"v".to_vec()));
        one.set_wall_ms(WALL_MS + 5);
        write(&one, b"a", Change::DeleteTo(Vec::new()));
        ship(&one, &other);
        forget(&one);
        ship(&late, &one);
        ship(&late, &other);
        ship(&one, &other);
        let moments = [moment(&one), moment(&other)];
        let mut kinds = Vec::new();
        for side in &moments {
            side.moment.look_up(NAME, &mut |it| kinds.push(format!("{:?}", it.kind))).unwrap();
        }
        assert!(kinds[0].starts_with("Erase") && kinds[1] == "Delete", "{kinds:?}");
        let [here, there] = exchange([&one, &other], moments, MayDisown::Yes);
        assert_eq!((here.diverged(), there.diverged()), (0, 0));
    }

    /// As above, but the put is shown: the deletion was not dropped as it may be.
    #[test]
    fn a_range_delete_whose_victim_is_shown_comes_back() {
        let (one, other) = (node(1), node(2));
        one.set_wall_ms(WALL_MS + 5);
        write(&one, b"a", Change::DeleteTo(Vec::new()));
        ship(&one, &other);
        forget(&one);
        one.show_again("k", b"key", b"v");
        let moments = [moment(&one), moment(&other)];
        let [here, there] = exchange([&one, &other], moments, MayDisown::Yes);
        assert_eq!((here.taken, there.given), (1, 1));
        assert_eq!(one.dump(), []);
    }

    #[test]
    fn whatever_the_other_side_counts_it_is_added_up() {
        let (one, other) = (node(1), node(2));
        write(&one, b"key", Change::Put(b"v".to_vec()));
        let (moment, head) = (moment(&one), head(&moment(&other)));
        let report = AuditReport { given: 1, disowned_there: 1, ..AuditReport::default() };
        let (moment, ours) = (moment.against(&head), BTreeSet::new());
        let mut end = Exchange::new(Side::Answerer, ScopeId::MAIN, moment, ours, report);
        let says = Say::End { taken: u64::MAX, disowned: u64::MAX };
        assert!(end.hear(&one, &says, MayDisown::No).is_ok());
        let report = end.report.clone();
        assert_eq!((report.given, report.disowned_there), (u64::MAX, u64::MAX));
        assert_eq!(report.diverged(), u64::MAX);
    }
}
