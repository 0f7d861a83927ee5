//! Processes killed for real, again and again, on one real directory.
//!
//! The child is this test binary, asked for the one test that writes until it dies. It tells each
//! batch that was acknowledged. After the kill a copy of the directory is opened, twice, and then the
//! next child recovers the original. Each batch sets a counter and follows from it, so that the
//! counter alone says what everything else must be.

use engine::{Batch, Db, Error, Keyspace, KeyspaceOptions, Options, SyncMode};
use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

/// Says to the child that it is one: the directory, then the mode.
const DIRECTORY: &str = "ESKER_KILL_DIRECTORY";
const MODE: &str = "ESKER_KILL_MODE";
const COUNTER: &[u8] = b"counter";
const KEYS: u64 = 400;
const LANES: usize = 2;
/// A child that is silent for longer hangs.
const HANGS_AFTER: Duration = Duration::from_secs(60);

type Content = [BTreeMap<Vec<u8>, Vec<u8>>; 2];

fn options(mode: &str) -> Options {
    Options {
        sync: match mode {
            "sync" => SyncMode::Sync,
            "periodic" => SyncMode::Periodic(Duration::from_millis(10)),
            _ => SyncMode::Async,
        },
        memtable_bytes: 64 << 10,
        memory_bytes: 1 << 20,
        table_bytes: 64 << 10,
        segment_bytes: 128 << 10,
        ..Options::default()
    }
}

fn keyspaces(db: &Db) -> [Keyspace; 2] {
    ["left", "right"].map(|name| db.keyspace(name, KeyspaceOptions::default()).unwrap())
}

/// A change that batch `number` makes: keyspace, key, and a value or none for a delete.
fn changes(number: u64) -> Vec<(usize, Vec<u8>, Option<Vec<u8>>)> {
    let change = |at: u64| {
        let mixed = (number * 7 + at).wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 20;
        let key = format!("key {:04}", mixed % KEYS).into_bytes();
        let mut value = format!("{number} {at} ").into_bytes();
        value.resize(value.len() + (mixed / KEYS % 300) as usize, b'v');
        ((mixed >> 30) as usize % 2, key, (!mixed.is_multiple_of(5)).then_some(value))
    };
    let counter = (0, COUNTER.to_vec(), Some(number.to_be_bytes().to_vec()));
    (0..1 + number % 6).map(change).chain([counter]).collect()
}

fn counter(keyspace: &Keyspace) -> u64 {
    let counter = keyspace.get(COUNTER).unwrap();
    counter.map_or(0, |bytes| u64::from_be_bytes(bytes[..].try_into().unwrap()))
}

/// Not a test of its own: writes batches without end, if it is asked to.
#[test]
fn the_child_of_the_kill_campaign_writes_until_it_dies() {
    let (Some(directory), Ok(mode)) = (std::env::var_os(DIRECTORY), std::env::var(MODE)) else {
        return;
    };
    let db = Db::open(directory, options(&mode)).unwrap();
    let keyspaces = keyspaces(&db);
    let first = counter(&keyspaces[0]);
    let mut pipe = std::io::stdout().lock();
    // Past the capture of the test harness.
    writeln!(pipe, "\nfound {first}").unwrap();
    for number in first + 1.. {
        let mut batch = Batch::new();
        for (at, key, value) in changes(number) {
            match value {
                Some(value) => batch.put(&keyspaces[at], key, value),
                None => batch.delete(&keyspaces[at], key),
            }
        }
        db.write(batch).unwrap();
        writeln!(pipe, "done {number}").unwrap();
        pipe.flush().unwrap();
        if number.is_multiple_of(997) {
            db.compact_all().unwrap();
        }
    }
}

/// A directory that children write to, and what it must hold.
struct Lane {
    directory: tempfile::TempDir,
    model: Content,
    /// The batch whose state the model is.
    modelled: u64,
    acknowledged: u64,
}

impl Lane {
    fn new() -> Lane {
        let directory = tempfile::tempdir().unwrap();
        Lane { directory, model: Content::default(), modelled: 0, acknowledged: 0 }
    }

