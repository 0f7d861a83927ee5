//! The policy against ARC and LRU, and its invariants.

use super::oracle::{Arc, Lru, Oracle, Read};
use super::traces::{Weights, cycle, drifting, interleaved, scanned, zipf};
use super::*;
use proptest::prelude::*;
use std::cell::Cell;
use std::rc::Rc;

/// An entry that knows its key, so that evictions can be followed.
struct Page {
    key: u64,
    is_referenced: Cell<bool>,
}

impl Entry for Rc<Page> {
    fn take_referenced(&self) -> bool {
        self.is_referenced.replace(false)
    }
}

/// The policy with what the cache puts around it: slots to find entries by.
struct Car {
    policy: Policy<Rc<Page>>,
    slots: HashMap<u64, (Rc<Page>, NodeId)>,
}

impl Car {
    fn new(capacity: usize) -> Car {
        Car { policy: Policy::new(capacity), slots: HashMap::new() }
    }

    fn insert(&mut self, (key, weight): Read, temperature: Temperature) {
        let page = Rc::new(Page { key, is_referenced: false.into() });
        if let Some(admitted) = self.policy.insert(key, weight, temperature, Rc::clone(&page)) {
            self.slots.insert(key, (page, admitted.node));
            self.empty(admitted.evicted);
        }
    }

    fn empty(&mut self, evicted: Evicted<Rc<Page>>) {
        for page in evicted.0 {
            assert!(self.slots.remove(&page.key).is_some(), "evicted what was not there");
        }
    }

    fn touch(&self, key: u64) -> bool {
        self.slots.get(&key).map(|(page, _)| page.is_referenced.set(true)).is_some()
    }

    fn forget(&mut self, key: u64) {
        if let Some((_, node)) = self.slots.remove(&key) {
            assert_eq!(self.policy.remove(node).map(|page| page.key), Some(key));
        }
    }

    fn assert_sound(&self) {
        let bytes = |list| self.policy.lists.bytes(list);
        let (t1, t2, b1, b2) = (bytes(List::T1), bytes(List::T2), bytes(List::B1), bytes(List::B2));
        let capacity = self.policy.capacity;
        assert!(t1 + t2 <= capacity, "T1 {t1} + T2 {t2} > {capacity}");
        assert!(t1 + b1 <= capacity, "T1 {t1} + B1 {b1} > {capacity}");
        assert!(t1 + t2 + b1 + b2 <= 2 * capacity, "{t1} + {t2} + {b1} + {b2} > 2 * {capacity}");
        assert!(self.policy.target <= capacity);
        assert_eq!(self.policy.usage().entries, self.slots.len(), "an entry without a slot");
        let ghosts = self.policy.lists.len(List::B1) + self.policy.lists.len(List::B2);
        assert_eq!(self.policy.ghosts.len(), ghosts, "a ghost that can not be found");
        for (key, (_, node)) in &self.slots {
            let node = &self.policy.lists[*node];
            assert_eq!(node.entry.as_ref().map(|page| page.key), Some(*key));
            assert!(matches!(node.list(), List::T1 | List::T2));
        }
        self.policy.lists.assert_sound();
    }
}

impl Oracle for Car {
    fn read(&mut self, read: Read) -> bool {
        let is_hit = self.touch(read.0);
        if !is_hit {
            self.insert(read, Temperature::Warm);
        }
        is_hit
    }
}

/// Percent of reads that hit.
fn hit_rate(mut oracle: impl Oracle, trace: &[Read]) -> f64 {
    let hits = trace.iter().filter(|&&read| oracle.read(read)).count();
    100.0 * hits as f64 / trace.len() as f64
}

#[derive(Debug)]
struct Rates {
    name: String,
    car: f64,
    arc: f64,
    lru: f64,
}

fn race(name: &str, weights: Weights, blocks: usize, trace: &[Read]) -> Rates {
    let budget = weights.budget(blocks);
    let rates = Rates {
        name: format!("{name}, {weights:?}, {blocks}"),
        car: hit_rate(Car::new(budget), trace),
        arc: hit_rate(Arc::new(budget), trace),
        lru: hit_rate(Lru::new(budget), trace),
    };
    println!("{:50} car {:6.2} arc {:6.2} lru {:6.2}", rates.name, rates.car, rates.arc, rates.lru);
    rates
}

fn assert_keeps_up(rates: &Rates) {
    assert!(rates.car + 2.0 >= rates.arc.max(rates.lru), "more than two points behind: {rates:?}");
}

#[test]
fn loops_hit_as_often_as_under_arc_and_lru() {
    for weights in [Weights::Unit, Weights::Blocks] {
        for keys in [900, 1_000, 1_010, 1_500, 3_000] {
            let trace = cycle(weights, keys, 30_000);
            assert_keeps_up(&race(&format!("loop {keys}"), weights, 1_000, &trace));
        }
    }
}

#[test]
fn zipf_hits_as_often_as_under_arc_and_lru() {
    for weights in [Weights::Unit, Weights::Blocks] {
        for skew in [0.8, 0.99] {
            let trace = zipf(weights, 7, 20_000, skew, 100_000);
            for blocks in [200, 1_000, 4_000] {
                assert_keeps_up(&race(&format!("zipf {skew}"), weights, blocks, &trace));
            }
        }
    }
}

