//! Power is cut at every operation, under every model of what a disk may do: what was synced is
//! there, what is there is a prefix, and no crash is taken for corruption.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

mod log;

use base::fs::{CrashModel, Fs, SimFs};
use base::{Position, Result};
use log::*;
use std::sync::Arc;
use wal::Appender;

/// What a workload got done before the power went.
#[derive(Default)]
struct Done {
    /// Handed to `append`, whether or not it returned.
    issued: Commits,
    /// How many of them `append` acknowledged.
    appended: usize,
    /// How many of them a sync secured.
    synced: usize,
    durable: Position,
}

impl Done {
    fn append(&mut self, log: &mut Appender, len: usize) -> Result<()> {
        let seqno = self.issued.len() as u64 + 1;
        self.issued.push((seqno, payload(seqno, len)));
        log.append(tick(seqno), &payload(seqno, len))?;
        self.appended = self.issued.len();
        Ok(())
    }

    fn sync(&mut self, log: &mut Appender) -> Result<()> {
        let target = log.prepare_sync()?;
        let appended = self.appended;
        target.sync()?;
        log.synced(&target);
        (self.synced, self.durable) = (appended, log.durable());
        Ok(())
    }
}

/// Small and large commits, runs closed and open, rolls with and without a spare, seals.
fn workload(fs: &Arc<dyn Fs>, done: &mut Done) -> Result<()> {
    let mut log = create(fs)?;
    done.durable = log.durable();
    for round in 0..3 {
        done.append(&mut log, 40)?;
        done.append(&mut log, 300)?;
        done.sync(&mut log)?;
        done.append(&mut log, 600)?;
        log.close_run()?;
        done.append(&mut log, 700 + round)?;
        if log.wants_spare() {
            let spare = log.spare().build()?;
            log.give_spare(spare);
        }
        done.append(&mut log, 900)?;
        if round == 1 {
            done.append(&mut log, 17 << 10)?;
        }
        log.seal()?;
    }
    let appended = done.appended;
    done.durable = log.finish()?;
    done.synced = appended;
    Ok(())
}

fn cut_at_every_op(seed: u64, model: CrashModel, check: impl Fn(u64, &SimFs, &Done)) {
    let whole = disk(seed);
    let from = whole.0.ops();
    workload(&whole.1, &mut Done::default()).unwrap();
    let to = whole.0.ops();
    assert!(to - from > 20, "the workload does something");
    for op in from..=to {
        let (sim, fs) = disk(seed);
        sim.stop_after(op);
        let mut done = Done::default();
        let ended = workload(&fs, &mut done);
        assert_eq!(ended.is_ok(), op == to);
        if done.durable == Position::ZERO {
            continue; // The log was not even created.
        }
        check(op, &sim.crash(model), &done);
    }
}

fn recovered(fs: &dyn Fs, promise: Position, op: u64) -> Commits {
    let scan = scan_promised(fs, promise).unwrap_or_else(|error| panic!("op {op}: {error}"));
    commits(fs, &scan).unwrap()
}

#[test]
fn synced_commits_survive_and_the_rest_is_a_prefix() {
    use CrashModel::*;
    for model in [Synced, Prefix, Sectors, Garbage, Directory] {
        for seed in 0..24 {
            cut_at_every_op(seed, model, |op, disk, done| {
                for promise in [Position::ZERO, done.durable] {
                    let found = recovered(disk, promise, op);
                    let at_least = done.synced;
                    assert!(
                        found.len() >= at_least,
                        "{model:?} op {op}: {} of {at_least}",
                        found.len()
                    );
                    assert_eq!(found, done.issued[..found.len()], "{model:?} op {op}");
                }
            });
        }
    }
}

#[test]
fn a_killed_process_loses_nothing_acknowledged() {
    cut_at_every_op(1, CrashModel::Kill, |op, disk, done| {
        let found = recovered(disk, done.durable, op);
        assert!(found.len() >= done.appended, "op {op}");
        assert_eq!(found, done.issued[..found.len()]);
    });
}

/// The next process goes on in a new segment behind the accepted part, whatever is behind that, and
/// every later look agrees.
#[test]
fn a_log_goes_on_behind_a_torn_tail() {
    for seed in 0..4 {
        cut_at_every_op(seed, CrashModel::Garbage, |op, disk, done| {
            let fs: Arc<dyn Fs> = Arc::new(disk.clone());
            let first = scan(disk).unwrap();
            let mut expected = commits(disk, &first).unwrap();
            let next = segments(disk).last().unwrap() + 1;
            let mut log = create_behind(&fs, next, first.end()).unwrap();
            for seqno in 100..130 {
                append(&mut log, seqno, 500);
                expected.push((seqno, payload(seqno, 500)));
            }
            let end = log.finish().unwrap();

            let again = scan_promised(disk, end.max(done.durable))
                .unwrap_or_else(|e| panic!("op {op}: {e}"));
            assert_eq!(commits(disk, &again).unwrap(), expected);
            assert_eq!(again.torn, None, "the new segments say where the old ones end");
        });
    }
}

/// A disk that lies about a sync can lose anything; what it returns is still a prefix, or refused.
#[test]
fn a_lying_disk_is_found_out_or_loses_a_suffix() {
    cut_at_every_op(3, CrashModel::SyncLied, |op, disk, done| {
        match scan_promised(disk, done.durable).and_then(|scan| commits(disk, &scan)) {
            Ok(found) => assert_eq!(found, done.issued[..found.len()], "op {op}"),
            Err(error) => assert!(is_damage(&error), "op {op}: {error}"),
        }
    });
}
