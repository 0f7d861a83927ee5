//! State on its way out and in.

use super::MemoryStore;
use super::content::{Content, Outcome, Place, Range, Says, Version};
use super::life::{Life, Taken, Write, answer_to_late};
use crate::rules;
use crate::store::{Answers, Delta, DeltaHead, Installed, Purpose, Stage, keyspaces};
use base::state::{StateChunk, StateEntry, StateKind, StateWriter};
use base::{Error, Result, ScopeId, Vector};
use std::collections::VecDeque;

/// One entry, owned.
#[derive(Clone, Debug)]
pub(crate) enum Item {
    Range(Range),
    Point(Place, Version),
}

/// What `content` holds that `after` does not cover: range deletes first, then by place.
pub(crate) fn items(content: &Content, after: &Vector) -> VecDeque<Item> {
    let is_news = |version: rules::Version| rules::is_news(&version, after);
    let ranges = content.ranges.iter().filter(|range| is_news(range.as_ruled()));
    let points = content.points.iter().filter(|(_, version)| is_news(version.as_ruled()));
    let points = points.map(|(place, version)| Item::Point(place.clone(), version.clone()));
    ranges.cloned().map(Item::Range).chain(points).collect()
}

/// The next chunk of `items`; a chunk holds range deletes only, or none.
pub(crate) fn chunk(items: &mut VecDeque<Item>, len_max: usize) -> Option<Vec<u8>> {
    let mut writer = StateWriter::new(ScopeId::MAIN);
    let starts_with_range = matches!(items.front()?, Item::Range(_));
    while let Some(item) = items.front() {
        let is_enough = writer.len() >= len_max || writer.is_full();
        if matches!(item, Item::Range(_)) != starts_with_range || is_enough {
            break;
        }
        push(&mut writer, item);
        items.pop_front();
    }
    Some(writer.finish())
}

fn push(writer: &mut StateWriter, item: &Item) {
    with_entry(item, |entry| writer.push(entry));
}

