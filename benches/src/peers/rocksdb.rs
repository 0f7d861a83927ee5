//! RocksDB: the LSM tree most others are measured against, in C++.
//!
//! Settings from its tuning guide: a full filter of 10 bits per key, the hyper clock cache, index
//! and filters outside the cache, 8 KiB blocks, up to three memtables as Esker has, zstd at the last
//! level and LZ4 above where compression is asked for. A write goes to the operating system before
//! it returns; a synced one sets `sync`.

use crate::contender::{Compression, Contender, Durability, Entry, Reader, Setup};
use crate::{Failure, Result};
use rocksdb::{
    BlockBasedOptions, Cache, DB, DBCompressionType, DBRawIterator, Options, WaitForCompactOptions,
    WriteBatch, WriteOptions,
};
use std::path::Path;

const BLOCK_BYTES: usize = 8 << 10;

struct Rocks {
    db: DB,
    durability: Durability,
}

/// Opens or creates a database.
pub fn open(dir: &Path, setup: &Setup) -> Result<Box<dyn Contender>> {
    let mut table = BlockBasedOptions::default();
    table.set_block_cache(&Cache::new_hyper_clock_cache(setup.cache_bytes, BLOCK_BYTES));
    table.set_block_size(BLOCK_BYTES);
    table.set_bloom_filter(10.0, false);
    let mut options = Options::default();
    options.create_if_missing(true);
    options.set_block_based_table_factory(&table);
    options.set_write_buffer_size(setup.buffer_bytes);
    options.set_max_write_buffer_number(3);
    match setup.compression {
        Compression::None => options.set_compression_type(DBCompressionType::None),
        Compression::Zstd => {
            options.set_compression_type(DBCompressionType::Lz4);
            options.set_bottommost_compression_type(DBCompressionType::Zstd);
            // The window bits are RocksDB's own default.
            options.set_bottommost_compression_options(-14, 1, 0, 0, true);
        }
    }
    let db = DB::open(&options, dir)?;
    Ok(Box::new(Rocks { db, durability: setup.durability }))
}

impl Rocks {
    fn write_options(&self) -> WriteOptions {
        let mut options = WriteOptions::default();
        options.set_sync(self.durability == Durability::Sync);
        options
    }
}

impl Contender for Rocks {
    fn put(&self, key: &[u8], value: &[u8]) -> Result<()> {
        self.db.put_opt(key, value, &self.write_options()).map_err(Failure::from)
    }

    fn put_batch(&self, entries: &[Entry]) -> Result<()> {
        let mut batch = WriteBatch::default();
        for entry in entries {
            batch.put(entry.key, &entry.value);
        }
        self.db.write_opt(batch, &self.write_options()).map_err(Failure::from)
    }

    fn delete(&self, key: &[u8]) -> Result<()> {
        self.db.delete_opt(key, &self.write_options()).map_err(Failure::from)
    }

    fn reader(&self) -> Result<Box<dyn Reader + '_>> {
        Ok(Box::new(RocksReader { db: &self.db, iter: None }))
    }

    fn settle(&self) -> Result<()> {
        let mut options = WaitForCompactOptions::default();
        options.set_flush(true);
        self.db.wait_for_compact(&options).map_err(Failure::from)
    }

    fn close(self: Box<Self>) -> Result<()> {
        self.db.flush_wal(true).map_err(Failure::from)
    }
}

/// Keeps its iterator from one scan to the next, which spares building it anew.
struct RocksReader<'a> {
    db: &'a DB,
    iter: Option<DBRawIterator<'a>>,
}

impl Reader for RocksReader<'_> {
    fn get(&mut self, key: &[u8], sink: &mut dyn FnMut(&[u8])) -> Result<bool> {
        let value = self.db.get_pinned(key)?;
        Ok(value.map(|value| sink(&value)).is_some())
    }

    fn scan(&mut self, from: &[u8], count: u64, each: &mut dyn FnMut(&[u8], &[u8])) -> Result<u64> {
        let iter = self.iter.get_or_insert_with(|| self.db.raw_iterator());
        iter.seek(from);
        let mut seen = 0;
        while seen < count {
            let Some((key, value)) = iter.item() else { break };
            each(key, value);
            iter.next();
            seen += 1;
        }
        iter.status()?;
        Ok(seen)
    }
}
