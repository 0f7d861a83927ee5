//! Damaged files: found by reads or by a scrub, named, and either nothing is written any more or the
//! damaged table is replaced by what verifies of it.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod fixture;

use base::RelPath;
use base::fs::{CrashModel, Fault, FaultPlan, SimOp};
use esker::replicate::{Purpose, ScopeId, Stage, Vector};
use esker::{Background, CorruptionAction, Db, Error, Keyspace, Options, Scrub, Status, SyncMode};
use fixture::{Content, Disk, content, eventually, file_ending, keyspace, small, small_busy};
use std::time::Duration;

fn filled(disk: &Disk, options: Options) -> (Db, Keyspace, Content) {
    let db = disk.open(options);
    let k = keyspace(&db, "k");
    for number in 0..400u32 {
        k.put(number.to_be_bytes(), [number as u8; 100]).unwrap();
    }
    db.compact_all().unwrap();
    let expected = content(&k);
    (db, k, expected)
}

/// Flips a bit at `at`, or at that many bytes before the end if it is negative. Returns what was there.
fn flip(disk: &Disk, path: &RelPath, at: isize) -> Vec<u8> {
    let whole = disk.fs.read_file(path).unwrap();
    let mut bytes = whole.clone();
    let at = if at < 0 { bytes.len() - at.unsigned_abs() } else { at as usize };
    bytes[at] ^= 4;
    disk.fs.write_file(path, bytes).unwrap();
    whole
}

fn quarantined(disk: &Disk) -> usize {
    disk.files_in("quarantine/").len()
}

#[test]
fn a_scrub_reads_everything_and_finds_whatever_is_damaged() {
    let disk = Disk::new(1);
    let (db, k, expected) = filled(&disk, small());
    for number in 0..600u32 {
        k.put([b'n', number as u8, (number >> 8) as u8], [7; 100]).unwrap();
    }
    let report = db.scrub().unwrap();
    assert!(report.findings.is_empty(), "{report:?}");
    assert!(report.tables >= 1 && report.segments >= 1, "{report:?}");
    assert!(report.bytes > 400 * 100 && db.stats().scrubs == 1);

    let table = file_ending(&disk, ".sst");
    let logs = disk.fs.files().into_iter().filter(|path| path.as_str().ends_with(".log"));
    let log = logs.rev().nth(1).unwrap(); // the last one grows
    let manifest = file_ending(&disk, ".mf");
    for (path, places) in [
        (table, [0, 9000, -1000, -10]),
        (log, [100, 5000, 9000, 20_000]),
        (manifest, [0, 70, 90, 200]),
    ] {
        for at in places {
            let whole = flip(&disk, &path, at);
            let report = db.scrub().unwrap();
            if path.as_str().ends_with(".log") && at < 4256 {
                // The header stands there twice.
                assert!(report.findings.is_empty(), "{report:?}");
                disk.fs.write_file(&path, whole).unwrap();
                continue;
            }
            assert_eq!(report.findings.len(), 1, "{path} at {at}: {report:?}");
            assert!(report.findings[0].path.ends_with(path.as_str()), "{report:?}");
            assert_eq!(db.stats().scrub_findings, 1);
            assert_eq!(db.health().status, Status::Corrupt);
            assert!(db.health().reasons[0].contains(path.as_str()), "{:?}", db.health());
            let refused = k.put(b"k", b"v").unwrap_err();
            assert!(matches!(&refused, Error::Halted { path: of } if of.ends_with(path.as_str())));
            assert!(matches!(k.delete(b"k"), Err(Error::Halted { .. })));
            assert!(matches!(k.ingest([(b"k", b"v")]), Err(Error::Halted { .. })));
            assert_eq!(k.get(5u32.to_be_bytes()).unwrap().unwrap(), [5; 100]);

            disk.fs.write_file(&path, whole).unwrap();
            assert!(db.scrub().unwrap().findings.is_empty());
            assert_eq!(db.health().status, Status::Healthy);
            k.put(b"k", b"v").unwrap();
            k.delete(b"k").unwrap();
        }
    }
    assert!(content(&k).len() == expected.len() + 600);
}

