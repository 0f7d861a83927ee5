//! Deltas and floors: three databases that write, ship, flush, merge and raise floors in any order
//! read as the fold of what they have received, forget nothing too early, and give out what others miss.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

mod fixture;

use base::state::{StateChunk, StateKind};
use esker::replicate::{Admission, Origin, ScopeId, Stamp, Vector};
use esker::{Batch, Db, Keyspace, Options, SyncMode, Tick};
use fixture::{Content, Disk, START_MS, content, eventually, fast, keyspace, scale, small_busy};
use proptest::prelude::*;
use std::collections::BTreeMap;

const MAIN: ScopeId = ScopeId::MAIN;
const NODES: usize = 3;
const KEYS: u8 = 12;
/// When what expires early does.
const SOON_MS: u64 = START_MS + 40;

#[derive(Clone, Debug)]
enum Step {
    Put(usize, u8, u8),
    PutUntil(usize, u8, u8),
    Delete(usize, u8),
    DeleteRange(usize, u8, u8),
    Ship(usize, usize),
    Flush(usize),
    Compact(usize),
    RaiseFloor(usize),
    Reopen(usize),
    Wait(usize, u64),
}

fn any_step() -> impl Strategy<Value = Step> {
    let (node, key) = (0..NODES, 0..KEYS);
    let at = (node.clone(), key.clone());
    prop_oneof![
        6 => (at.clone(), any::<u8>()).prop_map(|((n, k), v)| Step::Put(n, k, v)),
        1 => (at.clone(), any::<u8>()).prop_map(|((n, k), v)| Step::PutUntil(n, k, v)),
        3 => at.clone().prop_map(|(n, k)| Step::Delete(n, k)),
        1 => (at, 1u8..6).prop_map(|((n, k), len)| Step::DeleteRange(n, k, len)),
        5 => (node.clone(), node.clone()).prop_map(|(a, b)| Step::Ship(a, b)),
        2 => node.clone().prop_map(Step::Flush),
        2 => node.clone().prop_map(Step::Compact),
        2 => node.clone().prop_map(Step::RaiseFloor),
        1 => node.clone().prop_map(Step::Reopen),
        1 => (node, 0u64..9).prop_map(|(n, ms)| Step::Wait(n, ms)),
    ]
}

/// A write as everybody remembers it.
#[derive(Clone, Debug)]
struct Written {
    stamp: Stamp,
    what: What,
}

#[derive(Clone, Debug, PartialEq)]
enum What {
    Put(u8, Option<u64>, u8),
    Delete(u8),
    Range(u8, u8),
}

impl What {
    fn is_on(&self, of: u8) -> bool {
        matches!(self, What::Put(key, ..) | What::Delete(key) if *key == of)
    }

    fn is_over(&self, of: u8) -> bool {
        matches!(self, What::Range(from, to) if (*from..*to).contains(&of))
    }
}

fn key(number: u8) -> [u8; 2] {
    [b'k', number]
}

struct Node {
    disk: Disk,
    db: Option<Db>,
    /// The last vector of each node that counts here.
    counted: Vec<Vector>,
}

impl Node {
    fn db(&self) -> &Db {
        self.db.as_ref().unwrap()
    }

    fn k(&self) -> Keyspace {
        keyspace(self.db(), "k")
    }

    fn applied(&self) -> Vector {
        self.db().replication().applied(MAIN)
    }

    fn origin(&self) -> Origin {
        self.db().replication().origin()
    }
}

struct World {
    nodes: Vec<Node>,
    writes: Vec<Written>,
}

impl World {
    fn new() -> World {
        let nodes = (0..NODES as u64).map(|seed| {
            let disk = Disk::new(seed + 1);
            let db = disk.open(fast());
            db.replication().raise_floor(MAIN, &Vector::default()).unwrap();
            keyspace(&db, "k");
            Node { disk, db: Some(db), counted: vec![Vector::default(); NODES] }
        });
        World { nodes: nodes.collect(), writes: Vec::new() }
    }

