//! A disk that fails or is full.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

mod log;

use base::fs::{Fault, FaultPlan, Fs, SimFs, SimOp};
use base::{Error, Position};
use log::*;
use std::sync::Arc;

/// Appends commits of 1000 bytes until one fails.
fn append_until_failure(log: &mut wal::Appender, seqno: &mut u64) -> Error {
    loop {
        match log.append(tick(*seqno + 1), &payload(*seqno + 1, 1000)) {
            Ok(_) => *seqno += 1,
            Err(error) => return error,
        }
        assert!(*seqno < 1000, "nothing failed");
    }
}

fn is_poisoned(log: &mut wal::Appender) -> bool {
    let append = log.append(tick(5000), b"late");
    let prepare = log.prepare_sync();
    matches!((append, prepare), (Err(Error::Poisoned), Err(Error::Poisoned)))
}

#[test]
fn a_failed_append_poisons() {
    let (sim, fs) = disk(1);
    let mut log = create(&fs).unwrap();
    append(&mut log, 1, 10);
    sim.inject(FaultPlan::new(SimOp::Append, Fault::Io));
    assert!(matches!(log.append(tick(2), b"lost"), Err(Error::Io { .. })));
    assert!(is_poisoned(&mut log));
    assert!(matches!(log.finish(), Err(Error::Poisoned)));
}

#[test]
fn a_failed_sync_poisons_and_promises_nothing() {
    let (sim, fs) = disk(1);
    let mut log = create(&fs).unwrap();
    append(&mut log, 1, 10);
    let target = log.prepare_sync().unwrap();
    let second = log.prepare_sync().unwrap();
    let durable = log.durable();
    sim.inject(FaultPlan::new(SimOp::SyncData, Fault::Io));
    assert!(matches!(target.sync(), Err(Error::Io { .. })));
    assert!(matches!(second.sync(), Err(Error::Poisoned)), "no retry of a failed sync");
    assert_eq!(log.durable(), durable);
    assert!(is_poisoned(&mut log));
}

#[test]
fn a_failed_sync_of_a_rolled_segment_poisons() {
    let (sim, fs) = disk(1);
    let mut log = create(&fs).unwrap();
    for seqno in 1..10 {
        append(&mut log, seqno, 1000);
    }
    assert!(log.end().segment > 1);
    sim.inject(FaultPlan::new(SimOp::SyncData, Fault::Io).on(path(1).as_str()));
    assert!(sync(&mut log).is_err());
    assert!(is_poisoned(&mut log));
}

#[test]
fn a_full_disk_at_a_roll_can_be_tried_again() {
    let (sim, fs) = disk(1);
    let mut log = create(&fs).unwrap();
    sim.set_free(100);
    let mut seqno = 0;
    for _ in 0..3 {
        assert!(matches!(append_until_failure(&mut log, &mut seqno), Error::DiskFull { .. }));
    }
    assert!(seqno > 1);
    sync(&mut log).unwrap();
    sim.set_free(1 << 20);
    for _ in 0..10 {
        seqno += 1;
        append(&mut log, seqno, 1000);
    }
    let end = log.finish().unwrap();
    assert_eq!(scan_promised(fs.as_ref(), end).unwrap().commits(), seqno);
}

#[test]
fn a_file_that_can_not_be_opened_at_a_roll_can_be_tried_again() {
    let (sim, fs) = disk(1);
    let mut log = create(&fs).unwrap();
    sim.inject(FaultPlan::new(SimOp::Create, Fault::TooManyFiles));
    let mut seqno = 0;
    assert!(matches!(append_until_failure(&mut log, &mut seqno), Error::Io { .. }));
    append(&mut log, seqno + 1, 1000);
}

#[test]
fn a_failed_spare_can_be_asked_for_again() {
    let (sim, fs) = disk(1);
    let mut log = create(&fs).unwrap();
    append(&mut log, 1, 1000);
    assert!(log.wants_spare());
    sim.set_free(100);
    assert!(matches!(log.spare().build(), Err(Error::DiskFull { .. })));
    assert!(log.wants_spare());
}

#[test]
fn a_name_that_can_not_be_made_durable_poisons() {
    let (sim, fs) = disk(1);
    let mut log = create(&fs).unwrap();
    sim.inject(FaultPlan::new(SimOp::SyncDir, Fault::Io));
    append_until_failure(&mut log, &mut 0);
    assert!(is_poisoned(&mut log));
}