/// With the default a read that meets damage gets the error, writes end, other reads go on, and a close
/// keeps what was written before.
#[test]
fn damage_that_a_read_meets_halts_writes_and_nothing_else() {
    for action in [CorruptionAction::Halt, CorruptionAction::HealFromPeer] {
        let disk = Disk::new(1);
        let options = || Options { on_corruption: action, ..small() };
        let (db, _, expected) = filled(&disk, options());
        db.close().unwrap();
        let table = file_ending(&disk, ".sst");
        let whole = flip(&disk, &table, 0);
        let db = disk.open(options());
        let k = keyspace(&db, "k");
        k.put(b"new", b"v").unwrap();
        let error = k.get(0u32.to_be_bytes()).unwrap_err();
        assert!(
            matches!(&error, Error::Corrupt { path, offset: 0, .. } if path.ends_with(table.as_str()))
        );
        assert_eq!(db.health().status, Status::Corrupt);
        assert!(matches!(k.put(b"k", b"v"), Err(Error::Halted { .. })));
        assert!(db.compact_all().is_err());
        assert_eq!(k.get(399u32.to_be_bytes()).unwrap().unwrap(), [399u32 as u8; 100]);
        assert!(k.iter().any(|entry| entry.is_err()), "a scan does not skip it");
        db.close().unwrap();
        assert_eq!(quarantined(&disk), 0);

        disk.fs.write_file(&table, whole).unwrap();
        let db = disk.open(options());
        let mut found = content(&keyspace(&db, "k"));
        assert_eq!(found.remove(&b"new"[..]).unwrap(), b"v");
        assert_eq!(found, expected);
    }
}

fn check_lost(db: &Db, k: &Keyspace, expected: &Content) {
    let lost = db.lost_ranges();
    assert!(!lost.is_empty());
    let found = content(k);
    for (key, value) in expected {
        match found.get(key) {
            Some(found) => assert_eq!(found, value),
            None => {
                let covers = lost.iter().any(|range| {
                    range.keyspace.as_deref() == Some("k")
                        && (&range.first..=&range.last).contains(&key)
                });
                assert!(covers, "{key:?} is gone and not in {lost:?}");
            }
        }
    }
    assert!(found.len() < expected.len());
    assert!(found.keys().all(|key| expected.contains_key(key)));
}

/// Two runs that a merge makes one of.
fn two_runs(disk: &Disk, action: CorruptionAction) -> (Db, Keyspace, Vec<String>) {
    let db = disk.open(Options { on_corruption: action, ..small() });
    let k = keyspace(&db, "k");
    for round in 0..2u8 {
        for number in 0..300u32 {
            k.put(number.to_be_bytes(), [round; 100]).unwrap();
        }
        db.flush().unwrap();
    }
    let tables = disk.files_in("tables/");
    assert!(tables.len() > 1, "{tables:?}");
    (db, k, tables)
}

fn flip_reads(disk: &Disk, tables: &[String]) {
    for table in tables {
        disk.fs.inject(FaultPlan::new(SimOp::Read, Fault::BitFlip(77)).on(table).sticky());
    }
}

const ACTIONS: [CorruptionAction; 3] =
    [CorruptionAction::Halt, CorruptionAction::Quarantine, CorruptionAction::HealFromPeer];

fn is_whole(db: &Db, k: &Keyspace) {
    assert_eq!(db.health().status, Status::Healthy, "{:?}", db.health());
    assert!(!db.replication().is_to_be_healed(ScopeId::MAIN));
    k.put(b"new", b"v").unwrap();
    assert_eq!(content(k).len(), 301);
}

/// An old iterator alone reads it.
#[test]
fn damage_in_a_table_that_was_merged_away_concerns_only_who_still_reads_it() {
    for action in ACTIONS {
        let disk = Disk::new(1);
        let (db, k, tables) = two_runs(&disk, action);
        let mut old = k.iter();
        old.next().unwrap().unwrap();
        db.compact_all().unwrap();
        flip_reads(&disk, &tables);
        assert!(old.any(|entry| entry.is_err()), "{action:?}");
        is_whole(&db, &k);
        drop(old);
        assert!(db.scrub().unwrap().findings.is_empty());
    }
}

