//! The steps that workloads are made of.

use base::fs::CrashModel;
use engine::{Options, SyncMode};
use std::ops::Range;
use std::time::Duration;

/// Synced once a period, which never ends here: nothing syncs in the background.
pub(crate) const PERIODIC: SyncMode = SyncMode::Periodic(Duration::from_millis(100));

/// One step of a workload. Keyspaces are named by a letter; capital ones are local. Keys are
/// numbers.
#[derive(Clone, Debug)]
pub(crate) enum Step {
    Create(&'static str),
    Drop(&'static str),
    /// One batch.
    Write(Vec<Put>, SyncMode),
    /// A transaction that reads each key before it writes it.
    Transaction(Vec<Put>, SyncMode),
    DeleteRange(&'static str, Range<u32>, SyncMode),
    Ingest(&'static str, Range<u32>),
    Sync,
    Flush,
    Compact,
    /// All that is due when a database falls idle: merges, a seal of the log, a smaller segment.
    Settle,
    /// Closes and opens.
    Reopen,
    /// The process dies; another one opens.
    Kill,
    /// The machine dies; opens what is left.
    Crash(CrashModel),
    /// Takes a snapshot.
    Hold,
    /// Compares the snapshot with what there was, and drops it.
    Release,
    Checkpoint,
    /// So many milliseconds pass.
    Wait(u64),
}

/// A write to one key.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Put {
    pub(crate) keyspace: &'static str,
    pub(crate) key: u32,
    /// Bytes of the value; none for a delete.
    pub(crate) len: Option<usize>,
    /// Milliseconds until it expires; none for never.
    pub(crate) lives_ms: Option<u64>,
}

/// A name, options and steps.
#[derive(Clone, Debug)]
pub(crate) struct Workload {
    pub(crate) name: &'static str,
    pub(crate) options: Options,
    pub(crate) steps: Vec<Step>,
}

/// A value of `len` bytes for `key`.
pub(crate) fn value(keyspace: &'static str, key: u32, len: usize) -> Put {
    Put { keyspace, key, len: Some(len), lives_ms: None }
}

/// A delete of `key`.
pub(crate) fn no_value(keyspace: &'static str, key: u32) -> Put {
    Put { keyspace, key, len: None, lives_ms: None }
}

pub(crate) fn put(keyspace: &'static str, key: u32, sync: SyncMode) -> Step {
    Step::Write(vec![value(keyspace, key, 40)], sync)
}

pub(crate) fn put_long(keyspace: &'static str, key: u32, len: usize, sync: SyncMode) -> Step {
    Step::Write(vec![value(keyspace, key, len)], sync)
}

pub(crate) fn put_for(keyspace: &'static str, key: u32, lives_ms: u64, sync: SyncMode) -> Step {
    let expiring = Put { lives_ms: Some(lives_ms), ..value(keyspace, key, 40) };
    Step::Write(vec![expiring], sync)
}

pub(crate) fn delete(keyspace: &'static str, key: u32, sync: SyncMode) -> Step {
    Step::Write(vec![no_value(keyspace, key)], sync)
}