/// Every changing operation fails once, in every kind: what was synced before is there afterwards,
/// and what is there is a prefix.
#[test]
fn whatever_fails_once_loses_nothing_synced() {
    let ops = [SimOp::Create, SimOp::Append, SimOp::SyncData, SimOp::SyncDir, SimOp::Finish];
    for op in ops {
        for fault in [Fault::Io, Fault::DiskFull, Fault::TooManyFiles] {
            for count in 0..30 {
                let (sim, fs) = disk(2);
                let mut log = create(&fs).unwrap();
                sim.inject(FaultPlan::new(op, fault).after(count));
                let mut secured = (log.durable(), 0);
                for seqno in 1..30 {
                    let appended = log.append(tick(seqno), &payload(seqno, 700));
                    if appended.is_err() {
                        break;
                    }
                    if seqno % 3 == 0 && sync(&mut log).is_ok() {
                        secured = (log.durable(), seqno);
                    }
                }
                drop(log);
                let crashed = sim.crash(base::fs::CrashModel::Sectors);
                let scan = scan_promised(&crashed, secured.0)
                    .unwrap_or_else(|error| panic!("{op:?} {fault:?} {count}: {error}"));
                let found = commits(&crashed, &scan).unwrap();
                assert!(found.len() as u64 >= secured.1);
                assert!(
                    found.iter().zip(1..).all(|(it, seqno)| *it == (seqno, payload(seqno, 700)))
                );
            }
        }
    }
}

/// What the disk can not read is an error of the disk, never a torn tail.
#[test]
fn a_disk_that_can_not_read_is_not_a_torn_log() {
    let (sim, fs) = disk(3);
    let mut log = create(&fs).unwrap();
    for seqno in 1..20 {
        append(&mut log, seqno, 700);
    }
    let end = log.finish().unwrap();
    let expected = commits(&sim, &scan_promised(&sim, end).unwrap()).unwrap();
    for op in [SimOp::Open, SimOp::Read] {
        for fault in [Fault::Io, Fault::ShortRead, Fault::TooManyFiles] {
            for count in 0..40 {
                sim.clear_faults();
                sim.inject(FaultPlan::new(op, fault).after(count));
                let found = scan_promised(&sim, end).and_then(|scan| commits(&sim, &scan));
                match found {
                    Ok(found) => assert_eq!(found, expected),
                    Err(error) => assert!(matches!(error, Error::Io { .. }), "{error}"),
                }
            }
        }
    }
}

/// A bit that flips on its way from the disk is found, or gone at the next look.
#[test]
fn a_bit_flipped_while_reading_is_never_believed() {
    let (sim, fs) = disk(3);
    let mut log = create(&fs).unwrap();
    for seqno in 1..12 {
        append(&mut log, seqno, 700);
    }
    let end = log.finish().unwrap();
    let expected = commits(&sim, &scan_promised(&sim, end).unwrap()).unwrap();
    for count in 0..16 {
        for bit in (0..64 << 10).step_by(509) {
            sim.clear_faults();
            sim.inject(FaultPlan::new(SimOp::Read, Fault::BitFlip(bit)).after(count));
            match scan_promised(&sim, end).and_then(|scan| commits(&sim, &scan)) {
                Ok(found) => assert_eq!(found, expected),
                Err(error) => assert!(is_damage(&error), "{error}"),
            }
        }
    }
}

/// A log that was synced, but not by its last process: `finish` still secures all of it.
#[test]
fn finish_secures_what_was_rolled_and_never_synced() {
    let (sim, fs): (SimFs, Arc<dyn Fs>) = disk(4);
    let mut log = create(&fs).unwrap();
    for seqno in 1..20 {
        append(&mut log, seqno, 700);
    }
    let end: Position = log.finish().unwrap();
    let crashed = sim.crash(base::fs::CrashModel::Synced);
    assert_eq!(scan_promised(&crashed, end).unwrap().commits(), 19);
}

/// A segment that was synced in part before it was rolled still needs its last sync.
#[test]
fn a_segment_rolled_during_its_sync_is_synced_again() {
    let (sim, fs) = disk(4);
    let mut log = create(&fs).unwrap();
    append(&mut log, 1, 700);
    let target = log.prepare_sync().unwrap();
    target.sync().unwrap();
    let mut seqno = 1;
    while log.end().segment == 1 {
        seqno += 1;
        append(&mut log, seqno, 700);
    }
    log.synced(&target);
    sync(&mut log).unwrap();
    let crashed = sim.crash(base::fs::CrashModel::Synced);
    assert_eq!(scan_promised(&crashed, log.durable()).unwrap().commits(), seqno);
}