    /// Lets a child write for `life` after it opened the database, and kills it.
    fn cycle(&mut self, mode: &str, life: Duration) {
        let child = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "--nocapture", "--test-threads=1"])
            .arg("kill::the_child_of_the_kill_campaign_writes_until_it_dies")
            .env(DIRECTORY, self.directory.path().join("data"))
            .env(MODE, mode)
            .stdout(Stdio::piped())
            .spawn();
        let mut child = child.unwrap();
        let pipe = BufReader::new(child.stdout.take().unwrap());
        std::thread::scope(|scope| {
            let reader = scope.spawn(|| self.listen(pipe));
            std::thread::sleep(life);
            child.kill().unwrap();
            let killed = Instant::now();
            while !reader.is_finished() {
                assert!(killed.elapsed() < HANGS_AFTER, "a killed child keeps its pipe");
                std::thread::sleep(Duration::from_micros(200));
            }
            reader.join().unwrap();
        });
        let status = child.wait().unwrap();
        assert!(status.code().is_none(), "it was to be killed, but ended: {status:?}");
    }

    fn listen(&mut self, pipe: impl BufRead) {
        for line in pipe.split(b'\n').map(Result::unwrap) {
            let line = String::from_utf8(line).unwrap();
            match line.split_once(' ') {
                Some(("found", number)) => {
                    let found: u64 = number.parse().unwrap();
                    assert!(found >= self.acknowledged, "{found} of {}", self.acknowledged);
                    self.acknowledged = found;
                }
                Some(("done", number)) => {
                    let number: u64 = number.parse().unwrap();
                    self.acknowledged = self.acknowledged.max(number);
                }
                _ => {}
            }
        }
    }

    /// Opens a copy twice and compares it with the model.
    fn verify(&mut self) {
        let copy = tempfile::tempdir().unwrap();
        copy_all(&self.directory.path().join("data"), copy.path());
        if self.acknowledged == 0 && !copy.path().join("IDENTITY").exists() {
            return; // It died before there was anything.
        }
        for _ in 0..2 {
            let db = open_patiently(copy.path());
            let keyspaces = keyspaces(&db);
            let found = counter(&keyspaces[0]);
            assert!(found >= self.acknowledged, "{found} of {} batches", self.acknowledged);
            assert!(found <= self.acknowledged + 1, "one batch at a time is in doubt");
            while self.modelled < found {
                self.modelled += 1;
                for (at, key, value) in changes(self.modelled) {
                    match value {
                        Some(value) => drop(self.model[at].insert(key, value)),
                        None => drop(self.model[at].remove(&key)),
                    }
                }
            }
            for (keyspace, model) in keyspaces.iter().zip(&self.model) {
                let entries = keyspace.iter().map(|entry| entry.unwrap());
                let entries: BTreeMap<Vec<u8>, Vec<u8>> =
                    entries.map(|(key, value)| (key.into(), value.into())).collect();
                assert!(entries == *model, "{} differs at batch {found}", keyspace.name());
                for number in 0..KEYS {
                    let key = format!("key {number:04}").into_bytes();
                    let got = keyspace.get(&key).unwrap();
                    assert_eq!(got.as_deref(), model.get(&key).map(Vec::as_slice));
                }
            }
            db.close().unwrap();
        }
    }
}

/// A child that is just being started holds what its parent has open until it becomes itself, locks
/// included: the other lane's child may keep this lane's directory locked for a moment.
fn open_patiently(directory: &Path) -> Db {
    let started = Instant::now();
    loop {
        match Db::open(directory, options("async")) {
            Err(Error::Locked { .. }) if started.elapsed() < HANGS_AFTER => {
                std::thread::sleep(Duration::from_millis(1));
            }
            opened => return opened.unwrap(),
        }
    }
}

fn copy_all(from: &Path, to: &Path) {
    let Ok(entries) = std::fs::read_dir(from) else { return };
    for entry in entries.map(Result::unwrap) {
        let target = to.join(entry.file_name());
        if entry.file_type().unwrap().is_dir() {
            std::fs::create_dir_all(&target).unwrap();
            copy_all(&entry.path(), &target);
        } else {
            std::fs::copy(entry.path(), target).unwrap();
        }
    }
}

/// `cycles` kills, each after up to `life_ms`.
fn campaign(cycles: usize, life_ms: u64) {
    let started = Instant::now();
    let next = AtomicUsize::new(0);
    let acknowledged = std::thread::scope(|scope| {
        let lanes: Vec<_> =
            (0..LANES).map(|_| scope.spawn(|| run_lane(&next, cycles, life_ms))).collect();
        lanes.into_iter().map(|lane| lane.join().unwrap()).sum::<u64>()
    });
    println!(
        "campaign kill: {cycles} cycles, {acknowledged} batches acknowledged, 0 lost, 0 torn, {:.1} s",
        started.elapsed().as_secs_f64()
    );
    assert!(acknowledged > cycles as u64, "children hardly wrote");
}

fn run_lane(next: &AtomicUsize, cycles: usize, life_ms: u64) -> u64 {
    let mut lane = Lane::new();
    loop {
        let cycle = next.fetch_add(1, Ordering::Relaxed);
        if cycle >= cycles {
            return lane.acknowledged;
        }
        let mixed = (cycle as u64 + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 33;
        let life = Duration::from_millis(5 + mixed % (life_ms - 5));
        lane.cycle(["sync", "periodic", "async"][cycle % 3], life);
        lane.verify();
    }
}

#[test]
fn a_killed_process_loses_nothing_that_it_acknowledged() {
    campaign(200, 80);
}

#[test]
#[ignore = "the long profile"]
fn campaign_of_kills() {
    campaign(2000, 300);
}
