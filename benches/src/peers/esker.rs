//! Esker itself.
//!
//! Its memory budget holds cache, indexes, filters and up to three memtables: so much is given that
//! the cache gets what the others get. A plain write goes to the operating system before it
//! returns; a synced one uses `SyncMode::Sync`.

use crate::contender::{self, Contender, Durability, Entry, Reader, Setup};
use crate::{Failure, Result};
use engine::{Batch, Compression, Cursor, Db, Keyspace, KeyspaceOptions, Options, SyncMode};
use std::path::Path;

const MEMTABLES_MAX: usize = 3;

struct Esker {
    db: Db,
    keyspace: Keyspace,
}

/// Opens or creates a database.
pub fn open(dir: &Path, setup: &Setup) -> Result<Box<dyn Contender>> {
    let options = Options {
        sync: match setup.durability {
            Durability::Process => SyncMode::Async,
            Durability::Sync => SyncMode::Sync,
        },
        memory_bytes: setup.cache_bytes + MEMTABLES_MAX * setup.buffer_bytes,
        memtable_bytes: setup.buffer_bytes,
        // No peer keeps one, and it holds no data.
        reserve_bytes: 0,
        ..Options::default()
    };
    let compression = match setup.compression {
        contender::Compression::None => Compression::None,
        contender::Compression::Zstd => Compression::Zstd,
    };
    let db = Db::open(dir, options)?;
    let keyspace =
        db.keyspace("bench", KeyspaceOptions { compression, ..KeyspaceOptions::default() })?;
    Ok(Box::new(Esker { db, keyspace }))
}

impl Contender for Esker {
    fn put(&self, key: &[u8], value: &[u8]) -> Result<()> {
        self.keyspace.put(key, value).map(drop).map_err(Failure::from)
    }

    fn put_batch(&self, entries: &[Entry]) -> Result<()> {
        let mut batch = Batch::new();
        for entry in entries {
            batch.put(&self.keyspace, entry.key, &entry.value);
        }
        self.db.write(batch).map(drop).map_err(Failure::from)
    }

    fn delete(&self, key: &[u8]) -> Result<()> {
        self.keyspace.delete(key).map(drop).map_err(Failure::from)
    }

    fn reader(&self) -> Result<Box<dyn Reader + '_>> {
        Ok(Box::new(EskerReader { keyspace: &self.keyspace, cursor: None }))
    }

    fn settle(&self) -> Result<()> {
        self.db.settle().map_err(Failure::from)
    }

    fn close(self: Box<Self>) -> Result<()> {
        self.db.close().map_err(Failure::from)
    }
}

/// Keeps its cursor from one scan to the next, which spares building it anew.
struct EskerReader<'a> {
    keyspace: &'a Keyspace,
    cursor: Option<Cursor>,
}

impl Reader for EskerReader<'_> {
    fn get(&mut self, key: &[u8], sink: &mut dyn FnMut(&[u8])) -> Result<bool> {
        let value = self.keyspace.get(key)?;
        Ok(value.map(|value| sink(&value)).is_some())
    }

    fn scan(&mut self, from: &[u8], count: u64, each: &mut dyn FnMut(&[u8], &[u8])) -> Result<u64> {
        if self.cursor.is_none() {
            self.cursor = Some(self.keyspace.cursor()?);
        }
        let Some(cursor) = &mut self.cursor else { return Ok(0) };
        cursor.seek(from)?;
        let mut seen = 0;
        while seen < count {
            let Some((key, value)) = cursor.entry() else { break };
            each(key, value);
            cursor.advance()?;
            seen += 1;
        }
        Ok(seen)
    }
}