/// The damage was a mishap on the way, or in a part that the merge did not need.
#[test]
fn a_merge_that_could_read_all_of_a_damaged_table_ends_the_damage() {
    for action in [CorruptionAction::Halt, CorruptionAction::HealFromPeer] {
        let disk = Disk::new(1);
        let (db, k, tables) = two_runs(&disk, action);
        flip_reads(&disk, &tables);
        assert!(k.iter().any(|entry| entry.is_err()));
        assert_eq!(db.health().status, Status::Corrupt);
        disk.fs.clear_faults();
        db.compact_all().unwrap();
        is_whole(&db, &k);
    }
}

/// Whether the damage is real can not be told while the disk does not read.
#[test]
fn a_table_that_can_not_be_read_does_not_count_as_whole_again() {
    let disk = Disk::new(1);
    filled(&disk, small()).0.close().unwrap();
    let table = file_ending(&disk, ".sst");
    let read = |fault| FaultPlan::new(SimOp::Read, fault).on(table.as_str());
    let db = disk.open(Options { on_corruption: CorruptionAction::Quarantine, ..small_busy() });
    let k = keyspace(&db, "k");
    disk.fs.inject(read(Fault::BitFlip(77)));
    disk.fs.inject(read(Fault::Io).sticky());
    assert!(matches!(k.get(0u32.to_be_bytes()), Err(Error::Corrupt { .. })));
    eventually("the disk was read again", || disk.fs.struck().len() > 2);
    assert_ne!(db.health().status, Status::Healthy);
    disk.fs.clear_faults();
    eventually("it is whole after all", || db.health().status == Status::Healthy);
    assert_eq!((content(&k).len(), quarantined(&disk)), (400, 0));
}

/// What `from` has, staged for one that has lost some of it.
fn staged(from: &Db, to: &Db) -> Stage {
    let mut delta = from.replication().delta(ScopeId::MAIN, &Vector::default()).unwrap();
    let to = to.replication();
    let mut stage = to.stage(ScopeId::MAIN, delta.head(), Purpose::Rejoin).unwrap();
    while let Some(chunk) = delta.next(1 << 16).unwrap() {
        stage.add(&chunk).unwrap();
    }
    stage
}

/// The disk fails in the middle, so it is tried again, maybe often.
#[test]
fn an_attempt_to_heal_that_fails_leaves_no_files() {
    let (one, two) = (Disk::new(1), Disk::new(2));
    let a = one.open(small());
    let b = two.open(Options { on_corruption: CorruptionAction::HealFromPeer, ..small() });
    for db in [&a, &b] {
        db.replication().raise_floor(ScopeId::MAIN, &Vector::default()).unwrap();
    }
    for number in 0..2500u32 {
        keyspace(&a, "k").put(number.to_be_bytes(), [number as u8; 100]).unwrap();
    }
    let expected = content(&keyspace(&a, "k"));
    staged(&a, &b).install().unwrap();
    b.compact_all().unwrap();
    let tables = two.files_in("tables/");
    assert!(tables.len() > 1, "{tables:?}");
    for table in &tables {
        flip(&two, &base::FileName::parse(table).unwrap().path(), 0);
    }
    assert_eq!(b.scrub().unwrap().findings.len(), tables.len());
    for created in 0..3 {
        let stage = staged(&a, &b);
        two.fs.inject(FaultPlan::new(SimOp::Create, Fault::Io).on(".sst").after(created));
        let refused = stage.install().unwrap_err();
        assert!(matches!(refused, Error::Io { .. }), "{refused}");
        assert_eq!(two.files_in("tables/"), tables, "{created}");
        assert_eq!(two.fs.struck().len(), created as usize + 1);
        two.fs.clear_faults();
    }
    staged(&a, &b).install().unwrap();
    b.settle().unwrap();
    assert_eq!(b.health().status, Status::Healthy, "{:?}", b.health());
    assert_eq!(content(&keyspace(&b, "k")), expected);
    let live: u64 = b.stats().runs.iter().map(|run| run.tables).sum();
    assert_eq!(two.files_in("tables/").len() as u64, live);
}

