//! sled: a Bw-tree over a log, in Rust.
//!
//! Writes stay in the process for up to half a second (its default), so a killed process loses
//! them: its unsynced writes promise less than those of the others. Its `flush` ends on Linux in
//! `sync_file_range`, which empties no cache of the disk and writes no file length, so a synced
//! commit is followed here by `flush` and a real sync of its file: the promise the others make. It
//! runs in its high-throughput mode.

use crate::contender::{Contender, Durability, Entry, Reader, Setup};
use crate::{Failure, Result};
use sled::{Batch, Config, Db, Mode};
use std::fs::File;
use std::path::Path;

struct Sled {
    db: Db,
    /// The file to sync after each commit, if commits are synced.
    synced: Option<File>,
}

/// Opens or creates a database.
pub fn open(dir: &Path, setup: &Setup) -> Result<Box<dyn Contender>> {
    let config =
        Config::new().path(dir).mode(Mode::HighThroughput).cache_capacity(setup.cache_bytes as u64);
    let db = config.open()?;
    let synced = match setup.durability {
        Durability::Process => None,
        Durability::Sync => Some(File::open(dir.join("db"))?),
    };
    Ok(Box::new(Sled { db, synced }))
}

impl Sled {
    fn sync_if_asked(&self) -> Result<()> {
        if let Some(file) = &self.synced {
            self.db.flush()?;
            file.sync_data()?;
        }
        Ok(())
    }
}

impl Contender for Sled {
    fn put(&self, key: &[u8], value: &[u8]) -> Result<()> {
        self.db.insert(key, value)?;
        self.sync_if_asked()
    }

    fn put_batch(&self, entries: &[Entry]) -> Result<()> {
        let mut batch = Batch::default();
        for entry in entries {
            batch.insert(&entry.key, entry.value.as_slice());
        }
        self.db.apply_batch(batch)?;
        self.sync_if_asked()
    }

    fn delete(&self, key: &[u8]) -> Result<()> {
        self.db.remove(key)?;
        self.sync_if_asked()
    }

    fn reader(&self) -> Result<Box<dyn Reader + '_>> {
        Ok(Box::new(SledReader { db: &self.db }))
    }

    fn settle(&self) -> Result<()> {
        self.db.flush().map(drop).map_err(Failure::from)
    }

    fn close(self: Box<Self>) -> Result<()> {
        self.settle()
    }
}

struct SledReader<'a> {
    db: &'a Db,
}

impl Reader for SledReader<'_> {
    fn get(&mut self, key: &[u8], sink: &mut dyn FnMut(&[u8])) -> Result<bool> {
        let value = self.db.get(key)?;
        Ok(value.map(|value| sink(&value)).is_some())
    }

    fn scan(&mut self, from: &[u8], count: u64, each: &mut dyn FnMut(&[u8], &[u8])) -> Result<u64> {
        let mut seen = 0;
        let mut iter = self.db.range(from..);
        while seen < count {
            let Some(entry) = iter.next() else { break };
            let (key, value) = entry?;
            each(&key, &value);
            seen += 1;
        }
        Ok(seen)
    }
}
