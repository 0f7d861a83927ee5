//! The engine decides by code of its own, made for tables and memtables; the rules are functions of one version
//! each. Here both get the same: what comes to an engine comes to a store that asks the rules for everything, and
//! after each step they hold the same.

use crate::pair::{MAIN, open, small};
use base::clock::ManualClock;
use base::fs::SimFs;
use base::{Incarnation, NodeId, Stamp, Tick, Vector};
use engine::Db;
use proptest::prelude::*;
use replication::engine_store::EngineStore;
use replication::link::Bell;
use replication::memory::{Change, MemoryStore, Write};
use replication::store::{Admission, Answers, Element, Installed, Purpose, Store};
use std::collections::BTreeMap;
use std::sync::Arc;

const START_MS: u64 = 1_700_000_000_000;
const WRITERS: usize = 3;
const KEYSPACE: &str = "k";
const LEN_MAX: usize = 64 << 10;
/// The length of shipments that hold a commit each. Of several the engine decides at once, as of one install: what
/// a later commit has overtaken is not late.
const ONE_COMMIT: usize = 1;

/// Something that happens.
#[derive(Clone, Debug)]
enum Step {
    /// A writer commits.
    Write(usize, Vec<Write>),
    /// The first takes over the log of the second.
    Exchange(usize, usize),
    /// A writer's floor rises to what another has, and its tombstones go.
    Forget(usize, usize),
    /// Both subjects take over the log of a writer.
    Admit(usize),
    /// Both subjects take state of a writer, as far as the rules of sessions allow it.
    Take(usize, Purpose),
    /// The floor of both rises to what they have in common with a writer, and their tombstones go.
    Collect(usize),
}

fn key(n: u8) -> Vec<u8> {
    vec![b'a' + n]
}

fn write() -> impl Strategy<Value = Write> {
    let change = prop_oneof![
        3 => prop::collection::vec(any::<u8>(), 1..3).prop_map(Change::Put),
        2 => Just(Change::Delete),
        1 => (0u8..5).prop_map(|end| Change::DeleteTo(key(end))),
    ];
    let write = |(at, change)| match change {
        // A range has to hold something.
        Change::DeleteTo(end) if end <= key(at) => {
            Write { keyspace: KEYSPACE.into(), key: key(at), change: Change::Delete }
        }
        change => Write { keyspace: KEYSPACE.into(), key: key(at), change },
    };
    (0u8..4, change).prop_map(write)
}

/// Those of a commit: a batch of the engine holds no write that a later range delete took back.
fn writes() -> impl Strategy<Value = Vec<Write>> {
    prop::collection::vec(write(), 1..4).prop_map(|mut all| {
        all.sort_by_key(|write| !matches!(write.change, Change::DeleteTo(_)));
        all
    })
}

fn step() -> impl Strategy<Value = Step> {
    let writer = || 0..WRITERS;
    let purpose = prop_oneof![Just(Purpose::CatchUp), Just(Purpose::Rejoin)];
    prop_oneof![
        5 => (writer(), writes()).prop_map(|(w, all)| Step::Write(w, all)),
        3 => (writer(), writer()).prop_map(|(to, from)| Step::Exchange(to, from)),
        1 => (writer(), writer()).prop_map(|(w, other)| Step::Forget(w, other)),
        5 => writer().prop_map(Step::Admit),
        2 => (writer(), purpose).prop_map(|(from, purpose)| Step::Take(from, purpose)),
        2 => writer().prop_map(Step::Collect),
    ]
}

/// What happened at a store, without what each says in its own words.
#[derive(Debug, PartialEq, Eq)]
enum Came {
    Admitted(Vec<Admission>),
    Installed(Installed),
    Refused,
    Nothing,
}

/// What a store holds of the keyspace: by name what is newest of each key, and what can be read.
type Holds = (BTreeMap<Vec<u8>, Element>, Vec<(Vec<u8>, Vec<u8>, Stamp)>);

/// Vector, floor, highest dropped tick, and what it holds.
type Facts = (Vector, Vector, Tick, Holds);

struct Story {
    clock: Arc<ManualClock>,
    wall_ms: u64,
    writers: Vec<MemoryStore>,
    /// Asks the rules.
    ruled: MemoryStore,
    db: Db,
    engine: EngineStore,
}

impl Story {
    fn new(seed: u64) -> Story {
        let clock = Arc::new(ManualClock::at(START_MS));
        let db = open(&SimFs::new(seed), &clock, small());
        let engine = EngineStore::new(db.clone(), &Bell::default());
        let of = |n: u8| MemoryStore::new(NodeId([n; 16]), Incarnation(u64::from(n)), START_MS);
        let writers = (1..=WRITERS).map(|n| of(n as u8)).collect();
        let ruled = of(200);
        // What the subjects write themselves would be told apart by its stamps.
        ruled.set_answers(MAIN, Answers::Reader).unwrap();
        engine.set_answers(MAIN, Answers::Reader).unwrap();
        // A database without a floor forgets what it likes.
        engine.raise_floor(MAIN, &Vector::default()).unwrap();
        Story { clock, wall_ms: START_MS, writers, ruled, db, engine }
    }

    fn subjects(&self) -> [&dyn Store; 2] {
        [&self.ruled, &self.engine]
    }

