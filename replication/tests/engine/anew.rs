//! A backup that comes back as new writes, and what its peer had made of the database since.

use crate::audits::audit;
use crate::pair::{Content, MAIN, Pair, small};
use base::Clock;
use base::fs::Fs;
use base::rng::SeededRng;
use engine::{
    BackupKind, BackupOptions, Backups, Create, Db, Options, Platform, Progress, RestorePoint,
};
use replication::engine_store::EngineStore;
use replication::group::{Group, GroupConfig, Writes};
use replication::link::Bell;
use replication::roster::Role;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

const STORE: &str = "/backups";
const KEYS: u64 = 60;

/// A small generator, so that a seed says all.
struct Dice(u64);

impl Dice {
    fn below(&mut self, limit: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 >> 11) % limit
    }
}

fn back_up(pair: &Pair, kind: BackupKind) {
    let options = BackupOptions { kind, bytes_per_second: u64::MAX, ..BackupOptions::default() };
    pair.nodes[0].db.backup(STORE, &options).unwrap();
}

fn platform(pair: &Pair, path: &str) -> Platform {
    let fs = &pair.nodes[0].fs;
    Platform {
        fs: fs.at(Path::new(path)),
        clock: pair.clock.clone(),
        rng: Arc::new(SeededRng::new(fs.ops() ^ fs.trace())),
    }
}

/// The first node is lost, and comes back as it was in the newest backup.
fn restore(pair: &mut Pair, path: &str) {
    pair.nodes.iter_mut().for_each(|node| node.disconnect());
    let backups = Backups::open_on(platform(pair, STORE)).unwrap();
    let (newest, progress) = (RestorePoint::Newest, Progress::default());
    let restored = backups.restore_as_new_writes(path, newest, &progress, |_| Ok(()));
    let (restored, _) = restored.unwrap();
    reopen(pair, path);
    assert_eq!(pair.nodes[0].db.identity(), restored.identity);
}

/// The first node goes on in the directory `path`.
fn reopen(pair: &mut Pair, path: &str) {
    let db = Db::open_on(platform(pair, path), Options { create: Create::Never, ..small() });
    let db = db.unwrap();
    let first = (0..2).map(|node| pair.id(node)).collect();
    let node = &mut pair.nodes[0];
    (node.db, node.store) = (db.clone(), EngineStore::new(db, &Bell::default()));
    let config = GroupConfig { scope: MAIN, role: Role::Author, first };
    node.group = Some(Arc::new(Group::open(config, &node.store).unwrap()));
}

/// Something that users may do.
fn act(pair: &mut Pair, dice: &mut Dice) {
    let node = dice.below(2) as usize;
    let name = ["a", "b", "c"][dice.below(3) as usize];
    let keyspace = pair.keyspace(node, name);
    let key = |number: u64| format!("key {number:03}");
    let (one, other) = (dice.below(KEYS), dice.below(KEYS));
    let value = vec![dice.below(256) as u8; dice.below(300) as usize];
    let day = Duration::from_secs(24 * 3_600);
    let written = match dice.below(40) {
        0..24 => keyspace.put(key(one), value).map(drop),
        24..28 => keyspace.put_expiring(key(one), value, day).map(drop),
        28..33 => keyspace.delete(key(one)).map(drop),
        33..35 => keyspace.delete_range(key(one), key(other)).map(drop),
        35 => pair.nodes[node].db.drop_keyspace(keyspace),
        36 => pair.nodes[node].db.compact_all(),
        37 => pair.nodes[node].db.flush(),
        38 => {
            pair.run(200);
            Ok(())
        }
        _ => {
            pair.settle();
            Ok(())
        }
    };
    written.unwrap();
}

fn names(pair: &Pair, node: usize) -> Vec<String> {
    let keyspaces = pair.nodes[node].db.keyspaces();
    keyspaces.iter().map(|keyspace| keyspace.name().to_owned()).collect()
}

fn check_equal(pair: &Pair, expected: &Content, when: &str) {
    for node in 0..2 {
        let found = pair.content(node);
        let names = found.keys().chain(expected.keys());
        let other: Vec<_> = names.filter(|it| found.get(*it) != expected.get(*it)).collect();
        assert!(other.is_empty(), "node {node} {when}: {} {:?}", other.len(), other.first());
    }
}

/// A story of two nodes of which one goes back in time, and takes the other with it.
fn tell(seed: u64) {
    let mut pair = Pair::new(seed, &small());
    let mut dice = Dice(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1);
    (0..dice.below(120)).for_each(|_| act(&mut pair, &mut dice));
    for name in ["a", "b", "c"] {
        // What a backup has never heard of stays as it is.
        pair.keyspace(0, name).put(b"first", b"1").unwrap();
    }
    let day = Duration::from_secs(24 * 3_600);
    pair.keyspace(0, "a").put_expiring(b"day", b"1", day).unwrap();
    if dice.below(2) == 0 {
        let gone = pair.keyspace(0, "c");
        pair.nodes[0].db.drop_keyspace(gone).unwrap();
    }
    back_up(&pair, BackupKind::Full);
    let (mut expected, mut there) = (pair.content(0), names(&pair, 0));
    if dice.below(2) == 0 {
        (0..dice.below(60)).for_each(|_| act(&mut pair, &mut dice));
        back_up(&pair, BackupKind::Log);
        (expected, there) = (pair.content(0), names(&pair, 0));
    }
    (0..dice.below(120)).for_each(|_| act(&mut pair, &mut dice));
    pair.run(100);
    restore(&mut pair, "/again");
    assert_eq!(pair.content(0), expected, "{seed}");
    pair.run(25);
    // The peer goes on until it meets the node: what it writes now is later.
    pair.nodes.iter_mut().for_each(|node| node.disconnect());
    for number in 0..dice.below(3) {
        let key = format!("late {number}").into_bytes();
        pair.keyspace(1, "a").put(&key, b"late").unwrap();
        expected.insert(("a".to_owned(), key), b"late".to_vec());
    }
    pair.settle();
    check_equal(&pair, &expected, "once they have met");
    let known = [0, 1].map(|node| names(&pair, node));
    assert!(known.iter().all(|known| *known == there), "{seed} {known:?} {there:?}");
    assert_eq!(pair.group(0).writes(), Writes::Open, "{seed} {:?}", pair.failures);
    pair.keyspace(0, "b").put(b"own", b"1").unwrap();
    expected.insert(("b".to_owned(), b"own".to_vec()), b"1".to_vec());
    pair.settle();
    for node in &pair.nodes {
        node.db.compact_all().unwrap();
    }
    pair.settle();
    check_equal(&pair, &expected, "after merges");
    for report in audit(&mut pair) {
        assert_eq!(report.differences, 0, "{seed} {report:?}");
    }
    assert!(pair.failures.is_empty(), "{seed} {:?}", pair.failures);
    pair.clock.set(pair.clock.wall_ms() + 25 * 3_600 * 1_000);
    for node in 0..2 {
        let found = pair.content(node);
        assert_eq!(found.get(&("a".to_owned(), b"day".to_vec())), None, "{seed}");
    }
    assert_eq!(pair.content(0), pair.content(1), "{seed}: what expires does so on both");
}

#[test]
fn what_is_restored_as_new_writes_wins_over_all_that_came_after() {
    (0..80).for_each(tell);
}
