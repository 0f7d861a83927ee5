//! A real disk that is really full: a small tmpfs, filled and emptied around a working database.
//!
//! Mounting needs rights that not everyone has; without them the campaign says so and is skipped.

use base::Category;
use engine::{Db, Error, Keyspace, KeyspaceOptions, Options, Status, SyncMode};
use std::fs::OpenOptions;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

const DISK: &str = "size=20m";
const KEYS: usize = 300;
const VALUE_LEN: usize = 900;
/// What does not happen for so long does not happen.
const HANGS_AFTER: Duration = Duration::from_secs(60);
/// Writes on a full disk until the campaign is sure: what was reserved before is used up by then.
const WRITES_MAX: u64 = 20_000;

/// A mounted tmpfs; unmounted when dropped.
struct Disk {
    directory: tempfile::TempDir,
}

impl Disk {
    fn mount() -> Option<Disk> {
        let directory = tempfile::tempdir().unwrap();
        let mut mount = Command::new("mount");
        mount.args(["-t", "tmpfs", "-o", DISK, "tmpfs"]).arg(directory.path());
        let output = mount.output().ok()?;
        output.status.success().then_some(Disk { directory })
    }

    fn database(&self) -> PathBuf {
        self.directory.path().join("data")
    }

    fn ballast(&self) -> PathBuf {
        self.directory.path().join("ballast")
    }

    /// Leaves no byte.
    fn fill(&self) {
        let mut file = OpenOptions::new().create(true).append(true).open(self.ballast()).unwrap();
        for piece in [64 << 10, 4096, 1] {
            while file.write_all(&vec![1; piece]).is_ok() {}
        }
    }

    fn free(&self) {
        std::fs::remove_file(self.ballast()).unwrap();
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("-l").arg(self.directory.path()).status();
    }
}

/// What each key was given, by number: acknowledged, and possibly written.
struct Ledger {
    acknowledged: Vec<AtomicU64>,
    issued: Vec<AtomicU64>,
}

impl Ledger {
    fn new() -> Ledger {
        let zeros = || (0..KEYS).map(|_| AtomicU64::new(0)).collect();
        Ledger { acknowledged: zeros(), issued: zeros() }
    }

    fn put(&self, k: &Keyspace, number: u64) -> engine::Result<()> {
        let at = number as usize % KEYS;
        self.issued[at].store(number, Ordering::SeqCst);
        k.put(key(at), value(number))?;
        self.acknowledged[at].store(number, Ordering::SeqCst);
        Ok(())
    }

    /// Reads one key: what was acknowledged before, or something issued since.
    fn read(&self, k: &Keyspace, at: usize) {
        let least = self.acknowledged[at].load(Ordering::SeqCst);
        let found = k.get(key(at)).unwrap();
        let most = self.issued[at].load(Ordering::SeqCst);
        let number = found.as_ref().map_or(0, |value| {
            let number = u64::from_be_bytes(value[..8].try_into().unwrap());
            assert_eq!(value[..], self::value(number)[..]);
            number
        });
        assert!((least..=most).contains(&number), "key {at}: {number}, not {least}..={most}");
    }

    fn read_all(&self, k: &Keyspace) {
        (0..KEYS).for_each(|at| self.read(k, at));
        let count = self.acknowledged.iter().filter(|it| it.load(Ordering::SeqCst) > 0).count();
        assert!(k.count(..).unwrap() >= count as u64);
    }
}

fn key(at: usize) -> Vec<u8> {
    format!("key {at:04}").into_bytes()
}

fn value(number: u64) -> Vec<u8> {
    let mut value = number.to_be_bytes().to_vec();
    // Nothing that compresses away.
    let noise = |at: u64| (number.wrapping_mul(31) + at).wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 56;
    value.extend((0..VALUE_LEN as u64).map(|at| noise(at) as u8));
    value
}

fn options(sync: SyncMode) -> Options {
    Options {
        sync,
        memtable_bytes: 128 << 10,
        memory_bytes: 2 << 20,
        table_bytes: 128 << 10,
        segment_bytes: 128 << 10,
        ..Options::default()
    }
}