#[test]
fn a_damaged_table_is_replaced_by_what_verifies_of_it() {
    for at in [0, 4000, 9000, -10] {
        let disk = Disk::new(1);
        let options = || Options { on_corruption: CorruptionAction::Quarantine, ..small() };
        let (db, k, expected) = filled(&disk, options());
        let table = file_ending(&disk, ".sst");
        flip(&disk, &table, at);
        let damaged = disk.fs.read_file(&table).unwrap();
        let report = db.scrub().unwrap();
        assert_eq!(report.findings.len(), 1);
        check_lost(&db, &k, &expected);
        let is_all_lost = at < 0;
        assert_eq!(
            content(&k).is_empty(),
            is_all_lost,
            "one block is lost, or with the footer all"
        );
        let aside = file_ending(&disk, &format!("table-{}", table_number(&table)));
        assert_eq!(disk.fs.read_file(&aside).unwrap(), damaged);
        assert_eq!(db.health().status, Status::Degraded);
        assert!(db.health().reasons.iter().any(|reason| reason.contains("lost content")));
        let left = content(&k);
        k.put(b"goes on", b"v").unwrap();
        assert!(db.scrub().unwrap().findings.is_empty());
        db.flush().unwrap();
        for model in [CrashModel::Kill, CrashModel::Synced] {
            let crashed = Disk::of(disk.fs.crash(model)).open(options());
            assert_eq!(content(&keyspace(&crashed, "k")).len(), left.len() + 1, "{model:?}");
            assert_eq!(crashed.health().status, Status::Degraded, "the mark is durable");
        }
        db.compact_all().unwrap();
        db.settle().unwrap();
        assert!(!disk.files_in("tables/").contains(&table.as_str().to_owned()));
        db.close().unwrap();
        assert_eq!(quarantined(&disk), 1);
    }
}

fn table_number(path: &RelPath) -> u64 {
    path.as_str().trim_start_matches("tables/").trim_end_matches(".sst").parse().unwrap()
}

/// A read meets the damage, and the background deals with it.
#[test]
fn a_table_that_a_read_found_damaged_is_replaced_in_the_background() {
    let disk = Disk::new(1);
    let options = || Options { on_corruption: CorruptionAction::Quarantine, ..small_busy() };
    let (db, _, expected) = filled(&disk, options());
    db.close().unwrap();
    flip(&disk, &file_ending(&disk, ".sst"), 0);
    let db = disk.open(options());
    let k = keyspace(&db, "k");
    assert!(matches!(k.get(0u32.to_be_bytes()), Err(Error::Corrupt { .. })));
    eventually("the table is replaced", || !db.lost_ranges().is_empty());
    k.put(b"goes on", b"v").unwrap();
    k.delete(b"goes on").unwrap();
    eventually("reads go on", || k.get(0u32.to_be_bytes()).is_ok());
    check_lost(&db, &k, &expected);
}

/// A read that failed on its way is no damage: the table is looked at again before it is replaced.
#[test]
fn a_table_that_is_whole_after_all_is_not_replaced() {
    use base::fs::{Fault, FaultPlan, SimOp};
    let disk = Disk::new(1);
    let options = || Options { on_corruption: CorruptionAction::Quarantine, ..small() };
    let (db, _, expected) = filled(&disk, options());
    db.close().unwrap();
    let db = disk.open(options());
    let k = keyspace(&db, "k");
    disk.fs.inject(FaultPlan::new(SimOp::Read, Fault::BitFlip(9)).on(".sst").sticky());
    assert!(k.get(0u32.to_be_bytes()).is_err());
    disk.fs.clear_faults();
    assert!(db.scrub().unwrap().findings.is_empty());
    assert_eq!(content(&k), expected);
    assert_eq!((quarantined(&disk), db.health().status), (0, Status::Healthy));
}

#[test]
fn after_a_crash_a_scrub_runs_by_itself() {
    let disk = Disk::new(1);
    let options = || Options { sync: SyncMode::Sync, ..small_busy() };
    let (db, _, _) = filled(&disk, Options { background: Background::Off, ..options() });
    let crashed = Disk::of(disk.fs.crash(CrashModel::Synced));
    db.close().unwrap();
    flip(&crashed, &file_ending(&crashed, ".sst"), 9000);
    let db = crashed.open(options());
    eventually("a scrub ran", || db.stats().scrubs > 0);
    assert_eq!(db.stats().scrub_findings, 1);
    assert_eq!(db.health().status, Status::Corrupt);
    // After a clean close none is due.
    let clean = disk.open(options());
    assert_eq!(clean.stats().scrubs, 0);
}

