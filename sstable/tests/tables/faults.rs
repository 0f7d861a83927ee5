//! Tables on a disk that fails: an error, no table, and no wrong byte kept.

use crate::bed::*;
use base::fs::{CrashModel, Fault, FaultPlan, Fs, SimOp};
use base::{Error, FileName, RelPath, Trailer, key_hash};
use sstable::{ReadMode, TableMeta};

fn try_write(bed: &Bed) -> base::Result<TableMeta> {
    let fs = bed.fs();
    let mut writer = sstable::TableWriter::create(fs, 1, OWNER, SMALL_BLOCKS)?;
    for ((space, key, trailer), value) in sample(20_000) {
        writer.add(space, &key, trailer.0, &value)?;
    }
    writer.finish()
}

#[test]
fn a_writer_reports_every_failure() {
    let strikes = [
        (SimOp::Create, 0, Fault::Io, "Io"),
        (SimOp::Create, 0, Fault::DiskFull, "DiskFull"),
        (SimOp::Append, 0, Fault::Io, "Io"),
        (SimOp::Append, 1, Fault::DiskFull, "DiskFull"),
        (SimOp::Append, 3, Fault::Io, "Io"),
        (SimOp::Finish, 0, Fault::Io, "Io"),
        (SimOp::SyncData, 0, Fault::Io, "Io"),
    ];
    for (op, after, fault, code) in strikes {
        let bed = Bed::new();
        bed.disk.inject(FaultPlan::new(op, fault).after(after));
        assert_eq!(try_write(&bed).unwrap_err().code(), code, "{op:?} {after} {fault:?}");
    }
}

#[test]
fn a_file_that_is_already_there_is_not_touched() {
    let bed = Bed::new();
    bed.replace(1, *b"precious");
    assert!(try_write(&bed).is_err());
    assert_eq!(bed.read(1), b"precious");
}

/// The disk flipped a bit on the way: the read fails, and the next one is right.
#[test]
fn a_bad_read_is_an_error_and_leaves_nothing_behind() {
    let bed = Bed::new();
    let model = sample(300);
    let table = bed.open(&bed.write(1, &model, SMALL_BLOCKS));
    let key = b"user:0123";
    let get = || {
        let hash = key_hash(space(1), key);
        table.get(space(1), key, hash, Trailer::MAX, |_, value, _| value.to_vec())
    };
    for fault in [Fault::BitFlip(77), Fault::Io, Fault::ShortRead] {
        bed.disk.inject(FaultPlan::new(SimOp::Read, fault));
        let error = get().unwrap_err();
        match fault {
            Fault::BitFlip(_) => assert_eq!(error.code(), "TableCorrupt"),
            _ => assert!(matches!(error, Error::Io { .. }), "{error}"),
        }
    }
    assert_eq!(get().unwrap(), Some(vec![123; 30]));
    assert_eq!(bed.cache.stats().blocks, 1);
}

#[test]
fn a_cursor_survives_a_bad_read_by_seeking_again() {
    let bed = Bed::new();
    let model = sample(300);
    let table = bed.open(&bed.write(1, &model, SMALL_BLOCKS));
    for read in [ReadMode::Bypass, ReadMode::Cached] {
        let mut cursor = table.cursor(space(1), read);
        bed.disk.clear_faults();
        for fault in [Fault::Io, Fault::BitFlip(5)] {
            bed.disk.inject(FaultPlan::new(SimOp::Read, fault));
            cursor.seek_first().unwrap_err();
            assert!(!cursor.is_valid() && cursor.key().is_empty() && cursor.value().is_empty());
        }
        bed.disk.inject(FaultPlan::new(SimOp::Read, Fault::Io).after(1));
        cursor.seek_first().unwrap();
        while cursor.is_valid() && cursor.advance().is_ok() {}
        assert!(!cursor.is_valid());
        cursor.seek(b"user:0200", Trailer::MAX).unwrap();
        assert_eq!(cursor.key(), b"user:0200");
    }
}

#[test]
fn opening_reports_a_failing_disk_as_such() {
    let bed = Bed::new();
    let meta = bed.write(1, &sample(30), SMALL_BLOCKS);
    for after in 0..2 {
        bed.disk.inject(FaultPlan::new(SimOp::Read, Fault::Io).after(after));
        assert_eq!(bed.try_open(&meta).unwrap_err().code(), "Io", "read {after}");
        bed.disk.inject(FaultPlan::new(SimOp::Read, Fault::BitFlip(99)).after(after));
        assert_eq!(bed.try_open(&meta).unwrap_err().code(), "TableCorrupt", "read {after}");
    }
    bed.disk.inject(FaultPlan::new(SimOp::Open, Fault::TooManyFiles));
    assert_eq!(bed.try_open(&meta).unwrap_err().code(), "Io");
    bed.open(&meta).verify().unwrap();
}

/// The writer syncs the file; its name is the caller's business.
#[test]
fn a_finished_table_survives_power_loss_once_the_folder_is_synced() {
    let bed = Bed::new();
    bed.disk.sync_dir(&RelPath::root()).unwrap();
    let model = sample(200);
    let meta = bed.write(1, &model, SMALL_BLOCKS);
    bed.disk.sync_dir(&FileName::Table(1).path().parent()).unwrap();
    let after = Bed { disk: bed.disk.crash(CrashModel::Synced), cache: bed.cache.clone() };
    assert_eq!(contents(&after.open(&meta), ReadMode::Cached).unwrap(), model);
}