/// What the campaign counts.
#[derive(Debug, Default)]
struct Counts {
    written: u64,
    refused: u64,
    reads: u64,
    resumed_after_most: Duration,
}

fn open(directory: &Path, sync: SyncMode) -> (Db, Keyspace) {
    let db = Db::open(directory, options(sync)).unwrap();
    let k = db.keyspace("k", KeyspaceOptions::default()).unwrap();
    (db, k)
}

/// Fills and empties the disk `cycles` times under a writer, with a reader beside it.
fn soak(disk: &Disk, sync: SyncMode, cycles: usize) -> Counts {
    let ledger = Ledger::new();
    let (db, k) = open(&disk.database(), sync);
    let (is_over, reads) = (AtomicBool::new(false), AtomicU64::new(0));
    let mut counts = std::thread::scope(|scope| {
        let reader = scope.spawn(|| {
            while !is_over.load(Ordering::SeqCst) {
                let at = reads.fetch_add(1, Ordering::Relaxed);
                ledger.read(&k, (at * 7) as usize % KEYS);
            }
        });
        let writer = std::panic::AssertUnwindSafe(|| write(disk, &db, &k, &ledger, cycles));
        let counts = std::panic::catch_unwind(writer);
        is_over.store(true, Ordering::SeqCst);
        reader.join().unwrap();
        counts.unwrap()
    });
    counts.reads = reads.into_inner();
    ledger.read_all(&k);
    db.close().unwrap();
    let (db, k) = open(&disk.database(), sync);
    assert!(db.recovery_report().was_closed);
    ledger.read_all(&k);
    counts
}

fn write(disk: &Disk, db: &Db, k: &Keyspace, ledger: &Ledger, cycles: usize) -> Counts {
    let mut counts = Counts::default();
    let mut number = 0;
    let mut put = |counts: &mut Counts| {
        number += 1;
        let result = ledger.put(k, number);
        counts.written += u64::from(result.is_ok());
        counts.refused += u64::from(result.is_err());
        result
    };
    for _ in 0..cycles {
        (0..500).for_each(|_| put(&mut counts).unwrap());
        disk.fill();
        let refusal = (0..WRITES_MAX).find_map(|_| put(&mut counts).err());
        let refusal = refusal.expect("a full disk refuses at last");
        assert!(is_disk_full(&refusal), "{refusal}");
        assert_ne!(refusal.category(), Category::Critical);
        for _ in 0..20 {
            let _ = put(&mut counts);
            assert_ne!(db.health().status, Status::Poisoned, "{:?}", db.health());
        }
        ledger.read_all(k);
        disk.free();
        let freed = Instant::now();
        while let Err(error) = put(&mut counts) {
            assert!(is_disk_full(&error), "{error}");
            assert!(
                freed.elapsed() < HANGS_AFTER,
                "writes do not resume: {error}, {:?}",
                db.health()
            );
            std::thread::sleep(Duration::from_millis(1));
        }
        counts.resumed_after_most = counts.resumed_after_most.max(freed.elapsed());
    }
    counts
}

fn is_disk_full(error: &Error) -> bool {
    matches!(error, Error::DiskFull { .. })
}

fn campaign(cycles: usize) {
    for sync in [SyncMode::Sync, SyncMode::Async] {
        let started = Instant::now();
        let Some(disk) = Disk::mount() else {
            println!("campaign disk full: skipped, because a tmpfs can not be mounted here");
            return;
        };
        let counts = soak(&disk, sync, cycles);
        println!(
            "campaign disk full, {sync:?}: {cycles} cycles, {} written, {} refused, {} reads, 0 lost, \
             writes resumed after {:?} at most, {:.1} s",
            counts.written,
            counts.refused,
            counts.reads,
            counts.resumed_after_most,
            started.elapsed().as_secs_f64()
        );
        assert!(counts.refused as usize >= cycles && counts.reads > 0);
    }
}

#[test]
fn a_full_disk_refuses_writes_until_there_is_space_again() {
    campaign(8);
}

#[test]
#[ignore = "the long profile"]
fn campaign_of_a_full_disk() {
    campaign(300);
}
