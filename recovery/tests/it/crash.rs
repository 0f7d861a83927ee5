//! Crashes at every operation: of the database, and of the recovery that follows.

use crate::small::{Content, create, expected, key, open, value};
use base::fs::{CrashModel, Fault, FaultPlan, SimFs, SimOp};
use base::{FileName, Result};

const MODELS: [CrashModel; 6] = [
    CrashModel::Kill,
    CrashModel::Synced,
    CrashModel::Prefix,
    CrashModel::Sectors,
    CrashModel::Garbage,
    CrashModel::Directory,
];

/// What a workload was told before it was cut.
#[derive(Clone, Copy, Default)]
struct Told {
    /// Puts that returned.
    put: usize,
    /// Puts below which a sync returned.
    synced: usize,
}

/// Puts with syncs, a seal, flushes, a close, and a reopen without one.
fn workload(fs: &SimFs, told: &mut Told) -> Result<()> {
    let mut small = create(fs)?;
    small.keyspace()?;
    for n in 0..24 {
        small.put(&key(n), &value(n))?;
        told.put = n + 1;
        if n % 7 == 0 {
            small.sync()?;
            told.synced = n + 1;
        }
        match n {
            10 => small.seal()?,
            12 | 18 => {
                small.flush()?;
            }
            _ => {}
        }
    }
    small.close()?;
    told.synced = 24;
    let mut small = open(fs)?;
    for n in 24..30 {
        small.put(&key(n), &value(n))?;
        told.put = n + 1;
    }
    small.sync()?;
    told.synced = 30;
    Ok(())
}

/// Opens `fs` and checks what it holds against what was told.
fn check(fs: &SimFs, told: Told, model: CrashModel, at: u64) -> Content {
    let small = create(fs).unwrap_or_else(|error| panic!("{model:?} at {at}: {error}"));
    let content = small.content();
    let found = content.len();
    assert_eq!(content, expected(found), "{model:?} at {at}: not a prefix");
    let promised = if model == CrashModel::Kill { told.put } else { told.synced };
    assert!(found >= promised, "{model:?} at {at}: {found} of {promised}");
    content
}

#[test]
fn what_was_acknowledged_survives_a_crash_at_every_operation() {
    let whole = SimFs::new(3);
    workload(&whole, &mut Told::default()).unwrap();
    for at in 0..=whole.ops() {
        let fs = SimFs::new(3);
        fs.stop_after(at);
        let mut told = Told::default();
        let result = workload(&fs, &mut told);
        assert_eq!(result.is_ok(), at >= whole.ops(), "the workload is the same each time");
        for model in MODELS {
            let image = fs.crash(model);
            let content = check(&image, told, model, at);
            let again = open(&image).unwrap();
            assert_eq!(again.content(), content, "{model:?} at {at}: the second open differs");
        }
    }
}

/// A recovery that dies changes nothing for the next one.
#[test]
fn a_recovery_that_crashes_anywhere_is_started_again() {
    let fs = SimFs::new(5);
    let mut told = Told::default();
    workload(&fs, &mut told).unwrap();
    for first in MODELS {
        let image = fs.crash(first);
        let recovered = image.crash(CrashModel::Kill);
        let expected_content = check(&recovered, told, first, 0);
        for at in 0..=recovered.ops() {
            for second in
                [CrashModel::Kill, CrashModel::Synced, CrashModel::Garbage, CrashModel::Directory]
            {
                let dying = image.crash(CrashModel::Kill);
                dying.stop_after(at);
                let _ = open(&dying);
                let content = check(&dying.crash(second), told, second, at);
                assert_eq!(content, expected_content, "{first:?}, {second:?} at {at}");
            }
        }
    }
}

/// An operation that fails once: an error or none, but never a loss; and before the root counts,
/// every file that was made is gone again.
#[test]
fn an_operation_that_fails_loses_nothing() {
    let fs = SimFs::new(6);
    let mut told = Told::default();
    workload(&fs, &mut told).unwrap();
    let fs = fs.crash(CrashModel::Kill);
    let ops = [
        SimOp::Open,
        SimOp::Read,
        SimOp::List,
        SimOp::Create,
        SimOp::Append,
        SimOp::SyncData,
        SimOp::Finish,
        SimOp::CreateDir,
        SimOp::Rename,
        SimOp::Remove,
        SimOp::SyncDir,
        SimOp::Lock,
    ];
    let mut failures = 0;
    for op in ops {
        for fault in [Fault::Io, Fault::DiskFull, Fault::TooManyFiles] {
            for after in 0.. {
                let image = fs.crash(CrashModel::Kill);
                let before = image.files();
                image.inject(FaultPlan::new(op, fault).after(after));
                let first = open(&image).map(|_| ());
                // Was it the last one of its kind?
                image.clear_faults();
                let reached = first.is_err() || after < 2;
                failures += u64::from(first.is_err());
                let is_early = matches!(op, SimOp::Create | SimOp::Append) && first.is_err();
                if is_early && image.files() != before {
                    assert!(after >= 3, "{op:?} {after}: files are left behind");
                }
                check(&image, told, CrashModel::Kill, after);
                if !reached || after > 60 {
                    break;
                }
            }
        }
    }
    assert!(failures > 50, "{failures}");
}

/// A sync that lied: what it was to secure is gone, and that is noticed or harmless.
#[test]
fn a_lying_sync_is_noticed_or_harmless() {
    let whole = SimFs::new(8);
    workload(&whole, &mut Told::default()).unwrap();
    for at in (0..=whole.ops()).step_by(3) {
        let fs = SimFs::new(8);
        fs.stop_after(at);
        let _ = workload(&fs, &mut Told::default());
        let image = fs.crash(CrashModel::SyncLied);
        match create(&image) {
            Ok(small) => {
                let content = small.content();
                assert_eq!(content, expected(content.len()), "at {at}: not a prefix");
            }
            Err(error) => {
                assert_ne!(error.code(), "Io", "at {at}: {error}");
            }
        }
    }
}

/// Wherever the recovery that sets a torn tail aside dies: in the end the tail is in quarantine.
#[test]
fn a_torn_tail_is_never_destroyed() {
    let fs = SimFs::new(9);
    let mut small = create(&fs).unwrap();
    small.keyspace().unwrap();
    (0..20).for_each(|n| small.put(&key(n), &value(n)).unwrap());
    let (segment, end) = (small.recovered.log.end().segment, small.recovered.log.end().offset);
    drop(small);
    let path = FileName::Segment(segment).path();
    let mut bytes = fs.read_file(&path).unwrap();
    let at = end as usize - 300;
    bytes[at] ^= 1;
    let tail = bytes[at..end as usize].to_vec();
    fs.write_file(&path, bytes).unwrap();
    let whole = fs.crash(CrashModel::Kill);
    let content = open(&whole).unwrap().content();
    for stop in 0..=whole.ops() {
        for model in MODELS {
            let dying = fs.crash(CrashModel::Kill);
            dying.stop_after(stop);
            let _ = open(&dying);
            let image = dying.crash(model);
            assert_eq!(open(&image).unwrap().content(), content);
            let files = image.files().into_iter();
            let mut aside = files.filter(|file| file.as_str().starts_with("quarantine/"));
            let is_there = aside.any(|file| image.read_file(&file).unwrap().ends_with(&tail));
            assert!(is_there, "{model:?} at {stop}");
        }
    }
}
