//! All that a disk would hold: content, vector, log, floor; and how commits change them.

use super::content::{Content, Outcome, Place, Range, Says, Version};
use super::log::Log;
use crate::rules;
use crate::store::{Admission, Answers, keyspaces};
use base::batch::Ops;
use base::shipment::{ShipmentWriter, ShippedCommit};
use base::{
    Corruption, Error, KeyspaceId, Op, OpKind, Origin, Result, ScopeId, Shipment, Stamp, Tick,
    Vector,
};
use std::collections::BTreeMap;

/// A write of a user, by name of the keyspace.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Write {
    /// The keyspace's name.
    pub keyspace: String,
    /// The key, or a range's start.
    pub key: Vec<u8>,
    /// What happens to it.
    pub change: Change,
}

/// What a write does.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Change {
    /// Sets the value.
    Put(Vec<u8>),
    /// Deletes the key.
    Delete,
    /// Deletes the keys up to this one, exclusive; empty means to the last key.
    DeleteTo(Vec<u8>),
    /// Deletes the version with this stamp and all older ones.
    Erase(Stamp),
}

/// The content of a disk.
#[derive(Clone, Debug)]
pub(crate) struct Life {
    pub(crate) origin: Origin,
    pub(crate) clock: Tick,
    pub(crate) content: Content,
    pub(crate) vector: Vector,
    pub(crate) floor: Vector,
    pub(crate) dropped: Tick,
    pub(crate) is_whole: bool,
    pub(crate) answers: Answers,
    pub(crate) log: Log,
    pub(crate) local: BTreeMap<Place, Vec<u8>>,
    /// Of this node.
    pub(crate) commits: u64,
    names: Vec<String>,
}

impl Life {
    pub(crate) fn new(origin: Origin) -> Life {
        Life {
            origin,
            clock: Tick::ZERO,
            content: Content::default(),
            vector: Vector::default(),
            floor: Vector::default(),
            dropped: Tick::ZERO,
            is_whole: true,
            answers: Answers::Author,
            log: Log::default(),
            local: BTreeMap::new(),
            commits: 0,
            names: Vec::new(),
        }
    }

    /// A commit of this node.
    pub(crate) fn commit(&mut self, wall_ms: u64, writes: &[Write]) -> Result<Tick> {
        let tick = self.clock.advance(wall_ms);
        let mut ops = Vec::new();
        for write in writes {
            let keyspace = self.number_of(&write.keyspace);
            let kind = match &write.change {
                Change::Put(value) => OpKind::Put(value),
                Change::Delete => OpKind::Delete,
                Change::DeleteTo(end) => OpKind::RangeDelete { end },
                Change::Erase(victim) => OpKind::Erase { victim: *victim },
            };
            Op { keyspace, key: &write.key, kind }.encode(&mut ops);
        }
        let previous = self.vector.get(self.origin);
        let known = Some(previous).filter(|tick| *tick > Tick::ZERO);
        let mut writer = ShipmentWriter::new(ScopeId::MAIN, self.origin, known);
        let names = &self.names;
        let name_of = |number: KeyspaceId| names.get(number.0 as usize).cloned();
        writer
            .push(tick, writes.len() as u64, &Ops::encoded(&ops), name_of)
            .map_err(|found| Error::invalid(found.to_string()))?;
        let bytes = writer.finish();
        self.clock = tick;
        let shipment = decode(&bytes)?;
        for commit in &shipment.commits {
            self.apply(&shipment, commit);
        }
        self.vector.raise(self.origin, tick);
        self.commits += 1;
        self.log.push(self.origin, previous, tick, tick, &bytes);
        Ok(tick)
    }

    fn number_of(&mut self, name: &str) -> KeyspaceId {
        let place = self.names.iter().position(|known| known == name).unwrap_or_else(|| {
            self.names.push(name.to_owned());
            self.names.len() - 1
        });
        KeyspaceId(place as u32)
    }

    /// A shipment of another author. Late puts are answered by a commit of this node.
    pub(crate) fn admit(&mut self, wall_ms: u64, bytes: &[u8]) -> Result<Admission> {
        let shipment = decode(bytes)?;
        let (origin, last) = (shipment.origin, shipment.last());
        let previous = shipment.previous.unwrap_or(Tick::ZERO);
        let have = self.vector.get(origin);
        if last <= have {
            return Ok(Admission::Known);
        }
        if !self.vector.has_room_for(origin) {
            return Ok(Admission::TooManyAuthors);
        }
        if origin == self.origin {
            return Ok(Admission::Fork { origin, at: have });
        }
        if previous > have {
            return Ok(Admission::Gap { have });
        }
        if previous < have && !shipment.commits.iter().any(|commit| commit.tick == have) {
            return Ok(Admission::Fork { origin, at: have });
        }
        let before = (self.answers == Answers::Reader).then(|| self.content.clone());
        self.clock = self.clock.observe(last);
        let (mut won, mut lost, mut late) = (0, 0, Vec::new());
        for commit in shipment.commits.iter().filter(|commit| commit.tick > have) {
            let counts = self.apply(&shipment, commit);
            won += counts.won;
            lost += counts.lost;
            late.extend(counts.late);
        }
        let late_count = (late.len() / 2) as u64;
        if late_count > 0
            && let Some(before) = before
        {
            self.content = before;
            return Ok(Admission::Unanswered { late: late_count });
        }
        self.vector.raise(origin, last);
        let first = shipment.commits.first().map_or(last, |commit| commit.tick);
        self.log.push(origin, previous, first, last, bytes);
        self.answer(wall_ms, &late)?;
        Ok(Admission::Taken { won, lost, late: late_count })
    }