    /// Does `step` at both subjects, and returns what came of it.
    fn go(&mut self, number: usize, step: &Step) -> [Came; 2] {
        // Mostly it stands still, so that writers give the same tick.
        self.wall_ms += u64::from(number.is_multiple_of(4));
        self.clock.set(self.wall_ms);
        self.writers.iter().chain([&self.ruled]).for_each(|store| store.set_wall_ms(self.wall_ms));
        match step {
            Step::Write(writer, writes) => drop(self.writers[*writer].write(writes).unwrap()),
            Step::Exchange(to, from) if to != from => {
                drop(admit_all(&self.writers[*to], &self.writers[*from]));
            }
            Step::Forget(writer, other) if writer != other => {
                let store = &self.writers[*writer];
                let common = store.applied(MAIN).common(&self.writers[*other].applied(MAIN));
                store.raise_floor(MAIN, &common).unwrap();
                store.collect();
            }
            Step::Exchange(..) | Step::Forget(..) => {}
            Step::Admit(from) => {
                return self.subjects().map(|store| admit_all(store, &self.writers[*from]));
            }
            Step::Take(from, purpose) => {
                let giver = &self.writers[*from];
                let came = self.subjects().map(|store| take(store, giver, *purpose));
                self.forget();
                return came;
            }
            Step::Collect(writer) => self.collect(*writer),
        }
        [Came::Nothing, Came::Nothing]
    }

    fn collect(&self, writer: usize) {
        let common = self.ruled.applied(MAIN).common(&self.writers[writer].applied(MAIN));
        self.subjects().iter().for_each(|store| store.raise_floor(MAIN, &common).unwrap());
        self.forget();
    }

    /// Lets tombstones go that both may let go.
    fn forget(&self) {
        self.ruled.collect();
        self.db.compact_all().unwrap();
    }

    fn facts(&self) -> [Facts; 2] {
        let of = |store: &dyn Store| {
            (store.applied(MAIN), store.floor(MAIN), store.dropped(MAIN), holds(store))
        };
        self.subjects().map(of)
    }
}

/// Gives `to` what `from` has in its log, up to the first that is not taken.
fn admit_all(to: &dyn Store, from: &MemoryStore) -> Came {
    from.sync();
    let Ok(mut tail) = from.tail(MAIN, &to.applied(MAIN)) else { return Came::Refused };
    let mut came = Vec::new();
    loop {
        let Ok(next) = tail.next(&to.applied(MAIN), ONE_COMMIT) else { return Came::Refused };
        let Some(shipment) = next else { return Came::Admitted(came) };
        let admission = to.admit(&shipment.bytes).unwrap();
        let goes_on = matches!(admission, Admission::Taken { .. } | Admission::Known);
        // Ops of one commit that replace each other are counted apart by one and together by the other.
        came.push(match admission {
            Admission::Taken { late, .. } => Admission::Taken { won: 0, lost: 0, late },
            other => other,
        });
        if !goes_on {
            return Came::Admitted(came);
        }
    }
}

/// Gives `to` the state of `from`, where sessions would.
fn take(to: &dyn Store, from: &MemoryStore, purpose: Purpose) -> Came {
    let after = match purpose {
        Purpose::CatchUp => to.applied(MAIN),
        _ => Vector::default(),
    };
    let mut delta = from.delta(MAIN, &after).unwrap();
    let head = delta.head().clone();
    let applied = to.applied(MAIN);
    let may = match purpose {
        Purpose::CatchUp => replication::rules::may_take_delta(&applied, &head.floor),
        _ => head.vector.covers_all(&applied),
    };
    if !may {
        return Came::Refused;
    }
    let mut stage = to.stage(MAIN, &head, purpose).unwrap();
    while let Some(chunk) = delta.next(LEN_MAX).unwrap() {
        stage.add(&chunk).unwrap();
    }
    Came::Installed(stage.install().unwrap())
}

fn holds(store: &dyn Store) -> Holds {
    let mut elements = BTreeMap::new();
    let floor = store.floor(MAIN);
    // What may go is gone in one and goes at the next merge in the other.
    let may_go = |element: &Element| {
        element.lasts_until_ms == 0
            && floor.covers_stamp(element.stamp)
            && floor.covers_stamp(element.carrier)
    };
    let mut note = |name: &[u8], element: Option<Element>| {
        let stays = element.filter(|element| !may_go(element));
        elements.extend(stays.map(|element| (name.to_vec(), element)));
        true
    };
    let from = [KEYSPACE.as_bytes(), &[0]].concat();
    let to = [KEYSPACE.as_bytes(), &[1]].concat();
    store.elements(MAIN).unwrap().scan(&from, Some(&to), &mut note).unwrap();
    let entries = store.entries(KEYSPACE).unwrap().into_iter();
    (elements, entries.map(|held| (held.key, held.value, held.stamp)).collect())
}

/// Deletions that the giver of a rejoin has let go: by the rules they go, and the engine keeps them until its floor
/// has passed them. Takes them out of what it holds, and counts them.
fn keep_deletions(ruled: &Facts, engine: &mut Facts) -> usize {
    let (ruled, engine) = (&ruled.3.0, &mut engine.3.0);
    let count = engine.len();
    engine.retain(|name, element| ruled.contains_key(name) || element.lasts_until_ms > 0);
    count - engine.len()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(600))]

    #[test]
    fn an_engine_decides_as_the_rules_do(seed in any::<u64>(), steps in prop::collection::vec(step(), 1..60)) {
        let mut story = Story::new(seed);
        for (number, step) in steps.iter().enumerate() {
            let [ruled, engine] = story.go(number, step);
            prop_assert_eq!(ruled, engine, "step {} {:?}", number, step);
            let [ruled, mut engine] = story.facts();
            let kept = match step {
                Step::Take(_, Purpose::Rejoin) => keep_deletions(&ruled, &mut engine),
                _ => 0,
            };
            prop_assert_eq!(ruled, engine, "after step {} {:?}", number, step);
            if kept > 0 {
                // From here on an old put meets a deletion at one and what was forgotten at the other.
                return Ok(());
            }
        }
    }
}
