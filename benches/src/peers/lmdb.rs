//! LMDB: a copy-on-write B-tree in a memory map, in C, through `heed`.
//!
//! Without syncs it runs with `MDB_NOSYNC` and without `MDB_WRITEMAP`: pages go to the operating
//! system at each commit, so a killed process loses nothing, while a power loss may cost the file.
//! Its cache is the system's page cache: no budget binds it. One reader keeps one transaction.

use crate::contender::{Contender, Durability, Entry, Reader, Setup};
use crate::{Failure, Result};
use heed::types::Bytes;
use heed::{CommitOrAbort, Database, Env, EnvFlags, EnvOpenOptions, RoTxn, WithTls};
use std::fs::create_dir_all;
use std::ops::Bound;
use std::path::Path;

/// Pages are half full after random inserts, and freed ones wait for readers.
const MAP_PER_DATA: u64 = 8;
const MAP_BYTES_MIN: u64 = 1 << 30;

struct Lmdb {
    env: Env,
    database: Database<'static, Bytes, Bytes>,
}

/// Opens or creates an environment.
pub fn open(dir: &Path, setup: &Setup) -> Result<Box<dyn Contender>> {
    create_dir_all(dir)?;
    let map_bytes = setup.data_bytes_max.saturating_mul(MAP_PER_DATA).max(MAP_BYTES_MIN);
    let mut options = EnvOpenOptions::new();
    options.map_size(usize::try_from(map_bytes.next_multiple_of(1 << 20))?).max_readers(256);
    if setup.durability == Durability::Process {
        // SAFETY: `NO_SYNC` gives up durability at a power loss, which is what is being measured;
        // it gives up no memory safety.
        unsafe { options.flags(EnvFlags::NO_SYNC) };
    }
    // SAFETY: sound while nobody else changes the file. The directory is this process's own, and
    // it opens an environment only after it closed the one before.
    let env = unsafe { options.open(dir)? };
    let created = env.create_databases_and_commit(env.write_txn()?, |create, txn| {
        create.create_database(txn, None).map(CommitOrAbort::<_, ()>::Commit)
    })?;
    let database = created.commit().ok_or("the database was not created")?;
    Ok(Box::new(Lmdb { env, database }))
}

impl Contender for Lmdb {
    fn put(&self, key: &[u8], value: &[u8]) -> Result<()> {
        let mut txn = self.env.write_txn()?;
        self.database.put(&mut txn, key, value)?;
        txn.commit().map_err(Failure::from)
    }

    fn put_batch(&self, entries: &[Entry]) -> Result<()> {
        let mut txn = self.env.write_txn()?;
        for entry in entries {
            self.database.put(&mut txn, &entry.key, &entry.value)?;
        }
        txn.commit().map_err(Failure::from)
    }

    fn delete(&self, key: &[u8]) -> Result<()> {
        let mut txn = self.env.write_txn()?;
        self.database.delete(&mut txn, key)?;
        txn.commit().map_err(Failure::from)
    }

    fn reader(&self) -> Result<Box<dyn Reader + '_>> {
        Ok(Box::new(LmdbReader { txn: self.env.read_txn()?, database: self.database }))
    }

    fn settle(&self) -> Result<()> {
        self.env.force_sync().map_err(Failure::from)
    }

    fn close(self: Box<Self>) -> Result<()> {
        let Lmdb { env, .. } = *self;
        env.force_sync()?;
        env.prepare_for_closing().wait();
        Ok(())
    }
}

struct LmdbReader<'a> {
    txn: RoTxn<'a, WithTls>,
    database: Database<'static, Bytes, Bytes>,
}

impl Reader for LmdbReader<'_> {
    fn get(&mut self, key: &[u8], sink: &mut dyn FnMut(&[u8])) -> Result<bool> {
        let value = self.database.get(&self.txn, key)?;
        Ok(value.map(sink).is_some())
    }

    fn scan(&mut self, from: &[u8], count: u64, each: &mut dyn FnMut(&[u8], &[u8])) -> Result<u64> {
        let start = if from.is_empty() { Bound::Unbounded } else { Bound::Included(from) };
        let mut iter = self.database.range(&self.txn, &(start, Bound::Unbounded))?;
        let mut seen = 0;
        while seen < count {
            let Some(entry) = iter.next() else { break };
            let (key, value) = entry?;
            each(key, value);
            seen += 1;
        }
        Ok(seen)
    }
}