#[test]
fn a_scrub_that_nobody_waits_for_ends_before_its_end() {
    let disk = Disk::new(1);
    let (db, k, _) = filled(&disk, small());
    let mut state = 1u32;
    for number in 0..3000u32 {
        // Nothing that compression makes small.
        let value = [(); 400].map(|()| {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            (state >> 24) as u8
        });
        k.put(number.to_be_bytes(), value).unwrap();
    }
    db.compact_all().unwrap();
    let whole = db.scrub().unwrap().bytes;
    let asked = std::cell::Cell::new(0);
    let ended = db.scrub_until(&|| asked.replace(asked.get() + 1) == 1);
    assert!(matches!(ended, Err(Error::Cancelled)), "{ended:?} of {whole} bytes");
    assert_eq!((asked.get(), db.stats().scrubs), (2, 1));
    assert_eq!(db.scrub_until(&|| false).unwrap().bytes, whole);
}

#[test]
fn scrubs_come_when_they_are_due() {
    let disk = Disk::new(1);
    let every = Duration::from_secs(1);
    let scrub = Some(Scrub { every, ..Scrub::default() });
    let (db, _, _) = filled(&disk, Options { scrub, ..small_busy() });
    for pass in 1..=3 {
        advance(&disk, every);
        eventually("the next pass ends", || db.stats().scrubs >= pass);
    }
}

/// At this rate the scrub takes minutes; nobody waits for it.
#[test]
fn a_slow_scrub_holds_up_no_close() {
    let disk = Disk::new(1);
    let scrub = Some(Scrub { every: Duration::from_secs(1), bytes_per_second: 4096 });
    let (db, k, _) = filled(&disk, Options { scrub, sync: SyncMode::Async, ..small_busy() });
    for number in 0..10_000u32 {
        // Nothing that compresses.
        let value: Vec<u8> = (0..400u32)
            .map(|at| ((number * 400 + at).wrapping_mul(2_654_435_761) >> 13) as u8)
            .collect();
        k.put(number.to_be_bytes(), value).unwrap();
    }
    db.flush().unwrap();
    advance(&disk, Duration::from_secs(2));
    eventually("the scrub reads", || db.stats().scrub_bytes_done > 0);
    assert!(db.stats().scrub_bytes_total > 1 << 20);
    db.close().unwrap();
}

#[test]
fn a_scrub_that_makes_no_sense_is_refused() {
    let disk = Disk::new(1);
    let week = Scrub::default().every;
    for scrub in [
        Scrub { every: Duration::ZERO, ..Scrub::default() },
        Scrub { every: week, bytes_per_second: 0 },
    ] {
        let refused = disk.try_open(Options { scrub: Some(scrub), ..small() });
        assert!(matches!(refused, Err(Error::InvalidInput { .. })));
    }
    disk.open(Options { scrub: None, ..small_busy() }).close().unwrap();
}

fn advance(disk: &Disk, by: Duration) {
    use base::Clock;
    disk.clock.set(disk.clock.wall_ms() + by.as_millis() as u64);
}

/// What can not be replaced yet is set aside once, and leaves no table behind with each try.
#[test]
fn a_replacement_that_fails_time_and_again_leaves_nothing_behind() {
    use base::fs::{Fault, FaultPlan, SimOp};
    for (op, part) in [(SimOp::Link, ".sst"), (SimOp::Append, ".sst")] {
        let disk = Disk::new(1);
        let options = Options { on_corruption: CorruptionAction::Quarantine, ..small() };
        let (db, k, expected) = filled(&disk, options);
        db.settle().unwrap();
        flip(&disk, &file_ending(&disk, ".sst"), 0);
        let tables = disk.files_in("tables/");
        disk.fs.inject(FaultPlan::new(op, Fault::Io).on(part).sticky());
        assert!((0..3).all(|_| db.scrub().is_err()), "{op:?}");
        assert_eq!(disk.files_in("tables/"), tables, "{op:?}");
        assert!(quarantined(&disk) <= 1, "{op:?}");
        disk.fs.clear_faults();
        db.scrub().unwrap();
        assert_eq!(quarantined(&disk), 1, "{op:?}");
        check_lost(&db, &k, &expected);
    }
}

