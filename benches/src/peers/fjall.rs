//! fjall: an LSM tree in Rust.
//!
//! Its defaults are kept but for cache, memtable and compression. A plain write goes to the
//! operating system before it returns; a synced one is followed by `persist`, as its manual says.

use crate::contender::{Compression, Contender, Durability, Entry, Reader, Setup};
use crate::meter::wait_until_quiet;
use crate::{Failure, Result};
use fjall::config::CompressionPolicy;
use fjall::{CompressionType, Database, Keyspace, KeyspaceCreateOptions, PersistMode};
use std::path::Path;

struct Fjall {
    db: Database,
    keyspace: Keyspace,
    durability: Durability,
}

/// Opens or creates a database.
pub fn open(dir: &Path, setup: &Setup) -> Result<Box<dyn Contender>> {
    let codec = match setup.compression {
        Compression::None => CompressionType::None,
        Compression::Zstd => CompressionType::Lz4,
    };
    let options = || {
        KeyspaceCreateOptions::default()
            .max_memtable_size(setup.buffer_bytes as u64)
            .data_block_compression_policy(CompressionPolicy::all(codec))
    };
    let db = Database::builder(dir).cache_size(setup.cache_bytes as u64).open()?;
    let keyspace = db.keyspace("bench", options)?;
    Ok(Box::new(Fjall { db, keyspace, durability: setup.durability }))
}

impl Fjall {
    fn sync_if_asked(&self) -> Result<()> {
        if self.durability == Durability::Sync {
            self.db.persist(PersistMode::SyncData)?;
        }
        Ok(())
    }
}

impl Contender for Fjall {
    fn put(&self, key: &[u8], value: &[u8]) -> Result<()> {
        self.keyspace.insert(key, value)?;
        self.sync_if_asked()
    }

    fn put_batch(&self, entries: &[Entry]) -> Result<()> {
        let mut batch = self.db.batch();
        for entry in entries {
            batch.insert(&self.keyspace, entry.key, entry.value.as_slice());
        }
        batch.commit()?;
        self.sync_if_asked()
    }

    fn delete(&self, key: &[u8]) -> Result<()> {
        self.keyspace.remove(key)?;
        self.sync_if_asked()
    }

    fn reader(&self) -> Result<Box<dyn Reader + '_>> {
        Ok(Box::new(FjallReader { keyspace: &self.keyspace }))
    }

    fn settle(&self) -> Result<()> {
        self.keyspace.rotate_memtable_and_wait()?;
        wait_until_quiet(|| {
            (
                self.db.outstanding_flushes(),
                self.db.active_compactions(),
                self.db.compactions_completed(),
            )
        });
        Ok(())
    }

    fn close(self: Box<Self>) -> Result<()> {
        self.db.persist(PersistMode::SyncAll).map_err(Failure::from)
    }
}

struct FjallReader<'a> {
    keyspace: &'a Keyspace,
}

impl Reader for FjallReader<'_> {
    fn get(&mut self, key: &[u8], sink: &mut dyn FnMut(&[u8])) -> Result<bool> {
        let value = self.keyspace.get(key)?;
        Ok(value.map(|value| sink(&value)).is_some())
    }

    fn scan(&mut self, from: &[u8], count: u64, each: &mut dyn FnMut(&[u8], &[u8])) -> Result<u64> {
        let mut seen = 0;
        let mut iter = self.keyspace.range(from..);
        while seen < count {
            let Some(guard) = iter.next() else { break };
            let (key, value) = guard.into_inner()?;
            each(&key, &value);
            seen += 1;
        }
        Ok(seen)
    }
}