    fn run(&mut self, step: &Step) {
        match *step {
            Step::Put(node, k, v) => {
                let tick = self.nodes[node].k().put(key(k), [v]).unwrap();
                self.note(node, tick, What::Put(k, None, v));
            }
            Step::PutUntil(node, k, v) => {
                let mut batch = Batch::new();
                batch.put_until(&self.nodes[node].k(), key(k), [v], SOON_MS);
                let tick = self.nodes[node].db().write(batch).unwrap();
                self.note(node, tick, What::Put(k, Some(SOON_MS), v));
            }
            Step::Delete(node, k) => {
                let tick = self.nodes[node].k().delete(key(k)).unwrap();
                self.note(node, tick, What::Delete(k));
            }
            Step::DeleteRange(node, from, len) => {
                let to = from + len;
                let tick = self.nodes[node].k().delete_range(key(from), key(to)).unwrap();
                self.note(node, tick, What::Range(from, to));
            }
            Step::Ship(from, to) if from != to => self.ship(from, to),
            Step::Ship(..) => {}
            Step::Flush(node) => self.nodes[node].db().flush().unwrap(),
            Step::Compact(node) => self.nodes[node].db().compact_all().unwrap(),
            Step::RaiseFloor(node) => self.raise_floor(node),
            Step::Reopen(node) => {
                let node = &mut self.nodes[node];
                node.db.take().unwrap().close().unwrap();
                node.db = Some(node.disk.open(fast()));
            }
            Step::Wait(node, ms) => {
                let clock = &self.nodes[node].disk.clock;
                let now = base::Clock::wall_ms(&**clock);
                clock.set(now + ms);
            }
        }
    }

    fn note(&mut self, node: usize, tick: Tick, what: What) {
        let stamp = Stamp { tick, origin: self.nodes[node].origin() };
        self.writes.push(Written { stamp, what });
    }

    fn ship(&self, from: usize, to: usize) {
        let (from, to) = (self.nodes[from].db().replication(), self.nodes[to].db().replication());
        let Ok(mut tail) = from.tail(MAIN, &to.applied(MAIN)) else { return };
        while let Some(shipment) = tail.next(&to.applied(MAIN), 1 << 20).unwrap() {
            let admission = to.admit(&shipment.bytes).unwrap();
            assert!(matches!(admission, Admission::Taken { late: 0, .. }), "{admission:?}");
        }
    }

    /// What a node has confirmed counts once everything in it is here too.
    fn raise_floor(&mut self, node: usize) {
        let own = self.nodes[node].applied();
        for other in 0..NODES {
            let stated = self.nodes[other].applied();
            if own.covers_all(&stated) {
                self.nodes[node].counted[other] = stated;
            }
        }
        let counted = &self.nodes[node].counted;
        let floor = counted.iter().skip(1).fold(counted[0].clone(), |all, of| all.common(of));
        self.nodes[node].db().replication().raise_floor(MAIN, &floor).unwrap();
    }

    /// The greatest write on a key of those that `vector` covers, and of the range deletes over it.
    fn winner(&self, vector: &Vector, key: u8) -> (Option<&Written>, Option<Stamp>) {
        let known = || self.writes.iter().filter(|write| vector.covers_stamp(write.stamp));
        let point = known().filter(|write| write.what.is_on(key)).max_by_key(|it| it.stamp);
        let range = known().filter(|write| write.what.is_over(key)).map(|it| it.stamp).max();
        (point, range)
    }

    /// What is to be read at `now_ms` of what `vector` covers.
    fn fold(&self, vector: &Vector, now_ms: u64) -> Content {
        let live = |number: u8| {
            let (point, range) = self.winner(vector, number);
            let write = point.filter(|write| range.is_none_or(|range| range < write.stamp))?;
            match write.what {
                What::Put(_, until, value) if until.is_none_or(|until| until > now_ms) => {
                    Some((key(number).to_vec(), vec![value]))
                }
                _ => None,
            }
        };
        (0..KEYS + 8).filter_map(live).collect()
    }