#[test]
fn scans_hit_as_often_as_under_arc_and_lru() {
    for weights in [Weights::Unit, Weights::Blocks] {
        for (every, len) in [(1_000, 500), (5_000, 5_000), (20_000, 10_000)] {
            let trace = scanned(zipf(weights, 3, 10_000, 0.99, 60_000), weights, every, len);
            for blocks in [500, 2_000] {
                let name = format!("zipf 0.99, every {every} scan {len}");
                assert_keeps_up(&race(&name, weights, blocks, &trace));
            }
        }
    }
}

#[test]
fn mixes_hit_as_often_as_under_arc_and_lru() {
    for weights in [Weights::Unit, Weights::Blocks] {
        let popular = || zipf(weights, 5, 20_000, 0.8, 50_000);
        let mixes = [
            ("zipf and a loop of 300", interleaved(popular(), cycle(weights, 300, 50_000))),
            ("zipf and a loop of 3000", interleaved(popular(), cycle(weights, 3_000, 50_000))),
            ("drifting slowly", drifting(weights, 5_000, 50_000, 5)),
            ("drifting fast", drifting(weights, 5_000, 5_000, 40)),
            ("zipf, then a loop", [popular(), cycle(weights, 900, 50_000)].concat()),
            ("a loop, then zipf", [cycle(weights, 900, 50_000), popular()].concat()),
        ];
        for (name, trace) in &mixes {
            for blocks in [500, 1_000, 4_000] {
                assert_keeps_up(&race(name, weights, blocks, trace));
            }
        }
    }
}

/// Popular blocks stay in memory while a scan of cold ones passes, many times the cache, and the scan
/// does not teach the policy anything.
#[test]
fn a_cold_scan_pushes_out_nothing_but_itself() {
    let mut car = Car::new(1_000);
    (0..900).cycle().take(1_800).for_each(|key| _ = car.read((key, 1)));
    (1_000..1_200).for_each(|key| assert!(!car.read((key, 1))));
    let (target, ghosts) = (car.policy.target, car.policy.ghosts.len());
    for key in 10_000..30_000 {
        car.insert((key, 1), Temperature::Cold);
    }
    assert_eq!((0..900).filter(|key| car.slots.contains_key(key)).count(), 900);
    // One warm block made room for the first of the scan.
    assert_eq!((car.policy.target, car.policy.ghosts.len()), (target, ghosts + 1));
    car.assert_sound();
}

/// A cold block that is used again is kept like any other.
#[test]
fn a_cold_block_that_is_touched_stays() {
    let mut car = Car::new(100);
    car.insert((7, 1), Temperature::Cold);
    assert!(car.touch(7));
    (1_000..1_150).for_each(|key| car.insert((key, 1), Temperature::Cold));
    assert!(car.slots.contains_key(&7));
}

#[test]
fn an_entry_larger_than_everything_is_not_let_in() {
    let mut car = Car::new(100);
    car.insert((1, 100), Temperature::Warm);
    car.insert((2, 101), Temperature::Warm);
    assert!(car.slots.contains_key(&1) && !car.slots.contains_key(&2));
    car.assert_sound();
}

/// Entries that are touched again and again, as by other threads, do not keep the hand going.
#[test]
fn the_hand_stops_although_every_entry_stays_referenced() {
    struct Busy;
    impl Entry for Busy {
        fn take_referenced(&self) -> bool {
            true
        }
    }
    let mut policy = Policy::new(10);
    for key in 0..100 {
        let admitted = policy.insert(key, 1, Temperature::Warm, Busy).unwrap();
        assert_eq!(admitted.evicted.0.len(), usize::from(key >= 10));
    }
}

#[derive(Clone, Debug)]
enum Step {
    Read(u64, usize),
    ReadCold(u64, usize),
    Forget(u64),
    Resize(usize),
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        20 => (0u64..60, 1usize..40).prop_map(|(key, weight)| Step::Read(key, weight)),
        4 => (0u64..60, 1usize..40).prop_map(|(key, weight)| Step::ReadCold(key, weight)),
        2 => (0u64..60).prop_map(Step::Forget),
        1 => (0usize..600).prop_map(Step::Resize),
    ]
}

proptest! {
    #[test]
    fn sizes_stay_within_bounds_whatever_happens(steps in proptest::collection::vec(step(), 1..400)) {
        let mut car = Car::new(300);
        for step in steps {
            match step {
                Step::Read(key, weight) => {
                    car.read((key, weight));
                }
                Step::ReadCold(key, _) if car.touch(key) => {}
                Step::ReadCold(key, weight) => car.insert((key, weight), Temperature::Cold),
                Step::Forget(key) => car.forget(key),
                Step::Resize(capacity) => {
                    let evicted = car.policy.set_capacity(capacity);
                    car.empty(evicted);
                }
            }
            car.assert_sound();
        }
        let keys: Vec<u64> = car.slots.keys().copied().collect();
        keys.into_iter().for_each(|key| car.forget(key));
        prop_assert_eq!(car.policy.usage().bytes, 0);
    }
}
