//! Of a table that is damaged in parts, a peer brings those parts only, and nothing else changes.

use crate::audits::audit;
use crate::heal::{check_whole, flip, options};
use crate::pair::{Content, MAIN, Node, Pair};
use base::fs::SimFs;
use base::state::StateChunk;
use base::{NodeId, RelPath, Tick};
use engine::replicate::{Delta, Installed, KeyRanges};
use engine::{Error, Status};
use replication::protocol::frame::FEATURE_RANGES;
use replication::protocol::{Event, Tier};

/// Bytes that do not shrink.
pub(crate) fn noise(seed: u64, len: usize) -> Vec<u8> {
    let mut dice = Dice(seed);
    (0..len).map(|_| dice.roll() as u8).collect()
}

/// SplitMix64.
struct Dice(u64);

impl Dice {
    fn roll(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut bits = self.0;
        bits = (bits ^ bits >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        bits = (bits ^ bits >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
        bits ^ bits >> 31
    }

    fn below(&mut self, limit: usize) -> usize {
        (self.roll() % limit as u64) as usize
    }
}

/// Two nodes with the same twenty tables and more; and what is in them.
fn equal(seed: u64) -> (Pair, Content) {
    let mut pair = Pair::new(seed, &options());
    for number in 0..12_000u32 {
        let keyspace = pair.keyspace(number as usize % 2, "k");
        keyspace.put(number.to_be_bytes(), noise(u64::from(number), 100)).unwrap();
        if number % 400 == 0 {
            pair.run(100);
        }
    }
    pair.settle();
    pair.nodes.iter().for_each(|node| node.db.compact_all().unwrap());
    let content = pair.content(0);
    assert!(content == pair.content(1) && content.len() == 12_000);
    (pair, content)
}

/// The tables of some size, by number.
fn tables(fs: &SimFs, len_min: usize) -> Vec<RelPath> {
    let files = fs.files().into_iter().filter(|path| path.as_str().ends_with(".sst"));
    files.filter(|path| fs.read_file(path).unwrap().len() >= len_min).collect()
}

fn chose(pair: &Pair) -> Vec<Tier> {
    let chosen = |(node, event): &(usize, Event)| match event {
        Event::Chose(tier) if *node == 0 => Some(*tier),
        _ => None,
    };
    pair.events.iter().filter_map(chosen).collect()
}

#[test]
fn a_peer_sends_no_more_than_what_is_damaged() {
    let (mut pair, expected) = equal(1);
    let fs = pair.nodes[0].fs.clone();
    let mut sent = Vec::new();
    let features = [u64::MAX, u64::MAX, !FEATURE_RANGES];
    for (at, features) in [20_000, -10, 20_000].into_iter().zip(features) {
        pair.features = features;
        pair.connect();
        pair.run(2_000);
        let all = tables(&fs, 30_000);
        assert!(all.len() >= 20, "{}", all.len());
        flip(&fs, &all[all.len() / 2], at);
        assert_eq!(pair.nodes[0].db.scrub().unwrap().findings.len(), 1);
        assert_eq!(pair.nodes[0].db.health().status, Status::Corrupt);
        (pair.bulk_bytes, pair.events) = (0, Vec::new());
        pair.settle();
        check_whole(&pair, &expected);
        sent.push((chose(&pair), pair.bulk_bytes));
    }
    println!("a block, a table, the scope: {sent:?}");
    let [block, table, scope] = &sent[..] else { panic!("{sent:?}") };
    assert_eq!(
        (&block.0[..], &table.0[..], &scope.0[..]),
        (&[Tier::Heal][..], &[Tier::Heal][..], &[Tier::Rejoin][..])
    );
    assert!(scope.1 > 1_300_000, "{sent:?}");
    assert!(table.1 < scope.1 / 15 && table.1 > 40_000, "{sent:?}");
    assert!(block.1 < 3_000, "{sent:?}");
    assert!(pair.failures.is_empty(), "{:?}", pair.failures);
}

/// A peer that waits for a third node gives parts to nobody: who asks for all is let through, so that nodes
/// which wait for each other come to an end.
#[test]
fn who_is_refused_the_parts_again_and_again_asks_for_all() {
    let (mut pair, expected) = equal(2);
    let fs = pair.nodes[0].fs.clone();
    let all = tables(&fs, 30_000);
    flip(&fs, &all[all.len() / 2], 20_000);
    assert_eq!(pair.nodes[0].db.scrub().unwrap().findings.len(), 1);
    let third = NodeId([9; 16]);
    assert!(pair.group(1).try_take(third));
    pair.group(1).close(&pair.nodes[1].store).unwrap();
    pair.events.clear();
    for _ in 0..20 {
        if chose(&pair).contains(&Tier::Rejoin) {
            break;
        }
        pair.run(500);
    }
    let chosen = chose(&pair);
    assert_eq!(chosen[..4], [Tier::Heal, Tier::Heal, Tier::Heal, Tier::Rejoin], "{chosen:?}");
    pair.group(1).release(&pair.nodes[1].store, third).unwrap();
    pair.settle();
    check_whole(&pair, &expected);
}

/// A node that was damaged, and what all nodes should hold.
struct Story {
    pair: Pair,
    expected: Content,
    dice: Dice,
}

impl Story {
    /// A few changes by `node`, which come after all before them.
    fn write(&mut self, node: usize) {
        let names = ["j", "k", "l"];
        for _ in 0..1 + self.dice.below(60) {
            let name = names[self.dice.below(3)];
            let keyspace = self.pair.keyspace(node, name);
            let key = (self.dice.below(900) as u32).to_be_bytes();
            let place = (name.to_owned(), key.to_vec());
            match self.dice.below(12) {
                0 => {
                    let last = (u32::from_be_bytes(key) + self.dice.below(40) as u32).to_be_bytes();
                    keyspace.delete_range(key, last).unwrap();
                    let is_gone = |(of, key): &(String, Vec<u8>)| {
                        of == name && *place.1 <= **key && **key < last[..]
                    };
                    self.expected.retain(|place, _| !is_gone(place));
                }
                1..4 => {
                    keyspace.delete(key).unwrap();
                    self.expected.remove(&place);
                }
                _ => {
                    let value = noise(self.dice.roll(), 60 + self.dice.below(60));
                    keyspace.put(key, &value).unwrap();
                    self.expected.insert(place, value);
                }
            }
        }
        self.pair.run(25);
    }

    fn tidy_up(&mut self) {
        let node = self.dice.below(2);
        let db = &self.pair.nodes[node].db;
        match self.dice.below(3) {
            0 => db.flush().unwrap(),
            1 => db.compact_all().unwrap(),
            _ => self.pair.run(1_500),
        }
    }
}

/// Tombstones are dropped meanwhile, the peer writes on, several parts of several tables are damaged.
#[test]
fn whatever_part_is_lost_the_copy_is_what_it_would_be_without_that() {
    let (mut healed, mut rejoined, mut forgetful) = (0, 0, 0);
    for seed in 0..30 {
        let pair = Pair::new(100 + seed, &options());
        let mut story = Story { pair, expected: Content::new(), dice: Dice(seed) };
        for _ in 0..60 {
            let node = story.dice.below(2);
            story.write(node);
            story.tidy_up();
        }
        story.pair.settle();
        check_whole(&story.pair, &story.expected);
        let node = &story.pair.nodes[0];
        node.db.flush().unwrap();
        let (fs, all) = (node.fs.clone(), tables(&node.fs, 3_000));
        for _ in 0..1 + story.dice.below(3) {
            let table = &all[story.dice.below(all.len())];
            let len = fs.read_file(table).unwrap().len();
            flip(&fs, table, story.dice.below(len) as isize);
        }
        if story.pair.nodes[0].db.scrub().unwrap().findings.is_empty() {
            continue; // a bit was flipped twice
        }
        story.pair.events.clear();
        for _ in 0..story.dice.below(4) {
            story.write(1);
            if story.dice.below(3) == 0 {
                story.pair.nodes[1].db.compact_all().unwrap();
            }
        }
        story.pair.settle();
        check_whole(&story.pair, &story.expected);
        healed += usize::from(chose(&story.pair).contains(&Tier::Heal));
        rejoined += usize::from(chose(&story.pair).contains(&Tier::Rejoin));
        let dropped = |node: &Node| node.db.replication().dropped(MAIN) > Tick::ZERO;
        forgetful += usize::from(story.pair.nodes.iter().all(dropped));
        let reports = audit(&mut story.pair);
        assert!(reports.iter().all(|report| report.diverged() == 0), "{seed}: {reports:?}");
        story.pair.nodes.iter().for_each(|node| node.db.compact_all().unwrap());
        check_whole(&story.pair, &story.expected);
        assert!(story.pair.failures.is_empty(), "{seed}: {:?}", story.pair.failures);
    }
    println!("{healed} healed by ranges, {rejoined} as a whole, {forgetful} forgot tombstones");
    assert!(healed > 20 && forgetful > 20, "{healed} {rejoined} {forgetful}");
}

/// What `delta` holds: points.
fn count(mut delta: Delta) -> usize {
    let mut entries = 0;
    while let Some(chunk) = delta.next(1 << 20).unwrap() {
        if !chunk.is_empty() {
            entries += StateChunk::decode(&chunk).unwrap().entries.len();
        }
    }
    entries
}

#[test]
fn less_than_what_is_missing_is_not_installed_and_an_older_giver_is_refused() {
    let (mut pair, expected) = equal(2);
    let [taker, giver] = [0, 1].map(|node| pair.nodes[node].db.replication());
    let fs = pair.nodes[0].fs.clone();
    let all = tables(&fs, 30_000);
    flip(&fs, &all[3], 9_000);
    flip(&fs, &all[9], 9_000);
    assert!(taker.missing(MAIN).unwrap().unwrap().is_empty(), "nobody has looked");
    assert_eq!(pair.nodes[0].db.scrub().unwrap().findings.len(), 2);
    let missing = taker.missing(MAIN).unwrap().unwrap();
    assert_eq!(missing.iter().count(), 2);
    let (after, some) = (taker.applied(MAIN), missing.iter().take(1).cloned());
    let some = KeyRanges::around(some).unwrap();
    for (asked, installed) in [(&some, Installed::TooLittle), (&missing, Installed::All)] {
        let mut delta = giver.delta_besides(MAIN, &after, asked).unwrap();
        let mut stage = taker.stage_besides(MAIN, delta.head(), asked).unwrap();
        while let Some(chunk) = delta.next(1 << 20).unwrap() {
            stage.add(&chunk).unwrap();
        }
        assert!(taker.is_to_be_healed(MAIN));
        assert_eq!(stage.install().unwrap(), installed);
    }
    assert!(!taker.is_to_be_healed(MAIN));
    check_whole(&pair, &expected);

    let held = count(giver.delta_besides(MAIN, &after, &missing).unwrap());
    assert!((2..60).contains(&held), "{held}");
    assert_eq!(count(giver.delta_besides(MAIN, &after, &KeyRanges::default()).unwrap()), 0);
    let before = giver.delta(MAIN, &after).unwrap().head().clone();
    pair.keyspace(0, "k").put(b"newer", b"1").unwrap();
    let refused = taker.stage_besides(MAIN, &before, &missing).unwrap_err();
    assert!(matches!(refused, Error::InvalidInput { .. }), "{refused}");
    assert!(taker.dropped(MAIN) == Tick::ZERO);
    pair.settle();
}