    /// Everyone reads the fold of what it has, and still has what the floor does not cover.
    fn check(&self) {
        for node in &self.nodes {
            let now_ms = base::Clock::wall_ms(&*node.disk.clock);
            let vector = node.applied();
            assert_eq!(content(&node.k()), self.fold(&vector, now_ms));
            let floor = node.db().replication().floor(MAIN);
            let given = Given::take(node.db(), &Vector::default());
            assert_eq!(given.vector, vector);
            for number in 0..KEYS + 8 {
                let (point, range) = self.winner(&vector, number);
                let is_kept = |stamp: Stamp| !floor.covers_stamp(stamp);
                if let Some(write) = point
                    && range.is_none_or(|range| range < write.stamp)
                    && (is_kept(write.stamp) || given.is_live(number))
                {
                    assert_eq!(
                        given.points.get(&number).map(|(stamp, _)| *stamp),
                        Some(write.stamp)
                    );
                }
                if let Some(range) = range.filter(|range| is_kept(*range)) {
                    assert!(given.ranges.iter().any(|(stamp, _)| *stamp == range));
                }
            }
        }
    }

    /// What one node lacks of another is in the delta for it, and nothing is in it that it has.
    fn check_deltas(&self) {
        for giver in &self.nodes {
            for taker in &self.nodes {
                let has = taker.applied();
                let mut given = Given::take(giver.db(), &has);
                let stamps = given.points.values().map(|(stamp, _)| *stamp);
                assert!(
                    stamps
                        .chain(given.ranges.iter().map(|(it, _)| *it))
                        .all(|stamp| !has.covers_stamp(stamp))
                );
                for (number, (stamp, _)) in &given.points {
                    let newest = self.winner(&given.vector, *number).0.map(|write| write.stamp);
                    assert_eq!(Some(*stamp), newest, "what is superseded is not sent");
                }
                for number in 0..KEYS + 8 {
                    let (point, range) = self.winner(&has, number);
                    if let Some(write) = point
                        && given.points.get(&number).is_none_or(|(stamp, _)| *stamp < write.stamp)
                    {
                        given.points.insert(number, (write.stamp, write.what.clone()));
                    }
                    given
                        .ranges
                        .extend(range.map(|range| (range, What::Range(number, number + 1))));
                }
                let mut both = has;
                both.raise_all(&given.vector);
                let now_ms = base::Clock::wall_ms(&*giver.disk.clock);
                assert_eq!(given.fold(now_ms), self.fold(&both, now_ms));
            }
        }
    }
}

/// A delta, read to its end.
struct Given {
    vector: Vector,
    points: BTreeMap<u8, (Stamp, What)>,
    ranges: Vec<(Stamp, What)>,
}

impl Given {
    fn take(db: &Db, after: &Vector) -> Given {
        let mut delta = db.replication().delta(MAIN, after).unwrap();
        let vector = delta.head().vector.clone();
        let mut given = Given { vector, points: BTreeMap::new(), ranges: Vec::new() };
        let mut last = Vec::new();
        while let Some(bytes) = delta.next(100).unwrap() {
            for entry in StateChunk::decode(&bytes).unwrap().entries {
                assert_eq!(entry.keyspace, "k");
                let of = entry.key[1];
                let what = match entry.kind {
                    StateKind::Put(value) => What::Put(of, None, value[0]),
                    StateKind::PutExpiring { expires_at_ms, value } => {
                        What::Put(of, Some(expires_at_ms), value[0])
                    }
                    StateKind::Delete => What::Delete(of),
                    StateKind::RangeDelete { end } => {
                        assert!(given.points.is_empty(), "range deletes come first");
                        given.ranges.push((entry.stamp, What::Range(of, end[1])));
                        continue;
                    }
                    StateKind::Erase { .. } => panic!("nothing was late"),
                };
                assert!(last < entry.key.to_vec(), "entries ascend");
                last = entry.key.to_vec();
                given.points.insert(of, (entry.stamp, what));
            }
        }
        given
    }

    fn is_live(&self, number: u8) -> bool {
        matches!(self.points.get(&number), Some((_, What::Put(..))))
    }