/// Calls `with` with the item as it travels.
pub(crate) fn with_entry(item: &Item, with: impl FnOnce(&StateEntry<'_>)) {
    match item {
        Item::Range(Range { keyspace, start, end, stamp }) => {
            let kind = StateKind::RangeDelete { end };
            with(&StateEntry { keyspace, key: start, stamp: *stamp, kind });
        }
        Item::Point((keyspace, key), Version { stamp, says }) => {
            let kind = match says {
                Says::Put { value, expires_at_ms: None } => StateKind::Put(value),
                Says::Put { value, expires_at_ms: Some(expires_at_ms) } => {
                    StateKind::PutExpiring { expires_at_ms: *expires_at_ms, value }
                }
                Says::Delete => StateKind::Delete,
                Says::Erase { carrier } => StateKind::Erase { carrier: *carrier },
            };
            with(&StateEntry { keyspace, key, stamp: *stamp, kind });
        }
    }
}

/// The entries of a chunk.
pub(crate) fn decode(bytes: &[u8]) -> Result<Vec<Item>> {
    let chunk = StateChunk::decode(bytes)
        .map_err(|found| Error::invalid(format!("this is no chunk of a state: {found}")))?;
    if chunk.scope != ScopeId::MAIN {
        return Err(Error::invalid(format!("scope {} is not replicated", chunk.scope.0)));
    }
    Ok(chunk.entries.iter().map(item).collect())
}

fn item(entry: &StateEntry<'_>) -> Item {
    let stamp = entry.stamp;
    let place = (entry.keyspace.to_owned(), entry.key.to_vec());
    let put = |value: &[u8], expires_at_ms| Says::Put { value: value.to_vec(), expires_at_ms };
    let says = match entry.kind {
        StateKind::Put(value) => put(value, None),
        StateKind::PutExpiring { expires_at_ms, value } => put(value, Some(expires_at_ms)),
        StateKind::Delete => Says::Delete,
        StateKind::Erase { carrier } => Says::Erase { carrier },
        StateKind::RangeDelete { end } => {
            let (keyspace, start) = place;
            return Item::Range(Range { keyspace, start, end: end.to_vec(), stamp });
        }
    };
    Item::Point(place, Version { stamp, says })
}

/// Chunks of a moment.
pub(crate) struct MemoryDelta {
    pub(crate) head: DeltaHead,
    pub(crate) items: VecDeque<Item>,
    /// Calls that find nothing before each that does, and how many are left.
    pub(crate) idle: u32,
    pub(crate) left: u32,
}

impl Delta for MemoryDelta {
    fn head(&self) -> &DeltaHead {
        &self.head
    }

    fn next(&mut self, len_max: usize) -> Result<Option<Vec<u8>>> {
        if self.left > 0 {
            self.left -= 1;
            return Ok(Some(Vec::new()));
        }
        self.left = self.idle;
        Ok(chunk(&mut self.items, len_max))
    }
}

/// Entries that wait for their installation.
pub(crate) struct MemoryStage {
    pub(crate) store: MemoryStore,
    pub(crate) head: DeltaHead,
    pub(crate) purpose: Purpose,
    pub(crate) items: Vec<Item>,
}

impl Stage for MemoryStage {
    fn add(&mut self, chunk: &[u8]) -> Result<()> {
        for item in decode(chunk)? {
            let follows = match (self.items.last(), &item) {
                (Some(Item::Point(before, _)), Item::Point(place, _)) => before < place,
                (Some(Item::Point(..)), Item::Range(_)) => false,
                _ => true,
            };
            if !follows {
                return Err(Error::invalid("the entries of a state are out of order"));
            }
            self.items.push(item);
        }
        Ok(())
    }

    fn install(self: Box<Self>) -> Result<Installed> {
        let MemoryStage { store, head, purpose, items } = *self;
        store.change(|life, wall_ms| match purpose {
            Purpose::CatchUp | Purpose::Rejoin => install(life, wall_ms, &head, purpose, items),
            Purpose::Mend => {
                mend(life, items);
                Ok(Installed::All)
            }
            Purpose::Disown => disown(life, wall_ms, items).map(|()| Installed::All),
        })
    }
}

fn install(
    life: &mut Life,
    wall_ms: u64,
    head: &DeltaHead,
    purpose: Purpose,
    items: Vec<Item>,
) -> Result<Installed> {
    if purpose == Purpose::CatchUp && !rules::may_take_delta(&life.vector, &head.floor) {
        return Err(Error::invalid("what the giver has forgotten is not all known here"));
    }
    if !life.vector.has_room_for_all(&head.vector) {
        let (limit, value) = (Vector::OTHERS_MAX as u64, head.vector.len() as u64);
        return Err(Error::too_large("number of authors", limit, value));
    }
    let known = if life.is_whole { life.vector.clone() } else { Vector::default() };
    let mut giver = Content::default();
    for item in &items {
        match item.clone() {
            Item::Range(range) => giver.insert_range(range),
            Item::Point(place, version) => drop(giver.insert(place, version)),
        }
    }
    let reads_only = life.answers == Answers::Reader;
    let is_rejoin = purpose == Purpose::Rejoin;
    let is_vouched_for = is_rejoin && reads_only && head.vector.covers_all(&life.floor);
    let before = reads_only.then(|| life.content.clone());
    let mut late: Vec<Write> = Vec::new();
    if is_rejoin {
        late.extend(late_there(life, head, &giver));
        forget_absent(life, head, &giver);
    }
    for item in items {
        match item {
            Item::Range(range) if !rules::is_news(&range.as_ruled(), &known) => {}
            Item::Range(range) => life.content.insert_range(range),
            Item::Point(_, version) if !rules::is_news(&version.as_ruled(), &known) => {}
            // The giver has received all deletes that were forgotten here.
            Item::Point(place, version) => match life.take(place, version, is_vouched_for) {
                Taken::Now(Outcome::Won | Outcome::Lost) => {}
                Taken::Late(answer) => late.extend(answer),
            },
        }
    }
    if let Some(before) = before.filter(|_| !late.is_empty()) {
        life.content = before;
        return Ok(Installed::Unanswered { late: late.len() as u64 / 2 });
    }
    take_head(life, head);
    life.is_whole |= is_rejoin;
    life.answer(wall_ms, &late)?;
    Ok(Installed::All)
}

/// The answers to own puts that the giver has not received, but would find late: whoever takes its
/// floor over vouches for what was forgotten below it.
fn late_there(life: &Life, head: &DeltaHead, giver: &Content) -> Vec<Write> {
    if life.answers == Answers::Reader {
        return Vec::new();
    }
    let dropped = rules::greatest_of(head.dropped);
    let is_late = |(place, version): &(&Place, &Version)| {
        let theirs = giver.newest(place);
        !place.0.starts_with(keyspaces::RESERVED)
            && rules::is_late(&version.as_ruled(), &head.vector, dropped, theirs)
    };
    let late = life.content.points.iter().filter(is_late);
    late.flat_map(|(place, version)| answer_to_late(place.clone(), version.clone())).collect()
}

/// Stores again what was received and is missing.
fn mend(life: &mut Life, items: Vec<Item>) {
    for item in items {
        match item {
            Item::Point(place, version) if life.vector.covers_stamp(version.as_ruled().carrier) => {
                life.content.insert(place, version);
            }
            Item::Point(..) | Item::Range(_) => {}
        }
    }
}

/// Answers what is here in exactly the version of an item as a late put.
fn disown(life: &mut Life, wall_ms: u64, items: Vec<Item>) -> Result<()> {
    let mut answers: Vec<Write> = Vec::new();
    for item in items {
        if let Item::Point(place, version) = item
            && life.content.newest(&place) == Some(version.rank())
        {
            answers.extend(answer_to_late(place, version));
        }
    }
    life.answer(wall_ms, &answers)
}

/// Own versions that the giver has received and holds no more, nor anything newer.
fn forget_absent(life: &mut Life, head: &DeltaHead, giver: &Content) {
    let is_gone = |place: &Place, version: &Version| {
        rules::is_let_go(&version.as_ruled(), &head.vector, giver.newest(place))
    };
    let points = std::mem::take(&mut life.content.points);
    for (place, version) in points {
        if !is_gone(&place, &version) {
            life.content.points.insert(place, version);
        } else if let Some(held) = giver.points.get(&place) {
            life.content.points.insert(place, held.clone());
        }
    }
}

/// The vector, floor, highest dropped tick and clock of a giver.
pub(crate) fn take_head(life: &mut Life, head: &DeltaHead) {
    let rises = head.vector.iter().filter(|(origin, tick)| !life.vector.covers(*origin, *tick));
    let jump: Vector = rises.collect();
    life.log.jump(&jump);
    life.vector.raise_all(&head.vector);
    life.floor.raise_all(&head.floor);
    life.dropped = life.dropped.max(head.dropped);
    life.clock = life.clock.observe(head.vector.latest()).observe(head.dropped);
}
