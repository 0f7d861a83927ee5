//! Loading: records go into batches, batches are committed when they are full.
//!
//! Streams: memory holds one batch. A command loads its input this way, and a node the body of a
//! request; both fill batches by the same rule, so a batch that a command sends is one commit.

use crate::error::Outcome;
use crate::input::{Parsed, Records};
use crate::place::Sink;
use crate::record::Record;
use base::limits::{BATCH_LEN_MAX, BATCH_OPS_MAX};
use serde::{Deserialize, Serialize};
use std::num::NonZeroU64;

/// Bytes that a batch spends on one record besides its key and value, at most.
const RECORD_OVERHEAD: usize = 32;
/// A batch is committed early before it grows past this.
const BATCH_LEN_TARGET: usize = BATCH_LEN_MAX - (1 << 20);

/// What was loaded.
#[derive(Clone, Copy, Debug, Default, Deserialize, PartialEq, Eq, Serialize)]
pub(crate) struct Loaded {
    /// Records that are stored.
    pub(crate) loaded: u64,
    /// Commits they took.
    pub(crate) batches: u64,
    /// Bad lines that were passed over.
    pub(crate) skipped: u64,
}

/// Who hears how a load goes.
pub(crate) trait Listener {
    /// A bad line: an error refuses it, and ends the load.
    fn bad_line(&mut self, line: u64, reason: &str, so_far: &Loaded) -> Outcome;

    /// A batch of `records` is acknowledged.
    fn committed(&mut self, records: u64, so_far: &Loaded) -> Outcome;
}

/// A load under way.
pub(crate) struct Loader<'l> {
    sink: Box<dyn Sink>,
    batch_records_max: NonZeroU64,
    listener: &'l mut dyn Listener,
    batch_records: u64,
    batch_bytes: usize,
    loaded: Loaded,
}

impl<'l> Loader<'l> {
    /// Loads into `sink`, at most `batch_records_max` records a commit, and no more than a batch may have.
    pub(crate) fn new(
        sink: Box<dyn Sink>,
        batch_records_max: NonZeroU64,
        listener: &'l mut dyn Listener,
    ) -> Loader<'l> {
        let loaded = Loaded::default();
        Loader { sink, batch_records_max, listener, batch_records: 0, batch_bytes: 0, loaded }
    }

    /// Stores all of `records`, and the rest at the end of input. Whatever ends it before says how many are stored.
    pub(crate) fn load(mut self, records: &mut Records) -> Outcome<Loaded> {
        let loaded = self.load_all(records);
        loaded.map_err(|failure| failure.stored(self.loaded.loaded))?;
        Ok(self.loaded)
    }

    fn load_all(&mut self, records: &mut Records) -> Outcome {
        while let Some(Parsed { line, record }) = records.next()? {
            match record {
                Ok(record) => self.add(&record)?,
                Err(reason) => {
                    self.listener.bad_line(line, &reason, &self.loaded)?;
                    self.loaded.skipped += 1;
                }
            }
        }
        self.commit()
    }

    /// Puts `record` into the batch, and commits what is full.
    fn add(&mut self, record: &Record) -> Outcome {
        let bytes = record.key.len() + record.value.len() + RECORD_OVERHEAD;
        if self.batch_bytes + bytes > BATCH_LEN_TARGET {
            self.commit()?;
        }
        self.sink.add(record)?;
        self.batch_records += 1;
        self.batch_bytes += bytes;
        let most = self.batch_records_max.get().min(BATCH_OPS_MAX);
        if self.batch_records == most { self.commit() } else { Ok(()) }
    }

    /// Commits the batch, and says so once it is acknowledged.
    fn commit(&mut self) -> Outcome {
        if self.batch_records == 0 {
            return Ok(());
        }
        self.sink.commit()?;
        let records = std::mem::take(&mut self.batch_records);
        self.batch_bytes = 0;
        self.loaded.loaded += records;
        self.loaded.batches += 1;
        self.listener.committed(records, &self.loaded)
    }
}