    fn fold(&self, now_ms: u64) -> Content {
        let live = self.points.iter().filter_map(|(number, (stamp, what))| {
            let covering = self.ranges.iter().filter(|(_, range)| range.is_over(*number));
            let What::Put(_, until, value) = what else { return None };
            let is_over = until.is_some_and(|until| until <= now_ms);
            let is_covered = covering.map(|(range, _)| *range).max().is_some_and(|it| it > *stamp);
            (!is_over && !is_covered).then(|| (key(*number).to_vec(), vec![*value]))
        });
        live.collect()
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300 * scale() as u32))]

    #[test]
    fn reads_are_the_fold_of_what_was_received_and_nothing_is_forgotten_too_early(
        steps in proptest::collection::vec(any_step(), 1..70)
    ) {
        let mut world = World::new();
        for step in &steps {
            world.run(step);
            if matches!(step, Step::Compact(_) | Step::Ship(..)) {
                world.check();
            }
        }
        world.check();
        world.check_deltas();
        for (from, to) in [(0, 1), (1, 2), (2, 0), (0, 1), (1, 2)] {
            world.ship(from, to);
        }
        world.check();
    }
}

/// Without a floor nobody replicates: what is deleted goes at the next merge, and that is remembered.
#[test]
fn tombstones_wait_for_the_floor_once_one_was_raised() {
    for raised in [false, true] {
        let db = Disk::new(1).open(fast());
        let (replication, k) = (db.replication(), keyspace(&db, "k"));
        if raised {
            replication.raise_floor(MAIN, &Vector::default()).unwrap();
        }
        k.put(b"a", b"1").unwrap();
        let deleted = k.delete(b"a").unwrap();
        let range = k.delete_range(b"b", b"c").unwrap();
        db.compact_all().unwrap();
        assert_eq!(replication.dropped(MAIN), if raised { Tick::ZERO } else { range });
        let kept = Given::take_count(&db);
        assert_eq!(kept, if raised { (1, 1) } else { (0, 0) });
        let up_to = |tick| Vector::from_iter([(replication.origin(), tick)]);
        replication.raise_floor(MAIN, &up_to(deleted)).unwrap();
        k.put(b"new", b"1").unwrap();
        db.compact_all().unwrap();
        assert_eq!(replication.dropped(MAIN), if raised { deleted } else { range });
        assert_eq!(Given::take_count(&db), if raised { (1, 1) } else { (1, 0) });
        // A first floor vouches for what had gone without one.
        assert_eq!(replication.floor(MAIN), up_to(if raised { deleted } else { range }));
    }
}

/// Merges that writes make due never come again where nobody writes.
#[test]
fn what_the_floor_lets_go_goes_without_a_write() {
    let db = Disk::new(1).open(Options { sync: SyncMode::Async, ..small_busy() });
    let (replication, k) = (db.replication(), keyspace(&db, "k"));
    replication.raise_floor(MAIN, &Vector::default()).unwrap();
    for number in 0..4000u32 {
        k.put(number.to_be_bytes(), [number as u8; 40]).unwrap();
    }
    let kept = k.put(b"kept", b"1").unwrap();
    for number in 0..4000u32 {
        k.delete(number.to_be_bytes()).unwrap();
    }
    db.compact_all().unwrap();
    let bytes = || db.stats().runs.iter().map(|run| run.bytes).sum::<u64>();
    let before = bytes();
    assert_eq!(Given::take_count(&db), (4001, 0));
    let all = replication.applied(MAIN);
    replication.raise_floor(MAIN, &all).unwrap();
    eventually("all tombstones gone", || Given::take_count(&db) == (1, 0));
    assert!(bytes() * 10 < before, "{} of {before} bytes", bytes());
    assert!(replication.dropped(MAIN) > kept);
    assert_eq!(content(&k).len(), 1);
}