    /// Answers late puts.
    pub(crate) fn answer(&mut self, wall_ms: u64, late: &[Write]) -> Result<()> {
        match late.is_empty() {
            true => Ok(()),
            false => self.commit(wall_ms, late).map(drop),
        }
    }

    /// What a commit leaves: its last op of each key, and its range deletes.
    fn apply(&mut self, shipment: &Shipment<'_>, commit: &ShippedCommit<'_>) -> Counts {
        let stamp = Stamp { tick: commit.tick, origin: shipment.origin };
        let mut points: BTreeMap<Place, Version> = BTreeMap::new();
        let mut counts = Counts::default();
        let mut ranges = Vec::new();
        for op in commit.ops.clone() {
            let keyspace = shipment.name_of(op.keyspace).unwrap_or_default().to_owned();
            let key = op.key.to_vec();
            let version = match op.kind {
                OpKind::Put(value) => put(stamp, value, None),
                OpKind::PutExpiring { expires_at_ms, value } => {
                    put(stamp, value, Some(expires_at_ms))
                }
                OpKind::Delete => Version { stamp, says: Says::Delete },
                OpKind::Erase { victim } => {
                    Version { stamp: victim, says: Says::Erase { carrier: stamp } }
                }
                OpKind::RangeDelete { end } => {
                    let range = Range { keyspace, start: key, end: end.to_vec(), stamp };
                    points.retain(|place, _| !range.has(place));
                    ranges.push(range);
                    continue;
                }
            };
            points.insert((keyspace, key), version);
        }
        counts.won += ranges.len() as u64;
        ranges.into_iter().for_each(|range| self.content.insert_range(range));
        let is_own = shipment.origin == self.origin;
        for (place, version) in points {
            counts.take(self.take(place, version, is_own));
        }
        counts
    }

    /// Takes one version, unless it is a late put of another author.
    pub(crate) fn take(&mut self, place: Place, version: Version, is_own: bool) -> Taken {
        // Nothing is ever deleted in the keyspaces of replication itself.
        let may_be_late = !is_own && !place.0.starts_with(keyspaces::RESERVED);
        let held = self.content.met_by(&place, &version);
        let dropped = rules::greatest_of(self.dropped);
        if may_be_late && rules::is_late(&version.as_ruled(), &self.vector, dropped, held) {
            return Taken::Late(answer_to_late(place, version));
        }
        Taken::Now(self.content.insert(place, version))
    }
}

/// What became of a version.
pub(crate) enum Taken {
    Now(Outcome),
    Late(Vec<Write>),
}

#[derive(Default)]
struct Counts {
    won: u64,
    lost: u64,
    late: Vec<Write>,
}

impl Counts {
    fn take(&mut self, taken: Taken) {
        match taken {
            Taken::Now(Outcome::Won) => self.won += 1,
            Taken::Now(Outcome::Lost) => self.lost += 1,
            Taken::Late(answer) => self.late.extend(answer),
        }
    }
}

fn put(stamp: Stamp, value: &[u8], expires_at_ms: Option<u64>) -> Version {
    Version { stamp, says: Says::Put { value: value.to_vec(), expires_at_ms } }
}

/// An erase for all nodes, and a copy so that nothing is lost.
pub(crate) fn answer_to_late((keyspace, key): Place, version: Version) -> Vec<Write> {
    let Says::Put { value, .. } = version.says else { return Vec::new() };
    let copy = [keyspace.as_bytes(), b"/", &key].concat();
    let quarantine = keyspaces::QUARANTINE.to_owned();
    vec![
        Write { keyspace, key, change: Change::Erase(version.stamp) },
        Write { keyspace: quarantine, key: copy, change: Change::Put(value) },
    ]
}

fn decode(bytes: &[u8]) -> Result<Shipment<'_>> {
    let refuse = |found: Corruption| Error::invalid(format!("this is no shipment: {found}"));
    let shipment = Shipment::decode(bytes).map_err(refuse)?;
    if shipment.scope != ScopeId::MAIN {
        return Err(Error::invalid(format!("scope {} is not replicated", shipment.scope.0)));
    }
    Ok(shipment)
}
