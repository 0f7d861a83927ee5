//! redb: a copy-on-write B-tree in Rust.
//!
//! It has no write that survives only a killed process: the choice is a sync per commit or
//! `Durability::None`, which a killed process loses. The latter stands in for process durability,
//! so its unsynced writes promise less than those of the others. One reader keeps one transaction.

use crate::contender::{Contender, Entry, Reader, Setup};
use crate::{Failure, Result, contender};
use redb::{
    Database, Durability, ReadOnlyTable, ReadableDatabase, TableDefinition, WriteTransaction,
};
use std::fs::create_dir_all;
use std::path::Path;

const TABLE: TableDefinition<'static, &[u8], &[u8]> = TableDefinition::new("bench");

struct Redb {
    db: Database,
    durability: Durability,
}

/// Opens or creates a database.
pub fn open(dir: &Path, setup: &Setup) -> Result<Box<dyn Contender>> {
    create_dir_all(dir)?;
    let db = Database::builder().set_cache_size(setup.cache_bytes).create(dir.join("redb"))?;
    let durability = match setup.durability {
        contender::Durability::Process => Durability::None,
        contender::Durability::Sync => Durability::Immediate,
    };
    let redb = Redb { db, durability };
    let txn = redb.db.begin_write()?;
    txn.open_table(TABLE)?;
    txn.commit()?;
    Ok(Box::new(redb))
}

impl Redb {
    fn begin(&self) -> Result<WriteTransaction> {
        let mut txn = self.db.begin_write()?;
        txn.set_durability(self.durability)?;
        Ok(txn)
    }
}

impl Contender for Redb {
    fn put(&self, key: &[u8], value: &[u8]) -> Result<()> {
        let txn = self.begin()?;
        txn.open_table(TABLE)?.insert(key, value)?;
        txn.commit().map_err(Failure::from)
    }

    fn put_batch(&self, entries: &[Entry]) -> Result<()> {
        let txn = self.begin()?;
        let mut table = txn.open_table(TABLE)?;
        for entry in entries {
            table.insert(entry.key.as_slice(), entry.value.as_slice())?;
        }
        drop(table);
        txn.commit().map_err(Failure::from)
    }

    fn delete(&self, key: &[u8]) -> Result<()> {
        let txn = self.begin()?;
        txn.open_table(TABLE)?.remove(key)?;
        txn.commit().map_err(Failure::from)
    }

    fn reader(&self) -> Result<Box<dyn Reader + '_>> {
        Ok(Box::new(RedbReader { table: self.db.begin_read()?.open_table(TABLE)? }))
    }

    /// An empty synced commit makes all earlier ones durable and frees their pages.
    fn settle(&self) -> Result<()> {
        self.db.begin_write()?.commit().map_err(Failure::from)
    }

    fn close(self: Box<Self>) -> Result<()> {
        self.settle()
    }
}

struct RedbReader {
    table: ReadOnlyTable<&'static [u8], &'static [u8]>,
}

impl Reader for RedbReader {
    fn get(&mut self, key: &[u8], sink: &mut dyn FnMut(&[u8])) -> Result<bool> {
        let value = self.table.get(key)?;
        Ok(value.map(|value| sink(value.value())).is_some())
    }

    fn scan(&mut self, from: &[u8], count: u64, each: &mut dyn FnMut(&[u8], &[u8])) -> Result<u64> {
        let mut seen = 0;
        let mut iter = self.table.range(from..)?;
        while seen < count {
            let Some(entry) = iter.next() else { break };
            let (key, value) = entry?;
            each(key.value(), value.value());
            seen += 1;
        }
        Ok(seen)
    }
}