/// Of an erase the manifest knows the victim only, so the table is written anew too early, and once more
/// when the floor covers the commit that brought it.
#[test]
fn an_erase_goes_without_a_write_once_the_floor_covers_what_brought_it() {
    let (author, disk) = (Disk::new(1), Disk::new(2));
    let a = author.open(fast());
    keyspace(&a, "k").put("late", "v").unwrap();
    a.sync().unwrap();
    disk.clock.set(START_MS + 5);
    let db = disk.open(Options { sync: SyncMode::Async, ..small_busy() });
    let (replication, k) = (db.replication(), keyspace(&db, "k"));
    for key in ["kept", "gone"] {
        k.put(key, "v").unwrap();
    }
    k.delete("gone").unwrap();
    db.compact_all().unwrap();
    replication.raise_floor(MAIN, &replication.applied(MAIN)).unwrap();
    let before = replication.applied(MAIN);
    let mut tail = a.replication().tail(MAIN, &before).unwrap();
    let shipment = tail.next(&before, 1 << 20).unwrap().unwrap();
    let taken = replication.admit(&shipment.bytes).unwrap();
    assert!(matches!(taken, Admission::Taken { late: 1, .. }), "{taken:?}");
    db.compact_all().unwrap();
    // What is kept, the erase, and of what it erased the value and what it was.
    assert_eq!(Given::take_count(&db), (4, 0));

    let merges = db.stats().compactions;
    let mut floor = before;
    floor.raise(shipment.origin, shipment.last);
    replication.raise_floor(MAIN, &floor).unwrap();
    eventually("it was tried", || db.stats().compactions > merges);
    db.settle().unwrap();
    assert_eq!(Given::take_count(&db), (4, 0));
    assert_eq!(db.stats().compactions, merges + 1, "again and again");
    replication.raise_floor(MAIN, &replication.applied(MAIN)).unwrap();
    eventually("the erase is gone", || Given::take_count(&db) == (3, 0));
}

impl Given {
    fn take_count(db: &Db) -> (usize, usize) {
        let mut delta = db.replication().delta(MAIN, &Vector::default()).unwrap();
        let (mut points, mut ranges) = (0, 0);
        while let Some(bytes) = delta.next(1 << 20).unwrap() {
            for entry in StateChunk::decode(&bytes).unwrap().entries {
                match entry.kind {
                    StateKind::RangeDelete { .. } => ranges += 1,
                    _ => points += 1,
                }
            }
        }
        (points, ranges)
    }
}

/// The giver's session lives by its calls: none may look through a whole scope for one entry.
#[test]
fn a_delta_of_little_news_comes_in_many_short_calls() {
    let options = Options { memtable_bytes: 64 << 20, memory_bytes: 256 << 20, ..fast() };
    let db = Disk::new(1).open(options);
    let k = keyspace(&db, "k");
    for number in 0..20_000u32 {
        k.put(number.to_be_bytes(), [number as u8; 2000]).unwrap();
    }
    let known = db.replication().applied(MAIN);
    k.put(u32::MAX.to_be_bytes(), b"news").unwrap();
    let mut delta = db.replication().delta(MAIN, &known).unwrap();
    let mut sizes = Vec::new();
    while let Some(chunk) = delta.next(1 << 20).unwrap() {
        sizes.push(chunk.len());
    }
    // 40 MB are looked at, 16 MiB a call.
    assert!(sizes.len() == 3 && sizes[..2] == [0, 0] && sizes[2] > 0, "{sizes:?}");
}

/// A copy is another life: what it took over keeps its author, also when it is merged.
#[test]
fn what_a_former_life_wrote_keeps_its_author() {
    let disk = Disk::new(1);
    let db = disk.open(fast());
    let former = db.replication().origin();
    let k = keyspace(&db, "k");
    let first = k.put(b"a", b"1").unwrap();
    let range = k.delete_range(b"x", b"").unwrap();
    db.replication().raise_floor(MAIN, &Vector::default()).unwrap();
    db.checkpoint("copy").unwrap();
    let copy = Disk { fs: disk.fs.fork(), clock: disk.clock.clone() };
    let platform = esker::Platform {
        fs: copy.platform().fs.at(std::path::Path::new("copy")),
        ..copy.platform()
    };
    let twin = Db::open_on(platform, fast()).unwrap();
    let own = twin.replication().origin();
    assert_ne!(own, former);
    let later = keyspace(&twin, "k").put(b"b", b"2").unwrap();
    for _ in 0..2 {
        let mut delta = twin.replication().delta(MAIN, &Vector::default()).unwrap();
        let mut stamps = Vec::new();
        while let Some(bytes) = delta.next(1 << 20).unwrap() {
            stamps.extend(StateChunk::decode(&bytes).unwrap().entries.iter().map(|it| it.stamp));
        }
        let stamp = |tick, origin| Stamp { tick, origin };
        assert_eq!(stamps, [stamp(range, former), stamp(first, former), stamp(later, own)]);
        twin.compact_all().unwrap();
    }
    assert_eq!(twin.replication().origins(), [former, own]);
}