/// A new table that can not be opened is not installed, and does not stay behind.
#[test]
fn a_merge_that_can_not_be_installed_leaves_no_table_behind() {
    use base::fs::{Fault, FaultPlan, SimOp};
    let disk = Disk::new(1);
    let (db, k, _) = filled(&disk, small());
    let snapshot = db.snapshot();
    k.delete_range(10u32.to_be_bytes(), 20u32.to_be_bytes()).unwrap();
    db.flush().unwrap();
    let (tables, expected) = (disk.files_in("tables/"), content(&k));
    // Those there are open; range deletes of new ones are read before anything is installed.
    disk.fs.inject(FaultPlan::new(SimOp::Open, Fault::Io).on(".sst").sticky());
    assert!(db.compact_all().is_err());
    disk.fs.clear_faults();
    assert_eq!(disk.files_in("tables/"), tables);
    assert_eq!(content(&k), expected);
    db.compact_all().unwrap();
    drop(snapshot);
    assert_eq!(content(&k), expected);
}

/// A disk that can not read one file: the others are verified, and the pass ends.
#[test]
fn a_scrub_goes_on_behind_a_file_that_can_not_be_read() {
    use base::fs::{Fault, FaultPlan, SimOp};
    let disk = Disk::new(1);
    let scrub = Some(Scrub { every: Duration::from_secs(1), ..Scrub::default() });
    let (db, k, _) = filled(&disk, Options { scrub, ..small_busy() });
    for number in 0..50u32 {
        k.put(number.to_be_bytes(), [9; 100]).unwrap();
    }
    db.flush().unwrap();
    let whole = db.scrub().unwrap();
    assert!(whole.tables >= 2 && whole.findings.is_empty(), "{whole:?}");
    let table = file_ending(&disk, ".sst");
    disk.fs.inject(FaultPlan::new(SimOp::Read, Fault::Io).on(table.as_str()).sticky());
    advance(&disk, Duration::from_secs(1));
    eventually("the pass ends", || db.stats().scrubs >= 2);
    assert_eq!(db.health().status, Status::Degraded);
    assert!(
        db.health().reasons.iter().any(|why| why.contains(table.as_str())),
        "{:?}",
        db.health()
    );
    let report = db.scrub().unwrap();
    assert_eq!((report.tables, report.findings.len()), (whole.tables, 1), "{report:?}");
    assert!(report.findings[0].path.ends_with(table.as_str()), "{report:?}");
    k.put(b"writes go on", b"v").unwrap();
    disk.fs.clear_faults();
    assert!(db.scrub().unwrap().findings.is_empty());
    // A merge that met the same file tries again by itself.
    eventually("it is healthy again", || db.health().status == Status::Healthy);
}

/// Scrubs are a day apart; what one could not read is not left unread for so long.
#[test]
fn a_scrub_that_could_not_read_a_file_is_tried_again_before_the_next_is_due() {
    use base::fs::{Fault, FaultPlan, SimOp};
    let (disk, day) = (Disk::new(1), Duration::from_secs(24 * 3600));
    let scrub = Some(Scrub { every: day, ..Scrub::default() });
    let (db, _, _) = filled(&disk, Options { scrub, ..small_busy() });
    let table = file_ending(&disk, ".sst");
    disk.fs.inject(FaultPlan::new(SimOp::Read, Fault::Io).on(table.as_str()).sticky());
    advance(&disk, day);
    eventually("the first pass ends", || db.stats().scrubs == 1);
    assert_eq!(db.stats().scrub_findings, 1);
    disk.fs.clear_faults();
    // Not a day passes this way before it fails.
    eventually("the next pass ends", || {
        advance(&disk, Duration::from_secs(10));
        db.stats().scrubs == 2
    });
    assert_eq!(db.stats().scrub_findings, 0);
}
